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
