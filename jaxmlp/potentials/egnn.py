"""EGNN: messages made of distances, between atoms that the network itself displaces from layer to layer."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from jaxmlp.basis.cutoffs import polynomial_cutoff
from jaxmlp.basis.edges import length
from jaxmlp.basis.radial_networks import (
    ACTIVATIONS,
    applied,
    check_choices,
    check_counts,
    check_cutoff,
    glorot,
    initial,
)
from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params

AGGREGATIONS = ("mean", "sum")
NORM = 1e-8  # Å, added to distances that vectors are divided by
SMALL = nn.initializers.variance_scaling(1e-6, "fan_avg", "uniform")  # atoms start by hardly moving


class EquivariantLayer(nn.Module):
    """One layer of `EGNN`, in whose docstring the formulas are.

    Args:
        features: F.
        activation: a key of `radial_networks.ACTIVATIONS`.
        attention, normalize, tanh, residual: see `EGNN`.
    """

    features: int
    activation: str
    attention: bool
    normalize: bool
    tanh: bool
    residual: bool

    def setup(self):
        dense = lambda size, bias=True: nn.Dense(size, use_bias=bias, kernel_init=glorot)
        f = self.features
        self.target, self.source, self.edge = dense(f), dense(f, False), dense(f)
        self.distance = self.param("distance", nn.initializers.normal(f**-0.5), (f,), jnp.float32)
        self.node1, self.node2 = dense(f), dense(f)
        self.coord1, self.coord2 = dense(f), nn.Dense(1, use_bias=False, kernel_init=SMALL)
        if self.attention:
            self.gate = dense(1)

    def share(self, h: Array) -> Array:
        """Return what neighbours need of an atom's features h (n, F) to make their messages, (n, F)."""
        return self.source(h)

    def __call__(self, h: Array, source: Array, d: Array, weight: Array) -> tuple[Array, Array]:
        """Return new features (n, F) and sum_j weight_ij d_ij phi(m_ij), (n, 3), by which atoms move.

        Args:
            h: (n, F).
            source: (n, M, F), what `share` gives of the neighbours.
            d: x_i - x_j (n, M, 3) Å, of displaced atoms.
            weight: (n, M) of the edges, 0 for those that do not count.
        """
        act = ACTIVATIONS[self.activation]
        d2 = jnp.sum(d * d, axis=-1, keepdims=True)
        m = act(self.target(h)[:, None] + source + d2 * self.distance)
        m = act(self.edge(m))
        if self.attention:
            m = m * jax.nn.sigmoid(self.gate(m))
        phi = self.coord2(act(self.coord1(m)))
        if self.tanh:
            phi = jnp.tanh(phi)
        if self.normalize:
            d = d / (jnp.sqrt(d2) + NORM)
        weight = weight[..., None]
        heard = jnp.concatenate([h, jnp.sum(weight * m, axis=1)], axis=-1)
        new = self.node2(act(self.node1(heard)))
        return (h + new if self.residual else new), jnp.sum(weight * phi * d, axis=1)

    def everything(self, h: Array, d: Array, weight: Array) -> tuple[Array, Array]:
        return self(h, self.share(h)[:, None], d, weight)


