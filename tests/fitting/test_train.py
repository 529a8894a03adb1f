"""Gradient training: known parameters are found again; resuming, members and devices change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mixture import POTENTIAL, TRUE, labelled, systems, with_nan, wrong

from jaxmlp.fitting import Loader, Loss, Trainable, TrainingFailed, names, predict_structures, train, train_lbfgs
from jaxmlp.fitting.training.loss import prefactor, staged
from jaxmlp.fitting.training.step import Training

DATA = labelled(systems(8))
TEST = labelled(systems(4, seed=9))
OPTIONS = {"loss": Loss(1.0, 1.0, 0.1), "optimizer": 3e-3, "batch_size": 4, "seed": 1}


def largest(params):
    """The largest relative error of a parameter."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(TRUE), strict=True)
    return max(float(jnp.max(jnp.abs(a / b - 1))) for a, b in pairs)


@pytest.fixture(scope="module")
def fitted():
    return train(POTENTIAL, wrong(1.02), DATA, TEST, epochs=12, **OPTIONS)


def test_training_approaches_the_parameters_that_made_the_data():
    rate = optax.exponential_decay(5e-3, 600, 1e-2)
    found = train(POTENTIAL, wrong(1.02), DATA, TEST, epochs=200, **OPTIONS | {"optimizer": optax.adam(rate)})
    assert found.history[-1]["rmse_forces"] < 0.05 * found.history[0]["rmse_forces"]
    assert found.history[-1]["validation_loss"] < 2e-3 * found.history[0]["validation_loss"]
    assert found.compilations == len(Loader(DATA, POTENTIAL, 4).shapes)  # however many epochs
    row = found.history[found.best - 1]
    assert row["validation_loss"] == min(r["validation_loss"] for r in found.history)


def test_lbfgs_finds_them_to_rounding():
    found = train_lbfgs(POTENTIAL, wrong(1.05), DATA, loss=Loss(1.0, 1.0, 0.1), steps=200, gtol=1e-12)
    assert largest(found.params) < 1e-6
    assert found.history[-1]["loss"] < 1e-10


def test_a_run_that_goes_on_is_the_run_bit_for_bit(fitted, tmp_path):
    train(POTENTIAL, wrong(1.02), DATA, TEST, epochs=5, checkpoint=tmp_path, checkpoint_every=3, **OPTIONS)
    again = train(POTENTIAL, wrong(1.02), DATA, TEST, epochs=12, checkpoint=tmp_path, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.last), (fitted.params, fitted.last))
    strip = lambda history: [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    assert strip(again.history) == strip(fitted.history)
    with pytest.raises(ValueError, match="another potential, optimizer or precision"):
        train(POTENTIAL, wrong(), DATA, epochs=20, checkpoint=tmp_path, **OPTIONS | {"optimizer": optax.sgd(1e-3)})


def test_the_parameters_given_stay_as_they_are():
    """The steps donate their buffers; those of the caller are not among them."""
    params = jax.tree.map(jnp.asarray, wrong(1.02))
    before = jax.tree.map(np.array, params)
    train(POTENTIAL, params, DATA, TEST, epochs=1, ema=0.9, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_members_of_a_committee_are_runs_of_their_own(fitted):
    starts = lambda key: jax.tree.map(lambda x: x * (1 + 0.02 * jax.random.uniform(key, (), x.dtype)), TRUE)
    both = train(POTENTIAL, wrong(), DATA, TEST, epochs=3, members=2, starts=starts, **OPTIONS)
    assert {x.shape[0] for x in jax.tree.leaves(both.params)} == {2}
    keys = jax.random.split(jax.random.key(OPTIONS["seed"]), 2)
    for k in range(2):
        one = train(POTENTIAL, starts(keys[k]), DATA, TEST, epochs=3, **OPTIONS)
        of = lambda x, k=k: x[k]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), jax.tree.map(of, both.last), one.last)


def test_bootstraps_give_different_members():
    found = train(POTENTIAL, wrong(1.02), DATA, epochs=2, members=2, bootstrap=True, **OPTIONS)
    epsilon = found.last["epsilon"]
    assert 0 < float(jnp.max(jnp.abs(epsilon[0] - epsilon[1]))) < 0.02


def test_two_devices_make_one_step_of_two_batches(on_two_devices):
    on_two_devices("""
import jax, numpy as np
import sys; sys.path.insert(0, "tests/fitting")
from mixture import *
from jaxmlp.fitting import Loss, train
data = labelled(systems(4)[:1] * 4)                     # all batches have one shape
two = train(POTENTIAL, wrong(1.02), data, epochs=3, batch_size=2, devices=2, loss=Loss(1.0, 1.0), optimizer=1e-3)
one = train(POTENTIAL, wrong(1.02), data, epochs=3, batch_size=4, devices=1, loss=Loss(1.0, 1.0), optimizer=1e-3)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), two.last, one.last)
""")


def test_what_is_not_finite_is_named():
    with pytest.raises(TrainingFailed, match=r"1 structures are not finite: toy 2\."):
        train(POTENTIAL, wrong(), [with_nan(s) if k == 2 else s for k, s in enumerate(DATA)], epochs=2, **OPTIONS)
    with pytest.raises(TrainingFailed, match="diverged"):
        train(POTENTIAL, wrong(), DATA, epochs=20, **OPTIONS | {"optimizer": optax.sgd(1e12)})


