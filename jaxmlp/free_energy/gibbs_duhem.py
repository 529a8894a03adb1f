"""Gibbs-Duhem integration: the line on which two phases coexist, from one of its points."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp import md
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.statistics import average
from jaxmlp.system import System


class Coexistence(NamedTuple):
    """A line of coexistence.

    Args:
        temperature: (points,) K.
        pressure: (points,) eV/Å^3.
        error: (points,) standard error of the one that was integrated, with that of the first point.
        along: "temperature" or "pressure", the other one.
        slope: (points,) dP/dT, eV/Å^3/K.
        enthalpy: (points, 2) eV per atom of both phases, without momenta (equal in both).
        volume: (points, 2) Å^3 per atom.
    """

    temperature: np.ndarray
    pressure: np.ndarray
    error: np.ndarray
    along: str
    slope: np.ndarray
    enthalpy: np.ndarray
    volume: np.ndarray


class _Point(NamedTuple):
    """What runs of both phases at one point found: their ends, averages per atom, and dy/dx with its error."""

    sims: list[Simulation]
    enthalpy: np.ndarray
    volume: np.ndarray
    slope: float
    error: float


def gibbs_duhem(
    potential: Potential,
    params: Params,
    phases: tuple[System, System],
    *,
    temperature: float,
    pressure: float,
    steps: int,
    temperatures: Sequence[float] | None = None,
    pressures: Sequence[float] | None = None,
    error: float = 0.0,
    log_every: int = 10,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Coexistence:
    """Return points at which two phases coexist, from a first one: dP/dT = DH / (T DV).

    Kofke, J. Chem. Phys. 98, 4149 (1993): at each new temperature (or pressure) the other one is predicted, both phases
    run there, and it is corrected by the trapezoidal rule. Each run goes on from the one before; its first quarter is
    left out.

    Args:
        phases: two systems, of any numbers of atoms, at the first point.
        temperature, pressure: K and eV/Å^3, where they coexist.
        steps: of each run.
        temperatures: K, the points to go to, in order, in steps that are small against what changes the slope; P(T).
        pressures: eV/Å^3, the same along pressures; T(P). One of the two is given.
        error: standard error of the first pressure (of the first temperature along pressures).
        options: dt, friction, tau_pressure, cell ...: see `md.npt_langevin`.

    Raises:
        ValueError: both or neither of temperatures and pressures; phases of equal volumes (or enthalpies along
            pressures), which have no slope.
    """
    if (temperatures is None) == (pressures is None):
        raise ValueError("give either temperatures or pressures to go to.")
    by_T = pressures is None
    goal = temperatures if by_T else pressures
    x = np.array([temperature if by_T else pressure, *(() if goal is None else goal)], float)
    y = pressure if by_T else temperature
    point = lambda x, y: (x, y) if by_T else (y, x)
    sims = [
        md.langevin(potential, params, system, temperature=temperature, pressure=pressure, key=key + k, **options)
        for k, system in enumerate(phases)
    ]
    run = {"steps": steps, "log_every": log_every, "progress": progress}
    here = _measured(sims, *point(x[0], y), by_T, run)
    rows: list[tuple] = [(y, error, here)]
    for a, b in itertools.pairwise(x):
        there = _measured(here.sims, *point(b, y + (b - a) * here.slope), by_T, run)
        y = y + 0.5 * (b - a) * (here.slope + there.slope)
        error = float(np.hypot(error, 0.5 * abs(b - a) * np.hypot(here.error, there.error)))
        here = there
        rows.append((y, error, here))
    ys, errors = (np.array(column, float) for column in list(zip(*rows))[:2])
    found = [row[2] for row in rows]
    slopes = np.array([p.slope if by_T else 1 / p.slope for p in found])
    H, V = np.array([p.enthalpy for p in found]), np.array([p.volume for p in found])
    T, P = point(x, ys)
    return Coexistence(T, P, errors, "temperature" if by_T else "pressure", slopes, H, V)


def _measured(sims: list[Simulation], T: float, P: float, by_T: bool, run: dict[str, Any]) -> _Point:
    """Run both phases at a temperature and pressure."""
    ends, means, errors = [], [], []
    for sim in sims:
        sim, log = md.run(sim.with_controls(temperature=T, pressure=P), **run)
        later = slice(len(log["volume"]) // 4, None)
        found = [average(x[later] / len(sim)) for x in (log["potential"] + P * log["volume"], log["volume"])]
        ends.append(sim)
        means.append([a.mean for a in found])
        errors.append([a.error for a in found])
    (H, V), (dH, dV) = np.array(means).T, np.linalg.norm(errors, axis=0)
    change, room = H[1] - H[0], V[1] - V[0]
    name, below, noise = ("volume", room, dV) if by_T else ("enthalpy", change, dH)
    if abs(below) < 3 * noise:
        raise ValueError(
            f"at {T:g} K and {P:.4g} eV/Å^3 the phases have the same {name} per atom, within {noise:.2g}: did one "
            "change into the other? Go in smaller steps, run longer, or take larger systems."
        )
    slope = change / (T * room) if by_T else T * room / change
    return _Point(ends, H, V, float(slope), float(abs(slope) * np.hypot(dH / change, dV / room)))
