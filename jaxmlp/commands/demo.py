"""jaxmlp demo: a tour that needs no file."""

from pathlib import Path
from typing import Annotated

import typer

from jaxmlp.commands.options import Failed, console


def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="folder for the report")] = Path("jaxmlp-demo"),
    steps: Annotated[int, typer.Option(help="steps of dynamics, 1 fs each", min=10)] = 4000,
    temperature: Annotated[float, typer.Option(help="K")] = 1000.0,
) -> None:
    """Relax silicon by a NEP, compute its elastic constants (GPa), run 512 atoms, and write a one-page report."""
    from jaxmlp.demo import report, run

    out = console()
    with out.status("computing ..."):
        result = run(folder, steps=steps, temperature=temperature, tell=out.print)
    out.print(report(result))
    out.print(f"written to {folder}/")
    if not result.agrees:
        raise Failed("the numbers of the crystal are not those of the potential's card.")
