"""A Deep Potential that goes over into a tabulated pair repulsion where atoms come close."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.cutoffs import polynomial_core
from jaxmlp.basis.deepmd_environment import kept
from jaxmlp.basis.edges import length
from jaxmlp.basis.species import subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.deepmd import DeepPotential


@dataclass(frozen=True)
class DeepZBL(Potential):
    """E_i = omega_i 1/2 sum_j v(r_ij) + (1 - omega_i) E_i^deep, plus biases.

    omega_i = 1 - 10 u^3 + 15 u^4 - 6 u^5 (1 below, 0 above) of u = (sigma_i - sw_rmin) / (sw_rmax - sw_rmin), with the
    smooth minimum sigma_i = sum_j r e^(-r/alpha) / sum_j e^(-r/alpha) over the neighbours. v is piecewise cubic. Wang
    et al., Appl. Phys. Lett. 114, 244101 (2019), as in deepmd-kit; v ends with the step it has at the cutoff.

    Parameters: "deep", those of the network; "table" (S, S, rows, 4), v = ((a3 y + a2) y + a1) y + a0, y in [0, 1) of
    each row; "table_bias" and "bias" (S,) eV, added to the pair energy and to the sum.

    Args:
        deep: the network's potential.
        reach: Å, where v ends.
        start, step: Å, distance of the first row and its width.
        rows: of the table.
        sw_rmin, sw_rmax: Å.
        alpha: Å.
        sel: neighbours taken into account.
    """

    deep: DeepPotential
    reach: float
    start: float
    step: float
    rows: int
    sw_rmin: float
    sw_rmax: float
    alpha: float
    sel: int

    def __post_init__(self):
        if not (self.reach > 0 and self.start >= 0 and self.step > 0 and self.alpha > 0 and self.rows > 0):
            raise ValueError("DeepZBL needs positive reach, step, alpha and rows, and start >= 0.")
        if not 0 <= self.sw_rmin < self.sw_rmax or self.sel < 1:
            raise ValueError(f"DeepZBL needs 0 <= sw_rmin < sw_rmax in Å; got {self.sw_rmin} and {self.sw_rmax}.")

    @property
    def species(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.deep.species

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Å, the larger of both."""
        return max(self.deep.cutoff, self.reach)

    @property
    def shells(self) -> tuple[float, ...]:
        return tuple(sorted({*self.deep.shells, self.reach}))

    @property
    def block(self) -> int:  # type: ignore[override]
        return self.deep.block

    def init(self, key: Array, dtype=float) -> Params:
        """Draw the network's parameters; the table is zero."""
        s = len(self.species)
        return {
            "deep": self.deep.init(key, dtype),
            "table": jnp.zeros((s, s, self.rows, 4), dtype),
            "table_bias": jnp.zeros(s, dtype),
            "bias": jnp.zeros(s, dtype),
        }

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        graph = graph.within(self.cutoff)
        r = length(*graph.planes)
        on = kept(r < self.cutoff, r, graph.neighbor_species, (self.sel,), self.sel)
        omega = self._weight(r, on)
        pair = 0.5 * jnp.sum(self._pairs(params, graph, r, on), axis=1) + params["table_bias"][graph.species]
        deep = self.deep.site_energies(params["deep"], graph)
        return omega * pair + (1.0 - omega) * deep + params["bias"][graph.species]

    def _weight(self, r: Array, on: Array) -> Array:
        """omega of every atom, 0 without neighbours."""
        nearest = lax.stop_gradient(jnp.min(r, axis=1, keepdims=True))  # changes no ratio, and nothing underflows
        weight = jnp.where(on, jnp.exp(jnp.where(on, (nearest - r) / self.alpha, 0.0)), 0.0)
        total = jnp.sum(weight, axis=1)
        some = total > 0
        sigma = jnp.sum(jnp.where(on, r, 0.0) * weight, axis=1) / jnp.where(some, total, 1.0)
        u = (sigma - self.sw_rmin) / (self.sw_rmax - self.sw_rmin)
        return jnp.where(some, polynomial_core(jnp.clip(u, 0.0, 1.0), 2), 0.0)

    def _pairs(self, params: Params, graph: Graph, r: Array, on: Array) -> Array:
        """v of every edge, (n, M)."""
        s = len(self.species)
        x = (r - self.start) / self.step
        row = jnp.floor(lax.stop_gradient(x))
        on = on & (r < self.reach) & (row < self.rows)
        k = jnp.clip(row, 0, self.rows - 1).astype(jnp.int32)
        place = (graph.species[:, None] * s + graph.neighbor_species) * self.rows + k
        a3, a2, a1, a0 = (params["table"][..., q].reshape(-1)[place] for q in range(4))
        y = jnp.where(on, x - row, 0.0)
        return jnp.where(on, ((a3 * y + a2) * y + a1) * y + a0, 0.0)

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the descriptors of the network, (n, D)."""
        return self.deep.descriptors(params["deep"], graph)

    def linear_parameters(self, params: Params) -> Params:
        """Return the network's, the table and the biases."""
        return params | {"deep": self.deep.linear_parameters(params["deep"])}

    @property
    def conditions(self) -> tuple[str, ...]:
        return self.deep.conditions

    def conditioned(self, params: Params, fparam=None, aparam=None, atoms: int | None = None) -> Params:
        """Return `params` with the network's frame and atomic parameters; see `Potential.conditioned`."""
        return params | {"deep": self.deep.conditioned(params["deep"], fparam, aparam, atoms)}

    def compress(self, params: Params, **options) -> tuple["DeepZBL", Params]:
        """Return the potential with the network compressed; see `DeepPotential.compress`."""
        deep, p = self.deep.compress(params["deep"], **options)
        return replace(self, deep=deep), params | {"deep": p}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["DeepZBL", Params]:
        """Return the potential and parameters for some of its species."""
        keep = np.array(subset(self.species, species))
        deep, p = self.deep.restrict(params["deep"], species)
        new = {"deep": p, "table": params["table"][keep][:, keep]}
        return replace(self, deep=deep), new | {q: params[q][keep] for q in ("table_bias", "bias")}
