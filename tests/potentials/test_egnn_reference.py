"""EGNN against the authors' code: every structure of the reference set, from each of the native files."""

import pytest
from gnn_reference import assert_same, compare

from jaxmlp.formats import egnn

pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.fixture
def folder(shared):
    return shared / "reference" / "gnn" / "egnn"


def test_agrees_with_the_original(folder):
    potential, params = egnn.load(folder)
    print(compare(potential, params, folder / "cases.npz"))


@pytest.mark.parametrize("file", ["weights.npz", "state_dict.pt", "model.pt"])
def test_every_file_holds_the_same_model(folder, file):
    assert_same(egnn.load(folder / file), egnn.load(folder))


def test_model_pt_needs_no_config(folder, tmp_path):
    (tmp_path / "model.pt").write_bytes((folder / "model.pt").read_bytes())
    assert_same(egnn.load(tmp_path, species=["H", "O"]), egnn.load(folder))
