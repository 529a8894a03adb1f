"""Chebyshev series: values and derivatives of every order of functions given in pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis.series import evaluate, fit


def both(x):
    return np.stack([np.exp(-2 * (x - 1.3) ** 2), np.sin(3 * x) / (1 + x * x)], axis=-1)


def bell(x):
    return jnp.exp(-2 * (x - 1.3) ** 2)


def test_values_and_three_derivatives():
    series = fit(both, (0.0, 4.0))
    x = jnp.linspace(0.05, 3.95, 40)
    f, exact = lambda x: evaluate(series, x)[0], bell
    for order, tolerance in enumerate((1e-14, 1e-12, 1e-10, 1e-8)):  # each derivative costs the square of the degree
        np.testing.assert_allclose(jax.vmap(f)(x), jax.vmap(exact)(x), rtol=0, atol=tolerance, err_msg=f"order {order}")
        f, exact = jax.grad(f), jax.grad(exact)
    assert len(series.pieces[0]) < 60  # it ends at the rounding errors


def test_pieces_do_not_see_each_other():
    step = lambda x: np.where(x < 1.0, 1.0 + x, x**2 - 3.0)[:, None]
    series = fit(step, (0.0, 1.0, 2.5))
    x = np.array([0.0, 0.5, 0.999999, 1.0, 1.7, 2.5])
    np.testing.assert_allclose(evaluate(series, jnp.asarray(x))[0], step(x)[:, 0], atol=1e-14)
    slope = jax.vmap(jax.grad(lambda x: evaluate(series, x)[0]))(jnp.array([0.5, 1.7]))
    np.testing.assert_allclose(slope, [1.0, 3.4], atol=1e-13)


def test_what_is_too_sharp_is_refused():
    with pytest.raises(ValueError, match="too sharp"):
        fit(lambda x: np.tanh(1000 * (x - 1.0))[:, None], (0.0, 2.3))
