"""Metadynamics and OPES: single depositions by their formulas, memories that fill up, a double well."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from well import KT, V_MEAN, X2_MEAN, X, averages, biased

from jaxmlp.sampling import OPES, Function, Metadynamics, Stack, Torsion, profile, weights
from jaxmlp.sampling import kernels as kn

pytestmark = pytest.mark.optimized  # runs of 10^6 steps

PLANE = Function(lambda R, box: R[0, :2], size=2)
SIDE = Torsion((0, 1, 2, 3))


def deposited(bias, points, kT=KT):
    """The memory after depositions at points (n, d)."""
    start = bias.start(kT)
    return jax.jit(lambda memory, points: jax.lax.scan(lambda m, s: (bias.updated(m, s, kT), None), memory, points)[0])(
        start, jnp.asarray(points, float)
    )


def test_hills_by_their_formula():
    """Heights, bias, free energy and c(t) of a few depositions, from the formulas in numpy."""
    points = np.array([[0.0, 0.0], [0.3, -0.2], [1.0, 0.5], [0.2, 0.1]])
    width, gamma = np.array([0.3, 0.4]), 5.0
    bias = Metadynamics(PLANE, (18,), width=tuple(width), height=0.1, biasfactor=gamma, capacity=6)
    memory = deposited(bias, points)

    def V(s, heights):
        x = (s - points[: len(heights)]) / width
        return np.dot(heights, np.exp(-0.5 * np.sum(x**2, axis=1)))

    heights = []
    for s in points:
        heights.append(0.1 * np.exp(-V(s, heights) / (KT * (gamma - 1))))
    np.testing.assert_allclose(memory.kernels.heights[:4], heights, rtol=1e-13)
    assert memory.kernels.count == 4
    grid = np.stack(np.meshgrid(np.linspace(-3, 4, 60), np.linspace(-3, 4, 50)), -1).reshape(-1, 2)
    surface = np.array([V(s, heights) for s in grid])
    F = -surface * gamma / (gamma - 1)
    np.testing.assert_allclose(bias.free_energy(memory, grid), F - F.min(), rtol=1e-11, atol=1e-14)
    c = np.asarray(bias.offsets(memory, grid))
    mean = lambda power: np.mean(np.exp(power * surface / KT))
    np.testing.assert_allclose(c[4:], KT * np.log(mean(gamma / (gamma - 1)) / mean(1 / (gamma - 1))), rtol=1e-11)
    assert c[0] == 0
    assert np.all(np.diff(c[:5]) > 0)
    endless = Metadynamics(PLANE, (18,), width=tuple(width), height=0.1, biasfactor=float("inf"), capacity=6)
    np.testing.assert_array_equal(deposited(endless, points).kernels.heights[:4], 0.1)


def test_a_density_by_its_formula():
    """OPES without compression: weights, widths, Z and bias from the formulas in numpy, sum by sum."""
    points = np.array([[0.0], [0.5], [-0.4], [2.0]])
    for explore in (False, True):
        bias = OPES(X, (18,), width=0.3, barrier=1.0, biasfactor=4.0, threshold=0.0, capacity=6, explore=explore)
        memory = deposited(bias, points)
        power = 3.0 if explore else 0.75
        epsilon = np.exp(-1.0 / (power * KT))
        kernels, n, W, W2, Z = [], 1.0, np.exp(-1.0 / KT), np.exp(-2.0 / KT), 1.0

        def P(s):
            return sum(h * np.exp(-0.5 * ((s - c) / w) ** 2) for c, w, h in kernels) / (n if explore else W)  # noqa: B023

        V = lambda s: power * KT * np.log(P(s) / Z + epsilon)  # noqa: B023
        assert bias.bias(bias.start(KT), jnp.zeros(1)) == pytest.approx(-1.0)
        for s in points[:, 0]:
            w = np.exp(V(s) / KT)
            n, W, W2 = n + 1, W + w, W2 + w**2
            samples = n if explore else (1 + W) ** 2 / (1 + W2)
            shrink = (samples * 3 / 4) ** (-1 / 5)
            kernels.append((s, 0.3 * shrink, (1.0 if explore else w) / shrink))
            Z = np.mean([P(c) for c, _, _ in kernels])
        np.testing.assert_allclose(memory.Z, Z, rtol=1e-12)
        for s in (-1.0, 0.1, 0.7, 3.0, 20.0):
            np.testing.assert_allclose(bias.bias(memory, jnp.array([s])), V(s), rtol=1e-12)
        np.testing.assert_allclose(V(20.0), -1.0, rtol=1e-12)  # what is far away costs the barrier


def test_mergers_keep_weight_mean_and_variance():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2)) * np.array([1.0, 2.0])
    widths, heights = 0.2 + 0.2 * rng.random((60, 2)), 0.5 + rng.random(60)
    add = jax.jit(partial(kn.compressed, threshold=1.0, difference=lambda a, b: a - b))
    kernels = kn.empty(60, 2, float)
    for kernel in zip(points, widths, heights):
        kernels = add(kernels, kn.Kernel(*kernel))
    n = int(kernels.count)
    assert 20 < n < 55
    assert not kernels.heights[n:].any()
    c, w, h = (np.asarray(x[:n]) for x in kernels[:3])
    np.testing.assert_allclose(h.sum(), heights.sum(), rtol=1e-13)
    np.testing.assert_allclose(h @ c, heights @ points, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(h @ (c**2 + w**2), heights @ (points**2 + widths**2), rtol=1e-11)
    # No kernel is within a width of the last one: mergers went on until none was near.
    x = (c[-1] - c[:-1]) / w[:-1]
    assert np.sum(x**2, axis=1).min() > 1


def test_mergers_of_a_periodic_variable():
    near = SIDE.difference
    a = kn.Kernel(jnp.array([3.1]), jnp.array([0.2]), jnp.array(1.0))
    b = kn.Kernel(jnp.array([-3.1]), jnp.array([0.2]), jnp.array(3.0))
    c = kn.merged(a, b, near)
    turn = 2 * np.pi - 6.2
    np.testing.assert_allclose(c.center, 3.1 + 0.75 * turn)
    np.testing.assert_allclose(c.width, np.sqrt(0.04 + 3 / 16 * turn**2))
    bias = Metadynamics(SIDE, (18,), width=0.2, height=0.1, biasfactor=5.0, capacity=3)
    memory = deposited(bias, [[3.1]])
    np.testing.assert_allclose(bias.bias(memory, jnp.array([-3.1])), 0.1 * np.exp(-0.5 * (turn / 0.2) ** 2))


@pytest.mark.parametrize(
    "bias",
    [
        Metadynamics(X, (18,), width=0.1, height=0.1, biasfactor=5.0, capacity=3),
        OPES(X, (18,), width=0.1, barrier=1.0, threshold=0.1, capacity=3),
    ],
    ids=["metadynamics", "opes"],
)
def test_memories_fill_up_and_grow(bias):
    points = np.array([[0.0], [1.0], [2.0], [3.0], [-1.0]])
    full = deposited(bias, points[:3])
    assert not bias.overflowed(full)
    assert np.isfinite(bias.bias(full, jnp.ones(1)))
    lost = bias.updated(full, jnp.array([3.0]), KT)
    assert bias.overflowed(lost)
    assert np.isnan(bias.bias(lost, jnp.ones(1)))
    with pytest.raises(ValueError, match="from before the step"):
        bias.enlarged(lost)
    memory = bias.enlarged(full)
    assert memory.kernels.heights.shape == (6,)
    for s in points[3:]:
        memory = bias.updated(memory, jnp.asarray(s), KT)
    roomy = type(bias)(**{**vars(bias), "capacity": 6})
    for a, b in zip(jax.tree.leaves(memory), jax.tree.leaves(deposited(roomy, points))):
        np.testing.assert_allclose(a, b, rtol=1e-14)  # as if it had been large from the start


def test_the_number_of_components_of_a_function_must_be_told():
    wrong = Metadynamics(Stack((lambda R, box: R[0],)), (18,), width=0.1, height=0.1, biasfactor=5.0)
    with pytest.raises(ValueError, match="Set `size`"):
        wrong.cv(np.zeros((1, 3)))


def test_single_precision_is_kept():
    for bias in (Metadynamics(X, (18,), width=0.1, height=0.1, biasfactor=5.0), OPES(X, (18,), width=0.1, barrier=1.0)):
        memory = bias.start(KT, jnp.float32)
        after = jax.eval_shape(bias.updated, memory, jnp.zeros(1, jnp.float64), jnp.zeros(()))
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), memory)


WALKERS = 8
BIASES = {
    "metadynamics": Metadynamics(X, (18,), width=0.25, height=0.04, biasfactor=6.0, pace=100, capacity=1000),
    "opes": OPES(X, (18,), width=0.3, barrier=1.2, pace=100, capacity=80),
    "explore": OPES(X, (18,), width=0.3, barrier=1.2, pace=100, capacity=80, explore=True),
}


@pytest.mark.parametrize("name", BIASES)
def test_double_well(name):
    """Barrier 1.00 from the bias and from weighted samples, weighted averages within their errors.

    Independent walkers give the errors; the first fifth of each run, in which the bias grows, is left out.
    """
    bias, n = BIASES[name], 1000
    run = jax.jit(jax.vmap(lambda key: biased(bias, key, n)))
    memory, x, V_bias = run(jax.random.split(jax.random.key(5), WALKERS))
    assert not np.asarray(jax.vmap(bias.overflowed)(memory)).any()
    grid = jnp.linspace(-4, 4, 401)
    at_barrier = lambda F, top, left, right: F[top] - (F[left] + F[right]) / 2
    direct, weighted, means = [], [], []
    for k in range(WALKERS):
        own = jax.tree.map(lambda y: y[k], memory)  # noqa: B023
        direct.append(at_barrier(bias.free_energy(own, grid), 200, 100, 300))
        c = np.asarray(bias.offsets(own, grid))[:n] if name == "metadynamics" else np.zeros(n)
        late = slice(n // 5, n)
        s, w = np.asarray(x[k, late]), weights(V_bias[k, late], KT, c[late])
        F = profile(s, KT, np.linspace(-2.7, 2.7, 28), w=w).F
        weighted.append(at_barrier(F, 13, 3, 23))  # bins of 0.2 Å around 0 and -2, 2
        means.append(averages(s, w))
    mean, error = np.mean(means, axis=0), np.std(means, axis=0, ddof=1) / WALKERS**0.5
    assert (np.abs(mean - [V_MEAN, X2_MEAN]) < 4 * error).all()
    assert (error < [0.01, 0.05]).all()
    assert abs(np.mean(direct) - 1) < 0.05  # PHYSICS.md, section 6
    assert abs(np.mean(weighted) - 1) < 0.05
