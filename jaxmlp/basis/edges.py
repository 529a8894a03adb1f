"""Lengths and directions of edges, written so that their derivatives compile to little work.

XLA on a CPU recomputes a cheap expression in every loop that reads it, but never a division. These functions have their
derivative rules arranged so that a division is the last thing done to an adjoint: dE/dr is then computed once, and not
again for each of the three components (a sixth of the time of a NEP). The rules are exact and hold to every order,
forward and reverse.
"""

import jax
import jax.numpy as jnp
from jax import Array


@jax.custom_jvp
def length(x: Array, y: Array, z: Array) -> Array:
    """Return r = sqrt(x^2 + y^2 + z^2); not differentiable at 0."""
    return jnp.sqrt(x * x + y * y + z * z)


@length.defjvp
def _length_jvp(primals, tangents):
    x, y, z = primals
    dx, dy, dz = tangents
    r = length(x, y, z)
    return r, (x * dx + y * dy + z * dz) / r


@jax.custom_jvp
def direction(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Return the unit vector u = (x, y, z) / r."""
    inverse = 1.0 / length(x, y, z)
    return x * inverse, y * inverse, z * inverse


@direction.defjvp
def _direction_jvp(primals, tangents):
    """du = (1 - u u^T) dr / |r|, projected before the division so that the transpose divides first."""
    u = direction(*primals)
    r = length(*primals)
    along = sum(a * da for a, da in zip(u, tangents))
    return u, tuple((da - a * along) / r for a, da in zip(u, tangents))
