"""Exact solutions of the two parts of Newton's equations, state -> state. dt in Å (amu/eV)^(1/2)."""

from jax import Array

from jaxmlp.md.state import State


def drift(state: State, mass: Array, dt: Array) -> State:
    """Solve dR/dt = p / m."""
    return state._replace(R=state.R + dt * state.p / mass)


def kick(state: State, F: Array, dt: Array) -> State:
    """Solve dp/dt = F at fixed positions."""
    return state._replace(p=state.p + dt * F)
