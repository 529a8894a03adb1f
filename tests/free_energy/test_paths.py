"""Free energies along paths whose ends are known: Einstein crystals and oscillators, by all methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import md
from jaxmlp.free_energy.integration import integrate, quadrature
from jaxmlp.free_energy.paths import path, point
from jaxmlp.free_energy.switching import DissipationError, switch
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.units import fs, kB

KT = 0.5
CONDITIONS = {"temperature": KT / kB, "dt": 0.1 / fs, "friction": 0.5 * fs}
SOFT, HARD = 1.0, 6.0


@pytest.fixture(scope="module")
def crystal() -> jm.System:
    rng = np.random.default_rng(0)
    R = np.array(list(np.ndindex(2, 2, 3))) * 2.5 + 0.1 * rng.normal(size=(12, 3))
    return jm.System(np.full(12, 18), R, np.diag([5, 5, 7.5]), masses=rng.uniform(0.8, 2.0, 12))


@pytest.fixture(scope="module")
def exact() -> float:
    """Springs hold all but the centre: F_b - F_a = kT (3 N - 3) / 2 ln(k_b / k_a)."""
    return KT * 1.5 * 11 * np.log(HARD / SOFT)


def weighted(crystal, ramp=md.SmoothRamp):
    return path(*einstein_crystal(crystal, SOFT), *einstein_crystal(crystal, HARD), ramp)


def stiffening(crystal):
    """The same ends, by springs that change themselves."""
    potential, params = einstein_crystal(crystal, SOFT)
    return potential, params | {"k": md.Ramp(SOFT * jnp.ones(12), HARD * jnp.ones(12), 1)}


PATHS = {"weights": weighted, "parameters": stiffening}


@pytest.mark.parametrize("name", PATHS)
def test_integration_and_mbar_find_the_free_energy_of_springs(crystal, exact, name):
    potential, params = PATHS[name](crystal)
    found = integrate(potential, params, crystal, windows=5, steps=4000, log_every=20, **CONDITIONS)
    # Gauss and Legendre's 5 points: 3e-4 of int dx / (SOFT + x (HARD - SOFT)), and 2e-3 of a smooth ramp's; BAOAB has
    # no error of positions in a harmonic well.
    quad = {"parameters": 1e-3, "weights": 5e-3}[name] * exact
    assert found.error < 0.03 * exact
    assert abs(found.difference - exact) < 3.5 * found.error + quad
    mbar = found.mbar
    assert mbar.error < 0.03 * exact
    assert abs(mbar.difference - exact) < 3.5 * mbar.error


@pytest.mark.parametrize("name", PATHS)
def test_switching_finds_the_free_energy_of_springs_with_an_honest_error(crystal, exact, name):
    potential, params = PATHS[name](crystal)
    found = switch(potential, params, crystal, steps=2000, repeats=8, **CONDITIONS)
    assert 0 < found.dissipation < 0.1 * 12 * KT
    assert found.error < 0.03 * exact
    assert abs(found.difference - exact) < 3.5 * found.error
    # Linear response: a work has the variance 2 kT Q.
    assert 0.3 < np.var(found.forward[-1]) / (2 * KT * found.dissipation) < 3
    bar = found.bar
    assert abs(bar.difference - exact) < 3.5 * bar.error


def test_slopes_are_derivatives_of_energies(crystal):
    """<dE/dx> and E at all windows, by weights and by whole evaluations, of the same samples."""
    soft, hard = 0.5, 1.5
    by_weights = path(*einstein_crystal(crystal, soft), *einstein_crystal(crystal, hard), md.Ramp)
    potential, params = einstein_crystal(crystal, soft)
    by_energies = potential, params | {"k": md.Ramp(soft * jnp.ones(12), hard * jnp.ones(12), 1)}
    a, b = (
        integrate(*p, crystal, windows=2, steps=200, equilibration=100, log_every=10, **CONDITIONS)
        for p in (by_weights, by_energies)
    )
    np.testing.assert_allclose(a.energies, b.energies, rtol=1e-8)
    np.testing.assert_allclose(a.slope, b.slope, rtol=1e-8)
    # E is linear in x on both paths.
    np.testing.assert_allclose(a.slope, (a.energies[:, :, -1] - a.energies[:, :, 0]).mean(axis=1), rtol=1e-8)


def test_windows_that_swap_their_configurations_agree(crystal, exact):
    found = integrate(
        *weighted(crystal, md.Ramp), crystal, windows=5, steps=4000, log_every=20, exchange_every=50, **CONDITIONS
    )
    assert abs(found.difference - exact) < 3.5 * found.error + 1e-3 * exact
    accepted = np.asarray(found.simulation.state.swaps.accepted) / np.asarray(found.simulation.state.swaps.tried)
    assert (accepted > 0.1).all()


def test_a_switch_that_is_too_fast_is_refused_with_its_result(crystal):
    with pytest.raises(DissipationError, match="steps") as error:
        switch(*weighted(crystal), crystal, steps=20, equilibration=100, **CONDITIONS)
    assert error.value.result.dissipation > 0.1 * 12 * KT


@pytest.mark.parametrize(("wrong", "match"), [
    ({"steps": 0}, "1 or more"), ({"steps": 10, "repeats": 0}, "1 or more"),
    ({"steps": 10, "equilibration": 0}, "at least 1"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(crystal, wrong, match):
    with pytest.raises(ValueError, match=match):
        switch(*weighted(crystal), crystal, **CONDITIONS, **wrong)


def test_paths_and_quadratures_are_checked(crystal):
    potential, params = einstein_crystal(crystal, SOFT)
    with pytest.raises(ValueError, match="needs a ramp"):
        switch(potential, params, crystal, steps=10, **CONDITIONS)
    with pytest.raises(ValueError, match="go from 0 to 1"):
        switch(potential, params | {"k": md.Ramp(1.0, 2.0, 10)}, crystal, steps=10, **CONDITIONS)
    for windows in (0, [0.0, 0.5], [0.0, 0.7, 0.3, 1.0]):
        with pytest.raises(ValueError, match="windows is a number"):
            quadrature(windows)
    x, g = quadrature([0.0, 0.2, 1.0])
    assert g @ (3 * x + 1) == pytest.approx(2.5)
    x, g = quadrature(4)
    assert g @ x**7 == pytest.approx(1 / 8)
    halfway = point(weighted(crystal, md.Ramp)[1], 0.25)
    assert float(halfway["x"]) == 0.25
    jax.block_until_ready(halfway)
