"""Absolute free energies: solids from an Einstein crystal, liquids from the Uhlenbeck-Ford fluid."""

from typing import Any, NamedTuple

import numpy as np

from jaxmlp import md
from jaxmlp.energy import prepare
from jaxmlp.free_energy.einstein import spring_constants, unpinned_einstein_crystal
from jaxmlp.free_energy.finite_size import crystal_finite_size, liquid_finite_size
from jaxmlp.free_energy.fluid import reduced_density, uhlenbeck_ford_excess
from jaxmlp.free_energy.ideal_gas import ideal_gas
from jaxmlp.free_energy.lattice import primitive_cells
from jaxmlp.free_energy.paths import path
from jaxmlp.free_energy.switching import Switching, switch
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.einstein import einstein_crystal
from jaxmlp.potentials.uhlenbeck_ford import uhlenbeck_ford
from jaxmlp.system import System
from jaxmlp.units import kB


class PhaseError(RuntimeError):
    """A solid melted, or a liquid froze, where its free energy was to be found.

    Args:
        message: what was seen.
        simulation: where.
    """

    def __init__(self, message: str, simulation: Simulation):
        super().__init__(message)
        self.simulation = simulation


class Absolute(NamedTuple):
    """An absolute free energy, eV of the whole system; divide by `atoms` for values per atom.

    Args:
        F: Helmholtz energy at the volume of `system`, with momenta (quantum of action Planck's).
        G: Gibbs energy F + P V.
        error: standard error of both.
        reference: F of the reference system.
        switching: the switches from the system to the reference: F = reference - switching.difference.
        temperature: K.
        pressure: eV/Å^3, the one asked for, or at a given volume the measured one.
        system: positions and box in which the switches began; of a solid the mean sites.
        springs: (N,) eV/Å^2 of the Einstein crystal, None of a liquid.
        finite_size: what F and G lack of those of as many atoms of an infinite system, 0 where it was not asked for.
    """

    F: float
    G: float
    error: float
    reference: float
    switching: Switching
    temperature: float
    pressure: float
    system: System
    springs: np.ndarray | None
    finite_size: float = 0.0

    @property
    def atoms(self) -> int:
        return len(self.system)

    @property
    def bulk(self) -> float:
        """G of as many atoms of an infinite system: G + finite_size."""
        return self.G + self.finite_size


