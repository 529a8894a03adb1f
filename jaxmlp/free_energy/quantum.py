"""Free energies of quantum nuclei: from classical ones, by integration over the masses."""

from typing import Any, NamedTuple

import numpy as np

from jaxmlp import md
from jaxmlp.potential import Params, Potential
from jaxmlp.statistics import average
from jaxmlp.system import System
from jaxmlp.units import kB


class Quantum(NamedTuple):
    """The free energy that quantum nuclei add, eV of the whole system.

    Args:
        difference: F_q - F_c, both at the masses of the system.
        error: its standard error.
        y: (windows,) points; the masses were m / y^2.
        kinetic, kinetic_error: (windows,) mean kinetic energies by the centroid-virial estimator.
    """

    difference: float
    error: float
    y: np.ndarray
    kinetic: np.ndarray
    kinetic_error: np.ndarray


def quantum(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    beads: int,
    steps: int,
    dt: float = 0.5,
    tau: float = 100.0,
    windows: int = 6,
    equilibration: int | None = None,
    log_every: int = 5,
    key: int = 0,
    progress: bool = False,
    **options: Any,
) -> Quantum:
    """Return F_q - F_c = int_0^1 (2 / y) [<K>(m / y^2) - 3 N kT / 2] dy by path integrals.

    Along the masses from infinite (classical) ones, where dF/dm = -<K> / m: in the variable y = (m / mass)^(1/2) the
    integrand starts linearly in y (Ceriotti, Markland, J. Chem. Phys. 138, 014112 (2013), Eq. (8)). Points are those of
    Gauss and Legendre. A finite number of beads gives the free energy of that many, which is too low.

    Args:
        temperature: K.
        beads: P.
        steps: of each window, after its equilibration.
        dt, tau: fs, see `md.pimd`; heavier masses take up to four times as much.
        windows: number of masses.
        equilibration: steps; None takes a quarter of `steps`.
        log_every: steps between samples.
        options: scheme, thermostat ...: see `md.pimd`.

    Raises:
        ValueError: numbers that make no sense; too few samples for an error.
    """
    if windows < 1:
        raise ValueError(f"windows is a number of 1 or more; got {windows}.")
    x, g = np.polynomial.legendre.leggauss(windows)
    y, g = 0.5 * (x + 1), 0.5 * g
    classical = 1.5 * len(system) * kB * temperature
    found = []
    for k, point in enumerate(y):
        heavy = system.replace(masses=system.masses / point**2)
        slow = min(1 / float(point), 4.0)  # the springs between beads do not soften with the mass
        sim = md.pimd(
            potential, params, heavy, temperature=temperature, beads=beads, key=key + k, dt=slow * dt, tau=slow * tau,
            **options,
        )  # fmt: skip
        sim = md.equilibrate(sim, steps, equilibration, progress=progress)
        log = md.run(sim, steps, log_every=log_every, progress=progress).log
        found.append(average(log["kinetic"]))
    K, error = np.array([a.mean for a in found]), np.array([a.error for a in found])
    weight = 2 * g / y
    total = float(np.sqrt(np.sum((weight * error) ** 2)))
    return Quantum(float(weight @ (K - classical)), total, y, K, error)
