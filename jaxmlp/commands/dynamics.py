"""jaxmlp md: molecular dynamics of classical nuclei."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jaxmlp.commands import running as r
from jaxmlp.commands.options import Devices, Model, Precision, Species, Units, execution, read_model

_HEAT = ("temperature_end", "bonds")
_CELL = ("pressure_end", "tau_pressure", "cell")
Ensemble = Literal[
    "nve", "langevin", "nhc", "csvr", "berendsen", "gle",
    "nph", "npt-mtk", "mtk", "npt-langevin", "npt-rescaling", "npt-berendsen",
]  # fmt: skip
ENSEMBLES: dict[Ensemble, r.Kind] = {
    "nve": r.Kind("nve", ("bonds",)),
    "langevin": r.Kind("nvt_langevin", (*_HEAT, "friction")),
    "nhc": r.Kind("nvt_nose_hoover", (*_HEAT, "tau")),
    "csvr": r.Kind("nvt_csvr", (*_HEAT, "tau")),
    "berendsen": r.Kind("nvt_berendsen", (*_HEAT, "tau")),
    "gle": r.Kind("nvt_gle", _HEAT, ("gle_file",)),
    "nph": r.Kind("nph", _CELL, ("pressure",)),
    "npt-mtk": r.Kind("npt_mtk", ("temperature_end", "tau", *_CELL), ("pressure",)),
    "mtk": r.Kind("npt_mtk", ("temperature_end", "tau", *_CELL), ("pressure",)),
    "npt-langevin": r.Kind("npt_langevin", ("temperature_end", "friction", *_CELL), ("pressure",)),
    "npt-rescaling": r.Kind("npt_rescaling", ("temperature_end", "tau", *_CELL), ("pressure", "bulk_modulus")),
    "npt-berendsen": r.Kind("npt_berendsen", ("temperature_end", "tau", *_CELL), ("pressure", "bulk_modulus")),
}


def md(
    model: Model,
    structure: r.Start = None,
    ensemble: Annotated[
        Ensemble | None,
        typer.Option(
            help="langevin: BAOAB; nhc: Nosé-Hoover chain; csvr: stochastic velocity rescaling; gle: colored noise; "
            "mtk, npt-mtk: Martyna-Tobias-Klein; npt-rescaling: stochastic cell rescaling; berendsen: to equilibrate",
            show_default="langevin",
        ),
    ] = None,
    temperature: r.Temperature = None,
    temperature_end: r.TemperatureEnd = None,
    dt: Annotated[float | None, typer.Option(help="time step, fs", show_default="1")] = None,
    steps: r.Steps = 1000,
    friction: Annotated[float | None, typer.Option(help="1/fs (langevin, npt-langevin)", show_default="0.01")] = None,
    tau: Annotated[
        float | None, typer.Option(help="fs, time of the thermostat (those without friction)", show_default="100")
    ] = None,
    gle_file: r.GLEFile = None,
    pressure: r.Pressure = None,
    pressure_end: r.PressureEnd = None,
    tau_pressure: r.TauPressure = None,
    cell: r.Cell = None,
    bulk_modulus: r.BulkModulus = None,
    fixed: r.Fixed = None,
    bonds: Annotated[
        Path | None, typer.Option(help="bonds of fixed length: two indices of atoms, counted from 0, in every line")
    ] = None,
    log: r.Log = None,
    log_every: r.LogEvery = 100,
    trajectory: r.Trajectory = None,
    trajectory_every: r.TrajectoryEvery = None,
    checkpoint: r.Checkpoint = None,
    checkpoint_every: r.CheckpointEvery = 10_000,
    restart: r.Restart = None,
    output: r.Output = None,
    seed: r.Seed = None,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
    quiet: r.Quiet = False,
) -> None:
    """Run molecular dynamics; exit code 1 if it diverges (the last good frame is then in the trajectory)."""
    given = r.chosen(
        temperature=temperature,
        temperature_end=temperature_end,
        dt=dt,
        friction=friction,
        tau=tau,
        gle_file=gle_file,
        pressure=pressure,
        pressure_end=pressure_end,
        tau_pressure=tau_pressure,
        cell=cell,
        bulk_modulus=bulk_modulus,
        fixed=fixed,
        bonds=bonds,
        seed=seed,
    )
    loaded = read_model(model, species, units)
    if restart is not None:
        given |= r.chosen(ensemble=ensemble)
    name: Ensemble = ensemble or "langevin"
    how = execution(precision, devices)
    sim = r.simulation(ENSEMBLES[name], f"--ensemble {name}", given, structure, restart, loaded, steps, **how)
    r.run(
        sim,
        steps,
        log=log,
        output=output,
        quiet=quiet,
        log_every=log_every,
        trajectory=trajectory,
        trajectory_every=trajectory_every,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )
