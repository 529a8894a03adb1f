"""Radial functions of NEP: closed forms, derivatives of every order, behaviour at and beyond the cutoff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_chebyt

from jaxmlp.basis.chebyshev import chebyshev_cosine, to_chebyshev

RC = 5.0


def derivatives(f, order):
    for _ in range(order):
        f = jax.grad(f)
    return jax.jit(jax.vmap(f))


@pytest.mark.parametrize("order", range(5))
def test_cutoff_function_is_a_cosine_to_every_order(order):
    r = jnp.linspace(0.05, 0.995 * RC, 97)
    value = derivatives(lambda r: 2 * chebyshev_cosine(r, RC, 2)[0], order)(r)
    k = np.pi / RC
    exact = 0.5 * k**order * np.cos(k * r + order * np.pi / 2) + (0.5 if order == 0 else 0.0)
    # Rounding of w = 1 - r/rc grows as its derivatives: measured 4e-15 at order 4.
    np.testing.assert_allclose(value, exact, rtol=0, atol=1e-13)


def test_functions_are_chebyshev_polynomials_under_the_cutoff():
    r = np.linspace(0.01, 1.2 * RC, 200)
    x = 2 * (r / RC - 1) ** 2 - 1
    fc = np.where(r < RC, 0.5 * np.cos(np.pi * r / RC) + 0.5, 0.0)
    f = [fc if k == 0 else 0.5 * (eval_chebyt(k, x) + 1) * fc for k in range(13)]
    s = chebyshev_cosine(jnp.asarray(r), RC, 12)
    # f_k = s_k + s_0; the recursion to degree 12 loses two digits.
    np.testing.assert_allclose([s_k + s[0] for s_k in s], f, rtol=0, atol=1e-13)


def test_derivatives_of_the_polynomials():
    def plain(r):
        x = 2 * (r / RC - 1) ** 2 - 1
        return jnp.cos(5 * jnp.arccos(x)) * (1 + jnp.cos(jnp.pi * r / RC)) / 4

    r = jnp.linspace(0.3, 0.9, 31) * RC  # where arccos is regular
    for order in (1, 2, 3):
        got = derivatives(lambda r: chebyshev_cosine(r, RC, 6)[5], order)(r)
        np.testing.assert_allclose(got, derivatives(plain, order)(r), rtol=0, atol=1e-10)  # arccos loses digits
    forward = jax.jit(jax.vmap(jax.jacfwd(jax.jacfwd(lambda r: chebyshev_cosine(r, RC, 6)[5]))))(r)
    np.testing.assert_allclose(forward, derivatives(plain, 2)(r), rtol=0, atol=1e-10)


def test_coefficients_change_with_the_basis():
    c = np.random.default_rng(0).normal(size=(3, 9))
    s = np.random.default_rng(1).normal(size=9)
    np.testing.assert_allclose(to_chebyshev(jnp.asarray(c), 1) @ s, c @ (s + s[0]), rtol=1e-13)


@pytest.mark.parametrize("r", [RC, 1.0001 * RC, 3.5 * RC, 1e6])
def test_everything_vanishes_from_the_cutoff_on(r):
    for k in range(4):

        def f(r, k=k):
            return chebyshev_cosine(r, RC, 6)[k] * r**3

        for order in range(2 if r == RC else 4):  # at the cutoff itself the second derivative jumps
            assert derivatives(f, order)(jnp.asarray([r])) == 0.0


def test_smallest_sizes():
    assert [len(chebyshev_cosine(jnp.ones(2), RC, size)) for size in (0, 1, 2)] == [1, 2, 3]
