"""Displacements and volume moves against closed forms and quadrature, and the energies of trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import CASES
from scipy import integrate, stats

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.potentials.external import Free, Polynomial
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.rows import Execution
from jaxmlp.sampling import monte_carlo
from jaxmlp.sampling.differences import Change, Configuration, Energies
from jaxmlp.sampling.walks import lucks
from jaxmlp.statistics import average
from jaxmlp.system import species_index
from jaxmlp.units import kB

KELVIN = 1 / kB  # of kT = 1 eV
ERRORS = 4  # a mean of correlated samples lies within 4 computed standard errors in all but 6 of 10^5 runs


def near(x, expected):
    a = average(x)
    assert abs(a.mean - expected) < ERRORS * a.error, f"{a.mean} is not {expected} +- {a.error}"
    return a.error


def supercell(system: jm.System, n) -> jm.System:
    """n[0] n[1] n[2] copies, every atom moved a little."""
    cells = np.array(list(np.ndindex(*n)))
    R = (cells[:, None] @ system.box + system.R).reshape(-1, 3)
    R = R + 0.02 * np.random.default_rng(3).uniform(-1, 1, R.shape)
    return jm.System(np.tile(system.numbers, len(cells)), R, np.array(n)[:, None] * system.box)


SMALL = ("lennard-jones-truncated", "stillinger-weber", "tersoff", "mtp", "eam-alloy", "nep4", "ace", "snap", "gap")
LARGE = ("lennard-jones-force-shifted", "stillinger-weber", "tersoff", "eam-alloy")


@pytest.mark.parametrize(("name", "n"), [(x, (1, 1, 1)) for x in SMALL] + [(x, (3, 3, 2)) for x in LARGE])
def test_differences_from_a_few_rows_are_those_of_the_whole_system(name, n):
    """In a cell smaller than the cutoff, where atoms see their own images, and in one where most atoms see nothing."""
    case = CASES[name]()
    system, potential = supercell(case.system, n), case.potential
    params = jax.tree.map(jnp.asarray, case.params)
    species = jnp.asarray(species_index(potential.species, system.numbers))
    R, box = jnp.asarray(system.R), jnp.asarray(system.box)
    search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=1.1)
    place = Configuration(R, box, species, jax.jit(search)(R, box))
    assert not place.neighbors.overflow

    @jax.jit
    def differences(change):
        found = [Energies(potential, params, Execution(), local) for local in (True, False)]
        return jnp.stack([e.difference(place, change, e.rest(place))[0] for e in found])

    rng = np.random.default_rng(1)
    for atoms in ([5], [1, 6], [2], [3], [4, 7]):
        old = np.asarray(species)[atoms]
        other = (old + 1) % len(potential.species)
        step = 0.3 * rng.uniform(-1, 1, (len(atoms), 3))  # neighbours come and go
        changes = [(step, old)] + ([(0 * step, other), (step, other)] if len(potential.species) > 1 else [])
        for d, new in changes:
            change = Change(jnp.asarray(atoms, jnp.int32), R[np.array(atoms)] + d, jnp.asarray(new, jnp.int32))
            few, all_ = differences(change)
            assert abs(all_) > 1e-5
            # Sums of up to 10^4 terms of up to 100 eV in another order.
            np.testing.assert_allclose(few, all_, rtol=1e-9, atol=1e-10)


def test_an_anharmonic_well_has_the_averages_of_quadrature():
    """V = (x^2 - 4)^2 / 16 of 20 particles; PHYSICS.md, section 6. At kT = 0.2 the barrier is 5 kT: steps go across."""
    c = np.zeros((3, 5))
    c[0, [0, 2, 4]] = 1, -0.5, 1 / 16
    c[1:, 2] = 0.5
    R = np.zeros((20, 3))
    R[:, 0] = np.resize([-2.0, 2.0], 20)
    system = jm.System(np.full(20, 18), R)
    sim = monte_carlo(Polynomial((18,)), {"c": c}, system, temperature=KELVIN, displacement=3.0, skin=6.0, key=1)
    observers = {"x2": lambda state, out: jnp.mean(state.R[:, 0] ** 2)}
    for kT, V, x2 in ((1.0, 0.41725451, 3.33098195), (0.2, 0.11316606, 3.74733576)):
        start = md.run(sim.with_controls(temperature=kT * KELVIN), 200).simulation
        result = md.run(start, 6000, log_every=2, observers=observers)
        assert near(result.log["x2"], x2) < 0.03
        near(result.log["potential"] / 20, V + kT)  # and two springs
        sides = np.sign(np.asarray(result.simulation.state.R)[:, 0])
        assert (sides != np.sign(R[:, 0])).sum() > 2  # particles have crossed


def test_single_precision_never_accepts_what_is_impossible():
    """-ln u of 3 10^7 numbers u from a grid of 2^-23: were 0 among them, an atom would go anywhere."""
    n = 2**25
    x = np.asarray(lucks(jax.random.key(0), n, jnp.float32))
    assert x.min() >= 0
    assert x.max() < 23 * np.log(2) + 0.1
    for e in (0.1, 1.0, 5.0):
        p = np.exp(-e)
        assert abs(np.mean(x >= e) - p) < ERRORS * np.sqrt(p * (1 - p) / n) + 2**-23


@pytest.mark.parametrize("cell", ["isotropic", "x"])
def test_the_volume_of_an_ideal_gas_has_a_gamma_distribution(cell):
    """p(V) ~ V^N exp(-P V / kT): <V> = (N + 1) kT / P, also where N counts atoms that move."""
    N, kT = 9, kB * 300
    R = np.random.default_rng(0).uniform(0, 10, (N + 2, 3))
    system = jm.System(np.full(N + 2, 18), R, 10 * np.eye(3))
    P = (N + 1) * kT / 1000
    options = {"pressure": P, "volume_change": 1.0, "cell": cell, "trials": {"volume": 5}, "headroom": 0.5}
    sim = monte_carlo(Free((18,)), {}, system, temperature=300.0, fixed=[0, 4], **options, key=4)
    log = md.run(sim, 8000, log_every=2).log
    x = log["volume"] * P / kT
    assert near(x, N + 1) < 0.1
    near((x - N - 1) ** 2, N + 1)
    apart = int(np.ceil(4 * average(x).time))
    assert stats.kstest(x[::apart], stats.gamma(N + 1).cdf).pvalue > 1e-3
    np.testing.assert_allclose(log["pressure"] * log["volume"], N * kT, rtol=1e-12)
    if cell == "x":
        assert np.ptp(log["box"][:, 1, 1]) == 0
        assert np.ptp(log["box"][:, 0, 0]) > 1


def two_atoms(kT: float, P: float, cutoff: float, points: int = 24):
    """<V> and <E> of two atoms of force-shifted Lennard-Jones in a periodic cube at a pressure, by quadrature."""
    f = lambda r: 4 * (r**-12 - r**-6)
    slope = -4 * (12 * cutoff**-13 - 6 * cutoff**-7)
    phi = lambda r: np.where(r < cutoff, f(r) - f(cutoff) - slope * (r - cutoff), 0.0)
    radial = lambda g: 4 * np.pi * integrate.quad(lambda r: g(phi(r)) * r * r, 0.3, cutoff, limit=200)[0]
    core = -4 * np.pi * 0.3**3 / 3
    B, BE = radial(lambda u: np.exp(-u / kT) - 1) + core, radial(lambda u: u * np.exp(-u / kT))
    images = np.array(list(np.ndindex(5, 5, 5))) - 2
    axis = (np.arange(points) + 0.5) / (2 * points)
    s = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 1, 3)  # an octant

    def cell(L):
        """Integrals over the distance vector of exp(-E/kT) and E exp(-E/kT)."""
        if 2 * cutoff <= L:
            return L**3 + B, BE
        E = phi(L * np.linalg.norm(s + images, axis=2)).sum(axis=1)
        E = E + phi(L * np.linalg.norm(images[(images != 0).any(axis=1)], axis=1)).sum()  # each with its own images
        return L**3 * np.mean(np.exp(-E / kT)), L**3 * np.mean(E * np.exp(-E / kT))

    L = np.linspace(0.9, 14, 1200)
    w, wE = np.array([cell(x) for x in L]).T
    V = L**3
    measure = V * np.exp(-P * V / kT) * 3 * L**2
    return np.sum(measure * w * V) / np.sum(measure * w), np.sum(measure * wE) / np.sum(measure * w)


def test_two_atoms_at_a_pressure_have_the_averages_of_quadrature():
    """Displacements and volume moves, in cells from 1.3 Å, where images count, to a dilute gas."""
    kT, P, cutoff = 0.7, 0.2, 1.5
    V, E = two_atoms(kT, P, cutoff)
    potential, params = lennard_jones((18,), 1.0, 1.0, cutoff, truncation="force-shifted")
    small = jm.System([18, 18], np.array([[0, 0, 0], [0.8, 0.8, 0.8]]), 1.6 * np.eye(3))  # has many neighbours
    options = {"displacement": 0.5, "pressure": P, "volume_change": 0.8, "trials": {"displacement": 6, "volume": 2}}
    sim = monte_carlo(potential, params, small, temperature=kT * KELVIN, **options, headroom=0.5, skin=1.0, key=9)
    log = md.run(sim, 8000, log_every=2).log
    assert near(log["volume"], V) < 0.02 * V  # without interaction it would be 3 kT / P = 10.5 Å^3, not 12.4
    assert near(log["potential"], E) < 0.1 * abs(E)
    near(log["pressure"], P)  # <N kT / V + tr W / 3 V>, where the weight vanishes at both ends of V
    assert np.ptp(log["conserved"]) < 1e-7  # sums of 10^5 differences, each to 1e-14 of at most 1e4 eV
