"""Alchemical changes: from one set of elements to another on the same sites, or from one potential to another."""

from typing import NamedTuple

import numpy as np

from jaxmlp.energy import prepare
from jaxmlp.free_energy.integration import Integration, integrate
from jaxmlp.free_energy.paths import path
from jaxmlp.free_energy.switching import Switching, switch
from jaxmlp.md.controls import Ramp, SmoothRamp
from jaxmlp.potential import Params, Potential
from jaxmlp.relabelled import relabelled
from jaxmlp.system import System
from jaxmlp.units import kB


class Alchemy(NamedTuple):
    """What a change of elements is worth, eV of the whole system.

    Args:
        difference: F_b - F_a (G at constant pressure) with momenta: configurations and -3/2 kT sum_i ln(m_b / m_a).
            Which atoms are changed is given: the entropy of choosing them is not in it.
        error: its standard error.
        configurational: without momenta.
        path: the `Switching` or `Integration` behind it.
    """

    difference: float
    error: float
    configurational: float
    path: Switching | Integration


def alchemy(
    potential: Potential,
    params: Params,
    system: System,
    numbers,
    *,
    temperature: float,
    steps: int,
    method: str = "switch",
    **options,
) -> Alchemy:
    """Return the free energy of changing the elements of atoms, E = (1 - s) E(old) + s E(new).

    For substitutions on the sites of a crystal or in a liquid of similar atoms: an element that is much larger than the
    one it replaces meets its new neighbours too early. Trajectories have the masses of the system.

    Args:
        potential, params: knows the old elements and the new ones.
        numbers: (N,) the new atomic numbers.
        temperature: K.
        steps: see `switch` and `integrate`.
        method: "switch" (nonequilibrium, there and back) or "integrate" (equilibrium windows).
        options: of that method.

    Raises:
        ValueError: an unknown method or element.
        DissipationError: switches that were too fast.
    """
    if method not in ("switch", "integrate"):
        raise ValueError(f'method is "switch" or "integrate"; got {method!r}.')
    new, q = relabelled(potential, params, system, numbers)
    old, p, _ = prepare(potential, params, system)
    from ase.data import atomic_masses

    masses = atomic_masses[np.asarray(numbers)]
    changed = np.asarray(numbers) != system.numbers
    momenta = -1.5 * kB * temperature * float(np.sum(np.log(masses / system.masses)[changed]))
    if method == "switch":
        found = switch(*path(old, p, new, q, SmoothRamp), system, temperature=temperature, steps=steps, **options)
    else:
        found = integrate(*path(old, p, new, q, Ramp), system, temperature=temperature, steps=steps, **options)
    return Alchemy(found.difference + momenta, found.error, found.difference, found)
