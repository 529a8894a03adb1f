"""Optimizers by their names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmlp.fitting.training.optimizers import DECAYING, OPTIMIZERS, SCHEDULES, optimizer


def descend(made, steps: int) -> list[float]:
    """Values of a quadratic function of a matrix and a vector along the steps of an optimizer, from 1 down."""
    target = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3))), "b": jnp.array([0.5, -0.5])}
    norm = sum(jnp.sum(x**2) for x in target.values())
    value = lambda p: sum(jnp.sum((p[name] - t) ** 2) for name, t in target.items()) / norm
    params = jax.tree.map(jnp.zeros_like, target)

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(value)(params)
        updates, state = made.update(gradient, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), loss

    with jax.numpy_dtype_promotion("standard"):  # as optax expects
        return jax.lax.scan(step, (params, made.init(params)), length=steps)[1].tolist()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends(name):
    losses = descend(optimizer(name, 0.02, steps=200, clip=10.0), 200)
    assert losses[0] == pytest.approx(1)
    assert losses[-1] < 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_descends(name):
    losses = descend(optimizer("adam", {"schedule": name, "start": 0.05}, steps=200), 200)
    assert losses[-1] < 0.1


@pytest.mark.parametrize("name", DECAYING)
def test_decay_draws_weights_to_zero(name):
    """Only the weights' own size pulls at the end: the more of it, the further from the target."""
    free, drawn = (descend(optimizer(name, 0.02, steps=600, weight_decay=w), 600)[-1] for w in (0.0, 2.0))
    assert drawn > free + 0.01
    with pytest.raises(ValueError, match="adam has no weight decay; take one of adamw"):
        optimizer("adam", steps=1, weight_decay=0.1)
