"""Polynomials of the series that stand for embedding networks: closed forms, and derivatives of every order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_chebyt, eval_gegenbauer

from jaxmlp.basis.deepmd_tables import Chebyshev, gegenbauer

Z = np.linspace(-1.0, 1.0, 41)


@pytest.mark.parametrize("order", range(4))
def test_values_are_those_of_scipy(order):
    k = np.arange(40)[:, None]
    expected = eval_gegenbauer(k, order, Z) if order else eval_chebyt(k, Z)
    found = gegenbauer(jnp.asarray(Z), 40, order)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("size", [1, 2, 24])
def test_derivatives_of_every_order_are_those_of_the_polynomials(size):
    f = lambda z: gegenbauer(z, size, 0)
    for order in range(1, 4):
        f = jax.jacfwd(f) if order % 2 else jax.jacrev(f)
        found = jax.jit(jax.vmap(f, out_axes=1))(jnp.asarray(Z))
        expected = [np.polynomial.Chebyshev.basis(k).deriv(order)(Z) for k in range(size)]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_a_series_goes_on_linearly_beyond_its_range():
    table = Chebyshev(8, -1.0, 2.0, 0.7)
    s = jnp.array([[1.5, 2.0, 3.0]])
    planes = table.planes(s)
    assert planes.shape == (1, 9, 3)
    np.testing.assert_allclose(
        planes[0, :, 0], [*eval_chebyt(np.arange(8), float(table.variable(1.5))), 0.0], rtol=1e-12
    )
    np.testing.assert_allclose(planes[0, :, 2], [*np.ones(8), 1.0], rtol=1e-12)
