"""Moment tensor potentials (MTP): site energies linear in contractions of moment tensors."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.moment_levels import LEVELS, level_moments
from jaxmlp.basis.moments import Moments, basic_moments, scalar_slopes, scalars, weighted_scalars
from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import LinearFunctions, Params, Potential, only
from jaxmlp.potentials.mtp_grade import coefficient_gradients, configuration_grade, grade


@dataclass(frozen=True)
class MTP(Potential):
    """E_i = species_coeffs[s_i] + sum_k moment_coeffs[k] B_k, B_k the scalar contractions of moment tensors.

    M_(mu,nu) = sum_j f_mu(r_ij) u_ij (x) ... (x) u_ij (nu times),   u_ij = r_ij / r_ij,
    f_mu(r) = scaling sum_k radial[s_i, s_j, mu, k] T_k(x) (cutoff - r)^2,  x = (2 r - inner - cutoff)/(cutoff - inner),

    zero beyond the cutoff; below `inner` the Chebyshev polynomials T_k go on. Shapeev, Multiscale Model. Simul. 14,
    1153 (2016); Novikov et al., Mach. Learn.: Sci. Technol. 2, 025002 (2021). f_mu(r; s_i, s_j) is not symmetric.

    Parameters: "radial" (S, S, mu, k), the centre's species first; "scaling" (); "species_coeffs" (S,) eV and
    "moment_coeffs" (scalars,) eV, in which the energy is linear; with `selection`, "active_set" (n, n) and its inverse,
    "active_inverse", which take no part in the energy: see `grades`.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters (of the file's types).
        cutoff: Å ("max_dist").
        inner: Å, about the shortest distance that occurs ("min_dist").
        radial_size: number of Chebyshev polynomials.
        level: which contractions there are, an even number from 2 to 28; the larger, the more.
        tables: contractions of a file whose tables are not those of a level; `level` is then not used and 0.
        selection: atomic numbers of the species for which the active set was selected; () where there is none.
        energy_weight, weight_scaling: how configurations were weighted in the selection, see `configuration_grade`; a
            weight of 0 where neighbourhoods were selected.
    """

    species: tuple[int, ...]
    cutoff: float = 5.0
    inner: float = 2.0
    radial_size: int = 8
    level: int = 16
    tables: Moments | None = None
    selection: tuple[int, ...] = ()
    energy_weight: float = 0.0
    weight_scaling: int = 2

    block: ClassVar[int] = 32
    constants: ClassVar[tuple[str, ...]] = ("scaling", "active_set", "active_inverse")
    atomic_energies: ClassVar[str] = "species_coeffs"

    def __post_init__(self):
        check_species("MTP", self.species)
        if not 0 <= self.inner < self.cutoff < float("inf"):
            raise ValueError(f"MTP needs 0 <= inner < cutoff, in Å; got inner={self.inner}, cutoff={self.cutoff}.")
        if not 1 <= self.radial_size <= 1000:
            raise ValueError(f"MTP.radial_size is a number of polynomials, 1 to 1000; got {self.radial_size}.")
        if (self.level not in LEVELS) if self.tables is None else (self.level != 0):
            raise ValueError(f"MTP.level must be an even number from 2 to 28, or 0 with tables; got {self.level}.")

        if self.selection and not set(self.species) <= set(self.selection):
            raise ValueError(f"MTP.selection {self.selection} must hold all species, {self.species}.")
        if not 0 <= self.energy_weight < float("inf") or self.weight_scaling not in (0, 1, 2):
            raise ValueError(
                "MTP.energy_weight is finite and not negative, MTP.weight_scaling 0, 1 or 2; "
                f"got {self.energy_weight} and {self.weight_scaling}."
            )

    @property
    def moments(self) -> Moments:
        """The tables of the contractions."""
        return level_moments(self.level) if self.tables is None else self.tables

    @property
    def size(self) -> int:
        """n, the number of all coefficients, of all species of the selection where there is one."""
        s = len(self.selection or self.species)
        return s * s * self.moments.radial_count * self.radial_size + s + len(self.moments.scalars)

    def linear_parameters(self, params: Params) -> Params:
        """Return the coefficients of moments and of species."""
        return only(params, ("species_coeffs", "moment_coeffs"))

    def roughness(self, params: Params, power: float) -> Params:
        """Return the sum of (mu + 1)^power + nu^power over the moments M_(mu,nu) that are contracted."""
        of = [float((mu + 1) ** power + (a + b + c) ** power) for mu, a, b, c in self.moments.basic]
        of += [0.0] * (self.moments.count - len(of))
        for p, q, _, t in self.moments.times:  # all products that add up to a moment are of the same moments
            of[t] = of[p] + of[q]
        coefficients = jnp.asarray([of[k] for k in self.moments.scalars], params["moment_coeffs"].dtype)
        energies = jnp.ones_like(params["species_coeffs"])
        return self.linear_parameters(params) | {"moment_coeffs": coefficients, "species_coeffs": energies}

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: radial functions of order one, small energies, an empty active set (1e-6 I)."""
        s, (radial, linear) = len(self.species), jax.random.split(key)
        moments = self.moments
        decay = jnp.asarray(0.5 ** np.arange(self.radial_size), dtype)
        params = {
            "radial": jax.random.normal(radial, (s, s, moments.radial_count, self.radial_size), dtype) * decay,
            "scaling": jnp.asarray(1.0 / self.cutoff**2, dtype),
            "species_coeffs": jnp.zeros(s, dtype),
            "moment_coeffs": 0.01 * jax.random.normal(linear, (len(moments.scalars),), dtype),
        }
        if self.selection:
            params["active_set"] = 1e-6 * jnp.eye(self.size, dtype=dtype)
            params["active_inverse"] = 1e6 * jnp.eye(self.size, dtype=dtype)
        return params

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        contractions = weighted_scalars(self.moments, self._basic(params, graph), params["moment_coeffs"])
        return params["species_coeffs"][graph.species] + contractions

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the scalars B_k of every atom, (n, scalars)."""
        return scalars(self.moments, self._basic(params, graph)).T

    def linear_functions(self, params: Params) -> LinearFunctions:
        """Return the scalars B_k as functions of the basic moments."""

        none = {name: None for name in params}

        def functions(basic: Array, species: Array) -> Params:
            mine = jax.nn.one_hot(species, len(self.species), dtype=basic.dtype)
            return none | {"species_coeffs": mine, "moment_coeffs": scalars(self.moments, basic.T).T}

        def slopes(basic: Array, species: Array, changes: Array) -> Params:
            change = scalar_slopes(self.moments, basic.T, changes.T).T
            constant = jnp.zeros((len(changes), len(self.species)), basic.dtype)
            return none | {"species_coeffs": constant, "moment_coeffs": change}

        return LinearFunctions(lambda graph: self._basic(params, graph).T, functions, slopes)

    def grades(self, params: Params, graph: Graph) -> Array:
        """Return the extrapolation grade of every neighbourhood, (n,); above 1 it extrapolates, see `mtp_grade`."""
        return grade(params["active_inverse"], self.coefficient_gradients(params, graph))

    def configuration_grade(self, params: Params, gradients: Array) -> Array:
        """Return the extrapolation grade of a configuration, (), given `coefficient_gradients` (N, size) of its atoms.

        Those of a whole system: `jaxmlp.site_fn(potential, system, "coefficient_gradients")(R, box, params)`.
        """
        return configuration_grade(params["active_inverse"], gradients, self.energy_weight, self.weight_scaling)

    def coefficient_gradients(self, params: Params, graph: Graph) -> Array:
        """Return the derivatives of every site energy with respect to all coefficients, (n, size), see `mtp_grade`."""
        return coefficient_gradients(self, params, graph)

    def _basic(self, params: Params, graph: Graph) -> Array:
        near = graph.within(self.cutoff)
        f = self.mixed(params["radial"], self.polynomials(params, near), near)
        return basic_moments(self.moments, f, direction(*near.planes))

    def polynomials(self, params: Params, graph: Graph) -> Array:
        """Return scaling T_k(x) (cutoff - r)^2 of every edge, (n, k, M)."""
        distance = length(*graph.planes)
        r = jnp.minimum(distance, self.cutoff)
        x = (2.0 * r - (self.inner + self.cutoff)) * (1.0 / (self.cutoff - self.inner))
        t = [params["scaling"] * jnp.square(self.cutoff - r)]
        t.append(x * t[0])
        while len(t) < self.radial_size:
            t.append(2.0 * x * t[-1] - t[-2])
        return jnp.stack(t[: self.radial_size], axis=1)

    def mixed(self, radial: Array, planes: Array, graph: Graph) -> Array:
        """Return f_mu of every edge, (n, mu, M), given the polynomials (n, k, M)."""
        if len(self.species) == 1:
            return jnp.einsum("uk,nkm->num", radial[0, 0], planes, precision="highest")
        own = radial[graph.species]  # (n, S, mu, k)
        zero = jnp.zeros((), planes.dtype)
        parts = [
            jnp.einsum(
                "nuk,nkm->num",
                own[:, s],
                jnp.where((graph.neighbor_species == s)[:, None], planes, zero),
                precision="highest",
            )
            for s in range(len(self.species))
        ]
        return sum(parts[1:], parts[0])

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["MTP", Params]:
        """Return the potential and parameters for some of its species; the active set stays that of all species."""
        keep = np.array(subset(self.species, species))
        kept = {"radial": params["radial"][keep][:, keep], "species_coeffs": params["species_coeffs"][keep]}
        return replace(self, species=tuple(species)), params | kept
