"""Radial functions of the atomic cluster expansion: planes g_1(r) ... g_K(r) that vanish at and beyond the cutoff."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.chebyshev import chebyshev_cosine

Number = Array | float


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def chebyshev(x: Array, size: int) -> list[Array]:
    """Return T_0(x) ... T_size(x), the Chebyshev polynomials of the first kind."""
    t = [jnp.ones_like(x), x]
    for _ in range(size - 1):
        t.append(2.0 * x * t[-1] - t[-2])
    return t[: size + 1]


@chebyshev.defjvp
def _chebyshev_jvp(size, primals, tangents):
    """dT_k/dx = k U_(k-1): one sweep, where differentiating the recursion takes three."""
    (x,), (dx,) = primals, tangents
    t = chebyshev(x, size)
    u = [jnp.ones_like(x), 2.0 * x]
    for _ in range(size - 2):
        u.append(2.0 * x * u[-1] - u[-2])
    return t, [jnp.zeros_like(x) * dx] + [k * u[k - 1] * dx for k in range(1, size + 1)]


def cosine(r: Array, cutoff: Number) -> Array:
    """Return (1 + cos(pi r/cutoff)) / 2, 0 beyond the cutoff."""
    return 2.0 * chebyshev_cosine(r, cutoff, 0)[0]


def smooth_step(x: Array, end: Number, width: Number) -> Array:
    """Return h: 1 for x <= end - width, 0 for x >= end, a polynomial with two continuous derivatives between."""
    y = jnp.clip(1.0 - 2.0 * (1.0 + (x - end) / width), -1.0, 1.0)
    return 0.5 + 3.75 * (y / 4.0 - y**3 / 6.0 + y**5 / 20.0)


def cheb_exp_cos(r: Array, cutoff: Number, decay: Number, width: Number, size: int) -> list[Array]:
    """Return g_1 = f, g_k = (1 - T_(k-1)(x)) f / 2, x = 1 - 2 (exp(-decay r/c) - exp(-decay))/(1 - exp(-decay)).

    f = (1 + cos(pi r/c))/2, between c - width and c times (1 + cos(pi (r - c + width)/width))/2. Drautz, PRB 99,
    014104 (2019), Eqs. (24) and (25), with the second factor of the codes.
    """
    s = jnp.minimum(r, cutoff)
    last = jnp.exp(-jnp.asarray(decay, r.dtype))
    x = 1.0 - 2.0 * (jnp.exp(s * (-decay / cutoff)) - last) / (1.0 - last)
    f = cosine(r, cutoff) * cosine(jnp.maximum(r - (cutoff - width), 0.0), width)
    t = chebyshev(x, max(size - 1, 1))
    return [f] + [(0.5 - 0.5 * t[k]) * f for k in range(1, size)]


def cheb_pow(r: Array, cutoff: Number, power: Number, width: Number, size: int) -> list[Array]:
    """Return g_k = (1 - T_k(x))/2, x = 1 - 2 (1 - r/c)^power; `width` is not used."""
    inside = r < cutoff
    u = jnp.where(inside, 1.0 - r / cutoff, 0.5)
    whole = isinstance(power, float) and power.is_integer()
    t = chebyshev(1.0 - 2.0 * u ** (int(power) if whole else power), size)
    return [jnp.where(inside, 0.5 - 0.5 * t[k], 0.0) for k in range(1, size + 1)]


def cheb_linear(r: Array, cutoff: Number, power: Number, width: Number, size: int) -> list[Array]:
    """Return g_k = (1 - T_k(1 - r/c))/2 inside the cutoff, where odd ones end with a step; only the cutoff is used."""
    inside = r < cutoff
    t = chebyshev(jnp.where(inside, 1.0 - r / cutoff, 0.5), size)
    return [jnp.where(inside, 0.5 - 0.5 * t[k], 0.0) for k in range(1, size + 1)]


def simplified_bessel(r: Array, cutoff: Number, power: Number, width: Number, size: int) -> list[Array]:
    """Return the orthonormal combinations g_1 ... g_size of f_n = [j_0 of n + 1] + [j_0 of n + 2], n from 0.

    Kocer, Mason and Erturk, AIP Advances 10, 015021 (2020), Eqs. (13) to (17). Only the cutoff is used.
    """
    inside = r < cutoff
    angle = jnp.where(inside, r / cutoff, 0.5) * math.pi
    sine, double = [jnp.sin(angle)], 2.0 * jnp.cos(angle)
    sine.append(double * sine[0])
    for _ in range(size - 1):
        sine.append(double * sine[-1] - sine[-2])
    sinc = [s / ((k + 1) * angle) for k, s in enumerate(sine)]
    scale = math.sqrt(2.0) * math.pi / cutoff**1.5
    out: list[Array] = []
    d = 1.0
    for n in range(size):
        norm = (-1) ** n * (n + 1) * (n + 2) / math.hypot(n + 1, n + 2)
        f = norm * scale * (sinc[n] + sinc[n + 1])
        if n:
            e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
            before, d = d, 1.0 - e / d
            f = (f + math.sqrt(e / before) * out[-1]) / math.sqrt(d)
        out.append(f)
    return [jnp.where(inside, g, 0.0) for g in out]


FAMILIES: dict[str, Callable[[Array, Number, Number, Number, int], list[Array]]] = {
    "ChebExpCos": cheb_exp_cos,
    "ChebPow": cheb_pow,
    "ChebLinear": cheb_linear,
    "SBessel": simplified_bessel,
}


def splined(f: Callable[[Array], Array], r: Array, step: Number) -> Array:
    """Return what a table of f and f' every `step` gives at r by cubic Hermite interpolation, (..., *r.shape).

    The codes of ACE tabulate their radial functions so. Nothing is tabulated here: f and f' are taken at the two grid
    points around each r, which is exact for any parameters in f and costs about four times f.

    Args:
        f: (*r.shape) -> (..., *r.shape), each element by itself.
    """
    k = jax.lax.stop_gradient(jnp.floor(r / step))
    (f0, s0), (f1, s1) = (jax.jvp(f, (x,), (step * jnp.ones_like(x),)) for x in (k * step, (k + 1.0) * step))
    t = r / step - k
    rise = f1 - f0
    return (((s0 + s1 - 2.0 * rise) * t + (3.0 * rise - 2.0 * s0 - s1)) * t + s0) * t + f0
