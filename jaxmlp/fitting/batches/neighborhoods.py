"""The neighbours of a structure that never moves, found once on the host and kept as short arrays."""

from typing import NamedTuple

import numpy as np

from jaxmlp.fitting.data.structure import Structure
from jaxmlp.neighbors.grid import edges
from jaxmlp.potential import Potential
from jaxmlp.system import System, species_index


class Neighborhood(NamedTuple):
    """The rows of a structure's atoms; sites are its n atoms, then the periodic images that any of them sees.

    Edges are sorted by their first atom and, within its row, by length, so that every inner cutoff has its edges first.

    Args:
        species: (n,) places in the potential's species.
        R: (n, 3) Å.
        owner: (g,) atoms that the images are images of.
        offset: (g, 3) Å, by how much they are moved.
        row: (E,) atom an edge starts from.
        slot: (E,) its place in that atom's row.
        site: (E,) where it leads: an atom, or n plus the number of an image.
        reverse: (E,) the same edge seen from the other atom.
        counts: (shells,) neighbours that an atom has at most within each cutoff.
    """

    species: np.ndarray
    R: np.ndarray
    owner: np.ndarray
    offset: np.ndarray
    row: np.ndarray
    slot: np.ndarray
    site: np.ndarray
    reverse: np.ndarray
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.species)

    @property
    def closest(self) -> float:
        """The smallest distance between neighbours, Å; infinite without any."""
        first = self.slot == 0
        sites = np.concatenate([self.R, self.R[self.owner] + self.offset])
        lengths = np.linalg.norm(sites[self.site[first]] - self.R[self.row[first]], axis=1)
        return float(np.min(lengths, initial=np.inf))


def named_neighborhood(s: Structure, potential: Potential) -> Neighborhood:
    """Return the neighbours of a structure's atoms for a potential; errors name the structure."""
    try:
        return neighborhood(s.system, potential.species, potential.shells)
    except ValueError as error:
        raise ValueError(f"{s.name}: {error}") from None


def neighborhood(system: System, species: tuple[int, ...], shells: tuple[float, ...]) -> Neighborhood:
    """Return the neighbours of all atoms of `system` within the last of the growing cutoffs `shells` (Å).

    Args:
        species: atomic numbers of the potential, in its order.

    Raises:
        ValueError: the system has elements that are not among `species`.
    """
    n = len(system)
    index = species_index(species, system.numbers)
    i, j, shift = edges(system.R, system.box, system.pbc, shells[-1])
    i, j, shift = i.astype(np.int64), j.astype(np.int64), shift.astype(np.int64)
    box = np.eye(3) if system.box is None else system.box
    length = np.linalg.norm(system.R[j] + shift @ box - system.R[i], axis=1)
    order = np.lexsort((length, i))
    i, j, shift, length = i[order], j[order], shift[order], length[order]
    slot = np.arange(len(i)) - np.searchsorted(i, i)
    counts = tuple(int(np.bincount(i[length < cutoff], minlength=n).max()) for cutoff in shells)
    images = np.column_stack([j, shift])
    away = shift.any(axis=1)
    ghosts, place = np.unique(images[away], axis=0, return_inverse=True)
    site = j.copy()
    site[away] = n + place.ravel()
    # The edge i -> j by shift S is j -> i by -S: both lists sorted alike pair them up.
    forward = np.lexsort((*shift.T, j, i))
    backward = np.lexsort((*-shift.T, i, j))
    reverse = np.empty(len(i), np.int64)
    reverse[forward] = backward
    small = lambda x: x.astype(np.int32)
    owner, offset = ghosts[:, 0], ghosts[:, 1:] @ box
    return Neighborhood(
        index, system.R, small(owner), offset, small(i), small(slot), small(site), small(reverse), counts
    )
