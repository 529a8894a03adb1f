"""GAP files of QUIP: gap.xml with the files of sparse points beside it, and the core potential it may hold."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.combinators import Sum
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.gap_strings import Arguments, descriptors
from jaxmlp.formats.gap_write import save
from jaxmlp.formats.gap_xml import Element, read, recognise
from jaxmlp.formats.glue import read_glue
from jaxmlp.formats.lammps_triplets import atomic_number
from jaxmlp.formats.text import as_float
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.gap import GAP, GAPTerm

__all__ = ["load", "recognise", "save"]

KINDS = {1: "ard_se", 2: "dot_product", 4: "pp"}
LARGEST = 10**7  # sparse points, dimensions
_SKIPPED = ("XYZ_data", "command_line")


class Components(NamedTuple):
    """What the potential line of a file adds up: labels of its GAP and of its Glue core; None for no core."""

    gap: str
    glue: str | None


def load(
    path: str | PathLike,
    label: str | None = None,
    species: Sequence[str | int] | None = None,
    overlap: int | None = 0,
) -> tuple[Potential, Params]:
    """Return the potential and the parameters of a gap.xml: a `GAP`, or the sum of a `Glue` core and a `GAP`.

    The species are the elements that the descriptors name, in order of atomic number.

    Args:
        label: which of several potentials in the file.
        species: symbols or atomic numbers to take, in this order. Needed where the descriptors take any element.
        overlap: only for several soap_turbo of different bases or widths: the number, from 0, of the one whose radial
            overlaps all with the same alpha_max take. QUIP (0.9.14 and 0.10, seen) keeps those of the first that its
            process evaluates, and fits with them too. None for each its own, as the paper says.

    Raises:
        FormatError: a file is wrong, truncated, missing, or holds what is not supported.
        ValueError: `species` are needed, or are not in the file.
        OSError: the file cannot be read.
    """
    path = Path(path)
    root = read(path, skip=_SKIPPED)
    wanted = _components(root, label)
    params_of = _labelled(root, "GAP_params", wanted.gap)
    version = params_of.integer("gap_version", 0, 2**31 - 1, default="0")
    processes: list[tuple[GAPTerm, Params]] = []
    sparse = params_of.one("gpSparse")
    coordinates = sparse.all("gpCoordinates")
    if len(coordinates) != sparse.integer("n_coordinate", 1, LARGEST):
        sparse.refuse(f"{sparse.word('n_coordinate')} <gpCoordinates>, found {len(coordinates)}")
    for element in coordinates:
        processes += _process(element, version, path.parent)
    if overlap is not None:
        processes = _share_overlaps(processes, overlap)
    data = params_of.one("GAP_data")
    if wanted.glue is None and data.word("do_core", "F").strip(".").upper().startswith("T"):
        data.refuse("do_core F, or a core potential in <Potential init_args>, found do_core T")
    found = sorted(set().union(*(term.elements for term, _ in processes)))
    asked = None if species is None else tuple(_number(s) for s in species)
    if not found and not asked:
        raise ValueError(f"{path} does not name its elements: pass species=[...], symbols or atomic numbers.")
    numbers = tuple(sorted({*found, *(asked or ())}))
    gap = GAP(numbers, tuple(term for term, _ in processes))
    params: Params = {
        "e0": jnp.asarray(_energies(data)[np.array(numbers)]),
        "processes": tuple(p for _, p in processes),
    }
    potential: Potential = gap
    if wanted.glue is not None:
        core, tables = read_glue(_labelled(root, "Glue_params", wanted.glue), numbers)
        potential, params = Sum((core, gap)), (tables, params)
    return (potential, params) if asked in (None, numbers) else potential.restrict(params, asked)


def _share_overlaps(processes: list[tuple[GAPTerm, Params]], number: int) -> list[tuple[GAPTerm, Params]]:
    turbo = [term.descriptor for term, _ in processes if isinstance(term.descriptor, SOAPTurbo)]
    if not turbo:
        return processes
    if not 0 <= number < len(turbo):
        raise ValueError(f"overlap={number}: the number of one of {len(turbo)} soap_turbo, from 0.")
    chosen = turbo[number]
    return [
        (replace(t, descriptor=chosen.share_overlaps(t.descriptor)) if isinstance(t.descriptor, SOAPTurbo) else t, p)
        for t, p in processes
    ]


def _number(s: str | int) -> int:
    z = int(s) if not isinstance(s, str) else atomic_number(s)
    if z is None or not 1 <= z <= 118:
        raise ValueError(f"species must be symbols or atomic numbers; got {s!r}.")
    return z


def _components(root: Element, label: str | None) -> Components:
    """Read the potential line, `IP GAP label=...` or `Sum init_args_pot1={IP Glue} init_args_pot2={IP GAP ...}`."""
    potentials = ([root] if root.name == "Potential" else []) + list(root.everywhere("Potential"))
    if not potentials:
        return Components(label or "", None)
    if label is not None:
        potentials = [p for p in potentials if label in (p.word("label", ""), _gap_label(p.word("init_args", "")))]
    if len(potentials) != 1:
        labels = ", ".join(p.word("label", "-") for p in root.everywhere("Potential"))
        root.refuse(
            f"one <Potential>{'' if label is None else f' labelled {label!r}'}, found: {labels}; pass label=..."
        )
    line = potentials[0]
    text = line.word("init_args")

    def refuse(message: str) -> NoReturn:
        line.refuse(f"{message}; init_args is `{text[:80]}`")

    parts = [text]
    if text.split()[:1] == ["Sum"]:
        sum_of = Arguments(text, refuse)
        parts = [" ".join(sum_of.words(f"init_args_pot{k}")) for k in (1, 2)]
        if sum_of.values:
            refuse(f"a sum of two potentials, found `{next(iter(sum_of.values))[:40]}`")
    named: dict[str, str] = {}
    for part in parts:
        kind, options = " ".join(part.split()[:2]), dict(w.partition("=")[::2] for w in part.split()[2:])
        if kind not in ("IP GAP", "IP Glue") or kind in named or options.keys() - {"label"}:
            refuse(f"IP GAP, or its sum with IP Glue as core potential, with label= only, found `{part[:60]}`")
        named[kind] = options.get("label", "")
    if "IP GAP" not in named:
        refuse("IP GAP")
    return Components(named["IP GAP"], named.get("IP Glue"))


def _gap_label(text: str) -> str:
    found = re.search(r"IP GAP\s+label=([^\s}]+)", text)
    return found[1] if found else ""


def _labelled(root: Element, name: str, label: str) -> Element:
    """Return the element of this name and label; of any label where none is asked for and there is only one."""
    found = ([root] if root.name == name else []) + list(root.everywhere(name))
    if label:
        found = [e for e in found if e.word("label", "") == label]
    if len(found) != 1:
        root.refuse(f"one <{name}>{f' labelled {label!r}' if label else ''}, found {len(found)}")
    return found[0]


def _energies(data: Element) -> np.ndarray:
    """Return the energies of isolated atoms, eV, by atomic number; 0 where there is none."""
    e0 = np.full(119, data.number("e0", default="0"))
    for element in data.all("e0"):
        e0[element.integer("Z", 1, 118)] = element.number("value")
    return e0


def _process(element: Element, version: int, folder: Path) -> list[tuple[GAPTerm, Params]]:
    """Read one gpCoordinates: one Gaussian process, or one for each element of the centre."""
    text = element.one("descriptor").text

    def refuse(message: str) -> NoReturn:
        element.one("descriptor").refuse(message)

    found = descriptors(text, version, folder, refuse)
    d = found[0][0].dimensions
    if element.integer("dimensions", 1, LARGEST) != d:
        element.refuse(f"dimensions {d}, as the descriptor string says, found {element.word('dimensions')}")
    kind = KINDS.get(element.integer("covariance_type", 0, 100))
    if kind is None:
        element.refuse(f"covariance_type 1, 2 or 4 (ard_se, dot_product, pp), found {element.word('covariance_type')}")
    m = element.integer("n_sparseX", 1, LARGEST)
    params = {"delta": element.number("signal_variance"), "f0": element.number("signal_mean", default="0")}
    if kind == "dot_product":
        zeta, permutations = element.number("zeta"), ()
    else:
        params["theta"] = element.one("theta").numbers(d, "length scales")
        if not (np.abs(params["theta"]) > 1e-8).all():
            element.one("theta").refuse("length scales other than 0")
        zeta, permutations = 1.0, _permutations(element, d)
    try:
        covariance = Covariance(kind, zeta, permutations)
        terms = [GAPTerm(descriptor, covariance, m, center) for descriptor, center in found]
    except ValueError as error:
        element.refuse(f"a process that makes sense: {error}")
    params |= _points(element, m, d, folder)
    arrays = {name: jnp.asarray(np.asarray(x, float)) for name, x in params.items()}
    return [(term, arrays) for term in terms]


def _permutations(element: Element, d: int) -> tuple[tuple[int, ...], ...]:
    """Return the permutations, from 0; none where all are the identity. Rows that all come equally often count once."""
    count = element.integer("n_permutations", 1, LARGEST, default="1")
    rows = [tuple(int(x) - 1 if x == int(x) else -1 for x in p.numbers(d, "component numbers"))
            for p in element.all("permutation")]  # fmt: skip
    if count > 1 and len(rows) != count:
        element.refuse(f"{count} <permutation>, found {len(rows)}")
    identity = tuple(range(d))
    if any(tuple(sorted(row)) != identity for row in rows) or (rows and identity not in rows):
        element.refuse("permutations of the components, the identity among them")
    often = Counter(rows)
    if len(set(often.values())) > 1:
        element.refuse("permutations that all come equally often")
    return tuple(sorted(often)) if len(often) > 1 else ()


def _points(element: Element, m: int, d: int, folder: Path) -> dict[str, np.ndarray]:
    """Return weights, cutoffs and sparse points, from the elements or from the file they name."""
    rows = element.all("sparseX")
    if len(rows) != m:
        element.refuse(f"{m} <sparseX>, found {len(rows)}")
    alpha, cutoff, seen = np.zeros(m), np.ones(m), np.zeros(m, bool)
    order = np.zeros(m, int)
    for k, row in enumerate(rows):
        i = row.integer("i", 1, m) - 1
        if seen[i]:
            row.refuse(f"each i once, found {i + 1} again")
        seen[i], order[k] = True, i
        alpha[i], cutoff[i] = row.number("alpha"), row.number("sparseCutoff", default="1")
    if "sparseX_filename" in element.attributes:
        sparse = _sparse_file(element, m, d, folder)
    else:
        sparse = np.zeros((m, d)) if 2 * m * d <= sum(map(_length, rows)) + m else None
        if sparse is None:
            element.refuse(f"{m} times {d} numbers in <sparseX>, or sparseX_filename, found fewer")
        for i, row in zip(order, rows):
            sparse[i] = _inline(row, d)
    return {"alpha": alpha, "cutoff": cutoff, "sparse": sparse}


def _length(row: Element) -> int:
    return sum(len(p) for e in (row, *row.children) for p in e.pieces)


def _inline(row: Element, d: int) -> np.ndarray:
    """Return a sparse point (d,) that stands in its element, perhaps in slices."""
    if not row.children:
        return row.numbers(d, "components")
    point = np.full(d, np.nan)
    for piece in row.all("sparseX_slice"):
        start, end = piece.integer("start", 1, d), piece.integer("end", 1, d)
        point[start - 1 : end] = piece.numbers(max(end - start + 1, 0), "components")
    if np.isnan(point).any():
        row.refuse(f"slices that cover {d} components")
    return point


def _sparse_file(element: Element, m: int, d: int, folder: Path) -> np.ndarray:
    """Return the sparse points (m, d) of a file beside the potential's: one number after the other."""
    name = element.word("sparseX_filename")
    if not name or name in (".", "..") or "/" in name or "\\" in name or Path(name).name != name:
        element.refuse(f"sparseX_filename as the plain name of a file in the same folder, found `{name[:60]}`")
    path = folder / name
    if not path.is_file():
        element.refuse(f"the file of its {m} sparse points, `{name}`, beside it in {folder}: it is missing")
    data = path.read_bytes()
    if 2 * m * d > len(data) + 1:  # a digit and a separator each
        raise FormatError(path, None, f"expected {m} times {d} numbers, found a file of {len(data)} bytes: truncated?")
    words = data.split()
    if len(words) != m * d:
        raise FormatError(path, None, f"expected {m} times {d} numbers, found {len(words)}.")
    try:
        if b"_" in data:
            raise ValueError
        values = np.array(words).astype(float)
    except ValueError:  # Fortran's d exponents, or no numbers at all
        values = np.array([as_float(w.decode("utf-8", errors="replace")) for w in words])
    if not np.isfinite(values).all():
        k = int(np.argmin(np.isfinite(values)))
        line = next(n for n, text in enumerate(data.split(b"\n"), 1) if words[k] in text.split())
        raise FormatError(path, line, f"expected finite numbers, found `{words[k][:40].decode(errors='replace')}`.")
    return values.reshape(m, d)
