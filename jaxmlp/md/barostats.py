"""Barostats: maps that move the cell, and what they exchange with the atoms.

All act on positions R (N, 3), momenta p (N, 3) and forces F of a classical system; a ring polymer hands them its
centroid. The strain rates they may use are the matrices E_a of `cells.CELLS`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.geometry import times, volume
from jaxmlp.md.cells import CELLS, along, by_strain, exponentials, external_work, flow, strain
from jaxmlp.md.controls import Controls
from jaxmlp.md.noise import normal
from jaxmlp.md.nose_hoover import NoseHoover
from jaxmlp.md.once import once
from jaxmlp.md.state import Atoms, State, kinetic_energy
from jaxmlp.md.thermostats import Langevin, Target, Thermostat
from jaxmlp.units import fs


class Piston(NamedTuple):
    """What a barostat remembers.

    Args:
        momentum: (n, 1) of the strain rates along E_a, eV time; zero for barostats without inertia.
        bath: memory of the piston's own thermostat.
        reference: (3, 3) Å, the cell at the start.
        heat: eV that moves without inertia gave to H + P V so far.
        work: eV that ramps of the pressure did so far.
        strain: (3, 3) of the last move without inertia whose work by the virial is not fully booked.
    """

    momentum: Array
    bath: Any
    reference: Array
    heat: Array
    work: Array
    strain: Array


@dataclass(frozen=True)
class Barostat:
    """A barostat: what it needs of `Controls`, and its place in the time step.

    Args:
        cell: a key of `CELLS`: how the cell may change.

    Class attributes:
        letter: its move in a splitting.
        needs: the controls it reads.
    """

    cell: str = "isotropic"
    letter: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ("temperature", "pressure", "tau_pressure")
    canonical: ClassVar[bool] = True

    def __post_init__(self):
        if self.cell not in CELLS:
            raise ValueError(f"a barostat moves the cell in one of {', '.join(CELLS)}; got {self.cell!r}.")

    def start(self, box: Array, atoms: Atoms, controls: Controls, key: Array) -> Piston:
        """Return the memory at the start."""
        zero = jnp.zeros((), box.dtype)
        momentum = jnp.zeros((len(CELLS[self.cell]), 1), box.dtype)
        return Piston(momentum, (), box, zero, zero, jnp.zeros_like(box))

    def work(self, box: Array, atoms: Atoms, controls: Controls, piston: Piston) -> Array:
        """Return Y, the potential energy (eV) of the cell: P V, less kT ln V where the centre of mass rests.

        With the total momentum removed, the kinetic pressure lacks kT/V, the pressure of the centre of mass: -kT ln V
        puts it back, so that an ideal gas of N atoms has <V> = (N + 1) kT / P with every thermostat.
        """
        resting = atoms.resting / 3 * controls.kT.mean()
        return external_work(box, controls.pressure, piston.reference) - resting * jnp.log(volume(box))

    def force(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return sum p (x) p / m + virial - dY/dstrain, (3, 3) eV."""
        if jnp.ndim(controls.pressure) == 0:  # dV/dstrain = V 1
            resting = atoms.resting / 3 * controls.kT.mean()
            work = (controls.pressure * volume(state.box) - resting) * jnp.eye(3, dtype=state.box.dtype)
        else:
            work = by_strain(lambda box: self.work(box, atoms, controls, state.piston), state.box)
        return flow(self.cell, state.p, atoms.mass) + 0.5 * (state.virial + state.virial.T) - work

    def energy(self, state: State, atoms: Atoms, controls: Controls, start: Controls) -> Array:
        """Return what makes, with the energies of atoms and thermostat, the conserved quantity, eV."""
        piston = state.piston
        return self.work(state.box, atoms, controls, piston) - piston.heat - piston.work

    def ramped(self, state: State, atoms: Atoms, old: Controls, new: Controls) -> State:
        """Return the state with the work of a change of controls at a fixed cell booked."""
        piston = state.piston
        difference = self.work(state.box, atoms, new, piston) - self.work(state.box, atoms, old, piston)
        return state._replace(piston=piston._replace(work=piston.work + difference))

    def settled(self, state: State) -> State:
        """Return the state after new forces: what waited for the virial is booked."""
        return state


