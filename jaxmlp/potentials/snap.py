"""Spectral neighbour analysis potentials (SNAP): energies linear or quadratic in bispectrum components."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.bispectrum import (
    Bispectrum,
    function_of_invariants,
    invariant_slopes,
    invariants,
    weighted_invariants,
)
from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.harmonics import harmonic_levels
from jaxmlp.basis.hypersphere import radial_mixing
from jaxmlp.basis.species import check_species, one_hot, pair_table, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import LinearFunctions, Params, Potential, only

einsum = partial(jnp.einsum, precision="highest")
matmul = partial(jnp.matmul, precision="highest")
LARGEST = 20  # of twojmax; the number of components grows as its cube


@dataclass(frozen=True)
class SNAP(Potential):
    """E_i = constant + sum_k linear_k B_k + sum_(k<l) q_kl B_k B_l + 1/2 sum_k q_kk B_k^2, B_k bispectrum components of

        rho_i(x) = delta(x - x_0) + sum_j f(r_ij) w_j delta(x - x_ij),

    a density on the sphere in four dimensions: x_0 its pole, x_ij = (cos theta, u_ij sin theta) with
    theta = rfac0 pi (r - rmin0) / (rc_ij - rmin0), u_ij = r_ij / r. f falls from 1 to 0 at rc_ij = rcutfac (R_i + R_j).
    The names are those of LAMMPS. Thompson et al., J. Comput. Phys. 285, 316 (2015); quadratic: Wood and Thompson, J.
    Chem. Phys. 148, 241721 (2018); chemflag: Cusentino, Wood and Thompson, J. Phys. Chem. A 124, 5456 (2020).

    B_(j1 j2 j) = (j + 1) < rho_j1 rho_j2 rho_j > in terms of the means of `basis.bispectrum`, for 0 <= j2 <= j1 <= j
    <= twojmax (doubled angular momenta) with j1 + j2 + j even and j <= j1 + j2. No list of Clebsch-Gordan coefficients
    is needed.

    Parameters: "weight" (S,); "constant" (S,) eV and "linear" (S, K), the energy is linear in both, and in "quadratic"
    (S, K (K + 1) / 2), the upper triangle of q row by row, if quadraticflag. Order of the components: j1, j2, j; with
    chemflag the triples of elements come before. `components` lists them.

    Args:
        species: atomic numbers.
        radii: R, one for each species; () stands for 0.5 each, with which rcutfac is the cutoff.
        rcutfac: Å, factor of the sums of radii.
        twojmax: highest doubled angular momentum.
        rfac0: how far towards the other pole the largest distance lies.
        rmin0: Å, the distance that lies at the pole.
        switchflag: f is (cos(pi (r - rmin0) / (rc_ij - rmin0)) + 1) / 2; if not, it is a step at rc_ij.
        bzeroflag: components of an isolated atom are subtracted.
        quadraticflag: products of components too.
        chemflag: one density for every element, and components of all triples of elements.
        bnormflag: components are not multiplied by j + 1; None takes chemflag.
        wselfallflag: with chemflag, the atom itself is in the density of every element, not only of its own.
        sinner, dinner: Å, one for each species, or (): f goes to zero below sinner over the half width dinner
            (switchinnerflag).
        densities: with chemflag, the elements of the components, if they are more than `species`; () otherwise.
    """

    species: tuple[int, ...]
    radii: tuple[float, ...] = ()
    rcutfac: float = 4.7
    twojmax: int = 6
    rfac0: float = 0.99363
    rmin0: float = 0.0
    switchflag: bool = True
    bzeroflag: bool = True
    quadraticflag: bool = False
    chemflag: bool = False
    bnormflag: bool | None = None
    wselfallflag: bool = False
    sinner: tuple[float, ...] = ()
    dinner: tuple[float, ...] = ()
    densities: tuple[int, ...] = ()

    block: ClassVar[int] = 16
    constants: ClassVar[tuple[str, ...]] = ("weight",)
    atomic_energies: ClassVar[str] = "constant"

    def __post_init__(self):
        s = len(self.species)
        if not self.radii:
            object.__setattr__(self, "radii", (0.5,) * s)
        check_species("SNAP", self.species)
        if len(self.radii) != s or not all(0 < r < 100 for r in self.radii):
            raise ValueError(f"SNAP.radii must be {s} positive distances in Å, one for each species; got {self.radii}.")
        if not 0 < self.rcutfac < 1000 or not 0 <= self.twojmax <= LARGEST:
            raise ValueError(
                f"SNAP needs rcutfac above 0 and twojmax from 0 to {LARGEST}; got {self.rcutfac} and {self.twojmax}."
            )
        shortest = 2 * self.rcutfac * min(self.radii)
        if not 0 < self.rfac0 <= 1 or not 0 <= self.rmin0 < shortest:
            raise ValueError(
                f"SNAP needs 0 < rfac0 <= 1 and 0 <= rmin0 < {shortest:g} Å, the shortest cutoff; got {self.rfac0} and "
                f"{self.rmin0}."
            )
        if (
            len(self.sinner) != len(self.dinner)
            or len(self.sinner) not in (0, s)
            or not all(d > 0 for d in self.dinner)
        ):
            raise ValueError(
                f"SNAP.sinner and SNAP.dinner (positive) go together, one for each species; got {self.sinner} and "
                f"{self.dinner}."
            )
        if self.densities and not (self.chemflag and set(self.species) <= set(self.densities)):
            raise ValueError("SNAP.densities goes with chemflag and holds all species.")

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Å, the largest of the pairs' cutoffs."""
        return 2 * self.rcutfac * max(self.radii)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the densities that components are made of; one of them, 0, for all without chemflag."""
        return (self.densities or self.species) if self.chemflag else (0,)

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Every component: the places of its three elements in `elements`, then j1, j2 and j."""
        return _components(len(self.elements), self.twojmax)

    def linear_parameters(self, params: Params) -> Params:
        """Return the coefficients, of products of components too."""
        return only(params, ("constant", "linear", "quadratic"))

    def roughness(self, params: Params, power: float) -> Params:
        """Return 1 + j1^power + j2^power + j^power, of doubled angular momenta, and sums of these for products.

        These are degrees on the sphere in four dimensions, of distances and angles together.
        """
        linear = np.array([1 + sum(float(j) ** power for j in c[3:]) for c in self.components])
        a, b = np.triu_indices(len(linear))
        found = {"linear": linear, "quadratic": linear[a] + linear[b], "constant": 1.0}
        like = lambda x, name: jnp.broadcast_to(jnp.asarray(found[name], x.dtype), x.shape)
        return {k: None if x is None else like(x, k) for k, x in self.linear_parameters(params).items()}

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: weights 1, small energies."""
        s, k = len(self.species), len(self.components)
        linear, quadratic = jax.random.split(key)
        # Components are of order 1 to 1000, growing with the degrees.
        scale = jnp.asarray([0.01 / (1 + c[-1]) ** 2 for c in self.components], dtype)
        params = {
            "weight": jnp.ones(s, dtype),
            "constant": jnp.zeros(s, dtype),
            "linear": scale * jax.random.normal(linear, (s, k), dtype),
        }
        if self.quadraticflag:
            a, b = np.triu_indices(k)
            params["quadratic"] = 0.1 * scale[a] * scale[b] * jax.random.normal(quadratic, (s, len(a)), dtype)
        return params

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        tables, which, factor = _tables(len(self.elements), self.twojmax, self._norm)
        c = self._density(params, graph)
        one = len(self.species) == 1
        linear, constant = params["linear"], params["constant"]  # of every species
        if not self.quadraticflag:
            # Components that are equal by symmetry share an invariant, and the isolated atom's are a constant.
            weights = jnp.zeros((len(linear), len(tables.triples)), c.dtype)
            weights = weights.at[:, which].add(linear * jnp.asarray(factor, c.dtype))
            constant = constant - jnp.sum(linear * self._isolated(linear.dtype), axis=1)
            energy = weighted_invariants(tables, c, weights if one else weights[graph.species])
            return constant[graph.species] + energy
        k = len(which)
        symmetric = np.zeros((k, k), np.int32)
        symmetric[np.triu_indices(k)] = np.arange(k * (k + 1) // 2)
        q = params["quadratic"][:, np.maximum(symmetric, symmetric.T)]  # (S, K, K)
        mine = one_hot(graph.species, len(self.species), 1, c.dtype)
        quadratic = _quadratic(len(self.elements), self.twojmax, self._norm)
        args = (self._isolated(c.dtype), linear, q, mine)
        return constant[graph.species] + function_of_invariants(quadratic, tables, c, args)

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the bispectrum components of every atom, (n, K), as LAMMPS' compute sna/atom gives them."""
        return self._components(graph.species, self._density(params, graph))

    def linear_functions(self, params: Params) -> LinearFunctions:
        """Return the components and their products as functions of the densities."""
        tables = _tables(len(self.elements), self.twojmax, self._norm)[0]

        def of_invariants(I: Array, species: Array) -> Params:
            B = self._scaled(species, I)
            mine = jax.nn.one_hot(species, len(self.species), dtype=B.dtype)
            out = {"constant": mine, "linear": mine[:, :, None] * B[:, None], "weight": None}
            if self.quadraticflag:
                a, b = np.triu_indices(B.shape[1])
                half = jnp.asarray(np.where(a == b, 0.5, 1.0), B.dtype)
                out["quadratic"] = mine[:, :, None] * (B[:, a] * B[:, b] * half)[:, None]
            return out

        def functions(c: Array, species: Array) -> Params:
            return of_invariants(invariants(tables, c), species)

        def slopes(c: Array, species: Array, dc: Array) -> Params:
            jacobian = invariant_slopes(tables, c)[0].reshape(len(tables.triples), -1)
            change = matmul(dc.reshape(len(dc), -1), jacobian.T)
            I = invariants(tables, c)
            return jax.jvp(
                lambda I: of_invariants(I, jnp.broadcast_to(species, len(I))),
                (jnp.broadcast_to(I, change.shape),), (change,),
            )[1]  # fmt: skip

        return LinearFunctions(lambda graph: self._density(params, graph), functions, slopes)

    def _components(self, species: Array, c: Array) -> Array:
        return self._scaled(species, invariants(_tables(len(self.elements), self.twojmax, self._norm)[0], c))

    def _scaled(self, species: Array, I: Array) -> Array:
        """The components (n, K) of the invariants (n, triples)."""
        _, which, factor = _tables(len(self.elements), self.twojmax, self._norm)
        return I[:, which] * jnp.asarray(factor, I.dtype) - self._isolated(I.dtype)[species]

    @property
    def _norm(self) -> bool:
        return self.chemflag if self.bnormflag is None else self.bnormflag

    def _isolated(self, dtype) -> Array:
        """What is subtracted from the components of each species, (S, K)."""
        values = np.zeros((len(self.species), len(self.components)))
        if self.bzeroflag:
            own = [self.elements.index(z) if self.chemflag else 0 for z in self.species]
            for k, (*elements, _, _, j) in enumerate(self.components):
                for s, e in enumerate(own):
                    if self.wselfallflag or elements == [e, e, e]:
                        values[s, k] = 1.0 if self._norm else j + 1.0
        return jnp.asarray(values, dtype)

    def _density(self, params: Params, graph: Graph) -> Array:
        """Coefficients of the densities on the sphere, (n, elements, harmonics), numbered by l, then j and m.

        The neighbours are summed over with cos(k theta) and sin(k theta) for the radial parts of the harmonics, which
        are sums of those; there are fewer of them.
        """
        near = graph.within(self.cutoff)
        harmonics = harmonic_levels(*direction(*near.planes), self.twojmax)
        mixing = radial_mixing(self.twojmax)
        parts: list = [None] * len(mixing)
        for odd, waves in enumerate(self._waves(params, near)):
            degrees = range(odd, self.twojmax + 1, 2)
            if not degrees:
                continue
            sums = einsum("nekm,nym->neky", waves, jnp.concatenate([harmonics[l] for l in degrees], axis=1))
            ends = np.cumsum([2 * l + 1 for l in degrees])[:-1]
            for l, own in zip(degrees, jnp.split(sums, ends, axis=3), strict=True):
                mixed = einsum("jk,neky->nejy", jnp.asarray(mixing[l], sums.dtype), own)
                parts[l] = mixed.reshape(*mixed.shape[:2], -1)
        return jnp.concatenate(parts, axis=2) + self._self(graph.species, parts[0].dtype)

    def _waves(self, params: Params, graph: Graph) -> tuple[Array, Array]:
        """f w cos(k theta), k = 0, 1, ..., and f w sin(k theta), k = 1, 2, ..., of every edge: (n, elements, k, M)."""
        theta, sign = self._angle(graph)
        cosine, sine = sign * jnp.cos(theta), sign * jnp.sin(theta)
        weight = self._weight(params, graph)
        even, odd = [weight, weight * cosine], [jnp.zeros_like(weight), weight * sine]
        for _ in range(self.twojmax - 1):
            even.append(2 * cosine * even[-1] - even[-2])
            odd.append(2 * cosine * odd[-1] - odd[-2])
        out = [jnp.stack(even[: self.twojmax + 1], axis=1), jnp.stack(odd[1:], axis=1)[:, : self.twojmax]]
        if not self.chemflag:
            return out[0][:, None], out[1][:, None]
        place = np.array([self.elements.index(z) for z in self.species])
        count = np.arange(len(self.elements))[:, None]
        here = jnp.asarray(place)[graph.neighbor_species][:, None] == count  # (n, elements, M)
        even_waves, odd_waves = (jnp.where(here[:, :, None], x[:, None], 0.0) for x in out)
        return even_waves, odd_waves

    def _self(self, species: Array, dtype) -> Array:
        """The atom itself, at the pole: h_j00 = j + 1."""
        pole = np.zeros(sum((j + 1) ** 2 for j in range(self.twojmax + 1)))
        pole[: self.twojmax + 1] = np.arange(1, self.twojmax + 2)
        there = np.ones((len(self.species), len(self.elements)))
        if self.chemflag and not self.wselfallflag:
            there = np.array([[float(z == e) for e in self.elements] for z in self.species])
        table = jnp.asarray(there[:, :, None] * pole, dtype)
        return table if len(self.species) == 1 else table[species]

    def _angle(self, graph: Graph) -> tuple[Array, Array | float]:
        """theta of every edge, (n, M), and the sign of r - rmin0: LAMMPS takes the square root of sin^2 theta."""
        r, cutoff = self._distance(graph)
        theta = (self.rfac0 * np.pi) * (r - self.rmin0) / (cutoff - self.rmin0)
        return theta, jnp.where(theta < 0, -1.0, 1.0).astype(r.dtype) if self.rmin0 > 0 else 1.0

    def _distance(self, graph: Graph) -> tuple[Array, Array | float]:
        """r, at most the cutoff of the pair, and that cutoff."""
        cutoff = self._pairs(np.add.outer(self.radii, self.radii) * self.rcutfac, graph)
        return jnp.minimum(length(*graph.planes), cutoff), cutoff

    def _pairs(self, table: np.ndarray, graph: Graph) -> Array | float:
        return pair_table(table, graph.species, graph.neighbor_species, graph.planes[0].dtype)

    def _weight(self, params: Params, graph: Graph) -> Array:
        """f(r) w of every edge, (n, M)."""
        r, cutoff = self._distance(graph)
        w = params["weight"]
        w = w[0] if len(self.species) == 1 else w[graph.neighbor_species]
        inside = r < cutoff
        if self.switchflag:
            x = (r - self.rmin0) / (cutoff - self.rmin0)
            f = 0.5 * (jnp.cos(np.pi * jnp.maximum(x, 0.0)) + 1.0)
        else:
            f = jnp.ones_like(r)
        if self.sinner:
            s = self._pairs(np.add.outer(self.sinner, self.sinner) / 2, graph)
            d = self._pairs(np.add.outer(self.dinner, self.dinner) / 2, graph)
            f = f * 0.5 * (1.0 + jnp.sin((0.5 * np.pi) * jnp.clip((r - s) / d, -1.0, 1.0)))
        return jnp.where(inside, f * w, 0.0)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["SNAP", Params]:
        """Return the potential for some of its species; with chemflag the components stay those of all."""
        keep = subset(self.species, species)
        chosen = {
            name: tuple(getattr(self, name)[k] for k in keep if getattr(self, name))
            for name in ("radii", "sinner", "dinner")
        }
        densities = self.elements if self.chemflag and tuple(species) != self.elements else ()
        kept = {name: value[np.array(keep)] for name, value in params.items()}
        return replace(self, species=tuple(species), densities=densities, **chosen), kept


