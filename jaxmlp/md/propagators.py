"""Exact solutions of the parts of the equations of motion, state -> state. dt in Å (amu/eV)^(1/2)."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.md.state import Bath, Chain, State, kinetic_energy

_CUBE, _FOURTH = 1 / (2 - 2 ** (1 / 3)), 1 / (4 - 4 ** (1 / 3))
_SEVEN = (-1.17767998417887, 0.235573213359357, 0.784513610477560)  # Yoshida 1990, Table 1, solution A
# Suzuki-Yoshida weights: a symmetric second-order map over w_1 h, w_2 h, ... is one of order 2, 4, 4, 6 over h.
SUZUKI_YOSHIDA = {
    1: (1.0,),
    3: (_CUBE, 1 - 2 * _CUBE, _CUBE),
    5: (_FOURTH, _FOURTH, 1 - 4 * _FOURTH, _FOURTH, _FOURTH),
    7: (*_SEVEN, 1 - 2 * sum(_SEVEN), *reversed(_SEVEN)),
}


def drift(state: State, mass: Array, dt: Array) -> State:
    """Solve dR/dt = p / m."""
    return state._replace(R=state.R + dt * state.p / mass)


def kick(state: State, dt: Array) -> State:
    """Solve dp/dt = F at fixed positions."""
    return state._replace(p=state.p + dt * state.F)


def ornstein_uhlenbeck(state: State, mass: Array, kT: Array, friction: Array, dt: Array) -> State:
    """Solve dp = -friction p dt + sqrt(2 friction mass kT) dW exactly; book the heat in `state.bath`."""
    key, draw = jax.random.split(state.key)
    c = jnp.exp(-friction * dt)
    noise = jax.random.normal(draw, state.p.shape, state.p.dtype)
    p = c * state.p + jnp.sqrt((1 - c * c) * kT * mass) * noise
    kinetic = kinetic_energy(p, mass)
    heat = state.bath.heat + kinetic - kinetic_energy(state.p, mass)
    return state._replace(p=p, key=key, bath=Bath(heat, kinetic))


def nose_hoover_chain(
    state: State, mass: Array, kT: Array, tau: Array, dof: Array, dt: Array, *, order: int = 3
) -> State:
    """Apply exp(dt L_chain), the Trotter factor of a chain of thermostats that scales the momenta.

    Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996), Eqs. (29)-(30), with masses Q_1 = dof kT tau^2,
    Q_j = kT tau^2, and forces G_1 = (2 K - dof kT) / Q_1, G_j = (Q_{j-1} v_{j-1}^2 - kT) / Q_j.

    Args:
        order: number of Suzuki-Yoshida weights, 1, 3, 5 or 7.
    """
    xi, v = list(state.bath.xi), list(state.bath.v)
    last = len(xi) - 1
    Q = [(dof if j == 0 else 1.0) * kT * tau * tau for j in range(len(xi))]
    twice_K = 2 * kinetic_energy(state.p, mass)
    scale = jnp.ones_like(twice_K)

    def push(j, h):
        drive = twice_K * scale * scale - dof * kT if j == 0 else Q[j - 1] * v[j - 1] ** 2 - kT
        if j == last:
            v[j] = v[j] + 0.5 * h * drive / Q[j]
        else:
            brake = jnp.exp(-0.25 * h * v[j + 1])
            v[j] = (v[j] * brake + 0.5 * h * drive / Q[j]) * brake

    for weight in SUZUKI_YOSHIDA[order]:
        h = weight * dt
        for j in range(last, -1, -1):
            push(j, h)
        scale = scale * jnp.exp(-h * v[0])
        xi = [x + h * w for x, w in zip(xi, v)]
        for j in range(last + 1):
            push(j, h)
    return state._replace(p=state.p * scale, bath=Chain(jnp.stack(xi), jnp.stack(v)))


def chain_energy(chain: Chain, kT: Array, tau: Array, dof: Array) -> Array:
    """sum_j Q_j v_j^2 / 2 + dof kT xi_1 + kT sum_{j>1} xi_j, eV: with H it makes the conserved quantity."""
    weight = jnp.ones_like(chain.xi).at[0].set(dof)
    return kT * jnp.sum(weight * (0.5 * tau * tau * chain.v**2 + chain.xi))
