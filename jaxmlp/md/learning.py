"""Biases in dynamics: their collective variables in the log, and the memory of those that learn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.combinators import Sum, summands
from jaxmlp.evaluate import evaluate, full_graph
from jaxmlp.md.state import Atoms, Forces, State, mapped
from jaxmlp.neighbors import Neighbors
from jaxmlp.potential import Potential


def learner(potential: Potential) -> Any:
    """Return the bias that learns in a potential a + b + ... + bias, or None where none does.

    Raises:
        ValueError: it stands elsewhere, or is not the only one.
    """
    last = potential.members[-1] if isinstance(potential, Sum) else None
    learning = [m for m in _leaves(potential) if m.pace]
    if not learning:
        return None
    if learning != [last]:
        raise ValueError(
            "a bias that learns is added to a potential, after all others: write (potential + restraint) + bias, with "
            "the parameters ((p, q), memory). There can be one of them."
        )
    return last


def _leaves(potential: Potential) -> list[Potential]:
    return [m for one in getattr(potential, "members", ()) for m in _leaves(one)] or [potential]


def learned(forces: Forces, state: State, atoms: Atoms, kT: Array, dt: Array) -> State:
    """Return the state after a deposition, where one is due, with forces (and virial) of the new bias.

    The change of the energy is work.
    """
    bias = learner(forces.potential)
    due = (state.step % bias.pace == 0) & (state.step > 0) & (dt != 0)  # a step of no length only makes lists
    place = (state.R, state.box, atoms.species, state.neighbors)

    def deposit(state: State) -> State:
        graph = full_graph(bias, *place)
        memory = bias.updated(state.memory, bias.variables(graph), jnp.where(kT > 0, kT, state.memory.kT))
        old, new = (evaluate(bias, m, *place, execution=forces.execution) for m in (state.memory, memory))
        state = state._replace(
            memory=memory,
            F=state.F + atoms.held(new.forces - old.forces),
            work=state.work._replace(done=state.work.done + new.energy - old.energy),
        )
        return state._replace(virial=state.virial + new.virial - old.virial) if forces.virial else state

    return lax.cond(due, deposit, lambda state: state, state)


def overflowed(forces: Any, state: State) -> Array:
    """Whether a memory (any of those of replicas) is full."""
    if state.memory is None:
        return jnp.array(False)
    bias = learner(forces.potential)
    full = bias.overflowed if jnp.ndim(state.step) == 0 else jax.vmap(bias.overflowed)
    return jnp.any(full(state.memory))


def enlarged(potential: Potential, state: State) -> State:
    """Return the state with a memory of twice the capacity. On the host."""
    bias = learner(potential)
    if np.ndim(state.step) == 0:
        return state._replace(memory=bias.enlarged(state.memory))
    one = lambda k: bias.enlarged(jax.tree.map(lambda x: x[k], state.memory))
    return state._replace(memory=jax.tree.map(lambda *x: jnp.stack(x), *map(one, range(len(state.step)))))


def bias_columns(forces: Any, state: State, atoms: Atoms) -> dict[str, Array]:
    """Return `cv` (d,), the variables of all biases in the potential, and `bias` (eV), their energy; {} without one.

    Of ring polymers the means over beads; of replicas with a leading axis of these.
    """
    if hasattr(forces, "each"):
        return forces.each(lambda state, atoms: bias_columns(forces.one, state, atoms), state, atoms)
    atoms = forces.present(state, atoms)
    found: list[Any] = summands(forces.potential, atoms.params)
    found = [(m, p) for m, p in found if hasattr(m, "variables")]
    if not found:
        return {}

    def one(R: Array, lists: Neighbors) -> dict[str, Array]:
        graphs = [full_graph(m, R, state.box, atoms.species, lists) for m, _ in found]
        values = [m.variables(graph) for (m, _), graph in zip(found, graphs)]
        energies = [m.bias(p, s) for (m, p), s in zip(found, values)]
        return {"cv": jnp.concatenate(values), "bias": sum(energies[1:], start=energies[0])}

    if state.R.ndim == 2:
        return one(state.R, state.neighbors)
    lists = jax.tree.map(lambda x: x[: len(state.R)], state.neighbors)
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), mapped(one)(state.R, lists))
