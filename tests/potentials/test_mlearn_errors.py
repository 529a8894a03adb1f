"""Published models on the data of Zuo et al., J. Phys. Chem. A 124, 731 (2020): errors of PUBLISHED.md, section 1.2."""

import gzip
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.io import read
from nep_reference import LONG_PROGRAM, Case, evaluate, padded

from jaxmlp.formats import mtp, snap

# MAE and RMSE of energies (meV/atom), then of components of forces (eV/Å). The test split of Ge is not among the data,
# nor are the models of Ni and Li.
ERRORS = {
    ("mtp", "Cu", "train"): "0.40 0.52 0.006 0.011",
    ("mtp", "Cu", "test"): "0.41 0.52 0.007 0.014",
    ("mtp", "Mo", "train"): "2.48 3.57 0.084 0.139",
    ("mtp", "Mo", "test"): "2.94 3.98 0.090 0.151",
    ("mtp", "Si", "train"): "1.88 3.28 0.045 0.073",
    ("mtp", "Si", "test"): "2.31 3.03 0.056 0.088",
    ("mtp", "Ge", "train"): "1.91 4.51 0.042 0.064",
    ("snap", "Cu", "train"): "0.61 1.04 0.032 0.068",
    ("snap", "Cu", "test"): "0.53 0.75 0.037 0.083",
    ("snap", "Mo", "train"): "5.05 8.53 0.204 0.373",
    ("snap", "Mo", "test"): "5.48 9.25 0.207 0.376",
    ("snap", "Si", "train"): "6.14 8.13 0.118 0.189",
    ("snap", "Si", "test"): "6.44 8.06 0.133 0.205",
    ("snap", "Ge", "train"): "7.60 11.95 0.186 0.290",
    ("qsnap", "Cu", "train"): "0.62 1.41 0.019 0.042",
    ("qsnap", "Cu", "test"): "0.56 0.77 0.024 0.055",
    ("qsnap", "Mo", "train"): "2.84 4.73 0.173 0.323",
    ("qsnap", "Mo", "test"): "2.77 4.04 0.184 0.333",
    ("qsnap", "Si", "train"): "4.07 7.07 0.106 0.166",
    ("qsnap", "Si", "test"): "3.81 5.51 0.116 0.177",
    ("qsnap", "Ge", "train"): "6.53 10.55 0.131 0.196",
}
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


def slow(family: str, symbol: str, split: str) -> tuple:
    """Marks of the large sets, where a test set says the same."""
    return (pytest.mark.slow,) if split == "train" and (family, symbol) != ("snap", "Ge") else ()


def load(shared, family: str, symbol: str):
    if family == "mtp":
        return mtp.load(shared / f"reference/mtp/models/{symbol}_mlearn.mtp", [symbol])
    return snap.load(shared / f"reference/snap/models/{symbol}_mlearn_{family}.snap")


@pytest.mark.parametrize(("family", "symbol", "split"), [pytest.param(*key, marks=slow(*key)) for key in ERRORS])
def test_errors_are_those_published(shared, family, symbol, split):
    potential, params = load(shared, family, symbol)
    with gzip.open(shared / f"data/mlearn_{symbol}/{split}.xyz.gz", "rt") as file:
        frames = read(file, ":", format="extxyz")
    assert all((frame.numbers == atomic_numbers[symbol]).all() for frame in frames)
    cases = [
        Case(symbol, f.positions, np.array(f.cell), 0 * f.numbers, {"E": f.get_potential_energy(), "F": f.get_forces()})
        for f in frames
    ]

    @partial(jax.jit, compiler_options=LONG_PROGRAM)
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
    written = " ".join(f"{x:.{digits}f}" for x, digits in zip(found, (2, 2, 3, 3), strict=True))
    assert written == ERRORS[family, symbol, split]
