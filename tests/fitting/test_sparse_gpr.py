"""Sparse Gaussian processes against the dense textbook form, on values, sums and derivatives of functions."""

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

from jaxmlp.fitting.gap.sparse_gpr import dense_gpr, sparse_gpr
from jaxmlp.fitting.linear.tall_qr import tall_qr

RNG = np.random.default_rng


def squared_exponential(a, b, length=1.0):
    return np.exp(-((a[:, None] - b[None]) ** 2) / (2 * length**2))


def ornstein_uhlenbeck(a, b):
    """A rough process, whose covariance matrices are well conditioned."""
    return np.exp(-np.abs(a[:, None] - b[None]))


def data(n=40, seed=0):
    rng = RNG(seed)
    x = np.sort(rng.uniform(0, 10, n))
    sigma = rng.uniform(0.05, 0.3, n)
    return x, np.sin(x) + sigma * rng.standard_normal(n), sigma


def test_with_all_points_sparse_is_dense():
    x, y, sigma = data()
    new = np.linspace(-2, 12, 29)
    K, k = ornstein_uhlenbeck(x, x), ornstein_uhlenbeck(new, x)
    dense = dense_gpr(K, y, sigma)
    sparse = sparse_gpr(
        tall_qr((K[i : i + 7], y[i : i + 7], 1 / sigma[i : i + 7]) for i in range(0, 40, 7)), K, jitter=0
    )
    np.testing.assert_allclose(sparse.predict(k), dense.predict(k), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(sparse.variance(k, np.ones(29)), dense.variance(k, np.ones(29)), rtol=1e-10)
    np.testing.assert_allclose(sparse.fit.log_evidence, dense.log_evidence, rtol=1e-11)


def test_dense_is_the_conditional_of_a_normal_distribution():
    x, y, sigma = data(n=12)
    new = np.array([0.5, 4.0, 30.0])
    K, k = squared_exponential(x, x), squared_exponential(new, x)
    dense = dense_gpr(K, y, sigma)
    inverse = np.linalg.inv(K + np.diag(sigma**2))
    np.testing.assert_allclose(dense.predict(k), k @ inverse @ y, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dense.variance(k, np.ones(3)), 1 - np.diag(k @ inverse @ k.T), rtol=1e-9)
    marginal = multivariate_normal(np.zeros(12), K + np.diag(sigma**2))
    np.testing.assert_allclose(dense.log_evidence, marginal.logpdf(y), rtol=1e-11)


def test_few_points_give_the_deterministic_training_conditional():
    x, y, sigma = data()
    points, new = np.linspace(1, 9, 6), np.linspace(-5, 15, 21)
    K_MM, K_NM, k = (squared_exponential(a, points) for a in (points, x, new))
    sparse = sparse_gpr(tall_qr([(K_NM, y, 1 / sigma)]), K_MM, jitter=0)
    Q = K_NM @ np.linalg.solve(K_MM, K_NM.T)  # the covariance that stands for K
    inverse = np.linalg.inv(Q + np.diag(sigma**2))
    q = k @ np.linalg.solve(K_MM, K_NM.T)
    np.testing.assert_allclose(sparse.predict(k), q @ inverse @ y, rtol=1e-9, atol=1e-12)
    variance = 1 - np.sum(q @ inverse * q, axis=1)
    np.testing.assert_allclose(sparse.variance(k, np.ones(21)), variance, rtol=1e-9)
    assert sparse.variance(k[-1:], [1.0]) == pytest.approx(1, abs=1e-6)  # far away the prior's, or nothing
    assert sparse.variance(k[-1:]) == pytest.approx(0, abs=1e-6)
    marginal = multivariate_normal(np.zeros(40), Q + np.diag(sigma**2))
    np.testing.assert_allclose(sparse.fit.log_evidence, marginal.logpdf(y), rtol=1e-10)


def test_sums_and_derivatives_are_data_like_values():
    """Energies, sums of f over two atoms, and forces, -df/dx: with all of them as sparse functionals it is exact."""
    rng = RNG(1)
    pairs, at = rng.uniform(0, 6, (15, 2)), rng.uniform(0, 6, 20)
    points = np.linspace(-0.5, 6.5, 40)
    kernel = squared_exponential

    def slope(a, b):  # d k(a, b) / da
        return -(a[:, None] - b[None]) * kernel(a, b)

    rows = np.concatenate([kernel(pairs[:, 0], points) + kernel(pairs[:, 1], points), -slope(at, points)])
    sigma = np.repeat([1e-3, 1e-2], [15, 20])
    truth = np.concatenate([np.sin(pairs).sum(axis=1), -np.cos(at)])
    sparse = sparse_gpr(tall_qr([(rows, truth + sigma * rng.standard_normal(35), 1 / sigma)]), kernel(points, points))
    new = np.linspace(0.3, 5.7, 30)
    error = np.sin(new) - sparse.predict(kernel(new, points))
    assert np.sqrt(np.mean(error**2)) < 0.01
    deviation = np.sqrt(sparse.variance(kernel(new, points), np.ones(30)))
    assert np.mean(np.abs(error) < 3 * deviation) > 0.9
    # The dense form with the covariances of all 35 data; 40 points span them as far as rounding lets one see.
    both = np.concatenate([pairs[:, 0], pairs[:, 1]])
    add = np.hstack([np.eye(15), np.eye(15)])
    second = (1 - (at[:, None] - at) ** 2) * kernel(at, at)  # d^2 k / da db
    cross = -add @ slope(at, both).T
    K = np.block([[add @ kernel(both, both) @ add.T, cross], [cross.T, second]])
    dense = dense_gpr(K, truth, sigma)
    exact = sparse_gpr(tall_qr([(rows, truth, 1 / sigma)]), kernel(points, points), jitter=1e-13)
    k = np.hstack([kernel(new, both) @ add.T, -slope(at, new).T])
    np.testing.assert_allclose(exact.predict(kernel(new, points)), dense.predict(k), atol=2e-6)


def test_several_descriptors_are_a_sum_of_processes():
    x, y, sigma = data()
    coarse, fine = np.linspace(0, 10, 4), np.linspace(0, 10, 12)
    blocks = [4.0 * squared_exponential(coarse, coarse, 3.0), 0.5 * ornstein_uhlenbeck(fine, fine)]
    rows = np.hstack([4.0 * squared_exponential(x, coarse, 3.0), 0.5 * ornstein_uhlenbeck(x, fine)])
    qr = tall_qr([(rows, y, 1 / sigma)])
    together = sparse_gpr(qr, blocks, jitter=0)
    K = block_diag(*blocks)
    c = np.linalg.solve(K + rows.T / sigma**2 @ rows, rows.T / sigma**2 @ y)
    np.testing.assert_allclose(together.fit.coefficients, c, rtol=1e-8)
    np.testing.assert_allclose(sparse_gpr(qr, K, jitter=0).fit.coefficients, together.fit.coefficients, rtol=1e-12)
    np.testing.assert_allclose(together.cholesky @ together.cholesky.T, K, rtol=1e-12, atol=1e-14)
    # Jitter is relative to each block, so that a descriptor with small energies is not drowned.
    jittered = sparse_gpr(qr, blocks, jitter=0.01)
    added = np.diag(jittered.cholesky @ jittered.cholesky.T - K)
    np.testing.assert_allclose(added, np.repeat([0.04, 0.005], [4, 12]), rtol=1e-10)


def test_nearly_equal_points_where_normal_equations_fail():
    rng = RNG(2)
    x = rng.uniform(0, 10, 400)
    points = np.linspace(0, 10, 60)  # condition number of K_MM: beyond 1e16
    y, sigma = np.sin(x), 1e-6
    K_NM, K_MM = squared_exponential(x, points), squared_exponential(points, points)
    new = np.linspace(0.5, 9.5, 50)
    sparse = sparse_gpr(tall_qr([(K_NM, y, 1 / sigma)]), K_MM, jitter=1e-12)
    error = np.abs(sparse.predict(squared_exponential(new, points)) - np.sin(new)).max()
    normal = np.linalg.lstsq(K_MM + 1e-12 * np.eye(60) + K_NM.T @ K_NM / sigma**2, K_NM.T @ y / sigma**2, rcond=None)[0]
    assert error < 1e-6
    assert error < 0.1 * np.abs(squared_exponential(new, points) @ normal - np.sin(new)).max()


def test_bad_input_is_refused():
    x, y, sigma = data(n=6)
    K = ornstein_uhlenbeck(x, x)
    qr = tall_qr([(K, y, 1 / sigma)])
    with pytest.raises(np.linalg.LinAlgError, match=r"K_MM \(6 points\) is not positive definite"):
        sparse_gpr(qr, np.ones((6, 6)), jitter=0)
    with pytest.raises(ValueError, match="symmetric"):
        sparse_gpr(qr, K + np.triu(K))
    with pytest.raises(ValueError, match="symmetric matrix of finite"):
        sparse_gpr(qr, np.full((6, 6), np.nan))
    with pytest.raises(ValueError, match="K_MM has 12 sparse points in all, the rows of K_NM have 6"):
        sparse_gpr(qr, [K, K])
    with pytest.raises(ValueError, match="jitter is added to variances"):
        sparse_gpr(qr, K, jitter=-1e-9)
    with pytest.raises(ValueError, match=r"must be \(N, N\), \(N,\), \(\) or \(N,\)"):
        dense_gpr(K, y[:5], sigma)
    with pytest.raises(ValueError, match="must not be negative"):
        dense_gpr(K, y, -sigma)
