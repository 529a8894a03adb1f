"""Energies made of known E0, and what is undetermined."""

import numpy as np
import pytest

from jaxmlp.fitting.data.reference_energies import composition, fit_reference_energies, isolated_atom_energies
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.system import System


def molecule(numbers, energy=None, **options):
    numbers = np.asarray(numbers)
    return Structure(System(numbers, np.arange(3 * len(numbers)).reshape(-1, 3)), energy, **options)


def test_composition():
    counts = composition([molecule([8, 1, 1]), molecule([6])], [1, 6, 8])
    np.testing.assert_array_equal(counts, [[2, 0, 1], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"here: .* also contains O"):
        composition([molecule([8, 1, 1], source="here")], [1, 6])


def test_exact_energies_are_found_again():
    E0 = {1: -13.6, 6: -1029.5, 8: -2042.0}
    formulas = ([8, 1, 1], [6, 1, 1, 1, 1], [6, 8, 8], [1, 1], [6, 6, 1, 1])
    structures = [molecule(f, sum(E0[z] for z in f)) for f in formulas]
    found = fit_reference_energies([*structures, molecule([1, 8])], (8, 1, 6))
    assert list(found) == [8, 1, 6]
    for z, e in E0.items():
        assert found[z] == pytest.approx(e, rel=1e-12)


def test_undetermined_combinations_have_the_smallest_norm():
    found = fit_reference_energies([molecule([8, 1, 1], -10.0)], (1, 8))
    # 2 H + O = -10: the shortest solution is along (2, 1), that is -4 and -2
    assert found == {1: pytest.approx(-4.0), 8: pytest.approx(-2.0)}


def test_isolated_atoms_are_kept():
    structures = [molecule([8, 1, 1], -10.0), molecule([8, 1, 1], -10.2)]
    found = fit_reference_energies(structures, (1, 8), isolated_atoms={"H": -1.0})
    assert found == {1: -1.0, 8: pytest.approx(-8.1)}
    assert fit_reference_energies([], (1,), isolated_atoms={1: -1.0}) == {1: -1.0}
    with pytest.raises(ValueError, match=r"got the key 'Hh'"):
        fit_reference_energies(structures, (1, 8), isolated_atoms={"Hh": -1.0})


def test_isolated_atoms_of_a_set():
    crystal = Structure(System(np.array([14]), np.zeros((1, 3)), 3.8 * np.eye(3)), -5.0)
    boxed = Structure(System(np.array([14]), np.zeros((1, 3)), 20 * np.eye(3)), -0.8, group="IsolatedAtom")
    assert isolated_atom_energies([molecule([1], -13.0), molecule([1, 1], -31.0), crystal, boxed]) == {
        1: -13.0,
        14: -0.8,
    }
    with pytest.raises(ValueError, match=r"isolated atoms of H have -13.000000 eV .* and -12.000000 eV"):
        isolated_atom_energies([molecule([1], -13.0), molecule([1], -12.0)])


def test_absent_energies():
    with pytest.raises(ValueError, match=r"reference energies of H, O are to be fitted, but none of 1 structures"):
        fit_reference_energies([molecule([8, 1, 1])], (1, 8))
    with pytest.raises(ValueError, match=r"here: the energy is nan"):
        fit_reference_energies([molecule([8], np.nan, source="here")], (8,))
