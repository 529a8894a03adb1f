"""Melting points from the free energies of crystal and liquid, and how they depend on the potential."""

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import brentq

from jaxmlp import md
from jaxmlp.free_energy.absolute import Absolute, liquid, solid
from jaxmlp.free_energy.gradients import gradient, samples
from jaxmlp.free_energy.sweeps import Sweep, pressure_sweep, temperature_sweep
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System


class Melting(NamedTuple):
    """A point of the melting line.

    Args:
        temperature: K.
        pressure: eV/Å^3.
        error: standard error of the one that was looked for.
        along: "temperature" or "pressure", which that was.
        entropy: eV/K per atom, of the liquid less that of the solid.
        volume: Å^3 per atom, the same difference.
        solid, liquid: where the sweeps began.
        sweeps: of solid and liquid, with their finite sizes where those were asked for.
    """

    temperature: float
    pressure: float
    error: float
    along: str
    entropy: float
    volume: float
    solid: Absolute
    liquid: Absolute
    sweeps: tuple[Sweep, Sweep]

    @property
    def enthalpy(self) -> float:
        """Of melting, eV per atom."""
        return self.temperature * self.entropy

    @property
    def slope(self) -> float:
        """dT/dP of the melting line, K Å^3/eV: Clausius and Clapeyron."""
        return self.volume / self.entropy

    def figure(self, ax: Any = None) -> Any:
        """Return matplotlib axes with the Gibbs energies of both phases and their crossing."""
        from jaxmlp.free_energy.figures import melting_figure

        return melting_figure(self, ax)


class NoCrossingError(RuntimeError):
    """Gibbs energies of two phases do not cross in the range that was looked at.

    Args:
        message: where they would, by their slopes.
        estimate: that value.
    """

    def __init__(self, message: str, estimate: float):
        super().__init__(message)
        self.estimate = estimate


def crossing(a: Sweep, b: Sweep, atoms: tuple[int, int], start: float = 0.0) -> tuple[float, float, float]:
    """Return x where G per atom of two phases is equal, its standard error, and d(G_b - G_a)/dx there, per atom.

    Cubic polynomials are fitted to both; the error is that of the difference at the crossing over its slope.

    Args:
        a, b: sweeps over the same x.
        atoms: numbers of atoms.
        start: standard error of the difference per atom at the start of the sweeps.

    Raises:
        NoCrossingError: there is none.
    """
    x = a.x
    if not np.allclose(x, b.x):
        raise ValueError("the sweeps of the two phases must go over the same temperatures or pressures.")
    difference = b.G / atoms[1] - a.G / atoms[0]
    fit = np.polynomial.Polynomial.fit(x, difference, min(3, len(x) - 1))
    low, high = x.min(), x.max()
    if fit(low) * fit(high) > 0:
        nearest = x[np.argmin(abs(difference))]
        estimate = float(nearest - fit(nearest) / fit.deriv()(nearest))
        raise NoCrossingError(
            f"the Gibbs energies do not cross between {low:g} and {high:g}: by their slopes they would near "
            f"{estimate:g}. Begin there.",
            estimate,
        )
    found = brentq(fit, low, high)
    slope = float(fit.deriv()(found))
    k = np.argmin(abs(x - found))
    spread = np.sqrt(start**2 + (a.error[k] / atoms[0]) ** 2 + (b.error[k] / atoms[1]) ** 2)
    return float(found), float(spread / abs(slope)), slope


