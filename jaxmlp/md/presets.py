"""The usual ensembles, ready to run."""

import warnings
from typing import Any

import numpy as np
from jax import Array

from jaxmlp.md.barostats import MTK, BerendsenPressure, CellRescaling
from jaxmlp.md.controls import GLEMatrices, Ramp
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.nose_hoover import NoseHoover
from jaxmlp.md.simulation import Simulation, simulation
from jaxmlp.md.thermostats import CSVR, GLE, Berendsen, Langevin, Thermostat
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

Value = float | Array | Ramp | Any  # a number, a `Ramp`, or one number for each group of atoms


def thermal_start(temperature, system: System) -> float | None:
    """K of the momenta drawn at the start: the first temperature, or None where the system has velocities."""
    if system.velocities is not None:
        return None
    start = temperature.start if isinstance(temperature, Ramp) else temperature
    return float(np.mean(np.asarray(start, dtype=float)))


def _simulation(ensemble, controls, potential, params, system, options) -> Simulation:
    if not ensemble.canonical:
        warnings.warn(
            "weak coupling (Berendsen) relaxes temperature or pressure but samples no ensemble: use it to equilibrate, "
            "and csvr or cell rescaling for averages.",
            stacklevel=3,
        )
    options = {"start_temperature": thermal_start(controls["temperature"], system), **options}
    return simulation(ensemble, controls, potential, params, system, **options)


def nve(
    potential: Potential,
    params: Params,
    system: System,
    *,
    dt: float = 1.0,
    temperature: float | None = None,
    loops: tuple[int, ...] = (),
    **options,
) -> Simulation:
    """Return a simulation at constant energy, by velocity Verlet.

    Args:
        dt: fs.
        temperature: K of the momenta drawn at the start; None takes the system's velocities, or rest.
        loops: multiple time steps, see `Ensemble`.
        options: see `simulation`.
    """
    ensemble = Ensemble("BAB", loops=loops)
    return simulation(ensemble, {"dt": dt}, potential, params, system, start_temperature=temperature, **options)


def nvt_langevin(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    dt: float = 1.0,
    friction: Value = 0.01,
    splitting: str = "BAOAB",
    loops: tuple[int, ...] = (),
    **options,
) -> Simulation:
    """Return a simulation with Langevin friction and noise; these do not conserve the total momentum, so dof = 3 N.

    The system's velocities are the start if it has any, thermal ones otherwise.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        dt: fs.
        friction: 1/fs.
        splitting: see `Ensemble`; BAOAB samples positions with the smallest error in dt.
        loops: multiple time steps, see `Ensemble`.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "friction": friction}
    return _simulation(Ensemble(splitting, Langevin(), loops=loops), controls, potential, params, system, options)


def langevin(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    pressure: Value | None = None,
    **options,
) -> Simulation:
    """Return `nvt_langevin`, or `npt_langevin` where a pressure is given.

    Args:
        temperature: K.
        pressure: eV/Å^3.
        options: of the one or the other.
    """
    if pressure is None:
        return nvt_langevin(potential, params, system, temperature=temperature, **options)
    return npt_langevin(potential, params, system, temperature=temperature, pressure=pressure, **options)


def nvt_nose_hoover(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    dt: float = 1.0,
    tau: Value = 100.0,
    chain: int = 3,
    order: int = 3,
    loops: tuple[int, ...] = (),
    **options,
) -> Simulation:
    """Return a deterministic simulation at constant temperature, by a Nose-Hoover chain.

    The system's velocities are the start if it has any, thermal ones otherwise.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        dt: fs.
        tau: fs, the thermostat's own period is 2 pi tau; its masses are Q_1 = dof kT tau^2, Q_j = kT tau^2.
        chain, order: see `NoseHoover`.
        loops: multiple time steps, see `Ensemble`.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "tau": tau}
    ensemble = Ensemble("OBABO", NoseHoover(chain, order), loops=loops)
    return _simulation(ensemble, controls, potential, params, system, options)


def nvt_csvr(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    dt: float = 1.0,
    tau: Value = 100.0,
    loops: tuple[int, ...] = (),
    **options,
) -> Simulation:
    """Return a simulation whose velocities are rescaled stochastically: canonical, and the dynamics little disturbed.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        dt: fs.
        tau: fs, relaxation time of the kinetic energy.
        loops: multiple time steps, see `Ensemble`.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "tau": tau}
    return _simulation(Ensemble("BABO", CSVR(), loops=loops), controls, potential, params, system, options)


def nvt_berendsen(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    dt: float = 1.0,
    tau: Value = 100.0,
    **options,
) -> Simulation:
    """Return a simulation with weak coupling to a temperature. It equilibrates; it samples no ensemble, and warns so.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        dt: fs.
        tau: fs, relaxation time of the temperature.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "tau": tau}
    return _simulation(Ensemble("BABO", Berendsen()), controls, potential, params, system, options)


