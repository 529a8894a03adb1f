"""Interaction blocks of MACE whose radial networks see the two atoms of an edge, and not only its distance.

Both are blocks of mace-torch 0.3.16, the nonlinear one that of its newest foundation models. With e the radial
functions of r_ji, s_j what the neighbour j is to the network and t_i what the atom i is,

    R_ji = u(r_ji) network([e, s_j, t_i]),   m_i = sum_j R_ji h_j (x) Y(r_ji),

and u the envelope, or 1 up to the cutoff and 0 beyond where the envelope is on the radial functions already. These
networks do not vanish with e: only u removes what is beyond the cutoff, and without the envelope in it the energy has
a step there, as in the original.

    ATTENTION   s = t = D h, the network that of other blocks,
                A_i = 1/N linear(m_i),
    NONLINEAR   s = source[t_j], t = target[t_i], tables of the species; x <- silu(LayerNorm(x W + b)) in the network,
                A_i = linear2(gate(linear(m_i) / (alpha + beta rho_i) + residual(up(h_i)))),
                rho_i = sum_j u(r_ji) tanh(network'([e, s_j, t_i])^2).

Here silu is not normalised, except in the gate. Both add W h_i to the features after the product, W the same for all
species: (1, in, out).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.basis import irreps as ir
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.mace_radial import hidden_layers

ATTENTION = "RealAgnosticAttResidualInteractionBlock"
NONLINEAR = "RealAgnosticResidualNonLinearInteractionBlock"
DOWN = 64  # channels of D h
DENSITY_WIDTH = 64  # hidden layer of network'
EPSILON = 1e-5  # of LayerNorm
DOWN_KEY = "down"  # where D h stands in what neighbours send


def sent(layer: Params, h: ir.Features) -> dict[str, Array]:
    """Return what atoms with the features h send to others: up(h), and where a block has one D h."""
    out = ir.linear(layer["up"], h)
    if "down" in layer:
        out[DOWN_KEY] = ir.linear({"0e": layer["down"]}, h)["0e"]
    return out


def attention_network(
    layer: Params, graph: Graph, h: ir.Features, theirs: Mapping[str, Array], e: Array
) -> tuple[Array, Array]:
    """Return what the radial network has before its last layer (n, M, H), and that layer (H, paths).

    Args:
        layer: with "down" (F, D) and "radial", matrices.
        h: features of the atoms.
        theirs: of their neighbours, as `sent` makes them: (n, M, 1, D), or in a first layer (S, D) of each species.
        e: radial functions (n, M, K).
    """
    weights = layer["radial"]
    own = ir.linear({"0e": layer["down"]}, h)["0e"][:, 0]
    down = theirs[DOWN_KEY]
    first = _first_layer(weights[0], e, down if down.ndim == 2 else down[:, :, 0], own, graph)
    hidden = hidden_layers(weights[1:], ir.silu(first / math.sqrt(weights[0].shape[0])))
    return hidden, weights[-1] / math.sqrt(weights[-1].shape[0])


def nonlinear_networks(layer: Params, graph: Graph, e: Array, envelope: Array) -> tuple[Array, Array, Array]:
    """Return a matrix (n, M, H + 1) and one (H + 1, paths) of which u(r) network(...) is the product, and rho (n,).

    Args:
        layer: with "source" and "target" (S, F), and the networks "radial" and "density".
        e: radial functions (n, M, K).
        envelope: u (n, M).
    """
    ends = layer["source"], layer["target"][graph.species], graph
    last = layer["radial"][-1]
    hidden = _normalised_layers(layer["radial"], e, *ends)
    hidden = jnp.concatenate([hidden, jnp.ones_like(hidden[..., :1])], axis=-1)  # times the last layer's biases
    of_density = layer["density"][-1]
    rho = _normalised_layers(layer["density"], e, *ends) @ of_density["weight"] + of_density["bias"]
    rho = jnp.sum(jnp.tanh(rho[..., 0] ** 2) * envelope, axis=1)
    return hidden * envelope[..., None], jnp.concatenate([last["weight"], last["bias"][None]]), rho


def gated(layer: Params, arrived: ir.Features, rho: Array, own: ir.Features, irreps: ir.Irreps) -> dict[str, Array]:
    """Return A = linear2(gate(arrived / (alpha + beta rho) + residual(own))), with the channels `irreps`."""
    norm = (1.0 / (layer["alpha"] + layer["beta"] * rho))[:, None, None]
    x = {name: norm * a for name, a in arrived.items()}
    for name, kept in ir.linear(layer["residual"], own).items():
        x[name] = x[name] + kept if name in x else kept
    return ir.linear(layer["second"], ir.gate(x, irreps, gates=_sigmoid))


def _first_layer(w: Array, e: Array, theirs: Array, own: Array, graph: Graph) -> Array:
    """[e, theirs, own] W for every edge, (n, M, H); `theirs` (n, M, D), or (S, D) of each species, `own` (n, D)."""
    of_e, of_theirs, of_own = jnp.split(w, (e.shape[-1], e.shape[-1] + own.shape[-1]))
    seen = theirs @ of_theirs
    if seen.ndim == 2:
        seen = seen[graph.neighbor_species]
    return e @ of_e + seen + (own @ of_own)[:, None]


def _normalised_layers(layers: Sequence[Params], e: Array, theirs: Array, own: Array, graph: Graph) -> Array:
    """What a network of x <- silu(LayerNorm(x W + b)) has before its last layer."""
    x = _first_layer(layers[0]["weight"], e, theirs, own, graph)
    for k, layer in enumerate(layers[:-1]):
        x = (x @ layer["weight"] if k else x) + layer["bias"]
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
        x = jax.nn.silu(x * layer["scale"] + layer["shift"])
    return x


def _sigmoid(x: Array) -> Array:
    return ir.NORMALISED["sigmoid"] * jax.nn.sigmoid(x)


# Starting parameters.


def attention_init(
    key: Array, scalars: int, num_bessel: int, widths: Sequence[int], weights: int, dtype
) -> dict[str, Params]:
    """Draw "down" and "radial"; see `nonlinear_init`."""
    keys = jax.random.split(key, len(widths) + 2)
    sizes = (num_bessel + 2 * DOWN, *widths, weights)
    radial = tuple(jax.random.normal(k, shape, dtype) for k, shape in zip(keys, pairwise(sizes)))
    return {"down": jax.random.normal(keys[-1], (scalars, DOWN), dtype), "radial": radial}


def nonlinear_init(
    key: Array, species: int, scalars: int, num_bessel: int, widths: Sequence[int], weights: int, dtype
) -> dict[str, Params]:
    """Draw what only the nonlinear block has but its maps, as the reference implementation does.

    Args:
        scalars: number F of scalar features.
        widths: of the hidden layers.
        weights: channels of all paths.
    """
    radial, density, *tables = jax.random.split(key, 4)
    inputs = num_bessel + 2 * scalars
    small = 1e-3 / math.sqrt(species)
    source, target = (jax.random.uniform(k, (species, scalars), dtype, -small, small) for k in tables)
    return {
        "radial": _normalised_init(radial, (inputs, *widths, weights), dtype), "source": source, "target": target,
        "density": _normalised_init(density, (inputs, DENSITY_WIDTH, 1), dtype),
        "alpha": jnp.asarray(20.0, dtype), "beta": jnp.zeros((), dtype),
    }  # fmt: skip


def _normalised_init(key: Array, sizes: Sequence[int], dtype) -> tuple[dict[str, Array], ...]:
    layers = []
    for k, (a, b) in enumerate(pairwise(sizes)):
        key, one, two = jax.random.split(key, 3)
        layer = {"weight": jax.random.uniform(one, (a, b), dtype, -1, 1) / math.sqrt(a)}
        layer["bias"] = jax.random.uniform(two, (b,), dtype, -1, 1) / math.sqrt(a)
        if k < len(sizes) - 2:
            layer |= {"scale": jnp.ones(b, dtype), "shift": jnp.zeros(b, dtype)}
        layers.append(layer)
    return tuple(layers)
