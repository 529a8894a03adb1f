"""SOAP and soap_turbo against vectors of quippy for every option, and at the places where angles have no meaning."""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import jaxmlp as jm
from jaxmlp.basis.soap import SOAP
from jaxmlp.basis.soap_radial import radial_functions
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.basis.soap_turbo_radial import Overlap
from jaxmlp.evaluate import full_graph
from jaxmlp.formats.gap_strings import descriptors
from jaxmlp.potentials.pair import LennardJones

# quippy.descriptors.Descriptor(string).calc of this cluster: quippy-ase 0.10.1, one process for each string.
CASES = json.loads((Path(__file__).parent / "soap.json").read_text())
R = np.array([[0, 0, 0], [1.9, 0.3, -0.2], [-0.4, 2.1, 0.5], [0.6, -1.2, 1.8], [-2.3, -1.1, -0.9], [1.5, 2.6, 1.4]])
CLUSTER = jm.System([14, 8, 14, 8, 14, 14], R)
SPECIES = (8, 14)
TURBO = dict(
    alpha_max=(3, 2), atom_sigma_r=(0.4, 0.5), atom_sigma_r_scaling=(0.1, 0.0), atom_sigma_t=(0.5, 0.4),
    atom_sigma_t_scaling=(0.0, 0.1), amplitude_scaling=(1.0, 1.0), central_weight=(1.0, 1.0),
)  # fmt: skip


def refuse(message):
    raise AssertionError(message)


def vectors(descriptor, R):
    return jax.jit(jm.descriptor_fn(descriptor, CLUSTER))(R, None)


@cache
def cluster(cutoff):
    """The graph of the cluster: vectors are computed operation by operation, compiling each string would cost more."""
    R = jnp.asarray(CLUSTER.R)
    neighbors = jm.NeighborSearch.allocate(R, None, (False,) * 3, (cutoff,))(R, None)
    atoms = LennardJones(SPECIES, cutoff, "truncated")  # names the species, nothing else
    return full_graph(atoms, R, None, jnp.asarray([SPECIES.index(z) for z in CLUSTER.numbers]), neighbors)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["string"][:60])
def test_vectors_are_those_of_quippy(case):
    descriptor = descriptors(case["string"], 1686220958, Path(), refuse)[0][0]
    found = descriptor.vectors(SPECIES, cluster(descriptor.cutoff))[0]
    np.testing.assert_allclose(found, case["vector"], rtol=0, atol=1e-12)  # components are of order 0.1 to 1
    assert descriptor.dimensions == len(case["vector"])


@pytest.mark.parametrize("descriptor", [SOAP(SPECIES, 4.0, 3, 4), SOAPTurbo(SPECIES, 4.0, 3.2, 4, **TURBO)])
def test_neighbours_along_the_axes_are_like_all_others(descriptor):
    """Rotated onto the poles and turned there: vectors are the same, first and second derivatives finite and right."""
    pair = np.array([[0, 0, 0], [0, 0, 2.0], [0, 0, -1.7], [1.9, 0, 0], [0, -1.8, 0], [3.0, 0, 0]])
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    f = jax.jit(lambda R: vectors(descriptor, R)[0])
    np.testing.assert_allclose(f(pair @ Q.T), f(pair), rtol=0, atol=1e-12)
    v = jnp.asarray(np.random.default_rng(1).normal(size=pair.shape))
    weights = jnp.asarray(np.random.default_rng(2).normal(size=descriptor.dimensions))
    g = jax.jit(jax.grad(lambda R: f(R) @ weights))
    curvature = jax.jit(lambda R, v: jax.jvp(g, (R,), (v,))[1])
    turned = curvature(pair @ Q.T, v @ Q.T)
    np.testing.assert_allclose(turned, curvature(jnp.asarray(pair), v) @ Q.T, rtol=0, atol=1e-9)  # of order 1


