"""Ensembles: one step is a word of propagators."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxmlp.md.propagators import SUZUKI_YOSHIDA, chain_energy, drift, kick, nose_hoover_chain, ornstein_uhlenbeck
from jaxmlp.md.state import Atoms, Bath, Chain, Controls, Forces, State, kinetic_energy
from jaxmlp.units import fs

LETTERS = {"A": "drift", "B": "kick", "O": "Ornstein-Uhlenbeck", "C": "Nose-Hoover chain"}


@dataclass(frozen=True)
class Ensemble:
    """One time step as a word over A (drift), B (kick), O (Ornstein-Uhlenbeck) and C (Nose-Hoover chain).

    A letter that occurs n times acts for dt/n each time. "BAB" is velocity Verlet, "BAOAB" the Langevin splitting of
    Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34 (its relatives: "ABOBA", "OBABO", "BAOA"), "CBABC" a
    Nose-Hoover chain around velocity Verlet. Forces are evaluated before a kick that follows a drift, and where the
    step would end with forces older than its positions: once in all of these but "ABOBA", which takes two.

    Args:
        splitting: the word.
        chain: length M of the Nose-Hoover chain.
        order: number of Suzuki-Yoshida weights of the chain, 1, 3, 5 or 7.

    Raises:
        ValueError: a word without A and B or with other letters, with both thermostats, or a chain that is none.
    """

    splitting: str
    chain: int = 3
    order: int = 3

    def __post_init__(self):
        letters = set(self.splitting)
        if not {"A", "B"} <= letters <= set(LETTERS):
            known = ", ".join(f"{k} ({v})" for k, v in LETTERS.items())
            raise ValueError(f"a splitting is a word with A and B over {known}; got {self.splitting!r}.")
        if {"O", "C"} <= letters:
            raise ValueError(f"a splitting holds one thermostat, O or C; got {self.splitting!r}.")
        if self.chain < 1:
            raise ValueError(f"a Nose-Hoover chain needs at least one link (3 are usual); got chain={self.chain}.")
        if self.order not in SUZUKI_YOSHIDA:
            raise ValueError(f"order is a number of Suzuki-Yoshida weights, 1, 3, 5 or 7; got {self.order}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Controls` that this ensemble reads."""
        extra = {"O": ("temperature", "friction"), "C": ("temperature", "tau")}
        return ("dt", *(x for letter, names in extra.items() if letter in self.splitting for x in names))

    def bath(self, p: Array, mass: Array):
        """Return the thermostat's starting memory for momenta p (N, 3)."""
        if "C" in self.splitting:
            return Chain(jnp.zeros(self.chain, p.dtype), jnp.zeros(self.chain, p.dtype))
        if "O" in self.splitting:
            return Bath(jnp.zeros((), p.dtype), kinetic_energy(p, mass))
        return ()

    def step(self, state: State, atoms: Atoms, controls: Controls, forces: Forces) -> State:
        """Return the state one time step later."""
        mass, kT = atoms.mass, controls.kT
        current = True  # are the forces those at R?
        for letter in self.splitting:
            h = controls.dt * fs / self.splitting.count(letter)
            if letter == "A":
                state = drift(state, mass, h)
                current = False
            elif letter == "B":
                state = state if current else forces(state, atoms)
                state = kick(state, h)
                current = True
            elif letter == "O":
                state = ornstein_uhlenbeck(state, mass, kT, controls.friction / fs, h)
            else:
                state = nose_hoover_chain(state, mass, kT, controls.tau * fs, atoms.dof, h, order=self.order)
        state = state if current else forces(state, atoms)
        return state._replace(step=state.step + 1)

    def kinetic(self, state: State, atoms: Atoms) -> Array:
        """Return the kinetic energy (eV) whose mean is dof kT / 2 with the smallest error in dt; see `Bath`."""
        return state.bath.kinetic if isinstance(state.bath, Bath) else kinetic_energy(state.p, atoms.mass)

    def conserved(self, state: State, atoms: Atoms, controls: Controls) -> Array:
        """Return the conserved quantity, eV: total energy, less the heat received, plus the energy of the chain."""
        H = state.energy + kinetic_energy(state.p, atoms.mass)
        if isinstance(state.bath, Bath):
            return H - state.bath.heat
        if isinstance(state.bath, Chain):
            return H + chain_energy(state.bath, controls.kT, controls.tau * fs, atoms.dof)
        return H
