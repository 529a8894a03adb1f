"""Labelled structures from the files that first-principles codes and other potentials' programs leave."""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path

from ase.io.formats import ioformats

from jaxmlp.fitting.data.labels import Record, TypeMap, scale_of
from jaxmlp.fitting.data.read_ase import Keys, read_database, read_other, read_xyz_file
from jaxmlp.fitting.data.read_deepmd import read_deepmd
from jaxmlp.fitting.data.read_mlip import read_mlip
from jaxmlp.fitting.data.read_n2p2 import read_n2p2
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.formats.errors import FormatError

FORMATS = ("extxyz", "ase-db", "deepmd", "mlip", "n2p2")
HEAD = 1 << 16  # bytes looked at


def read_structures(
    path: str | PathLike,
    *,
    format: str | None = None,
    energy: str = "energy",
    forces: str = "forces",
    stress: str = "stress",
    virial: str = "virial",
    dipole: str = "dipole",
    charges: str = "charges",
    group: str = "config_type",
    weight: str = "config_weight",
    units: Mapping[str, str] | None = None,
    type_map: TypeMap | None = None,
) -> list[Structure]:
    """Return all labelled structures of a file or folder, in Å, eV, eV/Å; labels that are missing are None.

    | format  | what it is                          | signs and units as written                                     |
    |---------|-------------------------------------|----------------------------------------------------------------|
    | extxyz  | extended XYZ, also .gz              | stress: 6 (xx yy zz yz xz xy) or 9 numbers, ASE's sign;         |
    |         |                                     | virial: 9 numbers, W = -volume * stress, as GPUMD and QUIP      |
    | ase-db  | .db and .json of ase.db             | ASE's; labels may also be key-value pairs or data               |
    | deepmd  | a folder with type.raw and          | Å, eV; virial as ours; "mixed" systems (real_atom_types.npy)    |
    |         | set.*/*.npy, or with such folders   | too; the group is the name of the system's folder               |
    | mlip    | .cfg of MLIP-2 and MLIP-3, also .gz | Å, eV; PlusStress = W; needs `type_map`                         |
    | n2p2    | input.data of n2p2, RuNNer          | none of its own: Å and eV unless `units` says otherwise         |
    | others  | any name of a format of ASE         | as ASE converts them                                            |

    Where a file gives both virial and stress they must agree; W = -dE/dstrain is kept.

    Args:
        path: file or folder; recognised by its content.
        format: one of the names above where the content leaves a doubt.
        energy, forces, stress, virial, dipole, charges: names of the labels in files that ASE reads (REF_energy,
            free_energy ...), looked for in the results of a calculator, then in `info` and `arrays`; synonyms (force,
            virials; REF_dipole; charge, REF_charges, initial_charges) and names in another case count where the exact
            name is missing. A name that does not occur leaves the label out. Charges are in e.
        group, weight: names of the configuration's kind and weight in files that ASE reads and in Feature lines of
            .cfg files.
        units: of the file, where they are not Å, eV and what follows from them: {"length": "Bohr", "energy":
            "Hartree"}; see `labels.scale_of`. Files that ASE converts itself (OUTCAR ...) need none.
        type_map: chemical symbols in the order of the type numbers, or a mapping from type (number or name) to
            symbol. For mlip always; for deepmd where a folder has no type_map.raw.

    Raises:
        FormatError: naming file, line or structure, and what was expected.
        FileNotFoundError: there is no such file.
        ValueError: options that make no sense together, or a type_map that is missing or lacks a type.
    """
    keys = Keys(energy, forces, stress, virial, dipole, charges, group, weight)
    return list(_iterate(path, format, keys, units, type_map))


def iterate_structures(
    path: str | PathLike,
    *,
    format: str | None = None,
    energy: str = "energy",
    forces: str = "forces",
    stress: str = "stress",
    virial: str = "virial",
    dipole: str = "dipole",
    charges: str = "charges",
    group: str = "config_type",
    weight: str = "config_weight",
    units: Mapping[str, str] | None = None,
    type_map: TypeMap | None = None,
) -> Iterator[Structure]:
    """Yield what `read_structures` returns, one structure at a time, for files larger than the memory."""
    keys = Keys(energy, forces, stress, virial, dipole, charges, group, weight)
    return _iterate(path, format, keys, units, type_map)


