"""Sets of structures larger than the memory: kept on disk in shards, of which a few are in memory at a time."""

import hashlib
import json
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np

from jaxmlp.fitting.batches.neighborhoods import Neighborhood, named_neighborhood
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.potential import Potential
from jaxmlp.system import System

SHARD = 512  # structures of a file
OPEN = 4  # shards in memory
INDEX = "index.json"
ATOMS = ("forces", "charges")  # labels with an axis of atoms
T = TypeVar("T")


class Shards(Sequence[T], Generic[T]):
    """A sequence of things that are kept in files, some hundreds to each.

    Args:
        read: shard -> the things in it.
        sizes: how many these are, by shard.
        open: shards that stay in memory; the one not used for longest goes first.
        chosen: which of all things the sequence has, in which order; None: all.
    """

    def __init__(
        self, read: Callable[[int], list[T]], sizes: Sequence[int], open: int = OPEN, chosen: np.ndarray | None = None
    ):
        if open < 1:
            raise ValueError(f"open is a number of shards and must be positive; got {open}.")
        self.read, self.sizes, self.open = read, tuple(sizes), open
        self.ends = np.cumsum(self.sizes)
        total = int(self.ends[-1]) if len(self.ends) else 0
        self.chosen = np.arange(total) if chosen is None else np.asarray(chosen, int)
        self.shard = np.searchsorted(self.ends, self.chosen, side="right")
        self.held: OrderedDict[int, list[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, k: int) -> T: ...
    @overload
    def __getitem__(self, k: slice) -> list[T]: ...
    def __getitem__(self, k):
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        number, shard = self.chosen[k], int(self.shard[k])
        if shard in self.held:
            self.held.move_to_end(shard)
        else:
            while len(self.held) >= self.open:
                self.held.popitem(last=False)
            self.held[shard] = self.read(shard)
        return self.held[shard][number - (self.ends[shard] - self.sizes[shard])]

    def __iter__(self) -> Iterator[T]:
        return (self[k] for k in range(len(self)))


class StructureStore(Shards[Structure]):
    """Structures on disk, in folders that `StructureStore.write` makes; a sequence like a list of them.

    What a `Structure` says is kept but for the masses and velocities of atoms, which no fit needs.

    Args:
        folder: with an index and a file for each shard.
        open: shards in memory.
        chosen: see `Shards`.

    Raises:
        FileNotFoundError: the folder holds no finished store.
    """

    def __init__(self, folder: str | PathLike, *, open: int = OPEN, chosen: np.ndarray | None = None):
        self.folder = Path(folder)
        index = self.folder / INDEX
        if not index.exists():
            raise FileNotFoundError(f"{self.folder} holds no structures: StructureStore.write makes such a folder.")
        self.about = json.loads(index.read_text())
        super().__init__(lambda k: _read_structures(self.folder / f"{k}.npz"), self.about["sizes"], open, chosen)

    @classmethod
    def write(
        cls,
        structures: Iterable[Structure],
        folder: str | PathLike,
        *,
        shard: int = SHARD,
        open: int = OPEN,
        of: str = "",
    ) -> "StructureStore":
        """Write structures, taken one by one, and return the store.

        The index comes last, so that a writer who is killed leaves none.

        Args:
            shard: structures to a file.
            of: what the structures are, kept in the index.

        Raises:
            ValueError: no structures.
        """
        if shard < 1:
            raise ValueError(f"shard is a number of structures and must be positive; got {shard}.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
        for old in folder.glob("neighbors-*"):
            shutil.rmtree(old)
        sizes = []
        for k, chunk in enumerate(chunks(structures, shard)):
            _write_structures(folder / f"{k}.npz", chunk)
            sizes.append(len(chunk))
        if not sizes:
            raise ValueError("a data set needs at least one structure.")
        (folder / INDEX).write_text(json.dumps({"sizes": sizes, "of": of}))
        return cls(folder, open=open)

    def select(self, chosen: Sequence[int]) -> "StructureStore":
        """Return the store of some of these structures, by their places here; nothing is copied."""
        return StructureStore(self.folder, open=self.open, chosen=self.chosen[np.asarray(chosen, int)])

    def mapped(
        self, function: Callable[[list[Structure]], list[Structure]], folder: str | PathLike
    ) -> "StructureStore":
        """Return the store, in another folder, of what a function makes of the structures of each shard."""
        shard = max(self.sizes)
        changed = (s for chunk in chunks(self, shard) for s in function(chunk))
        return StructureStore.write(changed, folder, shard=shard, open=self.open)

    def some(self, count: int) -> list[Structure]:
        """Return at most so many of the structures, evenly chosen."""
        return [self[k] for k in np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))]

    def neighborhoods(self, potential: Potential) -> Shards[Neighborhood]:
        """Return the neighbours of all structures for a potential, found now and kept in a folder of this store, where
        they are not there already."""
        of = repr((potential.species, potential.shells)).encode()
        folder = self.folder / f"neighbors-{hashlib.sha256(of).hexdigest()[:16]}"
        folder.mkdir(exist_ok=True)
        for k in np.unique(self.shard).tolist():
            path = folder / f"{k}.npz"
            if not path.exists():
                unfinished = folder / "unfinished.npz"
                _write_neighborhoods(unfinished, [named_neighborhood(s, potential) for s in self.read(k)])
                unfinished.replace(path)
        return Shards(lambda k: _read_neighborhoods(folder / f"{k}.npz"), self.sizes, self.open, self.chosen)


