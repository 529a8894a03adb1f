"""Equivariant polynomials of features with one channel per irrep: MACE's symmetric contraction.

From A = (A_lm), one real tensor of each irrep of a list, all polynomials P_M(A) of degree nu that transform like an
irrep (L, p) are sums of couplings ((A (x) A) (x) A) ...: many paths, of which few are independent, as the factors
commute. `basis` keeps the first independent ones, as coefficients of monomials A_i A_j A_k. Any other set of couplings,
such as the tensors U in a file of MACE, is a combination of these: `expand`.
"""

from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.irreps import coupling, products

Irrep = tuple[int, int]  # (l, p)
DEPENDENT = 1e-9  # what is left of a dependent path, of norm 1, is rounding; an independent one keeps above 1e-2


class Level(NamedTuple):
    """Polynomials of one degree.

    Args:
        monomials: (m, degree) factors of every monomial, places in A, ascending.
        polynomials: for every irrep (2 L + 1, r, m), coefficients of r polynomials.
    """

    monomials: np.ndarray
    polynomials: dict[Irrep, np.ndarray]


def dimension(irreps: tuple[Irrep, ...]) -> int:
    """Return the number of components of A."""
    return sum(2 * l + 1 for l, _ in irreps)


@cache
def basis(irreps: tuple[Irrep, ...], degree: int, largest: int) -> Level:
    """Return independent polynomials of a degree, for all irreps with L <= largest.

    Every polynomial of degree nu + 1 is a sum of products of one of degree nu and A, so the independent ones of each
    degree are found among the couplings of those of the degree before with A. Each has a norm of 1 as a tensor.
    """
    size = dimension(irreps)
    monomials = np.array(list(combinations_with_replacement(range(size), degree)), dtype=int).reshape(-1, degree)
    if degree == 1:
        starts = np.cumsum([0, *(2 * l + 1 for l, _ in irreps)])
        found: dict[Irrep, list[np.ndarray]] = {}
        for (l, p), start in zip(irreps, starts):
            if l <= largest:
                found.setdefault((l, p), []).append(np.eye(2 * l + 1, size, start))
        return Level(monomials, {irrep: np.stack(c, axis=1) for irrep, c in found.items()})
    before = basis(irreps, degree - 1, largest + max(l for l, _ in irreps))
    times = _products(before.monomials, monomials, size)
    weight = np.sqrt(_multiplicity(monomials))  # the norm of a symmetric tensor, entry by entry
    paths: dict[Irrep, list[np.ndarray]] = {}
    for a, polynomials in before.polynomials.items():
        start = 0
        for b in irreps:
            variables = slice(start, start + 2 * b[0] + 1)
            start = variables.stop
            for c in products(a, b):
                if c[0] <= largest:
                    w = coupling(a[0], b[0], c[0]).transpose(2, 0, 1)
                    for k in range(polynomials.shape[1]):
                        terms = np.einsum("kij,im->kmj", w, polynomials[:, k])
                        new = np.zeros((2 * c[0] + 1, len(monomials)))
                        np.add.at(new, (slice(None), times[:, variables]), terms)
                        paths.setdefault(c, []).append(new / weight)
    return Level(monomials, {c: _independent(p) * weight for c, p in sorted(paths.items()) if _independent(p).size})


def _products(before: np.ndarray, monomials: np.ndarray, size: int) -> np.ndarray:
    """The place of every monomial of `before` times every variable, (m, size), in `monomials`."""
    place = {tuple(m): k for k, m in enumerate(monomials.tolist())}
    return np.array([[place[tuple(sorted((*m, v)))] for v in range(size)] for m in before.tolist()])


def _multiplicity(monomials: np.ndarray) -> np.ndarray:
    """How many entries of a symmetric tensor stand for each monomial."""
    out = np.ones(len(monomials))
    run = np.ones(len(monomials))
    for k in range(1, monomials.shape[1]):
        run = np.where(monomials[:, k] == monomials[:, k - 1], run + 1, 1.0)
        out *= (k + 1) / run
    return out


def _independent(paths: list[np.ndarray]) -> np.ndarray:
    """The first independent ones of (2 L + 1, m) arrays, each of norm 1, stacked on axis 1."""
    kept: list[np.ndarray] = []
    orthogonal: list[np.ndarray] = []
    for path in paths:
        norm = np.linalg.norm(path)
        if norm < DEPENDENT:
            continue
        path = path / norm
        rest = path
        for _ in range(2):  # twice is enough
            for o in orthogonal:
                rest = rest - np.sum(o * rest) * o
        if np.linalg.norm(rest) > DEPENDENT:
            kept.append(path)
            orthogonal.append(rest / np.linalg.norm(rest))
    return np.stack(kept, axis=1) if kept else np.zeros((*paths[0].shape[:1], 0, paths[0].shape[1]))


