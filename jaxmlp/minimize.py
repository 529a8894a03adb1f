"""Relaxation of positions, and of the cell, by FIRE or L-BFGS: compiled loops with neighbour lists renewed inside.

The unknowns are one array X (N + 3, 3) Å: reference positions u, and below them the symmetric strain S of the cell
times a length, with R = u (1 + S) and box = box_0 (1 + S). The length, N^(1/2) (V/N)^(1/3), makes a cell about as
stiff as an atom. The objective is the enthalpy E + P V.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.energy import prepare
from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.geometry import volume
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

MEMORY = 10  # pairs of steps and gradient changes that L-BFGS keeps
_REPAIRS = 12  # enlargements of the neighbour list, a fifth each


class Minimum(NamedTuple):
    """Where a minimisation ended.

    Args:
        system: the relaxed system.
        energy: eV.
        forces: (N, 3) eV/Å.
        stress: (3, 3) eV/Å^3, positive under tension; None where not all directions are periodic.
        converged: whether forces (and stress) are below the thresholds.
        steps: evaluations done.
    """

    system: System
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    converged: bool
    steps: int


@dataclass(frozen=True)
class _Problem:
    """What decides the compiled program."""

    potential: Potential
    search: NeighborSearch
    execution: Execution
    cell: bool


class _Setting(NamedTuple):
    """What stays constant, as arrays: pressure in eV/Å^3, mask (3, 3) of the strains that may change."""

    params: Params
    species: Array
    box: Any
    length: Array
    mask: Array
    pressure: Array
    fmax: Array
    smax: Array
    reach: Array


class _Point(NamedTuple):
    """X (N + 3, 3) or (N, 3), the enthalpy there, its gradient, and whether both thresholds are met."""

    X: Array
    energy: Array
    gradient: Array
    converged: Array
    neighbors: Any


def _geometry(problem: _Problem, setting: _Setting, X: Array) -> tuple[Array, Any, Any]:
    """Return R, box and deformation 1 + S of the unknowns."""
    if not problem.cell:
        return X, setting.box, None
    D = jnp.eye(3, dtype=X.dtype) + X[-3:] / setting.length
    return X[:-3] @ D, setting.box @ D, D


def _evaluate(problem: _Problem, setting: _Setting, X: Array, neighbors: Neighbors) -> tuple[_Point, Evaluation]:
    R, box, D = _geometry(problem, setting, X)
    neighbors = problem.search.update(neighbors, R, box)
    out = evaluate(problem.potential, setting.params, R, box, setting.species, neighbors, execution=problem.execution)
    converged = jnp.max(jnp.sum(out.forces**2, axis=1)) <= setting.fmax**2
    if not problem.cell:
        return _Point(X, out.energy, -out.forces, converged, neighbors), out
    V = volume(box)
    excess = setting.pressure * V * jnp.eye(3, dtype=X.dtype) - out.virial  # dH/dstrain of the present cell
    excess = setting.mask * excess
    slope = jnp.linalg.solve(D.T, excess)
    slope = setting.mask * 0.5 * (slope + slope.T)
    gradient = jnp.concatenate([-out.forces @ D.T, slope / setting.length])
    converged &= jnp.max(jnp.abs(excess)) <= setting.smax * V
    return _Point(X, out.energy + setting.pressure * V, gradient, converged, neighbors), out


def _shortened(step: Array, reach: Array) -> Array:
    """Return the step, scaled so that no row is longer than `reach`."""
    longest = jnp.sqrt(jnp.max(jnp.sum(step * step, axis=1)))
    return step * jnp.minimum(1.0, reach / jnp.maximum(longest, jnp.finfo(step.dtype).tiny))


class _Fire(NamedTuple):
    point: _Point
    V: Array
    dt: Array
    mix: Array
    downhill: Array  # steps since the last uphill one


def _fire_start(point: _Point) -> _Fire:
    X = point.X
    return _Fire(point, jnp.zeros_like(X), jnp.full((), 0.1, X.dtype), jnp.full((), 0.1, X.dtype), jnp.int32(0))


def _fire_step(problem: _Problem, setting: _Setting, fire: _Fire) -> _Fire:
    """One step of FIRE, Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), with their parameters and unit masses.

    Leap-frog: the power F.V decides before the velocities are advanced. No time step is longer than `reach` allows.
    """
    point, V, dt, mix, downhill = fire
    F = -point.gradient
    power = jnp.sum(F * V)
    going = power > 0
    size = jnp.sqrt(jnp.sum(V * V) / jnp.maximum(jnp.sum(F * F), jnp.finfo(F.dtype).tiny))
    mixed = jnp.where(going, (1 - mix) * V + mix * size * F, 0.0)
    patient = going & (downhill > 5)
    dt = jnp.where(going, jnp.where(patient, jnp.minimum(1.1 * dt, 1.0), dt), 0.5 * dt)
    mix = jnp.where(going, jnp.where(patient, 0.99 * mix, mix), 0.1)
    V = mixed + dt * F
    new, _ = _evaluate(problem, setting, point.X + _shortened(dt * V, setting.reach), point.neighbors)
    return _Fire(new, V, dt, mix, jnp.where(going, downhill + 1, 0))


class _Lbfgs(NamedTuple):
    point: _Point
    S: Array  # (MEMORY, ...) steps, the newest last
    Y: Array  # (MEMORY, ...) changes of the gradient
    used: Array  # (MEMORY,) bool
    direction: Array
    scale: Array  # of the direction, for the next trial


def _lbfgs_start(point: _Point) -> _Lbfgs:
    X = point.X
    memory = jnp.zeros((MEMORY, *X.shape), X.dtype)
    first = -point.gradient / 70  # eV/Å^2, the stiffness of a bond; only its order of magnitude matters
    return _Lbfgs(point, memory, memory, jnp.zeros(MEMORY, bool), first, jnp.ones((), X.dtype))


def _two_loops(S: Array, Y: Array, used: Array, gradient: Array) -> Array:
    """Return -H g, H the inverse Hessian of L-BFGS: Nocedal and Wright, Numerical Optimization, 2nd ed., Alg. 7.4."""
    curvature = jnp.sum(S * Y, axis=(1, 2))
    rho = jnp.where(used, 1 / jnp.where(used, curvature, 1.0), 0.0)
    q, alphas = gradient, []
    for k in reversed(range(MEMORY)):
        alphas.append(rho[k] * jnp.sum(S[k] * q))
        q = q - alphas[-1] * Y[k]
    yy = jnp.sum(Y[-1] * Y[-1])
    q = q * jnp.where(used[-1], curvature[-1] / jnp.where(used[-1], yy, 1.0), 1 / 70)
    for k, alpha in enumerate(reversed(alphas)):
        q = q + S[k] * (alpha - rho[k] * jnp.sum(Y[k] * q))
    return -q


def _lbfgs_step(problem: _Problem, setting: _Setting, now: _Lbfgs) -> _Lbfgs:
    """One trial of L-BFGS: accept it and find a new direction, or shorten it.

    A trial is accepted by Armijo's rule or, where the energy is flat to rounding, by its slope (the approximate Wolfe
    rule of Hager and Zhang, SIAM J. Optim. 16, 170 (2005), Eq. (4.1)).
    """
    point, S, Y, used, direction, scale = now
    step = scale * _shortened(direction, setting.reach)
    trial, _ = _evaluate(problem, setting, point.X + step, point.neighbors)
    slope, slope_there = jnp.sum(point.gradient * step), jnp.sum(trial.gradient * step)
    flat = 32 * jnp.finfo(step.dtype).eps * jnp.abs(point.energy)
    armijo = trial.energy <= point.energy + 1e-4 * slope
    wolfe = (trial.energy <= point.energy + flat) & (slope_there <= -(1 - 2e-4) * slope)
    accept = (armijo | wolfe) & jnp.isfinite(trial.energy)

    y = trial.gradient - point.gradient
    curved = jnp.sum(step * y) > 1e-10 * jnp.sqrt(jnp.sum(step * step) * jnp.sum(y * y))
    keep = accept & curved
    S, Y, used = (
        jnp.where(keep, jnp.concatenate([memory[1:], new[None]]), memory)
        for memory, new in ((S, step), (Y, y), (used, jnp.ones((), bool)))
    )
    hopeless = ~accept & (scale < 1e-3)  # the model of the energy is wrong here: forget it
    used &= ~hopeless
    gradient = jnp.where(accept, trial.gradient, point.gradient)
    ahead = _two_loops(S, Y, used, gradient)
    downhill = jnp.sum(ahead * gradient) < 0
    used &= downhill
    ahead = jnp.where(downhill, ahead, -gradient / 70)
    renew = accept | hopeless
    point = jax.tree.map(partial(jnp.where, accept), trial._replace(neighbors=()), point._replace(neighbors=()))
    return _Lbfgs(
        point._replace(neighbors=trial.neighbors),
        S,
        Y,
        used,
        jnp.where(renew, ahead, direction),
        jnp.where(accept, 1.0, jnp.where(hopeless, 1e-2, 0.25 * scale)),
    )


def _bare(state):
    """The state of a method without its neighbour list."""
    return state._replace(point=state.point._replace(neighbors=()))


METHODS = {"fire": (_fire_start, _fire_step), "lbfgs": (_lbfgs_start, _lbfgs_step)}


@partial(jax.jit, static_argnums=0)
def _first(problem: _Problem, setting: _Setting, X: Array) -> tuple[_Point, Array]:
    R, box, _ = _geometry(problem, setting, X)
    point, out = _evaluate(problem, setting, X, problem.search(R, box))
    return point, out.virial


@partial(jax.jit, static_argnums=(0, 1))
def _descend(problem: _Problem, method: str, setting: _Setting, state, n: Array):
    """Take at most n steps; a step whose neighbour list overflowed is undone, but for the list."""

    def more(carry):
        state, k = carry
        point = state.point
        return (k < n) & ~point.converged & ~point.neighbors.overflow & jnp.isfinite(point.energy)

    def one(carry):
        state, k = carry
        new = METHODS[method][1](problem, setting, state)
        lost = new.point.neighbors.overflow
        kept = jax.tree.map(partial(jnp.where, lost), _bare(state), _bare(new))
        kept = kept._replace(point=kept.point._replace(neighbors=new.point.neighbors))
        return kept, k + jnp.where(lost, 0, 1).astype(k.dtype)

    return lax.while_loop(more, one, (state, jnp.zeros_like(n)))


def minimize(
    potential: Potential,
    params: Params,
    system: System,
    *,
    method: str = "lbfgs",
    cell: bool | np.ndarray = False,
    pressure: float = 0.0,
    fmax: float = 1e-3,
    smax: float = 1e-5,
    steps: int = 2000,
    reach: float = 0.2,
    skin: float = 0.5,
    precision: str | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> Minimum:
    """Relax positions, or positions and cell, to a local minimum of E + P V.

    Args:
        method: "lbfgs" (fewer evaluations) or "fire" (damped dynamics, slow and hard to upset).
        cell: relax the cell too; a (3, 3) array of bools names the Cartesian strains that may change.
        pressure: target, eV/Å^3 (1 GPa = `units.GPa`).
        fmax: eV/Å, no atom keeps a larger force.
        smax: eV/Å^3, no component of stress + pressure stays larger (1e-5 is 1.6 MPa).
        steps: evaluations after which to give up; the result then has converged = False.
        reach: Å, no atom moves further in one step.
        skin, precision, block, devices: as for dynamics and `Execution`.

    Raises:
        ValueError: unknown method, nonsensical thresholds, a cell to relax without periodicity, a starting energy that
            is not finite, or an element that the potential lacks.
        RuntimeError: the atoms collapsed: the energy is not finite any more, or the neighbour list grows without end.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    for name, value in {"fmax": fmax, "smax": smax, "reach": reach, "steps": steps}.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive; got {value}.")
    assert system.pbc is not None  # System completes it
    relax = bool(np.any(cell))
    if relax and not all(system.pbc):
        raise ValueError("only a cell that is periodic in all three directions can be relaxed; use cell=False.")
    mask = np.broadcast_to(np.asarray(cell, dtype=bool), (3, 3))
    if (mask != mask.T).any():
        raise ValueError(f"cell: the mask of strains must be symmetric; got {mask.tolist()}.")
    potential, params, species = prepare(potential, params, system)
    R = jnp.asarray(system.R)
    number = partial(jnp.asarray, dtype=R.dtype)
    search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=skin)
    problem = _Problem(potential, search, Execution(block, precision, devices), relax)
    n = len(system)
    length = np.sqrt(n) * (system.volume / n) ** (1 / 3) if relax else 1.0
    setting = _Setting(
        jax.tree.map(jnp.asarray, params),
        jnp.asarray(species),
        None if system.box is None else number(system.box),
        *(number(x) for x in (length, mask, pressure, fmax, smax, reach)),
    )
    X = jnp.concatenate([R, jnp.zeros((3, 3), R.dtype)]) if relax else R
    point, virial = _first(problem, setting, X)
    while point.neighbors.overflow:  # rounding put a neighbour on the other side of the cutoff than on the host
        problem = _enlarged(problem, point.neighbors)
        point, virial = _first(problem, setting, X)
    if not np.isfinite(point.energy):
        raise ValueError("the energy of the starting positions is not finite: do atoms overlap?")
    state: Any = METHODS[method][0](point)
    done = 0
    for _ in range(_REPAIRS):
        state, k = _descend(problem, method, setting, state, jnp.asarray(steps - done, jnp.int32))
        done += int(k)
        if not bool(state.point.neighbors.overflow):
            break
        problem = _enlarged(problem, state.point.neighbors)
        fresh, _ = _first(problem, setting, state.point.X)
        state = state._replace(point=state.point._replace(neighbors=fresh.neighbors))
    if bool(state.point.neighbors.overflow) or not np.isfinite(state.point.energy):
        raise RuntimeError(
            f"the atoms collapsed after {done} steps: the potential has no bottom here. Start from a structure nearer "
            "to a minimum, or take shorter steps (reach)."
        )
    point, virial = _first(problem, setting, state.point.X)
    R, box, _ = _geometry(problem, setting, point.X)
    stress = -np.asarray(virial) / system.replace(box=np.asarray(box)).volume if all(system.pbc) else None
    forces = -point.gradient[:n]
    if relax:
        forces = jnp.linalg.solve(_geometry(problem, setting, point.X)[2], forces.T).T
    V = float(volume(box)) if relax else 0.0
    return Minimum(
        system.replace(R=np.asarray(R), box=None if box is None else np.asarray(box)),
        float(point.energy) - pressure * V,
        np.asarray(forces),
        stress,
        bool(point.converged),
        done,
    )


def _enlarged(problem: _Problem, lost: Neighbors) -> _Problem:
    """Return the problem with neighbour lists that hold the positions for which the list `lost` overflowed."""
    small = problem.search
    search = NeighborSearch.allocate(lost.R, lost.box, small.pbc, small.shells, skin=small.skin, at_least=small)
    return replace(problem, search=search)
