"""The driver of every simulation: chunks of compiled steps, and between them frames, checkpoints, repairs."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxmlp.evaluate import Evaluation
from jaxmlp.md.checkpoint import save
from jaxmlp.md.learning import enlarged, overflowed
from jaxmlp.md.progress import Progress
from jaxmlp.md.recording import ROWS, Chunk, Dynamics, Observers, chunk
from jaxmlp.md.simulation import Simulation, SimulationError, counts, evaluated
from jaxmlp.md.state import State
from jaxmlp.md.trajectory import Trajectory, frames, open_trajectories

_REPAIRS = 12  # of one chunk; each adds a fifth to the neighbour capacities, a factor of 9 in all


COLUMNS = (
    "step", "time", "potential", "kinetic", "total", "conserved", "temperature", "pressure", "volume",
)  # fmt: skip


class Result(NamedTuple):
    """What a run returns.

    Args:
        simulation: the state at the end; hand it to `run` again to go on.
        log: one row for every `log_every` steps, as arrays: step, time (fs), potential, kinetic, total, conserved (eV),
            temperature (K; that of Langevin dynamics right after the noise, see `Bath`), and where all directions are
            periodic pressure (eV/Å^3) and volume (Å^3); then what the observers return.
    """

    simulation: Simulation
    log: dict[str, np.ndarray]


def equilibrate(sim: Simulation, steps: int, rest: int | None = None, *, progress: bool = False) -> Simulation:
    """Return the simulation after `rest` steps of which nothing is kept; None takes a quarter of `steps`, its run's."""
    rest = steps // 4 if rest is None else rest
    return run(sim, rest, log_every=max(1, rest), progress=progress).simulation


