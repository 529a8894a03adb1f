"""The smooth environment matrix of Deep Potential models, and their limit on the number of neighbours, `sel`."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.edges import length
from jaxmlp.basis.species import one_hot, pair_values
from jaxmlp.neighbors.graph import Graph

Pairs = tuple[tuple[int, int], ...]


class Environment(NamedTuple):
    """Normalised environment matrix of n atoms.

    Args:
        s: (n, M) R_j0 = (w / (r + p) - davg) / dstd_r, the radial column.
        angular: three (n, M), R_jc = w x_c / (r + p)^2 / dstd_a.
        switch: (n, M) w(r).
        inside: (n, M) True for neighbours that fill a slot of the original code: within the cutoff and within `sel`.
        empty: (n, S) slots of each species that stay empty; (n, 1) where species share one number of slots.
    """

    s: Array
    angular: tuple[Array, Array, Array]
    switch: Array
    inside: Array
    empty: Array


def switch(r: Array, inner: float, cutoff: float) -> Array:
    """Return w(r): 1 up to `inner`, 0 from the cutoff on, 1 - 10 u^3 + 15 u^4 - 6 u^5 between.

    As (1 - u)^3 (1 + 3 u + 6 u^2), which keeps its digits near the cutoff, where the other form loses all.
    """
    v = jnp.clip((cutoff - r) * (1.0 / (cutoff - inner)), 0.0, 1.0)
    return v**3 * (10.0 - v * (15.0 - 6.0 * v))


def environment(part, params: dict[str, Array], graph: Graph, total: int, removed: Pairs) -> Environment:
    """Return the environment matrix of the slots of a graph; those outside have the values of an empty slot.

    Zhang et al., NeurIPS 2018 (arXiv:1805.09003), with the switch of deepmd-kit. An empty slot has the row
    (-davg / dstd_r, 0, 0, 0), which neighbours approach at the cutoff.

    Args:
        part: a descriptor with `cutoff`, `inner` and `protection` (Å), and `sel`, slots of every species, or one number
            for all together.
        params: "davg" (S, S), mean of the radial column for centre and neighbour species, (S, 1) for all neighbours
            alike; "dstd" (S, S, 2) or (S, 1, 2), standard deviations of the radial and angular columns.
        total: the `total` nearest neighbours are kept before those of each species are counted.
        removed: pairs of species whose edges leave their slots empty.
    """
    davg, dstd = params["davg"], params["dstd"]
    sel = part.sel if isinstance(part.sel, tuple) else (part.sel,)
    cutoff, inner = part.cutoff, part.inner
    r = length(*graph.planes)
    inside = kept(r < cutoff, r, graph.neighbor_species, sel, total)
    if removed:
        inside = inside & ~among(removed, graph)
    if len(sel) == 1:
        counts = jnp.sum(inside, axis=1, keepdims=True)
    else:
        counts = jnp.sum(one_hot(graph.neighbor_species, len(sel), 1, jnp.int32), axis=2, where=inside[:, None])
    empty = (jnp.asarray(np.array(sel), counts.dtype) - counts).astype(r.dtype)
    w = switch(r, inner, cutoff)
    inverse = 1.0 / (r + part.protection)
    theirs = graph.neighbor_species if davg.shape[1] > 1 else jnp.zeros_like(graph.neighbor_species)
    pick = lambda table: table[graph.species] if table.shape[1] == 1 else pair_values(table, graph.species, theirs)
    s = (w * inverse - pick(davg)) / pick(dstd[..., 0])
    scale = w * inverse * inverse / pick(dstd[..., 1])
    x, y, z = (a * scale for a in graph.planes)
    return Environment(s, (x, y, z), w, inside, empty)


def among(pairs: tuple[tuple[int, int], ...], graph: Graph) -> Array:
    """Return True (n, M) for edges between species that form one of the `pairs`, in either order."""
    size = 1 + max(max(pair) for pair in pairs)
    out = jnp.zeros(graph.neighbor_species.shape, bool)
    for t in range(size):
        partners = {b for a, b in pairs if a == t} | {a for a, b in pairs if b == t}
        hit = jnp.zeros_like(out)
        for partner in sorted(partners):
            hit = hit | (graph.neighbor_species == partner)
        out = out | (hit & (graph.species == t)[:, None])
    return out


def kept(inside: Array, r: Array, species: Array, sel: tuple[int, ...], total: int) -> Array:
    """Return which of the neighbours `inside` (n, M) fill a slot: all of them, unless an atom has too many.

    Then the `total` nearest are kept, and of those the sel[t] nearest of each species t; of equal distances, the first
    slot. The comparisons of all pairs of slots are made only where some atom of the block needs them.
    """
    if len(sel) == 1:
        counts = jnp.sum(inside, axis=1)
        crowded = jnp.any(counts > min(sel[0], total))
    else:
        counts = jnp.sum(one_hot(species, len(sel), 1, jnp.int32), axis=2, where=inside[:, None])
        crowded = jnp.any(counts > jnp.asarray(np.array(sel), counts.dtype))
        if total < sum(sel):
            crowded = crowded | jnp.any(jnp.sum(counts, axis=1) > total)
    limit = jnp.asarray(np.array(sel), jnp.int32)

    def ranked(inside, r, species):
        place = jnp.arange(r.shape[1])
        nearer = (r[:, None] < r[:, :, None]) | ((r[:, None] == r[:, :, None]) & (place < place[:, None]))
        first = inside & (jnp.sum(nearer & inside[:, None], axis=2, dtype=jnp.int32) < total)
        if len(sel) == 1:
            return first & (jnp.sum(nearer & first[:, None], axis=2, dtype=jnp.int32) < limit[0])
        same = species[:, None] == species[:, :, None]
        return first & (jnp.sum(nearer & same & first[:, None], axis=2, dtype=jnp.int32) < limit[species])

    return lax.cond(crowded, ranked, lambda inside, *_: inside, inside, lax.stop_gradient(r), species)
