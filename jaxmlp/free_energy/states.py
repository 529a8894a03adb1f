"""Thermodynamic integration along states: equilibrium runs at several temperatures or volumes, side by side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import md
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.statistics import average
from jaxmlp.system import System
from jaxmlp.units import kB


class StateIntegration(NamedTuple):
    """A free energy along a line of states; eV of the whole system.

    Args:
        x: (windows + 2,) temperatures in K or volumes in Å^3: the start, those of the runs, the end.
        F: (windows + 2,) Helmholtz energy, at constant pressure Gibbs energy.
        error: (windows + 2,) standard error of what the integration adds to its start.
        mean, mean_error: (windows,) averages of the runs: U (with P V at constant pressure; without momenta), or P.
        simulation: the runs at their ends; several, one for each window, where the potential depends on the box.
    """

    x: np.ndarray
    F: np.ndarray
    error: np.ndarray
    mean: np.ndarray
    mean_error: np.ndarray
    simulation: Simulation | list[Simulation]


def temperature_integration(
    potential: Potential,
    params: Params,
    system: System,
    *,
    start: float,
    temperature: float,
    to: float,
    steps: int,
    windows: int = 6,
    pressure: float | None = None,
    equilibration: int | None = None,
    log_every: int = 10,
    key: int = 0,
    progress: bool = False,
    **options,
) -> StateIntegration:
    """Return F(T) from F(temperature) by Gibbs and Helmholtz: d(F / kT) = U d(1 / kT).

    At constant pressure it is G, from U + P V. The runs are at the points of Gauss and Legendre in 1 / T;
    `temperature_sweep` does the same by slow changes.

    Args:
        system: the phase; with a pressure near its volume.
        start: F(temperature), eV (G with a pressure).
        temperature, to: K.
        steps: of each run, after its equilibration.
        windows: number of runs.
        pressure: eV/Å^3; None keeps the box.
        equilibration: steps; None takes a quarter of `steps`.
        log_every: steps between samples.
        options: dt, friction ...: see `md.nvt_langevin` (with a pressure `md.npt_langevin`).

    Raises:
        ValueError: temperatures that are not positive or equal; too few samples for an error.
    """
    if not (temperature > 0 and to > 0) or temperature == to:
        raise ValueError(f"temperatures are positive, and two different ones; got {temperature} and {to} K.")
    beta, weights = _points(1 / (kB * temperature), 1 / (kB * to), windows)
    make = lambda b, seed: md.langevin(
        potential, params, system, temperature=1 / (kB * b), pressure=pressure, key=seed, begin=False, **options
    )
    sims = [make(b, seed) for b, seed in zip(beta[1:-1], jax.random.split(jax.random.key(key), windows))]
    of = lambda log: log["potential"] + (0.0 if not pressure else pressure * log["volume"])
    ends, mean, error = _averages(sims, of, steps, equilibration, log_every, progress)
    momenta = 1.5 * len(system) * np.log(beta / beta[0])
    F = (beta[0] * start + weights @ mean + momenta) / beta
    return StateIntegration(1 / (kB * beta), F, np.sqrt(weights**2 @ error**2) / beta, mean, error, ends)


def volume_integration(
    potential: Potential,
    params: Params,
    system: System,
    *,
    start: float,
    temperature: float,
    to: float,
    steps: int,
    windows: int = 6,
    equilibration: int | None = None,
    log_every: int = 10,
    key: int = 0,
    progress: bool = False,
    **options,
) -> StateIntegration:
    """Return F(V) at constant temperature from F at the volume of the system: dF = -P dV.

    The runs are at the points of Gauss and Legendre, in boxes of the same shape.

    Args:
        system: the phase, at the first volume.
        start: F at the first volume, eV.
        temperature: K.
        to: Å^3, the other end.
        steps, windows, equilibration, log_every: as for `temperature_integration`.
        options: dt, friction ...: see `md.nvt_langevin`.

    Raises:
        ValueError: a volume that is not positive, or the one of the system; too few samples for an error.
    """
    if not to > 0 or to == system.volume:
        raise ValueError(f"the volume to go to is positive and not that of the system; got {to} Å^3.")
    V, weights = _points(system.volume, to, windows)
    sims = []
    for v, seed in zip(V[1:-1], jax.random.split(jax.random.key(key), windows)):
        scale = np.cbrt(v / system.volume)
        there = system.replace(R=system.R * scale, box=system.box * scale)
        sims.append(md.langevin(potential, params, there, temperature=temperature, key=seed, begin=False, **options))
    of = lambda log: log["pressure"]
    ends, mean, error = _averages(sims, of, steps, equilibration, log_every, progress)
    return StateIntegration(V, start - weights @ mean, np.sqrt(weights**2 @ error**2), mean, error, ends)


def _points(a: float, b: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a, n points of Gauss and Legendre, b, and weights (n + 2, n): integrals from a up to each of the points.

    The weights are those of the polynomial through all n values; to b they are Gauss and Legendre's.
    """
    if n < 1:
        raise ValueError(f"windows is a number of 1 or more; got {n}.")
    x, _ = np.polynomial.legendre.leggauss(n)
    fit = np.linalg.inv(np.polynomial.legendre.legvander(x, n - 1))  # values -> coefficients
    all_ = np.concatenate([[-1.0], x, [1.0]])
    powers = [np.polynomial.legendre.legval(all_, np.polynomial.legendre.legint(c, lbnd=-1)) for c in np.eye(n)]
    return a + 0.5 * (b - a) * (all_ + 1), 0.5 * (b - a) * np.array(powers).T @ fit


def _averages(
    sims: Sequence[Simulation], of: Callable[[dict], np.ndarray], steps: int, rest: int | None, every: int, bar: bool
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Run all, together where they have one potential; return their ends, averages and errors."""
    alike = all(s.dynamics.forces.potential == sims[0].dynamics.forces.potential for s in sims)

    def go(sim: Simulation) -> tuple[Simulation, np.ndarray]:
        sim = md.equilibrate(sim, steps, rest, progress=bar)
        sim, log = md.run(sim, steps, log_every=every, progress=bar)
        return sim, of(log)

    if alike:
        ends, series = go(md.replicas(sims))
        columns = list(series.T)
    else:
        ends, columns = map(list, zip(*(go(sim) for sim in sims)))
    found = [average(column) for column in columns]
    return ends, np.array([a.mean for a in found]), np.array([a.error for a in found])
