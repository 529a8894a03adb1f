"""MTP files of MLIP-2 (.mtp) and MLIP-3 (.almtp: the active set of the learning stands behind the potential)."""

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from jaxmlp.basis.moment_levels import LEVELS, level_moments
from jaxmlp.basis.moments import Moments
from jaxmlp.formats.braces import Tokens
from jaxmlp.formats.errors import FormatError
from jaxmlp.potential import Params
from jaxmlp.potentials.mtp import MTP

_KIND = "an MTP file"
_MARK = re.compile(rb"\r?\n#MVS_v1\.1\r?\n")
_EQUATIONS = ("energy", "force", "stress", "site_en")  # of a configuration, weighted in a selection
_FAR = 100.0  # Å, no cutoff is longer
_RADIAL = {  # the words of older and newer writers
    "min_dist": "inner", "min": "inner", "min_val": "inner", "max_dist": "cutoff", "max": "cutoff", "max_val": "cutoff",
    "radial_basis_size": "size", "size": "size", "basis_size": "size", "radial_funcs_count": "functions",
}  # fmt: skip
_TEXTS = ("version", "potential_name", "potential_tag")
_COUNTS = ("alpha_moments_count", "alpha_index_basic_count", "alpha_index_times_count", "alpha_scalar_moments")
_LISTS = {  # what counts the entries
    "alpha_index_basic": "alpha_index_basic_count", "alpha_index_times": "alpha_index_times_count",
    "alpha_moment_mapping": "alpha_scalar_moments", "species_coeffs": "species_count",
    "moment_coeffs": "alpha_scalar_moments",
}  # fmt: skip


def load(path: str | PathLike, species: Sequence[str | int] | None = None) -> tuple[MTP, Params]:
    """Return the potential and the parameters of a trained .mtp or .almtp file, in jax's default floating type.

    The parameters of an .almtp file hold its "active_set" (n, n) and "active_inverse"; the selected
    configurations are not read.

    Args:
        species: element symbols or atomic numbers of the file's types 0, 1, ...: the file does not name its elements,
            unless it labels the pairs of its radial functions by atomic numbers.

    Raises:
        FormatError: the file is wrong, truncated, an untrained template, or of a kind that is not supported.
        ValueError: `species` is missing, or does not fit the number of types.
    """
    raw = Path(path).read_bytes()
    mark = _MARK.search(raw)
    head = raw[: mark.start()] if mark else raw
    if b"\0" in head:
        raise FormatError(path, head[: head.index(b"\0")].count(b"\n") + 1, f"expected {_KIND}, found binary data.")
    tokens = Tokens(path, head.decode("utf-8", errors="replace"), _KIND)
    tokens.take("MTP", f"MTP, the first word of {_KIND}")
    values, lines = _entries(tokens)
    labels, radial = values["radial_coeffs"]
    basis = values["radial"]
    try:
        tables = Moments(*(tuple(values[name]) for name in _LISTS if name.startswith("alpha")))
        if tables.count != values["alpha_moments_count"]:
            raise ValueError(f"alpha_moments_count is {values['alpha_moments_count']}, the tables make {tables.count}.")
        if tables.radial_count != basis["functions"]:
            raise ValueError(f"radial_funcs_count is {basis['functions']}, {tables.radial_count} functions are used.")
        if not basis["inner"] < basis["cutoff"]:
            raise ValueError(f"min_dist is {basis['inner']}, max_dist {basis['cutoff']}.")
    except ValueError as error:
        raise FormatError(path, lines["alpha_index_times"], f"expected a basis that fits together: {error}") from None
    level, numbers = level_of(tables), _species(path, species, labels, values["species_count"])
    potential = MTP(
        numbers,
        basis["cutoff"],
        basis["inner"],
        basis["size"],
        level,
        tables=None if level else tables,
        selection=numbers if mark else (),
        **(_weights(path, raw, mark.end()) if mark else {}),
    )
    params: dict = {
        "radial": radial,
        "scaling": values.get("scaling", 1.0),
        "species_coeffs": values["species_coeffs"],
        "moment_coeffs": values["moment_coeffs"],
    }
    if mark is not None:
        params |= _active_set(path, raw, mark.end(), potential.size)
    return potential, {name: jnp.asarray(np.asarray(x, dtype=float)) for name, x in params.items()}


