"""The Uhlenbeck-Ford potential against its series on both sides of exp(-y) = 1/2, y = r^2 / sigma^2."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.potentials.uhlenbeck_ford import UhlenbeckFord, uhlenbeck_ford
from jaxmlp.units import kB

SIGMA, EPSILON = 1.5, 0.7


def near(y):
    """-ln(1 - exp(-y)) = -ln y + y/2 - y^2/24 + y^4/2880 - y^6/181440 ..., from ln((exp(y) - 1) / y)."""
    return -np.log(y) + y / 2 - y**2 / 24 + y**4 / 2880 - y**6 / 181440


def far(y):
    return sum(np.exp(-n * y) / n for n in range(60, 0, -1))


def phi(r, dtype=float):
    params = {"epsilon": jnp.asarray(EPSILON, dtype), "sigma": jnp.asarray(SIGMA, dtype)}
    return UhlenbeckFord((18,), 5 * SIGMA).phi(params, jnp.asarray(r, dtype) ** 2)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-14), (np.float32, 1e-6)])  # some roundings of each
def test_no_digit_is_lost_near_or_far(dtype, rtol):
    close, apart = np.array([1e-3, 1e-2, 0.1, 0.2, 0.3]), np.array([0.8, 0.9, 1.5, 3.0, 4.9])  # r / sigma
    # the argument y = r^2 / sigma^2 of exp(-y) is itself rounded: where y is 24, that is 24 roundings of the energy
    np.testing.assert_allclose(phi(SIGMA * close, dtype), EPSILON * near(close**2), rtol=rtol)
    np.testing.assert_allclose(phi(SIGMA * apart, dtype), EPSILON * far(apart**2), rtol=30 * rtol)
    join = SIGMA * np.sqrt(0.7)
    below, above = phi(join * np.array([1 - 1e-12, 1 + 1e-12]))
    assert abs(above - below) < 1e-11  # slope 2, step 2e-12: no jump where the forms change


def test_derivatives_are_finite_and_right():
    """phi' = -(2 epsilon r / sigma^2) / (exp(y) - 1)."""
    r = SIGMA * np.array([1e-3, 0.3, 0.8, 0.84, 2.0, 4.9])
    slope, curvature = jax.jvp(lambda x: jax.jvp(phi, (x,), (jnp.ones(6),))[1], (jnp.asarray(r),), (jnp.ones(6),))
    y = r**2 / SIGMA**2
    np.testing.assert_allclose(slope, -2 * EPSILON * r / SIGMA**2 / np.expm1(y), rtol=1e-13)
    d = -2 * EPSILON / SIGMA**2 * (1 / np.expm1(y) - 2 * y * np.exp(y) / np.expm1(y) ** 2)
    np.testing.assert_allclose(curvature, d, rtol=1e-12)


def test_the_factory_sets_the_energy_scale_and_a_cutoff_of_five_sigma():
    potential, params = uhlenbeck_ford((29, 40), 50, 1500.0, SIGMA)
    assert potential.species == (29, 40)
    assert potential.cutoff == 7.5
    for name, value in (("epsilon", 50 * kB * 1500), ("sigma", SIGMA)):
        np.testing.assert_array_equal(params[name], np.full((2, 2), value))
    pair = jm.System([29, 40], [[0, 0, 0], [2.1, 0, 0]])
    E = jm.energy_fn(potential, pair)(pair.R, None, params)
    np.testing.assert_allclose(E, -50 * kB * 1500 * np.log(1 - np.exp(-((2.1 / 1.5) ** 2))), rtol=1e-14)
    assert uhlenbeck_ford((29,), 50, 1500.0, SIGMA, cutoff=6)[0].cutoff == 6.0


@pytest.mark.parametrize(
    ("bad", "message"), [((0, 300.0, 1.5), "p is"), ((1, -1.0, 1.5), "in K"), ((1, 1.0, np.nan), "Å")]
)
def test_what_cannot_be_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        uhlenbeck_ford((18,), *bad)
