"""A simulation ready to run, from an ensemble, a potential and a system."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.combinators import Sum
from jaxmlp.energy import prepare
from jaxmlp.evaluate import Execution
from jaxmlp.md.constraints import constraints as constrained
from jaxmlp.md.constraints import project_momenta
from jaxmlp.md.controls import Controls, checked, ramps
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.learning import learner
from jaxmlp.md.recording import HEADROOM, NPT_HEADROOM, Dynamics, chunk
from jaxmlp.md.state import Atoms, State, identified
from jaxmlp.md.velocities import thermal_momenta
from jaxmlp.md.work import Work
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
        numbers: (N,) atomic numbers of the start.
        made_for: (3, 3) Å, the box for which hyper-parameters of the potential (k vectors, say) were set, or None.
    """

    dynamics: Dynamics
    atoms: Atoms
    controls: Controls
    state: State
    numbers: np.ndarray
    made_for: np.ndarray | None = None

    def replace(self, **changes) -> "Simulation":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def with_controls(self, **values: float) -> "Simulation":
        """Return a copy with other controls, for instance `with_controls(temperature=600.0)`; nothing is recompiled.

        Raises:
            ValueError: a control that this ensemble does not have, or a value that makes no sense.
        """
        if self.state.swaps:
            raise ValueError(
                "the places of an exchange keep their controls; change those of the simulations it is made of."
            )
        ensemble, groups = self.dynamics.ensemble, self.atoms.group_dof
        new = _controls(ensemble, self.state.R.dtype, values, 0 if groups is None else len(groups))
        return self.replace(controls=self.controls._replace(**new))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(np.ravel(self.state.step)[0])

    @property
    def time(self) -> float:
        """Steps done times the present time step, fs."""
        return self.step * float(np.ravel(self.controls.dt)[0])

    @property
    def elements(self) -> np.ndarray:
        """The present atomic numbers, (N,); those of the start where Monte Carlo changes none."""
        if self.state.species is None:
            return self.numbers
        return np.asarray(self.dynamics.forces.potential.species, np.int32)[np.asarray(self.state.species)]

    @property
    def system(self) -> System:
        """The present atoms, positions (unwrapped), box and velocities on the host; a ring polymer's centroids."""
        R, p = self.dynamics.forces.centroid(self.state.R), self.dynamics.forces.centroid(self.state.p)
        mass = identified(self.state, self.atoms).mass
        return System(
            self.elements,
            np.asarray(R),
            None if self.state.box is None else np.asarray(self.state.box),
            self.dynamics.forces.search.pbc,
            np.asarray(mass)[:, 0],
            np.asarray(p / mass) * fs,
        )


def _controls(ensemble: Ensemble, dtype, values: dict, groups: int = 0) -> dict:
    """Return controls as arrays of a dtype, checked."""
    out = {}
    for name, value in values.items():
        if name not in ensemble.needs:
            raise ValueError(
                f"a {ensemble.splitting} simulation has no control {name!r}; it has {', '.join(ensemble.needs)}."
            )
        cold = name == "temperature" and "tau" not in ensemble.needs and "tau_pressure" not in ensemble.needs
        out[name] = checked(name, value, dtype, zero=cold or name == "friction", groups=groups)
    return out


