"""Uhlenbeck-Ford pair potential: the fluid whose free energy `free_energy.fluid` knows."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxmlp.potential import Params
from jaxmlp.potentials.pair import PairPotential
from jaxmlp.units import kB


class UhlenbeckFord(PairPotential):
    """phi(r) = -epsilon ln(1 - exp(-r^2 / sigma^2)); params {"epsilon": (S, S) eV, "sigma": (S, S) Å}.

    The scaled model of Paula Leite, Freitas, Azevedo, de Koning, J. Chem. Phys. 145, 194101 (2016), with epsilon =
    p kT: purely repulsive, phi ~ -2 epsilon ln(r / sigma) for small r and epsilon exp(-r^2 / sigma^2) for large r.
    """

    def phi(self, p: Params, r_squared: Array) -> Array:
        y = r_squared / p["sigma"] ** 2
        # Each form keeps its digits on one side of exp(-y) = 1/2 only: 1 - exp(-y) cancels where y is small, and
        # where y is large it rounds to 1.
        near = y < 0.7
        log_near = jnp.log(-jnp.expm1(-jnp.where(near, y, 0.7)))
        log_far = jnp.log1p(-jnp.exp(-jnp.where(near, 0.7, y)))
        return -p["epsilon"] * jnp.where(near, log_near, log_far)


def uhlenbeck_ford(
    species: Sequence[int], p: float, temperature: float, sigma: float, cutoff: float | None = None
) -> tuple[UhlenbeckFord, Params]:
    """Return the Uhlenbeck-Ford potential of epsilon = p kT with all species alike, and its parameters.

    Args:
        species: atomic numbers.
        p: strength; free energies are known for 1, 25, 50, 75 and 100, see `free_energy.fluid`.
        temperature: K, of the fluid that it is the reference for.
        sigma: Å.
        cutoff: Å; None takes 5 sigma, where phi is 1.4e-11 epsilon.

    Raises:
        ValueError: p, temperature or sigma is not positive.
    """
    for name, value, what in (("p", p, "a number"), ("temperature", temperature, "in K"), ("sigma", sigma, "in Å")):
        if not 0 < value < float("inf"):  # also catches nan
            raise ValueError(f"uhlenbeck_ford: {name} is {what} and must be positive; got {value}.")
    species = tuple(int(z) for z in species)
    shape = (len(species), len(species))
    params = {"epsilon": jnp.full(shape, p * kB * temperature), "sigma": jnp.full(shape, float(sigma))}
    return UhlenbeckFord(species, 5.0 * float(sigma) if cutoff is None else float(cutoff)), params
