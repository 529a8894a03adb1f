"""Melting points of crystal and liquid in one box: two phases at constant enthalpy, and pinned interfaces."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp import md
from jaxmlp.energy import prepare
from jaxmlp.free_energy.absolute import PhaseError, at_pressure, nearest_neighbors, scaled
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.sampling.restraint import restraint
from jaxmlp.statistics import average
from jaxmlp.system import System

AXES = "xyz"


def long_axis(system: System) -> int:
    """Return the lattice vector along which the box is longest, which must be normal to the others and Cartesian.

    Raises:
        ValueError: it is not.
    """
    if system.box is None:
        raise ValueError("interfaces need a periodic box.")
    lengths = np.linalg.norm(system.box, axis=1)
    k = int(np.argmax(lengths))
    others = np.delete(system.box, k, axis=0)
    if abs(system.box[k, k]) < (1 - 1e-9) * lengths[k] or np.abs(others[:, k]).max() > 1e-9 * lengths[k]:
        raise ValueError(
            "interfaces lie normal to the longest lattice vector, which must be along x, y or z, and the others normal "
            f"to it; got the box {system.box.tolist()}."
        )
    return k


def two_phases(
    potential: Potential,
    params: Params,
    crystal: System,
    *,
    temperature: float,
    steps: int,
    pressure: float = 0.0,
    melt: float | None = None,
    key: int = 0,
    progress: bool = False,
    cell: str = "isotropic",
    tau_pressure: float = 1000.0,
    **options,
) -> System:
    """Return crystal and liquid side by side, at a temperature near melting and a pressure.

    The crystal's box at the pressure is found; half of it along its longest direction is molten, and then cooled
    while the box adapts along that direction. The other half is held in place as long as it is hot. The half that melts
    is given a tenth more room: at the density of the crystal most liquids would freeze again while they cool.

    Args:
        crystal: long enough for two interfaces: twice as long as wide, or more.
        temperature: K.
        steps: of each of the three runs.
        pressure: eV/Å^3.
        melt: K; None takes twice the temperature.
        cell: of the crystal, see `md.npt_langevin`.
        options: dt, friction ...: see `md.nvt_langevin`.

    Raises:
        ValueError: a box that is not long along x, y or z.
    """
    axis = long_axis(crystal)
    potential, params, _ = prepare(potential, params, crystal)
    barostat = {"pressure": pressure, "tau_pressure": tau_pressure}
    start = md.langevin(potential, params, crystal, temperature=temperature, key=key, cell=cell, **barostat, **options)
    _, box, _ = at_pressure(start, steps, progress=progress)
    system = scaled(crystal, box)
    system, held = _with_room(system, axis, 0.1)
    hot = 2 * temperature if melt is None else melt
    run = lambda sim: md.run(sim, steps, log_every=steps, progress=progress).simulation
    sim = md.langevin(potential, params, system, temperature=hot, fixed=held, key=key + 1, **options)
    system = run(sim).system.replace(velocities=None)
    # All move while it cools: between walls of atoms at rest, as cold as can be, a thin liquid freezes.
    sim = md.langevin(
        potential, params, system, temperature=temperature, key=key + 3, cell=AXES[axis], **barostat, **options
    )
    return run(sim).system


def _with_room(system: System, axis: int, extra: float) -> tuple[System, np.ndarray]:
    """Return a system whose second half along an axis is stretched by a fraction, and which atoms are in the first."""
    box = np.array(system.box)
    s = system.R @ np.linalg.inv(box)
    s[:, axis] -= np.floor(s[:, axis])
    R, first = s @ box, s[:, axis] < 0.5
    half = 0.5 * box[axis, axis]  # the axis is Cartesian, and normal to the others
    R[:, axis] += np.where(first, 0.0, extra * (R[:, axis] - half))
    box[axis, axis] += extra * half
    return system.replace(R=R, box=box), first


class TwoPhase(NamedTuple):
    """The temperature at which two phases exchange no heat.

    Args:
        temperature: K, the mean of the second half of the run.
        error: its standard error.
        pressure: eV/Å^3, the mean normal to the interfaces is the one asked for.
        solid: fraction of atoms that stayed at their places during the second half.
        log: of the whole run.
        simulation: at its end.
    """

    temperature: float
    error: float
    pressure: float
    solid: float
    log: dict[str, np.ndarray]
    simulation: Simulation


def coexistence_temperature(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    steps: int,
    pressure: float = 0.0,
    tau_pressure: float = 1000.0,
    log_every: int = 10,
    progress: bool = False,
    **options,
) -> TwoPhase:
    """Return the melting temperature from crystal and liquid in contact at constant enthalpy.

    Melting takes heat and freezing gives it, until the temperature is that of coexistence: Morris, Song, J. Chem. Phys.
    116, 9352 (2002). The box breathes along the normal of the interfaces only; its section is that of the crystal, so
    start near the melting point.

    Args:
        system: of `two_phases`, with velocities.
        temperature: K, of the inertia of the cell (and of momenta where the system has none).
        steps: of the run, of which the second half counts.
        options: dt ...: see `md.nph`.

    Raises:
        PhaseError: one phase has taken over.
    """
    axis = long_axis(system)
    sim = md.nph(
        potential, params, system, pressure=pressure, temperature=temperature, cell=AXES[axis],
        tau_pressure=tau_pressure, **options,
    )  # fmt: skip
    half, first = md.run(sim, steps // 2, log_every=log_every, progress=progress)
    end, second = md.run(half, steps - steps // 2, log_every=log_every, progress=progress)
    log = {name: np.concatenate([first[name], second[name]]) for name in first}
    T = average(second["temperature"])
    before, after = half.system, end.system
    d = after.R - scaled(before, after.box).R
    stayed = np.linalg.norm(d - np.median(d, axis=0), axis=1) < 0.5 * nearest_neighbors(after)
    solid = float(stayed.mean())
    if not 0.1 < solid < 0.9:
        gone = "melted" if solid <= 0.1 else "froze"
        raise PhaseError(
            f"all {gone} ({T.mean:.4g} K; {100 * solid:.0f} % of the atoms stayed in place): start from `two_phases` "
            f"at a {'lower' if gone == 'melted' else 'higher'} temperature, or with a longer crystal.",
            end,
        )
    return TwoPhase(T.mean, T.error, pressure, solid, log, end)


class Pinning(NamedTuple):
    """Differences of chemical potentials from pinned interfaces, at several temperatures.

    Args:
        temperature: (K,) K.
        difference: (K,) mu_solid - mu_liquid, eV per atom.
        error: (K,) standard errors.
        cv: (K,) mean of the order parameter.
        simulation: the replicas at their ends.
    """

    temperature: np.ndarray
    difference: np.ndarray
    error: np.ndarray
    cv: np.ndarray
    simulation: Simulation

    @property
    def melting(self) -> tuple[float, float]:
        """Temperature (K) at which the difference vanishes, by a weighted line through all, and its standard error.

        Raises:
            ValueError: one temperature only.
        """
        if len(self.temperature) < 2:
            raise ValueError("a melting temperature needs pinned interfaces at two temperatures or more.")
        center = self.temperature.mean()
        A = np.stack([np.ones_like(self.temperature), self.temperature - center], axis=1) / self.error[:, None]
        (a, b), cov = np.linalg.lstsq(A, self.difference / self.error)[0], np.linalg.inv(A.T @ A)
        slope = np.array([-1 / b, a / b**2])
        return float(center - a / b), float(np.sqrt(slope @ cov @ slope))


def interface_pinning(
    potential: Potential,
    params: Params,
    system: System,
    cv: Any,
    *,
    values: tuple[float, float],
    k: float,
    temperatures: Sequence[float],
    steps: int,
    pressure: float = 0.0,
    center: float | None = None,
    equilibration: int | None = None,
    log_every: int = 10,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Pinning:
    """Return mu_solid - mu_liquid at several temperatures, from the force that holds two interfaces in place.

    With a spring k/2 (Q - a)^2 on an order parameter that grows with the amount of crystal, Q settles where the spring
    balances the driving force: mu_s - mu_l = -k (<Q> - a) (Q_s - Q_l) / N. Pedersen, Hummel, Kresse, Kahl, Dellago,
    Phys. Rev. B 88, 094101 (2013), Eq. (8). The box breathes along the normal of the interfaces.

    Args:
        system: crystal and liquid side by side, see `two_phases`.
        cv: order parameter: `sampling.DensityWave` with a reciprocal vector in the plane of the interfaces,
            `sampling.Crystallinity`, `sampling.Steinhardt` or any other variable.
        values: Q_s and Q_l, of the same number of atoms all crystal and all liquid, see `bulk_value`.
        k: eV, of the spring.
        temperatures: K, which run side by side.
        steps: of the run, after its equilibration.
        pressure: eV/Å^3.
        center: a; None takes the value of `system`.
        equilibration: steps; None takes a quarter of `steps`.
        options: dt, friction, tau_pressure ...: see `md.npt_langevin`.

    Raises:
        ValueError: equal values.
        PhaseError: the interfaces were lost: Q is no longer between the two values.
    """
    high, low = values
    if high == low:
        raise ValueError("the order parameter must differ between crystal and liquid; got two equal values.")
    potential, params, _ = prepare(potential, params, system)
    if center is None:
        from jaxmlp.sampling.bias import variable_fn

        center = float(variable_fn(cv, system)(system.R, system.box)[0])
    bias, q = restraint(cv, potential.species, k, center)
    T = np.asarray(temperatures, float)
    cell = AXES[long_axis(system)]
    sims = [
        md.langevin(
            potential + bias, (params, q), system.replace(velocities=None), temperature=t, pressure=pressure, cell=cell,
            key=key + i, begin=False, **options,
        )
        for i, t in enumerate(T)
    ]  # fmt: skip
    sim = md.equilibrate(md.replicas(sims), steps, equilibration, progress=progress)
    sim, log = md.run(sim, steps, log_every=log_every, progress=progress)
    found = [average(series) for series in log["cv"][:, :, 0].T]
    Q, error = np.array([[a.mean, a.error] for a in found]).T
    inside = (Q - low) / (high - low)
    if ((inside < 0.05) | (inside > 0.95)).any():
        raise PhaseError(
            f"the order parameter, {Q.round(3).tolist()}, has reached that of one phase ({low:.3g} to {high:.3g}): the "
            "interfaces are gone. Take temperatures nearer to melting, or a stiffer spring.",
            sim,
        )
    scale = k * abs(high - low) / len(system)
    sign = np.sign(high - low)
    return Pinning(T, -sign * scale * (Q - center), scale * error, Q, sim)


def bulk_value(
    potential: Potential,
    params: Params,
    system: System,
    cv: Any,
    *,
    temperature: float,
    steps: int,
    pressure: float = 0.0,
    key: int = 0,
    **options,
) -> tuple[float, float]:
    """Return the mean of a collective variable in one phase and its standard error, for `interface_pinning`.

    Args:
        system: all crystal, or all liquid.
        steps: of the run, whose first quarter is left out.
        options: dt, friction, tau_pressure ...: see `md.npt_langevin`.
    """
    potential, params, _ = prepare(potential, params, system)
    bias, q = restraint(cv, potential.species, 0.0, 0.0)
    sim = md.langevin(
        potential + bias, (params, q), system, temperature=temperature, pressure=pressure, key=key, **options
    )
    log = md.run(sim, steps, log_every=10).log
    found = average(log["cv"][len(log["cv"]) // 4 :, 0])
    return found.mean, found.error
