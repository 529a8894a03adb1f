"""jaxmlp free-energy and jaxmlp melt."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jaxmlp.commands.options import (
    BadInput,
    Devices,
    Model,
    Precision,
    Species,
    Structure,
    Units,
    console,
    execution,
    read_model,
    read_system,
)

if TYPE_CHECKING:
    from jaxmlp.free_energy import Absolute, Sweep
    from jaxmlp.system import System

Phase = Literal["solid", "liquid", "harmonic", "quantum-harmonic"]
Repeat = Annotated[str | None, typer.Option(help="supercell of the structure, as 5,5,5", show_default="1,1,1")]
Steps = Annotated[int, typer.Option(help="steps of one switch", min=100)]
Equilibration = Annotated[
    int | None, typer.Option(help="steps of each run before a switch", min=1, show_default="half of --steps")
]
Repeats = Annotated[int, typer.Option(help="number of switches in each direction", min=1)]
MaxDissipation = Annotated[float, typer.Option(help="kT per atom beyond which a result is refused")]
Dt = Annotated[float, typer.Option(help="time step, fs")]
Friction = Annotated[float, typer.Option(help="1/fs, of the Langevin thermostat")]
TauPressure = Annotated[float, typer.Option(help="fs, time of the barostat")]
Melt = Annotated[float | None, typer.Option(help="K, at which the structure is molten first")]
FiniteSize = Annotated[bool, typer.Option(help="add what the box lacks of an infinite system")]
Seed = Annotated[int, typer.Option(help="of velocities and noise")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="all numbers as JSON (eV, K, Å^3, eV/Å^3)")]
Figure = Annotated[Path | None, typer.Option(help="of Gibbs energies, .png or .pdf")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bars")]


def free_energy(
    model: Model,
    structure: Structure,
    phase: Annotated[
        Phase,
        typer.Option(
            help="solid: from an Einstein crystal; liquid: from the Uhlenbeck-Ford fluid; harmonic, quantum-harmonic: "
            "from the exact Hessian of a relaxed crystal"
        ),
    ] = "solid",
    temperature: Annotated[float, typer.Option(help="K")] = 300.0,
    pressure: Annotated[
        float | None, typer.Option(help="GPa, at which the box is found first", show_default="box kept")
    ] = None,
    to_temperature: Annotated[
        float | None, typer.Option(help="K, up (or down) to which reversible scaling carries G on")
    ] = None,
    to_pressure: Annotated[
        float | None, typer.Option(help="GPa, up (or down) to which adiabatic switching carries G on")
    ] = None,
    repeat: Repeat = None,
    steps: Steps = 20_000,
    equilibration: Equilibration = None,
    repeats: Repeats = 4,
    max_dissipation: MaxDissipation = 0.05,
    dt: Dt = 1.0,
    friction: Friction = 0.01,
    tau_pressure: TauPressure = 1000.0,
    melt: Melt = None,
    finite_size: FiniteSize = False,
    mesh: Annotated[
        int, typer.Option(help="points of the mesh of wave vectors along each axis (harmonic)", min=1)
    ] = 10,
    csv: Annotated[Path | None, typer.Option(help="the sweep as a table")] = None,
    output: Output = None,
    seed: Seed = 0,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
    quiet: Quiet = False,
) -> None:
    """Absolute free energy of a crystal or a liquid, and how it goes on with temperature or pressure.

    Exit code 1: the switches dissipated too much, a crystal melted, or a liquid did not flow.
    """
    from jaxmlp import free_energy as fe
    from jaxmlp.units import GPa

    if to_temperature is not None and to_pressure is not None:
        raise BadInput("give either --to-temperature or --to-pressure.")
    if to_pressure is not None and pressure is None:
        raise BadInput("--to-pressure needs a --pressure to begin at.")
    if melt is not None and phase != "liquid":
        raise BadInput("--melt goes with --phase liquid.")
    potential, params = read_model(model, species, units)
    system = repeated(read_system(structure), repeat)
    if phase in ("harmonic", "quantum-harmonic"):
        if pressure is not None or to_temperature is not None or to_pressure is not None:
            raise BadInput("harmonic free energies are those of the given box: leave out pressures and sweeps.")
        _harmonic(potential, params, system, temperature, mesh, phase == "quantum-harmonic", output)
        return
    options = {"dt": dt, "friction": friction, **execution(precision, devices)}
    common = {"steps": steps, "equilibration": equilibration, "repeats": repeats, "max_dissipation": max_dissipation}
    common |= {"key": seed, "progress": not quiet, "tau_pressure": tau_pressure, **options}
    P = None if pressure is None else pressure * GPa
    one = {"temperature": temperature, "pressure": P, "finite_size": finite_size, **common}
    if phase == "solid":
        found = fe.solid(potential, params, system, **one)
    else:
        found = fe.liquid(potential, params, system, melt=melt, **one)
    print_absolute(phase, found)
    sweep = None
    if P is None:
        del common["tau_pressure"]
    if to_temperature is not None:
        sweep = fe.temperature_sweep(
            potential, params, found.system, temperature=temperature,
            start=found.bulk if P is not None else found.F + found.finite_size, to=to_temperature, pressure=P, **common,
        )  # fmt: skip
        print_sweep("T (K)", sweep, 1.0, found.atoms)
    elif to_pressure is not None:
        sweep = fe.pressure_sweep(
            potential, params, found.system, start=found.bulk, temperature=temperature, pressure=P,
            to=to_pressure * GPa, **common,
        )  # fmt: skip
        print_sweep("P (GPa)", sweep, 1 / GPa, found.atoms)
    if sweep is not None and csv is not None:
        write_sweep(csv, sweep, "temperature" if to_temperature is not None else "pressure")
    if output is not None:
        write_json(output, absolute_numbers(found) | ({} if sweep is None else {"sweep": sweep_numbers(sweep)}))


def melt(
    model: Model,
    structure: Structure,
    guess: Annotated[float, typer.Option(help="K, where to begin")] = 1000.0,
    pressure: Annotated[float, typer.Option(help="GPa")] = 0.0,
    repeat: Repeat = None,
    steps: Steps = 20_000,
    sweep_steps: Annotated[
        int | None, typer.Option(help="steps of one sweep of temperature", min=100, show_default="--steps")
    ] = None,
    equilibration: Equilibration = None,
    repeats: Repeats = 4,
    span: Annotated[float, typer.Option(help="how far the sweeps go, as a fraction of the guess")] = 0.1,
    max_dissipation: MaxDissipation = 0.05,
    dt: Dt = 1.0,
    friction: Friction = 0.01,
    tau_pressure: TauPressure = 1000.0,
    melt: Annotated[
        float | None, typer.Option(help="K, at which the crystal is molten first", show_default="twice the guess")
    ] = None,
    finite_size: FiniteSize = True,
    figure: Figure = None,
    output: Output = None,
    seed: Seed = 0,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
    quiet: Quiet = False,
) -> None:
    """Melting temperature of a crystal: where its Gibbs energy and that of its liquid are equal.

    Exit code 1: no crossing near the guess, or a phase that did not last.
    """
    from jaxmlp import free_energy as fe
    from jaxmlp.units import GPa

    potential, params = read_model(model, species, units)
    system = repeated(read_system(structure), repeat)
    found = fe.melting_temperature(
        potential, params, system, guess=guess, pressure=pressure * GPa, steps=steps, sweep_steps=sweep_steps,
        equilibration=equilibration, repeats=repeats, span=span, max_dissipation=max_dissipation, melt=melt, key=seed,
        dt=dt, friction=friction, tau_pressure=tau_pressure, finite_size=finite_size, progress=not quiet,
        **execution(precision, devices),
    )  # fmt: skip
    print_absolute("solid", found.solid)
    print_absolute("liquid", found.liquid)
    out = console()
    out.print(f"melting temperature {found.temperature:.1f} ± {found.error:.1f} K at {pressure:g} GPa")
    out.print(f"enthalpy of melting {found.enthalpy:.4f} eV/atom, volume {found.volume:.4f} Å^3/atom")
    out.print(f"dT/dP {found.slope * GPa:.1f} K/GPa")
    if figure is not None:
        found.figure().figure.savefig(figure, dpi=150)
    if output is not None:
        numbers = {name: float(getattr(found, name)) for name in ("temperature", "pressure", "error", "entropy")}
        numbers |= {"enthalpy": found.enthalpy, "volume": float(found.volume)}
        parts = {"solid": absolute_numbers(found.solid), "liquid": absolute_numbers(found.liquid)}
        write_json(output, numbers | parts | {"sweeps": [sweep_numbers(s) for s in found.sweeps]})


def repeated(system: "System", repeat: str | None) -> "System":
    """Return a supercell, for a text as 5,5,5."""
    if repeat is None:
        return system
    words = repeat.split(",")
    if len(words) != 3 or not all(w.strip().isdigit() and int(w) > 0 for w in words):
        raise BadInput(f"--repeat takes three positive numbers, as 5,5,5; got {repeat!r}.")
    return type(system).from_ase(system.to_ase() * tuple(map(int, words)))


def _harmonic(potential, params, system: "System", T: float, mesh: int, quantum: bool, output: Path | None) -> None:
    from jaxmlp.free_energy.harmonic import harmonic
    from jaxmlp.properties.phonons import monkhorst_pack

    found = harmonic(potential, params, system, [T], monkhorst_pack(mesh), quantum=quantum)
    n = len(system)
    kind = "quantum" if quantum else "classical"
    out = console()
    out.print(f"{kind} harmonic crystal at {T:g} K, {n} atoms, eV/atom (eV/K/atom):")
    names = {"F": "free_energy", "U": "energy", "S": "entropy", "C": "heat_capacity"}
    numbers = {name: float(getattr(found, field)[0]) / n for name, field in names.items()}
    out.print("  ".join(f"{name} {x:.6f}" for name, x in numbers.items()))
    if output is not None:
        write_json(output, {"temperature": T, "atoms": n, "quantum": quantum, **numbers})


def print_absolute(name: str, found: "Absolute") -> None:
    """Print a free energy per atom and what it is made of."""
    from rich.table import Table

    from jaxmlp.units import GPa

    n = found.atoms
    table = Table(title=f"{name}, {n} atoms, {found.temperature:g} K, {found.pressure / GPa:.4g} GPa")
    for column in ("F (eV/atom)", "G (eV/atom)", "error", "reference", "dissipation", "volume (Å^3/atom)"):
        table.add_column(column, justify="right")
    parts = (found.F, found.G, found.error, found.reference, found.switching.dissipation)
    table.add_row(*(f"{x / n:.5f}" for x in parts), f"{found.system.volume / n:.4f}")
    console().print(table)
    if found.finite_size:
        console().print(f"of an infinite {name}: G {found.bulk / n:.5f} eV/atom")


def print_sweep(title: str, sweep: "Sweep", scale: float, n: int) -> None:
    """Print about ten rows of a sweep."""
    import numpy as np
    from rich.table import Table

    table = Table()
    for column in (title, "G (eV/atom)", "error of the sweep", "volume (Å^3/atom)"):
        table.add_column(column, justify="right")
    for k in np.unique(np.linspace(0, len(sweep.x) - 1, 11).astype(int)):
        row = (sweep.x[k] * scale, sweep.G[k] / n, sweep.error[k] / n, sweep.volume[k] / n)
        table.add_row(f"{row[0]:.5g}", *(f"{x:.5f}" for x in row[1:]))
    console().print(table)


def write_sweep(path: Path, sweep: "Sweep", name: str) -> None:
    """Write a sweep as CSV, of the whole system."""
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{name},G,error,volume\n")
        for row in zip(sweep.x, sweep.G, sweep.error, sweep.volume, strict=True):
            file.write(",".join(repr(float(x)) for x in row) + "\n")


def absolute_numbers(found: "Absolute") -> dict[str, Any]:
    """Return what JSON holds of an absolute free energy."""
    names = ("F", "G", "error", "reference", "finite_size", "temperature", "pressure")
    switching = found.switching
    return {name: float(getattr(found, name)) for name in names} | {
        "atoms": found.atoms,
        "volume": found.system.volume,
        "dissipation": float(switching.dissipation),
        "forward": switching.forward[-1].tolist(),
        "backward": switching.backward[-1].tolist(),
    }


def sweep_numbers(sweep: "Sweep") -> dict[str, list[float]]:
    """Return what JSON holds of a sweep."""
    return {name: getattr(sweep, name).tolist() for name in ("x", "G", "error", "volume")}


def write_json(path: Path, numbers: dict[str, Any]) -> None:
    path.write_text(json.dumps(numbers, indent=1) + "\n", encoding="ascii")
