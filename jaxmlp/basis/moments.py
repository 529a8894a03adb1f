"""Moment tensors of an atom's environment and their contractions, Shapeev, Multiscale Model. Simul. 14, 1153 (2016).

The components of the tensors M_(mu,nu) = sum_j f_mu(r_j) u_j (x) ... (x) u_j (nu times) are contracted to scalars by a
list of products, m_t += mult m_p m_q. Products whose factors are complete are done together, so that a list of 10^5
products is a handful of gathers, multiplications and sorted sums, with the atoms along the contiguous axis.
"""

from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Basic = tuple[int, int, int, int]  # mu, and the powers of x, y and z
Times = tuple[int, int, int, int]  # p, q, multiplicity, t


@dataclass(frozen=True)
class Moments:
    """Which moments there are and how they are multiplied: the tables alpha_index_* of an MTP file.

    Args:
        basic: (mu, a, b, c) of every basic moment sum_j f_mu u_x^a u_y^b u_z^c; they are numbered from 0.
        times: (p, q, mult, t): add mult m_p m_q to moment t. Moments are complete before they are factors.
        scalars: the moments that are invariants, in the order of their coefficients.

    Raises:
        ValueError: a moment that is used before it is complete, never made, or not numbered in order.
    """

    basic: tuple[Basic, ...]
    times: tuple[Times, ...]
    scalars: tuple[int, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        # jit hashes its static arguments at every call, and these tables may be long.
        object.__setattr__(self, "_hash", hash((self.basic, self.times, self.scalars)))
        if not self.basic or not self.scalars:
            raise ValueError("moments need at least one basic moment and one scalar.")
        if any(len(row) != 4 or min(row) < 0 for row in self.basic) or any(len(row) != 4 for row in self.times):
            raise ValueError("rows of the tables are (mu, a, b, c) and (p, q, mult, t), not negative but for mult.")
        count = self.count
        made = [True] * len(self.basic) + [False] * (count - len(self.basic))
        used = [False] * count
        for k, (p, q, _, t) in enumerate(self.times):
            if min(p, q, t) < 0 or max(p, q) >= count or not (made[p] and made[q]):
                raise ValueError(f"product {k}, {self.times[k]}, takes a moment that is not made before.")
            if t < len(self.basic) or used[t] or t in (p, q):
                raise ValueError(f"product {k}, {self.times[k]}, changes a moment that is complete already.")
            made[t] = used[p] = used[q] = True
        if not all(made):
            raise ValueError(f"moment {made.index(False)} is never made.")
        if not all(0 <= k < count for k in self.scalars):
            raise ValueError(f"scalars must be moments from 0 to {count - 1}.")

    def __hash__(self) -> int:
        return self._hash

    @property
    def count(self) -> int:
        """Number of moments, basic ones and products."""
        return max([len(self.basic) - 1, *(row[3] for row in self.times)]) + 1

    @property
    def radial_count(self) -> int:
        """Number of radial functions f_mu."""
        return max(row[0] for row in self.basic) + 1


class _Wave(NamedTuple):
    """Products that can be done together: factors (rows so far), multiplicities, and which new row each adds to."""

    p: np.ndarray
    q: np.ndarray
    mult: np.ndarray
    target: np.ndarray
    size: int


class _Program(NamedTuple):
    """What `moments` does: monomials, the place of every basic moment, waves, and the rows of the scalars."""

    monomials: tuple[tuple[int, int, int], ...]
    shells: tuple[int, ...]  # monomials needed with f_mu, for each mu: the leading ones
    basic: np.ndarray
    waves: tuple[_Wave, ...]
    scalars: np.ndarray


@lru_cache(maxsize=64)
def _compiled(tables: Moments) -> _Program:
    wanted = sorted({row[1:] for row in tables.basic}, key=lambda abc: (sum(abc), abc))
    degree = max(sum(abc) for abc in wanted)
    monomials = tuple(abc for abc in _monomials(degree))
    place = {abc: k for k, abc in enumerate(monomials)}
    shells = tuple(
        max((place[row[1:]] + 1 for row in tables.basic if row[0] == mu), default=0)
        for mu in range(tables.radial_count)
    )
    start = np.concatenate([[0], np.cumsum(shells)])
    basic = np.array([start[row[0]] + place[row[1:]] for row in tables.basic])

    times = np.array(tables.times, dtype=np.int64).reshape(-1, 4)
    count = tables.count
    depth = np.zeros(count, dtype=int)
    for p, q, _, t in tables.times:
        depth[t] = max(depth[t], depth[p] + 1, depth[q] + 1)
    row = np.empty(count, dtype=int)  # of each moment in the order in which the waves make them
    row[np.lexsort((np.arange(count), depth))] = np.arange(count)
    waves = []
    for d in range(1, int(depth.max()) + 1):
        mine = times[depth[times[:, 3]] == d]
        mine = mine[np.argsort(row[mine[:, 3]], kind="stable")]
        new = np.flatnonzero(depth == d)
        waves.append(_Wave(row[mine[:, 0]], row[mine[:, 1]], mine[:, 2], row[mine[:, 3]] - row[new].min(), len(new)))
    return _Program(monomials, shells, basic, tuple(waves), row[np.array(tables.scalars)])


def _monomials(degree: int) -> list[tuple[int, int, int]]:
    """Powers (a, b, c), by degree, then from x to z."""
    return [(n - b - c, b, c) for n in range(degree + 1) for b in range(n + 1) for c in range(n - b + 1)]


def scalar_moments(tables: Moments, f: Array, u: tuple[Array, Array, Array]) -> Array:
    """Return the invariants, (n, scalars).

    Args:
        f: (n, mu, M) radial functions, zero where there is no neighbour.
        u: components of the unit vectors, three (n, M).
    """
    program = _compiled(tables)
    planes: dict[tuple[int, int, int], Array] = {(0, 0, 0): jnp.ones_like(u[0])}
    for a, b, c in program.monomials[1:]:
        axis = 0 if a else 1 if b else 2  # one factor less is there already
        less = tuple(n - (k == axis) for k, n in enumerate((a, b, c)))
        planes[a, b, c] = planes[less] * u[axis]  # type: ignore[index]
    angular = jnp.stack([planes[abc] for abc in program.monomials], axis=1)  # (n, L, M)
    parts = [
        jnp.einsum("nm,nlm->nl", f[:, mu], angular[:, :size], precision="highest")
        for mu, size in enumerate(program.shells)
    ]
    m = jnp.concatenate(parts, axis=1).T[program.basic]  # atoms along the contiguous axis
    for wave in program.waves:
        products = m[wave.p] * m[wave.q] * jnp.asarray(wave.mult, m.dtype)[:, None]
        new = jax.ops.segment_sum(products, wave.target, wave.size, indices_are_sorted=True)
        m = jnp.concatenate([m, new])
    return m[program.scalars].T


def multiplicity(powers: tuple[int, int, int]) -> int:
    """Return how many components of a symmetric tensor are equal to that with these powers of x, y, z."""

    def factorial(n: int) -> int:
        return reduce(lambda a, b: a * b, range(2, n + 1), 1)

    a, b, c = powers
    return factorial(a + b + c) // (factorial(a) * factorial(b) * factorial(c))
