"""Absolute free energies of crystals and liquids whose values are known by other ways."""

import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp import free_energy as fe
from jaxmlp import md
from jaxmlp.free_energy.absolute import check_diffusion, check_sites
from jaxmlp.free_energy.lattice import primitive_cells
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.potentials.external import tether
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.potentials.uhlenbeck_ford import uhlenbeck_ford
from jaxmlp.properties.phonons import monkhorst_pack
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized


def harmonic_crystal(potential, params, system: jm.System, T: float, cells: int) -> float:
    """F of all 3 N - 3 vibrations of the box, and of a centre that is free in the volume of a primitive cell."""
    energy = jm.energy_fn(potential, system)
    H = np.asarray(jm.hessian(energy)(system.R, system.box, params)).reshape(len(system) * 3, -1)
    m = np.repeat(system.masses, 3)
    squares = np.linalg.eigvalsh(H / np.sqrt(m[:, None] * m))[3:]
    kT, M = kB * T, system.masses.sum()
    wavelength = np.sqrt(2 * np.pi * HBAR**2 / (M * kT))
    vibrations = kT * np.sum(np.log(HBAR * np.sqrt(squares) / kT))
    return float(energy(system.R, system.box, params)) + vibrations - kT * np.log(system.volume / cells / wavelength**3)


