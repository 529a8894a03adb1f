"""Integration along temperatures and volumes, of systems whose free energies are known in closed form."""

import numpy as np
import pytest

import jaxmlp as jm
import jaxmlp.free_energy as fe
from jaxmlp.free_energy.states import _points
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.potentials.external import Free
from jaxmlp.potentials.uhlenbeck_ford import uhlenbeck_ford
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
T0, T1 = 3000.0, 6000.0
LANGEVIN = {"dt": 0.1 / fs, "friction": 0.5 * fs}


def test_the_weights_integrate_polynomials_up_to_every_point():
    x, w = _points(2.0, 5.0, 4)
    f, integral = lambda x: x**3 - x, lambda x: x**4 / 4 - x**2 / 2
    np.testing.assert_allclose(w @ f(x[1:-1]), integral(x) - integral(2.0), atol=1e-10)
    np.testing.assert_allclose(w[-1] @ x[1:-1] ** 7, (5.0**8 - 2.0**8) / 8)  # Gauss and Legendre to the end
    assert (w[0] == 0).all() or abs(w[0]).max() < 1e-12


def test_springs_along_temperatures():
    R = np.array(list(np.ndindex(2, 2, 3))) * 2.5
    crystal = jm.System(np.full(12, 18), R, np.diag([5, 5, 7.5]), masses=np.linspace(0.8, 2.0, 12))
    found = fe.temperature_integration(
        *einstein_crystal(crystal, 1.0), crystal, start=0.7, temperature=T0, to=T1, steps=10_000, windows=4, **LANGEVIN
    )
    exact = found.x / T0 * 0.7 - kB * found.x * (1.5 * 11 + 1.5 * 12) * np.log(found.x / T0)
    np.testing.assert_allclose(found.x[[0, -1]], [T0, T1])
    np.testing.assert_allclose(found.F[0], 0.7)
    assert (found.error[1:] < 0.01 * abs(exact[-1])).all()
    assert (abs(found.F - exact) < 3.5 * found.error + 2e-3 * kB * T1).all()
    with pytest.raises(ValueError, match="two different ones"):
        fe.temperature_integration(*einstein_crystal(crystal, 1.0), crystal, start=0.0, temperature=T0, to=T0, steps=10)


def test_an_ideal_gas_along_temperatures_at_constant_pressure():
    """G / kT changes by (N + 1) ln(P / kT) and 3/2 N ln T, of volumes and of momenta."""
    N, P = 20, 0.05
    side = np.cbrt(21 * kB * T0 / P)
    R = np.random.default_rng(0).uniform(0, side, (N, 3))
    gas = jm.System(np.full(N, 18), R, side * np.eye(3), masses=np.ones(N))
    found = fe.temperature_integration(
        Free((18,)), {}, gas, start=0.0, temperature=T0, to=T1, steps=10_000, windows=3, pressure=P,
        tau_pressure=5 / fs, **LANGEVIN,
    )  # fmt: skip
    exact = -kB * found.x * (1.5 * N + N + 1) * np.log(found.x / T0)
    assert (found.error[1:] < 0.05 * abs(exact[-1])).all()
    assert (abs(found.F - exact) < 3.5 * found.error + 0.01 * kB * T1).all()


def test_a_soft_fluid_along_volumes():
    """From one density of the Uhlenbeck-Ford tables to another, with the ideal gas."""
    N, T = 64, 1 / kB
    potential, params = uhlenbeck_ford((18,), 1, T, 1.0)
    dense = jm.System(
        np.full(N, 18), (np.array(list(np.ndindex(4, 4, 4))) + 0.5) * 1.8, 7.2 * np.eye(3), masses=np.ones(N)
    )
    F = lambda V: N * float(fe.uhlenbeck_ford_excess(0.5 * np.pi**1.5 * N / V, 1, N)) - N * np.log(V)
    found = fe.volume_integration(
        potential, params, dense, start=F(dense.volume), temperature=T, to=2 * dense.volume, steps=1500, windows=3,
        dt=0.05 / fs, friction=0.5 * fs, skin=0.5,
    )  # fmt: skip
    exact = np.array([F(V) for V in found.x])
    assert (np.diff(found.x) > 0).all()
    assert (found.error[1:] < 0.02 * abs(exact[-1] - exact[0])).all()
    assert (abs(found.F - exact) < 3.5 * found.error + 5e-3 * N * 0.1).all()
    with pytest.raises(ValueError, match="not that of the system"):
        fe.volume_integration(potential, params, dense, start=0.0, temperature=T, to=dense.volume, steps=10)
