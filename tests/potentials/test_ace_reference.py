"""ACE against pyace, the evaluator of LAMMPS ML-PACE, on its published and test potentials."""

from pathlib import Path

import jax
import numpy as np
import pytest
from nep_reference import evaluate, graph, padded, read_cases

from jaxmlp.formats import ace
from jaxmlp.potentials.ace_tables import feature_count

pytestmark = [pytest.mark.shared, pytest.mark.optimized]

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
    model = folder / f"models/{name}{MODELS[name]}"
    errors = largest_errors(model, folder / f"cases/{name}.npz", "", spline=True)
    assert all(v < 1e-8 for v in errors.values()), max(errors, key=errors.get)  # a NaN fails


@pytest.mark.parametrize("name", MODELS)
def test_exact_radial_functions(shared, name):
    """Tables ten times finer, rounded themselves: those of Cu_pbe_in differ by 5e-7 eV in a virial of 32 atoms."""
    folder = shared / "reference" / "ace"
    model = folder / f"models/{name}.yace"
    errors = largest_errors(model, folder / f"cases/{name}.npz", "_fine_spline")
    virial = max(v for (_, quantity), v in errors.items() if quantity == "virial")
    rest = max(v for (_, quantity), v in errors.items() if quantity != "virial")
    assert rest < 1e-8
    assert virial < (2e-8 if name == "Cu_pbe_in" else 1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_projections(shared, name):
    """The basis functions, one by one: B functions of a .yaml, density 0 summed over m of a C-tilde file."""
    folder = shared / "reference" / "ace"
    ending = ".yaml" if MODELS[name] == ".yaml" else ".yace"
    potential, params = ace.load(folder / f"models/{name}{ending}")
    descriptors = jax.jit(lambda *geometry: potential.descriptors(params, graph(*geometry)), static_argnums=3)
    seen = 0
    for case, R, rows, radii in padded(read_cases(folder / f"cases/{name}.npz", potential.species), potential.shells):
        if "projections" not in case.expected:
            continue
        seen += 1
        got = np.asarray(descriptors(R, case.box, rows, radii))[: len(case.R)]
        expected = case.expected["projections"]
        if ending == ".yace":
            counts = [feature_count(f) for block in potential.functions for f in block]
            got = np.add.reduceat(got * np.asarray(params["c"])[:, 0], np.cumsum([0, *counts[:-1]]), axis=1)
        if len(potential.species) > 1:  # one aluminium atom; pyace orders the functions of several blocks anew
            got, expected = (np.sort(x, axis=1) for x in (got[:, : len(potential.functions[0])], expected))
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
    assert seen
