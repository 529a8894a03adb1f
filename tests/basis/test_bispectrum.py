"""Harmonics on the four-dimensional sphere; the bispectrum against Wigner matrices and Clebsch-Gordan coefficients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis.bispectrum import Bispectrum, invariants, weighted_invariants
from jaxmlp.basis.coupling import clebsch_gordan
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.basis.hypersphere import points, radial_harmonics

RNG = np.random.default_rng(5)
J_MAX = 5
NAMES = [(j, l, m) for l in range(J_MAX + 1) for j in range(l, J_MAX + 1) for m in range(-l, l + 1)]


def on_sphere(n: int) -> np.ndarray:
    x = RNG.normal(size=(n, 4))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def harmonics(x: np.ndarray) -> np.ndarray:
    """h_jlm at points x (P, 4), in the order of NAMES."""
    sine = np.linalg.norm(x[:, 1:], axis=1)
    radial = radial_harmonics(x[:, 0], sine, J_MAX)
    angular = real_harmonics(*(x[:, 1:] / sine[:, None]).T, J_MAX)
    return np.array([radial[l][j - l] * angular[l * l + l + m] for j, l, m in NAMES])


def coefficients(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return harmonics(x) @ weights


def wigner_matrix(x: np.ndarray, j: int) -> np.ndarray:
    """u_j (j + 1, j + 1) of a point, by the recursion of LAMMPS' documentation; all columns, no symmetry."""
    a, b = x[0] - 1j * x[3], x[2] - 1j * x[1]
    u = np.ones((1, 1), dtype=complex)
    for k in range(1, j + 1):
        new = np.zeros((k + 1, k + 1), dtype=complex)
        for row in range(k):
            for column in range(k):
                new[row, column] += np.sqrt((k - column) / (k - row)) * np.conj(a) * u[row, column]
                new[row, column + 1] -= np.sqrt((column + 1) / (k - row)) * np.conj(b) * u[row, column]
        new[k] = ((-1.0) ** np.arange(k + 1) * np.conj(new[0]))[::-1]  # the last row mirrors the first
        u = new
    return u


def textbook(x: np.ndarray, weights: np.ndarray, j1: int, j2: int, j: int) -> float:
    """B_(j1 j2 j), sums over Clebsch-Gordan coefficients and Wigner matrices."""
    U1, U2, U = (sum(w * wigner_matrix(p, k) for p, w in zip(x, weights)) for k in (j1, j2, j))
    C = clebsch_gordan(j1 / 2, j2 / 2, j / 2)
    Z = np.einsum("abc,xyz,ax,by->cz", C, C, U1, U2)
    return float(np.sum(np.conj(U) * Z).real)


def test_harmonics_are_orthonormal_and_add_up():
    x, y = on_sphere(7), on_sphere(7)
    h, g = harmonics(x), harmonics(y)
    cosine = np.sum(x * y, axis=1)
    omega = np.arccos(cosine)
    for j in range(J_MAX + 1):
        own = [k for k, name in enumerate(NAMES) if name[0] == j]
        assert len(own) == (j + 1) ** 2
        expected = (j + 1) * np.sin((j + 1) * omega) / np.sin(omega)
        np.testing.assert_allclose(np.sum(h[own] * g[own], axis=0), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("j_max", [0, 1, 2, 5, 8])
def test_means_over_the_points_are_exact(j_max):
    """Products of two harmonics, their sum of degrees even: the unit matrix."""
    sphere = points(j_max)
    parts = zip(sphere.turn, sphere.latitude, sphere.torus, strict=True)
    values = np.concatenate([(j + 1) * np.einsum("kh,kb,kt->hbt", *part) for j, part in enumerate(parts)])
    degree = np.repeat(np.arange(j_max + 1), np.arange(1, j_max + 2) ** 2)
    gram = np.einsum("abt,cbt,b->ac", values, values, sphere.weights, optimize=True)
    alike = (degree[:, None] + degree) % 2 == 0
    np.testing.assert_allclose(np.where(alike, gram, np.eye(len(gram))), np.eye(len(gram)), atol=1e-13)
    assert sorted(sphere.order) == list(range(len(gram)))


def test_wigner_matrices_of_the_textbook_are_representations():
    for x in on_sphere(3):
        for j in range(1, 5):
            u = wigner_matrix(x, j)
            np.testing.assert_allclose(u @ np.conj(u.T), np.eye(j + 1), atol=1e-13)


def test_the_bispectrum_of_the_textbook():
    x, weights = on_sphere(6), RNG.uniform(0.2, 1.0, 6)
    triples = tuple(
        (a, b, c)
        for a in range(J_MAX + 1)
        for b in range(a, J_MAX + 1)
        for c in range(b, min(J_MAX, a + b) + 1)
        if (a + b + c) % 2 == 0
    )
    got = invariants(Bispectrum(J_MAX, 1, triples), jnp.asarray(coefficients(x, weights))[None, None])[0]
    for value, (a, b, c) in zip(got, triples):
        np.testing.assert_allclose((c + 1) * value, textbook(x, weights, b, a, c), rtol=1e-11, err_msg=str((a, b, c)))


def test_derivatives_of_the_weighted_sum():
    """The written-out derivative is that of the plain sum of invariants, to second order, forward and reverse."""
    j_max, functions = 2, 2
    channels = functions * (j_max + 1)
    triples = tuple((a, b, c) for a in range(channels) for b in range(a, channels) for c in range(b, channels))
    tables = Bispectrum(j_max, functions, triples)
    c, dc = (jnp.asarray(RNG.normal(size=(3, functions, 14))) for _ in range(2))
    w, dw = (jnp.asarray(RNG.normal(size=(3, len(triples)))) for _ in range(2))

    def plain(c, w):
        return jnp.sum(invariants(tables, c) * w, axis=1)

    def fast(c, w):
        return weighted_invariants(tables, c, w)

    np.testing.assert_allclose(fast(c, w), plain(c, w), rtol=1e-12)
    np.testing.assert_allclose(fast(c, w[:1]), plain(c, w[:1]), rtol=1e-12)
    for f in (lambda g: jax.jvp(g, (c, w), (dc, dw))[1], lambda g: jax.grad(lambda *x: jnp.sum(g(*x)), (0, 1))(c, w)):
        for got, expected in zip(jax.tree.leaves(f(fast)), jax.tree.leaves(f(plain)), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)

    def slope(g):
        return jax.jvp(jax.grad(lambda c: jnp.sum(jnp.sin(g(c, w)))), (c,), (dc,))[1]

    np.testing.assert_allclose(slope(fast), slope(plain), rtol=1e-9, atol=1e-9)
