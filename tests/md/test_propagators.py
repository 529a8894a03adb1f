"""Integrators on harmonic oscillators, against exact results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax import Array

from jaxmlp import md
from jaxmlp.md.noise import normal
from jaxmlp.units import fs, kB


class Springs(md.Forces):
    """Forces -k R."""

    def __init__(self, k: float = 1.0):
        super().__init__(None, None, None)
        object.__setattr__(self, "k", k)

    def __call__(self, state, atoms, kT=None):
        return state._replace(F=-self.k * state.R, energy=0.5 * self.k * jnp.sum(state.R**2))


def oscillators(ensemble, R, p, *, h, k=1.0, mass=1.0, friction=0.7, tau=1.0, dof=None, seed=0):
    """Return state, atoms, controls and one step for springs k at kT = 1, in units of Å, eV, amu."""
    R, p = jnp.asarray(R, float), jnp.asarray(p, float)
    atoms = md.Atoms(None, None, jnp.full((len(R), 1), mass), jnp.asarray(3.0 * len(R) if dof is None else dof))
    controls = md.Controls(
        *(jnp.asarray(x) for x in (h / fs, 1 / kB, friction * fs, tau / fs))
    )  # the interface's fs and K
    zero = jnp.zeros(())
    state = md.State(R, p, zero, zero, None, None, (), jax.random.key(seed), jnp.int32(0))
    state = ensemble.start(Springs(k)(state, atoms), atoms, controls)

    def step(state: md.State, controls: md.Controls = controls) -> md.State:
        return ensemble.step(state, atoms, controls, Springs(k))

    return state, atoms, controls, step


def nose_hoover(chain: int = 3, order: int = 3) -> md.Ensemble:
    return md.Ensemble("OBABO", md.NoseHoover(chain, order))


def linear_map(ensemble, h, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Return M (2, 2) of one step (x, p) -> M (x, p), and what it adds to each coordinate of 50 atoms, (150, 2)."""
    n = 50

    def of(x: float, p: float) -> Array:
        state, _, _, step = oscillators(ensemble, np.full((n, 3), x), np.full((n, 3), p), h=h, seed=seed)
        out = step(state)
        return np.stack([out.R.ravel(), out.p.ravel()], axis=1)

    added = of(0.0, 0.0)
    M = np.stack([(of(1.0, 0.0) - added)[0], (of(0.0, 1.0) - added)[0]], axis=1)
    return M, added


@pytest.mark.parametrize("h", [0.1, 0.5, 1.5])
def test_verlet_rotates_at_its_own_frequency_and_conserves_its_shadow_energy(h):
    M, added = linear_map(md.Ensemble("BAB"), h)
    omega = 2 / h * np.arcsin(h / 2)
    np.testing.assert_allclose(added, 0.0, atol=0)
    np.testing.assert_allclose(np.trace(M), 2 * np.cos(omega * h), rtol=1e-13)  # eigenvalues exp(+- i omega h)
    shadow = np.diag([1 - h * h / 4, 1.0])  # p^2 + (1 - h^2/4) x^2
    np.testing.assert_allclose(M.T @ shadow @ M, shadow, atol=1e-14)


VARIANCES = {  # PHYSICS.md, section 1: <x^2>, <p^2>, <x p> in multiples of kT
    "BAOAB": lambda h: (1, 1 - h**2 / 4, 0),
    "ABOBA": lambda h: (1, 1 / (1 - h**2 / 4), 0),
    "OBABO": lambda h: (1 / (1 - h**2 / 4), 1, 0),
    "BAOA": lambda h: (1, 1, h / 2),
}


@pytest.mark.parametrize("h", [0.5, 1.0])
@pytest.mark.parametrize("splitting", VARIANCES)
def test_langevin_splittings_have_their_exact_stationary_variances(splitting, h):
    M, added = linear_map(md.Ensemble(splitting, md.Langevin()), h, seed=3)
    key, draws = jax.random.split(jax.random.key(3))[0], []  # one half went into the start
    for _ in range(splitting.count("O")):
        key, draw = jax.random.split(key)
        draws.append(np.asarray(normal(draw, (50, 3), jnp.float64)).ravel())
    # The noise is a fixed combination B of independent unit normals, the same for every coordinate.
    B, *_ = np.linalg.lstsq(np.stack(draws, axis=1), added, rcond=None)
    np.testing.assert_allclose(np.stack(draws, axis=1) @ B, added, atol=1e-13)
    covariance = scipy.linalg.solve_discrete_lyapunov(M, B.T @ B)
    xx, pp, xp = VARIANCES[splitting](h)
    np.testing.assert_allclose(covariance, [[xx, xp], [xp, pp]], atol=1e-12)


