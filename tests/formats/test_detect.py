"""Model files are recognised by what they contain, not by what they are called."""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp.formats import detect
from jaxmlp.potentials.nep import NEP

CARBON = NEP((6,), (4.2,), (3.7,), (2, 2), (2, 2), 2, neurons=3)
PARAMS = CARBON.init(jax.random.key(0))


@pytest.mark.parametrize("written", ["model.safetensors", "nep.txt", "CARBON.NEP"])
@pytest.mark.parametrize("name", ["model", "model.txt", "model.safetensors", "model.sw"])
def test_content_decides_whatever_the_name(tmp_path, written, name):
    detect.save(tmp_path / written, CARBON, PARAMS)
    (tmp_path / written).rename(tmp_path / name)
    potential, params = detect.load(tmp_path / name)
    assert potential == CARBON
    np.testing.assert_array_equal(params["W0"], PARAMS["W0"])


def classical():
    """Models of LAMMPS' formats: (ending, potential, parameters)."""
    from jaxmlp.potentials.eam import EAM
    from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
    from jaxmlp.potentials.tersoff import tersoff

    yield ".sw", *stillinger_weber_silicon()
    # Silicon of Tersoff, PRB 38, 9902 (1988).
    triplet = {"R": 2.85, "D": 0.15, "gamma": 1.0, "lambda3": 0.0, "c": 100390.0, "d": 16.217, "cos_angle": -0.59825}
    pair = {"A": 1830.8, "B": 471.18, "lambda1": 2.4799, "lambda2": 1.73222, "n": 0.78734, "beta": 1.1e-6}
    values = {k: np.full((1, 1, 1), v) for k, v in (triplet | {"m": 3}).items()}
    yield ".tersoff", *tersoff((14,), values | {k: np.full((1, 1), v) for k, v in pair.items()})
    r = np.linspace(0, 4, 9)
    for ending, numbers in ((".eam.alloy", (29, 28)), (".eam.fs", (29, 28))):
        fs = ending == ".eam.fs"
        eam = EAM(numbers, 4.0, 0.5, 0.5, fs)
        density = np.broadcast_to(4 - r, (2, 2, 9) if fs else (2, 9))
        yield ending, eam, eam.tabulated(-np.sqrt(np.stack([r, r])), density, np.broadcast_to((4 - r) ** 2, (2, 2, 9)))


@pytest.mark.parametrize(("ending", "potential", "params"), [pytest.param(*m, id=m[0]) for m in classical()])
def test_files_of_lammps_are_recognised(tmp_path, ending, potential, params):
    detect.save(tmp_path / f"model{ending}", potential, params)
    names = [f"model{ending}"] if ending == ".eam.fs" else [f"model{ending}", "model", "model.safetensors"]
    for name in names:  # only its name tells a Finnis-Sinclair file from other setfl files
        (tmp_path / f"model{ending}").replace(tmp_path / name)
        found, values = detect.load(tmp_path / name)
        assert found == potential
        for key in params:
            np.testing.assert_allclose(values[key], params[key], rtol=1e-14, atol=1e-14)
        (tmp_path / name).replace(tmp_path / f"model{ending}")


def test_elements_of_a_table_are_chosen(tmp_path):
    ending, potential, params = next(classical())
    detect.save(tmp_path / f"model{ending}", potential, params)
    assert detect.load(tmp_path / f"model{ending}", elements=["Si"])[0] == potential
    with pytest.raises(ValueError, match=r"has no option 'species' to load it with; it has: elements"):
        detect.load(tmp_path / f"model{ending}", species=["Si"])


def test_funcfl_is_recognised_and_not_written(tmp_path):
    numbers = "\n".join(["1.0"] * 27)
    (tmp_path / "copper").write_text(f"copper\n29 63.55 3.615 FCC\n9 0.5 9 0.5 4.0\n{numbers}\n")
    potential, _ = detect.load(tmp_path / "copper")
    assert potential.species == (29,)
    with pytest.raises(ValueError, match="cannot tell from the name"):
        detect.save(tmp_path / "copper.eam", *detect.load(tmp_path / "copper"))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "model", "found an empty file. Known are: jaxmlp's own"),
        (b"", "model.safetensors", "found an empty file"),
        (b"hello world\n", "model", "found `hello world`. Known are"),
        (b"\0\1\2", "model", "found binary data"),
        (b"hello world\n", "model.safetensors", "expected a safetensors file"),
        (b"nep4 2 Pb\n", "model", "line 1"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, content, name, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(jm.FormatError, match=message):
        detect.load(tmp_path / name)


def test_folders_and_missing_files_are_refused(tmp_path):
    with pytest.raises(jm.FormatError, match="found a folder"):
        detect.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        detect.load(tmp_path / "nothing")


def test_an_ending_that_says_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"use \.safetensors for"):
        detect.save(tmp_path / "model.xyz", CARBON, PARAMS)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_refused_or_recognised(tmp_path, content):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(jm.FormatError):
        detect.load(tmp_path / "model")
