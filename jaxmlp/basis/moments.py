"""Moment tensors of an atom's environment and their contractions, Shapeev, Multiscale Model. Simul. 14, 1153 (2016).

The components of the tensors M_(mu,nu) = sum_j f_mu(r_j) u_j (x) ... (x) u_j (nu times) are contracted to scalars by a
list of products, m_t += mult m_p m_q. Products whose factors are complete are done together, with the atoms along the
contiguous axis.
"""

from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.monomials import Radial, monomial_sums, monomials
from jaxmlp.basis.products import Sums, bilinear, tabulate

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

    basic: tuple[Basic, ...] = field(repr=False)
    times: tuple[Times, ...] = field(repr=False)
    scalars: tuple[int, ...] = field(repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        # jit hashes its static arguments at every call, and these tables may be long.
        object.__setattr__(self, "_hash", hash((self.basic, self.times, self.scalars)))
        if not self.basic or not self.scalars:
            raise ValueError("moments need at least one basic moment and one scalar.")
        if any(len(row) != 4 or min(row) < 0 for row in self.basic) or any(len(row) != 4 for row in self.times):
            raise ValueError("rows of the tables are (mu, a, b, c) and (p, q, mult, t), not negative but for mult.")
        count = self.count
        if max(sum(row[1:]) for row in self.basic) > 32 or self.count > len(self.basic) + len(self.times):
            raise ValueError("tensors have at most 32 indices, and every moment beyond the basic ones is a product.")
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


class _Program(NamedTuple):
    """How scalars are made from basic moments, and derivatives of a sum of scalars from the end backwards.

    Rows of moments are ordered by depth (a product is one deeper than its deeper factor).

    Args:
        radial: for every degree of monomials, which f_mu are needed with them.
        basic: place of every basic moment among the `monomial_sums`.
        scalars: rows of the scalars.
        forward: products of each depth, from the rows before.
        backward: for each depth, the last but one first: from derivatives by the rows behind, and factors.
        start: first row of each depth.
    """

    radial: Radial
    basic: np.ndarray
    scalars: np.ndarray
    forward: tuple[Sums, ...]
    backward: tuple[Sums, ...]
    start: np.ndarray


@lru_cache(maxsize=64)
def _compiled(tables: Moments) -> _Program:
    radial: list[tuple[int, ...]] = []
    place: dict[Basic, int] = {}
    for degree in range(max(sum(row[1:]) for row in tables.basic) + 1):
        needed = sorted({row[0] for row in tables.basic if sum(row[1:]) == degree})
        radial.append(tuple(needed))
        for mu in needed:
            place |= {(mu, *abc): len(place) + k for k, abc in enumerate(monomials(degree))}
    basic = np.array([place[row] for row in tables.basic], np.int32)

    count = tables.count
    depth, terms = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for left, right, _, product in tables.times:
        depth[product] = max(depth[product], depth[left] + 1, depth[right] + 1)
        terms[product] += 1
    row = np.empty(count, np.int32)
    row[np.lexsort((np.arange(count), terms, depth))] = np.arange(count)
    start = np.searchsorted(np.sort(depth), np.arange(depth.max() + 2))
    table: np.ndarray = np.array(tables.times, dtype=int).reshape(-1, 4)
    p, q, mult, t = table[:, 0], table[:, 1], table[:, 2], table[:, 3]
    forward, backward = [], []
    for d in range(1, depth.max() + 1):
        on = depth[t] == d
        forward.append(tabulate(start[d + 1] - start[d], row[t[on]] - start[d], row[p[on]], row[q[on]], mult[on]))
    # dE/dm_p takes mult m_q dE/dm_t from every product, and dE/dm_q likewise; those of deeper rows come first.
    source, other = np.concatenate([p, q]), np.concatenate([q, p])
    target, factor = np.tile(t, 2), np.tile(mult, 2)
    for d in range(depth.max() - 1, -1, -1):
        on = depth[source] == d
        behind = row[target[on]] - start[d + 1]
        backward.append(
            tabulate(start[d + 1] - start[d], row[source[on]] - start[d], behind, row[other[on]], factor[on])
        )
    return _Program(
        tuple(radial), basic[np.argsort(row[: len(basic)])], row[np.array(tables.scalars)],
        tuple(forward), tuple(backward), start,
    )  # fmt: skip


def basic_moments(tables: Moments, f: Array, u: tuple[Array, Array, Array]) -> Array:
    """Return the basic moments, one row for each, (basic, n), in an order of their own.

    Args:
        f: (n, mu, M) radial functions, zero where there is no neighbour.
        u: components of the unit vectors, three (n, M).
    """
    program = _compiled(tables)
    return monomial_sums(program.radial, f, u).T[program.basic]  # atoms along the contiguous axis


def scalars(tables: Moments, m: Array) -> Array:
    """Return the invariants (scalars, n) of basic moments (basic, n)."""
    program = _compiled(tables)
    return _all_moments(program, m)[program.scalars]


def scalar_slopes(tables: Moments, m: Array, dm: Array) -> Array:
    """Return the changes (scalars, t) of the invariants of one atom, basic moments m (basic, 1), along dm (basic, t).

    As `jax.jvp` of `scalars` of t equal atoms, whose values are computed only once here.
    """
    program = _compiled(tables)
    for sums in program.forward:
        dm = jnp.concatenate([dm, bilinear(sums, m, dm) + bilinear(sums, dm, m)])
        m = jnp.concatenate([m, bilinear(sums, m, m)])
    return dm[program.scalars]


def scalar_moments(tables: Moments, f: Array, u: tuple[Array, Array, Array]) -> Array:
    """Return the invariants, (n, scalars), of radial functions f (n, mu, M) and unit vectors, three (n, M)."""
    return scalars(tables, basic_moments(tables, f, u)).T


def _all_moments(program: _Program, m: Array) -> Array:
    for sums in program.forward:
        m = jnp.concatenate([m, bilinear(sums, m, m)])
    return m


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def weighted_scalars(tables: Moments, m: Array, weights: Array) -> Array:
    """Return sum_k weights[k] B_k, (n,), of basic moments m (basic, n).

    Its derivative is one sweep back over the products, written out because the transpose of a gather is slow on a CPU;
    the sweep is an ordinary function, so derivatives of every order follow, forward and reverse.
    """
    return weights @ scalars(tables, m)


@weighted_scalars.defjvp
def _weighted_scalars_jvp(tables, primals, tangents):
    program = _compiled(tables)
    m, weights = primals
    dm, dw = tangents
    full = _all_moments(program, m)
    values = full[program.scalars]
    own = jnp.zeros((len(full), 1), m.dtype).at[program.scalars, 0].add(weights)
    slope = jnp.broadcast_to(own[program.start[-2] :], (len(full) - program.start[-2], m.shape[1]))
    for d, sums in zip(range(len(program.forward) - 1, -1, -1), program.backward, strict=True):
        here = own[program.start[d] : program.start[d + 1]] + bilinear(sums, slope, full)
        slope = jnp.concatenate([here, slope])
    return weights @ values, jnp.sum(slope[: len(m)] * dm, axis=0) + dw @ values
