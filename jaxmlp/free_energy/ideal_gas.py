"""Free energy of the ideal gas: of atoms that do not interact, with all N! of equal atoms."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxmlp.md.modes import HBAR
from jaxmlp.units import kB


def ideal_gas(numbers: ArrayLike, masses: ArrayLike, volume: Array | float, temperature: Array | float) -> Array:
    """Return F = -kT ln Z, Z = prod_i V / Lambda_i^3 / prod_s N_s!, of all atoms of a system, eV.

    Lambda = h / (2 pi m kT)^(1/2). N_s! is exact: N_s ln N_s - N_s in its place lacks kT ln(2 pi N_s) / 2 for each
    species s. Differentiable in volume and temperature.

    Args:
        numbers: (N,) atomic numbers; atoms of one number are indistinguishable.
        masses: (N,) amu.
        volume: Å^3.
        temperature: K.

    Raises:
        ValueError: masses do not go with the numbers.
    """
    numbers, masses = np.asarray(numbers), np.asarray(masses, float)
    if masses.shape != numbers.shape or not (masses > 0).all():
        raise ValueError(f"masses are positive numbers in amu, one for each of {len(numbers)} atoms; got {masses}.")
    kT = kB * temperature
    orders = sum(math.lgamma(n + 1) for n in np.unique(numbers, return_counts=True)[1])
    mass = float(np.mean(np.log(masses)))
    log_wavelength = 0.5 * (math.log(2 * math.pi * HBAR**2) - mass - jnp.log(kT))  # its mean over the atoms
    return kT * (len(numbers) * (3.0 * log_wavelength - jnp.log(1.0 * volume)) + orders)
