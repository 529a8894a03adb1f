"""Descriptors of pairs, angles and clusters of atoms, as GAP defines them: distance_2b, angle_3b and distance_Nb.

A descriptor has `dimensions` d, a `cutoff`, and `instances(species, graph)`, which returns vectors x (n, I, d) and
weights (n, I) such that the energy of atom i is sum_I weight sum_s alpha_s k(x, x_s). A weight is the cutoff factor
times how often QUIP counts the instance, 0 where there is none; x is finite everywhere.
"""

from dataclasses import dataclass
from functools import reduce
from itertools import combinations, permutations
from operator import mul

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erf

from jaxmlp.basis.cutoffs import cosine_transition
from jaxmlp.basis.edges import length
from jaxmlp.basis.neighbor_pairs import Pairs
from jaxmlp.basis.species import is_element, is_pair
from jaxmlp.neighbors.graph import Graph

# Å; the distance of two neighbours is not differentiated below: a slot paired with itself, and padded slots, are there.
SMALLEST = 1e-3


def check_cutoff(name: str, cutoff: float, width: float) -> None:
    """Refuse cutoffs (Å) that make no sense.

    Raises:
        ValueError: naming the descriptor and the value.
    """
    for field, value in (("cutoff", cutoff), ("cutoff_transition_width", width)):
        if not 0 < value < 1000:
            raise ValueError(f"{name}.{field} is a distance in Å, positive and below 1000; got {value}.")


def check_elements(name: str, elements: tuple[int, ...], count: int) -> None:
    """Refuse what are not `count` atomic numbers, or 0 for any element.

    Raises:
        ValueError: naming the descriptor and the value.
    """
    if len(elements) != count or any(not 0 <= z <= 118 for z in elements):
        raise ValueError(f"{name}.elements must be {count} atomic numbers, or 0 for any element; got {elements}.")


