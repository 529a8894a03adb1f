"""The driver: what it logs, writes and refuses, and how it stops."""

from dataclasses import dataclass

import ase.io
import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import KELVIN, TIME

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.potentials.pair import LennardJones


@pytest.fixture(scope="module")
def sim(liquid):
    return md.nve(*liquid, temperature=KELVIN, dt=0.005 * TIME, skin=0.3, headroom=0.3, key=5)


def test_rows_and_frames_fall_on_multiples_wherever_runs_begin(sim, tmp_path):
    whole = md.run(sim, 100, log_every=10, trajectory=tmp_path / "whole.h5", trajectory_every=20)
    assert whole.log["step"].tolist() == list(range(0, 101, 10))
    first = md.run(sim, 37, log_every=10, trajectory=tmp_path / "parts.h5", trajectory_every=20)
    second = md.run(first.simulation, 63, log_every=10, trajectory=tmp_path / "parts.h5", trajectory_every=20)
    for name, column in whole.log.items():
        assert np.array_equal(np.concatenate([first.log[name], second.log[name]]), column), name
    assert np.array_equal(second.simulation.state.R, whole.simulation.state.R)
    with h5py.File(tmp_path / "whole.h5") as a, h5py.File(tmp_path / "parts.h5") as b:
        assert a["particles/all/position/step"][:].tolist() == [0, 20, 40, 60, 80, 100]
        for name in ("particles/all/position/step", "particles/all/position/value", "observables/stress/value"):
            assert np.array_equal(a[name], b[name]), name
        assert np.array_equal(a["particles/all/position/value"][-1], whole.simulation.state.R)


def test_progress_and_observers_change_nothing(sim, capsys):
    plain = md.run(sim, 30, log_every=10)
    watched = md.run(
        sim,
        30,
        log_every=10,
        progress=True,
        observers={"flux": lambda state, out: jm.heat_flux(out, state.p / sim.atoms.mass)},
    )
    assert np.array_equal(plain.simulation.state.R, watched.simulation.state.R)
    assert watched.log["flux"].shape == (4, 3)
    assert "atom-steps/s" in capsys.readouterr().out
    assert md.run(sim, 0).log["step"].tolist() == [0]


@dataclass(frozen=True)
class Cliff(LennardJones):
    """Lennard-Jones whose energy is NaN once an atom comes nearer than `edge`; its forces are too, or stay finite."""

    edge: float = 0.95
    forces: bool = True

    def phi(self, p, r_squared):
        phi = super().phi(p, r_squared)
        if self.forces:
            return phi + 0.0 * jnp.sqrt(r_squared - self.edge**2)
        return jnp.where(r_squared > self.edge**2, phi, jnp.nan)


@pytest.mark.parametrize("forces", [True, False])
def test_a_nan_stops_the_run_and_saves_the_last_good_step(liquid, tmp_path, forces):
    _, params, system = liquid
    cliff = Cliff((18,), 2.5, "truncated", edge=0.95 if forces else 1.02, forces=forces)
    sim = md.nve(cliff, params, system, temperature=2 * KELVIN, dt=0.005 * TIME, skin=0.3)
    with pytest.raises(md.SimulationError, match="the energy is not finite") as caught:
        md.run(sim, 1000, trajectory=tmp_path / "run.xyz", trajectory_every=1000)
    good = caught.value.simulation
    assert f"at step {good.step + 1} the energy is not finite" in str(caught.value)
    assert np.isfinite(good.state.energy)
    assert np.isfinite(good.state.F).all()
    after = md.simulate(good)(good.state, good.controls, 1)
    assert np.isnan(after.energy)
    assert np.isnan(after.F).any() == forces
    frames = ase.io.read(tmp_path / "run.xyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, good.step]
    np.testing.assert_allclose(frames[-1].positions, good.state.R, atol=1e-8)  # eight decimals are written


def test_atoms_that_fly_apart_stop_the_run(sim):
    fast = sim.replace(state=sim.state._replace(p=sim.state.p.at[0].set(300.0)))
    with pytest.raises(md.SimulationError, match=r"moved more than 1\.0 Å") as caught:
        md.run(fast, 10)
    assert caught.value.simulation.step == 0


def test_overlapping_atoms_are_refused_at_the_start(liquid):
    potential, params, system = liquid
    R = system.R.copy()
    R[1] = R[0]
    with pytest.raises(md.SimulationError, match="do atoms overlap"):
        md.nve(potential, params, system.replace(R=R), dt=0.005 * TIME, skin=0.3, headroom=0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"log_every": 0}, "log_every is a number of steps"),
        ({"checkpoint_every": 2.5}, "checkpoint_every is a number of steps"),
        ({"trajectory": "run.dcd"}, "ends in .xyz"),
        ({"stride": -1.0}, "stride is a length"),
    ],
)
def test_senseless_options_are_refused(sim, options, words):
    with pytest.raises(ValueError, match=words):
        md.run(sim, 10, **options)
    with pytest.raises(ValueError, match="steps must be"):
        md.run(sim, -1)
