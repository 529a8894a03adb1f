"""The Einstein crystal with a free centre: springs to lattice sites that move with the crystal."""

from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, only
from jaxmlp.potentials.external import External

if TYPE_CHECKING:
    from jaxmlp.system import System


class EinsteinCrystal(External):
    """E_i = k_i/2 |d_i - d|^2 with d_i = R_i - X_i and d = sum_i k_i d_i / sum_i k_i; params {"k": (N,), "X": (N, 3)}.

    `Tether` of all atoms less its energy of a common displacement: moving all atoms together changes nothing, as in the
    crystal whose free energy is wanted, so that no centre of mass has to be held on the way from one to the other. The
    free energy is known, see `free_energy.einstein`. k eV/Å^2, X Å. Positions are taken as they are, unwrapped.
    """

    homogeneous: ClassVar[bool] = True

    def site_energies(self, params: Params, graph: Graph) -> Array:
        n = len(graph.R)
        self._check(params, k=(n,), X=(n, 3))
        k = params["k"][:, None]
        d = graph.R - params["X"]
        d = d - jnp.sum(k * d, axis=0) / jnp.sum(k)
        return 0.5 * params["k"] * jnp.sum(d * d, axis=1)

    def linear_parameters(self, params: Params) -> Params:
        return only(params, [])


def einstein_crystal(system: "System", k, *, species: tuple[int, ...] | None = None) -> tuple[EinsteinCrystal, Params]:
    """Return the potential and parameters of springs around the positions of `system`.

    Args:
        k: eV/Å^2, a number, one for each atom (N,), or a mapping from atomic numbers.
        species: atomic numbers of the potential, those of one that it is combined with say; None for the system's.

    Raises:
        ValueError: springs that are not positive numbers, or too few.
    """
    if isinstance(k, dict):
        missing = set(system.species) - set(k)
        if missing:
            raise ValueError(f"no spring is given for the atomic numbers {sorted(missing)}.")
        k = [k[z] for z in system.numbers.tolist()]
    k = np.asarray(k, float)
    if k.shape not in ((), (len(system),)) or not (np.isfinite(k) & (k > 0)).all():
        raise ValueError(
            f"springs are positive numbers in eV/Å^2, one or {len(system)} of them; got shape {k.shape}, smallest "
            f"{k.min():.4g}."
        )
    potential = EinsteinCrystal(system.species if species is None else tuple(species))
    return potential, {"k": jnp.broadcast_to(jnp.asarray(k), (len(system),)), "X": jnp.asarray(system.R)}
