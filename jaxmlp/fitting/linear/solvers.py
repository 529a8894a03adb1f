"""Linear regression from the triangular factor of its rows: least squares and ridge, with errors of the coefficients.

The model is y = A c + noise. All sums are over weighted rows (`tall_qr.add_rows`): with weights 1/sigma the noise of
the weighted rows is 1, without weights it has the unit of y.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike
from scipy.linalg import bandwidth, blas, lapack, solve_triangular

from jaxmlp.fitting.linear.tall_qr import TallQR, stacked

_EPS = float(np.finfo(float).eps)


class LinearFit(NamedTuple):
    """Coefficients of a linear model with their Gaussian uncertainty.

    Args:
        coefficients: c (p,), in the unit of y over that of A: the mean of the posterior.
        factor: F (p, k) with covariance F F^T of the coefficients. Directions that the data do not determine have
            variance 0 in a solution of minimum norm, that of the prior in Bayesian ones.
        noise: standard deviation of the noise of weighted rows; (K,) where each of K kinds of rows has its own. NaN
            where no degree of freedom is left to estimate it.
        effective: effective number of parameters, the trace of the matrix that takes y to A c.
        log_evidence: log p(y), nats, of the rows as they were before weighting; None without a proper prior.
        precision: what multiplies |Gamma c|^2 / 2 in the negative logarithm of the prior; (p,) in ARD; None without.
        history: log evidence (steps,) where it was maximised.
        converged: whether the maximisation ended before its limit of steps.
    """

    coefficients: np.ndarray
    factor: np.ndarray
    noise: float | np.ndarray
    effective: float
    log_evidence: float | None = None
    precision: float | np.ndarray | None = None
    history: np.ndarray | None = None
    converged: bool = True

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the coefficients, (p, p)."""
        return self.factor @ self.factor.T

    def sample(self, key: Array, n: int) -> np.ndarray:
        """Return n draws (n, p) from the normal distribution of the coefficients: the members of a committee."""
        normal = np.asarray(jax.random.normal(key, (n, self.factor.shape[1])), dtype=float)
        return self.coefficients + normal @ self.factor.T


def least_squares(qr: TallQR, *, rcond: float | None = None, noise: float | None = None) -> LinearFit:
    """Return the coefficients that minimise |A c - y|^2, those of smallest norm where several do.

    Args:
        rcond: singular values of A below `rcond` times the largest count as 0; None: max(rows, p) eps, the default of
            `numpy.linalg.lstsq`.
        noise: of the weighted rows, if known; None: estimated, |A c - y|^2 / (rows - rank) being its square.
    """
    return _fit(qr, qr.R, "svd", rcond, noise, None)


def ridge(
    qr: TallQR,
    strength: float,
    *,
    prior: ArrayLike | None = None,
    normalize: bool = False,
    solver: str = "qr",
    rcond: float | None = None,
    noise: float | None = None,
) -> LinearFit:
    """Return the coefficients that minimise |A c - y|^2 + strength |Gamma c|^2.

    Solved as the least squares problem of A stacked on strength^(1/2) Gamma. Covariance and evidence are those of a
    normal prior for c with precision strength / noise^2 Gamma^T Gamma (Bishop, Pattern Recognition and Machine
    Learning, 2006, Eqs. 3.54 and 3.86).

    Args:
        strength: the regularisation parameter, at least 0, in units of the squares of weighted A.
        prior: Gamma, (p,) for a diagonal matrix (larger for parameters that should be smaller: a smoothness prior), or
            (q, p), a Tikhonov matrix; None: the identity.
        normalize: multiply the columns of Gamma by the root mean square of those of A, so that the result does not
            depend on the parameters' units.
        solver: "qr", or "svd" for the solution of smallest norm if the stacked matrix is singular.
        rcond: as for `least_squares`, of the stacked matrix; only for "svd".
        noise: of the weighted rows, if known; None: estimated, |A c - y|^2 / (rows - effective) being its square.

    Raises:
        ValueError: negative strength, unknown solver, a prior of wrong shape; numpy.linalg.LinAlgError, which is one:
            the coefficients are not determined and the solver is "qr".
    """
    if not (0 <= strength < np.inf):
        raise ValueError(f"strength multiplies a sum of squares and must be at least 0 and finite; got {strength}.")
    if solver not in ("qr", "svd"):
        raise ValueError(f'solver must be "qr" or "svd"; got {solver!r}.')
    gamma = prior_matrix(qr, prior, normalize)
    rows = np.zeros((len(gamma), qr.parameters + 1), order="F")
    np.multiply(np.sqrt(strength), gamma, out=rows[:, :-1])
    triangular = _is_triangular(gamma)
    factor = rows[:, :-1] if triangular else triangular_factor(rows[:, :-1])
    log_prior = log_determinant(factor) if reciprocal_condition(factor) > _EPS else None
    T = stacked(qr.R, rows, triangular=triangular)
    del gamma, rows, factor  # of many parameters each is gigabytes
    fit = _fit(qr, T, solver, rcond, noise, log_prior)
    return fit._replace(precision=strength / fit.noise**2)


