"""Pairs of neighbours of an atom: planes over two edges, in a form whose derivatives are cheap."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.edges import length
from jaxmlp.neighbors.graph import Graph


@jax.custom_jvp
def materialised(x: Array) -> Array:
    """Return x, computed once and stored: XLA on a CPU would compute it again in every loop that reads it."""
    return lax.optimization_barrier(x)


@materialised.defjvp
def _materialised_jvp(primals, tangents):
    return materialised(*primals), tangents[0]


class Pairs:
    """Unordered pairs of neighbours: a row is cut in two, and its parts 00, 01, 11 are planes (n, P, m, m).

    The pairs within a part come twice, hence half weights; those of a neighbour with itself have weight 0. Everything
    that a pair takes from its two edges comes by products of matrices, whose derivatives are such products again: sums
    of planes over an axis, as derivatives of broadcast factors, cost 5 times more.
    """

    def __init__(self, unit: float, graph: Graph):
        slots = graph.planes[0].shape[1]
        count = 2 if slots % 2 == 0 and slots >= 24 else 1
        self.size = slots // count
        self.parts = [(i, j) for i in range(count) for j in range(i, count)]
        self.x = jnp.stack([p / unit for p in graph.planes], axis=1)
        self.r = length(*(p / unit for p in graph.planes))
        u = self.x / self.r[:, None]
        self.cosine = materialised(self.products(u, u))
        full, same = np.ones((self.size, self.size)), (1 - np.eye(self.size)) / 2
        self.weight = np.stack([full if i < j else same for i, j in self.parts]).astype(self.r.dtype)

    def left(self, x: Array) -> Array:
        """The first edge of each pair, (n, ..., K, M) -> (n, ..., P, K, m)."""
        return self._of([i for i, _ in self.parts], x)

    def right(self, x: Array) -> Array:
        """The second edge of each pair."""
        return self._of([j for _, j in self.parts], x)

    def _of(self, which: list[int], x: Array) -> Array:
        return jnp.stack([x[..., b * self.size : (b + 1) * self.size] for b in which], axis=-3)

    def products(self, a: Array, b: Array) -> Array:
        """sum_k a_kj b_kj' of a and b (n, ..., K, M), (n, ..., P, m, m)."""
        return jnp.einsum("...ki,...kj->...ij", self.left(a), self.right(b), precision="highest")

    def gap(self, smallest: float) -> Array:
        """The distances between the two neighbours, at least `smallest`."""
        s = (self.r * self.r)[:, None]
        one = jnp.ones_like(s)
        square = self.products(jnp.concatenate([self.x, s, one], 1), jnp.concatenate([-2 * self.x, one, s], 1))
        return jnp.sqrt(jnp.maximum(square, smallest**2))

    def mean(self) -> Array:
        """The mean of the two distances."""
        half = 0.5 * self.r[:, None]
        one = jnp.ones_like(half)
        return self.products(jnp.concatenate([half, one], 1), jnp.concatenate([one, half], 1))


def arccos(cosine: Array) -> Array:
    """Return theta; its derivative, infinite at 0 and pi, is 0 there."""
    inside = jnp.abs(cosine) < 1 - 4 * jnp.finfo(cosine.dtype).eps
    ends = jnp.where(cosine > 0, jnp.zeros_like(cosine), jnp.full_like(cosine, np.pi))
    return jnp.where(inside, jnp.arccos(jnp.where(inside, cosine, 0.0)), ends)


def sine(cosine: Array) -> Array:
    """Return sin theta; its derivative, infinite at 0 and pi, is 0 there."""
    square = 1 - cosine * cosine
    inside = square > 4 * jnp.finfo(cosine.dtype).eps
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1.0)), 0.0)
