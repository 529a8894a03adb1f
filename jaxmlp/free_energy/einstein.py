"""Free energy of the Einstein crystal: atoms on springs, the reference system of solids.

What a switch between the solid and springs to fixed sites R_i computes, if the centre of mass X = sum_i mu_i (r_i -
R_i), mu_i = m_i / M, stays at zero, is the ratio of

    Z_CM = int dr^3N delta^3(X) exp(-U / kT)

of the two, Delta F = -kT ln(Z_CM,S / Z_CM,E); momenta are those of the same atoms and cancel. The free energies of the
two systems with free centres differ from that by what a free centre has room for:

- Springs: u = r - R is Gaussian, and so is X, with variance kT sum_i mu_i^2 / k_i along each axis. Z_CM,E / Z_E is its
  density at zero, (2 pi kT sum_i mu_i^2 / k_i)^(-3/2).
- The solid: U does not depend on X, so Z_S = (room of X) Z_CM,S. With atom i at site i, X has all of V. But equal atoms
  are counted N! times, as many times as there are ways to number the sites, and a crystal that is moved by a lattice
  vector is the same crystal, numbered in another way: of the n_c translations that the box holds, each class of
  numbered crystals has every one. So Z_S / N! = (V / n_c) Z_CM,S with the volume of *one* primitive cell: V / N where
  a cell holds one atom, V / (N / 2) in diamond, V itself where no translation maps the crystal onto itself. With
  several species N! is prod_s N_s! throughout.

    F_S = F_E + kT ln[(n_c / V) (2 pi kT sum_i mu_i^2 / k_i)^(3/2)] + Delta F,    F_E = kT sum_i 3 ln(hbar omega_i / kT)

For n_c = N and equal masses and springs see Polson, Trizac, Pronk, Frenkel, J. Chem. Phys. 112, 5339 (2000). V in place
of V / N is an error of kT ln N in all. No atom may change its site during the switch.

The delta function asks for dynamics that project on X = 0 in the metric of the masses: p_i -> p_i - mu_i P for momenta
and noise, F_i -> F_i - mu_i sum_j F_j for forces (the springs have a net force). Taking sum_j F_j / N off every atom
instead keeps X as well, but where masses differ it samples no canonical distribution.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxmlp.md.modes import HBAR
from jaxmlp.units import kB


def einstein_free_energy(
    springs: Array, masses: ArrayLike, temperature: Array | float, *, quantum: bool = False
) -> Array:
    """Return F_E, eV, of all atoms on springs k_i |r_i - R_i|^2 / 2: 3 oscillators of omega_i^2 = k_i / m_i each.

    Classical kT sum_i 3 ln(hbar omega_i / kT), or quantum 3 sum_i [hbar omega_i / 2 + kT ln(1 - exp(-hbar omega_i /
    kT))]. Atoms are told apart by their sites. Differentiable.

    Args:
        springs: (N,) eV/Å^2.
        masses: (N,) amu.
        temperature: K.
    """
    springs, kT = jnp.asarray(springs), kB * temperature
    energy = HBAR * jnp.sqrt(springs / jnp.asarray(masses, springs.dtype))
    if quantum:
        return 3.0 * jnp.sum(0.5 * energy + kT * jnp.log(-jnp.expm1(-energy / kT)))
    return 3.0 * kT * jnp.sum(jnp.log(energy / kT))


def free_centre(
    springs: Array, masses: ArrayLike, volume: Array | float, temperature: Array | float, *, cells: int | None = None
) -> Array:
    """Return Delta F_CM, eV, to be added to F_E and to what a switch with fixed centre of mass found for F_S - F_E.

    Delta F_CM = kT ln[(n_c / V) (2 pi kT sum_i mu_i^2 / k_i)^(3/2)], mu_i = m_i / M: derived at the top of this file.

    Args:
        springs, masses, temperature: as for `einstein_free_energy`.
        volume: Å^3, of the box.
        cells: n_c, the number of primitive cells in the box; None takes the number of atoms, as in fcc and bcc.
    """
    springs, kT = jnp.asarray(springs), kB * temperature
    mu = np.asarray(masses, float) / np.sum(masses)
    variance = kT * jnp.sum(jnp.asarray(mu**2, springs.dtype) / springs)
    n = len(mu) if cells is None else cells
    return kT * (math.log(n) - jnp.log(1.0 * volume) + 1.5 * jnp.log(2.0 * math.pi * variance))


def unpinned_einstein_crystal(
    springs: Array, masses: ArrayLike, volume: Array | float, temperature: Array | float, *, cells: int | None = None
) -> Array:
    """Return F of `potentials.einstein.EinsteinCrystal`, whose springs move with the crystal, in a periodic box, eV.

    F = F_E + kT ln[(n_c / V) (2 pi kT / sum_i k_i)^(3/2)]. Its energy is that of springs to fixed sites where the
    centre with weights k_i / sum_j k_j is at rest, and does not depend on that centre: the derivation at the top of
    this file holds with these weights in place of mu_i. So a switch from the solid to it needs no centre held, and
    F_S = F - difference: both centres have the same room.

    Arguments as for `free_centre`.
    """
    springs, kT = jnp.asarray(springs), kB * temperature
    n = len(springs) if cells is None else cells
    room = math.log(n) - jnp.log(1.0 * volume) + 1.5 * jnp.log(2.0 * math.pi * kT / jnp.sum(springs))
    return einstein_free_energy(springs, masses, temperature) + kT * room


def spring_constants(R: ArrayLike, numbers: ArrayLike, masses: ArrayLike, temperature: float) -> np.ndarray:
    """Return k = 3 kT / <|r - <r>|^2> for every atom, (N,) eV/Å^2, the mean square over all atoms of its species.

    The motion of the centre of mass is taken off first: it is no vibration, and in Langevin dynamics it diffuses.

    Args:
        R: (T, N, 3) Å, unwrapped positions of a run of the solid at that temperature.
        numbers: (N,) atomic numbers.
        masses: (N,) amu.
        temperature: K.

    Raises:
        ValueError: shapes that do not fit, or atoms that did not move.
    """
    R, numbers, masses = np.asarray(R, float), np.asarray(numbers), np.asarray(masses, float)
    if R.ndim != 3 or R.shape[1:] != (len(numbers), 3) or masses.shape != numbers.shape:
        raise ValueError(
            f"R holds frames (T, {len(numbers)}, 3) Å of {len(numbers)} atoms with as many masses; got {R.shape} and "
            f"{masses.shape}."
        )
    u = R - R.mean(axis=0)
    u = u - np.einsum("tix,i->tx", u, masses / masses.sum())[:, None]
    squares = np.mean(np.sum(u**2, axis=2), axis=0)
    springs = np.empty(len(numbers))
    for z in np.unique(numbers):
        mean = squares[numbers == z].mean()
        if not 0 < mean < np.inf:
            raise ValueError(f"the mean square displacement of the atoms {z} is {mean} Å^2: do the frames differ?")
        springs[numbers == z] = 3 * kB * temperature / mean
    return springs