def level_of(tables: Moments) -> int:
    """Return the level that has these tables, or 0."""
    for level in LEVELS:
        of_level = level_moments(level)
        if len(of_level.scalars) >= len(tables.scalars):
            return level if of_level == tables else 0
    return 0


def _entries(tokens: Tokens) -> tuple[dict, dict[str, int]]:
    """Everything the text says, and on which line."""
    values: dict = {}
    lines: dict[str, int] = {}
    while (name := tokens.peek()) is not None:
        line = tokens.line
        if name in lines:
            tokens.refuse(f"each entry once; {name} stands on line {lines[name]} already; then the next")
        lines[name] = line
        if name == "radial_coeffs":
            if not {"radial", "species_count"} <= values.keys():
                tokens.refuse("species_count and radial_basis_type before radial_coeffs")
            tokens.at += 1
            values[name] = _radial_coefficients(tokens, values["species_count"], values["radial"])
            continue
        known = name == "radial_basis_type" or name in (*_TEXTS, *_COUNTS, *_LISTS, "scaling", "species_count")
        if not known:
            what = " (magnetic potentials are not supported)" if name == "magnetic_basis_type" else ""
            tokens.refuse(f"an entry of {_KIND}{what}")
        tokens.at += 1
        tokens.take("=", f"= after {name}")
        if name in _TEXTS:
            tokens.skip_line()  # perhaps nothing
        elif name == "scaling":
            values[name] = tokens.number(name)
        elif name == "species_count":
            values[name] = tokens.integer(name, 1, 118)
        elif name in _COUNTS:
            values[name] = tokens.integer(name, 0)
        elif name == "radial_basis_type":
            values["radial"] = _radial_basis(tokens)
        else:
            if _LISTS[name] not in values:
                tokens.refuse(f"{_LISTS[name]} before {name}")
            count = values[_LISTS[name]]
            if name.endswith("coeffs"):
                values[name] = tokens.numbers(name, count)
            elif name == "alpha_moment_mapping":
                values[name] = tokens.integers(name, count)
            else:
                values[name] = tokens.rows(name, count, 4)
    for name in ("species_count", "radial_basis_type", "alpha_moments_count", *_LISTS, "radial_coeffs"):
        if name not in lines:
            template = ": this is an untrained template" if name.endswith("coeffs") else ""
            tokens.refuse(f"an entry {name}{template}")
    return values, lines


def _radial_basis(tokens: Tokens) -> dict:
    """The name of the radial basis and its numbers."""
    tokens.take("RBChebyshev", "the radial basis RBChebyshev (no other is supported)")
    braced = tokens.peek() == "{"
    tokens.at += braced
    basis: dict = {}
    while (name := tokens.peek()) in _RADIAL:
        key = _RADIAL[str(name)]
        if key in basis:
            tokens.refuse(f"{name} once, then the next entry")
        tokens.at += 1
        tokens.take("=", f"= after {name}")
        distance = key in ("inner", "cutoff")
        basis[key] = tokens.number(str(name), 0, _FAR) if distance else tokens.integer(str(name), 1, 1000)
        tokens.at += tokens.peek() == ","
    if braced:
        tokens.take("}", "} after the numbers of the radial basis")
    missing = {v: k for k, v in reversed(_RADIAL.items()) if v not in basis}
    if missing:
        tokens.refuse(f"{', '.join(missing.values())} of the radial basis")
    return basis


