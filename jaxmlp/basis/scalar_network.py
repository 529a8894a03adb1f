"""Networks without biases, with weights of unit variance: the radial networks and readouts of MACE, NequIP, Allegro."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "ssp": lambda x: jax.nn.softplus(x) - math.log(2.0),
    "tanh": jnp.tanh,
    "abs": jnp.abs,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "identity": lambda x: x,
}


def scalar_network(
    x: Array,
    weights: Sequence[Array],
    activation: Callable[[Array], Array] = jax.nn.silu,
    gain: float = math.sqrt(2.0),
    forward: bool = True,
) -> Array:
    """Return x W_1 a_1, then phi(...) W_k a_k for each further layer.

    a_k = 1 / sqrt(inputs) for the first layer and gain / sqrt(inputs) for the others, so that values keep their
    variance; or, for `forward` False, 1 / sqrt(outputs) for the last and gain / sqrt(outputs) for the others, so that
    gradients keep theirs.

    Args:
        x: (..., inputs).
        weights: (inputs, outputs) of each layer.
    """
    for k, scale in enumerate(scales(weights, gain, forward)):
        x = (activation(x) if k else x) @ (weights[k] * scale)
    return x


def scales(weights: Sequence[Array], gain: float = math.sqrt(2.0), forward: bool = True) -> list[float]:
    """Return a_k of `scalar_network` for weights of these shapes."""
    plain = 0 if forward else len(weights) - 1
    sizes = [w.shape[0 if forward else 1] for w in weights]
    return [(1.0 if k == plain else gain) / math.sqrt(size) for k, size in enumerate(sizes)]


def init_network(key: Array, sizes: Sequence[int], dtype=float) -> tuple[Array, ...]:
    """Draw weights of unit variance for layers between `sizes`."""
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(jax.random.normal(k, shape, dtype) for k, shape in zip(keys, pairwise(sizes)))
