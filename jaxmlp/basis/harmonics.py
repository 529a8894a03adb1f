"""Real spherical harmonics as polynomials in the components of a unit vector, of any degree."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def real_harmonics(x: Array, y: Array, z: Array, l_max: int, l_min: int = 0) -> list[Array | float]:
    """Return the planes Y_lm(x, y, z) for l = l_min ... l_max, m = -l ... l (index l^2 + l + m - l_min^2).

    Orthonormal on the sphere, without the Condon-Shortley phase: Y_1 = sqrt(3 / 4 pi) (y, z, x). For m > 0

        Y_lm  = N_lm Pi_lm(z) Re (x + i y)^m,   Y_l-m = N_lm Pi_lm(z) Im (x + i y)^m,

    where Pi_lm = d^m P_l / dz^m. The recursion in l runs on the normalised N_lm Pi_lm (as in Limpanuparb and Milthorpe,
    arXiv:1410.1748), which are polynomials: nothing is singular at the poles. In terms of the complex harmonics
    with Condon-Shortley phase, Y_lm = sqrt(2) (-1)^m Re Y_l^m and Y_l-m = sqrt(2) (-1)^m Im Y_l^m; see
    `coupling.real_to_complex`.

    Args:
        x, y, z: components of unit vectors, any equal shapes.
        l_max: largest degree.
        l_min: smallest degree returned. The constant Y_00 comes as a Python float.
    """
    planes: dict[tuple[int, int], Array | float] = {}
    cosine, sine = [1.0], [0.0]
    for _ in range(l_max):
        c, s = cosine[-1], sine[-1]
        first = len(cosine) == 1
        cosine.append(x if first else x * c - y * s)
        sine.append(y if first else x * s + y * c)
    for m in range(l_max + 1):
        # N_mm Pi_mm is a number; the factor sqrt(2) of m > 0 rides along.
        start = math.sqrt((2 * m + 1) / (4 * math.pi * math.factorial(2 * m))) * _odd_factorial(m)
        before, here = 0.0, start * (math.sqrt(2.0) if m else 1.0)
        for l in range(m, l_max + 1):
            if l > m:
                a = math.sqrt((4 * l * l - 1) / (l * l - m * m))
                b = math.sqrt(((l - 1) ** 2 - m * m) / (4 * (l - 1) ** 2 - 1)) if l > m + 1 else 0.0
                before, here = here, ((a * here) * z if l == m + 1 else (a * z) * here - (a * b) * before)
            planes[l, m] = here * cosine[m] if m else here
            if m:
                planes[l, -m] = here * sine[m]
    return [planes[l, m] for l in range(l_min, l_max + 1) for m in range(-l, l + 1)]


def harmonic_levels(x: Array, y: Array, z: Array, l_max: int) -> list[Array]:
    """Return Y_lm of `real_harmonics`, for each l one array (n, 2 l + 1, M), given x, y, z (n, M).

    The recursion makes all of a degree at once, and every degree is computed once: for high degrees, where XLA on a CPU
    would compute the planes of `real_harmonics` again from the start for each that is used.
    """
    levels = [jnp.full((x.shape[0], 1, *x.shape[1:]), 0.5 / math.sqrt(math.pi), x.dtype)]
    x, y, z = (v[:, None] for v in (x, y, z))
    for l in range(1, l_max + 1):
        before, m = levels[-1], np.arange(1 - l, l)
        up = _column(np.sqrt((4 * l * l - 1) / (l * l - m * m)), x.dtype) * z * before
        if l > 1:
            inner = m[1:-1]
            b = np.sqrt((4 * l * l - 1) / (l * l - inner**2) * ((l - 1) ** 2 - inner**2) / (4 * (l - 1) ** 2 - 1))
            down = _column(b, x.dtype) * levels[-2]
            up = jnp.concatenate([up[:, :1], up[:, 1:-1] - down, up[:, -1:]], axis=1)
            ends = math.sqrt((2 * l + 1) / (2 * l))
            sine, cosine = ends * before[:, :1], ends * before[:, -1:]
        else:
            sine, cosine = 0.0, math.sqrt(3.0) * before
        level = jnp.concatenate([x * sine + y * cosine, up, x * cosine - y * sine], axis=1)
        levels.append(jax.lax.optimization_barrier(level))
    return levels


def _column(values: np.ndarray, dtype) -> Array:
    return jnp.asarray(values, dtype)[:, None]


def _odd_factorial(m: int) -> int:
    """(2m - 1)!!"""
    return math.prod(range(1, 2 * m, 2))
