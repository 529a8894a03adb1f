"""Velocity Verlet on a Lennard-Jones liquid: order, drift, momentum, reversal; what is traced; overflow."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import KELVIN, TIME, fcc

from jaxmlp import md
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potentials.pair import LennardJones

pytestmark = pytest.mark.optimized

TRACES = []


@dataclass(frozen=True)
class Counted(LennardJones):
    """Lennard-Jones that notes when it is traced."""

    def site_energies(self, params, graph):
        TRACES.append(1)
        return super().site_energies(params, graph)


@pytest.fixture(scope="module")
def start(liquid):
    """500 atoms, melted for 8 time units from the lattice at T = 1.44, as PHYSICS.md section 1 says."""
    potential, params, _ = liquid
    sim = md.nve(potential, params, fcc(5), temperature=1.44 * KELVIN, dt=0.004 * TIME, skin=0.3, headroom=0.2, key=1)
    return md.run(sim, 2000, log_every=2000).simulation


def energies(sim: md.Simulation, dt: float, time: float, every: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times and total energies per atom of a run over `time` with rows `every`, Lennard-Jones units."""
    log = md.run(sim.with_controls(dt=dt * TIME), round(time / dt), log_every=round(every / dt)).log
    return (log["step"] - sim.step) * dt, log["total"] / len(sim)


def test_energy_errors_fall_with_the_square_of_dt_along_the_same_path(start):
    start = start.replace(state=start.state._replace(step=jnp.int32(0)))  # so that the rows fall on the same times
    deviation = {dt: (e := energies(start, dt, 1.0, 0.04)[1]) - e[0] for dt in (0.001, 0.002, 0.004)}
    for dt in (0.002, 0.004):
        ratio = deviation[dt] @ deviation[dt / 2] / (deviation[dt / 2] @ deviation[dt / 2])
        # Along one path the error is dt^2 times a function of the positions and momenta, so that this ratio has no
        # sampling error; that of standard deviations over the 40 time units of PHYSICS.md has one of 0.2. Terms of
        # the next order remain: 0.01 to 0.08 at dt = 0.004, a quarter of that at half the step.
        assert abs(ratio - 4) < 0.12 * (dt / 0.004) ** 1.5, dt


def test_energy_fluctuates_as_in_lammps_and_its_shadow_does_not_drift(start):
    dt, length = 0.004, 20.0

    def correction(state, _):
        """Velocity Verlet conserves H + dt^2 (v.H'.v / 12 - F^2 / (24 m)) + O(dt^4), H' the Hessian; here m = 1."""

        def forces(R):
            return start.dynamics.forces.evaluate(state._replace(R=R), start.atoms).forces

        F, change = jax.jvp(forces, (state.R,), (state.p,))
        return -jnp.sum(state.p * change) / 12 - jnp.sum(F * F) / 24

    log = md.run(start, round(length / dt), log_every=20, observers={"correction": correction}).log
    energy = log["total"] / len(start)
    # 40 time units hold about 200 independent samples, 20 half of them: standard errors of 5 % and 7 %.
    np.testing.assert_allclose(np.std(energy), 5.10e-5, rtol=0.2)
    shadow = energy + dt**2 * log["correction"] / len(start)
    assert np.std(shadow) < 0.1 * np.std(energy)
    half = len(shadow) // 2
    drift = (np.mean(shadow[half:]) - np.mean(shadow[:half])) / (0.5 * length)
    print("std(E)/N", np.std(energy), "of the shadow", np.std(shadow), "drift", drift)
    assert abs(drift) < 1e-7  # PHYSICS.md


def test_momentum_is_conserved_and_reversed_time_retraces_the_path(start):
    state = start.state
    assert np.abs(np.sum(state.p, axis=0)).max() < 1e-11
    run = jax.jit(md.simulate(start))
    there = run(state, start.controls, 100)
    back = run(there._replace(p=-there.p), start.controls, 100)
    assert np.abs(np.asarray(there.R) - state.R).max() > 0.1
    np.testing.assert_allclose(back.R, state.R, atol=1e-10)  # rounding 1e-15, Lyapunov exponent about 1 per time unit
    np.testing.assert_allclose(back.p, -state.p, atol=1e-9)


def test_nothing_is_compiled_again_for_other_lengths_intervals_and_controls(liquid):
    _, params, system = liquid
    TRACES.clear()
    sim = md.nvt_langevin(
        Counted((18,), 2.5, "force-shifted"),
        params,
        system,
        temperature=KELVIN,
        dt=0.004 * TIME,
        skin=0.3,
        headroom=0.3,
    )
    traced = len(TRACES)
    result = md.run(sim, 25, log_every=10)
    md.run(result.simulation.with_controls(temperature=2 * KELVIN, dt=0.002 * TIME), 33, log_every=7)
    assert len(TRACES) == traced


def grown(sim: md.Simulation) -> tuple[int, ...]:
    return sim.dynamics.forces.search.capacities


def test_an_overflow_gives_the_trajectory_of_a_generous_list(liquid, monkeypatch):
    potential, params, system = liquid
    rng = np.random.default_rng(0)
    system = system.replace(R=system.R + rng.normal(scale=0.03, size=system.R.shape))

    def begin(headroom):
        options = {"temperature": 3 * KELVIN, "dt": 0.004 * TIME, "skin": 0.3, "key": 2}
        return md.nve(potential, params, system, headroom=headroom, **options)

    small, generous = begin(0.0), begin(0.4)
    tight, wide = (md.run(sim, 150, log_every=10) for sim in (small, generous))
    assert grown(tight.simulation) > grown(small)  # it did overflow
    assert grown(wide.simulation) == grown(generous)
    # Rows of other lengths are summed in another order: 1e-15, growing as exp(time) for 0.6 time units.
    np.testing.assert_allclose(tight.simulation.state.R, wide.simulation.state.R, atol=1e-11)
    assert tight.log["step"].tolist() == wide.log["step"].tolist() == list(range(0, 151, 10))
    np.testing.assert_allclose(tight.log["total"], wide.log["total"], rtol=1e-12)

    allocate = NeighborSearch.allocate.__func__

    def tiny(cls, *args, at_least=None, **options):
        search = allocate(cls, *args, at_least=at_least, **options)
        return search if at_least else replace(search, capacities=(40,))

    monkeypatch.setattr(NeighborSearch, "allocate", classmethod(tiny))
    rescued = begin(0.0)  # the list overflows before the first step
    assert grown(rescued) > (40,)
    np.testing.assert_allclose(rescued.state.F, generous.state.F, atol=1e-12)