def chunks(structures: Iterable[Structure], size: int) -> Iterator[list[Structure]]:
    """Yield lists of `size` structures, and what is left."""
    chunk: list[Structure] = []
    for s in structures:
        chunk.append(s)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _write_structures(path: Path, structures: list[Structure]) -> None:
    systems = [s.system for s in structures]
    nowhere = np.zeros((3, 3))
    arrays = {
        "atoms": np.array([len(s) for s in structures]),
        "numbers": np.concatenate([s.numbers for s in systems]),
        "R": np.concatenate([s.R for s in systems]),
        "boxed": np.array([s.box is not None for s in systems]),
        "box": np.array([nowhere if s.box is None else s.box for s in systems]),
        "pbc": np.array([s.pbc for s in systems]),
        "weight": np.array([s.weight for s in structures]),
        "group": np.array([s.group for s in structures]),
        "source": np.array([s.source for s in structures]),
    }
    for name in ("energy", "virial", "dipole", *ATOMS):
        given = [getattr(s, name) for s in structures]
        there = [x for x in given if x is not None]
        arrays[f"has_{name}"] = np.array([x is not None for x in given])
        if there:
            arrays[name] = np.concatenate(there) if name in ATOMS else np.array(there)
    products = [s.hessian for s in structures]
    arrays["directions"] = np.array([0 if h is None else len(h[0]) for h in products])
    for side in range(2):
        flat = [h[side].ravel() for h in products if h is not None]
        arrays[f"hessian_{side}"] = np.concatenate(flat) if flat else np.zeros(0)
    np.savez(path, **arrays)


def _read_structures(path: Path) -> list[Structure]:
    with np.load(path) as file:
        a = {name: file[name] for name in file.files}
    first = _starts(a["atoms"])
    seen = dict.fromkeys(("energy", "virial", "dipole", *ATOMS, "hessian"), 0)
    out = []
    for k, n in enumerate(a["atoms"].tolist()):
        own = slice(first[k], first[k] + n)
        box = a["box"][k] if a["boxed"][k] else None
        labels = {}
        for name in ("energy", "virial", "dipole", *ATOMS):
            if a[f"has_{name}"][k]:
                length = n if name in ATOMS else 1
                value = a[name][seen[name] : seen[name] + length]
                labels[name] = value if name in ATOMS else value[0]
                seen[name] += length
        if m := int(a["directions"][k]):
            part = slice(seen["hessian"], seen["hessian"] + 3 * m * n)
            labels["hessian"] = tuple(a[f"hessian_{side}"][part].reshape(m, n, 3) for side in range(2))
            seen["hessian"] += 3 * m * n
        system = System(a["numbers"][own], a["R"][own], box, tuple(a["pbc"][k].tolist()))
        rest = {"weight": float(a["weight"][k]), "group": str(a["group"][k]), "source": str(a["source"][k])}
        out.append(Structure(system, **labels, **rest))
    return out


SITES, IMAGES, EDGES = ("species", "R"), ("owner", "offset"), ("row", "slot", "site", "reverse")


def _write_neighborhoods(path: Path, hoods: list[Neighborhood]) -> None:
    arrays = {name: np.concatenate([getattr(h, name) for h in hoods]) for name in (*SITES, *IMAGES, *EDGES)}
    lengths = np.array([[len(h), len(h.owner), len(h.row)] for h in hoods])
    np.savez(path, **arrays, lengths=lengths, counts=np.array([h.counts for h in hoods]))


def _read_neighborhoods(path: Path) -> list[Neighborhood]:
    with np.load(path) as file:
        a = {name: file[name] for name in file.files}
    lengths = a["lengths"]
    first = np.stack([_starts(x) for x in lengths.T], axis=1)
    out = []
    for k, counts in enumerate(a["counts"].tolist()):
        part: dict[str, np.ndarray] = {}
        for place, names in enumerate((SITES, IMAGES, EDGES)):
            own = slice(first[k, place], first[k, place] + lengths[k, place])
            part |= {name: a[name][own] for name in names}
        out.append(Neighborhood(**part, counts=tuple(counts)))
    return out


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]])
