"""Parameters that change with the step: the work they do, and what is conserved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.potentials.external import tether
from jaxmlp.potentials.pair import lennard_jones

N = 40


@pytest.fixture(scope="module")
def crystal() -> jm.System:
    rng = np.random.default_rng(0)
    a = 1.56
    basis = np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    R = (np.array(list(np.ndindex(2, 2, 2)))[:, None] + basis).reshape(-1, 3) * a
    R += 0.03 * rng.normal(size=R.shape)
    return jm.System(
        np.full(32, 18), R, 2 * a * np.eye(3), masses=np.ones(32), velocities=rng.normal(size=R.shape) / 40
    )


def path(crystal, x):
    """Lennard-Jones turning into springs; with `k` a ramp, springs that stiffen on the way."""
    a, pa = lennard_jones((18,), 1.0, 1.0, 2.5, truncation="force-shifted")
    b, pb = tether(crystal, 40.0)
    return jm.interpolate(a, b), {"x": x, "a": pa, "b": pb}


def ramped_k(crystal, x, k):
    potential, params = path(crystal, x)
    return potential, params | {"b": params["b"] | {"k": k}}


RAMPS = {
    "weights": lambda crystal, way: path(crystal, way(md.SmoothRamp(0.0, 1.0, N))),
    "parameters": lambda crystal, way: ramped_k(crystal, 0.5, way(md.Ramp(np.full(32, 20.0), np.full(32, 60.0), N))),
    "both": lambda crystal, way: ramped_k(
        crystal, way(md.Ramp(0.1, 0.9, N)), way(md.Ramp(np.full(32, 20.0), np.full(32, 60.0), N))
    ),
}


@pytest.mark.parametrize("name", RAMPS)
def test_a_path_and_its_reverse_do_opposite_work(crystal, name):
    """Velocity Verlet is reversible, with parameters that change too: it returns to its start, and so does the work."""
    there = md.nve(*RAMPS[name](crystal, lambda ramp: ramp), crystal, dt=0.04)
    out = md.run(there, N, log_every=N)
    end = out.simulation.system
    back = md.nve(*RAMPS[name](crystal, lambda ramp: ramp.reversed()), end.replace(velocities=-end.velocities), dt=0.04)
    home = md.run(back, N, log_every=N)
    np.testing.assert_allclose(home.simulation.state.R, crystal.R, atol=1e-10)
    assert out.log["work"][-1] == pytest.approx(-home.log["work"][-1], rel=1e-9)
    assert abs(out.log["work"][-1]) > 0.3


def test_total_energy_less_work_is_conserved_to_second_order(crystal):
    """The error of the energy falls by four where dt is halved, and the ramp with it."""
    drift = []
    for n, dt in ((N, 0.04), (2 * N, 0.02)):
        potential, params = ramped_k(
            crystal, md.SmoothRamp(0.0, 1.0, n), md.Ramp(np.full(32, 20.0), np.full(32, 60.0), n)
        )
        log = md.run(md.nve(potential, params, crystal, dt=dt), n, log_every=n // N).log
        change = log["total"] - log["total"][0]
        drift.append(np.abs(log["conserved"] - log["conserved"][0]).max())
        assert abs(change[-1]) > 100 * drift[-1]
        np.testing.assert_allclose(log["total"] - log["work"], log["conserved"], rtol=1e-12)
    assert 3.3 < drift[0] / drift[1] < 4.7


def test_the_work_of_a_change_in_no_time_is_the_difference_of_energies(crystal):
    """One step of length zero from the first potential to the second."""
    potential, params = path(crystal, md.Ramp(0.0, 1.0, 1))
    sim = md.nve(potential, params, crystal, dt=1e-9)
    log = md.run(sim, 1, log_every=1).log
    energies = [jm.energy_fn(*pair[:1], crystal)(crystal.R, crystal.box, pair[1]) for pair in (
        (potential.members[0], params["a"]), (potential.members[1], params["b"]))]  # fmt: skip
    assert log["work"][1] == pytest.approx(float(energies[1] - energies[0]), rel=1e-7)
    np.testing.assert_allclose(log["potential"], energies, rtol=1e-7, atol=1e-12)
    before = jm.energy_fn(potential, crystal)(crystal.R, crystal.box, params | {"x": 0.25})
    assert float(before) == pytest.approx(float(0.75 * energies[0] + 0.25 * energies[1]), rel=1e-12)


def test_beads_and_replicas_do_the_work_of_single_systems(crystal):
    potential, params = RAMPS["both"](crystal, lambda ramp: ramp)
    sim = md.nve(potential, params, crystal, dt=0.04)
    alone = md.run(sim, 10, log_every=5).log
    other = sim.replace(state=sim.state._replace(p=-0.5 * sim.state.p))
    both = md.run(md.replicas([other, sim]), 10, log_every=5).log
    np.testing.assert_allclose(both["work"][:, 1], alone["work"], rtol=1e-12)
    assert abs(both["work"][-1, 0] / both["work"][-1, 1] - 1) > 1e-4
    # All beads at one place, and springs too stiff to let them part in 10 steps.
    beads = md.rpmd(potential, params, crystal, temperature=1e6, beads=4, dt=0.04)
    beads = beads.replace(state=beads.state._replace(p=jnp.broadcast_to(sim.state.p, beads.state.p.shape)))
    np.testing.assert_allclose(md.run(beads, 10, log_every=5).log["work"], alone["work"], rtol=1e-6)


def test_a_ramp_of_the_pressure_works_on_the_volume(crystal):
    potential, params = path(crystal, 0.0)
    options = {"temperature": 5000.0, "tau_pressure": 20.0, "dt": 0.04}
    sim = md.npt_langevin(potential, params, crystal, pressure=md.Ramp(1.0, 3.0, 50), **options)
    log = md.run(sim, 50, log_every=1).log
    V = 0.5 * (log["volume"][1:] + log["volume"][:-1])
    assert log["work"][-1] == pytest.approx(np.sum(V) * 2.0 / 50, rel=1e-2)  # after each step, not at its middle


def test_a_ramped_run_restarts_bit_for_bit(crystal, tmp_path):
    potential, params = RAMPS["both"](crystal, lambda ramp: ramp)
    sim = md.nvt_langevin(potential, params, crystal, temperature=3000.0, dt=0.04)
    whole = md.run(sim, 20).simulation.state
    md.run(sim, 10, checkpoint=tmp_path / "a")
    again = md.run(md.restart(tmp_path / "a", potential, params), 10).simulation.state
    assert np.array_equal(whole.R, again.R)
    assert whole.work == again.work


def test_ramps_are_refused_where_nothing_books_their_work(crystal):
    a, pa = lennard_jones((18,), 1.0, 1.0, 2.5)
    b, pb = tether(crystal, 40.0)
    with pytest.raises(ValueError, match="multiple time steps"):
        md.nve(a + b, (pa, pb | {"k": md.Ramp(pb["k"], 2 * pb["k"], 10)}), crystal, loops=(2,))
    sims = [md.nvt_langevin(*path(crystal, md.Ramp(0.0, 1.0, 9)), crystal, temperature=1e3, key=k) for k in range(2)]
    with pytest.raises(ValueError, match="cannot be swapped"):
        md.replica_exchange(sims)


@pytest.mark.parametrize(("ramp", "middle"), [
    (md.Ramp(1.0, 3.0, 20, 10), 2.0), (md.SmoothRamp(1.0, 3.0, 20, 10), 2.0), (md.InverseRamp(1.0, 3.0, 20, 10), 1.5),
])  # fmt: skip
def test_ramps_begin_end_and_meet_their_reverse(ramp, middle):
    for step, value in ((0, 1.0), (10, 1.0), (15, middle), (20, 3.0), (30, 3.0)):
        assert float(ramp.at(jnp.int32(step))) == pytest.approx(value, rel=1e-14)
    for step in (11, 13, 18):
        assert float(ramp.at(step)) == pytest.approx(float(ramp.reversed().at(30 - step)), rel=1e-14)
    assert jax.tree.structure(jax.tree.map(lambda x: x, ramp)) == jax.tree.structure(ramp)
