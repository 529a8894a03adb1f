"""The embedded-atom method on tabulated functions, Finnis-Sinclair's among them."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import length
from jaxmlp.basis.species import subset
from jaxmlp.basis.splines import cubic, knots, locate
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential


@dataclass(frozen=True)
class EAM(Potential):
    """E_i = F_i(rho_i) + 1/2 sum_j phi_ij(r_ij), rho_i = sum_j rho_ij(r_ij); Daw and Baskes, PRB 29, 6443 (1984).

    The density depends on the neighbour's species (eam, eam.alloy) or on both (eam.fs, Finnis and Sinclair). All
    functions are cubic splines on even grids from 0 on, F continued with its last slope, as in LAMMPS' pair_style eam.

    params hold knots, (..., 2): value and slope times the grid step, see `basis.splines`. "embedding": (S, n_rho, 2) F;
    "density": (S, n_r, 2), by neighbour, or (S, S, n_r, 2), by atom and neighbour; "pair": (S, S, n_r, 2) r phi(r) in
    eV Å, symmetric. `tabulated` makes them from values.

    Args:
        species: atomic numbers, in the order of the axes of the parameters.
        cutoff: Å; all functions of r are cut there.
        dr, drho: grid steps, Å and the file's unit of density.
        finnis_sinclair: densities depend on both species.
    """

    species: tuple[int, ...]
    cutoff: float
    dr: float
    drho: float
    finnis_sinclair: bool = False
    block: ClassVar[int] = 64

    def __post_init__(self):
        for name in ("cutoff", "dr", "drho"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"EAM.{name} must be positive and finite; got {getattr(self, name)}.")

    def tabulated(self, embedding, density, r_phi) -> Params:
        """Return the parameters of tabulated values: F (S, n_rho), rho (S, n_r) or (S, S, n_r), r phi (S, S, n_r).

        Raises:
            ValueError: shapes that do not fit, values that are not finite, r phi that is not symmetric.
        """
        s = len(self.species)
        tables = {"embedding": embedding, "density": density, "pair": r_phi}
        tables = {k: np.asarray(v, float) for k, v in tables.items()}
        n = tables["pair"].shape[-1]
        shapes = {"embedding": (s, tables["embedding"].shape[-1]), "density": (s, s, n), "pair": (s, s, n)}
        if not self.finnis_sinclair:
            shapes["density"] = (s, n)
        for k, v in tables.items():
            if v.shape != shapes[k] or not np.isfinite(v).all():
                raise ValueError(f"EAM {k} table must be finite and of shape {shapes[k]}; got shape {v.shape}.")
        if not np.array_equal(tables["pair"], tables["pair"].swapaxes(0, 1)):
            raise ValueError("the EAM pair table must be symmetric in the two species.")
        return {k: jnp.asarray(knots(v), float) for k, v in tables.items()}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        distance = length(*graph.planes)
        inside = distance < self.cutoff
        r = jnp.where(inside, distance, self.cutoff)
        n = params["pair"].shape[-2]
        k, t = locate(r * (1.0 / self.dr), n)
        phi = cubic(params["pair"].reshape(-1), 2 * k + self._table(graph, n, True), t) / r
        density = cubic(params["density"].reshape(-1), 2 * k + self._table(graph, n, self.finnis_sinclair), t)
        rho = jnp.sum(jnp.where(inside, density, 0.0), axis=1)
        return self._embedding(params["embedding"], rho, graph.species) + 0.5 * jnp.sum(
            jnp.where(inside, phi, 0.0), axis=1
        )

    def _table(self, graph: Graph, n: int, both: bool) -> Array | int:
        """Where in the flattened knots of n points the table of each edge begins."""
        s = len(self.species)
        if s == 1:
            return 0
        table = graph.neighbor_species + s * graph.species[:, None] if both else graph.neighbor_species
        return table.astype(jnp.int32) * (2 * n)

    def _embedding(self, F: Array, rho: Array, species: Array) -> Array:
        n = F.shape[1]
        last = (n - 1) * self.drho
        k, t = locate(jnp.minimum(rho, last) * (1.0 / self.drho), n)
        beyond = jnp.maximum(rho - last, 0.0) * (1.0 / self.drho)
        slope = F[species, n - 1, 1]
        return cubic(F.reshape(-1), 2 * k + species.astype(jnp.int32) * (2 * n), t) + slope * beyond

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["EAM", Params]:
        keep = np.array(subset(self.species, species))
        pairs = np.ix_(keep, keep)
        density = params["density"][pairs] if self.finnis_sinclair else params["density"][keep]
        sliced = {"embedding": params["embedding"][keep], "density": density, "pair": params["pair"][pairs]}
        return replace(self, species=tuple(species)), sliced
