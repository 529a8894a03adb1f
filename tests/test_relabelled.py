"""A relabelled potential is the potential of a system with other elements."""

import jax
import numpy as np
import pytest
from registry import CASES

import jaxmlp as jm
from jaxmlp import free_energy as fe
from jaxmlp.relabelled import relabelled
from jaxmlp.units import fs, kB

TWO = ("lennard-jones-truncated", "lennard-jones-tail", "nep4", "painn", "qnep-ewald")  # local, not, in steps, charged


def swapped(system: jm.System) -> np.ndarray:
    """The elements with three atoms changed, and all of the second element in one case."""
    numbers = system.numbers.copy()
    a, b = system.species
    numbers[[0, 1, 5]] = np.where(numbers[[0, 1, 5]] == a, b, a)
    return numbers


@pytest.mark.parametrize("name", TWO)
def test_energies_forces_and_parameters_are_those_of_the_other_elements(name):
    case = CASES[name]()
    system, numbers = case.system, swapped(case.system)
    other = system.replace(numbers=numbers)
    potential, p = relabelled(case.potential, case.params, system, numbers)
    energy, expected = jm.energy_fn(potential, system), jm.energy_fn(case.potential, other)
    E, F = jax.value_and_grad(energy)(system.R, system.box, p)
    E0, F0 = jax.value_and_grad(expected)(other.R, other.box, case.params)
    np.testing.assert_allclose(E, E0, rtol=1e-11)
    np.testing.assert_allclose(F, F0, rtol=1e-9, atol=1e-11)
    out = jm.evaluate_fn(potential, system)(system.R, system.box, p)
    np.testing.assert_allclose(out.forces, -F0, rtol=1e-9, atol=1e-11)


def test_an_element_that_disappears_and_one_that_comes():
    """Pure systems: the potential of the new element alone, for a system without it."""
    case = CASES["lennard-jones-truncated"]()
    a, b = case.potential.species
    system = case.system.replace(numbers=np.full(8, a))
    potential, p = relabelled(case.potential, case.params, system, np.full(8, b))
    assert potential.species == (a,)
    E = jm.energy_fn(potential, system)(system.R, system.box, p)
    pure = system.replace(numbers=np.full(8, b))
    np.testing.assert_allclose(E, jm.energy_fn(case.potential, pure)(pure.R, pure.box, case.params), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    case = CASES["lennard-jones-truncated"]()
    with pytest.raises(ValueError, match="one atomic number for each of 8"):
        relabelled(case.potential, case.params, case.system, [18])
    with pytest.raises(ValueError, match="Fe"):
        relabelled(case.potential, case.params, case.system, np.full(8, 26))


@pytest.mark.optimized
@pytest.mark.parametrize("method", ["switch", "integrate"])
def test_alchemy_of_a_dilute_gas_is_its_second_virial_coefficient(method):
    """At a low density F_b - F_a = -3/2 N kT ln(m_b / m_a) + kT N^2 (B_b - B_a) / V, to third virial terms."""
    from jaxmlp.potentials.pair import lennard_jones

    kT, N = 2.0, 27
    potential, params = lennard_jones((18, 36), [1.0, 1.5], [1.0, 1.1], 3.0, truncation="shifted")
    side = np.cbrt(N / 0.02)
    R = (np.array(list(np.ndindex(3, 3, 3))) + 0.5) * side / 3
    system = jm.System(np.full(N, 18), R, side * np.eye(3))
    found = fe.alchemy(
        potential, params, system, np.full(N, 36), temperature=kT / kB, steps=3000, method=method, dt=0.1 / fs,
        friction=0.05 * fs, skin=1.0, **({"windows": 4} if method == "integrate" else {}),
    )  # fmt: skip

    def B(epsilon: float, sigma: float) -> float:
        r = np.linspace(1e-3, 3.0, 30_001)
        u = lambda r: 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)
        return -2 * np.pi * np.trapezoid((np.exp(-(u(r) - u(3.0)) / kT) - 1) * r**2, r)

    exact = kT * N * (N - 1) / system.volume * (B(1.5, 1.1) - B(1.0, 1.0))
    from ase.data import atomic_masses

    momenta = -1.5 * N * kT * np.log(atomic_masses[36] / atomic_masses[18])
    assert found.difference == pytest.approx(found.configurational + momenta, rel=1e-12)
    assert abs(found.configurational - exact) < 3.5 * found.error + 0.1 * abs(exact)  # third virial coefficients
    assert found.error < 0.15 * abs(exact)
