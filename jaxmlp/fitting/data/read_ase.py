"""Extended XYZ, databases of ASE and whatever else ASE reads."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.io.extxyz import read_xyz

from jaxmlp.fitting.data.labels import Record, full_tensor, lines_of
from jaxmlp.formats.errors import FormatError
from jaxmlp.system import System

# What ASE's readers raise on files that make no sense; ase.io.ParseError and UnknownFileTypeError among them.
ASE_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, EOFError, OSError,
    RuntimeError, ImportError, sqlite3.Error, ase.io.ParseError, ase.io.formats.UnknownFileTypeError,
)  # fmt: skip
_SIX_STRESSES = re.compile(r"""\b(stress)\s*=\s*(["'{\[])([^"'{}\[\]]*)["'}\]]""", re.IGNORECASE)


class Keys(NamedTuple):
    """Names under which a file keeps the labels; where a name is the default one, its usual synonyms count too."""

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
    virial: str = "virial"
    dipole: str = "dipole"
    charges: str = "charges"
    group: str = "config_type"
    weight: str = "config_weight"


SYNONYMS = {
    "forces": ("force",),
    "virial": ("virials",),
    "dipole": ("dipoles", "REF_dipole"),
    "charges": ("charge", "REF_charges", "initial_charges"),  # those of MACE's data sets, and of ASE's Atoms
}


def read_xyz_file(path: str | PathLike, keys: Keys) -> Iterator[Record]:
    """Yield the frames of an extended XYZ file, plain or gzip, one at a time.

    As GPUMD does, keywords of the comment line may be in any case. ASE takes the stress as nine numbers only; six, in
    Voigt's order, are accepted too.

    Raises:
        FormatError: naming file, frame and the line where it begins.
    """
    lines = enumerate(lines_of(path), 1)
    frame = 0
    for number, line in lines:
        if not line.strip():
            continue
        if not line.strip().isdigit():
            raise FormatError(
                path, number, f"expected the number of atoms of structure {frame}, found `{line.strip()[:80]}`."
            )
        size = int(line)
        text = [line for _, (_, line) in zip(range(size + 1), lines)]
        if len(text) < size + 1:
            raise FormatError(
                path, number, f"structure {frame} has {size} atoms, but the file ends after {len(text)} lines."
            )
        try:
            yield record_of(read_frame(size, text), keys)
        except ASE_ERRORS as error:
            raise FormatError(path, number, f"structure {frame}: {_said(error)}") from error
        frame += 1


def read_frame(size: int, text: list[str]) -> Atoms:
    """Return the structure of one comment line and the lines of `size` atoms."""
    header = re.sub(r"(?i)\b(lattice|properties|pbc)\s*=", lambda m: _ASE_NAMES[m[1].lower()] + "=", text[0])
    header = _SIX_STRESSES.sub(_nine, header)
    return next(read_xyz(StringIO(f"{size}\n{header.rstrip()}\n{''.join(text[1:])}"), 0))


_ASE_NAMES = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}


def _nine(match: re.Match) -> str:
    words = match[3].replace(",", " ").split()
    if len(words) == 6:
        xx, yy, zz, yz, xz, xy = words
        words = [xx, xy, xz, xy, yy, yz, xz, yz, zz]
    return f'{match[1]}="{" ".join(words)}"'


def read_database(path: str | PathLike, keys: Keys) -> Iterator[Record]:
    """Yield the rows of a database of ASE; labels may be results, key-value pairs or data.

    Raises:
        FormatError: naming file and row.
    """
    from ase.db import connect

    row = None
    try:
        for row in connect(Path(path), serial=True).select():
            atoms = row.toatoms()
            atoms.info = dict(row.data) | row.key_value_pairs
            yield record_of(atoms, keys)
    except ASE_ERRORS as error:
        where = "" if row is None else f"row {row.id}: "
        raise FormatError(path, None, f"{where}{_said(error)}") from error


def read_other(path: str | PathLike, keys: Keys, format: str | None) -> Iterator[Record]:
    """Yield the structures of any other file that ASE reads (OUTCAR, vasprun.xml, traj, CP2K, FHI-aims ...).

    Raises:
        FormatError: naming file and structure.
    """
    frame = 0
    try:
        for atoms in ase.io.iread(path, index=":", format=format):
            yield record_of(atoms, keys)
            frame += 1
    except ASE_ERRORS as error:
        raise FormatError(path, None, f"structure {frame}, read by ASE: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def record_of(atoms: Atoms, keys: Keys) -> Record:
    """Return what an `ase.Atoms` says: results of its calculator first, then `info` and `arrays`.

    Raises:
        ValueError: labels that are no numbers, or not as many as they should be.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    whole = (results, atoms.info)
    each = (results, atoms.arrays, atoms.info)

    def numbers(name: str, places) -> np.ndarray | None:
        value = _find(getattr(keys, name), name, places)
        if value is None:
            return None
        try:
            return np.asarray(value, dtype=float)
        except (ValueError, TypeError):
            raise ValueError(f"expected numbers as {getattr(keys, name)}, found {value!r:.80}.") from None

    energy, forces, dipole = numbers("energy", whole), numbers("forces", each), numbers("dipole", whole)
    virial, stress, charges = numbers("virial", whole), numbers("stress", whole), numbers("charges", each)
    if energy is not None and energy.size != 1:
        raise ValueError(f"expected one number as {keys.energy}, found {energy.size}.")
    importance = _find(keys.weight, "weight", (atoms.info,))
    group = _find(keys.group, "group", (atoms.info,))
    return Record(
        System.from_ase(atoms),
        None if energy is None else float(energy.ravel()[0]),
        forces,
        None if virial is None else full_tensor(virial, keys.virial),
        None if stress is None else full_tensor(stress, keys.stress),
        None if dipole is None else dipole.ravel(),
        None if charges is None else charges.ravel(),
        1.0 if importance is None else float(importance),
        "all" if group is None else str(group),
        float(atoms.cell.volume) if atoms.cell.rank == 3 else None,
    )


def _find(key: str, label: str, places: tuple[Mapping[str, Any], ...]) -> Any:
    """Return the value of a key: as it is written, else as a synonym of a default name, else in another case."""
    names = (key, *(SYNONYMS.get(label, ()) if key == Keys._field_defaults[label] else ()))
    for name in names:
        for place in places:
            if place.get(name) is not None:
                return place[name]
    folded = {name.casefold() for name in names}
    for place in places:
        for name, value in place.items():
            if name.casefold() in folded and value is not None:
                return value
    return None