def expand(U: np.ndarray, irreps: tuple[Irrep, ...], irrep: Irrep) -> np.ndarray:
    """Return C (r, paths) with sum U[M, i, j, ..., eta] A_i A_j ... = sum_r C[r, eta] P_r,M(A), for all A.

    Args:
        U: (2 L + 1, dim, ..., dim, paths), as many axes of dim as the degree.

    Raises:
        ValueError: U is no tensor of equivariant polynomials.
    """
    level = basis(irreps, U.ndim - 2, irrep[0])
    found = np.zeros((U.shape[0], len(level.monomials), U.shape[-1]))
    place = {tuple(m): k for k, m in enumerate(level.monomials.tolist())}
    where = np.argwhere(np.abs(U).max(axis=(0, -1)) > 0)
    slots = [place[tuple(sorted(w))] for w in where.tolist()]
    np.add.at(found, (slice(None), slots), U[(slice(None), *where.T)])
    known = level.polynomials.get(irrep, np.zeros((U.shape[0], 0, len(level.monomials))))
    weight = 1 / np.sqrt(_multiplicity(level.monomials))
    rows = (known * weight).transpose(1, 0, 2).reshape(known.shape[1], U.shape[0] * len(level.monomials))
    target = (found * weight[:, None]).reshape(rows.shape[1], U.shape[-1])
    C = np.linalg.lstsq(rows.T, target, rcond=None)[0] if len(rows) else np.zeros((0, U.shape[-1]))
    if target.size and np.abs(rows.T @ C - target).max() > 1e-5 * max(1.0, np.abs(target).max()):
        raise ValueError("this coupling tensor is not equivariant under rotations and reflections.")
    return C


class Plan(NamedTuple):
    """How to evaluate polynomials of several degrees: monomials as products of earlier ones with a variable.

    Args:
        factors: for each degree from 2, (place in the degree before, variable) of the monomials that are needed.
        tables: for each irrep and degree (2 L + 1, r, needed monomials of this degree), or None.
    """

    factors: tuple[tuple[np.ndarray, np.ndarray], ...]
    tables: dict[Irrep, tuple[np.ndarray | None, ...]]


@cache
def plan(irreps: tuple[Irrep, ...], degree: int, wanted: tuple[Irrep, ...]) -> Plan:
    """Return the plan for all polynomials up to a degree of the wanted irreps."""
    largest = max(l for l, _ in wanted)
    levels = [basis(irreps, nu, largest) for nu in range(1, degree + 1)]
    needed: set[tuple[int, ...]] = set()
    for level in levels:
        used = np.zeros(len(level.monomials), bool)
        for irrep in wanted:
            if irrep in level.polynomials:
                used |= np.abs(level.polynomials[irrep]).max(axis=(0, 1)) > 1e-12
        needed |= {tuple(m) for m in level.monomials[used].tolist()}
    for nu in range(degree, 1, -1):  # a product needs what it is made of
        needed |= {m[:-1] for m in needed if len(m) == nu}
    places: list[dict[tuple[int, ...], int]] = [{(k,): k for k in range(dimension(irreps))}]
    factors = []
    for nu in range(2, degree + 1):
        monomials = sorted(m for m in needed if len(m) == nu)
        before = np.array([places[-1][m[:-1]] for m in monomials], np.int32)
        factors.append((before, np.array([m[-1] for m in monomials], np.int32)))
        places.append({m: k for k, m in enumerate(monomials)})
    tables = {}
    for irrep in wanted:
        rows: list[np.ndarray | None] = []
        for level, place in zip(levels, places):
            known = level.polynomials.get(irrep)
            if known is None:
                rows.append(None)
                continue
            table = np.zeros((*known.shape[:2], len(place)))
            for k, m in enumerate(level.monomials.tolist()):
                if tuple(m) in place:
                    table[:, :, place[tuple(m)]] = known[:, :, k]
            rows.append(table)
        tables[irrep] = tuple(rows)
    return Plan(tuple(factors), tables)


def count(irreps: tuple[Irrep, ...], degree: int, irrep: Irrep) -> int:
    """Return the number of independent polynomials of one degree."""
    known = basis(irreps, degree, irrep[0]).polynomials.get(irrep)
    return 0 if known is None else known.shape[1]


def evaluate(plan: Plan, A: Array) -> dict[Irrep, Array]:
    """Return, for each irrep, all its polynomials (2 L + 1, r, n, F), degree by degree, of A (n, dim, F)."""
    n, size, features = A.shape
    levels = [A.swapaxes(0, 1).reshape(size, n * features)]
    for before, variable in plan.factors:
        levels.append(levels[-1][before] * levels[0][variable])
    out = {}
    for irrep, tables in plan.tables.items():
        none = jnp.zeros((2 * irrep[0] + 1, 0, n, features), A.dtype)
        parts = [none] + [
            (jnp.asarray(t.reshape(-1, t.shape[2]), A.dtype) @ x).reshape(*t.shape[:2], n, features)
            for t, x in zip(tables, levels)
            if t is not None and t.shape[1]
        ]
        out[irrep] = jnp.concatenate(parts, axis=1)
    return out
