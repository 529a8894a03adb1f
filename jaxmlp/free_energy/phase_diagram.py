"""Which phase is stable where: Gibbs energies of several phases, their crossings, and lines of coexistence."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.free_energy.absolute import Absolute, liquid, solid
from jaxmlp.free_energy.gibbs_duhem import Coexistence, gibbs_duhem
from jaxmlp.free_energy.melting import NoCrossingError, crossing
from jaxmlp.free_energy.sweeps import Sweep, temperature_sweep
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System


class PhaseDiagram(NamedTuple):
    """Phases of one composition in the plane of temperature and pressure.

    Args:
        sweeps: G(T) of every phase at the first pressure.
        transitions: (phase stable below, phase stable above) -> temperature (K) at that pressure, and its error.
        lines: the same pairs -> their lines of coexistence.
        start: absolute free energies of all phases.
    """

    sweeps: dict[str, Sweep]
    transitions: dict[tuple[str, str], tuple[float, float]]
    lines: dict[tuple[str, str], Coexistence]
    start: dict[str, Absolute]

    def stable(self, temperature: float) -> str:
        """Return the name of the phase with the lowest G per atom at the first pressure."""
        return min(self.sweeps, key=lambda name: float(self.sweeps[name].at(temperature)) / self.start[name].atoms)

    def figure(self, ax: Any = None) -> Any:
        """Return matplotlib axes with the lines of coexistence and their errors."""
        from jaxmlp.free_energy.figures import phase_diagram_figure

        return phase_diagram_figure(self, ax)


def phase_diagram(
    potential: Potential,
    params: Params,
    solids: Mapping[str, System],
    *,
    temperatures: tuple[float, float],
    pressures: Sequence[float],
    steps: int,
    fluid: System | None = None,
    melt: float | None = None,
    sweep_steps: int | None = None,
    line_steps: int | None = None,
    repeats: int = 4,
    points: int = 50,
    max_dissipation: float = 0.05,
    finite_size: bool = True,
    key: int = 0,
    progress: bool = False,
    **options,
) -> PhaseDiagram:
    """Return the phase diagram of crystals and their liquid.

    Absolute Gibbs energies of all phases at the lower temperature (of the liquid at the higher one) and the first
    pressure; sweeps of each over all temperatures; crossings between phases that are stable next to each other there;
    and from each crossing its line along the pressures by Clausius and Clapeyron's equation (`gibbs_duhem`).

    Args:
        solids: name -> crystal, near its box at the first pressure.
        temperatures: K, lowest and highest. All phases must last as metastable ones between them.
        pressures: eV/Å^3, the first and those of the lines.
        steps: of one switch to a reference system.
        fluid: the liquid, at the highest temperature; None melts the first crystal.
        melt: K, at which it is molten; None takes twice the highest temperature.
        sweep_steps, line_steps: of sweeps and of the runs along lines; None takes `steps`.
        finite_size: compare infinite phases, see `melting_temperature`.
        repeats, points, max_dissipation, key: see `solid` and `temperature_sweep`.
        options: dt, friction, tau_pressure ...: see `md.npt_langevin`.

    Raises:
        ValueError: temperatures or pressures that make no sense; the name "liquid" for a crystal.
        PhaseError, DissipationError: as for `solid`, `liquid` and `temperature_sweep`.
    """
    low, high = temperatures
    if not 0 < low < high or len(pressures) < 1 or not solids or "liquid" in solids:
        raise ValueError(
            "a phase diagram needs crystals by names other than 'liquid', temperatures (low, high) in K, and one "
            f"pressure or more; got {list(solids)}, {temperatures}, {list(pressures)}."
        )
    P = pressures[0]
    common = {"repeats": repeats, "max_dissipation": max_dissipation, "progress": progress, "pressure": P, **options}
    absolute = {"steps": steps, "finite_size": finite_size, **common}
    start: dict[str, Absolute] = {}
    for i, (name, crystal) in enumerate(solids.items()):
        start[name] = solid(potential, params, crystal, temperature=low, key=key + 100 * i, **absolute)
    molten = next(iter(solids.values())) if fluid is None else fluid
    hot = (2 * high if melt is None else melt) if fluid is None else None
    start["liquid"] = liquid(
        potential, params, molten, temperature=high, melt=hot, key=key + 100 * len(solids), **absolute
    )
    sweeps = {}
    for i, (name, phase) in enumerate(start.items()):
        there = temperature_sweep(
            potential, params, phase.system, start=phase.bulk, temperature=phase.temperature,
            to=low if name == "liquid" else high, steps=sweep_steps or steps, points=points, key=key + 100 * i + 50,
            **common,
        )  # fmt: skip
        if name == "liquid":  # all in the order of growing temperature
            there = there._replace(x=there.x[::-1], G=there.G[::-1], error=there.error[::-1], volume=there.volume[::-1])
        sweeps[name] = there
    transitions = _transitions(sweeps, start)
    lines = {}
    for pair, (T, error) in transitions.items() if len(pressures) > 1 else ():
        phases = (start[pair[0]].system, start[pair[1]].system)
        lines[pair] = gibbs_duhem(
            potential, params, phases, temperature=T, pressure=P, pressures=pressures[1:], error=error,
            steps=line_steps or steps, key=key + 1, progress=progress, **options,
        )  # fmt: skip
    return PhaseDiagram(sweeps, transitions, lines, start)


def _transitions(sweeps: dict[str, Sweep], start: dict[str, Absolute]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the crossings of phases that are the most stable ones below and above them."""
    names = list(sweeps)
    T = next(iter(sweeps.values())).x
    G = np.array([sweeps[name].G / start[name].atoms for name in names])
    best = G.argmin(axis=0)
    found = {}
    for k in np.flatnonzero(np.diff(best)):
        a, b = names[best[k]], names[best[k + 1]]
        error = float(np.hypot(start[a].error / start[a].atoms, start[b].error / start[b].atoms))
        try:
            x, spread, _ = crossing(sweeps[a], sweeps[b], (start[a].atoms, start[b].atoms), error)
        except NoCrossingError:  # the fit smooths a crossing at the very end away
            x, spread = float(T[k]), float("nan")
        found[a, b] = x, spread
    return found
