"""The demonstration finds the numbers of the potential's card and writes its page."""

import numpy as np
import pytest

from jaxmlp import demo
from jaxmlp.properties import rdf

pytestmark = pytest.mark.xdist_group("demo")  # one worker makes the fixture, once


@pytest.fixture(scope="session")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo.run(folder, steps=400, repeat=2, temperature=600.0)


def test_the_crystal_is_that_of_the_card_and_near_that_of_the_data(result):
    _, found = result
    assert found.agrees
    for name, value in found.found.items():
        assert value == pytest.approx(found.card[name], abs=demo.TOLERANCE[name])
        if name in demo.DFT:  # what a small NEP learns
            assert value == pytest.approx(demo.DFT[name], rel=0.002 if name == "a" else 0.1)
    wrong = found._replace(found=found.found | {"C44": found.found["C44"] + 1})
    assert not wrong.agrees
    assert "NOT ALL ARE" in demo.report(wrong)


def test_the_dynamics_are_logged(result):
    _, found = result
    assert found.atoms == 64
    assert found.log["step"][-1] == 400
    assert found.r[np.argmax(found.g)] == pytest.approx(2.35, abs=0.08)


def test_the_page_is_written(result):
    folder, found = result
    text = (folder / "report.txt").read_text(encoding="utf-8")
    assert "all are what the card" in text
    assert f"C44{found.found['C44']:15.4f}        72        79.6  GPa" in text
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    table = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["temperature"], found.log["temperature"])
    assert (folder / "silicon.xyz").exists()
    assert (folder / "silicon.safetensors").exists()


def test_g_of_r_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(0)
    R = rng.uniform(0, 10, size=(40, 50, 3))
    _, g = rdf(R, 10 * np.eye(3), cutoff=9.0, bins=6)
    # 40 frames of 50 x 49 / 2 pairs, images included: a bin of volume v (Å^3) holds n = 49 v pairs, +- sqrt(n).
    walls = np.linspace(0, 9, 7)
    n = 49 * 4 * np.pi / 3 * np.diff(walls**3)
    assert (np.abs(g - 1) < 5 / np.sqrt(n)).all()


def test_partial_g_of_r_counts_coordination():
    from ase.build import bulk

    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    r, g = rdf(salt.positions, salt.cell.array, cutoff=3.5, bins=70, numbers=salt.numbers, pair=(11, 17))
    density = 4 / salt.get_volume()
    walls = np.linspace(0, 3.5, 71)
    assert np.sum(g * density * 4 * np.pi / 3 * np.diff(walls**3)) == pytest.approx(6)
    assert r[np.argmax(g)] == pytest.approx(2.82, abs=0.05)
    with pytest.raises(ValueError, match="atoms on both sides"):
        rdf(salt.positions, salt.cell.array, cutoff=3.0, numbers=salt.numbers, pair=(11, 19))
