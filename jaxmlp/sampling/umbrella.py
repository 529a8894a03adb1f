"""Umbrella sampling: one free-energy profile from simulations under many restraints. With numpy, on the host."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxmlp.sampling.profiles import Profile, columns, density, shortest
from jaxmlp.statistics import FEWEST, jackknife


class Umbrella(NamedTuple):
    """Samples of all windows, and what each counts without restraints.

    Args:
        s: (T, d) samples, one window after the other.
        window: (T,) the window each comes from.
        w: (T,) weights, which add up to 1.
        f: (K,) reduced free energies -ln Z_k of the windows, the first 0.
        kT: eV, the temperature that the weights are for.
    """

    s: np.ndarray
    window: np.ndarray
    w: np.ndarray
    f: np.ndarray
    kT: float


def umbrella(
    s: Sequence[ArrayLike],
    k: ArrayLike,
    centers: ArrayLike,
    kT: ArrayLike,
    *,
    energies: Sequence[ArrayLike] | None = None,
    periods: Sequence[float] | None = None,
    target: float | None = None,
) -> Umbrella:
    """Return samples of restrained simulations with the weights that they have without restraints.

    Windows are joined by MBAR: Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), with reduced energies u_k =
    [E + sum_a k_ka/2 (s_a - center_ka)^2] / kT_k.

    Args:
        s: for each of K windows its samples, (T_k,) or (T_k, d).
        k, centers: of the restraints, see `Restraint`: (K,) or (K, d); k also a number.
        kT: eV, one number or (K,).
        energies: for each window the energies (T_k,) eV of its samples without restraint; needed where temperatures
            differ.
        periods: (d,) of the variables, 0 for those that are not periodic.
        target: kT in eV that the weights are for; None where all windows have the same.

    Raises:
        ValueError: shapes that do not fit, or temperatures that differ without energies.
    """
    windows = [columns(f"samples of window {i}", x) for i, x in enumerate(s)]
    K, d = len(windows), windows[0].shape[1]
    joined, counts = np.concatenate(windows), np.array([len(x) for x in windows])
    centers, k = _per_window("centers", centers, K, d), _per_window("k", k, K, d)
    kT = np.broadcast_to(np.asarray(kT, float), (K,))
    target = _target(kT, target, energies)
    E = np.zeros(len(joined)) if energies is None else np.concatenate([np.asarray(e, float) for e in energies])
    if E.shape != (len(joined),):
        raise ValueError(f"energies must be one for each of the {len(joined)} samples; got {E.shape}.")
    D = shortest(joined - centers[:, None], np.zeros(d) if periods is None else np.asarray(periods, float))
    u = (E + 0.5 * np.sum(k[:, None] * D**2, axis=2)) / kT[:, None]  # (K, T)
    f = window_free_energies(u, counts)
    x = f[:, None] - u + np.log(counts)[:, None]
    top = x.max(axis=0)
    x = -E / target - top - np.log(np.exp(x - top).sum(axis=0))
    w = np.exp(x - x.max())
    return Umbrella(joined, np.repeat(np.arange(K), counts), w / w.sum(), f, target)


def umbrella_profile(
    s: Sequence[ArrayLike],
    k: ArrayLike,
    centers: ArrayLike,
    kT: ArrayLike,
    grid: Any,
    *,
    width: ArrayLike | None = None,
    energies: Sequence[ArrayLike] | None = None,
    periods: Sequence[float] | None = None,
    target: float | None = None,
    blocks: int = 20,
) -> Profile:
    """Return F(s) of restrained simulations, with errors from blocks.

    Every window is cut in `blocks` pieces in time, longer than its correlation time; the error is that of the jackknife
    which leaves out the same piece of all windows and joins the rest anew.

    Args:
        s, k, centers, kT, energies, periods, target: as for `umbrella`.
        grid, width: as for `profile`.
        blocks: at least 10.
    """
    windows = [columns(f"samples of window {i}", x) for i, x in enumerate(s)]
    if not FEWEST <= blocks <= min(map(len, windows)):
        raise ValueError(f"blocks is a number from {FEWEST} to the length of the shortest window; got {blocks}.")
    pieces = [np.arange(len(x)) * blocks // len(x) for x in windows]
    points, summed = density(windows[0].shape[1], grid, width, periods)
    kT_of_profile = _target(np.atleast_1d(np.asarray(kT, float)), target, energies)

    def p(kept: np.ndarray) -> np.ndarray:
        part = lambda xs: [np.asarray(x)[np.isin(piece, kept)] for x, piece in zip(xs, pieces)]
        some = None if energies is None else part(energies)
        joined = umbrella(part(windows), k, centers, kT, energies=some, periods=periods, target=target)
        return summed(joined.s, joined.w)

    mean, error = jackknife(p, np.arange(blocks), blocks=blocks)
    return Profile.of(points, mean, error, kT_of_profile)


def window_free_energies(u: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the reduced free energies (K,) of windows, the first 0, by MBAR.

    Args:
        u: (K, T) reduced energy of every sample in every window, samples of one window after the other.
        counts: (K,) samples of each window.
    """
    from jaxmlp.free_energy.estimators import mbar

    return mbar(u, counts, correlated=False).differences[0]


def _target(kT: np.ndarray, target: float | None, energies: Any) -> float:
    """Return the temperature of the weights, after a look at those of the windows."""
    if not (kT > 0).all():
        raise ValueError(f"kT is an energy in eV and must be positive; got {kT}.")
    if target is None:
        if np.ptp(kT) > 0:
            raise ValueError("the windows have different temperatures: give the `target`, kT in eV.")
        target = float(kT[0])
    if energies is None and (kT != target).any():
        raise ValueError("weights for another temperature need `energies`, those of the samples without restraint.")
    return target


def _per_window(name: str, x: ArrayLike, K: int, d: int) -> np.ndarray:
    x = np.asarray(x, float)
    x = x[:, None] if x.ndim == 1 else x
    if x.shape not in ((), (K, 1), (K, d)):
        raise ValueError(f"{name} must be ({K},) or ({K}, {d}), one for each window; got shape {x.shape}.")
    return np.broadcast_to(x, (K, d))
