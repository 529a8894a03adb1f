"""Mixed precision: parameters and sums in double precision, the potential in single; what training makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture import SPECIES, labelled, systems

import jaxmlp as jm
from jaxmlp.evaluate import Execution
from jaxmlp.fitting import Loader, Loss, read_config, train
from jaxmlp.fitting.training.loss import errors
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.nep_charge import NEPCharge

SHAPE = dict(species=SPECIES, radial_cutoffs=(5.0, 5.0), angular_cutoffs=(4.0, 4.0), n_max=(2, 2), basis_size=(3, 3))
POTENTIAL = NEP(**SHAPE, l_max=2, neurons=4)
DATA = labelled(systems(6))
KINDS = ("energy", "forces", "virial")
LOSS = Loss(1.0, 1.0, 0.1)
MIXED = Execution(precision="mixed")


@pytest.mark.parametrize("name", ["local", "whole"])
def test_gradients_are_those_of_double_precision_to_single(name):
    """In the precision of the parameters; positions, which are differences of large numbers, lose nothing."""
    potential, data, kinds, loss = POTENTIAL, DATA[:3], KINDS, LOSS
    if name == "whole":
        potential, kinds = NEPCharge(**SHAPE, l_max=2, neurons=4, mode=3), (*KINDS, "charges")
        data = [s.replace(charges=np.zeros(len(s))) for s in data]
        loss = Loss(1.0, 1.0, 0.1, charges=1.0)
    params = potential.init(jax.random.key(0), float)
    far = [s.replace(system=s.system.replace(R=s.system.R + 1000.0)) for s in data]  # Å; single precision: 1e-4 Å
    batch = next(Loader(far, potential, 3, buckets=1).epoch())

    def gradient(execution):
        total = lambda p: sum(
            jnp.sum(x) for x, _ in errors(loss, potential, p, batch, kinds, execution=execution).values()
        )
        return jax.jit(jax.value_and_grad(total))(params)

    (full, slope), (value, mixed) = gradient(Execution()), gradient(MIXED)
    np.testing.assert_allclose(value, full, rtol=2e-5)
    assert value != full
    for a, b in zip(jax.tree.leaves(mixed), jax.tree.leaves(slope), strict=True):
        assert a.dtype == b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, atol=2e-4 * np.abs(b).max())  # cancelling sums of single precision's 1e-7


def test_training_in_mixed_precision_is_training():
    params = POTENTIAL.init(jax.random.key(0), float)
    options = {"loss": LOSS, "optimizer": 3e-3, "batch_size": 3, "epochs": 8, "seed": 1}
    full, mixed = (train(POTENTIAL, params, DATA, DATA[:3], execution=e, **options) for e in (Execution(), MIXED))
    for a, b in zip(full.history, mixed.history, strict=True):
        np.testing.assert_allclose([b["loss"], b["rmse_forces"]], [a["loss"], a["rmse_forces"]], rtol=1e-3)
    assert {x.dtype for x in jax.tree.leaves(mixed.params)} == {jnp.dtype("float64")}
    assert mixed.history[-1]["loss"] < 0.9 * mixed.history[0]["loss"]


def test_the_configuration_says_which():
    config = {"potential": {"family": "nep", "cutoff": [5.0, 4.0], "n_max": [2, 2], "basis_size": [3, 3], "l_max": [2],
                            "neurons": 4}, "epochs": 2, "data": {"check": False}}  # fmt: skip
    found = jm.fit(config, train=DATA, precision="mixed")
    again = jm.fit(config, train=DATA, precision="float64")
    for a, b in zip(found.history, again.history, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-3)
        assert a["loss"] != b["loss"]
    settings = read_config(config, precision="bfloat16")
    assert (settings.dtype, settings.execution.precision) == ("float32", "bfloat16")
    assert read_config(config).execution == Execution()
    with pytest.raises(ValueError, match="did you mean 'mixed'"):
        read_config(config, precision="mixd")
    with pytest.raises(ValueError, match="precision mixed goes with method gradient, lbfgs or snes"):
        read_config(config, precision="mixed", method="linear")
