"""Spherical Bessel functions against scipy, their differential equation and their orthogonality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import spherical_jn

from jaxmlp.basis.spherical_bessel import spherical_bessel, zeros_and_norms

T = np.concatenate([np.geomspace(1e-4, 1.0, 40), np.linspace(0.5, 40.0, 400), np.arange(1.0, 9.0)])


@pytest.mark.parametrize("l", range(9))
def test_values_and_slopes(l):
    f = lambda t: spherical_bessel(l, t)
    t = jnp.asarray(T)
    value, slope = jax.jvp(f, (t,), (jnp.ones_like(t),))
    np.testing.assert_allclose(value, spherical_jn(l, T), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(slope, spherical_jn(l, T, derivative=True), rtol=1e-12, atol=1e-14)
    second = jax.vmap(jax.grad(jax.grad(f)))(t)  # t^2 j'' + 2 t j' + (t^2 - l (l+1)) j = 0
    residual = t**2 * second + 2 * t * slope + (t**2 - l * (l + 1)) * value
    np.testing.assert_allclose(residual / (1 + t**2), 0, atol=1e-13)


def test_small_arguments_keep_their_digits():
    """j_l(t) = t^l / (2l+1)!! to leading order."""
    double_factorial = 1.0
    for l in range(8):
        double_factorial *= 2 * l + 1
        np.testing.assert_allclose(spherical_bessel(l, jnp.asarray(1e-8)), 1e-8**l / double_factorial, rtol=1e-14)


def test_the_basis_is_orthonormal_on_a_ball():
    zeros, norms = zeros_and_norms(5, 4, False)
    x, w = np.polynomial.legendre.leggauss(80)
    x, w = (x + 1) / 2, w / 2
    for l in range(5):
        f = norms[l, :, None] * spherical_jn(l, zeros[l, :, None] * x)
        np.testing.assert_allclose((f * w * x**2) @ f.T, np.eye(4), atol=1e-13)
