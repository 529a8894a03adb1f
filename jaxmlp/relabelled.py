"""A potential that takes the atoms of a system for atoms of other elements."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.species import subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params, Potential
from jaxmlp.system import System, species_index


def _graph(labels: Array, graph: Graph) -> Graph:
    """The graph with other species: labels (N,) index into those of the member."""
    own = labels if graph.index is None else labels.at[graph.index].get(mode="clip")  # beyond N - 1 they only pad
    theirs = jnp.where(graph.mask, labels[graph.neighbors], 0)
    return replace(graph, species=own, neighbor_species=theirs)


@dataclass(frozen=True)
class Relabelled(Potential):
    """E of the same positions with other elements; params {"labels": (N,) int32 into member.species, "member": ...}.

    Alchemical changes are paths from a potential to itself relabelled. Masses are those of the system.

    Args:
        species: atomic numbers of the systems it is for.
        member: the potential, which knows the new elements.
    """

    species: tuple[int, ...]
    member: Any  # a Potential

    def __new__(cls, species, member):
        stepwise = isinstance(member, MessagePassing) and not issubclass(cls, MessagePassing)
        return super().__new__(_RelabelledSteps if stepwise else cls)

    @property
    def cutoff(self):  # type: ignore[override]
        return self.member.cutoff

    @property
    def shells(self):
        return self.member.shells

    @property
    def local(self):  # type: ignore[override]
        return self.member.local

    @property
    def pairwise(self):  # type: ignore[override]
        return self.member.pairwise

    @property
    def uses_neighbors(self):  # type: ignore[override]
        return self.member.uses_neighbors

    @property
    def homogeneous(self):  # type: ignore[override]
        return self.member.homogeneous

    @property
    def block(self):  # type: ignore[override]
        return self.member.block

    def site_energies(self, params: Params, graph: Graph) -> Array:
        return self.member.site_energies(params["member"], _graph(params["labels"], graph))

    def terms(self, params):
        if self.local or isinstance(self.member, MessagePassing):
            return super().terms(params)
        parts = self.member.terms(params["member"])
        return [(type(self)(self.species, m), params | {"member": p}, weight) for m, p, weight in parts]

    def linear_parameters(self, params: Params) -> Params:
        return {"labels": None, "member": self.member.linear_parameters(params["member"])}

    def for_system(self, system: System) -> "Relabelled":
        return replace(self, member=self.member.for_system(system))

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Relabelled", Params]:
        subset(self.species, species)
        return replace(self, species=tuple(species)), params


class _RelabelledSteps(Relabelled, MessagePassing):
    """A relabelled potential whose atoms pass messages."""

    @property
    def steps(self):
        return self.member.steps

    def step(self, k, params, graph, own, theirs):
        return self.member.step(k, params["member"], _graph(params["labels"], graph), own, theirs)

    site_energies = MessagePassing.site_energies


def relabelled(
    potential: Potential, params: Params, system: System, numbers, *, species: tuple[int, ...] | None = None
) -> tuple[Relabelled, Params]:
    """Return the potential and parameters of `system` with other atomic numbers.

    Args:
        numbers: (N,) the new atomic numbers.
        species: atomic numbers that it stands for; None for those of `system`, in the order of `potential`.

    Raises:
        ValueError: the potential lacks a new element, or there are not as many numbers as atoms.
    """
    numbers = np.asarray(numbers, np.int32)
    if numbers.shape != (len(system),):
        raise ValueError(f"numbers are one atomic number for each of {len(system)} atoms; got shape {numbers.shape}.")
    species_index(potential.species, numbers)  # says which elements the potential lacks
    new = tuple(z for z in potential.species if z in set(numbers.tolist()))
    member, p = potential.restrict(params, new) if new != potential.species else (potential, params)
    old = tuple(z for z in potential.species if z in set(system.species)) if species is None else tuple(species)
    labels = jnp.asarray(species_index(new, numbers))
    return Relabelled(old, member), {"labels": labels, "member": p}
