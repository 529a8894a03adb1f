"""Recipes of SNAP (.snap): the lines of LAMMPS input that choose the files and overlay a ZBL repulsion.

`pair_style snap`, or `pair_style hybrid/overlay zbl inner outer snap` in either order, and their `pair_coeff` lines are
obeyed. Variables of style equal, string and index with plain values are put in for $x and ${x}; other commands that do
not change the energy are passed over.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import chemical_symbols

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.lammps_triplets import atomic_number
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params
from jaxmlp.potentials.zbl import ZBL

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w))")
_PASSED = ("variable", "mass", "pair_modify", "neighbor", "neigh_modify", "print", "labelmap", "units", "atom_style")
LAMMPS_COULOMB = 14.399645  # eV Å, in metal units


class Recipe(NamedTuple):
    """What a recipe says.

    Args:
        coefficients, hyperparameters: the two files.
        species: atomic numbers, each once, in the order of the types.
        zbl: the repulsion and the charges of the species, if there is one.
    """

    coefficients: Path
    hyperparameters: Path
    species: tuple[int, ...]
    zbl: tuple[ZBL, np.ndarray] | None


def recognise(head: bytes) -> bool:
    """Does it begin like a LAMMPS input with a SNAP potential?"""
    if b"\0" in head:
        return False
    lines = [line.split("#", 1)[0].split() for line in head.decode("utf-8", errors="replace").splitlines()]
    return any(words[:1] == ["pair_style"] and "snap" in words for words in lines)


def read(path: Path) -> Recipe:
    """Return what a recipe says.

    Raises:
        FormatError: other pair styles, or lines that are missing or contradict each other.
    """
    reader = TextReader(path, "a SNAP recipe")
    variables: dict[str, str] = {}
    style, snap, zbl_lines = None, None, []
    while (line := reader.next_or_none()) is not None:
        line = _substituted(line, variables)
        command = line[0]
        if command == "variable":
            if len(line) == 4 and line[2] in ("equal", "string", "index"):
                variables[line[1]] = line[3]
            else:
                line.refuse("a variable of style equal, string or index with one value")
        elif command == "pair_style":
            if style is not None:
                line.refuse("one pair_style")
            style = line
        elif command == "pair_coeff":
            if len(line) > 3 and line[3] == "zbl":
                zbl_lines.append(line)
            elif snap is None:
                snap = line
            else:
                line.refuse("one pair_coeff line of snap")
        elif command not in _PASSED:
            line.refuse("pair_style, pair_coeff, variable, or a command that does not change the energy")
    if style is None:
        reader.refuse_end("a pair_style")
    assert style is not None
    window = _window(style)
    if snap is None:
        reader.refuse_end("pair_coeff * * [snap] coefficients hyper-parameters elements")
    assert snap is not None
    names = snap[4:] if snap.words[3:4] == ["snap"] else snap[3:]
    if snap.words[1:3] != ["*", "*"] or len(names) < 3:
        snap.refuse("pair_coeff * * [snap] coefficients hyper-parameters elements")
    types = [0 if name == "NULL" else atomic_number(name) for name in names[2:]]
    if None in types or not any(types):
        snap.refuse("chemical elements, or NULL, after the two files")
    species = tuple(dict.fromkeys(z for z in types if z))
    files = [path.parent / name for name in names[:2]]
    for file in files:
        if not file.is_file():
            snap.refuse(f"a file {file} that exists")
    if window is None and zbl_lines:
        zbl_lines[0].refuse("zbl in the pair_style")
    zbl = None
    if window is not None:
        charges = _charges(zbl_lines, snap, [z or 0 for z in types], species)
        zbl = ZBL(species, window[1], inner=window[0], coulomb=LAMMPS_COULOMB), charges
    return Recipe(files[0], files[1], species, zbl)


def _substituted(line: Words, variables: dict[str, str]) -> Words:
    """The line with the values of variables."""

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        if name not in variables:
            line.refuse(f"a variable that was set before ({name})")
        return variables[name]

    return Words(line.path, line.line, [_VARIABLE.sub(value, word) for word in line])


def _window(style: Words) -> tuple[float, float] | None:
    """inner and outer of zbl, or None without it."""
    words = style.words[1:]
    if words == ["snap"]:
        return None
    if words[:1] == ["hybrid/overlay"]:
        rest = style[2:]
        if len(rest) == 4 and "snap" in (rest[0], rest[3]):
            zbl = rest[1:] if rest[0] == "snap" else rest[:3]
            if zbl[0] == "zbl":
                outer = zbl.expect_float(2, "the outer distance of zbl", 1e-3, 100.0)
                inner = zbl.expect_float(1, "the inner distance of zbl", 0.0, 100.0)
                if inner >= outer:
                    style.refuse("an inner distance below the outer one")
                return inner, outer
    style.refuse("pair_style snap, or hybrid/overlay zbl inner outer snap")


def _charges(lines: list[Words], snap: Words, types: list[int], species: tuple[int, ...]) -> np.ndarray:
    """The nuclear charge of each species, from the lines of all pairs."""
    charge: dict[int, float] = {}
    pairs = set()
    for line in lines:
        line.expect_length(6, "pair_coeff i j zbl Zi Zj")
        for side in (0, 1):
            z = line.expect_float(4 + side, "a nuclear charge", 0.0, 1000.0)
            for k in _types(line, 1 + side, len(types)):
                if types[k] and charge.setdefault(types[k], z) != z:
                    line.refuse(f"one nuclear charge of {chemical_symbols[types[k]]}, not also {charge[types[k]]:g}")
        pairs |= {
            frozenset((types[a], types[b])) for a in _types(line, 1, len(types)) for b in _types(line, 2, len(types))
        }
    for a in species:
        for b in species:
            if frozenset((a, b)) not in pairs:
                names = f"{chemical_symbols[a]} {chemical_symbols[b]}"
                raise FormatError(snap.path, snap.line, f"expected a pair_coeff line of zbl for {names}, found none.")
    return np.array([charge[z] for z in species])


def _types(line: Words, k: int, count: int) -> range:
    """The places of the types that word k (`2`, `*`, `2*`, `*2`, `1*2`) means."""
    match = re.fullmatch(r"(\d{0,4})(\*?)(\d{0,4})", line[k])
    if not match or not line[k] or (match[3] and not match[2]):
        line.refuse("types as numbers, with * for ranges")
    first = int(match[1] or 1)
    last = int(match[3] or count) if match[2] else first
    if not 1 <= first <= last <= count:
        line.refuse(f"types from 1 to {count}, those of pair_coeff * * snap")
    return range(first - 1, last)


def text(files: Sequence[Path], species: tuple[int, ...], zbl: tuple[ZBL, Params] | None) -> str:
    """Return the recipe of two files, with a repulsion if there is one.

    Raises:
        ValueError: a repulsion that LAMMPS' zbl is not.
    """
    elements = " ".join(chemical_symbols[z] for z in species)
    names = " ".join(file.name for file in files)
    if zbl is None:
        return f"pair_style snap\npair_coeff * * {names} {elements}\n"
    potential, params = zbl
    if potential.truncation != "smoothed" or potential.coulomb != LAMMPS_COULOMB:
        raise ValueError(f'LAMMPS has ZBL with truncation="smoothed" and coulomb={LAMMPS_COULOMB} only.')
    charge = [float(z) for z in params["charge"]]
    lines = [f"pair_style hybrid/overlay zbl {potential.inner!r} {potential.cutoff!r} snap"]
    lines += [
        f"pair_coeff {a + 1} {b + 1} zbl {charge[a]!r} {charge[b]!r}"
        for a in range(len(species))
        for b in range(a, len(species))
    ]
    return "\n".join([*lines, f"pair_coeff * * snap {names} {elements}", ""])
