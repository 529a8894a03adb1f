"""Training: the accuracy that a budget of CPU time buys, and epochs against those of mace-torch and deepmd-kit.

    python benchmarks/training.py [3bpa] [pbte] [speed] [--only NAME] [--output benchmarks] [--folder FOLDER]

writes TRAINING.md and training.json; what is not run stays as it was. All on one core. `3bpa` trains on the 450 + 50
configurations at 300 K and tests on those at 300 and 600 K; FOLDER keeps checkpoints, so that a run that was stopped
goes on. `pbte` fits a NEP to GPUMD's example by gradients and by SNES. `speed` needs the interpreters MACE_PYTHON
(mace-torch) and DEEPMD_PYTHON (deepmd-kit, with TensorFlow and PyTorch); ours and theirs make epochs in turns, so that
a drifting machine slows both.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import machine, pin, setup

if __name__ == "__main__":
    pin()  # before jax counts the cores
setup(x64=True)

from training_3bpa import DATA, PUBLISHED, Row, ace_3bpa, count, mace_3bpa  # noqa: E402
from training_speed import dp_speed, mace_speed  # noqa: E402

from jaxmlp import fitting  # noqa: E402

# PbTe: NEP by gradients, and by evolution as in GPUMD

NEP = {"family": "nep", "cutoff": [8.0, 4.0], "n_max": [4, 4], "basis_size": [8, 8], "l_max": [4, 2, 0], "neurons": 30}


def pbte(folder: Path, model: str, evaluations: int, **settings) -> list[Row]:
    """Fit a NEP to the 25 configurations of GPUMD's example, in single precision.

    Args:
        evaluations: of energies and forces of a configuration, for each epoch.
        settings: of the fit; `epochs` are generations of SNES.
    """
    start = time.process_time()
    train = fitting.read_structures(DATA / "pbte_nep" / "train.xyz.gz")
    print_every = lambda row: row["epoch"] % 50 or print(row, flush=True)
    fitted = fitting.fit(
        {"potential": NEP, "data": {"check": False}, "precision": "float32"} | settings, train=train,
        output=str(folder / "pbte"), on_epoch=print_every,
    )  # fmt: skip
    found = fitted.parts["train"].accuracy
    return [{
        "model": model, "parameters": count(fitted.params), "epochs": settings["epochs"],
        "evaluations": evaluations * settings["epochs"], "cpu_minutes": (time.process_time() - start) / 60,
        "energy": 1e3 * found.energy.rmse, "forces": 1e3 * found.forces.rmse,
    }]  # fmt: skip


def pbte_gradient(folder: Path, epochs: int = 2200) -> list[Row]:
    """By Adam, with a larger weight of energies in the second half."""
    return pbte(
        folder / "gradient", "NEP4, Adam", 25, epochs=epochs, batch_size=5, ema=0.995, checkpoint_every=10_000,
        loss={"energy": {"values": [1.0, 60.0], "epochs": [epochs // 2]}, "forces": 1.0},
        optimizer={"learning_rate": {"start": 0.02, "end": 2e-5}, "clip": 10.0},
    )  # fmt: skip


def pbte_snes(folder: Path, generations: int = 15000, population: int = 50, batch: int = 5) -> list[Row]:
    """By SNES, with fewer configurations in a generation than GPUMD's all."""
    return pbte(
        folder / "snes", "NEP4, SNES", population * batch, method="snes", epochs=generations,
        snes={"population": population, "batch_size": batch, "sigma0": 0.01},
    )  # fmt: skip


# What is run and what is written

