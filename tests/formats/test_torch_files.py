"""Files of PyTorch: read without torch, nothing in them executed, complaints that name the tensor or option."""

import contextlib
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch_writer
from hypothesis import given
from hypothesis import strategies as st

from jaxmlp import FormatError
from jaxmlp.formats import torch_files, torch_pickle
from jaxmlp.formats.torch_files import Options, Weights

TENSORS = OrderedDict(
    a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.array(0.25), c=np.arange(3), empty=np.zeros((0, 2))
)
FAMILIES = {
    "schnet": "SchNet", "painn": "PaiNN", "painn_rmd17_ethanol": "PaiNN", "dimenetpp": "DimeNetPlusPlus",
    "egnn": "EGNN", "mace_l3_nu3": "ScaleShiftMACE", "nequip_l1": "NequIP", "allegro_l2": "Allegro",
}  # fmt: skip


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "constructor_kwargs": {"n": 3}}])
def test_tensors_come_back_by_name(tmp_path, wrap):
    torch_writer.save(tmp_path / "x.pt", wrap(TENSORS))
    found = torch_files.read_state(tmp_path / "x.pt")
    assert list(found) == list(TENSORS)
    for name, x in TENSORS.items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_strides_and_offsets_of_tensors():
    numbers = np.arange(12.0)
    np.testing.assert_array_equal(torch_pickle._tensor(numbers, 1, (2, 3), (1, 2)), 1 + np.arange(6).reshape(3, 2).T)
    for size, stride in (((3, 5), (4, 1)), ((2,), (-1,)), ((-2,), (1,))):
        with pytest.raises(ValueError, match="beyond its data"):
            torch_pickle._tensor(numbers, 1, size, stride)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path):
    torch_writer.save(tmp_path / "x.pt", {"state_dict": TENSORS, "more": Evil(tmp_path / "made")})
    content = torch_files.read_object(tmp_path / "x.pt")
    assert not (tmp_path / "made").exists()
    assert torch_pickle.kind_of(content["more"]) == "mkdir"
    assert content["more"].args == (str(tmp_path / "made"),)
    pickle.loads(pickle.dumps(Evil(tmp_path / "made")))  # which a usual reader would do
    assert (tmp_path / "made").exists()


@given(data=st.data())
def test_damaged_files_are_format_errors(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("torch") / "x.pt"
    torch_writer.save(path, TENSORS)
    with zipfile.ZipFile(path) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    text = members["archive/data.pkl"]
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(content))
    with contextlib.suppress(FormatError):
        torch_files.read_state(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("archive/data/0"), "damaged.*data/0"),
        (lambda m: m.update({"archive/data/0": b"\0" * 8}), "truncated"),
        (lambda m: m.update({"archive/byteorder": b"big"}), "big-endian"),
        (lambda m: m.pop("archive/data.pkl"), "data.pkl"),
    ],
)
def test_incomplete_archives(tmp_path, change, message):
    torch_writer.save(tmp_path / "x.pt", TENSORS)
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FormatError, match=message):
        torch_files.read_state(tmp_path / "x.pt")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"\x80\x02}.")
    with pytest.raises(FormatError, match=r"torch 1.6 or later.*older form"):
        torch_files.read_state(tmp_path / "x.pt")
    np.savez(tmp_path / "y.npz", a=np.array([{}], dtype=object))
    with pytest.raises(FormatError, match=r"expected arrays in an .npz"):
        torch_files.read_state(tmp_path / "y.npz")
    torch_writer.save(tmp_path / "z.pt", [1, 2])
    with pytest.raises(FormatError, match="tensors by name"):
        torch_files.read_state(tmp_path / "z.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match=r"expected one of weights.npz, .* in this folder"):
        torch_files.read_state(tmp_path / "folder")


def test_weights_name_the_tensor():
    weights = Weights("file", dict(TENSORS) | {"bad": np.array([np.inf]), "text": np.array(["x"])})
    assert weights.take("a", (2, None)).dtype == np.float64
    assert weights.number("b") == 0.25
    for call, message in (
        (lambda: weights.take("d"), "'d' is missing"),
        (lambda: weights.take("a", (3, None)), r"'a' has shape \(2, 3\); expected \(3, any\)"),
        (lambda: weights.take("bad"), "'bad' holds NaN"),
        (lambda: weights.take("text"), "'text' is of dtype"),
        (lambda: weights.number("a"), "'a' has shape .* one number"),
        (lambda: weights.shape("a", 1), "'a' has shape .*expected 1 axes"),
        (weights.finish, "not supported: bad, c, empty, text"),
    ):
        with pytest.raises(FormatError, match=message):
            call()
    weights.skip("bad", "c", "empty", "text", "absent")
    weights.finish()


def test_options_name_the_option():
    options = Options("file", {"n": 3, "x": 1, "name": "a", "flag": True, "rest": 1, "null": None}, {"n": 4, "x": None})
    assert options.take("n", int) == 4  # what is given comes first
    assert options.take("x", float) == 1.0
    assert options.take("null", int, 7) == 7
    for call, message in (
        (lambda: options.take("missing", int), "'missing' is needed: put it into config.json"),
        (lambda: options.take("flag", int), "'flag' must be an integer; found True"),
        (lambda: options.take("name", float), "'name' must be a number"),
        (lambda: options.choose("name", ("b", "c")), "'name' is 'a'; expected one of b, c"),
        (lambda: options.require("n", 5, "why"), "'n' is 4; expected 5: why"),
        (options.finish, "not supported: rest"),
    ):
        with pytest.raises(FormatError, match=message):
            call()


def test_config_is_a_json_object(tmp_path):
    assert torch_files.read_config(tmp_path) == {}
    for text, message in (("[1]", "JSON object"), ("{", "config.json, line 1: expected JSON")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(FormatError, match=message):
            torch_files.read_config(tmp_path / "weights.npz")


@pytest.mark.shared
@pytest.mark.parametrize("name", FAMILIES)
def test_files_of_every_family(shared, name):
    """Native files give the tensors of weights.npz, but for constants that e3nn compiles in, and say what they are."""
    folder = shared / "reference" / "gnn" / name
    expected = torch_files.read_state(folder)
    for file in (folder, *(folder / f for f in torch_files.WEIGHTS if (folder / f).is_file())):
        assert torch_files.architecture(file) == FAMILIES[name]
        found = torch_files.read_state(file)
        assert all("_w3j_" in missing for missing in expected.keys() ^ found.keys())
        for key, value in found.items():
            np.testing.assert_array_equal(value, expected[key])
    assert torch_files.architecture(folder / "README.md") is None
    assert torch_files.architecture(folder / "cases.npz") is None
