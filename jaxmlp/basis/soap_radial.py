"""Radial functions of SOAP as QUIP defines them: a Gaussian at distance r, projected on a radial basis."""

import math

import numpy as np
from scipy.linalg import cholesky, lstsq, solve_triangular
from scipy.special import erf, gamma, gammainc, ive

BASES = ("EQUISPACED_GAUSS", "POLY", "GTO")


def bessel(l_max: int, x: np.ndarray) -> np.ndarray:
    """Return exp(-x) i_l(x), (..., l_max + 1), of the modified spherical Bessel functions of the first kind."""
    positive = x > 0
    safe = np.where(positive, x, 1.0)
    values = [np.sqrt(np.pi / (2 * safe)) * ive(l + 0.5, safe) for l in range(l_max + 1)]
    return np.stack([np.where(positive, v, float(l == 0)) for l, v in enumerate(values)], axis=-1)


def radial_functions(
    r: np.ndarray, basis: str, n_max: int, l_max: int, atom_sigma: float, cutoff: float, basis_error_exponent: float
) -> np.ndarray:
    """Return R_l(a; r), (r, l_max + 1, n_max), but for the transition function.

    The projection of exp(-al (r' - r)^2) on spherical shells is g_l(r') = exp(-al (r^2 + r'^2)) i_l(2 al r r'), with
    al = 1 / (2 sigma^2) (Bartók, Kondor and Csányi, PRB 87, 184115 (2013), section IV). EQUISPACED_GAUSS takes its
    values at n_max nodes, times C^-1 L with the Gram matrix C and the overlaps O = L L^T of Gaussians there; POLY and
    GTO fit orthonormalised polynomials and Gaussians to its values at 3 n_max nodes.

    Args:
        r: (r,) Å.
        basis: one of `BASES`.
    """
    al = 1 / (2 * atom_sigma**2)
    reach = cutoff + atom_sigma * math.sqrt(2 * basis_error_exponent * math.log(10.0))
    count = n_max if basis == "EQUISPACED_GAUSS" else 3 * n_max
    nodes = np.arange(count) * reach / count
    shells = np.exp(-al * (r[:, None] - nodes) ** 2)[..., None] * bessel(l_max, 2 * al * r[:, None] * nodes)
    shells = np.moveaxis(shells, 2, 1)  # (r, l, nodes)
    if basis == "EQUISPACED_GAUSS":
        return shells @ _gaussian_transform(al, nodes)
    n = np.arange(1, n_max + 1)
    out = []
    for l in range(l_max + 1):
        if basis == "POLY":
            norm = np.sqrt(reach ** (2 * n + 7) / ((n + 3) * (2 * n + 5) * (2 * n + 7)))
            phi = (reach - nodes[:, None]) ** (n + 2) / norm
            k = n[:, None] + n
            overlap = 2 * reach ** (k + 7.0) / ((5 + k) * (6 + k) * (7 + k) * np.outer(norm, norm))
        else:
            width = n * reach / n_max
            a = (l * np.log(width) - math.log(0.001)) / width**2
            phi = nodes[:, None] ** l * np.exp(-a * nodes[:, None] ** 2)
            t, s = l + 1.5, a[:, None] + a
            overlap = 0.5 * s**-t * gamma(t) * gammainc(t, s * reach**2)
        matrix = solve_triangular(cholesky(overlap, lower=True), phi.T, lower=True).T
        out.append(lstsq(matrix, shells[:, l].T)[0].T)
    return np.stack(out, axis=1)


def _gaussian_transform(al: float, nodes: np.ndarray) -> np.ndarray:
    """C^-1 L of Gaussians at the nodes, with the overlap over r from 0 to infinity and the weight r^2."""
    sums, gap = nodes[:, None] + nodes, nodes[:, None] - nodes
    squares = nodes[:, None] ** 2 + nodes**2
    overlap = np.exp(-al * squares) * math.sqrt(2.0) * al**1.5 * sums
    bell = np.exp(-0.5 * al * gap**2) * math.sqrt(math.pi)
    overlap += al * bell * (1 + al * sums**2) * (1 + erf(math.sqrt(al / 2) * sums))
    overlap /= math.sqrt(128 * al**5)
    return np.linalg.solve(np.exp(-al * gap**2), cholesky(overlap, lower=True))
