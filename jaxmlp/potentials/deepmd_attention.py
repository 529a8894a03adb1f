"""The descriptor of DPA-1: one embedding network for all species, told apart by type vectors, and attention."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.deepmd_environment import Environment, among, environment
from jaxmlp.basis.deepmd_networks import DeepNetwork, embed
from jaxmlp.basis.deepmd_tables import Chebyshev, tabulate
from jaxmlp.basis.edges import direction
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd_descriptors import (
    LARGEST_TABLE,
    Pairs,
    density,
    einsum,
    scalar_function,
    scalar_range,
    square,
)

SHIFT = 20.0  # logits of neighbours at the cutoff, and of empty slots, are minus this
TINY = 1e-12  # shortest vector that is normalised


@dataclass(frozen=True)
class SeAtten:
    """D_i = T (T_1..axis)^T / N^2, T = sum_j G_j (x) R_j, with type vectors T_t in G_j and attention between the G_j.

    Zhang et al., npj Comput. Mater. 10, 94 (2024); "DPA-1", dpa1 or se_atten (se_atten_v2 is strip and smooth).
    concat: G_j = net([s_j, T_tj, T_ti]). strip: G_j = g(s_j) (1 + h), h = net([T_tj, T_ti]), h w_j if smooth. With
    one_side neither depends on T_ti. Attention layers, each with all slots as queries j and keys k:

        [Q K V] = G W_in + b_in, rows divided by their lengths if `normalize`;  L = Q K^T times `scale`;
        smooth: L <- (L + 20) w_j w_k - 20, A = softmax_k(L) w_j w_k;  else A = softmax_k(L) over neighbours;
        A <- A u_j . u_k if `dotr`, u_j the direction of neighbour j;
        G <- LayerNorm(G + A V W_out + b_out) over the F channels.

    With smooth False and attention the energy has a step where a neighbour crosses the cutoff, by definition.

    Parameters: "davg" (S, 1), "dstd" (S, 1, 2); "types" (S, X), the type vectors; "network"; strip: "strip"; attention:
    a tuple of {"in": {"w", "b"}, "out": {"w", "b"}, "norm": {"w", "b"}}.

    Args:
        cutoff, inner: Å.
        sel: slots for all neighbours together, N in the formulas.
        species: number of species.
        network: from 1 number (strip) or with type vectors (concat).
        strip: None for concat, else the network of the type vectors.
        width: of the type vectors, X.
        axis: rows of T in the second factor.
        attention: layers.
        hidden: width of Q, K and V.
        normalize, dotr, smooth: see above.
        scale: of the logits; 0 stands for (hidden)^-1/2.
        epsilon: added to the variance in LayerNorm.
        append: D_i ends with T_ti.
        one_side, exclude, protection, table: as in `deepmd_descriptors.Smooth`.
    """

    cutoff: float
    inner: float
    sel: int
    species: int
    network: DeepNetwork
    strip: DeepNetwork | None
    width: int
    axis: int = 4
    attention: int = 0
    hidden: int = 128
    normalize: bool = True
    dotr: bool = True
    smooth: bool = True
    scale: float = 0.0
    epsilon: float = 1e-5
    append: bool = True
    one_side: bool = False
    exclude: Pairs = ()
    protection: float = 0.0
    table: Chebyshev | None = None

    def __post_init__(self):
        if not 0 <= self.inner < self.cutoff < float("inf") or self.sel < 1 or self.species < 1 or self.width < 1:
            raise ValueError(
                f"SeAtten needs 0 <= inner < cutoff in Å and positive sel, species and width; got {self.inner}, "
                f"{self.cutoff}, {self.sel}, {self.species} and {self.width}."
            )
        vectors = self.width * (1 if self.one_side else 2)
        first, types = self.network.sizes[0], self.strip.sizes[0] if self.strip else vectors
        if first != (1 if self.strip else 1 + vectors) or types != vectors:
            raise ValueError(f"SeAtten: networks of type vectors of width {self.width} cannot have {first} inputs.")
        if self.strip and self.strip.outputs != self.network.outputs:
            raise ValueError("SeAtten: both networks must have the same number of outputs.")
        if not 1 <= self.axis <= self.network.outputs or self.attention < 0 or self.hidden < 1:
            raise ValueError(f"SeAtten.axis must be 1 to {self.network.outputs}; got {self.axis}.")

    @property
    def size(self) -> int:
        return self.network.outputs * self.axis + (self.width if self.append else 0)

    @property
    def slots(self) -> int:
        return self.sel

    @property
    def columns(self) -> int:
        return 1

    @property
    def _pairs(self) -> int:
        return self.species if self.one_side else self.species**2

    @property
    def _switched(self) -> bool:
        """The type vectors act on g(s) by a factor 1 + w h."""
        return self.strip is not None and self.smooth

    def init(self, key: Array, dtype=float) -> Params:
        s, f, h = self.species, self.network.outputs, self.hidden
        keys = jax.random.split(key, 3 + 2 * self.attention)
        params = {
            "davg": jnp.zeros((s, 1), dtype),
            "dstd": jnp.ones((s, 1, 2), dtype),
            "types": jax.random.normal(keys[0], (s, self.width), dtype),
        }
        if self.table is None:
            params["network"] = self.network.init(keys[1], 1, dtype)
        else:
            count = 1 if self._switched else self._pairs
            params["table"] = jnp.zeros((count, self.table.size + 1, f), dtype)
        if self.strip and (self.table is None or self._switched):
            params["strip"] = self.strip.init(keys[2], 1, dtype)
        if self.attention:
            draw = lambda key, a, b: {
                "w": jax.random.normal(key, (a, b), dtype) * (a + b) ** -0.5,
                "b": jnp.zeros(b, dtype),
            }
            params["attention"] = tuple(
                {
                    "in": draw(keys[3 + 2 * k], f, 3 * h),
                    "out": draw(keys[4 + 2 * k], h, f),
                    "norm": {"w": jnp.ones(f, dtype), "b": jnp.zeros(f, dtype)},
                }
                for k in range(self.attention)
            )
        return params

    def __call__(self, params: Params, graph: Graph, total: int, removed: Pairs) -> Array:
        env = environment(self, params, graph, total, removed)
        on = env.inside & ~among(self.exclude, graph) if self.exclude else env.inside
        R = jnp.stack([jnp.where(on, x, 0.0) for x in (env.s, *env.angular)], axis=1)
        if self.table is None:
            G = self._attended(params, self._edges(params, env, graph), env, on, graph)
            T = einsum("nmf,ncm->nfc", G, R)
        else:
            T = self._tabulated(params, env, R, graph)
        T = T.at[:, :, 0].add(env.empty * self._empty(params)[graph.species])
        D = square(T / self.sel, self.axis)
        return jnp.concatenate([D, params["types"][graph.species]], axis=1) if self.append else D

    def _type_inputs(self, params: Params) -> Array:
        """[T_tj, T_ti] for all pairs, (S S, 2 X), or T_tj (S, X)."""
        types = params["types"]
        s = self.species
        if self.one_side:
            return types
        return jnp.concatenate([jnp.tile(types, (s, 1)), jnp.repeat(types, s, axis=0)], axis=1)

    def _pair(self, graph: Graph) -> Array:
        """The place in `_type_inputs` of every edge, (n, M)."""
        return graph.neighbor_species + (0 if self.one_side else self.species * graph.species[:, None])

    def _edges(self, params: Params, env: Environment, graph: Graph) -> Array:
        """G before attention, (n, M, F)."""
        n, m = env.s.shape
        inputs, pair = self._type_inputs(params), self._pair(graph)
        key = jnp.zeros(n * m, jnp.int32)
        if self.strip is None:
            return embed(self.network, params["network"], env.s.reshape(-1), key, inputs[pair.reshape(-1)]).reshape(
                n, m, -1
            )
        G = embed(self.network, params["network"], env.s.reshape(-1), key).reshape(n, m, -1)
        h = self._strip(params, inputs)[pair]
        return G * (1.0 + (h * env.switch[..., None] if self.smooth else h))

    def _strip(self, params: Params, inputs: Array) -> Array:
        return self.strip(jax.tree.map(lambda p: p[0], params["strip"]), inputs)

    def _attended(self, params: Params, G: Array, env: Environment, on: Array, graph: Graph) -> Array:
        """G (n, M, F) after the attention layers."""
        if not self.attention:
            return G
        u = direction(*graph.planes)
        size = jnp.sqrt(sum(x * x for x in (jnp.where(on, a, 1.0) for a in env.angular)))
        u = jnp.stack([a * jnp.where(on, jnp.minimum(size / TINY, 1.0), 0.0) for a in u], axis=1)
        angular = einsum("ncj,nck->njk", u, u) if self.dotr else 1.0
        w = jnp.where(on, env.switch, 0.0)
        both = w[:, :, None] * w[:, None] if self.smooth else None
        seen = jnp.sum(on, axis=1).astype(w.dtype)
        for layer in params["attention"]:
            Q, K, V = jnp.split(einsum("nmf,fh->nmh", G, layer["in"]["w"]) + layer["in"]["b"], 3, axis=2)
            if self.normalize:
                Q, K, V = (
                    x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=2, keepdims=True), TINY**2)) for x in (Q, K, V)
                )
            L = einsum("njh,nkh->njk", Q, K) * (self.scale or self.hidden**-0.5)
            A = self._weights(L, both, on, seen)
            A = A * angular if self.dotr else A
            out = einsum("njk,nkh->njh", A, V)
            G = G + einsum("njh,hf->njf", out, layer["out"]["w"]) + layer["out"]["b"]
            mean = jnp.mean(G, axis=2, keepdims=True)
            variance = jnp.mean((G - mean) ** 2, axis=2, keepdims=True)
            G = (G - mean) * lax.rsqrt(variance + self.epsilon) * layer["norm"]["w"] + layer["norm"]["b"]
        return G

    def _weights(self, L: Array, both: Array | None, on: Array, seen: Array) -> Array:
        """Attention weights (n, M, M): the softmax runs over all slots of the original code, empty ones too."""
        if both is not None:
            L = (L + SHIFT) * both - SHIFT
        top = lax.stop_gradient(jnp.max(jnp.where(on[:, None], L, -SHIFT), axis=2, keepdims=True))
        e = jnp.where(on[:, None], jnp.exp(jnp.where(on[:, None], L - top, 0.0)), 0.0)
        total = jnp.sum(e, axis=2, keepdims=True)
        if both is not None:
            total = total + jnp.maximum(self.sel - seen, 0.0)[:, None, None] * jnp.exp(-SHIFT - top)
            return e / total * both
        return e / jnp.where(total > 0, total, 1.0)

    def _empty(self, params: Params) -> Array:
        """s G(s) of an empty slot, (S, F); 0 with the default statistics, whose mean is 0."""
        s = -params["davg"][:, 0] / params["dstd"][:, 0, 0]
        if self.attention:
            return jnp.zeros((self.species, self.network.outputs), s.dtype)
        if self.table is not None:
            planes = self.table.planes(s[:, None])[..., 0]
            c = params["table"]
            c = jnp.broadcast_to(c[:1], (self.species, *c.shape[1:])) if len(c) == 1 else c[self._own()]
            return s[:, None] * einsum("sk,skf->sf", planes, c)
        extra = None if self.strip else self._type_inputs(params)[self._own()]
        G = embed(self.network, params["network"], s, jnp.zeros(self.species, jnp.int32), extra)
        if self.strip and not self.smooth:
            G = G * (1.0 + self._strip(params, self._type_inputs(params)[self._own()]))
        return s[:, None] * G

    def _own(self) -> np.ndarray:
        """The pairs of a species with itself: where a mean is not 0 there is one species only, or no type in G."""
        each = np.arange(self.species)
        return each if self.one_side else each * (self.species + 1)

    def _tabulated(self, params: Params, env: Environment, R: Array, graph: Graph) -> Array:
        s, table = self.species, params["table"]
        sums = density(self.table, env.s, R, graph, s)  # (n, K, S, 4)
        if self._switched:
            h = self._strip(params, self._type_inputs(params))
            h = h[None] if self.one_side else h.reshape(s, s, -1)[graph.species]
            T = einsum("kf,nkc->nfc", table[0], jnp.sum(sums, axis=2))
            near = einsum("kf,nktc->ntfc", table[0], density(self.table, env.s, R * env.switch[:, None], graph, s))
            return T + jnp.sum(h[..., None] * near, axis=1)
        flat = sums.transpose(0, 2, 1, 3).reshape(len(sums), -1, 4)
        if self.one_side:
            return einsum("qf,nqc->nfc", table.reshape(flat.shape[1], -1), flat)
        table = table.reshape(s, flat.shape[1], -1)
        out = einsum("qf,nqc->nfc", table[0], flat)
        for t in range(1, s):
            mine = (graph.species == t)[:, None, None]
            out = jnp.where(mine, einsum("qf,nqc->nfc", table[t], flat), out)
        return out

    def compress(self, params: Params, closest: float, tolerance: float) -> tuple["SeAtten", Params]:
        """Return the descriptor with Chebyshev series in place of the network of s; see `DeepPotential.compress`."""
        if self.table is not None:
            return self, params
        if self.attention:
            raise ValueError("attention mixes the neighbours: a model with attention layers cannot be compressed.")
        low, high = scalar_range(self, params, closest)
        inputs = self._type_inputs(params)
        function = scalar_function(self.network, params["network"], None if self.strip else inputs)
        table, c = tabulate(function, low, high, tolerance, LARGEST_TABLE)
        left = {q: v for q, v in params.items() if q != "network"}
        if self.strip and not self.smooth:
            c = c * (1.0 + np.asarray(self._strip(params, inputs), float)[:, None])
            del left["strip"]
        return replace(self, table=table), left | {"table": jnp.asarray(c, params["davg"].dtype)}

    def restrict(self, params: Params, keep: np.ndarray) -> tuple["SeAtten", Params]:
        """Return the descriptor for the species at `keep`: empty slots belong to none."""
        if list(keep) == list(range(self.species)):
            return self, params
        place = {int(t): k for k, t in enumerate(keep)}
        exclude = tuple((place[a], place[b]) for a, b in self.exclude if a in place and b in place)
        out = params | {q: params[q][keep] for q in ("davg", "dstd", "types")}
        if "table" in params and not self._switched:
            pairs = keep if self.one_side else (keep[:, None] * self.species + keep).reshape(-1)
            out["table"] = params["table"][pairs]
        return replace(self, species=len(keep), exclude=exclude), out
