"""Potentials that come with jaxmlp: their names, files, configurations and cards."""

import json
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
FILE = "potential.safetensors"


class Shipped(NamedTuple):
    """The files of one potential that comes with jaxmlp.

    Args:
        name: what `jm.load`, configurations of fits and the command line take in place of a file: "silicon/nep".
        folder: of potential.safetensors, config.yaml (which fitted it), card.md and card.json.
    """

    name: str
    folder: Path

    @property
    def file(self) -> Path:
        """The potential, in jaxmlp's own format."""
        return self.folder / FILE

    @property
    def config(self) -> Path:
        """The configuration of the fit, for `jm.fit` and `jaxmlp fit`."""
        return self.folder / "config.yaml"

    @property
    def card(self) -> str:
        """What it learned, its errors, and what it is not for: Markdown."""
        return (self.folder / "card.md").read_text(encoding="utf-8")

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers of the card, and energy and forces of a small cell to compare with."""
        return json.loads((self.folder / "card.json").read_text(encoding="utf-8"))


def models() -> dict[str, Shipped]:
    """Return the potentials that come with jaxmlp, by name.

    >>> list(jm.models())
    ['silicon/ace', 'silicon/bpnn', ...]
    >>> potential, params = jm.load("silicon/nep")
    """
    folders = sorted(path.parent for path in FOLDER.glob(f"*/*/{FILE}"))
    return {name: Shipped(name, path) for path in folders for name in [path.relative_to(FOLDER).as_posix()]}


def located(path: str | PathLike) -> Path:
    """Return the path of a model: of a file or folder that exists, or of the shipped potential of that name.

    Raises:
        FileNotFoundError: there is neither.
    """
    path = Path(path)
    if path.exists():
        return path
    there = models()
    if path.as_posix() in there:
        return there[path.as_posix()].file
    from jaxmlp.fitting.families import similar  # the package imports this module

    hint = similar(path.as_posix(), there)
    raise FileNotFoundError(
        f"No such file: {path}; nor does a potential of that name come with jaxmlp{hint}: there are {', '.join(there)}."
    )


def named(path: str | PathLike) -> bool:
    """Return whether this is the name of a shipped potential."""
    return Path(path).as_posix() in models()
