"""NequIP models of the code nequip (0.19): torch files with the builder's arguments, or npz and config.json."""

import math
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.convolution import path_irreps
from jaxmlp.basis.irreps import Irreps, format_irreps, label, linear_from_flat, parse_irreps, widths
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.nequip_builder import Model
from jaxmlp.potential import Params
from jaxmlp.potentials.nequip import NequIP
from jaxmlp.potentials.nequip_layers import layer_irreps, plan

READOUT = ("silu", "mish", "gelu", "ssp", "tanh", "sigmoid", "softplus")
SCALARS = ("silu", "tanh", "ssp", "abs")
# Of nequip.model.PresetNequIPGNNModel.
SHARED = {"parity": False, "type_embed_num_features": 32, "radial_mlp_depth": 1, "radial_mlp_width": 128}
PRESETS: dict[str, dict[str, Any]] = {
    "S": SHARED | {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": SHARED | {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": SHARED | {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": SHARED | {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}


def load(
    path: str | PathLike, *, builder_arguments: dict[str, Any] | None = None, atomic_numbers: list[int] | None = None
) -> tuple[NequIP, Params]:
    """Return the potential and parameters of a model that nequip's NequIPGNNModel, PresetNequIPGNNModel or
    FullNequIPGNNModel built.

    Args:
        path: a folder, or the file with the tensors.
        builder_arguments: arguments of that function which the file does not tell, or which are to replace its own.
        atomic_numbers: of the types, where their names are no symbols of elements.

    Raises:
        FormatError: the file is damaged, or has options or tensors that are not supported.
    """
    model = Model(path, "type_embed.embed_module.weight", builder_arguments, atomic_numbers, PRESETS)
    potential = _potential(model)
    params = _params(model, potential)
    model.options.finish()
    model.weights.finish()
    return potential, params


def _potential(model: Model) -> NequIP:
    """The hyper-parameters."""
    options = model.options
    l_max, irreps, embedding, radial = (_full if "feature_irreps_hidden" in options else _standard)(model)
    depth = model.count("readout_mlp_hidden_layers_depth", 0, 0)
    width = model.count("readout_mlp_hidden_layers_width", parse_irreps(irreps[-1])[0][0])
    options.require("categorical_graph_field_embed", None, "embeddings of graph fields are not supported")
    options.require("convnet_nonlinearity_type", "gate", "another is not supported")
    scalars, gates = (_pair(model, f"convnet_nonlinearity_{name}") for name in ("scalars", "gates"))
    learnable = options.take("learnable_shift", bool, False)
    connection, residual = options.take("convnet_sc", bool, True), options.take("convnet_resnet", bool, False)
    cutoff, cutoffs = model.cutoffs()
    zbl, zbl_envelope = model.repulsion()
    arguments = dict(
        species=model.species,
        cutoff=cutoff,
        l_max=l_max,
        irreps=irreps,
        embedding=embedding,
        bessels=model.count("num_bessels", 8),
        envelope=model.exponent(options),
        radial=radial,
        readout=(width,) * depth,
        readout_activation=model.activation("readout_mlp_nonlinearity", READOUT),
        neighbors=model.neighbors(),
        self_connection="first" if connection and learnable else connection,
        residual="first" if residual and learnable else residual,
        scalars=scalars,
        gates=gates[0],
        cutoffs=cutoffs,
        zbl=zbl,
        zbl_envelope=zbl_envelope,
        convention=model.convention(_couplings(model)),
    )
    try:
        return NequIP(**arguments)
    except ValueError as error:
        raise FormatError(model.path, None, str(error)) from error


def _standard(model: Model):
    """l_max, irreps of layers, embedding and radial widths from the arguments of NequIPGNNModel."""
    options = model.options
    layers, l_max = model.count("num_layers", 4), model.count("l_max", 1, 0)
    features = options.take("num_features", object, 32)
    if isinstance(features, int):
        features = [features] * (l_max + 1)
    if (
        not isinstance(features, list | tuple)
        or len(features) != l_max + 1
        or not all(type(f) is int and f > 0 for f in features)
    ):
        options.refuse("num_features", features, f"an integer or a list of {l_max + 1}")
    irreps = layer_irreps(features, l_max, layers, options.take("parity", bool, True))
    embedding = model.count("type_embed_num_features", features[0])
    radial = (model.count("radial_mlp_width", 128),) * model.count("radial_mlp_depth", 1, 0)
    return l_max, irreps, embedding, (radial,)


def _full(model: Model):
    """The same from the arguments of FullNequIPGNNModel."""
    options = model.options
    texts = options.take("feature_irreps_hidden", tuple)
    depths, sizes = options.take("radial_mlp_depth", tuple), options.take("radial_mlp_width", tuple)
    if not len(texts) == len(depths) == len(sizes) > 0 or any(type(x) is not int or x < 0 for x in (*depths, *sizes)):
        options.refuse("radial_mlp_depth", depths, "an integer for each layer, as in radial_mlp_width")
    edge = options.take("irreps_edge_sh", object)
    try:
        irreps = tuple(format_irreps(parse_irreps(str(text))) for text in texts)
        l_max = edge if isinstance(edge, int) else len(parse_irreps(str(edge))) - 1
        harmonics = tuple((1, l, (-1) ** l) for l in range(l_max + 1))
        if not isinstance(edge, int) and parse_irreps(edge) != harmonics:
            options.refuse("irreps_edge_sh", edge, f"{format_irreps(harmonics)} or another such sequence")
        radial = tuple((width,) * depth for width, depth in zip(sizes, depths))
    except ValueError as error:
        raise FormatError(model.path, None, str(error)) from error
    return l_max, irreps, model.count("type_embed_num_features", None), radial


def _pair(model: Model, name: str) -> tuple[str, str]:
    """Activations of even and odd channels."""
    value = model.options.take(name, dict, {"e": "silu", "o": "tanh"})
    if set(value) != {"e", "o"} or not all(x in SCALARS for x in value.values()):
        model.options.refuse(name, value, f"'e' and 'o' with one of {', '.join(SCALARS)} each")
    return value["e"], value["o"]


def _couplings(model: Model) -> dict[tuple[int, int, int], np.ndarray]:
    """The coupling tensors in the file."""
    out = {}
    for name in model.weights.names(model.prefix):
        head, found, degrees = name.partition("._w3j_")
        if found and head.endswith("tp_scatter.tp._compiled_main_left_right"):
            l1, l2, l3 = (int(l) for l in degrees.split("_"))
            out[l1, l2, l3] = model.weights.take(name, (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    return out


def _params(model: Model, potential: NequIP) -> Params:
    """The parameters."""
    layers = []
    for k, layer in enumerate(plan(potential)):
        name = f"layer{k}_convnet.conv"
        every = sum(path.mul for path in layer.paths)
        hidden = potential.radial[k % len(potential.radial)]
        weights = {
            "up": _linear(model, f"{name}.linear_1", layer.inputs, layer.inputs),
            "radial": model.network(f"{name}.edge_mlp", (potential.bessels, *hidden, every), "silu"),
            "down": _linear(model, f"{name}.linear_2", path_irreps(layer.paths), layer.mixed),
        }
        if potential.in_layer(k, potential.self_connection):
            weights["skip"] = _connection(model, f"{name}.sc", layer.inputs, potential.embedding, layer.mixed)
        for part in ("conv.tp_scatter.tp", "equivariant_nonlin.mul"):
            model.skip(*(f"layer{k}_convnet.{part}.{x}" for x in ("weight", "output_mask")))
        layers.append(weights)
    sizes = (plan(potential)[-1].outputs[0][0], *potential.readout, 1)
    return {
        "embedding": model.array("type_embed.embed_module.weight", len(potential.species), potential.embedding),
        "frequencies": model.array("bessel_encode.bessel_weights", 1, potential.bessels)[0],
        "layers": tuple(layers),
        "readout": model.network("per_atom_energy_readout.mlp_module", sizes, potential.readout_activation),
        **model.scale_shift(),
    }


def _linear(model: Model, name: str, inputs: Irreps, outputs: Irreps) -> dict[str, Array]:
    count = sum(a * b for a, *one in inputs for b, *two in outputs if one == two)
    matrices = linear_from_flat(model.flat(name, count), inputs, outputs)
    return {key: jnp.asarray(w, float) for key, w in matrices.items()}


def _connection(model: Model, name: str, inputs: Irreps, embedding: int, outputs: Irreps) -> dict[str, Array]:
    """The weights of the self-connection (F_in, E, F_out), one irrep after the other in the order of `inputs`."""
    after = widths(outputs)
    shapes = {label(l, p): (mul, embedding, after[label(l, p)]) for mul, l, p in inputs if label(l, p) in after}
    flat = model.flat(name, sum(math.prod(shape) for shape in shapes.values()))
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
    parts = zip(shapes.items(), np.split(flat, ends))
    return {key: jnp.asarray(part.reshape(shape), float) for (key, shape), part in parts}
