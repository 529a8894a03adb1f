"""Splits into training, validation and test sets that depend on the structures and a seed, not on their order.

Every structure gets a number from a hash (SHA-256) of its content and the seed; the structures in the order of these
numbers are dealt out. So the same data in another order are split alike, on any machine.
Frames of one trajectory resemble each other: a random split of them measures interpolation, not transfer to new
structures. For that, split by groups yourself, or hold a group out. Copies of one structure may end up in two parts;
`check_structures` finds copies.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from jaxmlp.fitting.data.structure import Structure


def split(
    structures: Sequence[Structure],
    sizes: Sequence[float] | Sequence[int],
    *,
    seed: int = 0,
    stratify: str | None = None,
) -> tuple[list[Structure], ...]:
    """Return parts of the structures, disjoint, each in the order of the input.

    Args:
        structures: what is split.
        sizes: fractions (floats, of sum 1 or less; cumulative rounding: sum 1 leaves nothing out), or counts
            (integers). What exceeds the sum is in no part.
        seed: another seed, another split.
        stratify: "group" gives every group its share in every part, as exactly as integers allow.

    Raises:
        ValueError: sizes that are negative or sum up to more than there is; an unknown `stratify`.
    """
    parts = places(structures, sizes, seed=seed, stratify=stratify)
    return tuple([structures[k] for k in part] for part in parts)


def places(
    structures: Iterable[Structure],
    sizes: Sequence[float] | Sequence[int],
    *,
    seed: int = 0,
    stratify: str | None = None,
) -> list[list[int]]:
    """Return the places of the structures of every part that `split` returns; structures are looked at one by one."""
    order = _order(structures, seed, _known(stratify))
    ends = _ends(sizes, len(order))
    return [sorted(part.tolist()) for part in np.split(order, ends)[: len(ends)]]


def kfold(
    structures: Sequence[Structure], k: int, *, seed: int = 0, stratify: str | None = None
) -> list[tuple[list[Structure], list[Structure]]]:
    """Return k pairs (training, validation); every structure is in one of the validation parts, of nearly equal sizes.

    Args:
        structures, seed, stratify: see `split`.
        k: number of folds, 2 or more, and not more than there are structures.

    Raises:
        ValueError: another k.
    """
    n = len(structures)
    if not 2 <= k <= n:
        raise ValueError(f"k must be between 2 and the number of structures, {n}; got {k}.")
    parts = np.array_split(_order(structures, seed, _known(stratify)), k)
    pairs = []
    for part in parts:
        held_out = set(part.tolist())
        training = [s for i, s in enumerate(structures) if i not in held_out]
        pairs.append((training, [structures[i] for i in sorted(held_out)]))
    return pairs


def _known(stratify: str | None) -> str | None:
    if stratify not in (None, "group"):
        raise ValueError(f'stratify must be "group" or None; got {stratify!r}.')
    return stratify


def _ends(sizes: Sequence[float], n: int) -> np.ndarray:
    sizes = list(sizes)
    if not sizes or not all(np.isfinite(s) and s >= 0 for s in sizes):
        raise ValueError(f"the sizes of a split are fractions or counts, none negative; got {sizes}.")
    if all(isinstance(s, int | np.integer) for s in sizes):
        ends = np.cumsum(sizes)
        if ends[-1] > n:
            raise ValueError(f"a split into {sizes} needs {ends[-1]} structures; there are {n}.")
        return ends
    if sum(sizes) > 1 + 1e-9:
        raise ValueError(f"fractions of a split must sum up to 1 or less (counts are integers); got {sizes}.")
    return np.minimum(np.rint(np.cumsum(sizes) * n).astype(int), n)


def _order(structures: Iterable[Structure], seed: int, stratify: str | None) -> np.ndarray:
    """Return the indices in the order in which structures are dealt out."""
    hashes, groups = [], []
    for structure in structures:
        hashes.append(_hash(structure, seed))
        groups.append(structure.group)
    order = sorted(range(len(structures)), key=hashes.__getitem__)
    if stratify is None:
        return np.array(order, int)
    members: dict[str, list[int]] = {}
    for k in order:
        members.setdefault(groups[k], []).append(k)
    # The m-th of n members of a group comes at (m + 1/2) / n: any stretch of the order has all groups in proportion.
    place = {k: (m + 0.5) / len(ks) for ks in members.values() for m, k in enumerate(ks)}
    return np.array(sorted(order, key=lambda k: (place[k], hashes[k])), int)


def _hash(structure: Structure, seed: int) -> bytes:
    """Hash elements, positions, box and energy to 1e-8, so that the last bits do not matter."""
    system = structure.system
    text = hashlib.sha256(str(int(seed)).encode())
    text.update(system.numbers.astype("<i4").tobytes() + bytes(system.pbc))
    energy = np.nan if structure.energy is None else structure.energy
    for x in (system.R, np.zeros(0) if system.box is None else system.box, np.array([energy])):
        text.update((np.round(x, 8) + 0.0).astype("<f8").tobytes())  # + 0.0: no negative zeros
    return text.digest()
