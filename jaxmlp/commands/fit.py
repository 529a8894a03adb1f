"""jaxmlp fit."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from jaxmlp.commands.options import console


def fit(
    config: Annotated[Path, typer.Argument(help="YAML file: data, potential, method ...", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder of the results", show_default="as in the file, or fit/"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="epochs, generations or steps", min=1, show_default="as in the file")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="look for wrong labels in the data, and stop")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start again where the folder holds a run")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the report")] = False,
) -> None:
    """Fit a potential to labelled structures.

    The configuration, with a small one as example:

    \b
        data:
          train: train.xyz            # also ASE databases, deepmd folders, MLIP .cfg, n2p2 input.data
          validation: 0.1             # a fraction, or a file
          test: test.xyz
          stream: false               # true: structures stay on disk, for sets larger than the memory
        potential: {family: nep, cutoff: [6.0, 4.5]}
        loss: {energy: 1.0, forces: 1.0, virial: 0.1}   # also hessian, dipole, charges, smooth
        optimizer: {learning_rate: {schedule: exponential, start: 0.01, end: 1.0e-5}, clip: 10}
        epochs: 200
        precision: float32            # float64; mixed: sums in float64, the potential in float32

    All words are those of `jaxmlp.fitting.Config`. Families: nep, mtp, snap, ace, gap, bpnn, dp, schnet, painn,
    dimenet, egnn, nequip, allegro, mace. The folder holds the potential (any command reads it), the log, figures and
    the report; the same command goes on with a run that was stopped. Exit code 1 if the training diverged.
    """
    import json

    from jaxmlp.fitting import fit as run
    from jaxmlp.fitting import read_config
    from jaxmlp.fitting.data.findings import report
    from jaxmlp.fitting.sets import check_set, read_sets
    from jaxmlp.fitting.training.progress import Log, Progress

    changes = {} if epochs is None else {"epochs": epochs}
    settings = read_config(config, **changes)
    folder = output or Path(settings.output or "fit")
    settings = read_config(settings, output=str(folder), resume=settings.resume and not fresh)
    if check:
        for name, structures in read_sets(settings).items():
            found = check_set(structures)
            typer.echo(f"{name}: {len(structures)} structures, {sum(len(s) for s in structures)} atoms")
            if found:
                typer.echo(report(found))
            if any(f.severity == "error" for f in found):
                raise typer.Exit(1)
        return
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder)
    shown = nullcontext() if quiet else Progress(settings.epochs, console=console())
    with shown as progress:

        def on_epoch(row):
            log.write(row)
            if progress is not None:
                progress.update(row)

        fitted = run(settings, on_epoch=on_epoch)
    if fitted.findings and not quiet:
        typer.echo(report(fitted.findings))
    typer.echo((folder / "report.txt").read_text(), nl=False)
    typer.echo(json.dumps({"seconds": round(fitted.seconds, 1), "files": sorted(p.name for p in folder.iterdir())}))
