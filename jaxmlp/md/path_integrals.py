"""The usual simulations of quantum nuclei, ready to run."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmlp.md.barostats import MTK, CellRescaling
from jaxmlp.md.controls import GLEMatrices, Ramp
from jaxmlp.md.nose_hoover import NoseHoover
from jaxmlp.md.presets import thermal_start
from jaxmlp.md.ring_polymer import PILE, RingPolymer
from jaxmlp.md.simulation import Simulation, begun, simulation
from jaxmlp.md.thermostats import CSVR, GLE, Langevin
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

THERMOSTATS = ("pile_l", "pile_g", "piglet")
BAROSTATS = ("rescaling", "mtk", "langevin")


def _splitting(word: str) -> tuple[str, str]:
    """Return the word over A and the method of the drift: C in place of A is Cayley's, as in BCOCB."""
    if "A" in word and "C" in word:
        raise ValueError(f"a splitting of path integrals has A (exact springs) or C (Cayley), not both; got {word!r}.")
    return (word.replace("C", "A"), "cayley") if "C" in word else (word, "exact")


def pimd(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float | Ramp,
    beads: int,
    dt: float = 0.5,
    thermostat: str = "pile_l",
    tau: float = 100.0,
    gle: GLEMatrices | None = None,
    splitting: str | None = None,
    scheme: str = "primitive",
    contraction: tuple[int, ...] = (),
    loops: tuple[int, ...] = (),
    pressure: Any = None,
    barostat: str = "rescaling",
    tau_pressure: float = 1000.0,
    compressibility: float | None = None,
    cell: str = "isotropic",
    **options,
) -> Simulation:
    """Return path-integral molecular dynamics: quantum averages at a temperature, and at a pressure if one is given.

    Dynamics in the normal modes of the ring polymers. The default, BCOCB, is exact for harmonic motion at every stable
    time step; i-PI's is "OBABO" (with A in place of C the springs are solved exactly).

    Args:
        temperature: K.
        beads: P; well above hbar omega / kT of the fastest vibration (32 for O-H at 300 K, 8 in the fourth-order
            schemes). "suzuki-chin" needs an even number.
        dt: fs.
        thermostat: "pile_l" (Langevin on the centroid, friction 1 / tau), "pile_g" (stochastic velocity rescaling of
            the centroid with time tau), both with friction 2 omega_k on internal modes; "piglet", a generalised
            Langevin equation on all modes with the matrices `gle`.
        tau: fs.
        gle: `GLEMatrices` with one pair of matrices for each mode, in the order of `modes.mode_matrix`: k = 0, then the
            cosine and sine of k = 1, 2 ...
        splitting: None is "BCOCB" ("BCOSOCB" with cell rescaling, "OGBCBGO" with inertia of the cell).
        scheme: "primitive", "takahashi-imada" or "suzuki-chin".
        contraction: number of beads of each member of a potential a + b + ... (ring-polymer contraction).
        loops: multiple time steps, see `Ensemble`.
        pressure: eV/Å^3, see `Controls`.
        barostat: "rescaling", which needs `compressibility`; "mtk" or "langevin", whose cell has inertia and a
            Nose-Hoover chain or Langevin friction of its own.
        tau_pressure, compressibility, cell: as for `npt_rescaling`.
        options: see `simulation`.

    Raises:
        ValueError: an unknown name, or things that do not go together.
    """
    if thermostat not in THERMOSTATS:
        raise ValueError(f"thermostat is one of {', '.join(THERMOSTATS)}; got {thermostat!r}.")
    if (thermostat == "piglet") != (gle is not None):
        raise ValueError('the matrices `gle` and thermostat="piglet" go together.')
    if barostat not in BAROSTATS:
        raise ValueError(f"barostat is one of {', '.join(BAROSTATS)}; got {barostat!r}.")
    bath = {"pile_l": Langevin(), "pile_g": CSVR(), "piglet": GLE()}[thermostat]
    internal = GLE() if thermostat == "piglet" else PILE()
    controls: dict[str, Any] = {"dt": dt, "temperature": temperature}
    own: dict[str, dict[str, Any]] = {"pile_l": {"friction": 1 / tau}, "pile_g": {"tau": tau}, "piglet": {"gle": gle}}
    controls |= own[thermostat]
    word, piston = "BCOCB", None
    if pressure is not None:
        controls |= {"pressure": pressure, "tau_pressure": tau_pressure}
        if barostat == "rescaling":
            if compressibility is None:
                raise ValueError("cell rescaling needs an estimate of the compressibility, in Å^3/eV.")
            controls["compressibility"] = compressibility
            word, piston = "BCOSOCB", CellRescaling(cell)
        else:
            word, piston = "OGBCBGO", MTK(cell, NoseHoover() if barostat == "mtk" else Langevin())
    word, method = _splitting(splitting or word)
    ensemble = RingPolymer(
        word, bath, piston, None, loops, beads, internal, method, contraction=contraction, scheme=scheme
    )
    return _start(ensemble, controls, potential, params, system, temperature, options)


