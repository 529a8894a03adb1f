"""Ring polymers: path-integral dynamics as the classical word of propagators, with the beads' springs in the drift."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import Evaluation
from jaxmlp.md import estimators
from jaxmlp.md.barostats import MTK
from jaxmlp.md.bead_forces import BeadForces, bead_forces
from jaxmlp.md.controls import Controls, GLEMatrices
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.modes import free_ring_polymer, mode_frequencies, ring_frequency, to_beads, to_modes
from jaxmlp.md.state import Atoms, State, kinetic_energy
from jaxmlp.md.thermostats import GLE, Langevin, Target, Thermostat
from jaxmlp.md.velocities import thermal_momenta
from jaxmlp.units import fs, kB


class Beads(NamedTuple):
    """What the thermostats of a ring polymer remember: that of the centroid, and that of the other modes."""

    centroid: Any
    internal: Any


@dataclass(frozen=True)
class PILE(Langevin):
    """Langevin friction 2 scale omega_k on every internal mode, in the springs' frequencies omega_k.

    Ceriotti, Parrinello, Markland, Manolopoulos, J. Chem. Phys. 133, 124104 (2010), Eq. (36). scale = 1 is PILE, 0.5
    thermostatted ring-polymer dynamics: Rossi, Ceriotti, Manolopoulos, J. Chem. Phys. 140, 234116 (2014).
    """

    scale: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ("temperature",)


@dataclass(frozen=True)
class RingPolymer(Ensemble):
    """A classical ring polymer of P beads at the temperature P T, with the letters of `Ensemble`.

    A moves centroid and internal modes under the springs. Barostats and the thermostat act on the centroid, a classical
    system of masses m at the temperature T that feels the mean force and the centroid virial: so volumes are those of
    the quantum isothermal-isobaric ensemble (Martyna, Hughes, Tuckerman, J. Chem. Phys. 110, 3275 (1999)).

    Args:
        beads: P.
        internal: thermostat of the internal modes: `PILE`, `GLE` with one pair of matrices for each mode (PIGLET:
            Ceriotti, Manolopoulos, Phys. Rev. Lett. 109, 100604 (2012)), or None (ring-polymer dynamics). Matrices C
            are those of modes, P T times the identity without quantum corrections, also that of the centroid.
        method: "cayley" (with the word BAOAB: BCOCB) or "exact"; see `modes.free_ring_polymer`.
        adiabatic: internal modes get the masses with which all of them have the frequency `Controls.mode_frequency`:
            centroid molecular dynamics where that is high.
        contraction, scheme: see `BeadForces`.
    """

    splitting: str = "BAB"
    beads: int = 1
    internal: Thermostat | None = None
    method: str = "cayley"
    adiabatic: bool = False
    contraction: tuple[int, ...] = ()
    scheme: str = "primitive"
    grouped: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.beads < 1:
            raise ValueError(f"a ring polymer has 1 or more beads; got {self.beads}.")
        if self.constraints is not None:
            raise ValueError("a ring polymer has no rigid bonds: leave out bonds, or run classical dynamics.")
        if not (self.internal is None or isinstance(self.internal, PILE | GLE)):
            raise ValueError(f"internal modes take PILE, GLE or no thermostat; got {self.internal!r}.")
        if self.contraction and max(self.contraction) != self.beads:
            raise ValueError(
                f"contraction={self.contraction}: one member has all {self.beads} beads, the others fewer."
            )
        estimators.fourth_order_weights(self.beads, self.scheme)
        if self.scheme != "primitive" and (self.barostat or self.contraction or self.loops):
            raise ValueError(f"{self.scheme} cannot be combined with a barostat, contraction or multiple time steps.")

    @property
    def thermostatted(self):
        return self.thermostat is not None or self.internal is not None

    @property
    def needs(self):
        internal = () if self.internal is None else self.internal.needs
        own = ("temperature", *internal, *(("mode_frequency",) if self.adiabatic else ()))
        return tuple(dict.fromkeys([*super().needs, *own]))

    def forces(self, potential, search, execution):
        classical = super().forces(potential, search, execution)
        return bead_forces(classical, self.beads, self.contraction, self.scheme)

    def frequencies(self, controls: Controls) -> Array:
        """Return omega_k, (P,), of the springs in units of 1 / Å (amu/eV)^(1/2)."""
        return mode_frequencies(self.beads, ring_frequency(self.beads, controls.kT))

    def masses(self, atoms: Atoms, controls: Controls) -> tuple[Array, Array]:
        """Return the masses of the modes, (P, N, 1) amu, and their frequencies (P,)."""
        omega = self.frequencies(controls)
        if not self.adiabatic:
            return jnp.broadcast_to(atoms.mass, (self.beads, *atoms.mass.shape)), omega
        wanted = jnp.where(omega > 0, controls.mode_frequency / fs, 0.0)
        factor = jnp.where(omega > 0, omega * fs / controls.mode_frequency, 1.0) ** 2
        return factor[:, None, None] * atoms.mass, wanted

    def start(self, state: State, atoms: Atoms, controls: Controls) -> State:
        """Return the ring polymers of a classical state: all beads at its positions, internal momenta thermal."""
        state = super().start(state, atoms, controls)  # of the centroid
        now = controls.at(state.step)
        key, draw, its = jax.random.split(state.key, 3)
        P, kT = self.beads, self.beads * now.kT
        mass, _ = self.masses(atoms, now)
        noise = jax.random.normal(draw, (P, *state.p.shape), state.p.dtype)
        p = atoms.held(jnp.sqrt(mass * kT) * noise).at[0].set(jnp.sqrt(1.0 * P) * state.p)
        bath: Any = ()
        if self.internal is not None:
            bath = self.internal.start(p[1:], self._internal(atoms, now), its)
        R = jnp.broadcast_to(state.R, p.shape)
        return state._replace(R=R, p=to_beads(p), bath=Beads(state.bath, bath), key=key)

    def thermal(self, state: State, atoms: Atoms, controls: Controls) -> State:
        """Return `start` of a classical state whose centroids get thermal momenta too."""
        key, draw = jax.random.split(state.key)
        kT = jnp.mean(controls.at(state.step).kT)
        p = thermal_momenta(draw, atoms.mass, kT, keep_momentum=not atoms.resting > 0)
        return self.start(state._replace(p=atoms.held(p), key=key), atoms, controls)

    def _internal(self, atoms: Atoms, now: Controls) -> Target:
        """What the thermostat of the internal modes acts on."""
        mass, _ = self.masses(atoms, now)
        kT = self.beads * now.kT
        friction = gle = None
        if isinstance(self.internal, PILE):
            omega = now.mode_frequency / fs * jnp.ones(self.beads) if self.adiabatic else self.frequencies(now)
            friction = (2 * self.internal.scale * omega[1:, None, None]).astype(kT.dtype)
        elif isinstance(self.internal, GLE):
            A, C = now.gle
            unit = jnp.eye(A.shape[-1], dtype=A.dtype)
            modes = A[1:] if A.ndim == 3 else jnp.broadcast_to(A, (self.beads - 1, *A.shape))
            C = (
                jnp.broadcast_to(kT * unit, modes.shape)
                if C is None
                else jnp.broadcast_to(kB * C, (self.beads, *C.shape[-2:]))[1:]
            )
            gle = GLEMatrices(modes / fs, C)
        return Target(mass[1:], kT, jnp.asarray(1.0, kT.dtype), friction, gle=gle)

    def _centroid_target(self, atoms: Atoms, now: Controls, start: Controls) -> Target:
        """What the thermostat of the centroid acts on."""
        if now.gle is not None:
            A, C = (None if x is None else (x[0] if x.ndim == 3 else x) for x in now.gle)
            now = now._replace(gle=GLEMatrices(A, None if C is None else C / self.beads))
        return Target.of(atoms, now, start)

    def refreshed(self, state, atoms, controls, forces: BeadForces):
        return forces(state, atoms, controls.at(state.step).kT)

    def reduced(self, state, atoms, controls):
        now = controls.at(state.step)
        _, springs = self.ring_energies(state, atoms, now)
        return super().reduced(state._replace(energy=(jnp.sum(state.energy) + springs) / self.beads), atoms, controls)

    def step(self, state, atoms, controls, forces: BeadForces):
        kT = controls.at(state.step).kT
        return super().step(state, atoms, controls, _At(forces, kT))

    def centroid(self, state: State) -> State:
        """Return the classical state of the centroids."""
        mean = partial(jnp.mean, axis=0)
        bath = state.bath.centroid if isinstance(state.bath, Beads) else state.bath
        return state._replace(R=mean(state.R), p=mean(state.p), F=mean(state.F), bath=bath)

    def _with_centroid(self, state: State, old: State, new: State) -> State:
        """Return the state with its centroids moved from `old` to `new`, and their cell and piston."""
        R, p = state.R + (new.R - old.R), state.p + (new.p - old.p)
        return state._replace(R=R, p=p, box=new.box, piston=new.piston)

    def move(self, letter, state, atoms, controls, h):
        now, start = controls
        if letter in "GS" or (letter == "B" and isinstance(self.barostat, MTK)):
            if letter == "S":
                key, draw = jax.random.split(state.key)
                state = state._replace(key=key)
            old = self.centroid(state)
            if letter == "S":
                new = self.barostat.rescale(old, atoms, now, h, draw)
            elif letter == "G":
                new = self.barostat.push(old, atoms, now, h)
            else:
                new = self.barostat.kick(old, atoms, self.barostat.rate(old, atoms, now, start), h)
                inner = state.F - old.F
                state = state._replace(p=state.p + h * inner)
            return self._with_centroid(state, old, new)
        if letter == "A":
            return self._drifted(state, atoms, controls, h)
        return super().move(letter, state, atoms, controls, h)

    def _drifted(self, state, atoms, controls, h):
        now, start = controls
        mass, omega = self.masses(atoms, now)
        q, p, dt = to_modes(state.R), to_modes(state.p), h * self.splitting.count("A")
        q, p = free_ring_polymer(q, p, mass, omega, h, dt, method=self.method)
        if isinstance(self.barostat, MTK):
            old = self.centroid(state)
            new = self.barostat.drift(old, atoms, self.barostat.rate(old, atoms, now, start), h)
            root = jnp.sqrt(1.0 * self.beads)
            q, p = q.at[0].set(root * new.R), p.at[0].set(root * new.p)
            state = state._replace(box=new.box)
        return state._replace(R=to_beads(q), p=to_beads(p))

    def _bathed(self, state, atoms, controls, h, draw):
        now, start = controls
        outer, inner, its = jax.random.split(draw, 3)
        bath, modes = state.bath, to_modes(state.p)
        internal, centroid = bath.internal, bath.centroid
        if self.internal is not None and self.beads > 1:
            p, internal = self.internal(modes[1:], internal, self._internal(atoms, now), h, inner)
            modes = modes.at[1:].set(atoms.held(p))
        if self.thermostat is not None:
            root = jnp.sqrt(1.0 * self.beads)
            p, centroid = self.thermostat(modes[0] / root, centroid, self._centroid_target(atoms, now, start), h, outer)
            modes = modes.at[0].set(root * atoms.held(p))
        state = state._replace(p=to_beads(modes), bath=Beads(centroid, internal))
        return self.barostat.bathe(state, atoms, now, start, h, its) if isinstance(self.barostat, MTK) else state

    def ring_energies(self, state: State, atoms: Atoms, now: Controls) -> tuple[Array, Array]:
        """Return kinetic energy and spring energy of the classical ring polymer, summed over beads, eV."""
        mass, omega = self.masses(atoms, now)
        q, p = to_modes(state.R), to_modes(state.p)
        springs = 0.5 * jnp.sum(mass * (omega[:, None, None] * q) ** 2)
        return kinetic_energy(p, mass), springs

    def temperature(self, state, atoms, controls):
        """Return the temperature of the classical ring polymer divided by P, K."""
        kinetic, _ = self.ring_energies(state, atoms, controls.at(state.step))
        P = self.beads
        return 2 * kinetic / (P * (atoms.dof + (P - 1) * self._moving(state, atoms)) * kB)

    def _moving(self, state: State, atoms: Atoms) -> Array:
        """Number of coordinates that move, 3 N without atoms held fixed."""
        return jnp.asarray(3.0 * state.R.shape[1] if atoms.mobile is None else 3 * jnp.sum(atoms.mobile), state.R.dtype)

    def energy(self, state, out, atoms, controls, forces):
        return out.energy if self.scheme == "primitive" else forces.effective(out, atoms, controls.at(state.step).kT)

    def conserved(self, state, atoms, controls):
        """Return the conserved quantity of the ring polymer divided by P, eV."""
        now, start = controls.at(state.step), controls.at(jnp.zeros_like(state.step))
        kinetic, springs = self.ring_energies(state, atoms, now)
        H = (kinetic + springs + jnp.sum(state.energy)) / self.beads
        if state.work is not None:
            H = H - state.work.done
        if self.internal is not None and self.beads > 1:
            H = H - state.bath.internal.heat / self.beads
        centroid = self.centroid(state)
        if self.thermostat is not None:
            H = H + self.thermostat.energy(centroid.bath, self._centroid_target(atoms, now, start))
        return H if self.barostat is None else H + self.barostat.energy(centroid, atoms, now, start)

    def measure(self, state, out: Evaluation, atoms, controls, periodic):
        """Return one row of the log: quantum estimators, and the temperature of the classical ring polymer.

        `kinetic` is the centroid-virial estimator, `kinetic_primitive` the thermodynamic one, `potential` the mean over
        beads; in schemes of fourth order the thermodynamic estimators of that scheme.
        """
        now = controls.at(state.step)
        kT, mass, scheme = now.kT, atoms.mass, self.scheme
        F = atoms.held(out.forces)
        # Atoms held fixed are classical and at rest.
        free = 0.5 * (self._moving(state, atoms) - 3.0 * state.R.shape[1]) * kT
        virial = estimators.kinetic_centroid_virial(state.R, F, kT) + free
        primitive = estimators.kinetic_primitive(state.R, mass, kT) + self.beads * free
        potential = jnp.mean(out.energy)
        if scheme != "primitive":
            gradients = jnp.mean(estimators.gradient_terms(out.forces, mass, kT, scheme))
            virial = estimators.kinetic_centroid_virial(state.R, state.F, kT) + free + gradients
            primitive = primitive + gradients
            potential = estimators.potential_thermodynamic(out.energy, out.forces, mass, kT, scheme)
        row = {
            "step": state.step,
            "potential": potential,
            "kinetic": virial,
            "total": potential + virial,
            "conserved": self.conserved(state, atoms, controls),
            "temperature": self.temperature(state, atoms, controls),
            "kinetic_primitive": primitive,
        }
        row |= self.path_columns(state, out, controls)
        if periodic and scheme == "primitive":
            cell = self.cell_columns(state)
            row |= {"pressure": estimators.pressure(virial, out.virial, cell["volume"]), **cell}
        return row


class _At(NamedTuple):
    """Bead forces at a temperature, which enters the potential of high-order schemes."""

    forces: BeadForces
    kT: Array

    @property
    def learning(self) -> bool:
        return False

    def __call__(self, state: State, atoms: Atoms) -> State:
        return self.forces(state, atoms, self.kT)

    def refreshed(self, k: int, state: State, atoms: Atoms) -> State:
        return self.forces.refreshed(k, state, atoms)
