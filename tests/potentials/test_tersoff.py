"""Tersoff: LAMMPS' numbers for one and two species, both values of m, and the ends of the functions."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_lammps import agrees
from lammps_reference import REFERENCES

import jaxmlp as jm
from jaxmlp.formats import lammps_tersoff
from jaxmlp.potentials.tersoff import Tersoff


def load(name, folder):
    path = folder / REFERENCES[name].file
    path.write_text(REFERENCES[name].text())
    return lammps_tersoff.load(path)


@pytest.fixture(scope="session")
def silicon(tmp_path_factory):
    return load("tersoff-silicon", tmp_path_factory.mktemp("si"))


@pytest.fixture(scope="session")
def alloy(tmp_path_factory):
    return load("tersoff", tmp_path_factory.mktemp("sic"))


def test_silicon_agrees_with_lammps(silicon):
    assert silicon[0] == Tersoff((14,), 3.2, 3)
    agrees("tersoff-silicon", *silicon)


def test_two_species_agree_with_lammps(alloy):
    """LAMMPS takes 1 + c^2/d^2 - c^2/(d^2 + h^2) of numbers near 4e7 here: its g is good to about 1e-12 only."""
    assert alloy[0].m == (3, 3, 1, 1, 3, 3, 1, 1)
    agrees("tersoff", *alloy, rounding=2e-12)


def test_a_dimer_has_the_bond_order_one(silicon):
    """E = f_C (A exp(-lambda1 r) - B exp(-lambda2 r)); no third atom, zeta = 0, all derivatives finite."""
    potential, params = silicon
    system = jm.System([14, 14], [[0, 0, 0], [2.4, 0, 0]])
    energy = jax.jit(jm.energy_fn(potential, system))
    at = lambda r: energy(jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * r, None, params)
    pair = lambda r: 3264.7 * jnp.exp(-3.2394 * r) - 95.373 * jnp.exp(-1.3258 * r)
    np.testing.assert_allclose(at(2.4), pair(2.4), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(at)(2.4), jax.grad(pair)(2.4), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.hessian(at))(2.4), jax.hessian(pair)(2.4), rtol=1e-12)
    assert at(3.2001) == 0
    np.testing.assert_allclose(jax.grad(at)(3.2 - 1e-7), 0, atol=1e-5)  # f_C ends as (3.2 - r)^2


def test_a_third_atom_enters_smoothly(silicon):
    """A neighbour at the edge of the range gives zeta = 1e-20: forces and Hessian stay finite."""
    potential, params = silicon
    system = jm.System([14, 14, 14], [[0, 0, 0], [2.4, 0, 0], [0, 3.1, 0]])
    energy = jm.energy_fn(potential, system)
    forces = jax.jit(lambda R: jax.grad(energy)(R, None, params))
    hessian = jax.jit(lambda R: jax.hessian(energy)(R, None, params))
    for gap in (1e-3, 1e-6, 1e-9, 1e-12, 0.0):
        R = jnp.asarray(system.R).at[2, 1].set(3.2 - gap)
        assert np.isfinite(forces(R)).all()
        assert np.isfinite(hessian(R)).all()
    np.testing.assert_allclose(forces(R), forces(R.at[2, 1].set(3.3)), atol=1e-12)


def test_a_cutoff_without_width_is_a_step(silicon):
    potential, params = silicon
    params = params | {"R": jnp.full((1, 1, 1), 3.0), "D": jnp.zeros((1, 1, 1))}
    system = jm.System([14, 14], [[0, 0, 0], [2.4, 0, 0]])
    energy = jax.jit(jm.energy_fn(replace(potential, cutoff=3.0), system))
    at = lambda r: energy(jnp.array([[0.0, 0, 0], [r, 0, 0]]), None, params)
    np.testing.assert_allclose(
        at(2.999), 3264.7 * np.exp(-3.2394 * 2.999) - 95.373 * np.exp(-1.3258 * 2.999), rtol=1e-13
    )
    assert at(3.001) == 0
    gradient = jax.jit(jax.grad(energy, 2))(system.R, None, params)
    assert all(np.isfinite(x).all() for x in gradient.values())


def test_restriction_keeps_the_numbers(alloy):
    potential, params = alloy
    smaller, p = potential.restrict(params, (6,))
    assert smaller.m == 1
    assert smaller.species == (6,)
    swapped, q = potential.restrict(params, (6, 14))
    assert swapped.m == (1, 1, 3, 3, 1, 1, 3, 3)
    system = jm.System([6, 6, 6], [[0, 0, 0], [1.5, 0, 0], [-0.7, 1.3, 0.2]])
    energies = [jax.jit(jm.energy_fn(a, system))(system.R, None, b) for a, b in (alloy, (smaller, p), (swapped, q))]
    np.testing.assert_allclose(energies, energies[0], rtol=1e-13)


def test_wrong_hyper_parameters_are_refused():
    with pytest.raises(ValueError, match="cutoff is a distance"):
        Tersoff((14,), float("inf"))
    with pytest.raises(ValueError, match="m must be 1 or 3"):
        Tersoff((14,), 3.0, 2)
    with pytest.raises(ValueError, match=r"S\^3 such numbers"):
        Tersoff((14, 6), 3.0, (1, 3))
