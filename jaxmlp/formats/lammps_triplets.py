"""What LAMMPS' three-body files share: a record of numbers for every triplet of element labels."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import TextReader

_LABEL = re.compile(r"([A-Z][a-z]?)(?![a-z]).*")
_MOST_ELEMENTS = 100


def atomic_number(label: str) -> int | None:
    """Return the atomic number of a label such as `Si`, `Si(B)` or `Si1`; None where it begins with no element."""
    match = _LABEL.fullmatch(label)
    return atomic_numbers.get(match[1]) if match and match[1] != "X" else None


class Triplets(NamedTuple):
    """What a file holds for some elements.

    Args:
        species: S atomic numbers.
        values: {name: (S, S, S)}.
        lines: (S, S, S), where each record stands.
    """

    path: str | PathLike
    species: tuple[int, ...]
    values: dict[str, np.ndarray]
    lines: np.ndarray

    def pair(self, name: str) -> np.ndarray:
        """Return values[i, j, j]: a parameter that is read from these records only."""
        each = np.arange(len(self.species))
        return self.values[name][:, each, each]

    def require(self, good: np.ndarray, expected: str, found: np.ndarray) -> None:
        """Raise a FormatError for the first record where `good` is False: (S, S), or (S, S, S)."""
        if good.all():
            return
        index = tuple(np.argwhere(~good)[0])
        line = self.lines[(*index, index[-1])[:3]]
        raise FormatError(self.path, int(line), f"expected {expected}, found {float(found[index]):g}.")

    def require_symmetric(self, name: str, values: np.ndarray) -> None:
        """Raise a FormatError unless values (S, S, S) agree for neighbours jk and kj within 1e-6 (digits)."""
        i, j, k = np.unravel_index(np.argmax(np.abs(values - values.swapaxes(1, 2))), values.shape)
        x, y = float(values[i, j, k]), float(values[i, k, j])
        if abs(x - y) > 1e-6 * max(abs(x), abs(y)):
            raise FormatError(
                self.path,
                int(self.lines[i, j, k]),
                f"expected the same {name} here and on line {self.lines[i, k, j]}, where only the order of the two "
                f"neighbours differs; found {x!r} and {y!r}.",
            )


def read_triplets(path: str | PathLike, kind: str, names: Sequence[str], elements: Sequence[str] | None) -> Triplets:
    """Return the records of the chosen elements.

    Args:
        kind: what the file should be, for the complaints.
        names: of the numbers of a record, after its three labels.
        elements: labels of the file to take, in this order; all of it, in the order of their appearance, where None.
    """
    reader = TextReader(path, kind)
    n = 3 + len(names)
    expected = f"three element labels and {len(names)} numbers, {' '.join(names)}"
    records: dict[tuple[str, ...], tuple[int, np.ndarray]] = {}
    labels: list[str] = []
    while (words := reader.record(n, expected)) is not None:
        triplet = tuple(words[:3])
        for k, label in enumerate(triplet):
            if atomic_number(label) is None:
                words.refuse(f"a label that begins with a chemical element as word {k + 1} ({expected})")
            if label not in labels:
                labels.append(label)
        if triplet in records:
            words.refuse(f"each triplet once (this one stands on line {records[triplet][0]} already)")
        if len(labels) > _MOST_ELEMENTS:
            words.refuse(f"at most {_MOST_ELEMENTS} different labels")
        numbers = words[3:].expect_floats(len(names), f"finite numbers after the labels, {' '.join(names)}")
        records[triplet] = (words.line, numbers)
    if not records:
        reader.refuse_end(expected)
    labels = labels if elements is None else list(elements)
    species = _species(path, labels, {label for triplet in records for label in triplet})
    s = len(labels)
    values, lines = np.zeros((s, s, s, len(names))), np.zeros((s, s, s), dtype=int)
    for index in np.ndindex(s, s, s):
        triplet = tuple(labels[k] for k in index)
        if triplet not in records:
            known = sorted({t[0] for t in records if t == (t[0],) * 3})
            raise FormatError(
                path,
                None,
                f"expected a record for every triplet of {' '.join(labels)}, found none for {' '.join(triplet)}. "
                f"Choose with elements=[...]; complete by themselves are {', '.join(known)}.",
            )
        lines[index], values[index] = records[triplet]
    return Triplets(path, species, {name: values[..., k] for k, name in enumerate(names)}, lines)


def _species(path, labels: list[str], known: set[str]) -> tuple[int, ...]:
    missing = [label for label in labels if label not in known]
    if missing or not labels:
        raise ValueError(f"elements={labels}: {path} knows {', '.join(sorted(known))}.")
    numbers = [atomic_number(label) for label in labels]
    species = tuple(z for z in numbers if z is not None)
    if len(set(species)) < len(labels):
        raise FormatError(
            path,
            None,
            f"expected one label for each element, found {', '.join(labels)}. Choose some with elements=[...].",
        )
    return species


def write_triplets(path: str | PathLike, title: str, species: Sequence[int], values: dict[str, np.ndarray]) -> None:
    """Write records that `read_triplets` reads back to the last bit; values {name: (S, S, S)} in the order of names."""
    symbols = [chemical_symbols[z] for z in species]
    lines = [f"# {title}, written by jaxmlp; units: metal", f"# elements 1 2 3, {' '.join(values)}"]
    for index in np.ndindex(*[len(symbols)] * 3):
        numbers = [repr(float(x[index])) for x in values.values()]
        lines.append(" ".join([*(symbols[k] for k in index), *numbers]))
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def finite(params: dict, names: Sequence[str], owner: str) -> dict[str, np.ndarray]:
    """Return the named parameters as float64 arrays.

    Raises:
        ValueError: one is missing or not finite.
    """
    lost = [k for k in names if k not in params]
    out = {k: np.asarray(params[k], float) for k in names if k in params}
    if lost or not all(np.isfinite(x).all() for x in out.values()):
        raise ValueError(
            f"a {owner} file needs finite parameters {', '.join(names)}" + f"; {lost} are missing." * bool(lost)
        )
    return out
