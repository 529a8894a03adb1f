"""Sums over neighbours of radial functions times monomials x^a y^b z^c: the components of Cartesian tensors."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

einsum = partial(jnp.einsum, precision="highest")

Radial = tuple[tuple[int, ...], ...]  # for every degree, the numbers mu of the functions needed with its monomials


@lru_cache(maxsize=64)
def monomials(degree: int) -> tuple[tuple[int, int, int], ...]:
    """Return the powers (a, b, c) of a degree, from x to z; those of the degree before times x come first."""
    return tuple((a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def monomial_sums(radial: Radial, f: Array, u: tuple[Array, Array, Array]) -> Array:
    """Return sum_j f_mu(j) x_j^a y_j^b z_j^c, (n, sums), by degree, mu and monomial.

    The derivative with respect to x, y, z is written out, with monomials of one degree less and matrix products: that
    of the recursion by which monomials are made would sum over them one by one (level 24 of MTP: 25 us/atom, this 8).

    Args:
        radial: which f_mu are needed, for every degree from 0.
        f: (n, mu, M), zero where there is no neighbour.
        u: x, y, z, three (n, M).
    """
    return _contracted(radial, f, _levels(len(radial) - 1, u))


@monomial_sums.defjvp
def _monomial_sums_jvp(radial, primals, tangents):
    (f, u), (df, du) = primals, tangents
    levels = _levels(len(radial) - 1, u)
    moved = jnp.stack(du, axis=1)[:, :, None]  # (n, 3, 1, M)
    parts = [jnp.zeros((len(f), len(radial[0])), f.dtype)]
    for degree in range(1, len(radial)):
        needed = radial[degree]
        if needed:
            g = f[:, None, np.array(needed)] * moved
            sums = einsum("nqm,nlm->nql", g.reshape(len(g), -1, g.shape[3]), levels[degree - 1])
            lower = jnp.asarray(_lowering(degree), f.dtype)
            part = einsum("nxul,xlk->nuk", sums.reshape(*g.shape[:3], -1), lower)
            parts.append(part.reshape(len(f), -1))
    out = _contracted(radial, f, levels)
    return out, _contracted(radial, df, levels) + jnp.concatenate(parts, axis=1)


def _levels(degree: int, u: tuple[Array, Array, Array]) -> list[Array]:
    """The monomials of every degree, each (n, monomials, M)."""
    x, y, z = (v[:, None] for v in u)
    levels = [jnp.ones_like(x)]
    for d in range(1, degree + 1):
        before = levels[-1]
        level = jnp.concatenate([x * before, y * before[:, -d:], z * before[:, -1:]], axis=1)
        levels.append(jax.lax.optimization_barrier(level))  # or XLA computes it again for each level that follows
    return levels


def _contracted(radial: Radial, f: Array, levels: list[Array]) -> Array:
    parts = [
        einsum("num,nlm->nul", f[:, np.array(needed)], level).reshape(len(f), -1)
        for needed, level in zip(radial, levels, strict=True)
        if needed
    ]
    return jnp.concatenate(parts, axis=1)


@lru_cache(maxsize=64)
def _lowering(degree: int) -> np.ndarray:
    """(3, L - 1, L): d/dx, d/dy, d/dz of the monomials of a degree in terms of those of one less."""
    place = {powers: k for k, powers in enumerate(monomials(degree - 1))}
    table = np.zeros((3, len(place), len(monomials(degree))))
    for k, powers in enumerate(monomials(degree)):
        for axis, n in enumerate(powers):
            if n:
                lower = [p - (i == axis) for i, p in enumerate(powers)]
                table[axis, place[lower[0], lower[1], lower[2]], k] = n
    return table
