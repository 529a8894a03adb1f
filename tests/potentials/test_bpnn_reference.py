"""Behler-Parrinello networks against n2p2: a rattled structure of some models of the reference set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import n2p2

# Together these have every type of function and of cutoff family; compiling each takes ten seconds.
MODELS = (
    "Mo_mlearn", "H2O_revPBE0-D3", "synthetic_compact20_21_22", "synthetic_cutoff3", "synthetic_types2_3_9_cutoff2",
    "synthetic_weighted12_13_cutoff1_alpha",
)  # fmt: skip
pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_n2p2(shared, name):
    folder = shared / "reference" / "bpnn"
    with np.load(folder / f"cases/{name}.npz") as z:
        d = {q[4:]: z[q] for q in z.files if q.startswith("c01_")}
    units = {"length_unit": float(d["length_unit_angstrom"]), "energy_unit": float(d["energy_unit_ev"])}
    potential, params = n2p2.load(folder / "models" / name, **units)
    system = jm.System(d["numbers"], d["positions"], d["cell"] if d["pbc"].any() else None, d["pbc"])
    got = jax.jit(jm.evaluate_fn(potential, system))(jnp.asarray(system.R), system.box, params)
    pairs = {"energy": got.energy, "atomic_energies": got.energies, "forces": got.forces, "virial": got.virial}
    for what, value in pairs.items():
        # The absolute part is for components that vanish by symmetry.
        scale = max(1.0, np.abs(d[what]).max())
        np.testing.assert_allclose(value, d[what], 1e-8, 1e-10 * scale, err_msg=f"{what}, {len(system)} atoms")
