"""Allegro: features of pairs of atoms that rotate with the system, without messages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.irreps import CONVENTIONS, Irreps, coupling, format_irreps, harmonics, label, parse_irreps, products
from jaxmlp.basis.nequip_edges import check_cutoffs, check_envelopes, check_neighbors, edges, repulsion
from jaxmlp.basis.radial_bessel import radial_bessel
from jaxmlp.basis.scalar_network import ACTIVATIONS, init_network, scalar_network
from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential

VANISHING = ("silu", "mish", "gelu", "ssp", "tanh", "identity")  # activations that are 0 at 0, as the cutoff requires


def tracked_irreps(l_max: int, parity: bool = True) -> str:
    """Return `tracked` of an Allegro: every l up to l_max with both parities, or with (-1)^l."""
    return format_irreps(tuple((1, l, p) for l in range(l_max + 1) for p in ((1, -1) if parity else ((-1) ** l,))))


class Product(NamedTuple):
    """The tensor product of one layer.

    Args:
        inputs, outputs: irreps of the edge's tensors before and after.
        paths: places in inputs, in the harmonics and in outputs of each path.
    """

    inputs: Irreps
    outputs: Irreps
    paths: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Allegro(Potential):
    """E_i = s_t sum_j readout(x_ij^0, ..., x_ij^K) / sqrt(2 N) + d_t, with scalars x and tensors t of each edge:

        Gamma_i[lm, u] = sum_j w_ij[l, u] Y_lm(r_ij) / sqrt(N)
        t_ij <- sum_paths P[u] t_ij[l1, u] (x) Gamma_i[l2, u]                  (path: l1, l2 to l3)
        x_ij^(k+1), w_ij = latent_k(x_ij^0, ..., x_ij^k, scalars of t_ij)

    They start from s_ij = network([C(t_i), N(t_j)] B(r_ij)), where B are the Bessel functions of NequIP times
    rc^2 / 2 pi, or splines of each pair of species: t_ij = V(s_ij)[l, u] Y_lm, and x^0, w linear in s_ij. Networks have
    no biases, so that everything vanishes at the cutoff with B. Musaelian et al., Nat. Commun. 14, 579 (2023), as in
    the code nequip-allegro 0.8, where scalars are concatenated and not added to the ones before.

    Args:
        cutoff: Å.
        l_max: of the harmonics Y.
        tracked: irreps that tensors may have, see `tracked_irreps`; what no path needs or reaches is left out.
        layers: K.
        features: number of channels of x, and of t.
        embedding: number of channels of B and the embeddings.
        bessels, envelope: number and exponent of the Bessel functions.
        splines: number and span of the splines that replace them; None for Bessel functions.
        scalar_embed, latent, readout: widths of the hidden layers of the networks.
        activations: of these three; None for none (then without the factors sqrt(2) that otherwise go with it).
        neighbors: N, their average number: one, or for each species of atom i.
        coupled: P differs between channels.
        individual: w differs between l.
        forward: networks are normalised by their inputs, else by their outputs; see `scalar_network`.
        cutoffs: rc_ij, Å, for each species of i and of j; None where all are `cutoff`.
        zbl, zbl_envelope: see NequIP.
        convention: of the signs of couplings, see `basis.irreps.coupling`.
    """

    species: tuple[int, ...]
    cutoff: float
    l_max: int = 1
    tracked: str = tracked_irreps(1)
    layers: int = 2
    features: tuple[int, int] = (64, 16)
    embedding: int = 64
    bessels: int = 8
    envelope: int = 6
    splines: tuple[int, int] | None = None
    scalar_embed: tuple[int, ...] = (64,)
    latent: tuple[int, ...] = (64,)
    readout: tuple[int, ...] = (32,)
    activations: tuple[str | None, str | None, str | None] = ("silu", "silu", "silu")
    neighbors: tuple[float, ...] = (1.0,)
    coupled: bool = True
    individual: bool = True
    forward: bool = True
    cutoffs: tuple[tuple[float, ...], ...] | None = None
    zbl: float | None = None
    zbl_envelope: int = 6
    convention: str = "0.6.0"

    block: ClassVar[int] = 16
    constants: ClassVar[tuple[str, ...]] = ("scale", "shift")
    atomic_energies: ClassVar[str] = "shift"

    def __post_init__(self):
        check_species("Allegro", self.species)
        check_cutoffs("Allegro", self.species, self.cutoff, self.cutoffs)
        check_neighbors("Allegro", self.species, self.neighbors)
        if not 0 <= self.l_max <= 11 or self.layers < 1 or min(self.features) < 1 or self.bessels < 1:
            raise ValueError(
                "Allegro needs l_max from 0 to 11 and layers, features and bessels above 0; got "
                f"{self.l_max}, {self.layers}, {self.features} and {self.bessels}."
            )
        check_envelopes("Allegro", self.envelope, self.zbl_envelope)
        if self.splines is None and self.embedding % 2:
            raise ValueError(f"Allegro.embedding must be even, half for each atom; got {self.embedding}.")
        if self.splines is not None and not 0 <= self.splines[1] <= self.splines[0]:
            raise ValueError(f"Allegro.splines are their number and span, not larger; got {self.splines}.")
        if any(width < 1 for width in (self.embedding, *self.scalar_embed, *self.latent, *self.readout)):
            raise ValueError("Allegro.embedding, scalar_embed, latent and readout are widths above 0.")
        if unknown := [name for name in self.activations if name not in (None, *VANISHING)]:
            raise ValueError(f"Allegro knows the activations {', '.join(VANISHING)}; got {unknown}.")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"Allegro.convention must be one of {CONVENTIONS}; got {self.convention!r}.")
        tracked = parse_irreps(self.tracked)
        if tracked[:1] != ((1, 0, 1),) or any(mul != 1 for mul, *_ in tracked) or len(set(tracked)) < len(tracked):
            raise ValueError(f"Allegro.tracked must hold irreps once, 0e first; got {self.tracked!r}.")

    @property
    def weighted(self) -> int:
        """Number of weights w of an edge."""
        return self.features[1] * (self.l_max + 1 if self.individual else 1)

    def sizes(self) -> dict[str, list[tuple[int, ...]]]:
        """Return the widths of all layers of the networks, for each kind of network one or more."""
        x, u = self.features
        e, last = self.embedding, self.layers - 1
        return {
            "basis": [(self.bessels, e)] if self.splines is None else [],
            "scalar_embed": [(e, *self.scalar_embed, x)],
            "tensor_embed": [(x, u * (self.l_max + 1))],
            "first": [(x, x + self.weighted)],
            "latent": [
                ((k + 1) * x + u, *self.latent, x + (self.weighted if k < last else 0)) for k in range(self.layers)
            ],
            "readout": [((self.layers + 1) * x, *self.readout, 1)],
        }

    def init(self, key: Array, dtype=float) -> Params:
        """Draw parameters: weights of unit variance, which the factors in the networks scale.

        A matrix for each layer of the networks "scalar_embed", "tensor_embed" (V), "first" (x^0 and w), "latent" (one
        network for each k) and "readout"; the columns of w and V are those of l = 0, then of l = 1, ... "paths": P
        (paths, u) of each layer, or (paths, 1). "scale", "shift": (S,) eV. For Bessel functions, "frequencies": w (K,),
        "basis": their matrix, "center", "neighbor": (S, embedding / 2); for splines, "splines": (S, S, embedding,
        number).
        """
        s, u = len(self.species), self.features[1] if self.coupled else 1
        key_networks, key_paths, a, b = jax.random.split(key, 4)
        networks = {}
        for n, (name, sizes) in enumerate(self.sizes().items()):
            keys = jax.random.split(jax.random.fold_in(key_networks, n), max(len(sizes), 1))
            networks[name] = tuple(init_network(k, size, dtype) for k, size in zip(keys, sizes))
        params: dict[str, Any] = {
            name: networks[name][0] for name in ("scalar_embed", "tensor_embed", "first", "readout")
        }
        params |= {"latent": networks["latent"], "scale": jnp.ones(s, dtype), "shift": jnp.zeros(s, dtype)}
        keys = jax.random.split(key_paths, self.layers)
        params["paths"] = tuple(
            jax.random.normal(k, (len(product.paths), u), dtype) for k, product in zip(keys, plan(self))
        )
        if self.splines is not None:
            number, span = self.splines
            shape = (s, s, self.embedding, number)
            return params | {"splines": jax.random.normal(a, shape, dtype) / math.sqrt(max(span, 1))}
        half = (s, self.embedding // 2)
        return params | {
            "frequencies": jnp.arange(1, self.bessels + 1, dtype=dtype),
            "basis": networks["basis"][0],
            "center": jax.random.normal(a, half, dtype),
            "neighbor": jax.random.normal(b, half, dtype),
        }

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        graph = graph.within(self.cutoff)
        r, x, reach, unit = edges(graph, self.cutoff, self.cutoffs)
        Y = [jnp.stack(planes, axis=-1) for planes in harmonics(*unit, self.l_max)]  # (n, M, 2l + 1) each
        norm = jnp.asarray(1.0 / np.sqrt(self.neighbors), r.dtype)
        norm = norm[graph.species] if len(self.neighbors) > 1 else jnp.broadcast_to(norm, graph.species.shape)
        s = self._network(0, self._pairs(params, graph, r, x, reach), params["scalar_embed"])
        weights = self._by_degree(scalar_network(s, params["tensor_embed"], forward=self.forward), True)
        t = {label(l, (-1) ** l): w[:, :, None] * y[..., None] for l, (w, y) in enumerate(zip(weights, Y))}
        count = self.features[0]
        projection = scalar_network(s, params["first"])
        scalars, w = [projection[..., :count]], projection[..., count:]
        for k, product in enumerate(plan(self)):
            parts = zip(self._by_degree(w, self.individual), Y)
            gamma = [y.swapaxes(1, 2) @ part * norm[:, None, None] for part, y in parts]
            t = _contract(t, gamma, product, params["paths"][k], self.convention)
            latent = self._network(1, jnp.concatenate([*scalars, t["0e"][:, :, 0]], axis=-1), params["latent"][k])
            scalars, w = [*scalars, latent[..., :count]], latent[..., count:]
        pairs = self._network(2, jnp.concatenate(scalars, axis=-1), params["readout"])[..., 0]
        e = jnp.sum(pairs, axis=1) * norm / math.sqrt(2.0)
        e = params["scale"][graph.species] * e + params["shift"][graph.species]
        if self.zbl is not None:
            e = e + repulsion(graph, self.species, r, x, self.zbl, self.zbl_envelope)
        return e

    def _network(self, k: int, x: Array, weights: Sequence[Array]) -> Array:
        """A network with the k-th of `activations`."""
        name = self.activations[k]
        gain = 1.0 if name is None else math.sqrt(2.0)
        return scalar_network(x, weights, ACTIVATIONS[name or "identity"], gain, self.forward)

    def _by_degree(self, w: Array, individual: bool) -> list[Array]:
        """The weights (n, M, u) of each l."""
        u = self.features[1]
        return [w[..., l * u : (l + 1) * u] if individual else w for l in range(self.l_max + 1)]

    def _pairs(self, params: Params, graph: Graph, r: Array, x: Array, reach) -> Array:
        """The radial functions with the species of both atoms, (n, M, embedding)."""
        if self.splines is not None:
            number, span = self.splines
            width = (span + 1) / number
            start = jnp.asarray(np.arange(-span, number - span) / number, x.dtype)
            angle = (2 * math.pi / width) * (jnp.clip(x[..., None], start, start + width) - start)
            basis = 0.25 * (1.0 - jnp.cos(angle)) ** 2  # (n, M, splines)
            table = params["splines"][graph.species[:, None], graph.neighbor_species]
            return jnp.einsum("nmek,nmk->nme", table, basis)
        scale = reach / math.pi if isinstance(reach, float) else reach[..., None] / math.pi
        b = radial_bessel(r, x, math.pi * params["frequencies"], self.envelope) * scale
        b = scalar_network(b, params["basis"], forward=self.forward)
        half = self.embedding // 2
        own, theirs = params["center"][graph.species][:, None], params["neighbor"][graph.neighbor_species]
        return jnp.concatenate([own * b[..., :half], theirs * b[..., half:]], axis=-1)

    def adapted(self, params: Params, survey) -> tuple["Allegro", Params]:
        """Set the mean number of neighbours, and the scale of energies to the root mean square of the forces."""
        adapted = replace(self, neighbors=(survey.mean_neighbors(self.cutoff),))
        return adapted, params | {"scale": jnp.full_like(params["scale"], survey.force_rms)}

    def linear_parameters(self, params: Params) -> Params:
        """Return scale and shift."""
        none = jax.tree.map(lambda _: None, params)
        return none | {name: params[name] for name in ("scale", "shift")}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Allegro", Params]:
        """Return the potential and parameters for some of its species."""
        keep = subset(self.species, species)
        cutoffs = self.cutoffs and tuple(tuple(self.cutoffs[i][j] for j in keep) for i in keep)
        neighbors = tuple(self.neighbors[i] for i in keep) if len(self.neighbors) > 1 else self.neighbors
        rows = np.array(keep)
        new = {name: params[name][rows] for name in ("center", "neighbor", "scale", "shift") if name in params}
        if "splines" in params:
            new["splines"] = params["splines"][rows][:, rows]
        return replace(self, species=tuple(species), cutoffs=cutoffs, neighbors=neighbors), params | new


@cache
def plan(potential: Allegro) -> tuple[Product, ...]:
    """The tensor products of the layers, without what can neither be reached nor used."""
    Y: Irreps = tuple((1, l, (-1) ** l) for l in range(potential.l_max + 1))
    tensors = [Y]
    for k in range(potential.layers):
        allowed = parse_irreps("0e" if k == potential.layers - 1 else potential.tracked)
        reached = {irrep for _, *a in tensors[-1] for _, *b in Y for irrep in products(tuple(a), tuple(b))}
        tensors.append(tuple(block for block in allowed if block[1:] in reached))
    for k in reversed(range(potential.layers)):
        after = {block[1:] for block in tensors[k + 1]}
        tensors[k] = tuple(
            block for block in tensors[k] if any(after & set(products(block[1:], irrep[1:])) for irrep in Y)
        )
    out = []
    for before, after in pairwise(tensors):
        paths = tuple(
            (a, b, c)
            for c, to in enumerate(after)
            for a, one in enumerate(before)
            for b, two in enumerate(Y)
            if to[1:] in products(one[1:], two[1:])
        )
        out.append(Product(before, after, paths))
    return tuple(out)


def _contract(t: dict[str, Array], gamma: list[Array], product: Product, P: Array, convention: str) -> dict[str, Array]:
    """t'[l3 k, u] = sum_paths P[u] sqrt(2 l3 + 1) sum_(i j) t[l1 i, u] Gamma[l2 j, u] w(l1, l2, l3)[i, j, k].

    Gamma and P are the atom's: they become one matrix A[l1 i, l3 k, u] of it, which is applied to all its edges.
    """
    A: dict[tuple[int, int], Array] = {}
    for path, p in zip(product.paths, P):
        a, b, c = path
        l1, l3 = product.inputs[a][1], product.outputs[c][1]
        w = math.sqrt(2 * l3 + 1) * coupling(l1, b, l3, convention)
        part = jnp.einsum("nju,ijk->niku", gamma[b] * p, jnp.asarray(w, p.dtype))  # (n, 2 l1 + 1, 2 l3 + 1, u)
        A[a, c] = A[a, c] + part if (a, c) in A else part
    out: dict[str, Array] = {}
    for (a, c), matrix in A.items():
        before, after = label(*product.inputs[a][1:]), label(*product.outputs[c][1:])
        for i in range(matrix.shape[1]):
            term = t[before][:, :, i, None] * matrix[:, None, i]  # (n, M, 2 l3 + 1, u)
            out[after] = out[after] + term if after in out else term
    return out
