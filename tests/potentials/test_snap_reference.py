"""SNAP against LAMMPS: every structure of the reference set."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nep_reference import evaluate, padded, read_cases

import jaxmlp as jm

NAMES = [f"{element}_mlearn_{kind}" for element in ("Cu", "Ge", "Mo", "Si") for kind in ("snap", "qsnap")] + [
    "InP_JCPA2020", "Mo_Chen_PRM2017", "Ni-Mo_2018", "Ta06A", "WBe_Wood_PRB2019", "W_2940_2017_2", "synthetic_chem_bzero",
    "synthetic_chem_quadratic", "synthetic_quadratic_bzero_bnorm", "synthetic_switchflag0", "synthetic_switchinner",
    "synthetic_twojmax5_rmin0",
]  # fmt: skip
pytestmark = pytest.mark.shared


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_lammps(shared, name):
    folder = shared / "reference" / "snap"
    potential, params = jm.load(folder / f"models/{name}.snap")
    snap, snap_params = (potential.members[1], params[1]) if isinstance(params, tuple) else (potential, params)
    cases = read_cases(folder / f"cases/{name}.npz", potential.species)

    @cache
    def compiled(radii):
        def run(R, box, rows):

            out = evaluate(potential, params, R, box, rows, radii)
            return out

        return jax.jit(run)

    worst: dict[str, float] = {}
    for case, R, rows, radii in padded(cases, potential.shells):
        got = {k: np.asarray(v) for k, v in compiled(radii)(R, jnp.asarray(case.box), rows).items()}
        n = len(case.R)
        got |= {"forces": got["forces"][:n], "atomic_energies": got["atomic_energies"][:n]}
        for key in case.expected.keys() & got.keys():
            expected = case.expected[key]
            np.testing.assert_allclose(got[key], expected, 1e-8, 1e-8, err_msg=f"{key} of {case.name}")
            error = np.abs(got[key] - expected).max() / max(np.abs(expected).max(), 1e-300)
            worst[key] = max(worst.get(key, 0.0), float(error))
    print(name, {k: f"{v:.1e}" for k, v in worst.items()})
    assert {"energy", "forces", "virial"} <= worst.keys()
