"""The protocol every interatomic potential follows."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.neighbors.graph import Graph

if TYPE_CHECKING:
    from jaxmlp.fitting.survey import Survey
    from jaxmlp.system import System

Params = Any  # a pytree of arrays


def only(params: dict[str, Params], names: Iterable[str]) -> dict[str, Params]:
    """Return `params` with None in place of all entries but some."""
    return {name: value if name in names else None for name, value in params.items()}


def merge(part: Params, params: Params) -> Params:
    """Return `params` with the values of `part`, of the same structure but for None in place of what it has not."""
    return jax.tree.map(lambda new, old: old if new is None else new, part, params, is_leaf=lambda x: x is None)


class LinearFunctions(NamedTuple):
    """Energies that are linear in functions of sums over neighbours, E_i = sum_k c_k f_k(X_i) + what c does not change.

    Args:
        density: graph -> X, a tree of arrays (n, ...), each a sum over the edges of a row and a constant.
        functions: (X, species (n,)) -> dE_i/dc, a tree like that of `Potential.linear_parameters`, each array with an
            axis (n,) before its own.
        slopes: (X and species of one atom (n = 1), dX (t, ...) in t directions) -> the changes of dE_i/dc, with an axis
            (t,); None: `jax.jvp` of the functions.
    """

    density: Callable[[Graph], Any]
    functions: Callable[[Any, Array], Params]
    slopes: Callable[[Any, Array, Any], Params] | None = None


class Potential:
    """A frozen, hashable set of hyper-parameters with one pure method, `site_energies(params, graph)`.

    Subclasses are frozen dataclasses with at least `species` (atomic numbers, in the order of the species axes of the
    parameters) and `cutoff` (Å). They hold no arrays: those live in `params`. Rows of a graph may hold neighbours
    beyond the cutoff (lists have a skin, and several potentials may share one), so every term has to vanish there.

    Class attributes:
        local: each site energy depends only on the atom's own row of the graph. Local potentials are evaluated in
            blocks of rows and may not use `graph.gather`, `graph.R` or `graph.box`.
        pairwise: the energy is a sum of symmetric pair terms, half to each atom, so dE_i/dr_ij = -dE_j/dr_ji.
        homogeneous: moving all atoms together changes nothing, so that their total momentum is conserved.
        block: rows evaluated together on a CPU (the intermediates of a block should fit in the cache).
        uses_neighbors: whether the energy depends on the neighbour list; if not, it is right where a list overflows.
        constants: names of parameters that a fit leaves as they are, patterns as in `fitting.Trainable.of`: what is
            computed from data, constants of formulas, energies of atoms.
        atomic_energies: name of the parameter (S,) eV, the energy an atom of each species adds, if there is one.
        pace: steps between updates of the parameters of a bias that learns during dynamics, 0 for what does not learn.

    Potentials that know more of an atom than its energy define further methods of (params, graph): `charges`, (n,) e;
    `dipoles`, (n, 3) e Å, whose sum is the dipole of the system; see `SITE_QUANTITIES` in `jaxmlp.energy`.
    """

    species: tuple[int, ...]
    cutoff: float
    local: ClassVar[bool] = True
    pairwise: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = True
    block: ClassVar[int] = 64
    uses_neighbors: ClassVar[bool] = True
    constants: ClassVar[tuple[str, ...]] = ()
    atomic_energies: ClassVar[str] = ""
    pace: ClassVar[int] = 0

    @property
    def shells(self) -> tuple[float, ...]:
        """Growing cutoffs (Å) that sort the neighbours of a row; the last one is `cutoff`. See `Graph.within`."""
        return (self.cutoff,)

    def terms(self, params: Params) -> list[tuple["Potential", Params, Any]]:
        """Return potentials, their parameters and weights: the weighted energies add up to this one's, one by one."""
        return [(self, params, 1.0)]

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom of the graph, (n,) eV."""
        raise NotImplementedError(f"{type(self).__name__} defines no site_energies.")

    def linear_parameters(self, params: Params) -> Params:
        """Return `params` with None in place of all but those in which, with the others fixed, the energy is linear.

        It is so in all of them together: what a linear fit determines. `jaxmlp.merge` puts other values back.
        """
        return jax.tree.map(lambda _: None, params)

    def linear_functions(self, params: Params) -> LinearFunctions | None:
        """Return what linear fits compute all columns of forces from at once, or None: then one by one."""
        return None

    def roughness(self, params: Params, power: float) -> Params | None:
        """Return how fast the function that multiplies each linear parameter varies in space, for smoothness priors.

        A tree like that of `linear_parameters`: for a product of functions of degrees n_t (radial, from 1) and l_t
        (angular) the sum of n_t^power + l_t^power, the algebraic prior of Witt et al., J. Chem. Phys. 159, 164101
        (2023), with w_L = 1; 1 for energies of atoms. None where the family has no degrees.
        """
        return None

    def shifted(self, params: Params, energies) -> Params:
        """Return `params` with `energies` (S,) eV added to those of the atoms of each species.

        Raises:
            ValueError: the potential has no such parameters.
        """
        if not self.atomic_energies:
            raise ValueError(f"{type(self).__name__} has no parameters for the energies of atoms.")
        old = jnp.asarray(params[self.atomic_energies])
        return params | {self.atomic_energies: old + jnp.asarray(energies, old.dtype)}

    def adapted(self, params: Params, survey: "Survey") -> tuple["Potential", Params]:
        """Return potential and starting parameters with what is computed from a training set before a fit."""
        return self, params

    @property
    def conditions(self) -> tuple[str, ...]:
        """Which of "fparam" and "aparam" the energy depends on."""
        return ()

    def conditioned(self, params: Params, fparam=None, aparam=None, atoms: int | None = None) -> Params:
        """Return `params` with other frame parameters `fparam` (P,) and atomic parameters `aparam` (N, P) in them.

        Args:
            fparam: conditions of the whole system, an electronic temperature say; None leaves those of `params`.
            aparam: conditions of every atom; None leaves those of `params`.
            atoms: N, if known.

        Raises:
            ValueError: the potential has none, or the shape is wrong.
        """
        if fparam is None and aparam is None:
            return params
        raise ValueError(f"{type(self).__name__} has no {'fparam' if aparam is None else 'aparam'}: leave it out.")

    def for_system(self, system: "System") -> "Potential":
        """Return the potential with hyper-parameters that depend on the system (k vectors, say) set for it."""
        return self

    def for_boxes(self, boxes: Sequence[Array | None]) -> "Potential":
        """Return the potential with such hyper-parameters set so that they do for systems in all of these boxes."""
        return self

    def tabulated(self, members: Sequence[Params], closest: float) -> "Potential":
        """Return a potential of the same parameters and energies that costs less where parameters change every time.

        Networks of a distance become series for distances from `closest` (Å) on, made from the parameters whenever the
        energy is: equal to rounding for parameters about those of `members`, the same series for all of them. Called
        again with parameters that have changed, it returns itself if its series still do.
        """
        return self

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Potential", Params]:
        """Return the potential and parameters for a subset of its species: an exact slicing, in the order given."""
        raise NotImplementedError(f"{type(self).__name__} cannot be restricted to some of its species.")

    def __add__(self, other: "Potential") -> "Potential":
        """a + b: energies add; params are (params_a, params_b)."""
        from jaxmlp.combinators import Sum

        return Sum((self, other))

    def __rmul__(self, factor: float) -> "Potential":
        """factor * a: a scaled energy; params are those of a."""
        from jaxmlp.combinators import Scaled

        return Scaled.of(float(factor), self)


class MessagePassing(Potential):
    """A potential whose atoms carry features that they change, step by step, by looking at those of their neighbours.

    A step sees an atom's own row of the graph, its own features and what its neighbours share; so it is evaluated in
    blocks of rows, and the backward pass goes through the steps one by one (`jaxmlp.message_passing`). What an atom
    depends on grows with every step by the cutoff; images of an atom share its features, so that cells smaller than
    this receptive field need no special care.

    Subclasses define `steps`, how many there are, and `step`.
    """

    local: ClassVar[bool] = False
    block: ClassVar[int] = 32

    @property
    def steps(self) -> int:
        """Number of steps; the first sees no features, the last returns energies."""
        raise NotImplementedError(f"{type(self).__name__} defines no steps.")

    def step(self, k: int, params: Params, graph: Graph, own: Any, theirs: Any) -> tuple[Any, Any]:
        """Return an atom's features after step k, and the part of them that it shares with its neighbours.

        It may use nothing of the graph but the rows: neither `gather` nor R nor box.

        Args:
            k: 0 ... steps - 1.
            own: features of the atoms of the graph, a pytree of arrays (n, ...), as the step before returned them; None
                for k = 0.
            theirs: what their neighbours share, a pytree of arrays (n, M, ...); those of some atom in padded slots;
                None for k = 0 and where nothing was shared.

        Returns:
            features (n, ...) and shared features (n, ...), or None for either. The last step returns the energies (n,)
            eV and None.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no step.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (N,) eV, of a graph of the whole system: the steps one after the other."""
        own: Any = None
        shared: Any = None
        for k in range(self.steps):
            own, shared = self.step(k, params, graph, own, graph.gather(shared))
        return own
