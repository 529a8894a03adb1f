"""Moment tensors: the tables of the levels, and the recursion against tensors written out."""

import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis.moment_levels import LEVELS, level_moments, level_scalars
from jaxmlp.basis.moments import Moments, basic_moments, scalar_moments, scalars, weighted_scalars

# Numbers of scalars of the levels 2, 4 ... 28, as MLIP's templates have them.
SCALARS = (1, 2, 5, 9, 16, 29, 52, 92, 163, 288, 500, 864, 1464, 2445)
MOMENTS = (1, 2, 8, 18, 41, 84, 174, 350, 718, 1352, 2621, 4991, 9396, 17366)


@pytest.mark.parametrize("level", LEVELS)
def test_counts(level):
    tables = level_moments(level)
    k = LEVELS.index(level)
    assert (len(tables.scalars), tables.count) == (SCALARS[k], MOMENTS[k])
    assert tables.radial_count == min(1 + (level - 2) // 4, 6)


@pytest.mark.shared
@pytest.mark.parametrize("level", LEVELS[:-1])
def test_templates_are_reproduced_exactly(shared, level):
    text = (shared / "reference" / "mtp" / "templates" / f"{level:02d}.mtp").read_text()

    def listed(name, width):
        content = re.search(rf"{name}\s*=\s*(\{{.*\}})", text).group(1)
        return tuple(map(tuple, np.array(re.findall(r"\d+", content), dtype=int).reshape(-1, width).tolist()))

    tables = level_moments(level)
    assert tables.basic == listed("alpha_index_basic", 4)
    assert tables.times == listed("alpha_index_times", 4)
    assert tables.scalars == tuple(k for (k,) in listed("alpha_moment_mapping", 1))


def environment(n=3, mu=4, neighbors=5, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(3, n, neighbors))
    return jnp.asarray(rng.normal(size=(n, mu, neighbors))), tuple(
        jnp.asarray(x) for x in u / np.linalg.norm(u, axis=0)
    )


def test_scalars_are_contractions_of_the_tensors_written_out():
    """Every scalar of level 14, from its matrix A by a sum over all indices."""
    f, u = environment()
    got = np.asarray(scalar_moments(level_moments(14), f, u))
    r = np.stack([np.asarray(x) for x in u], axis=-1)  # (n, M, 3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for k, scalar in enumerate(level_scalars(14)):
        a, names, factors = scalar.matrix(), iter(letters), []
        index: dict[tuple[int, int, int], str] = {}
        for i, mu in enumerate(scalar.mu):
            tensor = np.asarray(f[:, mu])
            for _ in range(a[i][i]):
                tensor = tensor[..., None] * r.reshape(*r.shape[:2], *[1] * (tensor.ndim - 2), 3)
            factors.append(tensor.sum(1))
        axes = ["" for _ in scalar.mu]
        for i, j in product(range(len(a)), repeat=2):
            for c in range(a[i][j] if i < j else 0):
                index[i, j, c] = next(names)
                axes[i] += index[i, j, c]
                axes[j] += index[i, j, c]
        expected = np.einsum(",".join("Z" + x for x in axes) + "->Z", *factors, optimize=True)
        np.testing.assert_allclose(got[:, k], expected, rtol=1e-10, atol=1e-12, err_msg=str(scalar))


@pytest.mark.parametrize("level", [2, 4, 10, 16])
def test_scalars_do_not_change_under_rotations(level):
    f, u = environment()
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = tuple(sum(Q[k, m] * u[m] for m in range(3)) for k in range(3))
    tables = level_moments(level)
    np.testing.assert_allclose(scalar_moments(tables, f, turned), scalar_moments(tables, f, u), rtol=1e-9, atol=1e-10)


def test_the_sweep_back_is_the_derivative():
    tables = level_moments(12)
    f, u = environment()
    m = basic_moments(tables, f, u)
    w = jnp.asarray(np.random.default_rng(2).normal(size=len(tables.scalars)))
    plain = lambda m, w: w @ scalars(tables, m)
    ours = lambda m, w: weighted_scalars(tables, m, w)
    np.testing.assert_allclose(ours(m, w), plain(m, w), rtol=1e-12)
    for k in (0, 1):
        a, b = (jax.jit(jax.grad(lambda m, w, g=g: jnp.sum(jnp.sin(g(m, w))), k))(m, w) for g in (ours, plain))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
    v = jnp.asarray(np.random.default_rng(3).normal(size=m.shape))
    second = [
        jax.jit(jax.grad(lambda m, g=g: jnp.sum(v * jax.grad(lambda x: jnp.sum(g(x, w)))(m))))(m) for g in (ours, plain)
    ]
    np.testing.assert_allclose(*second, rtol=1e-9, atol=1e-9)


BAD = {
    "no basic": (((),), (), (0,)),
    "not made": (((0, 0, 0, 0),), ((0, 2, 1, 1), (0, 0, 1, 2)), (0,)),
    "skipped": (((0, 0, 0, 0),), ((0, 0, 1, 2),), (0,)),
    "complete": (((0, 0, 0, 0),), ((0, 0, 1, 1), (0, 1, 1, 2), (0, 0, 1, 1)), (0,)),
    "basic changed": (((0, 0, 0, 0), (1, 0, 0, 0)), ((0, 0, 1, 1),), (0,)),
    "scalar": (((0, 0, 0, 0),), (), (1,)),
    "negative": (((0, 0, 0, -1),), (), (0,)),
    "huge": (((0, 0, 0, 99),), (), (0,)),
    "far": (((0, 0, 0, 0),), ((0, 0, 1, 10**9),), (0,)),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_tables_are_refused(name):
    with pytest.raises(ValueError, match=r"moment|rows|tensors"):
        Moments(*BAD[name])


@pytest.mark.parametrize("level", [0, 3, 30, 1.5])
def test_impossible_levels_are_refused(level):
    with pytest.raises(ValueError, match="even number from 2 to 28"):
        level_moments(level)
