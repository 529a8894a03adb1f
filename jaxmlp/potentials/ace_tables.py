"""Which products the functions of an ACE are made of: index tables, from the hyper-parameters alone."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxmlp.basis.cluster import Factor, ProductGraph, coupling, product_graph

# mus, ns, ls; lint: intermediate angular momenta; ms: the m of every product, row after row. See `ACE`.
Function = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Tables(NamedTuple):
    """Products and linear parameters of a list of functions.

    Every basis feature k is sum_t weight[c] product[c] over the products of its terms; features of all species of the
    central atom are numbered through.

    Args:
        singles: (mu, n) of the features of rank 1, sums of g_n over neighbours mu.
        graph: makes the products of rank 2 and more.
        term_product: (T,) index into singles, then products.
        term_feature: (T,) index of the feature, sorted.
        term_weight: (T,)
        spread: (S, C, D) the features that product c enters for a central species, K where there are fewer than D.
        spread_weight: (S, C, D)
        owner: (K,) central species of each feature.
    """

    singles: tuple[tuple[int, int], ...]
    graph: ProductGraph
    term_product: np.ndarray
    term_feature: np.ndarray
    term_weight: np.ndarray
    spread: np.ndarray
    spread_weight: np.ndarray
    owner: np.ndarray


def terms(function: Function) -> list[list[tuple[tuple[Factor, ...], float]]]:
    """Return, for every linear parameter of a function, its (product, weight); products are sorted and half of each
    conjugate pair is left out."""
    mus, ns, ls, lint, ms = function
    rank = len(mus)
    if rank == 1:
        return [[(((mus[0], ns[0], 0, 0),), 1.0)]]
    if ms:  # C-tilde basis: every combination of m has its own parameter
        rows = [ms[k : k + rank] for k in range(0, len(ms), rank)]
        return [[(tuple(sorted(zip(mus, ns, ls, row, strict=True))), 1.0)] for row in rows]
    merged: dict[tuple[Factor, ...], float] = {}
    for row, weight in coupling(ls, lint).items():
        product = tuple(sorted(zip(mus, ns, ls, row, strict=True)))
        mirror = tuple(sorted((mu, n, l, -m) for mu, n, l, m in product))
        # Y_l-m = (-1)^m conj Y_lm, and the m add up to zero: both have the same real part.
        merged[min(product, mirror)] = merged.get(min(product, mirror), 0.0) + weight
    return [[(p, w) for p, w in merged.items() if abs(w) > 1e-15]]


def feature_count(function: Function) -> int:
    """Number of linear parameters of a function."""
    return len(function[4]) // len(function[0]) if function[4] and len(function[0]) > 1 else 1


@lru_cache(maxsize=32)
def tables(functions: tuple[tuple[Function, ...], ...]) -> Tables:
    """Return the tables of the functions of every central species."""
    rows: list[tuple[tuple[Factor, ...], int, float]] = []  # product, feature, weight
    owner: list[int] = []
    for species, block in enumerate(functions):
        for function in block:
            for parameter in terms(function):
                rows += [(product, len(owner), weight) for product, weight in parameter]
                owner.append(species)
    unique = sorted({product for product, _, _ in rows}, key=lambda p: (len(p), p))
    number = {product: k for k, product in enumerate(unique)}
    singles = tuple((p[0][0], p[0][1]) for p in unique if len(p) == 1)
    index = np.array([number[p] for p, _, _ in rows], dtype=np.int32)
    feature = np.array([f for _, f, _ in rows], dtype=np.int32)
    weight = np.array([w for _, _, w in rows])
    of = np.array(owner, dtype=np.int32)

    s, count = len(functions), len(unique)
    place = of[feature] * count + index
    order = np.argsort(place, kind="stable")
    start = np.searchsorted(place[order], place[order])
    slot = np.arange(len(order)) - start
    depth = int(slot.max(initial=0)) + 1
    spread = np.full((s * count, depth), len(owner), dtype=np.int32)
    spread_weight = np.zeros((s * count, depth))
    spread[place[order], slot] = feature[order]
    spread_weight[place[order], slot] = weight[order]
    return Tables(
        singles,
        product_graph([p for p in unique if len(p) > 1]),
        index,
        feature,
        weight,
        spread.reshape(s, count, depth),
        spread_weight.reshape(s, count, depth),
        of,
    )
