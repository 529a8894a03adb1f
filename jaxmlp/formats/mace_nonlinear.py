"""Tensors of mace-torch's interaction blocks: convolution weights of every block, and what two of them have alone."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from jaxmlp.basis import irreps as ir
from jaxmlp.basis.convolution import Path
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_files import Weights
from jaxmlp.potential import Params
from jaxmlp.potentials.mace import MACE
from jaxmlp.potentials.mace_nonlinear import ATTENTION, DENSITY_WIDTH, DOWN, NONLINEAR

# Tensors that only one block has.
MARKS = {NONLINEAR: "alpha", ATTENTION: "linear_down.weight"}


def marked(weights: Weights, t: int) -> str | None:
    """Return which of the two blocks the tensors of layer t belong to, or None."""
    return next((block for block, mark in MARKS.items() if f"interactions.{t}.{mark}" in weights), None)


def hidden_widths(weights: Weights, layers: int) -> dict[str, tuple[int, ...]]:
    """Return "radial_mlp" and "attention_mlp", widths of hidden layers, as far as there are such blocks."""
    out = {}
    for t in reversed(range(layers)):  # the first of a kind decides; others are held against it
        block, name = marked(weights, t), f"interactions.{t}.conv_tp_weights."
        widths: list[int] = []
        place, step, axis = (f"{name}net.", 3, 0) if block == NONLINEAR else (f"{name}layer", 1, 1)
        while f"{place}{step * (len(widths) + 1)}.weight" in weights:  # there is another layer after this one
            widths.append(weights.shape(f"{place}{step * len(widths)}.weight", 2)[axis])
        out["attention_mlp" if block == ATTENTION else "radial_mlp"] = tuple(widths)
    return out


def linear_of(weights: Weights, name: str, irreps_in: ir.Irreps, irreps_out: ir.Irreps) -> dict[str, np.ndarray]:
    """Return the matrices of an e3nn Linear."""
    flat = weights.take(f"{name}.weight", (None,))
    try:
        return ir.linear_from_flat(flat, irreps_in, irreps_out)
    except ValueError as error:
        raise FormatError(weights.path, None, f"the tensor '{name}.weight' has {flat.size} numbers: {error}") from error


def convolved(
    weights: Weights, potential: MACE, t: int, linear: str, irreps_out: ir.Irreps
) -> tuple[dict[str, np.ndarray], np.ndarray, int]:
    """Return the matrices of the linear map after the convolution; which columns of the radial network's last layer
    belong to the potential's paths, in their order; and how many there are in the file.

    The file sorts paths by what they end at, and has also those of edge irreps that the features lack: nothing goes
    along them. The linear maps divide by the root of all rows, hence the factor for those that are left out.
    """
    paths = potential.paths(t, declared(potential, t))
    order = np.argsort([2 * p.target[0] + (p.target[1] > 0) for p in paths], kind="stable")
    in_file = [paths[k] for k in order]
    used = {i[1:] for i in potential.sent(t)}
    starts = np.cumsum([0, *(p.mul for p in in_file)])
    columns = {k: np.arange(starts[i], starts[i + 1]) for i, k in enumerate(order)}
    chosen = np.concatenate([columns[k] for k, p in enumerate(paths) if p.source in used])
    matrices = linear_of(weights, linear, tuple((p.mul, *p.target) for p in in_file), irreps_out)
    out = {}
    for name, w in matrices.items():
        rows = _rows([p for p in in_file if ir.label(*p.target) == name], used)
        if rows.any():
            out[name] = w[rows] * math.sqrt(rows.sum() / len(rows))
    return out, chosen, int(starts[-1])


def _rows(paths: Sequence[Path], used: set[tuple[int, int]]) -> np.ndarray:
    """Which channels of paths to one irrep come from features that exist."""
    return np.concatenate([np.full(p.mul, p.source in used) for p in paths])


def plain_network(weights: Weights, block: str, sizes: Sequence[int], columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the matrices of e3nn's FullyConnectedNet, of the last one the `columns`."""
    names = [f"{block}conv_tp_weights.layer{k}.weight" for k in range(len(sizes) - 1)]
    matrices = [weights.take(name, shape) for name, shape in zip(names, pairwise(sizes))]
    return (*matrices[:-1], matrices[-1][:, columns])