@dataclass(frozen=True)
class MTK(Barostat):
    """Martyna-Tobias-Klein barostat: the strain rate X = sum_a x_a E_a is a variable with inertia.

    dR/dt = p/m + R X, dp/dt = F - p (X + tr X / dof), dbox/dt = box X, W dx_a/dt = tr(G E_a) with
    G = sum p (x) p / m + virial - dY/dstrain + (2 K / dof) 1. Martyna, Tobias, Klein, J. Chem. Phys. 101, 4177 (1994),
    Eqs. (2.9)-(2.10), in the factorised form of Martyna et al., Mol. Phys. 87, 1117 (1996); W = (dof + 3) kT
    tau_pressure^2 / 3 belongs to the kinetic energy W tr(X X) / 2 of every cell, isotropic ones too. The distribution
    of the volume is that of the isothermal-isobaric ensemble, exp(-P V / kT) dV; for flexible cells V^(1 - d) dbox.

    Args:
        thermostat: of the piston, with tau = tau_pressure: a Nose-Hoover chain, `Langevin` (a Langevin piston, Feller
            et al., J. Chem. Phys. 103, 4613 (1995)), or None (constant enthalpy where the atoms have none either).
    """

    thermostat: Thermostat | None = None
    letter: ClassVar[str] = "G"

    def __post_init__(self):
        super().__post_init__()
        if not (self.thermostat is None or isinstance(self.thermostat, NoseHoover | Langevin)):
            raise ValueError(f"a piston takes a Nose-Hoover chain, Langevin or None; got {self.thermostat!r}.")

    def target(self, atoms: Atoms, controls: Controls, start: Controls) -> Target:
        """Return what the piston's thermostat acts on."""
        tau = controls.tau_pressure * fs
        kT, kT0 = controls.kT.mean(), start.kT.mean()
        W = (atoms.dof + 3) * kT0 * tau * tau / 3
        n = jnp.asarray(float(len(CELLS[self.cell])), tau.dtype)
        return Target(W, kT, n, 1 / tau, tau, kT0)

    def start(self, box, atoms, controls, key):
        piston = super().start(box, atoms, controls, key)
        if self.thermostat is None:
            return piston
        draw, rest = jax.random.split(key)
        target = self.target(atoms, controls, controls)
        momentum = jnp.sqrt(target.mass * target.kT) * normal(draw, piston.momentum.shape, box.dtype)
        return piston._replace(momentum=momentum, bath=self.thermostat.start(momentum, target, rest))

    def rate(self, state: State, atoms: Atoms, controls: Controls, start: Controls) -> Array:
        """Return the strain rate X, (3, 3) 1/time."""
        return strain(self.cell, state.piston.momentum[:, 0] / self.target(atoms, controls, start).mass)

    def push(self, state: State, atoms: Atoms, controls: Controls, h: Array) -> State:
        """Solve W dx/dt = tr(G E) at fixed positions, momenta and cell."""
        G = self.force(state, atoms, controls)
        G = G + 2 * kinetic_energy(state.p, atoms.mass) / atoms.dof * jnp.eye(3, dtype=G.dtype)
        piston = state.piston
        momentum = piston.momentum + h * along(self.cell, G)[:, None]
        return state._replace(piston=piston._replace(momentum=momentum))

    def drift(self, state: State, atoms: Atoms, X: Array, h: Array) -> State:
        """Solve dR/dt = p/m + R X and dbox/dt = box X at a fixed rate X."""
        grow, phi = exponentials(h * X)
        return state._replace(R=times(state.R, grow) + h * times(state.p / atoms.mass, phi), box=state.box @ grow)

    def kick(self, state: State, atoms: Atoms, X: Array, h: Array) -> State:
        """Solve dp/dt = F - p (X + tr X / dof) at fixed positions and rate X."""
        brake = X + jnp.trace(X) / atoms.dof * jnp.eye(3, dtype=X.dtype)
        shrink, phi = exponentials(-h * brake)
        return state._replace(p=once(times(state.p, shrink) + h * times(state.F, phi)))

    def bathe(self, state: State, atoms: Atoms, controls: Controls, start: Controls, h: Array, key: Array) -> State:
        """Apply the thermostat of the piston."""
        if self.thermostat is None:
            return state
        piston = state.piston
        target = self.target(atoms, controls, start)
        momentum, bath = self.thermostat(piston.momentum, piston.bath, target, h, key)
        return state._replace(piston=piston._replace(momentum=momentum, bath=bath))

    def energy(self, state, atoms, controls, start):
        target, piston = self.target(atoms, controls, start), state.piston
        energy = super().energy(state, atoms, controls, start) + target.kinetic(piston.momentum)
        return energy if self.thermostat is None else energy + self.thermostat.energy(piston.bath, target)


