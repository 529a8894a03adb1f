"""The strength of a ridge, chosen by evidence or by predictions of rows left out, from triangular factors alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from jaxmlp.fitting.linear.solvers import prior_matrix, reciprocal_condition, triangular_factor, triangular_inverse
from jaxmlp.fitting.linear.tall_qr import TallQR, combine

_EPS = float(np.finfo(float).eps)
_STRENGTHS = np.logspace(-16, 4, 81)  # those tried, in units of the largest squared singular value


class RidgeChoice(NamedTuple):
    """The best strength of a ridge, and the curve it is the minimum of.

    Args:
        strength: where the score is smallest.
        strengths: (k,) those tried.
        scores: (k,) lower is better. "evidence": -log p(y), nats, at the best noise for each strength; "gcv" and
            "groups": mean squared error of predictions, in the unit of the weighted y squared.
        effective: (k,) effective numbers of parameters; for "groups", of the first fit.
    """

    strength: float
    strengths: np.ndarray
    scores: np.ndarray
    effective: np.ndarray


class _Standard(NamedTuple):
    """A ridge in coordinates where it is diagonal: s (p,), z (p,), |A c - y|^2 = |s b - z|^2 + rest, c = basis b."""

    s: np.ndarray
    z: np.ndarray
    rest: float
    basis: np.ndarray

    def solve(self, strength: float) -> np.ndarray:
        return self.s * self.z / (self.s**2 + strength)

    def effective(self, strength: float) -> float:
        return float(np.sum(self.s**2 / (self.s**2 + strength)))

    def misfit(self, strength: float) -> float:
        return float(self.rest + np.sum((strength / (self.s**2 + strength) * self.z) ** 2))


def _standard(qr: TallQR, gamma: np.ndarray) -> _Standard:
    factor = triangular_factor(gamma)
    if reciprocal_condition(factor) < _EPS:
        raise ValueError(f"prior must penalise every combination of parameters: this one has not rank {qr.parameters}.")
    inverse = triangular_inverse(factor)
    p = qr.parameters
    U, s, Vt = np.linalg.svd(qr.R[:p, :p] @ inverse)
    return _Standard(s, U.T @ qr.R[:p, p], qr.R[p, p] ** 2, inverse @ Vt.T)


def choose_ridge(
    data: TallQR | Sequence[TallQR],
    criterion: str = "evidence",
    *,
    prior: ArrayLike | None = None,
    normalize: bool = False,
    strengths: ArrayLike | None = None,
) -> RidgeChoice:
    """Return the strength of the ridge that predicts best, refined between the best of those tried and its neighbours.

    One singular value decomposition, then O(p) for each strength. Criteria:
        "evidence": -log p(y), largest over the noise: noise^2 = (|A c - y|^2 + strength |Gamma c|^2) / rows.
        "gcv": generalised cross-validation, rows |A c - y|^2 / (rows - effective)^2 (Golub, Heath and Wahba,
            Technometrics 21, 215, 1979), close to leaving out one row at a time. Forces of one structure are not
            independent rows, and this criterion then chooses too weak a ridge.
        "groups": the mean squared error of every group of rows as predicted by the fit to all others; as many
            decompositions as there are groups.

    Args:
        data: factors of groups of rows; one, or several that are taken together but for "groups".
        prior, normalize: as for `ridge`; Gamma must have rank p.
        strengths: positive, increasing; None: from 1e-16 to 1e4 times the largest squared singular value of
            A Gamma^-1, four in every decade.

    Raises:
        ValueError: unknown criterion, one group only where several are needed, targets that all are 0, bad strengths.
    """
    parts = [data] if isinstance(data, TallQR) else list(data)
    everything = combine(parts)
    n = everything.rows
    if criterion not in ("evidence", "gcv", "groups"):
        raise ValueError(f'criterion must be "evidence", "gcv" or "groups"; got {criterion!r}.')
    if criterion == "groups" and len(parts) < 2:
        raise ValueError('criterion "groups" leaves out one group of rows at a time: give two factors or more.')
    if not everything.total > 0:
        raise ValueError("all targets are zero: there is nothing to choose a strength by.")
    gamma = prior_matrix(everything, prior, normalize)
    if criterion == "groups":
        fits = [_standard(combine(parts[:k] + parts[k + 1 :]), gamma) for k in range(len(parts))]
    else:
        fits = [_standard(everything, gamma)]
    floor = _EPS**2 * everything.total  # rounding of a misfit of 0, whose logarithm is needed

    def score(strength: float) -> float:
        fit = fits[0]
        if criterion == "evidence":
            variance = max(fit.misfit(strength) + strength * np.sum(fit.solve(strength) ** 2), floor) / n
            spread = 0.5 * np.log1p(fit.s**2 / strength).sum()
            return float(0.5 * n * (np.log(2 * np.pi * variance) + 1) + spread - everything.log_weight)
        if criterion == "gcv":
            freedom = n - fit.effective(strength)
            return n * max(fit.misfit(strength), floor) / freedom**2 if freedom > n * _EPS else np.inf
        left_out = (part.misfit(f.basis @ f.solve(strength)) for part, f in zip(parts, fits, strict=True))
        return sum(left_out) / n

    if strengths is None:
        strengths = _STRENGTHS * max(fits[0].s.max() ** 2, np.finfo(float).tiny * 1e16)
    strengths = np.asarray(strengths, dtype=float)
    if strengths.ndim != 1 or not len(strengths) or not strengths[0] > 0 or not np.all(np.diff(strengths) > 0):
        raise ValueError(f"strengths must be positive and increasing; got {strengths}.")
    scores = np.array([score(x) for x in strengths])
    best = int(np.argmin(scores))
    log = np.log(strengths)
    strength = float(strengths[best])
    if 0 < best < len(log) - 1:
        bounds = (log[best - 1], log[best + 1])
        finer = minimize_scalar(lambda x: score(np.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-7})
        strength = float(np.exp(finer.x)) if finer.fun <= scores[best] else strength
    return RidgeChoice(strength, strengths, scores, np.array([fits[0].effective(x) for x in strengths]))
