"""DimeNet++: messages live on directed edges and hear of those that reach their source, at which angle."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.basis.radial_bessel import polynomial_envelope
from jaxmlp.basis.radial_networks import ACTIVATIONS, applied, check_choices, check_counts, check_cutoff, initial
from jaxmlp.basis.species import check_species, subset
from jaxmlp.basis.spherical_bessel import spherical_bessel, zeros_and_norms
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params
from jaxmlp.potentials.dimenet_blocks import DirectionalInteraction, EdgeEmbedding, EdgeReadout


@dataclass(frozen=True)
class DimeNetPlusPlus(MessagePassing):
    """E_i = sum over blocks of out(sum_j rbf(r_ij) o m_ji) + offset[t_i], m_ji (F,) the message from j to i.

    Gasteiger, Giri, Margraf and Günnemann, arXiv:2011.14115, with the bases of Gasteiger, Groß and Günnemann, ICLR 2020
    (arXiv:2003.03123), as in PyTorch Geometric; the networks are in `dimenet_blocks`. With x = r/rc and
    env(x) = 1/x + ..., `polynomial_envelope` / x with p = envelope_exponent + 1,

        rbf_n(r) = env(x) sin(f_n x)
        sbf_ln(kj, ji) = env(x_kj) N_ln j_l(z_ln x_kj) sqrt((2l+1) / 4 pi) P_l(cos theta),

    theta between the vectors i -> j and j -> k. A message m_ji has no factor that vanishes at the cutoff, but each use
    of it has, rbf or sbf, so that E ends smoothly there.

    Interactions sum over the edges k -> j, k not i in the same image. By the addition theorem,

        sum_k P_l(cos theta) Q_kj = 4 pi / (2l+1) sum_m Y_lm(u_ij) sum_k Y_lm(u_jk) Q_kj,

    the sum over all k is made once for the atom j, and the term k = i, with P_l(-1) = (-1)^l, is taken off: the work
    grows with the number of edges, not of triplets, and no angle is computed.

    Parameters: embedding (S, F); freq (n_radial,); edges, outputs (a tuple of n_blocks + 1) and interactions (of
    n_blocks): see `dimenet_blocks`; offset (S,) eV.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
        cutoff: Å.
        n_features: F.
        n_blocks: interactions.
        n_interaction, n_basis: widths inside the interactions, of messages and of the basis functions.
        n_output: width of the output networks.
        n_spherical: degrees l = 0 ... n_spherical - 1.
        n_radial: radial functions.
        envelope_exponent: p - 1; for any of them E has two continuous derivatives at the cutoff.
        n_before, n_after: residual layers before and after the skip connection of an interaction.
        n_output_layers: hidden layers of the output networks.
        activation: a key of `radial_networks.ACTIVATIONS`.
        single_constants: z_ln and N_ln are float32 numbers, as in the original code.
    """

    species: tuple[int, ...]
    cutoff: float = 5.0
    n_features: int = 128
    n_blocks: int = 4
    n_interaction: int = 64
    n_basis: int = 8
    n_output: int = 256
    n_spherical: int = 7
    n_radial: int = 6
    envelope_exponent: int = 5
    n_before: int = 1
    n_after: int = 2
    n_output_layers: int = 3
    activation: str = "silu"
    single_constants: bool = False

    block: ClassVar[int] = 4
    constants: ClassVar[tuple[str, ...]] = ("offset",)
    atomic_energies: ClassVar[str] = "offset"

    def __post_init__(self):
        name = "DimeNetPlusPlus"
        check_species(name, self.species)
        check_cutoff(name, self.cutoff)
        check_choices(name, activation=(self.activation, ACTIVATIONS))
        counts = ("n_features", "n_interaction", "n_basis", "n_output", "n_spherical", "n_radial", "n_blocks")
        check_counts(name, **{q: getattr(self, q) for q in counts})
        check_counts(name, 0, **{q: getattr(self, q) for q in ("n_before", "n_after", "n_output_layers")})
        check_counts(name, 2, envelope_exponent=self.envelope_exponent)

    @property
    def steps(self) -> int:
        return self.n_blocks + 1

    @property
    def _embedding(self) -> EdgeEmbedding:
        return EdgeEmbedding(self.n_features, self.activation)

    @property
    def _output(self) -> EdgeReadout:
        return EdgeReadout(self.n_features, self.n_output, self.n_output_layers, self.activation)

    @property
    def _interaction(self) -> DirectionalInteraction:
        widths = (self.n_features, self.n_interaction, self.n_basis)
        return DirectionalInteraction(*widths, self.n_before, self.n_after, self.activation)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: embeddings of variance 1, Glorot weights, no biases, f_n = n pi."""
        f, n, l = self.n_features, self.n_radial, self.n_spherical
        key, embedding, edges = jax.random.split(key, 3)
        outputs = jax.random.split(key, 2 * self.n_blocks + 1)
        blocks, outputs = outputs[: self.n_blocks], outputs[self.n_blocks :]
        ones, s = (1, 1), len(self.species)
        shapes = (*ones, f), (*ones, n), (*ones, l, n), (*ones, l * l)
        table = jax.random.uniform(embedding, (s, f), dtype, -math.sqrt(3.0), math.sqrt(3.0))
        none = jnp.zeros(1, jnp.int32)
        first = self._embedding.init(
            edges, jnp.zeros((s, f), jnp.float32), none, none[None], jnp.zeros((*ones, n), jnp.float32)
        )["params"]
        return {
            "embedding": table,
            "freq": jnp.arange(1, n + 1, dtype=dtype) * math.pi,
            "edges": jax.tree.map(lambda x: x.astype(dtype), first),
            "outputs": tuple(initial(self._output, k, dtype, (*ones, f), (*ones, n)) for k in outputs),
            "interactions": tuple(initial(self._interaction, k, dtype, *shapes, method="everything") for k in blocks),
            "offset": jnp.zeros(s, dtype),
        }

    def step(self, k: int, params: Params, graph: Graph, own: Any, theirs: Any) -> tuple[Any, Any]:
        """Return (messages to the atom (n, M, F), energy so far (n,)) after block k and what the next one needs."""
        if graph.back is None:
            raise ValueError("DimeNetPlusPlus needs a graph that knows the slots of reversed edges, `Graph.back`.")
        r, u = length(*graph.planes), direction(*graph.planes)
        x = r * (1.0 / self.cutoff)
        env = (polynomial_envelope(x, self.envelope_exponent + 1) / x)[..., None]  # 0 beyond the cutoff
        rbf = env * jnp.sin(x[..., None] * params["freq"])
        Y = [jnp.broadcast_to(y, r.shape).astype(r.dtype) for y in real_harmonics(*u, self.n_spherical - 1)]
        Y = jnp.stack(Y, axis=-1)  # (n, M, L^2)
        if k == 0:
            edges = graph.species, graph.neighbor_species, rbf
            m = applied(self._embedding, params["edges"], params["embedding"], *edges)
            energy = params["offset"][graph.species]
        else:
            m, energy = own
            sums, reverse = theirs
            slot = jnp.maximum(graph.back, 0)[:, :, None, None]
            reverse = jnp.take_along_axis(reverse, slot, axis=2)[:, :, 0]
            heard = jnp.einsum("nms,nmsd->nmd", Y, sums) - reverse
            block = params["interactions"][k - 1]
            m = applied(self._interaction, block, m, heard, method="hear")
        energy = energy + applied(self._output, params["outputs"][k], m, rbf)
        if k == self.n_blocks:
            return energy, None
        block = params["interactions"][k]
        return (m, energy), applied(self._interaction, block, m, rbf, self._spherical(x, env), Y, method="tell")

    def _spherical(self, x: Array, env: Array) -> Array:
        """env N_ln j_l(z_ln x) sqrt(4 pi / (2l+1)), the factors of Y_lm Y_lm in sbf, (n, M, l, n)."""
        zeros, norms = zeros_and_norms(self.n_spherical, self.n_radial, self.single_constants)
        out = []
        for l in range(self.n_spherical):
            z, scale = (jnp.asarray(c, x.dtype) for c in (zeros[l], norms[l] * math.sqrt(4 * math.pi / (2 * l + 1))))
            out.append(env * scale * spherical_bessel(l, x[..., None] * z))
        return jnp.stack(out, axis=-2)

    def linear_parameters(self, params: Params) -> Params:
        """Return the offsets and the last layers of the output networks."""
        last = tuple(jax.tree.map(lambda _: None, output) | {"last": output["last"]} for output in params["outputs"])
        return jax.tree.map(lambda _: None, params) | {"offset": params["offset"], "outputs": last}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["DimeNetPlusPlus", Params]:
        """Return the potential and parameters for some of its species: rows of the embedding and of the offsets."""
        keep = np.array(subset(self.species, species))
        rows = {name: params[name][keep] for name in ("embedding", "offset")}
        return replace(self, species=tuple(species)), params | rows
