"""Free-energy differences from works and from energies of one system under several potentials.

A switch from a to b does the work W_f on the system, one from b to a the work W_b; instantaneous switches do
W_f = U_b - U_a on samples of a and W_b = U_a - U_b on samples of b. Always P_f(W) / P_b(-W) = exp((W - F) / kT),
F = F_b - F_a: Crooks, Phys. Rev. E 60, 2721 (1999), Eq. (11). Works and F are in eV.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import log_expit, logsumexp

from jaxmlp.statistics import FEWEST, average, jackknife


class Difference(NamedTuple):
    """A free-energy difference from works in both directions, eV.

    Args:
        difference: F_b - F_a.
        error: its standard error; NaN from fewer than two works in a direction.
        dissipation: (<W_f> + <W_b>) / 2, not negative but for noise.
    """

    difference: float
    error: float
    dissipation: float


class Jarzynski(NamedTuple):
    """A free-energy difference from works in one direction, eV.

    Args:
        difference: F_b - F_a.
        error: its standard error.
        dissipation: <W> - (F_b - F_a).
        bias: by how much the difference is too high on average; good while it is well below the error.
        effective: number of works that carry the average, (sum w)^2 / sum w^2, w = exp(-W / kT).
    """

    difference: float
    error: float
    dissipation: float
    bias: float
    effective: float


class Perturbation(NamedTuple):
    """F_b - F_a in eV, and the number of samples that carry it."""

    difference: Array
    effective: Array


class MBAR(NamedTuple):
    """Reduced free energies f = F / kT of K states, and averages in them.

    Args:
        differences: (K, K), f_j - f_i at [i, j].
        errors: (K, K), their standard errors.
        overlap: (K, K), probability that a sample of state i is one of state j. Where neighbouring states have less
            than about 0.03, errors cannot be trusted.
        averages: (K,) of the observable in every state, or None.
        average_errors: (K,), or None.
    """

    differences: np.ndarray
    errors: np.ndarray
    overlap: np.ndarray
    averages: np.ndarray | None
    average_errors: np.ndarray | None


def perturbation(difference_in_energy: Array, kT: Array | float) -> Perturbation:
    """Return F_b - F_a = -kT ln <exp(-(U_b - U_a) / kT)>_a: Zwanzig, J. Chem. Phys. 22, 1420 (1954).

    Differentiable, also in parameters of U_b: the gradient is the average of dU_b under b, reweighted from a. The error
    is that of `jarzynski` for the same numbers.

    Args:
        difference_in_energy: (n,) eV, U_b - U_a of samples of a.
        kT: eV.
    """
    log_w = -difference_in_energy / kT
    total = jax.scipy.special.logsumexp(log_w)
    effective = jnp.exp(2.0 * total - jax.scipy.special.logsumexp(2.0 * log_w))
    return Perturbation(-kT * (total - np.log(log_w.shape[0])), effective)


def jarzynski(work: ArrayLike, kT: float) -> Jarzynski:
    """Return F_b - F_a = -kT ln <exp(-W / kT)>: Jarzynski, Phys. Rev. Lett. 78, 2690 (1997), Eq. (2a).

    The error is a jackknife over up to 20 blocks of works in their order, so that blocks should be longer than a
    correlation. The average rests on rare works far below the mean: where none of them occurred, the difference is too
    high, and neither error nor bias, kT (1 / effective - 1 / n) / 2, can show it. `bar` needs far fewer works.

    Args:
        work: (n,) eV.
        kT: eV.

    Raises:
        ValueError: fewer than 10 works, or works that are not finite.

    Warns:
        UserWarning: fewer than 10 works, and fewer than a third of them, carry the average; or the works are too few
            for their dissipation, n < exp(dissipation / kT).
    """
    work, kT = _works(work, "work"), _positive(kT)

    def estimate(w: np.ndarray) -> float:
        return -kT * (logsumexp(-w / kT) - np.log(len(w)))

    difference, error = jackknife(estimate, work, blocks=min(20, max(2, len(work))))
    effective = np.exp(2 * logsumexp(-work / kT) - logsumexp(-2 * work / kT))
    dissipation = work.mean() - difference
    # The works that matter are those of a switch run backwards, one in exp(dissipation / kT).
    if effective < min(FEWEST, len(work) / 3) or dissipation > kT * np.log(len(work)):
        warnings.warn(
            f"{effective:.1f} of {len(work)} works carry this exponential average, and {dissipation / kT:.1f} kT are "
            "dissipated: F_b - F_a is likely to be too high, by more than its error. Switch more slowly, or in both "
            "directions and use `bar`.",
            stacklevel=2,
        )
    bias = 0.5 * kT * (1 / effective - 1 / len(work))
    return Jarzynski(*map(float, (difference, error, dissipation, bias, effective)))


def linear_response(forward: ArrayLike, backward: ArrayLike, *, correlated: bool = False) -> Difference:
    """Return F_b - F_a = (<W_f> - <W_b>) / 2: exact where both directions dissipate alike, as slow switches do.

    One work for each direction will do. Arguments but for kT, and errors raised: as for `bar`.
    """
    W_f, W_b = _works(forward, "forward"), _works(backward, "backward")
    error = 0.5 * float(np.hypot(_error(W_f, correlated), _error(W_b, correlated)))
    return Difference(float(W_f.mean() - W_b.mean()) / 2, error, _dissipation(W_f, W_b, error))


def bar(forward: ArrayLike, backward: ArrayLike, kT: float, *, correlated: bool = False) -> Difference:
    """Return F_b - F_a from works in both directions, by Bennett's acceptance ratio.

    sum_f s(M + (W_f - F) / kT) = sum_b s(-M + (W_b + F) / kT), s(x) = 1 / (1 + exp(x)), M = ln(n_f / n_b), is the most
    likely F: Shirts et al., Phys. Rev. Lett. 91, 140601 (2003). error^2 / kT^2 is the sum over both directions of the
    relative variance of the mean of s: Bennett, J. Comput. Phys. 22, 245 (1976).

    Args:
        forward, backward: (n_f,), (n_b,) eV, W_f and W_b, each as done on the system during its own switch.
        kT: eV.
        correlated: the works are time series, as energy differences along a run are: the error then takes the
            correlation time of s (see `statistics.average`). Works of separate switches are independent.

    Raises:
        ValueError: works that are not finite, or whose dissipation is negative beyond noise; correlated series that are
            too short for their correlation time.
    """
    W_f, W_b, kT = _works(forward, "forward"), _works(backward, "backward"), _positive(kT)
    M = np.log(len(W_f) / len(W_b))

    def arguments(F: float) -> tuple[np.ndarray, np.ndarray]:
        return -M - (W_f - F) / kT, M - (W_b + F) / kT

    def imbalance(F: float) -> float:
        x_f, x_b = arguments(F)
        return logsumexp(log_expit(x_f)) - logsumexp(log_expit(x_b))

    # Where F is below all W_f and -W_b the left side is the smaller one, where it is above all the right side.
    ends = np.concatenate([W_f, -W_b])
    low, high = ends.min(), ends.max()
    F = brentq(imbalance, low, high, xtol=1e-12 * kT) if imbalance(low) < 0 < imbalance(high) else (low + high) / 2
    # Scaled by their largest: far from overlap all s underflow.
    s = [np.exp(log_expit(x) - log_expit(x).max()) for x in arguments(F)]
    error = kT * np.sqrt(sum((_error(x, correlated) / x.mean()) ** 2 for x in s))
    spread = 0.5 * np.hypot(_error(W_f, correlated), _error(W_b, correlated))
    return Difference(float(F), float(error), _dissipation(W_f, W_b, float(spread)))


def mbar(u_kn: ArrayLike, N_k: ArrayLike, *, observable: ArrayLike | None = None, correlated: bool = True) -> MBAR:
    """Return free-energy differences of K states from samples of all, by the multistate acceptance ratio.

    The f_i of sum_n W_ni = 1, W_ni = exp(f_i - u_i(x_n)) / sum_k N_k exp(f_k - u_k(x_n)): Shirts, Chodera, J. Chem.
    Phys. 129, 124105 (2008). pymbar (version 4 or later) solves this, in double precision and with no global flag
    changed. To first order f varies as -J^-1 sum_n (W_n - <W_n>), J_ij = d(sum_n W_ni) / df_j, so that errors are those
    of means over the samples of each state, which may be correlated.

    Args:
        u_kn: (K, n) reduced energies U_k / kT_k (+ P_k V / kT_k) of all samples, those of state 0 first, and so on.
        N_k: (K,) numbers of samples of every state; 0 where a state was not sampled.
        observable: (n,) of every sample, or (K, n) if it depends on the state.
        correlated: the samples of a state are a time series: errors take correlation times (see `statistics.average`).

    Raises:
        ValueError: shapes that do not fit, energies that are not finite, series too short for their correlation time.
        ImportError: pymbar is not installed.
    """
    u, N = np.asarray(u_kn, float), np.asarray(N_k)
    if u.ndim != 2 or N.shape != u.shape[:1] or N.sum() != u.shape[1] or (N < 0).any():
        raise ValueError(f"u_kn is (K, n) for N_k (K,) that add up to n; got shape {u.shape} and N_k = {N.tolist()}.")
    if not np.isfinite(u).all():
        raise ValueError(f"{(~np.isfinite(u)).sum()} of {u.size} reduced energies are not finite: leave them out.")
    A = None if observable is None else np.asarray(observable, float)
    if A is not None and A.shape not in (u.shape, u.shape[1:]):
        raise ValueError(f"observable is {u.shape[1:]} or {u.shape}, like u_kn; got {A.shape}.")
    with _pymbar() as pymbar:
        solution = pymbar.MBAR(u, N)
        f, W = np.asarray(solution.f_k), np.asarray(solution.weights())  # (K,), (n, K)
    overlap = N * (W.T @ W)
    J = np.eye(len(N)) - overlap
    y = np.zeros_like(W)  # f_i - f_r is the sum over n of y_ni and a constant, for any state r with samples
    free = np.arange(len(N)) != np.argmax(N)
    y[:, free] = -np.linalg.solve(J[np.ix_(free, free)], W[:, free].T).T
    errors = np.zeros_like(J)
    for i in range(len(N) - 1):
        errors[i, i + 1 :] = _sum_errors(y[:, i + 1 :] - y[:, i : i + 1], N, correlated)
    errors += errors.T
    averages = average_errors = None
    if A is not None:
        averages = np.sum(W.T * A, axis=1)
        fluctuation = W * (A.T.reshape(len(W), -1) - averages)
        average_errors = _sum_errors(fluctuation - y @ (N * (fluctuation.T @ W)).T, N, correlated)
    return MBAR(f - f[:, None], errors, overlap, averages, average_errors)


def _sum_errors(y: np.ndarray, N: np.ndarray, correlated: bool) -> np.ndarray:
    """Return the standard errors of the sums of columns y (n, M), whose rows are those of independent states."""
    states = [part for part in np.split(y, np.cumsum(N)[:-1]) if len(part)]
    return np.sqrt(sum((len(part) * _error(part, correlated)) ** 2 for part in states))


@contextmanager
def _pymbar() -> Iterator[ModuleType]:
    """Import pymbar without its notices, and undo what it changes for everyone.

    It turns on jax's double precision for good where it finds it off, counts on implicit type promotion, and seeds
    numpy's global generator anew.
    """
    logger, random = logging.getLogger("pymbar"), np.random.get_state()  # noqa: NPY002 (the one that pymbar seeds)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            try:
                import pymbar
            except ImportError as missing:
                raise ImportError("`mbar` needs pymbar: pip install 'pymbar>=4'.") from missing
            yield pymbar
    finally:
        logger.setLevel(level)
        np.random.set_state(random)  # noqa: NPY002


def _works(work: ArrayLike, name: str) -> np.ndarray:
    work = np.asarray(work, float)
    if work.ndim != 1 or len(work) == 0 or not np.isfinite(work).all():
        raise ValueError(f"{name} is a list of finite works in eV; got {work!r:.80}.")
    return work


def _positive(kT: float) -> float:
    if not 0 < kT < np.inf:
        raise ValueError(f"kT is in eV and must be positive; got {kT}.")
    return float(kT)


def _error(x: np.ndarray, correlated: bool) -> np.ndarray:
    """Return the standard error of the mean over the first axis."""
    if correlated:
        return np.asarray(average(x).error)
    return x.std(axis=0, ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.full(x.shape[1:], np.nan)


def _dissipation(W_f: np.ndarray, W_b: np.ndarray, error: float) -> float:
    """Return (<W_f> + <W_b>) / 2, of that standard error."""
    dissipation = float(W_f.mean() + W_b.mean()) / 2
    # Of few works the error is not known well enough for a verdict, and of works that are all alike it is 0.
    if min(len(W_f), len(W_b)) >= FEWEST and dissipation < -6 * error - 1e-9 * np.abs(W_f).max():
        raise ValueError(
            f"the mean dissipation {dissipation:.4g} eV is negative, by more than its error {error:.2g} eV allows. "
            "Backward works are those done on the system while it is switched back: is their sign the opposite?"
        )
    return dissipation
