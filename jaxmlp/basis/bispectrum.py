"""Invariants of the third order of functions on the sphere in four dimensions: the bispectrum of SNAP.

With f_j(x) = sum_lm c_jlm h_jlm(x) / (j + 1) for harmonics h of degree j, the invariants are the means over the sphere

    I(a, b, c) = < f_a f_b f_c >,   a, b, c of any degrees and, if there are several functions, of any of those.

They equal sums of products of Clebsch-Gordan coefficients and elements of Wigner matrices (the Fourier transform of the
product of functions on the group SU(2)); as means over points they are products of numbers, point by point, and matrix
products. `points` are those of `basis.hypersphere`, at which the means are exact.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.hypersphere import FOLDS, points
from jaxmlp.basis.tangents import given

matmul = partial(jnp.matmul, precision="highest")


@dataclass(frozen=True)
class Bispectrum:
    """Which invariants there are.

    Args:
        j_max: highest degree.
        functions: number of functions.
        triples: channels a <= b <= c of every invariant, each once; channel = function (j_max + 1) + degree.
    """

    j_max: int
    functions: int
    triples: tuple[tuple[int, int, int], ...] = field(repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        # jit hashes its static arguments at every call, and these tables may be long.
        object.__setattr__(self, "_hash", hash((self.j_max, self.functions, self.triples)))

    def __hash__(self) -> int:
        return self._hash


def invariants(tables: Bispectrum, c: Array) -> Array:
    """Return I of every triple, (n, triples).

    Args:
        c: (n, functions, harmonics) coefficients, numbered by l, then j, then m.
    """
    f = _fields(tables, c)
    sphere = points(tables.j_max)
    n, tori = len(c), len(sphere.weights)
    mean = jnp.asarray(np.repeat(sphere.weights, n), c.dtype)
    thirds = defaultdict(list)
    for k, (a, b, d) in enumerate(tables.triples):
        thirds[a, b].append((d, k))
    means, order = [], []
    for (a, b), rest in thirds.items():
        product = f[a] * f[b] * mean
        means += [_folded(product * f[d]) for d, _ in rest]
        order += [k for _, k in rest]
    rows = jnp.concatenate([means[k] for k in np.argsort(order)], axis=1)
    sums = matmul(jnp.ones((1, len(rows)), c.dtype), rows)
    return jnp.sum(sums.reshape(-1, tori, n), axis=1).T


def invariant_slopes(tables: Bispectrum, c: Array) -> Array:
    """Return the derivatives of all I with respect to c, (n, triples, functions, harmonics).

    dI/df_a is the product of the other two fields; those of all triples with f_a in them are projected at once.
    """
    f = _fields(tables, c)
    sphere = points(tables.j_max)
    tori, n, harmonics = len(sphere.weights), len(c), c.shape[2]
    # Projections come in the order of the points, harmonics of one degree after another.
    place = np.split(sphere.order, np.cumsum([turn.shape[1] for turn in sphere.turn])[:-1])
    out = jnp.zeros((len(tables.triples), tables.functions, harmonics, n), c.dtype)
    for own, by_factor in enumerate(_terms(tables)):
        function, j = divmod(own, tables.j_max + 1)
        terms = [(k, power, p, q) for p, rest in by_factor.items() for q, k, power in rest]
        if not terms:
            continue
        y = jnp.stack([power * f[p] * f[q] for _, power, p, q in terms], axis=1)  # (T, terms, L n)
        turn, along = sphere.turn[j], sphere.latitude[j] * sphere.weights
        sums = matmul(jnp.asarray(sphere.torus[j], c.dtype), y.reshape(len(y), -1)).reshape(-1, len(terms), tori, n)
        sums = jnp.sum(sums * jnp.asarray(along, c.dtype)[:, None, :, None], axis=2)
        slope = matmul(jnp.asarray(turn.T, c.dtype), sums.reshape(len(sums), -1)).reshape(-1, len(terms), n)
        k = np.array([term[0] for term in terms])
        out = out.at[k[:, None], function, place[j]].set(slope.swapaxes(0, 1))
    return jnp.moveaxis(out, 3, 0)


def _folded(x: Array) -> Array:
    """A sum over rows, but for the last quarter of it: XLA adds whole rows fast, but not in its reductions."""
    return sum(jnp.split(x, FOLDS)[1:], start=jnp.split(x, FOLDS)[0])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def weighted_invariants(tables: Bispectrum, c: Array, weights: Array) -> Array:
    """Return sum_k weights_k I_k, (n,), of coefficients c (n, functions, harmonics).

    Its derivative with respect to c is written out: the projections on the harmonics of y_a, the derivatives of
    sum_k weights_k f f f with respect to f_a. The sum itself, of the third order in c, is a third of c times that.
    Derivatives of every order follow, forward and reverse.

    Args:
        weights: (n, triples), or (1, triples) for the same ones in every row.
    """
    return _value(c, _slope(tables, c, weights))


@partial(weighted_invariants.defjvp, symbolic_zeros=True)
def _weighted_invariants_jvp(tables, primals, tangents):
    c, weights = primals
    dc, dweights = tangents
    slope = _slope(tables, c, weights)
    value = _value(c, slope)
    out = jnp.zeros_like(value)
    if given(dc):
        out = out + jnp.sum(slope * dc, axis=(1, 2))
    if given(dweights):
        out = out + jnp.sum(invariants(tables, c) * dweights, axis=1)
    return value, out


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def function_of_invariants(
    function: Callable[..., Array], tables: Bispectrum, c: Array, args: tuple[Array, ...]
) -> Array:
    """Return function(I, *args), (n,), of the invariants (n, triples) of c, row by row, with a faster first derivative.

    That is the one of `weighted_invariants` with the derivatives of the function with respect to I for weights.
    """
    return function(invariants(tables, c), *args)


@function_of_invariants.defjvp
def _function_of_invariants_jvp(function, tables, primals, tangents):
    (c, args), (dc, dargs) = primals, tangents
    values = invariants(tables, c)
    weights = jax.grad(lambda x: jnp.sum(function(x, *args)))(values)
    out, change = jax.jvp(lambda *x: function(values, *x), args, dargs)
    return out, change + jnp.sum(_slope(tables, c, weights) * dc, axis=(1, 2))


def _value(c: Array, slope: Array) -> Array:
    return jnp.sum(slope * c, axis=(1, 2)) / 3.0


def _slope(tables: Bispectrum, c: Array, weights: Array) -> Array:
    """The derivative of the weighted sum with respect to c: fields, their products point by point, projections."""
    sphere = points(tables.j_max)
    f = _fields(tables, c)
    tori, n = len(sphere.weights), len(c)
    weights = weights.T * jnp.arange(1.0, 4.0, dtype=c.dtype)[:, None, None]  # of derivatives of f, f^2 and f^3
    if weights.shape[2] > 1:
        weights = matmul(weights, jnp.asarray(np.tile(np.eye(n), tori), c.dtype))  # as wide as the rows of f
    rows = []
    for function in range(tables.functions):
        parts = []
        for j, (turn, latitude, torus) in enumerate(zip(sphere.turn, sphere.latitude, sphere.torus, strict=True)):
            y = _products(tables, f, weights, function * (tables.j_max + 1) + j)
            along = latitude * sphere.weights
            sums = matmul(jnp.asarray(torus, c.dtype), y).reshape(-1, tori, n)
            sums = jnp.sum(sums * jnp.asarray(along, c.dtype)[:, :, None], axis=1)
            parts.append(matmul(jnp.asarray(turn.T, c.dtype), sums))
        rows.append(jnp.concatenate(parts).T)
    return jnp.stack(rows, axis=1)[:, :, np.argsort(sphere.order).astype(np.int32)]


def _fields(tables: Bispectrum, c: Array) -> list[Array]:
    """f of every channel at the points, (T, L n): a row for a point of the tori, columns tori, then atoms."""
    sphere = points(tables.j_max)
    ends = np.cumsum([turn.shape[1] for turn in sphere.turn])[:-1]
    out = []
    for function in range(tables.functions):
        by_degree = jnp.split(c[:, function].T[sphere.order], ends)
        for part, turn, latitude, torus in zip(by_degree, sphere.turn, sphere.latitude, sphere.torus, strict=True):
            turned = matmul(jnp.asarray(turn, c.dtype), part)[:, None] * jnp.asarray(latitude, c.dtype)[:, :, None]
            out.append(matmul(jnp.asarray(torus.T, c.dtype), turned.reshape(len(turn), -1)))
    return out


def _products(tables: Bispectrum, f: Sequence[Array], weights: Array, own: int) -> Array:
    """y of one channel, (T, L n), of weights (3, triples, 1 or L n)."""
    total = jnp.zeros_like(f[own])
    for p, terms in _terms(tables)[own].items():
        total = total + f[p] * sum(weights[power - 1, k] * f[q] for q, k, power in terms)
    return total


@lru_cache(maxsize=32)
def _terms(tables: Bispectrum) -> list[dict[int, list[tuple[int, int, int]]]]:
    """[a][b] = (c, k, power), ...: the terms power weights_k f_b f_c of y_a, which f_a is in to that power."""
    out: list[dict] = [defaultdict(list) for _ in range(tables.functions * (tables.j_max + 1))]
    for k, triple in enumerate(tables.triples):
        for own in set(triple):
            p, q = sorted(triple[:i] + triple[i + 1 :] for i in range(3) if triple[i] == own)[0]
            out[own][p].append((q, k, triple.count(own)))
    return out
