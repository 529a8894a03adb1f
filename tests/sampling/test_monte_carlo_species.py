"""Exchanges and changes of species, on a model whose states can be counted."""

from math import factorial

import jax.numpy as jnp
import numpy as np
import pytest
from ising import DOWN, KELVIN, PARAMS, UP, UPS, ManyBody, N, exact, potential, square

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.md.controls import Controls
from jaxmlp.potentials.external import Free
from jaxmlp.sampling import MonteCarlo, SemiGrandMoves, SwapMoves, monte_carlo
from jaxmlp.statistics import average

pytestmark = pytest.mark.optimized  # 10^5 trials a test

# PHYSICS.md, section 6: E/N at fixed 8:8 and of all compositions, for kT / J = 2.0, 2.5, 4.0.
FIXED = {2.0: -0.577855665, 2.5: -0.436259424, 4.0: -0.238396761}
NEIGHBORS = {2.0: 0.288927833, 2.5: 0.218129712, 4.0: 0.119198381}  # <s s'> of neighbours at fixed 8:8
ALL = {2.0: -1.755380289, 2.5: -1.379116482, 4.0: -0.625486130}
# A mean of correlated samples lies within 4 of its computed standard errors in all but 6 of 10^5 runs.
ERRORS = 4


def near(x, expected):
    a = average(x)
    assert abs(a.mean - expected) < ERRORS * a.error, f"{a.mean} is not {expected} +- {a.error}"
    return a.error


def test_the_enumeration_is_that_of_the_reference():
    for kT in FIXED:
        np.testing.assert_allclose(exact(kT, lambda E, ups: E / N, UPS == 8), FIXED[kT], atol=5e-10)  # digits given
        np.testing.assert_allclose(exact(kT, lambda E, ups: E / N), ALL[kT], atol=5e-10)


@pytest.mark.parametrize("kT", FIXED)
def test_swaps_sample_a_fixed_composition(kT):
    sim = monte_carlo(potential(), PARAMS, square(), temperature=kT * KELVIN, swap=True, key=5)
    sim = md.run(sim, 100).simulation
    result = md.run(sim, 12_000, log_every=3)
    E = result.log["potential"] / N
    assert near(E, FIXED[kT]) < 0.01  # the three energies differ by 0.14 and more
    near(-E / 2, NEIGHBORS[kT])  # every atom has two bonds of its own
    assert sorted(result.simulation.elements) == [UP] * 8 + [DOWN] * 8
    # The energies of trials are those of rows that changed: their sum is the change of the energy, here of integers.
    assert np.ptp(result.log["conserved"]) < 1e-9
    assert 0.2 < result.log["acceptance_swap"][-1] < 0.7


@pytest.mark.parametrize("kT", ALL)
def test_the_semi_grand_ensemble_samples_all_compositions(kT):
    mu = {UP: 0.0, DOWN: 0.0}
    sim = monte_carlo(potential(), PARAMS, square(), temperature=kT * KELVIN, chemical_potentials=mu, key=8)
    sim = md.run(sim, 200).simulation
    log = md.run(sim, 15_000, log_every=3).log
    assert near(log["potential"] / N, ALL[kT]) < 0.02
    x = log["composition"][:, 0]
    np.testing.assert_allclose(log["composition"].sum(axis=1), 1, rtol=1e-14)
    near((x - 0.5) ** 2, exact(kT, lambda E, ups: (ups / N - 0.5) ** 2))


def test_chemical_potentials_and_the_constraint_of_the_variance_are_those_of_the_enumeration():
    """kT = 2, below the critical temperature; the mean composition alone would be 0.84."""
    kT, mu, kappa, x0 = 2.0, 0.25, 1.5, 0.4
    options = {"kappa": kappa, "composition": {"Ni": x0, "Cu": 1 - x0}, "chemical_potentials": {"Ni": mu, "Cu": 0}}
    sim = monte_carlo(potential(), PARAMS, square(), temperature=kT * KELVIN, **options, key=2)
    log = md.run(md.run(sim, 200).simulation, 15_000, log_every=3).log
    more = lambda ups: -mu * ups + kappa * N * (ups / N - x0) ** 2
    x = log["composition"][:, 0]
    near(x, exact(kT, lambda E, ups: ups / N, more=more))
    near((x - x0) ** 2, exact(kT, lambda E, ups: (ups / N - x0) ** 2, more=more))
    near(log["potential"], exact(kT, lambda E, ups: E, more=more))
    free = exact(kT, lambda E, ups: ups / N, more=lambda ups: -mu * ups)
    assert free > 0.8  # the constraint moves it by more than 0.3
    sim = monte_carlo(potential(), PARAMS, square(), temperature=kT * KELVIN, chemical_potentials={"Ni": mu, "Cu": 0})
    near(md.run(md.run(sim, 200).simulation, 6_000, log_every=3).log["composition"][:, 0], free)


