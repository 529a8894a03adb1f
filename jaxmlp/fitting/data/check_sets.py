"""Checks among structures of the same atoms: copies, and periodic ones beside free ones."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from jaxmlp.fitting.data.findings import Finding
from jaxmlp.fitting.data.structure import Structure

SAME = 1e-4  # Å: files with four decimals agree to this
# Beyond these, labels of one structure are not the noise of one method: per atom eV, eV/Å, per atom eV.
CONTRADICTION = {"energy": 5e-3, "forces": 0.1, "virial": 0.05}


def families(structures: Sequence[Structure], chosen: Sequence[int], *more) -> list[list[int]]:
    """Return the indices of structures with the same atoms in the same order; `more`: functions that must agree too."""
    found: dict[tuple, list[int]] = {}
    for k in chosen:
        key = (structures[k].system.numbers.tobytes(), *(f(structures[k]) for f in more))
        found.setdefault(key, []).append(k)
    return list(found.values())


def duplicates(structures: Sequence[Structure], chosen: Sequence[int]) -> list[Finding]:
    """Return structures whose positions and cell equal those of an earlier one to 1e-4 Å.

    Equal geometries are near each other in projections on a few fixed random directions, where a tree finds pairs.
    Unlike with hashes of rounded numbers, none is missed at the edge of a bin.
    """
    found = []
    for family in families(structures, chosen, lambda s: s.system.pbc, lambda s: s.system.box is None):
        if len(family) < 2:
            continue
        size = _geometry(structures[family[0]]).size
        directions = np.random.default_rng(0).normal(size=(4, size))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        places = np.stack([directions @ _geometry(structures[k]) for k in family])
        # Each projection of a difference is at most its length, SAME sqrt(size) for numbers that differ by SAME.
        near = cKDTree(places).query_pairs(SAME * np.sqrt(size), p=np.inf)
        first: dict[int, int] = {}  # one finding for every copy, which names the first of its kind
        for i, j in sorted(near):
            a, b = _geometry(structures[family[i]]), _geometry(structures[family[j]])
            if j not in first and np.abs(a - b).max() <= SAME:
                first[j] = i
        found += [_compared(structures, family[i], family[j]) for j, i in first.items()]
    return found


def _geometry(structure: Structure) -> np.ndarray:
    system = structure.system
    return np.concatenate([system.R.ravel(), np.zeros(0) if system.box is None else system.box.ravel()])


def _compared(structures: Sequence[Structure], first: int, second: int) -> Finding:
    a, b = structures[first], structures[second]
    differences = {}
    for label in CONTRADICTION:
        x, y = getattr(a, label), getattr(b, label)
        if x is not None and y is not None:
            scale = 1 if label == "forces" else len(a)
            differences[label] = float(np.max(np.abs(np.subtract(x, y)))) / scale
    worst = [f"{label} by {d:.3g}" for label, d in differences.items() if d > CONTRADICTION[label]]
    if worst:
        return Finding(
            second, "duplicate", "error",
            f"{b.name}: the same atoms at the same positions as {a.name}, but the labels differ: {', '.join(worst)} "
            "(eV per atom, eV/Å). Remove one of them.",
        )  # fmt: skip
    noise = max(differences.values(), default=0.0)
    said = "and the same labels" if noise < 1e-6 else f"with labels that differ by {noise:.2g} at most"
    return Finding(second, "duplicate", "warning", f"{b.name}: a copy of {a.name}, {said}.")


def periodicity(structures: Sequence[Structure], chosen: Sequence[int]) -> list[Finding]:
    """Return structures that are free while most others of the same atoms are periodic, or the reverse."""
    found = []
    for family in families(structures, chosen):
        kinds: dict[tuple, list[int]] = {}
        for k in family:
            kinds.setdefault(structures[k].system.pbc, []).append(k)
        if len(kinds) < 2 or len(structures[family[0]]) < 2:
            continue
        usual = max(kinds, key=lambda pbc: len(kinds[pbc]))
        for pbc, members in kinds.items():
            if pbc != usual:
                found.append(
                    Finding(
                        members[0], "cell", "warning",
                        f"{structures[members[0]].name}: {len(members)} structure(s) of these atoms have pbc {pbc}, "
                        f"{len(kinds[usual])} others {usual}. Is a lattice missing?",
                    )
                )  # fmt: skip
    return found