def run(
    sim: Simulation,
    steps: int,
    *,
    log_every: int = 100,
    trajectory: str | PathLike | Trajectory | None = None,
    trajectory_every: int | None = None,
    checkpoint: str | PathLike | None = None,
    checkpoint_every: int = 10_000,
    observers: Mapping[str, Callable[[State, Evaluation], Array]] | None = None,
    progress: bool = False,
    stride: float = 1.0,
) -> Result:
    """Run `steps` steps and return the final simulation and the log.

    The state at a step depends neither on what is logged or written, nor on where a run was interrupted and restarted.
    A trajectory that exists is continued where the simulation is past step 0 (frames later than its present step are
    dropped first) and overwritten where it is at step 0.

    Args:
        log_every: steps between rows of the log, at multiples of it. A row costs one more evaluation: the steps
            themselves compute forces only.
        trajectory: a file name ending in .xyz, .extxyz (extended XYZ), .h5 or .h5md (H5MD), or a `Trajectory`. Of ring
            polymers the centroids are written.
        trajectory_every: steps between frames, at multiples of it; None takes `log_every`.
        checkpoint: file for `restart`, replaced in one stroke at every multiple of `checkpoint_every` and at the end.
        observers: name -> pure function of (state, evaluation), recorded with every row of the log.
        progress: show a progress bar with atom-steps/s and the time left.
        stride: Å; an atom that moves further in one step has flown away, and the run stops.

    Raises:
        ValueError: an interval that is none.
        SimulationError: the energy became NaN, or atoms fly apart; its `simulation` holds the last good state, which is
            also the last frame of the trajectory.
    """
    every = {
        "log_every": log_every,
        "trajectory_every": log_every if trajectory_every is None else trajectory_every,
        "checkpoint_every": checkpoint_every,
    }
    for name, value in every.items():
        if not (isinstance(value, int | np.integer) and value >= 1):
            raise ValueError(f"{name} is a number of steps and must be at least 1; got {value!r}.")
    if not (isinstance(steps, int | np.integer) and steps >= 0):
        raise ValueError(f"steps must be a number of steps, 0 or more; got {steps!r}.")
    if not stride > 0:
        raise ValueError(f"stride is a length in Å and must be positive; got {stride}.")
    stops = [_chunk_length(len(sim), log_every)]
    if trajectory is not None:
        stops.append(every["trajectory_every"])
    if checkpoint is not None:
        stops.append(checkpoint_every)
    watch: Observers = tuple((observers or {}).items())
    log: list[dict[str, np.ndarray]] = []
    step, end = sim.step, sim.step + steps
    with ExitStack() as stack:
        opened = [] if trajectory is None else open_trajectories(trajectory, sim)
        writers = [stack.enter_context(one) for one in opened]
        bar = stack.enter_context(Progress(steps, len(sim))) if progress else None

        def go(sim: Simulation, n: int, first: bool = False) -> Simulation:
            sim, parts, failed = _advance(sim, n, watch, log_every, first, stride)
            for part in parts:
                if int(part.rows):
                    log.append(jax.tree.map(lambda x: np.asarray(x[: int(part.rows)]), part.log))  # noqa: B023
            due = n > 0 or first
            if writers and due and (failed or sim.step % every["trajectory_every"] == 0):
                for writer, frame in zip(writers, frames(sim, parts[-1].virial)):
                    writer.append(frame)
            if bar is not None:
                bar.update(sim, n)
            if failed:
                raise SimulationError(failed, sim)
            return sim

        sim = go(sim, 0, first=True)
        while step < end:
            n = min([end, *((step // s + 1) * s for s in stops)]) - step
            sim = go(sim, n)
            step += n
            if checkpoint is not None and (step % checkpoint_every == 0 or step == end):
                save(checkpoint, sim)
    return Result(sim, _columns(sim, log))


def _chunk_length(atoms: int, log_every: int) -> int:
    """Steps between two looks of the host; a function of the system and the log only, so that runs repeat exactly.

    About 10^6 atom-steps: a second of a light potential, against about a millisecond for a look.
    """
    length = max(1, min(5000, 1_000_000 // atoms, ROWS * log_every))
    return length // log_every * log_every or length


def _advance(
    sim: Simulation, n: int, watch: Observers, log_every: int, first: bool, stride: float
) -> tuple[Simulation, list[Chunk], str]:
    """Take n steps, repairing overflow; return the new simulation, what the loops returned, and why it failed or "".

    After an overflow the steps before it are done again, and the rest with a larger neighbour list, made for the same
    reference positions as before, so that later rebuilds come at the same steps. After a failure the loop is repeated
    up to the step before it: the steps look at forces only, so where an energy alone is not finite, bisection finds the
    step.
    """
    first = first and sim.step == 0
    parts: list[Chunk] = []

    def attempt(sim: Simulation, n: int) -> Chunk:
        arguments = counts(sim.state, n=n, log_every=log_every, first=first and not parts, stride=stride)
        return chunk(sim.dynamics, watch, sim.state, sim.atoms, sim.controls, **arguments)

    repairs = 0
    while repairs < _REPAIRS:
        part = attempt(sim, n)
        if bool(part.healthy):
            return sim.replace(state=part.state), [*parts, part], ""
        repaired = _repaired(sim, part.state)
        if repaired is not None:
            before = int(part.done) - 1
            if before > 0:
                part = attempt(sim, before)
                if not bool(part.healthy):  # an energy was not finite before the list overflowed
                    n = before
                    continue
                parts.append(part)
                sim, n, repairs = sim.replace(state=part.state), n - before, 0
            sim, repairs = repaired(sim), repairs + 1
            continue
        bad, part_bad, good, part = int(part.done), part, 0, attempt(sim, 0)
        middle = bad - 1
        while bad - good > 1:
            tried = attempt(sim, middle)
            if bool(tried.healthy):
                good, part = middle, tried
            else:
                bad, part_bad = middle, tried
            middle = (good + bad) // 2
        return sim.replace(state=part.state), [*parts, part], _diagnosis(sim, part_bad.state, stride)
    raise SimulationError(
        f"the neighbour list overflowed again after {_REPAIRS} enlargements near step {sim.step}: the system collapses "
        "or explodes. Look at the last frames; a smaller time step or a relaxed start usually helps.",
        sim,
    )


def _repaired(sim: Simulation, lost: State) -> Callable[[Simulation], Simulation] | None:
    """Return what makes a simulation hold the state `lost`, or None where that holds all it should."""
    if np.any(overflowed(sim.dynamics.forces, lost)):
        return lambda sim: sim.replace(state=enlarged(sim.dynamics.forces.potential, sim.state))
    lists = lost.neighbors
    if np.any(lists.overflow) and np.isfinite(np.asarray(lists.R)).all():
        dynamics = sim.dynamics.enlarged(lists)
        return lambda sim: _enlarged(sim, dynamics)
    outgrown = _outgrown(sim, lost)
    if outgrown is None:
        return None
    return lambda sim: _enlarged(sim, outgrown).replace(made_for=np.asarray(lost.box))


def _enlarged(sim: Simulation, dynamics: Dynamics) -> Simulation:
    """Return the simulation with other dynamics and neighbour lists made for the same positions as the present ones."""
    R, box = sim.dynamics.reference(sim.state.neighbors)
    neighbors = evaluated(dynamics, sim.state._replace(R=R, box=box), sim.atoms, sim.controls).neighbors
    return sim.replace(dynamics=dynamics, state=sim.state._replace(neighbors=neighbors))


def _outgrown(sim: Simulation, lost: State) -> Dynamics | None:
    """Return dynamics with a potential made for the cell of the state `lost`, if the present one's is another.

    Sums over k vectors are: their energy is NaN in a cell that has grown too much.
    """
    if (
        lost.box is None
        or lost.swaps
        or sim.dynamics.ensemble.barostat is None
        or not np.isfinite(np.asarray(lost.box)).all()
    ):
        return None
    forces = sim.dynamics.forces
    there = sim.replace(state=lost)
    potential = forces.potential.for_system(there.system)
    if potential == forces.potential:
        return None
    return replace(sim.dynamics, forces=replace(forces, potential=potential))


def _diagnosis(sim: Simulation, lost: State, stride: float) -> str:
    """Return the message of a failure that left the state `lost`."""
    finite = np.isfinite(np.asarray(lost.energy)).all() and np.isfinite(np.asarray(lost.F)).all()
    what = f"an atom moved more than {stride} Å" if finite else "the energy is not finite"
    step, dt = np.ravel(lost.step)[0], np.ravel(sim.controls.dt)[0]
    return (
        f"at step {step} {what}: the simulation has exploded. Likely causes: a time step too long (dt = {dt:g} fs; "
        "light atoms need 0.5 or less), atoms that start too close to each other (minimize first), a temperature too "
        "high, or a potential far outside the data it was fitted to. `error.simulation` holds the last good step."
    )


def _columns(sim: Simulation, log: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the parts of the log and add the time, fs."""
    if not log:
        return {}
    columns = {name: np.concatenate([part[name] for part in log]) for name in log[0]}
    columns["time"] = columns["step"] * float(np.ravel(sim.controls.dt)[0])
    first = [name for name in COLUMNS if name in columns]  # jit has sorted them by name
    return {name: columns[name] for name in [*first, *sorted(set(columns) - set(first))]}