def test_three_species_without_energies_have_the_composition_of_the_multinomial_distribution():
    """Weights 6! / prod_s N_s! exp(-bias / kT), alone with chemical potentials and with the constraint."""
    kT, n, mu, x0, kappa = 0.5, 6, np.array([0.4, -0.3, 0.0]), np.array([0.2, 0.5, 0.3]), 2.0
    system = jm.System(np.full(n, 2), 3.0 * np.arange(3 * n).reshape(n, 3))
    ways = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    log_w = ways @ mu / kT - np.log([np.prod([float(factorial(k)) for k in way]) for way in ways])
    named = lambda x: dict(zip(("H", "He", "Li"), x.tolist()))
    for options, more in (
        ({}, 0.0),
        ({"kappa": kappa, "composition": named(x0)}, 0.5 * kappa * n * np.sum((ways / n - x0) ** 2, axis=1)),
    ):
        w = np.exp(log_w - more / kT)
        mean = w @ ways / n / w.sum()
        options |= {"temperature": kT * KELVIN, "chemical_potentials": named(mu), "key": 6}
        log = md.run(monte_carlo(Free((1, 2, 3)), {}, system, **options), 8000, log_every=2).log
        for s in range(3):
            assert near(log["composition"][20:, s], mean[s]) < 0.02
            near((log["composition"][20:, s] - x0[s]) ** 2, w @ (ways[:, s] / n - x0[s]) ** 2 / w.sum())


def test_the_bias_of_a_trial_is_exact_in_a_large_system_in_single_precision():
    """10^6 atoms of 3 eV: sums in float32 would be wrong by 0.1 eV."""
    move = SemiGrandMoves(None, (1, 2, 3), constrained=True)
    counts, mu, x0 = np.array([300_001, 250_007, 450_002]), np.array([-3.1, 0.2, 1.7]), np.array([0.3, 0.2, 0.5])

    def controls(dtype):
        values = {"chemical_potentials": mu, "kappa": 5.0, "composition": x0}
        return Controls(jnp.ones((), dtype), **{name: jnp.asarray(x, dtype) for name, x in values.items()})

    few = counts // 10**4  # where the difference of two sums is exact enough
    for old, new in ((0, 1), (1, 2), (2, 0)):
        changed = few + np.eye(3, dtype=int)[new] - np.eye(3, dtype=int)[old]
        now = controls(jnp.float64)
        difference = move.bias(jnp.asarray(changed), now) - move.bias(jnp.asarray(few), now)
        np.testing.assert_allclose(move.added(jnp.asarray(few), old, new, now), difference, rtol=1e-11)
        exact = move.added(jnp.asarray(counts), old, new, now)
        np.testing.assert_allclose(move.added(jnp.asarray(counts), old, new, controls(jnp.float32)), exact, rtol=1e-5)


def test_where_no_atom_can_change_none_does():
    """The only atom of the elements that change is held fixed."""
    system = jm.System([6, 6, 6, 1], 3.0 * np.arange(12).reshape(4, 3))
    case = (Free((1, 2, 6)), {}, system)
    sim = monte_carlo(
        *case, temperature=300.0, chemical_potentials={"H": 0.0, "He": 0.0}, swap=("C", "H"), fixed=[3], key=1
    )
    result = md.run(sim, 20, log_every=20)
    assert np.array_equal(result.simulation.elements, system.numbers)
    assert result.log["acceptance_swap"][-1] == result.log["acceptance_semi-grand"][-1] == 0
    carbon = system.replace(numbers=np.full(4, 6), masses=None)
    with pytest.raises(ValueError, match="no atom is one of these that could become another; the system has C"):
        monte_carlo(*case[:2], carbon, temperature=300.0, chemical_potentials={"H": 0.0, "He": 0.0})


def test_rows_of_a_local_potential_and_all_atoms_make_the_same_walk():
    """The same key, the same trials: in three forms, of which one evaluates all atoms for every trial."""
    walks = []
    moves = (SwapMoves(8), SemiGrandMoves(8, (UP, DOWN)))
    for cls, local in ((potential(), True), (potential(ManyBody), True), (potential(), False)):
        sim = monte_carlo(
            cls, PARAMS, square(), temperature=2.5 * KELVIN, swap=True, chemical_potentials={UP: 0.1, DOWN: 0.0},
            trials={"swap": 8, "semi-grand": 8}, local=local, key=1,
        )  # fmt: skip
        assert sim.dynamics.ensemble == MonteCarlo(moves, local)
        walks.append(md.run(sim, 50).simulation)
    for other in walks[1:]:
        assert np.array_equal(walks[0].state.species, other.state.species)
        assert np.array_equal(walks[0].state.bath.accepted, other.state.bath.accepted)
    assert not np.array_equal(walks[0].elements, square().numbers)


def test_replicas_at_several_temperatures():
    one = lambda kT, key: monte_carlo(
        potential(), PARAMS, square(), temperature=kT * KELVIN, swap=True, key=key, begin=False
    )
    sims = [one(kT, k) for k, kT in enumerate(FIXED)]
    log = md.run(md.run(md.replicas(sims), 100).simulation, 3000, log_every=3).log
    assert log["acceptance_swap"].shape == (1000, 3)
    for k, kT in enumerate(FIXED):
        near(log["potential"][:, k] / N, FIXED[kT])


