"""Derivatives of free energies by parameters of the potential: dF/dp = <dE/dp>, and F(p) near a simulated p."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp import md
from jaxmlp.energy import energy_fn
from jaxmlp.free_energy.estimators import Perturbation, perturbation
from jaxmlp.md.simulation import Simulation
from jaxmlp.potential import Params, Potential
from jaxmlp.statistics import Average, average
from jaxmlp.system import System


class Samples(NamedTuple):
    """Configurations of an equilibrium run.

    Args:
        R: (T, N, 3) Å.
        box: (T, 3, 3) Å, or None.
        kT: eV.
    """

    R: Array
    box: Array | None
    kT: float


def samples(sim: Simulation, steps: int, every: int, *, progress: bool = False) -> tuple[Simulation, Samples]:
    """Run `steps` steps and return the end and the configurations at every `every`-th.

    Raises:
        ValueError: the simulation has no thermostat.
    """
    if sim.controls.temperature is None:
        raise ValueError("samples of a canonical ensemble need a simulation with a thermostat.")
    observers = {"R": lambda state, out: state.R}
    if sim.state.box is not None:
        observers["cell"] = lambda state, out: state.box
    sim, log = md.run(sim, steps, log_every=every, observers=observers, progress=progress)
    first = 1 if log["step"][0] == 0 else 0  # the start is no sample
    box = jnp.asarray(log["cell"][first:]) if "cell" in log else None
    return sim, Samples(jnp.asarray(log["R"][first:]), box, float(sim.controls.at(sim.state.step).kT))


def gradient(potential: Potential, params: Params, system: System, seen: Samples, **options) -> tuple[Params, Params]:
    """Return dF/dparams = <dE/dparams> and its standard error, both like `params`: eV per unit of each parameter.

    Helmholtz energy of samples at constant volume, Gibbs energy at constant pressure. Averages are over correlated
    samples, see `statistics.average`. Integer leaves have None.

    Args:
        seen: samples of the potential with these very parameters.
        options: headroom, skin ...: see `energy_fn`.
    """
    energy = energy_fn(potential, system, **options)
    floating = jax.tree.map(lambda x: jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating), params)
    series = _mapped(lambda R, box: jax.grad(energy, 2, allow_int=True)(R, box, params), seen)

    found = jax.tree.map(lambda x, real: average(np.asarray(x)) if real else None, series, floating)
    is_leaf = lambda x: x is None or isinstance(x, Average)
    part = lambda name: jax.tree.map(lambda x: x and jnp.asarray(getattr(x, name)), found, is_leaf=is_leaf)
    return part("mean"), part("error")


def free_energy_fn(
    potential: Potential, params: Params, system: System, seen: Samples, **options
) -> Callable[[Params], Perturbation]:
    """Return the pure function f(params) -> F(params) - F(params of the samples), eV, and the effective sample size.

    f = -kT ln <exp(-(E(params) - E_0) / kT)>_0: Zwanzig, J. Chem. Phys. 22, 1420 (1954). It is differentiable, and at
    the parameters of the samples its gradient is `gradient`: a free-energy difference as a loss, f_b(params) -
    f_a(params) + const, whose optimisation samples again where the effective size has become small.

    Args:
        params: those of the samples.
        options: headroom, skin ...: see `energy_fn`.
    """
    energy = energy_fn(potential, system, **options)
    start = _mapped(lambda R, box: energy(R, box, params), seen)

    def f(params: Params) -> Perturbation:
        change = _mapped(lambda R, box: energy(R, box, params), seen) - start
        return perturbation(change, seen.kT)

    return f


def _mapped(function: Callable, seen: Samples) -> Any:
    """Return function(R, box) of all samples, one after the other."""
    one = jax.checkpoint(function)
    if seen.box is None:
        return lax.map(lambda R: one(R, None), seen.R)
    return lax.map(lambda x: one(*x), (seen.R, seen.box))
