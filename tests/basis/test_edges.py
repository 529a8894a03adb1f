"""Length and direction of an edge: derivatives of every order, forward and reverse, are those of the plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.basis.edges import direction, length

V = jnp.asarray(np.random.default_rng(3).normal(size=(7, 3)))


def test_values():
    np.testing.assert_allclose(jax.vmap(length)(*V.T), np.linalg.norm(V, axis=1), rtol=1e-15)
    np.testing.assert_allclose(np.stack(direction(*V.T), 1), V / np.linalg.norm(V, axis=1)[:, None], rtol=1e-14)


def third(f):
    return jax.jacrev(jax.jacrev(jax.grad(f)))


def mixed(f):
    return jax.jacfwd(jax.jacrev(jax.jacfwd(f)))


def test_derivatives_to_third_order():
    def ours(v):
        u = jnp.stack(direction(*v))
        return jnp.sin(length(*v)) * u[0] * u[1] ** 2 + u[2]

    def plain(v):
        r = jnp.sqrt(v @ v)
        u = v / r
        return jnp.sin(r) * u[0] * u[1] ** 2 + u[2]

    for derivative in (jax.grad, jax.jacfwd, jax.hessian, third, mixed):
        got, expected = (jax.jit(jax.vmap(derivative(f)))(V) for f in (ours, plain))
        # Third derivatives of 1/r reach 100 here; rounding only.
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)
