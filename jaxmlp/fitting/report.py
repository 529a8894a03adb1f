"""Figures and tables of a fit: how it learned, and how large its errors are, of what and where."""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmlp.fitting.accuracy import Accuracy, Error, Predictions, accuracy, by_element, by_group
from jaxmlp.fitting.batches.batch import PER_ATOM
from jaxmlp.fitting.calibration import NORMAL, Calibration, calibration_figure, deviations
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.units import GPa

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Sets = Mapping[str, tuple[Sequence[Structure], Predictions]]  # by name: "train", "validation", "test"
Calibrations = Mapping[str, Mapping[str, Calibration]]  # by name of the set and kind
POINTS = 20000  # beyond, a parity plot shows densities
COLORS = (("C0", "Blues"), ("C3", "Reds"), ("C2", "Greens"), ("C4", "Purples"))
# What is reported: its name in tables, its unit there, and how many of these are one of `Accuracy`.
UNITS = {
    "energy": ("energy", "meV/atom", 1000.0),
    "forces": ("forces", "meV/Å", 1000.0),
    "virial": ("virial", "meV/atom", 1000.0),
    "stress": ("stress", "GPa", 1 / GPa),
    "dipole": ("dipole", "me Å/atom", 1000.0),
    "charges": ("charges", "me", 1000.0),
}
ALWAYS = ("energy", "forces", "virial", "stress")  # have a column in every table, the others where there are labels
PARITY = {  # labels of axes
    "energy": "energy (eV/atom)", "forces": "forces (eV/Å)", "virial": "virial (eV/atom)", "stress": "stress (GPa)",
    "dipole": "dipole (e Å/atom)", "charges": "charges (e)",
}  # fmt: skip


class Report(NamedTuple):
    """A text with tables, and the same numbers as a dictionary that JSON can hold."""

    text: str
    data: dict[str, Any]


def learning_figure(history: Sequence[Mapping[str, float]]) -> "Figure":
    """Return the figure of a training's history: loss, and errors by kind, against the epoch; all axes logarithmic.

    Args:
        history: rows of `train` or `train_snes`; solid lines are training (loss, train_*), dashed ones validation
            (validation_loss, rmse_*).

    Raises:
        ValueError: no rows.
    """
    from matplotlib.figure import Figure

    if not history:
        raise ValueError("a history without rows has no figure.")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, style, label in (("loss", "-", "training"), ("validation_loss", "--", "validation")):
        _curve(left, history, name, 1.0, style, "C0", label)
    for (kind, (label, unit, scale)), color in zip(UNITS.items(), ("C0", "C3", "C2", "C4", "C5", "C6")):
        text = f"{label} ({unit})"
        for name, style in ((f"train_{kind}", "-"), (f"rmse_{kind}", "--")):
            if _curve(right, history, name, scale, style, color, text):
                text = ""
    left.set(ylabel="loss")
    right.set(ylabel="error, validation dashed")
    for ax in (left, right):
        ax.set(xlabel="epoch", xscale="log", yscale="log")
        if ax.lines:
            ax.legend()
    return figure


def _curve(ax: "Axes", history, name: str, scale: float, style: str, color: str, label: str) -> bool:
    """Draw a column of the history where it has values; return whether there were any."""
    points = [(row["epoch"], row[name] * scale) for row in history if row.get(name) is not None]
    if points:
        marker = "." if len(points) == 1 else None
        ax.plot(*zip(*points), style, color=color, marker=marker, label=label or None)
    return bool(points)


