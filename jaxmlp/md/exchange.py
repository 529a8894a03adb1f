"""Replica exchange: simulations of one system at several temperatures or pressures that swap their configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Evaluation
from jaxmlp.md.controls import Controls
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.recording import Dynamics
from jaxmlp.md.simulation import Simulation, begun
from jaxmlp.md.state import Atoms, Forces, State
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Potential

CONFIGURATION = ("R", "p", "F", "energy", "box", "neighbors", "virial", "levels")  # what changes places


class Swaps(NamedTuple):
    """What an exchange remembers, for K replicas.

    Args:
        replica: (K,) int32, which of the starting configurations is at each place.
        tried, accepted: (K - 1,) int32, swaps between the places k and k + 1.
        offset: (K,) eV to add to the conserved quantities, which a swap changes.
        key: of the acceptance tests.
    """

    replica: Array
    tried: Array
    accepted: Array
    offset: Array
    key: Array


@dataclass(frozen=True)
class Exchange:
    """An ensemble of K replicas that try to swap configurations of neighbouring places every so many steps.

    A swap of the configurations at i and j is accepted with the probability min(1, exp(-Delta)),
    Delta = u_i(x_j) + u_j(x_i) - u_i(x_i) - u_j(x_j), where u_i is the energy (with P V, and with the springs of a ring
    polymer) over kT of the place i; momenta are scaled by (T_j / T_i)^(1/2). Sugita, Okamoto, Chem. Phys. Lett. 314,
    141 (1999); Okabe et al., Chem. Phys. Lett. 335, 435 (2001). Even and odd pairs take turns.

    Args:
        ensemble: of every replica.
        every: steps between attempts.
    """

    ensemble: Ensemble
    every: int = 100

    @property
    def barostat(self):
        return self.ensemble.barostat

    def step(self, state: State, atoms: Atoms, controls: Controls, forces: "ReplicaForces") -> State:
        """Return the states one time step later, after a swap where one is due."""
        swaps = state.swaps

        def one(arguments):
            state, controls = arguments
            return self.ensemble.step(state, atoms, controls, forces.one)

        state = lax.map(one, (state._replace(swaps=()), controls))
        step = state.step[0]
        due = (step % self.every == 0) & jnp.all(controls.dt != 0)  # a step of length zero only makes lists
        swap = lambda state: self._swapped(state, atoms, controls, forces, step // self.every % 2)
        return lax.cond(due, swap, lambda state: state, state._replace(swaps=swaps))

    def _swapped(self, state: State, atoms: Atoms, controls: Controls, forces: "ReplicaForces", odd: Array) -> State:
        swaps, K = state.swaps, len(state.step)
        state = state._replace(swaps=())
        own = jnp.arange(K, dtype=jnp.int32)
        partner = jnp.asarray(np.stack([_partners(K, 0), _partners(K, 1)]))[odd]
        out = forces.evaluate(state, atoms)
        theirs = jax.tree.map(lambda x: x[partner], controls)

        def reduced(state, out, controls):
            energy = self.ensemble.energy(state, out, atoms, controls, forces.one)
            return self.ensemble.reduced(state._replace(energy=energy), atoms, controls)

        change = jax.vmap(reduced)(state, out, theirs) - jax.vmap(reduced)(state, out, controls)
        key, draw = jax.random.split(swaps.key)
        pair = jnp.minimum(own, partner)  # both members of a pair look at the same number
        dice = jax.random.uniform(draw, (K,), change.dtype)[pair]
        accepted = (jnp.log(dice) < -(change + change[partner])) & (partner != own)
        source = jnp.where(accepted, partner, own)

        state = state._replace(
            energy=jax.vmap(lambda s, o, c: self.ensemble.energy(s, o, atoms, c, forces.one))(state, out, controls)
        )
        before = jax.vmap(lambda s, c: self.ensemble.conserved(s, atoms, c))(state, controls)
        kT = jax.vmap(lambda s, c: jnp.mean(c.at(s.step).kT))(state, controls)
        moved = {name: jax.tree.map(lambda x: x[source], getattr(state, name)) for name in CONFIGURATION}
        scale = jnp.sqrt(kT / kT[source]).reshape(K, *(1,) * (state.p.ndim - 1))
        state = state._replace(**moved)
        state = state._replace(p=state.p * scale)
        state = self._consistent(state, atoms, controls, forces)
        after = jax.vmap(lambda s, c: self.ensemble.conserved(s, atoms, c))(state, controls)
        first = own[:-1]
        paired = (partner[:-1] == first + 1).astype(jnp.int32)
        swaps = Swaps(
            swaps.replica[source],
            swaps.tried + paired,
            swaps.accepted + paired * accepted[:-1].astype(jnp.int32),
            swaps.offset + before - after,
            key,
        )
        return state._replace(swaps=swaps)

    def _consistent(self, state: State, atoms: Atoms, controls: Controls, forces: "ReplicaForces") -> State:
        """Return the state with forces and energies that belong to the new places, where they depend on kT."""
        if getattr(self.ensemble, "scheme", "primitive") == "primitive":
            return state
        fresh = lambda x: self.ensemble.refreshed(x[0], atoms, x[1], forces.one)
        return lax.map(fresh, (state, controls))

    def energy(self, state, out, atoms, controls, forces: "ReplicaForces") -> Array:
        """Return the energies that drive the replicas, (K, ...) eV."""
        one = lambda s, o, c: self.ensemble.energy(s, o, atoms, c, forces.one)
        return jax.vmap(one)(state._replace(swaps=()), out, controls)

    def temperature(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the instantaneous temperatures, (K,) K."""
        return jax.vmap(lambda s, c: self.ensemble.temperature(s, atoms, c))(state._replace(swaps=()), controls)

    def measure(self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, periodic: bool) -> dict:
        """Return one row of the log: what each replica logs, (K, ...), and the exchange.

        `replica` (K,) is the starting configuration at each place, `acceptance` (K - 1,) the share of accepted swaps.
        """
        swaps, state = state.swaps, state._replace(swaps=())
        row = jax.vmap(lambda s, o, c: self.ensemble.measure(s, o, atoms, c, periodic))(state, out, controls)
        share = swaps.accepted / jnp.maximum(swaps.tried, 1)
        return row | {
            "step": row["step"][0],
            "conserved": row["conserved"] + swaps.offset,
            "replica": swaps.replica,
            "acceptance": share.astype(state.R.dtype),
        }


