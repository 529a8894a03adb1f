"""Curves of a few atoms: is the energy the integral of the force everywhere, also where atoms cross a cutoff?"""

from itertools import combinations_with_replacement

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.check import Curve, Line, Subject
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

_CLOSE = 20.0  # eV; above it, atoms are closer than dynamics would bring them
_POINTS = 1201  # nodes and midpoints of Simpson's rule


class _Row:
    """Two atoms, or two and a third one standing by; the second moves along x. Compiled once."""

    def __init__(self, potential: Potential, params: Params, numbers: tuple[int, ...], nearest: float):
        c = potential.cutoff
        third = 0.45 * c * np.array([[-0.5, np.sqrt(0.75), 0]])  # seen 120 degrees from the moving one
        R = np.vstack([np.zeros((1, 3)), [[nearest, 0, 0]], third])[: len(numbers)]
        box = None if potential.local else 4 * c * np.eye(3)  # long-range sums need one; other images are out of reach
        subject = Subject(potential, params, System(np.array(numbers), R, box), headroom=0.3)

        @jax.jit
        def along(params, distances):
            def one(x):
                out = subject.pure(params, subject.R.at[1, 0].set(x), subject.box, subject.species)
                return out.energy, -out.forces[1, 0]

            return jax.lax.map(one, distances)

        self._along, self._params = along, subject.params

    def __call__(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return E and dE/dr at the distances r, eV and eV/Å."""
        energy, slope = self._along(self._params, jnp.asarray(r))
        return np.asarray(energy), np.asarray(slope)


def bond_length(potential: Potential, params: Params) -> float | None:
    """Return the distance (Å) of the lowest point of the dimer of the first element, None where it has no minimum."""
    z = potential.species[0]
    r = np.append(np.linspace(0.15, 0.95, _POINTS - 1), 1.05) * potential.cutoff
    energy, _ = _Row(potential, params, (z, z), r[0])(r)
    k = int(np.argmin(np.where(np.isfinite(energy), energy, np.inf)))
    return float(r[k]) if 0 < k < len(r) - 1 and energy[k] < energy[-1] else None


def scan(potential: Potential, params: Params, system: System) -> tuple[list[Line], list[Curve]]:
    """Return what dimers and trimers of all elements of the system show, and the dimer curves."""
    from ase.data import chemical_symbols, covalent_radii

    jumps, kinks, holes, curves = [0.0], [0.0], [0.0], []
    for a, b in combinations_with_replacement(system.species, 2):
        nearest = min(0.55 * (covalent_radii[a] + covalent_radii[b]), 0.35 * potential.cutoff)
        r = np.linspace(nearest, potential.cutoff + 0.1, _POINTS)
        for numbers in ((a, b), (a, b, a)):
            row = _Row(potential, params, numbers, nearest)
            energy, slope = row(r)
            if len(numbers) == 2:
                name = "".join(chemical_symbols[z] for z in numbers)
                curves.append(Curve(name, r, energy - energy[-1]))
                holes.append(float(energy[_POINTS // 100 :].min() - energy[0]))
            jumps.append(_largest_jump(row, r, energy, slope))
            # Just inside and outside every cutoff, and the rest of the shape that is compiled already.
            sides = np.array([c + d for c in potential.shells for d in (-1e-6, 1e-6)])
            energy, slope = row(np.concatenate([sides, r[len(sides) :]]))
            jumps.append(float(np.abs(np.diff(energy[: len(sides)].reshape(-1, 2))).max()))
            kinks.append(float(np.abs(np.diff(slope[: len(sides)].reshape(-1, 2))).max()))
    return [
        Line(
            "energy jumps along dimers and trimers",
            float(np.max(jumps)),
            "eV",
            1e-4,
            "0.4% of kT at 300 K: larger steps heat or cool a simulation with every crossing",
        ),
        Line(
            "force jumps at the cutoffs",
            float(np.max(kinks)),
            "eV/Å",
            0.05,
            "a usual error of fitted forces; larger jumps spoil the conservation of energy",
        ),
        Line(
            "dimers repel at short distance",
            float(np.max(holes)),
            "eV below",
            0.0,
            "else atoms can fall into each other",
            hard=False,
        ),
    ], curves


def _largest_jump(row: _Row, r: np.ndarray, energy: np.ndarray, slope: np.ndarray) -> float:
    """Return the largest difference (eV) between a step of the energy and the work done; nan if an energy is.

    The worst interval is looked at again, 600 times finer: a jump stays, a kink of the force or of its slope goes.
    """
    if not np.isfinite(energy).all():
        return np.nan
    gaps = _gaps(r, energy, slope)
    worst = int(np.argmax(gaps))
    if gaps[worst] == 0:
        return 0.0
    finer = np.linspace(r[2 * worst], r[2 * worst + 2], _POINTS)
    return float(_gaps(finer, *row(finer)).max())


def _gaps(r: np.ndarray, energy: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """|E(r_k+2) - E(r_k) - work| of every interval by Simpson's rule; 0 where atoms are too close to matter."""
    h = r[2] - r[0]
    work = h * (slope[:-2:2] + 4 * slope[1:-1:2] + slope[2::2]) / 6
    near = np.abs(energy[:-2:2] - energy[-1]) < _CLOSE
    return np.where(near, np.abs(np.diff(energy[::2]) - work), 0.0)