def test_springs_that_move_with_the_crystal_have_their_free_energy():
    """Any masses, any springs, sites anywhere: all 3 N - 3 vibrations of the Hessian, and the free centre of mass."""
    rng = np.random.default_rng(3)
    masses, k = rng.uniform(1, 50, 7), rng.uniform(0.5, 9, 7)
    R = np.array(list(np.ndindex(2, 2, 2)))[:7] * 4.0 + rng.uniform(-1, 1, (7, 3))
    system = jm.System(np.full(7, 18), R, 8.0 * np.eye(3), masses=masses)
    potential, params = einstein_crystal(system, k)
    for cells in (1, 7):
        expected = harmonic_crystal(potential, params, system, 300.0, cells)
        found = fe.unpinned_einstein_crystal(params["k"], masses, system.volume, 300.0, cells=cells)
        assert float(found) == pytest.approx(expected, rel=1e-9)
    # Tethers of the same strength, less the energy of their common displacement, which costs nothing.
    u = 0.3 * rng.normal(size=(7, 3))
    u -= k @ u / k.sum()
    fixed, q = tether(system, k)
    E = [float(jm.energy_fn(*pair)(system.R + x, system.box, p)) for pair, p, x in (
        ((potential, system), params, u + 3.0), ((fixed, system), q, u))]  # fmt: skip
    assert E[0] == pytest.approx(E[1], rel=1e-12)
    F = jm.forces(jm.energy_fn(potential, system))(system.R + u, system.box, params)
    np.testing.assert_allclose(F.sum(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(F, -k[:, None] * u, atol=1e-10)


@pytest.mark.parametrize("k", [0.0, [1.0, 2.0], {6: 1.0}])
def test_springs_are_checked(k):
    system = jm.System.from_ase(bulk("Si"))
    with pytest.raises(ValueError, match="spring"):
        einstein_crystal(system.replace(numbers=[14, 14]), k if not isinstance(k, list) else [*k, 3.0])


def test_a_cold_crystal_is_harmonic():
    """Silicon at 10 K: the Einstein crystal gives all vibrations of the box and the free centre, to anharmonic 1e-6."""
    system = jm.System.from_ase(bulk("Si", a=5.431, cubic=True))
    potential, params = stillinger_weber_silicon()
    T = 10.0
    found = fe.solid(
        potential, params, system, temperature=T, steps=2000, repeats=4, dt=3.0, friction=0.05, max_dissipation=0.2,
        finite_size=True,
    )  # fmt: skip
    exact = harmonic_crystal(potential, params, system, T, cells=4)
    assert found.error < 0.02 * kB * T * len(system)
    assert abs(found.F - exact) < 3.5 * found.error
    assert kB * T * np.log(2) > 4 * found.error  # V / 4 for V / 8 would be seen
    assert found.springs.std() == 0
    infinite = fe.harmonic(potential, params, system, [T], monkhorst_pack(6), quantum=False).free_energy[0]
    assert exact + found.finite_size == pytest.approx(float(infinite), abs=0.02 * kB * T)
    assert found.bulk == found.G + found.finite_size
    assert pytest.approx(found.F + found.pressure * system.volume) == found.G


@pytest.mark.parametrize(("atoms", "cells"), [
    (bulk("Si", cubic=True) * (2, 1, 1), 8), (bulk("Cu", cubic=True) * (2, 2, 1), 16),
    (bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 1, 1), 8), (bulk("Mg") * (3, 2, 2), 12),
    (bulk("Fe") * (3, 3, 2), 18),
])  # fmt: skip
def test_primitive_cells_are_counted(atoms, cells):
    atoms.rattle(0.02, seed=1)
    assert primitive_cells(jm.System.from_ase(atoms)) == cells


def test_one_atom_out_of_place_leaves_one_cell():
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.positions[0] += 0.5
    assert primitive_cells(jm.System.from_ase(atoms)) == 1


GAS = {"dt": 0.05 / fs, "friction": 0.5 * fs, "skin": 0.5}


def fluid(N: int, density: float) -> jm.System:
    n = round(N ** (1 / 3))
    side = np.cbrt(N / density)
    R = (np.array(list(np.ndindex(n, n, n))) + 0.5) * side / n
    return jm.System(np.full(N, 18), R, side * np.eye(3), masses=np.ones(N))


def test_one_reference_fluid_has_the_free_energy_of_another():
    """The Uhlenbeck-Ford fluid of p = 1, switched to that of p = 25: both are in the tables, to 1.4e-4 kT per atom."""
    T = 1 / kB
    system = fluid(64, 0.18)
    potential, params = uhlenbeck_ford((18,), 1, T, 1.0)
    found = fe.liquid(potential, params, system, temperature=T, steps=1500, p=25, sigma=1.0, max_dissipation=0.2, **GAS)
    x = 0.5 * np.pi**1.5 * 0.18
    exact = float(fe.ideal_gas(system.numbers, system.masses, system.volume, T))
    exact += 64 * float(fe.uhlenbeck_ford_excess(x, 1, 64))
    assert found.error < 0.05 * 64 * 0.5  # of an excess of half a kT per atom
    assert abs(found.F - exact) < 3.5 * found.error + 64 * 3e-4


def test_a_crystal_that_melts_and_a_liquid_that_does_not_flow_are_refused():
    potential, params = lennard_jones((18,), 1.0, 1.0, 2.5)
    system = jm.System.from_ase(bulk("Ar", "fcc", a=1.6, cubic=True) * (2, 2, 2)).replace(masses=np.ones(32))
    options = {"steps": 400, "equilibration": 400, "dt": 0.005 / fs, "friction": 1 * fs, "skin": 0.3}
    with pytest.raises(fe.PhaseError, match="left their sites"):
        fe.solid(potential, params, system, temperature=5 / kB, **options)
    with pytest.raises(fe.PhaseError, match="left their places") as error:
        fe.liquid(potential, params, system, temperature=0.1 / kB, **options)
    assert error.value.simulation.step == 400


def test_positions_are_judged_by_distances_to_neighbours():
    system = jm.System.from_ase(bulk("Cu", cubic=True) * (2, 2, 2))
    sim = md.nve(*lennard_jones((29,), 0.1, 2.3, 5.0), system)
    check_sites(system.R + np.array([7.0, 0, 0]), system, sim)  # the crystal as a whole may move
    R = system.R.copy()
    R[3, 0] += 1.4
    with pytest.raises(fe.PhaseError, match="atoms \\(3"):
        check_sites(R, system, sim)
    rng = np.random.default_rng(0)
    check_diffusion(system.R + 2 * rng.normal(size=system.R.shape), system, sim)
