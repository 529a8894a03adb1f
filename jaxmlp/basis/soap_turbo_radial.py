"""Radial and angular factors of soap_turbo, and the orthonormal radial functions they are projected on."""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import lapack
from scipy.special import erf

from jaxmlp.basis.density import Expansion
from jaxmlp.basis.series import fit
from jaxmlp.basis.soap import Y_00
from jaxmlp.basis.soap_radial import bessel

if TYPE_CHECKING:
    from jaxmlp.basis.soap_turbo import SOAPTurbo


@dataclass(frozen=True)
class Overlap:
    """What the orthonormal radial functions of one species depend on.

    Args:
        basis: "poly3" or "poly3gauss".
        alpha_max: number of functions.
        sigma: width of the Gaussian of poly3gauss over the cutoff; 0 for poly3.
    """

    basis: str
    alpha_max: int
    sigma: float = 0.0

    def matrix(self) -> np.ndarray:
        """Return the overlaps S of p_n(t) = sqrt(2 n + 5) (1 - t)^(n + 2), and of the Gaussian, over t from 0."""
        n = np.arange(1, self.alpha_max + (self.basis == "poly3"))
        S = np.sqrt(np.outer(2 * n + 5, 2 * n + 5)) / (n[:, None] + n + 5)
        if self.basis == "poly3":
            return S
        t, weight = _quadrature(0.0, 1.0)
        mixed = _polynomials(len(n), t).T @ (weight * _gaussian(t, self.sigma))
        return np.block([[S, mixed[:, None]], [mixed[None], np.ones((1, 1))]])

    def transform(self) -> np.ndarray:
        """Return S^(-1/2), by the library's steps: S is nearly singular, and its vectors hold their rounding errors."""
        left, values, right = np.linalg.svd(self.matrix())
        root, failed = lapack.dpotrf((left * np.sqrt(values)) @ right)
        inverse, failed_too = lapack.dpotri(root)
        if failed or failed_too:
            raise ValueError(f"the overlaps of {self.alpha_max} radial functions are singular; take fewer.")
        return np.triu(inverse) + np.triu(inverse, 1).T


def _gaussian(t: np.ndarray, sigma: float) -> np.ndarray:
    """Normalised for t from 0 to infinity."""
    return math.sqrt(2 / sigma) / math.pi**0.25 * np.exp(-0.5 * (t / sigma) ** 2)


def _polynomials(count: int, t: np.ndarray) -> np.ndarray:
    """p_n(t), n = 1 ... count, (t, count)."""
    n = np.arange(1, count + 1)
    return np.sqrt(2 * n + 5.0) * (1 - t[:, None]) ** (n + 2)


