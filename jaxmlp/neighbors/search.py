"""Neighbour search inside jit: linear cost, any cell shape, any periodicity, cells of any size.

Atoms are sorted into bins of a grid in fractional coordinates. An atom's candidates are the atoms of a stencil of bins
around its own, as wide as the cutoff needs; where the stencil leaves a periodic cell, floor division gives both the bin
and the image shift, so that a cell much smaller than the cutoff is visited many times and needs no special case. A
single bin (grid 1 x 1 x 1) is the exhaustive search.

Which candidates are neighbours is kept as bits, 32 to a word. The m-th neighbour is then the m-th set bit, found with
population counts: no sort and no scatter. The candidate number of i in the list of its neighbour j is known from the
opposite stencil offset, so the reverse slot of every edge is a population count too.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.geometry import heights
from jaxmlp.neighbors.grid import Grid, choose_grid, count_images, count_neighbors

_FAR = 1e6  # Å; coordinate of the empty slots of a bin, far from every atom


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

    @property
    def slots(self) -> tuple[tuple[float, int], ...]:
        """((radius, slots), ...) as in `Neighbors.shells`."""
        return tuple(zip(self.shells, np.cumsum(self.capacities).tolist()))

    def __call__(self, R: Array, box: Array | None) -> Neighbors:
        """Return the neighbours of R (N, 3) Å in box (3, 3) Å. No derivative passes through."""
        R = lax.stop_gradient(jnp.asarray(R))
        box = None if box is None else lax.stop_gradient(jnp.asarray(box))
        cell = jnp.eye(3, dtype=R.dtype) if box is None else box.astype(R.dtype)
        bins, images, fits = self._assign(R, cell)
        table, slot, crowded = self._fill(bins)
        home = R - images.astype(R.dtype) @ cell  # inside the cell along periodic directions
        bits = self._candidates(home, cell, table)  # (shells, bins * capacity, words)
        row = self._ravel(bins) * self.grid.capacity + jnp.minimum(slot, self.grid.capacity - 1)
        bits = bits[:, row]  # to atom order
        owner, image, site_of, many = self._sites(home, cell, images)
        index, reverse, full = self._collect(bits, bins, slot, table, site_of, len(owner) - 1)
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
            moved = R - neighbors.R @ jnp.linalg.solve(neighbors.box, box)
            back = jnp.linalg.solve(box, neighbors.box)
            stretch = 1.0 + jnp.linalg.norm(back - jnp.eye(3, dtype=R.dtype))
        d = jnp.sqrt(jnp.max(jnp.sum(moved * moved, axis=1)))
        return ~((self.shells[-1] + 2 * d) * stretch <= self.shells[-1] + self.skin)  # a NaN is stale: it overflows

    def _assign(self, R: Array, cell: Array) -> tuple[Array, Array, Array]:
        """Return each atom's bin (N, 3), the cell images (N, 3) it is away from home, and whether the grid fits."""
        reach = self.shells[-1] + self.skin
        height = heights(cell)
        s = R @ jnp.linalg.inv(cell)
        bins, images, fits = [], [], jnp.array(True)
        for k, (n, w, periodic) in enumerate(zip(self.grid.shape, self.grid.reach, self.pbc)):
            if periodic:
                image = jnp.floor(s[:, k])
                b = jnp.floor((s[:, k] - image) * n)
                fits &= w * height[k] >= reach * n
            else:
                image = jnp.zeros_like(s[:, k])
                start = jnp.min(s[:, k])
                # Bins stretch with the atoms' extent and are never narrower than the stencil needs.
                width = jnp.maximum((jnp.max(s[:, k]) - start) / n, reach / (height[k] * max(w, 1)))
                b = jnp.floor((s[:, k] - start) / (width * (1 + 1e-6)))
            bins.append(jnp.clip(b, 0, n - 1).astype(jnp.int32))
            images.append(image.astype(jnp.int32))
        return jnp.stack(bins, 1), jnp.stack(images, 1), fits & jnp.all(jnp.isfinite(R))

    def _ravel(self, bins: Array) -> Array:
        _, ny, nz = self.grid.shape
        return (bins[..., 0] * ny + bins[..., 1]) * nz + bins[..., 2]

    def _fill(self, bins: Array) -> tuple[Array, Array, Array]:
        """Return the atoms of every bin (bins + 1, capacity; N where empty), each atom's slot, and overflow."""
        n, capacity = len(bins), self.grid.capacity
        n_bins = int(np.prod(self.grid.shape))
        flat = self._ravel(bins)
        order = jnp.argsort(flat, stable=True).astype(jnp.int32)
        ordered = flat[order]
        first = jnp.searchsorted(ordered, jnp.arange(n_bins, dtype=jnp.int32)).astype(jnp.int32)
        place = jnp.arange(n, dtype=jnp.int32) - first[ordered]
        slot = jnp.zeros(n, jnp.int32).at[order].set(place)
        # The extra row is the empty bin outside a non-periodic direction.
        table = jnp.full((n_bins + 1, capacity), n, jnp.int32).at[ordered, place].set(order, mode="drop")
        return table, slot, jnp.max(place) >= capacity

    def _stencil(self, bins: Array, offsets: Array) -> tuple[Array, Array]:
        """Return the flat bin at each offset from `bins`, and the image shift that leads there.

        Outside a non-periodic direction that is the empty bin. bins (..., 3) and offsets (..., 3) broadcast.
        """
        place, shift, inside = [], [], jnp.array(True)
        for k, (n, periodic) in enumerate(zip(self.grid.shape, self.pbc)):
            target = bins[..., k] + offsets[..., k]
            if periodic:
                turns = -(-self.grid.reach[k] // n)  # keeps the dividend positive, where integer division is fast
                image = lax.div(target + turns * n, jnp.int32(n)) - turns
                target = target - image * n
            else:
                image = jnp.zeros_like(target)
                inside = inside & (target >= 0) & (target < n)
            place.append(target)
            shift.append(image)
        empty = int(np.prod(self.grid.shape))
        return jnp.where(inside, self._ravel(jnp.stack(place, -1)), empty), jnp.stack(shift, -1)

    def _candidates(self, home: Array, cell: Array, table: Array) -> Array:
        """Test every atom against its stencil: bits (shells, bins * capacity, words) uint32.

        Candidate k is bit k // words of word k % words, so that packing runs along whole rows of words.
        """
        offsets = jnp.asarray(self.grid.offsets)
        capacity = self.grid.capacity
        k = len(self.grid.offsets) * capacity
        words = -(-k // 32)
        itself = (len(self.grid.offsets) // 2) * capacity + np.arange(capacity)
        others = np.full((capacity, words), 0xFFFFFFFF, dtype=np.uint32)
        others[np.arange(capacity), itself % words] ^= np.uint32(1) << (itself // words).astype(np.uint32)
        places = jnp.concatenate([home, jnp.full((1, 3), _FAR, home.dtype)])
        planes = [places[:, axis] for axis in range(3)]
        radii2 = [(c + self.skin) ** 2 for c in self.shells]

        def one_bin(bin):
            target, shift = self._stencil(bin, offsets)
            step = jnp.repeat(shift.astype(cell.dtype) @ cell, capacity, axis=0)
            step = jnp.pad(step, ((0, 32 * words - k), (0, 0))).T.reshape(3, 32, words)
            theirs = jnp.pad(table[target].ravel(), (0, 32 * words - k), constant_values=len(home)).reshape(32, words)
            ours = table[self._ravel(bin)]
            # Fused into the pairs, the gathers would be repeated for each of them.
            near_by, centers = lax.optimization_barrier(([x[theirs] for x in planes], [x[ours] for x in planes]))
            bits = [jnp.zeros((capacity, words), jnp.uint32) for _ in radii2]
            for bit in range(32):
                r2 = jnp.zeros((capacity, words), home.dtype)
                for axis in range(3):
                    # (R_j - R_i) + shift: exactly the negative of what j finds for i, so that the lists are symmetric.
                    d = (near_by[axis][bit] - centers[axis][:, None]) + step[axis, bit]
                    r2 += d * d
                for s, radius2 in enumerate(radii2):
                    bits[s] |= jnp.where(r2 < radius2, jnp.uint32(1 << bit), jnp.uint32(0))
            inner = [jnp.zeros((), jnp.uint32), *bits[:-1]]
            return jnp.stack([(b ^ i) & jnp.asarray(others) for b, i in zip(bits, inner)])

        grid = np.array(list(np.ndindex(*self.grid.shape)), dtype=np.int32)
        bits = lax.map(one_bin, jnp.asarray(grid), batch_size=_batch(len(grid), capacity * words * 32))
        return jnp.swapaxes(bits, 0, 1).reshape(len(self.shells), -1, words)

    @property
    def _translations(self) -> np.ndarray:
        """(T, 3) lattice translations that the stencil can reach; the middle one is zero."""
        reach = [-(-w // n) if p else 0 for w, n, p in zip(self.grid.reach, self.grid.shape, self.pbc)]
        return np.array(list(product(*(range(-q, q + 1) for q in reach))), dtype=np.int32)

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
        steps = self._translations
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

    def _collect(
        self, bits: Array, bins: Array, slot: Array, table: Array, site_of: Array, nowhere: int
    ) -> tuple[Array, Array, Array]:
        """Turn each atom's bits (shells, N, words) into rows: index, reverse, and overflow."""
        n, capacity, width = len(bins), self.grid.capacity, sum(self.capacities)
        offsets = jnp.asarray(self.grid.offsets)
        steps = self._translations
        stride = np.array([np.ptp(steps[:, 1]) + 1, 1]) * (np.ptp(steps[:, 2]) + 1)
        words = bits.shape[-1]
        count = lax.population_count(bits).astype(jnp.int32)
        upto = jnp.cumsum(count, axis=-1)
        before = upto - count
        full = jnp.any(jnp.max(upto[:, :, -1], axis=1) > jnp.asarray(self.capacities, jnp.int32))

        def one_atom(i):
            index, reverse, start = [], [], 0
            for s, slots in enumerate(self.capacities):
                m = jnp.arange(slots, dtype=jnp.int32)
                candidate = _set_bit(bits[s, i], upto[s, i], before[s, i], m)
                offset = lax.div(candidate, jnp.int32(capacity))
                target, step = self._stencil(bins[i], offsets[offset])
                j = table[target, candidate - offset * capacity]
                ok = (m < upto[s, i, -1]) & (j < n)
                j = jnp.where(ok, j, 0)
                code = step[:, 0] * int(stride[0]) + step[:, 1] * int(stride[1]) + step[:, 2] + len(steps) // 2
                index.append(jnp.where(ok, site_of[code, j], nowhere))
                # Seen from j, the same edge leads through the opposite offset to our slot.
                back = (len(self.grid.offsets) - 1 - offset) * capacity + slot[i]
                bit = lax.div(back, jnp.int32(words))
                place = back - bit * words
                word = bits[s, j, place]
                bit = bit.astype(jnp.uint32)
                below = word & ((jnp.uint32(1) << bit) - jnp.uint32(1))
                rank = before[s, j, place] + lax.population_count(below).astype(jnp.int32)
                known = ok & ((word >> bit) & jnp.uint32(1) == 1) & (rank < slots)
                reverse.append(jnp.where(known, width * j + start + rank, -1))
                start += slots
            return jnp.concatenate(index), jnp.concatenate(reverse)

        atoms = jnp.arange(n, dtype=jnp.int32)
        index, reverse = lax.map(one_atom, atoms, batch_size=_batch(n, 64 * width))
        return index, reverse, full


def _enlarged(old: NeighborSearch, slots: list[int], ghosts: int, grid: Grid) -> tuple[list[int], int, Grid]:
    """Capacities that hold what was counted and nowhere less than before; all grow where the count explains nothing."""
    explained = ghosts > old.ghosts or grid.capacity > old.grid.capacity or grid.shape != old.grid.shape
    explained = explained or any(new > c for new, c in zip(slots, old.capacities))
    growth = 1.0 if explained else 1.2
    slots = [max(new, math.ceil(growth * c)) for new, c in zip(slots, old.capacities)]
    ghosts = max(ghosts, math.ceil(growth * old.ghosts))
    return slots, ghosts, replace(grid, capacity=max(grid.capacity, math.ceil(growth * old.grid.capacity)))


def _batch(n: int, size: int) -> int:
    """Rows a step of `lax.map`: all on an accelerator within its memory, a cache's worth on a CPU."""
    budget = 1 << 16 if jax.default_backend() == "cpu" else 1 << 28
    return max(1, min(n, budget // max(size, 1)))


def _set_bit(bits: Array, upto: Array, before: Array, m: Array) -> Array:
    """Return the candidate of the m-th set bit in a row of 32-bit words, counting from 0; see `_candidates`.

    bits, upto, before: (words,), the words and the numbers of bits set up to the end and the start of each.
    """
    word = jnp.sum(upto[:, None] <= m[None, :], axis=0, dtype=jnp.int32)
    word = jnp.minimum(word, len(bits) - 1)
    x, rank = bits[word], m - before[word]
    position = jnp.zeros_like(word)
    for half in (16, 8, 4, 2, 1):
        low = lax.population_count(x & jnp.uint32((1 << half) - 1)).astype(jnp.int32)
        upper = rank >= low
        rank = jnp.where(upper, rank - low, rank)
        x = jnp.where(upper, x >> half, x)
        position = jnp.where(upper, position + half, position)
    return position * len(bits) + word
