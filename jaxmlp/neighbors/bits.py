"""Which candidates are neighbours, as bits; and rows of neighbours from bits, by population counts.

The m-th neighbour of an atom is its m-th set bit: no sort and no scatter. The candidate number of i in the list of its
neighbour j is known from the opposite stencil offset, so the reverse slot of every edge is a population count too.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.neighbors.bins import Bins

_FAR = 1e6  # Å; coordinate of the empty slots of a bin, far from every atom
Slots = tuple[int, ...]


def candidates(bins: Bins, home: Array, cell: Array, table: Array, radii: Sequence[float]) -> Array:
    """Test every atom against its stencil: bits (radii, bins * capacity, words) uint32.

    A bit is set for the first of the growing `radii` (Å) that the candidate is nearer than. Candidate k is bit
    k // words of word k % words, so that packing runs along whole rows of words.
    """
    grid = bins.grid
    offsets = jnp.asarray(grid.offsets)
    capacity = grid.capacity
    k = len(grid.offsets) * capacity
    words = -(-k // 32)
    itself = (len(grid.offsets) // 2) * capacity + np.arange(capacity)
    others = np.full((capacity, words), 0xFFFFFFFF, dtype=np.uint32)
    others[np.arange(capacity), itself % words] ^= np.uint32(1) << (itself // words).astype(np.uint32)
    places = jnp.concatenate([home, jnp.full((1, 3), _FAR, home.dtype)])
    planes = [places[:, axis] for axis in range(3)]
    radii2 = [radius**2 for radius in radii]

    def one_bin(bin):
        target, shift = bins.stencil(bin, offsets)
        step = jnp.repeat(shift.astype(cell.dtype) @ cell, capacity, axis=0)
        step = jnp.pad(step, ((0, 32 * words - k), (0, 0))).T.reshape(3, 32, words)
        theirs = jnp.pad(table[target].ravel(), (0, 32 * words - k), constant_values=len(home)).reshape(32, words)
        ours = table[bins.ravel(bin)]
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

    every = np.array(list(np.ndindex(*grid.shape)), dtype=np.int32)
    bits = lax.map(one_bin, jnp.asarray(every), batch_size=_batch(len(every), capacity * words * 32))
    return jnp.swapaxes(bits, 0, 1).reshape(len(radii), -1, words)


def collect(
    bins: Bins, bits: Array, homes: tuple[Array, Array], table: Array, site_of: Array, nowhere: int, capacities: Slots
) -> tuple[Array, Array, Array]:
    """Turn each atom's bits (shells, N, words) into rows: index, reverse, and overflow; see `search.Neighbors`.

    Args:
        homes: each atom's bin (N, 3) and its slot there (N,).
        table: the atoms of every bin.
        site_of: (T, N) the site of every translation of every atom; `nowhere` is that of padded slots.
        capacities: slots of a row for each shell.
    """
    (place, slot), grid = homes, bins.grid
    n, capacity, width = len(place), grid.capacity, sum(capacities)
    offsets = jnp.asarray(grid.offsets)
    steps = bins.translations
    stride = np.array([np.ptp(steps[:, 1]) + 1, 1]) * (np.ptp(steps[:, 2]) + 1)
    words = bits.shape[-1]
    count = lax.population_count(bits).astype(jnp.int32)
    upto = jnp.cumsum(count, axis=-1)
    before = upto - count
    full = jnp.any(jnp.max(upto[:, :, -1], axis=1) > jnp.asarray(capacities, jnp.int32))

    def one_atom(i):
        index, reverse, start = [], [], 0
        for s, slots in enumerate(capacities):
            m = jnp.arange(slots, dtype=jnp.int32)
            candidate = _set_bit(bits[s, i], upto[s, i], before[s, i], m)
            offset = lax.div(candidate, jnp.int32(capacity))
            target, step = bins.stencil(place[i], offsets[offset])
            j = table[target, candidate - offset * capacity]
            ok = (m < upto[s, i, -1]) & (j < n)
            j = jnp.where(ok, j, 0)
            code = step[:, 0] * int(stride[0]) + step[:, 1] * int(stride[1]) + step[:, 2] + len(steps) // 2
            index.append(jnp.where(ok, site_of[code, j], nowhere))
            # Seen from j, the same edge leads through the opposite offset to our slot.
            back = (len(grid.offsets) - 1 - offset) * capacity + slot[i]
            bit = lax.div(back, jnp.int32(words))
            which = back - bit * words
            word = bits[s, j, which]
            bit = bit.astype(jnp.uint32)
            below = word & ((jnp.uint32(1) << bit) - jnp.uint32(1))
            rank = before[s, j, which] + lax.population_count(below).astype(jnp.int32)
            known = ok & ((word >> bit) & jnp.uint32(1) == 1) & (rank < slots)
            reverse.append(jnp.where(known, width * j + start + rank, -1))
            start += slots
        return jnp.concatenate(index), jnp.concatenate(reverse)

    atoms = jnp.arange(n, dtype=jnp.int32)
    index, reverse = lax.map(one_atom, atoms, batch_size=_batch(n, 64 * width))
    return index, reverse, full


def _batch(n: int, size: int) -> int:
    """Rows a step of `lax.map`: all on an accelerator within its memory, a cache's worth on a CPU."""
    budget = 1 << 16 if jax.default_backend() == "cpu" else 1 << 28
    return max(1, min(n, budget // max(size, 1)))


def _set_bit(bits: Array, upto: Array, before: Array, m: Array) -> Array:
    """Return the candidate of the m-th set bit in a row of 32-bit words, counting from 0; see `candidates`.

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
