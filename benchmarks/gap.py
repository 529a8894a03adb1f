"""GAP: energy and forces of silicon with 1,000 sparse points, and of published-style models, against quippy.

Microseconds per atom, one core, float64. jaxmlp runs on a given neighbour list (skin 0), quippy with its own, in a
process of its own with the Python of `QUIPPY_PYTHON`, in turns. The silicon model is written by `jaxmlp.save`: sparse
points of random neighbourhoods and random weights, which cost what others do. The last row is the peak memory of 4,096
atoms, in a process of its own.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, rival, seconds, setup

QUIPPY = """
import os
from quippy.potential import Potential

os.chdir(os.path.dirname(arguments[0]))
atoms.calc = Potential("IP GAP", param_filename=os.path.basename(arguments[0]))
"""
FILES = {  # model: crystal, lattice constant, repeats
    "gap_InP_2b_3b": ("InP", "zincblende", 5.87, 4),
    "gap_InP_2b_soap": ("InP", "zincblende", 5.87, 4),
    "gap_InP_turbo": ("InP", "zincblende", 5.87, 4),
}


def silicon(repeat: int):
    """The model of 1,000 sparse points, and rattled diamond."""
    import jax
    from ase.build import bulk

    from jaxmlp.potentials.gap import gap

    potential = gap((14,), n_max=8, l_max=8, n_sparse=1000, n_sparse_pairs=0)
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * ((repeat,) * 3)
    atoms.rattle(0.05, seed=1)
    return (potential, potential.init(jax.random.key(0))), atoms


def peak(repeat: int) -> None:
    """Print a row with the peak memory of this process after forces of silicon."""
    pin()
    setup()
    loaded, atoms = silicon(repeat)
    run, *_ = forces_on_a_list(loaded, atoms)
    run()
    time = medians({"ours": run}, 3)["ours"]
    emit([{
        "benchmark": "GAP energy and forces", "system": "Si, SOAP, 1000 sparse points", "atoms": len(atoms),
        "code": "jaxmlp", "us_per_atom": time / len(atoms) * 1e6,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }])  # fmt: skip


def main(quick: bool = False) -> None:
    pin()
    os.environ.setdefault("NPROC", "1")
    setup()
    from ase.build import bulk

    import jaxmlp as jm

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = []
        loaded, atoms = silicon(2 if quick else 4)
        path = Path(folder) / "gap.xml"
        jm.save(path, *loaded)
        models.append(("Si, SOAP, 1000 sparse points", path, loaded, atoms))
        for name, (element, lattice, a, repeat) in FILES.items():
            crystal = bulk(element, lattice, a=a, cubic=True) * ((2 if quick else repeat,) * 3)
            crystal.rattle(0.05, seed=1)
            file = SHARED / "gap" / "models" / f"{name}.xml"
            models.append((name, file, jm.load(file), crystal))
        for name, file, loaded, atoms in models:
            run, _, slots = forces_on_a_list(loaded, atoms)
            first = seconds(run)
            ours = medians({"ours": run}, 5)["ours"]
            n = len(atoms)
            common = {"benchmark": "GAP energy and forces", "system": name, "atoms": n}
            rows.append(common | {
                "code": "jaxmlp", "speedup": 1.0, "us_per_atom": ours / n * 1e6, "first_call_s": first, "slots": slots,
            })  # fmt: skip
            theirs = rival("QUIPPY_PYTHON", QUIPPY, atoms, str(file))
            if theirs is not None:
                rows.append(common | {
                    "code": "quippy", "us_per_atom": theirs[0] / n * 1e6, "speedup": theirs[0] / ours,
                    "max_force_difference": float(np.abs(theirs[1] - run()[1]).max()),
                })  # fmt: skip
    command = [sys.executable, __file__, "--peak", "2" if quick else "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows += json.loads(done.stdout.splitlines()[-1])
    emit(rows)


if __name__ == "__main__":
    if "--peak" in sys.argv:
        peak(int(sys.argv[-1]))
    else:
        main("--quick" in sys.argv)
