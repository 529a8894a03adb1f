"""Folders of n2p2 and RuNNer: input.nn, scaling.data and weights.ZZZ.data for every element ZZZ."""

import re
from itertools import pairwise
from os import PathLike
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from jaxmlp.basis.symmetry_functions import SymmetryFunction
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.n2p2_input import Input, element, networks
from jaxmlp.formats.n2p2_write import ARGUMENTS, ENERGIES, LENGTHS, order, places, save
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params
from jaxmlp.potentials.bpnn import BPNN

__all__ = ["load", "save"]

LIMITS = {"cutoff": (1e-6, 1e4), "zeta": (0.0, 1e4)}
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
    if not file.is_file():
        raise FormatError(file, None, "expected an input.nn of n2p2; the file is missing.")
    text = Input(file)
    species = text.species()
    nodes, activations = networks(text, species)
    cutoff_type = text.one("cutoff_type").expect_int(1, "`cutoff_type <t> [alpha]`", 0, 8)
    alpha = text.one("cutoff_type").expect_float(2, "alpha", 0, 1) if len(text.one("cutoff_type")) > 2 else 0.0
    functions: dict[int, list[SymmetryFunction]] = {z: [] for z in species}
    for line in text.all("symfunction_short"):
        z, f = _function(line, species, cutoff_type, alpha)
        functions[z].append(f)
    for z in species:
        if not functions[z]:
            raise FormatError(file, None, f"expected symfunction_short lines of {chemical_symbols[z]}; there are none.")
    center, scale, sigma = (
        f"{name}_symmetry_functions{end}" in text for name, end in (("center", ""), ("scale", ""), ("scale", "_sigma"))
    )
    if scale and sigma:
        text.one("scale_symmetry_functions_sigma").refuse("only one way to scale symmetry functions")
    normal = ("mean_energy", "conv_energy", "conv_length")
    if 0 < sum(name in text for name in normal) < 3:
        line = next(text.one(name) for name in normal if name in text)
        line.refuse(f"all of {', '.join(normal)}, or none")
    mode = "sigma" if sigma else "scale_center" if scale and center else "scale" if scale else "none"
    length, energy = (
        _unit(file, what, given, known)
        for what, given, known in (("length", length_unit, LENGTHS), ("energy", energy_unit, ENERGIES))
    )
    try:
        potential = BPNN(
            species,
            tuple(tuple(sorted(functions[z], key=order)) for z in species),
            nodes,
            activations,
            "center" if center and mode == "none" else mode,
            text.number("scale_min_short", 0.0),
            text.number("scale_max_short", 1.0),
            "normalize_nodes" in text,
            length_unit=length,
            energy_unit=energy,
            mean_energy=text.number("mean_energy", 0.0),
            conv_energy=text.number("conv_energy", 1.0),
            conv_length=text.number("conv_length", 1.0),
        )
    except ValueError as error:
        raise error if isinstance(error, FormatError) else FormatError(file, None, str(error)) from error
    count = len(species)
    offsets = np.zeros(count)
    set_before = set()
    for line in text.all("atom_energy"):
        z = element(line, 1, species)
        if z in set_before:
            line.refuse(f"the energy of {line[1]} once")
        set_before.add(z)
        offsets[species.index(z)] = line.expect_float(2, "`atom_energy <element> <energy>`")
    weights, biases = zip(*(_weights(folder, potential, t) for t in range(count)), strict=True)
    scaling = _scaling(folder / "scaling.data", potential)
    return potential, {
        "atom_energy": jnp.asarray(offsets),
        "scaling": scaling,
        "weights": weights,
        "biases": biases,
    }


def _unit(file: Path, what: str, given, known: dict[str, float]) -> float:
    if given is None:
        found = re.search(rf"#\s*{what} unit\s*:\s*(\S+)", file.read_text(errors="replace"), re.IGNORECASE)
        given = found.group(1) if found else None
    if isinstance(given, str) and given.lower() in known:
        return known[given.lower()]
    if isinstance(given, str) and _NUMBER.fullmatch(given):
        given = float(given)
    if isinstance(given, int | float) and 0 < given < float("inf"):
        return float(given)
    raise ValueError(f"{file} does not say its {what} unit: pass {what}_unit=, one of {', '.join(known)} or a number.")


def _function(line: Words, species, cutoff_type: int, alpha: float) -> tuple[int, SymmetryFunction]:
    center, kind = element(line, 1, species), line.expect_int(2, "type of symmetry function", 2, 25)
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
            elements.append(element(line, k, species))
        elif name == "core":
            core = line[k]
            if not CORE.fullmatch(core):
                line.refuse(f"{what} with a core p1 to p4, p1a to p4a or e")
        else:
            name = name.strip("[]")
            values[name] = line.expect_float(k, what, *LIMITS.get(name, ()))
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
    sizes = (len(potential.functions[t]), *potential.nodes[t], 1)
    wanted = sum(i * o + o for i, o in pairwise(sizes))
    values: list[float] = []
    for place in places(sizes):
        line = reader.next_or_none()
        if line is None:
            raise FormatError(file, reader.at, f"expected {wanted} weights for layers {sizes}, found {len(values)}.")
        values.append(line.expect_float(0, "a weight"))
        if len(line) > 1 and line[1] in ("a", "b") and list(line)[1:2] + list(line)[3:] != place:
            line.refuse(f"the weight `{' '.join(place)}` of layers {sizes}")
    if (line := reader.next_or_none()) is not None:
        line.refuse(f"{wanted} weights for layers {sizes}, and no more")
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
