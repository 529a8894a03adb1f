"""Thermodynamic integration: F_b - F_a = int_0^1 <dE/dx>_x dx over equilibrium windows that run side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import md
from jaxmlp.free_energy import estimators
from jaxmlp.free_energy.paths import checked_path, energies, point, weights, within
from jaxmlp.md.simulation import Simulation
from jaxmlp.md.state import mapped
from jaxmlp.potential import Params, Potential
from jaxmlp.statistics import average
from jaxmlp.system import System
from jaxmlp.units import kB


class Integration(NamedTuple):
    """What windows along a path found; eV of the whole system.

    Args:
        difference: F_b - F_a, or G_b - G_a at constant pressure: sum_k g_k <dE/dx>_k.
        error: its standard error, of the averages; that of the quadrature shows in `mbar`, which has none.
        x: (windows,) points of the path.
        slope, slope_error: (windows,) <dE/dx>.
        energies: (windows, rows, windows + 2) E of every sample at 0, at all x, and at 1.
        kT: eV.
        simulation: the windows at their ends.
    """

    difference: float
    error: float
    x: np.ndarray
    slope: np.ndarray
    slope_error: np.ndarray
    energies: np.ndarray
    kT: float
    simulation: Simulation

    @property
    def mbar(self) -> estimators.Difference:
        """The same difference by the multistate Bennett acceptance ratio, from the same samples."""
        K, rows, L = self.energies.shape
        u = self.energies.reshape(K * rows, L).T / self.kT
        counts = np.array([0, *[rows] * K, 0])
        found = estimators.mbar(u - u.min(axis=0), counts)
        return estimators.Difference(
            float(self.kT * found.differences[0, -1]), float(self.kT * found.errors[0, -1]), float("nan")
        )


def quadrature(windows: int | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return points in (0, 1) and their weights: Gauss and Legendre's for a number, trapezoidal for points.

    Raises:
        ValueError: points that do not grow from 0 to 1.
    """
    if isinstance(windows, int | np.integer):
        if windows < 1:
            raise ValueError(f"windows is a number of 1 or more; got {windows}.")
        x, g = np.polynomial.legendre.leggauss(windows)
        return 0.5 * (x + 1), 0.5 * g
    x = np.asarray(windows, float)
    if x.ndim != 1 or len(x) < 2 or x[0] != 0 or x[-1] != 1 or not (np.diff(x) > 0).all():
        raise ValueError(f"windows is a number, or points that grow from 0 to 1; got {windows}.")
    h = np.diff(x)
    return x, 0.5 * (np.append(h, 0) + np.append(0, h))


def integrate(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    steps: int,
    windows: int | Sequence[float] = 12,
    pressure: float | None = None,
    equilibration: int | None = None,
    log_every: int = 10,
    exchange_every: int | None = None,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Integration:
    """Return F_b - F_a along a path by thermodynamic integration over equilibrium windows.

    Kirkwood, J. Chem. Phys. 3, 300 (1935). All windows run in one compiled loop: side by side on an accelerator, one
    after the other on a CPU, in whose cache one fits.

    Args:
        potential, params: a path, see `free_energy.path`; one that is linear in x suits quadrature best: give it
            ramp=md.Ramp.
        temperature: K.
        steps: of each window, after its equilibration.
        windows: number of points of Gauss and Legendre, or points from 0 to 1 (trapezoidal rule).
        pressure: eV/Å^3: at constant pressure the difference is one of Gibbs energies.
        equilibration: steps; None takes a quarter of `steps`.
        log_every: steps between samples.
        exchange_every: steps between attempts of neighbouring windows to swap configurations (Hamiltonian replica
            exchange); None for none.
        key: seed.
        options: dt, friction ...: see `md.nvt_langevin` (with a pressure `md.npt_langevin`).

    Raises:
        ValueError: no path, numbers that make no sense, or too few samples for an error.
    """
    checked_path(params)
    x, g = quadrature(windows)
    keys = jax.random.split(jax.random.key(key), len(x))
    conditions = {"temperature": temperature, "pressure": pressure, **options}
    conditions["begin"] = False
    sims = [md.langevin(potential, point(params, float(s)), system, key=k, **conditions) for s, k in zip(x, keys)]
    sim = md.replicas(sims) if exchange_every is None else md.replica_exchange(sims, every=exchange_every)
    sim = md.equilibrate(sim, steps, equilibration, progress=progress)
    # The potential and parameters of the path, without elements that the system lacks.
    whole = md.langevin(potential, params, system, **conditions)
    potential, params = whole.dynamics.forces.potential, whole.atoms.params
    by_weights = weights(potential, params, within(0.0)) is not None
    observers = {} if by_weights else {"path": _observer(sim, params, x)}
    sim, log = md.run(sim, steps, log_every=log_every, observers=observers, progress=progress)
    if by_weights:
        slopes, samples = _weighted(potential, params, x, log["parts"])
    else:
        slopes, samples = log["path"][:, :, 0], log["path"][:, :, 1:]
    found = [average(series) for series in slopes.T]
    slope, error = np.array([[a.mean, a.error] for a in found]).T
    total = float(np.sqrt(np.sum((g * error) ** 2)))
    return Integration(float(g @ slope), total, x, slope, error, samples.swapaxes(0, 1), kB * temperature, sim)


def _points(x: np.ndarray) -> Array:
    """Where energies are wanted: both ends, and the windows between."""
    return within(np.concatenate([[0.0], x, [1.0]]))


def _weighted(potential: Potential, params: Params, x: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return dE/dx (rows, windows) and E (rows, windows, L) at 0, all x, and 1, from the energies of the terms.

    Args:
        parts: (rows, windows, terms) eV.
    """
    of = lambda x: weights(potential, params, x)
    slopes = np.asarray(jax.vmap(jax.jacfwd(of))(_points(x)[1:-1]))
    return np.sum(slopes * parts, axis=2), parts @ np.asarray(jax.vmap(of)(_points(x))).T


def _observer(sim: Simulation, params: Params, x: np.ndarray):
    """Return the observer (state, evaluation) -> (windows, 1 + L), the same of one row by whole evaluations."""
    together: Any = sim.dynamics.forces
    forces = together.one
    points, species, K = _points(x), sim.atoms.species, len(x)

    def one(state, k) -> Array:
        here = lambda x: energies(
            forces.potential, params, x, state.R, state.box, species, state.neighbors, forces.execution
        )
        E, dE = jax.lax.map(here, points)
        return jnp.append(dE[k + 1], E)

    return lambda state, out: mapped(one)(state._replace(swaps=()), jnp.arange(K))
