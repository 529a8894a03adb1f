"""What dynamics carries from step to step, and the forces that drive it."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.md.controls import at
from jaxmlp.md.work import Work, changes
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Params, Potential


class State(NamedTuple):
    """A state holds what the next step needs. Times in Å (amu/eV)^(1/2), so that p^2/m is in eV.

    Args:
        R: (N, 3) Å, unwrapped; (P, N, 3) of a ring polymer of P beads.
        p: momenta, (amu eV)^(1/2), in the shape of R.
        F: eV/Å in the shape of R, always the forces at R.
        energy: potential energy at R, eV, (P,) of a ring polymer; NaN where the neighbour list overflowed. Kept up to
            date by `Dynamics.advance`, whose steps compute forces only.
        box: (3, 3) Å or None.
        neighbors: a list that holds for R and box.
        bath: what the thermostat remembers, () without one.
        key: spent and renewed by stochastic propagators.
        step: int32, steps done.
        virial: (3, 3) eV at R, kept where a barostat needs it, else None.
        levels: (members, N, 3) the forces of the members of a sum that have time steps of their own, else None.
        piston: what the barostat remembers, () without one.
        swaps: what an exchange of replicas remembers, () without one; all else then has a leading axis of replicas.
        work: the work done by ramps of the parameters, None without them.
        memory: parameters of an adaptive bias, which learns them; None without one.
        species: (N,) int32, where Monte Carlo changes them; None where those of `Atoms` stand.
    """

    R: Array
    p: Array
    F: Array
    energy: Array
    box: Array | None
    neighbors: Neighbors
    bath: Any
    key: Array
    step: Array
    virial: Array | None = None
    levels: Array | None = None
    piston: Any = ()
    swaps: Any = ()
    work: Work | None = None
    memory: Any = None
    species: Array | None = None


class Atoms(NamedTuple):
    """What stays constant along a trajectory, as arrays.

    Args:
        params: parameters of the potential; any of them may be a `Ramp`.
        species: (N,) int32 index into `potential.species`.
        mass: (N, 1) amu.
        dof: degrees of freedom that carry kinetic energy, a float.
        resting: 3 where the total momentum is zero and stays so, else 0: what the centre of mass lacks of 3 N.
        group: (N,) int32, the thermostat an atom belongs to; as many as there are groups for atoms without one.
        group_dof: (groups,) degrees of freedom of each group.
        mobile: (N, 1), 0 for atoms that are held fixed and 1 for the others; None where all move.
        bonds: lengths and image shifts of constrained bonds.
        masses: (S, 1) amu of the species, where Monte Carlo changes those of atoms.
    """

    params: Params
    species: Array
    mass: Array
    dof: Array
    resting: Array | float = 0.0
    group: Array | None = None
    group_dof: Array | None = None
    mobile: Array | None = None
    bonds: Any = None
    masses: Array | None = None

    def held(self, x: Array) -> Array:
        """Return x (..., N, 3) with zeros for atoms that are held fixed."""
        return x if self.mobile is None else x * self.mobile


@dataclass(frozen=True)
class Forces:
    """The propagator that brings neighbour list and forces up to date with the positions.

    Args:
        potential, search, execution: as for `evaluate`.
        virial: keep the virial in the state.
        levels: keep the forces of the members of a sum apart, for time steps of their own.
        ramped: parameters of the potential change with the step; their work is booked.
        learning: the last member of the potential, a sum, is a bias whose parameters are the state's memory.
    """

    potential: Any  # a `Potential`, with `members` where `levels` are kept
    search: NeighborSearch
    execution: Execution
    virial: bool = False
    levels: bool = False
    ramped: bool = False
    learning: bool = False

    def __call__(self, state: State, atoms: Atoms, kT: Array | None = None) -> State:
        state = self.listed(state)
        if self.levels:
            F = jnp.stack([self.member(k, state, atoms) for k in range(len(self.potential.members))])
            return state._replace(F=jnp.sum(F, axis=0), levels=F)
        return self.driven(state, atoms, kT)

    def driven(self, state: State, atoms: Atoms, kT: Array | None) -> State:
        """Return the state with forces, and virial if one is kept, from one evaluation of the whole potential."""
        out = self.evaluate(state, atoms)
        state = state._replace(F=atoms.held(out.forces), work=self.worked(state, atoms, out))
        return state._replace(virial=out.virial) if self.virial else state

    def worked(self, state: State, atoms: Atoms, out: Evaluation) -> Work | None:
        """Return the state's work with what the parameters' change is worth at its positions."""
        if not self.ramped:
            return state.work
        params = (*atoms.params[:-1], state.memory) if self.learning else atoms.params
        back, ahead = changes(
            self.potential, params, state.step, out.parts, state.R, state.box, atoms.species, state.neighbors,
            self.execution,
        )  # fmt: skip
        return state.work._replace(back=back, ahead=ahead)

    def listed(self, state: State) -> State:
        """Return the state with a neighbour list that holds, where the potential needs one."""
        if not self.potential.uses_neighbors:
            return state
        return state._replace(neighbors=self.search.update(state.neighbors, state.R, state.box))

    def member(self, k: int, state: State, atoms: Atoms) -> Array:
        """Return the forces (N, 3) of one member of a sum, at the state's positions with its neighbour list."""
        part = atoms._replace(params=atoms.params[k])
        return atoms.held(self._evaluate(self.potential.members[k], state, part).forces)

    def refreshed(self, k: int, state: State, atoms: Atoms) -> State:
        """Return the state with the forces of member k of a sum brought up to date, and nothing else."""
        state = self.listed(state)
        return state._replace(levels=state.levels.at[k].set(self.member(k, state, atoms)))

    def evaluate(self, state: State, atoms: Atoms) -> Evaluation:
        """Return energies, forces and virials at the state's positions and step, with its neighbour list."""
        return self._evaluate(self.potential, state, self.present(state, atoms))

    def present(self, state: State, atoms: Atoms) -> Atoms:
        """Return the atoms with the species and parameters of the state: those of its step, and its memory."""
        atoms = identified(state, atoms)
        params = at(atoms.params, state.step) if self.ramped else atoms.params
        return atoms._replace(params=(*params[:-1], state.memory) if self.learning else params)

    def _evaluate(self, potential: Potential, state: State, atoms: Atoms) -> Evaluation:
        return evaluate(
            potential, atoms.params, state.R, state.box, atoms.species, state.neighbors, execution=self.execution
        )

    def blank(self, state: State) -> State:
        """Return the state with zeros for all that an evaluation fills in."""
        zero, n = jnp.zeros_like(state.R), len(self.potential.members) if self.levels else 0
        levels = jnp.zeros((n, *zero.shape), zero.dtype) if n else None
        virial = jnp.zeros((3, 3), zero.dtype) if self.virial else None
        return state._replace(F=zero, energy=jnp.zeros((), zero.dtype), virial=virial, levels=levels)

    def centroid(self, x: Array) -> Array:
        """Return what stands for each atom, (N, 3), of R or p."""
        return x

    def lists(self, R: Array, box: Array | None) -> Neighbors:
        """Return new neighbour lists."""
        return self.search(R, box)

    def reference(self, lists: Neighbors) -> tuple[Array, Array | None]:
        """Return positions and box the lists were made for."""
        return lists.R, lists.box

    def searching(self, search: NeighborSearch) -> "Forces":
        """Return the same forces with another neighbour search."""
        return replace(self, search=search)

    def mean(self, virial: Array) -> Array:
        """Return the virial (3, 3) of the system from that of an evaluation."""
        return virial


def identified(state: State, atoms: Atoms) -> Atoms:
    """Return the atoms with the species of the state, and their masses; those of replicas with a leading axis."""
    if state.species is None:
        return atoms
    mass = atoms.mass if atoms.masses is None else atoms.masses[state.species]
    return atoms._replace(species=state.species, mass=mass)


def kinetic_energy(p: Array, mass: Array) -> Array:
    """sum p^2 / (2 m), eV, for p (N, 3) and mass (N, 1)."""
    return 0.5 * jnp.sum(p * p / mass)


def repeated(function, n: int, state: State) -> State:
    """Return function applied n times; a loop that has derivatives forward and reverse."""
    return function(state) if n == 1 else lax.scan(lambda s, _: (function(s), None), state, length=n)[0]


def mapped(function):
    """Map a function over the first axis of its arguments: vmap on an accelerator, one after the other on a CPU, whose
    cache holds the blocks of one evaluation."""
    if jax.default_backend() != "cpu":
        return jax.vmap(function)
    return lambda *arguments: lax.map(lambda x: function(*x), arguments)