def melting_temperature(
    potential: Potential,
    params: Params,
    crystal: System,
    *,
    guess: float,
    steps: int,
    pressure: float = 0.0,
    fluid: System | None = None,
    melt: float | None = None,
    span: float = 0.1,
    attempts: int = 3,
    sweep_steps: int | None = None,
    equilibration: int | None = None,
    repeats: int = 4,
    points: int = 50,
    max_dissipation: float = 0.05,
    springs: Any = None,
    cell: str = "isotropic",
    finite_size: bool = True,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Melting:
    """Return the temperature at which crystal and liquid have the same Gibbs energy, and its error.

    Absolute Gibbs energies of both at a guess (`solid`, `liquid`), carried along temperatures by reversible scaling to
    where they cross, with a new guess where they do not. Menon, Lysogorskiy, Rogal, Drautz, Phys. Rev. Mater. 5, 103801
    (2021). A superheated crystal and a supercooled liquid must last for the length of a run.

    Args:
        crystal: of the solid, at any lattice parameter near the one at `guess`.
        guess: K.
        steps: of one switch between a phase and its reference.
        pressure: eV/Å^3.
        fluid: the liquid; None melts the crystal.
        melt: K, at which it is molten; None takes twice the guess.
        span: the sweeps go from the guess to (1 + span) and to (1 - span) times it, in the direction of the crossing.
        attempts: guesses that are tried.
        sweep_steps: of one sweep; None takes `steps`.
        equilibration, repeats, points, max_dissipation, springs, key: see `solid`, `liquid`, `temperature_sweep`.
        cell: of the crystal, see `md.npt_langevin`.
        finite_size: compare infinite phases (see `finite_size`), not two boxes: of 500 atoms of a metal, melting is off
            by a per cent or two otherwise. It costs the phonons of the crystal, and asks that they are stable.
        options: dt, friction, tau_pressure ...: see `md.npt_langevin`.

    Raises:
        NoCrossingError: in no attempt.
        PhaseError: a phase did not last.
        DissipationError: too few steps.
    """
    steps_of = {"steps": steps, "equilibration": equilibration}
    common = {"repeats": repeats, "max_dissipation": max_dissipation, "progress": progress, **options}
    for attempt in range(attempts):
        seed = key + 100 * attempt
        at_guess = {"temperature": guess, "pressure": pressure, "finite_size": finite_size, **steps_of, **common}
        s = solid(potential, params, crystal, key=seed, springs=springs, cell=cell, **at_guess)
        start = crystal if fluid is None else fluid
        hot = (2 * guess if melt is None else melt) if fluid is None else None
        l = liquid(potential, params, start, key=seed + 10, melt=hot, **at_guess)
        ahead = l.bulk / l.atoms > s.bulk / s.atoms  # the liquid is the less stable one: melting lies above
        to = guess * (1 + span if ahead else 1 - span)
        sweep: dict[str, Any] = {"temperature": guess, "to": to, "steps": sweep_steps or steps, "pressure": pressure}
        sweep |= {"points": points, "equilibration": equilibration, **common}
        a = temperature_sweep(potential, params, s.system, start=s.bulk, key=seed + 20, cell=cell, **sweep)
        b = temperature_sweep(potential, params, l.system, start=l.bulk, key=seed + 30, **sweep)
        try:
            T, error, slope = crossing(a, b, (s.atoms, l.atoms), _start_error(s, l))
        except NoCrossingError as missed:
            if attempt + 1 == attempts or not missed.estimate > 0:
                raise
            guess = missed.estimate
            continue
        return Melting(T, pressure, error, "temperature", -slope, _volume_change(a, b, s, l, T), s, l, (a, b))
    raise AssertionError("attempts is at least 1")


def melting_pressure(
    potential: Potential,
    params: Params,
    crystal: System,
    *,
    temperature: float,
    pressures: tuple[float, float],
    steps: int,
    fluid: System | None = None,
    melt: float | None = None,
    sweep_steps: int | None = None,
    equilibration: int | None = None,
    repeats: int = 4,
    points: int = 50,
    max_dissipation: float = 0.05,
    springs: Any = None,
    cell: str = "isotropic",
    finite_size: bool = True,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Melting:
    """Return the pressure at which crystal and liquid have the same Gibbs energy at a temperature, and its error.

    Absolute Gibbs energies at the first pressure, carried to the second by adiabatic switching (`pressure_sweep`).

    Args:
        temperature: K.
        pressures: eV/Å^3, between which the melting pressure lies.
        steps, fluid, ... options: as for `melting_temperature`.

    Raises:
        NoCrossingError: it lies elsewhere.
        PhaseError: a phase did not last.
        DissipationError: too few steps.
    """
    low, high = pressures
    common = {"repeats": repeats, "max_dissipation": max_dissipation, "progress": progress, **options}
    common |= {"temperature": temperature, "equilibration": equilibration}
    at_low = {"steps": steps, "pressure": low, "finite_size": finite_size, **common}
    s = solid(potential, params, crystal, key=key, springs=springs, cell=cell, **at_low)
    start = crystal if fluid is None else fluid
    hot = (2 * temperature if melt is None else melt) if fluid is None else None
    l = liquid(potential, params, start, key=key + 10, melt=hot, **at_low)
    sweep = {"pressure": low, "to": high, "steps": sweep_steps or steps, "points": points, **common}
    a = pressure_sweep(potential, params, s.system, start=s.bulk, key=key + 20, cell=cell, **sweep)
    b = pressure_sweep(potential, params, l.system, start=l.bulk, key=key + 30, **sweep)
    P, error, slope = crossing(a, b, (s.atoms, l.atoms), _start_error(s, l))
    # At one temperature and equal G the difference of entropies is that of H / T, with the static parts of both.
    entropy = _entropy_change(a, b, s, l, P) / temperature
    return Melting(temperature, P, error, "pressure", entropy, slope, s, l, (a, b))


def _start_error(s: Absolute, l: Absolute) -> float:
    return float(np.hypot(s.error / s.atoms, l.error / l.atoms))


def _at(sweep: Sweep, column: str, x: float) -> float:
    """A logged quantity at x, from a cubic polynomial through the means there and back."""
    there, back = sweep.switching.logs
    mean = 0.5 * (there[column] + back[column][::-1]).mean(axis=1)
    return float(np.polynomial.Polynomial.fit(sweep.x, mean, min(3, len(mean) - 1))(x))


def _volume_change(a: Sweep, b: Sweep, s: Absolute, l: Absolute, x: float) -> float:
    return _at(b, "volume", x) / l.atoms - _at(a, "volume", x) / s.atoms


def _entropy_change(a: Sweep, b: Sweep, s: Absolute, l: Absolute, P: float) -> float:
    """T times the entropy of melting per atom: the difference of enthalpies; kinetic energies are equal."""
    H = lambda sweep, atoms: (_at(sweep, "potential", P) + P * _at(sweep, "volume", P)) / atoms
    return H(b, l.atoms) - H(a, s.atoms)


def melting_gradient(
    potential: Potential,
    params: Params,
    found: Melting,
    *,
    steps: int,
    every: int = 50,
    equilibration: int | None = None,
    key: int = 0,
    **options,
) -> tuple[Params, Params]:
    """Return dT/dparams of the melting temperature (dP/dparams of a melting pressure), and its standard error.

    On the melting line G_l(T, p) = G_s(T, p), so dT/dp = (<dE/dp>_l - <dE/dp>_s) / (S_l - S_s), and at constant
    temperature dP/dp = -(<dE/dp>_l - <dE/dp>_s) / (V_l - V_s), all per atom: one run of each phase gives the
    derivative by every parameter.

    Args:
        found: the melting point.
        steps: of the run of each phase.
        every: steps between samples.
        equilibration: steps; None takes a quarter of `steps`.
        options: dt, friction, tau_pressure ...: see `md.npt_langevin`.

    Returns:
        two pytrees like `params`, K (eV/Å^3) per unit of each parameter; None for integers.
    """
    means, errors = [], []
    for k, phase in enumerate((found.solid, found.liquid)):
        sim = md.langevin(
            potential, params, phase.system, temperature=found.temperature, pressure=found.pressure, key=key + k,
            **options,
        )  # fmt: skip
        sim, _ = samples(sim, steps // 4 if equilibration is None else equilibration, every)
        _, seen = samples(sim, steps, every)
        mean, error = gradient(potential, params, phase.system, seen)
        means.append(jax.tree.map(lambda x: x / phase.atoms, mean))  # noqa: B023
        errors.append(jax.tree.map(lambda x: x / phase.atoms, error))  # noqa: B023
    scale = 1 / found.entropy if found.along == "temperature" else -1 / found.volume
    slope = jax.tree.map(lambda s, l: scale * (l - s), *means)
    spread = jax.tree.map(lambda s, l: abs(scale) * np.hypot(s, l), *errors)
    return slope, spread
