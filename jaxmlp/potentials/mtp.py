"""Moment tensor potentials (MTP): site energies linear in contractions of moment tensors."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.moments import Moments, scalar_moments
from jaxmlp.basis.species import subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential


@dataclass(frozen=True)
class MTP(Potential):
    """E_i = species_coeffs[s_i] + sum_k moment_coeffs[k] B_k, B_k the scalars of `Moments`.

    f_mu(r) = scaling sum_k radial[s_i, s_j, mu, k] T_k(x) (cutoff - r)^2, x = (2 r - inner - cutoff) / (cutoff - inner),
    zero beyond the cutoff; below `inner` the Chebyshev polynomials go on. Shapeev, Multiscale Model. Simul. 14, 1153
    (2016); Novikov et al., Mach. Learn.: Sci. Technol. 2, 025002 (2021).

    params: "radial" (S, S, mu, k), indexed by the centre's species first; "scaling" (); "species_coeffs" (S,) eV and
    "moment_coeffs" (scalars,) eV, in which the energy is linear; perhaps "active_set" (n, n), see
    `mtp_grade`, which takes no part in the energy.

    Args:
        species: atomic numbers, in the order of the file's types.
        cutoff: Å ("max_dist").
        inner: Å ("min_dist").
        radial_size: number of Chebyshev polynomials.
        moments: the tables.
    """

    species: tuple[int, ...]
    cutoff: float
    inner: float
    radial_size: int
    moments: Moments
    block: ClassVar[int] = 16

    def __post_init__(self):
        if not 0 <= self.inner < self.cutoff < float("inf"):
            raise ValueError(f"MTP needs 0 <= inner < cutoff, in Å; got inner={self.inner}, cutoff={self.cutoff}.")
        if self.radial_size < 1:
            raise ValueError(f"MTP.radial_size is a number of polynomials, at least 1; got {self.radial_size}.")

    @property
    def linear_parameters(self) -> tuple[str, ...]:
        """Names of the parameters in which the energy is linear, the others being fixed."""
        return ("species_coeffs", "moment_coeffs")

    def init(self, key: Array, dtype=float) -> Params:
        """Return random parameters: radial functions of order 1, and small energies."""
        s, radial, linear = len(self.species), *jax.random.split(key)
        shape = (s, s, self.moments.radial_count, self.radial_size)
        decay = jnp.asarray(0.5 ** np.arange(self.radial_size), dtype)
        return {
            "radial": jax.random.normal(radial, shape, dtype) * decay,
            "scaling": jnp.asarray(1.0 / self.cutoff**2, dtype),
            "species_coeffs": jnp.zeros(s, dtype),
            "moment_coeffs": 0.01 * jax.random.normal(linear, (len(self.moments.scalars),), dtype),
        }

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        return params["species_coeffs"][graph.species] + self.descriptors(params, graph) @ params["moment_coeffs"]

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the scalars B_k of every atom, (n, scalars)."""
        near = graph.within(self.cutoff)
        return scalar_moments(self.moments, self.radial_functions(params, near), direction(*near.planes))

    def radial_functions(self, params: Params, graph: Graph) -> Array:
        """Return f_mu of every edge, (n, mu, M)."""
        distance = length(*graph.planes)
        r = jnp.minimum(distance, self.cutoff)
        x = (2.0 * r - (self.inner + self.cutoff)) * (1.0 / (self.cutoff - self.inner))
        t = [params["scaling"] * jnp.square(self.cutoff - r)]
        t.append(x * t[0])
        while len(t) < self.radial_size:
            t.append(2.0 * x * t[-1] - t[-2])
        planes = jnp.stack(t[: self.radial_size], axis=1)  # (n, k, M)
        c = params["radial"]
        if len(self.species) == 1:
            return jnp.einsum("uk,nkm->num", c[0, 0], planes, precision="highest")
        own = c[graph.species]  # (n, S, mu, k)
        out = jnp.zeros((), planes.dtype)
        for s in range(len(self.species)):
            mine = jnp.where((graph.neighbor_species == s)[:, None], planes, jnp.zeros((), planes.dtype))
            out = out + jnp.einsum("nuk,nkm->num", own[:, s], mine, precision="highest")
        return out

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["MTP", Params]:
        """Slice the coefficients; an active set, which belongs to all species, is left behind."""
        keep = np.array(subset(self.species, species))
        kept = {k: v for k, v in params.items() if k != "active_set"}
        kept |= {"radial": params["radial"][keep][:, keep], "species_coeffs": params["species_coeffs"][keep]}
        return replace(self, species=tuple(species)), kept