def _radial_coefficients(tokens: Tokens, count: int, basis: dict) -> tuple[list[int], np.ndarray]:
    """The labels of the types, and the coefficients (S, S, mu, k)."""
    labels: list[int] = []
    pairs: dict[tuple[int, int], list] = {}
    while (match := re.fullmatch(r"(\d{1,3})-(\d{1,3})", tokens.peek() or "", re.ASCII)) is not None:
        a, b = (int(x) for x in match.groups())
        if (a, b) in pairs:
            tokens.refuse("each pair of types once")
        tokens.at += 1
        labels += [a] * (a not in labels)
        name = f"radial_coeffs of {a}-{b}"
        pairs[a, b] = [tokens.numbers(name, basis["size"]) for _ in range(basis["functions"])]
    if len(labels) != count or set(pairs) != {(a, b) for a in labels for b in labels}:
        tokens.refuse(f"radial_coeffs of all pairs of {count} type(s)")
    return labels, np.array([[pairs[a, b] for b in labels] for a in labels])


def _species(path, species: Sequence[str | int] | None, labels: list[int], count: int) -> tuple[int, ...]:
    """The atomic numbers of the types."""
    if species is None:
        if labels != list(range(count)) and all(1 <= z <= 118 for z in labels):
            return tuple(labels)
        raise ValueError(
            f"{path} does not name its elements: pass species=[...], symbols or atomic numbers of its {count} type(s)."
        )
    if isinstance(species, str):
        raise ValueError(f"species is a list of symbols or atomic numbers; got {species!r}.")
    numbers = tuple(atomic_numbers.get(z, 0) if isinstance(z, str) else int(z) for z in species)
    if len(numbers) != count or len(set(numbers)) != count or not all(1 <= z <= 118 for z in numbers):
        raise ValueError(f"species={list(species)}, but {path} has {count} type(s), each a different element.")
    return numbers


def _weights(path, raw: bytes, start: int) -> dict:
    """How the equations of a configuration were weighted in the selection, from the text before the active set."""
    line = raw[:start].count(b"\n") + 1
    words = raw[start : max(start, raw.find(b"#", start))].decode("ascii", errors="replace").split()
    names = [*(f"{name}_weight" for name in _EQUATIONS), "weight_scaling"]
    try:
        values = [float(w) for w in words[1::2]]
    except ValueError:
        values = []
    if words[::2] != names or len(values) != len(names) or not np.isfinite(values).all() or min(values) < 0:
        raise FormatError(path, line, f"expected {', '.join(names)}, each with a number, then the active set.")
    energy, force, stress, site, scaling = values
    if force or stress or bool(energy) == bool(site) or scaling not in (0, 1, 2):
        raise FormatError(
            path, line, "expected a selection by the energies of configurations or of neighbourhoods, with a "
            "weight_scaling of 0, 1 or 2; without what follows #MVS_v1.1 the file is the potential alone.",
        )  # fmt: skip
    return {"energy_weight": energy, "weight_scaling": int(scaling)}


