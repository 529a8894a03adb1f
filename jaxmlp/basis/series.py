"""Smooth functions as Chebyshev series, piece by piece: exact to rounding, and differentiable to every order."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

NODES = 256  # a function that needs more has features narrower than a hundredth of its interval
ROUNDING = 2e-15


class Series(NamedTuple):
    """f_i(x) = sum_k coefficients[k, i] T_k(t), t from -1 to 1 over the piece of x; the piece's own k.

    Args:
        edges: (pieces + 1,) growing; the pieces lie between.
        degrees: number of polynomials of each piece.
        coefficients: (sum of degrees, functions), of one piece after the other.
    """

    edges: tuple[float, ...]
    degrees: tuple[int, ...]
    coefficients: np.ndarray


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
    angle = np.pi * (np.arange(NODES) + 0.5) / NODES
    cosines = np.cos(np.outer(np.arange(NODES), angle))
    parts, degrees = [], []
    for low, high in pairwise(edges):
        values = function(0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle))
        c = 2.0 / NODES * cosines @ values
        c[0] /= 2
        size = np.max(np.abs(c), axis=1)
        largest = size.max()
        noise = max(3 * size[-NODES // 4 :].max(), ROUNDING * largest)
        if noise > 1e-7 * largest:
            raise ValueError(
                f"a radial function between {low:g} and {high:g} is too sharp for {NODES} polynomials: widths of less "
                "than a hundredth of the cutoff are not supported."
            )
        count = max(2, 1 + int(np.max(np.nonzero(size > noise)[0], initial=0)))
        parts.append(c[:count])
        degrees.append(count)
    return Series(tuple(edges), tuple(degrees), np.concatenate(parts))


def polynomials(series: Series, x: Array) -> Array:
    """Return the T_k(t) of every piece, zero outside of it, (sum of degrees, *x.shape); x is clamped to them."""
    out = []
    last = len(series.degrees) - 1
    for k, degree in enumerate(series.degrees):
        low, high = series.edges[k : k + 2]
        t = jnp.clip((x - 0.5 * (low + high)) * (2.0 / (high - low)), -1.0, 1.0)
        planes = [jnp.ones_like(t), t]
        for _ in range(degree - 2):
            planes.append(2.0 * t * planes[-1] - planes[-2])
        piece = jnp.stack(planes[:degree])
        if last:
            inside = (x >= low if k else True) & (x < high if k < last else True)
            piece = jnp.where(inside, piece, 0.0)
        out.append(piece)
    return jnp.concatenate(out) if last else out[0]
