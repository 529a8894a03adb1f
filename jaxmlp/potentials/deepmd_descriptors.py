"""Descriptors of Deep Potential models built on the environment matrix: se_e2_a, se_e2_r and se_e3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.deepmd_environment import Environment, among, environment
from jaxmlp.basis.deepmd_networks import DeepNetwork, embed
from jaxmlp.basis.deepmd_tables import Chebyshev, tabulate
from jaxmlp.basis.series import nodes
from jaxmlp.basis.species import one_hot
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params

einsum = partial(jnp.einsum, precision="highest")
Pairs = tuple[tuple[int, int], ...]
LARGEST_TABLE = 400  # polynomials; beyond, the networks are about as fast


@dataclass(frozen=True)
class Smooth:
    """What the descriptors of the smooth environment matrix share; see `basis.deepmd_environment`.

    Parameters: "davg" (S, S) and "dstd" (S, S, 2), mean of the radial column and standard deviations of the radial and
    the angular columns, for centre and neighbour species; "network", the stacked layers. With empty slots of absent
    species, "rest" (S, outputs): what they add to the sum over neighbours.

    Args:
        cutoff, inner: Å, where the switch w ends and begins.
        sel: slots for neighbours of each species.
        network: the embedding network, from one number.
        one_side: it depends on the neighbour's species only, not on the centre's.
        exclude: pairs of species (places in the potential's list) that do not see each other.
        protection: Å, added to distances in denominators.
        absent: slots of species that a larger potential had.
        table: Chebyshev series in place of the network; of the network, where the parameters hold one, see `tabulated`.
    """

    cutoff: float
    inner: float
    sel: tuple[int, ...]
    network: DeepNetwork
    one_side: bool = False
    exclude: Pairs = ()
    protection: float = 0.0
    absent: int = 0
    table: Chebyshev | None = None

    def __post_init__(self):
        name = type(self).__name__
        if not 0 <= self.inner < self.cutoff < float("inf"):
            raise ValueError(f"{name} needs 0 <= inner < cutoff in Å; got {self.inner} and {self.cutoff}.")
        if not self.sel or min(self.sel) < 0 or sum(self.sel) < 1 or self.absent < 0:
            raise ValueError(f"{name}.sel must be numbers of slots for each species; got {self.sel}.")
        if not self.protection >= 0:
            raise ValueError(f"{name}.protection must not be negative; got {self.protection}.")

    @property
    def slots(self) -> int:
        """All slots, N in the formulas."""
        return sum(self.sel) + self.absent

    @property
    def columns(self) -> int:
        """Species of neighbours that are told apart."""
        return len(self.sel)

    @property
    def networks(self) -> int:
        s = len(self.sel)
        return s if self.one_side else s * s

    def init(self, key: Array, dtype=float) -> Params:
        s = len(self.sel)
        params = {"davg": jnp.zeros((s, s), dtype), "dstd": jnp.ones((s, s, 2), dtype)}
        if self.absent:
            params["rest"] = jnp.zeros((s, self.network.outputs), dtype)
        if self.table is None:
            return params | {"network": self.network.init(key, self.networks, dtype)}
        return params | {"table": jnp.zeros((self.networks, self.table.size + 1, self.network.outputs), dtype)}

    def key(self, species: Array, neighbor_species: Array) -> Array:
        """The network of an edge."""
        return neighbor_species if self.one_side else species * len(self.sel) + neighbor_species

    def _constant(self, params: Params, s: Array) -> Array:
        """G (S, S, F) at one value s (S, S) for each pair of species."""
        size = len(self.sel)
        each = jnp.arange(size, dtype=jnp.int32)
        key = jnp.broadcast_to(self.key(each[:, None], each), (size, size))
        if self.table is None:
            out = embed(self.network, params["network"], s.reshape(-1), key.reshape(-1))
        else:
            planes = self.table.planes(s.reshape(-1, 1))[..., 0]
            out = einsum("ek,ekf->ef", planes, self._series(params)[key.reshape(-1)])
        return out.reshape(size, size, -1)

    def _padding(self, params: Params) -> tuple[Array, Array]:
        """s (S, S) and G (S, S, F) of an empty slot."""
        s = -params["davg"] / params["dstd"][..., 0]
        return s, self._constant(params, s)

    def _active(self, env: Environment, graph: Graph) -> Array:
        return env.inside & ~among(self.exclude, graph) if self.exclude else env.inside

    def _embedded(self, params: Params, graph: Graph, env: Environment, on: Array) -> Array:
        """G (n, M, F) of every edge, each through its network; arbitrary where not `on`."""
        key = jnp.where(on, self.key(graph.species[:, None], graph.neighbor_species), self.networks)
        G = embed(self.network, params["network"], env.s.reshape(-1), key.reshape(-1))
        return G.reshape(*on.shape, -1)

    def _series(self, params: Params) -> Array:
        """Coefficients (networks, size + 1, F) of the table: those given, or of the networks that are."""
        if "table" in params:
            return params["table"]
        assert self.table is not None
        layers = params["network"]
        size, dtype = self.table.size, layers[0]["w"].dtype
        values = jax.vmap(self.network, (0, None))(layers, jnp.asarray(self.table.inverse(nodes(size))[:, None], dtype))
        return einsum("kn,tnf->tkf", jnp.asarray(self.table.transform(size), dtype), values)

    def _by_network(self, params: Params, moments: Array, species: Array) -> Array:
        """sum_(t, k) C[t_i, t][k, f] moments[i, k, t, c] as (n, F, C); moments (n, K, S, C)."""
        n, k, s, c = moments.shape
        table = self._series(params)
        flat = moments.transpose(0, 2, 1, 3).reshape(n, s * k, c)
        if self.one_side:
            return einsum("qf,nqc->nfc", table.reshape(s * k, -1), flat)
        table = table.reshape(s, s * k, -1)
        out = einsum("qf,nqc->nfc", table[0], flat)
        for t in range(1, s):
            out = jnp.where((species == t)[:, None, None], einsum("qf,nqc->nfc", table[t], flat), out)
        return out

    def compress(self, params: Params, closest: float, tolerance: float) -> tuple["Smooth", Params]:
        """Return the descriptor with Chebyshev series in place of the networks; see `DeepPotential.compress`."""
        if self.table is not None:
            return self, params
        low, high = scalar_range(self, params, closest)
        table, c = tabulate(scalar_function(self.network, params["network"]), low, high, tolerance, LARGEST_TABLE)
        params = {q: v for q, v in params.items() if q != "network"} | {"table": jnp.asarray(c, params["davg"].dtype)}
        return replace(self, table=table), params

    def tabulated(self, members: Sequence[Params], closest: float) -> "Smooth":
        """Return the descriptor with series of its networks, see `Potential.tabulated`; itself where these do."""
        if any("table" in params for params in members):
            return self
        dtype = members[0]["davg"].dtype
        tolerance = max(1e-12, 0.01 * float(jnp.finfo(dtype).eps))  # of values; slopes are less exact
        with jax.enable_x64(True):
            joined = lambda *x: jnp.asarray(np.concatenate([np.asarray(y) for y in x]), np.float64)
            wide = {"network": jax.tree.map(joined, *(params["network"] for params in members))}
            if self.table is not None:
                c = np.abs(np.asarray(self._series(wide)))[:, :-1].sum(axis=0).max(axis=-1)
                if np.sum(c[-(-3 * self.table.size // 4) :]) < 10 * tolerance * np.sum(c):
                    return self
            try:
                ends = [scalar_range(self, params, closest) for params in members]
                low, high = min(end[0] for end in ends), max(end[1] for end in ends)
                low -= 1e-6 * (high - low)  # empty slots have the smallest s, where a bound would halve derivatives
                function = scalar_function(self.network, wide["network"])
                table, _ = tabulate(function, low, high, tolerance, 2 * LARGEST_TABLE // 3)
            except ValueError:
                return replace(self, table=None)
        # Room for networks that get steeper: a longer series is a new compilation.
        return replace(self, table=replace(table, size=32 * -(-3 * table.size // 64)))

    def restrict(self, params: Params, keep: np.ndarray) -> tuple["Smooth", Params]:
        """Return the descriptor for the species at `keep`; the empty slots of the others stay in the sums."""
        if list(keep) == list(range(len(self.sel))):
            return self, params
        lost = np.setdiff1d(np.arange(len(self.sel)), keep)
        place = {int(t): k for k, t in enumerate(keep)}
        new = replace(
            self,
            sel=tuple(self.sel[t] for t in keep),
            exclude=tuple((place[a], place[b]) for a, b in self.exclude if a in place and b in place),
            absent=self.absent + sum(self.sel[t] for t in lost),
        )
        out = {"davg": params["davg"][keep][:, keep], "dstd": params["dstd"][keep][:, keep]}
        for name in ("network", "table"):
            if name in params:
                out[name] = jax.tree.map(lambda p: p[self._chosen(keep)], params[name])
        if new.absent:
            slots = jnp.asarray([float(self.sel[t]) for t in lost], params["davg"].dtype)
            rest = einsum("t,stf->sf", slots, self._empty(params)[keep][:, lost]) if len(lost) else 0.0
            out["rest"] = rest + (params["rest"][keep] if "rest" in params else 0.0)
        return new, out

    def _chosen(self, keep: np.ndarray) -> np.ndarray:
        """The places of the networks of the species at `keep`."""
        return keep if self.one_side else (keep[:, None] * len(self.sel) + keep).reshape(-1)

    def _empty(self, params: Params) -> Array:
        """What an empty slot adds to the sum over neighbours, (S, S, F)."""
        raise NotImplementedError

    def _all_empty(self, params: Params, env: Environment, species: Array) -> Array:
        """What all empty slots add, (n, F)."""
        each = self._empty(params)[species]  # (n, S, F)
        out = einsum("nt,ntf->nf", env.empty, each)
        return out + params["rest"][species] if "rest" in params else out


def scalar_range(part, params: Params, closest: float) -> tuple[float, float]:
    """Return the smallest and the largest s of any pair, from the cutoff to the distance `closest` (Å)."""
    davg, dstd = np.asarray(params["davg"], float), np.asarray(params["dstd"], float)[..., 0]
    r = np.concatenate([np.linspace(closest, part.cutoff, 2000), [part.cutoff]])
    u = np.clip((r - part.inner) / (part.cutoff - part.inner), 0, 1)
    row = (1 + u**3 * (u * (15 - 6 * u) - 10)) / (r + part.protection)
    s = (row - davg[..., None]) / dstd[..., None]
    low, high = min(s.min(), 0.0), max(s.max(), 0.0)  # 0 is what an excluded neighbour of se_e2_r enters with
    return float(low), float(high)


def scalar_function(network: DeepNetwork, layers, extra: Array | None = None):
    """Return s (n,) -> values and slopes (networks, n, F) of stacked networks, or of one at each `extra`."""
    count = len(jax.tree.leaves(layers)[0]) if extra is None else len(extra)

    @jax.jit
    def both(s):
        out = []
        for k in range(count):
            mine = jax.tree.map(lambda p, k=k: p[k] if extra is None else p[0], layers)

            def one(s, k=k, mine=mine):
                x = s[:, None]
                if extra is not None:
                    x = jnp.concatenate([x, jnp.broadcast_to(extra[k], (len(s), extra.shape[1]))], axis=1)
                return network(mine, x)

            out.append(jax.jvp(one, (s,), (jnp.ones_like(s),)))
        return tuple(jnp.stack(x) for x in zip(*out))

    dtype = jax.tree.leaves(layers)[0].dtype
    return lambda s: tuple(np.asarray(x, float) for x in both(jnp.asarray(s, dtype)))


@dataclass(frozen=True)
class SeE2A(Smooth):
    """D_i = T (T_1..axis)^T / N^2, T = sum_j G(s_j) (x) R_j over all slots, R_j = (s_j, angular). (F, axis) numbers.

    Zhang et al., NeurIPS 2018, Eqs. (5) to (7); "DeepPot-SE", se_e2_a or se_a.
    """

    axis: int = 4

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.axis <= self.network.outputs:
            raise ValueError(f"SeE2A.axis must be 1 to {self.network.outputs}; got {self.axis}.")

    @property
    def size(self) -> int:
        return self.network.outputs * self.axis

    def __call__(self, params: Params, graph: Graph, total: int, removed: Pairs) -> Array:
        env = environment(self, params, graph, total, removed)
        on = self._active(env, graph)
        R = jnp.stack([jnp.where(on, x, 0.0) for x in (env.s, *env.angular)], axis=1)  # (n, 4, M)
        if self.table is None:
            T = einsum("nmf,ncm->nfc", self._embedded(params, graph, env, on), R)
        else:
            T = self._by_network(params, density(self.table, env.s, R, graph, len(self.sel)), graph.species)
        T = T.at[:, :, 0].add(self._all_empty(params, env, graph.species))
        return square(T / self.slots, self.axis)

    def _empty(self, params: Params) -> Array:
        s, G = self._padding(params)
        return s[..., None] * G


def density(table: Chebyshev, s: Array, R: Array, graph: Graph, species: int) -> Array:
    """Return sum_j T_k(s_j) R_cj by species of the neighbour, (n, K, species, C)."""
    n, c, m = R.shape
    if species > 1:
        here = one_hot(graph.neighbor_species, species, 1, R.dtype)
        R = (here[:, :, None] * R[:, None]).reshape(n, species * c, m)
    return einsum("nkm,nqm->nkq", table.planes(s), R).reshape(n, table.size + 1, species, c)


def square(T: Array, axis: int) -> Array:
    """Return T T[:axis]^T of T (n, F, 4) as (n, F axis)."""
    return einsum("nfc,ngc->nfg", T, T[:, :axis]).reshape(len(T), -1)


@dataclass(frozen=True)
class SeE2R(Smooth):
    """D_i = sum_j G(s_j) / (5 N) over all slots: F numbers of radial information only; se_e2_r or se_r."""

    @property
    def size(self) -> int:
        return self.network.outputs

    def __call__(self, params: Params, graph: Graph, total: int, removed: Pairs) -> Array:
        env = environment(self, params, graph, total, removed)
        on = self._active(env, graph)
        if self.table is None:
            G = self._embedded(params, graph, env, on)
            D = einsum("nmf,nm->nf", G, on.astype(G.dtype))
        else:
            R = on.astype(env.s.dtype)[:, None]
            D = self._by_network(params, density(self.table, env.s, R, graph, len(self.sel)), graph.species)[..., 0]
        D = D + self._all_empty(params, env, graph.species)
        if self.exclude:  # deepmd-kit sets s to 0 there, and sums G(0)
            hidden = env.inside & ~on
            zero = self._constant(params, jnp.zeros_like(params["davg"]))[graph.species]
            counts = jnp.sum(one_hot(graph.neighbor_species, len(self.sel), 1, D.dtype), axis=2, where=hidden[:, None])
            D = D + einsum("nt,ntf->nf", counts, zero)
        return D / (5.0 * self.slots)

    def _empty(self, params: Params) -> Array:
        return self._padding(params)[1]


@dataclass(frozen=True)
class SeE3(Smooth):
    """D_i = sum_(a <= b) sum_jk X_jk G_ab(X_jk) / (sel_a sel_b), X_jk = sum_c R_jc R_kc of the angular columns.

    j and k run over the neighbours of species a and b. F numbers; se_e3 or se_e2_t. Empty slots have X = 0 and add
    nothing. Wang et al., Nucl. Fusion 62, 126013 (2022).
    """

    @property
    def size(self) -> int:
        return self.network.outputs

    def __call__(self, params: Params, graph: Graph, total: int, removed: Pairs) -> Array:
        env = environment(self, params, graph, total, removed)
        n, m = env.s.shape
        s = len(self.sel)
        on = self._active(env, graph)
        R = jnp.stack([jnp.where(on, x, 0.0) for x in env.angular], axis=1)
        X = einsum("ncj,nck->njk", R, R)
        a, b = graph.neighbor_species[:, :, None], graph.neighbor_species[:, None]
        used = on[:, :, None] & on[:, None] & (a <= b)
        key = jnp.where(used, a * s + b, s * s).reshape(-1)
        G = embed(self.network, params["network"], X.reshape(-1), key).reshape(n, m * m, -1)
        weight = np.array([[1.0 / max(p * q, 1) for q in self.sel] for p in self.sel])
        share = jnp.asarray(weight, X.dtype)[a, b] if s > 1 else float(weight[0, 0])
        return einsum("njf,nj->nf", G, jnp.where(used, X * share, 0.0).reshape(n, m * m))

    def compress(self, params: Params, closest: float, tolerance: float):
        """Return the descriptor as it is: the range of X is the square of that of s, too long for a short series."""
        return self, params

    def tabulated(self, members: Sequence[Params], closest: float) -> "SeE3":
        """Return the descriptor as it is."""
        return self

    def _chosen(self, keep: np.ndarray) -> np.ndarray:
        low, high = np.minimum(keep[:, None], keep), np.maximum(keep[:, None], keep)
        return (low * len(self.sel) + high).reshape(-1)

    def _empty(self, params: Params) -> Array:
        return jnp.zeros((len(self.sel), len(self.sel), self.network.outputs), params["davg"].dtype)
