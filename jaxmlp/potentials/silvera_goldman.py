"""Silvera-Goldman pair potential of para-hydrogen: one particle for each molecule."""

import jax.numpy as jnp
from jax import Array

from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.pair import PairPotential, PairTail
from jaxmlp.units import bohr, hartree

MOLECULE = 2.01588  # amu, of H2


class SilveraGoldman(PairPotential):
    """phi(r) = A exp(-beta r - gamma r^2) - (C6 / r^6 + C8 / r^8 - C9 / r^9 + C10 / r^10) f(r).

    f(r) = exp(-(reach / r - 1)^2) below `reach`, 1 beyond: Silvera, Goldman, J. Chem. Phys. 69, 4209 (1978), with
    A = exp(alpha) hartree; C9 stands for three-body dispersion in the dense phases. f'' jumps by 2 / reach^2 at reach.
    params are (S, S): {"A": eV, "beta": 1/Å, "gamma": 1/Å^2, "C6", "C8", "C9", "C10": eV Å^n, "reach": Å}.
    """

    def phi(self, p: Params, r_squared: Array) -> Array:
        r = jnp.sqrt(r_squared)
        q = 1.0 / r
        x = p["reach"] * q - 1.0
        f = jnp.exp(-(jnp.where(x > 0, x, 0.0) ** 2))
        attraction = q**6 * (p["C6"] + q**2 * (p["C8"] - p["C9"] * q + p["C10"] * q**2))
        return p["A"] * jnp.exp(-(p["beta"] + p["gamma"] * r) * r) - attraction * f


class SilveraGoldmanTail(PairTail):
    """The tail of `SilveraGoldman` with f = 1; it goes with cutoffs beyond `reach`.

    Its repulsion is left out: at a cutoff of 6 Å 8e-4 of the integral, at 7 Å 5e-5, at 8.9 Å 2e-7.
    """

    def integral(self, p: Params, cutoff: Array) -> Array:
        attraction = p["C6"] / (3.0 * cutoff**3) + p["C8"] / (5.0 * cutoff**5)
        return p["C9"] / (6.0 * cutoff**6) - attraction - p["C10"] / (7.0 * cutoff**7)


def silvera_goldman(cutoff: float, *, truncation: str = "truncated", tail: bool = False) -> tuple[Potential, Params]:
    """Return the potential of para-hydrogen molecules, which are atoms "H" of mass `MOLECULE`, and its parameters.

    Args:
        cutoff: Å.
        truncation: see `PairPotential`.
        tail: add `SilveraGoldmanTail`; goes with "truncated" and a cutoff of 6 Å or more.
    """
    # Table I of the paper, in atomic units
    length = {"beta": (1.5671, -1), "gamma": (0.00993, -2), "reach": (8.32, 1)}
    energy = {"C6": (12.14, 6), "C8": (215.2, 8), "C9": (143.1, 9), "C10": (4813.9, 10)}
    values = {name: x * bohr**power for name, (x, power) in length.items()}
    values |= {name: x * hartree * bohr**power for name, (x, power) in energy.items()}
    params = {name: jnp.full((1, 1), x) for name, x in values.items()}
    params["A"] = jnp.exp(jnp.full((1, 1), 1.713)) * hartree
    potential = SilveraGoldman((1,), float(cutoff), truncation)
    if not tail:
        return potential, params
    if truncation != "truncated" or cutoff < 6:
        raise ValueError(
            f'the tail correction belongs to truncation="truncated" and cutoffs of 6 Å or more; got {truncation!r}, '
            f"{cutoff} Å."
        )
    return potential + SilveraGoldmanTail((1,), float(cutoff)), (params, params)
