"""Tabulated pair potentials with cubic splines: the repulsive cores of published GAPs (QUIP's `IP Glue`)."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.interpolate import CubicSpline

from jaxmlp.basis.edges import length
from jaxmlp.basis.species import is_pair, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential


@dataclass(frozen=True)
class Glue(Potential):
    """E_i = 1/2 sum_j V_ij(r_ij), V a cubic spline up to its last knot, 0 beyond, and a straight line before the first.

    Only pair terms: densities and embedding of a glue (embedded-atom) potential are not part of this class, `EAM` has
    them. V may step at its last knot, where the file's does.

    params: for every pair {"knots": (n,) Å, all but the last; "coefficients": (n + 1, 4) eV/Å^3, eV/Å^2, eV/Å, eV of
    the cubics that begin there, the straight line first}. See `table`.

    Args:
        species: atomic numbers.
        pairs: atomic numbers of the two atoms, for every pair that interacts.
        cutoffs: Å, the last knot of every pair.
    """

    species: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    cutoffs: tuple[float, ...]
    block: ClassVar[int] = 64
    pairwise: ClassVar[bool] = True

    def __post_init__(self):
        if len(set(map(frozenset, self.pairs))) != len(self.pairs) or len(self.pairs) != len(self.cutoffs):
            raise ValueError(f"Glue needs every pair once, with a cutoff; got {self.pairs} and {self.cutoffs}.")
        subset(self.species, tuple({z for pair in self.pairs for z in pair}))
        if not self.pairs or not all(0 < c < 1000 for c in self.cutoffs):
            raise ValueError(f"Glue.cutoffs are distances in Å, positive and below 1000; got {self.cutoffs}.")

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Å, the largest cutoff of a pair."""
        return max(self.cutoffs)

    def site_energies(self, params: Params, graph: Graph) -> Array:
        distance = length(*graph.planes)
        total = jnp.zeros_like(distance)
        for pair, cutoff, p in zip(self.pairs, self.cutoffs, params, strict=True):
            match = is_pair(pair, self.species, graph.species, graph.neighbor_species, distance.dtype)
            inside = distance < cutoff
            r = jnp.where(inside, distance, 0.5 * cutoff)
            k = jnp.searchsorted(p["knots"], r, side="right")
            t = r - jnp.concatenate([p["knots"][:1], p["knots"]])[k]
            c = [p["coefficients"][:, power][k] for power in range(4)]
            V = ((c[0] * t + c[1]) * t + c[2]) * t + c[3]
            total += jnp.where(inside, match * V, 0.0)
        return 0.5 * jnp.sum(total, axis=1)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Potential", Params]:
        subset(self.species, species)
        kept = [k for k, pair in enumerate(self.pairs) if set(pair) <= set(species)]
        if not kept:  # no pair interacts: keep the shortest form of nothing
            z = species[0]
            nothing = {"knots": jnp.ones(1), "coefficients": jnp.zeros((2, 4))}
            return Glue(tuple(species), ((z, z),), (1.0,)), (nothing,)
        pairs, cutoffs = (tuple(x[k] for k in kept) for x in (self.pairs, self.cutoffs))
        return Glue(tuple(species), pairs, cutoffs), tuple(params[k] for k in kept)


def table(r: np.ndarray, E: np.ndarray, first: float | None, last: float | None) -> dict[str, Array]:
    """Return the parameters of a pair from knots r (Å) and energies E (eV), any order.

    Args:
        first, last: slopes at the end knots, eV/Å; None for a second derivative of 0.

    Raises:
        ValueError: fewer than two knots, or some at the same r.
    """
    order = np.argsort(r, kind="stable")
    x, y = np.asarray(r, float)[order], np.asarray(E, float)[order]
    if len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError(f"a spline needs at least two knots at different distances; got {len(x)}.")
    ends = tuple((2, 0.0) if slope is None else (1, slope) for slope in (first, last))
    spline = CubicSpline(x, y, bc_type=ends)
    below = np.array([0.0, 0.0, float(spline(x[0], 1)), y[0]])
    return {"knots": jnp.asarray(x[:-1]), "coefficients": jnp.asarray(np.vstack([below, spline.c.T]))}
