"""SNAP, 2J = 6 and 8: energy and forces against LAMMPS' ML-SNAP.

Microseconds per atom, one core, float64. jaxmlp runs on a given neighbour list; LAMMPS evaluates with its list kept
(`run N pre no post no` of steps in which nothing moves), in turns.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, seconds, setup, start_lammps

MODELS = {  # model: crystal, lattice constant, repeats
    "Mo_mlearn_snap": ("Mo", "bcc", 3.17, 8),  # 2J = 6
    "Si_mlearn_snap": ("Si", "diamond", 5.43, 5),  # 2J = 8
    "WBe_Wood_PRB2019": ("W", "bcc", 3.18, 8),  # 2J = 8, with ZBL; two elements in the file, one in the crystal
    "Si_mlearn_qsnap": ("Si", "diamond", 5.43, 5),  # 2J = 8, quadratic
}
STEPS = 5


def lammps(folder: Path, path: Path, atoms):
    """Return a function that makes LAMMPS evaluate `STEPS` times, and the forces."""
    from ase.io.lammpsdata import write_lammps_data

    symbol = atoms.get_chemical_symbols()[0]
    write_lammps_data(folder / "s.data", atoms, atom_style="atomic", masses=True, specorder=[symbol])
    for ending in (".snapcoeff", ".snapparam"):
        text = path.with_suffix(ending).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("diagonalstyle")]
        (folder / path.with_suffix(ending).name).write_text("\n".join(lines) + "\n")
    recipe = path.read_text().splitlines()
    lines = []
    for line in recipe:
        words = line.split()
        if words[:1] == ["pair_coeff"] and words[1:3] == ["*", "*"]:
            at = next(k for k, w in enumerate(words) if w.endswith(".snapparam"))
            words = [*words[: at + 1], symbol]
        elif words[:1] == ["pair_coeff"] and words[1:3] != ["1", "1"]:
            continue
        lines.append(" ".join(words))
    code = start_lammps()
    with contextlib.chdir(folder):  # recipes name files beside them
        code.commands_list([
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "newton on", "read_data s.data",
            *lines, "neighbor 0.3 bin", "neigh_modify delay 1000000 every 1000000 check no", "run 0",
        ])  # fmt: skip
    forces = np.array(code.numpy.extract_atom("f"))[: len(atoms)]
    order = np.argsort(code.numpy.extract_atom("id")[: len(atoms)])
    return (lambda: code.command(f"run {STEPS} pre no post no")), forces[order]


def main(quick: bool = False) -> None:
    pin()
    os.environ.setdefault("NPROC", "1")
    setup()
    from ase.build import bulk

    import jaxmlp as jm

    rows = []
    for name, (element, lattice, a, repeat) in MODELS.items():
        atoms = bulk(element, lattice, a=a, cubic=True) * ((3 if quick else repeat,) * 3)
        atoms.rattle(0.05, seed=1)
        path = SHARED / "snap" / "models" / f"{name}.snap"
        run, _, slots = forces_on_a_list(jm.load(path), atoms)
        first = seconds(run)
        n = len(atoms)
        functions = {"jaxmlp": run}
        try:
            with tempfile.TemporaryDirectory() as folder:
                functions["LAMMPS"], theirs = lammps(Path(folder), path, atoms)
        except ImportError:
            theirs = None
        times = medians(functions, 5)
        rows.append({
            "benchmark": "SNAP energy and forces", "system": name, "atoms": n, "code": "jaxmlp", "speedup": 1.0,
            "us_per_atom": times["jaxmlp"] / n * 1e6, "first_call_s": first, "slots": slots,
        })  # fmt: skip
        if theirs is not None:
            other = times["LAMMPS"] / STEPS
            rows.append({
                "benchmark": "SNAP energy and forces", "system": name, "atoms": n, "code": "LAMMPS ML-SNAP",
                "us_per_atom": other / n * 1e6, "speedup": other / times["jaxmlp"],
                "max_force_difference": float(np.abs(theirs - run()[1]).max()),
            })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    main("--quick" in sys.argv)
