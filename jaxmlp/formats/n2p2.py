"""Folders of n2p2 and RuNNer: input.nn, scaling.data and weights.ZZZ.data for every element ZZZ."""

import re
from itertools import pairwise
from os import PathLike
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from jaxmlp.basis.symmetry_functions import SymmetryFunction
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params
from jaxmlp.potentials.bpnn import BPNN

BOHR = 1 / 1.8897261328  # Å, as n2p2's LAMMPS interface has it
HARTREE = 1 / 0.0367493254  # eV
LENGTHS = {"angstrom": 1.0, "bohr": BOHR}
ENERGIES = {"ev": 1.0, "hartree": HARTREE, "ha": HARTREE}
SINGLE = (
    "number_of_elements", "elements", "mean_energy", "conv_energy", "conv_length", "cutoff_type", "scale_min_short",
    "scale_max_short", "global_hidden_layers_short", "global_nodes_short", "global_activation_short",
)  # fmt: skip
FLAGS = (
    "scale_symmetry_functions", "center_symmetry_functions", "scale_symmetry_functions_sigma", "normalize_nodes",
)  # fmt: skip
REFUSED = ("nnp_type", "nnp_gen", "electrostatic_type", "use_electrostatics")
ARGUMENTS = {
    2: "E eta shift cutoff", 3: "E E eta lambd zeta cutoff [shift]", 9: "E E eta lambd zeta cutoff [shift]",
    12: "eta shift cutoff", 13: "eta shift lambd zeta cutoff", 20: "E left cutoff core",
    21: "E E left cutoff from to core", 22: "E E left cutoff from to core", 23: "left cutoff core",
    24: "left cutoff from to core", 25: "left cutoff from to core",
}  # fmt: skip
CORE = re.compile(r"p[1-4]a?|e")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def load(
    path: str | PathLike, *, length_unit: str | float | None = None, energy_unit: str | float | None = None
) -> tuple[BPNN, Params]:
    """Return the potential and parameters of a folder, given by itself or by its input.nn.

    Args:
        length_unit: of the files: "bohr", "angstrom", or a number of Å. The format does not record it; without it,
            a comment `# Length unit : ...` in input.nn (as n2p2's own examples have) is taken.
        energy_unit: "hartree", "ev", or a number of eV, likewise.

    Raises:
        FormatError: a file is missing, incomplete or contradicts itself.
        ValueError: the units are neither given nor in a comment.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    file = folder / "input.nn"
    lines = _lines(file)
    units = [
        _unit(file, what, given, known)
        for what, given, known in (("length", length_unit, LENGTHS), ("energy", energy_unit, ENERGIES))
    ]

    def one(keyword: str) -> Words:
        if keyword not in lines:
            raise FormatError(file, None, f"expected the keyword `{keyword}`; it is missing.")
        return lines[keyword][0]

    def number(keyword: str, default: float) -> float:
        return one(keyword).expect_float(1, f"`{keyword} <number>`") if keyword in lines else default

    symbols = one("elements")
    count = one("number_of_elements").expect_int(1, "`number_of_elements <n>`", 1, 118)
    if len(symbols) != count + 1 or len({_element(symbols, k + 1) for k in range(count)}) != count:
        symbols.refuse(f"`elements` with {count} different symbols")
    species = tuple(sorted(_element(symbols, k + 1) for k in range(count)))
    cutoff_type = one("cutoff_type").expect_int(1, "`cutoff_type <t> [alpha]`", 0, 8)
    alpha = one("cutoff_type").expect_float(2, "alpha", 0, 1) if len(one("cutoff_type")) > 2 else 0.0
    layers = one("global_hidden_layers_short").expect_int(1, "number of hidden layers", 0, 100)
    nodes_line, letters = one("global_nodes_short"), one("global_activation_short")
    nodes = tuple(nodes_line.expect_int(k, f"{layers} layer sizes", 1, 10000) for k in range(1, layers + 1))
    if len(letters) != layers + 2 or not set(letters[1:]) <= set("ltsprgcSeh"):
        letters.refuse(f"`global_activation_short` with {layers + 1} letters of ltsprgcSeh")
    functions: dict[int, list[SymmetryFunction]] = {z: [] for z in species}
    for line in lines.get("symfunction_short", []):
        z, f = _function(line, species, cutoff_type, alpha)
        functions[z].append(f)
    for z in species:
        if not functions[z]:
            raise FormatError(file, None, f"expected symfunction_short lines for the element of number {z}; none.")
    center, scale, sigma = (k in lines for k in ("center_symmetry_functions", FLAGS[0], FLAGS[2]))
    if scale and sigma:
        lines[FLAGS[2]][0].refuse("only one way to scale symmetry functions")
    mode = "sigma" if sigma else "scale_center" if scale and center else "scale" if scale else "none"
    conv_energy = number("conv_energy", 1.0)
    if conv_energy == 0:
        one("conv_energy").refuse("a conversion factor that is not 0")
    potential = BPNN(
        species,
        tuple(tuple(sorted(functions[z], key=_order)) for z in species),
        (nodes,) * count,
        (tuple(letters[1:]),) * count,
        "center" if center and mode == "none" else mode,
        number("scale_min_short", 0.0),
        number("scale_max_short", 1.0),
        "normalize_nodes" in lines,
        length_unit=units[0],
        energy_unit=units[1],
        mean_energy=number("mean_energy", 0.0),
        conv_energy=conv_energy,
        conv_length=number("conv_length", 1.0),
    )
    offsets = np.zeros(count)
    for line in lines.get("atom_energy", []):
        z = _element(line, 1)
        if z not in species:
            line.refuse("`atom_energy` of an element of the model")
        offsets[species.index(z)] = line.expect_float(2, "`atom_energy <element> <energy>`")
    weights, biases = zip(*(_weights(folder, potential, t) for t in range(count)), strict=True)
    scaling = _scaling(folder / "scaling.data", potential)
    return potential, {
        "atom_energy": jnp.asarray(offsets),
        "scaling": scaling,
        "weights": weights,
        "biases": biases,
    }


def _lines(file: Path) -> dict[str, list[Words]]:
    """The lines of input.nn by keyword; what the model needs must not be there twice."""
    reader = TextReader(file, "an input.nn of n2p2")
    lines: dict[str, list[Words]] = {}
    while (line := reader.next_or_none()) is not None:
        if line[0] in REFUSED or line[0].startswith("element_"):
            line.refuse("a short-range network of the second generation without overrides per element; not supported")
        if line[0] in lines and line[0] in SINGLE:
            line.refuse(f"`{line[0]}` once")
        lines.setdefault(line[0], []).append(line)
    return lines


def _unit(file: Path, what: str, given, known: dict[str, float]) -> float:
    if given is None:
        found = re.search(rf"#\s*{what} unit\s*:\s*(\w+)", file.read_text(errors="replace"), re.IGNORECASE)
        given = found.group(1) if found else None
    if isinstance(given, str) and given.lower() in known:
        return known[given.lower()]
    if isinstance(given, int | float) and 0 < given < float("inf"):
        return float(given)
    raise ValueError(f"{file} does not say its {what} unit: pass {what}_unit=, one of {', '.join(known)} or a number.")


def _element(line: Words, k: int) -> int:
    z = atomic_numbers.get(line[k] if k < len(line) else "", 0)
    if not z:
        line.refuse(f"an element symbol (word {k + 1})")
    return z


def _function(line: Words, species, cutoff_type: int, alpha: float) -> tuple[int, SymmetryFunction]:
    center, kind = _element(line, 1), line.expect_int(2, "type of symmetry function", 2, 25)
    if kind not in ARGUMENTS:
        line.refuse(f"a type of symmetry function among {', '.join(map(str, ARGUMENTS))}")
    names = ARGUMENTS[kind].split()
    needed = [n for n in names if n[0] != "["]
    what = f"`symfunction_short <element> {kind} {' '.join(names)}`"
    if len(line) - 3 < len(needed):
        line.refuse(what)
    elements, values, core = [], {}, ""
    for k, name in enumerate(names, start=3):  # n2p2 ignores what follows: published files have remarks there
        if name[0] == "[" and not (k < len(line) and _NUMBER.fullmatch(line[k])):
            break
        if name == "E":
            elements.append(_element(line, k))
        elif name == "core":
            core = line[k]
            if not CORE.fullmatch(core):
                line.refuse(f"{what} with a core p1 to p4, p1a to p4a or e")
        else:
            values[name.strip("[]")] = line.expect_float(k, what)
    if not {center, *elements} <= set(species):
        line.refuse("elements of the model")
    angles = (values.pop("from", 0.0), values.pop("to", 0.0))
    if core:
        low, high = angles
        if kind in (21, 22, 24, 25) and (low >= high or not ((low >= 0 and high <= 180) or low + high in (0, 360))):
            line.refuse("an angular interval in [0, 180], or centred on 0 or 180")
        cutoff_type = alpha = 0
    try:
        return center, SymmetryFunction(
            kind, tuple(sorted(elements)), angles=angles, core=core, cutoff_type=cutoff_type, alpha=float(alpha),
            **values,
        )  # fmt: skip
    except ValueError as error:
        raise FormatError(line.path, line.line, str(error)) from error


def _order(f: SymmetryFunction) -> tuple:
    """n2p2 numbers the functions of an element in this order."""
    if f.core:
        return f.kind, f.core, f.elements, f.cutoff, f.left, *f.angles
    head = (f.kind, f.cutoff_type, f.alpha, f.cutoff, f.eta, f.shift)
    return (*head, f.elements) if f.kind in (2, 12) else (*head, f.zeta, f.lambd, f.elements)


def _scaling(file: Path, potential: BPNN) -> tuple[dict, ...]:
    tables = [np.full((len(fs), 4), np.nan) for fs in potential.functions]
    if potential.scaling != "none" or file.exists():
        reader = _open(file, "a scaling.data of n2p2")
        while (line := reader.next_or_none()) is not None:
            if len(line) < 5:
                continue  # RuNNer ends with the range of energies
            t = line.expect_int(0, "number of an element", 1, len(tables)) - 1
            k = line.expect_int(1, "number of a symmetry function", 1, len(tables[t])) - 1
            if not np.isnan(tables[t][k, 0]):
                line.refuse("every symmetry function once")
            sigma = line.expect_float(5, "sigma") if len(line) > 5 else 0.0
            tables[t][k] = [*(line.expect_float(c, "min, max and mean") for c in (2, 3, 4)), sigma]
            width = sigma if potential.scaling == "sigma" else tables[t][k, 1] - tables[t][k, 0]
            if potential.scaling in ("sigma", "scale", "scale_center") and width == 0:
                line.refuse("a range (or sigma) that is not 0")
    else:
        tables = [np.tile([0.0, 1.0, 0.0, 1.0], (len(x), 1)) for x in tables]
    for t, table in enumerate(tables):
        if np.isnan(table).any():
            k = int(np.argmax(np.isnan(table[:, 0]))) + 1
            raise FormatError(file, None, f"expected a row for element {t + 1}, symmetry function {k}; it is missing.")
    names = ("min", "max", "mean", "sigma")
    return tuple({n: jnp.asarray(table[:, c]) for c, n in enumerate(names)} for table in tables)


def _weights(folder: Path, potential: BPNN, t: int) -> tuple[tuple, tuple]:
    file = folder / f"weights.{potential.species[t]:03d}.data"
    reader = _open(file, "a weights file of n2p2")
    values = []
    while (line := reader.next_or_none()) is not None:
        values.append(line.expect_float(0, "a weight"))
    sizes = (len(potential.functions[t]), *potential.nodes[t], 1)
    wanted = sum(i * o + o for i, o in pairwise(sizes))
    if len(values) != wanted:
        raise FormatError(file, reader.at, f"expected {wanted} weights for layers {sizes}, found {len(values)}.")
    weights, biases, at = [], [], 0
    for i, o in pairwise(sizes):
        weights.append(jnp.asarray(np.reshape(values[at : at + i * o], (i, o)).T))
        biases.append(jnp.asarray(np.array(values[at + i * o : at + i * o + o])))
        at += i * o + o
    return tuple(weights), tuple(biases)


def _open(file: Path, kind: str) -> TextReader:
    if not file.is_file():
        raise FormatError(file, None, f"expected {kind}; the file is missing.")
    return TextReader(file, kind)