def parity_figure(sets: Sets) -> "Figure":
    """Return the figure of predictions against labels: energies per atom (eV), force components (eV/Å), and the
    components of stress (GPa), or of the virial per atom (eV) where there are no volumes, dipoles per atom (e Å),
    charges (e); RMSE and MAE in the legends.

    Raises:
        ValueError: no labels that were predicted.
    """
    from matplotlib.figure import Figure

    panels = {kind: _pairs(sets, kind) for kind in UNITS}
    panels.pop("virial" if panels["stress"] else "stress")
    panels = {kind: found for kind, found in panels.items() if found}
    if not panels:
        raise ValueError("none of the structures has labels of what was predicted.")
    figure = Figure(figsize=(4.2 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (kind, found) in zip(axes, panels.items(), strict=True):
        _parity(ax, kind, found)
    return figure


def _parity(ax: "Axes", kind: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """One panel: reference (x) and prediction (y) of every set, and the diagonal."""
    from matplotlib.lines import Line2D

    values = np.concatenate([x for pair in found.values() for x in pair])
    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    handles = []
    for (name, (x, y)), (color, colors) in zip(found.items(), COLORS * len(found)):
        if len(x) > POINTS:
            ax.hexbin(x, y, gridsize=120, extent=limits * 2, bins="log", mincnt=1, cmap=colors, alpha=0.7, lw=0)
        else:
            ax.plot(x, y, ".", ms=3, color=color, alpha=0.5, rasterized=len(x) > 1000)
        d = y - x
        scale, unit = (1.0, "GPa") if kind == "stress" else (1000.0, UNITS[kind][1])
        rmse, mae = scale * np.sqrt(np.mean(d**2)), scale * np.mean(np.abs(d))
        label = f"{name}: RMSE {rmse:.3g}, MAE {mae:.3g} {unit}"
        handles.append(Line2D([], [], marker="o", ls="", color=color, label=label))
    ax.plot(limits, limits, color="0.4", lw=0.8, zorder=0)
    unit = PARITY[kind]
    ax.set(xlabel=f"reference {unit}", ylabel=f"predicted {unit}", xlim=limits, ylim=limits, aspect="equal")
    ax.legend(handles=handles, fontsize="small", loc="upper left")


def _pairs(sets: Sets, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Labels and predictions of one kind as flat arrays, for the sets that have some."""
    label = "virial" if kind == "stress" else kind
    found = {}
    for name, (structures, predictions) in sets.items():
        values = getattr(predictions, label)
        if values is None:
            continue
        pairs = []
        for s, y in zip(structures, values, strict=True):
            x = getattr(s, label)
            if x is None or (kind == "stress" and not all(s.system.pbc)):
                continue
            divisor = 1.0 if kind in PER_ATOM else float(len(s))
            if kind == "stress":
                divisor = -s.system.volume * GPa
            pairs.append((np.ravel(x) / divisor, np.ravel(y) / divisor))
        if pairs:
            reference, predicted = (np.concatenate(x) for x in zip(*pairs))
            found[name] = reference, predicted
    return found


def final_report(sets: Sets) -> Report:
    """Return RMSE and MAE of every set: of all, of every group of configurations, of the forces on every element.

    Energies and virials per atom are in meV, forces in meV/Å, stresses in GPa, dipoles per atom in me Å, charges in me;
    the last two only where there are some. The dictionary has "units" and "sets";
    each set "structures", "atoms", "all", "groups" (where there are several) and "elements"; an error is {"rmse",
    "mae", "count"}.

    Raises:
        ValueError: no sets.
    """
    if not sets:
        raise ValueError("a report needs at least one set of structures.")
    data: dict[str, Any] = {"units": {}, "sets": {}}
    wholes = {name: accuracy(*pair) for name, pair in sets.items()}
    columns = [kind for kind in UNITS if kind in ALWAYS or any(getattr(a, kind) for a in wholes.values())]
    data["units"] = {kind: UNITS[kind][1] for kind in columns}
    lines, details = [_heading("", columns)], []
    for name, (structures, predictions) in sets.items():
        whole = wholes[name]
        groups = by_group(structures, predictions)
        elements = by_element(structures, predictions)
        several = len(groups) > 1
        data["sets"][name] = {
            "structures": len(structures),
            "atoms": sum(map(len, structures)),
            "all": _numbers(whole),
            "groups": {group: _numbers(found) for group, found in groups.items()} if several else {},
            "elements": {element: _number(e, "forces") for element, e in elements.items()},
        }
        lines.append(_line(name, len(structures), whole, columns))
        if several:
            sizes = {g: sum(s.group == g for s in structures) for g in groups}
            rows = [_line(g, sizes[g], e, columns) for g, e in groups.items()]
            details += ["", _heading(f"{name}, by group", columns), *rows]
        if len(elements) > 1:
            details += ["", f"{name}, forces (meV/Å) by element: RMSE / MAE"]
            details += [f"  {element:<4}{1000 * e.rmse:10.4g} /{1000 * e.mae:10.4g}" for element, e in elements.items()]
    return Report("\n".join([*lines, *details]) + "\n", data)


def _heading(title: str, columns: Sequence[str]) -> str:
    names = "".join(f"{f'{UNITS[kind][0]} ({UNITS[kind][1]})':>22}" for kind in columns)
    return f"{title:<24}{'structures':>12}{names}\n{'':<36}" + f"{'RMSE / MAE':>22}" * len(columns)


def _line(name: str, count: int, found: Accuracy, columns: Sequence[str]) -> str:
    """One row of a table."""
    cells = []
    for kind in columns:
        scale = UNITS[kind][2]
        e = getattr(found, kind)
        cells.append("" if e is None else f"{scale * e.rmse:.4g} / {scale * e.mae:.4g}")
    title = name if len(name) < 24 else name[:20] + "..."
    return f"{title:<24}{count:>12}" + "".join(f"{c:>22}" for c in cells)


def _numbers(found: Accuracy) -> dict[str, Any]:
    return {kind: _number(e, kind) for kind in UNITS if (e := getattr(found, kind)) is not None}


def _number(e: Error, kind: str) -> dict[str, float]:
    scale = UNITS[kind][2]
    return {"rmse": scale * e.rmse, "mae": scale * e.mae, "count": e.count}


def calibration_report(calibrations: Calibrations) -> Report:
    """Return how the spread of a committee compares with its errors: text, and {set: {kind: numbers}}."""
    title = "spread of the committee"
    names = ("RMSE", "spread", "RMS z", "within 1", "within 2", "area", "Spearman", "scale")
    lines = [f"{title:<36}" + "".join(f"{name:>11}" for name in names)]
    data: dict[str, Any] = {}
    for name, kinds in calibrations.items():
        data[name] = {}
        for kind, found in kinds.items():
            label, unit, scale = UNITS[kind]
            numbers = found._asdict() | {"rmse": scale * found.rmse, "spread": scale * found.spread}
            data[name][kind] = {k: v if np.isfinite(v) else None for k, v in numbers.items()}
            words = f"{scale * found.rmse:>11.4g}{scale * found.spread:>11.4g}{found.z:>11.3f}"
            words += f"{found.within_1:>11.3f}{found.within_2:>11.3f}{found.area:>11.3f}{found.spearman:>11.3f}"
            lines.append(f"{f'{name}, {label} ({unit})':<36}{words}{found.scale:>11.3f}")
    lines.append(f"{'calibrated normal errors':<36}{'':>22}{1:>11.3f}{NORMAL[0]:>11.3f}{NORMAL[1]:>11.3f}{0:>11.3f}"
                 f"{'':>11}{1:>11.3f}")  # fmt: skip
    return Report("\n".join(lines) + "\n", data)


def write_report(
    folder: str | PathLike,
    history: Sequence[Mapping[str, float]],
    sets: Sets,
    *,
    spreads: Mapping[str, Predictions] | None = None,
    calibrations: Calibrations | None = None,
) -> list[Path]:
    """Write report.txt, report.json, parity.png and (of a history with rows) learning.png; return their paths.

    Args:
        spreads: standard deviations of a committee's predictions for some of the sets: what their comparison with the
            errors says goes into the report too, and into calibration_<set>.png.
        calibrations: this comparison, see `fitting.calibration`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = final_report(sets)
    if calibrations:
        spread = calibration_report(calibrations)
        report = Report(f"{report.text}\n{spread.text}", report.data | {"calibration": spread.data})
    paths = [folder / "report.txt", folder / "report.json", folder / "parity.png"]
    paths[0].write_text(report.text, encoding="utf-8")
    paths[1].write_text(json.dumps(report.data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    parity_figure(sets).savefig(paths[2], dpi=150)
    if history:
        paths.append(folder / "learning.png")
        learning_figure(history).savefig(paths[3], dpi=150)
    for name, spread in (spreads or {}).items():
        pairs = {kind: pair for kind, pair in deviations(*sets[name], spread).items() if pair[1].any()}
        if pairs:
            paths.append(folder / f"calibration_{name}.png")
            axes = {kind: (f"{UNITS[kind][0]} ({UNITS[kind][1]})", UNITS[kind][2]) for kind in pairs}
            calibration_figure(pairs, axes).savefig(paths[-1], dpi=150)
    return paths
