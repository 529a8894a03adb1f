"""jaxmlp md: molecular dynamics with restart."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jaxmlp.commands.options import (
    BadInput,
    Devices,
    Failed,
    Model,
    Precision,
    Species,
    Units,
    console,
    execution,
    read_model,
    read_system,
)

if TYPE_CHECKING:
    import numpy as np

    from jaxmlp import md as dynamics

Ensemble = Literal["nve", "langevin", "nhc"]


def md(
    model: Model,
    structure: Annotated[
        Path | None, typer.Argument(help="structure file that ASE reads; not with --restart", show_default=False)
    ] = None,
    ensemble: Annotated[Ensemble, typer.Option(help="nve, langevin (BAOAB) or nhc (Nosé-Hoover chain)")] = "langevin",
    temperature: Annotated[float, typer.Option(help="K; under nve that of the velocities drawn at the start")] = 300.0,
    dt: Annotated[float, typer.Option(help="time step, fs")] = 1.0,
    steps: Annotated[int, typer.Option(help="steps to do (after a restart: further steps)", min=1)] = 1000,
    friction: Annotated[float, typer.Option(help="1/fs (langevin)")] = 0.01,
    tau: Annotated[float, typer.Option(help="fs, time of the thermostat (nhc)")] = 100.0,
    log: Annotated[Path | None, typer.Option(help="thermodynamic log as CSV (fs, eV, K, eV/Å^3, Å^3)")] = None,
    log_every: Annotated[int, typer.Option(help="steps between rows of the log", min=1)] = 100,
    trajectory: Annotated[Path | None, typer.Option(help=".xyz (extended XYZ) or .h5 (H5MD)")] = None,
    trajectory_every: Annotated[
        int | None, typer.Option(help="steps between frames", min=1, show_default="as log")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="file to restart from, renewed while running")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints", min=1)] = 10_000,
    restart: Annotated[
        Path | None, typer.Option(help="continue from this checkpoint; ensemble and controls are those stored there")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="final structure and velocities")] = None,
    seed: Annotated[int, typer.Option(help="of velocities and thermostat noise")] = 0,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar")] = False,
) -> None:
    """Run molecular dynamics; exit code 1 if it diverges (the last good frame is then in the trajectory)."""
    from jaxmlp import md as dynamics

    potential, params = read_model(model, species, units)
    if (structure is None) == (restart is None):
        raise BadInput("give either a STRUCTURE to start from or --restart CHECKPOINT to go on.")
    if restart is not None:
        sim = dynamics.restart(restart, potential, params)
    else:
        assert structure is not None
        system = read_system(structure)
        common: dict[str, Any] = {"dt": dt, "key": seed, **execution(precision, devices)}
        if ensemble == "nve":
            start = temperature if system.velocities is None else None
            sim = dynamics.nve(potential, params, system, temperature=start, **common)
        elif ensemble == "langevin":
            sim = dynamics.nvt_langevin(potential, params, system, temperature=temperature, friction=friction, **common)
        else:
            sim = dynamics.nvt_nose_hoover(potential, params, system, temperature=temperature, tau=tau, **common)
    out = console()
    try:
        result = dynamics.run(
            sim,
            steps,
            log_every=log_every,
            trajectory=trajectory,
            trajectory_every=trajectory_every,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            progress=not quiet and out.is_terminal,
        )
    except dynamics.SimulationError as error:
        if output is not None:
            error.simulation.system.write(output)
        raise Failed(str(error)) from error
    if log is not None:
        write_log(log, result.log)
    if output is not None:
        result.simulation.system.write(output)
    print_log(result)


def write_log(path: Path, log: "dict[str, np.ndarray]") -> None:
    """Write the log as CSV with a header; floats with all their digits."""
    with open(path, "w", encoding="ascii") as file:
        file.write(",".join(log) + "\n")
        for row in zip(*log.values(), strict=True):
            file.write(",".join(repr(x.item()) for x in row) + "\n")


def print_log(result: "dynamics.Result") -> None:
    """Print up to ten rows of the log, and means over its second half."""
    import numpy as np
    from rich.table import Table

    from jaxmlp.units import GPa

    log, n = result.log, len(result.simulation)
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
    out = console()
    out.print(table)
    half = slice(rows // 2, None)
    text = f"second half: potential energy {log['potential'][half].mean() / n:.5f} eV/atom, "
    text += f"temperature {log['temperature'][half].mean():.1f} K"
    if "pressure" in log:
        text += f", pressure {log['pressure'][half].mean() / GPa:.3f} GPa"
    change = (log["conserved"][-1] - log["conserved"][0]) / n
    out.print(f"{text}; conserved quantity changed by {change:.2e} eV/atom")
