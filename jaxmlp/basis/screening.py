"""Screening of the repulsion between nuclei."""

import jax.numpy as jnp
from jax import Array

# Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985).
# phi(x) = sum_k a_k exp(-b_k x).
AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)
LENGTH = 0.46850  # Å, 0.8854 Bohr radii
EXPONENT = 0.23


def universal(x: Array) -> Array:
    """Return the universal screening function phi of reduced distances x = r / `universal_length`; phi(0) = 1."""
    return sum(a * jnp.exp(-b * x) for a, b in zip(AMPLITUDES[1:], DECAYS[1:])) + AMPLITUDES[0] * jnp.exp(
        -DECAYS[0] * x
    )


def universal_length(z_i: Array, z_j: Array) -> Array:
    """Return 0.46850 Å / (Z_i^0.23 + Z_j^0.23)."""
    return LENGTH / (z_i**EXPONENT + z_j**EXPONENT)
