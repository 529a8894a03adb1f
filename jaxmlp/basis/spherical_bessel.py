"""Spherical Bessel functions j_l of any argument > 0, their zeros, and the basis of them on a ball."""

import math
from functools import cache
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import brentq
from scipy.special import jv, spherical_jn


def spherical_bessel(l: int, t: Array) -> Array:
    """Return j_l(t) for t > 0, to rounding, of any shape; derivatives of every order are right.

    Below t = max(l, 1), where the recursion loses digits, the power series

        j_l(t) = t^l / (2l+1)!! sum_k (-t^2/2)^k / (k! (2l+3)(2l+5)...(2l+2k+1)),

    above, j_(l+1) = (2l+1)/t j_l - j_(l-1) from j_0 = sin t / t and j_1 = (sin t / t - cos t) / t.
    DLMF, 10.53.1 and 10.51.1.
    """
    edge = float(max(l, 1))
    small = t < edge
    low, high = jnp.where(small, t, edge), jnp.where(small, edge, t)
    x = -0.5 * low * low
    series = jnp.ones_like(t)
    for k in range(_terms(l, edge), 0, -1):
        series = 1.0 + x * series * (1.0 / (k * (2 * l + 2 * k + 1)))
    series = series * low**l * (1.0 / math.prod(range(1, 2 * l + 2, 2)))
    before = jnp.sin(high) / high
    if l == 0:
        return jnp.where(small, series, before)
    now = (before - jnp.cos(high)) / high
    for k in range(1, l):
        before, now = now, (2 * k + 1) / high * now - before
    return jnp.where(small, series, now)


def _terms(l: int, t: float) -> int:
    """The number of terms of the series up to t, of which the next is below 1e-18."""
    k, term = 0, 1.0
    while term > 1e-18:
        k += 1
        term *= 0.5 * t * t / (k * (2 * l + 2 * k + 1))
    return k


@cache
def zeros_and_norms(degrees: int, count: int, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return z_ln, the n-th positive zero of j_l, and N_ln = sqrt(2) / |j_(l+1)(z_ln)|, both (degrees, count).

    N_ln j_l(z_ln x) are orthonormal on 0 < x < 1 with the weight x^2: Gasteiger, Groß and Günnemann, ICLR 2020
    (arXiv:2003.03123), Sec. 5. Zeros of j_(l+1) lie between those of j_l.

    Args:
        single: float32 numbers, as the codes of DimeNet have them: zeros rounded, and N_ln by float32 arithmetic.
    """
    brackets = np.arange(1, degrees + count + 1) * np.pi
    zeros = np.zeros((degrees, count))
    for l in range(degrees):
        if l:
            brackets = np.array([brentq(_j(l), a, b, xtol=1e-14) for a, b in pairwise(brackets)])
        zeros[l] = brackets[:count]
    if not single:
        return zeros, np.sqrt(2.0) / np.abs([spherical_jn(l + 1, zeros[l]) for l in range(degrees)])
    z = zeros.astype(np.float32)
    order = np.arange(degrees)[:, None] + 1.5
    j = np.sqrt(np.float32(np.pi) / (2 * z)) * jv(order, z.astype(np.float64)).astype(np.float32)
    return z.astype(np.float64), (1 / np.sqrt(np.float32(0.5) * j**2)).astype(np.float64)


def _j(l: int):
    return lambda t: spherical_jn(l, t)
