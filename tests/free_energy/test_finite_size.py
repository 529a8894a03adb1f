"""What boxes lack of infinite systems: crystals of several sizes and shapes, and gases of Stirling's formula."""

import math

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import jaxmlp as jm
import jaxmlp.free_energy as fe
from jaxmlp.free_energy.finite_size import crystal_finite_size, fitting_wave_vectors, liquid_finite_size
from jaxmlp.free_energy.harmonic import vibrational_free_energy
from jaxmlp.free_energy.lattice import primitive_cell
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.pair import LennardJones, lennard_jones
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.properties.force_constants import cell_force_constants_fn, force_constants_fn
from jaxmlp.properties.phonons import GAMMA, QMesh, monkhorst_pack
from jaxmlp.units import kB

T = 300.0
kT = kB * T


def argon(*repeats: int) -> jm.System:
    return jm.System.from_ase(bulk("Ar", "fcc", a=5.26, cubic=True) * repeats)


ARGON = lennard_jones((18,), 0.0104, 3.4, 6.0)


def harmonic_box(potential, params, system: jm.System, cells: int) -> float:
    """F_N of all vibrations of a box but its translations, and of its centre in the room of a primitive cell."""
    phi = jax.jit(cell_force_constants_fn(potential, system))(system.R, system.box, params)
    vibrations = float(vibrational_free_energy(phi, GAMMA, T, quantum=False, order=0))
    wavelength = math.sqrt(2 * math.pi * HBAR**2 / (system.masses.sum() * kT))
    return vibrations + kT * (3 * math.log(wavelength) - math.log(system.volume / cells))


@pytest.mark.parametrize(("atoms", "count"), [
    (bulk("Si", cubic=True) * (2, 1, 1), 8), (bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 1, 1), 8),
    (bulk("Mg") * (3, 2, 2), 12), (bulk("Fe") * (3, 3, 2), 18), (bulk("Cu", cubic=True) * (3, 2, 4), 96),
])  # fmt: skip
def test_a_noisy_box_is_made_of_its_primitive_cell(atoms: Atoms, count: int):
    exact = jm.System.from_ase(atoms)
    atoms.rattle(0.03, seed=1)
    cell, multiples = primitive_cell(jm.System.from_ase(atoms))
    np.testing.assert_allclose(multiples @ cell.box, exact.box, atol=1e-9)
    assert round(np.linalg.det(multiples)) == count
    assert len(cell) * count == len(exact)
    assert sorted(cell.numbers.tolist() * count) == sorted(exact.numbers.tolist())
    # Every atom of the box lies within the error of a mean on an image of an atom of its element.
    s = (exact.R[:, None] - cell.R) @ np.linalg.inv(cell.box)
    shift = np.linalg.norm((s - np.round(s)) @ cell.box, axis=2) + 9.0 * (exact.numbers[:, None] != cell.numbers)
    assert shift.min(axis=1).max() < 0.1


def test_a_box_without_translations_is_its_own_primitive_cell():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.numbers[0] = 47
    cell, multiples = primitive_cell(jm.System.from_ase(atoms))
    assert (multiples == np.eye(3)).all()
    np.testing.assert_array_equal(cell.R, atoms.positions)


def test_vibrations_of_a_box_are_those_of_the_wave_vectors_that_fit():
    system = argon(3, 2, 4)
    potential, params = ARGON
    cell, multiples = primitive_cell(system)
    q = fitting_wave_vectors(multiples)
    assert len(np.unique(np.round(q @ multiples.T) % 1, axis=0)) == 1  # whole periods along the box
    np.testing.assert_allclose(q @ multiples.T, np.round(q @ multiples.T), atol=1e-9)
    phi = jax.jit(force_constants_fn(potential, cell))(cell.R, cell.box, params)
    by_q = vibrational_free_energy(phi, QMesh(q, np.full(len(q), 1 / len(q))), T, quantum=False, order=0)
    phi = jax.jit(cell_force_constants_fn(potential, system))(system.R, system.box, params)
    whole = vibrational_free_energy(phi, GAMMA, T, quantum=False, order=0)
    assert float(by_q) * len(q) == pytest.approx(float(whole), abs=1e-9)


