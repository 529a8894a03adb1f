"""NEP potential files (GPUMD's nep.txt): a few header lines, then one number per line."""

import math
import re
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import NoReturn

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from jaxmlp.formats.errors import FormatError
from jaxmlp.potential import Params
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.nep_charge import NEPCharge
from jaxmlp.potentials.nep_descriptor import EXTRA
from jaxmlp.potentials.nep_tensor import NEPDipole, NEPPolarizability
from jaxmlp.potentials.nep_zbl import NEPZBL

_KIND = re.compile(r"nep([345]?)(_zbl)?(?:_(temperature|dipole|polarizability|charge[123]))?")
_FEW = 10_000  # no count in a header is larger; the numbers that follow must match it anyway
_FAR = 100.0  # Å, no cutoff is longer


def load(path: str | PathLike) -> tuple[NEP, Params]:
    """Return the potential and the parameters of a NEP file: versions 2 to 5 and all their kinds.

    The result is a NEP, or a NEPCharge (`_charge1/2/3`), NEPDipole or NEPPolarizability. Parameters have jax's default
    floating type.

    Raises:
        FormatError: the file is not a NEP file, is truncated, or contradicts itself.
    """
    header = _Header(path)
    potential, candidates = _read_header(header)
    values = header.numbers()
    for other in candidates:  # old files of version 3 do not say basis_size: their length does
        if len(values) == sum(math.prod(shape) for _, _, shape in _layout(other)):
            potential = other
    expected = sum(math.prod(shape) for _, _, shape in _layout(potential))
    if len(values) != expected:
        parts = ", ".join(f"{name} {shape}" for name, shape in _totals(potential).items())
        raise FormatError(
            path,
            header.end,
            f"the header asks for {expected} numbers ({parts}); the file holds {len(values)}: "
            + ("it is truncated or its header is wrong." if len(values) < expected else "its header is wrong."),
        )
    return potential, _unpack(potential, values)