def test_equispaced_gaussians_project_the_density():
    """R_l(a; r) of an orthonormal set made by hand: the overlaps with the Gaussian by quadrature."""
    n, sigma, cutoff, r = 4, 0.6, 4.0, 1.3
    al, reach = 1 / (2 * sigma**2), cutoff + sigma * np.sqrt(20 * np.log(10))
    nodes = np.arange(n) * reach / n
    product = lambda x, a, b: np.exp(-al * ((x - a) ** 2 + (x - b) ** 2)) * x * x
    overlap = np.array([[quad(product, 0, 20, (a, b))[0] for b in nodes] for a in nodes])
    gram = np.exp(-al * (nodes[:, None] - nodes) ** 2)
    expected = np.exp(-al * (r - nodes) ** 2)  # i_0 = sinh(x) / x
    x = 2 * al * r * nodes
    expected = expected * np.where(x > 0, (1 - np.exp(-2 * x)) / (2 * np.where(x > 0, x, 1)), 1.0)
    expected = expected @ np.linalg.solve(gram, np.linalg.cholesky(overlap))
    found = radial_functions(np.array([r]), "EQUISPACED_GAUSS", n, 2, sigma, cutoff, 10.0)[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-8)  # of the quadrature


def test_the_overlaps_of_the_central_gaussian():
    S = Overlap("poly3gauss", 3, 0.2).matrix()
    p = lambda t, n: np.sqrt(2 * n + 5) * (1 - t) ** (n + 2)
    g = lambda t: np.sqrt(2 / 0.2) / np.pi**0.25 * np.exp(-0.5 * (t / 0.2) ** 2)
    for n in (1, 2):
        np.testing.assert_allclose(S[n - 1, 2], quad(lambda t, n=n: p(t, n) * g(t), 0, 1)[0])
    W = Overlap("poly3gauss", 3, 0.2).transform()
    np.testing.assert_allclose(W @ S @ W, np.eye(3), atol=1e-9)


def test_compression_keeps_components():
    full = SOAPTurbo(SPECIES, 4.0, 3.2, 3, **TURBO)
    keep = (0, 7, 11, 30)
    some = SOAPTurbo(SPECIES, 4.0, 3.2, 3, **TURBO, compress=keep)
    q = vectors(full, R)[:, np.array(keep)]
    np.testing.assert_allclose(vectors(some, R), q / np.linalg.norm(q, axis=1, keepdims=True), atol=1e-14)


@pytest.mark.parametrize("full", [SOAP(SPECIES, 4.0, 3, 2), SOAPTurbo(SPECIES, 4.0, 3.2, 2, **TURBO, central_index=2)])
def test_restriction_is_a_slicing(full):
    silicon = jm.System([14] * 6, R)
    some, columns = full.restrict((14,))
    q = jax.jit(jm.descriptor_fn(full, silicon))(R, None)
    np.testing.assert_allclose(jax.jit(jm.descriptor_fn(some, silicon))(R, None), q[:, columns], atol=1e-14)
    np.testing.assert_allclose(np.delete(q, columns, axis=1), 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(atom_sigma=0.01), "fiftieth of the cutoff"),
        (dict(n_max=0), "n_max from 1"),
        (dict(radial_basis="gto"), "must be one of"),
        (dict(cutoff_transition_width=9.0), "cutoff_transition_width <= cutoff"),
        (dict(species=(8, 8)), "different atomic numbers"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SOAP(**{"species": SPECIES, "cutoff": 4.0, "n_max": 3, "l_max": 2} | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(rcut_soft=4.0), "rcut_soft < rcut_hard"),
        (dict(alpha_max=(3,)), "alpha_max must have one number"),
        (dict(alpha_max=(11, 2)), "alpha_max from 1 to 10"),
        (dict(compress=(0, 0)), "different numbers of components"),
        (dict(central_index=3), "central_index 3 from 1 to 2"),
        (dict(overlaps=(Overlap("poly3", 3),) * 2), "numbers of functions of alpha_max"),
    ],
)
def test_options_of_soap_turbo_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        SOAPTurbo(**{"species": SPECIES, "rcut_hard": 4.0, "rcut_soft": 3.2, "l_max": 2} | TURBO | options)
