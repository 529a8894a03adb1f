"""ACE potentials in the C-tilde basis, the older `.ace` text files."""

import re
from os import PathLike
from typing import NoReturn

import numpy as np

from jaxmlp.formats.ace_model import Block, Bond, built, family_of, numbers_of
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params
from jaxmlp.potentials.ace import ACE, ACEBond, ACEEmbedding
from jaxmlp.potentials.ace_embedding import EMBEDDINGS
from jaxmlp.potentials.ace_tables import Function

KIND = "an ACE potential (.ace)"


def load(path: str | PathLike, *, spline: bool = False) -> tuple[ACE, Params]:
    """Return the potential and parameters of a .ace file; `spline`: with the file's radial tables.

    Of several elements, the embedding function and its parameters, the number of densities, the kind and number of
    radial functions are shared; numbers of an element follow in the order of `elements`, those of a pair row by row,
    the central element first. As in LAMMPS, `embedding-function` may be missing where the embedding is linear.

    Raises:
        FormatError: the file is not one, is truncated, or contradicts itself.
    """
    f = _Stream(path)
    s = f.value("nelements=").integer(1, 118, "the number of elements")
    f.word("elements:")
    species = numbers_of(path, f.line, [f.next("an element symbol") for _ in range(s)])
    l_max = f.value("lmax=").integer(0, 20, "lmax")
    kind = f.text(EMBEDDINGS) if f.skip("embedding-function:") else None
    size = f.integer(2, 200, "the number of FS parameters")
    f.words("FS", "parameters:")
    numbers = f.numbers(size, "an FS parameter")
    if kind is None and set(numbers[1::2]) != {1.0}:
        f.refuse("an `embedding-function:` before FS parameters other than 1")
    f.words("core", "energy-cutoff", "parameters:")
    switches = [(f.number("a core energy cutoff"), f.number("its width", 1e-12)) for _ in range(s)]
    energies = f.numbers(s, "E0") if f.skip("E0:") else (0.0,) * s
    bonds, step = _bonds(f, s, l_max)
    f.value("rankmax=").integer(1, 12, "rankmax")
    densities = f.value("ndensitymax=").integer(1, 100, "ndensitymax")
    f.value("num_c_tilde_max=").integer(0, 10**9, "num_c_tilde_max")
    f.value("num_ms_combinations_max=").integer(0, 10**9, "num_ms_combinations_max")
    if size < 2 * densities:
        f.refuse(f"{2 * densities} FS parameters for {densities} densities")
    weights, powers = (numbers[k : 2 * densities : 2] for k in range(2))
    blocks = [Block(ACEEmbedding(kind or EMBEDDINGS[0], weights, powers, *x), [], []) for x in switches]
    for title in ("total_basis_size_rank1:", "total_basis_size:"):
        f.word(title)
        counts = [f.integer(0, f.remaining, f"a number of functions, {title}") for _ in range(s)]
        for t, count in enumerate(counts):
            for _ in range(count):
                function, rows = _function(f, t, s, densities)
                blocks[t].functions.append(function)
                blocks[t].rows.append(rows)
    f.end()
    return built(path, f.line, species, bonds, blocks, list(energies), step if spline else 0.0)


def _bonds(f: "_Stream", s: int, l_max: int) -> tuple[list[list[Bond]], float]:
    """The radial part of a file of s elements: pairs, step of the tables."""
    name = f.value("radbasename=").text(None)
    family = family_of(f.path, f.line, name)
    k = f.value("nradbase=").integer(1, 1000, "nradbase")
    n = f.value("nradmax=").integer(0, 1000, "nradmax")
    f.value("cutoffmax=").number("cutoffmax", 0.0, 100.0)
    step = f.value("deltaSplineBins=").number("deltaSplineBins", 1e-6, 0.1)
    f.words("core", "repulsion", "parameters:")
    core = [(f.number("the prefactor of a core repulsion"), f.number("its decay")) for _ in range(s * s)]
    decay = f.value("radparameter=").numbers(s * s, "radparameter")
    cutoff = f.value("cutoff=").numbers(s * s, "cutoff", 0.0, 100.0)
    width = f.value("dcut=").numbers(s * s, "dcut", 0.0, 100.0)
    f.word("crad=")
    if s * s * k * n * (l_max + 1) > f.remaining:
        f.refuse(f"{s * s * k * n * (l_max + 1)} radial coefficients")
    radial = np.zeros((s * s, k, n, l_max + 1) if n else (s * s, k, 1, 1))
    for where in np.ndindex(s * s, k, n, l_max + 1):
        radial[where] = f.number("a radial coefficient")
    bonds = [
        Bond(ACEBond(family, k, decay[x], cutoff[x], width[x]), radial[x].transpose(1, 2, 0), core[x], "density", 1)
        for x in range(s * s)
    ]
    return [bonds[t * s : (t + 1) * s] for t in range(s)], step