def _quadrature(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(200)
    return 0.5 * (low + high) + 0.5 * (high - low) * x, 0.5 * (high - low) * w


def _radial(turbo: "SOAPTurbo", s: int, r: np.ndarray, filtered: bool, gaussian: bool) -> np.ndarray:
    """b_n(r) but for the power of the amplitude, (r, alpha_max): with the filtered end, with the central Gaussian."""
    rc = turbo.rcut_hard
    R, soft = r / rc, turbo.rcut_soft / rc
    sigma = turbo.atom_sigma_r[s] / rc + turbo.atom_sigma_r_scaling[s] * R
    count = turbo.alpha_max[s] - (turbo.basis == "poly3gauss")

    def overlap(t, weight):
        return (weight * np.exp(-0.5 * ((t - R[:, None]) / sigma[:, None]) ** 2)) @ _polynomials(count, t)

    integral = overlap(*_quadrature(0.0, soft))
    if filtered:
        t, weight = _quadrature(soft, 1.0)
        integral += overlap(t, weight * np.exp(-0.5 * (turbo.nf * (t - soft) / (1 - soft)) ** 2))
        integral += _neglected(turbo, count, R, soft, sigma)
    if turbo.basis == "poly3gauss":
        integral = np.concatenate([integral, np.zeros((len(r), 1))], axis=1)
        if gaussian:
            own = turbo.atom_sigma_r[s] / rc
            both = np.hypot(own, sigma)
            bell = np.exp(-0.5 * (R / both) ** 2) * math.sqrt(math.pi / 2) * sigma * own / both
            norm = math.sqrt(2 / own) / math.pi**0.25
            integral[:, -1] = norm * bell * (1 + erf(own / sigma * R / (math.sqrt(2) * both)))
    amplitude = 1 / sigma
    if turbo.radial_enhancement == 1:
        amplitude = amplitude * (R + math.sqrt(2 / math.pi) * sigma)
    elif turbo.radial_enhancement == 2:
        amplitude = amplitude * (R**2 + sigma**2 + math.sqrt(8 / math.pi) * sigma * R)
    overlaps = turbo.own_overlaps if turbo.overlaps is None else turbo.overlaps
    return amplitude[:, None] * math.sqrt(rc) * integral @ overlaps[s].transform()


def _neglected(turbo: "SOAPTurbo", count: int, R: np.ndarray, soft: float, sigma: np.ndarray) -> np.ndarray:
    """What the library's recursion for the filtered integrals loses by starting without their upper end, t = 1.

    The product of the two Gaussians is one of the width w around c, and its moments obey J_n = w^2 (n + 1) J_(n-2) +
    (1 - c) J_(n-1) + ends, J_n the integral of (1 - t)^(n+2) here without norm. The upper end enters J_-1 alone.
    """
    end = ((1 - soft) / turbo.nf) ** 2
    w2 = sigma**2 * end / (sigma**2 + end)
    c = (sigma**2 * soft + end * R) / (sigma**2 + end)
    height = np.exp(-0.5 * (R - soft) ** 2 / (sigma**2 + end))
    before, here = np.zeros_like(R), -w2 * np.exp(-0.5 * (1 - c) ** 2 / w2)
    out = []
    for n in range(count + 1):
        before, here = here, w2 * (n + 1) * before + (1 - c) * here
        if n:
            out.append(math.sqrt(2 * n + 5) * here)
    return height[:, None] * np.stack(out, axis=1)


def _angular(turbo: "SOAPTurbo", s: int, r: np.ndarray) -> np.ndarray:
    """4 pi (rc / st)^2 i_l(r^2 / st^2) exp(-r^2 / st^2), (r, l_max + 1)."""
    st = turbo.atom_sigma_t[s] + turbo.atom_sigma_t_scaling[s] * r
    return 4 * math.pi * (turbo.rcut_hard / st[:, None]) ** 2 * bessel(turbo.l_max, (r / st) ** 2)


def central(turbo: "SOAPTurbo", s: int) -> np.ndarray:
    """What the atom itself adds to l = 0 of its species, but for its weight."""
    if turbo.basis == "poly3":
        filtered = turbo.rcut_soft < 4 * turbo.atom_sigma_r[s]
        zero = np.zeros(1)
        return _radial(turbo, s, zero, filtered, False)[0] * _angular(turbo, s, zero)[0, 0] * Y_00
    rc, sr, st = turbo.rcut_hard, turbo.atom_sigma_r[s], turbo.atom_sigma_t[s]
    mean = (1.0, math.sqrt(2 / math.pi) * sr / rc, (sr / rc) ** 2)[turbo.radial_enhancement]
    overlap = (turbo.own_overlaps if turbo.overlaps is None else turbo.overlaps)[s]
    size = mean * math.sqrt(4 * math.pi) * math.pi**0.25 * math.sqrt(sr / 2) * rc**3 / (st**2 * sr)
    return size * (overlap.transform() @ overlap.matrix()[:, -1])


@lru_cache(maxsize=64)
def expansion(turbo: "SOAPTurbo", s: int) -> Expansion:
    """The neighbours of one species; a piece ends where a part of the radial integral is switched on or off."""
    rc, sr, scaling = turbo.rcut_hard, turbo.atom_sigma_r[s], turbo.atom_sigma_r_scaling[s]
    filtered = (turbo.rcut_soft - 4 * sr) / (1 + 4 * scaling)  # from here on
    gaussian = 8 * sr / (1 - 4 * scaling) if scaling < 0.25 else math.inf  # up to here
    inner = {filtered, gaussian} if turbo.basis == "poly3gauss" else {filtered}
    edges = (0.0, *sorted(x for x in inner if 0 < x < rc), rc)

    def values(r: np.ndarray) -> np.ndarray:
        middle = 0.5 * (r.min() + r.max())
        radial = _radial(turbo, s, r, middle > filtered, middle < gaussian)
        return (_angular(turbo, s, r)[:, :, None] * radial[:, None]).reshape(len(r), -1)

    return Expansion(fit(values, edges), partial(_envelope, rc, turbo.amplitude_scaling[s]))


def _envelope(cutoff: float, scaling: float, r: Array) -> Array:
    """(1 + 2 x^3 - 3 x^2)^scaling, x = r / cutoff; a step for scaling 0."""
    x = jnp.minimum(r * (1.0 / cutoff), 1.0)
    if scaling == 0:
        return (r < cutoff).astype(r.dtype)
    inside = x < 1 - 5e-6  # the library's limit: below 1e-10
    base = (1 - x) ** 2 * (1 + 2 * x)
    if scaling == int(scaling):
        return jnp.where(inside, base ** int(scaling), 0.0)
    return jnp.where(inside, jnp.where(inside, base, 1.0) ** scaling, 0.0)