def _active_set(path, raw: bytes, start: int, n: int) -> dict[str, np.ndarray]:
    """The matrix (n, n) and its inverse, behind the mark and text up to `#`: one row by row, one column by column."""
    line = raw[:start].count(b"\n") + 1
    at = raw.find(b"#", start) + 1
    if at == 0 or len(raw) - at < 16 * n * n:
        raise FormatError(path, line, f"expected an active set of {n} x {n} numbers and its inverse: it is truncated.")
    matrix, inverse = (np.frombuffer(raw, "<f8", n * n, at + 8 * n * n * k).reshape(n, n) for k in (0, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(matrix @ inverse.T - np.eye(n)).max()
    if not error < 1e-3:  # also catches nan
        raise FormatError(path, line, f"expected an active set of {n} x {n} numbers, then its inverse; it is none.")
    return {"active_set": matrix, "active_inverse": inverse.T}


def save(path: str | PathLike, potential: MTP, params: Params) -> None:
    """Write a file that `load` reads as the same potential and numbers; with an active set it is an .almtp file.

    Raises:
        ValueError: no MTP, or parameters that do not fit it or are not finite.
    """
    if not isinstance(potential, MTP):
        raise ValueError(f"an MTP file holds an MTP, not a {type(potential).__name__}.")
    tables, s = potential.moments, len(potential.species)
    shapes: dict[str, tuple[int, ...]] = {
        "radial": (s, s, tables.radial_count, potential.radial_size),
        "scaling": (),
        "species_coeffs": (s,),
        "moment_coeffs": (len(tables.scalars),),
    }
    if potential.selection not in ((), potential.species):
        raise ValueError(
            f"the active set is that of {potential.selection}; drop it, or save the unrestricted potential."
        )
    if potential.selection:
        shapes["active_set"] = shapes["active_inverse"] = (potential.size, potential.size)
    if set(params) != set(shapes):
        raise ValueError(f"the parameters of this MTP are {sorted(shapes)}; got {sorted(params)}.")
    arrays = {name: np.asarray(params[name], dtype=float) for name in shapes}
    for name, x in arrays.items():
        if x.shape != shapes[name] or not np.isfinite(x).all():
            raise ValueError(f"params[{name!r}] must be finite, of shape {shapes[name]} here; got shape {x.shape}.")
    content = _text(potential, tables, arrays).encode("ascii")
    if potential.selection:
        content += _selection(potential, arrays["active_set"], arrays["active_inverse"])
    Path(path).write_bytes(content)


def _braced(row) -> str:
    return "{" + ", ".join(repr(x) for x in row) + "}"


def _text(potential: MTP, tables: Moments, arrays: dict[str, np.ndarray]) -> str:
    """The potential as text."""
    lines = [
        "MTP", "version = 1.1.0", "potential_name = jaxmlp", f"scaling = {float(arrays['scaling'])!r}",
        f"species_count = {len(potential.species)}", "potential_tag = ", "radial_basis_type = RBChebyshev",
        f"\tmin_dist = {float(potential.inner)!r}", f"\tmax_dist = {float(potential.cutoff)!r}",
        f"\tradial_basis_size = {potential.radial_size}", f"\tradial_funcs_count = {tables.radial_count}",
        "\tradial_coeffs",
    ]  # fmt: skip
    for a, b in np.ndindex(arrays["radial"].shape[:2]):
        lines += [f"\t\t{a}-{b}", *("\t\t\t" + _braced(row) for row in arrays["radial"][a, b].tolist())]
    lines += [
        f"alpha_moments_count = {tables.count}", f"alpha_index_basic_count = {len(tables.basic)}",
        "alpha_index_basic = {" + ", ".join(map(_braced, tables.basic)) + "}",
        f"alpha_index_times_count = {len(tables.times)}",
        "alpha_index_times = {" + ", ".join(map(_braced, tables.times)) + "}",
        f"alpha_scalar_moments = {len(tables.scalars)}", f"alpha_moment_mapping = {_braced(tables.scalars)}",
        f"species_coeffs = {_braced(arrays['species_coeffs'].tolist())}",
        f"moment_coeffs = {_braced(arrays['moment_coeffs'].tolist())}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _selection(potential: MTP, matrix: np.ndarray, inverse: np.ndarray) -> bytes:
    """The weights, the active set, its inverse, and an empty list of configurations."""
    energy = float(potential.energy_weight)
    values = {"energy": energy, "site_en": float(energy == 0)}
    weights = "".join(f"{name}_weight {values.get(name, 0.0)!r}\n" for name in _EQUATIONS)
    numbers = matrix.astype("<f8").tobytes() + inverse.T.astype("<f8").tobytes()
    head = f"\n#MVS_v1.1\n{weights}weight_scaling {potential.weight_scaling}\n#".encode()
    return head + numbers + b"\n#\n" + b"-1 -1\n" * len(matrix) + b"#\n"
