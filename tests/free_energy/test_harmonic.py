"""Harmonic free energies against closed forms, differences, finite cells and independently computed numbers."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp import units
from jaxmlp.free_energy.harmonic import (
    harmonic,
    harmonic_fn,
    mean_square_displacements,
    mode_free_energy,
    spectral_trace,
    thermodynamics,
    vibrational_free_energy,
)
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.pair import LennardJones
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.properties import GAMMA, force_constants_fn, frequencies, monkhorst_pack

KELVIN = 1 / units.kB  # of a reduced temperature kT/epsilon = 1


@cache
def silicon():
    potential, params = stillinger_weber_silicon()
    system = jm.System.from_ase(bulk("Si", a=5.43095)).replace(masses=np.full(2, 28.0855))
    return potential, params, system


@cache
def argon(scale=1.0):
    """Lennard-Jones in its own units, truncated, at the lattice constant of zero pressure."""
    params = {"epsilon": jnp.ones((1, 1)), "sigma": jnp.ones((1, 1))}
    system = jm.System.from_ase(bulk("Ar", "fcc", a=scale * 1.5496034241)).replace(masses=np.ones(1))
    return LennardJones((18,), 2.5), params, system


@cache
def phi_of(case):
    potential, params, system = case()
    return jax.jit(force_constants_fn(potential, system, headroom=0.0))(system.R, system.box, params)


def test_silicon_has_the_numbers_of_the_table():
    """phonopy, 20^3 wave vectors off Gamma. Its displacements change omega by 9e-6, and F by 3 kT times that."""
    mesh = monkhorst_pack(20)
    potential, params, system = silicon()
    quantum = harmonic(potential, params, system, [0.0, 300.0, 900.0, 1500.0], mesh)
    static = 2 * -4.3366
    F = (quantum.free_energy[1:] - static) / 2
    np.testing.assert_allclose(F, [0.0493775, -0.1397953, -0.4355782], atol=4e-6)
    classical = jax.jit(partial(vibrational_free_energy, phi_of(silicon), mesh, quantum=False))
    F = np.array([classical(T) / 2 for T in (300.0, 900.0, 1500.0)])
    np.testing.assert_allclose(F, [0.0371973, -0.1440202, -0.4381218], atol=4e-6)
    joule = 96485.33212  # J/mol
    assert quantum.free_energy[0] - static == pytest.approx(13653.77 / joule, abs=0.01 / joule)
    assert quantum.entropy[1] * joule == pytest.approx(33.13584, abs=1e-4)
    assert quantum.heat_capacity[1] * joule == pytest.approx(37.27939, abs=1e-4)
    np.testing.assert_array_equal([quantum.entropy[0], quantum.heat_capacity[0]], 0)
    for T, U in ((0.0, 0.00210026), (300.0, 0.00518933)):
        square = mean_square_displacements(phi_of(silicon), mesh, T)
        np.testing.assert_allclose(np.einsum("iaa->ia", square), U, atol=1e-8)  # digits of the table


def test_lennard_jones_has_the_numbers_of_the_table():
    potential, params, system = argon()
    mesh = monkhorst_pack(24)
    nu = frequencies(phi_of(argon), mesh.q)
    logarithms = mesh.weights @ jnp.sum(jnp.log(nu * units.THz), axis=1)
    np.testing.assert_allclose(logarithms, 8.4786776, atol=1e-7)
    F = harmonic(potential, params, system, [0.05 * KELVIN], mesh, quantum=False).free_energy
    np.testing.assert_allclose(F - 3 * 0.05 * np.log(HBAR), -7.226327, atol=1e-6)  # the table has hbar = 1


def test_high_temperatures_are_classical():
    """F_q - F_c = sum (hbar omega)^2 / 24 kT - (hbar omega)^4 / 2880 (kT)^3 + ..., of ln(2 sinh(x/2) / x)."""
    mesh, T = monkhorst_pack(4), 3000.0
    phi = phi_of(silicon)
    quantum, classical = (vibrational_free_energy(phi, mesh, T, quantum=q) for q in (True, False))
    x = np.asarray(HBAR * units.THz * frequencies(phi, mesh.q) / (units.kB * T))
    expected = units.kB * T * np.sum(mesh.weights[:, None] * (x**2 / 24 - x**4 / 2880))
    np.testing.assert_allclose(quantum - classical, expected, rtol=1e-5)  # the next term, x^4 / 7560, with x < 0.3


def test_an_oscillator():
    square, T = 0.7, 200.0
    x = HBAR * np.sqrt(square) / (units.kB * T)
    F = lambda T: mode_free_energy(square, T)
    assert F(T) == pytest.approx(units.kB * T * np.log(2 * np.sinh(x / 2)), rel=1e-14)
    energy = 0.5 * units.kB * T * x / np.tanh(x / 2)
    assert F(T) - T * jax.grad(F)(T) == pytest.approx(energy, rel=1e-13)
    assert F(0.0) == 0.5 * HBAR * np.sqrt(square)
    assert jax.grad(F)(0.0) == 0
    assert np.isnan(mode_free_energy(-square, T))


def levels(kind):
    w = {"degenerate": [1.0, 2.0, 2.0, 2.0], "near": [1.0, 2.0, 2.0 + 1e-7, 2.0 + 1e-3], "apart": [1, 2, 3, 4]}[kind]
    rng = np.random.default_rng(2)
    hermitian = lambda: (lambda A: A + A.conj().T)(rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))
    V = np.linalg.eigh(hermitian())[1]
    return jnp.asarray(V * np.array(w) @ V.conj().T), jnp.asarray(0.1 * hermitian()), jnp.asarray(0.05 * hermitian())


@jax.jit
def derivatives_of_traces(D, A, B):
    """Those of T tr ln D(x) by several modes of differentiation, and by det D, where JAX solves equations."""
    path = lambda x: D + x.astype(D.dtype) * A + (x * x).astype(D.dtype) * B
    trace = lambda x, T: spectral_trace(lambda w, T: T * jnp.log(w), path(x), T, order=3)
    determinant = lambda x, T: T * jnp.linalg.slogdet(path(x))[1]
    forward = lambda f: lambda x, T: jax.jvp(lambda x: f(x, T), (x,), (jnp.ones_like(x),))[1]
    one, two = forward(determinant), forward(forward(determinant))
    pairs = {
        "forward": (forward(trace), one),
        "reverse": (jax.grad(trace), one),
        "reverse by T": (jax.grad(jax.grad(trace), 1), lambda x, T: one(x, T) / T),
        "forward of reverse": (forward(jax.grad(trace)), two),
        "reverse of reverse": (jax.grad(jax.grad(trace)), two),
        "third": (forward(jax.grad(forward(trace))), forward(two)),
    }
    at = jnp.asarray(0.0, float), jnp.asarray(1.3, float)
    return {name: (f(*at), g(*at)) for name, (f, g) in pairs.items()}, forward(pairs["third"][0])(*at)


@pytest.mark.parametrize("kind", ["degenerate", "near", "apart"])
def test_derivatives_of_a_trace_are_right_where_eigenvalues_are_equal(kind):
    pairs, fourth = derivatives_of_traces(*levels(kind))
    for name, (ours, theirs) in pairs.items():
        # Divided differences lose three digits with each order where eigenvalues differ by 1e-3 of them.
        np.testing.assert_allclose(ours, theirs, rtol=1e-8 if name == "third" else 1e-11, err_msg=name)
    assert np.isnan(fourth)  # not a wrong number


def test_derivatives_of_the_free_energy_are_differences():
    """By volume, temperature and the potential's parameters, and by two of them; of a crystal with degenerate modes."""
    potential, params, system = argon()
    F = harmonic_fn(potential, system, monkhorst_pack(3))

    def at(z):  # stretch, temperature, and sigma in units of their present values
        x, T, sigma = z
        return F(0.3 * KELVIN * T, x * system.R, x * system.box, params | {"sigma": params["sigma"] * sigma})

    z, steps = jnp.ones(3), 1e-4 * np.eye(3)
    both = jax.jit(lambda z: jax.jvp(jax.value_and_grad(at), (z,), (jnp.asarray(steps[0] / 1e-4),)))
    (value, gradient), (_, second) = both(z)
    up, down = ([both(z + sign * step)[0] for step in steps] for sign in (1, -1))
    # h^2 / 6 of the next derivative, which is some 20^2 times as large for r^-12
    np.testing.assert_allclose(gradient, [(a[0] - b[0]) / 2e-4 for a, b in zip(up, down)], rtol=1e-5)
    np.testing.assert_allclose(second, (up[0][1] - down[0][1]) / 2e-4, rtol=1e-5)
    assert np.isfinite(value)


