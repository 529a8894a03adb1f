"""Arguments and options that several commands share, and how they print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from jaxmlp.potential import Params, Potential
    from jaxmlp.system import System

Model = Annotated[
    Path,
    typer.Argument(
        help="model file of any known format, or the name of one that comes with jaxmlp: see jaxmlp models",
        show_default=False,
    ),
]
Species = Annotated[
    str | None,
    typer.Option(
        help="elements of the file's types, as Si,C: where it names none (MTP, some GAP)",
        show_default="as in the file",
    ),
]
Units = Annotated[
    str | None,
    typer.Option(
        help="length and energy unit of the file, as bohr,hartree or 1.0,1.0 (Å, eV): for n2p2 folders that do not say",
        show_default="as in the file",
    ),
]
Structure = Annotated[Path, typer.Argument(help="structure file that ASE reads; its last frame", show_default=False)]
Precision = Annotated[
    Literal["double", "mixed"],
    typer.Option(help="double: float64 throughout; mixed: the potential in float32, positions and sums in float64"),
]
Devices = Annotated[
    int | None, typer.Option(help="devices (CPU cores or GPUs) to share the atoms over", min=1, show_default="1")
]


class BadInput(ValueError):
    """Something the user gave is wrong: exit code 2."""


class Failed(RuntimeError):
    """A check failed or a computation diverged: exit code 1."""


def console() -> "Console":
    """Return the console of standard output; plain text, 120 columns wide, where that is no terminal."""
    from rich.console import Console

    here = Console(highlight=False)
    return here if here.is_terminal else Console(highlight=False, width=120)


def execution(precision: str, devices: int | None) -> dict[str, Any]:
    """Return the keyword arguments of drivers for these two options."""
    return {"precision": "mixed" if precision == "mixed" else None, "devices": devices}


def read_model(path: Path, species: str | None, units: str | None) -> "tuple[Potential, Params]":
    """Return the potential and the parameters of a model file."""
    from jaxmlp.formats.detect import load

    return load(path, **load_options(species, units))


def load_options(species: str | None, units: str | None) -> dict[str, Any]:
    """Return the keyword arguments of `jm.load` for the options --species and --units."""
    out: dict[str, Any] = {}
    if species is not None:
        out["species"] = [word.strip() for word in species.split(",")]
    if units is not None:
        words = [word.strip() for word in units.split(",")]
        if len(words) != 2:
            raise BadInput(f"--units takes a length and an energy unit, as bohr,hartree; got {units!r}.")
        out |= {name: _unit(word) for name, word in zip(("length_unit", "energy_unit"), words, strict=True)}
    return out


def _unit(word: str) -> str | float:
    try:
        return float(word)
    except ValueError:
        return word


def read_frames(path: Path) -> list[Any]:
    """Return all frames of a structure file as ASE atoms.

    Raises:
        BadInput: ASE cannot read the file, or finds no atoms.
    """
    import ase.io

    if not path.is_file():
        raise BadInput(f"{path}: there is no such file.")
    try:
        frames = ase.io.read(path, index=":")
    # ASE's many readers raise whatever their parsing trips over.
    except Exception as error:
        raise BadInput(f"{path}: ASE cannot read it ({type(error).__name__}: {error}).") from error
    frames = frames if isinstance(frames, list) else [frames]
    if not frames or any(len(atoms) == 0 for atoms in frames):
        raise BadInput(f"{path}: expected atoms, found none.")
    return frames


def read_system(path: Path) -> "System":
    """Return the last frame of a structure file."""
    from jaxmlp.system import System

    return System.from_ase(read_frames(path)[-1])
