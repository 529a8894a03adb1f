"""What the networks of schnetpack have in common: radial functions of edges, and a network for an atom's energy."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import length
from jaxmlp.basis.radial_networks import (
    ACTIVATIONS,
    CUTOFFS,
    MLP,
    RADIAL,
    applied,
    check_choices,
    check_counts,
    check_cutoff,
    initial,
    radial,
    radial_start,
)
from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params


@dataclass(frozen=True)
class AtomwiseNetwork(MessagePassing):
    """E_i = network(q_i) + offset[t_i] of the scalar features q_i (F,) of an atom of species t_i after the last step.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
        cutoff: Å.
        n_features: F.
        n_interactions: message-passing steps; the energy of an atom depends on atoms as many cutoffs away.
        radial: "gaussian", "centered" (Gaussians at r = 0 of different widths) or "bessel", as in
            `radial_networks.radial`.
        n_radial: number of radial functions.
        cutoff_function: "cosine", (1 + cos(pi r/rc)) / 2, or "mollifier", exp(1 - 1 / (1 - (r/rc)^2)).
        activation: of the interactions; a key of `radial_networks.ACTIVATIONS`.
        hidden: sizes of the hidden layers of the network for the energy.
        readout_activation: of these layers.
        shared_interactions: all steps have the same parameters.
    """

    species: tuple[int, ...]
    cutoff: float = 5.0
    n_features: int = 128
    n_interactions: int = 3
    radial: str = "gaussian"
    n_radial: int = 20
    cutoff_function: str = "cosine"
    activation: str = "silu"
    hidden: tuple[int, ...] = (64,)
    readout_activation: str = "silu"
    shared_interactions: bool = False

    constants: ClassVar[tuple[str, ...]] = ("offset",)
    atomic_energies: ClassVar[str] = "offset"

    def __post_init__(self):
        name = type(self).__name__
        check_species(name, self.species)
        check_cutoff(name, self.cutoff)
        check_counts(name, n_features=self.n_features, n_interactions=self.n_interactions, hidden=self.hidden)
        check_counts(name, 1 if self.radial == "bessel" else 2, n_radial=self.n_radial)
        check_choices(
            name,
            radial=(self.radial, RADIAL),
            cutoff_function=(self.cutoff_function, CUTOFFS),
            activation=(self.activation, ACTIVATIONS),
            readout_activation=(self.readout_activation, ACTIVATIONS),
        )

    @property
    def steps(self) -> int:
        return self.n_interactions

    @property
    def readout(self) -> MLP:
        """The network from an atom's features to its energy."""
        return MLP((*self.hidden, 1), self.readout_activation)

    def start(self, key: Array, dtype) -> dict[str, Any]:
        """Return starting parameters but for the interactions; embeddings of variance 1, offsets of 0."""
        embedding, readout = jax.random.split(key)
        s, f = len(self.species), self.n_features
        return {
            "embedding": jax.random.normal(embedding, (s, f), dtype),
            "radial": radial_start(self.radial, self.n_radial, self.cutoff, dtype),
            "readout": initial(self.readout, readout, dtype, (1, f)),
            "offset": jnp.zeros(s, dtype),
        }

    def edges(self, params: Params, graph: Graph) -> tuple[Array, Array]:
        """Return the radial functions (n, M, K) and the cutoff function (n, M), 0 beyond the cutoff, of all edges."""
        r = length(*graph.planes)
        return radial(params["radial"], r), CUTOFFS[self.cutoff_function](r, self.cutoff)

    def shared(self, params: Params, name: str, k: int) -> Params:
        """Return the parameters of step k in the tuple `name`, which has one entry where all steps share it."""
        return params[name][min(k, len(params[name]) - 1)]

    def energies(self, params: Params, graph: Graph, q: Array) -> Array:
        """Return the energy of every atom, (n,) eV, from its features (n, F)."""
        return applied(self.readout, params["readout"], q)[:, 0] + params["offset"][graph.species]

    def linear_parameters(self, params: Params) -> Params:
        """Return the offsets and the last layer of the network for the energy."""
        out, last = jax.tree.map(lambda _: None, params), f"dense{len(self.hidden)}"
        readout = out["readout"] | {last: params["readout"][last]}
        return out | {"offset": params["offset"], "readout": readout}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple[Self, Params]:
        """Return the potential and parameters for some of its species: rows of the embedding and of the offsets."""
        keep = np.array(subset(self.species, species))
        rows = {name: params[name][keep] for name in ("embedding", "offset")}
        return replace(self, species=tuple(species)), params | rows
