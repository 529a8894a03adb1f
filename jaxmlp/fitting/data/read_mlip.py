"""The .cfg files of MLIP-2 and MLIP-3.

Lengths in Å, energies in eV. "PlusStress" is volume times pressure tensor, in eV and positive under compression: our
virial. (MLIP-3 issue 21: an fcc Cu cell of 3.8^3 Å^3 with PlusStress -2.65141 has the pressure -77417 bar in LAMMPS,
and -2.65141 eV / 54.872 Å^3 = -77417 bar.) The older "Stress:" has the other sign and "Virial:" another
normalisation, depending on the version; MLIP refuses the first, we refuse both.
"""

from collections.abc import Iterator
from os import PathLike

import numpy as np

from jaxmlp.fitting.data.labels import Record, TypeMap, full_tensor, mapped_number, words_of
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import Words
from jaxmlp.system import System

VOIGT_NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
IGNORED = (
    "site_en", "magmom_x", "magmom_y", "magmom_z", "en_der_mx", "en_der_my", "en_der_mz", "ghost", "nbh_grades", "id",
)  # fmt: skip
KNOWN = (
    "type", "cartes_x", "cartes_y", "cartes_z", "direct_x", "direct_y", "direct_z", "fx", "fy", "fz", "charge",
    *IGNORED,
)  # fmt: skip
MOST_ATOMS = 10**9


class _Lines:
    """The lines of one file, of which the next can be looked at."""

    def __init__(self, path: str | PathLike):
        self.path, self.lines, self.line = path, words_of(path), 0
        self.waiting: Words | None = None

    def next_or_none(self) -> Words | None:
        words, self.waiting = self.waiting, None
        words = words or next(self.lines, None)
        self.line = words.line if words else self.line
        return words

    def next(self, expected: str) -> Words:
        words = self.next_or_none()
        if words is None:
            raise FormatError(self.path, self.line, f"expected {expected}, found the end of the file: it is truncated.")
        return words

    def values(self, head: Words, expected: str) -> Words:
        """Return the values of a keyword: on its line, or on the next one."""
        return head[1:] if len(head) > 1 else self.next(expected)


def read_mlip(path: str | PathLike, *, group: str, weight: str, type_map: TypeMap | None) -> Iterator[Record]:
    """Yield the configurations of a .cfg file.

    Args:
        path: the file, plain or gzip.
        group, weight: names of "Feature" lines that hold the configuration's kind and its weight.
        type_map: chemical symbols in the order of the type numbers, from 0, or a mapping {type number: symbol}.

    Raises:
        FormatError: with file and line.
        ValueError: type_map is missing, or lacks a type.
    """
    lines = _Lines(path)
    while (begin := lines.next_or_none()) is not None:
        if begin[0] != "BEGIN_CFG" or len(begin) > 1:
            begin.refuse("BEGIN_CFG")
        yield _configuration(lines, group, weight, type_map)


def _configuration(lines: _Lines, group: str, weight: str, type_map: TypeMap | None) -> Record:
    size, box, data, energy, virial = None, None, None, None, None
    features: dict[str, str] = {}
    first = lines.line
    while (head := lines.next("a keyword or END_CFG"))[0] != "END_CFG":
        match head[0]:
            case "Size":
                size = lines.values(head, "the number of atoms").expect_int(0, "the number of atoms", 1, MOST_ATOMS)
            case "Supercell" | "SuperCell":
                box = np.array([lines.next("a lattice vector").expect_floats(3, "Å") for _ in range(3)])
            case "AtomData:" | "Atomic_data:":
                if size is None:
                    head.refuse("Size before AtomData")
                data = _atom_data(lines, head, size)
            case "Energy":
                energy = lines.values(head, "the energy in eV").expect_float(0, "the energy in eV")
            case "PlusStress:":
                if sorted(head[1:]) != sorted(VOIGT_NAMES):
                    head.refuse(f"PlusStress: and {' '.join(VOIGT_NAMES)} in any order")
                values = dict(zip(head[1:], lines.next("six numbers").expect_floats(6, "components of PlusStress, eV")))
                virial = full_tensor([values[name] for name in VOIGT_NAMES], "PlusStress")
            case "Feature":
                features[head[1] if len(head) > 1 else ""] = " ".join(head[2:])
            case "Stress:" | "Virial:":
                head.refuse("PlusStress:, as signs and units of the older keywords depend on the version of MLIP")
            case _:
                head.refuse("Size, Supercell, AtomData:, Energy, PlusStress:, Feature or END_CFG")
    if data is None:
        raise FormatError(lines.path, first, "expected AtomData: in the configuration that begins here.")
    numbers = _numbers(data, size, type_map, lines.path, first)
    R = _columns(data, ("cartes_x", "cartes_y", "cartes_z"))
    if R is None:
        direct = _columns(data, ("direct_x", "direct_y", "direct_z"))
        if direct is None or box is None:
            raise FormatError(
                lines.path, first, "expected cartes_x cartes_y cartes_z, or direct_x direct_y direct_z and a Supercell."
            )
        R = direct @ box
    try:
        system = System(numbers, R, box)
        importance = float(features.get(weight, 1.0))
    except ValueError as error:
        raise FormatError(lines.path, first, f"in the configuration that begins here, {error}") from error
    return Record(
        system, energy, _columns(data, ("fx", "fy", "fz")), virial,
        charges=data.get("charge"), weight=importance, group=features.get(group, "all"),
    )  # fmt: skip


def _atom_data(lines: _Lines, head: Words, size: int) -> dict[str, np.ndarray]:
    """Return the columns by name."""
    names = list(head[1:])
    unknown = set(names) - set(KNOWN)
    if unknown or len(set(names)) != len(names):
        head.refuse(f"the names of columns among {' '.join(KNOWN)}")
    wanted = [k for k, name in enumerate(names) if name not in IGNORED]
    rows = np.empty((size, len(wanted)))
    for atom in range(size):
        row = lines.next(f"atom {atom + 1} of {size}").expect_length(len(names), f"atom {atom + 1} of {size}")
        rows[atom] = [row.expect_float(k, names[k]) for k in wanted]
    return {names[k]: column for k, column in zip(wanted, rows.T, strict=True)}


def _columns(data: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return np.stack([data[name] for name in names], axis=1) if all(name in data for name in names) else None


def _numbers(data, size: int, type_map: TypeMap | None, path, line: int) -> np.ndarray:
    if type_map is None:
        raise ValueError(
            f'{path}: the elements of a .cfg file are numbers from 0. Name them: type_map=["Si", "O"], '
            'or type_map={14: "Si"}.'
        )
    types = data.get("type", np.zeros(size)).astype(int)  # MLIP: all of type 0 where the column is missing
    of_type = {int(t): mapped_number(int(t), type_map) for t in np.unique(types)}
    missing = [t for t, number in of_type.items() if number is None]
    if missing:
        raise FormatError(path, line, f"the configuration that begins here has atoms of type {missing[0]}; "
                          f"type_map has no element for it: {type_map}.")  # fmt: skip
    return np.array([of_type[t] for t in types.tolist()])
