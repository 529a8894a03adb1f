"""Collective variables: smooth functions s(R, box) that a simulation is followed, held or driven along."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.neighbors.graph import Graph

if TYPE_CHECKING:
    from jaxmlp.system import System


class Variable:
    """A frozen, hashable set of numbers with one pure method, of(graph) -> s (size,).

    Subclasses are frozen dataclasses. One that needs no neighbours is also a function of its own, variable(R, box); for
    all there is `variable_fn(variable, system)`. Positions are taken unwrapped, as dynamics keeps them.

    Attributes:
        cutoff: Å, how far the rows of the graph have to reach; 0 where no neighbours are needed. Rows may reach
            further, so every term has to vanish there.
        size: number of components of s.
        periods: of every component, in its unit; 0 for one that is not periodic.
        homogeneous: moving all atoms together changes nothing.
    """

    cutoff: float = 0.0
    size: int = 1
    homogeneous: bool = True

    @property
    def periods(self) -> tuple[float, ...]:
        return (0.0,) * self.size

    @property
    def shells(self) -> tuple[float, ...]:
        """The cutoffs of all parts that need neighbours, growing."""
        return (self.cutoff,) if self.cutoff else ()

    def of(self, graph: Graph) -> Array:
        """Return s, (size,), of a graph of the whole system whose rows hold all neighbours nearer than `cutoff`."""
        raise NotImplementedError(f"{type(self).__name__} defines no of(graph).")

    def __call__(self, R: Array, box: Array | None = None) -> Array:
        """Return s, (size,), of R (N, 3) Å and box (3, 3) Å or None.

        Raises:
            ValueError: the variable needs neighbours.
        """
        if self.cutoff:
            raise ValueError(
                f"{type(self).__name__} needs neighbours: `variable_fn(variable, system)` makes a function of (R, box)."
            )
        R = jnp.asarray(R)
        return self.of(without_neighbors(R, None if box is None else jnp.asarray(box)))

    def for_system(self, system: "System") -> "Variable":
        """Return the variable with what it takes from the system, its periodic directions, set for it."""
        return replace(self, pbc=system.pbc) if is_dataclass(self) and hasattr(self, "pbc") else self

    def difference(self, s: Array, center: Array) -> Array:
        """Return s - center, (..., size), the short way round where a component is periodic."""
        d, periods = s - center, np.array(self.periods)
        if not periods.any():
            return d
        turn = jnp.asarray(np.where(periods > 0, periods, 1.0), d.dtype)
        return jnp.where(periods > 0, d - turn * jnp.round(d / turn), d)


@dataclass(frozen=True)
class Function(Variable):
    """s = function(R, box), any pure function that returns a scalar or (size,).

    Args:
        function: of R (N, 3) Å and box (3, 3) Å or None; differentiable where it is used in a bias. It must be
            hashable, as functions are; to be compiled once it must be the same object in every call.
        size: number of components.
        period: of every component; 0 for one that is not periodic; () where none is.
        homogeneous: moving all atoms together changes nothing. If so, dynamics may keep the total momentum at zero.
    """

    function: Callable[[Array, Array | None], Array]
    size: int = 1
    period: tuple[float, ...] = ()
    homogeneous: bool = False

    def __post_init__(self):
        _check_function(self)

    @property
    def periods(self):
        return self.period or (0.0,) * self.size

    def of(self, graph: Graph) -> Array:
        return _components(self, self.function(graph.R, graph.box))


@dataclass(frozen=True)
class Stack(Variable):
    """s = (s_1, s_2, ...), the components of several variables one after the other."""

    variables: tuple[Variable, ...]

    def __post_init__(self):
        if not self.variables:
            raise ValueError("a Stack needs at least one variable.")
        object.__setattr__(self, "variables", tuple(map(variable, self.variables)))

    @property
    def cutoff(self):
        return max(v.cutoff for v in self.variables)

    @property
    def size(self):
        return sum(v.size for v in self.variables)

    @property
    def homogeneous(self):
        return all(v.homogeneous for v in self.variables)

    @property
    def periods(self):
        return tuple(p for v in self.variables for p in v.periods)

    @property
    def shells(self):
        return tuple(sorted({c for v in self.variables for c in v.shells}))

    def of(self, graph: Graph) -> Array:
        return jnp.concatenate([v.of(graph.within(v.cutoff) if v.cutoff else graph) for v in self.variables])

    def for_system(self, system):
        return Stack(tuple(v.for_system(system) for v in self.variables))


@dataclass(frozen=True)
class Transformed(Variable):
    """s = function(s') of other variables: differences, ratios, a learned projection.

    Args:
        variable: gives s' (d,); several are a `Stack`.
        function: pure, of s' (d,), returns a scalar or (size,).
        size, period: of what it returns, as for `Function`.
    """

    variable: Variable
    function: Callable[[Array], Array]
    size: int = 1
    period: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "variable", variable(self.variable))
        _check_function(self)

    @property
    def cutoff(self):
        return self.variable.cutoff

    @property
    def shells(self):
        return self.variable.shells

    @property
    def homogeneous(self):
        return self.variable.homogeneous

    @property
    def periods(self):
        return self.period or (0.0,) * self.size

    def of(self, graph: Graph) -> Array:
        return _components(self, self.function(self.variable.of(graph)))

    def for_system(self, system):
        return replace(self, variable=self.variable.for_system(system))


def variable(cv: Any) -> Variable:
    """Return `cv` if it is a `Variable`, else the variable of a function f(R, box) -> scalar.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(cv, Variable):
        return cv
    if not callable(cv):
        raise ValueError(f"a collective variable is a Variable or a function of (R, box); got {cv!r}.")
    return Function(cv)


def _check_function(v: Function | Transformed) -> None:
    name = type(v).__name__
    if not callable(v.function) or not isinstance(v.function, Hashable):
        raise ValueError(f"{name}.function must be a function, and hashable; got {v.function!r}.")
    if v.size < 1:
        raise ValueError(f"{name}.size is a number of components and must be at least 1; got {v.size}.")
    if v.period and len(v.period) != v.size:
        raise ValueError(f"{name}.period must have {v.size} entries, one for each component; got {v.period}.")


def _components(v: Function | Transformed, s: Array) -> Array:
    if jnp.shape(s) not in ((v.size,), ()) or (jnp.shape(s) == () and v.size != 1):
        raise ValueError(
            f"the function of this {type(v).__name__} returns shape {jnp.shape(s)}; with size={v.size} it must be "
            f"({v.size},){' or a scalar' if v.size == 1 else ''}. Set `size` to the number of its components."
        )
    return jnp.reshape(s, (v.size,))


def without_neighbors(R: Array, box: Array | None) -> Graph:
    """Return the graph of N atoms of one species with no room for neighbours."""
    none = jnp.zeros((len(R), 0), R.dtype)
    index = none.astype(jnp.int32)
    return Graph(jnp.zeros(len(R), jnp.int32), (none,) * 3, index, index, none > 0, R, box)


def root(square: Array) -> Array:
    """Return the square root; its derivatives are set to zero where it is 0."""
    some = square > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)


def atom_indices(name: str, atoms, N: int | None = None) -> tuple[int, ...]:
    """Return indices of different atoms, counted from 0, as a tuple.

    Raises:
        ValueError: they are not integers, negative, repeated, or too large for N atoms.
    """
    array = np.atleast_1d(np.asarray(atoms))
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be one or more integers, indices of atoms; got {atoms!r}.")
    if array.min() < 0 or len(set(array.tolist())) < len(array):
        raise ValueError(f"{name} must be different and not negative; got {atoms!r}.")
    if N is not None and array.max() >= N:
        raise ValueError(f"{name} names atom {array.max()}, counted from 0; the system has {N} atoms.")
    return tuple(array.tolist())


def chosen(graph: Graph, atoms: tuple[int, ...] | None, name: str) -> Array:
    """Return 1 for existing atoms that are among `atoms` (None: all of them), else 0, (N,) in the dtype of R."""
    if atoms is None:
        return graph.existing(jnp.ones(len(graph.R), graph.R.dtype))
    mask = np.zeros(len(graph.R))
    mask[list(atom_indices(name, atoms, len(graph.R)))] = 1
    return jnp.asarray(mask, graph.R.dtype)
