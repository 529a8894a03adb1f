"""Bonds, angles and dihedrals: closed forms, periodic images, derivatives at the singular places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.potentials.bonded import (
    FourierDihedral,
    HarmonicAngle,
    HarmonicBond,
    HarmonicDihedral,
    MorseBond,
    RyckaertBellemans,
    angle,
    dihedral,
    minimum_image,
)

SKEWED = np.array([[6.0, 0.0, 0.0], [4.5, 5.0, 0.0], [-2.5, 3.0, 7.0]])


def chain(phi: float, theta: float = 1.9, length: float = 1.5) -> np.ndarray:
    """Four atoms with equal bonds and angles and the dihedral phi (IUPAC: positive clockwise, seen along the bond)."""
    s, c = np.sin(theta), np.cos(theta)
    first = length * np.array([s, 0.0, c])
    last = np.array([0.0, 0.0, length]) + length * np.array([s * np.cos(phi), s * np.sin(phi), -c])
    return np.array([first, np.zeros(3), [0.0, 0.0, length], last])


def energy_of(potential, params, R, box=None, pbc=None):
    system = jm.System(np.full(len(R), 6), R, box, pbc)
    out = jax.jit(jm.evaluate_fn(potential, system))(R, system.box, jax.tree.map(jnp.asarray, params))
    return float(out.energy), out


def test_bonds():
    R = np.array([[0, 0, 0], [1.3, 0, 0], [1.3, 1.7, 0]])
    bonds = ((0, 1), (2, 1))
    harmonic = {"k": np.array([30.0, 20.0]), "length": np.array([1.2, 1.6])}
    E, out = energy_of(HarmonicBond((6,), bonds), harmonic, R)
    np.testing.assert_allclose(E, 15 * 0.1**2 + 10 * 0.1**2, rtol=1e-12)
    np.testing.assert_allclose(out.energies, [0.075, 0.125, 0.05], rtol=1e-12)  # halves of 0.15 and 0.1
    np.testing.assert_allclose(out.forces, [[3, 0, 0], [-3, 2, 0], [0, -2, 0]], atol=1e-12)
    morse = {"depth": np.array([4.0, 3.0]), "alpha": np.array([2.0, 1.8]), "length": np.array([1.2, 1.6])}
    E, _ = energy_of(MorseBond((6,), bonds), morse, R)
    np.testing.assert_allclose(E, 4 * (1 - np.exp(-0.2)) ** 2 + 3 * (1 - np.exp(-0.18)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("theta", [1e-4, 0.7, 1.9, np.pi - 1e-4])
def test_angles_of_all_sizes(theta):
    a, b = jnp.array([1.0, 0.2, -0.4]), jnp.array([0.3, 1.1, 0.8])
    a /= jnp.linalg.norm(a)
    normal = b - (a @ b) * a
    b = jnp.cos(theta) * a + jnp.sin(theta) * normal / jnp.linalg.norm(normal)
    np.testing.assert_allclose(angle(a, 2 * b), theta, rtol=1e-11)  # rounding 1e-16 of cos, over sin = 1e-4


def test_harmonic_angle():
    R = chain(0.4)[:3]
    E, out = energy_of(HarmonicAngle((6,), ((0, 1, 2),)), {"k": np.array([3.0]), "angle": np.array([1.7])}, R)
    np.testing.assert_allclose(E, 1.5 * 0.2**2, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(out.forces, axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(np.cross(R, out.forces).sum(axis=0), 0, atol=1e-13)


@pytest.mark.parametrize("phi", [-3.1, -1.2, 0.0, 0.3, 2.0, np.pi])
def test_dihedral_angles_and_their_sign(phi):
    b = jnp.asarray(np.diff(chain(phi), axis=0))
    found = float(dihedral(*b))
    # Looking along the middle bond (z), a positive angle turns the last bond clockwise: x towards y.
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * phi), atol=1e-14)
    np.testing.assert_allclose(dihedral(*(b[::-1] * -1)), found, atol=1e-14)  # the same read backwards


@pytest.mark.parametrize("phi", [-2.9, 0.6, 3.0])
def test_dihedral_energies(phi):
    R, quad = chain(phi), ((0, 1, 2, 3),)
    E, out = energy_of(
        FourierDihedral((6,), quad, multiplicities=(1, 3)),
        {"k": np.array([[0.5, 0.2]]), "phase": np.array([[0.3, np.pi]])},
        R,
    )
    np.testing.assert_allclose(E, 0.5 * (1 + np.cos(phi - 0.3)) + 0.2 * (1 + np.cos(3 * phi - np.pi)), rtol=1e-12)
    np.testing.assert_allclose(np.cross(R, out.forces).sum(axis=0), 0, atol=1e-13)
    c = np.array([0.3, -0.2, 0.5, 0.1, -0.4, 0.2])
    E, _ = energy_of(RyckaertBellemans((6,), quad), {"c": c[None]}, R)
    np.testing.assert_allclose(E, np.polyval(c[::-1], np.cos(phi - np.pi)), rtol=1e-12)
    target = np.array([3.0])  # the difference goes the short way round
    E, _ = energy_of(HarmonicDihedral((6,), quad), {"k": np.array([2.0]), "angle": target}, R)
    short = np.angle(np.exp(1j * (phi - 3.0)))
    np.testing.assert_allclose(E, short**2, rtol=1e-12, atol=1e-15)


def test_atoms_in_line_have_finite_derivatives():
    R = jnp.array([[0.0, 0, 0], [1.5, 0, 0], [3.0, 0, 0], [4.5, 0.0, 0]])
    theta = lambda R: angle(R[0] - R[1], R[2] - R[1])
    phi = lambda R: dihedral(R[1] - R[0], R[2] - R[1], R[3] - R[2])
    for f in (theta, phi):
        assert np.isfinite(jax.grad(f)(R)).all()
        assert np.isfinite(jax.hessian(f)(R)).all()
    np.testing.assert_allclose(theta(R), np.pi, rtol=1e-15)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_the_shortest_image_in_a_skewed_cell(pbc):
    rng = np.random.default_rng(1)
    d = 15 * rng.normal(size=(200, 3)) @ np.diag([1.0, 0.5, 1.0])
    found = np.asarray(jax.jit(lambda d: minimum_image(d, jnp.asarray(SKEWED), pbc))(d))
    reach = [range(-9, 10) if p else (0,) for p in pbc]
    images = np.array([[i, j, k] for i in reach[0] for j in reach[1] for k in reach[2]]) @ SKEWED
    periodic = SKEWED[list(pbc)]  # a first fold, so that nine steps reach everything
    start = d - np.round(d @ np.linalg.pinv(periodic)) @ periodic
    best = np.linalg.norm(start[:, None] + images, axis=-1).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), best, rtol=1e-12)
    steps = (found - d) @ np.linalg.inv(SKEWED)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-12)


def test_wrapping_atoms_changes_nothing():
    R = chain(0.8) + np.array([1.0, 2.0, 3.0])
    potential = HarmonicBond((6,), ((0, 1), (1, 2), (2, 3)))
    params = {"k": np.full(3, 20.0), "length": np.full(3, 1.4)}
    E, out = energy_of(potential, params, R, SKEWED)
    moved = R + np.array([[1, 0, -2], [0, 3, 0], [-1, -1, 1], [0, 0, 0]]) @ SKEWED
    E_moved, out_moved = energy_of(potential, params, moved, SKEWED)
    np.testing.assert_allclose(E_moved, E, rtol=1e-10)  # positions of 30 Å lose two digits
    np.testing.assert_allclose(out_moved.forces, out.forces, atol=1e-11)
    np.testing.assert_allclose(out_moved.virial, out.virial, atol=1e-10)


def test_directions_without_periodicity_have_no_images():
    """The cell of a slab may be short along its normal; `energy_fn` tells the potential so."""
    R = np.array([[0, 0, 0], [0, 0, 1.5]])
    potential = HarmonicBond((6,), ((0, 1),))
    params = {"k": np.array([20.0]), "length": np.array([1.5])}
    E, _ = energy_of(potential, params, R, np.diag([6.0, 6.0, 1.0]), (True, True, False))
    np.testing.assert_allclose(E, 0, atol=1e-28)


def test_wrong_topologies_are_refused():
    with pytest.raises(ValueError, match=r"integers of shape \(terms, 2\)"):
        HarmonicBond((6,), ((0, 1, 2),))
    with pytest.raises(ValueError, match="different and not negative"):
        HarmonicAngle((6,), ((0, 1, 2), (1, 3, 1)))
    R = np.array([[0, 0, 0], [0, 0, 1.5]])
    with pytest.raises(ValueError, match="binds atom 2"):
        energy_of(HarmonicBond((6,), ((0, 2),)), {"k": np.ones(1), "length": np.ones(1)}, R)
    with pytest.raises(ValueError, match="must have 1 entries"):
        energy_of(HarmonicBond((6,), ((0, 1),)), {"k": np.ones(2), "length": np.ones(2)}, R)
    potential = HarmonicBond((6, 1), np.array([[0, 1]]))
    assert potential.atoms == ((0, 1),)
    assert potential.restrict({}, (1,))[0].species == (1,)
