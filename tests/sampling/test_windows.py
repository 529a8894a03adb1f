"""Umbrella sampling through dynamics: windows side by side, a known profile, exchange of configurations."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.potentials.external import Polynomial
from jaxmlp.sampling import umbrella_sampling
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
KT = 0.2
CENTERS = np.linspace(-2.6, 2.6, 14)


@pytest.mark.parametrize("exchange_every", [None, 20])
def test_umbrella_sampling_of_a_double_well(exchange_every):
    """V = (x^2 - 4)^2 / 16 along x, springs along y and z: the profile, and the mean energy of the joined samples."""
    c = np.zeros((3, 5))
    c[0, [0, 2, 4]] = np.array([16.0, -8.0, 1.0]) / 16
    c[1:, 2] = 0.5
    system = jm.System([1], [[-2.0, 0, 0]], masses=np.ones(1))
    found = umbrella_sampling(
        Polynomial((1,)), {"c": jnp.asarray(c)}, system, lambda R, box: R[0, 0], k=3.0, centers=CENTERS,
        temperature=KT / kB, steps=30_000, equilibration=500, log_every=20, exchange_every=exchange_every,
        dt=0.15 / fs, friction=0.5 * fs,
    )  # fmt: skip
    assert found.s.shape == (14, 1500, 1)
    np.testing.assert_allclose(found.centers[:, 0], CENTERS)
    edges = np.linspace(-2.6, 2.6, 27)
    profile = found.profile(edges, blocks=10)
    fine = np.linspace(edges[:-1], edges[1:], 41)
    exact = -KT * np.log(np.trapezoid(np.exp(-((fine**2 - 4) ** 2) / 16 / KT), fine, axis=0))
    difference = profile.F - exact
    difference -= difference.mean()
    assert profile.error.max() < 0.03
    assert abs(difference).max() < 0.06
    assert 0.1 < np.mean((difference / profile.error) ** 2) < 4
    joined = found.joined
    x = joined.s[:, 0]
    assert joined.w @ (x**2 - 4) ** 2 / 16 == pytest.approx(0.11316606, rel=0.1)


def test_windows_begin_anywhere_and_arrive():
    """Different springs for each window; all start from the same place."""
    system = jm.System([1], [[0.0, 0, 0]], masses=np.ones(1))
    free = Polynomial((1,)), {"c": jnp.zeros((3, 3)).at[:, 2].set(0.5)}
    k, centers = np.array([5.0, 50.0]), np.array([1.0, -1.0])
    found = umbrella_sampling(
        *free, system, lambda R, box: R[0, 0], k=k, centers=centers, temperature=KT / kB, steps=20_000, log_every=10,
        dt=0.05 / fs, friction=0.5 * fs,
    )  # fmt: skip
    # x^2 / 2 + k (x - c)^2 / 2: mean k c / (1 + k), variance kT / (1 + k)
    np.testing.assert_allclose(found.s.mean(axis=(1, 2)), k * centers / (1 + k), atol=0.06)
    np.testing.assert_allclose(found.s.var(axis=(1, 2)), KT / (1 + k), rtol=0.2)
