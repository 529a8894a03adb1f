"""Reference energies of the elements: what of a total energy depends on the composition only."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols

from jaxmlp.fitting.data.labels import atomic_number
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.system import species_index


def composition(structures: Sequence[Structure], species: Sequence[int]) -> np.ndarray:
    """Return the number of atoms of every species in every structure, (structures, species) float64.

    Raises:
        ValueError: a structure has elements that are not in `species`.
    """
    species = tuple(int(z) for z in species)
    counts = np.zeros((len(structures), len(species)))
    for row, structure in zip(counts, structures, strict=True):
        try:
            index = species_index(species, structure.system.numbers)
        except ValueError as error:
            raise ValueError(f"{structure.name}: {error}") from error
        row += np.bincount(index, minlength=len(species))
    return counts


def fit_reference_energies(
    structures: Sequence[Structure],
    species: Sequence[int],
    *,
    isolated_atoms: Mapping[int | str, float] | None = None,
) -> dict[int, float]:
    """Return E0 (eV) of every species so that sum_s n_s E0_s is nearest to the energies, per atom, in least squares.

    Where compositions leave a combination of E0 undetermined (all structures are water: only 2 E0_H + E0_O matters),
    the solution with the smallest sum of squares is taken.

    Args:
        structures: those without an energy are left out.
        species: atomic numbers.
        isolated_atoms: energies (eV) of free atoms by atomic number or symbol, which are kept as they are; only the
            other species are fitted, to what remains.

    Raises:
        ValueError: energies are needed and no structure has one; energies that are not finite; names that are no
            elements.
    """
    species = tuple(int(z) for z in species)
    fixed = _by_number(isolated_atoms or {})
    free = [k for k, z in enumerate(species) if z not in fixed]
    E0 = np.array([fixed.get(z, 0.0) for z in species])
    if free:
        energies, rows = [], []
        for s in structures:  # one by one: a `StructureStore` is larger than the memory
            if s.energy is None:
                continue
            if not np.isfinite(s.energy):
                raise ValueError(f"{s.name}: the energy is {s.energy}; reference energies need finite numbers.")
            energies.append(s.energy)
            rows.append(composition([s], species)[0])
        if not rows:
            missing = ", ".join(chemical_symbols[species[k]] for k in free)
            raise ValueError(
                f"the reference energies of {missing} are to be fitted, but none of {len(structures)} structures has "
                "an energy. Give isolated_atoms, or check the name of the energies in the file."
            )
        counts = np.array(rows)
        atoms = counts.sum(axis=1)
        E0[free] = minimum_norm(counts[:, free] / atoms[:, None], (np.array(energies) - counts @ E0) / atoms)
    return {z: float(e) for z, e in zip(species, E0, strict=True)}


def minimum_norm(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the x with the least |A x - b|, and of these the least |x|.

    Singular values below 1e-6 of the largest count as zero: compositions that differ by less do not tell two elements
    apart, and E0 would be noise times 1e6.
    """
    return np.linalg.lstsq(A, b, rcond=1e-6)[0]


def isolated_atom_energies(structures: Sequence[Structure]) -> dict[int, float]:
    """Return the energies (eV) of single atoms among the structures, by atomic number.

    A single atom is isolated if nothing is periodic, or if its group says so ("isolated_atom", "IsolatedAtom").

    Raises:
        ValueError: two isolated atoms of one element have energies that differ by more than 1 meV.
    """
    found: dict[int, tuple[float, str]] = {}
    for structure in structures:
        named = structure.group.casefold().replace("_", "").replace(" ", "") == "isolatedatom"
        if len(structure) != 1 or structure.energy is None or (any(structure.system.pbc) and not named):
            continue
        number = int(structure.system.numbers[0])
        energy, name = found.setdefault(number, (structure.energy, structure.name))
        if abs(energy - structure.energy) > 1e-3:
            raise ValueError(
                f"isolated atoms of {chemical_symbols[number]} have {energy:.6f} eV ({name}) and "
                f"{structure.energy:.6f} eV ({structure.name})."
            )
    return {number: energy for number, (energy, _) in sorted(found.items())}


def _by_number(energies: Mapping[int | str, float]) -> dict[int, float]:
    out = {}
    for name, energy in energies.items():
        number = atomic_number(str(name))
        if number is None:
            raise ValueError(f"isolated_atoms is a mapping from atomic numbers or symbols to eV; got the key {name!r}.")
        out[number] = float(energy)
    return out
