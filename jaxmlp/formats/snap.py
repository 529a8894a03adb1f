"""SNAP files of LAMMPS: coefficients (.snapcoeff), hyper-parameters (.snapparam), recipes (.snap) that name both."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from jaxmlp.combinators import Sum
from jaxmlp.formats import snap_recipe
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.lammps_triplets import atomic_number
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.snap import LARGEST, SNAP
from jaxmlp.potentials.zbl import ZBL

COEFFICIENTS, HYPERPARAMETERS, RECIPE = ".snapcoeff", ".snapparam", ".snap"
_FLAGS = ("switchflag", "bzeroflag", "quadraticflag", "chemflag", "bnormflag", "wselfallflag", "switchinnerflag")
_NUMBERS = {"rcutfac": (1e-6, 1000.0), "rfac0": (1e-6, 1.0), "rmin0": (0.0, 100.0)}
_IGNORED = ("chunksize", "parallelthresh")  # they change how LAMMPS works, not what it gives
_FAR = 100.0  # Å, no interaction reaches further


def load(path: str | PathLike, elements: Sequence[str] | None = None) -> tuple[Potential, Params]:
    """Return the potential and the parameters of a recipe, or of the pair of files of which one is named.

    Of a pair, the other file is the one beside it of the same name with the other ending. A recipe is a fragment of
    LAMMPS input, see `snap_recipe`; its potential is a `SNAP`, or the sum of a `ZBL` and a `SNAP`.

    Args:
        elements: symbols to take, in this order; those of the recipe, or all of the coefficients, where None.

    Raises:
        FormatError: a file is wrong, truncated, or does not fit the other one.
        ValueError: `elements` that the file does not have.
        OSError: a file cannot be read.
    """
    path = Path(path)
    if path.suffix == RECIPE or snap_recipe.recognise(path.read_bytes()):
        recipe = snap_recipe.read(path)
        potential, params = _read(recipe.coefficients, recipe.hyperparameters)
        missing = [z for z in recipe.species if z not in potential.species]
        if missing:
            names = ", ".join(chemical_symbols[z] for z in missing)
            raise FormatError(path, None, f"expected elements of {recipe.coefficients.name}, found {names}.")
        potential, params = potential.restrict(params, recipe.species)
        if recipe.zbl is not None:
            repulsion, charges = recipe.zbl
            params = ({"charge": jnp.asarray(charges, float)}, params)
            potential = Sum((repulsion, potential))
    elif "rcutfac" in (words := _first_words(path)) or "twojmax" in words:
        potential, params = _read(_partner(path, COEFFICIENTS), path)
    else:
        potential, params = _read(path, _partner(path, HYPERPARAMETERS))
    if elements is None:
        return potential, params
    wanted = [atomic_number(symbol) for symbol in elements]
    if isinstance(elements, str) or not set(wanted) <= set(potential.species):
        known = [chemical_symbols[z] for z in potential.species]
        raise ValueError(f"elements={elements!r}: a list of some of {known}, those of {path}.")
    return potential.restrict(params, tuple(z for z in wanted if z is not None))


def _first_words(path: Path) -> set[str]:
    reader, words = TextReader(path, "a SNAP file"), set()
    while (line := reader.next_or_none()) is not None:
        words.add(line[0])
    return words


def _partner(path: Path, ending: str) -> Path:
    other = path.with_suffix(ending)
    if not other.is_file() or other == path:
        raise FormatError(
            path, None, f"expected {other.name} beside it: coefficients and hyper-parameters are two files."
        )
    return other


def _read(coefficients: Path, hyperparameters: Path) -> tuple[SNAP, Params]:
    """The potential of two files."""
    options, lines = _hyperparameters(hyperparameters)
    reader = TextReader(coefficients, "a SNAP coefficient file")
    head = reader.next("the number of elements and that of coefficients").expect_length(2, "nelements ncoeff")
    count = head.expect_int(0, "the number of elements", 1, 118)
    size = head.expect_int(1, "the number of coefficients", 1, 10**8)
    species: list[int] = []
    radii, weights, rows = [], [], []
    for _ in range(count):
        line = reader.next("an element, its radius and weight").expect_length(3, "element, radius, weight")
        z = atomic_number(line[0])
        if z is None or z in species:
            line.refuse("a chemical element that did not come before")
        species.append(z)
        radii.append(line.expect_float(1, "a radius", 1e-6, _FAR))
        weights.append(line.expect_float(2, "a weight"))
        rows.append(_column(reader, size, f"coefficients of {line[0]}"))
    reader.expect_end()

    for name in ("sinner", "dinner"):
        if name in options and len(options[name]) != count:
            lines[name].refuse(f"{name} of {count} element(s)")
    if 2 * options["rcutfac"] * max(radii) > _FAR:
        lines["rcutfac"].refuse(f"cutoffs, twice rcutfac times the radii, up to {_FAR:g} Å")
    try:
        potential = SNAP(tuple(species), tuple(radii), **options)
    except ValueError as error:
        raise FormatError(hyperparameters, None, str(error)) from None
    k = len(potential.components)
    expected = 1 + k + (k * (k + 1) // 2 if potential.quadraticflag else 0)
    if size != expected:
        head.refuse(f"{expected} coefficients of each element, as {hyperparameters.name} implies")
    table = np.array(rows)
    params = {"weight": np.array(weights), "constant": table[:, 0], "linear": table[:, 1 : k + 1]}
    if potential.quadraticflag:
        params["quadratic"] = table[:, k + 1 :]
    return potential, {name: jnp.asarray(x, float) for name, x in params.items()}


def _column(reader: TextReader, size: int, what: str) -> np.ndarray:
    """One number a line."""
    if 2 * size > reader.size + 1:  # refused before memory is reserved for them
        raise FormatError(
            reader.path, reader.at, f"expected {size} {what}, found a file of {reader.size} bytes in all."
        )
    lines = (reader.next(f"{size - k} more of {size} {what}") for k in range(size))
    return np.array([line.expect_length(1, f"one of {size} {what}").expect_float(0, what) for line in lines])


def _hyperparameters(path: Path) -> tuple[dict[str, Any], dict[str, Words]]:
    """The options of `SNAP` in a file, and the line of each keyword."""
    reader = TextReader(path, "a SNAP hyper-parameter file")
    values: dict[str, Any] = {}
    lines: dict[str, Words] = {}
    while (line := reader.next_or_none()) is not None:
        name = line[0]
        if name in lines:
            line.refuse(f"each keyword once; {name} came before")
        lines[name] = line
        if name in ("sinner", "dinner"):
            values[name] = tuple(line.expect_float(k, f"{name}, Å", -_FAR, _FAR) for k in range(1, len(line)))
            continue
        line.expect_length(2, "a keyword and its value")
        if name in _NUMBERS:
            values[name] = line.expect_float(1, name, *_NUMBERS[name])
        elif name == "twojmax":
            values[name] = line.expect_int(1, name, 0, LARGEST)
        elif name in _FLAGS:
            values[name] = bool(line.expect_int(1, name, 0, 1))
        elif name == "diagonalstyle":
            if line[1] != "3":
                line.refuse("diagonalstyle 3, the only one that LAMMPS still has")
        elif name not in _IGNORED:
            line.refuse(
                f"a keyword of pair_style snap ({', '.join((*_NUMBERS, 'twojmax', *_FLAGS, 'sinner, dinner'))})"
            )
    for name in ("rcutfac", "twojmax"):
        if name not in values:
            reader.refuse_end(f"the keyword {name}")
    inner = values.pop("switchinnerflag", False)
    if inner != ("sinner" in values and "dinner" in values):
        where = lines.get("switchinnerflag") or lines.get("sinner") or lines.get("dinner")
        assert where is not None
        where.refuse("switchinnerflag 1 with sinner and dinner, or none of the three")
    return values, lines


def save(path: str | PathLike, potential: Potential, params: Params) -> None:
    """Write the pair of files, and the recipe if `path` ends in .snap; `load` reads the same potential and numbers.

    Raises:
        ValueError: neither a SNAP nor the sum of a ZBL and a SNAP, or parameters that do not fit it.
    """
    path = Path(path)
    zbl = None
    if isinstance(potential, Sum) and len(potential.members) == 2 and isinstance(potential.members[0], ZBL):
        zbl, params = (potential.members[0], params[0]), params[1]
        potential = potential.members[1]
    if not isinstance(potential, SNAP):
        raise ValueError(f"SNAP files hold a SNAP, or the sum of a ZBL and a SNAP, not a {type(potential).__name__}.")
    if zbl is not None and path.suffix != RECIPE:
        raise ValueError(f"the sum with a ZBL needs a recipe: let the name end in {RECIPE}, not {path.suffix!r}.")
    if potential.densities:
        raise ValueError(f"its components are those of {potential.densities}: save the unrestricted potential.")
    s, k = len(potential.species), len(potential.components)
    shapes = {"weight": (s,), "constant": (s,), "linear": (s, k)}
    if potential.quadraticflag:
        shapes["quadratic"] = (s, k * (k + 1) // 2)
    if set(params) != set(shapes):
        raise ValueError(f"the parameters of this SNAP are {sorted(shapes)}; got {sorted(params)}.")
    arrays = {name: np.asarray(params[name], dtype=float) for name in shapes}
    for name, x in arrays.items():
        if x.shape != shapes[name] or not np.isfinite(x).all():
            raise ValueError(f"params[{name!r}] must be finite, of shape {shapes[name]} here; got shape {x.shape}.")
    rows = np.concatenate(
        [arrays["constant"][:, None], *(arrays[n] for n in ("linear", "quadratic") if n in arrays)], 1
    )
    text = f"{s} {rows.shape[1]}\n"
    symbols = [chemical_symbols[z] for z in potential.species]
    for symbol, radius, weight, row in zip(symbols, potential.radii, arrays["weight"], rows):
        text += f"{symbol} {float(radius)!r} {float(weight)!r}\n" + "".join(f"{x!r}\n" for x in row.tolist())
    files = [path.with_suffix(ending) for ending in (COEFFICIENTS, HYPERPARAMETERS)]
    if path.suffix == RECIPE:
        recipe = snap_recipe.text(files, potential.species, zbl)  # before anything is written
        path.write_text(recipe)
    files[0].write_text(text)
    files[1].write_text("".join(f"{name} {value}\n" for name, value in _keywords(potential)))


def _keywords(potential: SNAP) -> list[tuple[str, str]]:
    """The lines of a hyper-parameter file."""
    numbers = [(name, repr(float(getattr(potential, name)))) for name in _NUMBERS]
    norm = potential.chemflag if potential.bnormflag is None else potential.bnormflag
    flags = {"bnormflag": norm, "switchinnerflag": bool(potential.sinner)}
    out = [*numbers, ("twojmax", str(potential.twojmax))]
    out += [(name, str(int(flags[name] if name in flags else getattr(potential, name)))) for name in _FLAGS]
    if potential.sinner:
        out += [(name, " ".join(repr(float(x)) for x in getattr(potential, name))) for name in ("sinner", "dinner")]
    return out
