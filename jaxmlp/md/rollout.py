"""Trajectories that can be differentiated, forward and reverse, in memory that grows as the root of their length."""

from collections.abc import Callable
from math import isqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.md.controls import Controls
from jaxmlp.md.simulation import Simulation
from jaxmlp.md.state import Atoms, State


def rollout(sim: Simulation, n: int, observe: Callable[[State], Any] | None = None) -> Callable[..., tuple[State, Any]]:
    """Return the pure function f(state, controls=..., atoms=...) -> (state after n steps, observations).

    Differentiate it by positions and momenta of the state, by controls (temperature, pressure, friction, dt ...), by
    `atoms.params`, or by masses; noise is held fixed (pathwise derivatives). Reverse mode keeps about sqrt(n) states
    and recomputes the steps between them (Griewank, Optim. Methods Softw. 1, 35 (1992), with one level). Derivatives
    of chaotic trajectories grow exponentially: they are right, and useful over some hundred steps of a liquid.

    Args:
        n: steps.
        observe: state -> pytree, recorded after every step.

    Returns:
        f: the state it returns has its energy; where a neighbour list overflowed, R and energy are NaN. Observations
            have a leading axis (n,), None without `observe`.
    """
    if n < 1:
        raise ValueError(f"a rollout has 1 or more steps; got {n}.")
    segment = isqrt(n)
    dynamics = sim.dynamics

    def run(state: State, controls: Controls = sim.controls, atoms: Atoms = sim.atoms) -> tuple[State, Any]:
        def step(state, _):
            state = dynamics.step(state, atoms, controls)
            return state, None if observe is None else observe(state)

        @jax.checkpoint
        def part(state, _):
            return lax.scan(step, state, length=segment)

        state = dynamics.started(state, atoms, controls)  # forces that depend on the arguments
        state, seen = lax.scan(part, state, length=n // segment)
        seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        if n % segment:
            state, rest = lax.scan(step, state, length=n % segment)
            seen = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seen, rest)
        out = dynamics.forces.evaluate(state, atoms)
        energy = dynamics.ensemble.energy(state, out, atoms, controls, dynamics.forces)
        return state._replace(energy=energy, R=state.R + _lost(state)), seen

    return run


def _lost(state: State) -> Array:
    """NaN where a neighbour list overflowed on the way, else 0: an overflowed list is kept."""
    return jnp.where(jnp.any(state.neighbors.overflow), jnp.nan, 0.0).astype(state.R.dtype)
