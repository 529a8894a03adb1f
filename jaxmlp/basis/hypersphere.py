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
from scipy.special import eval_jacobi

from jaxmlp.basis.harmonics import real_harmonics


def radial_harmonics(cosine: np.ndarray, sine: np.ndarray, j_max: int) -> list[list[np.ndarray]]:
    """Return N_jl sin^l(psi) C_(j-l)^(l+1)(cos psi), [l][j - l] for l <= j <= j_max: h_jlm without its Y_lm.

    Args:
        cosine, sine: of psi, equal shapes.
    """
    out = []
    start = np.ones_like(sine)
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
    radial = radial_harmonics(np.cos(psi), np.sin(psi), j_max)
    k = np.arange(j_max + 1)[:, None]
    cosines, sines = np.cos(k * psi), np.sin(k[1:] * psi)
    out = []
    for l, rows in enumerate(radial):
        basis = sines if l % 2 else cosines
        out.append(np.array(rows) @ basis.T / np.sum(basis**2, axis=1))
    return tuple(out)


FOLDS = 4  # the number of points of a torus is a multiple


class Points(NamedTuple):
    """Points at which products of three harmonics of degrees up to j_max are integrated exactly: tori of equal points.

    With (cos psi, nz sin psi) = cos(b/2) (cos, sin)(alpha) and (nx, ny) sin psi = sin(b/2) (cos, sin)(beta) there
    are harmonics of degree j that are functions of b times functions of the torus (alpha, beta), and h_jlm their sums:

        h_jlm / (j + 1) = sum_k turn[j][k, lm] latitude[j][k, b] torus[j][k, (alpha, beta)].

    Args:
        weights: (L,), of each point of a torus b.
        order: (harmonics,) in which harmonics, numbered by l, then j, then m, are sorted by j.
        turn: [j] (K_j, (j + 1)^2), K_j = (j + 1)^2 but K_0 = 2; orthogonal but for the factor 1 / (j + 1).
        latitude: [j] (K_j, L).
        torus: [j] (K_j, T); the last are zero where T would not be a multiple of `FOLDS`.
    """

    weights: np.ndarray
    order: np.ndarray
    turn: tuple[np.ndarray, ...]
    latitude: tuple[np.ndarray, ...]
    torus: tuple[np.ndarray, ...]


@lru_cache(maxsize=8)
def points(j_max: int) -> Points:
    """Return the points for harmonics of degree up to j_max: 3 j_max / 4 + 1 tori of (3 j_max / 2 + 1)^2, rounded down.

    A product of three harmonics whose degrees add up to an even number 2 D takes one value at x and -x. In alpha + beta
    and in alpha - beta it is a Fourier sum of degree D, and its constant term a polynomial of degree D in cos b.
    Therefore D + 1 equal steps of either angle, and Gauss' points in cos b, integrate it exactly. (Products with an odd
    sum have the mean 0, which these points do not give.)
    """
    degree = 3 * j_max // 2
    x, gauss = np.polynomial.legendre.leggauss(degree // 2 + 1)
    weights = gauss / 2
    step = 2 * np.pi / (degree + 1) * np.arange(degree + 1)
    plus, minus = (axis.ravel() for axis in np.meshgrid(step, step, indexing="ij"))
    alpha, beta = (plus + minus) / 2, (plus - minus) / 2
    near, far = (np.sqrt(0.5 * (1 + sign * x))[:, None] for sign in (1, -1))
    cosine = near * np.cos(alpha)
    vector = np.stack([far * np.cos(beta), far * np.sin(beta), near * np.sin(alpha)])
    sine = np.sqrt(np.sum(vector**2, axis=0))
    radial = radial_harmonics(cosine, sine, j_max)
    angular = real_harmonics(*(vector / np.where(sine > 0, sine, 1.0)), l_max=j_max)
    names = [(j, l, m) for l in range(j_max + 1) for j in range(l, j_max + 1) for m in range(-l, l + 1)]
    order = np.array(sorted(range(len(names)), key=lambda k: names[k][0]), np.int32)
    turn, latitude, torus = [], [], []
    for j in range(j_max + 1):
        values = np.array([radial[l][j - l] * angular[l * l + l + m] for l in range(j + 1) for m in range(-l, l + 1)])
        parts = [_torus_harmonics(j, p, q, x, weights, alpha, beta) for p in range(j + 1) for q in range(j + 1 - p)]
        latitude.append(np.concatenate([a for a, _ in parts]))
        torus.append(np.concatenate([t for _, t in parts]))
        means = np.einsum("b,kb,kt,hbt->kh", weights, latitude[-1], torus[-1], values, optimize=True)
        turn.append(means / ((j + 1) * len(alpha)))
    # A second row, of zeros: a product with one row only would be no matrix product to XLA, but a factor that it
    # computes again at each of its uses, in loops over points that are then not vectorised.
    turn[0], latitude[0], torus[0] = (np.concatenate([x, 0 * x]) for x in (turn[0], latitude[0], torus[0]))
    torus = [np.pad(x, [(0, 0), (0, -len(alpha) % FOLDS)]) for x in torus]
    return Points(weights / len(alpha), order, tuple(turn), tuple(latitude), tuple(torus))


def _torus_harmonics(j: int, p: int, q: int, x: np.ndarray, weights: np.ndarray, alpha: np.ndarray, beta: np.ndarray):
    """Harmonics of degree j with cos(b/2)^p sin(b/2)^q and the angles p alpha and q beta: values (k, L) and (k, T)."""
    if (j - p - q) % 2:
        return np.zeros((0, len(x))), np.zeros((0, len(alpha)))
    along = (0.5 * (1 + x)) ** (p / 2) * (0.5 * (1 - x)) ** (q / 2) * eval_jacobi((j - p - q) // 2, q, p, x)
    along = along / np.sqrt(np.sum(weights * along**2))
    waves = [
        [f(n * angle) * math.sqrt(2.0) for f in (np.cos, np.sin)] if n else [np.ones_like(angle)]
        for n, angle in ((p, alpha), (q, beta))
    ]
    around = np.array([a * b for a in waves[0] for b in waves[1]])
    return np.tile(along, (len(around), 1)), around
