"""ANI networks against torchani and a loop over neighbours; networks made from scratch."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import Graph
from jaxmlp.basis.symmetry_functions import ANGULAR
from jaxmlp.potentials.ani import ani
from jaxmlp.potentials.bpnn import bpnn

NUMBERS = [6, 8, 7, 1, 1, 1]
R = np.array([[0, 0, 0], [1.2, 0.1, 0], [-0.7, 1.1, 0.2], [-0.6, -0.9, 0.3], [-0.2, 2, 0.1], [-1.7, 1, 0.4]], float)
# torchani 2.9, AEVComputer.like_1x() in float64, its constants (stored as float32) set to exact ones: norms of the six
# vectors of 384 values, their products with cos(0.7 k), and the gradient of the sum of these products for the oxygen.
NORMS = [
    2.2133792413522726,
    0.9856274352859333,
    2.484850450376416,
    1.1251831200276932,
    1.1845077901202852,
    1.3193761690667516,
]
PRODUCTS = [
    -1.6996918110356838,
    0.6887328452140165,
    -0.4021044209502252,
    1.3858617664971422,
    1.080109600983138,
    -0.95072150967596,
]
GRADIENT = [2.492357624543831, 3.0355767332696724, 0.902143464154505]


@pytest.fixture(scope="module")
def vectors():
    """The function of positions that gives the symmetry functions (6, 384)."""
    potential = ani()
    f = jm.site_fn(potential, jm.System(NUMBERS, R, None), "descriptors")
    params = potential.init(jax.random.key(0))
    return lambda x: f(x, None, params)


def test_the_vectors_are_those_of_torchani(vectors):
    def product(x):
        G = vectors(x)
        products = G @ jnp.cos(0.7 * jnp.arange(384.0))
        return jnp.sum(products), (jnp.linalg.norm(G, axis=1), products)

    slope, (norms, products) = jax.jit(jax.grad(product, has_aux=True))(jnp.asarray(R))
    np.testing.assert_allclose(norms, NORMS, rtol=1e-13)
    np.testing.assert_allclose(products, PRODUCTS, rtol=1e-12)
    np.testing.assert_allclose(slope[1], GRADIENT, rtol=1e-12)


@pytest.mark.parametrize("paper", [False, True])
def test_a_loop_over_neighbours(paper):
    species, shifts, far = (1, 6, 7, 8), (0.9, 1.7), (1.0, 2.0)
    options = {"radial_shifts": shifts, "angular_shifts": far, "angles": 3, "zeta": 8.0, "paper": paper}
    potential = ani(species, **options)
    f = jm.site_fn(potential, jm.System(NUMBERS, R, None), "descriptors")
    got = jax.jit(f)(jnp.asarray(R), None, potential.init(jax.random.key(0)))
    cutoff = lambda r, rc: 0.5 * (1 + np.cos(np.pi * r / rc)) if r < rc else 0.0
    pairs = list(itertools.combinations_with_replacement(species, 2))
    expected = np.zeros((6, 4 * 2 + 10 * 2 * 3))
    for i in range(6):
        others = [j for j in range(6) if j != i]
        d = {j: R[j] - R[i] for j in others}
        r = {j: np.linalg.norm(d[j]) for j in others}
        for j, (m, shift) in itertools.product(others, enumerate(shifts)):
            term = (1.0 if paper else 0.25) * np.exp(-16 * (r[j] - shift) ** 2) * cutoff(r[j], 5.2)
            expected[i, 2 * species.index(NUMBERS[j]) + m] += term
        for j, k in itertools.combinations(others, 2):
            theta = np.arccos((1.0 if paper else 0.95) * d[j] @ d[k] / (r[j] * r[k]))
            pair = pairs.index(tuple(sorted((NUMBERS[j], NUMBERS[k]))))
            for (m, shift), p in itertools.product(enumerate(far), range(3)):
                angle = 2 ** (1 - 8) * (1 + np.cos(theta - (p + 0.5) * np.pi / 3)) ** 8
                window = cutoff(r[j], 3.5) * cutoff(r[k], 3.5)
                expected[i, 8 + 6 * pair + 3 * m + p] += angle * window * np.exp(-8 * ((r[j] + r[k]) / 2 - shift) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("paper", [False, True])
def test_derivatives_of_atoms_in_a_line_are_finite(paper):
    options = {"angles": 2, "angular_shifts": (1.0,), "radial_shifts": (1.0,), "nodes": {6: (4,), 8: (3,)}}
    potential = ani((6, 8), **options, paper=paper)
    params = potential.init(jax.random.key(1))
    index = jnp.zeros((1, 2), jnp.int32)

    def energy(z):
        planes = (jnp.zeros((1, 2)), jnp.zeros((1, 2)), z[None])
        graph = Graph(index[:, 0], planes, index, index, index == 0, jnp.zeros((1, 3)), None, ((3.5, 2), (5.2, 2)))
        return potential.site_energies(params, graph)[0]

    derivatives = jax.jit(lambda z: (jax.grad(energy)(z), jax.hessian(energy)(z)))
    for z in ([-1.2, 1.3], [1.2, 2.3]):
        assert all(np.isfinite(x).all() for x in derivatives(jnp.asarray(z)))


def test_the_networks_are_those_of_ani_1x():
    potential = ani()
    assert potential.nodes == ((160, 128, 96), (144, 112, 96), (128, 112, 96), (128, 112, 96))
    assert {len(fs) for fs in potential.functions} == {384}
    assert (potential.cutoff, potential.shells) == (5.2, (3.5, 5.2))
    shapes = jax.eval_shape(lambda: potential.init(jax.random.key(0)))
    sizes = [itertools.pairwise((384, *nodes, 1)) for nodes in potential.nodes]
    found = sum(x.size for x in jax.tree.leaves((shapes["weights"], shapes["biases"])))
    assert found == sum(i * o + o for layers in sizes for i, o in layers)


def test_a_network_from_scratch():
    potential = bpnn((14, 6), 5.0, n_radial=4, n_angular=2, nodes=(5, 3))
    functions = potential.functions[0]
    assert len(functions) == 2 * 4 + 3 * 2 * 2 * 2
    assert (potential.species, potential.cutoff) == ((14, 6), 5.0)
    radial = [f for f in functions if f.kind == 2 and f.elements == (6,)]
    assert [(f.shift, f.eta) for f in radial] == [(1.0, 0.5), (2.0, 0.5), (3.0, 0.5), (4.0, 0.5)]
    assert {f.kind for f in functions} & set(ANGULAR) == {3}
    with pytest.raises(ValueError, match="first < cutoff"):
        bpnn((14,), 0.5)
