"""MTP files of MLIP-2 (.mtp) and MLIP-3 (.almtp: with the active set of the learning behind the potential)."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NoReturn

import numpy as np
from ase.data import atomic_numbers

from jaxmlp.basis.moments import Moments
from jaxmlp.formats.errors import FormatError
from jaxmlp.potential import Params
from jaxmlp.potentials.mtp import MTP

_KIND = "an MTP file"
_MARK = b"\n#MVS_v1.1\n"
_MOST = 10_000_000  # numbers of any table
_TOKEN = re.compile(r"[{},=]|[^\s{},=]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_RADIAL = {  # the words of older and newer writers
    "min_dist": "inner", "min": "inner", "min_val": "inner", "max_dist": "cutoff", "max": "cutoff", "max_val": "cutoff",
    "radial_basis_size": "size", "size": "size", "basis_size": "size", "radial_funcs_count": "functions",
}  # fmt: skip


class _Tokens:
    """Words and braces of the text, with their lines."""

    def __init__(self, path: str | PathLike, text: str):
        self.path = path
        self.items = [
            (word, number) for number, line in enumerate(text.split("\n"), 1) for word in _TOKEN.findall(line)
        ]
        self.at = 0

    def refuse(self, expected: str) -> NoReturn:
        if self.at < len(self.items):
            word, line = self.items[self.at]
            raise FormatError(self.path, line, f"expected {expected}, found `{word[:60]}`.")
        line = self.items[-1][1] if self.items else 1
        raise FormatError(self.path, line, f"expected {expected}, found the end of the file: {_KIND} is truncated.")

    def peek(self) -> str | None:
        return self.items[self.at][0] if self.at < len(self.items) else None

    def take(self, expected: str, wanted: str | None = None) -> str:
        word = self.peek()
        if word is None or (wanted is not None and word != wanted):
            self.refuse(expected)
        self.at += 1
        return str(word)

    def number(self, what: str, low: float = -np.inf, high: float = np.inf) -> float:
        word = self.peek()
        value = float(word) if word and _NUMBER.fullmatch(word) else np.nan
        if not (np.isfinite(value) and low <= value <= high):
            between = "" if (low, high) == (-np.inf, np.inf) else f" from {low:g} to {high:g}"
            self.refuse(f"{what}, a finite number{between}")
        self.at += 1
        return value

    def integer(self, what: str, low: int, high: int = _MOST) -> int:
        word = self.peek()
        if not (word and re.fullmatch(r"[+-]?\d{1,15}", word, re.ASCII) and low <= int(word) <= high):
            self.refuse(f"{what}, an integer from {low} to {high}")
        self.at += 1
        return int(str(word))

    def numbers(self, what: str, count: int | None = None, integer: bool = False) -> list:
        """A list {a, b, ...} of `count` numbers."""
        self.take(f"{{ before {what}", "{")
        out: list = []
        while self.peek() != "}":
            if out:
                self.take(f", or }} in {what}", ",")
            out.append(self.integer(what, -_MOST) if integer else self.number(what))
        if count is not None and len(out) != count:
            self.refuse(f"{count} numbers in {what}, not {len(out)},")
        self.at += 1
        return out

    def rows(self, what: str, count: int) -> list[tuple[int, ...]]:
        """A list {{a, b, c, d}, ...} of `count` rows of four integers."""
        self.take(f"{{ before {what}", "{")
        out: list[tuple[int, ...]] = []
        while self.peek() != "}":
            if out:
                self.take(f", or }} in {what}", ",")
            out.append(tuple(self.numbers(what, 4, integer=True)))
        if len(out) != count:
            self.refuse(f"{count} rows in {what}, not {len(out)},")
        self.at += 1
        return out


def load(path: str | PathLike, species: Sequence[str | int] | None = None) -> tuple[MTP, Params]:
    """Return the potential and the parameters of a trained .mtp or .almtp file.

    The parameters hold the "active_set" (n, n) of an .almtp file. (Names, weights and configurations of the learning
    are not read.)

    Args:
        species: element symbols or atomic numbers of the file's types 0, 1, ...: the file does not name them, unless it
            labels the pairs of its radial functions by atomic numbers.

    Raises:
        FormatError: the file is wrong, truncated, an untrained template, or of a kind that is not supported.
        ValueError: `species` missing, or not as many as the file has types.
    """
    raw = Path(path).read_bytes()
    head, mark, tail = raw.partition(_MARK)
    if not mark:
        head, mark, tail = raw.partition(_MARK.replace(b"\n", b"\r\n"))
    if b"\0" in head:
        raise FormatError(path, head[: head.index(b"\0")].count(b"\n") + 1, f"expected {_KIND}, found binary data.")
    tokens = _Tokens(path, head.decode("utf-8", errors="replace"))
    if tokens.peek() != "MTP":
        tokens.refuse("MTP, the first word of the file")
    tokens.at += 1
    values, line_of = _entries(tokens)
    for name in ("radial_coeffs", "species_coeffs", "moment_coeffs"):
        if name not in values:
            raise FormatError(path, None, f"expected a trained potential, found no {name}: this is a template.")
    for name in ("species_count", "radial", "alpha_index_basic", "alpha_index_times", "alpha_moment_mapping"):
        if name not in values:
            raise FormatError(path, None, f"expected an entry {name}, found none.")
    labels, radial = values["radial_coeffs"]
    numbers = _species(path, species, labels, values["species_count"])
    try:
        tables = Moments(
            tuple(values["alpha_index_basic"]),
            tuple(values["alpha_index_times"]),
            tuple(values["alpha_moment_mapping"]),
        )
        if tables.count != values["alpha_moments_count"]:
            raise ValueError(f"alpha_moments_count is {values['alpha_moments_count']}, the tables make {tables.count}.")
        if tables.radial_count > values["radial"]["functions"]:
            raise ValueError(f"{tables.radial_count} radial functions are used, and fewer are there.")
        basis = values["radial"]
        potential = MTP(numbers, basis["cutoff"], basis["inner"], basis["size"], tables)
    except ValueError as error:
        raise FormatError(
            path, line_of.get("alpha_index_times"), f"the tables contradict each other: {error}"
        ) from None
    import jax.numpy as jnp

    params = {
        "radial": radial[:, :, : tables.radial_count],
        "scaling": np.asarray(values.get("scaling", 1.0)),
        "species_coeffs": np.asarray(values["species_coeffs"], float),
        "moment_coeffs": np.asarray(values["moment_coeffs"], float),
    }
    if mark:
        n = radial.size + len(numbers) + len(tables.scalars)
        params["active_set"] = _active_set(path, tail, n)
    return potential, {name: jnp.asarray(x) for name, x in params.items()}


def _entries(tokens: _Tokens) -> tuple[dict, dict[str, int]]:
    """Everything the text says, by name; counts are checked where they are used."""
    values: dict = {}
    line_of: dict[str, int] = {}
    while (name := tokens.peek()) is not None:
        line = tokens.items[tokens.at][1]
        tokens.at += 1
        if name in values:
            raise FormatError(tokens.path, line, f"expected each entry once, found {name} again.")
        line_of[name] = line
        if name == "radial_basis_type":
            values["radial"], values["radial_coeffs"] = _radial(tokens, values.get("species_count"))
            if values["radial_coeffs"] is None:
                del values["radial_coeffs"]
            continue
        if name == "magnetic_basis_type":
            raise FormatError(tokens.path, line, "magnetic moment tensor potentials are not supported.")
        tokens.take(f"= after {name}", "=")
        if name in ("version", "potential_name", "potential_tag"):
            # The value is what is left of the line, perhaps nothing.
            while tokens.at < len(tokens.items) and tokens.items[tokens.at][1] == line:
                tokens.at += 1
            values[name] = True
        elif name == "scaling":
            values[name] = tokens.number(name)
        elif name == "species_count":
            values[name] = tokens.integer(name, 1, 118)
        elif name in ("alpha_moments_count", "alpha_index_basic_count", "alpha_index_times_count"):
            values[name] = tokens.integer(name, 0)
        elif name == "alpha_scalar_moments":
            values[name] = tokens.integer(name, 0)
        elif name in ("alpha_index_basic", "alpha_index_times"):
            values[name] = tokens.rows(name, _known(tokens, values, f"{name}_count"))
        elif name == "alpha_moment_mapping":
            values[name] = tokens.numbers(name, _known(tokens, values, "alpha_scalar_moments"), integer=True)
        elif name == "species_coeffs":
            values[name] = tokens.numbers(name, _known(tokens, values, "species_count"))
        elif name == "moment_coeffs":
            values[name] = tokens.numbers(name, _known(tokens, values, "alpha_scalar_moments"))
        else:
            raise FormatError(tokens.path, line, f"expected an entry of {_KIND}, found `{name[:60]}`.")
    return values, line_of


def _known(tokens: _Tokens, values: dict, name: str) -> int:
    if name not in values:
        tokens.refuse(f"{name} before the numbers it counts")
    return values[name]


def _radial(tokens: _Tokens, count: int | None):
    """The radial basis, and its coefficients (S, S, mu, k) with the labels of the types, or None."""
    tokens.take("= after radial_basis_type", "=")
    tokens.take("the radial basis RBChebyshev (no other is supported)", "RBChebyshev")
    basis: dict = {}
    while (name := tokens.peek()) in _RADIAL:
        tokens.at += 1
        tokens.take(f"= after {name}", "=")
        key = _RADIAL[str(name)]
        basis[key] = (
            tokens.number(str(name), 0, 1e3) if key in ("inner", "cutoff") else tokens.integer(str(name), 1, 1000)
        )
    missing = {"inner", "cutoff", "size", "functions"} - set(basis)
    if missing:
        tokens.refuse(f"the entries of the radial basis ({', '.join(sorted(missing))} missing)")
    if tokens.peek() != "radial_coeffs":
        return basis, None
    tokens.at += 1
    if count is None:
        tokens.refuse("species_count before radial_coeffs")
    labels: list[int] = []
    pairs: dict[tuple[int, int], list] = {}
    while (match := re.fullmatch(r"(\d{1,3})-(\d{1,3})", tokens.peek() or "")) is not None:
        a, b = (int(x) for x in match.groups())
        if (a, b) in pairs:
            tokens.refuse("each pair of types once")
        tokens.at += 1
        labels += [a] * (a not in labels)
        pairs[a, b] = [tokens.numbers(f"radial_coeffs {a}-{b}", basis["size"]) for _ in range(basis["functions"])]
    if len(labels) != count or set(pairs) != {(a, b) for a in labels for b in labels}:
        tokens.refuse(f"radial_coeffs of all pairs of {count} types")
    return basis, (labels, np.array([[pairs[a, b] for b in labels] for a in labels]))


def _species(path, species, labels: list[int], count: int) -> tuple[int, ...]:
    """The atomic numbers of the types."""
    if species is None:
        if labels != list(range(count)) and all(1 <= z <= 118 for z in labels):
            return tuple(labels)
        raise ValueError(
            f"{path} does not name its elements: pass species=[...], symbols or atomic numbers of its {count} type(s)."
        )
    known = [
        z if isinstance(z, str) and z in atomic_numbers else int(z) if not isinstance(z, str) else 0 for z in species
    ]
    numbers = tuple(int(atomic_numbers[z]) if isinstance(z, str) else int(z) for z in known)
    if len(numbers) != count or len(set(numbers)) != count or not all(1 <= z <= 118 for z in numbers):
        raise ValueError(f"species={list(species)}: {path} has {count} type(s), each a different element.")
    return numbers


def _active_set(path, tail: bytes, n: int) -> np.ndarray:
    """The matrix (n, n) from the block behind the mark: a text head up to `#`, then the matrix, row by row."""
    start = tail.find(b"#")
    if start < 0 or len(tail) - start - 1 < 16 * n * n:
        raise FormatError(path, None, f"expected an active set of {n} x {n} numbers and its inverse: it is truncated.")
    matrix = np.frombuffer(tail, "<f8", n * n, start + 1).reshape(n, n)
    inverse = np.frombuffer(tail, "<f8", n * n, start + 1 + 8 * n * n).reshape(n, n).T
    if not (np.isfinite(matrix).all() and np.isfinite(inverse).all()):
        raise FormatError(path, None, "the active set holds NaN or infinite numbers.")
    if not np.allclose(matrix @ inverse, np.eye(n), atol=1e-3):
        raise FormatError(path, None, f"the active set and its inverse are not those of {n} x {n} numbers.")
    return matrix


def save(path: str | PathLike, potential: MTP, params: Params) -> None:
    """Write a file that `load` reads as the same potential; with an "active_set" it is an .almtp file.

    Raises:
        ValueError: parameters that are not finite, or no MTP.
    """
    if not isinstance(potential, MTP):
        raise ValueError(f"an MTP file holds an MTP, not a {type(potential).__name__}.")
    arrays = {k: np.asarray(v, float) for k, v in params.items()}
    if not all(np.isfinite(x).all() for x in arrays.values()):
        raise ValueError("an MTP file needs finite parameters.")
    tables, s = potential.moments, len(potential.species)

    def listed(row) -> str:
        return "{" + ", ".join(repr(float(x)) if isinstance(x, float | np.floating) else str(int(x)) for x in row) + "}"

    lines = [
        "MTP", "version = 1.1.0", "potential_name = jaxmlp", f"scaling = {float(arrays['scaling'])!r}",
        f"species_count = {s}", "potential_tag = ", "radial_basis_type = RBChebyshev",
        f"\tmin_dist = {potential.inner!r}", f"\tmax_dist = {potential.cutoff!r}",
        f"\tradial_basis_size = {potential.radial_size}", f"\tradial_funcs_count = {tables.radial_count}",
        "\tradial_coeffs",
    ]  # fmt: skip
    for a, b in np.ndindex(s, s):
        lines += [f"\t\t{a}-{b}", *("\t\t\t" + listed(row) for row in arrays["radial"][a, b])]
    lines += [
        f"alpha_moments_count = {tables.count}", f"alpha_index_basic_count = {len(tables.basic)}",
        "alpha_index_basic = {" + ", ".join(listed(row) for row in tables.basic) + "}",
        f"alpha_index_times_count = {len(tables.times)}",
        "alpha_index_times = {" + ", ".join(listed(row) for row in tables.times) + "}",
        f"alpha_scalar_moments = {len(tables.scalars)}", f"alpha_moment_mapping = {listed(tables.scalars)}",
        f"species_coeffs = {listed(arrays['species_coeffs'])}", f"moment_coeffs = {listed(arrays['moment_coeffs'])}",
    ]  # fmt: skip
    content = ("\n".join(lines) + "\n").encode("ascii")
    if "active_set" in arrays:
        matrix = arrays["active_set"]
        n = len(matrix)
        weights = "".join(f"{w}_weight {float(w == 'site_en')!r}\n" for w in ("energy", "force", "stress", "site_en"))
        content += _MARK + f"{weights}weight_scaling 2\n#".encode()
        content += matrix.astype("<f8").tobytes() + np.linalg.inv(matrix).T.astype("<f8").tobytes()
        content += b"\n#\n" + b"-1 -1\n" * n + b"#\n"
    Path(path).write_bytes(content)
