"""Irreps, harmonics, couplings, linear maps and convolutions against e3nn's torch package and their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis import irreps as ir
from jaxmlp.basis.convolution import Path, convolution, path_irreps, paths, species_convolution
from jaxmlp.basis.radial_bessel import polynomial_envelope, radial_bessel
from jaxmlp.basis.scalar_network import scalar_network

EXACT = dict(rtol=1e-13, atol=1e-14)  # a few float64 operations on numbers of order 1
SUMS = dict(rtol=1e-12, atol=1e-12)  # sums of some hundred of these


@pytest.fixture(scope="module")
def conventions(shared):
    folder = shared / "reference/gnn/conventions"
    return {version: np.load(folder / f"e3nn_torch_{version}.npz") for version in ir.CONVENTIONS}


@pytest.fixture(scope="module")
def edges():
    """Two atoms with five neighbours each: unit vectors, harmonics up to l = 2, radial weights for 200 channels."""
    rng = np.random.default_rng(1)
    v = rng.normal(size=(3, 2, 5))
    unit = jnp.asarray(v / np.linalg.norm(v, axis=0))
    return unit, ir.harmonics(*unit, 2), jnp.asarray(rng.normal(size=(2, 5, 200)))


def feature(irreps, *shape, seed=2):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=(*shape, 2 * int(name[0]) + 1, f))) for name, f in irreps.items()}


@pytest.mark.shared
@pytest.mark.parametrize("version", ir.CONVENTIONS)
def test_couplings_are_those_of_e3nn(conventions, version):
    names = [name for name in conventions[version].files if name.startswith("w3j_")]
    assert len(names) > 150  # l <= 6
    for name in names:
        degrees = tuple(int(l) for l in name.split("_")[1:])
        np.testing.assert_allclose(ir.coupling(*degrees, version), conventions[version][name], **EXACT)


def test_unknown_couplings_are_refused():
    assert ir.coupling(7, 7, 7).shape == (15, 15, 15)
    with pytest.raises(ValueError, match="up to l = 6"):
        ir.coupling(7, 7, 7, "0.4.4")
    with pytest.raises(ValueError, match=r"e3nn 0\.6\.0 or 0\.4\.4"):
        ir.coupling(1, 1, 1, "0.5.0")


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
    before, after = ir.parse_irreps("3x0e+2x1o+2x0e"), ir.parse_irreps("4x0e+3x1o")
    out = ir.linear(ir.linear_from_flat(data["lin_w"], before, after), ir.from_flat(jnp.asarray(data["lin_x"]), before))
    np.testing.assert_allclose(ir.to_flat(out, after), data["lin_o"], **EXACT)
    with pytest.raises(ValueError, match="needs 26 weights; got 25"):
        ir.linear_from_flat(data["lin_w"][:-1], before, after)


@pytest.mark.shared
def test_constants_of_activations_are_those_of_e3nn(conventions):
    for data in conventions.values():
        for name, key in (("silu", "silu_cst"), ("tanh", "tanh_cst"), ("sigmoid", "sig_cst")):
            assert ir.NORMALISED[name] == pytest.approx(float(data[key]), rel=1e-15)


def test_names_and_layouts_of_irreps():
    layout = ir.parse_irreps("3x0e + 1o+2x2e+ 4x1o+0x3e")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3 + 3 + 10 + 12)))
    features = ir.from_flat(x, layout)
    assert {k: v.shape for k, v in features.items()} == {"0e": (2, 5, 1, 3), "1o": (2, 5, 3, 5), "2e": (2, 5, 5, 2)}
    np.testing.assert_array_equal(ir.to_flat(features, layout), x)
    np.testing.assert_array_equal(features["1o"][0, 0, :, 0], x[0, 0, 3:6])  # the first channel's x, y, z
    assert ir.format_irreps(ir.merged(ir.parse_irreps("1x1e+2x0e+3x1o+0o+4x0e"))) == "1x0o+6x0e+3x1o+1x1e"
    assert ir.products((1, -1), (2, 1)) == [(1, -1), (2, -1), (3, -1)]
    for text in ("3x", "2x1", "1o,2e", "x0e"):
        with pytest.raises(ValueError, match="16x0e"):
            ir.parse_irreps(text)


def test_a_gate_multiplies_by_activated_scalars():
    irreps = ir.parse_irreps("2x0e+1x0o+2x1e+3x1o")
    assert ir.format_irreps(ir.gate_input(irreps)) == "1x0o+7x0e+3x1o+2x1e"
    x = feature(ir.widths(ir.gate_input(irreps)), 4)
    out = ir.gate(x, irreps)
    gates = x["0e"][..., 2:]
    np.testing.assert_allclose(out["0e"], 1.6791767923989418 * jax.nn.silu(x["0e"][..., :2]), **EXACT)
    np.testing.assert_allclose(out["0o"], 1.5937334472592695 * jnp.tanh(x["0o"]), **EXACT)
    np.testing.assert_allclose(out["1e"], 1.6791767923989418 * jax.nn.silu(gates[..., :2]) * x["1e"], **EXACT)
    np.testing.assert_allclose(out["1o"], 1.6791767923989418 * jax.nn.silu(gates[..., 2:]) * x["1o"], **EXACT)
    del x["1e"]
    np.testing.assert_array_equal(ir.gate(x, irreps)["1o"], out["1o"])


def simple(x, Y, R, paths, convention):
    """The convolution as its definition says it, one path after another."""
    out, start = {}, 0
    for mul, (a, p), b, (c, q) in paths:
        w = math.sqrt(2 * c + 1) * ir.coupling(a, b, c, convention)
        radial = R[..., start : start + mul]
        m = jnp.einsum("neu,neiu,nej,ijk->nku", radial, x[ir.label(a, p)], jnp.stack(Y[b], -1), w)
        out.setdefault(ir.label(c, q), []).append(m)
        start += mul
    return {name: jnp.concatenate(parts, -1) for name, parts in out.items()}


@pytest.mark.parametrize("convention", ir.CONVENTIONS)
def test_the_convolution_is_its_definition(edges, convention):
    _, Y, R = edges
    every = paths(ir.parse_irreps("3x0e+2x1e+2x1o+3x2e"), 2, ir.parse_irreps("1x0e+1x0o+1x1e+1x1o+1x2o+1x2e"))
    assert every[:3] == (Path(3, (0, 1), 0, (0, 1)), Path(3, (0, 1), 1, (1, -1)), Path(3, (0, 1), 2, (2, 1)))
    R = R[..., : sum(path.mul for path in every)]
    x = feature({"0e": 3, "1e": 2, "1o": 2, "2e": 3}, 2, 5)
    found, expected = convolution(x, Y, R, every, convention), simple(x, Y, R, every, convention)
    assert {name: m.shape[-1] for name, m in found.items()} == ir.widths(path_irreps(every))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SUMS), found, expected)
    hidden, last = jnp.linalg.qr(R.reshape(10, -1))
    pair = (hidden.reshape(2, 5, 10), last)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **SUMS), convolution(x, Y, pair, every, convention), found
    )


@pytest.mark.parametrize("species", [1, 3])
def test_sums_by_species_are_the_convolution(edges, species):
    _, Y, R = edges
    rng = np.random.default_rng(4)
    kinds = jnp.asarray(rng.integers(0, species, (2, 5)))
    embedding = jnp.asarray(rng.normal(size=(species, 4)))
    every = paths(((4, 0, 1),), 2, ir.parse_irreps("0e+1o+2e"))
    hidden, last = R[..., :6], jnp.asarray(rng.normal(size=(6, 12)))
    for some in (every, every[::2]):
        weights = last[:, : 4 * len(some)]
        found = species_convolution(embedding, hidden, weights, Y, kinds, some)
        expected = convolution({"0e": embedding[kinds][:, :, None]}, Y, hidden @ weights, some)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **SUMS), found, expected)


def test_the_convolution_rotates_and_reflects(edges):
    """Vectors out of vectors: 1o turns with the edges, 1e does too and keeps its sign when everything is inverted."""
    unit, Y, R = edges
    Q, _ = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))
    Q = Q * np.sign(np.linalg.det(Q))
    every = paths(ir.parse_irreps("2x0e+2x1o"), 2, ir.parse_irreps("0e+1o+1e"))
    x = feature({"0e": 2, "1o": 2}, 2, 5)
    out = convolution(x, Y, R[..., : 2 * len(every)], every)
    for S, sign in ((Q, 1), (-Q, -1)):
        turned = ir.harmonics(*jnp.einsum("ab,bnm->anm", S, unit), 2)
        moved = x | {"1o": jnp.einsum("ab,nmbu->nmau", S, x["1o"])}
        found = convolution(moved, turned, R[..., : 2 * len(every)], every)
        np.testing.assert_allclose(found["0e"], out["0e"], **SUMS)
        np.testing.assert_allclose(found["1o"], jnp.einsum("ab,nbu->nau", S, out["1o"]), **SUMS)
        np.testing.assert_allclose(found["1e"], sign * jnp.einsum("ab,nbu->nau", S, out["1e"]), **SUMS)


@pytest.mark.parametrize("p", [2, 5, 6])
def test_radial_functions_end_smoothly(p):
    x = jnp.linspace(0.05, 0.95, 7)
    expected = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    np.testing.assert_allclose(polynomial_envelope(x, p), expected, **SUMS)
    w = math.pi * jnp.arange(1.0, 4.0)
    f = lambda r: radial_bessel(r, r / 4.0, w, p)
    r = jnp.array([0.3, 2.7])
    by_hand = jnp.sin(r[:, None] / 4.0 * w) / r[:, None] * polynomial_envelope(r / 4.0, p)[:, None]
    np.testing.assert_allclose(f(r), by_hand, **EXACT)
    derivative = f
    for _ in range(5):
        for distance in (4.0 + 1e-9, 14.0):  # beyond, and in a padded slot
            assert (derivative(jnp.asarray(distance)) == 0).all()
        derivative = jax.jacfwd(derivative)
    for order, tolerance in ((f, 1e-17), (jax.jacfwd(f), 1e-11), (jax.jacfwd(jax.jacfwd(f)), 1e-5)):
        np.testing.assert_allclose(order(jnp.asarray(4.0 - 1e-6)), 0.0, atol=100 * p**3 * tolerance)


def test_networks_keep_the_variance():
    rng = np.random.default_rng(7)
    x, a, b = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 4), (4, 5), (5, 2)))
    np.testing.assert_allclose(scalar_network(x, (a, b)), jax.nn.silu(x @ a / 2) @ b * math.sqrt(2 / 5), **EXACT)
    np.testing.assert_allclose(
        scalar_network(x, (a, b), jnp.tanh, forward=False),
        jnp.tanh(x @ a * math.sqrt(2 / 5)) @ b / math.sqrt(2),
        **EXACT,
    )
    np.testing.assert_allclose(scalar_network(x, (a,)), x @ a / 2, **EXACT)


def test_couplings_and_harmonics_are_those_of_e3nn_jax():
    e3nn = pytest.importorskip("e3nn_jax")
    for l1, l2, l3 in np.ndindex(4, 4, 4):
        if abs(l1 - l2) <= l3 <= l1 + l2:
            np.testing.assert_allclose(ir.coupling(l1, l2, l3), e3nn.clebsch_gordan(l1, l2, l3), atol=1e-14)
    v = np.random.default_rng(0).normal(size=(20, 3))
    expected = e3nn.spherical_harmonics(
        "0e+1o+2e+3o+4e", jnp.asarray(v), normalize=True, normalization="component"
    ).array
    x, y, z = jnp.asarray(v / np.linalg.norm(v, axis=1, keepdims=True)).T
    found = [plane for level in ir.harmonics(x, y, z, 4) for plane in level]
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=1e-13)
