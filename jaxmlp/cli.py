"""The command line: `jaxmlp COMMAND ...`.

Exit codes: 0 done; 1 a check failed, a run diverged or did not converge; 2 bad input. Errors are one line on standard
error; `jaxmlp --debug COMMAND ...` shows where they come from.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from jaxmlp.commands import compute, dynamics, fit, free_energy, model, quantum
from jaxmlp.commands.demo import demo
from jaxmlp.commands.options import Failed

app = typer.Typer(
    name="jaxmlp",
    help="Interatomic potentials as differentiable functions. Units: Å, eV, amu, K, fs; pressure in GPa.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    model.models, model.info, compute.evaluate, compute.relax, dynamics.md, quantum.pimd, free_energy.free_energy,
    free_energy.melt, fit.fit, model.convert, model.check, demo,
):  # fmt: skip
    app.command()(command)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the Python traceback of errors")] = False,
) -> None:
    """Interatomic potentials as differentiable functions. Units: Å, eV, amu, K, fs; pressure in GPa."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_jax(arguments)
    from ase.calculators.calculator import CalculationFailed

    try:
        app(arguments)
    except SystemExit as done:  # help, usage errors (2) and interruptions (1) are reported by typer
        return done.code if isinstance(done.code, int) else 0
    except (Failed, CalculationFailed, ValueError, OSError, RuntimeError) as error:
        if "--debug" in arguments[:1]:
            raise
        wrong_input = isinstance(error, ValueError | OSError)
        return _complain(" ".join(str(error).split()), 2 if wrong_input else 1)
    return 0


def _prepare_jax(arguments: list[str]) -> None:
    """Double precision, and as many host devices as `--devices` asks for, before jax starts.

    One thread for each device: the operations are small, and XLA's threads make them a third slower.
    """
    os.environ.setdefault("NPROC", "1")
    for k, word in enumerate(arguments):
        value = word.partition("=")[2] if word.startswith("--devices=") else None
        if word == "--devices" and k + 1 < len(arguments):
            value = arguments[k + 1]
        if value and value.isdigit() and int(value) > 1:
            flag = f"--xla_force_host_platform_device_count={value}"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    import jax

    jax.config.update("jax_enable_x64", True)


def _complain(message: str, code: int) -> int:
    print(f"jaxmlp: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
