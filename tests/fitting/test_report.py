"""Reports and figures of a fit: numbers with known errors, and figures that show them."""

import json

import numpy as np
import pytest

from jaxmlp.fitting.accuracy import Predictions
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.report import POINTS, final_report, learning_figure, parity_figure, write_report
from jaxmlp.system import System
from jaxmlp.units import GPa

HISTORY = [
    {"epoch": k, "loss": 1 / k, "train_energy": 0.1 / k, "train_forces": 1 / k, "rmse_energy": 0.2 / k,
     "rmse_forces": 2 / k, "validation_loss": 2 / k, "seconds": 0.1}
    for k in range(1, 6)
]  # fmt: skip


def data(count=6, error=0.01, atoms=2, seed=0, groups=("bulk", "slab")):
    """Structures of NaCl whose predicted energies, forces and virials are all too large by `error` (of an atom)."""
    rng = np.random.default_rng(seed)
    structures, E, F, W = [], [], [], []
    for k in range(count):
        system = System(np.array([11, 17] * (atoms // 2)), 4 * rng.uniform(size=(atoms, 3)), 4 * np.eye(3))
        energy, forces, virial = atoms * rng.normal(), rng.normal(size=(atoms, 3)), atoms * rng.normal(size=(3, 3))
        structures.append(Structure(system, energy, forces, virial, group=groups[k % len(groups)]))
        E.append(energy + error * atoms)
        F.append(forces + error * np.array([1.0, 2.0] * (atoms // 2))[:, None])
        W.append(virial + error * atoms)
    return structures, Predictions(np.array(E), F, W)


def test_numbers_and_units():
    report = final_report({"train": data(), "test": data(4, 0.02, groups=("bulk",))})
    train, test = report.data["sets"]["train"], report.data["sets"]["test"]
    assert (train["structures"], train["atoms"], test["structures"]) == (6, 12, 4)
    for name, value in (("energy", 10.0), ("virial", 10.0), ("stress", 0.01 * 2 / 64 / GPa)):
        np.testing.assert_allclose([train["all"][name]["rmse"], train["all"][name]["mae"]], value, rtol=1e-9)
    np.testing.assert_allclose(train["all"]["forces"]["rmse"], 10 * np.sqrt(2.5), rtol=1e-9)
    np.testing.assert_allclose(test["all"]["forces"]["mae"], 30.0, rtol=1e-9)
    np.testing.assert_allclose([train["elements"][z]["mae"] for z in ("Na", "Cl")], [10.0, 20.0], rtol=1e-9)
    assert set(train["groups"]) == {"bulk", "slab"}
    assert test["groups"] == {}
    assert json.loads(json.dumps(report.data)) == report.data
    lines = report.text.splitlines()
    assert max(map(len, lines)) <= 130
    assert any(line.split()[:5] == ["train", "6", "10", "/", "10"] for line in lines)
    for word in ("meV/Å", "GPa", "train, by group", "slab", "Na"):
        assert word in report.text


def test_what_is_missing_is_left_out():
    structures, predictions = data()
    structures = [s.replace(virial=None, energy=None if k else s.energy) for k, s in enumerate(structures)]
    found = final_report({"train": (structures, predictions)}).data["sets"]["train"]["all"]
    assert set(found) == {"energy", "forces"}
    assert found["energy"]["count"] == 1
    assert len(parity_figure({"train": (structures, predictions)}).axes) == 2
    bare = [s.replace(energy=None, forces=None, virial=None) for s in structures]
    with pytest.raises(ValueError, match="none of the structures"):
        parity_figure({"train": (bare, predictions)})
    with pytest.raises(ValueError, match="at least one set"):
        final_report({})


def test_learning_curves_are_the_history():
    figure = learning_figure(HISTORY)
    loss, errors = figure.axes
    assert all(ax.get_xscale() == ax.get_yscale() == "log" for ax in (loss, errors))
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [r["validation_loss"] for r in HISTORY])
    assert len(errors.lines) == 4
    np.testing.assert_allclose(errors.lines[3].get_ydata(), [2000 / k for k in range(1, 6)])  # meV/Å
    with pytest.raises(ValueError, match="without rows"):
        learning_figure([])


def test_parity_shows_every_point_and_the_errors():
    figure = parity_figure({"train": data(), "test": data(4, 0.02)})
    energy, forces, stress = figure.axes
    texts = [t.get_text() for t in energy.get_legend().get_texts()]
    assert texts == ["train: RMSE 10, MAE 10 meV/atom", "test: RMSE 20, MAE 20 meV/atom"]
    assert [len(line.get_xdata()) for line in forces.lines[:2]] == [36, 24]
    structures, _ = data()
    np.testing.assert_allclose(energy.lines[0].get_xdata(), [s.energy / 2 for s in structures])
    x = np.concatenate([-s.virial.ravel() / 64 / GPa for s in structures])
    np.testing.assert_allclose(stress.lines[0].get_xdata(), x)
    assert "GPa" in stress.get_xlabel()
    colors = {line.get_color() for line in energy.lines[:2]}
    assert len(colors) == 2


def test_many_points_are_counted_in_bins():
    atoms = POINTS // 3 // 2 * 2 + 2
    figure = parity_figure({"train": data(1, atoms=atoms), "test": data(1, seed=1)})
    bins = figure.axes[1].collections
    assert len(bins) == 1
    assert len(figure.axes[1].lines) == 2  # the test set's points, and the diagonal
    np.testing.assert_allclose(np.sum(bins[0].get_array()), 3 * atoms, rtol=1e-12)


def test_a_folder_with_all(tmp_path):
    paths = write_report(tmp_path / "out", HISTORY, {"train": data(), "test": data(4)})
    assert [p.name for p in paths] == ["report.txt", "report.json", "parity.png", "learning.png"]
    assert all(p.stat().st_size > 0 for p in paths)
    assert json.loads(paths[1].read_text(encoding="utf-8"))["units"]["energy"] == "meV/atom"
    assert len(write_report(tmp_path / "out", [], {"train": data()})) == 3
