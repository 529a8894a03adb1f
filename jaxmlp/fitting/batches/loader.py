"""A data set as batches of a few fixed shapes, in a new order every epoch."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp.evaluate import in_rows
from jaxmlp.fitting.batches.batch import Batch, Shape, collate, kinds_of, whole_words
from jaxmlp.fitting.batches.neighborhoods import Neighborhood, named_neighborhood
from jaxmlp.fitting.batches.whole import collate_whole
from jaxmlp.fitting.data.store import StructureStore
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.potential import Potential

BUCKETS = 4


class Loader:
    """Batches of structures for a potential; neighbours are found once, and kept.

    Structures are sorted into a few *buckets* by how many neighbours their atoms have at most, such that the empty
    slots of all are fewest; all batches of a bucket have one shape, so that a training step compiles once for each
    bucket. A batch has room for `batch_size` structures of the bucket's mean size: many small ones or few large ones
    fill it. For potentials that need a whole system at once, buckets are of structures of similar size, and a batch has
    `batch_size` of them, see `batches.whole`.

    Args:
        structures: the data set.
        potential: whose cutoffs and species count.
        batch_size: structures of mean size in a batch.
        dtype: of positions and labels.
        energies: (S,) eV of an atom of each species, subtracted from the energies; None subtracts nothing.
        buckets: at most as many shapes.
        kinds: labels to keep; None keeps all that the data have.
        whole: whether every structure is a system of its own; None: if the potential needs it.

    Attributes:
        ready: the potential with hyper-parameters that do for the boxes of all structures.

    Raises:
        ValueError: no structures, or elements that the potential lacks.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        potential: Potential,
        batch_size: int = 8,
        *,
        dtype=np.float64,
        energies: np.ndarray | None = None,
        buckets: int = BUCKETS,
        kinds: tuple[str, ...] | None = None,
        whole: bool | None = None,
    ):
        if not structures:
            raise ValueError("a data set needs at least one structure.")
        if batch_size < 1 or buckets < 1:
            raise ValueError(f"batch_size and buckets are positive; got {batch_size} and {buckets}.")
        self.potential, self.dtype = potential, dtype
        self.kinds = kinds_of(structures) if kinds is None else kinds
        self.structures, self.hoods = self._kept(structures)
        facts = self.facts = _facts(self.structures, self.hoods, len(potential.species))
        self.offsets = np.zeros(len(facts.counts)) if energies is None else facts.counts @ np.asarray(energies, float)
        self.whole = needs_whole(potential) if whole is None else whole
        self.ready = potential.for_boxes(facts.boxes) if self.whole else potential
        # Empty places come from rows that are too long, or from systems that are padded to the largest.
        size, count = (facts.sizes, np.ones(len(facts.sizes))) if self.whole else (facts.slots[:, -1], facts.sizes)
        bounds = _bounds(size, count, buckets)
        bucket = np.searchsorted(bounds, size)
        self.members = [np.flatnonzero(bucket == b) for b in range(len(bounds))]
        self.shapes = [self._shape(m, batch_size) for m in self.members]

    def _kept(self, structures: Sequence[Structure]) -> tuple[Sequence[Structure], Sequence[Neighborhood]]:
        """The structures and their neighbours."""
        return tuple(structures), [named_neighborhood(s, self.potential) for s in structures]

    def __len__(self) -> int:
        return len(self.structures)

    def _shape(self, members: np.ndarray, batch_size: int) -> Shape:
        facts = self.facts
        sizes, images = facts.sizes[members], facts.images[members]
        many = min(batch_size, len(members))
        top = tuple(facts.slots[members].max(axis=0).tolist())
        directions = int(facts.directions[members].max())
        if self.whole:
            return Shape(int(sizes.max()), int(images.max()), many, top, directions)
        atoms = max(int(np.ceil(many * sizes.mean())), int(sizes.max()))
        if len(set(sizes)) > 1:
            atoms = -(-atoms // 4) * 4
        # Images cost next to nothing: room for as many as the structures that have most of them bring along.
        ghosts = int(np.ceil(max((images / sizes).max() * atoms, images.max())))
        places = min(len(members), int(atoms // sizes.min()), 4 * many)
        return Shape(atoms, ghosts, places, top, directions)

    def choose(self, kinds: tuple[str, ...]) -> None:
        """Keep of the labels those of some kinds only.

        Raises:
            ValueError: dipoles of periodic structures for a potential whose dipoles are those of its charges.
        """
        self.kinds = tuple(k for k in kinds if k in self.kinds)
        if "dipole" in self.kinds and hasattr(self.potential, "charges"):
            for s in self.structures:
                if s.dipole is not None and any(s.system.pbc):
                    raise ValueError(
                        f"{s.name}: the dipole of charges in a periodic system depends on which image of each atom is "
                        "taken. Give whole molecules with pbc F F F (the cell may stay), or leave dipole out of the "
                        "loss."
                    )

    @property
    def closest(self) -> float:
        """The smallest distance between neighbours, Å."""
        return float(self.facts.closest.min())

    @cached_property
    def waste(self) -> float:
        """The share of neighbour slots that hold nothing, over the batches of an epoch in the order of the data."""
        held = int(self.facts.edges.sum())
        copies = lambda shape: shape.structures if self.whole else 1
        slots = sum(copies(s) * s.atoms * s.slots[-1] for b, _ in self.plan(None) for s in [self.shapes[b]])
        return 1 - held / slots

    def plan(self, seed: int | tuple[int, ...] | None) -> list[tuple[int, np.ndarray]]:
        """Return bucket and structures of every batch of an epoch; without a seed in the order of the data."""
        return self._plan(self.members, None if seed is None else np.random.default_rng(seed))

    def _plan(self, members_of: list[np.ndarray], rng: np.random.Generator | None) -> list[tuple[int, np.ndarray]]:
        """The batches of some members of each bucket."""
        batches = []
        for b, (members, shape) in enumerate(zip(members_of, self.shapes, strict=True)):
            order = members if rng is None else rng.permutation(members)
            batches += [(b, chosen) for chosen in self._packed(order, shape)]
        return batches if rng is None else [batches[k] for k in rng.permutation(len(batches))]

    def _packed(self, order: np.ndarray, shape: Shape) -> list[np.ndarray]:
        """First fit: every structure goes into the first of the last few batches that has room."""
        if self.whole:
            return [order[k : k + shape.structures] for k in range(0, len(order), shape.structures)]
        sizes, images = self.facts.sizes, self.facts.images
        bins: list[list[int]] = []
        room: list[list[int]] = []
        for k in order.tolist():
            need = (int(sizes[k]), int(images[k]), 1)
            for b in range(max(0, len(bins) - 8), len(bins)):
                if all(n <= r for n, r in zip(need, room[b], strict=True)):
                    break
            else:
                b = len(bins)
                bins.append([])
                room.append([shape.atoms, shape.images, shape.structures])
            bins[b].append(k)
            room[b] = [r - n for n, r in zip(need, room[b], strict=True)]
        return [np.array(x) for x in bins]

    def batch(self, bucket: int, members: np.ndarray) -> Batch:
        """Return one batch, numpy arrays."""
        shape, options = self.shapes[bucket], (self.potential.shells, self.kinds, self.dtype, self.offsets[members])
        structures, hoods = [self.structures[k] for k in members], [self.hoods[k] for k in members]
        if not self.whole:
            return collate(structures, hoods, shape, *options, members)
        any_one = self.members[bucket][0] if len(members) == 0 else members[0]
        filler = self.structures[any_one], self.hoods[any_one]
        return collate_whole(structures, hoods, shape, *options, ids=members, filler=filler)

    def epoch(self, seed: int | tuple[int, ...] | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch, on the device; the same seed gives the same epoch."""
        for bucket, members in self.plan(seed):
            yield jax.device_put(self.batch(bucket, members))


class StreamingLoader(Loader):
    """A `Loader` of structures on disk: a few shards of structures and neighbours are in memory at a time.

    An epoch goes through the shards in windows, of as many shards as the store has open: their order is drawn, and
    within a window that of structures and batches is. So every structure comes once, the same seed gives the same
    epoch, and batches have the few shapes that a `Loader` would have; with one window the order is that of a `Loader`
    too. What stays in memory of every structure are some numbers for the layout of batches.

    Args:
        structures: the data set.
        others: arguments as for `Loader`.
    """

    def __init__(self, structures: StructureStore, *others, **options):
        super().__init__(structures, *others, **options)

    def _kept(self, structures):
        self.store = structures
        return structures, structures.neighborhoods(self.potential)

    def plan(self, seed: int | tuple[int, ...] | None) -> list[tuple[int, np.ndarray]]:
        """Return bucket and structures of every batch of an epoch, window by window."""
        store = self.store
        shards = np.unique(store.shard)
        if len(shards) <= store.open:
            return super().plan(seed)
        rng = None if seed is None else np.random.default_rng(seed)
        order = shards if rng is None else rng.permutation(shards)
        batches = []
        for k in range(0, len(order), store.open):
            here = np.isin(store.shard, order[k : k + store.open])
            batches += self._plan([members[here[members]] for members in self.members], rng)
        return batches


def loader_of(structures: Sequence[Structure], *others, **options) -> Loader:
    """Return the loader of structures in memory or on disk; arguments as for `Loader`."""
    kind = StreamingLoader if isinstance(structures, StructureStore) else Loader
    return kind(structures, *others, **options)


def needs_whole(potential: Potential) -> bool:
    """Whether a part of the potential is not made of rows of neighbours, so that it has to see one system at a time."""
    members = getattr(potential, "members", ())
    return any(map(needs_whole, members)) if members else not in_rows(potential)


class _Facts(NamedTuple):
    """What the layout of batches follows from, of every structure.

    Args:
        counts: (n, S) atoms of each species.
        images: (n,) periodic images that its atoms see.
        edges: (n,)
        slots: (n, shells) that its rows need.
        directions: (n,) of second derivatives.
        boxes: of all, None where there is none.
        closest: (n,) Å, smallest distance.
    """

    counts: np.ndarray
    images: np.ndarray
    edges: np.ndarray
    slots: np.ndarray
    directions: np.ndarray
    boxes: list[np.ndarray | None]
    closest: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return self.counts.sum(axis=1)


def _facts(structures: Iterable[Structure], hoods: Iterable[Neighborhood], species: int) -> _Facts:
    """Look at the structures one by one."""
    rows, boxes = [], []
    for s, h in zip(structures, hoods, strict=True):
        directions = 0 if s.hessian is None else len(s.hessian[0])
        counts = np.bincount(h.species, minlength=species)
        rows.append((counts, len(h.owner), len(h.row), whole_words(h.counts), directions, h.closest))
        boxes.append(s.system.box)
    counts, images, edges, slots, directions, closest = (np.array(x) for x in zip(*rows))
    return _Facts(counts, images, edges, slots, directions, boxes, closest)


def _bounds(slots: np.ndarray, sizes: np.ndarray, buckets: int) -> list[int]:
    """The largest numbers of slots of at most `buckets` buckets, such that atoms times slots are fewest.

    Dynamic programming over the different numbers; a bucket has to save a tenth to be worth a compilation.
    """
    values = np.unique(slots)
    atoms = np.array([sizes[slots == v].sum() for v in values], float)
    total = np.concatenate([[0.0], np.cumsum(atoms)])
    n = len(values)
    cost = np.full((buckets + 1, n + 1), np.inf)
    cost[:, 0] = 0.0
    cut = np.zeros((buckets + 1, n + 1), int)
    for b in range(1, buckets + 1):
        for end in range(1, n + 1):
            options = cost[b - 1, :end] + (total[end] - total[:end]) * values[end - 1]
            cut[b, end] = int(np.argmin(options))
            cost[b, end] = options[cut[b, end]]
    best = 1
    for b in range(2, buckets + 1):
        if cost[b, n] < cost[best, n] - 0.1 * (b - best) * cost[1, n]:
            best = b
    bounds, end = [], n
    for b in range(best, 0, -1):
        bounds.append(int(values[end - 1]))
        end = cut[b, end]
        if end == 0:
            break
    return bounds[::-1]
