"""Phonons against finite differences, supercells of other sizes, and published or independently computed numbers."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp import units
from jaxmlp.potentials.bonded import HarmonicBond
from jaxmlp.potentials.pair import LennardJones, LennardJonesTail
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.properties import (
    GAMMA,
    crystal_energy_fn,
    dynamical_matrix,
    force_constants_fn,
    frequencies,
    gruneisen_fn,
    monkhorst_pack,
)

TABLE = {  # Stillinger-Weber silicon at a = 5.4309497804 Å, m = 28.0855: phonopy, displacements of 0.001 Å; THz
    (0, 0, 0): [0, 0, 0, 17.83255, 17.83255, 17.83255],
    (0.5, 0.5, 0): [6.65188, 6.65188, 12.99356, 12.99356, 15.62862, 15.62862],
    (0.5, 0.5, 0.5): [4.70359, 4.70359, 11.76846, 13.39788, 16.76684, 16.76684],
    (0.5, 0.25, 0.75): [7.39591, 7.39591, 12.11235, 12.11235, 15.99768, 15.99768],
    (0.375, 0.375, 0.75): [6.14554, 7.98902, 11.77350, 12.73432, 15.97040, 16.06511],
    (0.25, 0.25, 0): [4.33666, 4.33666, 7.17540, 16.62366, 16.86547, 16.86547],
}


def crystal(name, a, masses, **options):
    system = jm.System.from_ase(bulk(name, a=a, **options))
    return system.replace(masses=np.asarray(masses, float))


@cache
def silicon():
    potential, params = stillinger_weber_silicon()
    return potential, params, crystal("Si", 5.4309497804, [28.0855] * 2)


@cache
def salt():
    """Two species whose neighbours of either kind count; sodium chloride's structure, somewhat sheared and rattled."""
    species, cutoff = (11, 17), 4.1
    params = {"epsilon": jnp.array([[0.1, 0.3], [0.3, 0.15]]), "sigma": jnp.array([[2.9, 2.2], [2.2, 2.8]])}
    system = crystal("NaCl", 5.0, [23.0, 35.0], crystalstructure="rocksalt")
    rng = np.random.default_rng(0)
    R, box = system.R + 0.03 * rng.normal(size=(2, 3)), system.box @ (np.eye(3) + 0.01 * rng.normal(size=(3, 3)))
    return LennardJones(species, cutoff, "force-shifted"), params, system.replace(R=R, box=box)


@cache
def argon():
    """Lennard-Jones in its own units, truncated, at the lattice constant of zero pressure."""
    params = {"epsilon": jnp.ones((1, 1)), "sigma": jnp.ones((1, 1))}
    return LennardJones((18,), 2.5), params, crystal("Ar", 1.5496034241, [1.0])


@cache
def phi_of(case, supercell=None):
    potential, params, system = case()
    make = force_constants_fn(potential, system, supercell=supercell, headroom=0.0)
    return jax.jit(make)(system.R, system.box, params)


def repeated(system, n):
    return jm.System.from_ase(system.to_ase().repeat(n)).replace(masses=np.tile(system.masses, np.prod(n)))


def commensurate(n):
    return np.stack(np.meshgrid(*(np.arange(k) / k for k in n), indexing="ij"), -1).reshape(-1, 3)


def test_silicon_has_the_frequencies_of_the_table():
    nu = frequencies(phi_of(silicon), np.array(list(TABLE)))
    # The table's differences: 4e-6 of omega at these displacements, and 5 digits behind the point.
    np.testing.assert_allclose(nu, list(TABLE.values()), atol=1e-4)


def test_lennard_jones_has_the_frequencies_of_the_table():
    nu = frequencies(phi_of(argon), np.array([[0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.5, 0.25, 0.75], [0.375, 0.375, 0.75]]))
    omega = [[18.406007, 18.406007, 26.904825], [12.241231, 12.241231, 26.866910]]
    omega += [[18.192755, 23.102742, 23.102742], [16.712230, 21.748764, 24.783590]]
    np.testing.assert_allclose(nu * units.THz, omega, atol=1e-6)  # digits of the table


@pytest.mark.parametrize("case", [silicon, salt])
def test_force_constants_are_differences_of_forces(case):
    potential, params, system = case()
    phi = phi_of(case)
    n, far = len(system), repeated(system, (6, 6, 6))  # wider than what force_constants_fn takes
    force = jax.jit(jm.forces(jm.energy_fn(potential, far)))
    h, moved = 1e-3, np.zeros(far.R.shape)
    moved[1, 2] = h  # atom 1 of the home cell along z
    change = -(force(far.R + moved, far.box, params) - force(far.R - moved, far.box, params)) / (2 * h)
    expected = np.asarray(change).reshape(6, 6, 6, n, 3)
    cells = np.asarray(phi.translations, int) % 6
    seen = np.zeros_like(expected)
    np.add.at(seen, tuple(cells.T), np.asarray(phi.values)[:, 1, 2])
    np.testing.assert_allclose(seen, expected, atol=1e-4)  # eV/Å^2, of up to 15; h^2 / 6 of the next derivative


