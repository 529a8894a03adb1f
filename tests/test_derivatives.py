"""Hessians, elastic constants, stress and sharded evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import CASES

import jaxmlp as jm
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon


@pytest.fixture(scope="module")
def silicon():
    from ase.build import bulk

    system = jm.System.from_ase(bulk("Si", a=5.4309497804))
    potential, params = stillinger_weber_silicon()
    return system, jm.energy_fn(potential, system), params


@pytest.fixture(scope="module")
def rattled_silicon():
    case = CASES["stillinger-weber"]()
    return case.system, jm.energy_fn(case.potential, case.system), case.params


def test_the_hessian_is_that_of_jax_and_symmetric(rattled_silicon):
    system, energy, params = rattled_silicon
    ours = jax.jit(jm.hessian(energy))(system.R, system.box, params)
    batched = jax.jit(jm.hessian(energy, batch=5))(system.R, system.box, params)
    jaxs = jax.jit(jax.hessian(energy))(system.R, system.box, params)
    np.testing.assert_allclose(ours, jaxs, atol=1e-11)
    np.testing.assert_allclose(batched, jaxs, atol=1e-11)
    np.testing.assert_allclose(ours, ours.transpose(2, 3, 0, 1), atol=1e-11)
    np.testing.assert_allclose(ours.sum(axis=0), 0, atol=1e-10)  # the acoustic sum rule


def test_forces_stress_and_pressure_agree_with_evaluate(rattled_silicon):
    system, energy, params = rattled_silicon
    case = CASES["stillinger-weber"]()
    out = jax.jit(jm.evaluate_fn(case.potential, system))(system.R, system.box, params)
    arguments = (system.R, system.box, params)
    np.testing.assert_allclose(jax.jit(jm.forces(energy))(*arguments), out.forces, atol=1e-11)
    np.testing.assert_allclose(jax.jit(jm.stress(energy))(*arguments), -out.virial / system.volume, atol=1e-12)
    np.testing.assert_allclose(
        jax.jit(jm.pressure(energy))(*arguments), jnp.trace(out.virial) / 3 / system.volume, atol=1e-12
    )


def test_elastic_constants_of_a_primitive_cell_and_their_slope_in_a_parameter(silicon):
    """Cowley's values (PHYSICS.md, section 5), in a two-atom cell; dC/dlambda by differences of second order."""
    system, energy, params = silicon
    elastic = jax.jit(jm.elastic_constants(energy))
    C = elastic(system.R, system.box, params) / jm.units.GPa
    np.testing.assert_allclose([C[0, 0], C[0, 1], C[3, 3]], [151.4245, 76.4221, 56.4493], atol=1e-3)
    clamped = jax.jit(jm.elastic_constants(energy, relaxed=False))(system.R, system.box, params) / jm.units.GPa
    np.testing.assert_allclose(clamped[3, 3], 109.7565, atol=1e-3)

    def c44(scale):
        return elastic(system.R, system.box, params | {"lambda": params["lambda"] * scale})[3, 3]

    exact = jax.jit(jax.jacfwd(c44))(1.0)
    reverse = jax.jit(jax.grad(c44))(1.0)
    h = 1e-4
    np.testing.assert_allclose(exact, (c44(1 + h) - c44(1 - h)) / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(reverse, exact, rtol=1e-9)


SHARDED = """
import jax, numpy as np
import jaxmlp as jm
from registry import CASES
for name in ("stillinger-weber", "lennard-jones-tail", "nep4"):
    case = CASES[name]()
    system = case.system
    out = []
    for devices in (1, 2):
        options = dict(devices=devices, block=3)  # 8 atoms: the last block of each device is padded
        run = jax.jit(jm.evaluate_fn(case.potential, system, **options))
        out.append(run(system.R, system.box, case.params))
        grad = jax.jit(jax.grad(jm.energy_fn(case.potential, system, **options)))
        np.testing.assert_allclose(grad(system.R, system.box, case.params), -out[-1].forces, atol=1e-11)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), *out)
"""


def test_two_devices_give_what_one_gives(on_two_devices):
    on_two_devices(SHARDED)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="xla_force_host_platform_device_count"):
        jm.Execution(devices=jax.device_count() + 1)


@pytest.mark.parametrize("options", [{"precision": "half"}, {"block": 0}])
def test_bad_execution_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        jm.Execution(**options)
