"""soap_turbo: SOAP with separable radial and angular widths, of Caro."""

from dataclasses import dataclass, replace
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.density import Expansion, Spectrum
from jaxmlp.basis.soap import PowerSpectrum
from jaxmlp.basis.soap_turbo_radial import Overlap, central, expansion
from jaxmlp.basis.species import check_species
from jaxmlp.neighbors.graph import Graph

BASES = ("poly3", "poly3gauss")
PER_SPECIES = (
    "alpha_max", "atom_sigma_r", "atom_sigma_r_scaling", "atom_sigma_t", "atom_sigma_t_scaling", "amplitude_scaling",
    "central_weight",
)  # fmt: skip


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
        coupling: (nu_R, nu_S) of Darby, Kermode and Csányi, npj Comput. Mater. 8, 166 (2022): in how many of the two
            factors of a product radial functions and species are told apart, (2, 2) for the full vector (QUIP's
            compress_mode 0_0 to 2_2); where they are not, densities are summed before.
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
    coupling: tuple[int, int] = (2, 2)
    overlaps: tuple[Overlap, ...] | None = None

    def __post_init__(self):
        s = len(self.species)
        check_species("SOAPTurbo", self.species)
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
        if self.coupling != (2, 2):
            if len(self.coupling) != 2 or not set(self.coupling) <= {0, 1, 2} or self.compress is not None:
                raise ValueError(f"SOAPTurbo.coupling must be two of 0, 1, 2, without compress; got {self.coupling}.")
            if len(set(self.alpha_max)) > 1:
                raise ValueError(f"SOAPTurbo.coupling needs one alpha_max for all species; got {self.alpha_max}.")
        if self.overlaps is not None and tuple(o.alpha_max for o in self.overlaps) != self.alpha_max:
            raise ValueError("SOAPTurbo.overlaps must have the numbers of functions of alpha_max.")

    @property
    def cutoff(self) -> float:
        return self.rcut_hard

    @property
    def layout(self) -> Spectrum:
        if self.coupling == (2, 2):
            return _layout(self.alpha_max, self.l_max, self.compress)
        return _coupled(self.coupling, len(self.species), self.alpha_max[0], self.l_max)[0]

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

    def densities(self, numbers: tuple[int, ...], graph: Graph) -> list[Array]:
        """Return the coefficients X_l, see `PowerSpectrum`, of sums of channels that `coupling` does not tell apart."""
        X = super().densities(numbers, graph)
        if self.coupling == (2, 2):
            return X
        sums = jnp.asarray(_coupled(self.coupling, len(self.species), self.alpha_max[0], self.l_max)[1], X[0].dtype)
        return [jnp.einsum("kc,ncy->nky", sums, x, precision="highest") for x in X]

    def share_overlaps(self, other: "SOAPTurbo") -> "SOAPTurbo":
        """Return `other` with the overlaps of this one's radial functions, if their numbers are the same."""
        same = other.alpha_max != self.alpha_max or other.own_overlaps == self.own_overlaps
        return replace(other, overlaps=None if same else self.own_overlaps)

    def _expansions(self) -> list[Expansion]:
        plain = replace(self, compress=None, central_index=1)
        return [expansion(plain, s) for s in range(len(self.species))]

    def _central(self, number: int) -> np.ndarray:
        parts = []
        for s, z in enumerate(self.species):
            own = central(self, s) if z == number else np.zeros(self.alpha_max[s])
            parts.append(own * self.central_weight[s])
        return np.concatenate(parts)

    def restrict(self, species: tuple[int, ...]) -> tuple["SOAPTurbo", np.ndarray]:
        """Return the descriptor without densities of absent elements, and the components of the vectors it keeps."""
        keep = [s for s, z in enumerate(self.species) if z in species]
        if len(keep) == len(self.species) or self.central_index - 1 not in keep or self.coupling != (2, 2):
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


def _components(alpha_max: tuple[int, ...], l_max: int) -> list[tuple[int, int, int]]:
    total = sum(alpha_max)
    return [(n, m, l) for n in range(total) for m in range(n, total) for l in range(l_max + 1)]


@lru_cache(maxsize=32)
def _layout(alpha_max: tuple[int, ...], l_max: int, compress: tuple[int, ...] | None) -> Spectrum:
    components = _components(alpha_max, l_max)
    kept = components if compress is None else [components[k] for k in compress]
    return Spectrum(sum(alpha_max), l_max, tuple(kept))


@lru_cache(maxsize=32)
def _coupled(coupling: tuple[int, int], species: int, alpha_max: int, l_max: int) -> tuple[Spectrum, np.ndarray]:
    """The components, and which channels are summed, (sums, channels): those of the first factor, then the second."""
    rows = []
    for least in (1, 2):
        radial, kind = (nu >= least for nu in coupling)
        labels = [(s * kind, n * radial) for s in range(species) for n in range(alpha_max)]
        rows.append(np.array([[float(a == b) for b in labels] for a in sorted(set(labels))]))
    first, second = map(len, rows)
    degrees = range(l_max + 1)
    if first == second:  # nothing or both are told apart in both factors
        alike = tuple((x, y, l) for x in range(first) for y in range(x, first) for l in degrees)
        return Spectrum(first, l_max, alike), rows[0]
    pairs = tuple((x, first + y, l) for x in range(first) for y in range(second) for l in degrees)
    return Spectrum(first + second, l_max, pairs, factor=1.0), np.concatenate(rows)
