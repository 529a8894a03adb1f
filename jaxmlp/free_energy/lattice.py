"""The primitive cell of a crystal's box, and how many of it the box holds."""

from itertools import combinations

import numpy as np
from scipy.spatial import cKDTree

from jaxmlp.system import System


def translations(system: System, tolerance: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the translations that map the crystal onto itself, and what becomes of its atoms.

    Args:
        system: sites of a crystal, periodic in all directions.
        tolerance: Å, within which a moved atom lies on one of its species; None takes a sixth of (V / N)^(1/3), which
            mean positions of a run meet.

    Returns:
        shifts (T, 3), fractional, up to whole vectors of the box; onto (T, N), the atom on whose site each atom comes.
        The first is that by nothing.
    """
    reach = np.cbrt(system.volume / len(system)) / 6 if tolerance is None else tolerance
    s = system.R @ np.linalg.inv(system.box)
    s = s - np.floor(s)
    rare = min(system.species, key=lambda z: int((system.numbers == z).sum()))  # a translation moves them among them
    of_rare = np.flatnonzero(system.numbers == rare)
    # Cartesian distances, with images near the faces of the cell: R of all atoms and of their 26 images.
    steps = np.array(list(np.ndindex(3, 3, 3))) - 1
    trees = {}
    for z in system.species:
        mine = np.flatnonzero(system.numbers == z)
        images = (s[mine][None] + steps[:, None]).reshape(-1, 3)
        near = ((images > -0.5) & (images < 1.5)).all(axis=1)
        trees[z] = mine, np.tile(mine, len(steps))[near], cKDTree(images[near] @ system.box)

    shifts, onto = [], []
    for k in of_rare:
        shift, target = s[k] - s[of_rare[0]], np.empty(len(system), int)
        for mine, owner, tree in trees.values():
            moved = s[mine] + shift
            distance, which = tree.query((moved - np.floor(moved)) @ system.box)
            if distance.max() > reach:
                break
            target[mine] = owner[which]
        else:
            shifts.append(shift)
            onto.append(target)
    return np.array(shifts), np.array(onto)


def primitive_cells(system: System, tolerance: float | None = None) -> int:
    """Return the number of translations that map the crystal onto itself: N in fcc and bcc, N / 2 in diamond and hcp.

    Arguments as for `translations`.
    """
    return len(translations(system, tolerance)[0])


def primitive_cell(system: System, tolerance: float | None = None) -> tuple[System, np.ndarray]:
    """Return the primitive cell of a crystal, the mean of all in the box, and what the box is made of: (3, 3) integers.

    The rows of the integers times the vectors of the primitive cell are those of the box; their determinant is the
    number of primitive cells. Arguments as for `translations`.
    """
    shifts, onto = translations(system, tolerance)
    count, inverse = len(shifts), np.linalg.inv(system.box)
    if count == 1:
        return system.replace(velocities=None), np.eye(3, dtype=int)
    # Exact translations are fractions of the box by integers no larger than their number.
    s = system.R @ inverse
    moved = s[onto] - s  # each atom's own opinion, plus whole vectors of the box
    moved -= np.round(moved - shifts[:, None])
    shifts = np.round(moved.mean(axis=1) * count) / count
    steps = np.array(list(np.ndindex(3, 3, 3))) - 1
    vectors = (shifts[:, None] + steps).reshape(-1, 3)
    vectors = vectors[np.argsort(np.round(np.linalg.norm(vectors @ system.box, axis=1), 6), kind="stable")][1:]
    basis = _basis(vectors, 1 / count)
    multiples = np.round(np.linalg.inv(basis)).astype(int)
    cell = basis @ system.box
    # Atoms that translations map on each other are one atom of the primitive cell, at the mean of what they make it.
    first = np.flatnonzero(np.arange(len(system)) == onto.min(axis=0))
    apart = s[onto[:, first]] - shifts[:, None] - s[first]
    sites = s[first] + (apart - np.round(apart)).mean(axis=0)
    masses = system.masses[onto[:, first]].mean(axis=0)
    return System(system.numbers[first], sites @ system.box, cell, masses=masses), multiples


def _basis(vectors: np.ndarray, volume: float) -> np.ndarray:
    """Return the first three of the vectors, the shortest ones first, that span a right-handed cell of that volume."""
    for few in (30, 200, len(vectors)):
        for three in combinations(vectors[:few], 3):
            found = np.linalg.det(three)
            if abs(abs(found) - volume) < 1e-6 * volume:
                return np.array(three) * np.sign(found)
    raise AssertionError("translations are a group, which three of them generate")
