"""From the options of Monte Carlo to moves and controls, on the host."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmlp.md.controls import Ramp
from jaxmlp.md.simulation import Simulation
from jaxmlp.sampling.moves import DisplacementMoves, SemiGrandMoves, SwapMoves, VolumeMoves
from jaxmlp.sampling.walks import Move

Element = int | str


def atomic_number(element: Element) -> int:
    """Return the atomic number of an element, from its symbol or from that.

    Raises:
        ValueError: there is no such element.
    """
    from ase.data import atomic_numbers, chemical_symbols

    number = atomic_numbers.get(element, -1) if isinstance(element, str) else int(element)
    if not 0 < number < len(chemical_symbols):
        raise ValueError(f"there is no element {element!r}; give a chemical symbol or an atomic number.")
    return number


def _symbols(numbers) -> str:
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in numbers)


def chosen_moves(
    known: tuple[int, ...],
    present: tuple[int, ...],
    numbers: np.ndarray,
    *,
    displacement: float | None,
    pressure: Any,
    volume_change: float,
    cell: str,
    swap: bool | Sequence[Element],
    chemical_potentials: Mapping[Element, float] | None,
    kappa: float | None,
    composition: Mapping[Element, float] | None,
    trials: Mapping[str, int] | None,
) -> tuple[tuple[Move, ...], dict[str, Any]]:
    """Return the moves, and the controls that they need besides the temperature.

    Args:
        known: the elements of the potential.
        present: those that the simulation has parameters of, in this order.
        numbers: (N,) those of the atoms.
        others: as for `monte_carlo`.

    Raises:
        ValueError: options that make no sense together, or elements that are not there.
    """
    many = dict(trials or {})
    moves: list[Move] = []
    controls: dict[str, Any] = {}
    if displacement is not None:
        moves.append(DisplacementMoves(many.pop("displacement", None)))
        controls["displacement"] = displacement
    if swap is not False:
        moves.append(SwapMoves(many.pop("swap", None), _swapping(swap, numbers)))
    if chemical_potentials is not None:
        mu = _of_elements("chemical_potentials", chemical_potentials, known)
        if len(mu) < 2:
            raise ValueError("the semi-grand ensemble needs chemical_potentials of two elements or more.")
        if not np.isin(numbers, list(mu)).any():
            raise ValueError(
                f"chemical_potentials of {_symbols(mu)}: no atom is one of these that could become another; the system "
                f"has {_symbols(np.unique(numbers))}."
            )
        controls["chemical_potentials"] = np.array([mu.get(z, 0.0) for z in present])
        if (kappa is None) != (composition is None):
            raise ValueError("a constraint of the variance needs both kappa and composition.")
        if composition is not None:
            controls |= {"kappa": kappa, "composition": _shares(composition, mu, present, numbers)}
        moves.append(SemiGrandMoves(many.pop("semi-grand", None), tuple(mu), kappa is not None))
    elif kappa is not None or composition is not None:
        raise ValueError("kappa and composition go with chemical_potentials; those may be zero.")
    if pressure is not None:
        moves.append(VolumeMoves(many.pop("volume", 1), cell))
        controls |= {"pressure": pressure, "volume_change": volume_change}
        ends = (pressure.start, pressure.stop) if isinstance(pressure, Ramp) else (pressure,)
        if any(np.ndim(x) for x in ends):
            raise ValueError("volume moves take a scalar pressure, not a tensor; a barostat of `md` takes both.")
    if not moves:
        raise ValueError("give at least one kind of move: displacement, swap, chemical_potentials or pressure.")
    if many:
        raise ValueError(f"trials of {', '.join(many)}: there are no such moves; there are {_names(moves)}.")
    return tuple(moves), controls


def _names(moves: list[Move]) -> str:
    return ", ".join(move.name for move in moves)


def _swapping(swap: bool | Sequence[Element], numbers: np.ndarray) -> tuple[int, ...]:
    """Return the species of swaps, () for all."""
    there = np.unique(numbers).tolist()
    some = () if swap is True else tuple(atomic_number(z) for z in swap)  # type: ignore[union-attr]
    missing = [z for z in some if z not in there]
    if swap is not True and len(set(some)) < 2:
        raise ValueError(f"swap names two elements or more that exchange atoms, or is True for all; got {swap!r}.")
    if missing or len(there) < 2:
        raise ValueError(
            f"a swap exchanges atoms of two elements; the system has {_symbols(there)}"
            + (f", but not {_symbols(missing)}." if missing else " only.")
        )
    return some


def _of_elements(name: str, values: Mapping[Element, float], known: tuple[int, ...]) -> dict[int, float]:
    """Return values by atomic number."""
    out = {atomic_number(z): float(x) for z, x in values.items()}
    unknown = [z for z in out if z not in known]
    if unknown:
        raise ValueError(
            f"{name} of {_symbols(unknown)}: this potential knows {_symbols(known)}. (Dynamics keep elements that the "
            "system lacks where they start with elements=...)"
        )
    return out


def _shares(composition: Mapping[Element, float], mu: dict[int, float], present: tuple[int, ...], numbers: np.ndarray):
    """Return the shares of all species of the potential: those wanted, and for elements that stay the present ones."""
    wanted = _of_elements("composition", composition, present)
    if set(wanted) != set(mu):
        raise ValueError(
            f"composition and chemical_potentials name the same elements; got {_symbols(wanted)} and {_symbols(mu)}."
        )
    shares = np.array([wanted.get(z, float(np.mean(numbers == z))) for z in present])
    if abs(shares.sum() - 1) > 1e-6 or (shares < 0).any():
        raise ValueError(f"the shares of {_symbols(present)} must be positive and add up to 1; got {shares.tolist()}.")
    return shares


def element_masses(sim: Simulation) -> Simulation:
    """Return the simulation with the masses of its potential's species where moves change these.

    Raises:
        ValueError: atoms of one element have different masses.
    """
    from ase.data import atomic_masses

    if sim.state.species is None:
        return sim
    mass, masses = np.asarray(sim.atoms.mass)[:, 0], []
    for z in sim.dynamics.forces.potential.species:
        its = mass[sim.numbers == z]
        if len(its) and np.ptp(its) > 0:
            raise ValueError(
                f"atoms of {_symbols([z])} have masses from {its.min()} to {its.max()} amu: where elements change "
                "places, all atoms of one must have the same mass."
            )
        masses.append(its[0] if len(its) else atomic_masses[z])
    table = jnp.asarray(np.array(masses)[:, None], sim.atoms.mass.dtype)
    return sim.replace(atoms=sim.atoms._replace(masses=table))
