"""Covariance functions of GAP against their definitions, and their derivatives where descriptors coincide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis.covariance import Covariance

SYMMETRIC = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0))
CASES = {
    "ard_se": Covariance("ard_se"),
    "ard_se, permuted": Covariance("ard_se", permutations=SYMMETRIC),
    "pp": Covariance("pp"),
    "pp, permuted": Covariance("pp", permutations=SYMMETRIC),
    "dot_product": Covariance("dot_product", zeta=3.0),
    "dot_product, broken": Covariance("dot_product", zeta=2.5),
}


def reference(c: Covariance, x, y, theta, delta, f0) -> float:
    """k(x, y) in the words of the definition."""
    if c.kind == "dot_product":
        return delta**2 * np.dot(x, y) ** c.zeta

    def bare(x, y):
        r = np.sqrt(np.sum(((x - y) / theta) ** 2))
        j = len(x) // 2 + 2
        return np.exp(-(r**2) / 2) if c.kind == "ard_se" else max(1 - r, 0) ** (j + 1) * ((j + 1) * r + 1)

    def summed(x, y):
        return sum(bare(x, y[list(row)]) for row in c.permutations or (tuple(range(len(x))),))

    return (
        delta**2 * summed(x, y) / np.sqrt(summed(x, x) * summed(y, y)) + f0**2
        if c.permutations
        else (delta**2 * bare(x, y) + f0**2)
    )


def arguments(c: Covariance, d=3, m=4):
    rng = np.random.default_rng(2)
    x, sparse = 1 + rng.random((5, 2, d)), 1 + rng.random((m, d))
    theta = None if c.kind == "dot_product" else jnp.full(d, 1.3)
    return jnp.asarray(x), jnp.asarray(sparse), theta, jnp.asarray(0.7), jnp.asarray(0.3), rng.normal(size=m)


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_definition(name):
    c = CASES[name]
    x, sparse, theta, delta, f0, weights = arguments(c)
    k = c.covariance(x, sparse, theta, delta, f0)
    expected = [
        [[reference(c, a, b, theta, 0.7, 0.3) for b in np.asarray(sparse)] for a in row] for row in np.asarray(x)
    ]
    np.testing.assert_allclose(k, expected, rtol=1e-13)
    np.testing.assert_allclose(
        c.predict(x, sparse, theta, delta, f0, jnp.asarray(weights)), expected @ weights, rtol=1e-12, atol=1e-14
    )
    own = c.self_covariance(x, theta, delta, f0)
    np.testing.assert_allclose(own[1, 1], reference(c, *[np.asarray(x[1, 1])] * 2, theta, 0.7, 0.3), rtol=1e-13)
    matrix = c.matrix(sparse, sparse, theta, delta, f0)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-13)
    np.testing.assert_allclose(jnp.diag(matrix), c.self_covariance(sparse, theta, delta, f0), rtol=1e-13)


@pytest.mark.parametrize("name", ["ard_se", "ard_se, permuted", "pp, permuted"])
def test_both_ways_have_the_same_derivatives(name):
    """`predict` has derivative rules of its own; in x, parameters and weights, first and second."""
    c = CASES[name]
    x, sparse, theta, delta, f0, weights = arguments(c)
    args = (x[0], sparse, theta, delta, f0, jnp.asarray(weights))
    plain = lambda *a: jnp.sum(jnp.sin(jnp.matmul(c.covariance(*a[:5]), a[5])))
    rules = lambda *a: jnp.sum(jnp.sin(c.predict(*a)))
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), args)
    every = tuple(range(6))

    def derivatives(f):
        gradient = jax.grad(f, every)
        return gradient(*args), jax.jvp(gradient, args, direction)[1]

    for a, b in zip(jax.tree.leaves(derivatives(plain)), jax.tree.leaves(derivatives(rules)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["ard_se", "pp"])
def test_derivatives_where_descriptors_coincide(name):
    """k = delta^2 (1 - c sum_q (x_q - x'_q)^2 / (2 theta_q^2) + ...), c = 1 and (j + 1)(j + 2)."""
    c = CASES[name]
    _, sparse, theta, delta, f0, _ = arguments(c, m=1)
    one = jnp.ones(1)
    curvature = {"ard_se": 1.0, "pp": 20.0}[name]
    for k in (
        lambda x: c.covariance(x, sparse, theta, delta, f0)[0],
        lambda x: c.predict(x, sparse, theta, delta, f0, one),
    ):
        at = sparse[0]
        assert float(k(at)) == pytest.approx(0.7**2 + 0.3**2, rel=1e-14)
        np.testing.assert_allclose(jax.grad(k)(at), np.zeros(3), atol=1e-15)
        hessian = -curvature * 0.7**2 / 1.3**2 * np.eye(3)
        np.testing.assert_allclose(jax.hessian(k)(at), hessian, atol=1e-12)
        np.testing.assert_allclose(jax.jacfwd(jax.jacrev(k))(at), hessian, atol=1e-12)
        third = jax.jacfwd(jax.hessian(k))(at)
        np.testing.assert_allclose(third, np.zeros((3, 3, 3)), atol=1e-12)


def test_many_dimensions_and_single_precision():
    rng = np.random.default_rng(0)
    x, sparse = rng.random((6, 40)), rng.random((5, 40))
    c, theta = Covariance("ard_se"), np.full(40, 2.0)
    expected = np.exp(-0.5 * np.sum(((x[:, None] - sparse) / 2.0) ** 2, axis=-1))
    for dtype, tolerance in ((jnp.float64, 1e-13), (jnp.float32, 1e-5)):
        args = [jnp.asarray(a, dtype) for a in (x, sparse, theta, 1.0, 0.0)]
        k = c.covariance(*args)
        assert k.dtype == dtype
        np.testing.assert_allclose(k, expected, rtol=tolerance)
        few = c.predict(*[a[..., :3] if a.ndim else a for a in args], jnp.ones(5, dtype))
        assert few.dtype == dtype
        assert few.shape == (6,)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"kind": "matern"}, "one of"),
        ({"kind": "dot_product", "zeta": 0.0}, "zeta"),
        ({"kind": "ard_se", "permutations": ((1, 0),)}, "identity"),
        ({"kind": "ard_se", "permutations": ((0, 1), (0, 0))}, "identity"),
        ({"kind": "dot_product", "permutations": ((0, 1), (1, 0))}, "not for dot_product"),
    ],
)
def test_what_is_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        Covariance(**fields)
