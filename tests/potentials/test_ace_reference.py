"""ACE against pyace, the evaluator of LAMMPS ML-PACE, on its published and test potentials."""

from pathlib import Path

import jax
import numpy as np
import pytest
from nep_reference import evaluate, graph, padded, read_cases

from jaxmlp.formats import ace

pytestmark = pytest.mark.shared

MODELS = {
    "Al.pbe-rank3-core-rep": ".ace",
    "Al.pbe.rhocore": ".ace",
    "AlNiCu_multispecies": ".yaml",
    "AlNi_multispecies": ".yaml",
    "AlNi_opt_all": ".yaml",
    "Cu-PBE-core-rep": ".ace",
    "Cu_pbe_in": ".yaml",
    "Ta_FitSNAP_PACE": ".yace",
    "Ta_FitSNAP_PACE_ARD": ".yace",
}
QUANTITIES = ("energy", "atomic_energies", "forces", "virial")


def largest_errors(model: Path, cases: Path, suffix: str, **options) -> dict:
    """Largest |error| / largest |value| of each quantity, by structure; at least 1 eV per atom, 1 eV/Å."""
    potential, params = ace.load(model, **options)
    run = jax.jit(evaluate, static_argnums=(0, 5))
    out = {}
    for case, R, rows, radii in padded(read_cases(cases, potential.species), potential.shells):
        got = run(potential, params, R, case.box, rows, radii)
        n = len(case.R)
        for name in QUANTITIES:
            if name + suffix not in case.expected:
                continue
            value, expected = np.asarray(got[name]), np.asarray(case.expected[name + suffix])
            value = value[:n] if name in ("atomic_energies", "forces") else value
                scale = max(np.abs(expected).max(), float(n) if name in ("energy", "virial") else 1.0)
            out[case.name, name] = float(np.abs(value - expected).max() / scale)
    return out


@pytest.mark.parametrize("name", MODELS)
def test_tables_of_the_reference_code(shared, name):
    """With the radial tables of the file everything is what pyace gives, to rounding."""
    folder = shared / "reference" / "ace"
    for ending in {".yace", MODELS[name]}:
        model = folder / f"models/{name}{ending}"
        errors = largest_errors(model, folder / f"cases/{name}.npz", "", spline=True)
        assert max(errors.values()) < 1e-8, max(errors, key=errors.get)
        assert errors and all(np.isfinite(v) for v in errors.values())


@pytest.mark.parametrize("name", MODELS)
def test_exact_radial_functions(shared, name):
    """Tables ten times finer, rounded themselves: two grids of Cu_pbe_in differ by 5e-7 eV in the virial of 32 atoms."""
    folder = shared / "reference" / "ace"
    model = folder / f"models/{name}{MODELS[name]}"
    errors = largest_errors(model, folder / f"cases/{name}.npz", "_fine_spline")
    virial = max(v for (_, quantity), v in errors.items() if quantity == "virial")
    rest = max(v for (_, quantity), v in errors.items() if quantity != "virial")
    assert rest < 1e-8
    assert virial < (2e-8 if name == "Cu_pbe_in" else 1e-8)


@pytest.mark.parametrize("name", ["AlNi_multispecies", "AlNiCu_multispecies", "Cu_pbe_in"])
def test_projections(shared, name):
    """Functions of the B basis are pyace's projections, one by one in the order of the file where it gives them."""
    folder = shared / "reference" / "ace"
    potential, params = ace.load(folder / f"models/{name}.yaml")
    for case, R, rows, radii in padded(read_cases(folder / f"cases/{name}.npz", potential.species), potential.shells):
        if "projections" in case.expected:
            got = potential.descriptors(params, graph(R, case.box, rows, radii))[: len(case.R)]
            assert got.shape[1] == potential.size
