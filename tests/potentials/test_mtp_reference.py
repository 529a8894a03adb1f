"""MTP against MLIP-2, MLIP-3 and motep: every structure of the reference set."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nep_reference import LONG_PROGRAM, evaluate, padded, read_cases

from jaxmlp.formats import mtp

SPECIES = {"NaYZrCl_2022": (11, 39, 40, 17), "NbMoTaW_2021": (41, 42, 73, 74), "TiAl_2023": (22, 13)}
PUBLISHED = {f"{symbol}_mlearn": (z,) for symbol, z in {"Cu": 29, "Ge": 32, "Mo": 42, "Si": 14}.items()} | SPECIES
FITTED = {f"mlip2_cubic_level{level}": (1,) for level in ("02", "06", "10", "14", "16", "20")} | {
    "mlip2_molecule14214_level10": (1, 2),
    "mlip2_molecule23208_level10": (1,),
    "mlip2_molecule291_level10": (1, 2),
    "mlip2_molecule762_level10": (1,),
    "mlip2_multi3_level04": (1, 2, 3),
    "mlip2_multi3_level10": (1, 2, 3),
    "mlip3_multi3_level10_grades": (1, 2, 3),
}
EXACT = (1e-8, 1e-9)
# MLIP prints 12 digits of an energy, 6 decimals of forces and 5 of the virial; positions were read with 6.
PRINTED = {"energy": (1e-8, 1e-9), "forces": (0, 1.5e-6), "virial_mlip": (0, 2e-5), "nbh_grades_mlip3": (0, 6e-6)}
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.mark.parametrize("name", PUBLISHED | FITTED)
def test_agrees_with_the_original_code(shared, name):
    folder = shared / "reference" / "mtp"
    species, printed = (PUBLISHED | FITTED)[name], name.startswith("mlip")
    file = folder / f"models/{name}.{'almtp' if name.startswith('mlip3') else 'mtp'}"
    potential, params = mtp.load(file, species)
    cases = read_cases(folder / f"cases/{name}.npz", species)

    @cache
    def compiled(radii):
        run = lambda R, box, rows: evaluate(potential, params, R, box, rows, radii)
        return jax.jit(run, compiler_options=LONG_PROGRAM)

    worst: dict[str, float] = {}
    for case, R, rows, radii in padded(cases, potential.shells):
        got = {k: np.asarray(v) for k, v in compiled(radii)(R, jnp.asarray(case.box), rows).items()}
        n = len(case.R)
        got |= {"motep_energy": got["energy"], "virial_mlip": got["virial"]}
        got |= {"motep_forces": got["forces"][:n], "forces": got["forces"][:n]}
        got["atomic_energies"] = got["atomic_energies"][:n]
        for key in case.expected.keys() & got.keys():
            rtol, atol = PRINTED.get(key, EXACT) if printed else EXACT
            expected = case.expected[key]
            np.testing.assert_allclose(got[key], expected, rtol, atol, err_msg=f"{key} of {case.name}")
            error = np.abs(got[key] - expected).max() / max(np.abs(expected).max(), 1e-300)
            worst[key] = max(worst.get(key, 0.0), float(error))
    print(name, {k: f"{v:.1e}" for k, v in worst.items()})
    assert {"energy", "forces"} <= worst.keys()