def test_kinetic_energy_of_baoab_is_taken_where_it_is_unbiased():
    h, n = 1.0, 20_000
    ensemble = md.Ensemble("BAOAB", md.Langevin())
    noise = np.random.default_rng(1).normal(size=(2, n, 3))
    state, atoms, _, step = oscillators(ensemble, noise[0], noise[1] * np.sqrt(1 - h**2 / 4), h=h)
    out = jax.jit(step)(state)
    error = np.sqrt(2 / (3 * n))  # of the mean square of 3 n normals, relative
    assert abs(ensemble.kinetic(out, atoms) / (1.5 * n) - 1) < 4 * error
    assert abs(md.kinetic_energy(out.p, atoms.mass) / (1.5 * n) - (1 - h**2 / 4)) < 4 * error


def test_heat_closes_the_energy_balance():
    ensemble = md.Ensemble("BAOAB", md.Langevin())
    state, atoms, controls, step = oscillators(ensemble, np.ones((5, 3)), np.zeros((5, 3)), h=0.1, k=0.0)
    end = jax.jit(lambda s: jax.lax.fori_loop(0, 500, lambda _, s: step(s), s))(state)
    assert end.bath.heat > 1.0  # from rest; without springs the thermostat alone does work
    np.testing.assert_allclose(ensemble.conserved(end, atoms, controls), 0.0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 3, 5, 7])
@pytest.mark.parametrize("chain", [1, 3])
def test_nose_hoover_invariant_errors_fall_with_the_square_of_dt(chain, order):
    ensemble = nose_hoover(chain, order)

    def spread(h):
        state, atoms, controls, step = oscillators(ensemble, [[1.0, 0.3, -0.5]], [[0.2, -1.0, 0.7]], h=h)

        def one(state, _):
            state = step(state)
            return state, ensemble.conserved(state, atoms, controls)

        values = jax.jit(lambda s: jax.lax.scan(one, s, length=round(20 / h)))(state)[1]
        return float(np.max(values) - np.min(values))

    ratio = spread(0.08) / spread(0.04)
    assert abs(ratio - 4) < 0.15  # next order: (h omega)^2 / 10 at most


@pytest.mark.parametrize("ensemble", [md.Ensemble("BAB"), nose_hoover()], ids=["Verlet", "Nose-Hoover"])
def test_reversing_time_retraces_the_path(ensemble):
    start, _, controls, step = oscillators(ensemble, [[1.0, 0.3, -0.5]], [[0.2, -1.0, 0.7]], h=0.1)

    @jax.jit
    def steps(state, dt):
        return jax.lax.fori_loop(0, 200, lambda _, s: step(s, controls._replace(dt=dt)), state)

    back = steps(steps(start, controls.dt), -controls.dt)
    np.testing.assert_allclose(back.R, start.R, atol=1e-11)  # rounding of 400 steps, amplified by the chain
    np.testing.assert_allclose(back.p, start.p, atol=1e-11)


@pytest.mark.parametrize(("chain", "ergodic"), [(4, True), (1, False)])
def test_one_oscillator_is_thermal_under_a_chain_but_not_under_one_thermostat(chain, ergodic):
    ensemble = nose_hoover(chain)
    replicas = 200

    def moments(x):
        R = jnp.zeros((1, 3)).at[0, 0].set(x)
        state, _, _, step = oscillators(ensemble, R, jnp.zeros((1, 3)), h=0.2, dof=1.0)

        def one(carry, _):
            state, x2, x4 = carry
            state = step(state)
            y = state.R[0, 0] ** 2
            return (state, x2 + y, x4 + y * y), None

        n = 20_000
        (_, x2, x4), _ = jax.lax.scan(one, (state, 0.0, 0.0), length=n)
        return x2 / n, x4 / n

    # Starts around one point: a sample of the canonical distribution would look thermal under any dynamics.
    x2, x4 = jax.jit(jax.vmap(moments))(jnp.linspace(0.95, 1.05, replicas))
    ratio = np.mean(x4) / np.mean(x2) ** 2
    influence = x4 / np.mean(x2) ** 2 - 2 * ratio * x2 / np.mean(x2)  # of each replica on the ratio
    error = np.std(influence) / np.sqrt(replicas)
    if ergodic:
        assert abs(ratio - 3) < 4 * error
        assert error < 0.02
    else:
        assert abs(ratio - 3) > 0.3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"splitting": "BXB"}, "word of A .*, B "),
        ({"splitting": "BAOAB"}, "word of A .*, B "),
        ({"splitting": "BAB", "thermostat": md.Langevin()}, "O .thermostat."),
        ({"splitting": "BAB", "barostat": md.MTK()}, "G .kick of the cell"),
        ({"splitting": "GBABG", "barostat": md.MTK(), "loops": (2,)}, "cannot be combined with multiple time steps"),
        ({"loops": (0,)}, "1 or more"),
    ],
)
def test_impossible_ensembles_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        md.Ensemble(**arguments)


def test_impossible_chains_and_cells_are_refused():
    with pytest.raises(ValueError, match="at least one link"):
        md.NoseHoover(chain=0)
    with pytest.raises(ValueError, match="1, 3, 5 or 7"):
        md.NoseHoover(order=4)
    with pytest.raises(ValueError, match="isotropic, orthorhombic"):
        md.MTK("cubic")
    with pytest.raises(ValueError, match="Nose-Hoover chain, Langevin or None"):
        md.MTK("isotropic", md.CSVR())