def test_an_exchange_of_places_with_other_temperatures_and_chemical_potentials():
    """Elements change places with energies, by weights that contain the chemical potentials."""
    places = [(2.2, 0.3), (2.6, -0.2), (3.2, 0.1)]
    sims = [
        monte_carlo(
            potential(), PARAMS, square(), temperature=kT * KELVIN, chemical_potentials={UP: mu, DOWN: 0.0}, key=k,
            begin=False,
        )
        for k, (kT, mu) in enumerate(places)
    ]  # fmt: skip
    start = md.run(md.replica_exchange(sims, every=2), 200).simulation
    result = md.run(start, 8000, log_every=4)
    for k, (kT, mu) in enumerate(places):
        more = lambda ups, mu=mu: -mu * ups
        near(result.log["potential"][:, k], exact(kT, lambda E, ups: E, more=more))
        near(result.log["composition"][:, k, 0], exact(kT, lambda E, ups: ups / N, more=more))
    assert (result.log["acceptance"][-1] > 0.1).all()
    place = md.replica(result.simulation, 1)
    again = monte_carlo(potential(), PARAMS, place.system, temperature=KELVIN, displacement=0.1)
    np.testing.assert_allclose(again.state.energy, place.state.energy, atol=1e-12)


def test_annealing_finds_the_ground_state():
    """A ramp to 0 K, where what raises the energy is refused: 8:8 separates in two stripes with 8 unlike bonds."""
    ramp = md.Ramp(4.0 * KELVIN, 0.0, 400)
    sim = monte_carlo(potential(), PARAMS, square(), temperature=ramp, swap=True, key=3)
    assert float(md.run(sim, 450).simulation.state.energy) == -16.0


def test_what_cannot_be_exchanged_is_refused():
    case = (potential(), PARAMS)
    with pytest.raises(ValueError, match="Cu only"):
        monte_carlo(*case, square(up=0), temperature=300.0, swap=True)
    with pytest.raises(ValueError, match="but not Zn"):
        monte_carlo(*case, square(), temperature=300.0, swap=("Ni", "Zn"))
    with pytest.raises(ValueError, match="no element 'Xx'"):
        monte_carlo(*case, square(), temperature=300.0, swap=("Ni", "Xx"))
    with pytest.raises(ValueError, match="chemical_potentials of Zn: this potential knows Ni, Cu"):
        monte_carlo(*case, square(), temperature=300.0, chemical_potentials={"Ni": 0.0, "Zn": 1.0})
    with pytest.raises(ValueError, match="two elements or more"):
        monte_carlo(*case, square(), temperature=300.0, chemical_potentials={"Ni": 0.0})
    for swap in ((), ("Ni",)):
        with pytest.raises(ValueError, match="two elements or more that exchange atoms"):
            monte_carlo(*case, square(), temperature=300.0, swap=swap)
    with pytest.raises(ValueError, match="with and without the constraint"):
        MonteCarlo((SemiGrandMoves(1, (UP, DOWN)), SemiGrandMoves(1, (UP, DOWN), constrained=True)))
    mu = {"Ni": 0.0, "Cu": 0.0}
    with pytest.raises(ValueError, match="both kappa and composition"):
        monte_carlo(*case, square(), temperature=300.0, chemical_potentials=mu, kappa=1.0)
    with pytest.raises(ValueError, match="add up to 1"):
        monte_carlo(
            *case, square(), temperature=300.0, chemical_potentials=mu, kappa=1.0, composition={"Ni": 0.4, "Cu": 0.4}
        )
    with pytest.raises(ValueError, match="go with chemical_potentials"):
        monte_carlo(*case, square(), temperature=300.0, swap=True, kappa=1.0)
    with pytest.raises(ValueError, match="at least one kind of move"):
        monte_carlo(*case, square(), temperature=300.0)
    with pytest.raises(ValueError, match="trials of flip: there are no such moves; there are swap"):
        monte_carlo(*case, square(), temperature=300.0, swap=True, trials={"flip": 3})
    with pytest.raises(ValueError, match="1 or more; got 0"):
        monte_carlo(*case, square(), temperature=300.0, swap=True, trials={"swap": 0})
    unequal = square().replace(masses=np.linspace(50, 60, N))
    with pytest.raises(ValueError, match="atoms of Ni have masses from"):
        monte_carlo(*case, unequal, temperature=300.0, swap=True, begin=False)
    with pytest.raises(ValueError, match="one for each species"):
        monte_carlo(*case, square(), temperature=300.0, chemical_potentials=mu, begin=False).with_controls(
            chemical_potentials=1.0
        )
    with pytest.raises(ValueError, match="has no control 'friction'"):
        monte_carlo(*case, square(), temperature=300.0, swap=True, begin=False).with_controls(friction=1.0)
