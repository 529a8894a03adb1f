"""EGNN models of the authors' `egnn_clean`: state dicts, and weights.npz with config.json."""

import re
from collections.abc import Sequence
from os import PathLike
from typing import Any

import jax.numpy as jnp

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_files import (
    Options,
    Weights,
    atomic_numbers_of,
    opened,
    read_config,
)
from jaxmlp.potential import Params
from jaxmlp.potentials.egnn import AGGREGATIONS, EGNN

LONGEST = 100.0  # Å; no molecule whose atoms all see each other is longer
DEFAULTS = {"residual": True, "normalize": False, "tanh": False}  # of the constructor
REMARKS = ("architecture", "code", "torch", "state_dict_shapes", "node_input", "edges", "energy", "device")


def load(
    path: str | PathLike,
    *,
    species: Sequence[str | int] | None = None,
    cutoff: float = LONGEST,
    normalize: bool | None = None,
    tanh: bool | None = None,
    residual: bool | None = None,
    coords_agg: str | None = None,
    eV_per_native_unit: float | None = None,
) -> tuple[EGNN, Params]:
    """Return the potential and parameters of a model: a torch file or weights.npz, or the folder that has one.

    A torch file holds the state dict of `EGNN`, or a dict {"constructor_kwargs": ..., "state_dict": ...}; the input is
    the species, one-hot, and the only output summed over atoms is the energy.

    Args:
        species: symbols or atomic numbers that the columns of the input stand for, in order; needed where config.json
            does not say it ("node_input").
        cutoff: Å, longer than the molecule, of which all pairs are neighbours in the original.
        normalize, tanh, residual, coords_agg: arguments of the constructor, where no file has them.
        eV_per_native_unit: eV in one unit of energy of the model; 1 where no file says.

    Raises:
        FormatError: the file is damaged, or has or lacks an option, which is named.
        OSError: it cannot be read.
    """
    file, content, state = opened(path)
    config = read_config(path)
    arguments = config.pop("constructor_kwargs", None) or content.get("constructor_kwargs")
    if arguments is not None and not isinstance(arguments, dict):
        raise FormatError(file, None, "constructor_kwargs must be a dict.")
    known = config | (DEFAULTS | arguments if arguments else {})
    given = {"normalize": normalize, "tanh": tanh, "residual": residual, "coords_agg": coords_agg}
    given["eV_per_native_unit"] = eV_per_native_unit
    options = Options(file, known, given)
    weights = Weights(file, state)
    return _built(weights, options, _columns(file, species, known.get("node_input")), cutoff)


def _built(weights: Weights, options: Options, numbers: tuple[int, ...], cutoff: float) -> tuple[EGNN, Params]:
    f, inputs = weights.shape("embedding_in.weight", 2)
    attention = "gcl_0.att_mlp.0.weight" in weights
    layers = weights.count("gcl_")
    found = {
        "in_node_nf": inputs,
        "hidden_nf": f,
        "out_node_nf": weights.shape("embedding_out.weight", 2)[0],
        "in_edge_nf": weights.shape("gcl_0.edge_mlp.0.weight", 2)[1] - 2 * f - 1,
        "n_layers": layers,
        "attention": attention,
    }
    for name, value in found.items():
        options.require(name, value, "that is what the tensors say")
    if found["in_edge_nf"]:
        raise FormatError(
            weights.path, None, f"in_edge_nf is {found['in_edge_nf']}; edges with attributes are not supported."
        )
    if found["out_node_nf"] != 1:
        raise FormatError(
            weights.path, None, f"out_node_nf is {found['out_node_nf']}; expected one output, the energy."
        )
    if len(numbers) != inputs:
        raise FormatError(weights.path, None, f"{inputs} input columns need as many species; got {len(numbers)}.")
    try:
        potential = EGNN(
            numbers,
            cutoff,
            n_features=f,
            n_layers=layers,
            activation=options.take("activation", str, "silu"),
            envelope=False,
            attention=attention,
            normalize=options.take("normalize", bool),
            tanh=options.take("tanh", bool),
            aggregation=options.choose("coords_agg", AGGREGATIONS, "mean"),
            residual=options.take("residual", bool),
        )
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(weights.path, None, f"impossible hyper-parameters: {error}") from error
    unit = options.take("eV_per_native_unit", float, 1.0)
    options.skip(*REMARKS)
    options.finish()
    embedding = weights.linear("embedding_in", inputs, f)
    readout = weights.linear("embedding_out", f, 1)
    params = {
        "embedding": embedding["kernel"] + embedding["bias"],
        "layers": tuple(_layer(weights, f"gcl_{k}.", f, attention) for k in range(layers)),
        "readout": {name: x * unit for name, x in readout.items()},
        "offset": jnp.zeros(inputs, float),
    }
    weights.finish()
    return potential, params


def _layer(weights: Weights, at: str, f: int, attention: bool) -> dict[str, Any]:
    """One layer; the first matrix of the messages acts on [h_i, h_j, |d|^2] one after the other."""
    first = weights.linear(at + "edge_mlp.0", 2 * f + 1, f)
    layer = {
        "target": {"kernel": first["kernel"][:f], "bias": first["bias"]},
        "source": {"kernel": first["kernel"][f : 2 * f]},
        "distance": first["kernel"][2 * f],
        "edge": weights.linear(at + "edge_mlp.2", f, f),
        "node1": weights.linear(at + "node_mlp.0", 2 * f, f),
        "node2": weights.linear(at + "node_mlp.2", f, f),
        "coord1": weights.linear(at + "coord_mlp.0", f, f),
        "coord2": weights.linear(at + "coord_mlp.2", f, 1, bias=False),
    }
    return layer | {"gate": weights.linear(at + "att_mlp.0", f, 1)} if attention else layer


def _columns(path, species, text: str | None) -> tuple[int, ...]:
    """The elements of the input's columns: as given, or from "one-hot over Z in the order [1, 8]"."""
    if species is None:
        found = re.search(r"\[([\d,\s]+)\]", text or "")
        if not found:
            raise FormatError(
                path, None, "the option 'species' is needed: the elements of the input's columns, in order."
            )
        species = [int(z) for z in found[1].split(",") if z.strip()]
    return atomic_numbers_of(path, species, range(1, 119))
