"""Dense networks in the tree of a Deep Potential file."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmlp.basis.deepmd_networks import ACTIVATIONS, DeepNetwork, Layers
from jaxmlp.formats.deepmd_tree import Entry

NAMES = {name: name for name in ACTIVATIONS} | {"gelu_tf": "gelu", "none": "linear", "linear": "linear"}
PRECISIONS = ("float64", "float32", "default", "float16", "bfloat16", "single", "double")
REDUNDANT = (
    "@class", "@version", "in_dim", "out_dim", "neuron", "activation_function", "resnet_dt", "precision", "bias",
    "bias_out", "trainable", "seed",
)  # fmt: skip


def collection(entry: Entry, species: int, keys: int) -> tuple[DeepNetwork, Layers]:
    """Return the network and stacked layers of a NetworkCollection addressed by `keys` species (first key fastest).

    Stacked as [first key, second key] in row order. Networks that are absent have zeros.
    """
    entry.take("ndim").integer(keys, keys)
    entry.get("ntypes", species).integer(species, species)
    networks = entry.take("networks").list(species**keys)
    entry.done("@class", "@version", "network_type")
    found = [None if e.value is None else network(e) for e in networks]
    shapes = {f[0] for f in found if f is not None}
    if len(shapes) != 1:
        entry.refuse("networks of one shape")
    shape = shapes.pop()
    order = np.arange(species**keys).reshape((species,) * keys).T.reshape(-1)
    layers = []
    for k in range(len(shape.activations)):
        like = next(f[1][k] for f in found if f is not None)
        every = [{q: np.zeros_like(x) for q, x in like.items()} if f is None else f[1][k] for f in found]
        layers.append({q: jnp.asarray(np.stack([every[m][q] for m in order]), float) for q in like})
    return shape, tuple(layers)


def network(entry: Entry) -> tuple[DeepNetwork, list[dict[str, np.ndarray]]]:
    """Return one network: its shape and the arrays of its layers."""
    shapes: list[Any] = []
    arrays, before = [], None
    for e in entry.take("layers").list():
        shape, values = layer(e, before)
        before = values["w"].shape[1]
        shapes.append(shape)
        arrays.append(values)
    entry.done("layers", *REDUNDANT)
    if not arrays:
        entry.refuse("a network with layers")
    sizes = (arrays[0]["w"].shape[0], *(a["w"].shape[1] for a in arrays))
    return DeepNetwork(sizes, *zip(*shapes)), arrays


def layer(entry: Entry, inputs: int | None) -> tuple[tuple[str, bool, bool, bool], dict[str, np.ndarray]]:
    """Return (activation, skip, has b, has idt) and the arrays of one layer."""
    name = entry.get("activation_function")
    activation = "linear" if name.value is None else name.text().lower()
    if activation not in NAMES:
        name.refuse(f"an activation of {', '.join(sorted(NAMES))}")
    skip = entry.get("resnet", False).truth()
    precision = entry.get("precision", "float64")
    if precision.value not in PRECISIONS:
        precision.refuse(f"a precision of {', '.join(PRECISIONS)}")
    v = entry.take("@variables")
    values = {"w": v.take("w").array(inputs, None)}
    size = values["w"].shape[1]
    if 0 in values["w"].shape:
        v.refuse("weights of a layer with inputs and outputs")
    for q in ("b", "idt"):
        x = v.get(q)
        if x.value is not None:
            values[q] = x.array(1, size)[0] if np.ndim(x.value) == 2 else x.array(size)
    v.done()
    for option, name_ in (("bias", "b"), ("use_timestep", "idt")):
        given = entry.get(option, name_ in values)
        if given.truth() != (name_ in values):
            given.refuse(f"{option} true exactly where the layer has {name_}")
    entry.done("@class", "@version", "trainable", "seed", "network_type")
    return (NAMES[activation], skip, "b" in values, "idt" in values), values


def tree(network: DeepNetwork, layers: Layers, place: int, kind: str) -> dict[str, Any]:
    """Return one of stacked networks as deepmd-kit's tree; `kind` is its class."""
    inner = []
    for k, layer in enumerate(layers):
        arrays = {q: np.asarray(layer[q][place], float) if q in layer else None for q in ("w", "b", "idt")}
        inner.append({
            "@class": "Layer", "@version": 2, "bias": arrays["b"] is not None,
            "use_timestep": arrays["idt"] is not None, "activation_function": network.activations[k],
            "resnet": network.skips[k], "precision": "float64", "trainable": True, "@variables": arrays,
        })  # fmt: skip
    common = {
        "@class": kind, "@version": 2 if kind == "EmbeddingNetwork" else 1, "in_dim": network.sizes[0],
        "activation_function": network.activations[0], "resnet_dt": any(network.timesteps), "precision": "float64",
    }  # fmt: skip
    if kind == "EmbeddingNetwork":
        own: dict[str, Any] = {"neuron": list(network.sizes[1:]), "bias": network.biases[0]}
    else:
        own = {"neuron": list(network.sizes[1:-1]), "out_dim": 1, "bias_out": network.biases[-1]}
    return common | own | {"layers": inner}


def collection_tree(network: DeepNetwork, layers: Layers, species: int, keys: int, kind: str) -> dict[str, Any]:
    """Return stacked networks as a NetworkCollection."""
    order = np.arange(species**keys).reshape((species,) * keys).T.reshape(-1)
    return {
        "@class": "NetworkCollection", "@version": 1, "ndim": keys, "ntypes": species,
        "network_type": "embedding_network" if kind == "EmbeddingNetwork" else "fitting_network",
        "networks": [tree(network, layers, int(place), kind) for place in order],
    }  # fmt: skip
