"""SchNet and PaiNN models of schnetpack 2: `best_model`, state dicts, and weights.npz with config.json."""

import re
from collections.abc import Sequence
from itertools import pairwise
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.radial_networks import ACTIVATIONS
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_files import (
    Options,
    Weights,
    atomic_numbers_of,
    opened,
    read_config,
)
from jaxmlp.formats.torch_pickle import Inert, kind_of
from jaxmlp.potential import Params
from jaxmlp.potentials.painn import PaiNN
from jaxmlp.potentials.schnet import SchNet

CUTOFFS = {"CosineCutoff": "cosine", "MollifierCutoff": "mollifier"}
RADIAL = {"GaussianRBF": "gaussian", "GaussianRBFCentered": "centered", "BesselRBF": "bessel"}
MODULES = {"Atomwise", "Forces", "Strain", "PairwiseDistances"}  # others change the energy, or are no potential
TRANSFORMS = {"CastTo32", "CastTo64", "CastMap", "AddOffsets", "ScaleProperty"}
SPELLINGS = {
    "SiLU": "silu",
    "swish": "silu",
    "Tanh": "tanh",
    "ReLU": "relu",
    "Softplus": "softplus",
    "Identity": "identity",
}
REMARKS = (
    "architecture", "code", "torch", "cutoff", "cutoff_nominal", "cutoff_note", "epsilon_mollifier", "output_modules",
    "native_energy_unit", "parameter_dtype_in_file", "evaluation_dtype", "state_dict_shapes",
)  # fmt: skip


def load(
    path: str | PathLike,
    *,
    species: Sequence[str | int] | None = None,
    eV_per_native_unit: float | None = None,
    activation_representation: str | None = None,
    activation_output: str | None = None,
    add_mean: bool | None = None,
    add_atomrefs: bool | None = None,
) -> tuple[SchNet | PaiNN, Params]:
    """Return the potential and parameters of a model: a torch file or weights.npz, or the folder that has one.

    What the tensors do not tell is read off a pickled module (`best_model`; nothing in it is executed), from
    config.json beside the file, or is given here. Energies are converted to eV, and the offsets of `AddOffsets` join
    the energies of the atoms, exactly. Lengths are in Å; the cutoff is the float32 number of the file.

    Args:
        species: elements to keep; by default all rows of the embedding, which `restrict` cuts down later.
        eV_per_native_unit: eV in one unit of energy of the model.
        activation_representation, activation_output: of the interactions and of the network for the energy.
        add_mean, add_atomrefs: which offsets are on; needed where the file has them and does not say.

    Raises:
        FormatError: the file is damaged, or has or lacks an option, which is named.
        ValueError: `species` that the file does not know.
        OSError: it cannot be read.
    """
    file, content, state = opened(path)
    given = {
        "eV_per_native_unit": eV_per_native_unit,
        "activation_representation": activation_representation,
        "activation_output": activation_output,
        "add_mean": add_mean,
        "add_atomrefs": add_atomrefs,
    }
    config = read_config(path)
    offset = config.pop("energy_offset", None)
    if isinstance(offset, dict):
        config |= {name: offset[name] for name in ("add_mean", "add_atomrefs") if name in offset}
    inside = _described(file, content) if isinstance(content, Inert) else {}
    return _built(Weights(file, state), Options(file, config | inside, given), species)


def _built(weights: Weights, options: Options, species) -> tuple[SchNet | PaiNN, Params]:
    painn = "representation.filter_net.weight" in weights
    rows, features = weights.shape("representation.embedding.weight", 2)
    count = weights.count("representation.interactions.")
    numbers = atomic_numbers_of(weights.path, species, range(1, rows))
    keep = np.array(numbers)

    basis, kind = _radial(weights, options)
    readout, offset, unit = _readout(weights, options, features, keep)
    common = {
        "species": numbers,
        "cutoff": weights.number("representation.cutoff_fn.cutoff"),
        "n_features": features,
        "n_interactions": count,
        "radial": kind,
        "n_radial": len(next(iter(basis.values()))),
        "cutoff_function": _cutoff_function(weights, options),
        "activation": _activation(options, "activation_representation"),
        "hidden": tuple(len(readout[f"dense{k}"]["bias"]) for k in range(len(readout) - 1)),
        "readout_activation": _activation(options, "activation_output") if len(readout) > 1 else "identity",
        "shared_interactions": options.take("shared_interactions", bool, False),
    }
    options.skip("activation_output", *REMARKS)
    _agree(options, "n_atom_basis", features)
    _agree(options, "n_interactions", count)
    _agree(options, "n_rbf", common["n_radial"])
    options.require("native_length_unit", "Angstrom", "files in other units of length are not supported")
    embedding = weights.take("representation.embedding.weight", (rows, features))[keep]
    params: dict[str, Any] = {"embedding": jnp.asarray(embedding, float), "radial": basis}
    params |= {"readout": readout, "offset": jnp.asarray(offset, float)}
    try:
        potential, more = (_painn if painn else _schnet)(weights, options, common)
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(weights.path, None, f"impossible hyper-parameters: {error}") from error
    weights.finish()
    options.finish()
    last = f"dense{len(readout) - 1}"
    readout[last] = jax.tree.map(lambda x: x * unit, readout[last])
    return potential, params | more


