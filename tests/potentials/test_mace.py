"""MACE: options against numbers of mace-torch (written by `mace_options.py`), and its parts against simple forms."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import mace

QUANTITIES = ("energy", "node_energy", "forces", "virials", "slope")
OPTIONS = Path(__file__).parent / "mace_options.npz"
NAMES = (
    "agnostic-three-layers-edge", "chebyshev-agnesi-density-so3", "gaussian-soft-heads", "message-skip-twice",
    "one-layer-degree-four", "pseudo-bias-keep",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_options_agree_with_mace_torch(tmp_path, name):
    with np.load(OPTIONS) as z:
        config = json.loads(str(z["configs"]))[name]
        start = f"{name}/state/"
        state = {key.removeprefix(start): z[key] for key in z.files if key.startswith(start)}
        system = jm.System(z["numbers"], z["positions"], z["cell"])
        heads = range(len(config["heads"]))
        expected = [{q: z[f"{name}/{k}/{q}"] for q in QUANTITIES} for k in heads]
        direction = z["direction"]
    np.savez(tmp_path / "weights.npz", **state)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for head, want in zip(config["heads"], expected):
        potential, params = mace.load(tmp_path, head=head)
        out = jax.jit(jm.evaluate_fn(potential, system))(system.R, system.box, params)
        np.testing.assert_allclose(out.energy, want["energy"][0], rtol=1e-10)
        np.testing.assert_allclose(out.energies, want["node_energy"], rtol=1e-9)
        np.testing.assert_allclose(-np.sum(out.forces * direction), want["slope"], rtol=1e-6, atol=1e-8)
        if potential.radial_type == "chebyshev":
            continue  # torch knows no derivative of chebyshev_polynomial_t, and leaves it out
        scale = np.abs(want["forces"]).max()
        np.testing.assert_allclose(out.forces, want["forces"], 0, 1e-9 * scale)
        np.testing.assert_allclose(out.virial, want["virials"][0], 0, 1e-9 * scale)
