"""What the commands of dynamics share: options, a simulation from them, and what a run prints and writes."""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from jaxmlp.commands.options import BadInput, Failed, console, read_system

if TYPE_CHECKING:
    import numpy as np

    from jaxmlp import md as dynamics
    from jaxmlp.potential import Params, Potential


Start = Annotated[
    Path | None, typer.Argument(help="structure file that ASE reads; not with --restart", show_default=False)
]
Temperature = Annotated[
    float | None,
    typer.Option(help="K; at constant energy that of the velocities drawn at the start", show_default="300"),
]
TemperatureEnd = Annotated[float | None, typer.Option(help="K, at the end of a linear ramp from --temperature")]
Pressure = Annotated[float | None, typer.Option(help="GPa")]
PressureEnd = Annotated[float | None, typer.Option(help="GPa, at the end of a linear ramp from --pressure")]
TauPressure = Annotated[float | None, typer.Option(help="fs, time of the barostat", show_default="1000")]
Cell = Annotated[
    Literal["isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y", "z"] | None,
    typer.Option(help="how the cell may change", show_default="isotropic"),
]
BulkModulus = Annotated[
    float | None, typer.Option(help="GPa, an estimate with which --tau-pressure is the time in which volumes relax")
]
GLEFile = Annotated[
    Path | None, typer.Option(help="matrices A, C: an input of i-PI (as of GLE4MD), or plain numbers, A in 1/fs")
]
Fixed = Annotated[str | None, typer.Option(help="atoms held where they are, counted from 0, as 0-9,12")]
Steps = Annotated[int, typer.Option(help="steps to do (after a restart: further steps)", min=1)]
Log = Annotated[Path | None, typer.Option(help="thermodynamic log as CSV (fs, eV, K, eV/Å^3, Å^3)")]
LogEvery = Annotated[int, typer.Option(help="steps between rows of the log", min=1)]
Trajectory = Annotated[Path | None, typer.Option(help=".xyz (extended XYZ) or .h5 (H5MD)")]
TrajectoryEvery = Annotated[int | None, typer.Option(help="steps between frames", min=1, show_default="as log")]
Checkpoint = Annotated[Path | None, typer.Option(help="file to restart from, renewed while running")]
CheckpointEvery = Annotated[int, typer.Option(help="steps between checkpoints", min=1)]
Restart = Annotated[
    Path | None, typer.Option(help="continue from this checkpoint; what the run is made of is stored there")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="final structure and velocities")]
