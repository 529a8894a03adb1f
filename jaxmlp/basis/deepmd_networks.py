"""Dense networks of Deep Potential models, many of one shape: each row of the input goes through the one of its key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.tangents import along, given

matmul = partial(jnp.matmul, precision="highest")
Layers = Any  # a tuple of {"w": (..., in, out), "b": (..., out), "idt": (..., out)}, the last two where they exist
FEW = 8  # networks that are compiled one by one, so that none is copied to be used
TILE = 512  # rows of one network evaluated together on a CPU: their intermediates stay in the cache
TILE_ON_ACCELERATOR = 1 << 16


@jax.custom_jvp
def tanh(x: Array) -> Array:
    """Return tanh x to an absolute error of one rounding; XLA's own is 3 times slower in float64 on a CPU."""
    return 1.0 - 2.0 / (jnp.exp(2.0 * x) + 1.0)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
    t = tanh(*primals)
    return t, (1.0 - t * t) * tangents[0]


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": tanh,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "softplus": jax.nn.softplus,
    "sigmoid": lambda x: 0.5 * (1.0 + tanh(0.5 * x)),
    "silu": lambda x: 0.5 * x * (1.0 + tanh(0.5 * x)),
    "gelu": lambda x: 0.5 * x * (1.0 + tanh((2.0 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "linear": lambda x: x,
}


@dataclass(frozen=True)
class DeepNetwork:
    """Layers y = idt * act(x W + b), plus x where the sizes agree, or [x, x] where the output is twice the input.

    Zhang et al., NeurIPS 2018 (arXiv:1805.09003); idt, "timestep", scales a layer before its skip.

    Args:
        sizes: numbers of inputs, then of neurons in each layer.
        activations: for each layer, a key of `ACTIVATIONS`.
        skips: for each layer, whether it adds its input where the sizes allow.
        biases, timesteps: for each layer, whether it has b and idt.
    """

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    skips: tuple[bool, ...]
    biases: tuple[bool, ...]
    timesteps: tuple[bool, ...]

    def __post_init__(self):
        depth = len(self.sizes) - 1
        if depth < 1 or min(self.sizes) < 1:
            raise ValueError(f"DeepNetwork.sizes must be positive numbers of inputs and neurons; got {self.sizes}.")
        for name in ("activations", "skips", "biases", "timesteps"):
            if len(getattr(self, name)) != depth:
                raise ValueError(f"DeepNetwork.{name} needs one entry for each of {depth} layers.")
        unknown = set(self.activations) - set(ACTIVATIONS)
        if unknown:
            raise ValueError(f"DeepNetwork.activations must be of {tuple(ACTIVATIONS)}; got {sorted(unknown)}.")

    @property
    def outputs(self) -> int:
        return self.sizes[-1]

    def init(self, key: Array, count: int, dtype=float) -> Layers:
        """Draw the weights of `count` networks: variance 1 / (inputs + outputs), hidden biases 1, timesteps 0.1."""
        layers = []
        for k, (a, b) in enumerate(pairwise(self.sizes)):
            key, kw, kb, kt = jax.random.split(key, 4)
            layer = {"w": jax.random.normal(kw, (count, a, b), dtype) * (a + b) ** -0.5}
            if self.biases[k]:
                hidden = 1.0 if k < len(self.sizes) - 2 or b > 1 else 0.0
                layer["b"] = hidden * jax.random.normal(kb, (count, b), dtype)
            if self.timesteps[k]:
                layer["idt"] = 0.1 + 0.001 * jax.random.normal(kt, (count, b), dtype)
            layers.append(layer)
        return tuple(layers)

    def __call__(self, layers: Layers, x: Array) -> Array:
        """Return the outputs (rows, outputs) of one network for inputs (rows, inputs)."""
        for layer, activation, skip in zip(layers, self.activations, self.skips):
            y = matmul(x, layer["w"])
            if "b" in layer:
                y = y + layer["b"]
            y = ACTIVATIONS[activation](y)
            if "idt" in layer:
                y = y * layer["idt"]
            if skip and y.shape[-1] == x.shape[-1]:
                y = y + x
            elif skip and y.shape[-1] == 2 * x.shape[-1]:
                y = y + jnp.concatenate([x, x], axis=-1)
            x = y
        return x

    def by_row(self, layers: Layers, key: Array, x: Array, tile: int) -> Array:
        """Return outputs (rows,): row i of x (rows, inputs) through network key[i] of the stacked `layers`.

        For networks of one output. The derivative with respect to x is made together with the value, network by
        network, so that a backward pass through all of it stores no layer.
        """
        return _scalar(self, tile, layers, key, x)


def embedding(inputs: int, neuron: tuple[int, ...], activation: str = "tanh", timestep: bool = False) -> DeepNetwork:
    """Return an embedding network: all layers with an activation and skips; timesteps where a layer has a skip."""
    sizes = (inputs, *neuron)
    return DeepNetwork(sizes, *_alike(sizes, activation, timestep))


def fitting(inputs: int, neuron: tuple[int, ...], activation: str = "tanh", timestep: bool = True) -> DeepNetwork:
    """Return a fitting network: hidden layers as of an embedding, then one linear output without a skip."""
    sizes = (inputs, *neuron)
    activations, skips, biases, timesteps = _alike(sizes, activation, timestep)
    return DeepNetwork(
        (*sizes, 1), (*activations, "linear"), (*skips, False), (*biases, True), (*timesteps, False)
    )  # fmt: skip


def _alike(sizes, activation, timestep):
    depth = len(sizes) - 1
    steps = tuple(timestep and b in (a, 2 * a) for a, b in pairwise(sizes))
    return (activation,) * depth, (True,) * depth, (True,) * depth, steps


def embed(network: DeepNetwork, layers: Layers, s: Array, key: Array, extra: Array | None = None) -> Array:
    """Return G (rows, outputs) of one scalar s (rows,) each: network key[i] of the stacked `layers` at [s_i, extra_i].

    Rows with a key beyond the last network get an arbitrary finite value. The derivative with respect to s goes forward
    through the network together with the value, so that its transpose is one product and stores no layer: half of the
    time of a backward pass through the layers. Derivatives of every order are right.
    """
    return _taylor(network, 0, layers, s, key, extra)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _taylor(network, order, layers, s, key, extra) -> tuple[Array, ...]:
    """The derivatives of order 0 ... `order` of the networks with respect to s, each (rows, outputs)."""
    rows = (s,) if extra is None else (s, extra)
    return _by_key(partial(_derivatives, network, order), layers, key, rows, TILE)


@partial(_taylor.defjvp, symbolic_zeros=True)
def _taylor_jvp(network, order, primals, tangents):
    layers, s, key, extra = primals
    d_layers, ds, _, d_extra = tangents
    if given(ds):
        *values, last = _taylor(network, order + 1, layers, s, key, extra)
        change = [d * ds[:, None] for d in (*values[1:], last)]
    else:
        values = list(_taylor(network, order, layers, s, key, extra))
        change = [jnp.zeros_like(v) for v in values]

    def of(parameters):
        layers, extra = parameters
        rows = (s,) if extra is None else (s, extra)
        return _by_key(partial(_derivatives, network, order), layers, key, rows, TILE)

    more = along(of, (layers, extra), (d_layers, d_extra))
    if more is not None:
        change = [a + b for a, b in zip(change, more)]
    return tuple(values), tuple(change)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _scalar(network, tile, layers, key, x) -> Array:
    return _by_key(lambda p, x: (network(p, x)[:, 0],), layers, key, (x,), tile)[0]


@partial(_scalar.defjvp, symbolic_zeros=True)
def _scalar_jvp(network, tile, primals, tangents):
    layers, key, x = primals
    d_layers, _, dx = tangents

    def with_slope(p, x):
        y, back = jax.vjp(lambda x: network(p, x)[:, 0], x)
        return y, back(jnp.ones_like(y))[0]

    change = jnp.zeros(len(x), x.dtype)
    if given(dx):
        y, slope = _by_key(with_slope, layers, key, (x,), tile)
        change = change + jnp.sum(slope * dx, axis=1)
    else:
        y = _scalar(network, tile, layers, key, x)
    more = along(lambda p: _by_key(lambda p, x: (network(p, x)[:, 0],), p, key, (x,), tile)[0], layers, d_layers)
    if more is not None:
        change = change + more
    return y, change


def _derivatives(network, order, layers, s, *extra) -> tuple[Array, ...]:
    """d^k G / ds^k of one network, k = 0 ... order."""

    def values(s):
        return (network(layers, jnp.concatenate([s[:, None], *extra], axis=1)),)

    f = values
    for _ in range(order):
        f = _with_slope(f)
    return f(s)


def _with_slope(f):
    def g(s):
        values, slopes = jax.jvp(f, (s,), (jnp.ones_like(s),))
        return (*values, slopes[-1])

    return g


def _by_key(function, stacked, key: Array, rows: tuple[Array, ...], tile: int):
    """Return function(stacked[key[i]], *rows[i]) for all rows: sorted by key into tiles, each with one key.

    Tiles that hold nothing are skipped, so that rows with a key beyond the last cost nothing.
    """
    count = len(jax.tree.leaves(stacked)[0])
    n = len(key)
    tile = tile if jax.default_backend() == "cpu" else max(tile, TILE_ON_ACCELERATOR)
    if count == 1 and n <= 2 * tile:
        return function(jax.tree.map(lambda p: p[0], stacked), *rows)
    tile = min(tile, n)
    owner, source, place = _tiles(key, count, tile)

    every = [jax.tree.map(lambda p, k=k: p[k], stacked) for k in range(count)] if count <= FEW else []

    def work(owner, source):
        some = [x.at[source].get(mode="promise_in_bounds") for x in rows]
        if every:
            return lax.switch(owner, [partial(function, p) for p in every], *some)
        mine = jax.tree.map(lambda p: lax.dynamic_index_in_dim(p, owner, keepdims=False), stacked)
        return function(mine, *some)

    like = jax.eval_shape(work, owner[0], source[0])
    nothing = lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    out = lax.map(lambda t: lax.cond(t[0] < count, work, nothing, *t), (owner, source))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]).at[place].get(mode="promise_in_bounds"), out)


def _tiles(key: Array, count: int, tile: int) -> tuple[Array, Array, Array]:
    """The key of each tile (count for an empty one), its rows (tiles, tile), and the place (rows,) of each row."""
    n = len(key)
    tiles = n // tile + count
    here = key == jnp.arange(count, dtype=key.dtype)[:, None]  # (count, rows)
    rank = jnp.cumsum(here.astype(jnp.int32), axis=1)
    used = -(-rank[:, -1] // tile)
    end = jnp.cumsum(used)
    place = jnp.sum(jnp.where(here, (end - used)[:, None] * tile + rank - 1, 0), axis=0)
    known = jnp.where(key < count, place, tiles * tile)
    source = jnp.zeros(tiles * tile, jnp.int32).at[known].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
    owner = jnp.sum(end[:, None] <= jnp.arange(tiles, dtype=end.dtype), axis=0, dtype=jnp.int32)
    return owner, source.reshape(tiles, tile), place
