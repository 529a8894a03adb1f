"""Invariants of the third order of functions on the sphere in four dimensions: the bispectrum of SNAP.

With f_j(x) = sum_lm c_jlm h_jlm(x) / (j + 1) for harmonics h of degree j, the invariants are the means over the sphere

    I(a, b, c) = < f_a f_b f_c >,   a, b, c of any degrees and, if there are several functions, of any of those.

They equal sums of products of Clebsch-Gordan coefficients and elements of Wigner matrices (the Fourier transform of the
product of functions on the group SU(2)); as means over points they are products of numbers, point by point, and matrix
products. `points` are those of `basis.hypersphere`, at which the means are exact.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.hypersphere import points

einsum = partial(jnp.einsum, precision="highest")


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
    thirds = defaultdict(list)
    for k, (a, b, d) in enumerate(tables.triples):
        thirds[a, b].append((d, k))
    weights = jnp.asarray(points(tables.j_max).weights, c.dtype)
    means, order = [], []
    for (a, b), rest in thirds.items():
        product = f[a] * f[b] * weights
        means += [einsum("np,np->n", product, f[d]) for d, _ in rest]
        order += [k for _, k in rest]
    return jnp.stack([means[k] for k in np.argsort(order)], axis=1)


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
    if not isinstance(dc, jax.custom_derivatives.SymbolicZero):
        out = out + jnp.sum(slope * dc, axis=(1, 2))
    if not isinstance(dweights, jax.custom_derivatives.SymbolicZero):
        out = out + jnp.sum(invariants(tables, c) * dweights, axis=1)
    return value, out


def _value(c: Array, slope: Array) -> Array:
    return jnp.sum(slope * c, axis=(1, 2)) / 3.0


def _slope(tables: Bispectrum, c: Array, weights: Array) -> Array:
    """The derivative of the weighted sum with respect to c: fields, their products point by point, projections."""
    sphere = points(tables.j_max)
    f = _fields(tables, c)
    mean = jnp.asarray(sphere.weights, c.dtype)
    rows = []
    for function in range(tables.functions):
        parts = []
        for j, values in enumerate(sphere.values):
            y = mean * _products(tables, f, weights, function * (tables.j_max + 1) + j)
            parts.append(einsum("np,kp->nk", y, jnp.asarray(values, c.dtype)))
        rows.append(jnp.concatenate(parts, axis=1))
    return jnp.stack(rows, axis=1)[:, :, np.argsort(sphere.order)]


def _fields(tables: Bispectrum, c: Array) -> list[Array]:
    """f of every channel at the points, (n, P)."""
    sphere = points(tables.j_max)
    ends = np.cumsum([len(values) for values in sphere.values])[:-1]
    by_degree = jnp.split(c[:, :, sphere.order], ends, axis=2)
    return [
        einsum("nk,kp->np", by_degree[j][:, function], jnp.asarray(values, c.dtype))
        for function in range(tables.functions)
        for j, values in enumerate(sphere.values)
    ]


def _products(tables: Bispectrum, f: Sequence[Array], weights: Array, own: int) -> Array:
    """y of one channel, (n, P)."""
    total = jnp.zeros_like(f[own])
    for p, terms in _terms(tables)[own].items():
        total = total + f[p] * sum((factor * weights[:, k, None]) * f[q] for q, k, factor in terms)
    return total


@lru_cache(maxsize=32)
def _terms(tables: Bispectrum) -> list[dict[int, list[tuple[int, int, float]]]]:
    """[a][b] = (c, k, factor), ...: the terms factor weights_k f_b f_c of y_a."""
    out: list[dict] = [defaultdict(list) for _ in range(tables.functions * (tables.j_max + 1))]
    for k, triple in enumerate(tables.triples):
        for own in set(triple):
            p, q = sorted(triple[:i] + triple[i + 1 :] for i in range(3) if triple[i] == own)[0]
            out[own][p].append((q, k, float(triple.count(own))))
    return out