def save(path: str | PathLike, potential: NEP, params: Params) -> None:
    """Write a NEP file that `load` reads back as the same potential and the same numbers, to the last bit.

    Raises:
        ValueError: what the format cannot express, or parameters that are not finite or do not fit the potential.
    """
    lines = _header_lines(potential, params)
    for name, index, shape in _layout(potential):
        if name not in params:
            raise ValueError(f"the parameters of this {type(potential).__name__} lack {name!r}.")
        values = np.asarray(params[name], dtype=float)
        values = values if index is None else values[index]
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"params[{name!r}] must be finite, of shape {shape} here; got shape {values.shape}.")
        lines += [repr(v) for v in values.ravel().tolist()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


class _Header:
    """The lines of a file, taken one keyword at a time; every refusal names file and line."""

    def __init__(self, path: str | PathLike):
        self.path = path
        raw = Path(path).read_bytes()
        if b"\0" in raw[:4096]:
            raise FormatError(path, 1, "expected a NEP text file, found binary data.")
        self.lines = raw.decode("utf-8", errors="replace").split("\n")
        self.line = 0  # number of the line last taken, from 1

    @property
    def end(self) -> int:
        return max(1, len(self.lines) - (not self.lines[-1].strip()))

    def take(self, keyword: str | None, what: str) -> list[str]:
        """Return the tokens of the next line, without its keyword."""
        tokens: list[str] = []
        while not tokens:
            if self.line == len(self.lines):
                raise FormatError(self.path, self.end, f"expected `{what}`, found the end of the file.")
            self.line += 1
            tokens = self.lines[self.line - 1].split()
        if keyword is not None and tokens[0] != keyword:
            self.refuse(what)
        return tokens[keyword is not None :]

    def peek(self) -> str:
        """Return the next line's first word."""
        rest = (line.split() for line in self.lines[self.line : self.line + 100])
        return next((tokens[0] for tokens in rest if tokens), "")

    def refuse(self, what: str, why: str = "") -> NoReturn:
        found = self.lines[self.line - 1].strip()
        found = found if len(found) <= 60 else found[:57] + "..."
        raise FormatError(self.path, self.line, f"expected `{what}`{why}, found `{found}`.")

    def integers(self, tokens: list[str], what: str, low: int = 0, high: int = _FEW) -> list[int]:
        """Convert tokens to counts from low to high."""
        if not all(re.fullmatch(r"[+-]?[0-9]{1,9}", t) for t in tokens):
            self.refuse(what, " with whole numbers")
        values = [int(t) for t in tokens]
        if not all(low <= v <= high for v in values):
            self.refuse(what, f" with counts from {low} to {high}")
        return values

    def reals(self, tokens: list[str], what: str) -> list[float]:
        try:
            values = [float(t) for t in tokens if "_" not in t]
        except ValueError:
            values = []
        if len(values) != len(tokens) or not all(abs(v) < math.inf for v in values):
            self.refuse(what, " with finite numbers")
        return values

    def numbers(self) -> np.ndarray:
        """Return all numbers after the header."""
        body = self.lines[self.line :]
        text = "\n".join(body)
        if "_" not in text:  # Python's float would read 1_0 as 10
            try:
                values = np.array(text.split(), dtype=float)
            except ValueError:
                values = np.array([math.nan])
            if np.isfinite(values).all():
                return values
        for line in body:
            self.line += 1
            self.reals(line.split(), "one number")
        raise AssertionError("a number that numpy refuses and Python reads")


def _read_header(header: _Header) -> tuple[NEP, list[NEP]]:
    """Return the potential, and other readings of an old file that leaves its basis size open."""
    what = "nep[3|4|5][_zbl][_temperature|_dipole|_polarizability|_charge1|2|3] <number of species> <symbols>"
    first = header.take(None, what)
    match = _KIND.fullmatch(first[0])
    if match is None:
        known = " (dispersion models, `_vdw`, are not supported)" if "vdw" in first[0] else ""
        header.refuse(what, known)
    version, has_zbl, kind = int(match[1] or 2), match[2] is not None, match[3] or ""
    tensor = kind in ("dipole", "polarizability")
    if (kind and version == 2) or (tensor and (has_zbl or version == 5)) or ("charge" in kind and version != 4):
        header.refuse(what, "; no such combination exists")
    (count,) = header.integers(first[1:2], what, 1, 118) if len(first) > 1 else header.refuse(what)
    species = tuple(atomic_numbers.get(symbol, 0) for symbol in first[2:])
    if len(species) != count or 0 in species or len(set(species)) != count:
        header.refuse(what, f" with {count} different element symbols")

    zbl = _read_zbl(header) if has_zbl else None
    radial, angular, hints, factor = _read_cutoffs(header, count)
    what = "n_max <radial> <angular>"
    n_max = tuple(header.integers(_some(header, header.take("n_max", what), (2,), what), what))
    basis, guesses = n_max, []
    what = "basis_size <radial> <angular>"
    if version > 2 and header.peek() == "basis_size":
        basis = tuple(header.integers(_some(header, header.take("basis_size", what), (2,), what), what))
    elif version == 3:
        guesses = [(8, 8)]
    elif version > 3:
        header.take("basis_size", what)
    l_max, extra = _read_l_max(header, version)
    what = "ANN <neurons> 0"
    layers = _some(header, header.take("ANN", what), (2,), what)
    (neurons,) = header.integers(layers[:1], what, 1)
    header.integers(layers[1:], what, 0, 0)

    options: dict = {
        "species": species,
        "n_max": n_max,
        "l_max": l_max,
        "extra": extra,
        "neurons": neurons,
        "version": version,
        "neighbor_hints": hints,
    }
    make: Callable = NEP
    if zbl is not None:
        inner, outer, own = zbl
        if own is not None or inner == outer == 0:
            factor = own
        options["zbl"] = _built(header, NEPZBL, inner=inner, outer=outer, cutoff=max(angular), factor=factor,
                                flexible=inner == outer == 0)  # fmt: skip
    if kind.startswith("charge"):
        make, options["mode"] = NEPCharge, int(kind[-1])
        radial, angular = (max(radial),) * count, (max(angular),) * count  # qNEP uses the largest for every pair
    elif tensor:
        make = NEPDipole if kind == "dipole" else NEPPolarizability
    elif kind == "temperature":
        options["temperature"] = True
    options |= {"radial_cutoffs": radial, "angular_cutoffs": angular}
    potential = _built(header, make, basis_size=basis, **options)
    return potential, [_built(header, make, basis_size=g, **options) for g in guesses]


def _built(header: _Header, make: Callable, **options):
    """Build; what the class refuses is the file's fault."""
    try:
        return make(**options)
    except ValueError as error:
        raise FormatError(header.path, header.line, str(error)) from error


def _some(header: _Header, tokens: list[str], lengths: tuple[int, ...], what: str) -> list[str]:
    if len(tokens) not in lengths:
        header.refuse(what)
    return tokens


def _read_zbl(header: _Header) -> tuple[float, float, float | None]:
    what = "zbl <inner> <outer> [<type-wise factor>]"
    values = header.reals(_some(header, header.take("zbl", what), (2, 3), what), what)
    flexible = values[0] == values[1] == 0
    if not flexible and not 0 <= values[0] < values[1] <= _FAR:
        header.refuse(what, " with 0 <= inner < outer in Å")
    return values[0], values[1], values[2] if len(values) == 3 and not flexible else None


def _read_cutoffs(header: _Header, count: int):
    """Return radial and angular cutoffs per species, the neighbour hints, and an old file's type-wise ZBL factor."""
    what = "cutoff <radial> <angular> [<neighbours> <neighbours>]"
    if count > 1:
        what += f"` or `cutoff <radial> <angular> (of {count} species) <neighbours> <neighbours>"
    tokens = _some(header, header.take("cutoff", what), (2, 4, 7, 2 * count + 2), what)
    factor = None
    if len(tokens) == 7:  # GPUMD 3.9: factors of species-dependent cutoffs for the radial, angular and ZBL parts
        factors = header.reals(tokens[4:], what)
        if max(factors[:2]) > 0:
            header.refuse(
                what, " (cutoffs scaled by species radii are not supported: retrain with cutoffs per species)"
            )
        factor = factors[2] if factors[2] > 0 else None
        tokens = tokens[:4]
    pairs = 1 if len(tokens) in (2, 4) else count
    values = header.reals(tokens[: 2 * pairs], what)
    if not all(0 < v <= _FAR for v in values):
        header.refuse(what, f" with distances in Å, more than 0 and at most {_FAR:.0f}")
    hints = tuple(header.integers(tokens[2 * pairs :], what, 0, 10**9)) or None
    repeat = count if pairs == 1 else 1
    return tuple(values[::2]) * repeat, tuple(values[1::2]) * repeat, hints, factor


def _read_l_max(header: _Header, version: int) -> tuple[int, tuple[str, ...]]:
    """Return l_max and the active extra terms. The flag of 222 is 2 in the old encoding and 1 in the new one."""
    what = "l_max <1 to 8>" if version == 2 else "l_max <1 to 8> [<0|1|2> <0|1> [<0|1> <0|1> <0|1> <0|1>]]"
    tokens = header.take("l_max", what)
    if not 1 <= len(tokens) <= (1 if version == 2 else 7):
        header.refuse(what)
    (l_max,) = header.integers(tokens[:1], what, 1, 8)
    flags = header.integers(tokens[1:2], what, 0, 2) + header.integers(tokens[2:], what, 0, 1)
    return l_max, tuple(name for name, flag in zip(EXTRA, flags, strict=False) if flag)


def _layout(potential: NEP) -> Iterator[tuple[str, int | None, tuple[int, ...]]]:
    """Yield (parameter, row of it or None for all, shape of that piece) in the order of the file."""
    s, h, d = len(potential.species), potential.neurons, potential.size
    (nr, na), (kr, ka) = potential.n_max, potential.basis_size
    charge = isinstance(potential, NEPCharge)
    for suffix in ("", "_scalar") if isinstance(potential, NEPPolarizability) else ("",):
        for t in range(potential.networks):
            yield "W0" + suffix, t, (h, d)
            yield "b0" + suffix, t, (h,)
            yield "w1" + suffix, t, (h,)
            if charge:
                yield "w1_charge", t, (h,)
            if potential.version == 5:
                yield "b_t", t, ()
        if charge:
            yield "sqrt_epsilon", None, ()
        yield "b1" + suffix, None, ()
    if potential.version > 2:
        yield "c_radial", None, (nr + 1, kr + 1, s, s)
        yield "c_angular", None, (na + 1, ka + 1, s, s)
    elif s > 1:
        yield "c_radial", None, (nr + 1, s, s)
        yield "c_angular", None, (na + 1, s, s)
    yield "q_scaler", None, (d,)
    if potential.zbl is not None and potential.zbl.flexible:
        yield "zbl", None, (s * (s + 1) // 2, 10)


def _totals(potential: NEP) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, _, shape in _layout(potential):
        totals[name] = totals.get(name, 0) + math.prod(shape)
    return totals


def _unpack(potential: NEP, values: np.ndarray) -> Params:
    pieces: dict[str, list] = {}
    start = 0
    for name, row, shape in _layout(potential):
        size = math.prod(shape)
        piece = values[start : start + size].reshape(shape)
        start += size
        pieces.setdefault(name, []).append(piece if row is not None else [piece])
    rows = {name for name, row, _ in _layout(potential) if row is not None}
    params = {name: jnp.asarray(np.array(p) if name in rows else p[0][0]) for name, p in pieces.items()}
    if potential.temperature:
        params["temperature"] = jnp.asarray(300.0)
    return params


def _header_lines(potential: NEP, params: Params) -> list[str]:
    """Return the header; refuse what a file cannot say."""
    p, s = potential, len(potential.species)
    zbl = p.zbl
    kind = f"nep{p.version if p.version > 2 else ''}{'_zbl' if zbl else ''}{p.kind}"
    kind += "_temperature" if p.temperature else ""
    if (
        p.version == 2
        and s == 1
        and any(not np.all(np.asarray(params.get(c, 1)) == 1) for c in ("c_radial", "c_angular"))
    ):
        raise ValueError("a NEP2 file of one species has no place for coefficients: c_radial and c_angular must be 1.")
    if p.version == 2 and p.extra:
        raise ValueError(f"a NEP2 file has no place for the terms {p.extra}.")
    lines = [f"{kind} {s} " + " ".join(chemical_symbols[z] for z in p.species)]
    if zbl is not None:
        if zbl.cutoff != max(p.angular_cutoffs):
            raise ValueError(
                f"a NEP file cuts the ZBL pairs at the largest angular cutoff, {max(p.angular_cutoffs)} Å; "
                f"this potential at {zbl.cutoff} Å."
            )
        factor = "" if zbl.factor is None else f" {zbl.factor!r}"
        lines.append("zbl 0 0" if zbl.flexible else f"zbl {zbl.inner!r} {zbl.outer!r}{factor}")
    pairs = list(zip(p.radial_cutoffs, p.angular_cutoffs, strict=True))
    same = len(set(pairs)) == 1
    hints = p.neighbor_hints or (None if same else (1000, 500))
    cutoffs = [repr(float(c)) for pair in (pairs[:1] if same else pairs) for c in pair] + [str(h) for h in hints or ()]
    lines += ["cutoff " + " ".join(cutoffs), f"n_max {p.n_max[0]} {p.n_max[1]}"]
    if p.version > 2:
        lines.append(f"basis_size {p.basis_size[0]} {p.basis_size[1]}")
        if set(p.extra) <= {"222", "1111"}:  # readers of every age know the old encoding
            flags = [2 * ("222" in p.extra), int("1111" in p.extra)]
        else:
            flags = [int(name in p.extra) for name in EXTRA]
        lines.append(" ".join(["l_max", str(p.l_max), *map(str, flags)]))
    else:
        lines.append(f"l_max {p.l_max}")
    return [*lines, f"ANN {p.neurons} 0"]
