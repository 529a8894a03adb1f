"""Quasi-harmonic cells against differences, thermodynamic identities and independently computed numbers."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp import units
from jaxmlp.free_energy.harmonic import harmonic_fn
from jaxmlp.free_energy.minima import polished, search, taylor
from jaxmlp.free_energy.quasiharmonic import quasiharmonic, quasiharmonic_fn, relaxed_fn, strain_modes
from jaxmlp.geometry import volume
from jaxmlp.potentials.pair import LennardJones
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.properties import crystal_energy_fn, monkhorst_pack

T, P = 0.2 / units.kB, 1.5  # of Lennard-Jones with epsilon = sigma = 1
MESH = monkhorst_pack(2)


@cache
def argon():
    """Lennard-Jones, cut off between two shells, so heavy that quanta matter, but not most; not at its equilibrium."""
    params = {"epsilon": jnp.ones((1, 1)), "sigma": jnp.ones((1, 1))}
    system = jm.System.from_ase(bulk("Ar", "fcc", a=1.56)).replace(masses=np.full(1, 100.0))
    return LennardJones((18,), 2.32), params, system


@cache
def table():
    potential, params, system = argon()
    return quasiharmonic(potential, params, system, T * np.array([0.999, 1, 1.001]), MESH, pressure=P)


def test_expansion_and_heat_capacity_are_differences_and_obey_thermodynamics():
    x = table()
    width = x.temperature[2] - x.temperature[0]
    slope = lambda y: (y[2] - y[0]) / width
    # h^2 / 6 of third derivatives: 1e-6 / 6, times a few
    np.testing.assert_allclose(x.expansion[1] * x.volume[1], slope(x.volume), rtol=1e-5)
    np.testing.assert_allclose(x.cp[1], T * slope(x.entropy), rtol=1e-5)
    np.testing.assert_allclose(-x.entropy[1], slope(x.gibbs), rtol=1e-5)
    # C_P - C_V = T V alpha^2 B connects derivatives of V by T and P with those of S, and holds to rounding
    difference = x.temperature * x.volume * x.expansion**2 * x.bulk_modulus
    np.testing.assert_allclose(x.cp - x.cv, difference, rtol=1e-8)
    assert (difference > 0.05 * x.cv).all()
    np.testing.assert_allclose(x.gruneisen, x.expansion * x.bulk_modulus * x.volume / x.cv, rtol=1e-12)
    assert 2 < x.gruneisen[1] < 4


def test_the_cell_is_in_equilibrium_and_its_free_energy_depends_on_parameters_as_at_fixed_cell():
    """P = -dF/dV there; and dG/dparams = dF/dparams (envelope theorem), though the cell depends on them too."""
    potential, params, system = argon()
    found = table()
    F = harmonic_fn(potential, system, MESH)

    @jax.jit
    def fixed(x, sigma):
        at = lambda x, sigma: F(T, x * found.R[1], x * found.box[1], params | {"sigma": sigma})
        return at(x, sigma), jax.jacfwd(at, (0, 1))(x, sigma)

    sigma = params["sigma"]
    value, (F_x, F_sigma) = fixed(1.0, sigma)
    np.testing.assert_allclose(-F_x / (3 * found.volume[1]), P, rtol=1e-10)
    np.testing.assert_allclose(value + P * found.volume[1], found.gibbs[1], rtol=1e-13)

    equilibrium = quasiharmonic_fn(potential, system, MESH, relax=False)
    at = lambda sigma: equilibrium(T, P, params | {"sigma": sigma})
    free = jax.jit(lambda sigma: jax.jvp(at, (sigma,), (jnp.ones_like(sigma),)))
    h, (_, change) = 1e-4, free(sigma)
    up, down = (free(sigma + s * h)[0] for s in (1, -1))
    np.testing.assert_allclose(change.gibbs, F_sigma[0, 0], rtol=1e-9)
    for name in ("gibbs", "volume", "entropy", "box"):
        difference = (getattr(up, name) - getattr(down, name)) / (2 * h)
        np.testing.assert_allclose(getattr(change, name), difference, rtol=1e-5)  # h^2 / 6 of the next, 20^2 times it


def test_positions_relax_in_a_strained_cell_and_follow_it():
    """Two atoms of a salt, not at special positions: no forces remain, and derivatives are those of the minimum."""
    params = {"epsilon": jnp.array([[0.1, 0.3], [0.3, 0.15]]), "sigma": jnp.array([[2.9, 2.2], [2.2, 2.8]])}
    potential = LennardJones((11, 17), 4.1, "force-shifted")
    salt = jm.System.from_ase(bulk("NaCl", "rocksalt", a=5.0))
    R, box = salt.R + np.array([[0.05, 0.02, -0.03], [0, 0, 0]]), salt.box @ (np.eye(3) + 0.02 * np.eye(3)[[1, 2, 0]])
    energy = crystal_energy_fn(potential, salt.replace(R=R, box=box), headroom=0.1)
    relaxed = relaxed_fn(energy)

    @jax.jit
    def both(box, params):
        found, change = jax.jvp(lambda box, params: relaxed(jnp.asarray(R), box, params), (box, params), tangents)
        return found, change, jax.grad(energy)(found, box, params)

    tangents = (0.01 * jnp.asarray(np.arange(9.0).reshape(3, 3)), jax.tree.map(lambda x: 0.02 * x * x, params))
    shifted = lambda h: jax.tree.map(lambda x, d: x + h * d, (jnp.asarray(box), params), tangents)
    found, change, gradient = both(*shifted(0.0))
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    assert np.abs(found - R).max() > 0.01
    np.testing.assert_allclose(jnp.mean(found, axis=0), R.mean(axis=0), atol=1e-13)
    h = 1e-3
    np.testing.assert_allclose(change, (both(*shifted(h))[0] - both(*shifted(-h))[0]) / (2 * h), atol=1e-6)


def test_minima_are_differentiable():
    """min over x of cosh(x - t) + s x has x = t - asinh(s); a Taylor polynomial takes the place of the function."""

    def minimum(t):
        s = jnp.sin(t)[None]
        f = lambda x: jnp.sum(jnp.cosh(x - t) + s * x)
        slope, stiff = (lambda x, t: jnp.sinh(x - t) + jnp.sin(t)), (lambda x, t: jnp.ones((1, 1)))
        x = search(slope, stiff, jnp.zeros(1), (t,), reach=0.3)
        near = taylor(f, x, 3)
        return (x + polished(near, jnp.zeros(1), 2))[0]

    exact = lambda t: t - jnp.arcsinh(jnp.sin(t))
    second = lambda f: jax.jacfwd(jax.grad(f))
    for derivative in (jax.grad, second):
        np.testing.assert_allclose(jax.jit(derivative(minimum))(0.7), derivative(exact)(0.7), rtol=1e-10)
    np.testing.assert_allclose(minimum(0.7), exact(0.7), rtol=1e-10)
    assert not np.isfinite(jax.jit(jax.jacfwd(second(minimum)))(0.7))


def test_no_minimum_is_no_number():
    hill = lambda x: -jnp.sum(x**2)
    assert np.isnan(polished(hill, jnp.zeros(2), 1)).all()
    endless = search(lambda x: jnp.exp(-x), lambda x: jnp.eye(1), jnp.zeros(1), (), reach=0.1)
    assert np.isnan(endless).all()


def test_strain_modes_are_checked():
    assert strain_modes("isotropic").shape == (1, 3, 3)
    assert strain_modes("full").shape == (6, 3, 3)
    with pytest.raises(ValueError, match="strains must be one of isotropic, axes, full"):
        strain_modes("uniaxial")
    with pytest.raises(ValueError, match="symmetric matrices"):
        strain_modes(np.eye(3)[[1, 2, 0]][None])
    with pytest.raises(ValueError, match="linearly independent"):
        strain_modes(np.stack([np.eye(3), 2 * np.eye(3)]))
    with pytest.raises(ValueError, match="order must be at least 2"):
        quasiharmonic_fn(*argon()[::2], MESH, order=1)


@pytest.mark.slow
def test_a_crystal_without_minimum_is_named():
    potential, params, system = argon()
    with pytest.raises(ValueError, match=r"no minimum of F \+ P V was found at 10000.0 K and 0.0 eV"):
        quasiharmonic(potential, params, system, [10000.0], MESH)
    with pytest.raises(ValueError, match="a harmonic free energy does not exist"):
        quasiharmonic(potential, params, system.replace(R=1.2 * system.R, box=1.2 * system.box), [100.0], MESH)


@pytest.mark.slow
def test_expansion_depends_on_parameters_as_its_differences():
    potential, params, system = argon()
    equilibrium = quasiharmonic_fn(potential, system, MESH, relax=False, order=3)

    def expansion(sigma):
        at = lambda T: jnp.log(equilibrium(T, P, params | {"sigma": sigma}).volume)
        return jax.jvp(at, (jnp.asarray(T),), (jnp.asarray(1.0),))[1]

    sigma, h = params["sigma"], 1e-4
    both = jax.jit(lambda sigma: jax.jvp(expansion, (sigma,), (jnp.ones_like(sigma),)))
    difference = (both(sigma + h)[0] - both(sigma - h)[0]) / (2 * h)
    np.testing.assert_allclose(both(sigma)[1], difference, rtol=1e-4)  # h^2 / 6 of the next derivative
    np.testing.assert_allclose(both(sigma)[0], table().expansion[1], rtol=1e-9)


@pytest.mark.slow
def test_silicon_expands_as_computed_with_phonopy():
    """phonopy 4.10 with the same 20^3 wave vectors, displacements of 0.001 Å and 9 lattice constants from 5.40 Å."""
    potential, params = stillinger_weber_silicon()
    system = jm.System.from_ase(bulk("Si", a=5.43095)).replace(masses=np.full(2, 28.0855))
    x = quasiharmonic(potential, params, system, [0.0, 300.0, 600.0, 1000.0], monkhorst_pack(20))
    np.testing.assert_allclose(2 * x.box[:, 0, 1], [5.43814007, 5.43999942, 5.44530618, 5.45352817], atol=1e-7)
    assert x.expansion[0] == 0


@pytest.mark.slow
def test_gradients_pass_through_the_search():
    potential, params, system = argon()
    equilibrium = quasiharmonic_fn(potential, system, MESH, relax=False)
    gradient = jax.jit(jax.grad(lambda params: equilibrium(T, P, params).gibbs))(params)
    F, found = harmonic_fn(potential, system, MESH), table()
    fixed = jax.jit(jax.grad(lambda params: F(T, found.R[1], found.box[1], params)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), gradient, fixed)


@pytest.mark.slow
def test_strains_of_lower_symmetry_and_relaxed_positions():
    """Zinc metal's structure of Lennard-Jones: c/a is free; it is compared with a search on a grid of cells."""
    potential, params, _ = argon()
    system = jm.System.from_ase(bulk("Zn", "hcp", a=1.10, c=1.80)).replace(masses=np.full(2, 100.0))
    potential = LennardJones((30,), 2.1, "force-shifted")
    mesh = monkhorst_pack((2, 2, 1))
    modes = np.stack([np.diag([1.0, 1, 0]), np.diag([0, 0, 1.0])])
    equilibrium = jax.jit(quasiharmonic_fn(potential, system, mesh, strains=modes))
    state = equilibrium(T, P, params)
    F = jax.jit(harmonic_fn(potential, system, mesh))

    def G(x):
        deformation = np.eye(3) + np.tensordot(x, modes, 1)
        return F(T, system.R @ deformation, system.box @ deformation, params) + P * volume(system.box @ deformation)

    x, h = np.asarray(state.strain), 1e-4
    slopes = [(G(x + h * e) - G(x - h * e)) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(slopes, 0, atol=1e-4)  # eV; h^2 of third derivatives of some 1e4
    np.testing.assert_allclose(state.gibbs, G(x), rtol=1e-12)
