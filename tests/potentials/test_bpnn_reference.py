"""Behler-Parrinello networks against n2p2: every structure of the reference set."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nep_reference import graph, padded, read_cases

from jaxmlp import Graph
from jaxmlp.formats import n2p2

NAMES = (
    "Cu2S_PBE", "Cu_mlearn", "Ethylbenzene_SCAN", "Ge_mlearn", "H2O_RPBE-D3", "H2O_revPBE0-D3", "Mo_mlearn",
    "Si_mlearn", "synthetic_compact20_21_22", "synthetic_cutoff0", "synthetic_cutoff3", "synthetic_cutoff5",
    "synthetic_cutoff7", "synthetic_types2_3_9_cutoff2", "synthetic_weighted12_13_cutoff1_alpha",
)  # fmt: skip
SIZE = 4  # rows evaluated together, as `jm.evaluate` does: planes of all atoms' pairs would take gigabytes
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


def blocks(potential, params, whole: Graph):
    """Return energies (n,), scaled symmetry functions (n, D) and dE_i/dr_ij, three (n, M), block by block."""
    names = ("species", "planes", "neighbors", "neighbor_species", "mask", "exists")
    n = len(whole.species)
    size = SIZE if n % SIZE == 0 else 1
    rows = jax.tree.map(lambda x: x.reshape(n // size, size, *x.shape[1:]), [getattr(whole, q) for q in names])

    def one(rows):
        g = Graph(**dict(zip(names, rows, strict=True)), R=whole.R, box=whole.box, shells=whole.shells)

        def energy(planes):
            energies = g.existing(potential.site_energies(params, replace(g, planes=planes)))
            return jnp.sum(energies), (energies, potential.descriptors(params, replace(g, planes=planes)))

        slopes, (energies, G) = jax.grad(energy, has_aux=True)(g.planes)
        return energies, G, slopes

    return jax.tree.map(lambda x: x.reshape(n, *x.shape[2:]), jax.lax.map(one, rows))


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_n2p2(shared, name):
    folder = shared / "reference" / "bpnn"
    with np.load(folder / f"cases/{name}.npz") as z:
        units = {"length_unit": float(z["c00_length_unit_angstrom"]), "energy_unit": float(z["c00_energy_unit_ev"])}
    potential, params = n2p2.load(folder / "models" / name, **units)
    cases = read_cases(folder / f"cases/{name}.npz", potential.species)

    # Compiling costs more than running these small structures: half of it goes without LLVM's optimisations.
    options = {"xla_backend_optimization_level": 0} if name.startswith("synthetic") else {}

    @partial(jax.jit, static_argnums=3, compiler_options=options)
    def run(R, box, rows, radii):
        def geometry(R, strain):
            deform = jnp.eye(3) + strain
            return graph(R @ deform, box @ deform, rows, radii).planes

        pull = jax.vjp(geometry, R, jnp.zeros((3, 3)))[1]
        energies, G, slopes = blocks(potential, params, graph(R, box, rows, radii))
        dR, dstrain = pull(slopes)
        out = {"energy": jnp.sum(energies), "atomic_energies": energies, "forces": -dR, "virial": -dstrain}
        return out | {"symmetry_functions_scaled": G}

    worst: dict[str, float] = {}
    for case, R, rows, radii in padded(cases, potential.shells):
        got = {k: np.asarray(v) for k, v in run(R, jnp.asarray(case.box), rows, radii).items()}
        for key in case.expected.keys() & got.keys():
            value = got[key] if key in ("energy", "virial") else got[key][: len(case.R)]
            expected = case.expected[key]
            if key == "symmetry_functions_scaled":  # rows of elements with fewer functions end in NaN
                expected = np.where(np.isnan(expected), 0.0, expected)
            # The absolute part is for components that vanish by symmetry.
            scale = max(np.abs(expected).max(), 1e-2)
            np.testing.assert_allclose(value, expected, 1e-8, 1e-8 * scale, err_msg=f"{key} of {case.name}")
            worst[key] = max(worst.get(key, 0.0), float(np.abs(value - expected).max() / scale))
    print(name, {k: f"{v:.1e}" for k, v in worst.items()})
    assert {"energy", "atomic_energies", "forces", "virial", "symmetry_functions_scaled"} == worst.keys()
