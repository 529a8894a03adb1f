"""The input.data files of n2p2 and RuNNer, https://compphysvienna.github.io/n2p2/topics/cfg_file.html.

The format has no units of its own: numbers are as the user of n2p2 chose them, often Bohr and Hartree.
"""

from collections.abc import Iterator
from os import PathLike

import numpy as np

from jaxmlp.fitting.data.labels import Record, atomic_number, words_of
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import Words
from jaxmlp.system import System


def read_n2p2(path: str | PathLike) -> Iterator[Record]:
    """Yield the structures of an input.data file; charges of atoms only where one of them is not zero.

    Raises:
        FormatError: with file and line.
    """
    lines = words_of(path)
    for begin in lines:
        if begin[0] != "begin":
            begin.refuse("begin")
        yield _structure(path, begin.line, lines)


def _structure(path, first: int, lines: Iterator[Words]) -> Record:
    lattice: list[np.ndarray] = []
    numbers: list[int] = []
    rows: list[list[float]] = []
    energy = None
    for words in lines:
        match words[0]:
            case "end":
                break
            case "comment":
                pass
            case "lattice":
                lattice.append(words[1:].expect_floats(3, "components of a lattice vector"))
            case "atom":
                number, row = _atom(words)
                numbers.append(number)
                rows.append(row)
            case "energy":
                energy = words.expect_float(1, "the energy")
            case "charge":
                words.expect_float(1, "the total charge")
            case _:
                words.refuse("comment, lattice, atom, energy, charge or end")
    else:
        raise FormatError(path, first, "expected `end` of the structure that begins here, found the end of the file.")
    if len(lattice) not in (0, 3):
        raise FormatError(path, first, f"expected 3 lattice vectors or none, found {len(lattice)} in this structure.")
    table = np.array(rows).reshape(-1, 7)
    try:
        system = System(np.array(numbers, int), table[:, :3], np.array(lattice) if lattice else None)
    except ValueError as error:
        raise FormatError(path, first, f"in the structure that begins here, {error}") from error
    charges = table[:, 3] if table[:, 3].any() else None
    return Record(system, energy, table[:, 4:], charges=charges)


def _atom(words: Words) -> tuple[int, list[float]]:
    """Return the atomic number, and position, charge and force."""
    if len(words) < 10:
        words.refuse("atom, x, y, z, element, charge, an unused number, fx, fy, fz")
    number = atomic_number(words[4])
    if number is None:
        words.refuse("the symbol of an element (word 5)")
    return number, [words.expect_float(k, "a number") for k in (1, 2, 3, 5, 7, 8, 9)]
