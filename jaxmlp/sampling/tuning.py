"""Sizes of Monte Carlo trials that are accepted as often as one wants, found before a simulation is used."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmlp.md.controls import Ramp
from jaxmlp.md.driver import run
from jaxmlp.md.simulation import Simulation


def tuned(sim: Simulation, *, acceptance: float = 0.4, rounds: int = 20, steps: int = 10) -> Simulation:
    """Return the simulation with displacements and volume changes of which this share is accepted, equilibrated on the
    way.

    After every round of some steps a size is multiplied by the ratio of the shares, damped more and more. The result
    has its step number back, and its counts of trials start anew; from then on sizes stay, as detailed balance demands.
    Displacements are at most half the skin of the neighbour list, volume changes at most 0.5.

    Args:
        acceptance: the share of accepted trials.
        rounds: changes of the sizes.
        steps: of one round (sets of trials of a hybrid simulation), enough for some ten trials of the volume.

    Raises:
        ValueError: a simulation without such moves, sizes that are ramps, or a share that is none.
    """
    if not 0 < acceptance < 1:
        raise ValueError(f"acceptance is a share between 0 and 1; got {acceptance}.")
    moves = getattr(sim.dynamics.ensemble, "moves", ())
    largest = {"displacement": 0.5 * sim.dynamics.forces.search.skin, "volume_change": 0.5}
    sized = [(k, name) for k, move in enumerate(moves) for name in move.needs if name in largest]
    if not sized or sim.dynamics.forces.ramped:
        raise ValueError(
            "only displacements and volume changes of one simulation, whose potential stays the same, have sizes that "
            f"can be tuned; this has {', '.join(move.name for move in moves) or 'no moves'}."
        )
    if any(isinstance(getattr(sim.controls, name), Ramp) for _, name in sized):
        raise ValueError("sizes of trials that are ramps cannot be tuned; set them to numbers.")
    step, steps = sim.state.step, steps * getattr(sim.dynamics.ensemble, "every", 1)
    for r in range(rounds):
        sim = run(_counting_from(sim, step), steps, log_every=steps).simulation
        tried, accepted = (np.asarray(x, float) for x in (sim.state.bath.tried, sim.state.bath.accepted))
        controls: dict[str, Any] = {}
        for k, name in sized:
            ratio = np.clip((accepted[k] + 1) / (tried[k] + 1) / acceptance, 0.25, 4.0)
            size = float(getattr(sim.controls, name)) * ratio ** (2 / (2 + r))
            controls[name] = min(size, largest[name])
        sim = sim.with_controls(**controls)
    return _counting_from(sim, step)


def _counting_from(sim: Simulation, step) -> Simulation:
    """Return the simulation at a step, with no trial counted."""
    tally = sim.state.bath
    tally = tally._replace(tried=jnp.zeros_like(tally.tried), accepted=jnp.zeros_like(tally.accepted))
    return sim.replace(state=sim.state._replace(step=step, bath=tally))