def test_boxes_of_any_shape_tell_of_the_same_infinite_crystal():
    """F_N / N differs between the boxes by a tenth of kT; with what each lacks they agree with a fine mesh."""
    potential, params = ARGON
    cell, _ = primitive_cell(argon(2, 2, 2))
    phi = jax.jit(force_constants_fn(potential, cell))(cell.R, cell.box, params)
    infinite = float(vibrational_free_energy(phi, monkhorst_pack(20), T, quantum=False, order=0))
    found, raw = [], []
    for repeats in ((2, 2, 2), (3, 3, 3), (2, 3, 4)):
        system = argon(*repeats)
        F, n = harmonic_box(potential, params, system, len(system)), len(system)
        raw.append(F / n)
        found.append((F + crystal_finite_size(potential, params, system, T)) / n)
    np.testing.assert_allclose(found, infinite, atol=1e-3 * kT)
    assert np.ptp(raw) > 0.05 * kT
    alike = crystal_finite_size(potential, params, system, T, cells=1)  # of atoms that are told apart
    assert alike - crystal_finite_size(potential, params, system, T) == pytest.approx(kT * math.log(len(system)))


def test_a_tail_has_no_vibrations():
    """A correction by the volume alone leaves phonons, and with them the finite size, as they are."""
    tail = lennard_jones((18,), 0.0104, 3.4, 6.0, tail=True)
    system = argon(2, 2, 2)
    found = crystal_finite_size(*tail, system, T)
    assert found == pytest.approx(crystal_finite_size(*ARGON, system, T), abs=1e-9)


class Opaque(LennardJones):
    """A pair potential that does not say how far it reaches."""

    local = pairwise = False


def test_a_potential_of_unknown_range_is_taken_as_the_box_holds_it():
    potential, params = ARGON
    system = argon(3, 3, 3)
    found = crystal_finite_size(Opaque((18,), potential.cutoff, potential.truncation), params, system, T)
    assert found == pytest.approx(crystal_finite_size(potential, params, system, T), abs=0.03 * kT)


def test_diamond_has_two_atoms_in_a_cell():
    potential, params = stillinger_weber_silicon()
    boxes = [jm.System.from_ase(bulk("Si", a=5.431, cubic=True) * r) for r in ((1, 1, 1), (2, 2, 1))]
    found = [
        (harmonic_box(potential, params, s, len(s) // 2) + crystal_finite_size(potential, params, s, T)) / len(s)
        for s in boxes
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-3 * kT)


def test_a_crystal_on_a_hill_is_refused():
    simple_cubic = jm.System.from_ase(Atoms("Ar", cell=3.8 * np.eye(3), pbc=True) * (3, 3, 3))
    with pytest.raises(ValueError, match="harmonically unstable"):
        crystal_finite_size(*ARGON, simple_cubic, T)


@pytest.mark.parametrize("numbers", [[18] * 60, [18] * 30 + [36] * 20 + [54] * 10])
def test_an_ideal_gas_lacks_the_rest_of_stirlings_formula(numbers):
    """N_s! in place of (N_s / e)^N_s, for gases of volumes as constant pressure gives them, Gamma(N + 1)."""
    n, V = len(numbers), 1000.0
    masses = np.full(n, 40.0)
    volumes = np.random.default_rng(1).gamma(n + 1, V / (n + 1), 200_000)
    F = float(fe.ideal_gas(numbers, masses, V, T))
    wavelength = math.sqrt(2 * math.pi * HBAR**2 / (40.0 * kT))
    counts = np.unique(numbers, return_counts=True)[1]
    infinite = kT * float(np.sum(counts * (np.log(counts * wavelength**3 / V) - 1)))
    found = F + liquid_finite_size(numbers, volumes, T)
    rest = kT * (np.sum(1 / (12 * counts)) + 0.5 / n)  # Stirling's next term, and N / (N + 1) in the variance
    assert found - infinite == pytest.approx(rest, abs=0.01 * kT)
    assert abs(F - infinite) > 2 * kT
