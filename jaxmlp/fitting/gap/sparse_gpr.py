"""Gaussian-process regression with sparse points, as Gaussian approximation potentials are fitted; and the dense one.

The prior is f ~ N(0, k). Data are noisy linear functionals of f: sums of it over atoms (energies) and derivatives of
these (forces, virials); N rows y = K_NM c + noise, f(x) = sum_m k(x, x_m) c_m with M sparse points x_m. K_NM holds the
same sums and derivatives of k(., x_m).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import block_diag, cho_solve, solve_triangular

from jaxmlp.fitting.linear.solvers import LinearFit, ridge
from jaxmlp.fitting.linear.tall_qr import TallQR


class SparseGP(NamedTuple):
    """A sparse Gaussian process after regression.

    Args:
        fit: coefficients c (M,), and their posterior; `fit.log_evidence` is the log marginal likelihood log p(y), nats,
            of the approximation y ~ N(0, K_NM K_MM^-1 K_MN + Lambda).
        cholesky: L (M, M), lower triangular, K_MM = L L^T.
    """

    fit: LinearFit
    cholesky: np.ndarray

    def predict(self, K: ArrayLike) -> np.ndarray:
        """Return predictions (n,) for rows K (n, M) of covariances with the sparse points, such as rows of K_NM."""
        return np.asarray(K, dtype=float) @ self.fit.coefficients

    def variance(self, K: ArrayLike, prior: ArrayLike | None = None) -> np.ndarray:
        """Return variances (n,) of predictions, without the noise of new data.

        k** - k*^T K_MM^-1 k* + k*^T Sigma k*, Sigma = (K_MM + K_MN Lambda^-1 K_NM)^-1: the deterministic training
        conditional (Quinonero-Candela and Rasmussen, J. Machine Learning Research 6, 1939, 2005, Eq. 20b). It tends to
        the prior's far from all sparse points. Without k** only the last term, the subset of regressors (their Eq.
        16b), which tends to 0 there: the error of c alone.

        Args:
            K: k* (n, M).
            prior: k** (n,), prior variances of the same functionals.
        """
        K = np.asarray(K, dtype=float)
        variance = np.sum((K @ self.fit.factor) ** 2, axis=1)
        if prior is not None:
            explained = np.sum(solve_triangular(self.cholesky, K.T, lower=True) ** 2, axis=0)
            # Rounding of two equal numbers, and the jitter, may leave less than nothing.
            variance = variance + np.maximum(np.asarray(prior, dtype=float) - explained, 0.0)
        return variance


def sparse_gpr(qr: TallQR, K_MM: ArrayLike | Sequence[ArrayLike], *, jitter: float = 1e-10) -> SparseGP:
    """Return the sparse Gaussian process that minimises |Lambda^(-1/2) (y - K_NM c)|^2 + c^T K_MM c.

    Bartok and Csanyi, Int. J. Quantum Chem. 115, 1051 (2015); Deringer, Bartok, Bernstein, Wilkins, Ceriotti and
    Csanyi, Chem. Rev. 121, 10073 (2021). Solved as a least squares problem with the QR factorisation of
    [[Lambda^(-1/2) K_NM], [L^T]], which does not square the condition number (Foster et al., J. Machine Learning
    Research 10, 857, 2009).

    Args:
        qr: factor of the rows K_NM and y with weights 1/sigma, Lambda = diag(sigma^2): `tall_qr((K, y, 1 / sigma) ...)`
            for blocks K of rows. Columns are sparse points.
        K_MM: covariances of the sparse points (M, M); or one such matrix for each of several descriptors, the prior
            being a sum of independent processes, with the columns of K_NM in the same order.
        jitter: added to the diagonals, in units of the mean of each.

    Raises:
        ValueError: K_MM not symmetric or of another size than the rows, a negative jitter; numpy.linalg.LinAlgError,
            which is one: K_MM not positive definite.
    """
    if not jitter >= 0:
        raise ValueError(f"jitter is added to variances and must not be negative; got {jitter}.")
    several = isinstance(K_MM, list | tuple) and np.ndim(K_MM[0]) == 2
    blocks = [np.asarray(K, dtype=float) for K in (K_MM if several else [K_MM])]  # type: ignore[union-attr]
    factors = [_cholesky(K, jitter * float(np.mean(np.diagonal(K))), "K_MM") for K in blocks]
    L = block_diag(*factors)
    if len(L) != qr.parameters:
        raise ValueError(f"K_MM has {len(L)} sparse points in all, the rows of K_NM have {qr.parameters} columns.")
    return SparseGP(ridge(qr, 1.0, prior=L.T, noise=1.0), L)


class DenseGP(NamedTuple):
    """A Gaussian process after regression on all data.

    Args:
        coefficients: (K + Lambda)^-1 y, (N,).
        cholesky: (N, N) lower triangular, of K + Lambda.
        log_evidence: log p(y), nats.
    """

    coefficients: np.ndarray
    cholesky: np.ndarray
    log_evidence: float

    def predict(self, K: ArrayLike) -> np.ndarray:
        """Return predictions (n,) for rows K (n, N) of covariances with the data."""
        return np.asarray(K, dtype=float) @ self.coefficients

    def variance(self, K: ArrayLike, prior: ArrayLike) -> np.ndarray:
        """Return variances (n,) of predictions without noise, for K (n, N) and prior variances (n,)."""
        explained = np.sum(solve_triangular(self.cholesky, np.asarray(K, dtype=float).T, lower=True) ** 2, axis=0)
        return np.asarray(prior, dtype=float) - explained


def dense_gpr(K: ArrayLike, y: ArrayLike, sigma: ArrayLike) -> DenseGP:
    """Return the Gaussian process given all data, with O(N^3) operations.

    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), Algorithm 2.1 (Eqs. 2.25, 2.26 and 2.30).

    Args:
        K: prior covariances of the data without noise, (N, N).
        y: (N,).
        sigma: () or (N,), standard deviations of the noise.

    Raises:
        ValueError: shapes that do not fit together, sigma negative; numpy.linalg.LinAlgError, which is one: K + Lambda
            not positive definite.
    """
    K, y, sigma = (np.asarray(x, dtype=float) for x in (K, y, sigma))
    if y.ndim != 1 or K.shape != (len(y), len(y)) or sigma.shape not in ((), y.shape):
        raise ValueError(f"K, y, sigma must be (N, N), (N,), () or (N,); got {K.shape}, {y.shape}, {sigma.shape}.")
    if not np.all(sigma >= 0):
        raise ValueError("sigma is a standard deviation and must not be negative.")
    L = _cholesky(K, sigma**2, "K")
    coefficients = cho_solve((L, True), y)
    log_evidence = -0.5 * y @ coefficients - np.log(np.diagonal(L)).sum() - 0.5 * len(y) * np.log(2 * np.pi)
    return DenseGP(coefficients, L, float(log_evidence))


def _cholesky(K: np.ndarray, diagonal: float | np.ndarray, name: str) -> np.ndarray:
    """Return the lower factor of K with something added to its diagonal."""
    square = K.ndim == 2 and K.shape[0] == K.shape[1] and K.size > 0 and np.isfinite(K).all()
    if not square or np.abs(K - K.T).max() > 1e-8 * np.abs(K).max():
        raise ValueError(f"{name} must be a symmetric matrix of finite covariances; got shape {K.shape}.")
    try:
        return np.linalg.cholesky(K + np.diag(np.broadcast_to(diagonal, len(K))))
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(
            f"{name} ({len(K)} points) is not positive definite: some points are nearly equal. "
            "Remove them, or add more jitter or noise."
        ) from None