@pytest.mark.parametrize(("case", "supercell"), [(silicon, None), (salt, None), (argon, 2)])
def test_force_constants_are_symmetric_and_cost_translations_nothing(case, supercell):
    """Of images that are equally near, as in the smallest supercell, none is taken alone."""
    phi = phi_of(case, supercell)
    np.testing.assert_allclose(jnp.sum(phi.values, axis=(0, 3)), 0, atol=1e-12)  # rounding of numbers of order 10
    index = {tuple(l): k for k, l in enumerate(np.asarray(phi.translations, int).tolist())}
    back = [index[tuple(-np.array(l))] for l in index]
    np.testing.assert_allclose(phi.values, phi.values[jnp.array(back)].transpose(0, 3, 4, 1, 2), atol=1e-12)


def test_waves_that_fit_into_a_supercell_are_its_vibrations_also_if_images_tie():
    """An atom half a supercell away is as near on either side: the shares of its images are tested too."""
    potential, params, system = salt()
    n = (3, 1, 2)
    big = repeated(system, n)
    H = jm.hessian(jm.energy_fn(potential, big))(big.R, big.box, params).reshape(3 * len(big), -1)
    root = np.repeat(np.sqrt(big.masses), 3)
    square = np.linalg.eigvalsh(H / root / root[:, None])
    expected = np.sign(square) * np.sqrt(np.abs(square)) / units.THz
    for supercell in (None, n):
        nu = np.sort(np.ravel(frequencies(phi_of(salt, supercell), commensurate(n))))
        # The three translations are roots of rounding errors, 1e-15 of squares of up to 100 THz^2.
        np.testing.assert_allclose(nu, expected, atol=1e-5)


def test_supercells_that_are_larger_than_needed_change_nothing():
    q = np.array([[0.1, 0.23, -0.31], [0.4, 0.05, 0.2]])
    np.testing.assert_allclose(
        dynamical_matrix(phi_of(salt, 7), q), dynamical_matrix(phi_of(salt), q), atol=1e-13
    )  # rounding of numbers of order 1


def test_images_equally_near_keep_the_symmetry_of_the_crystal():
    """At wave vectors that do not fit into the supercell, along three axes that are alike."""
    nu = frequencies(phi_of(argon, 2), 0.2 * np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]]))
    np.testing.assert_allclose(nu, np.broadcast_to(nu[0], nu.shape), rtol=1e-10)
    np.testing.assert_allclose(nu[:, 0], nu[:, 1], rtol=1e-10)


@pytest.mark.slow
def test_message_passing_interacts_over_all_its_steps():
    """A row of atoms: steps that see two neighbours on each side make force constants to the 8th neighbour."""
    from jaxmlp.potentials.schnet import SchNet

    potential = SchNet((6,), 2.1, n_features=4, n_interactions=2, n_radial=4, n_filters=4, hidden=(4,))
    params = jax.tree.map(lambda x: x + 0.1, potential.init(jax.random.key(0)))
    row = jm.System([6], np.zeros((1, 3)), np.diag([1.0, 9, 9]), (True, False, False))
    phi = jax.jit(force_constants_fn(potential, row, supercell=(25, 1, 1)))(row.R, row.box, params)
    reach = np.abs(np.asarray(phi.translations)[np.abs(np.asarray(phi.values)).max(axis=(1, 2, 3, 4)) > 0, 0]).max()
    assert reach == 8
    chosen = jax.eval_shape(force_constants_fn(potential, row), row.R, row.box, params)
    assert len(chosen.values) == 2 * reach + 1


@pytest.mark.parametrize(("shape", "gamma"), [((2, 3, 4), False), ((2, 3, 4), True), (4, False), (3, True)])
def test_a_mesh_holds_one_of_each_pair_of_opposite_waves(shape, gamma):
    mesh = monkhorst_pack(shape, gamma=gamma)
    n = np.broadcast_to(shape, 3)
    axes = [np.arange(k) / k if gamma else (2 * np.arange(1, k + 1) - k - 1) / (2 * k) for k in n]
    full = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    wave = lambda q: np.cos(2 * np.pi * q @ np.array([1, 2, -1])) + 0.1 * np.cos(2 * np.pi * q @ np.array([2, 3, 4]))
    np.testing.assert_allclose(mesh.weights @ wave(mesh.q), wave(full).mean(), atol=1e-14)
    assert mesh.weights.sum() == pytest.approx(1, abs=1e-14)
    alone = mesh.weights * n.prod() < 1.5  # q and -q are the same wave
    assert 2 * len(mesh.q) == len(full) + alone.sum()
    assert mesh.gamma.any() == (gamma or bool((n % 2 == 1).all()))
    assert GAMMA.gamma.all()


