"""Checks of energies per atom against a fit of reference energies that a minority of wrong ones does not spoil."""

from collections.abc import Sequence

import numpy as np

from jaxmlp.fitting.data.findings import Finding
from jaxmlp.fitting.data.reference_energies import composition, minimum_norm
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.units import hartree, kcal_per_mol

FEWEST = 8  # structures, for statistics
# eV per unit: an energy in this unit, taken for eV, is too small by the factor; its inverse is the opposite mistake.
UNITS = {"Hartree": hartree, "Ry": hartree / 2, "kcal/mol": kcal_per_mol, "kJ/mol": kcal_per_mol / 4.184}


def energies_and_units(structures: Sequence[Structure], chosen: Sequence[int], *, outlier: float) -> list[Finding]:
    """Return energies that are far from sum_s n_s E0_s, and among them those that a factor of units brings back.

    E0 minimises the sum of absolute deviations per atom, so up to half of the structures may be wrong. An energy e per
    atom is reported to be in another unit if it is more than 20 robust standard deviations s off, and k e within 4 s,
    for a factor k between units. By accident that happens with a probability of about 8 s / |e_fit| at most (e anywhere
    between 0 and e_fit, as along a curve of expansion). It is an error where this is below 1/10 and two structures are
    in the same unit, or where it is below 1/100; no single atoms.
    """
    labelled = [k for k in chosen if structures[k].energy is not None]
    species = sorted({int(z) for k in labelled for z in structures[k].system.species})
    if len(labelled) < max(FEWEST, 2 * len(species)):
        return []
    subset = [structures[k] for k in labelled]
    counts = composition(subset, species)
    atoms = counts.sum(axis=1)
    e = np.array([s.energy for s in subset]) / atoms
    fit = least_absolute(counts / atoms[:, None], e)
    off = np.abs(e - fit)
    spread = max(1.4826 * float(np.median(off)), 1e-4)
    wide = max(1.0, outlier * spread, 5 * float(np.quantile(off, 0.9)))
    units = [_unit(x, y, spread) if d > outlier * spread else None for x, y, d in zip(e, fit, off, strict=True)]
    found = []
    for k, structure, energy, expected, distance, unit in zip(labelled, subset, e, fit, off, units, strict=True):
        where = f"{structure.name}: the energy is {energy:.6g} eV per atom"
        if unit is not None:
            ratio = abs(expected) / spread if len(structure) > 1 else 0.0
            sure = ratio > 800 or (ratio > 80 and units.count(unit) > 1)
            found.append(
                Finding(
                    k, "units", "error" if sure else "warning",
                    f"{where}, where {expected:.6g} would fit to the other structures. Is it in {unit}?",
                )
            )  # fmt: skip
        elif distance > wide and len(structure) > 1:
            found.append(
                Finding(
                    k, "energy", "warning",
                    f"{where}, {distance:.3g} eV or {distance / spread:.0f} robust deviations from {expected:.6g} "
                    "that would fit to the composition of the other structures.",
                )
            )  # fmt: skip
    return found


def _unit(energy: float, expected: float, spread: float) -> str | None:
    for name, factor in UNITS.items():
        if abs(energy * factor - expected) < 4 * spread:
            return f"{name} rather than eV"
        if abs(energy / factor - expected) < 4 * spread:
            return f"eV, where the others are in {name}"
    return None


def least_absolute(A: np.ndarray, b: np.ndarray, *, steps: int = 50) -> np.ndarray:
    """Return A x of the x with the smallest sum of |A x - b|, by weighted least squares with weights 1 / |A x - b|."""
    weight = np.ones_like(b)
    prediction = np.full_like(b, np.median(b))
    for _ in range(steps):
        prediction = A @ minimum_norm(A * weight[:, None], b * weight)
        off = np.abs(prediction - b)
        weight = 1 / np.sqrt(np.maximum(off, 1e-3 * max(float(np.median(off)), 1e-6)))
    return prediction
