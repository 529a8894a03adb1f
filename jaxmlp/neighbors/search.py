"""Neighbour search inside jit: linear cost, any cell shape, any periodicity, cells of any size.

Atoms are sorted into bins of a grid in fractional coordinates. An atom's candidates are the atoms of a stencil of bins
around its own, as wide as the cutoff needs; where the stencil leaves a periodic cell, floor division gives both the bin
and the image shift, so that a cell much smaller than the cutoff is visited many times and needs no special case. A
single bin (grid 1 x 1 x 1) is the exhaustive search.

Which candidates are neighbours is kept as bits, 32 to a word, from which `bits.collect` makes the rows.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.geometry import heights, inverse, times
from jaxmlp.neighbors.bins import Bins
from jaxmlp.neighbors.bits import candidates, collect
from jaxmlp.neighbors.grid import Grid, choose_grid, count_images, count_neighbors


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["index", "reverse", "owner", "image", "R", "box", "overflow"],
    meta_fields=["shells"],
)
@dataclass(frozen=True)
class Neighbors:
    """Dense rows of neighbours, M slots each, pointing into a list of *sites*: the N atoms, moved home into the cell
    along periodic directions, then the periodic images that any of them can see, then one site for padded slots.

    With X = R[owner] + image @ box, r_ij = X[index] - X[i]: a step of dynamics needs one gather an edge, and no
    arithmetic with lattice vectors there (4 times faster for Lennard-Jones than an image shift on every edge).

    Args:
        index: (N, M) int32, the neighbour's site; `len(owner) - 1` in a padded slot.
        reverse: (N, M) int32, where the edge j -> i is kept: M j + m, its place in an array (N, M) of edges;
            -1 in a padded slot.
        owner: (sites,) int32, the atom each site is an image of.
        image: (sites, 3) int32, its integer lattice translation.
        R, box: positions (N, 3) and box (3, 3) or None the list was made for, Å.
        overflow: bool scalar, True where a capacity was too small: the list is then incomplete, and every energy
            computed from it is NaN.
        shells: ((radius, slots), ...): the first `slots` slots of each row hold all neighbours nearer than
            `radius` as long as the list is valid.
    """

    index: Array
    reverse: Array
    owner: Array
    image: Array
    R: Array
    box: Array | None
    overflow: Array
    shells: tuple[tuple[float, int], ...]

    @property
    def mask(self) -> Array:
        """(N, M) True where a slot holds a neighbour."""
        return self.index < len(self.owner) - 1

    @property
    def atoms(self) -> Array:
        """(N, M) the neighbour's atom index; 0 in padded slots."""
        return self.owner[self.index]

    @property
    def shift(self) -> Array:
        """(N, M, 3) integer image shifts, r_ij = R_j + shift @ box - R_i; 0 in padded slots."""
        shift = self.image[self.index] - self.image[: len(self.index), None]
        return jnp.where(self.mask[:, :, None], shift, 0)


