"""Gaussian noise for thermostats, which draw three numbers an atom in every step.

`jax.random.normal` in double precision costs a third of a Lennard-Jones force call on a CPU, where jax runs the rounds
of its generator in a loop and the inverse of the error function is long. Here the rounds of the same generator are
written out, and the transform of Box and Muller, in single precision, makes numbers with 24 bits each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
# sin(pi x / 2) = x P(x^2) for |x| <= 1: the minimax polynomial, largest error 7e-9.
SINE = (1.57079632004, -0.645963759584, 0.079689918329, -0.00467414383815, 0.000151671703664)


def normal(key: Array, shape: tuple[int, ...], dtype) -> Array:
    """Return independent normal numbers of mean 0 and variance 1 (|x| < 6.7), in the way of `jax.random.normal`."""
    size = int(np.prod(shape))
    counter = lax.iota(jnp.uint32, -(-size // 2))
    words = jax.random.bits(key, (2,), jnp.uint32)
    quarters = jnp.asarray([0, 1 << 30], jnp.uint32)  # sine and cosine of the same angle
    # A loop of two turns keeps XLA on a CPU from merging this, in single precision, with what uses it in double.
    over = lax.map if jax.default_backend() == "cpu" else lambda function, x: jax.vmap(function)(x)
    numbers = over(lambda turn: box_muller(*threefry(words, counter, jnp.zeros_like(counter)), turn), quarters)
    return numbers.reshape(-1)[:size].reshape(shape).astype(dtype)


def threefry(key: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return 2 x 32 random bits for each counter (x, y): Threefry-2x32 of 20 rounds.

    Salmon, Moraes, Dror, Shaw, Proc. SC11 (2011), doi:10.1145/2063384.2063405.

    Args:
        key: (2,) uint32.
        x, y: uint32, of one shape.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + keys[0], y + keys[1]
    for group in range(5):
        for bits in ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(bits)) | (y >> np.uint32(32 - bits)))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def box_muller(first: Array, second: Array, turn: Array) -> Array:
    """Return sqrt(-2 ln u) sin(phi), float32, with u from the first and phi from the second 32 random bits.

    Box, Muller, Ann. Math. Stat. 29, 610 (1958).

    Args:
        turn: added to the angle phi, in units of 2^-32 turns: a quarter makes the sine a cosine.
    """
    # Signed integers: processors without AVX-512 have no conversion of others.
    real = lambda bits: lax.bitcast_convert_type(bits, jnp.int32).astype(jnp.float32)
    u = (real(first >> 1) + 0.5) * np.float32(2.0**-31)
    angle = second + turn  # wraps around
    beyond = (angle ^ (angle << 1)) >= np.uint32(1 << 31)  # a quarter of a turn from 0: sin(phi) = sin(pi - phi)
    x = real(jnp.where(beyond, np.uint32(1 << 31) - angle, angle)) * np.float32(2.0**-30)
    return jnp.sqrt(-2.0 * jnp.log(u)) * x * _polynomial(SINE, x * x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """sum_k coefficients[k] x^k."""
    value = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + np.float32(c)
    return value
