"""An ACE from scratch: complete lists of linearly independent B-basis functions up to given orders.

A product of moments is invariant in as many ways as the product of their multiplets holds scalars. The intermediate
angular momenta number these ways as long as all factors differ; of functions of equal factors (mu, n, l) they give too
many, and those are taken whose sums over m, with like products added, have full rank: Drautz, PRB 99, 014104 (2019),
section V; Dusson et al., J. Comput. Phys. 454, 110946 (2022), section 4; Lysogorskiy et al., npj Comput. Mater. 7, 97
(2021).
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import groupby, islice, product

import numpy as np

from jaxmlp.potentials.ace import ACE, ACEBond, ACEEmbedding
from jaxmlp.potentials.ace_tables import Function, terms

Channel = tuple[int, int, int]  # mu, n (from 1), l

LARGEST = 100_000  # functions of a species; more is a slip of the pen
EMBEDDINGS = {
    "linear": ACEEmbedding("FinnisSinclair", (1.0,), (1.0,)),
    "finnis-sinclair": ACEEmbedding("FinnisSinclairShiftedScaled", (1.0, 1.0), (1.0, 0.5)),
}


def ace(
    species: tuple[int, ...],
    cutoff: float | Sequence[Sequence[float]] = 6.0,
    *,
    n_max: tuple[int, ...] = (12, 4, 3, 2),
    l_max: tuple[int, ...] = (0, 4, 3, 2),
    degree: float | None = None,
    size: int | None = None,
    l_weight: float = 1.0,
    embedding: str = "linear",
    radial: str = "SBessel",
    decay: float = 5.25,
    width: float = 0.01,
) -> ACE:
    """Return an ACE with all functions up to given orders; its `init` draws parameters.

    Args:
        species: atomic numbers.
        cutoff: Å, one for all pairs or (S, S), the central species first.
        n_max: largest n of the functions of rank 1, 2, ... (pacemaker's nradmax_by_orders), up to rank 6. R_nl starts
            as g_n, of which there are as many as the largest n.
        l_max: largest l of each rank (lmax_by_orders); that of rank 1 is 0.
        degree: largest sum of n + l_weight l over the factors, n from 1; None for no such limit.
        size: number of functions of a species (number_of_functions_per_element), those of least degree; None for all.
        l_weight: of l in degrees, taken as the nearest fraction of a denominator up to 12. Less than 1 gives more
            angles and fewer distances: 3BPA, a molecule, is fitted best with 1/4.
        embedding: "linear" in one density, or "finnis-sinclair": two densities, F(rho_1; 1) + F(rho_2; 1/2).
        radial: family of the radial functions: SBessel, ChebExpCos, ChebPow or ChebLinear, see `basis.radial`.
        decay, width: parameters of the family (lambda, and the width of the cutoff in Å); SBessel has none.

    Raises:
        ValueError: an option that is not possible, or more than 100 000 functions of a species.
    """
    s = len(species)
    if embedding not in EMBEDDINGS:
        raise ValueError(f"embedding must be one of {', '.join(EMBEDDINGS)}; got {embedding!r}.")
    try:
        cutoffs = np.broadcast_to(np.asarray(cutoff, dtype=float), (s, s))
    except ValueError:
        raise ValueError(f"cutoff must be one number or {s} x {s} numbers in Å; got {cutoff}.") from None
    listed = tuple(functions(s, n_max, l_max, degree, size, l_weight))
    bonds = tuple(tuple(ACEBond(radial, max(n_max), decay, float(rc), width) for rc in row) for row in cutoffs)
    factors = [(n, l) for _, ns, ls, _, _ in listed if len(ns) > 1 for n, l in zip(ns, ls, strict=True)]
    n, l = map(max, zip(*factors, strict=True)) if factors else (1, 0)
    return ACE(tuple(species), bonds, (EMBEDDINGS[embedding],) * s, (listed,) * s, n, l)


def functions(
    species: int,
    n_max: tuple[int, ...],
    l_max: tuple[int, ...],
    degree: float | None = None,
    size: int | None = None,
    l_weight: float = 1.0,
) -> list[Function]:
    """Return the functions of one central atom among `species` species, by rank; arguments as of `ace`.

    Raises:
        ValueError: orders that are not possible, or too many functions.
    """
    _check(n_max, l_max, degree, size, l_weight)
    out = list(islice(_by_degree(species, n_max, l_max, degree, l_weight), LARGEST + 1 if size is None else size))
    if len(out) > LARGEST:
        raise ValueError(f"these are more than {LARGEST} functions; lower n_max, l_max or degree, or give size.")
    return sorted(out, key=lambda f: (len(f[0]), f))


def _by_degree(
    species: int, n_max: tuple[int, ...], l_max: tuple[int, ...], degree: float | None, l_weight: float
) -> Iterator[Function]:
    per_n, per_l = _counted(l_weight)
    ranks = list(enumerate(zip(n_max, l_max, strict=True), start=1))
    largest = max(rank * (per_n * n + per_l * l) for rank, (n, l) in ranks)
    if degree is not None:
        largest = min(largest, int(degree * per_n + 1e-9))
    for total in range(1, largest + 1):
        for rank, (n, l) in ranks:
            for channels in _multisets(_channels(species, n, l, per_n, per_l), rank, total):
                yield from _coupled(channels)


def _counted(l_weight: float) -> tuple[int, int]:
    """Whole numbers in the ratio 1 : l_weight, of n and of l in degrees."""
    ratio = Fraction(l_weight).limit_denominator(12)
    return ratio.denominator, ratio.numerator


def _check(
    n_max: tuple[int, ...], l_max: tuple[int, ...], degree: float | None, size: int | None, l_weight: float
) -> None:
    if not 1 <= len(n_max) <= 6 or len(l_max) != len(n_max):
        raise ValueError(f"n_max and l_max have an entry for each rank from 1, up to 6; got {n_max} and {l_max}.")
    if min(n_max) < 1 or min(l_max) < 0 or l_max[0] != 0:
        raise ValueError(f"n_max is positive, l_max not negative and 0 for rank 1; got {n_max} and {l_max}.")
    if any(x is not None and x < 1 for x in (degree, size)):
        raise ValueError(f"degree and size are positive or None; got {degree} and {size}.")
    if not 1 / 12 <= l_weight <= 12:
        raise ValueError(f"l_weight is from 1/12 to 12; got {l_weight}.")


@cache
def _channels(species: int, n_max: int, l_max: int, per_n: int, per_l: int) -> tuple[tuple[int, Channel], ...]:
    """All (mu, n, l) behind their degree, sorted."""
    every = product(range(species), range(1, n_max + 1), range(l_max + 1))
    return tuple(sorted((per_n * n + per_l * l, (mu, n, l)) for mu, n, l in every))


def _multisets(channels: tuple[tuple[int, Channel], ...], rank: int, total: int) -> Iterator[tuple[Channel, ...]]:
    """All multisets of `rank` channels whose degrees add up to `total`."""
    if rank == 0:
        if total == 0:
            yield ()
        return
    for k, (degree, channel) in enumerate(channels):
        if degree * rank > total:
            return  # so do all that follow
        for rest in _multisets(channels[k:], rank - 1, total - degree):
            yield (channel, *rest)


def _coupled(channels: tuple[Channel, ...]) -> list[Function]:
    """The independent functions of one multiset of channels."""
    mus, ns, ls = zip(*sorted(channels), strict=True)
    groups = tuple(len(list(same)) for _, same in groupby(sorted(channels)))
    return [(mus, ns, ls, lint, ()) for lint in independent(ls, groups)]


def scalars(ls: tuple[int, ...], groups: tuple[int, ...]) -> int:
    """Return how many invariants of even parity products of moments A_l have, counted by their projections m.

    Scalars are as many as there are states of M = 0 beyond those of M = 1.

    Args:
        ls: degree of every factor, equal factors side by side.
        groups: how many factors are equal, one after the other; they add up to the length of ls.
    """
    if sum(ls) % 2:
        return 0
    states = np.array([1])
    at = 0
    for count in groups:
        states = np.convolve(states, _symmetric_states(ls[at], count))
        at += count
    middle = len(states) // 2
    return int(states[middle] - states[middle + 1]) if len(states) > 1 else 1


def _symmetric_states(l: int, count: int) -> np.ndarray:
    """Numbers of multisets of `count` of the m = -l ... l by their sum, -count l ... count l."""
    table = np.zeros((count + 1, 2 * count * l + 1), dtype=int)  # [members, sum + members l]
    table[0, 0] = 1
    for m in range(2 * l + 1):
        for members in range(1, count + 1):
            table[members, m:] += table[members - 1, : table.shape[1] - m]
    return table[count]


@lru_cache(maxsize=4096)
def independent(ls: tuple[int, ...], groups: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return intermediate angular momenta whose functions are a basis of the invariants; arguments as of `scalars`."""
    wanted = scalars(ls, groups)
    every = _intermediate(ls) if wanted else []
    if len(every) == wanted:
        return tuple(every)
    label = tuple(k + 1 for k, count in enumerate(groups) for _ in range(count))
    parts = [terms(((0,) * len(ls), label, ls, lint, ()))[0] for lint in every]
    column = {p: k for k, p in enumerate(sorted({p for part in parts for p, _ in part}))}
    rows = np.zeros((len(every), len(column)))
    for row, part in zip(rows, parts, strict=True):
        for p, weight in part:
            row[column[p]] = weight
    chosen: list[int] = []
    while len(chosen) < wanted:
        left = np.linalg.norm(rows, axis=1)
        # The first of those that are all but the largest: rounding does not decide between equals.
        best = int(np.argmax(left > 0.999 * left.max()))
        assert left[best] > 1e-6, f"l = {ls} of {groups} equal factors have rank {len(chosen)}, not {wanted}"
        direction = rows[best] / left[best]
        rows -= np.outer(rows @ direction, direction)
        chosen.append(best)
    return tuple(every[k] for k in sorted(chosen))


def _intermediate(ls: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All intermediate angular momenta with which the factors couple to a scalar, see `basis.cluster.coupling`."""

    def range_of(a: int, b: int) -> range:
        return range(abs(a - b), a + b + 1)

    if len(ls) <= 2:
        return [()] if len(set(ls)) == 1 else []
    pairs = list(product(*(range_of(a, b) for a, b in zip(ls[0::2], ls[1::2], strict=False))))
    if len(ls) == 3:
        return [p for p in pairs if p == (ls[2],)]
    if len(ls) == 4:
        return [p for p in pairs if p[0] == p[1]]
    last = ls[4] if len(ls) == 5 else None  # what (12)(34) couple to: l5, or L56
    return [(*p, p[2] if last is None else last) for p in pairs if (p[2] if last is None else last) in range_of(*p[:2])]
