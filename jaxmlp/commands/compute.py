"""jaxmlp evaluate, relax: energies, forces and stress of structures, and their nearest minimum."""

from pathlib import Path
from typing import Annotated

import typer

from jaxmlp.commands.options import (
    BadInput,
    Devices,
    Failed,
    Model,
    Precision,
    Species,
    Structure,
    Units,
    console,
    execution,
    read_frames,
    read_model,
    read_system,
)


def evaluate(
    model: Model,
    structures: Annotated[list[Path], typer.Argument(help="structure files that ASE reads", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="extended XYZ with energy, forces (eV/Å), stress (eV/Å^3)")
    ] = None,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
    fparam: Annotated[
        str | None,
        typer.Option(
            help="frame parameters, as 0.5,1.2: of Deep Potentials that have them", show_default="as in the file"
        ),
    ] = None,
) -> None:
    """Print energy (eV), largest force (eV/Å) and pressure (GPa) of every frame; errors where files hold references."""
    import ase.io
    import numpy as np
    from ase.calculators.singlepoint import SinglePointCalculator
    from rich.table import Table

    from jaxmlp.ase import JaxMLP
    from jaxmlp.units import GPa

    frame = None if fparam is None else _numbers(fparam)
    calculator = JaxMLP(*read_model(model, species, units), **execution(precision, devices), fparam=frame)
    table = Table(title=f"{model}")
    for column in ("file", "frame", "atoms", "energy (eV)", "eV/atom", "max |F| (eV/Å)", "pressure (GPa)"):
        table.add_column(column, justify="left" if column == "file" else "right")
    done, energy_errors, force_errors = [], [], []
    for path in structures:
        for k, atoms in enumerate(read_frames(path)):
            reference = {} if atoms.calc is None else dict(atoms.calc.results)
            atoms.calc = calculator
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            results = dict(calculator.results)
            stress = results.get("stress")
            if "energy" in reference:
                energy_errors.append((energy - reference["energy"]) / len(atoms))
            if "forces" in reference:
                force_errors.append((forces - reference["forces"]).ravel())
            pressure = "" if stress is None else f"{-np.mean(stress[:3]) / GPa:.4f}"
            largest = np.linalg.norm(forces, axis=1).max()
            cells = (str(path), str(k), str(len(atoms)), f"{energy:.6f}", f"{energy / len(atoms):.6f}")
            table.add_row(*cells, f"{largest:.6f}", pressure)
            atoms.calc = SinglePointCalculator(
                atoms, **{q: results[q] for q in ("energy", "forces", "stress", "energies") if q in results}
            )
            done.append(atoms)
    out = console()
    out.print(table)
    if energy_errors:
        shifted = np.std(energy_errors)
        out.print(
            f"energies in the files: RMS difference {1e3 * np.sqrt(np.mean(np.square(energy_errors))):.3f} meV/atom, "
            f"{1e3 * shifted:.3f} after removing the mean"
        )
    if force_errors:
        out.print(f"forces in the files: RMS difference {np.sqrt(np.mean(np.concatenate(force_errors) ** 2)):.6f} eV/Å")
    if output is not None:
        ase.io.write(output, done, format="extxyz")


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(f"--fparam takes numbers, as 0.5,1.2; got {text!r}.") from None


def relax(
    model: Model,
    structure: Structure,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write the relaxed structure here")] = None,
    cell: Annotated[bool, typer.Option("--cell", help="relax the cell too")] = False,
    pressure: Annotated[float, typer.Option(help="target pressure, GPa (with --cell)")] = 0.0,
    fmax: Annotated[float, typer.Option(help="largest force left, eV/Å")] = 1e-3,
    method: Annotated[str, typer.Option(help="lbfgs or fire")] = "lbfgs",
    steps: Annotated[int, typer.Option(help="largest number of evaluations", min=1)] = 2000,
    precision: Precision = "double",
    devices: Devices = None,
    species: Species = None,
    units: Units = None,
) -> None:
    """Relax atoms, with --cell the cell too, to the nearest minimum; exit code 1 if it is not reached."""
    import numpy as np

    from jaxmlp.minimize import minimize
    from jaxmlp.units import GPa

    potential, params = read_model(model, species, units)
    system = read_system(structure)
    if pressure and not cell:
        raise ValueError("--pressure acts on the cell: give --cell too.")
    found = minimize(
        potential,
        params,
        system,
        method=method,
        cell=cell,
        pressure=pressure * GPa,
        fmax=fmax,
        steps=steps,
        **execution(precision, devices),
    )
    out = console()
    largest = np.linalg.norm(found.forces, axis=1).max()
    out.print(
        f"{'converged' if found.converged else 'NOT converged'} after {found.steps} evaluations: "
        f"{found.energy:.6f} eV, {found.energy / len(system):.6f} eV/atom, largest force {largest:.2e} eV/Å"
    )
    if found.system.box is not None and all(found.system.pbc):
        lengths = found.system.to_ase().cell.cellpar()
        out.print(
            "cell: "
            + " ".join(f"{x:.5f}" for x in lengths[:3])
            + " Å, "
            + " ".join(f"{x:.3f}" for x in lengths[3:])
            + " degrees"
        )
        if found.stress is not None:
            out.print(f"pressure: {-np.trace(found.stress) / 3 / GPa:.5f} GPa")
    if output is not None:
        found.system.write(output)
    if not found.converged:
        raise Failed(
            f"no force below {fmax:g} eV/Å after {found.steps} evaluations; raise --steps or try --method fire."
        )
