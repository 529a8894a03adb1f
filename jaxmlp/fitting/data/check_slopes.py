"""Do forces and virials agree with the differences of energies between similar structures, in unit and sign?"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jaxmlp.fitting.data.check_sets import families
from jaxmlp.fitting.data.findings import Finding
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.units import GPa, bohr, hartree, kcal_per_mol

PAIRS = 60  # of one family, that are looked at
FEWEST = 6  # pairs, for a verdict
NOISE = 1e-3  # eV; energy differences below it tell nothing
# Energy differences over what the derivatives say; the inverse is the opposite mistake.
FORCE_RATIOS = {
    "forces in Hartree/Bohr, energies in eV": hartree / bohr,
    "forces in Hartree/Å, energies in eV": hartree,
    "forces per Bohr, positions in Å": 1 / bohr,
    "forces in kcal/mol/Å, energies in eV": kcal_per_mol,
}
VIRIAL_RATIOS = {
    "virials in Hartree, energies in eV": hartree,
    "a stress in GPa taken for eV/Å^3": GPa,
    "a stress in kbar taken for eV/Å^3": GPa / 10,
}


class _Pair(NamedTuple):
    forces: float  # eV, the change of the energy by the displacements, according to the forces
    virial: float  # eV, by the strain, according to the virials
    energy: float  # eV, the change itself


def slopes(structures: Sequence[Structure], chosen: Sequence[int]) -> list[Finding]:
    """Return families of structures whose forces or virials say something else than their energies.

    From structure a to b, E_b - E_a = -1/2 (F_a + F_b) . u - 1/2 (W_a + W_b) : strain, up to third order. Over pairs of
    successive structures of one group, the ratio of the two sides is 1, a factor of units, or -1. Where it scatters
    (large displacements, jumps between basins), nothing is said: 6 pairs out of 10 must be within 25 % of the median,
    or the correlation be above 0.95 with a slope like the median.
    Elastic, EOS, vacancy and MD groups of published sets have medians of 0.9 to 1.1.
    """
    found = []
    labelled = [k for k in chosen if structures[k].energy is not None and structures[k].forces is not None]
    for family in families(structures, labelled, lambda s: s.system.pbc, lambda s: s.group):
        pairs = [p for a, b in _successive(family) if (p := _pair(structures[a], structures[b])) is not None]
        still = [(p.forces, p.energy) for p in pairs if p.virial == 0]
        strained = [(p.virial, p.energy - p.forces) for p in pairs if abs(p.virial) > 3 * abs(p.forces)]
        first = structures[family[0]].name
        for label, xy, ratios in (("forces", still, FORCE_RATIOS), ("virials", strained, VIRIAL_RATIOS)):
            verdict = _verdict(label, np.array(xy).reshape(-1, 2), ratios)
            if verdict is not None:
                severity, message = verdict
                about = f"{first} and {len(family) - 1} more of these atoms (group {structures[family[0]].group!r})"
                found.append(Finding(family[0], "units", severity, f"{about}: {message}"))
    return found


def _successive(family: list[int]) -> list[tuple[int, int]]:
    pairs = list(pairwise(family))
    return pairs[:: max(1, len(pairs) // PAIRS)]


def _verdict(label: str, xy: np.ndarray, ratios: dict[str, float]) -> tuple[str, str] | None:
    xy = xy[(np.abs(xy[:, 1]) > NOISE) & (xy[:, 0] != 0)]
    if len(xy) < FEWEST:
        return None
    x, y = xy.T
    ratio, slope = float(np.median(y / x)), float(x @ y / (x @ x))
    most_agree = np.mean(np.abs(y / x / ratio - 1) < 0.25) >= 0.6
    correlated = abs(x @ y) > 0.95 * np.sqrt(x @ x * (y @ y)) and 0.67 < slope / ratio < 1.5
    if 0.67 < ratio < 1.5 or not (most_agree or correlated):
        return None
    said = f"energies change by {ratio:.4g} times what their {label} say"
    if -1.5 < ratio < -0.67:
        return "error", f"{said}: the {label} have the wrong sign."
    sign = ", with the wrong sign" if ratio < 0 else ""
    named = [(np.log(f), name) for name, f in ratios.items()]
    named += [(-log, f"the opposite of {name}") for log, name in named]
    log, name = min(named, key=lambda entry: abs(np.log(abs(ratio)) - entry[0]))
    if abs(np.log(abs(ratio)) - log) < (0.1 if abs(log) < 1 else 0.25):
        return "error", f"{said}: {name}{sign}?"
    return (
        "error" if ratio < 0 else "warning"
    ), f"{said}{sign}. They do not belong together, or are in different units."


def _pair(a: Structure, b: Structure) -> _Pair | None:
    """Compare two structures of the same atoms; None where they are too far apart."""
    if a.forces is None or b.forces is None or a.energy is None or b.energy is None:
        return None
    A, B = a.system, b.system
    Fa, Fb, Rb = a.forces, b.forces, B.R
    virial = 0.0
    if A.box is None or B.box is None:
        Ra = A.R - A.R.mean(axis=0)
        Q = _rotation(Rb - Rb.mean(axis=0), Ra)
        u, Fb = (Rb - Rb.mean(axis=0)) @ Q - Ra, Fb @ Q
    else:
        change = np.linalg.solve(A.box, B.box)  # box_b = box_a @ change
        strain = 2 * np.linalg.solve(change + np.eye(3), change - np.eye(3))  # its logarithm, to third order
        if np.abs(strain).max() > 0.1:
            return None
        if np.abs(strain).max() > 1e-6:
            if a.virial is None or b.virial is None:
                return None
            virial = -0.5 * float(((a.virial + b.virial) * strain).sum())
        s = np.linalg.solve(B.box.T, (Rb - A.R @ change).T).T
        u = (s - np.where(B.pbc, np.rint(s), 0)) @ B.box
        u = u - u.mean(axis=0)
    if np.linalg.norm(u, axis=1).max() > 1.0:  # Å: no expansion reaches that far
        return None
    return _Pair(-0.5 * float(((Fa + Fb) * u).sum()), virial, b.energy - a.energy)


def _rotation(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the rotation Q with the least |X Q - Y| (Kabsch, Acta Cryst. A 32, 922 (1976))."""
    U, _, V = np.linalg.svd(X.T @ Y)
    return U @ np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ V))]) @ V


