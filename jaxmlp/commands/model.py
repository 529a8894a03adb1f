"""jaxmlp models, info, convert, check: about a model file."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from jaxmlp.commands.options import Failed, Model, Species, Units, console, read_model, read_system


def models() -> None:
    """List the potentials that come with jaxmlp, whose names stand for model files in every command."""
    from rich.table import Table

    from jaxmlp.shipped import FOLDER
    from jaxmlp.shipped import models as shipped

    table = Table(caption=f"errors: RMSE on the test set; cards and configurations: {FOLDER}", caption_justify="left")
    for k, title in enumerate(("name", "cutoff (Å)", "parameters", "meV/atom", "meV/Å", "µs/atom")):
        table.add_column(title, justify="right" if k else "left")
    for name, model in shipped().items():
        n = model.numbers
        energy, forces = (n["errors"]["test"]["all"][kind]["rmse"] for kind in ("energy", "forces"))
        cost = n["microseconds"]
        words = (f"{n['cutoff']:g}", str(n["parameters"]), f"{energy:.2f}", f"{forces:.0f}")
        table.add_row(name, *words, "" if cost is None else f"{cost:.1f}")
    console().print(table)


def info(model: Model, species: Species = None, units: Units = None) -> None:
    """Say what a model file holds: format, elements, cutoff (Å), hyper-parameters, number of parameters."""
    import jax
    import numpy as np
    from ase.data import chemical_symbols
    from rich.table import Table

    from jaxmlp.formats import detect

    potential, params = read_model(model, species, units)
    table = Table(title=str(model), show_header=False)
    leaves = jax.tree.leaves(params)
    rows = {
        "format": detect.recognise(model).name,
        "potential": type(potential).__name__,
        "elements": " ".join(chemical_symbols[z] for z in potential.species),
        "cutoff": f"{potential.cutoff:g} Å",
        "parameters": f"{sum(np.size(x) for x in leaves)} in {len(leaves)} arrays",
        "evaluation": _evaluation(potential),
    }
    for field in dataclasses.fields(potential):  # type: ignore[arg-type]
        if field.name not in ("species", "cutoff") and field.init:
            text = _brief(getattr(potential, field.name))
            rows[field.name] = text if len(text) <= 1000 else f"{text[:1000]} ..."
    for name, value in rows.items():
        table.add_row(name, value)
    console().print(table)


def _evaluation(potential) -> str:
    """How far an atom's energy sees."""
    from jaxmlp.potential import MessagePassing

    if potential.local:
        return "local, in blocks of atoms"
    if isinstance(potential, MessagePassing):
        return f"{potential.steps} steps in blocks of atoms, sees {potential.steps * potential.cutoff:g} Å far"
    return "whole system at once"


def _brief(value) -> str:
    """Hyper-parameters in words: of parts, what is not the default; parts that are alike in kind below each other."""
    if dataclasses.is_dataclass(value):
        fields = [(f, getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr]
        told = ", ".join(f"{f.name}={_brief(x)}" for f, x in fields if x != f.default)
        return f"{type(value).__name__}({told})"
    if isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
        return "\n".join(map(_brief, value))
    return str(value)


def convert(
    model: Model,
    out: Annotated[Path, typer.Argument(help="file to write; its ending decides the format", show_default=False)],
    species: Species = None,
    units: Units = None,
) -> None:
    """Write a model in another format: .safetensors holds any; .txt (NEP), .mtp, .sw, .tersoff ... their own."""
    from jaxmlp.formats import detect

    potential, params = read_model(model, species, units)
    detect.save(out, potential, params)
    console().print(f"{model} ({detect.recognise(model).name}) -> {out} ({detect.recognise(out).name})")


def check(
    model: Model,
    structure: Annotated[
        Path | None,
        typer.Argument(help="structure to test on; by default a crystal of the model's elements", show_default=False),
    ] = None,
    section: Annotated[
        list[str] | None,
        typer.Option(
            help="derivatives, symmetry, neighbours, curves, dynamics or speed; may be repeated", show_default="all"
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="write the card as JSON to this file")] = None,
    png: Annotated[Path | None, typer.Option(help="draw the card into this PNG file")] = None,
    steps: Annotated[int, typer.Option(help="steps of the runs at constant energy", min=10)] = 1000,
    seed: Annotated[int, typer.Option(help="of random directions and velocities")] = 0,
    species: Species = None,
    units: Units = None,
) -> None:
    """Print a validation card; exit code 1 if a hard test fails.

    Forces and stress against finite differences, symmetries, smoothness at the cutoff, dimer curves, energy
    conservation in each precision, speed. In eV, Å and ps.
    """
    from jaxmlp import check_report
    from jaxmlp.check import SECTIONS
    from jaxmlp.check import check as run

    potential, params = read_model(model, species, units)
    system = None if structure is None else read_system(structure)
    out = console()
    with out.status("checking (compilation takes most of the time) ..."):
        card = run(potential, params, system, sections=section or SECTIONS, steps=steps, seed=seed)
    check_report.print_card(card, out)
    if json is not None:
        check_report.write_json(card, json)
    if png is not None:
        check_report.write_png(card, png)
    if not card.passed:
        raise Failed(f"{model}: a hard test of the validation card fails.")