def _iterate(path, format: str | None, keys: Keys, units, type_map: TypeMap | None) -> Iterator[Structure]:
    """Check the arguments at once, not where the first structure is taken."""
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file or folder {path}.")
    scale = scale_of(units)
    if isinstance(type_map, str):
        raise ValueError(f'type_map is a list of symbols, ["Si", "O"], or a mapping; got {type_map!r}.')
    name = recognise(path) if format is None else format
    if name not in FORMATS and name not in ioformats and name != "":
        raise ValueError(f"format must be one of {', '.join(FORMATS)} or the name of a format of ASE; got {format!r}.")
    _refuse_keys(name, keys)

    def structures() -> Iterator[Structure]:
        for place, record in _records(path, name, keys, type_map):
            try:
                structure = record.structure(scale, place)
            except ValueError as error:
                raise FormatError(path, None, str(error)) from error
            yield structure

    return structures()


def _refuse_keys(format: str, keys: Keys) -> None:
    """Names of labels mean nothing in formats that fix them: better say so than ignore them."""
    named = {name for name, value in keys._asdict().items() if value != Keys._field_defaults[name]}
    useless = named & {"deepmd": set(Keys._fields), "n2p2": set(Keys._fields)}.get(format, set())
    if format == "mlip":
        useless = named - {"group", "weight"}
    if useless:
        raise ValueError(f"the format {format} fixes the names of its labels; remove {', '.join(sorted(useless))}.")


def _records(path, format: str, keys: Keys, type_map: TypeMap | None) -> Iterator[tuple[str, Record]]:
    """Yield (place, record)."""
    if format == "deepmd":
        yield from read_deepmd(path, type_map=type_map)
        return
    match format:
        case "extxyz":
            records = read_xyz_file(path, keys)
        case "mlip":
            records = read_mlip(path, group=keys.group, weight=keys.weight, type_map=type_map)
        case "n2p2":
            records = read_n2p2(path)
        case "ase-db" | "db" | "json":
            records = read_database(path, keys)
        case _:
            records = read_other(path, keys, format or None)
    for k, record in enumerate(records):
        yield f"{path}, structure {k}", record


def recognise(path: str | PathLike) -> str:
    """Return the name of a file's format by its content; "" leaves it to ASE.

    Raises:
        FormatError: a folder without a DeePMD-kit system, an empty file.
    """
    path = Path(path)
    if path.is_dir():
        if next(path.rglob("type.raw"), None) is None:
            raise FormatError(
                path, None, "expected, of a folder, DeePMD-kit systems: type.raw and set.*/coord.npy, here or below."
            )
        return "deepmd"
    head = _head(path)
    if head.startswith(b"SQLite format 3\0"):
        return "ase-db"
    if b"\0" in head:
        return ""
    lines = [line.split() for line in head.decode("utf-8", errors="replace").splitlines()]
    words = next((line for line in lines if line), [])
    if not words:
        raise FormatError(path, None, "expected structures, found an empty file.")
    if words[0] == "BEGIN_CFG":
        return "mlip"
    if words == ["begin"]:
        return "n2p2"
    if words[0].startswith("{") and path.suffix == ".json":
        return "ase-db"
    return "extxyz" if _is_xyz([line for line in lines[lines.index(words) :]]) else ""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head[:2] != b"\x1f\x8b":
        return head
    try:
        with gzip.open(path, "rb") as file:
            return file.read(HEAD)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(path, None, f"the gzip file is damaged: {error}.") from error


def _is_xyz(lines: list[list[str]]) -> bool:
    """The number of atoms, a comment, and then an element and numbers."""
    if len(lines[0]) != 1 or not lines[0][0].isdigit() or len(lines) < 3:
        return False
    return any("properties=" in word.casefold() for word in lines[1]) or (
        len(lines[2]) >= 4 and lines[2][0][:1].isalpha() and lines[2][1][-1:].isdigit()
    )
