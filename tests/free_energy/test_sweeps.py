"""Temperature and pressure sweeps of systems whose free energies are known in closed form."""

import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.free_energy.ideal_gas import ideal_gas
from jaxmlp.free_energy.sweeps import pressure_sweep, temperature_sweep
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.potentials.external import Free
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
T0, T1 = 3000.0, 6000.0
LANGEVIN = {"dt": 0.1 / fs, "friction": 0.5 * fs}


@pytest.fixture(scope="module")
def crystal() -> jm.System:
    R = np.array(list(np.ndindex(2, 2, 3))) * 2.5
    return jm.System(np.full(12, 18), R, np.diag([5, 5, 7.5]), masses=np.linspace(0.8, 2.0, 12))


def test_reversible_scaling_of_springs(crystal):
    """F / kT of springs: 3/2 (N - 1) ln(1 / T) of positions and 3/2 N ln(1 / T) of momenta."""
    found = temperature_sweep(
        *einstein_crystal(crystal, 1.0), crystal, start=0.7, temperature=T0, to=T1, steps=3000, points=10, **LANGEVIN
    )
    T = np.linspace(T0, T1, 11)
    np.testing.assert_allclose(found.x, T)
    exact = T / T0 * 0.7 - kB * T * (1.5 * 11 + 1.5 * 12) * np.log(T / T0)
    assert (found.error[1:] < 0.01 * abs(exact[-1])).all()
    assert (abs(found.G - exact) < 3.5 * found.error + 1e-9).all()
    # Half a point off the grid, G is interpolated.
    middle = 0.5 * (T[3] + T[4])
    between = middle / T0 * 0.7 - kB * middle * 34.5 * np.log(middle / T0)
    assert abs(found.at(middle) - between) < 4 * found.error[4] + 1e-3 * abs(between)
    with pytest.raises(ValueError, match="the sweep goes from"):
        found.at(T1 + 1)


def gibbs(N: int, T, P):
    """-kT ln int dV (V / Lambda^3)^N / N! exp(-P V / kT) / v0 of the ideal gas; differences do not depend on v0."""
    kT = kB * np.asarray(T)
    momenta = np.array([float(ideal_gas(np.full(N, 18), np.ones(N), 1.0, t)) for t in np.atleast_1d(T)])
    from math import lgamma

    return momenta - kT * (lgamma(N + 1) - (N + 1) * np.log(P / kT))


GAS = {"tau_pressure": 5.0 / fs, "max_dissipation": 1.0, **LANGEVIN}


@pytest.fixture(scope="module")
def gas() -> jm.System:
    rng = np.random.default_rng(0)
    side = np.cbrt(21 * kB * T0 / 0.05)
    return jm.System(np.full(20, 18), rng.uniform(0, side, (20, 3)), side * np.eye(3), masses=np.ones(20))


def test_pressure_sweep_of_the_ideal_gas(gas):
    found = pressure_sweep(
        Free((18,)), {}, gas, start=1.0, temperature=T0, pressure=0.05, to=0.1, steps=2500, points=5, **GAS
    )
    P = np.linspace(0.05, 0.1, 6)
    exact = 1.0 + gibbs(20, T0, P) - gibbs(20, T0, 0.05)
    assert found.error[-1] < 0.03 * (exact[-1] - 1)
    assert (abs(found.G - exact) < 3.5 * found.error + 1e-9).all()
    assert found.volume[0] > 1.5 * found.volume[-1]


def test_temperature_sweep_of_the_ideal_gas_at_constant_pressure(gas):
    """The scaled pressure alone does the work."""
    found = temperature_sweep(
        Free((18,)), {}, gas, start=0.0, temperature=T0, to=T1, pressure=0.05, steps=2500, points=5, **GAS
    )
    exact = gibbs(20, found.x, 0.05) - found.x / T0 * gibbs(20, T0, 0.05)
    assert found.error[-1] < 0.03 * abs(exact[-1])
    assert (abs(found.G - exact) < 3.5 * found.error + 1e-9).all()


def test_sweeps_need_two_temperatures(crystal):
    with pytest.raises(ValueError, match="two different ones"):
        temperature_sweep(*einstein_crystal(crystal, 1.0), crystal, start=0.0, temperature=T0, to=T0, steps=10)