def at_pressure(sim: Simulation, steps: int, *, progress: bool = False) -> tuple[Simulation, np.ndarray, np.ndarray]:
    """Run at constant pressure; return the end, the mean box (3, 3) of the second half, and its volumes.

    Where the mean is off by dV, F + P V is off by dV^2 B / 2 V only.
    """
    sim, log = md.run(sim, steps, log_every=max(1, steps // 500), progress=progress)
    half = len(log["volume"]) // 2
    box = log["box"][half:].mean(axis=0) if "box" in log else np.asarray(sim.state.box)
    volumes = log["volume"][half:]
    return sim, box * np.cbrt(volumes.mean() / abs(np.linalg.det(box))), volumes


def scaled(system: System, box: np.ndarray) -> System:
    """Return the system in another box at the same fractional coordinates, without velocities."""
    return system.replace(R=system.R @ np.linalg.solve(system.box, box), box=box, velocities=None)


def solid(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    steps: int = 20_000,
    pressure: float | None = None,
    equilibration: int | None = None,
    springs: Any = None,
    cells: int | None = None,
    finite_size: bool = False,
    repeats: int = 4,
    max_dissipation: float = 0.05,
    key: int = 0,
    progress: bool = False,
    cell: str = "isotropic",
    tau_pressure: float = 1000.0,
    **options,
) -> Absolute:
    """Return the free energy of a crystal by switching it to an Einstein crystal: Frenkel and Ladd's method.

    Frenkel, Ladd, J. Chem. Phys. 81, 3188 (1984), by nonequilibrium switching as in Freitas, Asta, de Koning, Comput.
    Mater. Sci. 112, 333 (2016). The springs move with the crystal, so that its centre may diffuse on the whole way;
    what a free centre is worth is in `free_energy.einstein`. Classical nuclei; add `harmonic` corrections or
    `quantum` for others.

    With a pressure, the mean box at that pressure is found first. Then springs come from mean square displacements, and
    sites from mean positions, of a run in the box.

    Args:
        system: the crystal; its box where no pressure is given.
        temperature: K.
        steps: of one switch.
        pressure: eV/Å^3.
        equilibration: steps in each of the runs before the switches and at their ends; None takes half of `steps`.
        springs: eV/Å^2, one, one for each atom, or a mapping from atomic numbers; None measures them.
        cells: number of primitive cells in the box; None counts the translations that map the sites onto themselves.
        finite_size: compute what the box lacks of an infinite crystal, from its phonons (`crystal_finite_size`).
        repeats, max_dissipation, key: see `switch`.
        cell, tau_pressure: of the runs at constant pressure, see `md.npt_langevin`.
        options: dt, friction ...: see `md.nvt_langevin`.

    Raises:
        ValueError: bad input; too few samples for averages; a finite size asked for where phonons are unstable.
        PhaseError: atoms left their sites.
        DissipationError: the switches were too fast.
    """
    rest = max(1, steps // 2) if equilibration is None else equilibration
    potential, params, _ = prepare(potential, params, system)
    conditions = {"temperature": temperature, **options}
    if pressure is not None:
        barostat = {"pressure": pressure, "cell": cell, "tau_pressure": tau_pressure}
        sim = md.langevin(potential, params, system, key=key, **barostat, **conditions)
        _, box, _ = at_pressure(sim, rest, progress=progress)
        system = scaled(system, box)
    sim = md.langevin(potential, params, system, key=key + 1, **conditions)
    sites, measured, P = _vibrations(sim, system, rest, temperature, progress)
    reference, q = einstein_crystal(sites, measured if springs is None else springs, species=potential.species)
    k, n_cells = np.asarray(q["k"]), primitive_cells(system) if cells is None else cells
    F0 = float(unpinned_einstein_crystal(k, sites.masses, sites.volume, temperature, cells=n_cells))
    larger = crystal_finite_size(potential, params, sites, temperature, cells=n_cells) if finite_size else 0.0
    found = switch(
        *path(potential, params, reference, q), sites, steps=steps, equilibration=rest, repeats=repeats,
        max_dissipation=max_dissipation, key=key + 2, progress=progress, **conditions,
    )  # fmt: skip
    for R in np.asarray(found.simulation.state.R):
        check_sites(R, sites, found.simulation)
    F, P = F0 - found.difference, P if pressure is None else pressure
    return Absolute(F, F + P * sites.volume, found.error, F0, found, temperature, P, sites, k, larger)


def _vibrations(
    sim: Simulation, system: System, steps: int, temperature: float, progress: bool
) -> tuple[System, np.ndarray, float]:
    """Return the mean sites of a crystal, springs (N,) eV/Å^2 of its mean square displacements, and its pressure."""
    sim = md.run(sim, steps, log_every=steps, progress=progress).simulation
    observers = {"R": lambda state, out: state.R}
    sim, log = md.run(sim, steps, log_every=max(1, steps // 500), observers=observers, progress=progress)
    springs = spring_constants(log["R"], system.numbers, system.masses, temperature)
    for frame in (log["R"][0], log["R"][-1]):
        check_sites(frame, system, sim)
    drift = (log["R"] - system.R).mean(axis=1, keepdims=True)  # Langevin dynamics lets the crystal diffuse as a whole
    sites = system.replace(R=(log["R"] - drift).mean(axis=0), velocities=None)
    return sites, springs, float(log["pressure"].mean())


def check_sites(R: np.ndarray, sites: System, sim: Simulation) -> None:
    """Refuse positions (N, 3) of a crystal in which an atom is nearer to another site than to its own.

    Raises:
        PhaseError: naming the first such atoms.
    """
    d = R - sites.R
    d = np.linalg.norm(d - d.mean(axis=0), axis=1)
    nearest = nearest_neighbors(sites)
    gone = np.flatnonzero(d > 0.5 * nearest)
    if len(gone):
        raise PhaseError(
            f"{len(gone)} of {len(d)} atoms ({', '.join(map(str, gone[:3]))} ...) left their sites, by up to "
            f"{d.max():.2f} Å: the crystal melts or diffuses at this temperature and has no Einstein crystal.",
            sim,
        )


def nearest_neighbors(system: System) -> np.ndarray:
    """Return the distance (N,) Å of every atom to the nearest other one, images included."""
    from vesin import NeighborList

    reach = 2.0 * np.cbrt(system.volume / len(system))
    i, d = NeighborList(cutoff=reach, full_list=True).compute(
        points=system.R, box=system.box, periodic=True, quantities="id"
    )
    nearest = np.full(len(system), reach)
    np.minimum.at(nearest, i, d)
    return nearest


def liquid(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    steps: int = 20_000,
    pressure: float | None = None,
    equilibration: int | None = None,
    melt: float | None = None,
    p: int = 50,
    sigma: float | None = None,
    finite_size: bool = False,
    repeats: int = 4,
    max_dissipation: float = 0.05,
    key: int = 0,
    progress: bool = False,
    tau_pressure: float = 1000.0,
    **options,
) -> Absolute:
    """Return the free energy of a liquid (or dense gas) by switching it to the Uhlenbeck-Ford fluid.

    Paula Leite, Freitas, Azevedo, de Koning, J. Chem. Phys. 145, 194101 (2016). Classical nuclei; all atoms of the
    reference fluid are alike, and of several elements each has its own N_s! and mass.

    Args:
        system: positions of the liquid, or a crystal that `melt` melts first.
        temperature: K.
        steps: of one switch.
        pressure: eV/Å^3, at which the mean volume is found first; None keeps the box.
        equilibration: steps in each of the runs before the switches and at their ends; None takes half of `steps`.
        melt: K, at which `system` is molten first (with a pressure in a box that is a tenth wider); None takes it for
            molten.
        p: strength of the Uhlenbeck-Ford model, epsilon = p kT: 1, 25, 50, 75 or 100; 50 suits metals.
        sigma: Å, its length; None takes that of the reduced density 0.75 (1.5 Å in copper).
        finite_size: compute what the box lacks of an infinite liquid, from the fluctuations of its volume in a run at
            constant pressure (`liquid_finite_size`).
        repeats, max_dissipation, key: see `switch`.
        tau_pressure: fs, see `md.npt_langevin`.
        options: dt, friction ...: see `md.nvt_langevin`.

    Raises:
        ValueError: bad input; too few samples for averages.
        PhaseError: atoms do not diffuse.
        DissipationError: the switches were too fast.
    """
    rest = max(1, steps // 2) if equilibration is None else equilibration
    potential, params, _ = prepare(potential, params, system)
    conditions = {"temperature": temperature, **options}
    if melt is not None:
        # In a perfect crystal melting has nowhere to begin, and the less room, the later: give it a tenth more.
        wide = system if pressure is None else scaled(system, np.cbrt(1.1) * np.asarray(system.box))
        sim = md.langevin(potential, params, wide, key=key + 3, **(conditions | {"temperature": melt}))
        sim = md.run(sim, rest, log_every=rest, progress=progress).simulation
        check_diffusion(sim.system.R, wide, sim)
        system = sim.system.replace(velocities=None)
    if pressure is not None:
        barostat = {"pressure": pressure, "tau_pressure": tau_pressure}
        sim = md.langevin(potential, params, system, key=key, **barostat, **conditions)
        sim, box, volumes = at_pressure(sim, rest, progress=progress)
        system = scaled(sim.system, box)
    sim = md.langevin(potential, params, system, key=key + 1, **conditions)
    sim, log = md.run(sim, rest, log_every=max(1, rest // 500), progress=progress)
    check_diffusion(sim.system.R, system, sim)
    P = float(log["pressure"][len(log["pressure"]) // 2 :].mean()) if pressure is None else pressure
    if finite_size and pressure is None:
        free = md.langevin(
            potential, params, sim.system, pressure=P, tau_pressure=tau_pressure, key=key + 4, **conditions
        )
        _, _, volumes = at_pressure(free, rest, progress=progress)
    larger = liquid_finite_size(system.numbers, volumes, temperature) if finite_size else 0.0
    system = sim.system.replace(velocities=None)
    density = len(system) / system.volume
    sigma = float(np.cbrt(2 * 0.75 / density) / np.sqrt(np.pi)) if sigma is None else sigma
    reference, q = uhlenbeck_ford(potential.species, p, temperature, sigma)
    excess = (
        float(uhlenbeck_ford_excess(reduced_density(density, sigma), p, len(system))) * len(system) * kB * temperature
    )
    F0 = float(ideal_gas(system.numbers, system.masses, system.volume, temperature)) + excess
    found = switch(
        *path(potential, params, reference, q), system, steps=steps, equilibration=rest, repeats=repeats,
        max_dissipation=max_dissipation, key=key + 2, progress=progress, **conditions,
    )  # fmt: skip
    F = F0 - found.difference
    return Absolute(F, F + P * system.volume, found.error, F0, found, temperature, P, system, None, larger)


def check_diffusion(R: np.ndarray, start: System, sim: Simulation) -> None:
    """Refuse positions (N, 3) of a liquid of which hardly an atom left its place.

    Raises:
        PhaseError: they are.
    """
    d = R - start.R
    d = np.linalg.norm(d - d.mean(axis=0), axis=1)
    left = np.mean(d > 0.5 * nearest_neighbors(start))
    if left < 0.1:
        raise PhaseError(
            f"only {100 * left:.0f} % of the atoms left their places during {sim.step} steps: this is a crystal or a "
            "glass. Melt it first (melt = a temperature well above the melting point), or run longer.",
            sim,
        )
