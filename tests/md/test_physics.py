"""Ensembles as they must be: equations of state, distributions under every thermostat and barostat, para-hydrogen.

The simulations are those of benchmarks/physics.py, which also says why they are as long as they are.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import physics

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


def agree(rows):
    """Fail with all rows of which one differs by three standard errors or its tolerance."""
    assert all(row.agrees for row in rows), physics.table(rows)


@pytest.mark.parametrize("name", physics.STATES)
def test_the_equation_of_state_of_lennard_jones(name):
    """20 000 steps are 120 units of time: errors of 0.002 in the energy and 0.015 in the pressure of the liquid."""
    energy, pressure = rows = physics.equation_of_state(name)
    agree(rows)
    assert energy.error < energy.tolerance / 1.5
    assert pressure.error < pressure.tolerance


@pytest.mark.parametrize("name", [name for name in physics.THERMOSTATS if name != "Berendsen"])
def test_thermostats_are_canonical(name):
    """40 000 steps: some hundred independent samples, slopes to 6 %, mean kinetic energies to 0.3 %."""
    rows = physics.thermostat(name)
    agree(rows)
    assert all(row.error < 0.1 for row in rows if row.error is not None)


def test_weak_coupling_of_the_temperature_is_found_out():
    rows = physics.thermostat("Berendsen", steps=20_000)
    assert all(row.agrees for row in rows if row.quantity.startswith("<K>")), physics.table(rows)
    assert not any(row.agrees for row in rows if not row.quantity.startswith("<K>")), physics.table(rows)


@pytest.mark.parametrize("name", [name for name in physics.BAROSTATS if name != "Berendsen"])
def test_barostats_are_isothermal_isobaric(name):
    """30 000 steps: slopes to 3 % (crystal) or 6 % (liquid)."""
    rows = physics.barostat(name)
    agree(rows)
    assert rows[0].error < 0.1


def test_weak_coupling_of_the_pressure_is_found_out():
    (row,) = physics.barostat("Berendsen")
    assert not row.agrees
    assert row.value > 2  # the volume fluctuates too little


@pytest.mark.parametrize("name", ["32 beads, 5 fs", "16 beads, 5 fs"])
def test_liquid_para_hydrogen(name):
    """30 ps: errors of 0.1 K in the kinetic and 0.2 K in the potential energy of a molecule."""
    rows = physics.hydrogen(name)
    agree(rows)
    assert all(row.error < 0.25 for row in rows if row.quantity != "P, bar")
