"""What dynamics carries from step to step, and the forces that drive it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.units import kB


class State(NamedTuple):
    """A state holds what the next step needs. Times in Å (amu/eV)^(1/2), so that p^2/m is in eV.

    Args:
        R: (N, 3) Å, unwrapped.
        p: (N, 3) momenta, (amu eV)^(1/2).
        F: (N, 3) eV/Å, always the forces at R.
        energy: potential energy at R, eV; NaN where the neighbour list overflowed. Kept up to date by
            `Dynamics.advance`, whose steps compute forces only.
        box: (3, 3) Å or None.
        neighbors: a list that holds for R and box.
        bath: what the thermostat remembers: `Chain`, `Bath`, or () without one.
        key: spent and renewed by stochastic propagators.
        step: int32, steps done.
    """

    R: Array
    p: Array
    F: Array
    energy: Array
    box: Array | None
    neighbors: Neighbors
    bath: Any
    key: Array
    step: Array


class Bath(NamedTuple):
    """What a stochastic thermostat leaves behind.

    Args:
        heat: eV given to the atoms so far.
        kinetic: kinetic energy right after the last thermostat move, eV. Its mean is exact for harmonic motion,
            where that at the end of a BAOAB step is low by (omega dt)^2 / 4.
    """

    heat: Array
    kinetic: Array


class Chain(NamedTuple):
    """Nose-Hoover chain: positions xi (M,) and their velocities v (M,) in 1/time."""

    xi: Array
    v: Array


class Controls(NamedTuple):
    """What may be swept or ramped without compiling again; every entry a scalar array in the units of the interface.

    Args:
        dt: fs.
        temperature: K.
        friction: 1/fs, of the Langevin thermostat.
        tau: fs, period of the Nose-Hoover chain.
    """

    dt: Array
    temperature: Array | None = None
    friction: Array | None = None
    tau: Array | None = None

    @property
    def kT(self) -> Array:
        """eV; 0 without a thermostat."""
        return jnp.zeros_like(self.dt) if self.temperature is None else kB * self.temperature


class Atoms(NamedTuple):
    """What stays constant along a trajectory, as arrays.

    Args:
        params: parameters of the potential.
        species: (N,) int32 index into `potential.species`.
        mass: (N, 1) amu.
        dof: degrees of freedom that carry kinetic energy, a float.
    """

    params: Params
    species: Array
    mass: Array
    dof: Array


@dataclass(frozen=True)
class Forces:
    """The propagator that brings neighbour list and forces up to date with the positions."""

    potential: Potential
    search: NeighborSearch
    execution: Execution

    def __call__(self, state: State, atoms: Atoms) -> State:
        state = state._replace(neighbors=self.search.update(state.neighbors, state.R, state.box))
        return state._replace(F=self.evaluate(state, atoms).forces)

    def evaluate(self, state: State, atoms: Atoms) -> Evaluation:
        """Return energies, forces and virials at the state's positions with its neighbour list."""
        return evaluate(
            self.potential, atoms.params, state.R, state.box, atoms.species, state.neighbors, execution=self.execution
        )


def kinetic_energy(p: Array, mass: Array) -> Array:
    """sum p^2 / (2 m), eV, for p (N, 3) and mass (N, 1)."""
    return 0.5 * jnp.sum(p * p / mass)