def _schnet(weights: Weights, options: Options, common: dict) -> tuple[SchNet, Params]:
    f, count = common["n_features"], common["n_interactions"]
    filters, _ = weights.shape("representation.interactions.0.in2f.weight", 2)
    _agree(options, "n_filters", filters)
    options.skip("painn_epsilon", "shared_filters")
    potential = SchNet(**common, n_filters=filters)

    def block(k: int) -> dict[str, Any]:
        at = f"representation.interactions.{k}."
        return {
            "in2f": weights.linear(at + "in2f", f, filters, bias=False),
            "filter": _mlp(weights, at + "filter_network", (common["n_radial"], filters, filters)),
            "f2out": _mlp(weights, at + "f2out", (filters, f, f)),
        }

    return potential, {"interactions": _blocks(weights, common, [block(k) for k in range(count)])}


def _painn(weights: Weights, options: Options, common: dict) -> tuple[PaiNN, Params]:
    f, count, n_radial = common["n_features"], common["n_interactions"], common["n_radial"]
    options.skip("n_filters")
    shared = options.take("shared_filters", bool, weights.shape("representation.filter_net.weight", 2)[0] == 3 * f)
    epsilon = options.take("painn_epsilon", float, 1e-8)
    potential = PaiNN(**common, shared_filters=shared, epsilon=epsilon)
    entries = 1 if shared else count
    net = weights.linear("representation.filter_net", n_radial, 3 * f * entries)
    kernels, biases = (jnp.split(net[name], entries, axis=-1) for name in ("kernel", "bias"))

    def block(k: int) -> dict[str, Any]:
        mixing = f"representation.mixing.{k}."
        context = f"representation.interactions.{k}.interatomic_context_net"
        return {
            "context": _mlp(weights, context, (f, f, 3 * f)),
            "mix": weights.linear(mixing + "mu_channel_mix", f, 2 * f, bias=False),
            "update": _mlp(weights, mixing + "intraatomic_context_net", (2 * f, f, 3 * f)),
        }

    filters = tuple({"kernel": w, "bias": b} for w, b in zip(kernels, biases))
    return potential, {"filters": filters, "interactions": _blocks(weights, common, [block(k) for k in range(count)])}


def _mlp(weights: Weights, prefix: str, sizes: tuple[int, ...]) -> dict[str, dict[str, Array]]:
    pairs = enumerate(pairwise(sizes))
    return {f"dense{k}": weights.linear(f"{prefix}.{k}", i, o) for k, (i, o) in pairs}


def _blocks(weights: Weights, common: dict, blocks: list) -> tuple:
    """All blocks, or the first where they are shared, of which the file then has copies."""
    if not common["shared_interactions"]:
        return tuple(blocks)
    for other in blocks[1:]:
        if not all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), blocks[0], other))):
            raise FormatError(weights.path, None, "shared_interactions is true, but the interactions differ.")
    return (blocks[0],)


def _radial(weights: Weights, options: Options) -> tuple[dict[str, Array], str]:
    """The parameters of the radial functions, and their kind."""
    at = "representation.radial_basis."
    if at + "freqs" in weights:
        found, values = "BesselRBF", {"freqs": weights.take(at + "freqs", (None,))}
    else:
        offsets = weights.take(at + "offsets", (None,))
        widths = weights.take(at + "widths", offsets.shape)
        if not (widths != 0).all():
            raise FormatError(weights.path, None, f"the tensor {at + 'widths'!r} must not hold zeros.")
        values = {"offsets": offsets, "widths": widths}
        found = "GaussianRBF" if offsets.any() else "GaussianRBFCentered"
    _agree(options, "radial_basis", found)
    return {name: jnp.asarray(x, float) for name, x in values.items()}, RADIAL[found]


def _cutoff_function(weights: Weights, options: Options) -> str:
    """Only a mollifier has an offset, which keeps 1/0 away and changes nothing."""
    mollifier = "representation.cutoff_fn.eps" in weights
    weights.skip("representation.cutoff_fn.eps")
    found = options.choose("cutoff_fn", CUTOFFS, "MollifierCutoff" if mollifier else "CosineCutoff")
    if mollifier != (found == "MollifierCutoff"):
        options.refuse("cutoff_fn", found, "the one that the tensors belong to")
    return CUTOFFS[found]


