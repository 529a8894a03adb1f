"""Write folders of n2p2: input.nn, scaling.data and weights.ZZZ.data for every element ZZZ."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from jaxmlp.basis.symmetry_functions import MEAN, SymmetryFunction
from jaxmlp.potential import Params
from jaxmlp.potentials.bpnn import BPNN

BOHR = 1 / 1.8897261328  # Å, as n2p2's LAMMPS interface has it
HARTREE = 1 / 0.0367493254  # eV
LENGTHS = {"angstrom": 1.0, "bohr": BOHR}
ENERGIES = {"ev": 1.0, "hartree": HARTREE, "ha": HARTREE}
ARGUMENTS = {
    2: "E eta shift cutoff", 3: "E E eta lambd zeta cutoff [shift]", 9: "E E eta lambd zeta cutoff [shift]",
    12: "eta shift cutoff", 13: "eta shift lambd zeta cutoff", 20: "E left cutoff core",
    21: "E E left cutoff from to core", 22: "E E left cutoff from to core", 23: "left cutoff core",
    24: "left cutoff from to core", 25: "left cutoff from to core",
}  # fmt: skip
LETTERS = set("ltsprgcSeh")


def save(path: str | PathLike, potential: BPNN, params: Params) -> None:
    """Write a folder, given by itself or by its input.nn, that `load` reads as the same model and numbers.

    n2p2 sorts elements by atomic number and the symmetry functions of each: they are written, and come back, in that
    order. n2p2 of 2024 ignores overrides per element of the last hidden layer's size and of the output's activation.

    Raises:
        ValueError: no BPNN, one that the format cannot express, or parameters that do not fit it or are not finite.
    """
    if not isinstance(potential, BPNN):
        raise ValueError(f"n2p2 folders hold a BPNN, not a {type(potential).__name__}.")
    _check(potential, params)
    folder = Path(path).parent if Path(path).name == "input.nn" else Path(path)
    elements = sorted(range(len(potential.species)), key=potential.species.__getitem__)
    files = {"input.nn": _input(potential, params, elements), "scaling.data": ""}
    for row, t in enumerate(elements, start=1):
        fs = potential.functions[t]
        sorting = sorted(range(len(fs)), key=lambda k: order(fs[k]))
        table = np.stack([np.asarray(params["scaling"][t][name], float) for name in ("min", "max", "mean", "sigma")])
        for k, values in enumerate(table[:, sorting].T, start=1):
            files["scaling.data"] += f"{row:10d} {k:10d}" + "".join(f" {x:24.16E}" for x in values) + "\n"
        weights = [np.asarray(w, float) for w in params["weights"][t]]
        weights[0] = weights[0][:, sorting]
        layers = zip(weights, (np.asarray(b, float) for b in params["biases"][t]), strict=True)
        numbers = np.concatenate([np.concatenate([w.T.ravel(), b]) for w, b in layers])
        where = places((len(fs), *potential.nodes[t], 1))
        files[f"weights.{potential.species[t]:03d}.data"] = "".join(
            f"{x:24.16E} {kind} {k:9d} {' '.join(f'{int(p):5d}' for p in place)}\n"
            for k, (x, (kind, *place)) in enumerate(zip(numbers, where, strict=True), start=1)
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)


def _check(potential: BPNN, params: Params) -> None:
    if {name for a in potential.activations for name in a} - LETTERS:
        raise ValueError(f"n2p2 has the activations {sorted(LETTERS)}; this model has {potential.activations}.")
    functions = [f for fs in potential.functions for f in fs]
    if any(f.kind == MEAN or f.factor != 1 for f in functions):
        raise ValueError("n2p2 has no symmetry functions of ANI: save as .safetensors.")
    if len({(f.cutoff_type, f.alpha) for f in functions if not f.core}) > 1:
        raise ValueError("n2p2 has one cutoff type and alpha for all symmetry functions; this model has several.")
    names = {"atom_energy", "scaling", "weights", "biases"}
    if set(params) != names:
        raise ValueError(f"the parameters of a BPNN are {sorted(names)}; got {sorted(params)}.")
    s = len(potential.species)
    shapes: dict[tuple, list] = {(): [(s,), np.shape(params["atom_energy"])]}
    arrays = [params["atom_energy"]]
    if any(len(params[name]) != s for name in names - {"atom_energy"}):
        raise ValueError(f"params need scaling, weights and biases of {s} element(s).")
    for t, (fs, nodes) in enumerate(zip(potential.functions, potential.nodes, strict=True)):
        sizes = (len(fs), *nodes, 1)
        if len(params["weights"][t]) != len(sizes) - 1 or len(params["biases"][t]) != len(sizes) - 1:
            raise ValueError(f"params need weights and biases of the layers {sizes}.")
        for k, (i, o) in enumerate(pairwise(sizes)):
            shapes["weights", t, k] = [(o, i), np.shape(params["weights"][t][k])]
            shapes["biases", t, k] = [(o,), np.shape(params["biases"][t][k])]
        shapes |= {("scaling", t, k): [(len(fs),), np.shape(x)] for k, x in params["scaling"][t].items()}
        arrays += [*params["weights"][t], *params["biases"][t], *params["scaling"][t].values()]
    for place, (wanted, found) in shapes.items():
        if wanted != found:
            raise ValueError(f"params at {place} must have shape {wanted}; got {found}.")
    if not all(np.isfinite(np.asarray(x)).all() for x in arrays):
        raise ValueError("the parameters must be finite.")


def _input(potential: BPNN, params: Params, elements: Sequence[int]) -> str:
    symbols = [chemical_symbols[potential.species[t]] for t in elements]
    units = [
        next((name for name, x in known.items() if x == value), repr(float(value)))
        for known, value in ((LENGTHS, potential.length_unit), (ENERGIES, potential.energy_unit))
    ]
    lines = [
        f"# Length unit : {units[0]}", f"# Energy unit : {units[1]}", "# (known names, or numbers of angstrom and eV)",
        f"number_of_elements {len(symbols)}", f"elements {' '.join(symbols)}",
    ]  # fmt: skip
    offsets = np.asarray(params["atom_energy"], float)
    lines += [f"atom_energy {symbol} {float(offsets[t])!r}" for symbol, t in zip(symbols, elements, strict=True)]
    normal = {name: float(getattr(potential, name)) for name in ("mean_energy", "conv_energy", "conv_length")}
    if list(normal.values()) != [0.0, 1.0, 1.0]:
        lines += [f"{name} {value!r}" for name, value in normal.items()]
    window = next((f for fs in potential.functions for f in fs if not f.core), None)
    lines.append(f"cutoff_type {window.cutoff_type} {float(window.alpha)!r}" if window else "cutoff_type 1")
    lines += ["center_symmetry_functions"] * (potential.scaling in ("center", "scale_center"))
    lines += ["scale_symmetry_functions"] * (potential.scaling in ("scale", "scale_center"))
    lines += ["scale_symmetry_functions_sigma"] * (potential.scaling == "sigma")
    lines += [f"scale_min_short {float(potential.smin)!r}", f"scale_max_short {float(potential.smax)!r}"]
    lines += ["normalize_nodes"] * potential.normalize_nodes
    lines += _networks(potential, symbols, elements)
    for symbol, t in zip(symbols, elements, strict=True):
        lines += [f"symfunction_short {symbol} {_function(f)}" for f in sorted(potential.functions[t], key=order)]
    return "\n".join(lines) + "\n"


def _networks(potential: BPNN, symbols: Sequence[str], elements: Sequence[int]) -> list[str]:
    """One network for all, and the others as overrides.

    An override of two layers of which the first has 1 or 2 nodes would be read as a layer and its size: the network
    for all has to be that one.
    """
    kinds = [(potential.nodes[t], potential.activations[t]) for t in elements]
    doubtful = [kind for kind in kinds if len(kind[0]) == 2 and kind[0][0] <= 2]
    nodes, letters = (doubtful or kinds)[0]
    if any(other != nodes for other, _ in doubtful):
        raise ValueError(f"n2p2's input cannot tell these networks from sizes of single layers: {doubtful}.")
    lines = [f"global_hidden_layers_short {len(nodes)}"]
    lines += [f"global_nodes_short {' '.join(map(str, nodes))}"] if nodes else []
    lines.append(f"global_activation_short {' '.join(letters)}")
    for symbol, (own, activation) in zip(symbols, kinds, strict=True):
        depth = len(own) != len(nodes)
        lines += [f"element_hidden_layers_short {symbol} {len(own)}"] * depth
        lines += [f"element_nodes_short {symbol} {' '.join(map(str, own))}"] * (own != nodes and len(own) > 0)
        lines += [f"element_activation_short {symbol} {' '.join(activation)}"] * (depth or activation != letters)
    return lines


def _function(f: SymmetryFunction) -> str:
    """The arguments of symfunction_short behind the central element."""
    values = {"from": f.angles[0], "to": f.angles[1]}
    elements = iter(f.elements)
    words = [str(f.kind)]
    for name in ARGUMENTS[f.kind].split():
        name = name.strip("[]")
        if name == "E":
            words.append(chemical_symbols[next(elements)])
        elif name == "core":
            words.append(f.core)
        else:
            words.append(repr(float(values[name] if name in values else getattr(f, name))))
    return " ".join(words)


def order(f: SymmetryFunction) -> tuple:
    """n2p2 numbers the functions of an element in this order."""
    if f.core:
        return f.kind, f.core, f.elements, f.cutoff, f.left, *f.angles
    head = (f.kind, f.cutoff_type, f.alpha, f.cutoff, f.eta, f.shift)
    return (*head, f.elements) if f.kind in (2, 12) else (*head, f.zeta, f.lambd, f.elements)


def places(sizes: tuple[int, ...]) -> Iterator[list[str]]:
    """Yield the columns behind a weight, but for its number: a, layer and neuron from and to; b, layer, neuron."""
    for layer, (i, o) in enumerate(pairwise(sizes)):
        for start, end in np.ndindex(i, o):
            yield ["a", str(layer), str(start + 1), str(layer + 1), str(end + 1)]
        for end in range(o):
            yield ["b", str(layer + 1), str(end + 1)]
