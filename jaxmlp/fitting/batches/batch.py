"""Structures side by side in one dense graph of fixed shape: what a training step works on.

The atoms of all structures of a batch are the rows of one graph. Each structure has its own cell, so images are kept
as vectors in Å, not as lattice translations: the machinery of `evaluate` runs over a batch as over one system, and a
batch of small and large structures wastes next to nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmlp.fitting.batches.neighborhoods import Neighborhood
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.neighbors.search import Neighbors

PER_STRUCTURE = {"energy": (), "virial": (3, 3), "dipole": (3,)}
PER_ATOM = {"forces": (3,), "charges": ()}
KINDS = (*PER_STRUCTURE, *PER_ATOM, "hessian")


class Shape(NamedTuple):
    """What decides the shape of a batch.

    Args:
        atoms, images, structures: places for them.
        slots: of a row, for each cutoff of the potential.
        directions: Hessian-vector products of each structure.
    """

    atoms: int
    images: int
    structures: int
    slots: tuple[int, ...]
    directions: int = 0


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["R", "species", "neighbors", "structure", "counts", "ids", "labels", "weights"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Batch:
    """B structures with N atoms together, padded to a `Shape`.

    Args:
        R: (N, 3) Å.
        species: (N,) places in the potential's species, -1 for atoms that only pad.
        neighbors: of all of them; `image` holds vectors in Å, for a box that is the unit matrix. For potentials that
            need a whole system at once: of each structure, see `batches.whole`.
        structure: (N,) the structure each atom belongs to; B for atoms that only pad.
        counts: (B,) atoms of each structure; 1 for those that only pad.
        ids: (B,) the number of each structure in its data set; -1 for those that only pad.
        labels: by kind (`KINDS`): energy (B,), forces (N, 3), virial (B, 3, 3), dipole (B, 3), charges (N,) and
            directions and hessian, (K, N, 3) each; 0 where a label is missing. Only kinds that the data have.
        weights: (B,) by kind, the weight of each structure; 0 where a label is missing and for padding.
    """

    R: Array
    species: Array
    neighbors: Neighbors
    structure: Array
    counts: Array
    ids: Array
    labels: dict[str, Array]
    weights: dict[str, Array]

    @property
    def whole(self) -> bool:
        """Whether every structure is a system of its own, see `batches.whole`."""
        return self.neighbors.index.ndim == self.R.ndim + 1

    @property
    def real(self) -> Array:
        """(N,) True for atoms that exist."""
        return self.species >= 0


def kinds_of(structures: Iterable[Structure]) -> tuple[str, ...]:
    """The kinds of labels that any of the structures has, in the order of `KINDS`."""
    found = {kind for s in structures for kind in KINDS if getattr(s, kind) is not None}
    return tuple(kind for kind in KINDS if kind in found)


def shape_of(hoods: Sequence[Neighborhood], structures: Sequence[Structure] = ()) -> Shape:
    """The smallest shape that holds all of them at once."""
    slots = tuple(np.max([h.counts for h in hoods], axis=0).tolist())
    directions = max((len(s.hessian[0]) for s in structures if s.hessian is not None), default=0)
    return Shape(sum(map(len, hoods)), sum(len(h.owner) for h in hoods), len(hoods), whole_words(slots), directions)


def whole_words(slots: tuple[int, ...]) -> tuple[int, ...]:
    """Return slots with the last made a multiple of four, for rows of whole SIMD words."""
    return (*slots[:-1], max(4, -(-slots[-1] // 4) * 4))


def collate(
    structures: Sequence[Structure],
    hoods: Sequence[Neighborhood],
    shape: Shape,
    shells: tuple[float, ...],
    kinds: tuple[str, ...],
    dtype=np.float64,
    offsets: Sequence[float] | None = None,
    ids: Sequence[int] | None = None,
) -> Batch:
    """Return the batch of some structures, as numpy arrays.

    Args:
        shells: cutoffs of the potential, Å.
        kinds: labels it holds.
        offsets: eV, what is subtracted from the energy of each structure (so that a fit in single precision does not
            see the large energies of isolated atoms).
        ids: numbers of the structures; None counts them.

    Raises:
        ValueError: the shape is too small.
    """
    N, G, B, M = shape.atoms, shape.images, shape.structures, shape.slots[-1]
    sizes = np.array([len(h) for h in hoods])
    if sizes.sum() > N or sum(len(h.owner) for h in hoods) > G or len(hoods) > B:
        raise ValueError(f"{len(hoods)} structures of {sizes.sum()} atoms do not fit into a batch of {shape}.")
    if any(c > s for h in hoods for c, s in zip(h.counts, shape.slots, strict=True)):
        raise ValueError(f"an atom has more neighbours than the {shape.slots} slots of a batch.")
    first = np.concatenate([[0], np.cumsum(sizes)])
    images = np.concatenate([[0], np.cumsum([len(h.owner) for h in hoods])])
    nowhere = N + G

    R = np.zeros((N, 3), dtype)
    species, structure = np.full(N, -1, np.int32), np.full(N, B, np.int32)
    owner = np.zeros(nowhere + 1, np.int32)
    owner[:N] = np.arange(N)
    image = np.zeros((nowhere + 1, 3), dtype)
    index, reverse = np.full((N, M), nowhere, np.int32), np.full((N, M), -1, np.int32)
    for k, h in enumerate(hoods):
        n, a, g = len(h), first[k], images[k]
        own = slice(a, a + n)
        R[own], species[own], structure[own] = h.R, h.species, k
        ghosts = slice(N + g, N + g + len(h.owner))
        owner[ghosts], image[ghosts] = h.owner + a, h.offset
        index[h.row + a, h.slot] = np.where(h.site < n, h.site + a, h.site - n + N + g)
        reverse[h.row + a, h.slot] = ((h.row + a) * M + h.slot)[h.reverse]
    counts = np.ones(B, dtype)
    counts[: len(sizes)] = sizes
    numbers = np.full(B, -1, np.int32)
    numbers[: len(sizes)] = range(len(sizes)) if ids is None else ids
    labels, weights = _labels(structures, first, shape, kinds, dtype, offsets)
    slots = tuple(zip(shells, (*shape.slots[:-1], M), strict=True))
    neighbors = Neighbors(index, reverse, owner, image, R, None, np.array(False), slots)
    return Batch(R, species, neighbors, structure, counts, numbers, labels, weights)


def _labels(structures, first, shape: Shape, kinds, dtype, offsets) -> tuple[dict, dict]:
    N, B = shape.atoms, shape.structures
    labels = {kind: np.zeros((B, *PER_STRUCTURE[kind]), dtype) for kind in kinds if kind in PER_STRUCTURE}
    labels |= {kind: np.zeros((N, *PER_ATOM[kind]), dtype) for kind in kinds if kind in PER_ATOM}
    if "hessian" in kinds:
        labels |= {name: np.zeros((shape.directions, N, 3), dtype) for name in ("directions", "hessian")}
    weights = {kind: np.zeros(B, dtype) for kind in kinds}
    for k, s in enumerate(structures):
        own = slice(first[k], first[k + 1])
        for kind in kinds:
            value = getattr(s, kind)
            if value is None:
                continue
            weights[kind][k] = s.weight
            if kind == "hessian":
                labels["directions"][: len(value[0]), own], labels["hessian"][: len(value[1]), own] = value
            elif kind in PER_ATOM:
                labels[kind][own] = value
            elif kind == "energy":
                labels[kind][k] = value - (0.0 if offsets is None else offsets[k])
            else:
                labels[kind][k] = value
    return labels, weights
