"""Checks of labelled structures before a training starts: those of one structure, and all together."""

from collections.abc import Iterator, Sequence

import numpy as np
from ase.data import chemical_symbols, covalent_radii

from jaxmlp.fitting.data.check_energies import energies_and_units
from jaxmlp.fitting.data.check_sets import duplicates, periodicity
from jaxmlp.fitting.data.check_slopes import force_scales, slopes
from jaxmlp.fitting.data.findings import Finding, raise_errors, report
from jaxmlp.fitting.data.structure import Structure

__all__ = ["Finding", "check_structures", "raise_errors", "report"]

LABELS = ("energy", "forces", "virial", "dipole", "charges")
OVERLAP = 0.4  # Å; H2 has its bond at 0.74 Å, and no training set needs atoms nearer than this


def check_structures(
    structures: Sequence[Structure],
    *,
    contact: float = 0.35,
    net_force: float = 0.02,
    outlier: float = 20.0,
) -> list[Finding]:
    """Return what is wrong, or looks wrong, in the order of the structures.

    | kind      | error                                        | warning                                              |
    |-----------|----------------------------------------------|------------------------------------------------------|
    | labels    | NaN or infinite                              | no structure has energies, or forces                 |
    | contact   | two atoms nearer than 0.4 Å, or than         |                                                      |
    |           | `contact` times the sum of covalent radii    |                                                      |
    | net force | as large as forces drawn at random           | above `net_force`                                    |
    | virial    | asymmetric by 5 % of its largest component   | asymmetric by 0.5 %                                  |
    | cell      | under a tenth of the atoms' covalent spheres | 1e4 times these spheres; the same atoms, free and    |
    |           |                                              | periodic                                             |
    | duplicate | labels contradict each other                 | copies                                               |
    | energy    |                                              | far from all other energies                          |
    | units     | a part in other units; forces or virials     | the same, less certain                               |
    |           | that energies contradict, or of other sign   |                                                      |

    What cannot be decided (few structures, wide scatter) is not reported.

    Args:
        structures: of one set; duplicates and units are looked for among all of them.
        contact: fraction of the sum of two covalent radii; 0 for data that contain collisions on purpose (the absolute
            bound of 0.4 Å remains).
        net_force: eV/Å, of |sum F| / sqrt(N), which is what noise of this size in every force gives; one per cent of
            the forces is allowed on top. Plane-wave codes leave about 0.001, quick settings up to 0.02.
        outlier: distance of an energy per atom from the fit of reference energies, in robust standard deviations, and
            at least 1 eV; beyond five times the 90 % quantile too, so that a wide set has no outliers.
    """
    structures = list(structures)
    found: list[Finding] = list(_missing(structures))
    for k, structure in enumerate(structures):
        for kind, severity, message in (
            *_not_finite(structure),
            *_contacts(structure, contact),
            *_net_force(structure, net_force),
            *_asymmetric(structure),
            *_volume(structure),
        ):
            found.append(Finding(k, kind, severity, f"{structure.name}: {message}"))
    sound = [k for k, s in enumerate(structures) if not any(True for _ in _not_finite(s))]
    for check in (duplicates, periodicity, energies_and_units, force_scales, slopes):
        options = {"outlier": outlier} if check is energies_and_units else {}
        found += check(structures, sound, **options)
    return sorted(found, key=lambda f: f.structure)


Simple = Iterator[tuple[str, str, str]]  # kind, severity, message


def _missing(structures: Sequence[Structure]) -> Iterator[Finding]:
    for label in ("energy", "forces"):
        if structures and all(getattr(s, label) is None for s in structures):
            yield Finding(
                0, "labels", "warning", f"{structures[0].name}: neither this nor any other structure has {label}; "
                "do they have another name in the file?"
            )  # fmt: skip


def _not_finite(structure: Structure) -> Simple:
    for label in LABELS:
        value = getattr(structure, label)
        if value is None or np.isfinite(value).all():
            continue
        where = ""
        if np.ndim(value) and len(value) == len(structure):
            where = f" of atom {int(np.flatnonzero(~np.isfinite(value).reshape(len(structure), -1).all(axis=1))[0])}"
        yield "labels", "error", f"the {label}{where} is NaN or infinite."


def _contacts(structure: Structure, contact: float) -> Simple:
    from vesin import NeighborList

    system = structure.system
    radii = covalent_radii[system.numbers]
    cutoff = max(OVERLAP, contact * 2 * radii.max())
    box = np.zeros((3, 3)) if system.box is None else system.box
    i, j, d = NeighborList(cutoff=float(cutoff), full_list=False).compute(system.R, box, system.pbc, "ijd")
    bound = np.maximum(OVERLAP, contact * (radii[i] + radii[j]))
    near = np.flatnonzero(d < bound)
    if near.size:
        k = near[np.argmin(d[near] / bound[near])]
        a, b = (f"{chemical_symbols[system.numbers[x]]} {x}" for x in (int(i[k]), int(j[k])))
        more = f" ({near.size} such pairs)" if near.size > 1 else ""
        yield (
            "contact",
            "error",
            (
                f"the atoms {a} and {b} are {d[k]:.3f} Å apart, less than {bound[k]:.3f} Å{more}. Is "
                "the cell the right one, in Å?"
            ),
        )


def _net_force(structure: Structure, bound: float) -> Simple:
    F = structure.forces
    if F is None or not np.isfinite(F).all():
        return
    n = len(structure)
    net = float(np.linalg.norm(F.sum(axis=0))) / np.sqrt(n)
    typical = float(np.linalg.norm(F)) / np.sqrt(n)
    if net <= bound + 0.01 * typical:
        return
    # Independent random forces have net = typical on average; a net below a tenth of it is a drift of the code.
    wrong = net > 0.5 * typical and net > 5 * bound
    yield (
        "net force",
        "error" if wrong else "warning",
        (
            f"the forces do not sum up to zero: |sum F| / sqrt(N) = {net:.3g} eV/Å, where the forces are {typical:.3g} "
            "eV/Å (root of the mean square). A potential without external fields cannot fit that."
        ),
    )


def _asymmetric(structure: Structure) -> Simple:
    W = structure.virial
    if W is None or not np.isfinite(W).all():
        return
    difference, size = float(np.abs(W - W.T).max()), float(np.abs(W).max())
    per_atom = difference / len(structure)
    if difference > 0.005 * size and per_atom > 1e-3:
        wrong = difference > 0.05 * size and per_atom > 1e-2
        yield (
            "virial",
            "error" if wrong else "warning",
            (
                f"the virial is not symmetric: components differ by {difference:.3g} eV, the largest is {size:.3g}. "
                "Are its components in another order?"
            ),
        )


def _volume(structure: Structure) -> Simple:
    system = structure.system
    if system.box is None or not all(system.pbc):
        return
    spheres = float(4 / 3 * np.pi * (covalent_radii[system.numbers] ** 3).sum())
    ratio = system.volume / spheres
    if ratio < 0.1 or ratio > 1e4:
        severity = "error" if ratio < 0.1 else "warning"
        yield (
            "cell",
            severity,
            (
                f"the cell has {system.volume:.4g} Å^3 for {len(system)} atom(s) with spheres of {spheres:.4g} Å^3. "
                "Is it in Å, and periodic?"
            ),
        )
