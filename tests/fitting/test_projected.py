"""Variable projection in passes over the data: parameters that are not linear are found with those that are."""

import jax
import numpy as np
import pytest
from mixture import SPECIES, systems

import jaxmlp as jm
from jaxmlp.fitting import fit_linear, fit_projected, label
from jaxmlp.potentials.mtp import MTP

POTENTIAL = MTP(SPECIES, 5.0, 2.0, 3, 4)
WEIGHTS = {"energy": 100.0, "forces": 1.0}


@pytest.fixture(scope="module")
def data():
    return label(systems(6), POTENTIAL, POTENTIAL.init(jax.random.key(1)))


def test_radial_functions_of_another_model_are_found(data):
    start = POTENTIAL.init(jax.random.key(2))
    options = {"weights": WEIGHTS, "strength": 1e-10, "fit_energies": True}
    found = fit_projected(POTENTIAL, start, data, vary=("radial",), passes=10, **options)
    costs = [row.cost for row in found.history]
    assert costs[0] == pytest.approx(costs[1])  # no step yet
    assert min(costs) < 1e-4 * costs[0]
    assert all(
        (cost <= min(costs[:k])) == row.accepted for k, (cost, row) in enumerate(zip(costs, found.history)) if k > 1
    )
    # The coefficients are those of a linear fit with the radial functions found.
    again = fit_linear(POTENTIAL, found.params, data, solver="ridge", **options)
    other = fit_linear(POTENTIAL, start, data, solver="ridge", **options)
    fall = lambda fit: sum(WEIGHTS[k] * qr.misfit(fit.fit.coefficients) for k, qr in fit.factors.items())
    assert fall(again) < 1e-3 * fall(other)
    assert fall(again) == pytest.approx(min(costs), rel=0.1)


def test_a_configuration_names_what_varies(data):
    config = {
        "potential": {"family": "mtp", "species": list(SPECIES), "cutoff": 5.0, "radial_size": 3, "level": 4},
        "method": "linear",
        "linear": {"solver": "ridge", "weights": WEIGHTS, "vary": ["radial"], "passes": 3, "fraction": 0.5},
    }
    rows = []
    found = jm.fit(config, train=data, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert found.history == rows
    drawn = POTENTIAL.init(jax.random.key(0))
    assert not np.allclose(found.params["radial"], drawn["radial"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vary": ["radius"]}, "stands for no parameter"),
        ({"vary": ["moment_coeffs"]}, "fitted anyway"),
        ({"vary": ["radial"], "weights": None}, "needs weights"),
        ({"passes": 3}, "go with vary"),
        ({"vary": ["radial"], "fraction": 2.0}, "at most 1"),
    ],
)
def test_what_makes_no_sense_is_named(data, changes, message):
    config = {
        "potential": {"family": "mtp", "species": list(SPECIES), "cutoff": 5.0, "radial_size": 3, "level": 4},
        "method": "linear",
        "linear": {"solver": "ridge", "weights": WEIGHTS} | changes,
    }
    with pytest.raises(ValueError, match=message):
        jm.fit(config, train=data)
