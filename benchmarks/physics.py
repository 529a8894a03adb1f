"""Ensemble averages against exact results, equations of state and other codes, and their distributions.

    python benchmarks/physics.py [--only hydrogen,...] [--output benchmarks]

writes PHYSICS.md and physics.json; tests/md/test_physics.py asserts on the same rows. Runs that are not repeated stay
as they are. Lennard-Jones is in reduced units (eV, Å, amu: the unit of time is 10.18 fs). Errors are those of each run.
"""

import warnings
from collections.abc import Callable

import numpy as np
from comparisons import Row, Runs, compared, fcc, main, table  # noqa: F401 (tests take `table` from here)
from scipy import stats

from jaxmlp import md
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.potentials.silvera_goldman import MOLECULE, silvera_goldman
from jaxmlp.statistics import average, jackknife
from jaxmlp.units import bar, fs, kB

TIME, KELVIN = 1 / fs, 1 / kB  # fs and K: the units of Lennard-Jones
AVOGADRO = 6.02214076e23


def sampled(sim: md.Simulation, steps: int, every: int, start: int) -> tuple[md.Simulation, dict[str, np.ndarray]]:
    """Return the log of `steps` steps that follow `start` steps of equilibration, and the simulation at their end."""
    sim = md.run(sim, start, log_every=start).simulation
    out = md.run(sim, steps, log_every=every)
    return out.simulation, out.log


# Equation of state

STATES = {  # T, density, U / N and P with tolerances: Thol et al., J. Phys. Chem. Ref. Data 45, 023101 (2016)
    "T* = 0.85, rho* = 0.776": (0.85, 0.776, (-5.51410, 0.005), (0.00430, 0.02)),
    "T* = 2, rho* = 0.8": (2.0, 0.8, (-4.752104, 0.01), (5.290635, 0.03)),
}


def equation_of_state(name: str, steps: int = 40_000) -> list[Row]:
    """Energy and pressure of 864 Lennard-Jones atoms, truncated at 4 and completed by their tail."""
    T, density, U, P = STATES[name]
    potential, params = lennard_jones((18,), 1.0, 1.0, 4.0, tail=True)
    system = fcc(6, density)
    options = {"friction": 1 / TIME, "dt": 0.006 * TIME / np.sqrt(max(T, 1)), "skin": 0.5, "headroom": 0.1, "key": 1}
    sim = md.nvt_langevin(potential, params, system, temperature=T * KELVIN, **options)
    log = sampled(sim, steps, 10, 3000)[1]
    pressure = log["pressure"] - density * (log["temperature"] / KELVIN - T)  # the mean of the ideal part is known
    rows = []
    for quantity, x, (reference, tolerance) in (("U/N", log["potential"] / len(system), U), ("P", pressure, P)):
        rows.append(compared(quantity, f"LJ, {name}", *average(x)[:2], reference, tolerance))
    return rows


# Distributions


def slope(a: np.ndarray, b: np.ndarray) -> float:
    """Return the slope of ln[p_b(x) / p_a(x)] by maximum likelihood of which run a sample is from.

    Shirts, J. Chem. Theory Comput. 9, 909 (2013); the intercept is left free. Newton's method of logistic regression.
    """
    x, of_b = np.concatenate([a, b]), np.repeat([0.0, 1.0], [len(a), len(b)])
    centre, scale = x.mean(), x.std()
    X = np.stack([np.ones_like(x), (x - centre) / scale], axis=1)
    w = np.zeros(2)
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ w))
        step = np.linalg.solve((X.T * (p * (1 - p))) @ X, X.T @ (of_b - p))
        w = w + step
        if np.abs(step).max() < 1e-10:
            break
    return w[1] / scale


def kinetic_rows(K: np.ndarray, dof: float, kT: float, system: str) -> list[Row]:
    """Mean, variance and whole distribution of the kinetic energy: Gamma(dof / 2) of scale kT."""
    mean, variance = 0.5 * dof * kT, 0.5 * dof * kT**2
    found = average(K)
    rows = [compared("<K> / (n kT / 2)", system, found.mean / mean, found.error / mean, 1.0)]
    second = average((K - mean) ** 2)  # about the exact mean: an average of samples, with their error
    rows.append(compared("var K / (n (kT)^2 / 2)", system, second.mean / variance, second.error / variance, 1.0))
    independent = K[:: max(1, int(np.ceil(2 * max(found.time, second.time))))]
    p = stats.kstest(independent, stats.gamma(0.5 * dof, scale=kT).cdf).pvalue
    return [*rows, Row("Kolmogorov-Smirnov p of K", system, p, None, None, float(stats.norm.isf(p / 2)))]


