"""Free-energy profiles from samples, weighted where they come from a biased simulation. With numpy, on the host."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxmlp.statistics import FEWEST, jackknife


class Profile(NamedTuple):
    """A free energy as a function of collective variables.

    Args:
        s: points, (G,) for one variable, else (G, d).
        F: (G,) eV, its minimum at 0; inf where there are no samples.
        error: (G,) eV, standard error of -kT ln p(s), p the normalised density; inf where one block holds all samples.
    """

    s: np.ndarray
    F: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, s: np.ndarray, p: np.ndarray, error: np.ndarray, kT: float) -> "Profile":
        """Make it of a density p (G,) and its standard error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            F, error = -kT * np.log(p), np.where(p > 0, kT * error / p, np.inf)
        return cls(s[:, 0] if s.shape[1] == 1 else s, F - F.min(), error)


def weights(bias: ArrayLike, kT: float, offset: ArrayLike = 0.0) -> np.ndarray:
    """Return the weights exp((V_t - c_t) / kT) of samples of a biased simulation, (T,), which add up to 1.

    Args:
        bias: V_t (T,) eV, the bias at every sample, of the memory that drove it.
        kT: eV.
        offset: c_t, a number or (T,) eV: 0 for OPES; for metadynamics `Metadynamics.offsets` by number of depositions.
    """
    x = (np.asarray(bias, float) - np.asarray(offset, float)) / kT
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"weights need finite biases (T,); got shape {x.shape}, {np.sum(~np.isfinite(x))} not finite.")
    w = np.exp(x - x.max())
    return w / w.sum()


def samples(w: ArrayLike) -> float:
    """Return how many equally weighted samples hold as much, (sum w)^2 / sum w^2; without regard to correlation."""
    w = np.asarray(w, float)
    return float(w.sum() ** 2 / np.sum(w**2))


def profile(
    s: ArrayLike,
    kT: float,
    grid: Any,
    *,
    w: ArrayLike | None = None,
    width: ArrayLike | None = None,
    periods: Sequence[float] | None = None,
    blocks: int = 20,
) -> Profile:
    """Return F(s) = -kT ln p(s) from a histogram, or from a density of Gaussians, with errors from blocks.

    Errors: jackknife over consecutive blocks, which must be longer than correlation times, see `statistics.jackknife`.

    Args:
        s: (T,) or (T, d) samples in the order of time.
        kT: eV.
        grid: without `width` the edges of bins, (G + 1,), or one such array for each variable; with it the points, (G,)
            or (G, d), where the density is wanted.
        w: (T,) weights; None for equal ones.
        width: of the Gaussians, a number or (d,).
        periods: of every variable, 0 for those that are not periodic, for Gaussians; None where none is.
        blocks: at least 10.

    Raises:
        ValueError: shapes that do not fit, or samples that are not finite.
    """
    s = columns("s", s)
    w = np.ones(len(s)) if w is None else np.asarray(w, float)
    if w.shape != (len(s),) or not np.isfinite(w).all():
        raise ValueError(f"w must be {len(s)} finite weights, one for each sample; got shape {w.shape}.")
    if not FEWEST <= blocks <= len(s):
        raise ValueError(f"blocks is a number from {FEWEST} to the {len(s)} samples; got {blocks}.")
    points, summed = density(s.shape[1], grid, width, periods)
    ends = np.linspace(0, len(s), blocks + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(ends)]
    sums = np.array([summed(s[part], w[part]) for part in parts])  # (blocks, G)
    norms = np.array([w[part].sum() for part in parts])
    p, error = jackknife(lambda sums, norms: sums.sum(axis=0) / norms.sum(), sums, norms, blocks=blocks)
    error = np.where((sums > 0).sum(axis=0) > 1, error, np.inf)
    return Profile.of(points, p, error, kT)


def columns(name: str, x: ArrayLike) -> np.ndarray:
    """Return samples (T,) or (T, d) as an array (T, d).

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    x = np.asarray(x, float)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite numbers (T,) or (T, d); got shape {x.shape}.")
    return x


Summed = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of samples (T, d) and weights (T,), at (G,) points


def density(d: int, grid: Any, width: ArrayLike | None, periods: Sequence[float] | None) -> tuple[np.ndarray, Summed]:
    """Return points (G, d), and the function that sums weights there, per volume. Arguments as for `profile`."""
    return _histogram(d, grid) if width is None else _gaussians(d, grid, width, periods)


def _histogram(d: int, grid: Any) -> tuple[np.ndarray, Summed]:
    edges = [np.asarray(e, float) for e in ([grid] if np.ndim(grid[0]) == 0 else grid)]
    if len(edges) != d or any(e.ndim != 1 or len(e) < 2 or not (np.diff(e) > 0).all() for e in edges):
        raise ValueError(f"grid must be {d} array(s) of growing edges of bins, one for each variable.")
    mesh = np.meshgrid(*((e[1:] + e[:-1]) / 2 for e in edges), indexing="ij")
    volume = np.prod(np.meshgrid(*map(np.diff, edges), indexing="ij"), axis=0)
    points = np.stack([x.ravel() for x in mesh], axis=1)
    return points, lambda s, w: (np.histogramdd(s, edges, weights=w)[0] / volume).ravel()


def _gaussians(d: int, grid: Any, width: ArrayLike, periods: Sequence[float] | None) -> tuple[np.ndarray, Summed]:
    points = columns("grid", grid)
    sigma = np.broadcast_to(np.asarray(width, float), (d,))
    turn = np.zeros(d) if periods is None else np.asarray(periods, float)
    if points.shape[1] != d or turn.shape != (d,) or not (sigma > 0).all():
        raise ValueError(f"with Gaussians grid must be points (G, {d}), width positive and periods ({d},).")

    def summed(s: np.ndarray, w: np.ndarray) -> np.ndarray:
        total = np.zeros(len(points))
        for part in np.array_split(np.arange(len(s)), -(-len(s) * len(points) // 10**6)):  # at most 10^6 at a time
            x = shortest(points[:, None] - s[part], turn) / sigma
            total += np.exp(-0.5 * np.sum(x * x, axis=2)) @ w[part]
        return total / np.prod(sigma * np.sqrt(2 * np.pi))

    return points, summed


def shortest(d: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Return differences (..., d) the short way round where a period is not 0."""
    return np.where(periods > 0, d - periods * np.round(d / np.where(periods > 0, periods, 1.0)), d)
