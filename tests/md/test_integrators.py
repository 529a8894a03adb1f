"""Laws of every ensemble: conserved quantities, derivatives through dynamics, time reversal, vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CLASSICAL, QUANTUM, UNIT, toy

from jaxmlp import md

EVERY = CLASSICAL | QUANTUM


@pytest.mark.parametrize("name", EVERY)
def test_the_error_of_the_conserved_quantity_falls_with_the_square_of_dt(name):
    """Stochastic ensembles too: what they give to the atoms is booked. Their noise differs between time steps, so the
    spread is that of twelve runs together.

    The work of cell rescaling is booked by the trapezoidal rule over strains of the order dt^(1/2), whose errors of the
    order dt^(3/2) have random signs: their sum is of first order.
    """
    ensemble = EVERY[name]

    def spread(dt: float, n: int) -> float:
        system = toy(ensemble, dt=dt * UNIT)
        run = system.steps(n, system.conserved)
        keys = jax.random.split(jax.random.key(3), 12)
        values = jax.jit(jax.vmap(lambda key: run(system.state._replace(key=key))[1]))(keys)
        return float(np.sqrt(np.mean(np.var(values, axis=1))))

    # A fast oscillation of the error has the same amplitude in any long run; what drifts grows with its length.
    wide, narrow = spread(0.05, 600), spread(0.025, 1200)
    lowest, highest = (1.6, 3.0) if "rescaling" in name else (3.0, 5.5)
    assert lowest < wide / narrow < highest, (wide, narrow)
    assert narrow < 0.02  # eV; the energy itself fluctuates by more than an eV


def slope_along(f, x, v, h=1e-4):
    """Central difference of f at the pytree x along v, error O(h^4)."""
    at = lambda h: f(jax.tree.map(lambda a, b: a + h * b, x, v))
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


COSTLY = {  # half a minute each to compile, of the same propagators as the others
    "MTK triclinic", "Langevin piston", "rescaling isotropic", "Berendsen", "Berendsen pressure", "PILE-G", "PIGLET",
    "TRPMD", "CMD", "Takahashi-Imada", "NPT rescaling", "NPT MTK",
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in COSTLY else n for n in EVERY])
def test_derivatives_through_a_hundred_steps_are_finite_differences(name):
    ensemble = EVERY[name]
    system = toy(ensemble, dt=0.02 * UNIT)
    run = md.rollout(system, 100)
    hot = "temperature" in ensemble.needs

    def outcome(x):
        R, a, T = x
        atoms = system.atoms._replace(params=system.atoms.params | {"a": a})
        controls = system.controls._replace(temperature=T) if hot else system.controls
        state, _ = run(system.state._replace(R=R), controls, atoms)
        weight = np.random.default_rng(1).normal(size=state.R.shape)
        return jnp.sum(weight * state.R) + 0.3 * jnp.sum(state.p**2) + jnp.sum(state.box**2)

    T0 = system.controls.temperature if hot else jnp.asarray(1000.0)
    x0 = (system.state.R, system.atoms.params["a"], T0)
    f = jax.jit(jax.value_and_grad(outcome))  # its values serve for differences too: one compilation
    value, slope = f(x0)
    rng = np.random.default_rng(2)
    ways = [
        (jnp.asarray(rng.normal(size=x0[0].shape)), jnp.zeros(()), jnp.zeros(())),
        (jnp.zeros_like(x0[0]), jnp.ones(()), jnp.zeros(())),
        (jnp.zeros_like(x0[0]), jnp.zeros(()), T0),
    ]
    for v in ways[: 3 if hot else 2]:
        along = sum(jnp.vdot(g, way) for g, way in zip(slope, v))
        difference = slope_along(lambda x: f(x)[0], x0, v)
        # Rounding of the value over h, and h^4 of a fifth derivative of order one.
        np.testing.assert_allclose(along, difference, rtol=1e-7, atol=1e-7 * (1 + abs(value)))
    assert np.abs(slope[0]).max() > 1e-3
    assert abs(slope[1]) > 1e-6


def test_reverse_mode_keeps_a_number_of_states_that_grows_as_the_root_of_the_steps():
    system = toy(CLASSICAL["Langevin"])

    def memory(n: int) -> int:
        run = md.rollout(system, n)
        f = jax.jit(jax.grad(lambda R: jnp.sum(run(system.state._replace(R=R))[0].R)))
        return f.lower(system.state.R).compile().memory_analysis().temp_size_in_bytes

    few, many = memory(400), memory(6400)
    assert many < 5 * few  # 4 by the root of 16, and not 16


@pytest.mark.parametrize("name", ["NVE", "Nose-Hoover", "NPH", "MTK isotropic", "MTK triclinic", "RPMD"])
def test_reversing_time_retraces_the_path(name):
    system = toy(EVERY[name])
    there, _ = system.steps(100)()
    back, _ = system.steps(100)(there, system.controls._replace(dt=-system.controls.dt))
    np.testing.assert_allclose(back.R, system.state.R, atol=1e-10)  # rounding, amplified by the chains
    np.testing.assert_allclose(back.p, system.state.p, atol=1e-10)
    np.testing.assert_allclose(back.box, system.state.box, atol=1e-10)


@pytest.mark.parametrize("name", ["CSVR", "MTK triclinic", "rescaling triclinic", "PILE-L", "NPT rescaling"])
def test_vmap_over_replicas_and_temperatures_is_the_loop(name):
    system = toy(EVERY[name])
    temperatures = system.controls.temperature * jnp.asarray([0.5, 1.0, 2.0])
    run = system.steps(20)

    def one(key, T):
        return run(system.state._replace(key=key), system.controls._replace(temperature=T))[0]

    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.vmap(one)(keys, temperatures)
    for k in range(3):
        alone = one(keys[k], temperatures[k])
        np.testing.assert_allclose(together.R[k], alone.R, atol=1e-12)
        np.testing.assert_allclose(together.box[k], alone.box, atol=1e-12)


@pytest.mark.parametrize("name", ["Nose-Hoover", "CSVR", "RPMD", "NPT MTK"])
def test_thermostats_that_act_on_all_momenta_alike_keep_a_total_momentum_of_zero(name):
    """Of forces without an outside: the lattice is switched off."""
    system = toy(EVERY[name])
    atoms = system.atoms._replace(params={"a": jnp.asarray(0.0), "b": jnp.asarray(6.0)})
    state, _ = system.steps(50)(system.dynamics.started(system.state, atoms, system.controls), system.controls, atoms)
    centroid = state.p if state.p.ndim == 2 else state.p.mean(axis=0)
    np.testing.assert_allclose(centroid.sum(axis=0), 0.0, atol=1e-12)
