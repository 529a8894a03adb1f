"""Bias potentials: energies that depend on the atoms through collective variables only."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.species import check_species, subset
from jaxmlp.energy import site_fn
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential
from jaxmlp.sampling.blocks import stored
from jaxmlp.sampling.variables import Variable, variable

if TYPE_CHECKING:
    from jaxmlp.system import System


@dataclass(frozen=True)
class Bias(Potential):
    """E = V(s), a function of collective variables s(R, box); a subclass is its formula. It adds to any potential.

    The energy belongs in equal parts to all atoms.

    Args:
        cv: a `Variable`, or a function f(R, box) -> scalar.
        species: atomic numbers of the potential; they play no role but must agree with those of potentials added to it.
    """

    cv: Variable
    species: tuple[int, ...]
    local: ClassVar[bool] = False

    def __post_init__(self):
        object.__setattr__(self, "cv", variable(self.cv))
        object.__setattr__(self, "species", tuple(self.species))
        check_species(type(self).__name__, self.species)

    @property
    def cutoff(self):
        return self.shells[-1]

    @property
    def shells(self):
        return self.cv.shells or (1.0,)  # a list that is not used, nearly empty; the protocol asks for one

    @property
    def uses_neighbors(self):  # type: ignore[override]
        return bool(self.cv.cutoff)

    @property
    def homogeneous(self):
        return self.cv.homogeneous

    def variables(self, graph: Graph) -> Array:
        """Return s, (d,), of a graph of the whole system, whose rows may reach further than the variables need."""
        if not self.cv.cutoff:
            return self.cv.of(graph)
        near = graph.within(self.cv.cutoff)
        return self.cv.of(replace(near, planes=stored(near.planes)))

    def bias(self, params: Params, s: Array) -> Array:
        """Return V(s), eV, of s (d,)."""
        raise NotImplementedError(f"{type(self).__name__} defines no bias.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        V = self.bias(params, self.variables(graph))
        atoms = jnp.sum(graph.existing(jnp.ones(graph.species.shape, V.dtype)))
        return jnp.broadcast_to(V / atoms, graph.species.shape)

    def for_system(self, system: "System") -> "Bias":
        return replace(self, cv=self.cv.for_system(system))

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Bias", Params]:
        subset(self.species, species)
        return replace(self, species=tuple(species)), params


class _Observed(Bias):
    """Variables as quantities of a potential, which `site_fn` knows how to evaluate."""

    def whole(self, params: Params, graph: Graph) -> Array:
        return self.variables(graph)

    def sites(self, params: Params, graph: Graph) -> Array:
        return self.cv.sites(graph.within(self.cv.cutoff))  # type: ignore[attr-defined]  # site_variable_fn looks for it


def variable_fn(
    cv: Any, system: "System", *, skin: float = 0.0, headroom: float = 0.1
) -> Callable[[Array, Array | None], Array]:
    """Return the pure function s(R, box) -> (d,) of a collective variable for the atoms of `system`.

    It searches the neighbours that the variable needs inside jit, and is differentiable. `jit` it.

    Args:
        cv: a `Variable`, or a function f(R, box) -> scalar.
        skin, headroom: as for `energy_fn`; where the list overflows s is NaN.
    """
    cv = variable(cv)
    if not cv.cutoff:
        return cv.for_system(system)
    values = site_fn(_Observed(cv, system.species), system, "whole", skin=skin, headroom=headroom)
    return lambda R, box=None: values(R, box, {})


def site_variable_fn(
    cv: Variable, system: "System", *, skin: float = 0.0, headroom: float = 0.1
) -> Callable[[Array, Array | None], Array]:
    """Return the pure function (R, box) -> (N,) of the values of single atoms behind a variable: q_l(i), say.

    Arguments as for `variable_fn`.

    Raises:
        ValueError: the variable is not made of values of atoms.
    """
    if not hasattr(cv, "sites"):
        raise ValueError(f"{type(cv).__name__} is not made of values of single atoms: use variable_fn.")
    values = site_fn(_Observed(cv, system.species), system, "sites", skin=skin, headroom=headroom)
    return lambda R, box=None: values(R, box, {})
