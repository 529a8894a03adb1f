"""Derivatives of free energies by parameters, from one run, against those of closed forms and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import free_energy as fe
from jaxmlp import md
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.potentials.external import Polynomial
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
KT = 0.2
LANGEVIN = {"temperature": KT / kB, "dt": 0.2 / fs, "friction": 0.5 * fs}


@pytest.fixture(scope="module")
def well():
    """V = h (x^2 - 4)^2 with h = 1/16 along x, springs along y and z, 16 particles that do not see each other."""
    c = np.zeros((3, 5))
    c[0, [0, 2, 4]] = np.array([16.0, -8.0, 1.0]) / 16
    c[1:, 2] = 0.5
    rng = np.random.default_rng(0)
    system = jm.System(np.ones(16, int), rng.normal(size=(16, 3)) * [0.1, 0.1, 0.1] + [2.0, 0, 0], masses=np.ones(16))
    potential, params = Polynomial((1,)), {"c": jnp.asarray(c)}
    sim = md.nvt_langevin(potential, params, system, **LANGEVIN)
    sim, _ = fe.samples(sim, 500, 100)
    _, seen = fe.samples(sim, 20_000, 40)
    return potential, params, system, seen


def exact(c: np.ndarray) -> float:
    """F of 16 particles, of positions: -kT ln int exp(-V / kT), on x > 0, where they stay."""
    x = np.linspace(0, 6, 60_001)
    y = np.linspace(-8, 8, 60_001)
    V = lambda x, c: sum(a * x**n for n, a in enumerate(c))
    return -16 * KT * sum(np.log(np.trapezoid(np.exp(-V(s, c[d]) / KT), s)) for d, s in ((0, x), (1, y), (2, y)))


def test_the_gradient_is_that_of_the_free_energy(well):
    """Finite differences of F by quadrature, for every coefficient that plays a role."""
    potential, params, system, seen = well
    mean, error = fe.gradient(potential, params, system, seen)
    c = np.asarray(params["c"])
    for d, n in ((0, 2), (0, 4), (1, 2), (2, 2)):
        step = np.zeros_like(c)
        step[d, n] = 1e-4
        slope = (exact(c + step) - exact(c - step)) / 2e-4
        assert error["c"][d, n] < 0.05 * abs(slope)
        assert abs(mean["c"][d, n] - slope) < 3.5 * error["c"][d, n]


def test_a_free_energy_near_the_samples_is_a_differentiable_loss(well):
    potential, params, system, seen = well
    f = jax.jit(fe.free_energy_fn(potential, params, system, seen))
    assert float(f(params).difference) == pytest.approx(0, abs=1e-12)
    mean, error = fe.gradient(potential, params, system, seen)
    slope = jax.grad(lambda p: f(p).difference)(params)
    np.testing.assert_allclose(slope["c"], mean["c"], rtol=1e-9, atol=1e-12)
    c = np.asarray(params["c"])
    stiffer = c * np.array([[1.0], [1.02], [1.0]])
    found = f({"c": jnp.asarray(stiffer)})
    change = exact(stiffer) - exact(c)
    assert float(found.effective) > 0.9 * len(seen.R)
    assert abs(float(found.difference) - change) < 3.5 * 0.01 * float(error["c"][1, 2]) + 0.02 * change
    # Far away nothing is known, and the effective number of samples says so.
    assert float(f({"c": jnp.asarray(3 * c)}).effective) < 0.1 * len(seen.R)
    # Its gradient there is that of the reweighted ensemble.
    x, h = {"c": jnp.asarray(stiffer)}, 1e-5
    up, down = (f({"c": x["c"].at[1, 2].add(s * h)}).difference for s in (1, -1))
    slope = jax.grad(lambda p: f(p).difference)(x)["c"][1, 2]
    assert float(slope) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)


def test_gradients_of_samples_at_constant_pressure_keep_their_boxes():
    R = np.array(list(np.ndindex(2, 2, 2))) * 2.5
    crystal = jm.System(np.full(8, 18), R, np.eye(3) * 5.0, masses=np.ones(8))
    potential, params = einstein_crystal(crystal, 2.0)
    sim = md.npt_langevin(potential, params, crystal, pressure=0.05, tau_pressure=30.0, **LANGEVIN)
    _, seen = fe.samples(sim, 3000, 30)
    assert seen.box.shape == (100, 3, 3)
    assert np.ptp(np.linalg.det(seen.box)) > 0
    assert seen.kT == pytest.approx(KT)
    mean, _ = fe.gradient(potential, params, crystal, seen)
    E = jax.vmap(jm.energy_fn(potential, crystal), (0, 0, None))(seen.R, seen.box, params)
    assert float(jnp.sum(mean["k"] * params["k"])) == pytest.approx(float(E.mean()), rel=1e-9)  # linear in k


def test_samples_need_a_thermostat(well):
    potential, params, system, _ = well
    with pytest.raises(ValueError, match="thermostat"):
        fe.samples(md.nve(potential, params, system), 10, 1)
