"""Irreps, harmonics, couplings, linear maps and convolutions against e3nn's torch package and their definitions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis import irreps as ir
from jaxmlp.basis.convolution import Path, convolution, path_irreps, paths, species_convolution
from jaxmlp.basis.radial_bessel import polynomial_envelope, radial_bessel

EXACT = dict(rtol=1e-13, atol=1e-14)  # a few float64 operations on numbers of order 1


@pytest.fixture(scope="module")
def conventions(shared):
    folder = shared / "reference/gnn/conventions"
    return {version: np.load(folder / f"e3nn_torch_{version}.npz") for version in ir.CONVENTIONS}


@pytest.mark.shared
@pytest.mark.parametrize("version", ir.CONVENTIONS)
def test_couplings_are_those_of_e3nn(conventions, version):
    names = [name for name in conventions[version].files if name.startswith("w3j_")]
    assert len(names) > 150  # l <= 6
    for name in names:
        degrees = tuple(int(l) for l in name.split("_")[1:])
        np.testing.assert_allclose(ir.coupling(*degrees, version), conventions[version][name], atol=1e-12)


@pytest.mark.shared
@pytest.mark.parametrize("normalization", ir.NORMALIZATIONS)
def test_harmonics_are_those_of_e3nn(conventions, normalization):
    for data in conventions.values():
        v = data["v"] / np.linalg.norm(data["v"], axis=1, keepdims=True)
        planes = ir.harmonics(*(jnp.asarray(v[:, k]) for k in range(3)), 4, normalization)
        found = np.stack([p for level in planes for p in level], axis=1)
        np.testing.assert_allclose(found, data[f"sh_{normalization}_True"], **EXACT)


@pytest.mark.shared
def test_linear_maps_are_those_of_e3nn(conventions):
    data = conventions["0.6.0"]
    inside, outside = ir.parse_irreps("3x0e+2x1o+2x0e"), ir.parse_irreps("4x0e+3x1o")
    for layout in itertools.permutations(inside):
        x = ir.from_flat(jnp.asarray(data["lin_x"]), layout)
        out = ir.to_flat(ir.linear(ir.linear_from_flat(data["lin_w"], layout, outside), x), outside)
        if np.allclose(out, data["lin_o"], **EXACT):
            break
    else:
        pytest.fail("no order of the blocks gives the outputs of e3nn")


def test_a_flat_layout_returns(rng=np.random.default_rng(0)):
    layout = ir.parse_irreps("3x0e + 1o+2x2e+ 4x1o+0x3e")
    x = jnp.asarray(rng.normal(size=(2, 5, 3 + 3 + 10 + 12)))
    features = ir.from_flat(x, layout)
    assert {k: v.shape for k, v in features.items()} == {"0e": (2, 5, 1, 3), "1o": (2, 5, 3, 5), "2e": (2, 5, 5, 2)}
    np.testing.assert_array_equal(ir.to_flat(features, layout), x)
    assert ir.format_irreps(ir.merged(layout)) == "3x0e+5x1o+2x2e"