def force_scales(structures: Sequence[Structure], chosen: Sequence[int]) -> list[Finding]:
    """Return structures whose forces are larger or smaller by a factor of units than those of the same atoms.

    Said only where the others agree: their root mean squares scatter by less than 30 per cent. Three structures with
    the same factor are an error, fewer may be accident (a relaxed structure among those of a trajectory).
    """
    found = []
    forces = {k: F for k in chosen if (F := structures[k].forces) is not None and F.any()}
    for family in families(structures, list(forces), lambda s: s.system.pbc):
        if len(family) < 10:
            continue
        size = np.log([np.sqrt(np.mean(forces[k] ** 2)) for k in family])
        off = size - np.median(size)
        spread = 1.4826 * float(np.median(np.abs(off)))
        if spread > 0.3:
            continue
        for name, factor in (("Hartree/Bohr", hartree / bohr), ("Hartree/Å", hartree), ("kcal/mol/Å", kcal_per_mol)):
            for unit, target in ((f"{name} rather than eV/Å", -np.log(factor)),
                                 (f"eV/Å, where the others are in {name}", np.log(factor))):  # fmt: skip
                hit = [k for k, x in zip(family, off, strict=True) if abs(x - target) < max(2 * spread, 0.1)]
                if hit and len(hit) < len(family) / 2:
                    found.append(
                        Finding(
                            hit[0], "units", "error" if len(hit) >= 3 else "warning",
                            f"{structures[hit[0]].name}: forces of {len(hit)} structure(s) from here on are "
                            f"{np.exp(target):.4g} times those of {len(family)} with the same atoms. "
                            f"Are they in {unit}?",
                        )
                    )  # fmt: skip
    return found
