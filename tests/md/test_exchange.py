"""Replica exchange, quantum and classical, on wells whose averages are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import KELVIN, TIME, fcc
from toy import QUANTUM, toy

from jaxmlp import md
from jaxmlp.md.estimators import spring_energies
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.statistics import average

pytestmark = pytest.mark.optimized
OPTIONS = {"dt": 0.005 * TIME, "skin": 0.3, "headroom": 0.3}
TEMPERATURES = (1.4, 1.7, 2.1)


@pytest.fixture(scope="module")
def cold():
    potential, params = lennard_jones((18,), 1.0, 1.0, 1.8, truncation="force-shifted")
    return [
        md.nvt_langevin(potential, params, fcc(2), temperature=T * KELVIN, friction=1 / TIME, key=k, **OPTIONS)
        for k, T in enumerate(TEMPERATURES)
    ]


@pytest.fixture(scope="module")
def exchange(cold):
    return md.run(md.replica_exchange(cold, every=10), 1000, log_every=1000).simulation


def test_places_keep_their_canonical_averages_and_configurations_travel(cold, exchange):
    log = md.run(exchange, 20_000, log_every=20).log
    assert log["potential"].shape == (1000, 3)
    T = average(log["temperature"])
    assert (np.abs(T.mean / KELVIN - TEMPERATURES) < 4 * T.error / KELVIN).all()
    assert set(log["replica"][:, 0]) == {0, 1, 2}
    assert (np.sort(log["replica"], axis=1) == [0, 1, 2]).all()
    assert (log["acceptance"][-1] > 0.1).all()
    # Alone, the first place has the same energy.
    alone = md.run(cold[0], 20_000, log_every=20).log["potential"][100:]
    a, b = average(alone), average(log["potential"][:, 0])
    assert abs(a.mean - b.mean) < 4 * np.hypot(a.error, b.error)
    # The distributions of neighbouring places overlap as Boltzmann's factors say: <exp(-(b1 - b0) U)>_0 = Z1 / Z0, so
    # that the acceptance of a swap is 2 P(U_1 < U_0): compare with that of independent samples.
    U0, U1 = log["potential"][:, 0], log["potential"][:, 1]
    beta = 1 / np.array(TEMPERATURES)
    change = (beta[0] - beta[1]) * (U0[:, None] - U1[None])
    expected = np.minimum(1, np.exp(change)).mean()
    assert abs(log["acceptance"][-1, 0] - expected) < 0.05  # 1000 attempts at 0.3, energies of 200 independent samples
    # Swaps change energies by tens of eV; the conserved quantities go on.
    assert np.abs(np.diff(log["conserved"], axis=0)).max() < 0.05 * np.abs(np.diff(log["total"], axis=0)).max()


def test_an_exchange_restarts_bit_for_bit_and_writes_a_file_for_each_place(exchange, tmp_path):
    whole = md.run(exchange, 200, log_every=100).simulation
    md.run(exchange, 100, checkpoint=tmp_path / "a.chk", trajectory=str(tmp_path / "run_{}.xyz"), trajectory_every=50)
    forces = exchange.dynamics.forces
    again = md.run(md.restart(tmp_path / "a.chk", forces.potential, exchange.atoms.params), 100).simulation
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(again.state), strict=True):
        key = jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
        assert np.array_equal(*(jax.random.key_data(x) if key else x for x in (a, b)))
    assert sorted(p.name for p in tmp_path.glob("*.xyz")) == ["run_0.xyz", "run_1.xyz", "run_2.xyz"]
    one = md.replica(whole, 1)
    assert np.array_equal(one.state.R, whole.state.R[1])
    assert md.run(one, 5).simulation.step == whole.step + 5
    with pytest.raises(ValueError, match="one file for each place"):
        md.run(exchange, 10, trajectory=tmp_path / "run.xyz")


def test_ring_polymers_and_pressures_are_exchanged_with_springs_and_work():
    """u(x) = (mean of V + springs / P + P V) / kT at the temperature and pressure of another place."""
    system = toy(QUANTUM["NPT rescaling"])
    ensemble, atoms = system.dynamics.ensemble, system.atoms
    state, _ = system.steps(20)()
    energies = system.dynamics.forces.evaluate(state, atoms).energy
    controls = system.controls._replace(temperature=2 * system.controls.temperature, pressure=jnp.asarray(0.05))
    springs = np.sum(spring_energies(state.R, atoms.mass, controls.kT))
    expected = np.mean(energies) + springs / 4 + 0.05 * abs(np.linalg.det(state.box))
    reduced = ensemble.reduced(state._replace(energy=energies), atoms, controls)
    np.testing.assert_allclose(reduced, expected / controls.kT, rtol=1e-10)


def test_what_cannot_be_exchanged_is_refused(cold, exchange):
    other = cold[1].replace(atoms=cold[1].atoms._replace(mass=2 * cold[1].atoms.mass))
    with pytest.raises(ValueError, match="simulation 1 differs from the first"):
        md.replica_exchange([cold[0], other])
    with pytest.raises(ValueError, match="two or more"):
        md.replica_exchange(cold[:1])
    with pytest.raises(ValueError, match="at least 1"):
        md.replica_exchange(cold, every=0)
    with pytest.raises(ValueError, match="another time step"):
        md.replica_exchange([cold[0], cold[1].with_controls(dt=0.1)])
    with pytest.raises(ValueError, match="keep their controls"):
        exchange.with_controls(temperature=5.0)
