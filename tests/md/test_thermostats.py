"""Langevin and Nose-Hoover dynamics of a Lennard-Jones liquid: equipartition, fluctuations, and vmap."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import KELVIN, TIME, mean_and_error

from jaxmlp import md
from jaxmlp.units import kB

pytestmark = pytest.mark.optimized

OPTIONS = {"dt": 0.005 * TIME, "skin": 0.3, "headroom": 0.3, "key": 4}


@pytest.fixture(scope="module")
def langevin(liquid):
    sim = md.nvt_langevin(*liquid, temperature=KELVIN, friction=2 / TIME, **OPTIONS)
    return md.run(sim, 1000, log_every=1000).simulation


@pytest.fixture(scope="module")
def nose_hoover(liquid):
    sim = md.nvt_nose_hoover(*liquid, temperature=KELVIN, tau=0.2 * TIME, **OPTIONS)
    return md.run(sim, 1000, log_every=1000).simulation


@pytest.mark.parametrize(("ensemble", "dof"), [("langevin", 324), ("nose_hoover", 321)])
def test_kinetic_energy_has_the_canonical_mean_and_variance(ensemble, dof, request):
    sim = request.getfixturevalue(ensemble)
    log = md.run(sim, 12_000, log_every=10).log
    K = log["temperature"] / KELVIN * dof / 2  # in kT
    mean, error = mean_and_error(K)
    assert abs(mean - dof / 2) < 4 * error
    assert error < 0.01 * dof / 2
    variance, error = mean_and_error((K - dof / 2) ** 2)
    assert abs(variance - dof / 2) < 4 * error
    assert error < 0.15 * dof / 2
    # The conserved quantity stays, while the energy of the atoms fluctuates by sqrt(dof) kT.
    assert np.std(log["conserved"]) < 0.02 * np.std(log["total"])
    np.testing.assert_allclose(log["time"], log["step"] * 0.005 * TIME)
    assert log["pressure"].shape == log["volume"].shape == log["step"].shape


def test_pressure_is_the_virial_pressure(nose_hoover):
    sim = nose_hoover
    out = sim.dynamics.forces.evaluate(sim.state, sim.atoms)
    row = sim.dynamics.measure(sim.state, out, sim.atoms, sim.controls)
    V = sim.system.volume
    K = float(md.kinetic_energy(sim.state.p, sim.atoms.mass))
    np.testing.assert_allclose(row["pressure"], (2 * K + np.trace(out.virial)) / (3 * V), rtol=1e-12)
    np.testing.assert_allclose(row["temperature"], 2 * K / (321 * kB), rtol=1e-12)


def test_vmap_over_replicas_and_temperatures_is_the_loop(langevin):
    run = md.simulate(langevin)
    temperatures = jnp.asarray([0.7, 1.0, 1.5]) * KELVIN
    states = jax.vmap(lambda key: langevin.state._replace(key=key))(jax.random.split(jax.random.key(0), 3))
    sweep = jax.vmap(lambda state, T: run(state, langevin.controls._replace(temperature=T), 30))
    together = jax.jit(sweep)(states, temperatures)
    one = jax.jit(chex.assert_max_traces(run, n=1))
    for k, T in enumerate(temperatures):
        state = jax.tree.map(lambda x, k=k: x[k], states)
        alone = one(state, langevin.controls._replace(temperature=T), jnp.int32(30))
        # Replicas renew their lists together or not; the order of sums may differ.
        np.testing.assert_allclose(together.R[k], alone.R, atol=1e-11)
        assert together.step[k] == alone.step == 1030


def test_total_momentum_under_langevin_counts_as_degrees_of_freedom(langevin, nose_hoover):
    assert np.abs(np.sum(langevin.state.p, axis=0)).max() > 1
    assert np.abs(np.sum(nose_hoover.state.p, axis=0)).max() < 1e-10
    assert (float(langevin.atoms.dof), float(nose_hoover.atoms.dof)) == (324, 321)


def test_velocities_of_the_system_are_the_start(liquid):
    potential, params, system = liquid
    v = np.random.default_rng(0).normal(scale=0.01, size=system.R.shape)
    for make in (md.nvt_nose_hoover,):
        sim = make(potential, params, system.replace(velocities=v), temperature=KELVIN, tau=0.2 * TIME, **OPTIONS)
        np.testing.assert_allclose(sim.system.velocities, v, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": 300.0, "dt": 0.0}, "time step in fs"),
        ({"temperature": 300.0, "friction": float("nan")}, "friction in 1/fs"),
    ],
)
def test_senseless_numbers_are_refused(liquid, options, words):
    with pytest.raises(ValueError, match=words):
        md.nvt_langevin(*liquid, **options)


def test_controls_of_another_ensemble_are_refused(langevin):
    with pytest.raises(ValueError, match="no control 'tau'"):
        langevin.with_controls(tau=10.0)
