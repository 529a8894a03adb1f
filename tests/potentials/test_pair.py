"""Lennard-Jones in all truncations, its tail, Morse, and pair potentials of one's own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_lammps import agrees

import jaxmlp as jm
from jaxmlp.derivatives import elastic_constants, stress
from jaxmlp.potentials.pair import (
    LennardJones,
    LennardJonesTail,
    Morse,
    PairPotential,
    lennard_jones,
    lorentz_berthelot,
)

FCC = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2


def pairs(a, ab, b):
    return jnp.array([[a, ab], [ab, b]])


ARGON_KRYPTON = {"epsilon": pairs(0.0104, 0.012, 0.014), "sigma": pairs(3.4, 3.5, 3.6)}


def fcc(a: float) -> jm.System:
    return jm.System([18], np.zeros((1, 3)), a * FCC)


@pytest.mark.parametrize(
    ("name", "truncation"), [("lj", "truncated"), ("lj-shifted", "shifted"), ("lj-force-shifted", "force-shifted")]
)
def test_lennard_jones_agrees_with_lammps(name, truncation):
    agrees(name, LennardJones((18, 36), 7.5, truncation), ARGON_KRYPTON)


def test_lennard_jones_with_its_tail_agrees_with_lammps():
    agrees("lj-tail", LennardJones((18, 36), 7.5) + LennardJonesTail((18, 36), 7.5), (ARGON_KRYPTON, ARGON_KRYPTON))


def test_morse_agrees_with_lammps():
    params = {
        "depth": pairs(0.34, 0.3, 0.28),
        "alpha": pairs(1.35, 1.4, 1.5),
        "length": pairs(2.86, 2.7, 2.6),
    }
    agrees("morse", Morse((29, 13), 6.0), params)


def test_the_melt_of_lammps_bench_in_lj():
    """PHYSICS.md section 1: 32000 atoms at T = 1.44, of which the lattice gives energy and virial."""
    system = fcc((4 / 0.8442) ** (1 / 3))
    potential, params = lennard_jones([18], 1.0, 1.0, 2.5)
    out = jax.jit(jm.evaluate_fn(potential, system))(system.R, system.box, params)
    np.testing.assert_allclose(out.energy, -6.7733680532, atol=1e-9)  # the digits printed
    pressure = 0.8442 * (1.44 * 31999 / 32000 + np.trace(out.virial) / 3)
    np.testing.assert_allclose(pressure, -5.0197072591, atol=1e-9)


@pytest.mark.parametrize(
    ("cutoff", "a", "energy", "c11", "c12"),
    [
        (2.5, 1.5496034241, -8.0996207927, 97.7120596, 55.6266305),
        (3.0, 1.5463789694, -8.3050265043, 101.0533899, 57.2772009),
    ],
)
def test_the_static_fcc_crystal(cutoff, a, energy, c11, c12):
    """PHYSICS.md section 5: lattice constant, energy and elastic constants, with their digits."""
    system = fcc(a)
    potential, params = lennard_jones([18], 1.0, 1.0, cutoff)
    E = jax.jit(jm.energy_fn(potential, system))
    np.testing.assert_allclose(E(system.R, system.box, params), energy, atol=2e-10)
    C = jax.jit(elastic_constants(E, relaxed=False))(system.R, system.box, params)  # one atom: nothing relaxes
    np.testing.assert_allclose(C[:3, :3], c12 + (c11 - c12) * np.eye(3), atol=3e-7)
    np.testing.assert_allclose(np.diag(C)[3:], c12, atol=3e-7)
    # a is where the stress vanishes: an error of 5e-11 in its last digit leaves 3 B da / a = 1e-8.
    np.testing.assert_allclose(jax.jit(stress(E))(system.R, system.box, params), 0, atol=1e-8)


def test_the_shifted_crystal_has_the_same_forces_and_another_energy():
    system = fcc(1.5496034241)
    potential, params = lennard_jones([18], 1.0, 1.0, 2.5, truncation="shifted")
    np.testing.assert_allclose(jm.energy_fn(potential, system)(system.R, system.box, params), -7.4632620384, atol=2e-10)


def test_the_tail_completes_the_infinite_crystal():
    """E = -8.6101994343, r_nn = 1.0901729658 where nothing is cut off (lattice sums).

    A sharp sphere holds a number of atoms that scatters around its volume times the density by the order of its radius
    squared over the spacing: about 300 at rc = 9, each worth phi(rc)/2 = 4e-6.
    """
    system = fcc(1.5417373935)
    potential, params = lennard_jones([18], 1.0, 1.0, 9.0, tail=True)
    energy = jax.jit(jm.energy_fn(potential, system, headroom=0.0))
    np.testing.assert_allclose(energy(system.R, system.box, params), -8.6101994343, atol=1e-3)
    assert abs(energy(system.R, system.box, (params[0], jax.tree.map(jnp.zeros_like, params[1]))) + 8.6102) > 5e-3


NIST_4 = """
 1.077169909511  -1.020988125886  -1.348259447733   0.1830884592213 -1.557698231574  -1.782405485883
