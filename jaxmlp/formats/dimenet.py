"""DimeNet++ models of PyTorch Geometric: state dicts, and weights.npz with config.json."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.spherical_bessel import zeros_and_norms
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_files import (
    Options,
    Weights,
    atomic_numbers_of,
    opened,
    read_config,
)
from jaxmlp.potential import Params
from jaxmlp.potentials.dimenet import DimeNetPlusPlus

CONSTANTS = "sbf_constants.npz"
SPELLINGS = {"swish": "silu", "SiLU": "silu", "swish (x*sigmoid(x)), not normalised": "silu"}
REMARKS = (
    "architecture", "code", "torch", "state_dict_shapes", "embedding_rows", "max_num_neighbors", "output_initializer",
    "sbf_constants_file", "sbf_constants_dtype", "sbf_closed_form_vs_float64_maxdiff",
)  # fmt: skip


def load(
    path: str | PathLike,
    *,
    species: Sequence[str | int] | None = None,
    cutoff: float | None = None,
    envelope_exponent: int | None = None,
    activation: str | None = None,
    eV_per_native_unit: float | None = None,
) -> tuple[DimeNetPlusPlus, Params]:
    """Return the potential and parameters of a model: a torch file or weights.npz, or the folder that has one.

    A torch file holds the state dict of `DimeNetPlusPlus`, or a dict {"constructor_kwargs": ..., "state_dict": ...}.
    Every neighbour within the cutoff counts: the limit of 32 that the original puts on their number, which makes
    energies jump, is not applied.

    Args:
        species: elements to keep; by default all rows of the embedding, which `restrict` cuts down later.
        cutoff, envelope_exponent, activation: what the tensors do not tell, where no file does (5 and "swish" are the
            defaults of the code).
        eV_per_native_unit: eV in one unit of energy of the model; 1 where no file says.

    Raises:
        FormatError: the file is damaged, or has or lacks an option, which is named.
        ValueError: `species` that the file does not know.
        OSError: it cannot be read.
    """
    file, content, state = opened(path)
    config = read_config(path)
    arguments = config.pop("constructor_kwargs", None) or content.get("constructor_kwargs") or {}
    if not isinstance(arguments, dict):
        raise FormatError(file, None, "constructor_kwargs must be a dict.")
    if "act" in arguments:
        config["activation"] = arguments["act"]
    given = {"cutoff": cutoff, "envelope_exponent": envelope_exponent, "activation": activation}
    given["eV_per_native_unit"] = eV_per_native_unit
    options = Options(file, config | {k: v for k, v in arguments.items() if k != "act"}, given)
    _check_constants(file, path, options)
    return _built(Weights(file, state), options, species)


def _built(weights: Weights, options: Options, species) -> tuple[DimeNetPlusPlus, Params]:
    rows, f = weights.shape("emb.emb.weight", 2)
    first = "interaction_blocks.0."
    n_interaction, basis = weights.shape(first + "lin_sbf2.weight", 2)
    n_radial = weights.shape("rbf.freq", 1)[0]
    pairs = weights.shape(first + "lin_sbf1.weight", 2)[1]
    found = {
        "hidden_channels": f,
        "out_channels": weights.shape("output_blocks.0.lin.weight", 2)[0],
        "num_blocks": weights.count("interaction_blocks."),
        "int_emb_size": n_interaction,
        "basis_emb_size": basis,
        "out_emb_channels": weights.shape("output_blocks.0.lin_up.weight", 2)[0],
        "num_spherical": pairs // n_radial,
        "num_radial": n_radial,
        "num_before_skip": weights.count(first + "layers_before_skip."),
        "num_after_skip": weights.count(first + "layers_after_skip."),
        "num_output_layers": weights.count("output_blocks.0.lins."),
    }
    if pairs % n_radial:
        raise FormatError(
            weights.path, None, f"{first}lin_sbf1.weight has {pairs} columns for {n_radial} radial functions."
        )
    for name, value in found.items():
        options.require(name, value, "that is what the tensors say")
    if found["out_channels"] != 1:
        raise FormatError(weights.path, None, f"expected one output, the energy; found {found['out_channels']}.")
    reference = options.take("atom_reference_energies", dict, None)
    if reference is not None:
        options.refuse("atom_reference_energies", reference, "null")
    activation = options.take("activation", str)
    numbers = atomic_numbers_of(weights.path, species, range(1, rows))
    try:
        potential = DimeNetPlusPlus(
            numbers,
            options.take("cutoff", float),
            n_features=f,
            n_blocks=found["num_blocks"],
            n_interaction=n_interaction,
            n_basis=basis,
            n_output=found["out_emb_channels"],
            n_spherical=found["num_spherical"],
            n_radial=n_radial,
            envelope_exponent=options.take("envelope_exponent", int),
            n_before=found["num_before_skip"],
            n_after=found["num_after_skip"],
            n_output_layers=found["num_output_layers"],
            activation=SPELLINGS.get(activation, activation),
            single_constants=True,
        )
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(weights.path, None, f"impossible hyper-parameters: {error}") from error
    unit = options.take("eV_per_native_unit", float, 1.0)
    options.skip(*REMARKS)
    options.finish()
    params = _params(weights, potential, np.array(numbers), rows, unit)
    weights.finish()
    return potential, params


def _params(weights: Weights, p: DimeNetPlusPlus, keep: np.ndarray, rows: int, unit: float) -> Params:
    f, out = p.n_features, p.n_output

    def plain(name: str, inputs: int, outputs: int) -> dict[str, Array]:
        return weights.linear(name, inputs, outputs, bias=False)

    def output(k: int) -> dict[str, Any]:
        at = f"output_blocks.{k}."
        layers = {f"dense{n}": weights.linear(f"{at}lins.{n}", out, out) for n in range(p.n_output_layers)}
        ends = {
            "radial": plain(at + "lin_rbf", p.n_radial, f),
            "up": plain(at + "lin_up", f, out),
            "last": {"kernel": plain(at + "lin", out, 1)["kernel"] * unit},
        }
        return layers | ends

    def interaction(k: int) -> dict[str, Any]:
        at = f"interaction_blocks.{k}."
        counts = {"before": p.n_before, "after": p.n_after}
        residual = [
            weights.linear(f"{at}layers_{where}_skip.{n}.lin{which}", f, f)
            for where, count in counts.items()
            for n in range(count)
            for which in (1, 2)
        ]
        return {
            "kj": weights.linear(at + "lin_kj", f, f),
            "ji": weights.linear(at + "lin_ji", f, f),
            "middle": weights.linear(at + "lin", f, f),
            "down": plain(at + "lin_down", f, p.n_interaction),
            "up": plain(at + "lin_up", p.n_interaction, f),
            "rbf1": plain(at + "lin_rbf1", p.n_radial, p.n_basis),
            "rbf2": plain(at + "lin_rbf2", p.n_basis, f),
            "sbf1": plain(at + "lin_sbf1", p.n_spherical * p.n_radial, p.n_basis),
            "sbf2": plain(at + "lin_sbf2", p.n_basis, p.n_interaction),
        } | {f"residual_{n}": layer for n, layer in enumerate(residual)}

    whole = weights.linear("emb.lin", 3 * f, f)
    target, source, edge = jnp.split(whole["kernel"], 3)  # the order [e_i, e_j, act(W rbf)]
    return {
        "embedding": jnp.asarray(weights.take("emb.emb.weight", (rows, f))[keep], float),
        "freq": jnp.asarray(weights.take("rbf.freq", (p.n_radial,)), float),
        "edges": {
            "radial": weights.linear("emb.lin_rbf", p.n_radial, f),
            "target": {"kernel": target, "bias": whole["bias"]},
            "source": {"kernel": source},
            "edge": {"kernel": edge},
        },
        "outputs": tuple(output(k) for k in range(p.n_blocks + 1)),
        "interactions": tuple(interaction(k) for k in range(p.n_blocks)),
        "offset": jnp.zeros(len(keep), float),
    }


def _check_constants(file: Path, path: str | PathLike, options: Options) -> None:
    """Refuse other zeros and norms of the spherical Bessel functions than those of the original code."""
    name = options.take("sbf_constants_file", str, CONSTANTS)
    beside = (Path(path) if Path(path).is_dir() else file.parent) / Path(name).name
    if not beside.is_file():
        return
    constants = Weights.read(beside)
    zeros = constants.take("zeros", (None, None))
    norms = constants.take("normalizers", zeros.shape)
    for found, expected, what in zip((zeros, norms), zeros_and_norms(*zeros.shape, True), ("zeros", "normalizers")):
        if not np.array_equal(found, expected):
            raise FormatError(beside, None, f"{what} differ from those of the original code, in float32.")
