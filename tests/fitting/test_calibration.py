"""Calibration of spreads: known normal errors, few members, and what a fit of a committee reports."""

import json

import numpy as np
import pytest
from mixture import POTENTIAL, TRUE, labelled, systems

import jaxmlp as jm
from jaxmlp.combinators import Committee
from jaxmlp.fitting import calibrate, calibration, predict_structures
from jaxmlp.fitting.calibration import NORMAL, members_of

N = 40_000


def normal_errors(scale=1.0, seed=0):
    """Errors whose standard deviation is `scale` times the spread."""
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(size=N))
    return scale * spread * rng.normal(size=N), spread


def test_normal_errors_are_calibrated():
    e, s = normal_errors()
    found = calibration(e.reshape(-1, 4), s.reshape(-1, 4))
    assert found.count == N
    assert found.z == found.scale == pytest.approx(1.0, abs=4 / np.sqrt(2 * N))  # 4 standard errors
    for fraction, expected in zip((found.within_1, found.within_2), NORMAL, strict=True):
        assert fraction == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / N))
    assert found.area < 2 / np.sqrt(N)  # mean distance of an empirical distribution: 0.3 / sqrt(N)
    assert found.spearman > 0.5


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_a_spread_that_is_too_small_or_large_is_told(scale):
    from scipy.special import erf

    e, s = normal_errors(scale)
    found = calibration(e, s)
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert found.within_1 == pytest.approx(float(erf(np.sqrt(0.5) / scale)), abs=0.01)
    # Tran's curve of such errors: observed(p) = erf(erfinv(p) / scale), with u the error in spreads.
    u = np.linspace(0, 40, 400_001)
    expected, observed = erf(u / np.sqrt(2)), erf(u / scale / np.sqrt(2))
    assert found.area == pytest.approx(np.trapezoid(np.abs(observed - expected), expected), abs=0.01)
    assert calibration(e, scale * s).scale == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize(("members", "alpha"), [(5, 2.0), (8, 1.0), (30, 0.5)])
def test_few_members_are_corrected_for(members, alpha):
    """Members are draws of width s around a centre, and the label one of width alpha s."""
    rng = np.random.default_rng(1)
    s = np.exp(0.5 * rng.normal(size=N))
    draws = s * rng.normal(size=(members, N))
    errors, spread = draws.mean(axis=0) - alpha * s * rng.normal(size=N), draws.std(axis=0, ddof=1)
    assert calibration(errors, spread, members=members).scale == pytest.approx(alpha, rel=0.05)
    if members == 5:
        assert calibration(errors, spread).scale > 1.3 * alpha  # what it is without


def test_components_that_symmetry_makes_zero_are_left_out():
    e, s = normal_errors()
    e[:100], s[:100] = 1e-9, 1e-14
    found = calibration(e, s)
    assert (found.left_out, found.count) == (100, N - 100)
    assert found.z == pytest.approx(1.0, abs=0.02)


def test_bad_input():
    with pytest.raises(ValueError, match="one shape"):
        calibration(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="not negative"):
        calibration(np.ones(3), -np.ones(3))
    with pytest.raises(ValueError, match="zero everywhere"):
        calibration(np.ones(3), np.zeros(3))
    with pytest.raises(ValueError, match="has no members"):
        members_of(POTENTIAL, TRUE)


def committee(size=6, width=0.05):
    """Members whose epsilon scatter around the true one."""
    rng = np.random.default_rng(2)
    factors = 1 + width * rng.normal(size=size)
    members = [{"epsilon": f * TRUE["epsilon"], "sigma": TRUE["sigma"]} for f in factors]
    return Committee.of(POTENTIAL, size), Committee.stack(members), factors


def test_a_committee_is_compared_with_labels():
    potential, params, factors = committee()
    structures = labelled(systems(8))
    found = calibrate(potential, params, structures)
    # All energies and forces are proportional to epsilon: one z-score for all of them.
    z = abs(factors.mean() - 1) / factors.std(ddof=1)
    assert found["energy"].z == pytest.approx(z, rel=1e-6)
    assert found["forces"].z == pytest.approx(z, rel=1e-6)
    assert found["energy"].scale == pytest.approx(max(0.0, 3 / 5 * z**2 - 1 / 6) ** 0.5, rel=1e-6, abs=1e-12)
    both, together = 0.5 * POTENTIAL + potential, (TRUE, params)
    one, each = members_of(both, together)
    energies = [predict_structures(one, p, structures, forces=False).energy for p in each]
    whole = predict_structures(both, together, structures, forces=False).energy
    np.testing.assert_allclose(np.mean(energies, axis=0), whole, rtol=1e-10)


def test_a_committee_fit_reports_its_calibration(tmp_path):
    nep = {"family": "nep", "cutoff": [5.0, 4.0], "n_max": [2, 2], "basis_size": [3, 3], "l_max": [2], "neurons": 4}
    config = {
        "potential": nep,
        "members": 4,
        "epochs": 2,
        "batch_size": 4,
        "ema": 0.5,
        "optimizer": {"learning_rate": 0.01},
    }
    fitted = jm.fit(config | {"output": str(tmp_path)}, train=labelled(systems(8)), test=labelled(systems(4, seed=8)))
    part = fitted.parts["test"]
    direct = predict_structures(fitted.potential, fitted.params, part.structures)
    np.testing.assert_allclose(part.predictions.energy, direct.energy, rtol=1e-5)  # the mean of the members
    report = json.loads((tmp_path / "report.json").read_text())["calibration"]
    assert set(report) == {"test"}
    assert report["test"]["forces"]["z"] == pytest.approx(part.calibration["forces"].z)
    assert report["test"]["energy"]["count"] == 4
    text = (tmp_path / "report.txt").read_text()
    assert "test, forces (meV/Å)" in text
    assert "calibrated normal errors" in text
    assert (tmp_path / "calibration_test.png").read_bytes()[:4] == b"\x89PNG"


def test_draws_of_a_linear_fit_are_members():
    mtp = {"family": "mtp", "cutoff": 5.0, "inner": 2.0, "radial_size": 4, "level": 6}
    config = {"potential": mtp, "method": "linear", "linear": {"solver": "bayesian"}}
    data = {"train": labelled(systems(10)), "test": labelled(systems(4, seed=8))}
    one, many = jm.fit(config, **data), jm.fit(config | {"members": 6}, **data)
    assert isinstance(many.potential, Committee)
    np.testing.assert_allclose(many.parts["test"].predictions.energy, one.parts["test"].predictions.energy, rtol=1e-8)
    assert 0 < many.parts["test"].calibration["forces"].spread < 1.0
    assert one.parts["test"].calibration is None