-2.060346185437   3.927378276290   3.889555115290   1.936298049102   0.7181973326223  3.715169082037
-0.7514139041700 -0.4184139469527 -3.250183630687   2.257391305584  -1.126577405146  -2.291542913197
 0.1208868721243 -1.395611520000   2.003709382777   3.327427055092  -1.476502868105   3.394023898450
 2.130927328546  -1.106827632561  -0.1972896367169  2.117442019559  -0.1844743512029  0.9301638993772
-1.459378119580   2.382882188329  -3.788199401470   2.432313424884  -1.118537915440  -1.224088264651
 2.416845366530   1.845499053895   2.906107003288   2.515247912050   0.03580976978134 -2.445590080636
 1.113585242376  -2.478011342991  -0.00809218952796 1.261664073561   1.075432348722  -2.751715752259
-0.5811873476022 -2.429378395199   2.668996832737  -1.533182296119   2.319699660489   1.762429379767
 2.639946585704  -0.7847515599358  2.251233247739  -1.927486378623  -1.432729425739  -2.439226375584
 0.9212801355440 -2.427925517025   2.150024430246   2.114172305774   0.9586575168591 -1.790678078404
-0.7312380271746 -3.366157234697   0.1376597954432  1.612569300954  -0.9233415846164  2.037484769332
 3.967911812136   0.2002508998947  2.659432175592   1.188751191387  -0.05955638413419 -0.7363070447875
 3.789497702433   1.570674334424   0.7265918374820  2.786625773109  -1.524167484397   0.8358187540631
-1.629362446504  -1.139061532617  -0.7654084051377  2.592655226763   3.786335083587  -1.252452130644
"""


@pytest.fixture(scope="module")
def nist():
    """NIST's Lennard-Jones reference configuration 4: 30 atoms in a box of 8, as published with its energies."""
    return jm.System(np.full(30, 18), np.array(NIST_4.split(), float).reshape(30, 3), 8 * np.eye(3))


@pytest.mark.parametrize(
    ("truncation", "cutoff", "energy", "virial"),
    [
        ("truncated", 3.0, -16.7903213046, -46.2491967463),
        ("truncated", 4.0, -17.0604532203, -47.8688281911),
        ("shifted", 3.0, -16.0834733196, -46.2491967463),
        ("force-shifted", 3.0, -15.0014022869, -43.0960055395),
    ],
)
def test_the_pairs_of_the_nist_configuration(nist, truncation, cutoff, energy, virial):
    potential, params = lennard_jones([18], 1.0, 1.0, cutoff, truncation=truncation)
    out = jax.jit(jm.evaluate_fn(potential, nist))(nist.R, nist.box, params)
    np.testing.assert_allclose(out.energy, energy, atol=1e-10)
    np.testing.assert_allclose(np.trace(out.virial), virial, atol=1e-9)


@pytest.mark.parametrize(("cutoff", "tail"), [(3.0, -0.5451660015), (4.0, -0.2300783928)])
def test_the_tail_of_the_nist_configuration(nist, cutoff, tail):
    """Energy as published, pressure from the integral."""
    params = lorentz_berthelot([1.0], [1.0])
    energy = jax.jit(jm.energy_fn(LennardJonesTail((18,), cutoff), nist))
    np.testing.assert_allclose(energy(nist.R, nist.box, params), tail, atol=1e-10)
    density = 30 / 512
    expected = 32 / 9 * np.pi * density**2 * (cutoff**-9 - 1.5 * cutoff**-3)
    pressure = -jnp.trace(jax.jit(stress(energy))(nist.R, nist.box, params)) / 3
    np.testing.assert_allclose(pressure, expected, rtol=1e-12)


def test_the_tail_needs_a_box():
    system = jm.System([18, 18], [[0, 0, 0], [4, 0, 0]])
    potential = LennardJonesTail((18,), 8.0)
    with pytest.raises(ValueError, match="must have a box"):
        jm.energy_fn(potential, system)(system.R, None, lorentz_berthelot([0.01], [3.4]))


