"""SchNet: continuous-filter convolutions, atoms' features multiplied by filters made from distances."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxmlp.basis.radial_networks import MLP, applied, check_counts, glorot, initial
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.atomwise import AtomwiseNetwork


class SchNetInteraction(nn.Module):
    """h_i + f2out(sum_j in2f(h_j) o filter(g_ij) f_c(r_ij)), the interaction block with its residual.

    Args:
        features: F.
        filters: width of the convolution.
        activation: a key of `radial_networks.ACTIVATIONS`.
    """

    features: int
    filters: int
    activation: str

    def setup(self):
        self.in2f = nn.Dense(self.filters, use_bias=False, kernel_init=glorot)
        self.filter = MLP((self.filters, self.filters), self.activation)
        self.f2out = MLP((self.features, self.features), self.activation)

    def share(self, h: Array) -> Array:
        """Return what an atom with features h (n, F) shows its neighbours, (n, filters)."""
        return self.in2f(h)

    def __call__(self, h: Array, theirs: Array, g: Array, fc: Array) -> Array:
        """Return the new features (n, F).

        Args:
            h: (n, F).
            theirs: (n, M, filters), what `share` gives of the neighbours.
            g: radial functions (n, M, K).
            fc: cutoff function (n, M).
        """
        return h + self.f2out(jnp.sum(theirs * (self.filter(g) * fc[..., None]), axis=1))

    def everything(self, h: Array, g: Array, fc: Array) -> Array:
        return self(h, self.share(h)[:, None], g, fc)


@dataclass(frozen=True)
class SchNet(AtomwiseNetwork):
    """h_i <- h_i + f2out(sum_j in2f(h_j) o W(r_ij)), n_interactions times, from the embedding of the species.

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), as in schnetpack 2: W = filter(g(r)) f_c(r), `filter` and `f2out`
    two dense layers with `activation` between them, in2f a matrix; o multiplies elements. The energy: see
    `AtomwiseNetwork`. Filters are made of invariants, so that nothing distinguishes a structure from its mirror image.

    Parameters: embedding (S, F); radial, see `radial_networks.radial`; interactions, a tuple with one entry per step
    (one in all if shared) of in2f {kernel (F, filters)}, filter and f2out {dense0, dense1: {kernel (in, out), bias
    (out,)}}; readout {dense0, ...}; offset (S,) eV.

    Args:
        n_filters: width of the convolution; None takes n_features.
    """

    activation: str = "shifted_softplus"
    readout_activation: str = "shifted_softplus"
    n_filters: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.n_filters is not None:
            check_counts("SchNet", n_filters=self.n_filters)

    @property
    def _interaction(self) -> SchNetInteraction:
        return SchNetInteraction(self.n_features, self.n_filters or self.n_features, self.activation)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: embeddings of variance 1, Glorot weights, no biases."""
        key, *keys = jax.random.split(key, 1 + (1 if self.shared_interactions else self.n_interactions))
        shapes = ((1, self.n_features), (1, 1, self.n_radial), (1, 1))
        blocks = (initial(self._interaction, k, dtype, *shapes, method="everything") for k in keys)
        return self.start(key, dtype) | {"interactions": tuple(blocks)}

    def step(self, k: int, params: Params, graph: Graph, own: Any, theirs: Any) -> tuple[Array, Array | None]:
        """Return the features (n, F) after interaction k and what neighbours need of them; the energies at the end."""
        block = self.shared(params, "interactions", k)
        if k == 0:  # the species says all
            own = params["embedding"][graph.species]
            table = applied(self._interaction, block, params["embedding"], method="share")
            theirs = table[graph.neighbor_species]
        h = applied(self._interaction, block, own, theirs, *self.edges(params, graph))
        if k == self.n_interactions - 1:
            return self.energies(params, graph, h), None
        after = self.shared(params, "interactions", k + 1)
        return h, applied(self._interaction, after, h, method="share")
