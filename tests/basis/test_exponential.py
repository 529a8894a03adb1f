"""The vectorising exponential against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.basis.exponential import exp


def test_values_are_right_to_two_units_in_the_last_place():
    x = np.concatenate([np.linspace(-700, 700, 20001), np.linspace(-1, 1, 2001), [0.0, -708.0, 708.0]])
    ulp = np.spacing(np.exp(x))
    assert (np.abs(jax.jit(exp)(x) - np.exp(x)) <= 2 * ulp).all()
    np.testing.assert_array_equal(
        exp(jnp.array([-709.0, -1e300, -jnp.inf, 709.0, jnp.inf])), [0, 0, 0, jnp.inf, jnp.inf]
    )
    assert np.isnan(exp(jnp.array(jnp.nan)))
    assert exp(jnp.float32(1.5)).dtype == jnp.float32


def test_derivatives_of_every_order_forward_and_reverse():
    f = lambda x: exp(-2.0 * x)
    x = jnp.array(0.7)
    for order in range(1, 5):
        forward, reverse = f, f
        for _ in range(order):
            forward, reverse = jax.jacfwd(forward), jax.grad(reverse)
        np.testing.assert_allclose([forward(x), reverse(x)], (-2.0) ** order * np.exp(-1.4), rtol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(jnp.arange(3.0)), -2 * np.exp(-2 * np.arange(3.0)), rtol=1e-15)