def dimer(potential):
    system = jm.System([18, 18], [[0, 0, 0], [2.0, 0, 0]])
    energy = jm.energy_fn(potential, system, skin=1.0)
    return jax.jit(lambda r, params: energy(jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * r, None, params))


@pytest.mark.parametrize(("truncation", "orders"), [("shifted", 1), ("force-shifted", 2), ("smoothed", 3)])
def test_how_smoothly_each_truncation_ends(truncation, orders):
    inner = {"inner": 2.0} if truncation == "smoothed" else {}
    potential = LennardJones((18,), 2.5, truncation, **inner)
    params = lorentz_berthelot([1.0], [1.0])
    energy = dimer(potential)
    just_inside, none = 2.5 - 1e-9, jax.tree.map(jnp.zeros_like, params)
    derivatives = jax.jit(lambda r: (energy(r, params), *jax.jvp(jax.grad(energy), (r, params), (1.0, none))))
    values = [float(x) for x in derivatives(just_inside)]
    # The next derivative, of order 1, times the distance 1e-9 to the cutoff.
    np.testing.assert_allclose(values[:orders], 0, atol=1e-8)
    assert all(abs(v) > 1e-3 for v in values[orders:])
    assert energy(2.5 + 1e-9, params) == 0
    if truncation == "smoothed":  # below `inner` only a constant was added
        plain = dimer(LennardJones((18,), 2.5))
        np.testing.assert_allclose(
            jax.jit(jax.grad(energy))(1.3, params), jax.jit(jax.grad(plain))(1.3, params), rtol=1e-13
        )


def test_the_ground_state_scales_with_its_parameters():
    """dE/d epsilon = E/epsilon, and dE/d sigma from E(a/sigma): zero at the lattice constant."""
    system = fcc(1.5496034241)
    potential, params = lennard_jones([18], 1.0, 1.0, 2.5)
    energy = jm.energy_fn(potential, system)
    gradient = jax.jit(jax.grad(energy, 2))(system.R, system.box, params)
    np.testing.assert_allclose(gradient["epsilon"][0, 0], -8.0996207927, atol=2e-10)
    np.testing.assert_allclose(gradient["sigma"][0, 0], 0, atol=1e-7)


def test_a_new_pair_potential_is_a_formula():
    @dataclass(frozen=True)
    class Buckingham(PairPotential):
        def phi(self, p, r_squared):
            return p["A"] * jnp.exp(-jnp.sqrt(r_squared) / p["rho"]) - p["C"] / r_squared**3

    params = {k: jnp.full((1, 1), v) for k, v in {"A": 1000.0, "rho": 0.3, "C": 20.0}.items()}
    energy = dimer(Buckingham((18,), 6.0))
    np.testing.assert_allclose(energy(2.0, params), 1000 * np.exp(-2 / 0.3) - 20 / 64, rtol=1e-14)


def test_restriction_is_a_slicing():
    potential, params = LennardJones((18, 36), 7.5), ARGON_KRYPTON
    system = jm.System([36, 36], [[0, 0, 0], [4, 0, 0]])
    smaller, p = potential.restrict(params, (36,))
    assert smaller.species == (36,)
    a, b = (jax.jit(jm.energy_fn(pot, system))(system.R, None, q) for pot, q in ((potential, params), (smaller, p)))
    assert a == b
    swapped, p = potential.restrict(params, (36, 18))
    assert swapped.species == (36, 18)
    assert p["sigma"][0, 0] == 3.6
    with pytest.raises(ValueError, match=r"\[54\] are not among them"):
        potential.restrict(params, (54,))


def test_lorentz_berthelot_mixing():
    params = lorentz_berthelot([0.01, 0.04], [3.0, 4.0])
    np.testing.assert_allclose(params["epsilon"], [[0.01, 0.02], [0.02, 0.04]], rtol=1e-15)
    np.testing.assert_allclose(params["sigma"], [[3.0, 3.5], [3.5, 4.0]], rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(cutoff=-1.0), "cutoff is a distance in Å"),
        (dict(cutoff=float("nan")), "cutoff is a distance in Å"),
        (dict(cutoff=8.0, truncation="cut"), "truncation must be one of"),
        (dict(cutoff=8.0, truncation="smoothed"), "inner goes with"),
        (dict(cutoff=8.0, truncation="smoothed", inner=9.0), "between 0 and the cutoff"),
    ],
)
def test_wrong_hyper_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LennardJones((18,), **arguments)


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match="one for each species"):
        lorentz_berthelot([0.01, -0.02], [3.0, 3.0])
    with pytest.raises(ValueError, match="tail correction belongs to"):
        lennard_jones([18], 0.01, 3.4, 8.0, truncation="shifted", tail=True)
