"""The Silvera-Goldman potential against a second evaluation, in atomic units with numpy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import jaxmlp as jm
from jaxmlp.derivatives import stress
from jaxmlp.potentials.silvera_goldman import MOLECULE, SilveraGoldmanTail, silvera_goldman
from jaxmlp.units import bohr, hartree, kB


def atomic(r):
    """phi in hartree for r in bohr: PHYSICS.md, section 2, as i-PI has it."""
    f = np.exp(-((8.32 / r - 1) ** 2)) if r < 8.32 else 1.0
    repulsion = np.exp(1.713 - 1.5671 * r - 0.00993 * r**2)
    return repulsion - (12.14 / r**6 + 215.2 / r**8 + 4813.9 / r**10) * f + 143.1 / r**9 * f


@pytest.fixture(scope="module")
def phi():
    """phi and its first two derivatives, of one distance."""
    potential, params = silvera_goldman(12.0)
    pair = jm.System([1, 1], [[0, 0, 0], [3.0, 0, 0]], masses=[MOLECULE] * 2)
    energy = jm.energy_fn(potential, pair, skin=1.0)
    of = lambda r: energy(jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * r, None, params)
    return jax.jit(jax.vmap(lambda r: (of(r), jax.grad(of)(r), jax.grad(jax.grad(of))(r))))


def test_the_formula_in_atomic_units(phi):
    r = np.array([2.0, 2.5, 3.0, 3.45, 4.0, 4.4, 4.41, 6.0, 9.0])
    expected = np.array([atomic(x) for x in r / bohr]) * hartree
    np.testing.assert_allclose(phi(r)[0], expected, rtol=1e-11)  # constants have 12 digits


def test_the_minimum(phi):
    """-31.763 K at 3.45093 Å, by bounded minimisation of `atomic` (scipy); without C9 it is -33.80 K at 3.42 Å."""
    r = 6.521311507 * bohr
    energy, slope, curvature = (float(x[0]) for x in phi(np.array([r])))
    assert energy / kB == pytest.approx(-31.763413, abs=1e-5)
    assert abs(slope / curvature) < 1e-7  # distance to the minimum: half the digits of the energy
    assert curvature > 0


def test_the_attraction_is_switched_smoothly(phi):
    """f and f' are continuous at reach = 8.32 bohr; f'' jumps by 2 / reach^2, with it phi'' by 2 C(r) / reach^2."""
    reach = 8.32 * bohr
    below, above = (np.array([float(x[0]) for x in phi(np.array([reach + d]))]) for d in (-1e-9, 1e-9))
    np.testing.assert_allclose(below[:2], above[:2], atol=1e-11)
    a = 12.14 / 8.32**6 + 215.2 / 8.32**8 - 143.1 / 8.32**9 + 4813.9 / 8.32**10
    assert below[2] - above[2] == pytest.approx(2 * a * hartree / reach**2, rel=1e-5)


def test_the_tail_of_energy_and_pressure():
    """u = 2 pi rho int phi r^2 dr and P = -(2 pi / 3) rho^2 int phi' r^3 dr from rc, by quadrature in atomic units."""
    cutoff, a = 8.9, 17.85
    system = jm.System([1] * 3, np.eye(3), a * np.eye(3), masses=[MOLECULE] * 3)
    params = silvera_goldman(cutoff)[1]
    energy = jax.jit(jm.energy_fn(SilveraGoldmanTail((1,), cutoff), system))
    density, rc = 3 / a**3, cutoff / bohr
    integral = quad(lambda r: atomic(r) * r**2, rc, np.inf, epsrel=1e-12, epsabs=0)[0] * hartree * bohr**3
    tail = 2 * np.pi * density * integral
    np.testing.assert_allclose(energy(system.R, system.box, params), 3 * tail, rtol=5e-7)  # the repulsion left out
    moment = integral + atomic(rc) * hartree * cutoff**3 / 3  # -int phi' r^3 dr / 3, by parts
    pressure = -jnp.trace(jax.jit(stress(energy))(system.R, system.box, params)) / 3
    np.testing.assert_allclose(pressure, 2 * np.pi * density**2 * moment, rtol=3e-6)  # of which the pressure has more


def test_the_tail_wants_a_plain_long_cutoff():
    with pytest.raises(ValueError, match="6 Å or more"):
        silvera_goldman(5.0, tail=True)
    with pytest.raises(ValueError, match="truncated"):
        silvera_goldman(8.0, truncation="shifted", tail=True)
