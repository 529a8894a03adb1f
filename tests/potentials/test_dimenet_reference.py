"""DimeNet++ against PyTorch Geometric: every structure of the reference set, from each of the native files."""

import jax.numpy as jnp
import numpy as np
import pytest
from gnn_reference import assert_same, compare

from jaxmlp.basis.spherical_bessel import spherical_bessel, zeros_and_norms
from jaxmlp.formats import dimenet

pytestmark = [pytest.mark.shared, pytest.mark.optimized]


@pytest.fixture
def folder(shared):
    return shared / "reference" / "gnn" / "dimenetpp"


def test_agrees_with_pytorch_geometric(folder):
    potential, params = dimenet.load(folder, species=["H", "O"])
    print(compare(potential, params, folder / "cases.npz"))


@pytest.mark.parametrize("file", ["weights.npz", "state_dict.pt", "model.pt"])
def test_every_file_holds_the_same_model(folder, file):
    assert_same(dimenet.load(folder / file), dimenet.load(folder))


def test_model_pt_needs_no_config(folder, tmp_path):
    (tmp_path / "model.pt").write_bytes((folder / "model.pt").read_bytes())
    assert_same(dimenet.load(tmp_path, activation="swish"), dimenet.load(folder))


def test_constants_and_basis_are_those_of_the_code(folder):
    """The zeros and norms to the bit; the sample values of N_ln j_l(z_ln x) to float64 rounding."""
    with np.load(folder / "sbf_constants.npz") as z:
        zeros, norms = zeros_and_norms(*z["zeros"].shape, True)
        np.testing.assert_array_equal(zeros, z["zeros"])
        np.testing.assert_array_equal(norms, z["normalizers"])
        for l, expected in enumerate(z["check_values"]):
            found = norms[l, :, None] * spherical_bessel(l, jnp.asarray(zeros[l, :, None] * z["check_x"]))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
