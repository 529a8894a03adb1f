"""Trials between the steps of dynamics, against closed forms and against Monte Carlo alone."""

import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.potentials.external import External, Free
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.sampling import hybrid_md_mc, monte_carlo
from jaxmlp.sampling.hybrid import momenta_of_other_masses
from jaxmlp.statistics import average
from jaxmlp.units import fs, kB

KELVIN = 1 / kB  # of kT = 1 eV
ERRORS = 4  # a mean of correlated samples lies within 4 computed standard errors in all but 6 of 10^5 runs


def near(x, expected):
    a = average(x)
    assert abs(a.mean - expected) < ERRORS * a.error, f"{a.mean} is not {expected} +- {a.error}"
    return a.error


@dataclass(frozen=True)
class Sites(External):
    """E_i = k[t_i]/2 |R_i - X_i|^2 + field_i where t_i = 0; params {"k": (S,), "X": (N, 3), "field": (N,)}."""

    per_species = ("k",)

    def site_energies(self, params, graph):
        d = graph.R - params["X"]
        here = jnp.where(graph.species == 0, params["field"], 0.0)
        return 0.5 * params["k"][graph.species] * jnp.sum(d * d, axis=1) + here


N, KT = 8, 0.7
X = 3.0 * np.array(list(np.ndindex(2, 2, 2)), float)
FIELD = np.linspace(-1.0, 1.2, N)
SITES = Sites((1, 2)), {"k": np.array([2.0, 0.5]), "X": X, "field": FIELD}
MASSES = np.array([1.0, 9.0])


def observers():
    """Number, kinetic energy and sum of squared distances of the atoms of each species; which sites hold the first."""

    def of_species(x):
        return lambda state, out: jnp.stack([jnp.sum(jnp.where(state.species == s, x(state), 0.0)) for s in (0, 1)])

    mass = lambda state: jnp.asarray(MASSES)[state.species]
    return {
        "count": of_species(lambda state: jnp.ones(N)),
        "K": of_species(lambda state: 0.5 * jnp.sum(state.p**2, axis=1) / mass(state)),
        "d2": of_species(lambda state: jnp.sum((state.R - X) ** 2, axis=1)),
        "first": lambda state, out: (state.species == 0).astype(state.R.dtype),
    }


def atoms(numbers) -> jm.System:
    return jm.System(numbers, X, masses=MASSES[np.asarray(numbers) - 1])


def expect_springs(log):
    """Every atom has the kinetic energy and the amplitude of its own species, whatever it was before."""
    for s in (0, 1):
        near(log["K"][:, s] - 1.5 * KT * log["count"][:, s], 0)
        near(log["d2"][:, s] - 3 * KT / SITES[1]["k"][s] * log["count"][:, s], 0)
    near(log["kinetic"], 1.5 * N * KT)


def test_semi_grand_dynamics_of_springs_has_the_composition_and_momenta_of_the_closed_form():
    """Odds of the first species at site i: exp((mu - field_i) / kT) (k_2 / k_1)^(3/2), and masses play no part."""
    mu, options = 0.6, {"temperature": KT * KELVIN, "friction": 0.05, "dt": 0.5, "elements": (1, 2), "key": 3}
    sim = md.nvt_langevin(*SITES, atoms(np.full(N, 2)), **options)
    sim = hybrid_md_mc(sim, every=10, chemical_potentials={"H": mu, "He": 0.0})
    assert sim.atoms.masses[1, 0] == 9.0
    sim = sim.replace(atoms=sim.atoms._replace(masses=jnp.asarray(MASSES[:, None])))  # not those of the periodic table
    log = md.run(md.run(sim, 2000).simulation, 60_000, log_every=10, observers=observers()).log
    odds = np.exp((mu - FIELD) / KT) * (0.5 / 2.0) ** 1.5
    for i in range(N):
        assert near(log["first"][:, i], odds[i] / (1 + odds[i])) < 0.03
    near(log["composition"][:, 0], np.mean(odds / (1 + odds)))
    expect_springs(log)
    assert 0.2 < log["acceptance_semi-grand"][-1] < 0.9


