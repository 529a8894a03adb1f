"""Moment tensor potentials of levels 16, 20 and 24: energy and forces against motep's C engine.

Microseconds per atom, one core, float64. jaxmlp runs on a given neighbour list (skin 0), motep with its own; motep is
run in a process of its own, with the Python of `MOTEP_PYTHON` (it may need an environment of its own), in turns.
"""

import os
import sys

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, rival, seconds, setup

FILES = {  # model: elements, crystal
    "mlip2_cubic_level16": (None, None),
    "Mo_mlearn": (["Mo"], ("Mo", "bcc", 3.17, 8)),
    "Si_mlearn": (["Si"], ("Si", "diamond", 5.43, 5)),
}
MOTEP = """
from motep.calculator import MTP
from motep.io.mlip.mtp import read_mtp

data = read_mtp(arguments[0])
data.species = sorted(set(numbers.tolist()))
atoms.calc = MTP(data, engine="cext", mode="run")
"""


def structure(name: str, quick: bool):
    """ASE atoms of about 1,000 (quick: 100) atoms."""
    from ase import Atoms
    from ase.build import bulk

    elements, crystal = FILES[name]
    if crystal is None:
        case = np.load(SHARED / "mtp" / "cases" / f"{name}.npz")
        atoms = Atoms(case["c00_numbers"], case["c00_positions"], cell=case["c00_cell"], pbc=True)
        atoms *= (1, 1, 1) if quick else (3, 3, 3)
    else:
        element, lattice, a, repeat = crystal
        atoms = bulk(element, lattice, a=a, cubic=True) * ((3 if quick else repeat,) * 3)
    atoms.rattle(0.05, seed=1)
    return atoms, elements or sorted(set(atoms.get_chemical_symbols()))


def main(quick: bool = False) -> None:
    pin()
    os.environ.setdefault("NPROC", "1")
    setup()
    import jaxmlp as jm

    rows = []
    for name in FILES:
        atoms, elements = structure(name, quick)
        path = SHARED / "mtp" / "models" / f"{name}.mtp"
        run, _, slots = forces_on_a_list(jm.load(path, species=elements), atoms)
        first = seconds(run)
        ours = medians({"ours": run}, 3)["ours"]
        n = len(atoms)
        rows.append({
            "benchmark": "MTP energy and forces", "system": name, "atoms": n, "code": "jaxmlp", "speedup": 1.0,
            "us_per_atom": ours / n * 1e6, "first_call_s": first, "slots": slots,
        })  # fmt: skip
        theirs = rival("MOTEP_PYTHON", MOTEP, atoms, str(path))
        if theirs is None:
            continue
        difference = np.abs(theirs[1] - run()[1]).max()
        rows.append({
            "benchmark": "MTP energy and forces", "system": name, "atoms": n, "code": "motep (C)",
            "us_per_atom": theirs[0] / n * 1e6, "speedup": theirs[0] / ours, "max_force_difference": float(difference),
        })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    main("--quick" in sys.argv)
