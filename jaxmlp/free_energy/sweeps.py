"""Free energies along temperatures and pressures, from one that is known."""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from jaxmlp import md
from jaxmlp.combinators import Weighted
from jaxmlp.energy import prepare
from jaxmlp.free_energy.switching import Switching, switch
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System
from jaxmlp.units import kB


class Sweep(NamedTuple):
    """A free energy along a line of states; eV of the whole system.

    Args:
        x: (points + 1,) temperatures in K or pressures in eV/Å^3.
        G: (points + 1,) Gibbs energy; Helmholtz energy along temperatures at constant volume.
        error: (points + 1,) standard error of what the sweep adds to its start, whose own error is not in it.
        volume: (points + 1,) Å^3, of single configurations there and back; NaN without a box.
        switching: the works.
    """

    x: np.ndarray
    G: np.ndarray
    error: np.ndarray
    volume: np.ndarray
    switching: Switching

    def at(self, x: float | np.ndarray) -> np.ndarray:
        """Return G at other temperatures or pressures within the sweep, by monotone cubic interpolation.

        Raises:
            ValueError: outside.
        """
        order = np.argsort(self.x)
        low, high = self.x[order[0]], self.x[order[-1]]
        if np.any(np.asarray(x) < low) or np.any(np.asarray(x) > high):
            raise ValueError(f"the sweep goes from {low:g} to {high:g}; asked for {x}.")
        return PchipInterpolator(self.x[order], self.G[order])(x)


def temperature_sweep(
    potential: Potential,
    params: Params,
    system: System,
    *,
    start: float,
    temperature: float,
    to: float,
    steps: int,
    pressure: float | None = None,
    points: int = 100,
    repeats: int = 4,
    **options,
) -> Sweep:
    """Return G(T) from G(temperature) by reversible scaling: energies times T0 / T at the temperature T0.

    G(T) = [G(T0) + W(s)] / s + 3/2 N kT0 ln(s) / s, s = T0 / T, with the work W of scaling U + P V from 1 to s: de
    Koning, Antonelli, Yip, Phys. Rev. Lett. 83, 3973 (1999); at constant pressure Freitas, Asta, de Koning, Comput.
    Mater. Sci. 112, 333 (2016). T rises (or falls) at a constant rate.

    Args:
        system: the phase, at T0 (and its pressure).
        start: G(T0), eV; without a pressure F(T0) in the box.
        temperature, to: T0 and the other end, K.
        steps: of one sweep.
        pressure: eV/Å^3; None keeps the box.
        points: temperatures at which G is recorded.
        repeats: number of sweeps in each direction.
        options: see `switch`.

    Raises:
        ValueError: temperatures that are not positive.
        DissipationError: too fast, or a phase transition on the way.
    """
    if not (temperature > 0 and to > 0) or temperature == to:
        raise ValueError(f"temperatures are positive, and two different ones; got {temperature} and {to} K.")
    potential, params, _ = prepare(potential, params, system)
    T0, ratio = temperature, temperature / to
    scale = md.InverseRamp(np.ones(1), np.full(1, ratio), 1)
    path = Weighted((potential,)), {"x": scale, "members": (params,)}
    P = md.InverseRamp(pressure, pressure * ratio, 1) if pressure else pressure  # 0 scales to 0
    found = switch(*path, system, temperature=T0, pressure=P, steps=steps, points=points, repeats=repeats, **options)
    W, error = found.profile
    T = np.linspace(T0, to, points + 1)
    s = T0 / T
    G = (start + W + 1.5 * len(system) * kB * T0 * np.log(s)) / s
    return Sweep(T, G, error / s, _volumes(found), found)


def pressure_sweep(
    potential: Potential,
    params: Params,
    system: System,
    *,
    start: float,
    temperature: float,
    pressure: float,
    to: float,
    steps: int,
    points: int = 100,
    repeats: int = 4,
    **options,
) -> Sweep:
    """Return G(P) from G(pressure) at constant temperature: G(P) = G(P0) + int V dP, by adiabatic switching.

    Watanabe, Reinhardt, Phys. Rev. Lett. 65, 3301 (1990).

    Args:
        system: the phase, at the first pressure.
        start: G at the first pressure, eV.
        temperature: K.
        pressure, to: eV/Å^3, the first and the last.
        steps: of one sweep.
        points: pressures at which G is recorded.
        repeats: number of sweeps in each direction.
        options: see `switch`.

    Raises:
        DissipationError: too fast, or a phase transition on the way.
    """
    P = md.Ramp(pressure, to, 1)
    found = switch(
        potential, params, system, temperature=temperature, pressure=P, steps=steps, points=points, repeats=repeats,
        **options,
    )  # fmt: skip
    W, error = found.profile
    return Sweep(np.linspace(pressure, to, points + 1), start + W, error, _volumes(found), found)


def _volumes(found: Switching) -> np.ndarray:
    there, back = found.logs
    if "volume" not in there:
        return np.full(len(found.forward), np.nan)
    return 0.5 * (there["volume"] + back["volume"][::-1]).mean(axis=1)
