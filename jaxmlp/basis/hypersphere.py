"""Harmonics on the unit sphere in four dimensions, and points on it whose sums are integrals of products of harmonics.

A point of the sphere is (cos psi, n sin psi), n a unit vector. Its harmonics are

    h_jlm = N_jl sin^l(psi) C_(j-l)^(l+1)(cos psi) Y_lm(n),   0 <= l <= j, -l <= m <= l,

orthonormal for the mean over the sphere, with Gegenbauer polynomials C and real spherical harmonics Y. They are sums
of elements of Wigner's matrices of spin j/2 (the sphere is the group SU(2)), and h_j(x) . h_j(y) = (j + 1) U_j(x . y),
with Chebyshev polynomials of the second kind. (Avery, Hyperspherical Harmonics, Kluwer 1989; Bartók, Kondor and Csányi,
Phys. Rev. B 87, 184115 (2013), section II.)
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jax import Array

from jaxmlp.basis.harmonics import real_harmonics


def radial_harmonics(cosine: Array, sine: Array, weight: Array, j_max: int) -> list[list[Array]]:
    """Return weight N_jl sin^l(psi) C_(j-l)^(l+1)(cos psi), [l][j - l] for l <= j <= j_max: h_jlm without its Y_lm.

    Args:
        cosine, sine: of psi, any equal shapes.
        weight: a factor of the same shape.
    """
    out = []
    start = weight
    for l in range(j_max + 1):
        if l:
            start = start * sine
        row = [math.pi * math.sqrt(2.0) * _norm(l, l) * start]
        for k in range(j_max - l):
            ratio = [_norm(l + k + 1, l) / _norm(j, l) for j in (l + k, l + k - 1) if j >= l]
            here = (2 * (k + l + 1) / (k + 1) * ratio[0]) * cosine * row[-1]
            row.append(here - ((k + 2 * l + 1) / (k + 1) * ratio[1]) * row[-2] if k else here)
        out.append(row)
    return out


def _norm(j: int, l: int) -> float:
    """N_jl for the mean over the area, 2 pi^2, but for the factor pi sqrt(2)."""
    f = math.factorial
    return math.sqrt(2 ** (2 * l + 1) * (j + 1) * f(j - l) * f(l) ** 2 / (math.pi * f(j + l + 1)))


@lru_cache(maxsize=8)
def radial_mixing(j_max: int) -> tuple[np.ndarray, ...]:
    """Return [l] (j_max + 1 - l, terms): h_jlm / Y_lm of every j as a sum of cos(k psi), k = 0 ... j_max, for even l.

    For odd l as a sum of sin(k psi), k = 1 ... j_max.
    """
    count = 2 * j_max + 2
    psi = (np.arange(count) + 0.5) * np.pi / count
    radial = radial_harmonics(np.cos(psi), np.sin(psi), np.ones(count), j_max)
    k = np.arange(j_max + 1)[:, None]
    cosines, sines = np.cos(k * psi), np.sin(k[1:] * psi)
    out = []
    for l, rows in enumerate(radial):
        basis = sines if l % 2 else cosines
        out.append(np.array(rows) @ basis.T / np.sum(basis**2, axis=1))
    return tuple(out)


class Points(NamedTuple):
    """Points at which products of three harmonics of degrees up to j_max are integrated exactly.

    Args:
        weights: (P,), their sum is 1.
        order: (harmonics,) in which harmonics, numbered by l, then j, then m, are sorted by j.
        values: [j] ((j + 1)^2, P) h_jlm / (j + 1) at the points, in that order.
    """

    weights: np.ndarray
    order: np.ndarray
    values: tuple[np.ndarray, ...]


@lru_cache(maxsize=8)
def points(j_max: int) -> Points:
    """Return the points for harmonics of degree up to j_max, (3 j_max / 2 + 1)^2 (3 j_max / 4 + 1) of them or fewer.

    A product of three harmonics whose degrees add up to an even number 2 D takes one value at x and -x. With angles
    (cos psi, nz sin psi) = cos(b/2) (cos, sin)((u + v)/2) and (nx, ny) sin psi = sin(b/2) (cos, sin)((u - v)/2) it is a
    Fourier sum in u and v of degree D, and its constant term a polynomial of degree D in cos b. Therefore D + 1 equal
    steps of u and of v, and Gauss' points in cos b, integrate it exactly. (Products with an odd sum have the mean 0,
    which these points do not give.)
    """
    degree = 3 * j_max // 2
    x, gauss = np.polynomial.legendre.leggauss(degree // 2 + 1)
    angle = 2 * np.pi / (degree + 1) * np.arange(degree + 1)
    x, u, v = (axis.ravel() for axis in np.meshgrid(x, angle, angle, indexing="ij"))
    near, far = np.sqrt(0.5 * (1 + x)), np.sqrt(0.5 * (1 - x))
    cosine = near * np.cos((u + v) / 2)
    vector = np.stack([far * np.cos((u - v) / 2), far * np.sin((u - v) / 2), near * np.sin((u + v) / 2)])
    sine = np.sqrt(np.sum(vector**2, axis=0))
    radial = radial_harmonics(cosine, sine, np.ones_like(sine), j_max)
    angular = real_harmonics(*(vector / np.where(sine > 0, sine, 1.0)), l_max=j_max)
    names = [(j, l, m) for l in range(j_max + 1) for j in range(l, j_max + 1) for m in range(-l, l + 1)]
    order = np.array(sorted(range(len(names)), key=lambda k: names[k][0]))
    table = np.array([radial[l][j - l] * angular[l * l + l + m] / (j + 1) for j, l, m in (names[k] for k in order)])
    ends = np.cumsum([(j + 1) ** 2 for j in range(j_max)])
    return Points(np.repeat(gauss / 2, (degree + 1) ** 2) / (degree + 1) ** 2, order, tuple(np.split(table, ends)))
