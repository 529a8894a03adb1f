"""Sorting atoms into bins, and the bins around a bin, for cells of every shape and periodicity, inside jit."""

from dataclasses import dataclass
from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.geometry import heights
from jaxmlp.neighbors.grid import Grid


@dataclass(frozen=True)
class Bins:
    """A grid of bins in fractional coordinates of the cell.

    Args:
        grid: numbers of bins, width of the stencil, and atoms reserved per bin.
        pbc: periodic directions.
    """

    grid: Grid
    pbc: tuple[bool, bool, bool]

    def assign(self, R: Array, cell: Array, reach: float) -> tuple[Array, Array, Array]:
        """Return each atom's bin (N, 3), the cell images (N, 3) it is away from home, and whether the grid fits.

        It does where the stencil is wider than `reach` (Å).
        """
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

    def ravel(self, bins: Array) -> Array:
        _, ny, nz = self.grid.shape
        return (bins[..., 0] * ny + bins[..., 1]) * nz + bins[..., 2]

    def fill(self, bins: Array) -> tuple[Array, Array, Array]:
        """Return the atoms of every bin (bins + 1, capacity; N where empty), each atom's slot, and overflow."""
        n, capacity = len(bins), self.grid.capacity
        n_bins = int(np.prod(self.grid.shape))
        flat = self.ravel(bins)
        order = jnp.argsort(flat, stable=True).astype(jnp.int32)
        ordered = flat[order]
        first = jnp.searchsorted(ordered, jnp.arange(n_bins, dtype=jnp.int32)).astype(jnp.int32)
        place = jnp.arange(n, dtype=jnp.int32) - first[ordered]
        slot = jnp.zeros(n, jnp.int32).at[order].set(place)
        # The extra row is the empty bin outside a non-periodic direction.
        table = jnp.full((n_bins + 1, capacity), n, jnp.int32).at[ordered, place].set(order, mode="drop")
        return table, slot, jnp.max(place) >= capacity

    def stencil(self, bins: Array, offsets: Array) -> tuple[Array, Array]:
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
        return jnp.where(inside, self.ravel(jnp.stack(place, -1)), empty), jnp.stack(shift, -1)

    @property
    def translations(self) -> np.ndarray:
        """(T, 3) lattice translations that the stencil can reach; the middle one is zero."""
        reach = [-(-w // n) if p else 0 for w, n, p in zip(self.grid.reach, self.grid.shape, self.pbc)]
        return np.array(list(product(*(range(-q, q + 1) for q in reach))), dtype=np.int32)
