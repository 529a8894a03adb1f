"""Nonequilibrium switching: free-energy differences from the work of slow changes in both directions."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmlp import md
from jaxmlp.free_energy.estimators import Difference, bar, linear_response
from jaxmlp.free_energy.paths import checked_path, stretched
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System
from jaxmlp.units import kB


class Switching(NamedTuple):
    """What switches from a to b and back found; eV of the whole system.

    Args:
        difference: F_b - F_a = (<W_f> - <W_b>) / 2, or G_b - G_a at constant pressure.
        error: its standard error: from the scatter of four repeats or more, else (kT Q / repeats)^(1/2), which follows
            from the dissipation in linear response.
        dissipation: Q = (<W_f> + <W_b>) / 2.
        forward, backward: (points + 1, repeats) works done up to points x of the way from a to b, and from b to a; both
            begin with zeros.
        logs: what `md.run` logged at these points, there and back.
        kT: eV.
        simulation: at the end: back at a.
    """

    difference: float
    error: float
    dissipation: float
    forward: np.ndarray
    backward: np.ndarray
    logs: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    kT: float
    simulation: Simulation

    @property
    def bar(self) -> Difference:
        """The difference by Bennett's acceptance ratio: right also where the directions dissipate unequally."""
        return bar(self.forward[-1], self.backward[-1], self.kT)

    @property
    def profile(self) -> tuple[np.ndarray, np.ndarray]:
        """F(x) - F_a (points + 1,) at equidistant times of the way from a to b, and its standard error."""
        each = 0.5 * (self.forward - (self.backward[-1] - self.backward[::-1]))
        error = each.std(axis=1, ddof=1) / np.sqrt(each.shape[1]) if each.shape[1] > 1 else np.full(len(each), np.nan)
        return each.mean(axis=1), error


class DissipationError(RuntimeError):
    """A switch was too fast for its works to tell a free energy.

    Args:
        message: what was found, and how many steps would do.
        result: the `Switching`, or the like, all the same.
    """

    def __init__(self, message: str, result: Any):
        super().__init__(message)
        self.result = result


def switch(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    steps: int,
    pressure: float | md.Ramp | None = None,
    equilibration: int | None = None,
    repeats: int = 4,
    points: int = 1,
    max_dissipation: float = 0.05,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Switching:
    """Return F_b - F_a along a path, by switches there and back: Adiabatic switching of Watanabe and Reinhardt.

    Independent repeats run side by side: each equilibrates at a, is switched to b, equilibrates there, and is switched
    back. The thermostat is Langevin's, which no harmonic crystal escapes. de Koning, J. Chem. Phys. 122, 104106 (2005).
    A friction near the frequencies of the atoms (5 in units of Lennard-Jones, 0.05 / fs in silicon) dissipates least:
    half as much in a liquid and a quarter in a crystal of what a fifth of it does.

    Args:
        potential, params: a path, see `free_energy.path`.
        temperature: K.
        steps: of one switch; rounded up to a multiple of `points`.
        pressure: eV/Å^3: at constant pressure the difference is one of Gibbs energies. A `md.Ramp(start, stop, 1)` is a
            path, too, along which the work is int V dP.
        equilibration: steps at each end; None takes half of `steps`.
        repeats: number of switches in each direction.
        points: of the way at which works are recorded.
        max_dissipation: kT per atom beyond which the result is refused.
        key: seed.
        options: dt, friction ...: see `md.nvt_langevin` (with a pressure `md.npt_langevin`).

    Raises:
        ValueError: no path, or numbers that make no sense.
        DissipationError: more dissipation than `max_dissipation`; it holds the result.
    """
    for name, value in (("repeats", repeats), ("steps", steps), ("points", points)):
        if value < 1:
            raise ValueError(f"{name} is a number of 1 or more; got {value}.")
    checked_path((params, pressure))
    rest = max(1, steps // 2) if equilibration is None else equilibration
    if rest < 1:
        raise ValueError(f"equilibration is a number of steps and at least 1; got {equilibration}.")
    every = -(-steps // points)
    steps, rest = every * points, -(-rest // every) * every
    conditions = {"temperature": temperature, "pressure": stretched(pressure, rest, steps), "begin": False, **options}
    start = stretched(params, rest, steps)
    keys = jax.random.split(jax.random.key(key), repeats)
    sim = md.replicas([md.langevin(potential, start, system, key=k, **conditions) for k in keys])

    def go(sim: Simulation) -> tuple[Simulation, np.ndarray, dict]:
        sim, log = md.run(sim, rest + steps, log_every=every, progress=progress)
        log = {name: x[-points - 1 :] for name, x in log.items()}
        return sim, log["work"] - log["work"][0], log

    sim, forward, there = go(sim)
    turn = partial(stretched, first=sim.step + rest, steps=steps, back=True)
    atoms, controls = sim.atoms, sim.controls
    sim = sim.replace(atoms=atoms._replace(params=turn(atoms.params)), controls=turn(controls))
    sim, backward, back = go(sim)
    mean = linear_response(forward[-1], backward[-1])
    kT, Q = kB * temperature, mean.dissipation
    error = mean.error if repeats >= 4 else np.sqrt(kT * max(Q, 0.0) / repeats)
    return judged(
        Switching(mean.difference, float(error), Q, forward, backward, (there, back), kT, sim), steps, max_dissipation
    )


def judged(result: Switching, steps: int, max_dissipation: float) -> Switching:
    """Return the result.

    Raises:
        DissipationError: it dissipated too much.
    """
    Q, atoms = result.dissipation, len(result.simulation)
    limit = max_dissipation * result.kT * atoms
    if limit < Q - 2 * result.error:  # the error of Q is that of the difference: both are half of <W_f> -+ <W_b>
        raise DissipationError(
            f"the switches dissipated {Q:.4g} eV, {Q / result.kT / atoms:.3g} kT per atom, more than max_dissipation = "
            f"{max_dissipation:g}: the system did not follow. Dissipation falls as 1 / steps: take about "
            f"{int(np.ceil(steps * Q / limit)):,} steps, or check that no phase transition lies on the way.",
            result,
        )
    return result
