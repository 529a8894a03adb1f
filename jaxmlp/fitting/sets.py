"""The sets of structures that a configuration names: read, drawn, taught, checked; in memory or on disk."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from jaxmlp.fitting.config import Config
from jaxmlp.fitting.data.checks import Finding, check_structures, raise_errors
from jaxmlp.fitting.data.readers import iterate_structures, read_structures
from jaxmlp.fitting.data.splits import places
from jaxmlp.fitting.data.store import StructureStore, chunks
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.teacher import label

SAMPLE = 1000  # structures of a set on disk that stand for all of them where all are needed at once


def read_sets(settings: Config, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the sets of structures that a configuration names: "train", and "validation" and "test" if there are.

    Args:
        given: sets in memory, which come before files.

    Raises:
        ValueError: no training structures, or a validation set that leaves none.
    """
    sets: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        source, here = getattr(settings.data, name), (given or {}).get(name)
        files = [source] if isinstance(source, str | PathLike) else source
        if isinstance(here, StructureStore):
            sets[name] = here
        elif name == "train" and settings.data.stream and (here is not None or isinstance(files, list | tuple)):
            sets[name] = _stored(settings, files, here)
        elif here is not None:
            sets[name] = list(here)
        elif isinstance(files, list | tuple):
            sets[name] = [s for path in files for s in read_structures(path, **settings.data.read)]
    if not sets.get("train"):
        raise ValueError("data: train names no structures: give a file, a folder, or fit(..., train=structures).")
    if settings.data.limit is not None:
        count = min(settings.data.limit, len(sets["train"]))
        sets["train"] = _chosen(sets["train"], places(sets["train"], [count], seed=settings.seed)[0])
    part = settings.data.validation
    if "validation" not in sets and part is not None:
        n = len(sets["train"])
        count = round(part * n) if isinstance(part, float) else int(part)
        if not 0 <= count < n:
            raise ValueError(f"data: validation takes {part} of {n} structures: leave some to train on.")
        if count:
            train, held = places(sets["train"], [n - count, count], seed=settings.seed)
            sets["validation"] = [sets["train"][k] for k in held]
            sets["train"] = _chosen(sets["train"], train)
    if settings.data.teacher is not None:
        from jaxmlp.formats.detect import load

        potential, params = load(settings.data.teacher)
        taught = partial(
            label, potential=potential, params=params, hessian_rows=settings.data.hessian_rows, seed=settings.seed
        )
        sets = {name: mapped(taught, s, "taught") for name, s in sets.items()}
    return {name: sets[name] for name in ("train", "validation", "test") if name in sets}


def _stored(settings: Config, files, structures: Iterable[Structure] | None) -> StructureStore:
    """The training structures on disk: as they lie there, if they come from the same files, else written now."""
    where = settings.data.stream
    if where is True and settings.output is None:
        raise ValueError("data: stream needs a folder: name one (stream: folder), or give an output.")
    folder = Path(where) if isinstance(where, str) else Path(settings.output or ".") / "structures"
    of = ""
    if structures is None:
        found = [p for f in map(Path, files) for p in ([f] if f.is_file() else sorted(f.rglob("*"))) if p.is_file()]
        marks = [(str(p.absolute()), p.stat().st_size, p.stat().st_mtime_ns) for p in found]
        of = json.dumps([marks, dict(settings.data.read)], default=str)
        structures = (s for path in files for s in iterate_structures(path, **settings.data.read))
        if (folder / "index.json").exists() and (store := StructureStore(folder)).about["of"] == of:
            return store
    return StructureStore.write(structures, folder, of=of)


def _chosen(structures, which: list[int]):
    """Some of the structures, in memory or on disk as they are."""
    return structures.select(which) if isinstance(structures, StructureStore) else [structures[k] for k in which]


def mapped(function: Callable[[list[Structure]], list[Structure]], structures, name: str):
    """What a function makes of structures; on disk shard by shard, in a folder of that name."""
    if isinstance(structures, StructureStore):
        return structures.mapped(function, structures.folder / name)
    return function(structures)


def some(structures) -> list[Structure]:
    """The structures, or a sample of those on disk."""
    return structures.some(SAMPLE) if isinstance(structures, StructureStore) else list(structures)


def checked(sets: Mapping[str, Sequence[Structure]]) -> list[Finding]:
    """Return what looks wrong with the structures.

    Raises:
        ValueError: what is surely wrong, by structure.
    """
    findings: list[Finding] = []
    for structures in sets.values():
        findings += check_set(structures)
        raise_errors(findings)
    return findings


def check_set(structures: Sequence[Structure]) -> list[Finding]:
    """Return what `check_structures` finds; on disk shard by shard."""
    if not isinstance(structures, StructureStore):
        return check_structures(structures)
    findings, first = [], 0
    for chunk in chunks(structures, max(structures.sizes)):
        findings += [f._replace(structure=f.structure + first) for f in check_structures(chunk)]
        first += len(chunk)
    return findings
