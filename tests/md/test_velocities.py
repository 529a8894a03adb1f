"""Thermal momenta."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.md import kinetic_energy, thermal_momenta

N, KT = 7, 0.3
MASS = jnp.asarray(np.linspace(1.0, 40.0, N)[:, None])
KEYS = jax.random.split(jax.random.key(0), 4000)


def test_kinetic_energies_follow_the_gamma_distribution_of_their_degrees_of_freedom():
    R = jnp.asarray(np.random.default_rng(0).normal(size=(N, 3)))
    for options, dof in (
        ({"keep_momentum": True}, 3 * N),
        ({}, 3 * N - 3),
        ({"spin_free": R}, 3 * N - 6),
    ):
        p = jax.vmap(partial(thermal_momenta, mass=MASS, kT=KT, **options))(KEYS)
        K = np.asarray(jax.vmap(kinetic_energy, (0, None))(p, MASS)) / KT
        n = len(K)
        assert abs(K.mean() - dof / 2) < 4 * np.sqrt(dof / 2 / n)
        # The error of a variance s^2 is sqrt((kurtosis + 2) / n) s^2; a gamma of shape dof/2 has kurtosis 12 / dof.
        assert abs(K.var() / (dof / 2) - 1) < 4 * np.sqrt((12 / dof + 2) / n)


def test_total_momentum_and_angular_momentum_vanish():
    R = jnp.asarray(np.random.default_rng(1).normal(size=(N, 3)) + 5.0)
    p = thermal_momenta(KEYS[0], MASS, KT, spin_free=R)
    np.testing.assert_allclose(jnp.sum(p, axis=0), 0.0, atol=1e-13)
    center = jnp.sum(MASS * R, axis=0) / jnp.sum(MASS)
    np.testing.assert_allclose(jnp.sum(jnp.cross(R - center, p), axis=0), 0.0, atol=1e-12)
    line = jnp.zeros((N, 3)).at[:, 0].set(jnp.arange(N, dtype=float))  # no inertia about its axis
    assert np.isfinite(thermal_momenta(KEYS[0], MASS, KT, spin_free=line)).all()


def test_exact_start_has_the_temperature_asked_for():
    p = thermal_momenta(KEYS[1], MASS, KT, exact=True)
    np.testing.assert_allclose(kinetic_energy(p, MASS), 0.5 * (3 * N - 3) * KT, rtol=1e-13)
    assert (thermal_momenta(KEYS[1], MASS, 0.0, exact=True) == 0).all()


def test_a_single_atom_keeps_its_momentum():
    assert (thermal_momenta(KEYS[2], MASS[:1], KT) != 0).all()
