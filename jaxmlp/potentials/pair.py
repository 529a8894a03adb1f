"""Pair potentials: base classes for a formula phi(r) and for its tail; Lennard-Jones and Morse."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.cutoffs import TRUNCATIONS, cut_off
from jaxmlp.basis.species import pair_values, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential


@dataclass(frozen=True)
class PairPotential(Potential):
    """E_i = 1/2 sum_j phi_ij(r_ij), with phi cut off as `basis.cutoffs.cut_off` describes.

    A subclass is a formula: `phi(p, r_squared)`, where p holds the parameters of the pair. Every leaf of params is
    (S, S), indexed by the species of the two atoms (or `tables` makes such leaves), and should be symmetric: the two
    halves of a pair energy take their parameters from the two orders.

    Args:
        species: atomic numbers, in the order of the axes of the parameters.
        cutoff: Å.
        truncation: "truncated", "shifted", "force-shifted" or "smoothed".
        inner: Å, where smoothing begins; needed by "smoothed" only.
    """

    species: tuple[int, ...]
    cutoff: float
    truncation: str = "truncated"
    inner: float | None = None
    pairwise: ClassVar[bool] = True

    def __post_init__(self):
        name = type(self).__name__
        if not 0 < self.cutoff < float("inf"):
            raise ValueError(f"{name}.cutoff is a distance in Å and must be positive; got {self.cutoff}.")
        if self.truncation not in TRUNCATIONS:
            raise ValueError(f"{name}.truncation must be one of {TRUNCATIONS}; got {self.truncation!r}.")
        if (self.truncation == "smoothed") != (self.inner is not None):
            raise ValueError(f'{name}.inner goes with truncation="smoothed", and only with it; got inner={self.inner}.')
        if self.inner is not None and not 0 <= self.inner < self.cutoff:
            raise ValueError(f"{name}.inner must lie between 0 and the cutoff {self.cutoff} Å; got {self.inner}.")

    def phi(self, p: Params, r_squared: Array) -> Array:
        """Return the pair energy (eV) for squared distances (Å^2), without any cutoff."""
        raise NotImplementedError(f"{type(self).__name__} defines no phi(p, r_squared).")

    def tables(self, params: Params) -> Params:
        """Return the parameters of every pair of species, leaves (S, S)."""
        return params

    def pair_energy(self, params: Params, r_squared: Array, species: Array, neighbor_species: Array) -> Array:
        """Return phi with its truncation, (n, M) eV; zero beyond the cutoff."""
        p = jax.tree.map(lambda table: pair_values(table, species, neighbor_species), self.tables(params))
        inside = r_squared < self.cutoff**2
        r_squared = jnp.where(inside, r_squared, self.cutoff**2)
        if self.truncation == "truncated":
            energy = self.phi(p, r_squared)
        else:
            # The constants at the cutoff are computed once for each pair of parameters: scalars for one species.
            end = jnp.full_like(jax.tree.leaves(p)[0], self.cutoff)
            energy = cut_off(lambda r: self.phi(p, r * r), self.truncation, end, self.inner)(jnp.sqrt(r_squared))
        return jnp.where(inside, energy, 0.0)

    def site_energies(self, params: Params, graph: Graph) -> Array:
        energy = self.pair_energy(params, graph.squared_distances, graph.species, graph.neighbor_species)
        return 0.5 * jnp.sum(energy, axis=1)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["PairPotential", Params]:
        keep = np.array(subset(self.species, species))
        return replace(self, species=tuple(species)), jax.tree.map(lambda x: x[keep][:, keep], params)


class LennardJones(PairPotential):
    """phi(r) = 4 epsilon ((sigma/r)^12 - (sigma/r)^6); params {"epsilon": (S, S) eV, "sigma": (S, S) Å}.

    The truncations differ by far more than rounding: every published number belongs to one of them. "truncated" with
    `LennardJonesTail` added is the fluid with long-range corrections.
    """

    def phi(self, p: Params, r_squared: Array) -> Array:
        s6 = (p["sigma"] ** 2 / r_squared) ** 3
        return 4.0 * p["epsilon"] * (s6 * s6 - s6)


class Morse(PairPotential):
    """phi(r) = depth (exp(-2 alpha (r - length)) - 2 exp(-alpha (r - length))), a well of that depth at that length.

    params {"depth": (S, S) eV, "alpha": (S, S) 1/Å, "length": (S, S) Å}.
    """

    def phi(self, p: Params, r_squared: Array) -> Array:
        x = jnp.exp(-p["alpha"] * (jnp.sqrt(r_squared) - p["length"]))
        return p["depth"] * (x * x - 2.0 * x)


@dataclass(frozen=True)
class PairTail(Potential):
    """What a truncated pair potential lacks beyond the cutoff rc if all is uniform there (g = 1).

    E = (2 pi / V) sum_ij int_rc^inf phi_ij(r) r^2 dr, the sum over all N^2 ordered pairs of atoms. Derivatives with
    respect to the box take rc along with it, rc ~ V^(1/3): that gives the full correction of the pressure,
    -(2 pi / 3 V^2) sum_ij int_rc^inf phi_ij'(r) r^3 dr, as the virial of the truncated potential knows nothing of the
    atoms that a strain moves across the cutoff. (At a fixed rc it would be E/V, which lacks the term rc^3 phi(rc) of
    those.) A subclass is the integral, `integral(p, cutoff)`, of the parameters of the potential that is corrected, to
    which it is added: (LennardJones(s, rc) + LennardJonesTail(s, rc), (params, params)).

    Args:
        species: atomic numbers.
        cutoff: rc, Å, of the potential that is corrected.
    """

    species: tuple[int, ...]
    cutoff: float
    local: ClassVar[bool] = False
    uses_neighbors: ClassVar[bool] = False

    def integral(self, p: Params, cutoff: Array) -> Array:
        """Return int_rc^inf phi(r) r^2 dr of all pairs of species, (S, S) eV Å^3."""
        raise NotImplementedError(f"{type(self).__name__} defines no integral(p, cutoff).")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        if graph.box is None:
            raise ValueError(
                f"{type(self).__name__} needs a density: the system must have a box, periodic in all directions."
            )
        volume = jnp.abs(jnp.linalg.det(graph.box))
        cutoff = self.cutoff * jnp.cbrt(volume / jax.lax.stop_gradient(volume))
        one_hot = graph.species[:, None] == jnp.arange(len(self.species), dtype=graph.species.dtype)
        one_hot = graph.existing(one_hot)
        density = jnp.sum(one_hot, axis=0).astype(volume.dtype) / volume
        return (2.0 * jnp.pi * self.integral(params, cutoff) @ density)[graph.species]

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["PairTail", Params]:
        keep = np.array(subset(self.species, species))
        return replace(self, species=tuple(species)), jax.tree.map(lambda x: x[keep][:, keep], params)


class LennardJonesTail(PairTail):
    """The tail of `LennardJones`: int phi r^2 dr = 4 epsilon (sigma^12 / (9 rc^9) - sigma^6 / (3 rc^3))."""

    def integral(self, p: Params, cutoff: Array) -> Array:
        s6 = p["sigma"] ** 6 / cutoff**3
        return 4.0 * p["epsilon"] * s6 * (s6 / (9.0 * cutoff**3) - 1.0 / 3.0)


def lorentz_berthelot(epsilon: Sequence[float], sigma: Sequence[float]) -> dict[str, Array]:
    """Return Lennard-Jones parameters for all pairs: epsilon_ij = sqrt(epsilon_i epsilon_j), sigma_ij the mean."""
    e, s = np.atleast_1d(np.asarray(epsilon, float)), np.atleast_1d(np.asarray(sigma, float))
    if e.ndim != 1 or e.shape != s.shape or not ((e >= 0) & np.isfinite(e) & (s > 0) & np.isfinite(s)).all():
        raise ValueError(f"epsilon (eV, not negative) and sigma (Å, positive): one for each species; got {e} and {s}.")
    mixed = {"epsilon": np.sqrt(e[:, None] * e), "sigma": (s[:, None] + s) / 2}
    return {name: jnp.asarray(x, float) for name, x in mixed.items()}


def lennard_jones(
    species: Sequence[int],
    epsilon: float | Sequence[float],
    sigma: float | Sequence[float],
    cutoff: float,
    *,
    truncation: str = "truncated",
    tail: bool = False,
) -> tuple[Potential, Params]:
    """Return a Lennard-Jones potential with Lorentz-Berthelot mixing, and its parameters.

    Args:
        species: atomic numbers.
        epsilon, sigma: eV and Å, one for each species, or one number for all.
        cutoff: Å.
        truncation: see `PairPotential`.
        tail: add `LennardJonesTail`; goes with "truncated" only.
    """
    species = tuple(int(z) for z in species)
    of_species = [np.broadcast_to(np.asarray(x, float), (len(species),)) for x in (epsilon, sigma)]
    params = lorentz_berthelot(*of_species)
    potential = LennardJones(species, float(cutoff), truncation)
    if not tail:
        return potential, params
    if truncation != "truncated":
        raise ValueError(f'the tail correction belongs to truncation="truncated"; got {truncation!r}.')
    return potential + LennardJonesTail(species, float(cutoff)), (params, params)