def test_a_finite_cell_has_the_waves_that_fit_into_it():
    """Of 2^3 primitive cells: 3 N - 3 vibrations, by the Hessian of the cell and by wave vectors of the crystal."""
    potential, params, small = argon()
    big = jm.System.from_ase(small.to_ase().repeat(2)).replace(masses=np.ones(8))
    T = 0.1 * KELVIN
    F = jax.jit(harmonic_fn(potential, big, GAMMA))(T, big.R, big.box, params)
    waves = harmonic(potential, params, small, [T], monkhorst_pack(2, gamma=True)).free_energy
    np.testing.assert_allclose(F, 8 * waves[0], rtol=1e-12)
    state = harmonic(potential, params, big, [T], GAMMA, quantum=False)
    assert state.energy[0] - 8 * -8.0996207927 == pytest.approx((3 * 8 - 3) * 0.1, rel=1e-8)  # digits of the table
    assert state.heat_capacity[0] == pytest.approx((3 * 8 - 3) * units.kB, rel=1e-10)


def test_both_routes_to_entropy_and_heat_capacity_agree():
    potential, params, system = argon()
    mesh = monkhorst_pack(3, gamma=True)
    table = harmonic(potential, params, system, [0.2 * KELVIN], mesh)
    F = harmonic_fn(potential, system, mesh)
    one = jax.jit(thermodynamics(F))(0.2 * KELVIN, system.R, system.box, params)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10), tuple(one), tuple(x[0] for x in table))
    assert table.heat_capacity[0] < 3 * units.kB


def test_an_unstable_crystal_is_named():
    potential, params, system = argon(1.25)  # far beyond the largest stretch it bears
    with pytest.raises(ValueError, match=r"at q = \(.*\) the frequency of mode 0 is .*i THz, and .* of 14 wave"):
        harmonic(potential, params, system, [100.0], monkhorst_pack(3))
    F = harmonic_fn(potential, system, monkhorst_pack(3))
    assert np.isnan(jax.jit(F)(100.0, system.R, system.box, params))
    with pytest.raises(ValueError, match="temperatures are in K and must be positive; got"):
        harmonic(potential, params, system, [0.0], GAMMA, quantum=False)
