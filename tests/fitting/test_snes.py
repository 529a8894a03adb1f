"""The evolution strategy: its update equations on functions with known minima, and on small potentials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.fitting.accuracy import accuracy, predict_structures
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.snes.snes import Search, evolved, train_snes, utilities
from jaxmlp.fitting.teacher import label
from jaxmlp.fitting.training.train import TrainingFailed
from jaxmlp.fitting.training.trainable import Trainable
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.pair import LennardJones
from jaxmlp.system import System

LJ = LennardJones((18,), 6.0, "shifted")
TRUE = {"epsilon": jnp.array([[0.0103]]), "sigma": jnp.array([[3.4]])}
START = {"epsilon": jnp.array([[0.02]]), "sigma": jnp.array([[3.3]])}
OPTIONS = {"population": 8, "sigma0": 0.03, "lambda_1": 0.0, "lambda_2": 0.0, "every": 5, "checkpoint_every": 5}


def crystals(count=3, seed=0, numbers=(18,) * 4):
    """Distorted cubic cells of four atoms."""
    rng = np.random.default_rng(seed)
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    for a in np.linspace(5.1, 5.5, count):
        yield System(np.array(numbers), a * sites + 0.1 * rng.normal(size=(4, 3)), a * np.eye(3))


@pytest.fixture(scope="module")
def argon() -> list[Structure]:
    return label(list(crystals()), LJ, TRUE)


def search_for(minimum, loss, generations, population=30):
    """Minimise a function of a vector (D,)."""
    d = len(minimum)
    search = Search(jnp.zeros(d), jnp.full(d, 0.5))

    def one(search, key):
        s = jax.random.normal(key, (population, d))
        return evolved(search, s, jax.vmap(loss)(search.mean + search.sigma * s)), search.sigma

    return jax.lax.scan(one, search, jax.random.split(jax.random.key(1), generations))[0]


def test_the_first_steps_follow_the_size_of_the_parameters(argon):
    """A tenth of the smaller of two parameters, but for what one generation changes; both have the same."""
    options = OPTIONS | {"sigma0": None, "every": 1, "checkpoint_every": 1, "generations": 1}
    sigma = np.asarray(train_snes(LJ, START, argon, **options).sigma)
    rate = (3 + np.log(2)) / (10 * 2**0.5)
    assert (np.abs(np.log(sigma / 0.002)) < 3 * rate).all()


def test_utilities_are_those_of_the_paper():
    # P = 4: ln 3 - ln k for k = 1, 2, then 0.
    raw = np.array([np.log(3), np.log(3 / 2), 0, 0])
    np.testing.assert_allclose(utilities(4), raw / raw.sum() - 0.25, rtol=1e-14)
    for population in (2, 7, 50):
        u = np.asarray(utilities(population))
        assert (np.diff(u) <= 0).all()
        np.testing.assert_allclose(u.sum(), 0, atol=1e-14)


def test_one_update_is_the_written_formula():
    rng = np.random.default_rng(0)
    s, losses = rng.normal(size=(4, 3)), np.array([0.3, 0.1, 0.4, 0.2])
    m, sigma = rng.normal(size=3), rng.uniform(0.5, 1, 3)
    u = np.asarray(utilities(4))[[2, 0, 3, 1]]
    new = evolved(Search(jnp.asarray(m), jnp.asarray(sigma)), jnp.asarray(s), jnp.asarray(losses))
    np.testing.assert_allclose(new.mean, m + sigma * (u @ s), rtol=1e-13)
    rate = (3 + np.log(3)) / (5 * np.sqrt(3)) / 2
    np.testing.assert_allclose(new.sigma, sigma * np.exp(rate * (u @ (s**2 - 1))), rtol=1e-13)


def test_the_order_of_the_population_does_not_matter():
    rng = np.random.default_rng(2)
    s, losses = rng.normal(size=(20, 5)), rng.normal(size=20)
    search = Search(jnp.zeros(5), jnp.ones(5))
    order = rng.permutation(20)
    for a, b in zip(evolved(search, jnp.asarray(s), jnp.asarray(losses)),
                    evolved(search, jnp.asarray(s[order]), jnp.asarray(losses[order]))):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_only_ranks_count_and_what_is_no_number_is_last():
    rng = np.random.default_rng(3)
    s, losses = jnp.asarray(rng.normal(size=(9, 2))), jnp.asarray(rng.uniform(1, 2, 9)).at[4].set(jnp.nan)
    search = Search(jnp.zeros(2), jnp.ones(2))
    for other in (losses**3, jnp.where(jnp.isnan(losses), 100.0, losses)):
        for a, b in zip(evolved(search, s, losses), evolved(search, s, other)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("condition", [1.0, 1e4])
def test_a_quadratic_function_is_minimised(condition):
    minimum = jnp.array([1.0, -2.0, 0.5, 3.0])
    scales = jnp.logspace(0, np.log10(condition), 4)
    found = search_for(minimum, lambda z: jnp.sum(scales * (z - minimum) ** 2), 400)
    # sigma adapts to the scales of the axes, so that each converges: linearly, by a factor in every generation.
    np.testing.assert_allclose(found.mean, minimum, atol=1e-6)
    assert (found.sigma < 1e-6).all()


def test_lennard_jones_is_found(argon):
    held = label(list(crystals(2, seed=5)), LJ, TRUE)
    out = train_snes(LJ, START, argon, held, generations=120, **OPTIONS)
    assert out.history[-1]["loss"] < 1e-4 * out.history[0]["loss"]
    for name, value in TRUE.items():
        np.testing.assert_allclose(out.params[name], value, rtol=1e-4)
        np.testing.assert_allclose(out.last[name], value, rtol=1e-4)
    assert out.evaluations == 120 * 8 * len(argon)
    errors = accuracy(held, predict_structures(LJ, out.params, held))
    lowest = min(row["validation_loss"] for row in out.history)  # of elites; a mean may be better still
    assert errors.energy.rmse + errors.forces.rmse <= lowest


def test_the_loss_is_that_of_the_manual(argon):
    # The better of elite and mean is returned: its loss from what `accuracy` finds, but virials of six components.
    out = train_snes(LJ, START, argon, generations=1, **OPTIONS | {"lambda_1": 0.3, "lambda_2": 0.7, "every": 1})
    row = out.history[0]
    found = predict_structures(LJ, out.params, argon, virial=True)
    errors = accuracy(argon, found)
    d = np.array([(w - s.virial) / len(s) for s, w in zip(argon, found.virial)])
    virial = np.sqrt(np.mean(d[:, [0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]] ** 2))
    z = np.array([float(out.params[n][0, 0]) for n in ("epsilon", "sigma")])
    penalty = 0.3 * np.mean(np.abs(z)) + 0.7 * np.sqrt(np.mean(z**2))
    loss = errors.energy.rmse + errors.forces.rmse + 0.1 * virial + penalty
    np.testing.assert_allclose(min(row["loss"], row["mean_loss"]), loss, rtol=1e-10)


def test_a_resumed_evolution_is_the_uninterrupted_one(argon, tmp_path):
    whole = train_snes(LJ, START, argon, argon[:1], generations=15, **OPTIONS)
    first = train_snes(LJ, START, argon, argon[:1], generations=10, checkpoint=tmp_path, **OPTIONS)
    rest = train_snes(LJ, START, argon, argon[:1], generations=15, checkpoint=tmp_path, **OPTIONS)
    assert [r["epoch"] for r in rest.history] == [5, 10, 15]
    assert first.history == rest.history[:2]
    np.testing.assert_array_equal(rest.sigma, whole.sigma)
    for a, b in ((rest.params, whole.params), (rest.last, whole.last)):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    assert (rest.best, rest.evaluations) == (whole.best, whole.evaluations)
    # The end of a run that is over is what a call returns that finds it.
    again = train_snes(LJ, START, argon, argon[:1], generations=15, checkpoint=tmp_path, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)


def test_how_the_loop_is_cut_changes_nothing(argon):
    cut = lambda n: train_snes(LJ, START, argon, generations=6, **OPTIONS | {"every": n, "checkpoint_every": n})
    a, b = cut(2), cut(3)
    jax.tree.map(np.testing.assert_array_equal, a.last, b.last)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_mini_batches_take_turns(argon, dtype):
    start = jax.tree.map(lambda x: x.astype(dtype), START)
    out = train_snes(LJ, start, argon, generations=60, batch_size=1, **OPTIONS)
    assert out.sigma.dtype == dtype
    assert out.evaluations == 60 * 8
    assert out.history[-1]["loss"] < 0.05 * out.history[0]["loss"]


def test_a_small_nep_improves_with_a_bias_that_is_always_the_best(argon):
    nep = NEP((18,), (6.0,), (4.0,), (1, 1), (2, 2), 1, (), 3, 4)
    params = nep.init(jax.random.key(0))
    shifted = [s.replace(energy=s.energy + 123.4 * len(s), virial=None) for s in argon]
    options = {"generations": 40, "sigma0": 0.1, "population": 10, "every": 20, "checkpoint_every": 20}
    out = train_snes(nep, params, shifted, shifted[:1], bias="b1", **options)
    start = accuracy(argon, predict_structures(nep, params, argon)).forces.rmse
    assert out.history[-1]["train_forces"] < 0.5 * start
    np.testing.assert_array_equal(out.params["q_scaler"], params["q_scaler"])
    assert len(out.sigma) == Trainable.of(nep, params, freeze=("b1",)).count
    for found in (out.params, out.last):
        E = predict_structures(nep, found, shifted).energy
        np.testing.assert_allclose(np.mean([(e - s.energy) / len(s) for e, s in zip(E, shifted)]), 0, atol=1e-11)
    # The validation set is seen with the bias of the training set, not with its own (which would leave no error).
    assert out.history[-1]["rmse_energy"] > 1e-4


def test_individuals_over_two_devices(on_two_devices):
    on_two_devices("""
from fitting.test_snes import *
data = label(list(crystals()), LJ, TRUE)
a, b = (train_snes(LJ, START, data, generations=5, devices=n, **OPTIONS) for n in (1, 2))
jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), a.last, b.last)
""")


def test_bad_options(argon):
    def bad(match, structures=argon, **options):
        with pytest.raises(ValueError, match=match):
            train_snes(LJ, START, structures, **OPTIONS | options)

    bad("two or more", population=1)
    bad("multiple of every", every=4)
    bad("must not be negative", lambda_1=-1.0)
    bad("weight is positive", structures=[s.replace(energy=None, forces=None, virial=None) for s in argon])
    with pytest.raises(TrainingFailed, match="generation 5"):
        train_snes(LJ, START, [s.replace(energy=np.nan) for s in argon], generations=5, **OPTIONS)
    bad("nothing is named 'b1'", bias="b1")
    bad("is an array", bias="sigma")
    bad("divide the population", devices=3)