Seed = Annotated[int | None, typer.Option(help="of velocities and thermostat noise", show_default="0")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar")]


class Kind(NamedTuple):
    """A function of `jaxmlp.md` on the command line: which options it takes besides `COMMON`, and which it needs."""

    function: str
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


COMMON = ("temperature", "dt", "fixed", "seed")


def chosen(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def simulation(
    kind: Kind,
    title: str,
    given: dict[str, Any],
    structure: Path | None,
    restart: Path | None,
    model: "tuple[Potential, Params]",
    steps: int,
    **rest: Any,
) -> "dynamics.Simulation":
    """Return the simulation of a structure, or that of a checkpoint.

    Args:
        title: how the user chose this kind.
        rest: more keyword arguments of the function.

    Raises:
        BadInput: an option that this kind does not take, or one that is missing.
    """
    from jaxmlp import md as dynamics

    if (structure is None) == (restart is None):
        raise BadInput("give either a STRUCTURE to start from or --restart CHECKPOINT to go on.")
    if restart is not None:
        for name in given:
            raise BadInput(f"{_flag(name)} cannot be changed by a restart: leave it out, or start from a structure.")
        return dynamics.restart(restart, *model)
    assert structure is not None
    takes = (*COMMON, *kind.takes, *kind.needs)
    for name in given:
        if name not in takes:
            raise BadInput(f"{_flag(name)} does not belong to {title}, which takes {', '.join(map(_flag, takes))}.")
    for name in kind.needs:
        if name not in given:
            raise BadInput(f"{title} needs {_flag(name)}.")
    system = read_system(structure)
    arguments = keywords({"temperature": 300.0, **given}, steps)
    if kind.function == "nve" and system.velocities is not None:
        del arguments["temperature"]
    with warnings.catch_warnings(record=True) as notes:
        sim = getattr(dynamics, kind.function)(*model, system, **arguments, **rest)
    for note in notes:
        print(f"jaxmlp: {note.message}", file=sys.stderr)
    return sim


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def keywords(given: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the keyword arguments of functions in `jaxmlp.md` for options of the command line."""
    import numpy as np

    from jaxmlp.md import GLEMatrices, Ramp
    from jaxmlp.units import GPa

    out = dict(given)
    for name, unit in (("temperature", 1.0), ("pressure", GPa)):
        stop = out.pop(f"{name}_end", None)
        if name in out:
            start = out[name] * unit
            out[name] = start if stop is None else Ramp(start, stop * unit, last=steps)
    if "bulk_modulus" in out:
        modulus = out.pop("bulk_modulus")
        if not 0 < modulus < float("inf"):
            raise BadInput(f"--bulk-modulus is in GPa and must be positive; got {modulus}.")
        out["compressibility"] = 1 / (modulus * GPa)
    if "gle_file" in out:
        out["gle"] = GLEMatrices.load(out.pop("gle_file"))
    if "fixed" in out:
        out["fixed"] = indices(out["fixed"])
    if "bonds" in out:
        try:
            out["bonds"] = np.loadtxt(out["bonds"], dtype=int, ndmin=2)
        except ValueError as error:
            raise BadInput(f"{out['bonds']}: expected two indices of atoms in every line ({error}).") from error
    if "seed" in out:
        out["key"] = out.pop("seed")
    return out


def indices(text: str) -> list[int]:
    """Return the numbers of a text such as 0-9,12."""
    out: list[int] = []
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        if not (first.isdigit() and (last.isdigit() or not dash)):
            raise BadInput(f"indices of atoms are written as 0-9,12; got {text!r}.")
        out += range(int(first), int(last or first) + 1)
    return out


def run(
    sim: "dynamics.Simulation", steps: int, *, log: Path | None, output: Path | None, quiet: bool, **options
) -> None:
    """Run, write log and final structure, print the table and the averages.

    Args:
        options: of `jaxmlp.md.run`.

    Raises:
        Failed: the run diverged; the last good structure is written.
    """
    from jaxmlp import md as dynamics

    progress = not quiet and console().is_terminal
    try:
        result = dynamics.run(sim, steps, progress=progress, **options)
    except dynamics.SimulationError as error:
        if output is not None:
            error.simulation.system.write(output)
        raise Failed(str(error)) from error
    if log is not None:
        write_log(log, result.log)
    if output is not None:
        result.simulation.system.write(output)
    if result.log:
        print_rows(result.log)
        print_averages(result.log, len(sim))
    else:
        console().print(f"{steps} steps done; none of them was a multiple of --log-every.")


def write_log(path: Path, log: "dict[str, np.ndarray]") -> None:
    """Write the log as CSV with a header; floats with all their digits, matrices as nine columns xx, xy ... zz, vectors
    as columns 0, 1 ..."""
    columns = {}
    for name, values in log.items():
        if values.ndim == 1:
            columns[name] = values
        elif values.ndim == 2:
            columns |= {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}
        else:
            columns |= {f"{name}_{'xyz'[i]}{'xyz'[j]}": values[:, i, j] for i in range(3) for j in range(3)}
    with open(path, "w", encoding="ascii") as file:
        file.write(",".join(columns) + "\n")
        for row in zip(*columns.values(), strict=True):
            file.write(",".join(repr(x.item()) for x in row) + "\n")


def print_rows(log: "dict[str, np.ndarray]") -> None:
    """Print up to ten rows of the log."""
    import numpy as np
    from rich.table import Table

    from jaxmlp.units import GPa

    units = {"step": "", "time": " (ps)", "temperature": " (K)", "pressure": " (GPa)"}
    scale = {"time": 1e-3, "pressure": 1 / GPa}
    names = [q for q in ("step", "time", "potential", "total", "conserved", "temperature", "pressure") if q in log]
    table = Table()
    for name in names:
        table.add_column(name + units.get(name, " (eV)"), justify="right")
    rows = len(log["step"])
    for k in np.unique(np.linspace(0, rows - 1, min(rows, 10)).astype(int)):
        cells = [log[q][k] * scale.get(q, 1) for q in names]
        table.add_row(*(f"{x:d}" if q == "step" else f"{x:.4f}" for q, x in zip(names, cells, strict=True)))
    console().print(table)


def print_averages(log: "dict[str, np.ndarray]", n: int) -> None:
    """Print means over the second half of the log, with errors where there are enough independent rows for one."""
    from rich.table import Table

    from jaxmlp.statistics import average
    from jaxmlp.units import GPa

    quantum = "kinetic_primitive" in log
    rows = {"potential energy (eV/atom)": ("potential", 1 / n)}
    if quantum:
        rows["kinetic energy, centroid virial (eV/atom)"] = ("kinetic", 1 / n)
        rows["kinetic energy, primitive (eV/atom)"] = ("kinetic_primitive", 1 / n)
    rows["temperature (K)"] = ("temperature", 1.0)
    rows |= {"pressure (GPa)": ("pressure", 1 / GPa), "volume (Å^3/atom)": ("volume", 1 / n)}
    table = Table(title="means of the second half")
    for column in ("", "mean", "standard error", "independent rows"):
        table.add_column(column, justify="right" if column else "left")
    hint = ""
    for title, (name, scale) in rows.items():
        if name not in log or (name == "volume" and log[name].min() == log[name].max()):
            continue
        half = log[name][len(log[name]) // 2 :] * scale
        try:
            found = average(half)
            cells = (f"{found.mean:.5f}", f"{found.error:.5f}", f"{found.samples:.0f}")
        except ValueError:
            cells = (f"{half.mean():.5f}", "", "")
            hint = "errors need 10 independent rows: run longer, or log more often"
        table.add_row(title, *cells)
    out = console()
    out.print(table)
    change = (log["conserved"][-1] - log["conserved"][0]) / n
    out.print(f"conserved quantity changed by {change:.2e} eV/atom" + (f"; {hint}" if hint else ""))
