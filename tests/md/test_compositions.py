"""What ensembles are combined with: groups, held atoms, ramps, rigid bonds, multiple time steps, contraction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from conftest import KELVIN, TIME, fcc
from toy import CLASSICAL, UNIT, toy

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.md.thermostats import Target, gle_propagator
from jaxmlp.potentials.external import Free
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.units import fs, kB

OPTIONS = {"dt": 0.004 * TIME, "skin": 0.3, "headroom": 0.3, "key": 1}


def test_velocity_rescaling_keeps_a_canonical_kinetic_energy_and_forgets_it_in_tau():
    """From canonical momenta: <K> and var K stay, and <dK(0) dK(h)> = exp(-h / tau) var K."""
    n, replicas, h = 4, 40_000, 0.7
    target = Target(jnp.ones((n, 1)), jnp.asarray(1.0), jnp.asarray(3.0 * n), tau=jnp.asarray(1.0))
    a, b = jax.random.split(jax.random.key(0))
    p = jax.random.normal(a, (replicas, n, 3))
    csvr = md.CSVR()
    bath = csvr.start(p[0], target, b)
    new, baths = jax.vmap(lambda p, k: csvr(p, bath, target, jnp.asarray(h), k))(p, jax.random.split(b, replicas))
    before, after = (np.asarray(0.5 * jnp.sum(x * x, axis=(1, 2))) for x in (p, new))
    dof = 3 * n
    assert abs(after.mean() - dof / 2) < 4 * np.sqrt(dof / 2 / replicas)
    assert abs(after.var() / (dof / 2) - 1) < 4 * np.sqrt(
        (2 + 12 / dof) / replicas
    )  # kurtosis of the Gamma distribution
    correlation = np.corrcoef(before, after)[0, 1]
    assert abs(correlation - np.exp(-h)) < 4 * (1 - np.exp(-2 * h)) / np.sqrt(replicas) * 1.5
    np.testing.assert_allclose(baths.heat, after - before, atol=1e-12)


@pytest.mark.parametrize("quantum", [False, True])
def test_the_colored_noise_has_its_stationary_covariance_at_any_step(quantum):
    """T C T^T + S S^T = C, and T = exp(-A h)."""
    rng = np.random.default_rng(0)
    A = np.array([[0.1, 0.8, 0.3], [-0.8, 0.5, 0.2], [-0.3, 0.1, 1.5]])
    C = np.eye(3) * 0.3
    if quantum:  # any covariance that A C + C A^T >= 0 allows: that of some positive noise
        noise = rng.normal(size=(3, 3))
        C = scipy.linalg.solve_continuous_lyapunov(A, noise @ noise.T)
    for h in (0.0, 1e-3, 0.5, 40.0):
        T, S = gle_propagator(md.GLEMatrices(jnp.asarray(A), jnp.asarray(C)), jnp.asarray(h))
        np.testing.assert_allclose(T, scipy.linalg.expm(-A * h), atol=1e-13)
        np.testing.assert_allclose(T @ C @ T.T + S @ S.T, C, atol=1e-12)


def test_groups_have_their_own_temperatures_and_atoms_without_one_are_left_alone():
    """Free particles, so that nothing but thermostats moves energy."""
    system = fcc(3, density=1e-5)  # so thin that nobody meets: lists stay short
    groups = [np.arange(0, 50), np.arange(50, 100)]
    for make, own in ((md.nvt_csvr, {"tau": 0.05 * TIME}), (md.nvt_langevin, {"friction": [20 / TIME, 40 / TIME]})):
        v = np.zeros((108, 3))
        v[:100] = np.random.default_rng(0).normal(size=(100, 3)) * fs
        v[100:] = [0.01 * fs, 0.0, 0.0]
        sim = make(
            Free((18,)), {}, system.replace(velocities=v), temperature=[0.5 * KELVIN, 2.0 * KELVIN], groups=groups,
            **own, **OPTIONS,
        )  # fmt: skip
        watch = {"K": lambda state, out: jnp.stack([jnp.mean(state.p[g] ** 2) for g in groups])}
        log = md.run(sim, 6000, log_every=20, observers=watch).log["K"][50:]
        error = np.array([0.5, 2.0]) * np.sqrt(2 / 150 / len(log) * 4)  # K of 150 momenta, four rows a sample
        assert (np.abs(log.mean(axis=0) - [0.5, 2.0]) < 4 * error + 0.02 * np.array([0.5, 2.0])).all()
        end = md.run(sim, 10).simulation
        np.testing.assert_allclose(end.system.velocities[100:], v[100:], rtol=1e-12)


def test_held_atoms_stay_and_count_no_degrees_of_freedom(liquid):
    sim = md.nvt_langevin(*liquid, temperature=KELVIN, friction=1 / TIME, fixed=[0, 5, 7], **OPTIONS)
    assert float(sim.atoms.dof) == 3 * 105
    end = md.run(sim, 50).simulation
    np.testing.assert_array_equal(end.state.R[np.array([0, 5, 7])], sim.state.R[np.array([0, 5, 7])])
    assert np.abs(end.state.R[1] - sim.state.R[1]).max() > 0.01
    mask = np.zeros(108, bool)
    mask[[0, 5, 7]] = True
    same = md.nvt_langevin(*liquid, temperature=KELVIN, friction=1 / TIME, fixed=mask, **OPTIONS)
    np.testing.assert_array_equal(same.atoms.mobile, sim.atoms.mobile)


def test_a_ramp_goes_from_start_to_stop_and_its_work_is_booked():
    ramp = md.Ramp(jnp.asarray(300.0), jnp.asarray(900.0), 200, 100)
    at = [float(ramp.at(jnp.int32(k))) for k in (0, 100, 150, 200, 300)]
    np.testing.assert_allclose(at, [300, 300, 600, 900, 900])
    system = toy(CLASSICAL["Nose-Hoover"], dt=0.02 * UNIT)
    T = system.controls.temperature
    system = system._replace(controls=system.controls._replace(temperature=md.Ramp(T, 3 * T, 500)))
    _, (values, kinetic) = system.steps(
        600, lambda s: (system.conserved(s), md.kinetic_energy(s.p, system.atoms.mass))
    )()
    assert np.ptp(values) < 0.01
    assert np.ptp(kinetic) > 1.0


def dimers(n: int, side: float) -> jm.System:
    """n^3 pairs of particles 1 Å apart, in random directions, on a grid."""
    rng = np.random.default_rng(2)
    centers = (np.array(list(np.ndindex(n, n, n))) + 0.5) * side / n
    axis = rng.normal(size=centers.shape)
    axis *= 0.5 / np.linalg.norm(axis, axis=1)[:, None]
    R = np.stack([centers - axis, centers + axis], axis=1).reshape(-1, 3)
    return jm.System(np.full(len(R), 18), R, np.eye(3) * side, masses=np.ones(len(R)))


def test_rigid_dimers_that_do_not_interact_have_the_pressure_of_their_molecules():
    """P V = n_molecules kT: the virial of the constraints takes the kinetic energy of bonds back out."""
    system = dimers(4, 800.0)  # so thin that nobody meets: lists stay short
    bonds = np.arange(128).reshape(64, 2)
    sim = md.nvt_langevin(Free((18,)), {}, system, temperature=KELVIN, friction=2 / TIME, bonds=bonds, **OPTIONS)
    assert float(sim.atoms.dof) == 3 * 128 - 64
    out = md.run(sim, 6000, log_every=10)
    log = {k: v[50:] for k, v in out.log.items()}
    R = np.asarray(out.simulation.state.R).reshape(64, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(R[:, 1] - R[:, 0], axis=1), 1.0, rtol=1e-10)
    blocks = np.array_split(log["pressure"] * log["volume"] / 64, 20)
    means = np.array([b.mean() for b in blocks])
    error = means.std(ddof=1) / np.sqrt(20)
    assert abs(means.mean() - 1) < 4 * error
    assert error < 0.02
    warm = np.array([b.mean() for b in np.array_split(log["temperature"], 20)]) / KELVIN
    assert abs(warm.mean() - 1) < 4 * warm.std(ddof=1) / np.sqrt(20)


def split_lennard_jones():
    a, p = lennard_jones((18,), 0.7, 1.0, 2.5, truncation="force-shifted")
    b, q = lennard_jones((18,), 0.3, 1.0, 2.5, truncation="force-shifted")
    return a + b, (p, q)


def test_multiple_time_steps(liquid):
    """With one inner step the trajectory is that of velocity Verlet; with more, its error is that of the slow part."""
    system = liquid[2]
    potential, params = split_lennard_jones()
    whole = md.run(md.nve(*liquid, temperature=KELVIN, **OPTIONS), 40, log_every=1)
    one = md.run(md.nve(potential, params, system, temperature=KELVIN, loops=(1,), **OPTIONS), 40, log_every=1)
    np.testing.assert_allclose(one.simulation.state.R, whole.simulation.state.R, atol=1e-9)
    long = OPTIONS | {"dt": 0.012 * TIME}
    error = {}
    for loops in ((1,), (4,)):
        sim = md.nve(potential, params, system, temperature=KELVIN, loops=loops, **long)
        error[loops] = np.std(md.run(sim, 100, log_every=1).log["conserved"][5:])
    # Seven tenths of the forces are taken four times as often.
    assert error[4,] < 0.6 * error[1,]
    with pytest.raises(ValueError, match="with 2 members; this LennardJones has 1"):
        md.nve(*liquid, loops=(2,), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": [[0, 1], [1, 2]], "temperature": [1.0, 2.0]}, "belong to two groups"),
        ({"groups": [[0, 1]], "temperature": [1.0, 2.0]}, "one for each of 1 groups"),
        ({"groups": [[0], [0]], "fixed": [0], "temperature": [1.0, 2.0]}, "group 0 holds no atom that moves"),
        ({"fixed": [200]}, "0 to 107"),
        ({"fixed": np.ones(108, bool)}, "no degree of freedom is left"),
        ({"fixed": [0], "bonds": [[0, 1]]}, "cannot end at an atom that is held fixed"),
        ({"temperature": md.Ramp(1.0, 2.0, 5, 5)}, "ends after it begins"),
        ({"friction": [0.1, 0.2]}, "friction is a number"),
    ],
)
def test_what_makes_no_sense_is_refused(liquid, options, words):
    with pytest.raises(ValueError, match=words):
        md.nvt_langevin(*liquid, **({"temperature": KELVIN} | OPTIONS | options))


def test_barostats_want_a_cell_and_weak_coupling_warns(liquid):
    potential, params, system = liquid
    free = jm.System(system.numbers, system.R, None, masses=system.masses)
    with pytest.raises(ValueError, match="periodic in all directions"):
        md.npt_mtk(potential, params, free, temperature=KELVIN, pressure=0.0)
    with pytest.raises(ValueError, match=r"symmetric \(3, 3\) tensor"):
        md.npt_mtk(potential, params, system, temperature=KELVIN, pressure=np.arange(9.0).reshape(3, 3))
    with pytest.raises(ValueError, match="modes; expected those of a single pair"):
        md.nvt_gle(potential, params, system, temperature=KELVIN, gle=np.stack([np.eye(2)] * 4))
    with pytest.raises(ValueError, match="eigenvalues Re >= 0"):
        md.nvt_gle(potential, params, system, temperature=KELVIN, gle=-np.eye(2))
    with pytest.warns(UserWarning, match="samples no ensemble"):
        md.nvt_berendsen(potential, params, system, temperature=kB, **OPTIONS)
