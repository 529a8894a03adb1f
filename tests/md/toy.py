"""Particles in a cosine lattice that deforms with its cell: every integrator runs on it, and compiles in a second.

E = sum_i sum_d a (1 - cos 2 pi s_id) + b |F F^T - 1|^2 + anisotropic springs between successive particles,
with s = R box^-1 and F = box / side; forces and virial by `jax.grad`. Å, eV, amu; times in Å (amu/eV)^(1/2).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp import md
from jaxmlp.evaluate import Evaluation
from jaxmlp.geometry import inverse, strained
from jaxmlp.md.bead_forces import BeadForces
from jaxmlp.md.recording import Dynamics
from jaxmlp.units import fs, kB

UNIT = 1 / fs  # the time unit in fs
SIDE = 4.0


class NoLists(NamedTuple):
    """Stands where neighbour lists stand."""

    overflow: Array


def energy(R: Array, box: Array, params: dict) -> Array:
    s = R @ inverse(box)
    bond = R - jnp.roll(R, 1, axis=0)
    lattice = params["a"] * jnp.sum(1 - jnp.cos(2 * jnp.pi * s))
    springs = 0.02 * jnp.sum(bond**2) + 0.002 * jnp.sum(bond[:, 0] * bond[:, 1])
    F = box / SIDE
    return lattice + params["b"] * jnp.sum((F @ F.T - jnp.eye(3)) ** 2) + springs


def evaluation(R: Array, box: Array, params: dict) -> Evaluation:
    F = -jax.grad(energy)(R, box, params)
    virial = -jax.grad(lambda e: energy(*strained(R, box, e), params))(jnp.zeros((3, 3)))
    return Evaluation(energy(R, box, params), jnp.zeros(len(R)), F, virial, jnp.zeros((len(R), 3, 3)), None)


class Forces(md.Forces):
    def listed(self, state):
        return state

    def _evaluate(self, potential, state, atoms):
        return evaluation(state.R, state.box, atoms.params)


class Beads(BeadForces):
    def listed(self, state):
        return state

    def _one(self, potential, atoms, R, box, lists):
        return evaluation(R, box, atoms.params)


class Toy(NamedTuple):
    """Static dynamics, and what it runs on; stands where a `Simulation` stands for `rollout`."""

    dynamics: Dynamics
    state: md.State
    atoms: md.Atoms
    controls: md.Controls

    def steps(self, n: int, observe=lambda state: None):
        """Return a compiled function (state, controls, atoms) -> state after n steps, and what was observed."""

        def run(state=self.state, controls=self.controls, atoms=self.atoms):
            def one(state, _):
                state = self.dynamics.step(state, atoms, controls)
                return state, observe(state)

            return jax.lax.scan(one, state, length=n)

        return jax.jit(run)

    def conserved(self, state: md.State) -> Array:
        out = self.dynamics.forces.evaluate(state, self.atoms)
        state = state._replace(
            energy=self.dynamics.ensemble.energy(state, out, self.atoms, self.controls, self.dynamics.forces)
        )
        return self.dynamics.ensemble.conserved(state, self.atoms, self.controls)


CONTROLS = {
    "dt": 0.1 * UNIT,
    "temperature": 0.3 / kB,
    "friction": 0.5 / UNIT,
    "tau": 1.0 * UNIT,
    "gle": md.GLEMatrices(np.array([[0.2, 0.7], [-0.7, 1.0]]) / UNIT),
    "pressure": 0.02,
    "tau_pressure": 4.0 * UNIT,
    "compressibility": 10.0,
    "mode_frequency": 4.0 / UNIT,
}


def toy(ensemble: md.Ensemble, n: int = 5, seed: int = 0, **controls) -> Toy:
    """Return n particles near the minima of a slightly skewed cell, at kT = 0.3 eV."""
    rng = np.random.default_rng(seed)
    chosen = {name: x for name, x in (CONTROLS | controls).items() if name in ensemble.needs}
    as_arrays = jax.tree.map(jnp.asarray, md.Controls(**chosen))
    mass = jnp.asarray(rng.uniform(0.8, 1.5, (n, 1)))
    dof = 3.0 * n - (3 if ensemble.keeps_momentum else 0)
    atoms = md.Atoms(
        {"a": jnp.asarray(0.5), "b": jnp.asarray(6.0)}, None, mass, jnp.asarray(dof),
        jnp.asarray(3.0 if ensemble.keeps_momentum else 0.0),
    )  # fmt: skip
    box = jnp.asarray(SIDE * (np.eye(3) + 0.05 * rng.normal(size=(3, 3))))
    R = jnp.asarray(0.1 * rng.normal(size=(n, 3)))
    p = md.thermal_momenta(jax.random.key(seed), mass, jnp.asarray(0.3))
    beads = getattr(ensemble, "beads", 0)
    zero = jnp.zeros(())
    lists = NoLists(jnp.zeros(beads or (), bool))
    state = md.State(R, p, jnp.zeros_like(R), zero, box, lists, (), jax.random.key(seed + 1), jnp.int32(0))
    state = ensemble.start(state, atoms, as_arrays)
    virial = ensemble.barostat is not None
    if beads:
        forces = Beads(None, None, None, virial, beads=beads, scheme=ensemble.scheme)
    else:
        forces = Forces(None, None, None, virial)
    dynamics = Dynamics(ensemble, forces)
    state = dynamics.started(state, atoms, as_arrays)
    return Toy(dynamics, state, atoms, as_arrays)


CHAIN = md.NoseHoover(3)
CLASSICAL = {
    "NVE": md.Ensemble("BAB"),
    "Langevin": md.Ensemble("BAOAB", md.Langevin()),
    "Nose-Hoover": md.Ensemble("OBABO", CHAIN),
    "CSVR": md.Ensemble("OBABO", md.CSVR()),
    "Berendsen": md.Ensemble("OBABO", md.Berendsen()),
    "GLE": md.Ensemble("OBABO", md.GLE()),
    "NPH": md.Ensemble("GBABG", None, md.MTK("isotropic")),
    "MTK isotropic": md.Ensemble("OGBABGO", CHAIN, md.MTK("isotropic", CHAIN)),
    "MTK triclinic": md.Ensemble("OGBABGO", CHAIN, md.MTK("triclinic", CHAIN)),
    "Langevin piston": md.Ensemble("OGBABGO", md.Langevin(), md.MTK("orthorhombic", md.Langevin())),
    "rescaling isotropic": md.Ensemble("OBASABO", md.CSVR(), md.CellRescaling("isotropic")),
    "rescaling triclinic": md.Ensemble("BAOSOAB", md.Langevin(), md.CellRescaling("triclinic")),
    "Berendsen pressure": md.Ensemble("OBASABO", md.Berendsen(), md.BerendsenPressure("tetragonal")),
}


def ring(word: str, thermostat=None, barostat=None, internal=None, **options) -> md.RingPolymer:
    return md.RingPolymer(word, thermostat, barostat, beads=4, internal=internal, **options)


QUANTUM = {
    "PILE-L": ring("BAOAB", md.Langevin(), internal=md.PILE()),
    "PILE-G": ring("OBABO", md.CSVR(), internal=md.PILE(), method="exact"),
    "PIGLET": ring("BAOAB", md.GLE(), internal=md.GLE()),
    "RPMD": ring("BAB"),
    "TRPMD": ring("BAOAB", internal=md.PILE(0.5)),
    "CMD": ring("BAOAB", internal=md.PILE(0.5), adiabatic=True),
    "Suzuki-Chin": ring("BAOAB", md.Langevin(), internal=md.PILE(), scheme="suzuki-chin"),
    "Takahashi-Imada": ring("BAOAB", md.Langevin(), internal=md.PILE(), scheme="takahashi-imada"),
    "NPT rescaling": ring("BAOSOAB", md.Langevin(), md.CellRescaling("isotropic"), md.PILE()),
    "NPT MTK": ring("OGBABGO", CHAIN, md.MTK("triclinic", CHAIN), md.PILE()),
}