LIQUID = {"dt": 0.005 * TIME, "skin": 0.7, "headroom": 0.1, "key": 2}
MEMORY = md.GLEMatrices(np.array([[0.0, -8.0], [8.0, 16.0]]) / TIME)  # friction kernel 64 exp(-16 t) in 1 / TIME^2
THERMOSTATS: dict[str, Callable[..., md.Simulation]] = {
    "Langevin": lambda *start, **T: md.nvt_langevin(*start, friction=3 / TIME, **T),
    "Nose-Hoover chain": lambda *start, **T: md.nvt_nose_hoover(*start, tau=0.2 * TIME, **T),
    "CSVR": lambda *start, **T: md.nvt_csvr(*start, tau=0.1 * TIME, **T),
    "GLE": lambda *start, **T: md.nvt_gle(*start, gle=MEMORY, **T),
    "Berendsen": lambda *start, **T: md.nvt_berendsen(*start, tau=0.1 * TIME, **T),
}


def force_shifted():
    return lennard_jones((18,), 1.0, 1.0, 2.5, truncation="force-shifted")


def thermostat(name: str, steps: int = 80_000) -> list[Row]:
    """Distributions of kinetic and total energy of a liquid of 108 atoms at temperatures about two deviations apart."""
    kTs = (1.0, 1.12)
    with warnings.catch_warnings(action="ignore"):  # Berendsen's
        sim = THERMOSTATS[name](*force_shifted(), fcc(3, 0.8442), temperature=kTs[0] * KELVIN, **LIQUID)
    dof, rows, energies, potentials = float(sim.atoms.dof), [], [], []
    for kT in kTs:
        sim, log = sampled(sim.with_controls(temperature=kT * KELVIN), steps, 20, 4000)
        K = 0.5 * dof * log["temperature"] / KELVIN
        energies.append(log["potential"] + K)
        potentials.append(log["potential"])
        rows += kinetic_rows(K, dof, kT, f"{name}, kT = {kT}")
    expected = 1 / kTs[0] - 1 / kTs[1]
    for what, x in (("E", energies), ("U", potentials)):
        found, error = jackknife(slope, *x, blocks=40)
        rows.append(
            compared(f"slope of ln p({what}) / (beta_1 - beta_2)", name, found / expected, error / expected, 1.0)
        )
    return rows


PISTON = {"tau": 0.2 * TIME, "tau_pressure": 0.5 * TIME}
RESCALING = {"compressibility": 0.1, "tau": 0.1 * TIME, "tau_pressure": 0.1 * TIME}
# The crystal is seven times stiffer: with the liquid's numbers its cell relaxes within three steps, and the volume
# fluctuates by a tenth too much.
STIFF = {"compressibility": 0.015, "tau_pressure": 0.2 * TIME}
BAROSTATS: dict[str, tuple[str, Callable[..., md.Simulation]]] = {
    "MTK, isotropic": ("liquid", lambda *s, **o: md.npt_mtk(*s, **PISTON, **o)),
    "MTK, orthorhombic": ("crystal", lambda *s, **o: md.npt_mtk(*s, **PISTON, cell="orthorhombic", **o)),
    "MTK, triclinic": ("crystal", lambda *s, **o: md.npt_mtk(*s, **PISTON, cell="triclinic", **o)),
    "Langevin piston": (
        "liquid",
        lambda *s, **o: md.npt_langevin(*s, friction=3 / TIME, tau_pressure=0.5 * TIME, **o),
    ),
    "cell rescaling, isotropic": ("liquid", lambda *s, **o: md.npt_rescaling(*s, **RESCALING, **o)),
    "cell rescaling, orthorhombic": (
        "crystal",
        lambda *s, **o: md.npt_rescaling(*s, **STIFF, friction=3 / TIME, cell="orthorhombic", **o),
    ),
    "cell rescaling, triclinic": (
        "crystal",
        lambda *s, **o: md.npt_rescaling(*s, **STIFF, tau=0.1 * TIME, cell="triclinic", **o),
    ),
    "Berendsen": ("liquid", lambda *s, **o: md.npt_berendsen(*s, **RESCALING, **o)),
}
PHASES = {"liquid": (0.75, 1.0, (1.0, 1.4)), "crystal": (1.02, 0.6, (2.0, 2.8))}  # density, kT, pressures


