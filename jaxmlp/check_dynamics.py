"""Energy conservation of a potential in short runs at constant energy, in each precision."""

import jax
import numpy as np

from jaxmlp import md
from jaxmlp.check import Line
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

LIMIT = 1e-4  # eV/atom/ps


def drift(
    potential: Potential,
    params: Params,
    system: System,
    precisions: tuple[str, ...],
    steps: int,
    seed: int,
    temperature: float = 300.0,
) -> tuple[list[Line], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return the drift of the total energy in each precision, and the energies (time in ps, eV/atom).

    The time step is 0.5 fs for carbon and scales with the root of the lightest mass. The first fifth, in which the
    error of the integrator settles, is left out. float32 throughout is reported without judgement: positions alone then
    carry an error of 1e-7 of the box.
    """
    dt = float(np.clip(0.5 * np.sqrt(system.masses.min() / 12), 0.1, 1.5))
    reason = f"velocity Verlet at dt = {dt:.2g} fs conserves a smooth energy to about 1e-6; wrong forces heat at once"
    lines, drifts = [], {}
    single = jax.tree.map(lambda x: np.asarray(x, np.float32) if x.dtype == float else np.asarray(x), params)
    potential = potential.for_system(system)
    for name in precisions:
        x64, precision = name != "float32", "mixed" if name == "mixed" else None
        with jax.enable_x64(x64):
            value = np.nan
            try:
                sim = md.nve(
                    potential,
                    params if x64 else single,
                    system,
                    dt=dt,
                    temperature=temperature,
                    key=seed,
                    precision=precision,
                )
                log = md.run(sim, steps, log_every=max(1, steps // 100)).log
            except md.SimulationError:
                log = None
        if log is not None:
            t, energy = log["time"] * 1e-3, np.asarray(log["total"], float) / len(system)
            drifts[name] = (t, energy)
            settled = slice(len(t) // 5, None)
            value = float(abs(np.polyfit(t[settled], energy[settled] - energy[0], 1)[0]))
        limit = LIMIT if name != "float32" else None
        lines.append(Line(f"NVE drift, {name}", value, "eV/atom/ps", limit, reason))
    return lines, drifts