def test_training_stops_when_validation_no_longer_improves():
    other = labelled(systems(4, seed=9), wrong(1.1))  # the nearer to the training set, the worse
    found = train(POTENTIAL, wrong(1.05), DATA, other, epochs=50, patience=2, **OPTIONS)
    assert len(found.history) == found.best + 3 < 50


def test_the_average_of_parameters_is_that_of_all_steps():
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], next(Loader(DATA[:3], POTENTIAL, 3, buckets=1).epoch()))
    sgd = optax.with_extra_args_support(optax.sgd(1e-4))
    training = Training(POTENTIAL, Trainable.of(POTENTIAL, TRUE), Loss(), sgd, ("energy", "forces"), ema=0.5)
    state = training.start(jax.random.key(0), float)
    state = state._replace(trained=[1.01 * x for x in state.trained])
    mean = state.average
    for t in range(4):
        state, _ = jax.jit(training.step)(state, batch)
        decay = min(0.5, (1 + t) / (10 + t))
        mean = [decay * m + (1 - decay) * x for m, x in zip(mean, state.trained, strict=True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), state.average, mean)


def test_likelihood_weights_are_learned():
    noise = np.random.default_rng(0)
    noisy = [s.replace(forces=s.forces + 0.05 * noise.normal(size=s.forces.shape)) for s in DATA]
    loss = Loss(1.0, 1.0, noise=True)
    found = train(POTENTIAL, wrong(1.0), noisy, epochs=30, **OPTIONS | {"loss": loss, "optimizer": 3e-2})
    # At its optimum 2 log sigma is the logarithm of the mean square, where a kind adds 1 + 2 log sigma to the loss.
    row = found.history[-1]
    assert row["loss"] < 2 + 2 * np.log(row["train_energy"]) + 2 * np.log(row["train_forces"]) + 2.0


def test_arrays_are_chosen_by_name_and_updates_of_low_rank_start_at_zero():
    assert names(TRUE) == ["epsilon", "sigma"]
    only = Trainable.of(POTENTIAL, TRUE, freeze=("sigma",))
    found = train(
        POTENTIAL,
        wrong(1.02),
        DATA,
        epochs=2,
        **OPTIONS,
        trainable=Trainable.of(POTENTIAL, wrong(1.02), train=("eps*",)),
    )
    np.testing.assert_array_equal(found.last["sigma"], wrong(1.02)["sigma"])
    assert float(jnp.max(jnp.abs(found.last["epsilon"] - wrong(1.02)["epsilon"]))) > 0
    assert (only.chosen, only.count) == ((True, False), 4)
    low = Trainable.of(POTENTIAL, TRUE, low_rank=("*",), rank=1)
    assert low.count == 2 * (2 + 2)
    jax.tree.map(np.testing.assert_array_equal, low.params(low.start(jax.random.key(0))), TRUE)
    with pytest.raises(ValueError, match="nothing is named 'charge'; the parameters are epsilon, sigma"):
        Trainable.of(POTENTIAL, TRUE, freeze=("charge",))
    with pytest.raises(ValueError, match="no parameter is left"):
        Trainable.of(POTENTIAL, TRUE, freeze=("*",))


def test_weights_follow_the_learning_rate_or_change_in_stages():
    rate = optax.exponential_decay(1e-3, 100, 0.1)
    weight = prefactor(1000.0, 1.0, rate)
    np.testing.assert_allclose([weight(0), weight(100)], [1000.0, 1.0 + 999.0 * 0.1])
    stage = staged(1.0, 10.0, 100.0, at=(5, 8))
    np.testing.assert_allclose([stage(jnp.asarray(k)) for k in (0, 4, 5, 7, 8, 20)], [1, 1, 10, 10, 100, 100])


def test_losses_are_what_they_say():
    x = jnp.array([-0.3, 0.1])
    np.testing.assert_allclose(Loss(error="mae").measure(x), [0.3, 0.1])
    np.testing.assert_allclose(Loss(error="huber", delta=0.2).measure(x), [0.2 * (0.3 - 0.1), 0.005])
    np.testing.assert_allclose(Loss(l1=1.0, l2=2.0).penalty([x]), 0.2 + 2 * 0.05)
    with pytest.raises(ValueError, match="error must be one of mse, mae, huber"):
        Loss(error="rms")
    with pytest.raises(ValueError, match="forces must not be negative"):
        Loss(forces=-1.0)
    with pytest.raises(ValueError, match="wants energy, forces; the data have virial"):
        Loss().kinds(("virial",))


@pytest.mark.parametrize("error", ["mse", "mae", "huber"])
def test_validation_is_judged_by_the_function_of_the_loss(error):
    loss = Loss(2.0, 1.0, error=error, delta=0.02)
    found = train(POTENTIAL, wrong(1.02), DATA[:4], TEST, epochs=1, **OPTIONS | {"loss": loss, "optimizer": 0.0})
    predicted = predict_structures(POTENTIAL, wrong(1.02), TEST)
    energies = [(e - s.energy) / len(s) for e, s in zip(predicted.energy, TEST, strict=True)]
    forces = np.concatenate([(F - s.forces).ravel() for F, s in zip(predicted.forces, TEST, strict=True)])
    expected = 2 * np.mean(loss.measure(np.array(energies))) + np.mean(loss.measure(forces))
    np.testing.assert_allclose(found.history[0]["validation_loss"], expected, rtol=1e-10)
