"""Barostats: the ideal gas, the invariant measure, small matrices, stress, cells that shear and collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import vesin
from conftest import KELVIN, TIME, fcc
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import CLASSICAL, NoLists, toy

from jaxmlp import md
from jaxmlp.geometry import volume
from jaxmlp.md.cells import CELLS, by_strain, exponentials, external_work
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.units import fs, kB


class NoForces(md.Forces):
    """An ideal gas."""

    def __init__(self):
        super().__init__(None, None, None)

    def __call__(self, state, atoms, kT=None):
        return state


GAS = {
    "Langevin piston": md.Ensemble("OGBABGO", md.Langevin(), md.MTK("isotropic", md.Langevin())),
    "Langevin piston, triclinic": md.Ensemble("OGBABGO", md.Langevin(), md.MTK("triclinic", md.Langevin())),
    "Langevin piston, CSVR": md.Ensemble("OGBABGO", md.CSVR(), md.MTK("isotropic", md.Langevin())),
    "rescaling": md.Ensemble("BAOSOAB", md.Langevin(), md.CellRescaling("isotropic")),
    "rescaling, triclinic": md.Ensemble("BAOSOAB", md.Langevin(), md.CellRescaling("triclinic")),
    "rescaling, CSVR": md.Ensemble("OBASABO", md.CSVR(), md.CellRescaling("isotropic")),
    "rescaling, z": md.Ensemble("BAOSOAB", md.Langevin(), md.CellRescaling("z")),
}


@pytest.mark.parametrize("name", GAS)
def test_the_volume_of_an_ideal_gas_has_its_gamma_distribution(name):
    """p(V) is V^N exp(-P V / kT): <V> = (N + 1) kT / P and var V = (N + 1) (kT / P)^2, momentum conserved or not."""
    ensemble, n, replicas, times = GAS[name], 4, 200, (20, 100)
    if ensemble.barostat.cell == "triclinic":
        replicas, times = 1000, (8, 12)  # an ideal gas does not care for shape: cells shear exponentially in time
    units = {"dt": 0.1, "temperature": 1 / kB, "friction": 1.0 * fs, "tau": 1.0 / fs, "pressure": 1.0,
             "tau_pressure": 1.0 / fs, "compressibility": 0.5}  # fmt: skip
    units["dt"] /= fs
    controls = md.Controls(**{k: jnp.asarray(v) for k, v in units.items() if k in ensemble.needs})
    resting = 3.0 if ensemble.keeps_momentum else 0.0
    atoms = md.Atoms(None, None, jnp.ones((n, 1)), jnp.asarray(3.0 * n - resting), jnp.asarray(resting))

    def start(key):
        a, b = jax.random.split(key)
        p = md.thermal_momenta(a, atoms.mass, jnp.asarray(1.0), keep_momentum=resting == 0)
        box = jnp.eye(3) * (n + 1.0) ** (1 / 3)
        zero, nothing = jnp.zeros((n, 3)), jnp.zeros(())
        state = md.State(
            zero, p, zero, nothing, box, NoLists(jnp.zeros((), bool)), (), b, jnp.int32(0), jnp.zeros((3, 3))
        )
        return ensemble.start(state, atoms, controls)

    @jax.jit
    def run(states):
        def ten(state, _):
            state = jax.lax.fori_loop(0, 10, lambda _, s: ensemble.step(s, atoms, controls, NoForces()), state)
            return state, volume(state.box)

        def one(state):
            state, _ = jax.lax.scan(ten, state, length=times[0])  # of tau
            return jax.lax.scan(ten, state, length=times[1])[1]

        return jax.vmap(one)(states)

    V = np.asarray(run(jax.vmap(start)(jax.random.split(jax.random.key(3), replicas))))  # (replicas, times)
    mean = V.mean(axis=1)
    error = mean.std(ddof=1) / np.sqrt(replicas)
    assert abs(mean.mean() - (n + 1)) < 4 * error + 0.005 * (n + 1)  # 0.5 %: order dt^2 of the splitting, or dt
    assert error < 0.02 * (n + 1)
    square = ((V - (n + 1)) ** 2).mean(axis=1)
    error = square.std(ddof=1) / np.sqrt(replicas)
    assert abs(square.mean() - (n + 1)) < 4 * error + 0.01 * (n + 1)
    assert error < 0.06 * (n + 1)


def test_a_step_of_mtk_scales_phase_space_as_its_invariant_measure_says():
    """V(t) dR dp dln V dp_piston is invariant: the Jacobian determinant of a step is V_old / V_new, for dof = 3 N."""
    system = toy(CLASSICAL["NPH"], n=3)
    atoms = system.atoms._replace(dof=jnp.asarray(9.0))

    def step(x):
        R, p = x[:9].reshape(3, 3), x[9:18].reshape(3, 3)
        box = system.state.box * jnp.exp(x[18] / 3)
        piston = system.state.piston._replace(momentum=x[19].reshape(1, 1))
        state = system.state._replace(R=R, p=p, box=box, piston=piston)
        out = system.dynamics.step(system.dynamics.started(state, atoms, system.controls), atoms, system.controls)
        change = jnp.log(volume(out.box) / volume(system.state.box))
        return jnp.concatenate([out.R.ravel(), out.p.ravel(), change[None], out.piston.momentum.ravel()])

    rng = np.random.default_rng(0)
    x = jnp.concatenate([jnp.asarray(rng.normal(size=18)), jnp.asarray([0.1, 5.0])])
    J, y = jax.jacfwd(step)(x), step(x)
    np.testing.assert_allclose(jnp.linalg.det(J), jnp.exp(x[18] - y[18]), rtol=1e-10)
    assert abs(y[18] - x[18]) > 0.01


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_exponentials_are_those_of_scipy(seed, norm):
    X = np.random.default_rng(seed).normal(size=(3, 3))
    X *= norm / np.linalg.norm(X, 2)
    exp, phi = exponentials(jnp.asarray(X))
    np.testing.assert_allclose(exp, scipy.linalg.expm(X), rtol=0, atol=1e-14)
    block = scipy.linalg.expm(np.block([[X, np.eye(3)], [np.zeros((3, 6))]]))  # its corner is phi
    np.testing.assert_allclose(phi, block[:3, 3:], rtol=0, atol=1e-14)


def test_cells_are_orthonormal_symmetric_strain_rates():
    for E in CELLS.values():
        np.testing.assert_allclose(np.einsum("aij,bij->ab", E, E), np.eye(len(E)), atol=1e-15)
        np.testing.assert_allclose(E, E.swapaxes(1, 2), atol=0)


def test_a_tensor_of_pressure_is_the_stress_of_the_reference_cell():
    rng = np.random.default_rng(1)
    box, Pi = jnp.asarray(4 * np.eye(3) + 0.3 * rng.normal(size=(3, 3))), rng.normal(size=(3, 3))
    Pi = jnp.asarray(Pi + Pi.T)
    slope = by_strain(lambda b: external_work(b, Pi, box), box)
    np.testing.assert_allclose(slope, volume(box) * Pi, atol=1e-12)
    scalar = by_strain(lambda b: external_work(b, jnp.asarray(0.7), box), box)
    np.testing.assert_allclose(scalar, 0.7 * volume(box) * np.eye(3), atol=1e-12)
    turn = jnp.asarray(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    other = box + jnp.asarray(0.2 * rng.normal(size=(3, 3)))
    # A rotation of the deformed cell does no work.
    np.testing.assert_allclose(external_work(other @ turn, Pi, box), external_work(other, Pi, box), rtol=1e-12)


def test_the_barostat_keeps_directions_that_a_cell_does_not_name():
    ensemble = md.Ensemble("OGBABGO", md.Langevin(), md.MTK("z", md.Langevin()))
    system = toy(ensemble)
    state, _ = system.steps(50)()
    before, after = np.asarray(system.state.box), np.asarray(state.box)
    np.testing.assert_allclose(after[:, :2], before[:, :2], rtol=1e-13)
    assert np.abs(after[:, 2] / before[:, 2] - 1).min() > 1e-4


def test_a_pressure_that_is_ramped_does_work_that_is_booked():
    ramp = md.Ramp(jnp.asarray(0.02), jnp.asarray(0.3), 300)
    system = toy(CLASSICAL["NPH"], dt=0.02 / fs)
    system = system._replace(controls=system.controls._replace(pressure=ramp))
    state, values = system.steps(400, system.conserved)()
    assert abs(float(state.piston.work)) > 1.0
    assert np.ptp(values) < 0.02


CELL_OPTIONS = {"dt": 0.004 * TIME, "skin": 0.3, "key": 2, "temperature": 1.0 * KELVIN, "tau_pressure": 0.3 * TIME}


@pytest.mark.optimized
@pytest.mark.parametrize("cell", ["isotropic", "triclinic"])
def test_a_violent_run_misses_no_neighbour(cell):
    """A gas compressed to a dense liquid, and a cell that shears: the list is checked against a fresh search at every
    step, and outgrows its capacities and its grid on the way."""
    potential, params = lennard_jones((18,), 1.0, 1.0, 2.0, truncation="force-shifted")
    gas, pressure = fcc(2, density=0.25), 30.0
    if cell == "triclinic":
        pressure = np.array([[25.0, 8.0, 0.0], [8.0, 25.0, -6.0], [0.0, -6.0, 15.0]])
    options = CELL_OPTIONS | ({"tau_pressure": 0.8 * TIME, "dt": 0.003 * TIME} if cell == "triclinic" else {})
    sim = md.npt_mtk(potential, params, gas, pressure=pressure, tau=0.1 * TIME, cell=cell, **options)
    first = sim.dynamics.forces.search
    lowest, worst, tilt = np.inf, 0.0, 0.0
    for _ in range(100):
        sim = md.run(sim, 1, log_every=10**6).simulation
        s = sim.state
        box = np.asarray(s.box)
        fresh = vesin.NeighborList(cutoff=2.0, full_list=True).compute(np.asarray(s.R), box, True, "i")
        lists = s.neighbors
        r = np.asarray(s.R)[np.asarray(lists.atoms)] + np.asarray(lists.shift) @ box - np.asarray(s.R)[:, None]
        near = (np.linalg.norm(r, axis=-1) < 2.0) & np.asarray(lists.mask)
        assert near.sum() == len(fresh[0])
        lowest = min(lowest, abs(np.linalg.det(box)))
        worst = max(worst, 2.0 / (1 / np.linalg.norm(np.linalg.inv(box), axis=0)).min())
        tilt = max(tilt, np.abs(box - np.diag(np.diag(box))).max())
    assert lowest < 0.4 * 32 / 0.25
    assert worst > 0.55  # the cutoff, over the smallest distance between faces of the cell
    if cell == "triclinic":
        assert tilt > 0.5
    assert sim.dynamics.forces.search != first
