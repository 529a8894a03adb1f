"""Convolution over neighbours: their features times harmonics of the edge, weighted by functions of the distance.

    m_i^c[k, u] = sqrt(2 c + 1) sum_j R_abc[r_ij, u] sum_(m n) w(a, b, c)[m, n, k] x_j^a[m, u] Y_b[n](r_ij)

for each *path* (a, b, c) from irreps a of the features and b of the edge to c: e3nn's tensor product "uvu", summed over
the edges (Batzner et al., Nat. Commun. 13, 2453 (2022), Eqs. (4) to (7)). Nothing as large as (edges, 2c + 1, channels)
is made: for an atom, B[k, (j, m)] = sum_n w[m, n, k] Y_b[n](r_ij) times (R x)[(j, m), u] is one matrix product.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.irreps import Features, Irreps, coupling, label, merged, products


class Path(NamedTuple):
    """One product of features and harmonics.

    Args:
        mul: number of channels.
        source: (l, p) of the features.
        edge: l of the harmonics, of parity (-1)^l.
        target: (l, p) of the product.
    """

    mul: int
    source: tuple[int, int]
    edge: int
    target: tuple[int, int]


def paths(features: Irreps, l_max: int, wanted: Irreps, parities: Sequence[int] | None = None) -> tuple[Path, ...]:
    """Return the paths from `features` and harmonics up to l_max to the irreps in `wanted`, in e3nn's order.

    Args:
        parities: of the harmonics; (-1)^l if None.
    """
    targets = {(l, p) for _, l, p in wanted}
    signs = [(-1) ** l for l in range(l_max + 1)] if parities is None else parities
    return tuple(
        Path(mul, (l, p), edge, target)
        for mul, l, p in features
        for edge in range(l_max + 1)
        for target in products((l, p), (edge, signs[edge]))
        if target in targets
    )


def path_irreps(paths: Sequence[Path]) -> Irreps:
    """Return the irreps of what `convolution` makes."""
    return merged(tuple((path.mul, *path.target) for path in paths))


def convolution(
    x: Features,
    Y: Sequence[Sequence[Array]],
    R: Array | tuple[Array, Array],
    paths: Sequence[Path],
    convention: str = "0.6.0",
) -> dict[str, Array]:
    """Return m (n, 2 c + 1, F), for each irrep the channels of its paths side by side.

    Args:
        x: features of the neighbours, (n, M, 2 a + 1, F).
        Y: planes (n, M) of the harmonics, as from `harmonics` with Y_00 = 1.
        R: radial weights (n, M, W), the channels of all paths side by side; or the pair of (n, M, H) and (H, W) whose
            product they are. That is then formed for one path at a time, which stays in the cache: a third faster.
        convention: of the signs of couplings.
    """
    out: dict[str, list[Array]] = {}
    start = 0
    for path in paths:
        stop = start + path.mul
        radial = R[..., start:stop] if isinstance(R, Array) else R[0] @ R[1][:, start:stop]
        start = stop
        theirs = x[label(*path.source)]
        if path.edge == 0:
            m = jnp.sum(radial[:, :, None] * theirs, axis=1)
        elif path.source[0] == 0:
            m = jnp.stack(Y[path.edge], axis=1) @ (radial * theirs[:, :, 0])
        else:
            weighted = (radial[:, :, None] * theirs).reshape(theirs.shape[0], -1, path.mul)
            m = jnp.einsum("nak,nau->nku", _kernel(path, Y, convention), weighted)
        out.setdefault(label(*path.target), []).append(m)
    return {name: jnp.concatenate(parts, axis=-1) for name, parts in out.items()}


def _kernel(path: Path, Y: Sequence[Sequence[Array]], convention: str) -> Array:
    """B[(j, m), k] = sqrt(2 c + 1) sum_n w[m, n, k] Y_b[n](r_j), (n, M (2 a + 1), 2 c + 1)."""
    w = math.sqrt(2 * path.target[0] + 1) * coupling(path.source[0], path.edge, path.target[0], convention)
    planes = Y[path.edge]
    entries = []
    for m in range(w.shape[0]):
        for k in range(w.shape[2]):
            terms = [float(c) * plane for c, plane in zip(w[m, :, k], planes) if c]
            entries.append(sum(terms[1:], terms[0]) if terms else jnp.zeros_like(planes[0]))
    return jnp.stack(entries, axis=-1).reshape(planes[0].shape[0], -1, w.shape[2])


def species_convolution(
    x: Array, hidden: Array, last: Array, Y: Sequence[Sequence[Array]], neighbor_species: Array, paths: Sequence[Path]
) -> dict[str, Array]:
    """Return `convolution` for scalar features that depend on nothing but the species: those of a first layer.

    The sums over neighbours do not know the channels yet: D[(b, k), s, h] = sum_(j of species s) Y_b[k](r_ij) H[j, h]
    comes first, and with R = H W, m^b[k, u] = sum_(s h) D[(b, k), s, h] W[h, u] x[s, u] once for an atom instead of for
    every edge. Worth while for few species.

    Args:
        x: features of each species, (S, F).
        hidden: H, what the radial network gives before its last layer, (n, M, H).
        last: W, that layer with all its factors, (H, channels of all paths).
        Y, paths: as for `convolution`; all sources are scalars.
    """
    n, M = neighbor_species.shape
    s, h = x.shape[0], hidden.shape[-1]
    used = sorted({path.edge for path in paths})
    planes = jnp.stack([plane for b in used for plane in Y[b]], axis=1)  # (n, K, M)
    if s > 1:
        of = neighbor_species[:, None] == jnp.arange(s, dtype=neighbor_species.dtype)[:, None]  # (n, S, M)
        planes = jnp.where(of[:, None], planes[:, :, None], 0.0).reshape(n, -1, M)
    D = (planes @ hidden).reshape(n, -1, s * h)  # (n, K, S H)
    out: dict[str, list[Array]] = {}
    start = 0
    for path in paths:
        w = last[:, start : start + path.mul] * x[:, None]  # (S, H, F)
        start += path.mul
        first = sum(2 * b + 1 for b in used if b < path.edge)
        m = D[:, first : first + 2 * path.edge + 1] @ w.reshape(s * h, -1)
        out.setdefault(label(*path.target), []).append(m)
    return {name: jnp.concatenate(parts, axis=-1) for name, parts in out.items()}
