"""Behler-Parrinello networks against n2p2: every structure of the reference set."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import n2p2

MODELS = (
    "Cu2S_PBE", "Cu_mlearn", "Ethylbenzene_SCAN", "Ge_mlearn", "H2O_RPBE-D3", "H2O_revPBE0-D3", "Mo_mlearn",
    "Si_mlearn", "synthetic_compact20_21_22", "synthetic_cutoff0", "synthetic_cutoff3", "synthetic_cutoff5",
    "synthetic_cutoff7", "synthetic_types2_3_9_cutoff2", "synthetic_weighted12_13_cutoff1_alpha",
)  # fmt: skip
pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_n2p2(shared, name):
    folder = shared / "reference" / "bpnn"
    with np.load(folder / f"cases/{name}.npz") as z:
        for k, case in enumerate(z["names"]):
            d = {q[4:]: z[q] for q in z.files if q.startswith(f"c{k:02d}_")}
            units = {"length_unit": float(d["length_unit_angstrom"]), "energy_unit": float(d["energy_unit_ev"])}
            potential, params = n2p2.load(folder / "models" / name, **units)
            box = d["cell"] if d["pbc"].all() else None
            system = jm.System(d["numbers"], d["positions"], box)
            box = None if box is None else jnp.asarray(box)
            got = jm.evaluate_fn(potential, system)(jnp.asarray(d["positions"]), box, params)
            pairs = {"energy": got.energy, "atomic_energies": got.energies, "forces": got.forces, "virial": got.virial}
            for what, value in pairs.items():
                scale = max(1e-3, np.abs(d[what]).max())  # forces of perfect crystals are 1e-14 of rounding
                np.testing.assert_allclose(value, d[what], rtol=1e-8, atol=1e-8 * scale, err_msg=f"{what} of {case}")
                print(f"{name} {case} {what} {np.abs(value - d[what]).max() / scale:.1e}")