@dataclass(frozen=True)
class Distance2b:
    """distance_2b: x = (r^p for p in exponents) of every pair; both atoms of a pair have it as an instance.

    Cutoff factor f(r), times (erf(tail_range r) / r)^tail_exponent where tail_range is given.

    Args:
        cutoff: Å.
        cutoff_transition_width: Å, over which f falls from 1 to 0.
        elements: atomic numbers of the two atoms, in any order; 0 stands for any element.
        exponents: integers.
        tail_range: 1/Å, or None.
        tail_exponent: of the tail.
    """

    cutoff: float
    cutoff_transition_width: float = 0.5
    elements: tuple[int, int] = (0, 0)
    exponents: tuple[int, ...] = (1,)
    tail_range: float | None = None
    tail_exponent: int = 0

    def __post_init__(self):
        check_cutoff("Distance2b", self.cutoff, self.cutoff_transition_width)
        check_elements("Distance2b", self.elements, 2)
        if not self.exponents or any(p != int(p) or abs(p) > 100 for p in self.exponents):
            raise ValueError(f"Distance2b.exponents must be integers of at most 100; got {self.exponents}.")
        if self.tail_range is not None and not 0 < self.tail_range < 1000:
            raise ValueError(f"Distance2b.tail_range, in 1/Å, must be positive and below 1000; got {self.tail_range}.")

    @property
    def dimensions(self) -> int:
        return len(self.exponents)

    def instances(self, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
        """Return x (n, M, d) and weights (n, M), for atoms whose species are indices into `species`."""
        r, weight = bonds(self, species, graph.within(self.cutoff))
        if self.tail_range is not None:
            weight *= (erf(self.tail_range * r) / r) ** self.tail_exponent
        return jnp.stack([r**p for p in self.exponents], axis=-1), weight


def bonds(descriptor, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
    """Return distances (n, M) Å, and f(r) where the two atoms are the descriptor's elements, else 0."""
    distance = length(*graph.planes)
    r = jnp.where(distance < descriptor.cutoff, distance, descriptor.cutoff)
    f = cosine_transition(r, descriptor.cutoff, descriptor.cutoff_transition_width)
    return r, f * is_pair(descriptor.elements, species, graph.species, graph.neighbor_species, r.dtype)


@dataclass(frozen=True)
class Angle3b:
    """angle_3b: x = (r_ij + r_ik, (r_ij - r_ik)^2, r_jk) of a centre i and two of its neighbours.

    Cutoff factor f(r_ij) f(r_ik). QUIP counts j, k and k, j: here each pair comes once with twice the weight.

    Args:
        cutoff: Å, of r_ij and r_ik.
        cutoff_transition_width: Å, over which f falls from 1 to 0.
        center: atomic number of i; 0 stands for any element.
        elements: atomic numbers of j and k, in any order; 0 stands for any element.
    """

    cutoff: float
    cutoff_transition_width: float = 0.5
    center: int = 0
    elements: tuple[int, int] = (0, 0)

    def __post_init__(self):
        check_cutoff("Angle3b", self.cutoff, self.cutoff_transition_width)
        check_elements("Angle3b", self.elements, 2)
        if not 0 <= self.center <= 118:
            raise ValueError(f"Angle3b.center is an atomic number, or 0 for any element; got {self.center}.")

    @property
    def dimensions(self) -> int:
        return 3

    def instances(self, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
        """Return x (n, I, 3) and weights (n, I), for atoms whose species are indices into `species`."""
        graph = graph.within(self.cutoff)
        pairs = Pairs(1.0, graph)
        r = pairs.r
        f = cosine_transition(r, self.cutoff, self.cutoff_transition_width)
        fa, fb = (f * is_element(z, species, graph.neighbor_species, r.dtype) for z in self.elements)
        if self.elements[0] == self.elements[1]:
            match = pairs.products(fa[:, None], fa[:, None])
        else:  # either order, once where both orders fit
            both = fa * is_element(self.elements[1], species, graph.neighbor_species, r.dtype)
            match = pairs.products(jnp.stack([fa, fb, -both], 1), jnp.stack([fb, fa, both], 1))
        i = is_element(self.center, species, graph.species, r.dtype).reshape(-1, 1, 1, 1)
        weight = (2.0 * i) * pairs.weight * match
        one = jnp.ones_like(r)
        difference = pairs.products(jnp.stack([r, one], 1), jnp.stack([one, -r], 1))
        x = (2.0 * pairs.mean(), difference**2, pairs.gap(SMALLEST))
        return joined(x), weight.reshape(len(r), -1)


@dataclass(frozen=True)
class DistanceNb:
    """distance_Nb: x = all distances of N atoms, (1, 2), (1, 3) ... (2, 3) ..., the atoms in order of atomic number.

    Atoms of the same element have no order: the covariance function has to be symmetric under their `permutations`.

    - compact_clusters: N - 1 neighbours of a centre, which may be any of the N elements. Each set of neighbours of each
      centre is an instance, its centre the first atom. Cutoff factor: the product of f(r) over the neighbours.
    - otherwise: sets of atoms connected by bonds shorter than the cutoff, each once. Cutoff factor: the sum over the
      connected graphs of the product of f over bonds and 1 - f over the others. For N = 3 that is f_12 f_13 (1 - f_23)
      at the middle atom of each path and f_12 f_13 f_23 for a triangle, a third of it at each atom.

    QUIP divides the energy of a cluster among its atoms. Here the centre (a pair: each atom, half) has it: only the
    total energy is the same.

    Args:
        order: N, the number of atoms of a cluster, from 2.
        cutoff: Å.
        cutoff_transition_width: Å, over which f falls from 1 to 0.
        elements: N atomic numbers, in any order; 0, or () for all 0, stands for any element. From N = 3 all or none are
            0, and in compact clusters all are different or all the same, with few exceptions: otherwise QUIP's own
            energy depends on the order in which the atoms are listed.
        compact_clusters: see above; needed for N > 3.
    """

    order: int
    cutoff: float
    cutoff_transition_width: float = 0.5
    elements: tuple[int, ...] = ()
    compact_clusters: bool = False

    def __post_init__(self):
        if not 2 <= self.order <= 6:
            raise ValueError(f"DistanceNb.order is a number of atoms from 2 to 6; got {self.order}.")
        if self.order > 3 and not self.compact_clusters:
            raise ValueError(
                f"DistanceNb of order {self.order} is implemented for compact_clusters=True only: other clusters reach "
                "beyond the neighbours of one atom. Orders 2 and 3 are there for both."
            )
        object.__setattr__(self, "elements", tuple(self.elements) or (0,) * self.order)
        check_cutoff("DistanceNb", self.cutoff, self.cutoff_transition_width)
        check_elements("DistanceNb", self.elements, self.order)
        if self.order > 2 and 0 in self.elements and any(self.elements):
            raise ValueError(
                f"DistanceNb.elements of order {self.order} must be all given or all 0 (any element); got "
                f"{self.elements}. With both, an energy depends on the order in which the atoms are listed."
            )
        if self.compact_clusters and any(not self._definite(z) for z in self.elements):
            raise ValueError(
                f"DistanceNb.elements = {self.elements} with compact_clusters=True: QUIP puts the centre first and "
                "symmetrises as if the atoms were in order of atomic number, so that its energy depends on how equal "
                "atoms are listed. Use compact_clusters=False, or elements all equal, all different, or 0."
            )

    def _definite(self, center: int) -> bool:
        """Whether the permutations exchange all equal neighbours of a centre."""
        others = list(self.elements)
        others.remove(center)
        atoms, symmetric = [center, *sorted(others)], sorted(self.elements)
        pairs = combinations(range(1, self.order), 2)
        return all(symmetric[a] == symmetric[b] for a, b in pairs if atoms[a] == atoms[b])

    @property
    def dimensions(self) -> int:
        return self.order * (self.order - 1) // 2

    @property
    def permutations(self) -> tuple[tuple[int, ...], ...]:
        """Permutations of the distances under exchanges of atoms of the same element, for `Covariance`."""
        elements = sorted(self.elements)
        pairs = list(combinations(range(self.order), 2))
        rows = {
            tuple(pairs.index(tuple(sorted((p[a], p[b])))) for a, b in pairs)
            for p in permutations(range(self.order))
            if all(elements[p[a]] == z for a, z in enumerate(elements))
        }
        return tuple(sorted(rows))

    def instances(self, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
        """Return x (n, I, d) and weights (n, I), for atoms whose species are indices into `species`."""
        graph = graph.within(self.cutoff)
        if self.order == 2:
            r, weight = bonds(self, species, graph)
            return r[..., None], weight if self.compact_clusters else 0.5 * weight
        if self.order == 3:
            return self._triplets(species, graph)
        return self._combinations(species, graph)

    def _f(self, r: Array) -> Array:
        return cosine_transition(r, self.cutoff, self.cutoff_transition_width)

    def _triplets(self, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
        """Every pair of neighbours, by products of matrices."""
        pairs = Pairs(1.0, graph)
        r, one = pairs.r[:, None], jnp.ones_like(pairs.r)[:, None]
        third = pairs.gap(SMALLEST)
        f = self._f(r)
        weight = pairs.weight * pairs.products(f, f)
        if not self.compact_clusters:
            weight = weight * (1.0 - 2.0 / 3.0 * self._f(third))
        distances = {(0, 1): pairs.products(r, one), (0, 2): pairs.products(one, r), (1, 2): third}

        def has(z: int) -> list[Array]:
            i = is_element(z, species, graph.species, r.dtype).reshape(-1, 1, 1, 1)
            j = is_element(z, species, graph.neighbor_species, r.dtype)[:, None]
            return [i, jnp.swapaxes(pairs.left(j), -1, -2), pairs.right(j)]

        return self._ordered(distances, weight, has)

    def _combinations(self, species: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
        """Every set of N - 1 neighbours, listed."""
        slots = graph.planes[0].shape[1]
        sets = np.array(list(combinations(range(slots), self.order - 1)), int).reshape(-1, self.order - 1).T
        r = length(*graph.planes)
        distances = {(0, k + 1): r[:, column] for k, column in enumerate(sets)}
        for (j, first), (k, second) in combinations(enumerate(sets), 2):
            square = sum((plane[:, first] - plane[:, second]) ** 2 for plane in graph.planes)
            distances[j + 1, k + 1] = jnp.sqrt(jnp.maximum(square, SMALLEST**2))
        f = self._f(r)
        weight = reduce(mul, [f[:, column] for column in sets])

        def has(z: int) -> list[Array]:
            j = is_element(z, species, graph.neighbor_species, r.dtype)
            return [is_element(z, species, graph.species, r.dtype)[:, None], *(j[:, column] for column in sets)]

        return self._ordered(distances, weight, has)

    def _ordered(self, distances: dict, weight: Array, has) -> tuple[Array, Array]:
        """x and weights with the atoms in QUIP's order; `has(z)` says of every atom whether it is z.

        Every arrangement of the elements over the atoms 0 (the centre), 1, 2 ... has its own.
        """
        pairs = list(combinations(range(self.order), 2))
        if not any(self.elements):
            return joined([distances[p] for p in pairs]), weight.reshape(len(weight), -1)
        fits = {z: has(z) for z in set(self.elements)}
        x, match = [jnp.zeros_like(weight)] * len(pairs), jnp.zeros_like(weight)
        for arrangement in sorted(set(permutations(self.elements))):
            here = reduce(mul, [fits[z][atom] for atom, z in enumerate(arrangement)])
            first = 1 if self.compact_clusters else 0  # from here on, atoms are sorted
            order = [*range(first), *sorted(range(first, self.order), key=arrangement.__getitem__)]
            x = [
                value + here * distances[min(order[a], order[b]), max(order[a], order[b])]
                for value, (a, b) in zip(x, pairs)
            ]
            match += here
        return joined(x), (weight * match).reshape(len(weight), -1)


def joined(planes) -> Array:
    """Return (n, I, d) of d planes (n, ...) over instances."""
    return jnp.stack([p.reshape(len(p), -1) for p in planes], axis=-1)
