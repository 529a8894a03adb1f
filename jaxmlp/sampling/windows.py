"""Umbrella sampling: restrained simulations side by side."""

from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxmlp import md
from jaxmlp.energy import prepare
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.sampling.profiles import Profile
from jaxmlp.sampling.restraint import restraint
from jaxmlp.sampling.umbrella import Umbrella, umbrella, umbrella_profile
from jaxmlp.sampling.variables import variable
from jaxmlp.system import System
from jaxmlp.units import kB


class Windows(NamedTuple):
    """What restrained simulations saw.

    Args:
        s: (K, T, d) the variable in every window.
        k, centers: (K, d) of the restraints.
        kT: eV.
        periods: (d,) of the variable, 0 where it has none.
        simulation: the windows at their ends.
    """

    s: np.ndarray
    k: np.ndarray
    centers: np.ndarray
    kT: float
    periods: tuple[float, ...]
    simulation: Simulation

    @property
    def joined(self) -> Umbrella:
        """All samples with the weights that they have without restraints."""
        return umbrella(list(self.s), self.k, self.centers, self.kT, periods=self.periods)

    def profile(self, grid: Any, *, width: ArrayLike | None = None, blocks: int = 20) -> Profile:
        """Return F(s) with errors, see `umbrella_profile`."""
        return umbrella_profile(
            list(self.s), self.k, self.centers, self.kT, grid, width=width, periods=self.periods, blocks=blocks
        )


def umbrella_sampling(
    potential: Potential,
    params: Params,
    system: System,
    cv: Any,
    *,
    k: ArrayLike,
    centers: ArrayLike,
    temperature: float,
    steps: int,
    pressure: float | None = None,
    equilibration: int | None = None,
    log_every: int = 10,
    exchange_every: int | None = None,
    key: int = 0,
    progress: bool = False,
    **options,
) -> Windows:
    """Run K windows, each held near its center by a spring on a collective variable, and return what they saw.

    Torrie, Valleau, J. Comput. Phys. 23, 187 (1977). All start from `system` and run in one compiled loop.

    Args:
        cv: a `Variable`, or a function f(R, box) -> scalar.
        k: eV over the square of s, one number, (K,), or (K, d).
        centers: (K,) or (K, d).
        temperature: K.
        steps: of each window, after its equilibration.
        pressure: eV/Å^3; None keeps the box.
        equilibration: steps, in which the springs pull the system to their centers; None takes a quarter of `steps`.
        log_every: steps between samples.
        exchange_every: steps between attempts of neighbouring windows to swap configurations; None for none.
        options: dt, friction ...: see `md.nvt_langevin` (with a pressure `md.npt_langevin`).

    Raises:
        ValueError: shapes that do not fit.
    """
    cv = variable(cv).for_system(system)
    potential, params, _ = prepare(potential, params, system)
    centers = np.asarray(centers, float).reshape(len(np.atleast_1d(centers)), -1)
    stiffness = np.asarray(k, float)
    stiffness = stiffness[:, None] if stiffness.ndim == 1 else stiffness
    stiffness = np.broadcast_to(stiffness, centers.shape)
    keys = jax.random.split(jax.random.key(key), len(centers))
    conditions = {"temperature": temperature, "pressure": pressure, "begin": False, **options}
    sims = []
    for one, center, seed in zip(stiffness, centers, keys):
        bias, q = restraint(cv, potential.species, one, center)
        sims.append(md.langevin(potential + bias, (params, q), system, key=seed, **conditions))
    sim = md.replicas(sims) if exchange_every is None else md.replica_exchange(sims, every=exchange_every)
    sim = md.equilibrate(sim, steps, equilibration, progress=progress)
    sim, log = md.run(sim, steps, log_every=log_every, progress=progress)
    periods = tuple(cv.periods) or (0.0,) * centers.shape[1]
    seen = log["cv"][:, :, : centers.shape[1]].swapaxes(0, 1)
    return Windows(seen, stiffness, centers, kB * temperature, periods, sim)