class _Stream:
    """The words of a file one by one, without regard to lines; a bracket or a key with = or : is a word."""

    def __init__(self, path: str | PathLike):
        self.path = path
        reader = TextReader(path, KIND)
        self.all: list[tuple[int, str]] = []
        while (words := reader.next_or_none()) is not None:
            text = re.sub(r"([()<>,])", r" \1 ", " ".join(words)).replace("=", "= ").replace(":", ": ")
            text = re.sub(r">\s*:", ">", text)
            self.all += [(words.line, w) for w in text.split()]
        self.at = 0

    @property
    def line(self) -> int:
        """The line of the word last taken."""
        return self.all[max(0, self.at - 1)][0] if self.all else 1

    @property
    def remaining(self) -> int:
        return len(self.all) - self.at

    def refuse(self, expected: str) -> NoReturn:
        found = self.all[self.at - 1][1] if self.at else "nothing"
        raise FormatError(self.path, self.line, f"expected {expected}, found `{found[:60]}`.")

    def next(self, expected: str) -> str:
        if self.at == len(self.all):
            raise FormatError(
                self.path, self.line, f"expected {expected}, found the end of the file: {KIND} is truncated."
            )
        self.at += 1
        return self.all[self.at - 1][1]

    def word(self, expected: str) -> None:
        if self.next(f"`{expected}`") != expected:
            self.refuse(f"`{expected}`")

    def words(self, *expected: str) -> None:
        for word in expected:
            self.word(word)

    def skip(self, word: str) -> bool:
        """Take the next word if it is this one."""
        here = self.at < len(self.all) and self.all[self.at][1] == word
        self.at += here
        return here

    def value(self, name: str) -> "_Stream":
        """Take a key; its value comes next."""
        self.word(name)
        return self

    def text(self, allowed: tuple[str, ...] | None) -> str:
        word = self.next("a name")
        if allowed is not None and word not in allowed:
            self.refuse(f"one of {', '.join(allowed)}")
        return word

    def integer(self, low: int, high: int, what: str) -> int:
        word = self.next(what)
        return Words(self.path, self.line, [word]).expect_int(0, what, low, high)

    def number(self, what: str, low: float = -np.inf, high: float = np.inf) -> float:
        word = self.next(what)
        return Words(self.path, self.line, [word]).expect_float(0, what, low, high)

    def numbers(self, n: int, what: str, low: float = -np.inf, high: float = np.inf) -> tuple[float, ...]:
        return tuple(self.number(what, low, high) for _ in range(n))

    def integers(self, key: str, n: int, low: int, high: int) -> tuple[int, ...]:
        """key ( a b c ), brackets with or without commas."""
        self.words(key, "(")
        out = []
        for _ in range(n):
            out.append(self.integer(low, high, f"an entry of {key}"))
            self.skip(",")
        self.word(")")
        return tuple(out)

    def end(self) -> None:
        if self.at < len(self.all):
            self.next("")
            self.refuse("the end of the file")


def _function(f: _Stream, t: int, s: int, densities: int) -> tuple[Function, np.ndarray]:
    f.word("ctilde_basis_func:")
    rank = f.value("rank=").integer(1, 12, "rank")
    f.value("ndens=").integer(densities, densities, "ndens, equal to ndensitymax")
    f.value("mu0=").integer(t, t, "mu0, the species of the block")
    mus = f.integers("mu=", rank, 0, s - 1)
    ns, ls = f.integers("n=", rank, 1, 1000), f.integers("l=", rank, 0, 20)
    count = f.value("num_ms=").integer(1, max(1, f.remaining), "num_ms")
    ms: list[int] = []
    rows = []
    for _ in range(count):
        f.word("<")
        for _ in range(rank):
            ms.append(f.integer(-20, 20, "an m"))
            f.skip(",")
        f.word(">")
        f.skip(":")
        rows.append([f.number("a C-tilde coefficient") for _ in range(densities)])
    c = np.array(rows)
    return (mus, ns, ls, (), tuple(ms) if rank > 1 else ()), c if rank > 1 else c.sum(0, keepdims=True)