def simulation(
    ensemble: Ensemble,
    controls: dict[str, Any],
    potential: Potential,
    params: Params,
    system: System,
    *,
    start_temperature: float | None = None,
    dof: int | None = None,
    fixed: Any = None,
    groups: Sequence[Any] | None = None,
    bonds: Any = None,
    lengths: Any = None,
    elements: Sequence[int] = (),
    skin: float = 1.0,
    headroom: float | None = None,
    key: int | Array = 0,
    precision: str | None = None,
    block: int | None = None,
    devices: int | None = None,
    begin: bool = True,
) -> Simulation:
    """Return a simulation of any `Ensemble`; `nve`, `nvt_langevin`, `npt_mtk` ... are the usual ones.

    Args:
        controls: the fields of `Controls` that the ensemble needs.
        start_temperature: K of the Maxwell-Boltzmann momenta drawn at the start, with zero total momentum; None takes
            the system's velocities, or rest where it has none.
        dof: degrees of freedom that carry kinetic energy; None counts 3 for every atom that moves, less one for every
            constraint, less 3 where the total momentum is conserved (not under Langevin friction, nor with atoms held
            fixed or a potential that acts from outside).
        fixed: atoms that are held where they are: indices or a mask. With a barostat they move with the cell.
        groups: thermostats of their own for groups of atoms (a list of indices or masks), whose temperatures (friction,
            tau) are then lists; atoms in no group have none.
        bonds: (n, 2) atoms whose distances are constrained.
        lengths: (n,) Å of these distances; None takes those of the system.
        elements: atomic numbers that the potential is to know though the system lacks them: Monte Carlo brings them in.
        skin: Å by which the neighbour list reaches beyond the cutoff: wider is rebuilt less often.
        headroom: see `NeighborSearch.allocate`; too little costs a recompilation, never a wrong result.
        key: seed, or a jax.random key.
        precision, block, devices: see `Execution`.
        begin: evaluate the forces of the start; False spares compiling for a simulation that is only going to be one of
            several `replicas`.

    Raises:
        ValueError: the potential lacks an element of the system, a number makes no sense, or things do not go together.
        SimulationError: the energy of the system is not finite.
    """
    n = len(system)
    assert system.pbc is not None
    assert system.masses is not None  # System completes both
    potential, params, species = prepare(potential, params, system, elements)
    missing = set(ensemble.needs) - set(controls)
    if missing:
        raise ValueError(f"a {ensemble.splitting} simulation needs {', '.join(sorted(missing))}.")
    if start_temperature is not None and not 0 <= start_temperature < np.inf:
        raise ValueError(f"temperature is in K and must not be negative; got {start_temperature}.")
    _check_parts(ensemble, potential, system, groups)
    R = jnp.asarray(system.R)
    mass = jnp.asarray(system.masses[:, None], R.dtype)
    still = np.zeros(n, bool) if fixed is None else _mask(fixed, n, "fixed")
    rigid, lengths_of = (None, None) if bonds is None else constrained(system, bonds, lengths)
    if rigid is not None:
        if still[np.asarray(rigid.pairs)].any():
            raise ValueError("a constrained bond cannot end at an atom that is held fixed.")
        ensemble = replace(ensemble, constraints=rigid)
    conserving = ensemble.keeps_momentum and potential.homogeneous and not still.any() and n > 1
    if dof is None:
        dof = 3 * int((~still).sum()) - (0 if rigid is None else len(rigid)) - (3 if conserving else 0)
    if dof < 1:
        raise ValueError("no degree of freedom is left: every atom is held fixed or constrained.")
    group, group_dof = _grouped(groups, still, dof)
    atoms = Atoms(
        params=jax.tree.map(jnp.asarray, params),
        species=jnp.asarray(species),
        mass=mass,
        dof=jnp.asarray(dof, R.dtype),
        resting=jnp.asarray(3.0 if conserving else 0.0, R.dtype),
        group=None if group is None else jnp.asarray(group),
        group_dof=None if group is None else jnp.asarray(group_dof, R.dtype),
        mobile=jnp.asarray(~still[:, None], R.dtype) if still.any() else None,
        bonds=None if lengths_of is None else jax.tree.map(lambda x: _as(x, R.dtype), lengths_of),
    )
    chosen = Controls(**_controls(ensemble, R.dtype, controls, 0 if groups is None else len(groups)))
    if chosen.gle is not None and chosen.gle.A.ndim == 3 and len(chosen.gle.A) != getattr(ensemble, "beads", 0):
        wanted = f"{ensemble.beads} beads" if hasattr(ensemble, "beads") else "a single pair: this is no ring polymer"
        raise ValueError(f"gle holds matrices of {len(chosen.gle.A)} modes; expected those of {wanted}.")

    draw, rest = jax.random.split(jax.random.key(key) if isinstance(key, int) else key)
    if start_temperature is not None:
        kT = jnp.asarray(kB * start_temperature, R.dtype)
        p = thermal_momenta(draw, mass, kT, keep_momentum=not (potential.homogeneous and not still.any()))
    elif system.velocities is not None:
        p = mass * jnp.asarray(system.velocities / fs, R.dtype)
    else:
        p = jnp.zeros_like(R)
    p = atoms.held(p)
    box = None if system.box is None else jnp.asarray(system.box, R.dtype)
    if rigid is not None:
        p = project_momenta(rigid, atoms.bonds, R, p, mass, box)
    if headroom is None:
        headroom = HEADROOM if ensemble.barostat is None else NPT_HEADROOM
    search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=skin, headroom=headroom)
    execution = Execution(block, precision, devices)
    forces = ensemble.forces(potential, search, execution)
    ramped = ramps(atoms.params)
    if ramped and (ensemble.loops or getattr(ensemble, "contraction", ())):
        raise ValueError("ramps of parameters cannot be combined with multiple time steps or contraction.")
    learning = learner(potential) is not None
    if learning and (ensemble.loops or hasattr(ensemble, "beads")):
        raise ValueError("a bias that learns cannot be combined with multiple time steps or ring polymers.")
    forces = replace(forces, ramped=ramped, learning=learning)
    unlisted: Any = None  # until `evaluated`
    zero, start = jnp.zeros((), R.dtype), jnp.zeros((), jnp.int32)
    work = Work.none(R.dtype) if ramped or learning else None
    memory = atoms.params[-1] if learning else None
    state = State(R, p, jnp.zeros_like(R), zero, box, unlisted, (), rest, start, work=work, memory=memory)
    state = ensemble.start(state, atoms, chosen)
    if not begin:
        return Simulation(Dynamics(ensemble, forces), atoms, chosen, state, system.numbers, system.box)
    return begun(Dynamics(ensemble, forces), state, atoms, chosen, system)


