"""Absolute errors made small: the exact optimum of a linear program, and what outliers do to it."""

import numpy as np
import pytest
from scipy.optimize import linprog

from jaxmlp.fitting.linear.fit import solve
from jaxmlp.fitting.linear.least_absolute import least_absolute
from jaxmlp.fitting.linear.solvers import least_squares
from jaxmlp.fitting.linear.tall_qr import combine


def rows(n, p, seed):
    rng = np.random.default_rng(seed)
    A, c = rng.normal(size=(n, p)), rng.normal(size=p)
    return A, A @ c + rng.laplace(size=n), np.ones(n), c


def solved(factors):
    return least_squares(combine(list(factors.values())))


def test_the_sum_is_that_of_the_linear_program():
    """min sum_i w_i |A c - y|_i as min w . t with -t <= A c - y <= t."""
    (A, y, w, _), (B, z, v, _) = rows(60, 4, 0), rows(30, 4, 1)
    weights = {"a": 2.0, "b": 5.0}
    fit, _ = least_absolute({"a": [(A[:20], y[:20], w[:20]), (A[20:], y[20:], w[20:])], "b": [(B, z, v)]}, solved,
                            weights=weights, steps=300, tolerance=1e-6, floor=1e-4)  # fmt: skip
    M, r = np.concatenate([A, B]), np.concatenate([y, z])
    cost = np.concatenate([np.full(60, 2.0), np.full(30, 5.0)])
    eye = np.eye(90)
    exact = linprog(
        np.concatenate([np.zeros(4), cost]), A_ub=np.block([[M, -eye], [-M, -eye]]), b_ub=np.concatenate([r, -r]),
        bounds=[(None, None)] * 4 + [(0, None)] * 90,
    )  # fmt: skip
    found = np.sum(cost * np.abs(M @ fit.coefficients - r))
    assert exact.fun <= found < exact.fun * (1 + 1e-3)


def test_outliers_hardly_matter_and_kinds_find_their_scales():
    A, y, w, c = rows(2000, 3, 2)
    y[:20] += 1e4
    squares = least_squares(combine([solve_rows(A, y, w)]))
    fit, factors = least_absolute({"x": [(A, y, w)]}, solved)
    assert np.abs(squares.coefficients - c).max() > 1.0
    assert np.abs(fit.coefficients - c).max() < 0.15
    assert list(factors) == ["x"]


def solve_rows(A, y, w):
    from jaxmlp.fitting.linear.tall_qr import tall_qr

    return tall_qr([(A, y, w)])


def test_bad_weights_are_named():
    A, y, w, _ = rows(5, 2, 0)
    with pytest.raises(ValueError, match="must be positive"):
        least_absolute({"x": [(A, y, w)]}, solved, weights={"x": 0.0})
    with pytest.raises(ValueError, match="no rows"):
        least_absolute({"x": []}, solved)
    assert solve({"x": solve_rows(A, y, w)}, solver="least-squares").coefficients.shape == (2,)
