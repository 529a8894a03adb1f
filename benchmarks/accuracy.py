"""Errors of every family on the mlearn sets, fitted by `jaxmlp.fit`, beside the published ones, and what an atom costs.

    python benchmarks/accuracy.py fit Mo:snap Mo:ace ...   fit, and keep the row in accuracy.json
    python benchmarks/accuracy.py all                      every fit that has no row
    python benchmarks/accuracy.py cost                     time energies and forces of all fits kept, on one core
    python benchmarks/accuracy.py report                   write ACCURACY.md and pareto.png

Potentials go to OUT (accuracy_fits beside this file, which git ignores). Ni, Cu, Mo and Si have test sets; of Li and Ge
each of five parts of the training set is predicted by fits to the other four. Data: Zuo et al., J. Phys. Chem. A 124,
731 (2020); published errors: see PUBLISHED in `accuracy_report.py`.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

from common import pin

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
OUT = Path(os.environ.get("ACCURACY_FITS", HERE / "accuracy_fits"))
RECORD = HERE / "accuracy.json"
ELEMENTS = ("Ni", "Cu", "Mo", "Si", "Li", "Ge")
FOLDS = 5

# Published basis sizes and cutoffs: (rcutfac, twojmax) of SNAP and qSNAP, (cutoff, level) of MTP; of Li none is known.
SNAP = {"Ni": (4.1, 8), "Cu": (4.1, 8), "Mo": (4.6, 6), "Si": (4.9, 8), "Li": (5.1, 6), "Ge": (5.5, 8)}
QSNAP = {"Ni": (3.8, 6), "Cu": (3.9, 6), "Mo": (5.2, 6), "Si": (4.8, 8), "Li": (5.1, 6), "Ge": (4.9, 6)}
MTP = {"Ni": (4.0, 20), "Cu": (3.9, 20), "Mo": (5.2, 20), "Si": (4.7, 24), "Li": (5.1, 20), "Ge": (5.1, 24)}
PROJECTED = {  # passes, share of the data and weight of energies of each search for the radial functions of MTP
    "Mo": [(11, 0.25, 1e4), (8, 0.6, 2e4)],
    "Si": [(11, 0.25, 1e4)],
}
LAST = {"Ni": ("mse", 2e4), "Mo": ("mae", 300.0), "Si": ("mse", 1e3)}  # what the last linear fit of an MTP makes small
ACE = {  # cutoff, functions, weight of energies
    "Ni": (4.2, 1000, 1e4), "Cu": (4.2, 1000, 1e4), "Mo": (5.0, 1500, 1e4), "Si": (5.6, 2000, 3e3),
    "Li": (5.2, 1000, 1e4), "Ge": (5.8, 2000, 3e3),
}  # fmt: skip
LOCAL = {"Ni": 4.7, "Cu": 4.7, "Mo": 5.2, "Si": 5.0, "Li": 5.6, "Ge": 5.3}  # networks: two shells or three
FAMILIES = ("snap", "qsnap", "mtp", "gap", "nep", "ace", "bpnn", "dp", "painn", "mace")


def gradient(epochs: int, rate: float, optimizer: str = "adam", schedule: str = "exponential", **more) -> dict:
    """Errors of energies are weighted more in the last third; a moving average of the parameters.

    Virials, where a set has them: without, C12 of silicon is off by a third, and errors of energies are larger too.
    """
    return {
        "epochs": epochs, "batch_size": 4, "ema": 0.99,
        "loss": {"energy": {"values": [1.0, 100.0], "epochs": [2 * epochs // 3]}, "forces": 1.0, "virial": 0.3},
        "optimizer": {"name": optimizer, "clip": 10.0,
                      "learning_rate": {"schedule": schedule, "start": rate, "end": rate / 1000}},
    } | more  # fmt: skip


def muon(epochs: int, rate: float) -> dict:
    """Muon for matrices, one structure a step: DP of silicon has 5.3 meV/atom where Adam, four a step, left 13.9."""
    return gradient(epochs, rate, "muon", "linear", batch_size=1, ema=0.998, precision="float32")


def recipe(element: str, family: str) -> list[dict]:
    """Configurations of the fits that follow one another, each from what the one before has found."""
    if family == "snap":
        cutoff, twojmax = SNAP[element]
        # Neighbours weigh a fraction of the central atom, whose place at the pole is all that keeps bond angles and
        # bond lengths apart; with the usual 1.0 errors of forces are half as large again.
        weight, energy = (0.4, 1e3) if element in ("Si", "Ge") else (0.2, 5e3)
        return [
            {
                "potential": {"family": "snap", "rcutfac": cutoff, "twojmax": twojmax, "bzeroflag": False},
                "parameters": {"weight": [weight]},
                "method": "linear",
                "linear": {"solver": "ridge", "strength": 1e-7, "error": "mae",
                           "weights": {"energy": energy, "forces": 1.0}},
            }
        ]  # fmt: skip
    if family == "qsnap":
        cutoff, twojmax = QSNAP[element]
        return [{
            "potential": {"family": "snap", "rcutfac": cutoff, "twojmax": twojmax, "bzeroflag": False,
                          "quadraticflag": True},
            "parameters": {"weight": [0.3]}, "method": "linear",
            "linear": {"solver": "ridge", "strength": 1e-4, "weights": {"energy": 1e5, "forces": 1.0}},
        }]  # fmt: skip
    if family == "ace":
        cutoff, size, energy = ACE[element]
        return [{
            "potential": {"family": "ace", "cutoff": cutoff, "n_max": [12, 10, 6, 5], "l_max": [0, 6, 5, 4],
                          "size": size},
            "method": "linear",
            "linear": {"solver": "ridge", "strength": 1e-4, "weights": {"energy": energy, "forces": 1.0}},
        }]  # fmt: skip
    if family == "gap":
        points, energy, forces, virial = (4500, 5e-4, 0.06, 0.05) if element == "Mo" else (1500, 0.001, 0.1, 0.1)
        return [{
            "potential": {"family": "gap", "cutoff": LOCAL[element], "n_max": 8, "l_max": 8, "n_sparse": points},
            "method": "gpr", "gpr": {"sigma_energy": energy, "sigma_forces": forces, "sigma_virial": virial},
        }]  # fmt: skip
    if family == "mtp":
        cutoff, level = MTP[element]
        functions = 5 if level == 20 else 6
        identity = [[[[float(k == n) for k in range(8)] for n in range(functions)]]]
        potential = {"family": "mtp", "cutoff": cutoff, "inner": 1.9, "radial_size": 8, "level": level}
        ridge = {"solver": "ridge", "strength": 1e-5}
        # Radial functions by variable projection on a part of the data, then all that is linear on the whole of it.
        searches = [
            {"potential": potential, "method": "linear",
             "linear": ridge | {"vary": ["radial"], "passes": passes, "fraction": fraction,
                                "weights": {"energy": energy, "forces": 1.0}}}
            for passes, fraction, energy in PROJECTED.get(element, [(13, 0.2, 1e4)])
        ]  # fmt: skip
        error, weight = LAST.get(element, ("mse", 1e4))
        last = {"strength": 1e-7, "error": error, "weights": {"energy": weight, "forces": 1.0}}
        first = searches[0] | {"parameters": {"radial": identity}}
        return [first, *searches[1:], {"potential": potential, "method": "linear", "linear": ridge | last}]
    rc = LOCAL[element]
    potential, training = {
        "nep": ({"cutoff": [rc, rc], "n_max": [8, 6], "basis_size": [10, 8], "l_max": [4, 2, 1], "neurons": 50},
                gradient(400, 0.01)),
        "bpnn": ({"cutoff": rc, "n_radial": 12, "n_angular": 6, "nodes": [30, 30]}, muon(60, 0.005)),
        "dp": ({"cutoff": rc, "inner": 2.0, "sel": [80], "neuron": [16, 32, 64], "axis": 8, "nodes": [100, 100]},
               muon(60, 0.005)),
        "painn": ({"cutoff": rc, "n_features": 48, "n_interactions": 2}, muon(50, 0.005)),
        "mace": ({"cutoff": rc, "hidden": "16x0e+16x1o", "max_ell": 2, "radial_mlp": [32, 32]}, muon(60, 0.006)),
    }[family]  # fmt: skip
    return [{"potential": {"family": family, **potential}} | training]


def fitted(element: str, family: str, sets: dict, output: str | None):
    """The last of the fits of a recipe."""
    import jaxmlp as jm

    found, last = None, recipe(element, family)
    for k, config in enumerate(last):
        start = None if found is None else (found.potential, found.params)
        folder = output if k == len(last) - 1 else None
        found = jm.fit(config | {"output": folder, "resume": False}, start=start, **sets)
    return found


def sets_of(element: str):
    """Training set, and test set or None."""
    from jaxmlp.fitting import read_structures

    folder = DATA / f"mlearn_{element}"
    test = folder / "test.xyz.gz"
    return read_structures(folder / "train.xyz.gz"), read_structures(test) if test.exists() else None


def errors(accuracy) -> dict:
    e, f = accuracy.energy, accuracy.forces
    return {"energy_mae": 1e3 * e.mae, "energy_rmse": 1e3 * e.rmse, "forces_mae": f.mae, "forces_rmse": f.rmse}


def fit(element: str, family: str) -> dict:
    import jax
    import numpy as np

    from jaxmlp.fitting import accuracy

    train, test = sets_of(element)
    begin = time.perf_counter()
    row = {"element": element, "family": family}
    sets = {"train": train} if test is None else {"train": train, "test": test}
    found = fitted(element, family, sets, str(OUT / f"{element}_{family}"))
    row["seconds"] = time.perf_counter() - begin
    row["parameters"] = int(sum(np.size(x) for x in jax.tree.leaves(found.params)))
    row["train"] = errors(found.parts["train"].accuracy)
    if test is not None:
        row["test"] = errors(found.parts["test"].accuracy)
        return row
    held, found = held_out(element, family, train, found)
    row["test"] = errors(accuracy(held, found)) | {"folds": FOLDS}
    return row


def held_out(element: str, family: str, train, found):
    """Every structure, and predictions by the fit that has not seen it."""
    from jaxmlp.fitting import cross_validate, kfold, predict_structures
    from jaxmlp.fitting.accuracy import without_atoms

    stages = recipe(element, family)
    if [s.get("method") for s in stages] == ["linear"]:
        bare, atoms = without_atoms(found.potential, found.params)
        options = {"energies": atoms, "fit_energies": True, **stages[0]["linear"]}
        parts = [
            (f.held, found.potential, found.potential.shifted(f.result.params, atoms))
            for f in cross_validate(found.potential, bare, train, FOLDS, **options)
        ]
    else:
        fits = ((held, fitted(element, family, {"train": rest}, None)) for rest, held in kfold(train, FOLDS))
        parts = [(held, f.potential, f.params) for held, f in fits]
    predicted = [predict_structures(potential, params, held, virial=False) for held, potential, params in parts]
    joined = {
        k: None if getattr(predicted[0], k) is None else [x for p in predicted for x in getattr(p, k)]
        for k in predicted[0]._fields
    }
    return [s for held, _, _ in parts for s in held], type(predicted[0])(**joined)


def record(row: dict) -> None:
    """Put a row into accuracy.json in place of that of the same fit; safe with several processes."""
    with open(HERE / ".accuracy.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = json.loads(RECORD.read_text()) if RECORD.exists() else []
        same = [r for r in rows if (r["element"], r["family"]) == (row["element"], row["family"])]
        rows = [r for r in rows if r not in same] + [(same[0] if same else {}) | row]
        rows.sort(key=lambda r: (ELEMENTS.index(r["element"]), FAMILIES.index(r["family"])))
        RECORD.write_text(json.dumps(rows, indent=1) + "\n")


def main(command: str, *names: str) -> None:
    if command == "report":
        from accuracy_report import report

        report(json.loads(RECORD.read_text()))
        return
    if not os.environ.get("ACCURACY_UNPINNED"):
        pin()
    import jax

    jax.config.update("jax_enable_x64", True)
    rows = json.loads(RECORD.read_text()) if RECORD.exists() else []
    if command == "cost":
        from accuracy_report import cost

        for row in rows:
            if not names or f"{row['element']}:{row['family']}" in names:
                record({k: row[k] for k in ("element", "family")} | cost(OUT, row["element"], row["family"]))
        return
    if command == "all":
        there = {(r["element"], r["family"]) for r in rows}
        names = tuple(f"{e}:{f}" for f in FAMILIES for e in ELEMENTS if (e, f) not in there)
    for name in names:
        row = fit(*name.split(":"))
        record(row)
        e = {k: {q: round(v, 4) for q, v in row[k].items()} for k in ("train", "test")}
        print(name, f"{row['seconds']:.0f} s", e, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