def barostat(name: str, steps: int = 60_000) -> list[Row]:
    """Distribution of the volume of 108 atoms at pressures about two deviations apart."""
    phase, make = BAROSTATS[name]
    density, kT, pressures = PHASES[phase]
    with warnings.catch_warnings(action="ignore"):
        sim = make(*force_shifted(), fcc(3, density), temperature=kT * KELVIN, pressure=pressures[0], **LIQUID)
    volumes = []
    for P in pressures:
        sim, log = sampled(sim.with_controls(pressure=P), steps, 10, 4000)
        volumes.append(log["volume"])
    expected = -(pressures[1] - pressures[0]) / kT
    found, error = jackknife(slope, *volumes, blocks=40)
    system = f"{name}, {phase}"
    return [compared("slope of ln p(V) / beta (P_1 - P_2)", system, found / expected, error / abs(expected), 1.0)]


# Para-hydrogen

HYDROGEN = {  # beads and fs
    "32 beads, 5 fs": (32, 5.0),
    "16 beads, 5 fs": (16, 5.0),
    "32 beads, 8 fs": (32, 8.0),
}
# K_CV and V + tail (K per molecule) and pressure (bar), each with tolerance and error: 80 ps by another program, which
# states no errors but that of the pressure; 0.2 K is the scatter of its two estimators of the kinetic energy.
PUBLISHED: dict[int, dict[str, tuple[float, float, float]]] = {
    16: {"kinetic": (61.06, 0.5, 0.2), "potential": (-107.71, 0.5, 0.2)},
    32: {"kinetic": (61.83, 0.5, 0.2), "potential": (-107.43, 0.5, 0.2), "pressure": (-6.0, 30.0, 10.0)},
}


def hydrogen(name: str, length: float = 30_000.0) -> list[Row]:
    """Liquid para-hydrogen at 25 K and 31.7 cm^3/mol: 108 molecules, cut at half the cell, with tails.

    Args:
        length: fs.
    """
    beads, dt = HYDROGEN[name]
    n, volume = 108, 31.7e24 / AVOGADRO
    potential, params = silvera_goldman(0.5 * (n * volume) ** (1 / 3), tail=True)
    system = fcc(3, 1 / volume, numbers=np.ones(n, int), masses=np.full(n, MOLECULE))
    classical = md.nvt_langevin(potential, params, system, temperature=80.0, dt=5.0, skin=1.0, key=3)
    melt = md.run(classical, 2000, log_every=2000).simulation.system.replace(velocities=None)
    options = {"temperature": 25.0, "dt": dt, "tau": 100.0, "skin": 1.0, "headroom": 0.15, "key": 4}
    sim = md.pimd(potential, params, melt, beads=beads, **options)
    log = sampled(sim, round(length / dt), round(50 / dt), round(5000 / dt))[1]
    unit = {"kinetic": n * kB, "potential": n * kB, "pressure": bar}
    called = {"kinetic": "K_CV, K", "potential": "V + tail, K", "pressure": "P, bar"}
    rows = []
    for column, (reference, tolerance, spread) in PUBLISHED[beads].items():
        found = average(log[column] / unit[column])[:2]
        rows.append(compared(called[column], f"para-H2, {name}", *found, reference, tolerance, spread))
    difference = average((log["kinetic_primitive"] - log["kinetic"]) / (n * kB))[:2]
    return [*rows, compared("K_TD - K_CV, K", f"para-H2, {name}", *difference, 0.0)]


# Report

RUNS: Runs = {
    "eos": ("Equation of state: 864 atoms, truncated at 4 with tails", equation_of_state, STATES),
    "thermostats": ("Thermostats: 108 atoms of a force-shifted liquid, rho* = 0.8442", thermostat, THERMOSTATS),
    "barostats": ("Barostats: 108 force-shifted atoms, liquid and fcc crystal", barostat, BAROSTATS),
    "hydrogen": ("Path integrals: para-hydrogen at 25 K and 31.7 cm^3/mol (PILE-L, BCOCB)", hydrogen, HYDROGEN),
}

INTRODUCTION = """Written by `python benchmarks/physics.py`; `pytest -m slow tests/md/test_physics.py` asserts on the
same rows. Errors are standard errors from the correlation of each run; sigmas are differences in standard errors of
both sides, or, for the Kolmogorov-Smirnov test, the two-sided normal equivalent of p. Weak coupling (Berendsen) is
there to be found out."""


if __name__ == "__main__":
    main(__doc__, "physics", "Physics of the dynamics", INTRODUCTION, RUNS)