def _fit(qr: TallQR, T: np.ndarray, solver: str, rcond, noise, log_prior: float | None) -> LinearFit:
    """Return the solution of the problem with factor T (p + 1, p + 1), of which the rows of `qr` are the data."""
    p = qr.parameters
    A, y = T[:p, :p], T[:p, p]
    if solver == "qr":
        inverse = triangular_inverse(A)
        c = solve_triangular(A, y)
        minimum, log_posterior = T[p, p] ** 2, log_determinant(A)
    else:
        U, s, Vt = np.linalg.svd(A)
        kept = s > (max(qr.rows, p) * _EPS if rcond is None else rcond) * s.max(initial=0.0)
        z = U.T @ y
        inverse = Vt[kept].T / s[kept]
        c = inverse @ z[kept]
        minimum, log_posterior = T[p, p] ** 2 + z[~kept] @ z[~kept], np.log(s[kept]).sum()
        log_prior = log_prior if kept.all() else None
    effective = float(np.linalg.norm(blas.dtrmm(1.0, qr.R[:p, :p], inverse)) ** 2) if p else 0.0
    if noise is None:
        freedom = qr.rows - effective
        noise = float(np.sqrt(qr.misfit(c) / freedom)) if freedom > _EPS * qr.rows else float("nan")
    evidence = None
    if log_prior is not None:
        normal = -0.5 * qr.rows * np.log(2 * np.pi * noise**2) + qr.log_weight
        evidence = float(normal + log_prior - log_posterior - 0.5 * minimum / noise**2)
    inverse *= noise
    return LinearFit(c, inverse, noise, effective, evidence)


def prior_matrix(qr: TallQR, prior: ArrayLike | None, normalize: bool) -> np.ndarray:
    """Return Gamma (q, p) as `ridge` describes it."""
    p = qr.parameters
    gamma = np.ones(p) if prior is None else np.asarray(prior, dtype=float)
    if gamma.shape[-1:] != (p,) or gamma.ndim > 2:
        raise ValueError(f"prior must have shape ({p},) or (q, {p}) for {p} parameters; got {gamma.shape}.")
    if not np.isfinite(gamma).all() or (gamma.ndim == 1 and np.any(gamma < 0)):
        raise ValueError("prior must be finite, and a diagonal one not negative.")
    if normalize:
        norms = qr.norms / np.sqrt(max(qr.rows, 1))
        gamma = gamma * np.where(norms > 0, norms, 1.0)  # a parameter that no row contains needs some prior too
    return np.diag(gamma) if gamma.ndim == 1 else gamma


def _is_triangular(matrix: np.ndarray) -> bool:
    return len(matrix) <= matrix.shape[1] and bandwidth(matrix)[0] == 0


def triangular_factor(matrix: np.ndarray) -> np.ndarray:
    """Return the upper triangular R with R^T R = M^T M for M (q, p)."""
    return matrix if _is_triangular(matrix) else np.asarray(np.linalg.qr(matrix, mode="r"))


def reciprocal_condition(T: np.ndarray) -> float:
    """Return an estimate of 1 / (|T| |T^-1|) of an upper triangular matrix with columns scaled to the same norm.

    It is 0 for a matrix with fewer rows than columns, and 1 for an empty one.
    """
    scale = np.linalg.norm(T, axis=0)
    if T.shape[0] < T.shape[1] or not scale.all():
        return 0.0
    return float(lapack.dtrcon(T / scale)[0]) if len(T) else 1.0


def triangular_inverse(T: np.ndarray) -> np.ndarray:
    """Return the inverse of an upper triangular matrix (p, p), the factor of rows; LinAlgError if it is singular."""
    condition = reciprocal_condition(T)
    if condition < _EPS:
        raise np.linalg.LinAlgError(
            f"the rows do not determine all {len(T)} coefficients (reciprocal condition number {condition:.1e}): "
            'choose a larger strength, or solver="svd" for the solution of smallest norm.'
        )
    return lapack.dtrtri(T)[0] if len(T) else T


def log_determinant(T: np.ndarray) -> float:
    """Return log |det T| of a triangular matrix."""
    return float(np.log(np.abs(np.diagonal(T))).sum())
