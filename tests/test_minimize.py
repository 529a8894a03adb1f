"""Relaxation to known minima."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp.minimize import minimize
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.units import GPa

METHODS = ("lbfgs", "fire")
LATTICE_CONSTANT = 5.4309497804  # Å, PHYSICS.md section 5


@pytest.fixture(scope="module")
def silicon() -> jm.System:
    """Eight atoms of strained, sheared and rattled silicon."""
    rng = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.1, size=(8, 3))
    return jm.System.from_ase(atoms)


@pytest.fixture(scope="module")
def cluster() -> jm.System:
    """A rattled icosahedron of 13 atoms."""
    g = (1 + 5**0.5) / 2
    corners = [p for a in (1, -1) for b in (g, -g) for p in ((0, a, b), (a, b, 0), (b, 0, a))]
    R = np.array([(0, 0, 0), *corners]) * 1.12 / np.sqrt(1 + g * g)
    return jm.System(np.full(13, 18), R + np.random.default_rng(1).normal(scale=0.08, size=R.shape))


@pytest.mark.parametrize("method", METHODS)
def test_silicon_relaxes_to_its_lattice_constant_and_under_pressure_to_that_pressure(method, silicon):
    potential, params = stillinger_weber_silicon()
    options = {"method": method, "cell": True, "fmax": 1e-6, "smax": 1e-9}
    out = minimize(potential, params, silicon, **options)
    assert out.converged
    assert abs(out.system.volume ** (1 / 3) - LATTICE_CONSTANT) < 1e-6  # smax / (3 B) a = 3e-9, and f^2 less
    lengths = np.linalg.norm(out.system.box, axis=1)
    np.testing.assert_allclose(lengths, LATTICE_CONSTANT, atol=1e-6)
    np.testing.assert_allclose(out.energy / 8, -4.3366, atol=1e-8)  # two bonds of epsilon = 2.1683 eV an atom
    assert np.linalg.norm(out.forces, axis=1).max() < 1e-6
    assert np.abs(out.stress).max() < 1e-9
    squeezed = minimize(potential, params, silicon, pressure=5 * GPa, **options)
    assert squeezed.converged
    np.testing.assert_allclose(squeezed.stress, -5 * GPa * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_thirteen_atoms_relax_to_the_icosahedron(method, cluster):
    out = minimize(*lennard_jones((18,), 1.0, 1.0, 20.0), cluster, method=method, fmax=1e-5, reach=0.1)
    assert out.converged
    assert out.stress is None
    # The published minimum has no cutoff; at 20 sigma nothing is cut.
    np.testing.assert_allclose(out.energy, -44.326801, atol=1e-6)


def test_positions_alone_leave_the_cell_and_a_mask_its_strains(silicon):
    potential, params = stillinger_weber_silicon()
    out = minimize(potential, params, silicon, fmax=1e-5)
    assert out.converged
    assert np.array_equal(out.system.box, silicon.box)
    only_z = np.zeros((3, 3), bool)
    only_z[2, 2] = True
    out = minimize(potential, params, silicon, cell=only_z, fmax=1e-5, smax=1e-8)
    assert out.converged
    strain = np.linalg.inv(silicon.box) @ out.system.box - np.eye(3)
    np.testing.assert_allclose(strain * ~only_z, 0.0, atol=1e-14)
    assert abs(strain[2, 2]) > 1e-3
    assert abs(out.stress[2, 2]) < 1e-8 < abs(out.stress[0, 0])


@pytest.mark.parametrize("slots", [3, 1])  # too few on the way, and at the start
def test_overflow_is_repaired(slots, monkeypatch):
    potential, params = lennard_jones((18,), 1.0, 1.0, 2.2, truncation="force-shifted")
    rng = np.random.default_rng(2)
    R = np.outer(1.45 * np.arange(9), [1.0, 0, 0]) + rng.normal(scale=0.02, size=(9, 3))
    chain = jm.System(np.full(9, 18), R)  # two neighbours each, four once it has contracted
    allocate = NeighborSearch.allocate.__func__
    made = []

    def tight(cls, *args, at_least=None, **options):
        made.append(at_least)
        search = allocate(cls, *args, at_least=at_least, **options)
        return search if at_least else replace(search, capacities=(slots,))

    monkeypatch.setattr(NeighborSearch, "allocate", classmethod(tight))
    out = minimize(potential, params, chain, fmax=1e-6)
    assert len(made) > 1  # it did overflow
    assert out.converged
    monkeypatch.undo()
    energy = jm.energy_fn(potential, out.system)(out.system.R, None, params)
    np.testing.assert_allclose(out.energy, energy, rtol=1e-12)


def test_senseless_requests_are_refused(silicon, cluster):
    potential, params = stillinger_weber_silicon()
    with pytest.raises(ValueError, match="method must be one of fire, lbfgs"):
        minimize(potential, params, silicon, method="newton")
    with pytest.raises(ValueError, match="fmax must be positive"):
        minimize(potential, params, silicon, fmax=0.0)
    with pytest.raises(ValueError, match="periodic in all three directions"):
        minimize(*lennard_jones((18,), 1.0, 1.0, 20.0), cluster, cell=True)
    with pytest.raises(ValueError, match="also contains Ar"):
        minimize(potential, params, cluster)


def test_giving_up_is_reported(silicon):
    out = minimize(*stillinger_weber_silicon(), silicon, steps=3, fmax=1e-9)
    assert not out.converged
    assert out.steps == 3
