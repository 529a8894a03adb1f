"""The validation card as text, JSON and picture."""

import json
import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmlp.check import Card, Line

if TYPE_CHECKING:
    from rich.console import Console

COLORS = {"PASS": "green", "FAIL": "bold red", "WARN": "yellow", "INFO": "cyan"}


def describe(card: Card) -> str:
    """Return what was tested, in a line."""
    elements = card.system.to_ase().get_chemical_formula()
    name = type(card.potential).__name__
    return f"{name}, cutoff {card.potential.cutoff:g} Å, on {elements} ({len(card.system)} atoms)"


def print_card(card: Card, console: "Console") -> None:
    """Print the card as a table; reasons of failures below it."""
    from rich.table import Table

    table = Table(title=describe(card))
    for column, justify in (
        ("", "left"),
        ("test", "left"),
        ("measured", "right"),
        ("limit", "right"),
        ("unit", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for line in card.lines:
        color, limit = COLORS[line.verdict], "" if line.limit is None else f"{line.limit:.0e}"
        table.add_row(f"[{color}]{line.verdict}[/]", line.name, f"{line.value:.2g}", limit, line.unit)
    console.print(table)
    for line in card.lines:
        if line.verdict in ("FAIL", "WARN"):
            console.print(f"[{COLORS[line.verdict]}]{line.verdict}[/] {line.name}; why this limit: {line.reason}.")
    console.print("[green]all hard tests pass[/]" if card.passed else "[bold red]a hard test fails[/]")


def to_json(card: Card) -> dict[str, Any]:
    """Return the card as a dictionary that `json` writes; numbers that are not finite become null."""

    def number(x: float | None) -> float | None:
        return None if x is None or not math.isfinite(x) else float(x)

    def row(line: Line) -> dict[str, Any]:
        row = line._asdict() | {"verdict": line.verdict}
        return row | {"value": number(line.value), "limit": number(line.limit)}

    return {
        "potential": type(card.potential).__name__,
        "species": list(card.potential.species),
        "cutoff": card.potential.cutoff,
        "system": card.system.to_ase().get_chemical_formula(),
        "atoms": len(card.system),
        "passed": card.passed,
        "tests": [row(line) for line in card.lines],
        "dimers": {c.name: {"r": c.r.tolist(), "energy": [number(e) for e in c.energy.tolist()]} for c in card.curves},
        "energies": {
            k: {"time": t.tolist(), "energy": [number(e) for e in E.tolist()]} for k, (t, E) in card.drifts.items()
        },
    }


def write_json(card: Card, path: str | PathLike) -> None:
    """Write `to_json(card)` to a file."""
    Path(path).write_text(json.dumps(to_json(card), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_png(card: Card, path: str | PathLike) -> None:
    """Draw dimer curves, energy conservation and the verdicts on one page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(describe(card))
    axes = figure.subplot_mosaic([["curves", "runs"], ["text", "text"]])
    left, right, below = axes["curves"], axes["runs"], axes["text"]
    deepest = min((float(c.energy.min()) for c in card.curves), default=0.0)
    for curve in card.curves:
        left.plot(curve.r, curve.energy, label=curve.name)
    depth = max(1.0, -1.3 * deepest) if math.isfinite(deepest) else 5.0
    left.set(xlabel="distance (Å)", ylabel="dimer energy (eV)", ylim=(-depth, depth))
    left.axhline(0, color="0.8", zorder=0)
    for name, (t, energy) in card.drifts.items():
        right.plot(t, 1e6 * (energy - energy[0]), label=name, lw=1)
    right.set(xlabel="time (ps)", ylabel="change of total energy (µeV/atom)", title="constant-energy runs")
    for ax in (left, right):
        if ax.lines and len(ax.get_legend_handles_labels()[0]) <= 12:
            ax.legend(fontsize=8)
    below.axis("off")
    for k, line in enumerate(card.lines):
        limit = "" if line.limit is None else f"limit {line.limit:.0e}"
        color = COLORS[line.verdict].split()[-1]
        y = 1 - (k + 0.5) / max(len(card.lines), 18)
        below.text(0.02, y, line.verdict, color={"yellow": "darkorange", "cyan": "0.4"}.get(color, color), fontsize=8)
        below.text(0.09, y, f"{line.name}: {line.value:.2g} {line.unit}", fontsize=8)
        below.text(0.75, y, limit, fontsize=8)
    figure.savefig(path, dpi=130)
