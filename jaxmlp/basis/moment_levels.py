"""The moment tensor basis of a level: which contractions there are, and the products that make them.

A contraction of k tensors M_(mu,nu) is its list of mu and a symmetric matrix A: A_ii = nu_i, and A_ij indices are
summed between factors i and j (Shapeev, Multiscale Model. Simul. 14, 1153 (2016), section 3); the others are free. The
scalars of level L have sum_i (2 + 4 mu_i + nu_i) <= L, at most four factors, mu <= 5 and nu <= 10: the bounds of the
files that MLIP ships (at level 26 the square of M_(0,11), say, would fit, but is not in them).

Every contraction is made from two smaller ones, split where the fewest indices are summed between the parts (the first
such split: single factors in their order, then pairs), so that scalars share their parts.
"""

from functools import lru_cache
from itertools import combinations, combinations_with_replacement, permutations
from math import factorial
from typing import NamedTuple

from jaxmlp.basis.moments import Basic, Moments, Times
from jaxmlp.basis.monomials import monomials

LEVELS = tuple(range(2, 29, 2))
MOST_FACTORS, MOST_MU, MOST_NU = 4, 5, 10

Powers = tuple[int, int, int]


class Contraction(NamedTuple):
    """mu of every factor, and the upper triangle of A row by row: A_11, A_12 ..., A_22, ..."""

    mu: tuple[int, ...]
    upper: tuple[int, ...]

    def matrix(self) -> list[list[int]]:
        """A, symmetric."""
        k, values = len(self.mu), iter(self.upper)
        out = [[0] * k for _ in range(k)]
        for i in range(k):
            for j in range(i, k):
                out[i][j] = out[j][i] = next(values)
        return out


@lru_cache(maxsize=16)
def level_moments(level: int) -> Moments:
    """Return the tables alpha_index_* of a level, numbered as in the files.

    Raises:
        ValueError: a level that is not an even number from 2 to 28.
    """
    if level not in LEVELS:
        raise ValueError(f"the level of a moment tensor potential is an even number from 2 to 28; got {level}.")
    scalars = level_scalars(level)
    nodes: dict[Contraction, _Split | None] = {}
    waiting = list(scalars)
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes[node] = _split(node)
            if (split := nodes[node]) is not None:
                waiting += [split.left, split.right]
    place: dict[Contraction, dict[tuple[Powers, ...], int]] = {}  # number of each component, by its free indices
    basic: list[Basic] = []
    times: list[Times] = []
    count = 0
    for node in sorted(n for n, split in nodes.items() if split is None):
        place[node] = {(abc,): count + k for k, abc in enumerate(monomials(node.upper[0]))}
        basic += [(node.mu[0], *abc[0]) for abc in place[node]]
        count = len(basic)
    made = [(n, split) for n, split in nodes.items() if split is not None]
    for node, split in sorted(made, key=lambda item: (len(item[1].right.mu), len(item[1].left.mu), item[0])):
        place[node], known = {}, {}
        for free, terms in _components(node, split, place[split.left], place[split.right]):
            if terms not in known:  # components that are equal by symmetry have equal products
                known[terms] = count
                times += [(p, q, mult, count) for (p, q), mult in terms]
                count += 1
            place[node][free] = known[terms]
    none = (0, 0, 0)
    return Moments(tuple(basic), tuple(times), tuple(place[s][(none,) * len(s.mu)] for s in scalars))


def level_scalars(level: int) -> list[Contraction]:
    """Return all different scalar contractions of a level, in the order of their coefficients."""
    out = set()
    for k in range(1, MOST_FACTORS + 1):
        for mu in combinations_with_replacement(range(MOST_MU + 1), k):
            most = level - sum(2 + 4 * m for m in mu)
            out |= {_canonical(mu, a)[0] for a in _scalar_matrices(k, most)}
    return sorted(out, key=lambda s: (len(s.mu), s))


