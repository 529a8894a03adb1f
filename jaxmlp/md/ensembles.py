"""Ensembles: one step is a word of propagators."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import Evaluation, Execution
from jaxmlp.geometry import volume
from jaxmlp.md.barostats import MTK, Barostat
from jaxmlp.md.constraints import Constraints, constraint_forces, project_momenta, project_positions
from jaxmlp.md.controls import Controls, Ramp
from jaxmlp.md.learning import learned
from jaxmlp.md.propagators import drift, kick
from jaxmlp.md.state import Atoms, Forces, State, kinetic_energy, repeated
from jaxmlp.md.thermostats import Target, Thermostat
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potential import Potential
from jaxmlp.units import fs, kB

LETTERS = {
    "A": "drift of the positions",
    "B": "kick of the momenta",
    "O": "thermostat",
    "G": "kick of the cell's strain rate",
    "S": "rescaling of the cell",
}


@dataclass(frozen=True)
class Ensemble:
    """One time step as a word over A (drift), B (kick), O (thermostat), G (barostat with inertia), S (cell rescaling).

    A letter that occurs n times acts for dt/n each time. "BAB" is velocity Verlet; with `Langevin()`, "BAOAB" is the
    splitting of Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34 (its relatives: "ABOBA", "OBABO", "BAOA");
    "OBABO" with a deterministic thermostat surrounds velocity Verlet, "BABO" follows it with one whose halves compose
    exactly. Barostats: "OGBABGO" for `MTK` ("GBAOABG" with `Langevin`), "BAOSOAB" or "BASABO" for `CellRescaling`.
    Forces are evaluated before a kick that follows a drift, and where the step would end with forces older than its
    positions: once in all of these but "ABOBA", which takes two.

    Args:
        splitting: the word.
        thermostat: see `thermostats`; the word has an O where there is one.
        barostat: see `barostats`; the word has its letter.
        constraints: bonds of fixed length, by RATTLE after each letter that moves positions or momenta.
        loops: multiple time steps (r-RESPA: Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992)) of a potential
            a + b + ...: `loops[k]` steps of member k are one of member k + 1. The word is the step of member 0; kicks
            by half a step of each other member stand before and after its loop.

    Raises:
        ValueError: a word that lacks A, B, or the letter of the thermostat or barostat, or has another; what cannot be
            combined.
    """

    splitting: str = "BAB"
    thermostat: Thermostat | None = None
    barostat: Barostat | None = None
    constraints: Constraints | None = None
    loops: tuple[int, ...] = ()
    grouped: ClassVar[bool] = True  # groups of atoms may have thermostats of their own

    def __post_init__(self):
        letters = set(self.splitting)
        wanted = {"A", "B"} | ({"O"} if self.thermostatted else set())
        wanted |= {self.barostat.letter} if self.barostat else set()
        if letters != wanted:
            known = ", ".join(f"{k} ({LETTERS[k]})" for k in sorted(wanted))
            raise ValueError(f"the splitting of this ensemble is a word of {known}; got {self.splitting!r}.")
        if self.barostat is not None and (self.constraints is not None or self.loops):
            what = "constraints" if self.constraints is not None else "multiple time steps"
            raise ValueError(f"a barostat cannot be combined with {what}; leave one of them out.")
        if any(n < 1 for n in self.loops):
            raise ValueError(f"loops are numbers of steps, 1 or more; got {self.loops}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Controls` that this ensemble reads."""
        parts = [part.needs for part in (self.thermostat, self.barostat) if part is not None]
        return tuple(dict.fromkeys(["dt", *(name for names in parts for name in names)]))

    @property
    def thermostatted(self) -> bool:
        """Whether O has something to do."""
        return self.thermostat is not None

    @property
    def canonical(self) -> bool:
        """Whether thermostat and barostat sample an ensemble of statistical mechanics."""
        return all(part is None or part.canonical for part in (self.thermostat, self.barostat))

    @property
    def keeps_momentum(self) -> bool:
        """Whether a total momentum of zero stays zero."""
        return self.thermostat is None or self.thermostat.keeps_momentum

    def forces(self, potential: Potential, search: NeighborSearch, execution: Execution) -> Forces:
        """Return the forces that drive this ensemble."""
        return Forces(potential, search, execution, virial=self.barostat is not None, levels=bool(self.loops))

    def start(self, state: State, atoms: Atoms, controls: Controls) -> State:
        """Return the state with the memories of thermostat and barostat at the start."""
        controls = controls.at(state.step)
        if self.thermostat is not None:
            key, draw = jax.random.split(state.key)
            bath = self.thermostat.start(state.p, Target.of(atoms, controls, controls), draw)
            state = state._replace(bath=bath, key=key)
        if self.barostat is not None:
            key, draw = jax.random.split(state.key)
            state = state._replace(piston=self.barostat.start(state.box, atoms, controls, draw), key=key)
        return state

    def refreshed(self, state: State, atoms: Atoms, controls: Controls, forces: Forces) -> State:
        """Return the state with its forces brought up to date."""
        return forces(state, atoms)

    def reduced(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the energy of a configuration, with that of its cell, over kT: minus the logarithm of its weight."""
        now = controls.at(state.step)
        U = state.energy
        if self.barostat is not None:
            U = U + self.barostat.work(state.box, atoms, now, state.piston)
        return U / jnp.mean(now.kT)

    def step(self, state: State, atoms: Atoms, controls: Controls, forces: Forces) -> State:
        """Return the state one time step later."""
        now, start = controls.at(state.step), controls.at(jnp.zeros_like(state.step))
        if forces.learning:
            state = learned(forces, state, atoms, now.kT.mean(), now.dt)
        work = state.work
        state = state._replace(step=state.step + 1)  # forces are those of parameters at the end of the step
        state = self._level(len(self.loops), state, atoms, (now, start), forces, now.dt * fs)
        if self.loops:
            state = state._replace(F=jnp.sum(state.levels, axis=0))
        if work is not None:
            state = state._replace(work=state.work.booked(work.ahead))
        if self.barostat is not None and controls.ramped:
            state = self.barostat.ramped(state, atoms, now, controls.at(state.step))
        return state

    def _level(self, k: int, state: State, atoms: Atoms, controls, forces: Forces, dt: Array) -> State:
        """A step of member k of a potential with multiple time steps, and of all members before it."""
        if k == 0:
            return self._word(state, atoms, controls, forces, dt)
        n = self.loops[k - 1]
        state = self._kicked(state, atoms, state.levels[k], 0.5 * dt)
        inner = lambda s: self._level(k - 1, s, atoms, controls, forces, dt / n)
        state = repeated(inner, n, state)
        state = forces.refreshed(k, state, atoms)
        return self._kicked(state, atoms, state.levels[k], 0.5 * dt)

    def _word(self, state: State, atoms: Atoms, controls, forces: Forces, dt: Array) -> State:
        current = True  # are the forces those at R?

        def fresh(state: State) -> State:
            if current:
                return state
            state = forces.refreshed(0, state, atoms) if self.loops else forces(state, atoms)
            return state if self.barostat is None else self.barostat.settled(state)

        for letter in self.splitting:
            h = dt / self.splitting.count(letter)
            if letter in "BG":
                state, current = fresh(state), True
            state = self.move(letter, state, atoms, controls, h)
            current = current and letter not in "AS"
        return fresh(state)

    def move(self, letter: str, state: State, atoms: Atoms, controls, h: Array) -> State:
        """Return the state after one letter of the word, for a time h; forces may be older than positions after it.

        Args:
            controls: those of the step, and those of step 0.
        """
        now, start = controls
        if letter == "A":
            return self._drifted(state, atoms, controls, h)
        if letter == "B":
            if isinstance(self.barostat, MTK):
                return self.barostat.kick(state, atoms, self.barostat.rate(state, atoms, now, start), h)
            return self._kicked(state, atoms, state.levels[0] if self.loops else state.F, h)
        if letter == "G":
            return self.barostat.push(state, atoms, now, h)
        key, draw = jax.random.split(state.key)
        state = state._replace(key=key)
        if letter == "S":
            return self.barostat.rescale(state, atoms, now, h, draw)
        return self._bathed(state, atoms, controls, h, draw)

    def _drifted(self, state: State, atoms: Atoms, controls, h: Array) -> State:
        if isinstance(self.barostat, MTK):
            return self.barostat.drift(state, atoms, self.barostat.rate(state, atoms, *controls), h)
        new = drift(state, atoms.mass, h)
        if self.constraints is None:
            return new
        R, p = project_positions(self.constraints, atoms.bonds, new.R, state.R, state.p, atoms.mass, state.box, h)
        return self._rattled(state._replace(R=R, p=p), atoms)

    def _kicked(self, state: State, atoms: Atoms, F: Array, h: Array) -> State:
        return self._rattled(kick(state, F, h), atoms)

    def _rattled(self, state: State, atoms: Atoms) -> State:
        """Return the state with momenta along the constrained bonds taken out."""
        if self.constraints is None:
            return state
        return state._replace(p=project_momenta(self.constraints, atoms.bonds, state.R, state.p, atoms.mass, state.box))

    def _bathed(self, state: State, atoms: Atoms, controls, h: Array, draw: Array) -> State:
        """Return the state after the thermostats of atoms and piston."""
        its = None
        if isinstance(self.barostat, MTK):
            draw, its = jax.random.split(draw)
        p, bath = self.thermostat(state.p, state.bath, Target.of(atoms, *controls), h, draw)
        if self.constraints is not None or atoms.mobile is not None:
            # Noise along constrained bonds and on held atoms is heat that nobody got.
            taken = kinetic_energy(p, atoms.mass)
            p = atoms.held(p)
            if self.constraints is not None:
                p = project_momenta(self.constraints, atoms.bonds, state.R, p, atoms.mass, state.box)
            left = kinetic_energy(p, atoms.mass)
            if hasattr(bath, "heat"):
                bath = bath._replace(heat=bath.heat + left - taken, kinetic=left)
        state = state._replace(p=p, bath=bath)
        if isinstance(self.barostat, MTK):
            state = self.barostat.bathe(state, atoms, *controls, h=h, key=its)
        return state

    def temperature(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the instantaneous temperature, K."""
        return 2 * self.kinetic(state, atoms) / (atoms.dof * kB)

    def energy(self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, forces: Forces) -> Array:
        """Return the energy whose gradient drives the dynamics, eV, from the evaluation at the state."""
        return out.energy

    def kinetic(self, state: State, atoms: Atoms) -> Array:
        """Return the kinetic energy (eV) whose mean is dof kT / 2 with the smallest error in dt; see `Bath`."""
        if self.thermostat is None:
            return kinetic_energy(state.p, atoms.mass)
        return self.thermostat.kinetic(state.p, state.bath, atoms.mass)

    def conserved(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the conserved quantity, eV.

        The total energy and that of the cell (P V), less the work of ramps and what stochastic moves gave, plus the
        energies of chains.
        """
        now, start = controls.at(state.step), controls.at(jnp.zeros_like(state.step))
        H = state.energy + kinetic_energy(state.p, atoms.mass)
        if state.work is not None:
            H = H - state.work.done
        if self.thermostat is not None:
            H = H + self.thermostat.energy(state.bath, Target.of(atoms, now, start))
        return H if self.barostat is None else H + self.barostat.energy(state, atoms, now, start)

    def measure(
        self, state: State, out: Evaluation, atoms: Atoms, controls: Controls, periodic: bool
    ) -> dict[str, Array]:
        """Return one row of the log from the state and the evaluation there.

        Temperature and pressure use this ensemble's own `kinetic`; the pressure includes it, (2 K + tr W) / (3 V), and
        the forces of constraints.

        Args:
            periodic: all directions are: there is a volume.
        """
        kinetic, K = kinetic_energy(state.p, atoms.mass), self.kinetic(state, atoms)
        row = {
            "step": state.step,
            "potential": out.energy,
            "kinetic": kinetic,
            "total": out.energy + kinetic,
            "conserved": self.conserved(state, atoms, controls),
            "temperature": self.temperature(state, atoms, controls),
        }
        row |= self.path_columns(state, out, controls)
        if periodic:
            V, virial = volume(state.box), out.virial
            if self.constraints is not None:
                F = atoms.held(out.forces)
                rigid = constraint_forces(self.constraints, atoms.bonds, state.R, state.p, F, atoms.mass, state.box)
                virial = virial + rigid[1]
            row |= {"pressure": (2 * K + jnp.trace(virial)) / (3 * V), **self.cell_columns(state)}
        return row

    def path_columns(self, state: State, out: Evaluation, controls: Controls) -> dict[str, Array]:
        """Return what paths between Hamiltonians are made of, where there is any.

        `work` (eV) done so far by ramps of parameters and of the pressure, and `parts` (terms,) eV, the energies of the
        terms of a potential with variable weights, without these.
        """
        works = [] if state.work is None else [state.work.done]
        if self.barostat is not None and isinstance(controls.pressure, Ramp):
            works.append(state.piston.work)
        columns = {"work": sum(works[1:], start=works[0])} if works else {}
        if len(out.parts) > 1 or works:
            columns["parts"] = jnp.stack([jnp.mean(part) for part in out.parts])  # over beads, where there are any
        return columns

    def cell_columns(self, state: State) -> dict[str, Array]:
        """Return the volume, and the box where its shape changes."""
        columns = {"volume": volume(state.box)}
        if self.barostat is not None and self.barostat.cell != "isotropic":
            columns["box"] = state.box
        return columns
