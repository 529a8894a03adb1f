"""Comparisons with exact results, equations of state and other codes: rows, and the page and record they go to."""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import machine, pin, setup

import jaxmlp as jm

Runs = dict[str, tuple[str, Callable[[str], list["Row"]], Iterable[str]]]


class Row(NamedTuple):
    """One comparison.

    Args:
        value, error: ours, and its standard error.
        reference: what it should be; None for a p-value.
        sigmas: the difference in standard errors, ours and the reference's.
        tolerance: of the reference, where it is a fit or another simulation; None where it is exact.
    """

    quantity: str
    system: str
    value: float
    error: float | None
    reference: float | None
    sigmas: float
    tolerance: float | None = None

    @property
    def agrees(self) -> bool:
        """Within three standard errors and the tolerance."""
        near = self.tolerance is None or abs(self.value - self.reference) < self.tolerance
        return near and abs(self.sigmas) < 3


def compared(quantity, system, value, error, reference, tolerance=None, spread=0.0) -> Row:
    """Return the row of a value and a reference with a standard error `spread`."""
    value, error = float(value), float(error)
    return Row(quantity, system, value, error, reference, (value - reference) / np.hypot(error, spread), tolerance)


def fcc(cells: int, density: float, **options) -> jm.System:
    """Return 4 cells^3 particles (argon of mass 1 if not said) on an fcc lattice of the density."""
    a = (4 / density) ** (1 / 3)
    basis = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    R = (np.array(list(np.ndindex(cells, cells, cells)))[:, None] + basis).reshape(-1, 3) * a
    options = {"numbers": np.full(len(R), 18), "masses": np.ones(len(R))} | options
    return jm.System(R=R, box=np.eye(3) * cells * a, **options)


def table(rows: list[Row]) -> str:
    """Return the rows in Markdown."""
    number = lambda x: "" if x is None else f"{x:.5g}"
    lines = ["| quantity | system | ours | error | reference | tolerance | sigmas |", "|" + "---|" * 7]
    for r in rows:
        cells = [r.quantity, r.system, *map(number, (r.value, r.error, r.reference, r.tolerance)), f"{r.sigmas:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(title: str, introduction: str, runs: Runs, record: dict[str, Any]) -> str:
    """Return the page of the record."""
    parts = [f"# {title}", introduction]
    for key, (heading, _, names) in runs.items():
        done = [record[f"{key}: {name}"] for name in names if f"{key}: {name}" in record]
        if done:
            seconds, last = sum(run["seconds"] for run in done), done[-1]["machine"]
            versions = ", ".join(f"{name} {last['versions'][name]}" for name in ("jax", "jaxmlp", "numpy"))
            where = f"{last['date']}, {last['cpu']} (shared), one core, Python {last['python']}, {versions}"
            rows = [Row(*row) for run in done for row in run["rows"]]
            parts += [f"## {heading}", table(rows), f"{seconds:.0f} s together; {where}."]
    return "\n\n".join(parts) + "\n"


def main(description: str, stem: str, title: str, introduction: str, runs: Runs) -> None:
    """Run what the command line asks for; write STEM.md, in capitals, and stem.json beside it.

    A name after a colon, as in "thermostats:CSVR", chooses one run of a kind. Runs that are not repeated stay as they
    are.
    """
    pin()
    setup()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(runs), help="some of " + ",".join(runs))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the page")
    options = parser.parse_args()
    path = options.output / f"{stem}.json"
    for choice in options.only.split(","):
        key, _, one = choice.partition(":")
        _, function, names = runs[key]
        for name in [one] if one else names:
            start = time.perf_counter()
            rows = function(name)
            seconds = time.perf_counter() - start
            # Read right before it is written: another run may have added to it.
            record = json.loads(path.read_text()) if path.exists() else {}
            record[f"{key}: {name}"] = {"rows": rows, "seconds": seconds, "machine": machine()}
            path.write_text(json.dumps(record, indent=1))
            page = report(title, introduction, runs, record)
            (options.output / f"{stem.upper()}.md").write_text(page)
            print(table(rows), f"{seconds:.0f} s", sep="\n", flush=True)
