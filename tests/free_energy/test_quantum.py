"""From classical to quantum nuclei by integration over masses: the oscillator."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import free_energy as fe
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.external import Polynomial
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
N = 24


def oscillators(beta: float):
    """N particles of hbar omega = 0.2 eV, and the temperature at which beta hbar omega is so much."""
    energy = 0.2
    k = (energy / HBAR) ** 2  # of mass 1
    c = np.zeros((3, 3))
    c[:, 2] = 0.5 * k
    system = jm.System(np.ones(N, int), np.zeros((N, 3)), masses=np.ones(N))
    return Polynomial((1,)), {"c": jnp.asarray(c)}, system, energy / (kB * beta), energy


@pytest.mark.parametrize(("beads", "exact"), [
    (4, 0.47074554 - 0.36620410),
    pytest.param(32, 0.48277484 - 0.36620410, marks=pytest.mark.slow),
    pytest.param(128, 0.11677284, marks=pytest.mark.slow),  # P = 128 lacks 1.3e-5
])  # fmt: skip
def test_the_quantum_free_energy_of_oscillators(beads, exact):
    """F_P - F_c at beta hbar omega = 3, in units of hbar omega, for as many beads; 0.11677284 of all."""
    potential, params, system, T, unit = oscillators(3.0)
    period = 2 * np.pi / (unit / HBAR) / fs
    found = fe.quantum(
        potential, params, system, temperature=T, beads=beads, steps=4000, windows=4, dt=period / 20, tau=period / 4
    )
    value, error = found.difference / (3 * N * unit), found.error / (3 * N * unit)
    assert error < 0.02 * exact
    # Four points of Gauss and Legendre: 1e-5 of this integrand.
    assert abs(value - exact) < 3.5 * error + 2e-5
    assert (np.diff(found.kinetic) > 0).all()  # the lighter, the more quantum


def test_windows_are_checked():
    potential, params, system, T, _ = oscillators(3.0)
    with pytest.raises(ValueError, match="windows"):
        fe.quantum(potential, params, system, temperature=T, beads=4, steps=10, windows=0)
