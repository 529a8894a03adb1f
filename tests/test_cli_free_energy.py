"""jaxmlp free-energy and jaxmlp melt: what they print and write, and what they refuse."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from jaxmlp.cli import main
from jaxmlp.formats import detect
from jaxmlp.potentials.pair import lennard_jones

EPSILON, SIGMA = 0.0104, 3.4
FAST = "--steps 300 --equilibration 300 --repeats 1 --dt 8 --friction 0.005 --max-dissipation 5 --quiet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Lennard-Jones argon, and a crystal of four atoms."""
    folder = tmp_path_factory.mktemp("free-energy")
    detect.save(folder / "ar.safetensors", *lennard_jones((18,), EPSILON, SIGMA, 2.5 * SIGMA, truncation="shifted"))
    ase.io.write(folder / "ar.xyz", bulk("Ar", "fcc", a=5.4, cubic=True), format="extxyz")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def call(line: str):
        code = main(line.split())
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_the_free_energy_of_a_crystal_and_a_sweep(run, folder):
    line = "free-energy ar.safetensors ar.xyz --repeat 2,2,2 --temperature 50 --pressure 0.01 --to-temperature 60"
    code, out, err = run(f"{line} --output out.json --csv sweep.csv --tau-pressure 2000 {FAST}")
    assert code == 0, err
    assert "32 atoms" in out
    found = json.loads((folder / "out.json").read_text())
    assert found["atoms"] == 32
    assert found["G"] == pytest.approx(found["F"] + found["pressure"] * found["volume"])
    assert found["pressure"] == pytest.approx(0.01 / 160.2176634)
    table = np.loadtxt(folder / "sweep.csv", delimiter=",", skiprows=1)
    assert table[0, :2].tolist() == [50.0, pytest.approx(found["G"])]
    assert table[-1, 0] == pytest.approx(60.0)
    assert table[-1, 1] < table[0, 1]


def test_the_harmonic_free_energy(run, folder):
    for phase in ("harmonic", "quantum-harmonic"):
        code, out, err = run(f"free-energy ar.safetensors ar.xyz --phase {phase} --temperature 20 --mesh 3 -o {phase}")
        assert code == 0, err
        assert "harmonic crystal at 20 K" in out
    classical, quantum = (json.loads((folder / name).read_text()) for name in ("harmonic", "quantum-harmonic"))
    assert quantum["F"] > classical["F"]
    assert classical["C"] == pytest.approx(3 * 8.617333262e-5, rel=0.02)  # 3 x 3 x 3 points without Gamma


@pytest.mark.parametrize(("options", "message"), [
    ("--to-temperature 300 --to-pressure 1", "either --to-temperature or --to-pressure"),
    ("--to-pressure 1", "needs a --pressure"),
    ("--melt 300", "goes with --phase liquid"),
    ("--repeat 2,2", "three positive numbers"),
    ("--phase harmonic --pressure 0", "leave out pressures"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(run, options, message):
    code, _, err = run(f"free-energy ar.safetensors ar.xyz {options}")
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_crystal_that_melts_fails_with_one_line(run):
    code, _, err = run(f"free-energy ar.safetensors ar.xyz --repeat 2,2,2 --temperature 400 {FAST}")
    assert code == 1
    assert "left their sites" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.optimized
def test_melt(run, folder):
    line = "melt ar.safetensors ar.xyz --repeat 3,3,3 --guess 75 --melt 180 --steps 3000 --repeats 2 --dt 8"
    code, out, err = run(f"{line} --span 0.25 --friction 0.002 --tau-pressure 2000 --figure melt.png -o melt.json -q")
    assert code == 0, err
    assert "melting temperature" in out
    found = json.loads((folder / "melt.json").read_text())
    assert 55 < found["temperature"] < 95  # a cut and shifted potential melts below the full one's 83 K
    assert found["enthalpy"] > 0
    assert (folder / "melt.png").stat().st_size > 5000
