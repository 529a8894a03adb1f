"""Replicas: simulations of one system that differ in controls, parameters of the potential, or state, in one run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.evaluate import Evaluation
from jaxmlp.md.controls import Controls
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.recording import Dynamics
from jaxmlp.md.simulation import Simulation, begun
from jaxmlp.md.state import Atoms, Forces, State, mapped
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Potential


@dataclass(frozen=True)
class ReplicaForces:
    """`Forces` of K replicas: one after the other on a CPU, whose cache holds the blocks of one, else all at once.

    Args:
        one: forces of a replica.
        varies: which leaves of the parameters have a leading axis of replicas; () where all replicas share them.
    """

    one: Forces
    varies: tuple[bool, ...] = ()

    @property
    def potential(self) -> Potential:
        return self.one.potential

    @property
    def search(self) -> NeighborSearch:
        return self.one.search

    @property
    def virial(self) -> bool:
        return self.one.virial

    def each(self, function: Callable, state: State, atoms: Atoms, *more: Any) -> Any:
        """Return function(state, atoms, *more) of every replica, leaves (K, ...)."""
        own = [x for x, v in zip(jax.tree.leaves(atoms.params), self.varies) if v]

        def one(state, own, *more):
            its = iter(own)
            return function(state, self.varied(atoms, lambda _: next(its)), *more)

        return mapped(one)(state._replace(swaps=()), own, *more)

    def varied(self, atoms: Atoms, change: Callable[[Array], Array]) -> Atoms:
        """Return the atoms with other values for the parameters in which replicas differ."""
        structure: Any = jax.tree.structure(atoms.params)
        leaves = jax.tree.leaves(atoms.params)
        varies = self.varies or (False,) * len(leaves)
        return atoms._replace(params=structure.unflatten([change(x) if v else x for x, v in zip(leaves, varies)]))

    def evaluate(self, state: State, atoms: Atoms) -> Evaluation:
        """Return energies, forces and virials of all replicas, leaves (K, ...)."""
        return self.each(self.one.evaluate, state, atoms)

    def lists(self, R: Array, box: Array | None) -> Neighbors:
        """Return new neighbour lists."""
        return mapped(self.one.lists)(R, box)

    def reference(self, lists: Neighbors) -> tuple[Array, Array | None]:
        """Return positions and boxes the lists were made for."""
        return jax.vmap(self.one.reference)(lists)

    def blank(self, state: State) -> State:
        """Return the states with zeros for all that an evaluation fills in."""
        return jax.vmap(self.one.blank)(state._replace(swaps=()))._replace(swaps=state.swaps)

    def centroid(self, x: Array) -> Array:
        """Return what stands for each atom, (K, N, 3)."""
        return jax.vmap(self.one.centroid)(x)

    def mean(self, virial: Array) -> Array:
        """Return the virials (K, 3, 3)."""
        return jax.vmap(self.one.mean)(virial)

    def searching(self, search: NeighborSearch) -> "ReplicaForces":
        """Return the same forces with another neighbour search."""
        return replace(self, one=self.one.searching(search))


@dataclass(frozen=True)
class Replicas:
    """An ensemble of K replicas that know nothing of each other.

    Args:
        ensemble: of every replica.
    """

    ensemble: Ensemble

    @property
    def barostat(self):
        return self.ensemble.barostat

    def step(self, state: State, atoms: Atoms, controls: Controls, forces: ReplicaForces) -> State:
        """Return the states one time step later."""
        one = lambda state, atoms, controls: self.ensemble.step(state, atoms, controls, forces.one)
        return forces.each(one, state, atoms, controls)._replace(swaps=state.swaps)

    def energy(self, state, out, atoms, controls, forces: ReplicaForces) -> Array:
        """Return the energies that drive the replicas, (K, ...) eV."""
        one = lambda s, a, o, c: self.ensemble.energy(s, o, a, c, forces.one)
        return forces.each(one, state, atoms, out, controls)

    def temperature(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the instantaneous temperatures, (K,) K."""
        return jax.vmap(lambda s, c: self.ensemble.temperature(s, atoms, c))(state._replace(swaps=()), controls)

    def measure(self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, periodic: bool) -> dict:
        """Return one row of the log: what each replica logs, (K, ...)."""
        alone = state._replace(swaps=())
        row = jax.vmap(lambda s, o, c: self.ensemble.measure(s, o, atoms, c, periodic))(alone, out, controls)
        return row | {"step": row["step"][0]}


