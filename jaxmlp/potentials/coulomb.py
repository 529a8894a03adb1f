"""Coulomb sums of point charges in a periodic cell: the two halves of Ewald's method."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def reciprocal_energies(
    q: Array, R: Array, box: Array, alpha: float, k_cut: float, k_max: tuple[int, int, int]
) -> Array:
    """Return each charge's share of the smooth (reciprocal) Ewald energy, (N,), in e^2/Å (times e^2/4 pi eps0 in eV Å).

        E_i = (2 pi / V) sum_{0 < |k| < k_cut} exp(-k^2 / 4 alpha^2) / k^2  q_i Re[exp(i k . R_i) S(k)],
        S(k) = sum_j q_j exp(-i k . R_j),

    so sum_i E_i = (2 pi / V) sum_k |S(k)|^2 exp(-k^2 / 4 alpha^2) / k^2. The sum is sharp at k_cut, wherever the box
    moves; its integer vectors are bounded by the static k_max. Where the box needs more, every E_i is NaN.

    Exponentials are products of three one-dimensional ones, so each plane of k vectors is two matrix products; planes
    are recomputed in the backward pass, and memory grows as N (k_max[1] + k_max[2]), not as N times all vectors.

    Args:
        q: (N,) charges, e.
        R: (N, 3) Å.
        box: (3, 3) Å, rows are the lattice vectors.
        alpha: 1/Å, inverse width of the screening Gaussians.
        k_cut: 1/Å.
        k_max: largest integers along the three reciprocal vectors; see `k_bounds`.
    """
    inverse = jnp.linalg.inv(box)
    volume = jnp.abs(jnp.linalg.det(box))
    s = R @ inverse
    s = s - jax.lax.stop_gradient(jnp.floor(s))  # smaller angles: exact in exp(2 pi i n s), more digits in float32
    integers = [np.arange(-k, k + 1) for k in k_max]
    integers[0] = np.arange(k_max[0] + 1)  # k and -k give the same term
    n0, n1, n2 = (jnp.asarray(n, R.dtype) for n in integers)

    def waves(n, s):
        angle = 2.0 * jnp.pi * n * s
        return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))  # exp(+i k . R)

    charge = jax.lax.complex(q, jnp.zeros_like(q))
    e1, e2 = waves(n1, s[:, 1:2]), waves(n2, s[:, 2:3])  # (N, K1), (N, K2)

    @jax.checkpoint
    def plane(n):
        e0 = waves(n, s[:, 0])
        structure = ((charge * e0.conj())[:, None] * e1.conj()).T @ e2.conj()  # (K1, K2)
        k = n * inverse[:, 0] + n1[:, None, None] * inverse[:, 1] + n2[:, None] * inverse[:, 2]
        square = (2.0 * jnp.pi) ** 2 * jnp.sum(k * k, axis=-1)
        inside = (square > 0) & (square < k_cut**2)
        square = jnp.where(inside, square, 1.0)
        weight = jnp.where(inside, jnp.exp(-square / (4.0 * alpha**2)) / square, 0.0)
        weight = weight * jnp.where(n > 0, 2.0, 1.0)
        weighted = jax.lax.complex(weight * structure.real, weight * structure.imag)
        potential = jnp.sum((e1 @ weighted) * e2, axis=1) * e0
        return potential.real

    total = jax.lax.map(plane, n0).sum(0)
    lengths = jnp.sqrt(jnp.sum(box * box, axis=1))
    enough = jnp.all(k_cut * lengths / (2.0 * jnp.pi) < jnp.asarray(np.array(k_max) + 1, box.dtype))
    return (2.0 * jnp.pi / volume) * q * total * jnp.where(enough, 1.0, jnp.nan)


def k_bounds(box: np.ndarray, k_cut: float, margin: float = 0.0) -> tuple[int, int, int]:
    """Return the largest integers a k vector shorter than k_cut can have in a box up to `margin` longer.

    n_a = k . a / 2 pi, so |n_a| <= k_cut |a| / 2 pi for the lattice vector a.
    """
    lengths = np.linalg.norm(np.asarray(box, dtype=float), axis=1)
    return tuple(math.floor(k_cut * length * (1 + margin) / (2 * math.pi)) for length in lengths)


def screened(r: Array, alpha: float) -> Array:
    """Return erfc(alpha r) / r, the short-ranged part of the Coulomb law (1/Å)."""
    return jax.scipy.special.erfc(alpha * r) / r


def self_energies(q: Array, alpha: float) -> Array:
    """Return -alpha q^2 / sqrt(pi), what each Gaussian contributes to its own reciprocal energy."""
    return (-alpha / math.sqrt(math.pi)) * q * q