def test_swaps_in_dynamics_sample_the_assignments_at_a_fixed_composition():
    """All 70 ways to put four atoms of each kind on the sites, with weights exp(-sum of the fields / kT)."""
    numbers = np.resize([1, 2], N)
    options = {"temperature": KT * KELVIN, "friction": 0.05, "dt": 0.5, "key": 5}
    sim = hybrid_md_mc(md.nvt_langevin(*SITES, atoms(numbers), **options), every=10, swap=True)
    result = md.run(md.run(sim, 2000).simulation, 60_000, log_every=10, observers=observers())
    log = result.log
    ways = np.array([[i in way for i in range(N)] for way in itertools.combinations(range(N), 4)], float)
    w = np.exp(-ways @ FIELD / KT)
    for i in range(N):
        assert near(log["first"][:, i], w @ ways[:, i] / w.sum()) < 0.03
    expect_springs(log)
    np.testing.assert_allclose(result.simulation.system.masses, MASSES[result.simulation.elements - 1])
    # Trials change the energy by electronvolts; the conserved quantity knows of it.
    assert np.ptp(log["conserved"]) < 0.05 * np.ptp(log["total"])


def test_momenta_take_the_distribution_of_other_masses():
    """A C A^T = C' with C = kT (m - m m^T / M) of atoms at rest, or kT m, and the kinetic energy stays."""
    rng = np.random.default_rng(0)
    old, new = rng.uniform(1, 9, (2, 5, 1))
    for resting in (0.0, 3.0):

        def covariance(m, resting=resting):
            return np.diag(m[:, 0]) - (m @ m.T / m.sum() if resting else 0)

        def changed(x, resting=resting):
            return np.asarray(momenta_of_other_masses(jnp.asarray(x), old, new, resting))

        A = np.hstack([changed(np.eye(5)[:, :3]), changed(np.eye(5)[:, 3:])])
        np.testing.assert_allclose(A @ covariance(old) @ A.T, covariance(new), atol=1e-13)  # numbers of order 10
        p = rng.normal(size=(5, 3))
        p -= resting / 3 * old * p.sum(axis=0) / old.sum()
        np.testing.assert_allclose(np.sum(changed(p) ** 2 / new), np.sum(p**2 / old), rtol=1e-13)
        if resting:
            np.testing.assert_allclose(changed(p).sum(axis=0), 0, atol=1e-13)