def _readout(weights: Weights, options: Options, features: int, keep: np.ndarray):
    """The layers of the energy's network in native units, the offset of each species in eV, eV per output."""
    options.require("atomwise_aggregation", "sum", "an average over the atoms is no energy of the whole")
    heads = sorted({m[1] for n in weights.names() if (m := re.match(r"(output_modules\.\d+\.outnet)\.", n))})
    if len(heads) != 1:
        raise FormatError(
            weights.path, None, f"expected one Atomwise module among the output modules, found {len(heads)}."
        )
    layers: dict[str, dict[str, Array]] = {}
    for k in range(weights.count(heads[0] + ".")):
        outputs = weights.shape(f"{heads[0]}.{k}.weight", 2)[0]
        layers[f"dense{k}"] = weights.linear(f"{heads[0]}.{k}", features, outputs)
        features = outputs
    if features != 1:
        raise FormatError(weights.path, None, f"{heads[0]} must lead to one number; it leads to {features}.")
    scale, offset = 1.0, np.zeros(len(keep))
    steps = sorted({m[1] for n in weights.names() if (m := re.match(r"postprocessors\.(\d+)\.", n))}, key=int)
    for k in steps:
        at = f"postprocessors.{k}."
        if at + "scale" in weights:
            factor = weights.number(at + "scale")
            scale, offset = scale * factor, offset * factor
        if at + "mean" in weights or at + "atomref" in weights:
            offset = offset + _offsets(weights, options, at, keep)
    for name in options.take("postprocessors", tuple, ()):
        if str(name).split("(")[0] not in TRANSFORMS:
            options.refuse("postprocessors", name, f"only {', '.join(sorted(TRANSFORMS))}")
    options.skip("add_mean", "add_atomrefs")
    unit = options.take("eV_per_native_unit", float)
    return layers, offset * unit, scale * unit


def _offsets(weights: Weights, options: Options, at: str, keep: np.ndarray) -> np.ndarray:
    """What AddOffsets adds to the energy of each species, in native units."""
    mean, atomref = weights.number(at + "mean"), weights.take(at + "atomref").reshape(-1)
    offset = np.zeros(len(keep))
    if options.take("add_mean", bool) if mean else False:
        offset += mean
    if options.take("add_atomrefs", bool) if atomref.any() else False:
        if len(atomref) <= keep.max():
            what = f"has {len(atomref)} entries; too few for atomic number {keep.max()}: choose `species`."
            raise FormatError(weights.path, None, f"the tensor {at + 'atomref'!r} {what}")
        offset += atomref[keep]
    return offset


def _activation(options: Options, name: str) -> str:
    value = options.take(name, str)
    value = SPELLINGS.get(value, value)
    if value not in ACTIVATIONS:
        options.refuse(name, value, f"one of {', '.join(ACTIVATIONS)}")
    return value


def _agree(options: Options, name: str, found: Any) -> None:
    options.require(name, found, "that is what the tensors say")


def _described(path, model: Inert) -> dict[str, Any]:
    """The hyper-parameters of a pickled module, under the names that config.json has for them."""
    representation = model.get("representation")
    kind = kind_of(representation)
    if kind not in ("SchNet", "PaiNN"):
        what = kind or f"a {kind_of(model) or type(model).__name__}"
        raise FormatError(path, None, f"expected a model of schnetpack with SchNet or PaiNN, found {what}.")
    out: dict[str, Any] = {"cutoff_fn": kind_of(representation.get("cutoff_fn"))}
    for place in ("input_modules", "output_modules"):
        for module in _children(model.get(place)):
            if kind_of(module) not in MODULES:
                raise FormatError(path, None, f"the module {kind_of(module)} among {place} is not supported.")
            if kind_of(module) == "Atomwise":
                out["activation_output"] = _stored(module.get("outnet"), 0)
                out["atomwise_aggregation"] = module.get("aggregation_mode")
    for transform in _children(model.get("postprocessors")):
        if kind_of(transform) not in TRANSFORMS:
            raise FormatError(path, None, f"the postprocessor {kind_of(transform)} is not supported.")
        if kind_of(transform) == "AddOffsets":
            if not transform.get("is_extensive", True):
                raise FormatError(path, None, "AddOffsets of a property that is not extensive: this is no energy.")
            out |= {name: bool(transform.get(name)) for name in ("add_mean", "add_atomrefs")}
    first = _children(representation.get("interactions"))[0]
    out["activation_representation"] = _stored(
        first.get("filter_network" if kind == "SchNet" else "interatomic_context_net"), 0
    )
    blocks = _children(representation.get("interactions"))
    out["shared_interactions"] = len(blocks) > 1 and all(b is blocks[0] for b in blocks)
    if kind == "PaiNN":
        out["shared_filters"] = bool(representation.get("share_filters"))
        out["painn_epsilon"] = _children(representation.get("mixing"))[0].get("epsilon")
    return {name: value for name, value in out.items() if value is not None}


def _children(module: Any) -> list[Inert]:
    """The modules in a ModuleList."""
    return list((module.get("_modules") or {}).values()) if isinstance(module, Inert) else []


def _stored(sequence: Any, k: int) -> str | None:
    """The name of the activation of layer k."""
    layers = _children(sequence)
    return kind_of(layers[k].get("activation")) or None if layers else None
