"""Chebyshev polynomials of the distance under a cosine cutoff: the radial functions of NEP."""

import jax.numpy as jnp
from jax import Array

# Padé approximant [5/5] of sin(pi w / 2) / w in v = w^2 about v = 0; its error on [0, 1] is below 1e-18.
_NUMERATOR = (
    1.57079632679489662,
    -0.585080221850149653,
    0.0558253733701835289,
    -0.00205985605091143278,
    3.25958393348875343e-5,
    -1.90586846410734205e-7,
)
_DENOMINATOR = (
    1.0,
    0.038759879061040345,
    0.000744996280657500507,
    9.07971255488285367e-6,
    7.21524496718900192e-8,
    3.09805139284927549e-10,
)


def cosine_cutoff(r: Array, cutoff: Array | float) -> tuple[Array, Array]:
    """Return f_c = (1 + cos(pi r/cutoff)) / 2 and v = (1 - r/cutoff)^2, both 0 from the cutoff on.

    f_c = sin^2(pi sqrt(v) / 2) is an entire function of v, here a rational one, exact to rounding with its derivatives:
    it needs no range reduction, vectorises (XLA's cos in float64 costs 20 times more on a CPU), and is exactly 0 at
    v = 0. Its division also keeps XLA from computing it anew in every function that reads it. Finite with derivatives
    of every order for all r.
    """
    w = 1.0 - jnp.minimum(r * (1.0 / cutoff), 1.0)
    v = w * w
    p, q = _horner(_NUMERATOR, v), _horner(_DENOMINATOR, v)
    return v * (p * p) / (q * q), v


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    out = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        out = out * x + c
    return out


def chebyshev_cosine(r: Array, cutoff: Array | float, size: int) -> list[Array]:
    """Return the planes s_k(r) = T_k(x) f_c(r) / 2, k = 0 ... size, x = 2 (r/cutoff - 1)^2 - 1.

    They span the radial functions of NEP (Fan et al., PRB 104, 104309 (2021)): f_0 = f_c, f_k = (T_k(x) + 1) f_c / 2:
    f_k = s_k + s_0. `to_chebyshev` changes the coefficients accordingly, once per model instead of once per edge. All
    s_k and their derivatives of first order vanish for r >= cutoff.

    Args:
        r: distances, any shape.
        cutoff: Å, a number or an array that broadcasts with r.
        size: largest degree.
    """
    fc, v = cosine_cutoff(r, cutoff)
    twice = 4.0 * v - 2.0
    s = [0.5 * fc]
    if size > 0:
        s.append((v - 0.5) * fc)
    for _ in range(size - 1):
        s.append(twice * s[-1] - s[-2])
    return s


def to_chebyshev(c: Array, axis: int) -> Array:
    """Return the coefficients c' with sum_k c'_k s_k = sum_k c_k f_k, for c that runs over k = 0 ... on `axis`."""
    total = jnp.sum(c, axis=axis, keepdims=True)
    first = jnp.arange(c.shape[axis]).reshape([-1 if a == axis % c.ndim else 1 for a in range(c.ndim)]) == 0
    return jnp.where(first, c + total, c)
