"""Beads shared by devices."""

import pytest

SHARED = """
import jax, numpy as np
import jaxmlp as jm
from ase.build import bulk
from jaxmlp.potentials.pair import lennard_jones

system = jm.System.from_ase(bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2))
pair = lennard_jones((18,), 0.0104, 3.4, 6.0)
options |= {"temperature": 40.0, "beads": 4, "dt": 2.0, "skin": 0.3, "key": 1}
one, two = (jm.md.pimd(*pair, system, devices=devices, **options) for devices in (None, 2))
assert two.dynamics.forces.devices == 2
one, two = (jm.md.run(sim, 6, log_every=3) for sim in (one, two))
for quantity in one.log:
    np.testing.assert_allclose(two.log[quantity], one.log[quantity], rtol=1e-10, atol=1e-12)
state = two.simulation.state
assert np.ptp(state.R, axis=0).max() > 0.01
np.testing.assert_allclose(state.R, one.simulation.state.R, atol=1e-11)
program = jax.jit(two.simulation.dynamics.step).lower(state, two.simulation.atoms, two.simulation.controls)
assert "num_partitions = 2" in program.as_text()
"""

RUNS = {
    "cell rescaling": {"pressure": 0.0, "compressibility": 100.0},
    "Suzuki-Chin": {"scheme": "suzuki-chin"},  # half of the beads have Hessian-vector products
}


@pytest.mark.parametrize("name", RUNS)
def test_two_devices_share_the_beads_and_give_what_one_gives(on_two_devices, name):
    on_two_devices(f"options = {RUNS[name]!r}\n{SHARED}")
