"""Simulations side by side: each is what it is alone, with its own temperature, parameters and seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import KELVIN, TIME, fcc

from jaxmlp import md
from jaxmlp.potentials.pair import lennard_jones

OPTIONS = {"dt": 0.005 * TIME, "skin": 0.3, "headroom": 0.3, "friction": 1 / TIME}
MEMBERS = [(0.6, 1.0, 0), (0.9, 1.0, 1), (0.6, 1.2, 2)]


@pytest.fixture(scope="module")
def members() -> list[md.Simulation]:
    sims = []
    for T, epsilon, key in MEMBERS:
        potential, params = lennard_jones((18,), epsilon, 1.0, 1.8, truncation="force-shifted")
        sims.append(md.nvt_langevin(potential, params, fcc(2), temperature=T * KELVIN, key=key, **OPTIONS))
    return sims


@pytest.fixture(scope="module")
def alone(members) -> list:
    return [md.run(sim, 120, log_every=40) for sim in members]


def test_each_replica_is_its_own_simulation(members, alone):
    both = md.run(md.replicas(members), 120, log_every=40)
    for k, one in enumerate(alone):
        np.testing.assert_allclose(both.simulation.state.R[k], one.simulation.state.R, atol=1e-10)
        for name in ("potential", "temperature", "conserved"):
            np.testing.assert_allclose(both.log[name][:, k], one.log[name], atol=1e-9)
        again = md.run(md.replica(both.simulation, k), 40).simulation
        further = md.run(one.simulation, 40).simulation
        np.testing.assert_allclose(again.state.R, further.state.R, atol=1e-9)


def test_vmap_of_simulate_is_one_run_after_the_other(members, alone):
    """Over states, temperatures and parameters at once."""
    stack = lambda trees: jax.tree.map(lambda *x: jnp.stack(x), *trees)
    sim = members[0]
    run = jax.jit(jax.vmap(md.simulate(sim), (0, 0, None, 0)))
    states = [m.state._replace(neighbors=sim.state.neighbors) for m in members]
    found = run(stack(states), stack([m.controls for m in members]), 120, stack([m.atoms for m in members]))
    assert not np.any(found.neighbors.overflow)
    for k, one in enumerate(alone):
        np.testing.assert_allclose(found.R[k], one.simulation.state.R, atol=1e-10)
        np.testing.assert_allclose(found.energy[k], one.log["potential"][-1], atol=1e-9)
