"""MACE models against mace-torch: every structure of the reference set, from each of the native files."""

import pytest
from gnn_reference import assert_same, compare

from jaxmlp.formats import mace

NAMES = ("mace_l2_nu2_scalar", "mace_l3_nu3", "mace_reduced_cg", "mace_zbl_agnesi_density", "mace_zbl_plain")
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_mace_torch(shared, name):
    folder = shared / "reference" / "gnn" / name
    potential, params = mace.load(folder)
    assert_same(mace.load(folder / "model.model"), (potential, params))
    if (folder / "state_dict.pt").exists():
        assert_same(mace.load(folder / "state_dict.pt"), (potential, params))  # with config.json
    print(name, {k: f"{v:.1e}" for k, v in compare(potential, params, folder / "cases.npz").items()})
