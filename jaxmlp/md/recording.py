"""The compiled loop: steps, and rows of a thermodynamic log collected between them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Evaluation
from jaxmlp.md.controls import Controls
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.learning import bias_columns, overflowed
from jaxmlp.md.state import Atoms, Forces, State, identified
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.units import fs

ROWS = 256  # rows of the log that one chunk holds
HEADROOM = 0.03  # of neighbour lists in a given box: slots for 9 % more neighbours, each of which costs time
NPT_HEADROOM = 0.06  # where the box changes
Observers = tuple[tuple[str, Callable[[State, Evaluation], Array]], ...]


@dataclass(frozen=True)
class Dynamics:
    """What decides the compiled program of a simulation: the word of propagators and the forces."""

    ensemble: Ensemble
    forces: Forces

    def enlarged(self, lost: Neighbors) -> "Dynamics":
        """Return dynamics whose neighbour lists hold the positions for which (some of) the lists `lost` overflowed."""
        search, headroom = self.forces.search, NPT_HEADROOM if self.forces.virial else HEADROOM
        over = np.ravel(lost.overflow)
        R = np.reshape(lost.R, (len(over), *np.shape(lost.R)[-2:]))
        box = [None] * len(over) if lost.box is None else np.reshape(lost.box, (len(over), 3, 3))
        options = {"pbc": search.pbc, "shells": search.shells, "skin": search.skin, "headroom": headroom}
        for k in np.flatnonzero(over):
            # Where an earlier one of the lists has made the search large enough, it must not grow once more.
            if search is self.forces.search or not search.holds(NeighborSearch.allocate(R[k], box[k], **options)):
                search = NeighborSearch.allocate(R[k], box[k], **options, at_least=search)
        return replace(self, forces=self.forces.searching(search))

    def blank(self, state: State) -> Neighbors:
        """Return empty neighbour lists, made far away, which the next step therefore makes again (if it needs any)."""
        far = jnp.full_like(state.R, 1e6)
        shapes = jax.eval_shape(self.forces.lists, far, state.box)
        lists = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        nowhere = jnp.full_like(lists.index, lists.owner.shape[-1] - 1)
        box = None if lists.box is None else lists.box + state.box
        return replace(lists, index=nowhere, reverse=lists.reverse - 1, R=lists.R + 1e6, box=box)

    def reference(self, lists: Neighbors) -> tuple[Array, Array | None]:
        """Return positions and box the lists were made for, in the shapes of the state."""
        return self.forces.reference(lists)

    def started(self, state: State, atoms: Atoms, controls: Controls) -> State:
        """Return the state with its forces brought up to date."""
        return self.ensemble.refreshed(state, atoms, controls, self.forces)

    def step(self, state: State, atoms: Atoms, controls: Controls) -> State:
        """Return the state one time step later."""
        return self.ensemble.step(state, atoms, controls, self.forces)

    def advance(
        self, state: State, atoms: Atoms, controls: Controls, n: Array, stride: Array | float = jnp.inf
    ) -> tuple[State, Evaluation, Array, Array]:
        """Take n steps, fewer where they fail; return the state, the evaluation there, the steps taken (the failed one
        too), and success.

        A step fails where the neighbour list or the memory of a bias overflows, where a force is not finite, or where
        an atom moves further than `stride` (Å). Energies are computed after the last step only.
        """

        def more(carry):
            _, done, healthy = carry
            return (done < n) & healthy

        def one(carry):
            state, done, _ = carry
            state = self.step(state, atoms, controls)
            v = self.forces.centroid(state.p) / identified(state, atoms).mass  # single beads are as hot as P T
            moved = jnp.max(jnp.sum(v * v, axis=-1)) * jnp.max(controls.dt * fs) ** 2
            full = jnp.any(state.neighbors.overflow) | overflowed(self.forces, state)
            return state, done + 1, (moved < stride**2) & ~full  # a NaN is not less either

        start = (state, jnp.zeros_like(jnp.ravel(state.step)[0]), jnp.array(True))
        state, done, healthy = lax.while_loop(more, one, start)
        out = self.forces.evaluate(state, atoms)
        energy = self.ensemble.energy(state, out, atoms, controls, self.forces)
        return state._replace(energy=energy), out, done, healthy & jnp.all(jnp.isfinite(energy))

    def measure(
        self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, observers: Observers = ()
    ) -> dict[str, Array]:
        """Return one row of the log from the state and the evaluation there."""
        row = self.ensemble.measure(state, out, atoms, controls, all(self.forces.search.pbc))
        row |= bias_columns(self.forces, state, atoms)
        return row | {name: observe(state, out) for name, observe in observers}

    def temperature(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the instantaneous temperature, K."""
        return self.ensemble.temperature(state, atoms, controls)

    def virial(self, out: Evaluation) -> Array:
        """Return the virial of the system, (3, 3) eV."""
        return self.forces.mean(out.virial)


class Chunk(NamedTuple):
    """What one call of the compiled loop returns.

    Args:
        state: at the end.
        log: rows of the log, leaves (ROWS, ...).
        rows: how many of them are filled.
        done: steps taken; with `healthy` False the last of them failed.
        healthy: every step succeeded.
        virial: (3, 3) eV at the end.
    """

    state: State
    log: dict[str, Array]
    rows: Array
    done: Array
    healthy: Array
    virial: Array


@partial(jax.jit, static_argnums=(0, 1))
def chunk(
    dynamics: Dynamics,
    observers: Observers,
    state: State,
    atoms: Atoms,
    controls: Controls,
    n: Array,
    log_every: Array,
    first: Array,
    stride: Array,
) -> Chunk:
    """Take n steps and log a row at every multiple of `log_every`, at most `ROWS` of them.

    Args:
        n: number of steps, int32.
        first: log the starting state too, if its step is due.
        stride: Å per step beyond which an atom has flown away.
    """

    def blank(state):
        out = dynamics.forces.evaluate(state, atoms)
        return dynamics.measure(state, out, atoms, controls, observers)

    log = jax.tree.map(lambda x: jnp.zeros((ROWS, *x.shape), x.dtype), jax.eval_shape(blank, state))
    clock = lambda state: jnp.ravel(state.step)[0]  # replicas step together
    first &= clock(state) % log_every == 0

    def segment(carry):
        (state, log, rows, total, _, _), begun = carry
        ahead = jnp.where(first & ~begun, 0, log_every - clock(state) % log_every)
        state, out, done, healthy = dynamics.advance(state, atoms, controls, jnp.minimum(ahead, n - total), stride)
        row = dynamics.measure(state, out, atoms, controls, observers)
        log = jax.tree.map(lambda b, x: b.at[rows].set(x), log, row)  # overwritten by the next row where not due
        due = healthy & (clock(state) % log_every == 0) & ((done > 0) | first)
        rows, virial = rows + due.astype(rows.dtype), dynamics.virial(out)
        return Chunk(state, log, rows, total + done, healthy, virial), jnp.array(True)

    def more(carry):
        c, begun = carry
        return ~begun | ((c.done < n) & c.healthy)

    zero = jnp.zeros_like(n)
    virial = jax.eval_shape(lambda state: dynamics.virial(dynamics.forces.evaluate(state, atoms)), state)
    start = Chunk(state, log, zero, zero, jnp.array(True), jnp.zeros(virial.shape, virial.dtype))
    return lax.while_loop(more, segment, (start, jnp.array(False)))[0]
