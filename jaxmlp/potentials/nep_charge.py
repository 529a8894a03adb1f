"""Charge-aware NEP (qNEP): the network also predicts the atom's charge, and charges interact by Coulomb's law."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials import coulomb
from jaxmlp.potentials.nep import NEP
from jaxmlp.system import System

_COULOMB = 14.399645  # eV Å; the format's own digits, so that energies agree with the original code


@dataclass(frozen=True)
class NEPCharge(NEP):
    """E = sum_i U_i + E_C(q), q_i = w1_charge . h_i less the mean over the system, h_i the hidden layer of U_i.

    Fan et al., J. Chem. Theory Comput. 22, 4787 (2026) (qNEP). With alpha = pi / rc, rc the radial cutoff:

        mode 1: Ewald's sum: reciprocal part for 0 < |k| < 2 pi alpha (not converged, by definition), real part for
                r < rc, self energy
        mode 2: its reciprocal part alone
        mode 3: real part alone, erfc(alpha r)/r + A r + B, which ends at rc with value and slope zero

    The cell is periodic in all three directions whatever the system's pbc. Further parameters: w1_charge (S', H),
    sqrt_epsilon (), the root of the electronic dielectric constant, which only scales Born effective charges.

    Args:
        mode: 1, 2 or 3.
        k_max: largest integers of the k vectors (modes 1, 2), set by `for_box`; where the box needs more, energies are
            NaN.
    """

    mode: int = 1
    k_max: tuple[int, int, int] | None = None

    local: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.mode not in (1, 2, 3):
            raise ValueError(f"NEPCharge.mode must be 1, 2 or 3; got {self.mode}.")
        if len(set(self.radial_cutoffs)) > 1:
            raise ValueError(f"NEPCharge takes one radial cutoff for all species; got {self.radial_cutoffs}.")

    @property
    def kind(self) -> str:
        return f"_charge{self.mode}"

    @property
    def alpha(self) -> float:
        """1/Å, inverse width of the screening Gaussians."""
        return math.pi / self.radial_cutoffs[0]

    def _neutral(self, raw: Array, graph: Graph) -> Array:
        """The charges less their mean over the system; zero for atoms that only pad it."""
        mean = jnp.sum(graph.existing(raw)) / jnp.sum(graph.existing(jnp.ones_like(raw)))
        return graph.existing(raw - mean)

    def for_box(self, box: np.ndarray, margin: float = 0.1) -> "NEPCharge":
        """Return the potential with k_max for this box (Å, rows are lattice vectors), up to `margin` longer."""
        return replace(self, k_max=coulomb.k_bounds(box, 2 * math.pi * self.alpha, margin))

    def for_boxes(self, boxes: Sequence[np.ndarray | None]) -> "NEPCharge":
        """Return the potential with a k_max that does for all of these boxes, without a margin.

        Raises:
            ValueError: a system without a box, in modes 1 and 2.
        """
        if self.mode == 3:
            return self
        if any(box is None for box in boxes):
            raise ValueError(f"a NEPCharge of mode {self.mode} sums over k vectors: every system needs a box.")
        bounds = [coulomb.k_bounds(box, 2 * math.pi * self.alpha) for box in boxes if box is not None]
        bounds += [] if self.k_max is None else [self.k_max]
        return replace(self, k_max=tuple(map(max, zip(*bounds))))

    def for_system(self, system: System) -> "NEPCharge":
        """Return the potential with k_max for the system's cell, where it has none."""
        if self.mode == 3 or self.k_max is not None:
            return self
        if system.box is None:
            raise ValueError(f"a NEPCharge of mode {self.mode} sums over k vectors: the system needs a box.")
        return self.for_box(system.box)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters as `NEP.init` does, with small charges."""
        first, second = jax.random.split(key)
        params = super().init(first, dtype)
        w = 0.1 * super().init(second, dtype)["w1"]
        return params | {"w1_charge": w, "sqrt_epsilon": jnp.ones((), dtype)}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (N,) eV: its network's and its half of every Coulomb pair."""
        h = self.hidden(params, self.descriptors(params, graph), graph.species)
        raw = self.output(params["w1_charge"], h, graph.species)
        q = self._neutral(raw, graph)
        return self.finish(params, self.output(params["w1"], h, graph.species), graph) + self._coulomb(q, graph)

    def _coulomb(self, q: Array, graph: Graph) -> Array:
        """Return each charge's half of its Coulomb interactions, (N,) eV."""
        energy = jnp.zeros_like(q)
        if self.mode in (1, 2):
            if graph.box is None or self.k_max is None:
                raise ValueError(
                    "a NEPCharge of mode 1 or 2 sums over k vectors: it needs a periodic cell, and "
                    "potential.for_box(box) before it is evaluated."
                )
            energy = coulomb.reciprocal_energies(
                q, graph.R, graph.box, self.alpha, 2 * math.pi * self.alpha, self.k_max
            )
        if self.mode in (1, 3):
            rc = self.radial_cutoffs[0]
            near = graph.within(rc)
            r = near.distances
            inside = (r < rc) & near.mask
            r = jnp.where(inside, r, rc)
            kernel = coulomb.screened(r, self.alpha)
            if self.mode == 3:
                a = math.erfc(math.pi) / rc**2 + 2 * self.alpha / math.sqrt(math.pi) * math.exp(-(math.pi**2)) / rc
                kernel = kernel + a * r - (math.erfc(math.pi) / rc + a * rc)
            energy = energy + 0.5 * q * jnp.sum(jnp.where(inside, kernel * near.gather(q), 0.0), axis=1)
        if self.mode == 1:
            energy = energy + coulomb.self_energies(q, self.alpha)
        return _COULOMB * energy

    def charges(self, params: Params, graph: Graph) -> Array:
        """Return the charge of every atom, (N,) e; they sum to zero."""
        raw = self._raw_charges(params, graph)
        return self._neutral(raw, graph)

    def dipoles(self, params: Params, graph: Graph) -> Array:
        """Return sqrt(eps) q_i R_i, (N, 3) e Å, whose sum is the dipole of a system of whole molecules.

        The factor is that of the Born effective charges: the q_i are charges that the electrons' polarization screens.
        As the charges sum to zero, the origin does not matter; which image of an atom R holds does.
        """
        return params["sqrt_epsilon"] * self.charges(params, graph)[:, None] * graph.R

    def _raw_charges(self, params: Params, graph: Graph) -> Array:
        h = self.hidden(params, self.descriptors(params, graph), graph.species)
        return self.output(params["w1_charge"], h, graph.species)

    def born_effective_charges(self, params: Params, graph: Graph) -> Array:
        """Return Z_i = dP/dR_i, (N, 3, 3) e, first index the polarization.

        Z_i = sqrt(eps) [q_i 1 + sum_j (B_ij - B_ji)], B_ij = r_ij (x) dq_i/dr_ij / 2 (without the mean there).
        """
        raw, pull = jax.vjp(lambda planes: self._raw_charges(params, replace(graph, planes=planes)), graph.planes)
        gradient = jnp.stack(pull(jnp.ones_like(raw))[0], axis=1)  # (N, 3, M)
        pairs = 0.5 * graph.vectors[:, :, None] * gradient[:, None]  # (N, 3, 3, M)
        Z = self._neutral(raw, graph)[:, None, None] * jnp.eye(3, dtype=raw.dtype) + pairs.sum(-1)
        Z = Z.at[graph.neighbors].add(-pairs.transpose(0, 3, 1, 2))  # padded slots add exact zeros
        return params["sqrt_epsilon"] * Z
