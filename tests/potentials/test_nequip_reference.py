"""NequIP models against nequip: every structure of the reference set from both files, and unusual options."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gnn_reference import assert_same, compare
from nequip_reference import FILE, draw

import jaxmlp as jm
from jaxmlp.formats import allegro, nequip
from jaxmlp.potentials.allegro import Allegro
from jaxmlp.potentials.nequip import NequIP

NAMES = ("nequip_l1", "nequip_l2_parity", "nequip_l2_noparity_zbl", "nequip_l2_parity_deep")
OPTIONS = json.loads(FILE.read_text())
pytestmark = pytest.mark.optimized


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_nequip(shared, name):
    folder = shared / "reference" / "gnn" / name
    potential, params = nequip.load(folder)
    print(name, {k: f"{v:.1e}" for k, v in compare(potential, params, folder / "cases.npz").items()})
    assert_same(nequip.load(folder / "model.pt"), (potential, params))
    assert_same(nequip.load(folder / "state_dict.pt"), (potential, params))  # with config.json


@pytest.mark.parametrize("name", OPTIONS["cases"])
def test_options_are_those_of_the_original_code(tmp_path, name):
    case, structure = OPTIONS["cases"][name], OPTIONS["structure"]
    np.savez(tmp_path / "weights.npz", **tensors(case))
    (tmp_path / "config.json").write_text(json.dumps({"builder_arguments": case["arguments"]}))
    reader = allegro if case["arguments"]["_target_"].startswith("allegro") else nequip
    potential, params = reader.load(tmp_path)
    system = jm.System(np.array(structure["numbers"]), np.array(structure["positions"]), np.array(structure["cell"]))
    energy = jm.energy_fn(potential, system)
    E, gradient = jax.jit(jax.value_and_grad(energy))(jnp.asarray(system.R), jnp.asarray(system.box), params)
    forces = np.array(case["forces"])
    assert np.abs(forces).max() > 0.02
    np.testing.assert_allclose(E, case["energy"], rtol=1e-12, atol=1e-13)  # float64 rounding of some 10^3 terms
    np.testing.assert_allclose(-gradient, forces, rtol=0, atol=1e-13 * np.abs(forces).max() + 1e-14)


def tensors(case) -> dict[str, np.ndarray]:
    """The state dict that the case stands for."""
    out = {name: draw(name, tuple(shape)) for name, shape in case["parameters"].items()}
    for name, x in case["tensors"].items():
        flat = np.zeros(int(np.prod(x["shape"])))
        flat[x["places"]] = x["values"]
        out[name] = flat.reshape(x["shape"])
    return out


def test_a_subset_of_the_species_keeps_its_energies():
    """Cutoffs of pairs and average numbers of neighbours are sliced with the parameters."""
    system = jm.System([8, 14, 8, 14], np.random.default_rng(5).uniform(0, 4.2, (4, 3)), 4.2 * np.eye(3))
    cutoffs = ((2.0, 2.5, 3.0), (2.6, 3.9, 3.5), (3.1, 3.4, 3.0))
    common = dict(species=(1, 14, 8), cutoff=4.0, neighbors=(3.0, 7.0, 5.0), cutoffs=cutoffs, zbl=14.4)
    for potential in (
        NequIP(irreps=("3x0e+2x1o", "3x0e"), embedding=3, radial=((4,),), **common),
        # Many species: the first layer goes edge by edge, with few it sums over the neighbours of each species.
        NequIP(tuple(range(6, 16)), 4.0, irreps=("3x0e+2x1o", "3x0e"), embedding=3, radial=((4,),)),
        Allegro(features=(4, 2), embedding=4, latent=(4,), **common),
        Allegro(features=(4, 2), embedding=4, latent=(4,), splines=(6, 3), **common),
    ):
        params = potential.init(jax.random.key(3))
        R, box = jnp.asarray(system.R), jnp.asarray(system.box)
        energies = [
            jax.jit(jm.energy_fn(p, system))(R, box, q)
            for p, q in ((potential, params), potential.restrict(params, (8, 14)))
        ]
        np.testing.assert_allclose(*energies, rtol=1e-13)
