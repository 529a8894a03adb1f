"""soap_turbo: SOAP with separable radial and angular widths, of Caro."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import lapack
from scipy.special import erf

from jaxmlp.basis.density import Expansion, Spectrum
from jaxmlp.basis.series import fit
from jaxmlp.basis.soap import Y_00, PowerSpectrum
from jaxmlp.basis.soap_radial import bessel

BASES = ("poly3", "poly3gauss")
PER_SPECIES = (
    "alpha_max", "atom_sigma_r", "atom_sigma_r_scaling", "atom_sigma_t", "atom_sigma_t_scaling", "amplitude_scaling",
    "central_weight",
)  # fmt: skip


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


@dataclass(frozen=True)
class SOAPTurbo(PowerSpectrum):
    """q = p / |p| of coefficients whose dependence on the distance is a product of a radial and an angular part,

        X_(s n) lm = 4 pi sum_(j of species s) b_n(r_ij) (rc / st)^2 i_l(r^2/st^2) exp(-r^2/st^2) Y_lm(r_ij / |r_ij|),

    b_n the overlap of a Gaussian of width sr = atom_sigma_r + atom_sigma_r_scaling r at r, weighted by its amplitude,
    with n = 1 ... alpha_max orthonormal radial functions; st = atom_sigma_t + atom_sigma_t_scaling r. Caro, PRB 100,
    024112 (2019). Names, order (n, n' >= n, l) and details are those of the soap_turbo library: beyond rcut_soft a
    Gaussian filter of nf standard deviations, which is left out for atoms more than 4 sr inside; the Gaussian of
    poly3gauss is left out beyond 4 of its widths (tiny steps); the upper end of the filter's integral is neglected.

    Args:
        species: atomic numbers of the densities, in order.
        rcut_hard, rcut_soft: Å.
        l_max: largest degree.
        alpha_max: number of radial functions of each species.
        atom_sigma_r, atom_sigma_t: Å, for each species; the scalings have no unit.
        amplitude_scaling: exponent of 1 + 2 (r/rc)^3 - 3 (r/rc)^2 in the amplitude, for each species.
        central_weight: of the atom itself, for each species.
        central_index: which species the atoms are that have such vectors, from 1.
        nf: standard deviations from rcut_soft to rcut_hard.
        radial_enhancement: 0, 1, 2: the amplitude grows with the mean of that power of the distance.
        basis: "poly3", or "poly3gauss", which has a Gaussian at the centre for its last function.
        compress: components to keep of the full vector, by number; None for all.
        overlaps: of whose functions S^(-1/2) is taken, for each species, if not of the descriptor's own. QUIP (seen in
            0.10) keeps S of the first soap_turbo that a process evaluates, as long as the number of functions stays.
    """

    species: tuple[int, ...]
    rcut_hard: float
    rcut_soft: float
    l_max: int
    alpha_max: tuple[int, ...]
    atom_sigma_r: tuple[float, ...]
    atom_sigma_r_scaling: tuple[float, ...]
    atom_sigma_t: tuple[float, ...]
    atom_sigma_t_scaling: tuple[float, ...]
    amplitude_scaling: tuple[float, ...]
    central_weight: tuple[float, ...]
    central_index: int = 1
    nf: float = 4.0
    radial_enhancement: int = 0
    basis: str = "poly3"
    compress: tuple[int, ...] | None = None
    overlaps: tuple[Overlap, ...] | None = None

    def __post_init__(self):
        s = len(self.species)
        if s == 0 or len(set(self.species)) != s or not all(1 <= z <= 118 for z in self.species):
            raise ValueError(f"SOAPTurbo.species must be different atomic numbers; got {self.species}.")
        for name in PER_SPECIES:
            if len(getattr(self, name)) != s:
                raise ValueError(f"SOAPTurbo.{name} must have one number for each of {s} species.")
        if not 0 < self.rcut_soft < self.rcut_hard < 100:
            raise ValueError(
                f"SOAPTurbo needs 0 < rcut_soft < rcut_hard < 100 Å; got {self.rcut_soft} and {self.rcut_hard}."
            )
        if self.basis not in BASES or self.radial_enhancement not in (0, 1, 2) or not 1 <= self.central_index <= s:
            raise ValueError(
                f"SOAPTurbo: basis {self.basis!r} must be one of {BASES}, radial_enhancement {self.radial_enhancement} "
                f"0, 1 or 2, central_index {self.central_index} from 1 to {s}."
            )
        lowest = 1 if self.basis == "poly3" else 2
        # From 12 (13) on, the overlaps are singular to rounding.
        if not all(lowest <= a <= 9 + lowest for a in self.alpha_max) or not 0 <= self.l_max <= 30:
            raise ValueError(
                f"SOAPTurbo with {self.basis} needs alpha_max from {lowest} to {9 + lowest}, l_max up to 30; got "
                f"{self.alpha_max} and {self.l_max}."
            )
        widths = (*self.atom_sigma_r, *self.atom_sigma_t)
        scalings = (*self.atom_sigma_r_scaling, *self.atom_sigma_t_scaling, *self.amplitude_scaling)
        if not all(0.02 * self.rcut_hard < x < 100 for x in widths) or not all(0 <= x < 100 for x in scalings):
            raise ValueError("SOAPTurbo: widths must be more than a fiftieth of the cutoff, scalings not negative.")
        if not self.nf > 0:
            raise ValueError(f"SOAPTurbo.nf must be positive; got {self.nf}.")
        if self.compress is not None and not (
            self.compress and len(set(self.compress)) == len(self.compress) and min(self.compress) >= 0
            and max(self.compress) < len(_components(self.alpha_max, self.l_max))
        ):  # fmt: skip
            raise ValueError("SOAPTurbo.compress must be different numbers of components of the full vector.")
        if self.overlaps is not None and tuple(o.alpha_max for o in self.overlaps) != self.alpha_max:
            raise ValueError("SOAPTurbo.overlaps must have the numbers of functions of alpha_max.")

    @property
    def cutoff(self) -> float:
        return self.rcut_hard

    @property
    def layout(self) -> Spectrum:
        return _layout(self.alpha_max, self.l_max, self.compress)

    @property
    def center(self) -> int:
        """Atomic number of the atoms that have such vectors."""
        return self.species[self.central_index - 1]

    @property
    def own_overlaps(self) -> tuple[Overlap, ...]:
        """What the orthonormal functions of the species depend on, by the definition."""
        gauss = self.basis == "poly3gauss"
        sigmas = [s / self.rcut_hard if gauss else 0.0 for s in self.atom_sigma_r]
        return tuple(Overlap(self.basis, a, s) for a, s in zip(self.alpha_max, sigmas))

    def share_overlaps(self, other: "SOAPTurbo") -> "SOAPTurbo":
        """Return `other` with the overlaps of this one's radial functions, if their numbers are the same."""
        same = other.alpha_max != self.alpha_max or other.own_overlaps == self.own_overlaps
        return replace(other, overlaps=None if same else self.own_overlaps)

    def _expansions(self) -> list[Expansion]:
        plain = replace(self, compress=None, central_index=1)
        return [_expansion(plain, s) for s in range(len(self.species))]

    def _central(self, number: int) -> np.ndarray:
        parts = []
        for s, z in enumerate(self.species):
            own = _central(self, s) if z == number else np.zeros(self.alpha_max[s])
            parts.append(own * self.central_weight[s])
        return np.concatenate(parts)

    def restrict(self, species: tuple[int, ...]) -> tuple["SOAPTurbo", np.ndarray]:
        """Return the descriptor without densities of absent elements, and the components of the vectors it keeps."""
        keep = [s for s, z in enumerate(self.species) if z in species]
        if len(keep) == len(self.species) or self.central_index - 1 not in keep:
            return self, np.arange(self.dimensions)
        pick = lambda values: None if values is None else tuple(values[s] for s in keep)
        fields = {name: pick(getattr(self, name)) for name in ("species", *PER_SPECIES, "overlaps")}
        fields["central_index"] = keep.index(self.central_index - 1) + 1
        new = replace(self, compress=None, **fields)
        start = np.cumsum([0, *self.alpha_max])
        channels = [start[s] + a for s in keep for a in range(self.alpha_max[s])]
        place = {component: k for k, component in enumerate(self.layout.components)}
        full = [place.get((channels[c], channels[d], l)) for c, d, l in new.layout.components]
        if None in full:
            new = replace(new, compress=tuple(k for k, p in enumerate(full) if p is not None))
        return new, np.array([p for p in full if p is not None])


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


