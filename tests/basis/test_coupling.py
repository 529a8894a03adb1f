"""3j symbols, Clebsch-Gordan coefficients: orthogonality, symmetry, known values; real tensors: rotation invariance."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxmlp.basis.coupling import clebsch_gordan, real_to_complex, real_wigner_3j, wigner_3j
from jaxmlp.basis.harmonics import real_harmonics

SPINS = [0, 0.5, 1, 1.5, 2, 3]


@pytest.mark.parametrize(("j1", "j2"), list(itertools.product(SPINS, SPINS)))
def test_coupled_states_are_orthonormal_and_complete(j1, j2):
    totals = np.arange(abs(j1 - j2), j1 + j2 + 1)
    size = int((2 * j1 + 1) * (2 * j2 + 1))
    states = np.concatenate([clebsch_gordan(j1, j2, j).reshape(size, -1) for j in totals], axis=1)
    np.testing.assert_allclose(states.T @ states, np.eye(size), rtol=0, atol=1e-14)


def test_known_values():
    assert wigner_3j(1, 1, 0)[2, 0, 0] == pytest.approx(3**-0.5, rel=1e-15)
    assert wigner_3j(2, 2, 2)[2, 2, 2] == pytest.approx(-((2 / 35) ** 0.5), rel=1e-15)
    assert wigner_3j(6, 4, 2)[6, 4, 2] == pytest.approx((5 / 143) ** 0.5, rel=1e-15)
    assert clebsch_gordan(0.5, 0.5, 0)[1, 0, 0] == pytest.approx(0.5**0.5, rel=1e-15)
    assert clebsch_gordan(0.5, 0.5, 0)[0, 1, 0] == pytest.approx(-(0.5**0.5), rel=1e-15)
    assert clebsch_gordan(1, 0.5, 1.5)[2, 0, 2] == pytest.approx((1 / 3) ** 0.5, rel=1e-15)


def test_large_momenta_keep_their_digits():
    w = wigner_3j(20, 18, 16)
    np.testing.assert_allclose(np.einsum("abc,abd->cd", w, w), np.eye(33) / 33, rtol=0, atol=1e-15)


@pytest.mark.parametrize("j", [(2, 1, 3), (2, 2, 1), (1.5, 1, 0.5)])
def test_permutations(j):
    sign = (-1) ** round(sum(j))
    w = wigner_3j(*j)
    np.testing.assert_allclose(wigner_3j(j[1], j[0], j[2]).transpose(1, 0, 2), sign * w, atol=1e-16)
    np.testing.assert_allclose(wigner_3j(j[1], j[2], j[0]).transpose(2, 0, 1), w, atol=1e-16)


def test_forbidden_triangles_are_zero():
    assert not wigner_3j(1, 1, 3).any()
    assert not wigner_3j(1, 1, 0.5).any()


@pytest.mark.parametrize("bad", [-1, 0.3])
def test_impossible_momenta(bad):
    with pytest.raises(ValueError, match="1/2"):
        wigner_3j(bad, 1, 1)


@pytest.mark.parametrize("l", [(2, 2, 2), (1, 1, 2), (1, 2, 3), (2, 3, 3), (1, 3, 4), (1, 1, 1), (2, 3, 4)])
def test_real_tensors_couple_moments_to_an_invariant(l):
    rng = np.random.default_rng(5)
    u, weights = rng.normal(size=(9, 3)), rng.normal(size=(3, 9))
    u /= np.linalg.norm(u, axis=1, keepdims=True)

    def coupled(u):
        y = [np.asarray(p + 0 * jnp.asarray(u[:, 0])) for p in real_harmonics(*jnp.asarray(u).T, 4)]
        a, b, c = (np.stack(y[k * k : (k + 1) ** 2]) @ w for k, w in zip(l, weights))
        return np.einsum("xyz,x,y,z", real_wigner_3j(*l), a, b, c), (a, b, c)

    value, (a, b, c) = coupled(u)
    rotated, _ = coupled(Rotation.random(rng=1).apply(u))
    assert abs(value) > 1e-3
    np.testing.assert_allclose(rotated, value, rtol=1e-12)
    complex_moments = [real_to_complex(k) @ m for k, m in zip(l, (a, b, c))]
    exact = np.einsum("xyz,x,y,z", wigner_3j(*l), *complex_moments)
    np.testing.assert_allclose(exact, value * (1j if sum(l) % 2 else 1), atol=1e-14)