@dataclass(frozen=True)
class EGNN(MessagePassing):
    """E_i = h_i readout + bias + offset[t_i] of features h_i (F,) that start as the embedding of the species t_i.

    Satorras, Hoogeboom and Welling, ICML 2021 (arXiv:2102.09844), Eqs. (3) to (6), as in the authors' `egnn_clean`.
    Layer by layer, with w_ij = 1, or the envelope below, and sums over neighbours:

        d_ij = x_i - x_j,   m_ij = act(edge(act(target(h_i) + source(h_j) + |d_ij|^2 distance))) [o sigmoid(gate(m_ij))]
        x_i <- x_i + mean_j or sum_j of w_ij d_ij phi(m_ij),   phi = coord2(act(coord1(m))), [tanh of it]
        h_i <- [h_i +] node2(act(node1([h_i, sum_j w_ij m_ij])))

    x_i starts as the position; only the displacement x_i - R_i is kept, which periodic images share. The energy does
    not change under rotations and reflections.

    With `envelope`, which is ours, w_ij = 1 - 10 x^3 + 15 x^4 - 6 x^5, x = r_ij / cutoff, of the undisplaced atoms, and
    the mean is the sum over 1 + sum_j w_ij: the energy has two continuous derivatives at the cutoff, and the model is
    one of extended systems. Without it all neighbours within the cutoff count alike, as in the original for molecules,
    in which all pairs are neighbours: the cutoff then has to be longer than the molecule, for the energy jumps there.

    Parameters: embedding (S, F); layers, a tuple of {target, edge, node1, node2, coord1, gate: {kernel (in, out), bias
    (out,)}, source, coord2: {kernel}, distance (F,)}; readout {kernel (F, 1), bias (1,)}; offset (S,) eV.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
        cutoff: Å.
        n_features: F.
        n_layers: number of layers.
        activation: a key of `radial_networks.ACTIVATIONS`.
        envelope: end smoothly at the cutoff.
        attention: messages are weighed by a sigmoid.
        normalize: d_ij is divided by its length. (The original takes no derivative of this length, so that its gradient
            is not that of its energy; here it is.)
        tanh: bounds phi.
        aggregation: "mean" or "sum" of the displacements.
        residual: layers add to the features.
    """

    species: tuple[int, ...]
    cutoff: float = 5.0
    n_features: int = 64
    n_layers: int = 4
    activation: str = "silu"
    envelope: bool = True
    attention: bool = False
    normalize: bool = False
    tanh: bool = False
    aggregation: str = "mean"
    residual: bool = True

    constants: ClassVar[tuple[str, ...]] = ("offset",)
    atomic_energies: ClassVar[str] = "offset"

    def __post_init__(self):
        check_species("EGNN", self.species)
        check_cutoff("EGNN", self.cutoff)
        check_counts("EGNN", n_features=self.n_features, n_layers=self.n_layers)
        options = {"activation": (self.activation, ACTIVATIONS), "aggregation": (self.aggregation, AGGREGATIONS)}
        check_choices("EGNN", **options)

    @property
    def steps(self) -> int:
        return self.n_layers

    @property
    def _layer(self) -> EquivariantLayer:
        switches = (self.attention, self.normalize, self.tanh, self.residual)
        return EquivariantLayer(self.n_features, self.activation, *switches)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: embeddings of variance 1, Glorot weights, no biases, small displacements."""
        f, s = self.n_features, len(self.species)
        embedding, readout, *keys = jax.random.split(key, 2 + self.n_layers)
        shapes = ((1, f), (1, 1, 3), (1, 1))
        return {
            "embedding": jax.random.normal(embedding, (s, f), dtype),
            "layers": tuple(initial(self._layer, k, dtype, *shapes, method="everything") for k in keys),
            "readout": initial(nn.Dense(1, kernel_init=glorot), readout, dtype, (1, f)),
            "offset": jnp.zeros(s, dtype),
        }

    def step(self, k: int, params: Params, graph: Graph, own: Any, theirs: Any) -> tuple[Any, Any]:
        """Return (features (n, F), displacements (n, 3) Å) after layer k and what neighbours need of both."""
        layer = params["layers"][k]
        d = -jnp.stack(graph.planes, axis=-1)
        if k == 0:  # the species says all, and nothing has moved
            h, u = params["embedding"][graph.species], jnp.zeros_like(d[:, 0])
            source = applied(self._layer, layer, params["embedding"], method="share")[graph.neighbor_species]
        else:
            (h, u), (source, their_u) = own, theirs
            d = d + u[:, None] - their_u
        weight = self._weights(graph)
        h, shift = applied(self._layer, layer, h, source, d, weight)
        if k == self.n_layers - 1:
            energy = h @ params["readout"]["kernel"] + params["readout"]["bias"]
            return energy[:, 0] + params["offset"][graph.species], None
        if self.aggregation == "mean":
            count = jnp.sum(weight, axis=1, keepdims=True)
            shift = shift / (1.0 + count if self.envelope else jnp.maximum(count, 1.0))
        u = u + shift
        return (h, u), (applied(self._layer, params["layers"][k + 1], h, method="share"), u)

    def _weights(self, graph: Graph) -> Array:
        """w_ij (n, M), 0 beyond the cutoff."""
        r = length(*graph.planes)
        if self.envelope:
            return polynomial_cutoff(r, self.cutoff, 6)
        return (graph.mask & (r < self.cutoff)).astype(r.dtype)

    def linear_parameters(self, params: Params) -> Params:
        """Return the offsets and the last layer."""
        last = ("offset", "readout")
        return jax.tree.map(lambda _: None, params) | {name: params[name] for name in last}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["EGNN", Params]:
        """Return the potential and parameters for some of its species: rows of the embedding and of the offsets."""
        keep = np.array(subset(self.species, species))
        rows = {name: params[name][keep] for name in ("embedding", "offset")}
        return replace(self, species=tuple(species)), params | rows