def rpmd(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    beads: int,
    dt: float = 0.5,
    **options,
) -> Simulation:
    """Return ring-polymer molecular dynamics without thermostats, for time correlation functions of the centroids.

    Start it from configurations of `pimd`, with `restarted`: Craig, Manolopoulos, J. Chem. Phys. 121, 3368 (2004).

    Args:
        temperature: K, of springs and momenta drawn at the start.
        beads: P.
        dt: fs.
        options: see `simulation`.
    """
    ensemble = RingPolymer("BAB", beads=beads)
    controls = {"dt": dt, "temperature": temperature}
    return _start(ensemble, controls, potential, params, system, temperature, options)


def trpmd(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    beads: int,
    dt: float = 0.5,
    damping: float = 0.5,
    **options,
) -> Simulation:
    """Return thermostatted ring-polymer dynamics: friction 2 damping omega_k on internal modes, none on the centroid.

    Rossi, Ceriotti, Manolopoulos, J. Chem. Phys. 140, 234116 (2014).

    Args:
        temperature: K.
        beads: P.
        dt: fs.
        damping: 1/2 is the paper's choice.
        options: see `simulation`.
    """
    ensemble = RingPolymer("BAOAB", beads=beads, internal=PILE(scale=damping))
    controls = {"dt": dt, "temperature": temperature}
    return _start(ensemble, controls, potential, params, system, temperature, options)


def cmd(
    potential: Potential,
    params: Params,
    system: System,
    *,
    temperature: float,
    beads: int,
    dt: float = 0.05,
    mode_frequency: float = 3.0,
    damping: float = 0.5,
    **options,
) -> Simulation:
    """Return partially adiabatic centroid molecular dynamics: light, fast, thermostatted internal modes.

    Their masses give all of them the frequency Omega = `mode_frequency`; Omega -> infinity, with dt well below
    1 / Omega, is centroid molecular dynamics (Cao, Voth, J. Chem. Phys. 101, 6168 (1994); Hone, Rossky, Voth, J. Chem.
    Phys. 124, 154103 (2006)).

    Args:
        temperature: K.
        beads: P.
        dt: fs.
        mode_frequency: Omega, 1/fs (1 is 5309 cm^-1).
        damping: friction 2 damping Omega on internal modes, none on the centroid.
        options: see `simulation`.
    """
    ensemble = RingPolymer("BAOAB", beads=beads, internal=PILE(scale=damping), adiabatic=True)
    controls = {"dt": dt, "temperature": temperature, "mode_frequency": mode_frequency}
    return _start(ensemble, controls, potential, params, system, temperature, options)


def restarted(sim: Simulation, source: Simulation, key: int | jax.Array = 0) -> Simulation:
    """Return the simulation at the beads' positions of another one, with new thermal momenta.

    Dynamics (rpmd, trpmd, cmd) of as many beads starts in equilibrium when `source` is an equilibrated `pimd`.

    Raises:
        ValueError: the numbers of beads or atoms differ.
    """
    if sim.state.R.shape != source.state.R.shape:
        raise ValueError(f"the shapes of positions differ: {sim.state.R.shape} and {source.state.R.shape}.")
    draw = jax.random.key(key) if isinstance(key, int) else key
    centroid = source.dynamics.forces.centroid(source.state.R)
    start = sim.state._replace(
        R=centroid, p=jnp.zeros_like(centroid), box=source.state.box, key=draw, bath=(), step=jnp.zeros((), jnp.int32)
    )
    ensemble: Any = sim.dynamics.ensemble
    state = ensemble.thermal(start, sim.atoms, sim.controls)._replace(R=source.state.R)
    return begun(sim.dynamics, state, sim.atoms, sim.controls, source.system)


def _start(ensemble, controls, potential, params, system: System, temperature, options) -> Simulation:
    options = {"start_temperature": thermal_start(temperature, system), **options}
    return simulation(ensemble, controls, potential, params, system, **options)