def _radial(turbo: SOAPTurbo, s: int, r: np.ndarray, filtered: bool, gaussian: bool) -> np.ndarray:
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


def _neglected(turbo: SOAPTurbo, count: int, R: np.ndarray, soft: float, sigma: np.ndarray) -> np.ndarray:
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


def _angular(turbo: SOAPTurbo, s: int, r: np.ndarray) -> np.ndarray:
    """4 pi (rc / st)^2 i_l(r^2 / st^2) exp(-r^2 / st^2), (r, l_max + 1)."""
    st = turbo.atom_sigma_t[s] + turbo.atom_sigma_t_scaling[s] * r
    return 4 * math.pi * (turbo.rcut_hard / st[:, None]) ** 2 * bessel(turbo.l_max, (r / st) ** 2)


def _central(turbo: SOAPTurbo, s: int) -> np.ndarray:
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
def _expansion(turbo: SOAPTurbo, s: int) -> Expansion:
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


def _components(alpha_max: tuple[int, ...], l_max: int) -> list[tuple[int, int, int]]:
    total = sum(alpha_max)
    return [(n, m, l) for n in range(total) for m in range(n, total) for l in range(l_max + 1)]


@lru_cache(maxsize=32)
def _layout(alpha_max: tuple[int, ...], l_max: int, compress: tuple[int, ...] | None) -> Spectrum:
    components = _components(alpha_max, l_max)
    kept = components if compress is None else [components[k] for k in compress]
    return Spectrum(sum(alpha_max), l_max, tuple(kept))