def nvt_gle(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    gle: GLEMatrices | Array,
    dt: float = 1.0,
    loops: tuple[int, ...] = (),
    **options,
) -> Simulation:
    """Return a simulation with a generalised Langevin equation (colored noise), in the splitting BAOAB.

    Args:
        temperature: K; of the covariance where `gle` has none, and of the momenta drawn at the start.
        gle: `GLEMatrices(A, C)` in 1/fs and K, or A alone.
        dt: fs.
        loops: multiple time steps, see `Ensemble`.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "gle": gle}
    return _simulation(Ensemble("BAOAB", GLE(), loops=loops), controls, potential, params, system, options)


def nph(
    potential: Potential,
    params: Params,
    system: System,
    *,
    pressure: Value,
    temperature: float,
    dt: float = 1.0,
    tau_pressure: float = 1000.0,
    cell: str = "isotropic",
    **options,
) -> Simulation:
    """Return a simulation at constant enthalpy and pressure, by the barostat of Martyna, Tobias and Klein.

    Args:
        pressure: eV/Å^3 (1 GPa is `jaxmlp.units.GPa`); a `Ramp`, or the whole tensor, see `Controls`.
        temperature: K of the momenta drawn at the start and of the inertia of the cell.
        dt: fs.
        tau_pressure: fs.
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "pressure": pressure, "tau_pressure": tau_pressure}
    ensemble = Ensemble("GBABG", barostat=MTK(cell, None))
    return _simulation(ensemble, controls, potential, params, system, options)


def npt_mtk(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    pressure: Value,
    dt: float = 1.0,
    tau: Value = 100.0,
    tau_pressure: float = 1000.0,
    cell: str = "isotropic",
    chain: int = 3,
    order: int = 3,
    **options,
) -> Simulation:
    """Return a deterministic simulation at constant temperature and pressure, by Martyna, Tobias and Klein.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        pressure: eV/Å^3 (1 GPa is `jaxmlp.units.GPa`); a `Ramp`, or the whole tensor, see `Controls`.
        dt: fs.
        tau: fs, of the chain of the atoms.
        tau_pressure: fs, of the cell and its chain.
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
        chain, order: see `NoseHoover`.
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "tau": tau, "pressure": pressure, "tau_pressure": tau_pressure}
    bath = NoseHoover(chain, order)
    ensemble = Ensemble("OGBABGO", bath, MTK(cell, bath))
    return _simulation(ensemble, controls, potential, params, system, options)


def npt_langevin(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    pressure: Value,
    dt: float = 1.0,
    friction: Value = 0.01,
    tau_pressure: float = 1000.0,
    cell: str = "isotropic",
    **options,
) -> Simulation:
    """Return a simulation with Langevin friction and noise on the atoms and on the cell (a Langevin piston).

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        pressure: eV/Å^3 (1 GPa is `jaxmlp.units.GPa`); a `Ramp`, or the whole tensor, see `Controls`.
        dt: fs.
        friction: 1/fs, of the atoms.
        tau_pressure: fs, of the cell, whose friction is 1 / tau_pressure.
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "friction": friction}
    controls |= {"pressure": pressure, "tau_pressure": tau_pressure}
    ensemble = Ensemble("GBAOABG", Langevin(), MTK(cell, Langevin()))
    return _simulation(ensemble, controls, potential, params, system, options)


def npt_rescaling(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    pressure: Value,
    compressibility: float,
    dt: float = 1.0,
    tau: Value = 100.0,
    friction: Value | None = None,
    tau_pressure: float = 1000.0,
    cell: str = "isotropic",
    **options,
) -> Simulation:
    """Return a simulation with stochastic cell rescaling, and CSVR for the atoms (Langevin friction if it is given).

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        pressure: eV/Å^3 (1 GPa is `jaxmlp.units.GPa`); a `Ramp`, or the whole tensor, see `Controls`.
        compressibility: Å^3/eV, an estimate of the isothermal compressibility (water 0.46 / `units.GPa`, metals 0.005
            to 0.02 / `units.GPa`): with it, tau_pressure is the time in which the volume relaxes. One that is k times
            too large makes that time k times shorter, and it must stay at twenty steps or more: the variance of the
            volume is too large by the fraction dt over twice that time.
        dt: fs.
        tau: fs, of the velocity rescaling.
        friction: 1/fs, of Langevin dynamics in its place.
        tau_pressure: fs.
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
        options: see `simulation`.
    """
    bath: Thermostat = CSVR() if friction is None else Langevin()
    own = {"tau": tau} if friction is None else {"friction": friction}
    controls = {"dt": dt, "temperature": temperature, "pressure": pressure, "tau_pressure": tau_pressure}
    controls |= {"compressibility": compressibility, **own}
    splitting = "BASABO" if friction is None else "BAOSOAB"
    ensemble = Ensemble(splitting, bath, CellRescaling(cell))
    return _simulation(ensemble, controls, potential, params, system, options)


def npt_berendsen(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Value,
    pressure: Value,
    compressibility: float,
    dt: float = 1.0,
    tau: Value = 100.0,
    tau_pressure: float = 1000.0,
    cell: str = "isotropic",
    **options,
) -> Simulation:
    """Return a simulation with weak coupling to temperature and pressure: no ensemble, and it warns so.

    Args:
        temperature: K; a `Ramp`, or a list with `groups`.
        pressure: eV/Å^3 (1 GPa is `jaxmlp.units.GPa`); a `Ramp`, or the whole tensor, see `Controls`.
        compressibility: Å^3/eV, as for `npt_rescaling`.
        dt, tau, tau_pressure: fs.
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
        options: see `simulation`.
    """
    controls = {"dt": dt, "temperature": temperature, "tau": tau, "pressure": pressure, "tau_pressure": tau_pressure}
    controls["compressibility"] = compressibility
    ensemble = Ensemble("BASABO", Berendsen(), BerendsenPressure(cell))
    return _simulation(ensemble, controls, potential, params, system, options)
