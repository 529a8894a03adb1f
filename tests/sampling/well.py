"""A particle in the double well V = (x^2 - 4)^2/16 at kT = 0.2: its overdamped dynamics under a bias that may grow."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.sampling import Position

KT = 0.2
V_MEAN, X2_MEAN = 0.11316606, 3.74733576  # PHYSICS.md, section 6
X = Position(0, axis=0)


def V(x):
    return (x**2 - 4) ** 2 / 16


def averages(x, w):
    """<V> and <x^2>, (2,)"""
    return np.array([np.sum(w * V(x)), np.sum(w * x**2)]) / np.sum(w)


def steps(force, n, dt=0.05):
    """A function (x, noise, key) -> the same n steps later, of dx = F dt + sqrt(2 kT) dW.

    x' = x + F dt + sqrt(kT dt / 2) (xi + xi'), each xi used twice: Leimkuhler and Matthews, Appl. Math. Res. Express
    2013, 34, Eq. (1.5); averages are right to second order in dt, for springs to all orders.
    """

    def one(carry, key):
        x, noise = carry
        new = jax.random.normal(key, (), x.dtype)
        return (x + force(x) * dt + jnp.sqrt(KT * dt / 2) * (noise + new), new), None

    return lambda x, noise, key: jax.lax.scan(one, (x, noise), jax.random.split(key, n))[0]


@partial(jax.jit, static_argnums=(0, 2))
def biased(bias, key, depositions):
    """Run; return the memory at the end, and x and V before every deposition, (depositions,)."""

    def cycle(carry, key):
        x, noise, memory = carry
        energy = lambda x: V(x) + bias.bias(memory, x[None])
        x, noise = steps(lambda x: -jax.grad(energy)(x), bias.pace)(x, noise, key)
        bias_here = bias.bias(memory, x[None])
        return (x, noise, bias.updated(memory, x[None], KT)), (x, bias_here)

    start = (jnp.array(-2.0), jnp.array(0.0), bias.start(KT))
    (_, _, memory), (x, V_bias) = jax.lax.scan(cycle, start, jax.random.split(key, depositions))
    return memory, x, V_bias
