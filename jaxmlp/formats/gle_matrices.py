"""Matrices of generalised Langevin equations: inputs of i-PI, as GLE4MD writes them, and plain tables of numbers."""

import re
from os import PathLike
from pathlib import Path

import numpy as np
from ase.units import Hartree

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import as_float
from jaxmlp.md.controls import GLEMatrices
from jaxmlp.units import hbar, kB

_ARRAY = re.compile(r"<(A|C)\b([^>]*)>(.*?)</\1\s*>", re.DOTALL)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:'([^']*)'|\"([^\"]*)\")")
_UNITS = {  # into 1/fs and K
    "A": {"": 1e-15 * Hartree / hbar, "atomic_unit": 1e-15 * Hartree / hbar},
    "C": {"": Hartree / kB, "atomic_unit": Hartree / kB, "kelvin": 1.0},
}


def load(path: str | PathLike) -> GLEMatrices:
    """Return A (1/fs) and C (K, or None) of a generalised Langevin equation; the first row belongs to the momentum.

    An input of i-PI holds them as <A shape='(9,9)' units='...'> [1.3e-2, ...] </A> and <C ...>, in atomic units where
    it does not say, of shape (P, 9, 9) with one pair for each of P normal modes. i-PI counts modes k = 0 ... P - 1, all
    cosines before the sines; `md.modes.mode_matrix` takes cosine and sine of k = 1, 2 ... in turn, and so do the
    matrices returned. A file without these elements holds the rows of A alone, in 1/fs.

    Raises:
        FormatError: another unit, or numbers that do not fill the shape.
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    found: dict[str, np.ndarray] = {}
    for match in _ARRAY.finditer(text):
        name, attributes, body = match.groups()
        if name in found:
            raise FormatError(path, _line(text, match), f"expected one thermostat, found a second <{name}>.")
        found[name] = _array(path, _line(text, match), name, attributes, body)
    if "A" not in found:
        rows = [line.split("#")[0].replace(",", " ").split() for line in text.splitlines()]
        A = np.array([as_float(word) for row in rows for word in row])
        n = int(np.sqrt(len(A)))
        if len(A) == 0 or n * n != len(A) or not np.isfinite(A).all():
            raise FormatError(path, None, "expected <A shape='(n,n)'> as in i-PI's inputs, or n x n numbers.")
        return GLEMatrices(A.reshape(n, n))
    A, C = found["A"], found.get("C")
    if C is not None and C.shape != A.shape:
        raise FormatError(path, None, f"expected A and C of one shape, found {A.shape} and {C.shape}.")
    if A.ndim == 2:
        return GLEMatrices(A, C)
    order = (np.arange(len(A)) + 1) // 2
    return GLEMatrices(A[order], None if C is None else C[order])


def _line(text: str, match: re.Match) -> int:
    return text.count("\n", 0, match.start()) + 1


def _array(path, line: int, name: str, attributes: str, body: str) -> np.ndarray:
    """Return the array of one element, in 1/fs or K."""
    said = {key: a or b for key, a, b in _ATTRIBUTE.findall(attributes)}
    unit = said.get("units", "")
    if unit not in _UNITS[name]:
        known = ", ".join(u for u in _UNITS[name] if u)
        raise FormatError(path, line, f"expected units of {name} among {known}, found {unit!r}.")
    shape = tuple(int(n) for n in re.findall(r"\d+", said.get("shape", "")))
    values = np.array([as_float(word) for word in body.strip().strip("[]").replace(",", " ").split()])
    square = len(shape) in (2, 3) and shape[-1] == shape[-2]
    if not square or len(values) != np.prod(shape) or not np.isfinite(values).all():
        raise FormatError(
            path, line, f"expected {said.get('shape')} numbers of square matrices in <{name}>, found {len(values)}."
        )
    return values.reshape(shape) * _UNITS[name][unit]
