"""jaxmlp pimd: path-integral dynamics of quantum nuclei."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jaxmlp.commands import running as r
from jaxmlp.commands.options import Devices, Model, Precision, Species, Units, execution, read_model

Mode = Literal["pimd", "rpmd", "trpmd", "cmd"]
DYNAMICS = {
    "rpmd": r.Kind("rpmd", ("beads",)),
    "trpmd": r.Kind("trpmd", ("beads", "damping")),
    "cmd": r.Kind("cmd", ("beads", "damping", "mode_frequency")),
}


def _kind(mode: Mode, given: dict[str, Any]) -> tuple[r.Kind, str]:
    """Return which options go with those given, and in which words this was chosen."""
    title = f"--mode {mode}"
    if mode != "pimd":
        return DYNAMICS[mode], title
    takes: tuple[str, ...] = ("beads", "temperature_end", "thermostat", "scheme", "splitting")
    needs: tuple[str, ...] = ()
    thermostat, barostat = given.get("thermostat", "pile_l"), given.get("barostat", "rescaling")
    if thermostat == "piglet":
        title, needs = f"{title} with --thermostat piglet", ("gle_file",)
    else:
        takes = (*takes, "tau")
    if "pressure" not in given:
        return r.Kind("pimd", takes, needs), f"{title} without --pressure"
    takes = (*takes, "pressure", "pressure_end", "barostat", "tau_pressure", "cell")
    if barostat == "rescaling":
        needs = (*needs, "bulk_modulus")
    return r.Kind("pimd", takes, needs), f"{title} with --barostat {barostat}"


def pimd(
    model: Model,
    structure: r.Start = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="pimd: quantum averages; for times: rpmd (ring polymers), trpmd (thermostatted), cmd (centroids)",
            show_default="pimd",
        ),
    ] = None,
    beads: Annotated[int | None, typer.Option(help="of every ring polymer", min=1, show_default="32")] = None,
    temperature: r.Temperature = None,
    temperature_end: r.TemperatureEnd = None,
    dt: Annotated[float | None, typer.Option(help="time step, fs", show_default="0.5, of cmd 0.05")] = None,
    steps: r.Steps = 1000,
    thermostat: Annotated[
        Literal["pile_l", "pile_g", "piglet"] | None,
        typer.Option(help="pile_l: Langevin; pile_g: velocity rescaling of centroids; piglet", show_default="pile_l"),
    ] = None,
    tau: Annotated[float | None, typer.Option(help="fs, time of the centroids' thermostat", show_default="100")] = None,
    gle_file: r.GLEFile = None,
    scheme: Annotated[
        Literal["primitive", "takahashi-imada", "suzuki-chin"] | None,
        typer.Option(help="the action, of second or fourth order", show_default="primitive"),
    ] = None,
    splitting: Annotated[
        str | None, typer.Option(help="the time step, a word as BCOCB or OBABO", show_default="BCOCB")
    ] = None,
    damping: Annotated[
        float | None, typer.Option(help="of internal modes, in units of critical damping", show_default="0.5")
    ] = None,
    mode_frequency: Annotated[
        float | None, typer.Option(help="1/fs, of internal modes (cmd)", show_default="3")
    ] = None,
    pressure: r.Pressure = None,
    pressure_end: r.PressureEnd = None,
    barostat: Annotated[
        Literal["rescaling", "mtk", "langevin"] | None,
        typer.Option(help="rescaling needs --bulk-modulus; the others give the cell inertia", show_default="rescaling"),
    ] = None,
    tau_pressure: r.TauPressure = None,
    cell: r.Cell = None,
    bulk_modulus: r.BulkModulus = None,
    fixed: r.Fixed = None,
    beads_from: Annotated[
        Path | None, typer.Option(help="checkpoint of a pimd run of as many beads, whose positions are the start")
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
    """Run path-integral dynamics. Trajectory and output hold the centroids.

    The log holds quantum estimators: the kinetic energy is the centroid-virial one.
    """
    from jaxmlp import md as dynamics

    given = r.chosen(
        beads=beads,
        temperature=temperature,
        temperature_end=temperature_end,
        dt=dt,
        thermostat=thermostat,
        tau=tau,
        gle_file=gle_file,
        scheme=scheme,
        splitting=splitting,
        damping=damping,
        mode_frequency=mode_frequency,
        pressure=pressure,
        pressure_end=pressure_end,
        barostat=barostat,
        tau_pressure=tau_pressure,
        cell=cell,
        bulk_modulus=bulk_modulus,
        fixed=fixed,
        seed=seed,
    )
    loaded = read_model(model, species, units)
    if restart is not None:
        given |= r.chosen(mode=mode, beads_from=beads_from)
    elif beads is None:
        given["beads"] = 32
    kind, title = _kind(mode or "pimd", given)
    how = execution(precision, devices)
    sim = r.simulation(kind, title, given, structure, restart, loaded, steps, **how)
    if restart is None and beads_from is not None:
        sim = dynamics.restarted(sim, dynamics.restart(beads_from, *loaded), seed or 0)
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
