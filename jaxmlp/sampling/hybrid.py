"""Hybrid simulations: molecular dynamics, with Monte Carlo trials between its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Evaluation, Execution
from jaxmlp.geometry import volume
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.simulation import Simulation
from jaxmlp.md.state import Atoms, Forces, State, identified
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potential import Potential
from jaxmlp.sampling.choices import Element, chosen_moves, element_masses
from jaxmlp.sampling.monte_carlo import biased, check_moves, started, tally_columns, walked
from jaxmlp.sampling.walks import Move


@dataclass(frozen=True)
class Hybrid:
    """Dynamics that keeps a canonical distribution, with the trials of Monte Carlo moves every so many steps.

    Positions, cell and species walk at the temperature of the thermostat while momenta wait: these are independent of
    them in the canonical ensemble, but for the masses. Where an atom becomes another with the mass m', its momentum is
    scaled by (m'/m)^(1/2), which takes the distribution of the old mass to that of the new one and keeps the kinetic
    energy. Where the total momentum rests, the vector p / m^(1/2) of all atoms is turned, too, in the plane of the old
    and the new m^(1/2), so that it goes on to rest; this takes the distribution of momenta at rest to itself.

    Args:
        ensemble: an `md.Ensemble` with a thermostat.
        moves: one or more, see `moves`.
        every: steps of the dynamics from one set of trials to the next.
        local: see `MonteCarlo`.
    """

    ensemble: Ensemble
    moves: tuple[Move, ...]
    every: int = 100
    local: bool = True
    grouped: ClassVar[bool] = False

    def __post_init__(self):
        if hasattr(self.ensemble, "beads"):
            raise ValueError("Monte Carlo moves know no ring polymers; take a classical ensemble.")
        if not (self.ensemble.thermostatted and self.ensemble.canonical):
            raise ValueError("Monte Carlo moves need the temperature of a canonical ensemble: NVT or NPT dynamics.")
        if self.ensemble.constraints is not None:
            raise ValueError("Monte Carlo moves know no constrained bonds; leave out bonds.")
        if self.ensemble.barostat is not None and any("pressure" in move.needs for move in self.moves):
            raise ValueError("the dynamics changes the cell already: leave out volume moves, or the barostat.")
        check_moves(self.moves)
        if not (isinstance(self.every, int | np.integer) and self.every >= 1):
            raise ValueError(f"every is the number of steps between trials, at least 1; got every={self.every!r}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Controls` that this ensemble reads."""
        return tuple(dict.fromkeys([*self.ensemble.needs, *(name for move in self.moves for name in move.needs)]))

    @property
    def barostat(self) -> Any:
        return self.ensemble.barostat or next((move for move in self.moves if "pressure" in move.needs), None)

    @property
    def splitting(self) -> str:
        return f"hybrid {self.ensemble.splitting}"

    @property
    def loops(self) -> tuple[int, ...]:
        return self.ensemble.loops

    @property
    def canonical(self) -> bool:
        return self.ensemble.canonical

    @property
    def keeps_momentum(self) -> bool:
        return self.ensemble.keeps_momentum

    def forces(self, potential: Potential, search: NeighborSearch, execution: Execution) -> Forces:
        """Return the forces that drive the dynamics."""
        return self.ensemble.forces(potential, search, execution)

    def start(self, state: State, atoms: Atoms, controls: Any) -> State:
        """Return the state with the memories of thermostat, barostat and moves."""
        return started(self.moves, self.ensemble.start(state, atoms, controls), atoms)

    def refreshed(self, state: State, atoms: Atoms, controls: Any, forces: Forces) -> State:
        """Return the state with its forces brought up to date."""
        return self.ensemble.refreshed(state, identified(state, atoms), controls, forces)

    def step(self, state: State, atoms: Atoms, controls: Any, forces: Forces) -> State:
        """Return the state one time step later, after trials where they are due."""
        inner = self.ensemble.step(_inner(state), identified(state, atoms), controls, forces)
        state = inner._replace(bath=state.bath._replace(bath=inner.bath))
        due = (state.step % self.every == 0) & (controls.dt != 0)  # a step of no length only makes lists

        def trials(carry):
            old, on = carry
            now = controls.at(old.step)
            new = walked(self.moves, self.local, old, atoms, now, forces, on)
            before, after = (identified(s, atoms).mass for s in (old, new))
            new = new._replace(p=momenta_of_other_masses(new.p, before, after, atoms.resting))
            return self.refreshed(new, atoms, controls, forces), jnp.zeros_like(on)

        # A loop of at most one turn: under vmap a cond would make trials at every step.
        return lax.while_loop(lambda carry: carry[1], trials, (state, due))[0]

    def temperature(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return the instantaneous temperature, K."""
        return self.ensemble.temperature(_inner(state), identified(state, atoms), controls)

    def energy(self, state: State, out: Evaluation, atoms: Atoms, controls: Any, forces: Forces) -> Array:
        """Return the energy whose gradient drives the dynamics, eV."""
        return out.energy

    def conserved(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return the conserved quantity of the dynamics, less what accepted trials added to the energy, eV."""
        return self.ensemble.conserved(_inner(state), identified(state, atoms), controls) - state.bath.heat

    def reduced(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return minus the logarithm of the weight of a configuration."""
        now, present = controls.at(state.step), identified(state, atoms)
        more = biased(self.moves, state, atoms, now)
        if self.ensemble.barostat is None and self.barostat is not None:
            more = more + now.pressure * volume(state.box)
        return self.ensemble.reduced(_inner(state), present, controls) + more / jnp.mean(now.kT)

    def measure(self, state: State, out: Evaluation, atoms: Atoms, controls: Any, periodic: bool) -> dict[str, Array]:
        """Return one row of the log: that of the dynamics, and acceptance and composition as for `MonteCarlo`."""
        row = self.ensemble.measure(_inner(state), out, identified(state, atoms), controls, periodic)
        row["conserved"] = row["conserved"] - state.bath.heat
        return row | tally_columns(self.moves, state, atoms)


def _inner(state: State) -> State:
    """Return the state of the dynamics alone."""
    return state._replace(bath=state.bath.bath)


def momenta_of_other_masses(p: Array, old: Array, new: Array, resting: Array | float) -> Array:
    """Return momenta (N, 3) of atoms that have other masses now, with the same kinetic energy.

    q = p / m^(1/2) stays; where the centre of mass rests, q is turned from the normal of m^(1/2) to that of m'^(1/2).

    Args:
        old, new: (N, 1) amu.
        resting: 3 where the total momentum is zero, else 0.
    """
    u, v = (jnp.sqrt(m / jnp.sum(m)) for m in (old, new))
    q = p / jnp.sqrt(old)
    q = q - (resting / 3) * (u + v) * jnp.sum(v * q, axis=0) / (1 + jnp.sum(u * v))
    return q * jnp.sqrt(new)


def hybrid_md_mc(
    sim: Simulation,
    *,
    every: int = 100,
    displacement: float | None = None,
    pressure: Any = None,
    volume_change: float = 0.01,
    cell: str = "isotropic",
    swap: bool | Sequence[Element] = False,
    chemical_potentials: Mapping[Element, float] | None = None,
    kappa: float | None = None,
    composition: Mapping[Element, float] | None = None,
    trials: Mapping[str, int] | None = None,
    local: bool = True,
) -> Simulation:
    """Return a simulation with Monte Carlo trials between the steps of its dynamics, which is NVT or NPT.

    Args:
        sim: of `md`, e.g. `md.nvt_langevin(...)`. Where the semi-grand ensemble is to bring in elements that the system
            lacks, made with `elements=...`.
        every: steps of the dynamics from one set of trials to the next.
        others: as for `monte_carlo`; `trials` are those of one set.

    Raises:
        ValueError: options that make no sense together, elements that are not there, or dynamics that is not canonical.
    """
    ensemble: Any = sim.dynamics.ensemble
    if sim.atoms.group is not None:
        raise ValueError("Monte Carlo trials have one temperature: leave out groups.")
    if not isinstance(ensemble, Ensemble) or sim.state.swaps:
        raise ValueError(
            f"trials are made between the steps of one simulation; this is a {type(ensemble).__name__}. Replicas and "
            "exchanges are made of hybrid simulations."
        )
    potential, search = sim.dynamics.forces.potential, sim.dynamics.forces.search
    moves, controls = chosen_moves(
        potential.species, potential.species, sim.elements, displacement=displacement, pressure=pressure,
        volume_change=volume_change, cell=cell, swap=swap, chemical_potentials=chemical_potentials, kappa=kappa,
        composition=composition, trials=trials,
    )  # fmt: skip
    if displacement is not None and displacement > search.skin / 2:
        raise ValueError(
            f"a displacement of up to {displacement} Å needs a skin of twice that; the simulation has {search.skin} Å."
        )
    if pressure is not None and not all(search.pbc):
        raise ValueError("volume moves need a cell that is periodic in all directions; leave out the pressure.")
    hybrid: Any = Hybrid(ensemble, moves, every, local)
    sim = sim.replace(
        dynamics=replace(sim.dynamics, ensemble=hybrid), state=started(moves, sim.state, sim.atoms)
    ).with_controls(**controls)
    return element_masses(sim)