@dataclass(frozen=True)
class NeighborSearch:
    """A neighbour search of fixed shape: `search(R, box) -> Neighbors` is pure and runs under jit and vmap.

    Args:
        pbc: periodic directions.
        shells: growing cutoffs, Å; the last one is the cutoff of the list. Edges of an inner shell come first in a row.
        capacities: neighbour slots reserved for each shell (those nearer are counted in the nearer shell).
        grid: bins of the search.
        ghosts: periodic images reserved.
        skin: Å by which the list reaches further than each cutoff.
    """

    pbc: tuple[bool, bool, bool]
    shells: tuple[float, ...]
    capacities: tuple[int, ...]
    grid: Grid
    ghosts: int = 0
    skin: float = 0.0

    @classmethod
    def allocate(
        cls,
        R,
        box,
        pbc: tuple[bool, bool, bool],
        shells: tuple[float, ...],
        *,
        skin: float = 0.0,
        headroom: float = 0.1,
        at_least: "NeighborSearch | None" = None,
    ) -> "NeighborSearch":
        """Choose grid and capacities for concrete positions, on the host.

        Args:
            R, box: (N, 3) and (3, 3) or None, Å.
            shells: growing cutoffs, Å.
            headroom: the capacities hold for a uniform linear compression of the system by this fraction.
            at_least: a search that overflowed at R; no capacity of the new one is smaller, and at least one is larger.

        Raises:
            ValueError: a cutoff, skin or headroom that is no sensible length.
        """
        shells = tuple(float(c) for c in shells)
        if not shells or not all(0 < c < np.inf for c in shells) or list(shells) != sorted(set(shells)):
            raise ValueError(f"neighbour cutoffs must be positive, finite and growing, in Å; got {shells}.")
        if not (skin >= 0 and headroom >= 0):
            raise ValueError(f"skin and headroom must not be negative; got skin={skin}, headroom={headroom}.")
        R = np.asarray(R, dtype=float)
        box = None if box is None else np.asarray(box, dtype=float)
        if not np.isfinite(R).all() or (box is not None and not np.isfinite(box).all()):
            raise ValueError("neighbours cannot be searched: positions or box contain NaN or infinite numbers.")
        reach = (shells[-1] + skin) * (1 + headroom)
        grid = choose_grid(R, box, pbc, reach, headroom)
        ghosts = count_images(R, box, pbc, reach)
        ghosts = ghosts + (int(headroom * ghosts) + 8 if ghosts else 0)
        # Under compression an inner shell takes neighbours from the outer one: each is counted at every stage.
        stages = np.linspace(1, 1 + headroom, 4 if headroom else 1)
        radii = [(c + skin) * f for f in stages for c in shells]
        counts = count_neighbors(R, box, pbc, radii).reshape(len(R), len(stages), len(shells))
        between = np.diff(counts, axis=2, prepend=0).max(axis=(0, 1))
        slots = [int(c) for c in between]
        if at_least is not None:
            slots, ghosts, grid = _enlarged(at_least, slots, ghosts, grid)
        total = max(-(-sum(slots) // 4) * 4, 4)
        slots[-1] += total - sum(slots)  # rows of whole SIMD words
        return cls(pbc, shells, tuple(slots), grid, ghosts, float(skin))

    def holds(self, other: "NeighborSearch") -> bool:
        """True where all capacities are at least those of another search on the same grid."""
        slots = all(a >= b for a, b in zip(np.cumsum(self.capacities), np.cumsum(other.capacities)))
        grid = self.grid.shape == other.grid.shape and self.grid.capacity >= other.grid.capacity
        return slots and grid and self.ghosts >= other.ghosts

    @property
    def slots(self) -> tuple[tuple[float, int], ...]:
        """((radius, slots), ...) as in `Neighbors.shells`."""
        return tuple(zip(self.shells, np.cumsum(self.capacities).tolist()))

    def __call__(self, R: Array, box: Array | None) -> Neighbors:
        """Return the neighbours of R (N, 3) Å in box (3, 3) Å. No derivative passes through."""
        R = lax.stop_gradient(jnp.asarray(R))
        box = None if box is None else lax.stop_gradient(jnp.asarray(box))
        cell = jnp.eye(3, dtype=R.dtype) if box is None else box.astype(R.dtype)
        bins, radii = Bins(self.grid, self.pbc), [c + self.skin for c in self.shells]
        place, images, fits = bins.assign(R, cell, radii[-1])
        table, slot, crowded = bins.fill(place)
        home = R - images.astype(R.dtype) @ cell  # inside the cell along periodic directions
        bits = candidates(bins, home, cell, table, radii)  # (shells, bins * capacity, words)
        row = bins.ravel(place) * self.grid.capacity + jnp.minimum(slot, self.grid.capacity - 1)
        bits = bits[:, row]  # to atom order
        owner, image, site_of, many = self._sites(home, cell, images)
        nowhere = len(owner) - 1
        index, reverse, full = collect(bins, bits, (place, slot), table, site_of, nowhere, self.capacities)
        overflow = crowded | full | many | ~fits
        return Neighbors(index, reverse, owner, image, R, box, overflow, self.slots)

    def update(self, neighbors: Neighbors, R: Array, box: Array | None) -> Neighbors:
        """Return `neighbors` where it still holds for R and box, else a new list.

        The list holds as long as no pair can have come nearer than a cutoff without being in it: atoms moved, relative
        to a homogeneous deformation F of the reference positions, by at most d with (cutoff + 2 d) / s <= cutoff +
        skin, s the smallest singular value of F (1/s is bounded by 1 + |F^-1 - 1|). An overflowed list is kept, so that
        the driver finds the positions for which it overflowed.
        """
        R, box = lax.stop_gradient((R, box))

        def build(carry):
            return self(R, box), jnp.zeros_like(carry[1])

        # A loop of at most one turn: a cond copies the list it hands through, and under vmap computes both branches.
        stale = self.stale(neighbors, R, box) & ~neighbors.overflow
        return lax.while_loop(lambda carry: carry[1], build, (neighbors, stale))[0]

    def stale(self, neighbors: Neighbors, R: Array, box: Array | None) -> Array:
        """True where the list may miss a pair nearer than the cutoff; see `update`."""
        if box is None or neighbors.box is None:
            moved, stretch = R - neighbors.R, 1.0
        else:
            moved = R - times(neighbors.R, inverse(neighbors.box) @ box)
            back = inverse(box) @ neighbors.box
            stretch = 1.0 + jnp.linalg.norm(back - jnp.eye(3, dtype=R.dtype))
        d = jnp.sqrt(jnp.max(jnp.sum(moved * moved, axis=1)))
        return ~((self.shells[-1] + 2 * d) * stretch <= self.shells[-1] + self.skin)  # a NaN is stale: it overflows

    def _sites(self, home: Array, cell: Array, images: Array) -> tuple[Array, Array, Array, Array]:
        """List the atoms and the images within reach of the cell.

        Returns owner and image of every site (see `Neighbors`), the site (T, N) of every translation of every atom, and
        overflow.
        """
        n = len(home)
        atoms = jnp.arange(n, dtype=jnp.int32)
        if not any(self.pbc):
            nowhere = jnp.zeros((n + 1, 3), jnp.int32)
            return jnp.append(atoms, 0), nowhere, atoms[None], jnp.array(False)
        steps = Bins(self.grid, self.pbc).translations
        s = home @ jnp.linalg.inv(cell)
        margin = (self.shells[-1] + self.skin) / heights(cell) * (1 + 1e-6)
        low, high = jnp.min(s, axis=0) - margin, jnp.max(s, axis=0) + margin
        at = s[None] + jnp.asarray(steps, s.dtype)[:, None]
        seen = jnp.all((at >= low) & (at <= high), axis=2)
        seen = seen.at[len(steps) // 2].set(False).ravel()  # the atoms themselves come first
        place = jnp.cumsum(seen, dtype=jnp.int32) - 1
        site_of = jnp.where(seen & (place < self.ghosts), n + place, n + self.ghosts)
        site_of = site_of.reshape(len(steps), n).at[len(steps) // 2].set(atoms)
        chosen = jnp.searchsorted(place, jnp.arange(self.ghosts, dtype=jnp.int32)).astype(jnp.int32)
        chosen = jnp.minimum(chosen, len(place) - 1)  # unused places repeat an image that no edge points to
        ghost_owner = chosen % n
        owner = jnp.concatenate([atoms, ghost_owner, jnp.zeros(1, jnp.int32)])
        ghost_image = jnp.asarray(steps)[chosen // n] - images[ghost_owner]
        image = jnp.concatenate([-images, ghost_image, jnp.zeros((1, 3), jnp.int32)])
        return owner, image, site_of, place[-1] >= self.ghosts


def _enlarged(old: NeighborSearch, slots: list[int], ghosts: int, grid: Grid) -> tuple[list[int], int, Grid]:
    """Capacities that hold what was counted and nowhere less than before; all grow where the count explains nothing."""
    explained = ghosts > old.ghosts or grid.capacity > old.grid.capacity or grid.shape != old.grid.shape
    explained = explained or any(new > c for new, c in zip(slots, old.capacities))
    growth = 1.0 if explained else 1.2
    slots = [max(new, math.ceil(growth * c)) for new, c in zip(slots, old.capacities)]
    ghosts = max(ghosts, math.ceil(growth * old.ghosts))
    return slots, ghosts, replace(grid, capacity=max(grid.capacity, math.ceil(growth * old.grid.capacity)))
