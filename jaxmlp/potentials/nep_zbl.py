"""The screened nuclear repulsion (Ziegler-Biersack-Littmark) as NEP files define it."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.species import pair_table
from jaxmlp.neighbors.graph import Graph

# The format's own constants, kept to its digits so that results agree: e^2/(4 pi eps0) in eV Å, 1/(0.8854 a_0) in 1/Å.
_COULOMB = 14.399645
_SCREENING = 2.134563
_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
_DECAYS = (3.1998, 0.94229, 0.4029, 0.20162)

# Covalent radii of DFT-D3 (Grimme et al., J. Chem. Phys. 132, 154104 (2010)) before their factor 4/3, H to Pu, in Å.
_COVALENT = (
    0.32, 0.46, 1.20, 0.94, 0.77, 0.75, 0.71, 0.63, 0.64, 0.67, 1.40, 1.25, 1.13, 1.04, 1.10, 1.02, 0.99, 0.96, 1.76,
    1.54, 1.33, 1.22, 1.21, 1.10, 1.07, 1.04, 1.00, 0.99, 1.01, 1.09, 1.12, 1.09, 1.15, 1.10, 1.14, 1.17, 1.89, 1.67,
    1.47, 1.39, 1.32, 1.24, 1.15, 1.13, 1.13, 1.08, 1.15, 1.23, 1.28, 1.26, 1.26, 1.23, 1.32, 1.31, 2.09, 1.76, 1.62,
    1.47, 1.58, 1.57, 1.56, 1.55, 1.51, 1.52, 1.51, 1.50, 1.49, 1.49, 1.48, 1.53, 1.46, 1.37, 1.31, 1.23, 1.18, 1.16,
    1.11, 1.12, 1.13, 1.32, 1.30, 1.30, 1.36, 1.31, 1.38, 1.42, 2.01, 1.81, 1.67, 1.58, 1.52, 1.53, 1.54, 1.55,
)  # fmt: skip


def covalent_radius(z: int) -> float:
    """Return the radius (Å) of the type-wise cutoff: 4/3 of the tabulated one, to 6 significant digits."""
    if not 1 <= z <= len(_COVALENT):
        raise ValueError(f"no covalent radius for atomic number {z}: the type-wise ZBL cutoff knows 1 to 94.")
    return float(f"{_COVALENT[z - 1] * 4 / 3:.6g}")


@dataclass(frozen=True)
class NEPZBL:
    """E = 1/2 sum_ij f(r) (K Z_i Z_j / r) sum_k a_k exp(-b_k x), x = r (Z_i^0.23 + Z_j^0.23) 2.134563.

    f is 1 up to r1, a cosine from r1 to r2, then 0. Universal: the universal a, b; r1 = inner, r2 = outer. With a
    `factor` (type-wise), r1 = 0 and r2 = min(factor (R_i + R_j), outer), R the covalent radii. Flexible: r1, r2, a and
    b of every unordered pair of species are parameters, (pairs, 10) = r1 r2 a1 b1 ... a4 b4; pairs (0,0), (0,1) ...

    Args:
        inner, outer: Å; not used by the flexible form.
        cutoff: Å, pairs beyond it are left out whatever r2 says: the largest angular cutoff of the file.
        factor: type-wise factor, or None.
        flexible: take the numbers from the parameters.
    """

    inner: float
    outer: float
    cutoff: float
    factor: float | None = None
    flexible: bool = False

    def __post_init__(self):
        if not self.flexible and not (0 <= self.inner < self.outer < float("inf")):
            raise ValueError(f"ZBL needs 0 <= inner < outer (Å); got {self.inner} and {self.outer}.")
        if self.factor is not None and not (0 < self.factor < float("inf") and not self.flexible):
            raise ValueError(
                f"the ZBL type-wise factor must be positive and excludes the flexible form; got {self.factor}."
            )

    @staticmethod
    def pair_index(count: int) -> np.ndarray:
        """Return the (S, S) symmetric table of positions in the list of unordered pairs."""
        index = np.zeros((count, count), dtype=int)
        i, j = np.triu_indices(count)
        index[i, j] = index[j, i] = np.arange(len(i))
        return index

    @staticmethod
    def universal_start(count: int, dtype) -> Array:
        """Return flexible parameters equal to the universal function, switched off between 1 and 2 Å."""
        numbers = [value for pair in zip(_AMPLITUDES, _DECAYS, strict=True) for value in pair]
        return jnp.tile(jnp.asarray([1.0, 2.0, *numbers], dtype), (count * (count + 1) // 2, 1))

    def ranges(self, species: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return r1 and r2 (S, S) of the universal forms."""
        shape = (len(species),) * 2
        if self.factor is None:
            return np.full(shape, self.inner), np.full(shape, self.outer)
        radii = np.array([covalent_radius(z) for z in species])
        return np.zeros(shape), np.minimum(self.factor * (radii[:, None] + radii), self.outer)


def zbl_energies(zbl: NEPZBL, pairs: Array | None, species: tuple[int, ...], graph: Graph) -> Array:
    """Return half of every pair energy summed for each atom, (n,) eV; `pairs` are the flexible parameters."""
    r = graph.distances
    inside = (r < zbl.cutoff) & graph.mask
    r = jnp.where(inside, r, zbl.cutoff)

    def table(values):
        return pair_table(values, graph.species, graph.neighbor_species, r.dtype)

    z = np.array(species, dtype=float)
    x = r * table((z[:, None] ** 0.23 + z**0.23) * _SCREENING)
    if zbl.flexible:
        assert pairs is not None, "flexible ZBL has parameters"
        index = jnp.asarray(zbl.pair_index(len(species)))[graph.species[:, None], graph.neighbor_species]
        r1, r2, *ab = (pairs[:, k][index] for k in range(10))
    else:
        r1, r2 = (table(values) for values in zbl.ranges(species))
        ab = [value for pair in zip(_AMPLITUDES, _DECAYS, strict=True) for value in pair]
    phi = sum(a * jnp.exp(-b * x) for a, b in zip(ab[::2], ab[1::2], strict=True))
    # A switch of zero width is a step at r1: the division is made safe and decided by the comparison.
    width = r2 - r1
    t = (r - r1) / jnp.where(width > 0, width, 1.0)
    switch = jnp.where(r < r1, 1.0, jnp.where(r < r2, 0.5 * jnp.cos(jnp.pi * jnp.clip(t, 0.0, 1.0)) + 0.5, 0.0))
    energy = switch * phi * table(_COULOMB * z[:, None] * z) / r
    return 0.5 * jnp.sum(jnp.where(inside, energy, 0.0), axis=1)