@dataclass(frozen=True)
class CellRescaling(Barostat):
    """Stochastic cell rescaling: first-order dynamics of the cell in the isothermal-isobaric ensemble.

    box -> box exp(e), R -> R exp(e), p -> p exp(-e) with e = sum_a x_a E_a and, for D = kT beta / (3 V tau_pressure),
    x_a = (D h / kT) tr(E_a (sum p (x) p / m + virial - dY/dstrain)) + sqrt(2 D h) noise. Isotropic: Bernetti, Bussi,
    J. Chem. Phys. 153, 114107 (2020), Eq. (5); others: Del Tatto, Raiteri, Bernetti, Bussi, Appl. Sci. 12, 1139 (2022).
    The kT/V of their Ito form for the cell is absent here: the exponential of the noise makes it.
    """

    letter: ClassVar[str] = "S"
    needs: ClassVar[tuple[str, ...]] = (*Barostat.needs, "compressibility")
    noise: ClassVar[bool] = True

    def rescale(self, state: State, atoms: Atoms, controls: Controls, h: Array, key: Array) -> State:
        """Move the cell by one step h with the virial of the last forces."""
        mobility = controls.compressibility / (3 * volume(state.box) * controls.tau_pressure * fs)
        x = mobility * h * along(self.cell, self.force(state, atoms, controls))
        if self.noise:
            draw = normal(key, x.shape, x.dtype)
            x = x + jnp.sqrt(2 * controls.kT.mean() * mobility * h) * draw
        e = strain(self.cell, x)
        grow, _ = exponentials(e)
        shrink, _ = exponentials(-e)
        p, box = once(times(state.p, shrink)), state.box @ grow
        piston = state.piston
        kinetic = 0.5 * jnp.sum((p * p - state.p * state.p) / atoms.mass)
        work = self.work(box, atoms, controls, piston) - self.work(state.box, atoms, controls, piston)
        # The potential energy changes by -tr(virial e): half of it by the virial before, half by that after the move.
        heat = piston.heat + kinetic + work - 0.5 * jnp.sum(state.virial * e)
        return state._replace(R=times(state.R, grow), p=p, box=box, piston=piston._replace(heat=heat, strain=e))

    def settled(self, state):
        piston = state.piston
        heat = piston.heat - 0.5 * jnp.sum(state.virial * piston.strain)
        return state._replace(piston=piston._replace(heat=heat, strain=jnp.zeros_like(piston.strain)))


@dataclass(frozen=True)
class BerendsenPressure(CellRescaling):
    """Weak coupling to a pressure: `CellRescaling` without noise. It relaxes the cell and samples no ensemble.

    Berendsen, Postma, van Gunsteren, DiNola, Haak, J. Chem. Phys. 81, 3684 (1984), Eq. (12).
    """

    noise: ClassVar[bool] = False
    canonical: ClassVar[bool] = False
