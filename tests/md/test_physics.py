"""Ensembles as they must be: equations of state, distributions under every thermostat and barostat, para-hydrogen.

The simulations are those of benchmarks/physics.py, which also says why they are as long as they are.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.optimized]
STATES = ("T* = 0.85, rho* = 0.776", "T* = 2, rho* = 0.8")
THERMOSTATS = ("Langevin", "Nose-Hoover chain", "CSVR", "GLE")
BAROSTATS = (
    "MTK, isotropic", "MTK, orthorhombic", "MTK, triclinic", "Langevin piston", "cell rescaling, isotropic",
    "cell rescaling, orthorhombic", "cell rescaling, triclinic",
)  # fmt: skip


@pytest.fixture(scope="module")
def physics():
    """benchmarks/physics.py, in whose folder other modules are named like packages: it is not left in the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # which benchmarks set where it is not
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        module = importlib.import_module("physics")
    assert set(module.STATES) == set(STATES)
    assert set(module.THERMOSTATS) == {*THERMOSTATS, "Berendsen"}
    assert set(module.BAROSTATS) == {*BAROSTATS, "Berendsen"}
    return module


def agree(physics, rows):
    """Fail with all rows of which one differs by three standard errors or its tolerance."""
    assert all(row.agrees for row in rows), physics.table(rows)


def test_the_slope_of_known_distributions(physics):
    """Two normal distributions of width 3 whose means differ by 5: ln(p_b / p_a) has the slope 5 / 9."""
    a, b = np.random.default_rng(0).normal(0.0, 3.0, (2, 100_000)) + np.array([[0.0], [5.0]])
    parts = [physics.slope(x, y) for x, y in zip(a.reshape(20, -1), b.reshape(20, -1))]
    error = np.std(parts, ddof=1) / np.sqrt(20)
    assert error < 0.003
    assert abs(np.mean(parts) - 5 / 9) < 3 * error
    assert physics.slope(b, a) == pytest.approx(-physics.slope(a, b), rel=1e-9)


@pytest.mark.parametrize("name", STATES)
def test_the_equation_of_state_of_lennard_jones(physics, name):
    """40 000 steps of 864 atoms: errors below half of the tolerances."""
    rows = physics.equation_of_state(name)
    agree(physics, rows)
    assert all(row.error < 0.5 * row.tolerance for row in rows), physics.table(rows)


@pytest.mark.parametrize("name", THERMOSTATS)
def test_thermostats_are_canonical(physics, name):
    """80 000 steps: some 600 independent samples, slopes to 5 %, mean kinetic energies to 0.2 %."""
    rows = physics.thermostat(name)
    agree(physics, rows)
    assert all(row.error < 0.1 for row in rows if row.error is not None)


def test_weak_coupling_of_the_temperature_is_found_out(physics):
    rows = physics.thermostat("Berendsen", steps=20_000)
    assert all(row.agrees for row in rows if row.quantity.startswith("<K>")), physics.table(rows)
    assert not any(row.agrees for row in rows if not row.quantity.startswith("<K>")), physics.table(rows)


@pytest.mark.parametrize("name", BAROSTATS)
def test_barostats_are_isothermal_isobaric(physics, name):
    """60 000 steps: slopes to 3 to 5 % (crystal) or 8 % (liquid, whose volume relaxes more slowly)."""
    rows = physics.barostat(name)
    agree(physics, rows)
    assert rows[0].error < 0.1


def test_weak_coupling_of_the_pressure_is_found_out(physics):
    (row,) = physics.barostat("Berendsen")
    assert not row.agrees
    assert row.value > 2  # the volume fluctuates too little


@pytest.mark.parametrize("name", ["32 beads, 5 fs", "16 beads, 5 fs"])
def test_liquid_para_hydrogen(physics, name):
    """30 ps: errors of 0.2 K in the kinetic and potential energy of a molecule, of 0.7 K in the primitive estimator."""
    kinetic, potential, *_ = rows = physics.hydrogen(name)
    agree(physics, rows)
    assert kinetic.error < 0.25
    assert potential.error < 0.25