def declared(potential: MACE, t: int) -> ir.Irreps:
    """Return the irreps of what neighbours send as the file has them, with those that the features lack."""
    return potential.sent(t) if t == 0 or potential.edge is None else ir.parse_irreps(potential.edge)


def attention_layer(weights: Weights, potential: MACE, t: int) -> Params:
    """Return the maps and the network of an attention block."""
    name, F = f"interactions.{t}.", potential.channels
    linear, columns, count = convolved(weights, potential, t, f"{name}linear", _targets(potential, t))
    radial = plain_network(weights, name, (potential.num_bessel + 2 * DOWN, *potential.attention_mlp, count), columns)
    down = weights.take(f"{name}linear_down.weight", (F * DOWN,)).reshape(F, DOWN)
    return {
        "up": linear_of(weights, f"{name}linear_up", potential.inputs(t), declared(potential, t)), "linear": linear,
        "skip": _skip(weights, f"{name}skip_linear", potential, t), "down": down, "radial": radial,
    }  # fmt: skip


def nonlinear_layer(weights: Weights, potential: MACE, t: int) -> Params:
    """Return the maps, tables and networks of a nonlinear block."""
    name = f"interactions.{t}."
    s, F, targets = len(potential.species), potential.channels, _targets(potential, t)
    gated, edge = ir.gate_input(targets), declared(potential, t)
    linear, columns, count = convolved(weights, potential, t, f"{name}linear_1", gated)
    there = ir.widths(potential.sent(t))
    residual = {n: w for n, w in linear_of(weights, f"{name}linear_res", edge, gated).items() if n in there}
    second = linear_of(weights, f"{name}linear_2", targets, targets)
    inputs = potential.num_bessel + 2 * F
    radial = _network(weights, f"{name}conv_tp_weights", (inputs, *potential.radial_mlp, count))
    radial[-1] = {n: x[..., columns] for n, x in radial[-1].items()}
    table = lambda which: weights.take(f"{name}{which}_embedding.weight", (s * F,)).reshape(s, F) / math.sqrt(s)
    return {
        "up": linear_of(weights, f"{name}linear_up", potential.inputs(t), edge), "linear": linear,
        "skip": _skip(weights, f"{name}skip_tp", potential, t), "radial": tuple(radial),
        "density": tuple(_network(weights, f"{name}density_fn", (inputs, DENSITY_WIDTH, 1))),
        "source": table("source"), "target": table("target"), "residual": residual,
        "second": {n: w for n, w in second.items() if n in linear or n in residual},
        "alpha": weights.take(f"{name}alpha", ()), "beta": weights.take(f"{name}beta", ()),
    }  # fmt: skip


def _targets(potential: MACE, t: int) -> ir.Irreps:
    return tuple((potential.channels, *target) for target in potential.targets(t))


def _skip(weights: Weights, name: str, potential: MACE, t: int) -> dict[str, np.ndarray]:
    """Matrices (1, in, out), the same for all species."""
    return {n: w[None] for n, w in linear_of(weights, name, potential.inputs(t), potential.outputs(t)).items()}


def _network(weights: Weights, name: str, sizes: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """The layers of mace-torch's RadialMLP: Linear, LayerNorm and SiLU in turn, Linear at the end."""
    layers = []
    for k, (a, b) in enumerate(pairwise(sizes)):
        place = f"{name}.net.{3 * k}"
        layer = {"weight": weights.take(f"{place}.weight", (b, a)).T, "bias": weights.take(f"{place}.bias", (b,))}
        if k < len(sizes) - 2:
            place = f"{name}.net.{3 * k + 1}"
            layer |= {"scale": weights.take(f"{place}.weight", (b,)), "shift": weights.take(f"{place}.bias", (b,))}
        layers.append(layer)
    return layers
