"""Real spherical harmonics: the addition theorem, the usual complex ones, orthonormality, the poles."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import eval_legendre, sph_harm_y

from jaxmlp.basis.coupling import real_to_complex
from jaxmlp.basis.harmonics import harmonic_levels, real_harmonics

L = 8


@jax.jit
def harmonics(u):
    """(n, (L + 1)^2)"""
    return jnp.stack([y + 0.0 * u[:, 0] for y in real_harmonics(*u.T, L)], axis=1)


def blocks(y):
    return [y[:, l * l : (l + 1) ** 2] for l in range(L + 1)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_addition_theorem(numbers):
    u = np.array(numbers).reshape(2, 3) + np.array([[0, 0, 1e-3], [1e-3, 0, 0]])
    norms = np.linalg.norm(u, axis=1, keepdims=True)
    u = np.where(norms > 1e-6, u, [[0, 0, 1]]) / np.where(norms > 1e-6, norms, 1.0)
    y = np.asarray(harmonics(jnp.asarray(u)))
    for l, block in enumerate(blocks(y)):
        expected = (2 * l + 1) / (4 * np.pi) * eval_legendre(l, u[0] @ u[1])
        np.testing.assert_allclose(block[0] @ block[1], expected, rtol=0, atol=1e-13)  # rounding of 17 terms


def test_levels_are_the_same_harmonics():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(3, 5, 7)))
    u = x / jnp.linalg.norm(x, axis=0)
    levels = jax.jit(harmonic_levels, static_argnums=3)(*u, L)
    planes = jax.jit(real_harmonics, static_argnums=3)(*u, L)
    assert [y.shape for y in levels] == [(5, 2 * l + 1, 7) for l in range(L + 1)]
    expected = jnp.stack([jnp.broadcast_to(y, (5, 7)) for y in planes], axis=1)
    np.testing.assert_allclose(jnp.concatenate(levels, axis=1), expected, rtol=0, atol=1e-14)


def test_complex_harmonics_of_scipy():
    u = np.random.default_rng(0).normal(size=(40, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    theta, phi = np.arccos(u[:, 2]), np.arctan2(u[:, 1], u[:, 0])
    for l, block in enumerate(blocks(np.asarray(harmonics(jnp.asarray(u))))):
        expected = np.array([sph_harm_y(l, m, theta, phi) for m in range(-l, l + 1)])
        np.testing.assert_allclose(real_to_complex(l) @ block.T, expected, rtol=0, atol=1e-14)


def test_orthonormal_on_the_sphere():
    z, w = np.polynomial.legendre.leggauss(L + 1)  # exact for the polynomials at hand
    phi = 2 * np.pi * np.arange(2 * L + 1) / (2 * L + 1)
    rho = np.sqrt(1 - z**2)[:, None]
    u = np.stack([rho * np.cos(phi), rho * np.sin(phi), np.broadcast_to(z[:, None], (L + 1, 2 * L + 1))], -1)
    y = np.asarray(harmonics(jnp.asarray(u.reshape(-1, 3)))).reshape(L + 1, 2 * L + 1, -1)
    overlap = np.einsum("z,zpa,zpb->ab", w * 2 * np.pi / (2 * L + 1), y, y)
    np.testing.assert_allclose(overlap, np.eye((L + 1) ** 2), rtol=0, atol=1e-13)


def test_first_degrees_and_order():
    x, y, z = u = np.array([0.36, 0.48, 0.8])
    got = np.asarray(harmonics(jnp.asarray(u[None])))[0]
    c = np.sqrt(3 / (4 * np.pi))
    np.testing.assert_allclose(got[:4], [np.sqrt(1 / (4 * np.pi)), c * y, c * z, c * x], rtol=1e-15)
    np.testing.assert_allclose(got[4], np.sqrt(15 / (4 * np.pi)) * x * y, rtol=1e-14)
    assert len(real_harmonics(*u, 4, 1)) == 24


def test_derivatives_at_the_poles_are_finite():
    pole = jnp.asarray([0.0, 0.0, 1.0])
    second = jax.hessian(lambda u: sum(y * (k + 1) for k, y in enumerate(real_harmonics(*u, L))))(pole)
    assert np.isfinite(second).all()
