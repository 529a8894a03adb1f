"""Systems: exchange with ASE and files, completed cells, and the errors of bad input."""

import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units
from ase.build import bulk, fcc111, molecule

import jaxmlp as jm
from jaxmlp.system import species_index


def test_ase_atoms_come_back_with_velocities_and_masses():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_masses([22.0, 35.0])
    atoms.set_velocities([[0.1, 0, 0], [0, -0.2, 0.3]])
    system = jm.System.from_ase(atoms)
    np.testing.assert_allclose(system.velocities, atoms.get_velocities() * ase_units.fs)
    back = system.to_ase()
    np.testing.assert_allclose(back.get_velocities(), atoms.get_velocities())
    np.testing.assert_allclose(back.positions, atoms.positions)
    np.testing.assert_allclose(back.cell.array, atoms.cell.array)
    assert back.get_masses().tolist() == [22.0, 35.0]
    assert back.pbc.all()


def test_a_molecule_has_no_box_and_a_slab_gets_its_missing_vector():
    assert jm.System.from_ase(molecule("H2O")).box is None
    slab = fcc111("Cu", (2, 2, 3))
    slab.cell[2] = 0
    slab.pbc = (True, True, False)
    system = jm.System.from_ase(slab)
    np.testing.assert_allclose(np.abs(system.box[2]), [0, 0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="volume"):
        _ = system.volume


def test_extended_xyz_round_trip(tmp_path):
    system = jm.System([14, 8], [[0.1, 0.2, 0.3], [1.5, 1.25, 1.0]], [[4, 0, 0], [1, 5, 0], [0, 0.5, 6]])
    system.write(tmp_path / "a.xyz")
    back = jm.System.read(tmp_path / "a.xyz")
    np.testing.assert_allclose(back.R, system.R, atol=1e-8)
    np.testing.assert_allclose(back.box, system.box)
    assert back.pbc == (True, True, True)
    assert back.species == (8, 14)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], np.zeros((0, 3))), "at least one"),
        (([14], [[0, 0]]), "must be"),
        (([14], [[0, 0, np.nan]]), "atoms \\[0\\]"),
        (([14], [[0, 0, 0]], np.eye(2)), "box"),
        (([14], [[0, 0, 0]], [[1, 0, 0], [2, 0, 0], [0, 0, 1]]), "linearly dependent"),
        (([14], [[0, 0, 0]], None, True), "needs a box"),
        (([14], [[0, 0, 0]], None, None, [-1.0]), "positive"),
        (([14], [[0, 0, 0]], None, None, None, [1.0]), "velocities"),
    ],
)
def test_bad_systems_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        jm.System(*arguments)


def test_a_periodic_direction_needs_a_lattice_vector():
    with pytest.raises(ValueError, match="periodic along c"):
        jm.System.from_ase(Atoms("Si", cell=[5, 5, 0], pbc=True))


def test_an_unknown_element_is_named_with_its_atoms():
    with pytest.raises(ValueError, match=r"knows Si, O; the system also contains Fe \(atoms 1, 3, 4, \.\.\.\)"):
        species_index((14, 8), np.array([14, 26, 8, 26, 26, 26]))


def test_systems_keep_their_own_arrays():
    """What ASE does to the atoms afterwards, in place, does not move the system."""
    atoms = bulk("Cu", cubic=True)
    system = jm.System.from_ase(atoms)
    R, numbers = system.R.copy(), system.numbers.copy()
    atoms.rattle(0.1)
    atoms.numbers[0] = 47
    np.testing.assert_array_equal(system.R, R)
    np.testing.assert_array_equal(system.numbers, numbers)
