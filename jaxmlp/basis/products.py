"""Sums of products of rows, out_r = sum c a_i b_j: the step of which product graphs are made.

Rows with equally many terms are done together, as sums of gathered rows: on a CPU this is several times faster than a
sum over segments, which XLA adds up one by one, and it is the same work on an accelerator.
"""

from collections.abc import Iterable
from functools import reduce
from itertools import pairwise
from operator import add
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

_LADDER = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24)  # numbers of terms; fewer are filled up with zeros
_WASTE = 600  # zeros that may be added to save a class
_LONGEST = _LADDER[-1]  # longer rows are done in pieces


class Sums(NamedTuple):
    """Tables of out_r = sum_k c[r, k] a[i[r, k]] b[j[r, k]].

    Args:
        classes: (i, j, c), each (pieces of rows, terms), for every number of terms that occurs.
        pieces: (rows, m) places of the pieces of a row in the concatenated classes, for every number m that occurs; 0
            of rows without terms.
        order: place of every row in the concatenated sums of pieces.
    """

    classes: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    pieces: tuple[np.ndarray, ...]
    order: np.ndarray


def tabulate(rows: int, r: np.ndarray, i: np.ndarray, j: np.ndarray, c: np.ndarray) -> Sums:
    """Return the tables of `rows` sums from a list of terms: c a_i b_j belongs to row r."""
    by_row = np.argsort(r, kind="stable")
    i, j, c = i[by_row], j[by_row], c[by_row]
    counts = np.bincount(r, minlength=rows)
    number = -(-counts // _LONGEST)  # of pieces of each row
    owner = np.repeat(np.arange(rows), number)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
    begin = (np.cumsum(counts) - counts)[owner] + piece * _LONGEST
    length = np.minimum(counts[owner] - piece * _LONGEST, _LONGEST)
    sizes = np.array(_LADDER)[np.searchsorted(_LADDER, length)]
    for small, large in pairwise(np.unique(sizes)):  # few rows are not worth a class, which takes time to compile
        if (large - small) * np.sum(sizes == small) < _WASTE:
            sizes[sizes == small] = large
    classes = []
    for size in np.unique(sizes):
        on = sizes == size
        k = np.arange(size)
        there = k < length[on, None]
        at = np.where(there, begin[on, None] + k, 0)
        classes.append((i[at], j[at], np.where(there, c[at], 0)))
    place = np.empty(len(owner), np.int32)
    place[np.argsort(sizes, kind="stable")] = np.arange(len(owner))
    first = np.cumsum(number) - number
    pieces = tuple(place[first[number == m, None] + np.arange(m)] for m in np.unique(number))
    order = np.empty(rows, np.int32)
    order[np.argsort(number, kind="stable")] = np.arange(rows)
    return Sums(tuple(classes), pieces, order)


def bilinear(sums: Sums, a: Array, b: Array) -> Array:
    """Return the sums, (rows, n), of rows a (I, n) and b (J, n), one of which may have n = 1.

    The terms are written out one after the other, not as a sum over an axis: XLA's loop over rows then has contiguous
    rows for its body, which LLVM vectorises (level 24 on a CPU: 37 us/atom with the derivative, 59 otherwise).
    """
    parts = []
    for i, j, c in sums.classes:
        terms = (_rows(a, i[:, k]) * _rows(b, j[:, k]) for k in range(i.shape[1]))
        parts.append(_total(_times(term, c[:, k]) for k, term in enumerate(terms)))
    out = jnp.concatenate(parts)
    if len(sums.pieces) == 1 and sums.pieces[0].shape[1] == 1:
        return _rows(out, sums.pieces[0][:, 0])
    parts = [
        _total(_rows(out, at[:, k]) for k in range(at.shape[1]))
        if at.size
        else jnp.zeros_like(out, shape=(len(at), out.shape[1]))
        for at in sums.pieces
    ]
    return _rows(jnp.concatenate(parts), sums.order)


def _times(x: Array, c: np.ndarray) -> Array:
    return x if (c == 1).all() else x * jnp.asarray(c, x.dtype)[:, None]


def _total(terms: Iterable[Array]) -> Array:
    return reduce(add, terms)


def _rows(x: Array, k: np.ndarray) -> Array:
    if k.ndim == 1 and np.array_equal(k, np.arange(len(x))):
        return x
    return x.at[k].get(mode="promise_in_bounds")