def replicas(simulations: Sequence[Simulation]) -> Simulation:
    """Return one simulation of K replicas of a system, which run side by side: windows, seeds, temperatures.

    They may differ in controls (temperature, pressure ...), in parameters of the potential, in positions, momenta and
    keys. Where parameters differ, only those leaves that do are stored more than once. `run` logs columns (K, ...); a
    trajectory has one file for each replica: its name holds {}, as in "run_{}.xyz". `replica(sim, k)` is one of them.

    Raises:
        ValueError: no simulations, or some that differ in more.
    """
    if not simulations:
        raise ValueError("replicas needs one simulation or more.")
    return stacked(simulations, Replicas, ())


def stacked(simulations: Sequence[Simulation], ensemble: Callable[[Ensemble], Any], swaps: Any) -> Simulation:
    """Return the simulation of K replicas, with `ensemble(of one)` and what an exchange remembers.

    Raises:
        ValueError: simulations that differ in more than replicas may.
    """
    first = simulations[0]
    leaves = [jax.tree.leaves(sim.atoms.params) for sim in simulations]
    for k, sim in enumerate(simulations):
        same = sim.dynamics.ensemble == first.dynamics.ensemble
        same = same and sim.dynamics.forces.potential == first.dynamics.forces.potential
        same = same and equal(sim.atoms._replace(params=None), first.atoms._replace(params=None))
        same = same and jax.tree.structure(sim.atoms.params) == jax.tree.structure(first.atoms.params)
        same = same and [jnp.shape(x) for x in leaves[k]] == [jnp.shape(x) for x in leaves[0]]
        if not (same and jax.tree.structure(sim.controls) == jax.tree.structure(first.controls)):
            raise ValueError(
                f"simulation {k} differs from the first in its ensemble, potential or atoms: replicas differ in their "
                "controls, parameters and states only."
            )
        if float(sim.controls.dt) != float(first.controls.dt) or sim.step != first.step:
            raise ValueError(f"simulation {k} has another time step or step number than the first.")
    stack = lambda *x: jnp.stack(x)
    varies = tuple(not all(x is own[0] or np.array_equal(x, own[0]) for x in own) for own in zip(*leaves))
    forces = ReplicaForces(first.dynamics.forces, varies if any(varies) else ())
    its = iter(jnp.stack(own) for own, v in zip(zip(*leaves), varies) if v)
    atoms = forces.varied(first.atoms, lambda _: next(its))
    state = jax.tree.map(stack, *(sim.state._replace(neighbors=None) for sim in simulations))
    controls = jax.tree.map(stack, *(sim.controls for sim in simulations))
    dynamics = Dynamics(ensemble(first.dynamics.ensemble), forces)
    return begun(dynamics, state._replace(swaps=swaps), atoms, controls, first.system)


def replica(sim: Simulation, k: int) -> Simulation:
    """Return one of several replicas, ready to run on its own; of an exchange the one at place k."""
    take = lambda tree: jax.tree.map(lambda x: x[k], tree)
    together: Any = sim.dynamics
    forces: ReplicaForces = together.forces
    dynamics = Dynamics(together.ensemble.ensemble, forces.one)
    atoms = forces.varied(sim.atoms, lambda x: x[k])
    state = take(sim.state._replace(swaps=()))
    return sim.replace(dynamics=dynamics, state=state, controls=take(sim.controls), atoms=atoms)


def equal(a: Any, b: Any) -> bool:
    """Whether two pytrees hold the same numbers."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return all(x is y or np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
