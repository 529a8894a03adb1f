"""The screened repulsion between nuclei of Ziegler, Biersack and Littmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import units
from jaxmlp.basis.screening import universal, universal_length
from jaxmlp.basis.species import subset
from jaxmlp.potential import Params
from jaxmlp.potentials.pair import PairPotential


@dataclass(frozen=True)
class ZBL(PairPotential):
    """phi(r) = Z_i Z_j e^2/(4 pi eps0 r) sum_k a_k exp(-b_k r / l_ij), l_ij = 0.46850 Å / (Z_i^0.23 + Z_j^0.23).

    The universal potential; a and b in `basis.screening`. With truncation "smoothed", the default, the energy and its
    first two derivatives go to zero between `inner` and `cutoff` as in LAMMPS' pair_style zbl, whose potential this is.
    params {"charge": (S,)}: nuclear charges.

    Args:
        coulomb: e^2/(4 pi eps0), eV Å; 14.399645 in LAMMPS' metal units, a relative difference of 3.3e-8.
    """

    truncation: str = "smoothed"
    coulomb: float = units.coulomb

    def tables(self, params: Params) -> Params:
        z = params["charge"]
        return {"strength": self.coulomb * z[:, None] * z, "length": universal_length(z[:, None], z)}

    def phi(self, p: Params, r_squared: Array) -> Array:
        r = jnp.sqrt(r_squared)
        return p["strength"] / r * universal(r / p["length"])

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["ZBL", Params]:
        keep = np.array(subset(self.species, species))
        return replace(self, species=tuple(species)), {"charge": params["charge"][keep]}


def zbl(species: Sequence[int], inner: float, cutoff: float) -> tuple[ZBL, Params]:
    """Return the universal repulsion of some elements, smoothed from `inner` to `cutoff` (Å), and its parameters."""
    species = tuple(int(z) for z in species)
    return ZBL(species, float(cutoff), inner=float(inner)), {"charge": jnp.asarray(np.array(species, float), float)}
