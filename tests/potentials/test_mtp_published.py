"""Published MTPs on the data of Zuo et al., J. Phys. Chem. A 124, 731 (2020): errors of PUBLISHED.md, section 1.2."""

import gzip

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.io import read
from nep_reference import Case, evaluate, padded

from jaxmlp.formats import mtp

# MAE and RMSE of energies (meV/atom) and of components of forces (eV/Å). The test split of Ge is not among the data.
ERRORS = {
    "Cu": ("test", 0.41, 0.52, 0.007, 0.014),
    "Mo": ("test", 2.94, 3.98, 0.090, 0.151),
    "Si": ("test", 2.31, 3.03, 0.056, 0.088),
    "Ge": ("train", 1.91, 4.51, 0.042, 0.064),
}
pytestmark = pytest.mark.shared


@pytest.mark.parametrize("symbol", ERRORS)
def test_errors_are_those_published(shared, symbol):
    split, *expected = ERRORS[symbol]
    potential, params = mtp.load(shared / f"reference/mtp/models/{symbol}_mlearn.mtp", [symbol])
    with gzip.open(shared / f"data/mlearn_{symbol}/{split}.xyz.gz", "rt") as file:
        frames = read(file, ":", format="extxyz")
    assert all((frame.numbers == atomic_numbers[symbol]).all() for frame in frames)
    cases = [
        Case(symbol, f.positions, np.array(f.cell), 0 * f.numbers, {"E": f.get_potential_energy(), "F": f.get_forces()})
        for f in frames
    ]

    @jax.jit
    def energy_and_forces(R, box, rows):
        out = evaluate(potential, params, R, box, rows, radii)
        return out["energy"], out["forces"]

    dE, dF = [], []
    for case, R, rows, radii in padded(cases, potential.shells):  # noqa: B007
        energy, forces = energy_and_forces(R, jnp.asarray(case.box), rows)
        n = len(case.R)
        dE.append(1000 * (float(energy) - case.expected["E"]) / n)
        dF.append((np.asarray(forces)[:n] - case.expected["F"]).ravel())
    assert energy_and_forces._cache_size() == 1
    found = [x for d in (np.array(dE), np.concatenate(dF)) for x in (np.abs(d).mean(), np.sqrt(np.mean(d**2)))]
    assert [f"{x:.2f}" for x in found[:2]] == [f"{x:.2f}" for x in expected[:2]]
    assert [f"{x:.3f}" for x in found[2:]] == [f"{x:.3f}" for x in expected[2:]]
