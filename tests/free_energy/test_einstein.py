"""The Einstein crystal and what fixing the centre of mass does: exact partition functions of two and three atoms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.free_energy.einstein import einstein_free_energy, free_centre, spring_constants
from jaxmlp.md.modes import HBAR
from jaxmlp.units import amu, e, hbar, kB

T = 400.0
kT = kB * T


def wavelength(mass):
    return HBAR * np.sqrt(2 * np.pi / (mass * kT))


def log_constrained(K, mu):
    """ln int du delta(mu . u) exp(-u K u / 2 kT) along one axis, u = B y + c (1, ..., 1) with mu . B = 0."""
    n = len(mu)
    B = np.linalg.svd(mu[None])[2][1:].T
    jacobian = abs(np.linalg.det(np.column_stack([B, np.ones(n)])))  # mu . (1, ..., 1) = 1, so that c = mu . u
    return np.log(jacobian) + 0.5 * ((n - 1) * np.log(2 * np.pi * kT) - np.linalg.slogdet(B.T @ K @ B)[1])


def test_classical_quantum_and_their_limit():
    k, m = np.array([1.3, 4.0]), np.array([12.0, 28.0])
    omega = np.sqrt(k / m * e / amu) * 1e10  # rad/s, in SI
    x = hbar * omega / kT
    np.testing.assert_allclose(einstein_free_energy(k, m, T), 3 * kT * np.sum(np.log(x)), rtol=1e-9)  # digits of hbar
    quantum = 3 * kT * np.sum(x / 2 + np.log(1 - np.exp(-x)))
    np.testing.assert_allclose(einstein_free_energy(k, m, T, quantum=True), quantum, rtol=1e-9)
    hot, leading = 100 * T, 3 * np.sum((hbar * omega) ** 2) / 24 / (100 * kT)  # kT x^2 / 24 - kT x^4 / 2880 for each
    excess = einstein_free_energy(k, m, hot, quantum=True) - einstein_free_energy(k, m, hot)
    np.testing.assert_allclose(excess, leading, rtol=1e-4)
    cold = einstein_free_energy(k, m, 1.0, quantum=True)
    np.testing.assert_allclose(cold, 1.5 * np.sum(hbar * omega), rtol=1e-9)
    F = lambda T: einstein_free_energy(k, m, T)
    np.testing.assert_allclose(F(T) - T * jax.grad(F)(T), 6 * kT, rtol=1e-12)  # two atoms of 3 kT
    assert np.isfinite(jax.grad(lambda k: einstein_free_energy(k, m, 1.0, quantum=True))(jnp.asarray(k))).all()


@pytest.mark.parametrize("n", [2, 3])
def test_a_harmonic_crystal_of_unequal_atoms_on_unequal_springs(n):
    """F_S = F_E + Delta F_CM + (switch with fixed centre) against the normal modes of the crystal with a free centre.

    Its 3 n - 3 vibrations are classical oscillators and its centre is a free particle of the whole mass in the room V /
    n_c. Along each axis, atoms are joined by springs; the switch is a ratio of determinants on the plane mu . u = 0.
    """
    rng = np.random.default_rng(n)
    m, k = np.array([12.0, 28.0, 40.0])[:n], np.array([1.3, 4.0, 2.2])[:n]
    volume, cells, mu = 55.0, 1, m / m.sum()
    switch, modes = 0.0, 0.0
    for _ in range(3):
        bonds = np.triu(rng.uniform(0.5, 3.0, (n, n)), 1)
        K = np.diag((bonds + bonds.T).sum(0)) - bonds - bonds.T
        switch -= kT * (log_constrained(K, mu) - log_constrained(np.diag(k), mu))
        omega = np.sqrt(np.linalg.eigvalsh(K / np.sqrt(m[:, None] * m))[1:])
        modes += kT * np.sum(np.log(HBAR * omega / kT))
    found = einstein_free_energy(k, m, T) + free_centre(k, m, volume, T, cells=cells) + switch
    exact = modes - kT * np.log(volume / cells / wavelength(m.sum()) ** 3)
    np.testing.assert_allclose(found, exact, rtol=1e-12)


def ring_crystal(wells):
    """Two atoms in a cube L of potential sum over axes phi(d), d = x_2 - x_1 on the ring: every integral by quadrature.

    One well, at L/2, along each axis: body-centred cubic, n_c = 2 for equal atoms, 1 for unequal ones. Two wells along
    x, at +-d_0: equal atoms whose crystal no translation maps onto itself, n_c = 1; with atom i at site i, d stays in
    one well. Returns L, ln of int dd exp(-phi / kT) over all d and over what a run can reach, for the three axes.
    """
    L, points = 5.0, 4096
    d = L * (np.arange(points) + 0.5) / points
    one = np.mean(np.exp(-0.9 * (1 + np.cos(2 * np.pi * d / L)) / kT)) * L
    if wells == 1:
        return L, 3 * np.log(one), 3 * np.log(one)
    two = np.mean(np.exp(-2.5 * (np.cos(2 * np.pi * d / L) + 0.3) ** 2 / kT)) * L
    return L, 2 * np.log(one) + np.log(two), 2 * np.log(one) + np.log(two / 2)


@pytest.mark.parametrize(
    ("wells", "masses", "orders", "cells"),
    [(1, (30.0, 30.0), 2, 2), (1, (12.0, 30.0), 1, 1), (2, (30.0, 30.0), 2, 1)],
    ids=["bravais", "two-species", "basis"],
)
def test_the_room_of_the_centre_is_one_primitive_cell(wells, masses, orders, cells):
    """F = -kT ln(Z / prod N_s! Lambda^3N), Z over all places of both atoms in V, by the way of the Einstein crystal."""
    L, every, reached = ring_crystal(wells)
    m, k, mu = np.array(masses), np.array([1.3, 4.0]), np.array(masses) / np.sum(masses)
    exact = -kT * (3 * np.log(L) + every - np.log(orders) - 3 * np.sum(np.log(wavelength(m))))
    switch = -kT * (reached - 3 * log_constrained(np.diag(k), mu))  # dx_1 dx_2 = dX dd
    found = einstein_free_energy(k, m, T) + free_centre(k, m, L**3, T, cells=cells) + switch
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    if cells == 2:
        np.testing.assert_array_equal(free_centre(k, m, L**3, T), free_centre(k, m, L**3, T, cells=2))
        wrong = found - exact + free_centre(k, m, L**3, T, cells=1) - free_centre(k, m, L**3, T)
        np.testing.assert_allclose(wrong, -kT * np.log(2), rtol=1e-9)  # V in place of V / N


@pytest.mark.parametrize("metric", ["masses", "equal"])
def test_the_dynamics_of_a_switch_must_project_in_the_metric_of_the_masses(metric):
    """int <dU/ds> ds over mixtures U_s of springs and solid, in the stationary state of dynamics that keep X = 0.

    M du = Q (-H u dt + (2 kT M)^(1/2) dW): Q takes the total force and noise off by mass, and the integral
    is the ratio of determinants; taken off in equal parts, X is kept as well and the integral is another.
    """
    m, k, ones = np.array([12.0, 28.0, 40.0]), np.array([1.3, 4.0, 2.2]), np.ones(3)
    mu = m / m.sum()
    bonds = np.array([[0, 1.5, 0.7], [1.5, 0, 2.2], [0.7, 2.2, 0]])
    K = np.diag(bonds.sum(0)) - bonds
    Q = np.eye(3) - np.outer(mu if metric == "masses" else ones / 3, ones)
    plane = np.eye(3) - np.outer(ones, mu)  # mu . plane = 0

    def slope(s):
        """<dU/ds> from the covariance C of A C + C A^T = 2 kT S S^T."""
        H = (1 - s) * np.diag(k) + s * K
        A, S = Q @ H @ plane / m[:, None], Q * np.sqrt(m) / m[:, None]
        both = np.kron(A, np.eye(3)) + np.kron(np.eye(3), A)
        C = np.linalg.lstsq(both, (2 * kT * S @ S.T).ravel(), rcond=None)[0].reshape(3, 3)
        return 0.5 * np.trace((K - np.diag(k)) @ plane @ C @ plane.T)

    nodes, weights = np.polynomial.legendre.leggauss(24)
    found = sum(w / 2 * slope((x + 1) / 2) for x, w in zip(nodes, weights))
    exact = -kT * (log_constrained(K, mu) - log_constrained(np.diag(k), mu))
    if metric == "masses":
        np.testing.assert_allclose(found, exact, rtol=1e-9)
    else:
        assert abs(found - exact) > 0.02 * kT


def test_springs_from_displacements_know_species_and_forget_the_drift():
    rng, n, frames = np.random.default_rng(0), 40, 4000
    numbers, masses = np.repeat([29, 40], n // 2), np.repeat([63.5, 91.2], n // 2)
    k = np.repeat([2.0, 6.0], n // 2)
    u = rng.normal(size=(frames, n, 3)) * np.sqrt(kT / k)[:, None]
    drift = np.cumsum(rng.normal(size=(frames, 1, 3)), axis=0)
    springs = spring_constants(rng.normal(size=(n, 3)) + u + drift, numbers, masses, T)
    # With mu . u removed, <u_i^2> is k_T (1/k_i - 2 mu_i / k_i + sum mu_j^2 / k_j) along each axis.
    mu = masses / masses.sum()
    expected = 1 / (1 / k - 2 * mu / k + np.sum(mu**2 / k))
    assert len(np.unique(springs)) == 2
    np.testing.assert_allclose(springs, expected, rtol=5 * np.sqrt(2 / (3 * frames * n / 2)))  # 5 standard errors
    with pytest.raises(ValueError, match="frames differ"):
        spring_constants(np.zeros((9, n, 3)), numbers, masses, T)
    with pytest.raises(ValueError, match="frames"):
        spring_constants(np.zeros((9, 3)), numbers, masses, T)
