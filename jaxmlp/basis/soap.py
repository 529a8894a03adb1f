"""SOAP: the power spectrum of the density of neighbours, smeared by Gaussians, as QUIP defines it."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis import soap_radial
from jaxmlp.basis.cutoffs import cosine_transition
from jaxmlp.basis.density import Expansion, Spectrum, density, power_spectrum
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.basis.series import fit
from jaxmlp.neighbors.graph import Graph

Y_00 = real_harmonics(0.0, 0.0, 1.0, 0)[0]
WILD = (0,)  # one density of all elements


class PowerSpectrum:
    """What SOAP and soap_turbo share: vectors made of the power spectrum of a density.

    Subclasses are frozen dataclasses with `species`, the atomic numbers of the densities (`WILD` for one of all),
    `l_max`, and what is named below without a body.
    """

    species: tuple[int, ...]
    cutoff: float  # Å
    l_max: int

    @property
    def layout(self) -> Spectrum:
        """The components of the power spectrum."""
        raise NotImplementedError

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return len(self.layout.components)

    def _expansions(self) -> list[Expansion]:
        raise NotImplementedError

    def _central(self, number: int) -> np.ndarray:
        """What an atom of this element adds to its own density, (channels,) of l = 0."""
        raise NotImplementedError

    def densities(self, numbers: tuple[int, ...], graph: Graph) -> list[Array]:
        """Return the coefficients X_l, (n, channels, 2 l + 1), l = 0 ... l_max, of the density around every atom.

        Args:
            numbers: atomic numbers that the species of the graph stand for.
        """
        near = graph.within(self.cutoff)
        kinds = [self._kind(z, numbers, near) for z in self.species]
        X = density(self._expansions(), self.l_max, near.planes, kinds)
        central = jnp.asarray(np.stack([self._central(z) for z in numbers]), X[0].dtype)
        own = central if len(numbers) == 1 else central[graph.species]
        return [X[0] + own[:, :, None], *X[1:]]

    def _kind(self, z: int, numbers: tuple[int, ...], graph: Graph) -> Array | None:
        if self.species == WILD or numbers == (z,):
            return None
        place = numbers.index(z) if z in numbers else -1
        return graph.neighbor_species == place

    def normalised(self, p: Array) -> Array:
        """Return the vector, (n, dimensions), of a power spectrum p (n, components): p / |p|."""
        square = jnp.sum(p * p, axis=1, keepdims=True)
        some = square > 1e-10  # an empty neighbourhood has the vector 0
        return p / jnp.sqrt(jnp.where(some, square, 1.0))

    def vectors(self, numbers: tuple[int, ...], graph: Graph) -> Array:
        """Return the vector of every atom, (n, dimensions), whatever its element; arguments as for `densities`."""
        return self.normalised(power_spectrum(self.layout, self.densities(numbers, graph)))


@dataclass(frozen=True)
class SOAP(PowerSpectrum):
    """q = p / |p| with p_(c c' l) = sum_m X_clm X_c'lm / sqrt(2 l + 1) (times sqrt(2) for c != c'), where

        X_(s a) lm = sum_(j of species s) f(r_ij) R_l(a; r_ij) Y_lm(r_ij / |r_ij|)

    are coefficients of the density sum_j f(r_ij) exp(-|r - r_ij|^2 / (2 sigma^2)) in a radial basis, see `soap_radial`.
    Bartók, Kondor and Csányi, PRB 87, 184115 (2013), Eqs. (34) to (36); names, defaults and order of QUIP's `soap`:
    channels c = (s, a) slow, c' <= c, l; and a last component `covariance_sigma0`.

    Args:
        species: atomic numbers of the densities, in order (species_Z); (0,) for one of all.
        cutoff, atom_sigma, cutoff_transition_width: Å; f goes from 1 to 0 over the width.
        n_max, l_max: number of radial functions, largest degree.
        central_weight: of the atom itself in the density of its element.
        basis_error_exponent: the radial basis reaches that far beyond the cutoff.
        radial_basis: one of `soap_radial.BASES`.
        normalise: divide by the norm.
        diagonal_radial: only products of equal radial functions.
        covariance_sigma0: the last component.
        central_reference_all_species: the atom itself is in the densities of all elements.
        cutoff_dexp, cutoff_scale, cutoff_rate: f is multiplied by rate / (rate + (r / scale)^dexp), by
            (r / scale)^-dexp where rate is 0; dexp = 0 for neither.
        weigh_degrees: the 1 / sqrt(2 l + 1); old files lack it.
    """

    species: tuple[int, ...]
    cutoff: float
    n_max: int
    l_max: int
    atom_sigma: float = 0.5
    cutoff_transition_width: float = 0.5
    central_weight: float = 1.0
    basis_error_exponent: float = 10.0
    radial_basis: str = "EQUISPACED_GAUSS"
    normalise: bool = True
    diagonal_radial: bool = False
    covariance_sigma0: float = 0.0
    central_reference_all_species: bool = False
    cutoff_dexp: int = 0
    cutoff_scale: float = 1.0
    cutoff_rate: float = 1.0
    weigh_degrees: bool = True

    def __post_init__(self):
        if not self.species or len(set(self.species)) != len(self.species):
            raise ValueError(f"SOAP.species must be different atomic numbers, or (0,); got {self.species}.")
        if not 1 <= self.n_max <= 40 or not 0 <= self.l_max <= 30:
            raise ValueError(f"SOAP needs n_max from 1 to 40 and l_max from 0 to 30; got {self.n_max}, {self.l_max}.")
        if not 0 <= self.cutoff_transition_width <= self.cutoff or not 0 < self.cutoff < 100:
            raise ValueError(
                f"SOAP needs 0 <= cutoff_transition_width <= cutoff < 100 Å; got {self.cutoff_transition_width} and "
                f"{self.cutoff}."
            )
        if not 0.02 * self.cutoff < self.atom_sigma < 100:
            raise ValueError(f"SOAP.atom_sigma must be wider than a fiftieth of the cutoff; got {self.atom_sigma} Å.")
        if not 0 < self.basis_error_exponent < 100:
            raise ValueError(f"SOAP.basis_error_exponent must be between 0 and 100; got {self.basis_error_exponent}.")
        if self.radial_basis not in soap_radial.BASES:
            raise ValueError(f"SOAP.radial_basis must be one of {soap_radial.BASES}; got {self.radial_basis!r}.")
        if not 0 <= self.cutoff_dexp <= 20 or not self.cutoff_scale > 0 or not self.cutoff_rate >= 0:
            raise ValueError("SOAP needs 0 <= cutoff_dexp <= 20, cutoff_scale > 0 and cutoff_rate >= 0.")

    @property
    def layout(self) -> Spectrum:
        return _layout(len(self.species), self.n_max, self.l_max, self.diagonal_radial)

    @property
    def dimensions(self) -> int:
        return len(self.layout.components) + 1

    def normalised(self, p: Array) -> Array:
        """Return the vector, (n, dimensions), of a power spectrum p (n, components)."""
        q = super().normalised(p) if self.normalise else p
        return jnp.concatenate([q, jnp.full_like(q[:, :1], self.covariance_sigma0)], axis=1)

    def _expansions(self) -> list[Expansion]:
        return [_expansion(replace(self, species=WILD))] * len(self.species)

    def _central(self, number: int) -> np.ndarray:
        own = _radial(self, np.zeros(1))[0, 0] * (self.central_weight * Y_00)
        to_all = self.central_reference_all_species or self.species == WILD
        return np.concatenate([own if to_all or z == number else 0 * own for z in self.species])

    def restrict(self, species: tuple[int, ...]) -> tuple["SOAP", np.ndarray]:
        """Return the descriptor without densities of absent elements, and the components of the vectors it keeps."""
        keep = [z for z in self.species if z in species]
        if self.species == WILD or self.central_reference_all_species or not keep or len(keep) == len(self.species):
            return self, np.arange(self.dimensions)
        new = replace(self, species=tuple(keep))
        channels = [self.species.index(z) * self.n_max + a for z in keep for a in range(self.n_max)]
        place = {component: k for k, component in enumerate(self.layout.components)}
        kept = [place[channels[c], channels[d], l] for c, d, l in new.layout.components]
        return new, np.array([*kept, self.dimensions - 1])


def _radial(soap: SOAP, r: np.ndarray) -> np.ndarray:
    """R_l(a; r) times (2 l + 1)^(-1/4), (r, l_max + 1, n_max)."""
    values = soap_radial.radial_functions(
        r, soap.radial_basis, soap.n_max, soap.l_max, soap.atom_sigma, soap.cutoff, soap.basis_error_exponent
    )
    degrees = 2 * np.arange(soap.l_max + 1) + 1.0
    return values * degrees[:, None] ** -0.25 if soap.weigh_degrees else values


def _envelope(soap: SOAP, r: Array) -> Array:
    f = cosine_transition(r, soap.cutoff, soap.cutoff_transition_width)
    if soap.cutoff_dexp == 0:
        return f
    x = (r * (1.0 / soap.cutoff_scale)) ** soap.cutoff_dexp
    return f * soap.cutoff_rate / (soap.cutoff_rate + x) if soap.cutoff_rate > 0 else f / x


@lru_cache(maxsize=32)
def _expansion(soap: SOAP) -> Expansion:
    """The same for every element."""
    series = fit(lambda r: _radial(soap, r).reshape(len(r), -1), (0.0, soap.cutoff))
    return Expansion(series, partial(_envelope, soap))


@lru_cache(maxsize=32)
def _layout(species: int, n_max: int, l_max: int, diagonal: bool) -> Spectrum:
    channels = species * n_max
    pairs = [(c, d) for c in range(channels) for d in range(c + 1) if not diagonal or c % n_max == d % n_max]
    return Spectrum(channels, l_max, tuple((c, d, l) for c, d in pairs for l in range(l_max + 1)))
