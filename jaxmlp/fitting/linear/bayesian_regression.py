"""Linear regression that finds its own regularisation and noise: maximum evidence, one prior or one per parameter.

The model: rows of kind k (energies, forces, virials, say) are y_k = A_k c + noise of precision beta_k = 1/noise_k^2,
and c is normal with mean 0 and precision alpha Gamma^T Gamma, or diag(alpha) in ARD. Evidence, its maximum over alpha
and beta, and the fixed point that leads there: MacKay, Neural Computation 4, 415 (1992); Bishop, Pattern Recognition
and Machine Learning (2006), Eqs. 3.86, 3.91, 3.92 and 3.95; with an alpha for every parameter: Tipping, J. Machine
Learning Research 1, 211 (2001), Eqs. 16 to 18. There with one beta; the derivation holds kind by kind, since the trace
of beta_k A_k Sigma A_k^T counts the parameters that kind k determines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from jaxmlp.fitting.linear.ridge_choice import choose_ridge
from jaxmlp.fitting.linear.solvers import (
    LinearFit,
    log_determinant,
    prior_matrix,
    ridge,
    triangular_factor,
    triangular_inverse,
)
from jaxmlp.fitting.linear.tall_qr import TallQR, combine, stacked

_FLOOR = 1e-8  # smallest noise, in units of the root mean square of y: rows may be fitted exactly
_HOPELESS = 1e-2  # parameters are given up early where the data determine less than this of them
_RELATED = 0.1  # correlation of parameters that are not removed in the same step


class _Posterior(NamedTuple):
    """Mean (q,), factor (q, q) and variances (q,) of c; misfits and effective parameters (K,) per kind; log p(y)."""

    mean: np.ndarray
    factor: np.ndarray
    variance: np.ndarray
    misfits: np.ndarray
    effective: np.ndarray
    log_evidence: float


def _posterior(kinds: Sequence[TallQR], beta: np.ndarray, alpha: np.ndarray) -> _Posterior:
    """Return the posterior for noise precisions beta (K,) and prior precisions alpha (q,), from one factor."""
    q = len(alpha)
    data = combine(kinds, np.sqrt(beta))
    T = stacked(data.R, np.diag(np.sqrt(alpha)) @ np.eye(q, q + 1), triangular=True)
    F = triangular_inverse(T[:q, :q])
    mean = solve_triangular(T[:q, :q], T[:q, q]) if q else np.zeros(0)
    effective = beta * [np.sum((kind.R[:, :-1] @ F) ** 2) for kind in kinds]
    normal = data.log_weight - 0.5 * data.rows * np.log(2 * np.pi)
    evidence = normal + 0.5 * np.log(alpha).sum() - log_determinant(T[:q, :q]) - 0.5 * T[q, q] ** 2
    misfits = np.array([kind.misfit(mean) for kind in kinds])
    return _Posterior(mean, F, np.sum(F**2, axis=1), misfits, effective, float(evidence))


def _as_kinds(data: TallQR | Sequence[TallQR]) -> list[TallQR]:
    kinds = [data] if isinstance(data, TallQR) else list(data)
    empty = [k for k, kind in enumerate(kinds) if kind.rows == 0]
    if empty:
        raise ValueError(f"kinds {empty} have no rows, which leaves their noise undetermined: leave them out.")
    return kinds


def _noise_precision(kinds: Sequence[TallQR], posterior: _Posterior) -> np.ndarray:
    """Return the next beta (K,): (rows - effective) / misfit, at most that of the smallest noise."""
    rows = np.array([kind.rows for kind in kinds])
    total = np.array([kind.total for kind in kinds])
    floor = _FLOOR**2 * np.where(total > 0, total / rows, total.sum() / rows.sum())
    freedom = np.maximum(rows - posterior.effective, np.finfo(float).eps * rows)
    return 1 / np.maximum(posterior.misfits / freedom, floor)


def bayesian_ridge(
    data: TallQR | Sequence[TallQR],
    *,
    prior: ArrayLike | None = None,
    normalize: bool = False,
    tolerance: float = 1e-6,
    max_steps: int = 300,
) -> LinearFit:
    """Return the ridge regression of largest evidence, with one noise for each kind of rows.

    The start is the best strength for equal noises (`choose_ridge`), for a single kind the answer already; then
    alpha = effective / |Gamma c|^2, beta_k = (rows_k - effective_k) / |A_k c - y_k|^2 together. A step costs a few p^3
    operations.

    Args:
        data: the factor of all rows, or one for each kind; `noise` of the result is a number, or (K,).
        prior, normalize: Gamma, as for `ridge`, of rank p.
        tolerance: the iteration ends when no logarithm of alpha and beta changes by more.

    Raises:
        ValueError: a kind without rows, targets that all are 0, a prior that is wrong or of smaller rank.
    """
    kinds = _as_kinds(data)
    everything = combine(kinds)
    p = everything.parameters
    gamma = prior_matrix(everything, prior, normalize)
    choice = choose_ridge(everything, prior=gamma)
    start = ridge(everything, choice.strength, prior=gamma, solver="svd")
    # In coordinates b = Gamma c the prior is alpha |b|^2 / 2; products of triangular factors stay triangular.
    back = triangular_inverse(triangular_factor(gamma))
    kinds = [kind._replace(R=np.hstack([kind.R[:, :p] @ back, kind.R[:, p:]])) for kind in kinds]
    largest = np.linalg.norm(combine(kinds).R[:p, :p], 2) ** 2
    floor = _FLOOR * np.sqrt(everything.total / everything.rows)
    beta = np.full(len(kinds), 1 / max(start.noise if start.noise > 0 else floor, floor) ** 2)
    alpha = choice.strength * beta[0]
    history, converged = [], False
    for _ in range(max_steps):
        posterior = _posterior(kinds, beta, np.full(p, alpha))
        history.append(posterior.log_evidence)
        new_beta = _noise_precision(kinds, posterior)
        size = max(float(posterior.mean @ posterior.mean), np.finfo(float).tiny)
        # Where the data say nothing, alpha has no bound; at this one they determine 1e-4 of any parameter.
        new_alpha = min(float(posterior.effective.sum()) / size, 1e4 * largest * beta.max())
        change = np.abs(np.log(np.append(new_beta / beta, new_alpha / alpha))).max()
        if change < tolerance:
            converged = True
            break
        alpha, beta = new_alpha, new_beta
    posterior = _posterior(kinds, beta, np.full(p, alpha))
    noise = 1 / np.sqrt(beta)
    return LinearFit(
        back @ posterior.mean,
        back @ posterior.factor,
        float(noise[0]) if isinstance(data, TallQR) else noise,
        float(posterior.effective.sum()),
        posterior.log_evidence,
        float(alpha),
        np.array(history),
        converged,
    )


def ard(
    data: TallQR | Sequence[TallQR],
    *,
    significance: float = 1.0,
    tolerance: float = 1e-4,
    max_steps: int = 2000,
) -> LinearFit:
    """Return coefficients by automatic relevance determination: a precision alpha_i for each, most of them infinite.

    alpha_i = effective_i / c_i^2 with effective_i = 1 - alpha_i Sigma_ii, and the noise as in `bayesian_ridge`.
    t_i^2 = c_i^2 / (Sigma_ii effective_i) of a parameter does not depend on its own alpha: t_i is the estimate without
    prior, in standard deviations, given the priors of the others (q_i^2 / s_i of Tipping and Faul, AISTATS 2003; Bishop
    Eq. 7.101). The evidence is largest at infinite alpha_i, which removes the parameter, if t_i < 1; otherwise
    effective_i = 1 - 1/t_i^2 there. Of parameters without meaning about a third has t > 1 by chance, so that a larger
    `significance` gives up a little evidence for fewer parameters.

    Parameters are removed, the least significant first, each time the others have settled, and together only those that
    hardly know of each other: of two equal columns one stays. The result does not depend on the units of parameters.

    Args:
        data: the factor of all rows, or one for each kind of rows, with a noise of its own.
        significance: the smallest t that is kept, at least 1.
        tolerance: precisions have settled when none changes by more than this fraction.
        max_steps: of a few p^3 operations each, p being the number of parameters left.

    Returns:
        The fit; coefficients removed are 0, and their `precision` (p,) is infinite.

    Raises:
        ValueError: significance below 1, a kind without rows, targets that all are 0.
    """
    if not significance >= 1:
        raise ValueError(f"significance must be at least 1, where the evidence is largest; got {significance}.")
    kinds = full = _as_kinds(data)
    everything = combine(kinds)
    start = bayesian_ridge(everything, normalize=True)
    active = np.flatnonzero(everything.norms > 0)
    kinds = [_columns(kind, active) for kind in full]
    alpha = start.precision * everything.norms[active] ** 2 / everything.rows
    beta = np.full(len(kinds), 1 / start.noise**2)
    history, converged = [], False
    for _ in range(max_steps):
        posterior = _posterior(kinds, beta, alpha)
        history.append(posterior.log_evidence)
        effective = np.maximum(1 - alpha * posterior.variance, np.finfo(float).eps)
        t2 = posterior.mean**2 / (posterior.variance * effective)
        new_alpha = effective / np.maximum(posterior.mean**2, np.finfo(float).tiny)
        new_beta = _noise_precision(kinds, posterior)
        staying = t2 > 1  # the others are on their way to infinity, and never settle
        change = np.abs(np.log(np.append(new_alpha[staying] / alpha[staying], new_beta / beta))).max()
        keep = staying | (effective > _HOPELESS)
        if change < tolerance:
            removed = _removable(posterior, np.sqrt(t2), significance)
            if not len(removed) and keep.all():
                converged = True
                break
            keep[removed] = False
        alpha, beta = new_alpha[keep], new_beta
        if not keep.all():
            kinds, active = [_columns(kind, keep) for kind in kinds], active[keep]
    posterior = _posterior(kinds, beta, alpha)
    p = everything.parameters
    coefficients, precision = np.zeros(p), np.full(p, np.inf)
    factor = np.zeros((p, len(active)))
    coefficients[active], precision[active], factor[active] = posterior.mean, alpha, posterior.factor
    noise = 1 / np.sqrt(beta)
    noise = float(noise[0]) if isinstance(data, TallQR) else noise
    effective = float(posterior.effective.sum())
    evidence = posterior.log_evidence
    return LinearFit(coefficients, factor, noise, effective, evidence, precision, np.array(history), converged)


def _removable(posterior: _Posterior, t: np.ndarray, significance: float) -> np.ndarray:
    """Return parameters to remove together: nearly uncorrelated, with t in the lower half of what is too small."""
    least = t.min(initial=np.inf)
    if least >= significance:
        return np.zeros(0, dtype=int)
    candidates = np.flatnonzero(t <= (least + significance) / 2)
    candidates = candidates[np.argsort(t[candidates], kind="stable")]
    F = posterior.factor[candidates] / np.sqrt(posterior.variance[candidates])[:, None]
    related = np.abs(F @ F.T) > _RELATED
    chosen: list[int] = []
    for k in range(len(candidates)):
        if not related[k, chosen].any():
            chosen.append(k)
    return candidates[chosen]


def _columns(qr: TallQR, keep: np.ndarray) -> TallQR:
    """Return the factor of some of the parameters, an index or a mask; the others are 0."""
    return qr._replace(R=np.linalg.qr(np.hstack([qr.R[:, :-1][:, keep], qr.R[:, -1:]]), mode="r"))
