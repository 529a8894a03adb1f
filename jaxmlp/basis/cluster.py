"""Product basis of the atomic cluster expansion: products of complex moments A_(mu n l m), and their couplings.

A function of rank r is a list (mus, ns, ls) with the m of every factor; the real part of the product is taken. Products
are built from shared, shorter ones: pairs, then a pair times one factor or another pair, and so on (Lysogorskiy et al.,
npj Comput. Mater. 7, 97 (2021), section "Recursive evaluation"), level by level with atoms along the last axis.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.coupling import clebsch_gordan

Factor = tuple[int, int, int, int]  # mu, n (from 1), l, m


@cache
def coupling(ls: tuple[int, ...], lint: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Return the generalized Clebsch-Gordan coefficients {(m_1 ... m_r): C} that couple r factors to a scalar.

    Factors are coupled in pairs, (12)(34)(56), and the pairs from the left, with Clebsch-Gordan coefficients; lint are
    the intermediate angular momenta: L12 | L12 L34 | L12 L34 L1234 | L12 L34 L56 L1234 for ranks 3 to 6.

    Raises:
        ValueError: a number of angular momenta that does not fit, or a coupling that cannot give a scalar.
    """
    rank = len(ls)
    pairs = rank // 2 if rank > 2 else 0
    wanted = {1: 0, 2: 0, 3: 1, 4: 2, 5: 3, 6: 4}.get(rank)
    if wanted is None or len(lint) != wanted or min(ls + lint) < 0:
        raise ValueError(f"a function of rank {rank} (1 to 6) needs {wanted} intermediate angular momenta; got {lint}.")
    if rank == 1:
        if ls != (0,):
            raise ValueError(f"a function of rank 1 has l = 0; got {ls[0]}.")
        return {(0,): 1.0}
    if rank == 2:
        return _joined(_single(ls[0]), ls[0], _single(ls[1]), ls[1], 0, ls)
    parts = [
        (_joined(_single(ls[2 * k]), ls[2 * k], _single(ls[2 * k + 1]), ls[2 * k + 1], lint[k], ls), lint[k])
        for k in range(pairs)
    ]
    if rank % 2:
        parts.append((_single(ls[-1]), ls[-1]))
    while len(parts) > 2:
        (a, la), (b, lb) = parts[:2]
        parts[:2] = [(_joined(a, la, b, lb, lint[pairs], ls), lint[pairs])]
    (a, la), (b, lb) = parts
    return {m: c for m, c in _joined(a, la, b, lb, 0, ls).items() if c}


def _single(l: int) -> dict[tuple[int, ...], float]:
    return {(m,): 1.0 for m in range(-l, l + 1)}


def _joined(a: dict, la: int, b: dict, lb: int, l: int, ls: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Couple the multiplets a (degree la) and b (lb) to degree l; the m of a key add up to the projection."""
    if not abs(la - lb) <= l <= la + lb:
        raise ValueError(f"l = {ls}: degrees {la} and {lb} do not couple to {l}.")
    cg = clebsch_gordan(la, lb, l)
    out = {}
    for ma, ca in a.items():
        for mb, cb in b.items():
            p, q = sum(ma), sum(mb)
            if abs(p) <= la and abs(q) <= lb and abs(p + q) <= l:
                value = ca * cb * cg[p + la, q + lb, p + q + l]
                if abs(value) > 1e-15:
                    out[ma + mb] = value
    return out


class Level(NamedTuple):
    """Products of two rows: indices into all rows so far."""

    a: np.ndarray
    b: np.ndarray


class ProductGraph(NamedTuple):
    """How products are made.

    Args:
        factors: the moments used, the first rows.
        levels: products needed as factors of others, added level by level.
        last: the products asked for, of at least two factors, as pairs of rows.
    """

    factors: tuple[Factor, ...]
    levels: tuple[Level, ...]
    last: Level


def product_graph(products: list[tuple[Factor, ...]]) -> ProductGraph:
    """Return the graph that makes `products`, tuples of sorted factors, in this order."""
    factors = tuple(sorted({f for p in products for f in p}))
    nodes: dict[tuple[Factor, ...], int] = {}  # -> level

    def need(p: tuple[Factor, ...]) -> int:
        if len(p) <= 1:
            return 0
        if p not in nodes:
            nodes[p] = 1 + max(need(part) for part in _halves(p))
        return nodes[p]

    for p in products:
        for part in _halves(p):
            need(part)
    row: dict[tuple[Factor, ...], int] = {(f,): k for k, f in enumerate(factors)}
    levels = []
    for level in range(1, max(nodes.values(), default=0) + 1):
        mine = sorted(p for p, at in nodes.items() if at == level)
        levels.append(_level(mine, row))
        for p in mine:
            row[p] = len(row)
    return ProductGraph(factors, tuple(levels), _level(products, row))


def _halves(p: tuple[Factor, ...]) -> tuple[tuple[Factor, ...], tuple[Factor, ...]]:
    """Split a product in two; the left part is a pair, a pair of pairs ..., which other products share."""
    half = len(p) - len(p) // 2
    return p[:half], p[half:]


def _level(products, row) -> Level:
    pairs = [[row[part] for part in _halves(p)] for p in products]
    index = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return Level(index[:, 0], index[:, 1])


def products(graph: ProductGraph, re: Array, im: Array) -> Array:
    """Return the real parts of the products, (products, n), of moments re + i im, (factors, n) each.

    Real and imaginary parts lie side by side in one row: the adjoint of a gather costs by its rows, not their lengths.
    """
    n = re.shape[1]
    x = jnp.concatenate([re, im], axis=1)
    for level in graph.levels:
        a, b = _rows(x, level.a), _rows(x, level.b)
        re = a[:, :n] * b[:, :n] - a[:, n:] * b[:, n:]
        im = a[:, :n] * b[:, n:] + a[:, n:] * b[:, :n]
        x = jnp.concatenate([x, jnp.concatenate([re, im], axis=1)])
    a, b = _rows(x, graph.last.a), _rows(x, graph.last.b)
    return a[:, :n] * b[:, :n] - a[:, n:] * b[:, n:]


def product_slopes(graph: ProductGraph, re: Array, im: Array, d_re: Array, d_im: Array) -> Array:
    """Return the changes of `products` (products, t) of one atom's moments (factors,) in t directions (factors, t).

    As `jax.jvp` of the products of t equal atoms, whose values are computed only once here.
    """

    def change(level: Level) -> tuple[Array, Array]:
        a, b = ((_rows(re, k)[:, None], _rows(im, k)[:, None]) for k in level)
        da, db = ((_rows(d_re, k), _rows(d_im, k)) for k in level)
        first, second = _times(a, db), _times(da, b)
        return first[0] + second[0], first[1] + second[1]

    for level in graph.levels:
        added = change(level)
        value = _times(*((_rows(re, k), _rows(im, k)) for k in level))
        re, im = jnp.concatenate([re, value[0]]), jnp.concatenate([im, value[1]])
        d_re, d_im = jnp.concatenate([d_re, added[0]]), jnp.concatenate([d_im, added[1]])
    return change(graph.last)[0]


def _times(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Real and imaginary part of a product."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _rows(x: Array, index: np.ndarray) -> Array:
    return x.at[index].get(mode="promise_in_bounds")
