"""Read any known model file, recognised by its content; write one, chosen by the name's ending."""

import importlib
import inspect
import re
from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

from jaxmlp.formats.ace import recognise as _is_ace
from jaxmlp.formats.deepmd import recognise as _is_deepmd
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.gap_xml import recognise as _is_gap
from jaxmlp.formats.native import recognise as _is_safetensors
from jaxmlp.formats.torch_files import architecture, weights_of
from jaxmlp.potential import Params, Potential
from jaxmlp.shipped import located

HEAD = 1 << 16  # bytes looked at


class Format(NamedTuple):
    """One file format.

    Args:
        name: for messages.
        module: has `load(path) -> (potential, params)` and, where it can write, `save(path, potential, params)`.
        recognise: (first bytes of the file, its path) -> does the content look like this format?
        endings: how file names of this format end. For reading they decide only where the content leaves a doubt.
        options: of `load`.
        writes: `save` exists.
    """

    name: str
    module: str
    recognise: Callable[[bytes, str | PathLike], bool]
    endings: tuple[str, ...]
    options: dict[str, str] = {}  # noqa: RUF012, never changed
    writes: bool = True


def _lines(head: bytes, comment: str | None = None) -> list[list[str]]:
    """The words of each line; none at all for binary data."""
    if b"\0" in head:
        return []
    lines = head.decode("utf-8", errors="replace").splitlines()
    return [(line.split(comment, 1)[0] if comment else line).split() for line in lines]


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?", word) is not None


def _is_nep(head: bytes, path: str | PathLike) -> bool:
    """The first word is nep, nep3, nep4_zbl ..., the second a number of elements."""
    first = next(iter(_lines(head)), [])
    return len(first) > 1 and first[0].startswith("nep") and first[1].isdigit()


def _is_mtp(head: bytes, path: str | PathLike) -> bool:
    """The first line is MTP; an .almtp file may hold binary data further on."""
    return head.split(b"\n", 1)[0].strip() == b"MTP"


def _is_snap(head: bytes, path: str | PathLike) -> bool:
    """A recipe of LAMMPS commands, keywords, or coefficients: two numbers, then an element, its radius and weight."""
    lines = [words for words in _lines(head, "#") if words]
    if {"rcutfac", "twojmax"} <= {words[0] for words in lines}:
        return True
    if any(words[0] == "pair_style" and "snap" in words for words in lines):
        return True
    kinds = [[_is_number(word) for word in words] for words in lines[:3]]
    return kinds == [[True] * 2, [False, True, True], [True]] and lines[0][0].isdigit()


def _is_n2p2(head: bytes, path: str | PathLike) -> bool:
    """Lines of symmetry functions, in a file of any name."""
    return any(line[:1] == ["symfunction_short"] for line in _lines(head))


def _entry(elements: int, numbers: int) -> Callable[[bytes, str | PathLike], bool]:
    """LAMMPS tables: every entry is so many element names, then so many numbers, over any number of lines."""

    def recognise(head: bytes, path: str | PathLike) -> bool:
        words = [w for line in _lines(head, "#") for w in line]
        entry, after = words[: elements + numbers], words[elements + numbers :]
        kinds = [_is_number(w) for w in entry]
        return kinds == [False] * elements + [True] * numbers and (not after or not _is_number(after[0]))

    return recognise


def _grid(line: list[str]) -> bool:
    """nrho drho nr dr cutoff, as both kinds of EAM files have it."""
    return len(line) >= 5 and all(map(_is_number, line[:5])) and line[0].isdigit() and line[2].isdigit()


def _is_setfl(head: bytes, path: str | PathLike) -> bool:
    """Three lines of comment, then the number of elements and their names, then the grid."""
    lines = _lines(head)
    if len(lines) < 5 or not lines[3] or not lines[3][0].isdigit():
        return False
    return len(lines[3]) > int(lines[3][0]) > 0 and not _is_number(lines[3][1]) and _grid(lines[4])


def _is_funcfl(head: bytes, path: str | PathLike) -> bool:
    """A line of comment, then Z, mass, lattice constant and name, then the grid."""
    lines = _lines(head)
    return len(lines) > 2 and len(lines[1]) >= 3 and all(map(_is_number, lines[1][:3])) and _grid(lines[2])


def _is_network(*families: str) -> Callable[[bytes, str | PathLike], bool]:
    """A graph network stored by PyTorch, or as arrays, told by the names of its tensors."""
    return lambda head, path: architecture(path) in families


# Endings of models of PyTorch, or none; no options; reading only.
TORCH: tuple = (("best_model", "model.pt", "state_dict.pt", ".model", "weights.npz"), {}, False)

