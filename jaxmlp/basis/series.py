"""Smooth functions as Chebyshev series, piece by piece: exact to rounding, and differentiable to every order."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.polynomial import chebyshev

NODES = 256  # a function that needs more has features narrower than a hundredth of its interval
ROUNDING = 2e-15


@dataclass(frozen=True, eq=False)
class Series:
    """f_i(x) = sum_k coefficients[k, i] T_k(t), t from -1 to 1 over the piece that x lies in.

    Args:
        edges: (pieces + 1,) growing; the pieces lie between.
        pieces: (K, functions) coefficients of each.
    """

    edges: tuple[float, ...]
    pieces: tuple[np.ndarray, ...]

    @cached_property
    def derivative(self) -> "Series":
        """The series of the derivatives with respect to x."""
        widths = [high - low for low, high in pairwise(self.edges)]
        return Series(
            self.edges,
            tuple(
                np.concatenate([chebyshev.chebder(c) * (2.0 / width), np.zeros((1, c.shape[1]))])
                for c, width in zip(self.pieces, widths, strict=True)
            ),
        )


def nodes(count: int) -> np.ndarray:
    """Return the zeros of T_count, falling."""
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def coefficients(values: np.ndarray) -> np.ndarray:
    """Return the Chebyshev coefficients (..., n, F) of functions given at `nodes(n)`, (..., n, F)."""
    n = values.shape[-2]
    transform = 2.0 / n * np.cos(np.arange(n)[:, None] * (np.pi * (np.arange(n) + 0.5) / n))
    transform[0] /= 2
    return transform @ values


def fit(function: Callable[[np.ndarray], np.ndarray], edges: tuple[float, ...]) -> Series:
    """Return the series of smooth functions, to their rounding errors.

    The coefficients of a function that is analytic around a piece fall exponentially; a series ends where they reach
    the level at which the last of `NODES` lie, the rounding errors of the function.

    Args:
        function: x (nodes,) -> (nodes, functions); smooth between two edges.
        edges: ends of the pieces.

    Raises:
        ValueError: the coefficients do not fall: the functions are too sharp for their piece.
    """
    pieces = []
    for low, high in pairwise(edges):
        c = coefficients(function(0.5 * (low + high) + 0.5 * (high - low) * nodes(NODES)))
        size = np.max(np.abs(c), axis=1)
        noise = max(3 * size[-NODES // 4 :].max(), ROUNDING * size.max())
        if noise > 1e-7 * size.max():
            raise ValueError(
                f"a radial function between {low:g} and {high:g} is too sharp for {NODES} polynomials: widths of less "
                "than a hundredth of the cutoff are not supported."
            )
        pieces.append(c[: max(2, 1 + int(np.max(np.nonzero(size > noise)[0], initial=0)))])
    return Series(tuple(edges), tuple(pieces))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def evaluate(series: Series, x: Array) -> Array:
    """Return f(x), (functions, *x.shape); beyond the ends the values there.

    The derivative is that of the series inside, for which no polynomial has to be differentiated: one more product of
    matrices, where plain reverse mode goes through the recursion backwards and takes four times longer.
    """
    total: Array | float = 0.0
    last = len(series.pieces) - 1
    for k, c in enumerate(series.pieces):
        low, high = series.edges[k : k + 2]
        t = jnp.clip((x - 0.5 * (low + high)) * (2.0 / (high - low)), -1.0, 1.0)
        values = jnp.matmul(jnp.asarray(c.T, x.dtype), _polynomials(t.ravel(), len(c)), precision="highest")
        values = values.reshape(c.shape[1], *x.shape)
        if last:
            inside = (x >= low if k else True) & (x < high if k < last else True)
            values = jnp.where(inside, values, 0.0)
        total = total + values if k else values
    return jnp.asarray(total)


def _polynomials(t: Array, count: int) -> Array:
    """T_k(t), (count, n), in few operations: T_(m+j) = 2 T_m T_j - T_(m-j) doubles their number."""
    planes = jnp.stack([jnp.ones_like(t), t])
    while len(planes) < count:
        m = len(planes) - 1
        planes = jnp.concatenate([planes, 2.0 * planes[m] * planes[1:] - planes[m - 1 :: -1]])
    return planes[:count]


@evaluate.defjvp
def _evaluate_jvp(series, primals, tangents):
    return evaluate(series, *primals), evaluate(series.derivative, *primals) * tangents[0]