@lru_cache(maxsize=32)
def _components(elements: int, twojmax: int) -> tuple[tuple[int, ...], ...]:
    j_triples = [
        (j1, j2, j)
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
        if j >= j1
    ]
    return tuple((*e, *t) for e in np.ndindex(elements, elements, elements) for t in j_triples)


@lru_cache(maxsize=32)
def _tables(elements: int, twojmax: int, norm: bool) -> tuple[Bispectrum, np.ndarray, np.ndarray]:
    """The different invariants; which one each component is, and by how much it is multiplied."""
    components = _components(elements, twojmax)
    triples = [tuple(sorted(e * (twojmax + 1) + j for e, j in zip(c[:3], c[3:], strict=True))) for c in components]
    different = {t: k for k, t in enumerate(dict.fromkeys(triples))}
    which = np.array([different[t] for t in triples], np.int32)
    factor = np.array([1.0 if norm else c[-1] + 1.0 for c in components])
    return Bispectrum(twojmax, elements, tuple(different)), which, factor


@lru_cache(maxsize=32)
def _quadratic(elements: int, twojmax: int, norm: bool) -> Callable[..., Array]:
    """Energies (n,) of invariants (n, triples); isolated atoms (S, K); linear (S, K); q (S, K, K); species (n, S)."""
    _, which, factor = _tables(elements, twojmax, norm)

    def energy(values: Array, isolated: Array, linear: Array, q: Array, mine: Array) -> Array:
        b = values[:, which] * jnp.asarray(factor, values.dtype) - matmul(mine, isolated)
        slope = matmul(mine, linear)
        for t in range(len(q)):
            slope = slope + 0.5 * mine[:, t : t + 1] * matmul(b, q[t])
        return jnp.sum(slope * b, axis=1)

    return energy