def mixture() -> tuple:
    """32 atoms of two species at random on an fcc lattice, in which unlike neighbours attract each other more."""
    potential, params = lennard_jones((18, 36), 1.0, 1.0, 1.7, truncation="force-shifted")
    params = params | {"epsilon": jnp.array([[1.0, 2.0], [2.0, 1.0]])}
    a = (4 / 1.0) ** (1 / 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    R = (np.array(list(np.ndindex(2, 2, 2)))[:, None] + basis).reshape(-1, 3) * a
    numbers = np.random.default_rng(4).permutation(np.resize([18, 36], 32))
    return potential, params, jm.System(numbers, R, np.eye(3) * 2 * a, masses=np.where(numbers == 18, 1.0, 3.0))


def test_dynamics_with_swaps_and_monte_carlo_alone_agree_on_a_solid_solution():
    """Energy and pressure of an ordering alloy. The total momentum of the dynamics rests, and masses change places."""
    case, kT = mixture(), 0.5
    alone = monte_carlo(*case, temperature=kT * KELVIN, displacement=0.12, swap=True, skin=0.5, key=1)
    a = md.run(md.run(alone, 200).simulation, 3000, log_every=4).log
    options = {"temperature": kT * KELVIN, "tau": 0.2 / fs, "dt": 0.004 / fs, "skin": 0.5, "key": 2}
    both = hybrid_md_mc(md.nvt_csvr(*case, **options), every=10, swap=True, trials={"swap": 16})
    start = md.run(both, 2000).simulation
    result = md.run(start, 20_000, log_every=10)
    b = result.log
    for name in ("potential", "pressure"):
        x, y = average(a[name]), average(b[name])
        assert abs(x.mean - y.mean) < ERRORS * np.hypot(x.error, y.error)
        assert np.hypot(x.error, y.error) < 0.02 * abs(x.mean)
    frozen = average(md.run(md.nvt_csvr(*case, **options), 3000, log_every=10).log["potential"][50:])
    assert frozen.mean > average(b["potential"]).mean + 2  # the swaps have ordered the alloy
    near(b["temperature"] / KELVIN, kT)
    np.testing.assert_allclose(jnp.sum(result.simulation.state.p, axis=0), 0, atol=1e-10)


def test_swaps_between_steps_of_a_barostat_keep_its_conserved_quantity():
    """Atoms of other masses change places: momenta, virial and neighbour lists go on as the barostat expects them."""
    case, options = mixture(), {"temperature": 0.5 * KELVIN, "pressure": 2.0, "tau": 0.2 / fs, "tau_pressure": 1.0 / fs}
    drifts = []
    for dt in (0.004, 0.002):
        sim = md.npt_mtk(*case, **options, dt=dt / fs, skin=0.5, key=2)
        result = md.run(hybrid_md_mc(sim, every=10, swap=True, displacement=0.1), 300, log_every=10)
        log = result.log
        assert np.ptp(log["volume"]) > 1
        assert (np.asarray(result.simulation.state.bath.accepted) > 50).all()
        np.testing.assert_allclose(jnp.sum(result.simulation.state.p, axis=0), 0, atol=1e-10)
        drifts.append(np.ptp(log["conserved"]) / np.ptp(log["total"]))
    assert drifts[0] < 0.02
    assert drifts[1] < 0.5 * drifts[0]  # of the integrator, dt^2


def test_volume_moves_between_steps_at_constant_volume_are_the_isothermal_isobaric_ensemble():
    n, kT = 5, 0.3
    system = jm.System(np.full(n, 18), np.random.default_rng(1).uniform(0, 8, (n, 3)), 8 * np.eye(3))
    P = (n + 1) * kT / 512
    dynamics = md.nvt_csvr(Free((18,)), {}, system, temperature=kT * KELVIN, dt=0.5, headroom=0.8)
    sim = hybrid_md_mc(dynamics, every=2, pressure=P, volume_change=1.2)
    log = md.run(sim, 10_000, log_every=2).log
    x = log["volume"] * P / kT
    near(x, n + 1)
    near((x - n - 1) ** 2, n + 1)


def test_replicas_of_hybrid_simulations_run_as_they_do_alone():
    make = lambda T: hybrid_md_mc(
        md.nvt_langevin(*SITES, atoms(np.resize([1, 2], N)), temperature=T, dt=0.5, key=int(T)), every=3, swap=True
    )
    sims = [make(4000.0), make(9000.0)]
    together = md.run(md.replicas(sims), 20).simulation
    for k, sim in enumerate(sims):
        alone, one = md.run(sim, 20).simulation, md.replica(together, k)
        np.testing.assert_allclose(one.state.R, alone.state.R, atol=1e-12)
        assert np.array_equal(one.elements, alone.elements)
        assert not np.array_equal(one.elements, sim.numbers)


def test_dynamics_that_is_not_canonical_is_refused():
    case = (*SITES, atoms(np.resize([1, 2], N)))
    options = {"temperature": 300.0, "begin": False}
    with pytest.raises(ValueError, match="canonical ensemble: NVT or NPT"):
        hybrid_md_mc(md.nve(*case, **options), swap=True)
    with (
        pytest.warns(UserWarning, match="samples no ensemble"),
        pytest.raises(ValueError, match="canonical ensemble: NVT or NPT"),
    ):
        hybrid_md_mc(md.nvt_berendsen(*case, **options), swap=True)
    with pytest.raises(ValueError, match="no ring polymers"):
        hybrid_md_mc(md.pimd(*case, beads=2, **options), swap=True)
    with pytest.raises(ValueError, match="leave out groups"):
        hybrid_md_mc(md.nvt_langevin(*case, **options | {"temperature": [300.0]}, groups=[range(N)]), swap=True)
    with pytest.raises(ValueError, match="Replicas and exchanges are made of"):
        hybrid_md_mc(md.replicas([md.nvt_langevin(*case, **options)] * 2), swap=True)
    one = md.nvt_langevin(*SITES, atoms(np.full(N, 2)), **options)
    with pytest.raises(ValueError, match="chemical_potentials of H: this potential knows He"):
        hybrid_md_mc(one, chemical_potentials={"H": 0.0, "He": 0.0})
    with pytest.raises(ValueError, match="needs a skin of twice that"):
        hybrid_md_mc(one, displacement=0.6)
    for every in (0, 2.5):
        with pytest.raises(ValueError, match=f"at least 1; got every={every}"):
            hybrid_md_mc(one, displacement=0.1, every=every)
    box = atoms(np.full(N, 2)).replace(box=9 * np.eye(3), pbc=None)
    npt = md.npt_langevin(Free((2,)), {}, box, pressure=1.0, **options)
    with pytest.raises(ValueError, match="leave out volume moves, or the barostat"):
        hybrid_md_mc(npt, pressure=1.0)
