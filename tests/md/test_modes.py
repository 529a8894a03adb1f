"""Normal modes of ring polymers, against the matrices of the linear equations of motion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxmlp.md.modes import (
    HBAR,
    contract,
    contraction,
    expand_forces,
    free_path,
    free_ring_polymer,
    mode_frequencies,
    mode_matrix,
    ring_frequency,
    to_beads,
    to_modes,
)
from jaxmlp.units import THz, kB

BEADS = [*range(1, 10), 32]


def springs(P: int) -> np.ndarray:
    """Return K (P, P) with sum_j (q_j - q_{j+1})^2 = q K q."""
    difference = np.eye(P) - np.roll(np.eye(P), 1, axis=1)
    return difference.T @ difference


def test_planck_constant_and_ring_frequency():
    assert THz * HBAR == pytest.approx(4.135667696e-3, rel=1e-9)  # h in eV / THz, CODATA 2018
    assert ring_frequency(32, kB * 300) / THz == pytest.approx(32 * 300 * 2.083661912e-2, rel=1e-9)  # kT / h in THz


@pytest.mark.parametrize("P", BEADS)
def test_modes_diagonalize_the_springs_in_the_order_of_frequencies(P):
    C = mode_matrix(P)
    np.testing.assert_allclose(C @ C.T, np.eye(P), atol=1e-14)
    omega = np.asarray(mode_frequencies(P, jnp.asarray(1.7)))
    np.testing.assert_allclose(1.7**2 * C @ springs(P) @ C.T, np.diag(omega**2), atol=1e-13)
    np.testing.assert_allclose(omega**2, 1.7**2 * scipy.linalg.eigvalsh(springs(P)), atol=1e-13)
    assert np.all(np.diff(omega) >= 0)
    np.testing.assert_allclose(C[0], P**-0.5)


@pytest.mark.parametrize("P", [1, 4, 5])
def test_transforms_are_inverse_and_keep_the_dtype(P):
    x = jax.random.normal(jax.random.key(P), (P, 3, 3))
    np.testing.assert_allclose(to_beads(to_modes(x)), x, atol=1e-14)
    np.testing.assert_allclose(to_modes(x)[0], np.sqrt(P) * x.mean(axis=0), atol=1e-14)
    assert to_beads(to_modes(x.astype(jnp.float32))).dtype == jnp.float32


def propagator(P, omega, mass, h, dt, method) -> np.ndarray:
    """Return the (P, 2, 2) matrices of `free_ring_polymer` on (q, p), one for each mode."""
    one, zero = jnp.ones((P, 1, 1)), jnp.zeros((P, 1, 1))
    of_q = free_ring_polymer(one, zero, mass, omega, h, dt, method=method)
    of_p = free_ring_polymer(zero, one, mass, omega, h, dt, method=method)
    return np.array([of_q, of_p])[..., 0, 0].transpose(2, 1, 0)


@pytest.mark.parametrize("method", ["exact", "cayley"])
def test_free_motion_solves_the_linear_equations(method):
    P, m, omega_P, dt = 6, 2.3, 1.4, 0.9
    omega = mode_frequencies(P, jnp.asarray(omega_P))
    half = propagator(P, omega, jnp.full((1, 1), m), dt / 2, dt, method)
    full = propagator(P, omega, jnp.full((1, 1), m), dt, dt, method)
    for k in range(P):
        A = np.array([[0, 1 / m], [-m * float(omega[k]) ** 2, 0]])
        cayley = np.linalg.solve(np.eye(2) - A * dt / 2, np.eye(2) + A * dt / 2)
        step = scipy.linalg.expm(A * dt) if method == "exact" else cayley
        np.testing.assert_allclose(full[k], step, atol=1e-14)
        np.testing.assert_allclose(half[k] @ half[k], step, atol=1e-14)
        np.testing.assert_allclose(np.linalg.det(half[k]), 1, rtol=1e-14)  # symplectic, in one dimension
    np.testing.assert_allclose(half[0], [[1, dt / 2 / m], [0, 1]], rtol=1e-15)  # the centroid flies freely


@pytest.mark.parametrize("method", ["exact", "cayley"])
@pytest.mark.parametrize("per_mode", [False, True])
def test_free_motion_conserves_the_energy_of_the_springs(method, per_mode):
    P, N, dt = 8, 4, 3.0
    kq, kp, km = jax.random.split(jax.random.key(0), 3)
    q, p = jax.random.normal(kq, (P, N, 3)), jax.random.normal(kp, (P, N, 3))
    mass = 1 + jax.random.uniform(km, (P, N, 1) if per_mode else (N, 1))
    omega = mode_frequencies(P, jnp.asarray(2.0))

    def energy(q, p):
        return 0.5 * jnp.sum(p * p / mass + mass * omega[:, None, None] ** 2 * q * q)

    E = energy(q, p)
    for _ in range(10):
        q, p = free_ring_polymer(q, p, mass, omega, dt / 2, dt, method=method)
    assert float(energy(q, p)) == pytest.approx(float(E), rel=1e-14)


@pytest.mark.parametrize("method", ["exact", "cayley"])
def test_free_motion_is_differentiable_at_the_centroid(method):
    P = 4
    q, p = jax.random.normal(jax.random.key(1), (2, P, 1, 3))
    mass = jnp.ones((1, 1))

    def f(omega_P, h, dt):
        q1, p1 = free_ring_polymer(q, p, mass, mode_frequencies(P, omega_P), h, dt, method=method)
        return jnp.sum(q1**2) + jnp.sum(p1**3)

    x = [jnp.asarray(v) for v in (1.3, 0.4, 0.7)]
    for i, slope in enumerate(jax.grad(f, (0, 1, 2))(*x)):
        up, down = ([v + s * 1e-5 * (i == j) for j, v in enumerate(x)] for s in (1, -1))
        assert float(slope) == pytest.approx(float(f(*up) - f(*down)) / 2e-5, rel=1e-7, abs=1e-8)


def test_free_motion_refuses_unknown_methods():
    x = jnp.ones((1, 1, 1))
    with pytest.raises(ValueError, match='"exact" or "cayley"; got \'euler\''):
        free_ring_polymer(x, x, x[0], jnp.zeros(1), 1.0, 1.0, method="euler")


PAIRS = [(1, 1), (5, 1), (6, 3), (7, 3), (8, 4), (8, 5), (9, 4), (9, 6), (12, 4), (6, 6), (7, 7)]


@pytest.mark.parametrize(("P", "short"), PAIRS)
def test_contraction_is_an_isometry_of_the_slow_modes(P, short):
    T = contraction(P, short)
    np.testing.assert_allclose(T @ T.T, np.eye(short) * short / P, atol=1e-14)
    np.testing.assert_allclose(T @ np.ones(P), 1, atol=1e-14)  # keeps centroids ...
    np.testing.assert_allclose(T.sum(axis=0), short / P, atol=1e-14)
    force = jax.random.normal(jax.random.key(0), (1, 2, 3))
    np.testing.assert_allclose(expand_forces(jnp.tile(force, (short, 1, 1)), P), jnp.tile(force, (P, 1, 1)), atol=1e-14)
    if short == P:
        np.testing.assert_allclose(T, np.eye(P), atol=1e-14)


@pytest.mark.parametrize(("P", "short"), PAIRS)
def test_contracted_harmonic_energies_are_exact_without_the_fast_modes(P, short):
    q = jax.random.normal(jax.random.key(1), (P, 2, 3)).at[short:].set(0)
    R = to_beads(q)
    center = jnp.asarray([0.3, -0.2, 0.5])
    contracted = contract(R, short)
    E = P / short * jnp.sum((contracted - center) ** 2)
    assert float(E) == pytest.approx(float(jnp.sum((R - center) ** 2)), rel=1e-13)
    np.testing.assert_allclose(expand_forces(center - contracted, P), center - R, atol=1e-13)


@pytest.mark.parametrize(("P", "short"), [(8, 4), (12, 4), (6, 3), (10, 5)])
def test_contraction_reads_slow_paths_at_the_short_beads(P, short):
    slow = jnp.arange(P)[:, None, None] < 2 * ((short - 1) // 2) + 1  # |k| < P'/2
    R = to_beads(jnp.where(slow, jax.random.normal(jax.random.key(2), (P, 2, 3)), 0.0))
    np.testing.assert_allclose(contract(R, short), R[:: P // short], atol=1e-14)


@pytest.mark.parametrize(("P", "short"), [(7, 3), (8, 4)])
def test_expanded_forces_are_the_gradient_of_the_contracted_energy(P, short):
    def V(R):
        return jnp.sum(R**4) + jnp.sum(R[:, 0] * R[:, 1])

    R = jax.random.normal(jax.random.key(3), (P, 2, 3))
    F = expand_forces(-jax.grad(V)(contract(R, short)), P)
    np.testing.assert_allclose(F, -jax.grad(lambda R: P / short * V(contract(R, short)))(R), rtol=1e-12, atol=1e-12)


def test_contraction_to_more_beads_is_refused():
    with pytest.raises(ValueError, match="between 1 and 4 beads; got 6"):
        contraction(4, 6)


@pytest.mark.parametrize("P", [1, 2, 5, 8])
def test_free_paths_have_the_spread_of_the_springs(P):
    n, kT = 20000, 0.05
    mass = jnp.concatenate([jnp.ones((n, 1)), jnp.full((n, 1), 16.0)])
    u = free_path(jax.random.key(4), P, mass, kT)
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=1e-14)
    # m omega_P^2 <u u^T> / P kT is the inverse of the springs' matrix without its constant mode.
    exact = np.linalg.pinv(springs(P))
    for atoms, m in ((slice(None, n), 1.0), (slice(n, None), 16.0)):
        x = np.asarray(u[:, atoms]).reshape(P, -1)
        measured = m * (P * kT / HBAR) ** 2 / (P * kT) * x @ x.T / x.shape[1]
        error = np.sqrt((np.outer(exact.diagonal(), exact.diagonal()) + exact**2) / x.shape[1])
        assert np.all(np.abs(measured - exact) < 4.5 * error + 1e-14)
    assert free_path(jax.random.key(0), P, mass[:2].astype(jnp.float32), kT).dtype == jnp.float32
