"""Edges of NequIP and Allegro: lengths over cutoffs of pairs of species, and the repulsion both may add."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.radial_bessel import polynomial_envelope
from jaxmlp.basis.screening import universal, universal_length
from jaxmlp.basis.species import pair_table
from jaxmlp.neighbors.graph import Graph

Cutoffs = tuple[tuple[float, ...], ...]


def edges(
    graph: Graph, cutoff: float, cutoffs: Cutoffs | None
) -> tuple[Array, Array, Array | float, tuple[Array, Array, Array]]:
    """Return r_ij, r_ij / rc_ij, rc_ij and the unit vectors of the edges, planes (n, M).

    Args:
        cutoff: Å.
        cutoffs: rc_ij in Å for each species of i and of j; None where all are `cutoff`.
    """
    r = length(*graph.planes)
    reach: Array | float = cutoff
    if cutoffs is not None:
        reach = pair_table(np.asarray(cutoffs), graph.species, graph.neighbor_species, r.dtype)
    return r, r / reach, reach, direction(*graph.planes)


def check_cutoffs(name: str, species: Sequence[int], cutoff: float, cutoffs: Cutoffs | None) -> None:
    """Refuse cutoffs of pairs that are no square table of distances up to the cutoff.

    Raises:
        ValueError: naming the class `name` and what came.
    """
    if not 0 < cutoff < float("inf"):
        raise ValueError(f"{name}.cutoff is a distance in Å and must be positive; got {cutoff}.")
    if cutoffs is None:
        return
    s = len(species)
    if len(cutoffs) != s or any(len(row) != s or not all(0 < c <= cutoff for c in row) for row in cutoffs):
        raise ValueError(f"{name}.cutoffs must be {s} rows of {s} distances in Å, 0 < rc <= {cutoff}; got {cutoffs}.")


def check_neighbors(name: str, species: Sequence[int], neighbors: tuple[float, ...]) -> None:
    """Refuse average numbers of neighbours that are not one, or one for each species, and positive.

    Raises:
        ValueError: naming the class `name` and what came.
    """
    if len(neighbors) not in (1, len(species)) or not all(0 < count < float("inf") for count in neighbors):
        raise ValueError(
            f"{name}.neighbors must be one positive average number of neighbours or {len(species)}; got {neighbors}."
        )


def check_envelopes(name: str, *exponents: int) -> None:
    """Refuse exponents of envelopes that are no integers of at least 2.

    Raises:
        ValueError: naming the class `name` and what came.
    """
    if not all(p >= 2 and p == int(p) for p in exponents):
        raise ValueError(f"{name} needs envelopes with integer exponents of at least 2; got {exponents}.")


def repulsion(graph: Graph, species: Sequence[int], r: Array, x: Array, strength: float, envelope: int) -> Array:
    """Return 1/2 sum_j strength Z_i Z_j / r phi(r / l_ij) u_p(x) for each atom, (n,) eV; see `basis.screening`.

    Args:
        species: atomic numbers Z of the species.
        strength: e^2 / (4 pi eps0), eV Å.
        envelope: p.
    """
    z = jnp.asarray(species, r.dtype)
    own, theirs = z[graph.species][:, None], z[graph.neighbor_species]
    pairs = own * theirs / r * universal(r / universal_length(own, theirs))
    return 0.5 * strength * jnp.sum(pairs * polynomial_envelope(x, envelope), axis=1)