# A new format joins by one line.
FORMATS = (
    Format("jaxmlp's own (safetensors)", "jaxmlp.formats.native", _is_safetensors, (".safetensors",)),
    Format("NEP (nep.txt of GPUMD)", "jaxmlp.formats.nep", _is_nep, (".txt", ".nep")),
    Format("MTP (.mtp of MLIP-2, .almtp of MLIP-3)", "jaxmlp.formats.mtp", _is_mtp, (".mtp", ".almtp")),
    Format(
        "SNAP (.snapcoeff with .snapparam, .snap)",
        "jaxmlp.formats.snap",
        _is_snap,
        (".snap", ".snapcoeff", ".snapparam"),
    ),
    Format("LAMMPS Stillinger-Weber", "jaxmlp.formats.lammps_sw", _entry(3, 11), (".sw",)),
    Format("LAMMPS Tersoff", "jaxmlp.formats.lammps_tersoff", _entry(3, 14), (".tersoff",)),
    Format("EAM setfl", "jaxmlp.formats.lammps_eam", _is_setfl, (".alloy", ".setfl"), {"kind": "alloy"}),
    Format("EAM setfl, Finnis-Sinclair", "jaxmlp.formats.lammps_eam", _is_setfl, (".fs",), {"kind": "fs"}),
    Format("EAM funcfl", "jaxmlp.formats.lammps_eam", _is_funcfl, (".eam",), {"kind": "funcfl"}, writes=False),
    Format("n2p2 or RuNNer (folder with input.nn)", "jaxmlp.formats.n2p2", _is_n2p2, ("input.nn", ".n2p2")),
    Format("GAP (gap.xml of QUIP)", "jaxmlp.formats.gap", _is_gap, (".xml",)),
    Format("ACE (pacemaker, LAMMPS pace)", "jaxmlp.formats.ace", _is_ace, (".yace", ".ace", ".yaml")),
    Format(
        "Deep Potential (deepmd-kit)", "jaxmlp.formats.deepmd", _is_deepmd, (".dp", ".json", ".yaml", ".pth", ".pb")
    ),
    Format("SchNet, PaiNN (schnetpack)", "jaxmlp.formats.schnetpack", _is_network("SchNet", "PaiNN"), *TORCH),
    Format("DimeNet++ (PyTorch Geometric)", "jaxmlp.formats.dimenet", _is_network("DimeNetPlusPlus"), *TORCH),
    Format("EGNN", "jaxmlp.formats.egnn", _is_network("EGNN"), *TORCH),
    Format("NequIP (nequip)", "jaxmlp.formats.nequip", _is_network("NequIP"), *TORCH),
    Format("Allegro (nequip-allegro)", "jaxmlp.formats.allegro", _is_network("Allegro"), *TORCH),
    Format("MACE (mace-torch)", "jaxmlp.formats.mace", _is_network("MACE", "ScaleShiftMACE"), *TORCH),
)


def recognise(path: str | PathLike) -> Format:
    """Return the format of a file, or of a potential that comes with jaxmlp.

    Raises:
        FormatError: the content is that of no known format.
        OSError: the file cannot be read.
    """
    path = located(path)
    if Path(path).is_dir():
        if (Path(path) / "input.nn").is_file():
            return recognise(Path(path) / "input.nn")
        try:
            return recognise(weights_of(path))
        except FormatError as error:
            raise FormatError(path, None, f"expected a model file, found a folder. {_known()}") from error
    with open(path, "rb") as file:
        head = file.read(HEAD)
    ending = [f for f in FORMATS if fspath(path).lower().endswith(f.endings)]
    content = [f for f in FORMATS if f.recognise(head, path)]
    both = [f for f in content if f in ending]
    for choice in (both, content, ending):  # an ending alone leads to a reader that says what is wrong
        if choice and head:
            return choice[0]
    found = "an empty file" if not head else f"{_shown(head)}"
    raise FormatError(path, 1 if head else None, f"expected a model file, found {found}. {_known()}")


def load(path: str | PathLike, **options) -> tuple[Potential, Params]:
    """Return the potential and the parameters of a model file of any known format.

    >>> potential, params = jm.load("silicon/nep")     # comes with jaxmlp, see `jm.models`

    Args:
        path: of the file, or the name of a potential that comes with jaxmlp.
        options: of the format's own `load`; MTP files take species=["Si", "C"], the elements of their types, LAMMPS
            tables elements=["Si", "C"], the labels to choose.

    Raises:
        FormatError: an unknown format, or a file that is damaged or contradicts itself.
        ValueError: an option that this format does not have.
        OSError: the file cannot be read.
    """
    path = located(path)
    found = recognise(path)
    reader = importlib.import_module(found.module).load
    known = [name for name in inspect.signature(reader).parameters if name != "path" and name not in found.options]
    for name in options:
        if name not in known:
            raise ValueError(f"{found.name} has no option {name!r} to load it with; it has: {', '.join(known) or '-'}.")
    return reader(path, **found.options, **options)


def save(path: str | PathLike, potential: Potential, params: Params) -> None:
    """Write a model file in the format that the ending of its name stands for; .safetensors holds every potential.

    Raises:
        ValueError: an unknown ending, or a potential that the format cannot express.
    """
    found = [f for f in FORMATS if f.writes and fspath(path).lower().endswith(f.endings)]
    family = type(potential).__module__.rsplit(".", 1)[-1]
    for candidate in sorted(found, key=lambda f: not family.startswith(f.module.rsplit(".", 1)[-1])):  # .yaml is shared
        return importlib.import_module(candidate.module).save(path, potential, params)
    endings = ", ".join(f"{' or '.join(f.endings)} for {f.name}" for f in FORMATS if f.writes)
    raise ValueError(f"cannot tell from the name {fspath(path)!r} which format to write; use {endings}.")


def _known() -> str:
    return "Known are: " + "; ".join(f.name for f in FORMATS) + "."


def _shown(head: bytes) -> str:
    text = head[:60].decode("utf-8", errors="replace").splitlines() or [""]
    return "binary data" if b"\0" in head[:60] else f"`{text[0]}`"