def test_gruneisen_parameters():
    potential, params, system = silicon()
    q = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.13, 0.2, 0.3]])
    make = force_constants_fn(potential, system)
    gamma = np.asarray(jax.jit(gruneisen_fn(make))(q, system.R, system.box, params))
    assert np.isnan(gamma[0, :3]).all()
    np.testing.assert_allclose(gamma[0, 3:], 0.7984, atol=2e-4)  # phonopy's differences over 0.3 % of a
    np.testing.assert_allclose(gamma[1], [-0.0410, -0.0410, 0.8282, 0.8282, 0.8885, 0.8885], atol=2e-4)
    np.testing.assert_allclose(gamma[2], [-0.0410, -0.0410, 0.5849, 0.9631, 0.8375, 0.8375], atol=2e-4)
    h, phi = 1e-4, jax.jit(make)
    plus, minus = (frequencies(phi(system.R * s, system.box * s, params), q[3:])[0] for s in (1 + h, 1 - h))
    difference = -(np.log(plus) - np.log(minus)) / (np.log(1 + h) - np.log(1 - h)) / 3
    np.testing.assert_allclose(gamma[3], difference, atol=1e-6)  # h^2 times a third derivative


def test_sums_of_frequencies_are_differentiable_where_modes_are_degenerate():
    potential, params, system = argon()
    phi = force_constants_fn(potential, system)

    def sum_(sigma):
        return jnp.sum(frequencies(phi(system.R, system.box, params | {"sigma": sigma}), np.array([[0.5, 0.5, 0.0]])))

    one, h, value = jnp.ones((1, 1)), 1e-4, jax.jit(jax.value_and_grad(sum_))
    slope = (value(one + h)[0] - value(one - h)[0]) / (2 * h)
    np.testing.assert_allclose(value(one)[1], slope, rtol=1e-5)  # h^2 f''' / 6 f' with f'''/f' of some hundred


def test_the_energy_of_a_crystal_is_that_of_energy_fn_until_its_list_ends():
    potential, params, system = silicon()
    big = repeated(system, (2, 1, 3))
    make = (crystal_energy_fn(potential, big), jm.energy_fn(potential, big))
    listed, searched = (jax.jit(jax.value_and_grad(energy, (0, 1))) for energy in make)
    rng = np.random.default_rng(1)
    F = np.eye(3) + 0.01 * rng.normal(size=(3, 3)) - 0.005 * np.eye(3)
    R = (big.R + 0.01 * rng.normal(size=big.R.shape)) @ F + 7.0  # moving all atoms does not count
    values = (energy(R, big.box @ F, params) for energy in (listed, searched))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), *values)  # rounding of sums
    energy = lambda R, box: listed(R, box, params)[0]
    assert np.isfinite(energy(big.R * 0.971, big.box * 0.971))
    assert np.isnan(energy(big.R * 0.969, big.box * 0.969))
    assert np.isnan(energy(big.R + 0.1 * rng.normal(size=big.R.shape), big.box * 0.98))


def test_single_precision_stays_single():
    potential, params, system = salt()
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    R, box = jnp.asarray(system.R, jnp.float32), jnp.asarray(system.box, jnp.float32)
    nu = frequencies(jax.jit(force_constants_fn(potential, system))(R, box, params), np.array([[0.3, 0.1, 0.2]]))
    assert nu.dtype == jnp.float32
    np.testing.assert_allclose(nu, frequencies(phi_of(salt), np.array([[0.3, 0.1, 0.2]])), rtol=1e-4)


def test_what_cannot_be_computed_is_named():
    potential, _, system = salt()
    with pytest.raises(ValueError, match="need a periodic system"):
        force_constants_fn(potential, system.replace(box=None, pbc=(False,) * 3))
    with pytest.raises(ValueError, match="supercell must be positive, and 1 along"):
        force_constants_fn(potential, system.replace(pbc=(True, True, False)), supercell=2)
    with pytest.raises(ValueError, match="headroom is a fraction"):
        force_constants_fn(potential, system, headroom=-0.1)
    with pytest.raises(ValueError, match="positive number of points"):
        monkhorst_pack((2, 0, 2))
    bond = HarmonicBond(potential.species, ((0, 1),))
    with pytest.raises(ValueError, match="finite range: give the supercell"):
        force_constants_fn(potential + bond, system)


def test_a_tail_adds_no_force_constants():
    potential, params, system = salt()
    plain = replace(potential, truncation="truncated")
    both = plain + LennardJonesTail(potential.species, potential.cutoff)
    alone = force_constants_fn(plain, system)(system.R, system.box, params)
    sum_of_both = force_constants_fn(both, system)(system.R, system.box, (params, params))
    np.testing.assert_allclose(sum_of_both.values, alone.values, rtol=0, atol=1e-12 * np.abs(alone.values).max())