def _partners(K: int, odd: int) -> np.ndarray:
    """The partner of every place where pairs begin at even or odd places; itself where it has none."""
    k = np.arange(K)
    partner = np.where((k - odd) % 2 == 0, k + 1, k - 1)
    return np.where((partner < 0) | (partner >= K), k, partner).astype(np.int32)


@dataclass(frozen=True)
class ReplicaForces:
    """`Forces` of several replicas, one after the other."""

    one: Forces

    @property
    def potential(self) -> Potential:
        return self.one.potential

    @property
    def search(self) -> NeighborSearch:
        return self.one.search

    @property
    def virial(self) -> bool:
        return self.one.virial

    def evaluate(self, state: State, atoms: Atoms) -> Evaluation:
        """Return energies, forces and virials of all replicas, leaves (K, ...)."""
        return lax.map(lambda s: self.one.evaluate(s, atoms), state._replace(swaps=()))

    def lists(self, R: Array, box: Array | None) -> Neighbors:
        """Return new neighbour lists."""
        return lax.map(lambda x: self.one.lists(*x), (R, box))

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
        return ReplicaForces(self.one.searching(search))


def replica_exchange(simulations: Sequence[Simulation], *, every: int = 100, key: int | Array = 0) -> Simulation:
    """Return one simulation of K replicas that swap configurations (parallel tempering).

    The places keep their controls; `run` logs columns (K, ...), in which place k is always that of `simulations[k]`. A
    trajectory has one file for each place: its name holds {}, as in "run_{}.xyz". `replica(sim, k)` is one of them.

    Args:
        simulations: K of one system, ensemble and potential, with other controls (temperatures, pressures), in an
            order in which neighbours overlap.
        every: steps between attempts.
        key: seed of the acceptance tests, or a jax.random key.

    Raises:
        ValueError: fewer than two simulations, or some that differ in more than their controls.
    """
    if len(simulations) < 2:
        raise ValueError(f"an exchange needs two or more simulations; got {len(simulations)}.")
    if every < 1:
        raise ValueError(f"every is a number of steps and must be at least 1; got {every}.")
    first = simulations[0]
    ensemble, atoms = first.dynamics.ensemble, first.atoms
    for k, sim in enumerate(simulations):
        same = sim.dynamics.ensemble == ensemble and sim.dynamics.forces.potential == first.dynamics.forces.potential
        if not (
            same and _equal(sim.atoms, atoms) and jax.tree.structure(sim.controls) == jax.tree.structure(first.controls)
        ):
            raise ValueError(
                f"simulation {k} differs from the first in its ensemble, potential, parameters or atoms: replicas "
                "differ in their controls and states only."
            )
        if float(sim.controls.dt) != float(first.controls.dt) or sim.step != first.step:
            raise ValueError(f"simulation {k} has another time step or step number than the first.")
        if "temperature" not in ensemble.needs:
            raise ValueError("replicas are swapped by their Boltzmann factors: give them a thermostat.")
    K = len(simulations)
    dtype = first.state.R.dtype
    stack = lambda *x: jnp.stack(x)
    state = jax.tree.map(stack, *(sim.state._replace(neighbors=None) for sim in simulations))
    controls = jax.tree.map(stack, *(sim.controls for sim in simulations))
    none = jnp.zeros(K - 1, jnp.int32)
    draw = jax.random.key(key) if isinstance(key, int) else key
    swaps = Swaps(jnp.arange(K, dtype=jnp.int32), none, none, jnp.zeros(K, dtype), draw)
    dynamics = Dynamics(Exchange(ensemble, every), ReplicaForces(first.dynamics.forces))
    return begun(dynamics, state._replace(swaps=swaps), atoms, controls, first.system)


def replica(sim: Simulation, k: int) -> Simulation:
    """Return the simulation at place k of an exchange, ready to run on its own."""
    take = lambda tree: jax.tree.map(lambda x: x[k], tree)
    exchange: Any = sim.dynamics
    dynamics = Dynamics(exchange.ensemble.ensemble, exchange.forces.one)
    state = take(sim.state._replace(swaps=()))
    return sim.replace(dynamics=dynamics, state=state, controls=take(sim.controls))


def _equal(a: Any, b: Any) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    return all(x is y or np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
