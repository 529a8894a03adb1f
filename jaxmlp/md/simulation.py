"""A simulation ready to run: NVE, Langevin and Nose-Hoover, from a potential and a system."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.energy import prepare
from jaxmlp.evaluate import Execution
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.recording import HEADROOM, Dynamics, chunk
from jaxmlp.md.state import Atoms, Controls, Forces, State
from jaxmlp.md.velocities import thermal_momenta
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System
from jaxmlp.units import fs, kB


class SimulationError(RuntimeError):
    """A simulation cannot go on; the message says at which step and why.

    Args:
        message: what happened, and likely causes.
        simulation: the last good state, ready to be saved, inspected or run with other controls.
    """

    def __init__(self, message: str, simulation: "Simulation"):
        super().__init__(message)
        self.simulation = simulation


@dataclass(frozen=True, eq=False)
class Simulation:
    """Everything a run needs: the compiled program's description, arrays that stay, controls, and the state.

    Args:
        dynamics: static: ensemble, potential, neighbour search, execution.
        atoms: parameters, species, masses, degrees of freedom.
        controls: time step, temperature ...; change them with `with_controls`.
        state: positions, momenta and whatever the next step needs.
        numbers: (N,) atomic numbers.
    """

    dynamics: Dynamics
    atoms: Atoms
    controls: Controls
    state: State
    numbers: np.ndarray

    def replace(self, **changes) -> "Simulation":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def with_controls(self, **values: float) -> "Simulation":
        """Return a copy with other controls, for instance `with_controls(temperature=600.0)`; nothing is recompiled.

        Raises:
            ValueError: a control that this ensemble does not have, or a value that makes no sense.
        """
        return self.replace(controls=self.controls._replace(**_controls(self.dynamics.ensemble, self.state.R, values)))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.state.step)

    @property
    def time(self) -> float:
        """Steps done times the present time step, fs."""
        return self.step * float(self.controls.dt)

    @property
    def system(self) -> System:
        """The present positions (unwrapped), box and velocities on the host."""
        state = self.state
        return System(
            self.numbers,
            np.asarray(state.R),
            None if state.box is None else np.asarray(state.box),
            self.dynamics.forces.search.pbc,
            np.asarray(self.atoms.mass)[:, 0],
            np.asarray(state.p / self.atoms.mass) * fs,
        )


_MEANING = {
    "dt": "the time step in fs",
    "temperature": "in K",
    "friction": "the friction in 1/fs",
    "tau": "the period of the thermostat in fs",
}


def _controls(ensemble: Ensemble, R: Array, values: dict) -> dict[str, Array]:
    """Return scalar arrays in the dtype of R, checked."""
    for name, value in values.items():
        if name not in ensemble.needs:
            raise ValueError(
                f"a {ensemble.splitting} simulation has no control {name!r}; it has {', '.join(ensemble.needs)}."
            )
        zero_is_fine = name in ("temperature", "friction") and "C" not in ensemble.splitting
        if not (np.isfinite(value) and (value > 0 or (value == 0 and zero_is_fine))):
            raise ValueError(f"{name} is {_MEANING[name]} and must be a positive number; got {value}.")
    return {name: jnp.asarray(value, R.dtype) for name, value in values.items()}


def simulation(
    ensemble: Ensemble,
    controls: dict[str, float],
    potential: Potential,
    params: Params,
    system: System,
    *,
    start_temperature: float | None = None,
    dof: int | None = None,
    skin: float = 1.0,
    headroom: float = HEADROOM,
    key: int | Array = 0,
    precision: str | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> Simulation:
    """Return a simulation of any `Ensemble`; `nve`, `nvt_langevin` and `nvt_nose_hoover` are the usual ones.

    Args:
        controls: dt (fs), temperature (K), friction (1/fs), tau (fs), as the ensemble needs.
        start_temperature: K of the Maxwell-Boltzmann momenta drawn at the start, with zero total momentum; None takes
            the system's velocities, or rest where it has none.
        dof: degrees of freedom that carry kinetic energy; None counts 3 N - 3 where momentum is conserved, 3 N under
            Langevin friction, which does not conserve it (and for a single atom).
        skin: Å by which the neighbour list reaches beyond the cutoff: wider is rebuilt less often.
        headroom: see `NeighborSearch.allocate`; too little costs a recompilation, never a wrong result.
        key: seed, or a jax.random key.
        precision, block, devices: see `Execution`.

    Raises:
        ValueError: the potential lacks an element of the system, or a number makes no sense.
        SimulationError: the energy of the system is not finite.
    """
    n = len(system)
    assert system.pbc is not None
    assert system.masses is not None  # System completes both
    potential, params, species = prepare(potential, params, system)
    missing = set(ensemble.needs) - set(controls)
    if missing:
        raise ValueError(f"a {ensemble.splitting} simulation needs {', '.join(sorted(missing))}.")
    if start_temperature is not None and not 0 <= start_temperature < np.inf:
        raise ValueError(f"temperature is in K and must not be negative; got {start_temperature}.")
    search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=skin, headroom=headroom)
    R = jnp.asarray(system.R)
    mass = jnp.asarray(system.masses[:, None], R.dtype)
    if dof is None:
        dof = 3 * n if "O" in ensemble.splitting or n == 1 else 3 * n - 3
    atoms = Atoms(jax.tree.map(jnp.asarray, params), jnp.asarray(species), mass, jnp.asarray(dof, R.dtype))

    draw, rest = jax.random.split(jax.random.key(key) if isinstance(key, int) else key)
    if start_temperature is not None:
        p = thermal_momenta(draw, mass, jnp.asarray(kB * start_temperature, R.dtype))
    elif system.velocities is not None:
        p = mass * jnp.asarray(system.velocities / fs, R.dtype)
    else:
        p = jnp.zeros_like(R)
    box = None if system.box is None else jnp.asarray(system.box, R.dtype)
    unlisted: Any = None  # until `evaluated`
    zero, start = jnp.zeros((), R.dtype), jnp.zeros((), jnp.int32)
    state = State(R, p, jnp.zeros_like(R), zero, box, unlisted, ensemble.bath(p, mass), rest, start)
    dynamics = Dynamics(ensemble, Forces(potential, search, Execution(block, precision, devices)))
    checked = Controls(**_controls(ensemble, R, controls))
    ready = evaluated(dynamics, state, atoms, checked)
    while ready.neighbors.overflow:  # rounding put a neighbour on the other side of the cutoff than on the host
        dynamics = dynamics.enlarged(ready.neighbors)
        ready = evaluated(dynamics, state, atoms, checked)
    sim = Simulation(dynamics, atoms, checked, ready, system.numbers)
    if not (np.isfinite(ready.energy) and np.isfinite(np.asarray(ready.F)).all()):
        raise SimulationError(
            "the energy or a force of the starting positions is not finite: do atoms overlap, or are the parameters "
            "damaged?",
            sim,
        )
    return sim


def evaluated(dynamics: Dynamics, state: State, atoms: Atoms, controls: Controls) -> State:
    """Return the state with a neighbour list made for its positions and box, and with its forces and energy.

    This is one step of zero length from a list made far away, so that nothing is compiled but the loop that runs later.
    """
    shapes = jax.eval_shape(dynamics.forces.search, state.R, state.box)
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    far = jnp.full_like(state.R, 1e6)
    there = state._replace(neighbors=replace(blank, R=far, box=state.box), p=jnp.zeros_like(state.p))
    still = controls._replace(dt=jnp.zeros_like(controls.dt))
    out = chunk(dynamics, (), there, atoms, still, **counts(state, n=1)).state
    return state._replace(F=out.F, energy=out.energy, neighbors=out.neighbors)


def counts(
    state: State, *, n: int, log_every: int = 2**30, first: bool = False, stride: float = np.inf
) -> dict[str, Array]:
    """Return the dynamic arguments of `chunk` as arrays of one dtype, so that it is traced once."""
    return {
        "n": jnp.asarray(n, jnp.int32),
        "log_every": jnp.asarray(log_every, jnp.int32),
        "first": jnp.asarray(first),
        "stride": jnp.asarray(stride, state.R.dtype),
    }


def nve(
    potential: Potential,
    params: Params,
    system: System,
    *,
    dt: float = 1.0,
    temperature: float | None = None,
    **options,
) -> Simulation:
    """Return a simulation at constant energy, by velocity Verlet.

    Args:
        dt: fs.
        temperature: K of the momenta drawn at the start; None takes the system's velocities, or rest.
        options: see `simulation`.
    """
    return simulation(Ensemble("BAB"), {"dt": dt}, potential, params, system, start_temperature=temperature, **options)


def nvt_langevin(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    dt: float = 1.0,
    friction: float = 0.01,
    splitting: str = "BAOAB",
    **options,
) -> Simulation:
    """Return a simulation with Langevin friction and noise; these do not conserve the total momentum, so dof = 3 N.

    The system's velocities are the start if it has any, thermal ones otherwise.

    Args:
        temperature: K.
        dt: fs.
        friction: 1/fs.
        splitting: see `Ensemble`; BAOAB samples positions with the smallest error in dt.
        options: see `simulation`.
    """
    return simulation(
        Ensemble(splitting),
        {"dt": dt, "temperature": temperature, "friction": friction},
        potential,
        params,
        system,
        start_temperature=temperature if system.velocities is None else None,
        **options,
    )


def nvt_nose_hoover(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    dt: float = 1.0,
    tau: float = 100.0,
    chain: int = 3,
    order: int = 3,
    **options,
) -> Simulation:
    """Return a deterministic simulation at constant temperature, by a Nose-Hoover chain.

    The system's velocities are the start if it has any, thermal ones otherwise.

    Args:
        temperature: K.
        dt: fs.
        tau: fs, the thermostat's own period is 2 pi tau; its masses are Q_1 = dof kT tau^2, Q_j = kT tau^2.
        chain, order: see `Ensemble`. A chain of one is not ergodic for harmonic motion.
        options: see `simulation`.
    """
    return simulation(
        Ensemble("CBABC", chain=chain, order=order),
        {"dt": dt, "temperature": temperature, "tau": tau},
        potential,
        params,
        system,
        start_temperature=temperature if system.velocities is None else None,
        **options,
    )


def simulate(sim: Simulation) -> Callable[..., State]:
    """Return the pure function of a simulation, simulate(state, controls, n, atoms=sim.atoms) -> state after n steps.

    jit and vmap it over states (replicas, seeds), controls (temperatures, time steps) or atoms (parameters). It
    stops where a force is not finite, and nobody looks after overflow here: check `state.neighbors.overflow`.
    """

    def run(state: State, controls: Controls, n: int | Array, atoms: Atoms = sim.atoms) -> State:
        n = jnp.asarray(n, state.step.dtype)
        return sim.dynamics.advance(state, atoms, controls, n)[0]

    return run
