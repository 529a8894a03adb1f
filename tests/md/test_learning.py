"""Biases in dynamics: forces of what they have learnt, memory that grows, restarts, replicas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.potentials.external import Polynomial
from jaxmlp.sampling import Metadynamics, Position, Volume, center_of_mass, restraint
from jaxmlp.units import fs, kB

KT = 0.2
LANGEVIN = {"temperature": KT / kB, "dt": 0.1 / fs, "friction": 0.5 * fs}


@pytest.fixture(scope="module")
def system() -> jm.System:
    return jm.System([1, 1, 1], [[2.0, 0, 0], [1.8, 0.1, 0], [-2, 0, 0.2]], masses=np.ones(3))


@pytest.fixture(scope="module")
def well() -> tuple[jm.Potential, dict]:
    """V = (x^2 - 4)^2 / 16 and springs along y and z."""
    c = np.zeros((3, 5))
    c[0, [0, 2, 4]] = np.array([16.0, -8.0, 1.0]) / 16
    c[1:, 2] = 0.5
    return Polynomial((1,)), {"c": jnp.asarray(c)}


@pytest.fixture(scope="module")
def bias(system) -> Metadynamics:
    """Of the first particle's place along x; room for four hills at the start."""
    cv = Position(center_of_mass(system, [0]), axis=0)
    return Metadynamics(cv, (1,), width=(0.3,), pace=5, capacity=4, height=0.05, biasfactor=8.0)


@pytest.fixture(scope="module")
def start(system, well, bias) -> md.Simulation:
    potential, params = well
    return md.nvt_langevin(potential + bias, (params, bias.start(KT)), system, **LANGEVIN)


def test_forces_are_those_of_potential_and_bias(start, bias, well):
    """After any number of steps, a deposition just done or not, and in every row of the log."""
    potential, params = well
    energy = jm.energy_fn(potential + bias, start.system)
    sim = start
    for n in (5, 6, 7, 21):
        sim, log = md.run(sim, n, log_every=1)
        state = sim.state
        slope = jax.grad(energy)(state.R, None, (params, state.memory))
        np.testing.assert_allclose(state.F, -slope, atol=1e-12)
        assert int(state.memory.kernels.count) == (sim.step - 1) // 5
        np.testing.assert_allclose(log["cv"][-1], state.R[0, 0])
        assert log["bias"][-1] == pytest.approx(float(bias.bias(state.memory, state.R[0, :1])), rel=1e-10)
        assert log["parts"][-1, 1] == pytest.approx(log["bias"][-1])


def test_a_full_memory_grows_and_nothing_is_lost(start, bias):
    """The same trajectory as with room for all from the start."""
    whole = md.run(start, 200, log_every=20)
    roomy = start.replace(state=start.state._replace(memory=bias.enlarged(bias.enlarged(bias.enlarged(
        bias.enlarged(start.state.memory))))))  # fmt: skip
    other = md.run(roomy, 200, log_every=20)
    assert whole.simulation.state.memory.kernels.centers.shape == (64, 1)
    np.testing.assert_allclose(whole.simulation.state.R, other.simulation.state.R, atol=1e-12)
    np.testing.assert_allclose(whole.log["bias"], other.log["bias"], atol=1e-12)


def test_the_work_of_depositions_is_booked(system, well, bias):
    """At constant energy: the total grows by what hills add where the particle is, and nothing else."""
    potential, params = well
    drift = []
    for dt, pace in ((0.1, 5), (0.05, 10)):
        moving = jm.System(system.numbers, system.R, masses=system.masses, velocities=np.full((3, 3), 0.03))
        learning = Metadynamics(bias.cv, (1,), width=(0.3,), pace=pace, capacity=64, height=0.05, biasfactor=8.0)
        sim = md.nve(potential + learning, (params, learning.start(KT)), moving, dt=dt / fs)
        log = md.run(sim, 200 * pace // 5, log_every=pace).log
        drift.append(np.abs(log["conserved"] - log["conserved"][0]).max())
        assert log["work"][-1] > 0.5
        assert np.abs(log["total"] - log["total"][0]).max() > 50 * drift[-1]
    assert 2.5 < drift[0] / drift[1] < 6


def test_a_biased_run_restarts_bit_for_bit(start, tmp_path):
    whole = md.run(start, 60).simulation.state
    md.run(start, 33, checkpoint=tmp_path / "a")
    forces = start.dynamics.forces
    again = md.run(md.restart(tmp_path / "a", forces.potential, start.atoms.params), 27).simulation.state
    assert np.array_equal(whole.R, again.R)
    assert all(map(np.array_equal, jax.tree.leaves(whole.memory), jax.tree.leaves(again.memory)))


def test_replicas_have_memories_of_their_own(system, well, bias, start):
    potential, params = well
    other = md.nvt_langevin(potential + bias, (params, bias.start(KT)), system, key=1, **LANGEVIN)
    both = md.run(md.replicas([start, other]), 60, log_every=10)
    alone = md.run(start, 60, log_every=10)
    np.testing.assert_allclose(both.log["cv"][:, 0], alone.log["cv"], atol=1e-12)
    centers = both.simulation.state.memory.kernels.centers
    assert centers.shape == (2, 16, 1)
    assert abs(centers[0, 3] - centers[1, 3]) > 1e-3
    np.testing.assert_allclose(md.replica(both.simulation, 0).state.memory.kernels.centers, centers[0])


def test_a_bias_on_the_volume_acts_on_the_barostat():
    """A spring holds the volume of an ideal gas where it wants it, against the pressure."""
    from jaxmlp.potentials.external import Free

    rng = np.random.default_rng(0)
    system = jm.System(np.full(20, 18), rng.uniform(0, 6, (20, 3)), 6.0 * np.eye(3), masses=np.ones(20))
    bias, q = restraint(Volume(), (18,), 0.01, 150.0)
    sim = md.npt_langevin(
        Free((18,)) + bias, ({}, q), system, pressure=0.0, tau_pressure=3 / fs, **(LANGEVIN | {"dt": 0.02 / fs})
    )
    sim, _ = md.run(sim, 2000, log_every=1000)
    log = md.run(sim, 6000, log_every=10).log
    # The gas pushes with (N + 1) kT / V: V = 150 + 21 kT / (0.01 V).
    expected = 75 + np.sqrt(75**2 + 21 * KT / 0.01)
    assert abs(log["volume"].mean() - expected) < 0.02 * expected
    np.testing.assert_allclose(log["cv"][:, 0], log["volume"], rtol=1e-10)


def test_what_cannot_learn_is_refused(system, well, bias):
    potential, params = well
    memory = bias.start(KT)
    with pytest.raises(ValueError, match="after all others"):
        md.nvt_langevin(bias + potential, (memory, params), system, **LANGEVIN)
    with pytest.raises(ValueError, match="one of them"):
        md.nvt_langevin((potential + bias) + bias, ((params, memory), memory), system, **LANGEVIN)
    with pytest.raises(ValueError, match="ring polymers"):
        md.pimd(potential + bias, (params, memory), system, temperature=300.0, beads=4)
    with pytest.raises(ValueError, match="multiple time steps"):
        md.nve(potential + bias, (params, memory), system, loops=(2,))
