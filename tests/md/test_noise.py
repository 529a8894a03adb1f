"""The noise of thermostats: its generator, its distribution, and the border that XLA does not cross."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from jaxmlp.md.noise import box_muller, normal, threefry
from jaxmlp.md.once import once


def test_the_generator_is_that_of_jax():
    counter = jnp.arange(100, dtype=jnp.uint32)
    words = jnp.asarray([0x01234567, 0x89ABCDEF], jnp.uint32)
    first, second = threefry(words, counter, counter + 100)
    np.testing.assert_array_equal(
        jnp.concatenate([first, second]), threefry_2x32(words, jnp.arange(200, dtype=jnp.uint32))
    )


@pytest.mark.parametrize("quarter", [0, 1])
def test_bits_become_numbers_by_the_formula_of_box_and_muller(quarter):
    rng = np.random.default_rng(0)
    ends = np.array([0, 1, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1], np.uint32)
    first = np.concatenate([ends, rng.integers(2**32, size=10**5, dtype=np.uint32)])
    second = np.concatenate([ends[::-1], rng.integers(2**32, size=10**5, dtype=np.uint32)])
    u = ((first >> 1) + 0.5) / 2.0**31
    wanted = np.sqrt(-2 * np.log(u)) * np.sin(2 * np.pi * (second / 2.0**32 + quarter / 4))
    ours = box_muller(jnp.asarray(first), jnp.asarray(second), jnp.uint32(quarter << 30))
    error = np.abs(np.asarray(ours, float) - wanted)
    assert error[u < 0.999].max() < 1e-6
    assert error.max() < 3e-4  # near u = 1 the rounding of u, 3e-8, is an error of the square of the radius


def test_numbers_are_normal_and_independent():
    n = 10**6
    x = np.asarray(normal(jax.random.key(1), (n, 3), jnp.float64)).ravel()
    assert stats.kstest(x, "norm").pvalue > 0.01
    for power, variance in ((1, 1), (2, 2), (3, 15), (4, 96), (6, 10395 - 225)):
        mean = stats.norm.moment(power)
        assert abs(np.mean(x**power) - mean) < 4 * np.sqrt(variance / len(x)), power
    lags = [1, 2, 3, len(x) // 2 - 1, len(x) // 2]  # sine and cosine of one angle stand half the array apart
    for lag in lags:
        for f in (lambda x: x, lambda x: x * x - 1):
            pairs = f(x[lag:]) * f(x[:-lag])
            assert abs(pairs.mean()) < 4 * pairs.std() / np.sqrt(len(pairs)), lag
    other = np.asarray(normal(jax.random.key(2), (n, 3), jnp.float64)).ravel()
    assert abs(np.mean(x * other)) < 4 / np.sqrt(len(x))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (5, 3), (2, 7, 3)])
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_every_shape_dtype_and_kind_of_key(shape, implementation):
    key = jax.random.key(3, impl=implementation)
    for dtype in (jnp.float32, jnp.float64):
        x = normal(key, shape, dtype)
        assert x.shape == shape
        assert x.dtype == dtype
    assert len(np.unique(x)) == x.size
    if implementation == "rbg":  # whose numbers under vmap are other ones, says jax
        return
    keys = jax.random.split(key, 2)
    together = jax.vmap(lambda key: normal(key, shape, jnp.float64))(keys)
    np.testing.assert_array_equal(together[1], normal(keys[1], shape, jnp.float64))


def test_what_is_computed_once_is_the_same_with_its_derivatives():
    x = jnp.asarray([[0.3, -2.0], [1.0, 5.0]])
    np.testing.assert_array_equal(jax.jit(once)(x), x)
    f = lambda x: jnp.sum(jnp.sin(once(x) ** 2))
    np.testing.assert_allclose(jax.jit(jax.grad(f))(x), 2 * x * jnp.cos(x**2), rtol=1e-12)
    np.testing.assert_allclose(jax.jvp(f, (x,), (x,))[1], jnp.sum(2 * x * x * jnp.cos(x**2)), rtol=1e-12)
    assert jax.hessian(f)(x).shape == (2, 2, 2, 2)
    assert np.isnan(jax.jit(once)(x.at[0, 0].set(jnp.nan))).all()
