"""The geometry a potential sees: dense, padded rows of neighbours with the neighbour axis last."""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["species", "planes", "neighbors", "neighbor_species", "mask", "R", "box", "exists", "index", "back"],
    meta_fields=["shells"],
)
@dataclass(frozen=True)
class Graph:
    """Rows of neighbours of n atoms: the whole system (n = N), or one block of it for a local potential.

    A slot that holds no neighbour is *padded*: its vector is longer than every cutoff, its mask is False, its species
    is 0 and its neighbour index is 0, so that functions that vanish at the cutoff need no mask.

    Args:
        species: (n,) index of each atom into `potential.species`.
        planes: three (n, M) Å, the components x, y, z of the vectors from each atom to its neighbours,
            r_ij = R_j + shift @ box - R_i. `vectors` stacks them to (n, 3, M); the planes are faster.
        neighbors: (n, M) atom index of each neighbour, into the whole system.
        neighbor_species: (n, M) species index of each neighbour.
        mask: (n, M) True where a slot holds a neighbour.
        R: (N, 3) Å, positions of the whole system.
        box: (3, 3) Å, rows are the lattice vectors, or None.
        shells: ((radius, slots), ...) with growing radius: the first `slots` slots of a row hold all neighbours
            nearer than `radius`; the last entry covers the row.
        exists: (n,) False for atoms that only pad the system, or None where none does. The caller drops their energies;
            sums over all atoms (in a potential that is not local) have to leave them out, see `existing`.
        index: (n,) place of each atom in the whole system, for parameters of single atoms; beyond N - 1 for atoms that
            only pad it. None where a graph was made by hand for all atoms in order.
        back: (n, M) slot, in the neighbour's row, of the same edge seen from there; -1 in a padded slot. None where a
            graph was made without.
    """

    species: Array
    planes: tuple[Array, Array, Array]
    neighbors: Array
    neighbor_species: Array
    mask: Array
    R: Array
    box: Array | None
    shells: tuple[tuple[float, int], ...] = field(default=())
    exists: Array | None = None
    index: Array | None = None
    back: Array | None = None

    def existing(self, x: Array) -> Array:
        """Return per-atom values x (n, ...) with zeros for atoms that only pad the system."""
        if self.exists is None:
            return x
        return jnp.where(self.exists.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype))

    def within(self, cutoff: float) -> "Graph":
        """Return the graph of the leading slots that hold every neighbour nearer than `cutoff` (Å)."""
        for radius, slots in self.shells:
            if radius >= cutoff:
                keep = slice(0, slots)
                return replace(
                    self,
                    planes=tuple(x[:, keep] for x in self.planes),
                    neighbors=self.neighbors[:, keep],
                    neighbor_species=self.neighbor_species[:, keep],
                    mask=self.mask[:, keep],
                    back=None if self.back is None else self.back[:, keep],
                    shells=tuple(s for s in self.shells if s[1] <= slots),
                )
        raise ValueError(f"this graph holds neighbours up to {self.shells[-1][0]} Å; {cutoff} Å was asked for.")

    def gather(self, features):
        """Return per-atom `features`, arrays (N, ...), at the neighbours, arrays (n, M, ...); those of atom 0 in padded
        slots."""
        return jax.tree.map(lambda x: x.at[self.neighbors].get(mode="promise_in_bounds"), features)

    @property
    def vectors(self) -> Array:
        """r_ij, (n, 3, M) Å, from each atom to its neighbours."""
        return jnp.stack(self.planes, axis=1)

    @property
    def squared_distances(self) -> Array:
        """r_ij^2, (n, M) Å^2; padded slots are longer than the cutoff."""
        x, y, z = self.planes
        return x * x + y * y + z * z

    @property
    def distances(self) -> Array:
        """r_ij, (n, M) Å; padded slots are longer than the cutoff."""
        return jnp.sqrt(self.squared_distances)
