"""The atomic cluster expansion (ACE), in the form of pacemaker and LAMMPS' pair_style pace."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.cluster import product_slopes, products
from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.basis.radial import FAMILIES, smooth_step, splined
from jaxmlp.basis.species import by_species, check_species, one_hot, pair_table, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import LinearFunctions, Params, Potential, only
from jaxmlp.potentials.ace_embedding import EMBEDDINGS, core_pair, embed, valid_powers, zbl_pair
from jaxmlp.potentials.ace_tables import Function, feature_count, tables

INNER = ("density", "distance", "zbl")

einsum = partial(jnp.einsum, precision="highest")


@dataclass(frozen=True)
class ACEBond:
    """Radial functions of an ordered pair of species: central atom, neighbour.

    Args:
        family: ChebExpCos, ChebPow, ChebLinear or SBessel; see `basis.radial`.
        size: number of radial functions g_k.
        decay: the family's parameter lambda.
        cutoff, width: Å, the outer cutoff and what the family makes of its width.
        inner_cutoff, inner_width: Å, where radial functions start (types distance and zbl).
    """

    family: str
    size: int
    decay: float
    cutoff: float
    width: float = 0.01
    inner_cutoff: float = 0.0
    inner_width: float = 0.0


@dataclass(frozen=True)
class ACEEmbedding:
    """E = sum_p weights[p] F(rho_p; powers[p]) for one central species; core repulsion switches it off.

    Args:
        kind: FinnisSinclair or FinnisSinclairShiftedScaled.
        core_cutoff, core_width: eV, the core repulsion at which the ACE energy is off, and where it starts to go.
    """

    kind: str = "FinnisSinclair"
    weights: tuple[float, ...] = (1.0,)
    powers: tuple[float, ...] = (1.0,)
    core_cutoff: float = 100000.0
    core_width: float = 250.0


@dataclass(frozen=True)
class ACE(Potential):
    """E_i = sum_p w_p F(rho_p) f_cut(rho_core) + rho_core + E0, rho_p = sum_k c_kp B_k, functions B_k of moments A.

    Drautz, PRB 99, 014104 (2019); Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021). With g_k and h of
    `basis.radial`, and sqrt(4 pi) times the complex harmonics of Condon and Shortley:

        R_nl(r) = sum_k radial[t_i, t_j, n, l, k] g_k(r),    A_(mu n l m) = sum_(j of mu) R_nl(r_ij) Y_lm(r_ij)
        rank 1: B = sum_(j of mu) g_n(r_ij);    rank r: B = Re sum_m C_m A_1 A_2 ... A_r

    A function (mus, ns, ls, lint, ms) has either intermediate angular momenta lint, which make C the generalized
    Clebsch-Gordan coefficients (see `basis.cluster.coupling`; B basis, one parameter), or a flat list ms of
    combinations of m, row after row, each a B of its own with C = 1 (C-tilde basis). ns count from 1.

    Parameters (K functions, P densities, N radial functions, S species): c (K, P), radial (S, S, N, L + 1, size), core
    (S, S, 2), prefactor and decay of the core repulsion, E0 (S,). c of densities that a species lacks is not used.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
        bonds: (S, S), central atom first.
        embeddings: one per species.
        functions: the functions of every central species.
        n_max, l_max: N and L, the largest of all pairs.
        inner: what happens nearby: "density" (core repulsion only), "distance" (radial functions and the repulsion are
            cut off by inner_cutoff) or "zbl" (nuclear repulsion takes over by distance).
        spline: Å, step of the tables by which radial functions are evaluated as in the codes; 0: exactly. Smaller
            differences than 1e-9 eV/atom at the usual 0.001 Å, in several times the time.
    """

    species: tuple[int, ...]
    bonds: tuple[tuple[ACEBond, ...], ...]
    embeddings: tuple[ACEEmbedding, ...]
    functions: tuple[tuple[Function, ...], ...]
    n_max: int
    l_max: int
    inner: str = "density"
    spline: float = 0.0
    _hash: int = field(init=False, repr=False, compare=False)

    constants: ClassVar[tuple[str, ...]] = ("core", "E0")
    atomic_energies: ClassVar[str] = "E0"
    block: ClassVar[int] = 4  # more products than descriptors: few rows fit the cache (Ta: 8.6 us/atom, 8 rows: 10.6)

    def __post_init__(self):
        # jit hashes its static arguments at every call, and the functions are many.
        members = (self.species, self.bonds, self.embeddings, self.functions, self.n_max, self.l_max, self.inner)
        object.__setattr__(self, "_hash", hash((*members, self.spline)))
        s = len(self.species)
        check_species("ACE", self.species)
        if len(self.bonds) != s or any(len(row) != s for row in self.bonds):
            raise ValueError(f"ACE.bonds must be one ACEBond for each of {s} x {s} ordered pairs.")
        if len(self.embeddings) != s or len(self.functions) != s:
            raise ValueError(f"ACE.embeddings and ACE.functions must have one entry for each of {s} species.")
        if self.inner not in INNER:
            raise ValueError(f"ACE.inner must be one of {INNER}; got {self.inner!r}.")
        if not 0 <= self.spline < 1 or not 0 <= self.l_max <= 20 or not self.n_max >= 1:
            raise ValueError(f"ACE needs 0 <= spline < 1 Å, 0 <= l_max <= 20, n_max >= 1; got {self.spline}, ...")
        for bond in (b for row in self.bonds for b in row):
            _check_bond(bond, self.inner)
        for e in self.embeddings:
            if e.kind not in EMBEDDINGS or not valid_powers(e.weights, e.powers) or not e.core_width > 0:
                raise ValueError(
                    f"an ACEEmbedding is one of {EMBEDDINGS} with as many weights as positive powers and "
                    f"core_width > 0; got {e}."
                )
        if not any(self.functions):
            raise ValueError("ACE.functions are all empty.")
        for t, block in enumerate(self.functions):
            for f in block:
                self._check_function(t, f)
        tables(self.functions)  # refuses couplings that do not exist

    def _check_function(self, t: int, f: Function) -> None:
        if len(f) != 5:
            raise ValueError(f"an ACE function is (mus, ns, ls, lint, ms); got {f}.")
        mus, ns, ls, lint, ms = f
        rank = len(mus)
        if not 1 <= rank <= 12 or not len(ns) == len(ls) == rank or len(ms) % rank or (ms and lint):
            raise ValueError(f"mus, ns, ls of an ACE function must be equally long and ms a multiple of that: {f}.")
        if not all(0 <= mu < len(self.species) for mu in mus):
            raise ValueError(f"an ACE function names species {mus}; there are {len(self.species)}.")
        sizes = [self.bonds[t][mu].size if rank == 1 else self.n_max for mu in mus]
        if not all(1 <= n <= size for n, size in zip(ns, sizes, strict=True)):
            raise ValueError(f"an ACE function has ns = {ns}; there are {sizes} radial functions.")
        if not all(0 <= l <= self.l_max for l in ls) or (rank == 1 and any(ls + ms)):
            raise ValueError(f"an ACE function of rank {rank} has ls = {ls} and ms = {ms[:4]}; l_max = {self.l_max}.")
        if any(abs(m) > ls[k % rank] for k, m in enumerate(ms)):
            raise ValueError(f"an ACE function with ls = {ls} has an m beyond its l: {ms}.")

    def __hash__(self) -> int:
        return self._hash

    @property
    def cutoff(self) -> float:
        """Å, the largest outer cutoff."""
        return max(b.cutoff for row in self.bonds for b in row)

    @property
    def densities(self) -> int:
        """P, the largest number of densities of a species."""
        return max(len(e.weights) for e in self.embeddings)

    @property
    def size(self) -> int:
        """K, the number of functions of all species."""
        return sum(feature_count(f) for block in self.functions for f in block)

    @property
    def radial_size(self) -> int:
        """The largest number of radial functions g_k of a pair."""
        return max(b.size for row in self.bonds for b in row)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: R_nl = g_n, small c, no core repulsion, no energies of isolated atoms."""
        s, k = len(self.species), self.radial_size
        eye = jnp.eye(self.n_max, k, dtype=dtype)[:, None]
        radial = jnp.broadcast_to(eye, (s, s, self.n_max, self.l_max + 1, k))
        core = jnp.broadcast_to(jnp.asarray([0.0, 1.0], dtype), (s, s, 2))
        c = 0.01 * jax.random.normal(key, (self.size, self.densities), dtype)
        return {"c": c, "radial": radial, "core": core, "E0": jnp.zeros(s, dtype)}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        r = length(*graph.planes)
        values = self._products(params, graph.species, self._moments(graph, r))  # (C, n)
        table = tables(self.functions)
        s, p = len(self.species), self.densities
        c = jnp.concatenate([params["c"], jnp.zeros((1, p), params["c"].dtype)])
        weight = jnp.asarray(table.spread_weight, c.dtype)[..., None]
        weights = jnp.sum(c[table.spread] * weight, axis=2)  # (S, C, P)
        rho = einsum("scp,cn->nsp", weights, values)
        energies = [self._embedded(t, rho[:, t]) for t in range(s)]
        energy = by_species(jnp.stack(energies, axis=1), graph.species) if s > 1 else energies[0]
        return self._with_cores(params, graph, r, energy) + params["E0"][graph.species]

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the functions B_k of every atom, (n, K); zero for those of another central species."""
        return self._functions(params, graph.species, self._moments(graph, length(*graph.planes)))

    def linear_functions(self, params: Params) -> LinearFunctions | None:
        """Return the functions B_k of the moments; None where cores repel, which changes the energy beside them."""
        part = self.linear_parameters(params)
        if part["c"] is None or self.inner == "zbl" or np.any(np.asarray(params["core"])[..., 0]):
            return None
        share = np.array([[*e.weights, *[0.0] * (self.densities - len(e.weights))] for e in self.embeddings])

        def tree(B: Array, species: Array, E0: Array) -> Params:
            mine = jax.nn.one_hot(species, len(self.species), dtype=B.dtype)
            c = B[:, :, None] * (mine @ jnp.asarray(share, B.dtype))[:, None]
            return {name: None for name in params} | {"E0": E0 * mine, "c": c}

        def functions(moments: Array, species: Array) -> Params:
            B = self._functions(params, species, moments)
            return tree(B, species, jnp.ones((), B.dtype))

        def slopes(moments: Array, species: Array, changes: Array) -> Params:
            many = jnp.broadcast_to(species, (len(changes),))
            values = self._singles(changes)
            graph = tables(self.functions).graph
            if graph.factors:
                re, im = self._complex_moments(params, species, moments)
                d_re, d_im = self._complex_moments(params, many, changes)
                values = jnp.concatenate([values, product_slopes(graph, re[:, 0], im[:, 0], d_re, d_im)])
            dB = self._summed(values, many)
            return tree(dB, many, jnp.zeros((), dB.dtype))

        return LinearFunctions(lambda graph: self._moments(graph, length(*graph.planes)), functions, slopes)

    def _functions(self, params: Params, species: Array, moments: Array) -> Array:
        """B_k of every atom, (n, K)."""
        return self._summed(self._products(params, species, moments), species)

    def _summed(self, values: Array, species: Array) -> Array:
        """B_k (n, K) of all products (C, n)."""
        table = tables(self.functions)
        terms = values[table.term_product] * jnp.asarray(table.term_weight, values.dtype)[:, None]
        out = jax.ops.segment_sum(terms, table.term_feature, self.size, indices_are_sorted=True)
        if len(self.species) > 1:
            out = jnp.where(jnp.asarray(table.owner)[:, None] == species, out, 0.0)
        return out.T

    def linear_parameters(self, params: Params) -> Params:
        """Return E0, c if all embeddings are linear, and the repulsion of cores for inner = "zbl"."""
        embedded = any(set(e.powers) != {1.0} for e in self.embeddings)
        return only(params, ["E0"] + ["c"] * (not embedded) + ["core"] * (self.inner == "zbl"))

    def roughness(self, params: Params, power: float) -> Params:
        """Return the sum of n^power + l^power over the factors of each function, 1 for energies and cores."""
        every = [f for block in self.functions for f in block]
        of = [float(sum(n**power for n in f[1]) + sum(l**power for l in f[2])) for f in every]
        found = {"c": np.repeat(of, list(map(feature_count, every)))[:, None], "E0": 1.0, "core": 1.0}
        like = lambda x, name: jnp.broadcast_to(jnp.asarray(found[name], x.dtype), x.shape)
        return {k: None if x is None else like(x, k) for k, x in self.linear_parameters(params).items()}

    def _embedded(self, t: int, rho: Array) -> Array:
        """sum_p w_p F(rho_p) of central species t, (n,)."""
        e = self.embeddings[t]
        parts = [w * embed(e.kind, rho[:, p], m) for p, (w, m) in enumerate(zip(e.weights, e.powers, strict=True))]
        return jnp.sum(jnp.stack(parts), axis=0)

    def _table(self, name: str, graph: Graph, dtype) -> Array | float:
        values = np.array([[getattr(b, name) for b in row] for row in self.bonds], dtype=float)
        return pair_table(values, graph.species, graph.neighbor_species, dtype)

    def _radial(self, graph: Graph, r: Array) -> Array:
        """g_k of every edge, (n, K, M)."""
        if not self.spline:
            return self._exact_radial(graph, r)
        return jnp.moveaxis(self._splined(lambda x: jnp.moveaxis(self._exact_radial(graph, x), 1, 0), graph, r), 0, 1)

    def _splined(self, f, graph: Graph, r: Array) -> Array:
        """f (..., n, M) from tables of cutoff/floor(cutoff/spline) step; 0 beyond the pair's cutoff."""
        rc = np.array([[b.cutoff for b in row] for row in self.bonds])
        step = pair_table(rc / np.floor(rc / self.spline + 1e-6), graph.species, graph.neighbor_species, r.dtype)
        inside = r < self._table("cutoff", graph, r.dtype)
        return jnp.where(inside, splined(f, jnp.where(inside, r, 1.0), step), 0.0)

    def _exact_radial(self, graph: Graph, r: Array) -> Array:
        bonds = [b for row in self.bonds for b in row]
        size = self.radial_size
        out: Array | None = None
        for family in sorted({b.family for b in bonds}):
            size_here = max(b.size for b in bonds if b.family == family)
            like = next(b for b in bonds if b.family == family)

            def value(name, family=family, like=like):
                table = [[getattr(b if b.family == family else like, name) for b in row] for row in self.bonds]
                return pair_table(np.array(table, float), graph.species, graph.neighbor_species, r.dtype)

            g = FAMILIES[family](r, value("cutoff"), value("decay"), value("width"), size_here)
            stacked = jnp.stack(g + [jnp.zeros_like(r)] * (size - size_here), axis=1)
            here = np.array([[b.family == family for b in row] for row in self.bonds])
            if out is None:
                out = stacked
            else:
                mine = jnp.asarray(here)[graph.species[:, None], graph.neighbor_species]
                out = jnp.where(mine[:, None], stacked, out)
        assert out is not None
        sizes = np.array([[b.size for b in row] for row in self.bonds])
        if (sizes != size).any():
            limit = pair_table(sizes, graph.species, graph.neighbor_species, r.dtype)
            k = jnp.arange(size, dtype=r.dtype)[:, None]
            out = jnp.where(k < jnp.expand_dims(jnp.asarray(limit, r.dtype), -2), out, 0.0)
        if self.inner == "density" or not any(b.inner_cutoff for b in bonds):
            return out
        start = self._table("inner_cutoff", graph, r.dtype)
        return out * (1.0 - smooth_step(r, start, self._inner_width(graph, r)))[:, None]

    def _inner_width(self, graph: Graph, r: Array) -> Array | float:
        width = np.array([[b.inner_width if b.inner_width > 0 else 1e-3 for b in row] for row in self.bonds])
        return pair_table(width, graph.species, graph.neighbor_species, r.dtype)

    def _moments(self, graph: Graph, r: Array) -> Array:
        """sum_j g_k(r_ij) Y_lm(r_ij) over the neighbours of each species, (n, LM, S, K); Y_lm are real, Y_00 is 1."""
        s, n = len(self.species), r.shape[0]
        l_max = max((f[2] for f in tables(self.functions).graph.factors), default=0)
        g = self._radial(graph, r)
        k = g.shape[1]
        if s > 1:
            here = one_hot(graph.neighbor_species, s, 1, r.dtype)
            g = (here[:, :, None] * g[:, None]).reshape(n, s * k, -1)
        if not l_max:
            return jnp.sum(g, axis=-1).reshape(n, 1, s, k)
        y = real_harmonics(*direction(*graph.planes), l_max)
        y = jnp.stack([jnp.ones_like(r), *y[1:]], axis=1)  # (n, LM, M)
        # In this order of factors and results XLA's products of small matrices are fastest, by a fifth.
        return einsum("nlm,nqm->nlq", y, g).reshape(n, -1, s, k)

    def _products(self, params: Params, species: Array, moments: Array) -> Array:
        """Rank 1 sums, then real parts of products, (C, n)."""
        table = tables(self.functions)
        singles = self._singles(moments)
        if not table.graph.factors:
            return singles
        re, im = self._complex_moments(params, species, moments)
        return jnp.concatenate([singles, products(table.graph, re, im)])

    def _singles(self, moments: Array) -> Array:
        """Rank 1 sums, (singles, n)."""
        mu, m = np.array(tables(self.functions).singles, dtype=np.int32).reshape(-1, 2).T
        return moments[:, 0, mu, m - 1].T

    def _complex_moments(self, params: Params, species: Array, moments: Array) -> tuple[Array, Array]:
        """Re and Im of the A_(mu n l m) in the product graph, (factors, n) each."""
        s = len(self.species)
        factors = np.array(tables(self.functions).graph.factors)
        l_max = int(factors[:, 2].max())
        n_max = int(factors[:, 1].max())
        radial = params["radial"][:, :, :n_max]
        blocks = []
        for l in range(l_max + 1):
            part = moments[:, l * l : (l + 1) ** 2]  # (n, 2l + 1, S, K)
            if s == 1:
                block = einsum("ak,imk->ami", radial[0, 0, :, l], part[:, :, 0])
            else:
                own = radial[:, :, :, l][species]  # (n, S, N, K)
                block = einsum("iuak,imuk->uami", own, part)
            blocks.append(block.reshape(s * n_max * (2 * l + 1), -1))
        A = jnp.concatenate(blocks)
        start = np.cumsum([0] + [s * n_max * (2 * l + 1) for l in range(l_max + 1)])
        mu, a, l, m = factors.T
        row = start[l] + (mu * n_max + a - 1) * (2 * l + 1) + l
        sign = np.where(m >= 0, (-1.0) ** m, 1.0)  # Condon-Shortley phase of m > 0; Y_l-m = (-1)^m conj Y_lm
        size = np.where(l == 0, 1.0, np.sqrt(4 * np.pi)) * np.where(m == 0, 1.0, np.sqrt(0.5))
        re = A[row + np.abs(m)] * jnp.asarray(sign * size, A.dtype)[:, None]
        im = A[row - np.abs(m)] * jnp.asarray(sign * size * np.sign(m), A.dtype)[:, None]
        return re, im

    def _with_cores(self, params: Params, graph: Graph, r: Array, energy: Array) -> Array:
        """Add the repulsion of cores and take the ACE energy away where it is strong."""
        core = params["core"]
        pair = [core[graph.species[:, None], graph.neighbor_species, k] for k in range(2)]
        if len(self.species) == 1:
            pair = [core[0, 0, 0], core[0, 0, 1]]
        cutoff, width = (self._table(name, graph, r.dtype) for name in ("cutoff", "width"))
        if self.inner == "zbl":
            z = jnp.asarray(np.array(self.species, float), r.dtype)
            z_i, z_j = z[graph.species][:, None], z[graph.neighbor_species]
            repulsion = jnp.sum(zbl_pair(r, jnp.asarray(cutoff, r.dtype), width, pair[0], z_i, z_j), axis=1)
            fc = self._nearest(graph, r)
            return energy * fc + repulsion * (1.0 - fc)

        def phi(x):
            value = core_pair(x, cutoff, *pair)
            if self.inner == "distance" and any(b.inner_cutoff for row in self.bonds for b in row):
                start = self._table("inner_cutoff", graph, x.dtype)
                value = value * smooth_step(x, start, self._inner_width(graph, x))
            return value

        repulsion = jnp.sum(self._splined(phi, graph, r), axis=1) if self.spline else jnp.sum(phi(r), axis=1)
        factors = [smooth_step(repulsion, e.core_cutoff, e.core_width) for e in self.embeddings]
        factor = by_species(jnp.stack(factors, axis=1), graph.species) if len(factors) > 1 else factors[0]
        return energy * factor + repulsion

    def _nearest(self, graph: Graph, r: Array) -> Array:
        """The share of the ACE energy by the distance of the nearest neighbour beyond its inner radius, (n,)."""
        width = jnp.broadcast_to(jnp.asarray(self._inner_width(graph, r), r.dtype), r.shape)
        gap = r - (self._table("inner_cutoff", graph, r.dtype) - width)
        gap = jnp.where(graph.mask & (r < self._table("cutoff", graph, r.dtype)), gap, 1e3)
        nearest = jnp.argmin(gap, axis=1)[:, None]
        d, w = (jnp.take_along_axis(x, nearest, 1)[:, 0] for x in (gap, width))
        return smooth_step(w - jnp.minimum(d, w), w, w)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["ACE", Params]:
        """Return the potential and parameters for some of its species: functions with other neighbours are zero."""
        keep = subset(self.species, tuple(species))
        if tuple(species) == self.species:
            return self, params
        new = {old: k for k, old in enumerate(keep)}
        functions: list[tuple[Function, ...]] = []
        rows: list[int] = []
        start = np.cumsum([0] + [sum(map(feature_count, block)) for block in self.functions])
        for old in keep:
            block, at = [], int(start[old])
            for mus, *rest in self.functions[old]:
                count = feature_count((mus, *rest))
                if all(mu in new for mu in mus):
                    block.append((tuple(new[mu] for mu in mus), *rest))
                    rows += range(at, at + count)
                at += count
            functions.append(tuple(block))
        if not rows:
            raise ValueError(f"no function of this ACE has only the species {species}.")
        index = np.array(keep)
        potential = replace(
            self,
            species=tuple(species),
            bonds=tuple(tuple(self.bonds[i][j] for j in keep) for i in keep),
            embeddings=tuple(self.embeddings[i] for i in keep),
            functions=tuple(functions),
        )
        pair = (index[:, None], index)
        return potential, {
            "c": params["c"][np.array(rows)][:, : potential.densities],
            "radial": params["radial"][pair][..., : potential.radial_size],
            "core": params["core"][pair],
            "E0": params["E0"][index],
        }


def _check_bond(bond: ACEBond, inner: str) -> None:
    numbers = (bond.decay, bond.cutoff, bond.width, bond.inner_cutoff, bond.inner_width)
    if bond.family not in FAMILIES:
        raise ValueError(f"ACEBond.family must be one of {tuple(FAMILIES)}; got {bond.family!r}.")
    if not all(abs(x) < float("inf") for x in numbers) or not 0 < bond.cutoff <= 100 or not 1 <= bond.size <= 1000:
        raise ValueError(f"an ACEBond needs a cutoff up to 100 Å, 1 to 1000 functions and finite numbers; got {bond}.")
    if bond.inner_cutoff < 0 or bond.inner_width < 0:
        raise ValueError(f"inner radii of an ACEBond must not be negative; got {bond}.")
    if bond.family in ("ChebExpCos", "ChebPow") and not bond.decay > 0:
        raise ValueError(f"the parameter of {bond.family} must be positive; got {bond.decay}.")
    if (bond.family == "ChebExpCos" or inner == "zbl") and not 0 < bond.width <= bond.cutoff:
        raise ValueError(f"the width of the cutoff must be positive and at most the cutoff; got {bond}.")
