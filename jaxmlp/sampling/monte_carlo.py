"""Monte Carlo as an ensemble of `md`: a step is a sweep of trials, and `md.run` drives it like any dynamics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import Evaluation, Execution
from jaxmlp.geometry import volume
from jaxmlp.md.learning import learned
from jaxmlp.md.simulation import Simulation, begun, simulation
from jaxmlp.md.state import Atoms, Forces, State, identified
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.sampling.choices import Element, atomic_number, chosen_moves, element_masses
from jaxmlp.sampling.differences import Configuration, Energies
from jaxmlp.sampling.moves import species_counts
from jaxmlp.sampling.walks import Move, Setting, Tally, Walk
from jaxmlp.system import System


@dataclass(frozen=True)
class MonteCarlo:
    """Metropolis Monte Carlo at the temperature of the controls, in the place of an `md.Ensemble`.

    A step makes the trials of all moves, one kind after the other, and evaluates the forces at its end. Momenta stay
    zero. The time step of the controls means nothing: `time` in the log is the number of steps times `dt`.

    Args:
        moves: one or more, see `moves`.
        local: energies of trials of local potentials come from the rows that they change; False evaluates all atoms for
            each, with the same result to rounding.
    """

    moves: tuple[Move, ...]
    local: bool = True

    # What a simulation asks of an ensemble.
    splitting: ClassVar[str] = "Monte Carlo"
    loops: ClassVar[tuple[int, ...]] = ()
    grouped: ClassVar[bool] = False
    canonical: ClassVar[bool] = True
    keeps_momentum: ClassVar[bool] = False

    def __post_init__(self):
        check_moves(self.moves)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Controls` that this ensemble reads."""
        return tuple(dict.fromkeys(["dt", "temperature", *(name for move in self.moves for name in move.needs)]))

    @property
    def barostat(self) -> Move | None:
        """The moves that change the cell, or None: it may grow and shrink where there are any."""
        return next((move for move in self.moves if "pressure" in move.needs), None)

    def forces(self, potential: Potential, search: NeighborSearch, execution: Execution) -> Forces:
        """Return the forces of states."""
        return Forces(potential, search, execution)

    def start(self, state: State, atoms: Atoms, controls: Any) -> State:
        """Return the state at rest, with no trial made."""
        return started(self.moves, state._replace(p=jnp.zeros_like(state.p)), atoms)

    def refreshed(self, state: State, atoms: Atoms, controls: Any, forces: Forces) -> State:
        """Return the state with its forces brought up to date."""
        return forces(state, identified(state, atoms))

    def step(self, state: State, atoms: Atoms, controls: Any, forces: Forces) -> State:
        """Return the state after the trials of a step."""
        now = controls.at(state.step)
        if forces.learning:
            state = learned(forces, state, identified(state, atoms), jnp.mean(now.kT), now.dt)
        if state.work is not None:  # the parameters of this step are those of its end, for all of its trials
            state = state._replace(work=state.work._replace(done=state.work.done + state.work.ahead))
        state = forces.listed(state._replace(step=state.step + 1))
        state = walked(self.moves, self.local, state, atoms, now, forces, now.dt != 0)
        return forces.driven(state, identified(state, atoms), None)

    def temperature(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return the temperature that is set, K."""
        return jnp.mean(controls.at(state.step).temperature)

    def energy(self, state: State, out: Evaluation, atoms: Atoms, controls: Any, forces: Forces) -> Array:
        """Return the potential energy, eV."""
        return out.energy

    def conserved(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return the energy less what accepted trials added and ramps of parameters worked, eV: it stays the same."""
        H = state.energy - state.bath.heat
        return H if state.work is None else H - state.work.done

    def reduced(self, state: State, atoms: Atoms, controls: Any) -> Array:
        """Return minus the logarithm of the weight of a configuration: E + P V - sum_s mu_s N_s + ... over kT."""
        now = controls.at(state.step)
        U = state.energy + biased(self.moves, state, atoms, now)
        if self.barostat is not None:
            U = U + now.pressure * volume(state.box)
        return U / jnp.mean(now.kT)

    def measure(self, state: State, out: Evaluation, atoms: Atoms, controls: Any, periodic: bool) -> dict[str, Array]:
        """Return one row of the log.

        `pressure` is (N kT + tr W / 3) / V for N atoms that move, `acceptance_...` the share of accepted trials so far,
        `composition` (S,) the shares of the species where they vary.
        """
        row = {
            "step": state.step,
            "potential": out.energy,
            "conserved": self.conserved(state, atoms, controls),
            "temperature": self.temperature(state, atoms, controls),
        }
        if state.work is not None:
            row["work"] = state.work.done
        if len(out.parts) > 1 or state.work is not None:
            row["parts"] = jnp.stack(out.parts)
        if periodic:
            V, kT = volume(state.box), jnp.mean(controls.at(state.step).kT)
            free = len(state.R) if atoms.mobile is None else jnp.sum(atoms.mobile)
            row |= {"pressure": (free * kT + jnp.trace(out.virial) / 3) / V, "volume": V}
            if any(getattr(move, "cell", "isotropic") != "isotropic" for move in self.moves):
                row["box"] = state.box
        return row | tally_columns(self.moves, state, atoms)


def semi_grand(moves: tuple[Move, ...]) -> list[Move]:
    """Return the moves that have chemical potentials."""
    return [move for move in moves if "chemical_potentials" in move.needs]


def check_moves(moves: tuple[Move, ...]) -> None:
    """Refuse no moves, and moves that sample different ensembles.

    Raises:
        ValueError: either.
    """
    if not moves:
        raise ValueError("Monte Carlo needs at least one kind of move.")
    if len({move.needs for move in semi_grand(moves)}) > 1:
        raise ValueError("semi-grand moves with and without the constraint of the variance sample other ensembles.")


def started(moves: tuple[Move, ...], state: State, atoms: Atoms) -> State:
    """Return the state with the memory of moves."""
    tally = Tally.none(state.bath, len(moves), state.R.dtype)
    species = atoms.species if any(move.transmutes for move in moves) else None
    return state._replace(bath=tally, species=species)


def walked(
    moves: tuple[Move, ...], local: bool, state: State, atoms: Atoms, now: Any, forces: Forces, on: Array
) -> State:
    """Return the state after the trials of a step, its list still holding, but not with new forces.

    Args:
        now: the controls, without ramps.
        on: False makes no trial.
    """
    present = forces.present(state, atoms)
    energies = Energies(forces.potential, present.params, forces.execution, local)
    setting = Setting(energies, forces.search, present, now, on)
    place = Configuration(state.R, state.box, present.species, state.neighbors)
    walk = Walk(place, energies.rest(place), jnp.zeros((), state.R.dtype))
    key, *draws = jax.random.split(state.key, 1 + len(moves))
    accepted = []
    for move, draw in zip(moves, draws):
        walk, count = move(walk, setting, draw)
        accepted.append(count)
    tried = jnp.where(on, jnp.array([move.number(len(state.R)) for move in moves], jnp.int32), 0)
    # A trial whose energy is not a number is known by its momenta: the driver looks at these after every step.
    broken = jnp.where(jnp.isfinite(walk.heat), 0.0, jnp.nan).astype(state.p.dtype)
    return state._replace(
        R=walk.place.R,
        p=state.p + broken,
        box=walk.place.box,
        neighbors=walk.place.neighbors,
        species=walk.place.species if state.species is not None else None,
        bath=state.bath.counted(tried, jnp.stack(accepted), walk.heat),
        key=key,
    )


def biased(moves: tuple[Move, ...], state: State, atoms: Atoms, now: Any) -> Array:
    """Return what chemical potentials and constraints add to the energy in the weight, eV."""
    grand = semi_grand(moves)  # the bias is that of the ensemble, however many moves sample it
    if not grand:
        return jnp.zeros((), state.R.dtype)
    return grand[0].bias(species_counts(state.species, len(now.chemical_potentials)), now)


def tally_columns(moves: tuple[Move, ...], state: State, atoms: Atoms) -> dict[str, Array]:
    """Return acceptance and composition."""
    tally, columns = state.bath, {}
    share = (tally.accepted / jnp.maximum(tally.tried, 1)).astype(state.R.dtype)
    for k, move in enumerate(moves):
        again = sum(earlier.name == move.name for earlier in moves[:k])
        columns[f"acceptance_{move.name}" + (f"_{again + 1}" if again else "")] = share[k]
    if semi_grand(moves):
        counts = species_counts(state.species, len(atoms.masses))
        columns["composition"] = counts.astype(state.R.dtype) / len(state.R)
    return columns


def monte_carlo(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: Any,
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
    skin: float | None = None,
    **options,
) -> Simulation:
    """Return a Monte Carlo simulation, of the moves for which there is an option; `md.run` counts its steps.

    A step is N trials of displacements, swaps and semi-grand changes, and one of the volume, if `trials` does not say
    otherwise. `tuned` finds sizes of displacements and volume changes.

    Args:
        temperature: K; an `md.Ramp` anneals. At 0 K what raises the energy is refused.
        displacement: Å, the largest of a trial, at most half the skin; None moves no atoms.
        pressure: eV/Å^3; None leaves the cell as it is.
        volume_change: the largest change of ln V in a trial.
        cell: what volume moves change, see `VolumeMoves`.
        swap: exchange the species of atoms: True, or which elements take part (symbols or atomic numbers).
        chemical_potentials: {element: eV} of the elements that atoms may become: the semi-grand ensemble. Elements that
            the system lacks come in if the potential knows them.
        kappa, composition: eV, and {element: share}: variance-constrained, see `SemiGrandMoves`.
        trials: {"displacement": ..., "volume": ..., "swap": ..., "semi-grand": ...} a step.
        local: see `MonteCarlo`.
        skin: Å of the neighbour list; None takes 1 Å or four times the displacement.
        options: see `md.simulation`: fixed, headroom, key, precision, block.

    Raises:
        ValueError: options that make no sense together, or elements that are not there.
    """
    if options.get("bonds") is not None:
        raise ValueError("Monte Carlo moves know no constrained bonds; leave out bonds.")
    wanted = [atomic_number(z) for z in chemical_potentials or ()]
    present = tuple(z for z in potential.species if z in {*system.numbers.tolist(), *wanted})
    moves, controls = chosen_moves(
        potential.species, present, system.numbers, displacement=displacement, pressure=pressure,
        volume_change=volume_change, cell=cell, swap=swap, chemical_potentials=chemical_potentials, kappa=kappa,
        composition=composition, trials=trials,
    )  # fmt: skip
    if skin is None:
        skin = max(1.0, 4 * (displacement or 0.0))
    if displacement is not None and displacement > skin / 2:
        raise ValueError(f"a displacement of up to {displacement} Å needs a skin of twice that; got skin={skin} Å.")
    if pressure is not None and not (system.pbc and all(system.pbc)):
        raise ValueError("volume moves need a cell that is periodic in all directions; leave out the pressure.")
    ensemble: Any = MonteCarlo(moves, local)
    controls = {"dt": 1.0, "temperature": temperature, **controls}
    begin = options.pop("begin", True)
    options |= {"elements": wanted, "skin": skin, "begin": False}
    sim = element_masses(simulation(ensemble, controls, potential, params, system, **options))
    return begun(sim.dynamics, sim.state, sim.atoms, sim.controls, system) if begin else sim
