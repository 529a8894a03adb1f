"""A sensible structure for a potential that comes without one: its elements at ordinary distances."""

from collections.abc import Callable

import numpy as np

from jaxmlp.potential import Potential
from jaxmlp.system import System

_ELEMENTARY = ("fcc", "bcc", "hcp", "diamond", "sc")


def example_system(
    potential: Potential, *, atoms: int = 48, distance: Callable[[], float | None] = lambda: None, seed: int = 0
) -> System:
    """Return a periodic crystal of the potential's elements, about `atoms` atoms, moved by 0.05 Å at random.

    One element: its own crystal at room temperature. Several: a simple cubic lattice with the elements in turn (rock
    salt for two), neighbours 1.15 times the sum of two covalent radii apart. Where the neighbours of this crystal lie
    beyond 0.8 cutoffs (a potential in units of its own), the lattice is scaled to `distance()`, or to 0.6 cutoffs.
    """
    crystal = _element(potential.species[0]) if len(potential.species) == 1 else _compound(potential.species)
    spacing = _nearest(crystal)
    if spacing > 0.8 * potential.cutoff:
        crystal.set_cell(crystal.cell.array * ((distance() or 0.6 * potential.cutoff) / spacing), scale_atoms=True)
    repeats = np.ones(3, int)
    while repeats.prod() * len(crystal) < atoms:
        repeats[np.argmin(repeats * crystal.cell.lengths())] += 1
    crystal = crystal.repeat(tuple(repeats))
    if len(potential.species) > 2:  # elements in turn along a row would be planes
        np.random.default_rng(seed).shuffle(crystal.numbers)
    crystal.rattle(0.05, seed=seed)
    return System.from_ase(crystal)


def _element(number: int):
    from ase.build import bulk
    from ase.data import chemical_symbols, covalent_radii, reference_states

    state = reference_states[number] if number < len(reference_states) else None
    if state and state.get("symmetry") in _ELEMENTARY:
        crystal = bulk(chemical_symbols[number])
        # A rhombohedral cell of few atoms has short heights; ASE's cubic ones are rounder.
        return bulk(chemical_symbols[number], cubic=True) if state["symmetry"] in ("fcc", "bcc", "diamond") else crystal
    return bulk(chemical_symbols[number], "fcc", a=2.3 * covalent_radii[number] * np.sqrt(2), cubic=True)


def _compound(species: tuple[int, ...]):
    from ase import Atoms
    from ase.data import covalent_radii

    spacing = 2.3 * float(np.mean([covalent_radii[z] for z in species]))
    corners = np.array(list(np.ndindex(2, 2, 2)))
    places = corners.sum(axis=1) % 2 if len(species) == 2 else np.arange(8)
    numbers = [species[k % len(species)] for k in places]
    return Atoms(numbers, spacing * corners, cell=2 * spacing * np.eye(3), pbc=True)


def _nearest(crystal) -> float:
    """Å between nearest neighbours, images included."""
    return float(crystal.repeat(2).get_all_distances(mic=True)[0, 1:].min())
