"""Chebyshev polynomials of the distance under a cosine cutoff: the radial functions of NEP."""

import math
from functools import partial

import jax
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


# d/dv sin^2(pi sqrt(v) / 2) = (pi / 4) sin(pi w) / w, its Taylor polynomial in v; the first term left out is 4e-17.
_SLOPE = tuple((math.pi / 2) ** 2 * (-1) ** j * math.pi ** (2 * j) / math.factorial(2 * j + 1) for j in range(14))


def chebyshev_cosine(r: Array, cutoff: Array | float, size: int) -> list[Array]:
    """Return the planes s_k(r) = T_k(x) f_c(r) / 2, k = 0 ... size, x = 2 (r/cutoff - 1)^2 - 1.

    f_c = (1 + cos(pi r/cutoff)) / 2 inside the cutoff, 0 beyond. The planes span the radial functions of NEP (Fan et
    al., PRB 104, 104309 (2021)): f_0 = f_c, f_k = (T_k(x) + 1) f_c / 2, that is f_k = s_k + s_0. `to_chebyshev` changes
    the coefficients accordingly, once per model instead of once per edge.

    With w = 1 - r/cutoff and v = w^2, f_c = sin^2(pi w / 2) is an entire function of v, here a rational one, exact to
    rounding: it needs no range reduction, vectorises (in float64 on a CPU, XLA's cos costs 20 times more), and is 0 at
    the cutoff exactly. Its division also keeps XLA from computing it anew in every plane that reads it. Values and
    derivatives of every order are finite for all r > 0, and zero beyond the cutoff.

    Args:
        r: distances, any shape.
        cutoff: Å, a number or an array that broadcasts with r.
        size: largest degree.
    """
    return _planes(1.0 - jnp.minimum(r * (1.0 / cutoff), 1.0), size)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _planes(w: Array, size: int) -> list[Array]:
    v = w * w
    p, q = _horner(_NUMERATOR, v), _horner(_DENOMINATOR, v)
    fc = v * (p * p) / (q * q)
    s = [0.5 * fc, (v - 0.5) * fc]
    for _ in range(size - 1):
        s.append((4.0 * v - 2.0) * s[-1] - s[-2])
    return s[: size + 1]


@_planes.defjvp
def _planes_jvp(size, primals, tangents):
    """ds_k/dv = e_k obeys e_(k+1) = 2x e_k - e_(k-1) + 4 s_k: one sweep, where differentiating the loop takes three."""
    (w,), (dw,) = primals, tangents
    v = w * w
    s = _planes(w, size)
    slope = _horner(_SLOPE, v)
    e = [0.5 * slope, 2.0 * s[0] + (v - 0.5) * slope]
    for k in range(1, size):
        e.append((4.0 * v - 2.0) * e[-1] - e[-2] + 4.0 * s[k])
    dv = 2.0 * w * dw
    return s, [e_k * dv for e_k in e[: size + 1]]


def _horner(coefficients: tuple[float, ...], x: Array) -> Array:
    out = coefficients[-1] * x + coefficients[-2]
    for c in reversed(coefficients[:-2]):
        out = out * x + c
    return out


def to_chebyshev(c: Array, axis: int) -> Array:
    """Return the coefficients c' with sum_k c'_k s_k = sum_k c_k f_k, for c that runs over k = 0 ... on `axis`."""
    total = jnp.sum(c, axis=axis, keepdims=True)
    first = jnp.arange(c.shape[axis]).reshape([-1 if a == axis % c.ndim else 1 for a in range(c.ndim)]) == 0
    return jnp.where(first, c + total, c)
