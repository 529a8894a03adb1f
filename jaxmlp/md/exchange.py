"""Replica exchange: replicas of one system that swap their configurations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Evaluation
from jaxmlp.md.controls import Controls
from jaxmlp.md.replicas import ReplicaForces, Replicas, stacked
from jaxmlp.md.simulation import Simulation
from jaxmlp.md.state import Atoms, State

CONFIGURATION = ("R", "p", "F", "energy", "box", "neighbors", "virial", "levels", "species")  # what changes places


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
class Exchange(Replicas):
    """An ensemble of K replicas that try to swap configurations of neighbouring places every so many steps.

    A swap of the configurations at i and j is accepted with the probability min(1, exp(-Delta)),
    Delta = u_i(x_j) + u_j(x_i) - u_i(x_i) - u_j(x_j), where u_i is the energy (with P V, and with the springs of a ring
    polymer) over kT of the place i; momenta are scaled by (T_j / T_i)^(1/2). Sugita, Okamoto, Chem. Phys. Lett. 314,
    141 (1999); Okabe et al., Chem. Phys. Lett. 335, 435 (2001). Even and odd pairs take turns.

    Where replicas have potentials with other parameters, u_i is that of the potential of place i (Hamiltonian replica
    exchange: Fukunishi, Watanabe, Takada, J. Chem. Phys. 116, 9058 (2002)), at the cost of one more evaluation.

    Args:
        ensemble: of every replica.
        every: steps between attempts.
    """

    every: int = 100

    def step(self, state: State, atoms: Atoms, controls: Controls, forces: ReplicaForces) -> State:
        """Return the states one time step later, after a swap where one is due."""
        state = super().step(state, atoms, controls, forces)
        step = state.step[0]
        due = (step % self.every == 0) & jnp.all(controls.dt != 0)  # a step of length zero only makes lists
        swap = lambda state: self._swapped(state, atoms, controls, forces, step // self.every % 2)
        return lax.cond(due, swap, lambda state: state, state)

    def _swapped(self, state: State, atoms: Atoms, controls: Controls, forces: ReplicaForces, odd: Array) -> State:
        swaps, K = state.swaps, len(state.step)
        state = state._replace(swaps=())
        own = jnp.arange(K, dtype=jnp.int32)
        partner = jnp.asarray(np.stack([_partners(K, 0), _partners(K, 1)]))[odd]
        out = forces.evaluate(state, atoms)
        theirs = jax.tree.map(lambda x: x[partner], controls)
        their_atoms = forces.varied(atoms, lambda x: x[partner])
        there = forces.evaluate(state, their_atoms) if forces.varies else out

        def reduced(out, atoms, controls):
            energy = self.energy(state, out, atoms, controls, forces)
            one = lambda state, controls: self.ensemble.reduced(state, atoms, controls)
            return jax.vmap(one)(state._replace(energy=energy), controls)

        change = reduced(there, their_atoms, theirs) - reduced(out, atoms, controls)
        key, draw = jax.random.split(swaps.key)
        pair = jnp.minimum(own, partner)  # both members of a pair look at the same number
        luck = jax.random.exponential(draw, (K,), change.dtype)[pair]  # -ln u, which is never infinite
        accepted = (change + change[partner] < luck) & (partner != own)
        source = jnp.where(accepted, partner, own)

        state = state._replace(energy=self.energy(state, out, atoms, controls, forces))
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

    def _consistent(self, state: State, atoms: Atoms, controls: Controls, forces: ReplicaForces) -> State:
        """Return the state with forces and energies of the new places, where they depend on kT or parameters."""
        if getattr(self.ensemble, "scheme", "primitive") == "primitive" and not forces.varies:
            return state
        fresh = lambda state, atoms, controls: self.ensemble.refreshed(state, atoms, controls, forces.one)
        state = forces.each(fresh, state, atoms, controls)
        out = forces.evaluate(state, atoms)
        return state._replace(energy=self.energy(state, out, atoms, controls, forces))

    def measure(self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, periodic: bool) -> dict:
        """Return one row of the log: what each replica logs, (K, ...), and the exchange.

        `replica` (K,) is the starting configuration at each place, `acceptance` (K - 1,) the share of accepted swaps.
        """
        swaps = state.swaps
        row = super().measure(state, out, atoms, controls, periodic)
        share = swaps.accepted / jnp.maximum(swaps.tried, 1)
        return row | {
            "conserved": row["conserved"] + swaps.offset,
            "replica": swaps.replica,
            "acceptance": share.astype(state.R.dtype),
        }


def _partners(K: int, odd: int) -> np.ndarray:
    """The partner of every place where pairs begin at even or odd places; itself where it has none."""
    k = np.arange(K)
    partner = np.where((k - odd) % 2 == 0, k + 1, k - 1)
    return np.where((partner < 0) | (partner >= K), k, partner).astype(np.int32)


def replica_exchange(simulations: Sequence[Simulation], *, every: int = 100, key: int | Array = 0) -> Simulation:
    """Return one simulation of K replicas that swap configurations (parallel tempering).

    The places keep their controls and parameters; `run` logs columns (K, ...), in which place k is always that of
    `simulations[k]`. A trajectory has one file for each place: its name holds {}, as in "run_{}.xyz". `replica(sim, k)`
    is one of them.

    Args:
        simulations: K of one system and ensemble, with other controls (temperatures, pressures) or parameters of the
            potential, in an order in which neighbours overlap.
        every: steps between attempts.
        key: seed of the acceptance tests, or a jax.random key.

    Raises:
        ValueError: fewer than two simulations, or some that differ in more.
    """
    if len(simulations) < 2:
        raise ValueError(f"an exchange needs two or more simulations; got {len(simulations)}.")
    if every < 1:
        raise ValueError(f"every is a number of steps and must be at least 1; got {every}.")
    first = simulations[0]
    if "temperature" not in first.dynamics.ensemble.needs:
        raise ValueError("replicas are swapped by their Boltzmann factors: give them a thermostat.")
    if first.dynamics.forces.ramped:
        raise ValueError("replicas whose parameters change with the step cannot be swapped; run them as `replicas`.")
    K = len(simulations)
    none = jnp.zeros(K - 1, jnp.int32)
    draw = jax.random.key(key) if isinstance(key, int) else key
    swaps = Swaps(jnp.arange(K, dtype=jnp.int32), none, none, jnp.zeros(K, first.state.R.dtype), draw)
    return stacked(simulations, lambda ensemble: Exchange(ensemble, every), swaps)