@lru_cache(maxsize=64)
def _scalar_matrices(k: int, most: int) -> list[list[list[int]]]:
    """All symmetric A (k, k) without free indices and with sum_i nu_i <= most."""
    pairs = list(combinations(range(k), 2))
    out = []

    def fill(a, at, left):
        if at == len(pairs):
            full = [list(row) for row in a]
            for i in range(k):
                full[i][i] = sum(a[i])
            if max(full[i][i] for i in range(k)) <= MOST_NU:
                out.append(full)
            return
        i, j = pairs[at]
        for n in range(left // 2 + 1):
            a[i][j] = a[j][i] = n
            fill(a, at + 1, left - 2 * n)
        a[i][j] = a[j][i] = 0

    if most >= 0:
        fill([[0] * k for _ in range(k)], 0, most)
    return out


def _canonical(mu: tuple[int, ...], a: list[list[int]]) -> tuple[Contraction, tuple[int, ...]]:
    """The contraction with its factors in order: mu grow, then the smallest matrix; and where each factor came from."""
    k, best = len(mu), None
    order: tuple[int, ...] = ()
    for p in permutations(range(k)):
        if all(mu[p[i]] <= mu[p[i + 1]] for i in range(k - 1)):
            upper = tuple(a[p[i]][p[j]] for i in range(k) for j in range(i, k))
            if best is None or upper < best:
                best, order = upper, p
    assert best is not None
    return Contraction(tuple(mu[i] for i in order), best), order


class _Split(NamedTuple):
    """A contraction as a product of two: their factors' places in it, in the order of the parts' own factors."""

    left: Contraction
    right: Contraction
    left_factors: tuple[int, ...]
    right_factors: tuple[int, ...]


def _split(node: Contraction) -> _Split | None:
    """The two parts with the fewest indices summed between them."""
    k, a = len(node.mu), node.matrix()
    if k == 1:
        return None
    everything = set(range(k))
    parts = [(i,) for i in range(k)] if k > 2 else [(0,)]
    parts += [(0, i) for i in (1, 2, 3)] if k == 4 else []
    rest = [tuple(sorted(everything - set(part))) for part in parts]
    best = min(range(len(parts)), key=lambda s: sum(a[i][j] for i in parts[s] for j in rest[s]))
    (left, one), (right, two) = (
        (contraction, tuple(part[i] for i in order))
        for part in (parts[best], rest[best])
        for contraction, order in [_canonical(tuple(node.mu[i] for i in part), [[a[i][j] for j in part] for i in part])]
    )
    return _Split(left, right, one, two)


def _components(node: Contraction, split: _Split, left: dict, right: dict):
    """Yield the free indices of every component, and its products ((p, q), multiplicity), p <= q, sorted."""
    k, a = len(node.mu), node.matrix()
    free = [a[i][i] - sum(a[i][j] for j in range(k) if j != i) for i in range(k)]
    between = [(i, j, a[i][j]) for i in split.left_factors for j in split.right_factors if a[i][j]]
    summed: list[tuple[tuple[Powers, ...], int]] = [((), 1)]
    for _, _, n in between:
        summed = [((*s, m), mult * multiplicity(m)) for s, mult in summed for m in monomials(n)]
    extra = []  # what the summed indices add to those of every factor
    for s, mult in summed:
        add = [(0, 0, 0)] * k
        for (i, j, _), m in zip(between, s, strict=True):
            add[i], add[j] = _plus(add[i], m), _plus(add[j], m)
        extra.append((add, mult))
    labels: list[tuple[Powers, ...]] = [()]
    for n in free:
        labels = [(*label, m) for label in labels for m in monomials(n)]
    for label in labels:
        terms: dict[tuple[int, int], int] = {}
        for add, mult in extra:
            p = left[tuple(_plus(label[i], add[i]) for i in split.left_factors)]
            q = right[tuple(_plus(label[i], add[i]) for i in split.right_factors)]
            pair = (min(p, q), max(p, q))
            terms[pair] = terms.get(pair, 0) + mult
        yield label, tuple(sorted(terms.items()))


def _plus(m: Powers, n: Powers) -> Powers:
    return m[0] + n[0], m[1] + n[1], m[2] + n[2]


def multiplicity(powers: Powers) -> int:
    """Return how many components of a symmetric tensor are equal to that with these powers of x, y, z."""
    a, b, c = powers
    return factorial(a + b + c) // (factorial(a) * factorial(b) * factorial(c))