Runs = dict[str, tuple[str, str, dict[str, Callable[[Path], list[Row]]]]]
RUNS: Runs = {
    "3bpa": (
        "3BPA, trained at 300 K",
        "450 configurations to train on, 50 to choose the epoch by, 1669 at 300 K and 2138 at 600 K to test. Root mean "
        "square errors.",
        {"MACE": mace_3bpa, "ACE": ace_3bpa},
    ),
    "pbte": (
        "PbTe, GPUMD's example",
        "25 configurations of 250 atoms, all to train on. Root mean square errors; evaluations are those of energies, "
        "with forces, of one configuration, of gradients by the parameters too with Adam.",
        {"Adam": pbte_gradient, "SNES": pbte_snes},
    ),
    "speed": (
        "Epochs",
        "Medians after the first epoch; the ratio is that of CPU times, as the machine is shared. The first epoch "
        "compiles. mace-torch in eager mode, which is how it trains; deepmd-kit by its own training loops.",
        {
            "MACE, 32 channels": lambda _: mace_speed("32x0e+32x1o", 50),
            "MACE, 128 channels": lambda _: mace_speed("128x0e+128x1o", 20),
            "DP, float64": lambda _: dp_speed("float64"),
            "DP, float32": lambda _: dp_speed("float32"),
        },
    ),
}  # fmt: skip
REFERENCES = {
    "3bpa": [
        {"model": name} | dict(zip(("energy_300", "forces_300", "energy_600", "forces_600"), errors, strict=True))
        for name, errors in PUBLISHED.items()
    ],
    "pbte": [
        {"model": "NEP, GPUMD (SNES), published", "epochs": 20000, "evaluations": 20000 * 50 * 25, "energy": 0.41,
         "forces": 40.0},
    ],
}  # fmt: skip
COLUMNS = {
    "model": "model", "system": "system", "code": "code", "configurations": "configurations", "batch": "batch",
    "parameters": "parameters", "epochs": "epochs", "evaluations": "evaluations", "cpu_minutes": "CPU, min",
    "energy": "E, meV/atom", "forces": "F, meV/Å",
    "energy_300": "E 300 K, meV", "forces_300": "F 300 K, meV/Å", "energy_600": "E 600 K, meV",
    "forces_600": "F 600 K, meV/Å", "wall": "s/epoch", "cpu": "CPU s/epoch", "ratio": "ratio",
    "first": "first epoch, CPU s", "compilations": "compilations",
}  # fmt: skip


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    keys = [k for k in COLUMNS if any(k in row for row in rows)]
    lines = ["| " + " | ".join(COLUMNS[k] for k in keys) + " |", "|" + "---|" * len(keys)]
    return "\n".join(lines + ["| " + " | ".join(cell(row.get(k)) for k in keys) + " |" for row in rows])


def cell(value) -> str:
    """A number to three digits, or what else there is."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def report(record: Row) -> str:
    """The page of the record."""
    parts = [
        "# Training",
        "Written by `python benchmarks/training.py`, which says what is run. One core of a shared machine; CPU is the "
        "time of the processor, of compiling too.",
    ]
    for subject, (heading, text, names) in RUNS.items():
        done = [record[f"{subject}: {name}"] for name in names if f"{subject}: {name}" in record]
        if done:
            rows = [row for run in done for row in run["rows"]] + REFERENCES.get(subject, [])
            where = done[-1]["machine"]
            known = {name: v for name, v in where["versions"].items() if name in ("jax", "jaxlib", "jaxmlp", "numpy")}
            versions = ", ".join(f"{name} {version}" for name, version in known.items())
            last = f"{where['date']}, {where['cpu']} (shared), one core, Python {where['python']}, {versions}."
            parts += [f"## {heading}", text, table(rows), last]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what the command line asks for; write TRAINING.md and training.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=list(RUNS), help="some of " + ", ".join(RUNS))
    parser.add_argument("--only", help="one run of a subject, such as MACE")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the page")
    parser.add_argument("--folder", type=Path, help="of checkpoints; a temporary one if there is none")
    options = parser.parse_args()
    path = options.output / "training.json"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for subject in options.subjects:
            for name, run in RUNS[subject][2].items():
                if options.only not in (None, name):
                    continue
                rows = run(folder)
                # Read right before it is written: another run may have added to it.
                record = json.loads(path.read_text()) if path.exists() else {}
                record[f"{subject}: {name}"] = {"rows": rows, "machine": machine()}
                path.write_text(json.dumps(record, indent=1) + "\n")
                (options.output / "TRAINING.md").write_text(report(record))
                print(table(rows), flush=True)


if __name__ == "__main__":
    main()
