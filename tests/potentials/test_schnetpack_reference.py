"""SchNet and PaiNN against schnetpack: every structure of the reference set, from each of the native files."""

import pytest
from gnn_reference import assert_same, compare

from jaxmlp.formats import schnetpack

MODELS = {"schnet": ("H", "O"), "painn": ("Al", "Cu"), "painn_rmd17_ethanol": ("C", "H", "O")}
pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_schnetpack(shared, name):
    folder = shared / "reference" / "gnn" / name
    potential, params = schnetpack.load(folder, species=MODELS[name])
    print(name, compare(potential, params, folder / "cases.npz"))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("file", ["weights.npz", "best_model", "state_dict.pt"])
def test_every_file_holds_the_same_model(shared, name, file):
    folder = shared / "reference" / "gnn" / name
    if not (folder / file).is_file():
        pytest.skip(f"there is no {file} of this model")
    assert_same(schnetpack.load(folder / file), schnetpack.load(folder))


@pytest.mark.parametrize("name", MODELS)
def test_a_pickled_module_needs_no_config(shared, name, tmp_path):
    """But for the unit of energy, which schnetpack does not store."""
    folder = shared / "reference" / "gnn" / name
    (tmp_path / "best_model").write_bytes((folder / "best_model").read_bytes())
    unit = 0.04336410390059322 if "rmd17" in name else 1.0  # kcal/mol
    assert_same(schnetpack.load(tmp_path, eV_per_native_unit=unit), schnetpack.load(folder))