def begun(dynamics: Dynamics, state: State, atoms: Atoms, controls: Controls, system: System) -> Simulation:
    """Return the simulation of a state that has neither lists nor forces yet.

    Raises:
        SimulationError: its energy or a force is not finite.
    """
    ready = evaluated(dynamics, state, atoms, controls)
    while np.any(ready.neighbors.overflow):  # rounding put a neighbour on the other side of the cutoff than on the host
        dynamics = dynamics.enlarged(ready.neighbors)
        ready = evaluated(dynamics, state, atoms, controls)
    sim = Simulation(dynamics, atoms, controls, ready, system.numbers, system.box)
    if not (np.isfinite(np.asarray(ready.energy)).all() and np.isfinite(np.asarray(ready.F)).all()):
        raise SimulationError(
            "the energy or a force of the starting positions is not finite: do atoms overlap, or are the parameters "
            "damaged?",
            sim,
        )
    return sim


def _as(x, dtype) -> Array:
    x = jnp.asarray(x)
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _check_parts(ensemble: Ensemble, potential: Potential, system: System, groups) -> None:
    if ensemble.barostat is not None and not (system.box is not None and system.pbc is not None and all(system.pbc)):
        raise ValueError("a barostat needs a cell that is periodic in all directions; set box and pbc, or use NVT.")
    if groups is not None and not ensemble.grouped:
        raise ValueError(f"a {type(ensemble).__name__} has one temperature: groups make no sense there.")
    members = len(getattr(potential, "members", ())) if isinstance(potential, Sum) else 1
    if ensemble.loops and members != len(ensemble.loops) + 1:
        raise ValueError(
            f"loops={ensemble.loops} are numbers of steps of a potential a + b + ... with {len(ensemble.loops) + 1} "
            f"members; this {type(potential).__name__} has {members}."
        )


def _mask(choice, n: int, name: str) -> np.ndarray:
    """Return a mask (n,) from indices or a mask."""
    choice = np.asarray(choice)
    if choice.dtype == bool and choice.shape == (n,):
        return choice
    inside = (choice >= 0) & (choice < n) if choice.dtype.kind in "iu" else False
    if choice.ndim != 1 or not np.all(inside):
        raise ValueError(f"{name} are indices of atoms, 0 to {n - 1}, or a mask of {n}; got {choice!r:.80}.")
    out = np.zeros(n, bool)
    out[choice] = True
    return out


def _grouped(groups, still: np.ndarray, dof: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the group (N,) of every atom and the degrees of freedom of every group."""
    if groups is None:
        return None, None
    masks = np.array([_mask(g, len(still), "groups") for g in groups]) & ~still
    if masks.sum(axis=0).max() > 1:
        twice = np.flatnonzero(masks.sum(axis=0) > 1)[:3].tolist()
        raise ValueError(f"atoms {twice} ... belong to two groups; an atom has one thermostat.")
    if not masks.any(axis=1).all():
        raise ValueError(f"group {int(np.argmin(masks.any(axis=1)))} holds no atom that moves.")
    group = np.where(masks.any(axis=0), masks.argmax(axis=0), len(masks)).astype(np.int32)
    return group, masks.sum(axis=1) * dof / (~still).sum()


def evaluated(dynamics: Dynamics, state: State, atoms: Atoms, controls: Controls) -> State:
    """Return the state with neighbour lists made for its positions and box, and with its forces and energy.

    This is one step of zero length from lists made far away, so that nothing is compiled but the loop that runs later.
    """
    blank = state._replace(neighbors=dynamics.blank(state), p=jnp.zeros_like(state.p), step=state.step - 1)
    there = dynamics.forces.blank(blank)
    still = controls._replace(dt=jnp.zeros_like(controls.dt))
    out = chunk(dynamics, (), there, atoms, still, **counts(there, n=1)).state
    work = None if state.work is None else out.work._replace(done=state.work.done)
    return state._replace(
        F=out.F, energy=out.energy, neighbors=out.neighbors, virial=out.virial, levels=out.levels, work=work
    )


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


def simulate(sim: Simulation) -> Callable[..., State]:
    """Return the pure function of a simulation, simulate(state, controls, n, atoms=sim.atoms) -> state after n steps.

    jit and vmap it over states (replicas, seeds), controls (temperatures, time steps) or atoms (parameters); on a CPU
    `vmap` runs one after the other, each in the cache, in half of the time that steps of all together would take. It
    stops where a force is not finite, and nobody looks after overflow here: check `state.neighbors.overflow`.
    """

    def advance(state: State, controls: Controls, n: Array, atoms: Atoms) -> State:
        return sim.dynamics.advance(state, atoms, controls, n)[0]

    if jax.default_backend() == "cpu":
        advance = jax.custom_batching.sequential_vmap(advance)

    def run(state: State, controls: Controls, n: int | Array, atoms: Atoms = sim.atoms) -> State:
        return advance(state, controls, jnp.asarray(n, state.step.dtype), atoms)

    return run
