"""Monte Carlo walks: what trials change, what they leave alone, and when they are accepted.

A trial that would change the weight of a configuration by the factor w is accepted with the probability min(1, w):
Metropolis, Rosenbluth, Rosenbluth, Teller, Teller, J. Chem. Phys. 21, 1087 (1953). Every proposal is as likely as its
reverse. A trial whose energy is not a number ends the walk there, so that the driver sees it, whatever it was: a
neighbour list that is too small, or a potential far outside of what it knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.md.state import Atoms
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.sampling.differences import Change, Configuration, Energies


class Tally(NamedTuple):
    """What Monte Carlo remembers of a number of moves; it stands in `State.bath`.

    Args:
        bath: the memory of the thermostat of the dynamics between the moves, () without.
        tried, accepted: (moves,) int32, trials so far; both are halved before they grow too large.
        heat: eV that accepted trials added to the energy.
    """

    bath: Any
    tried: Array
    accepted: Array
    heat: Array

    @classmethod
    def none(cls, bath: Any, moves: int, dtype) -> "Tally":
        """Return the memory before any trial."""
        zero = jnp.zeros(moves, jnp.int32)
        return cls(bath, zero, zero, jnp.zeros((), dtype))

    def counted(self, tried: Array, accepted: Array, heat: Array) -> "Tally":
        """Return the memory after more trials, (moves,), that added the energy `heat`."""
        share = jnp.where(self.tried > 2**29, 2, 1)
        return self._replace(
            tried=self.tried // share + tried, accepted=self.accepted // share + accepted, heat=self.heat + heat
        )


class Walk(NamedTuple):
    """What trials change.

    Args:
        place: where the walk is.
        rest: `Energies.rest` there, eV.
        heat: eV that accepted trials added; not finite after a trial whose energy was not a number.
    """

    place: Configuration
    rest: Array
    heat: Array


@dataclass(frozen=True)
class Setting:
    """What trials leave alone. Made and used inside one jitted function.

    Args:
        energies, search: of configurations: energies and neighbour lists.
        atoms: which of them are held.
        controls: `Controls` at the step.
        on: False where no trial is made.
    """

    energies: Energies
    search: NeighborSearch
    atoms: Atoms
    controls: Any
    on: Array

    @property
    def mobile(self) -> Array:
        """(N,) bool, False for atoms that are held fixed: they take no part."""
        held = self.atoms.mobile
        return jnp.ones(self.atoms.species.shape, bool) if held is None else held[:, 0] > 0

    def accepts(self, walk: Walk, energy: Array, luck: Array) -> Array:
        """Return whether a trial is accepted that takes the weight times exp(-energy / kT).

        Args:
            energy: eV, with all that is in the weight besides the potential.
            luck: what `lucks` returns, for this trial.
        """
        kT = jnp.mean(self.controls.kT)  # at 0 K what does not raise the energy is accepted
        x = energy / jnp.maximum(kT, jnp.finfo(kT.dtype).tiny)
        return jnp.isfinite(walk.heat) & ~(luck < x)  # a NaN is accepted, and seen

    def tried(self, walk: Walk, change: Change, more: Array | float, luck: Array) -> tuple[Walk, Array]:
        """Return the walk after a trial, and whether it was accepted.

        Args:
            more: eV that the change adds to what is in the weight besides the potential.
            luck: as for `accepts`.
        """
        energy, rest = self.energies.difference(walk.place, change, walk.rest)
        accepted = self.accepts(walk, energy + more, luck)
        rest, energy = jnp.where(accepted, rest, walk.rest), jnp.where(accepted, energy, 0.0)
        return Walk(walk.place.after(change, accepted), rest, walk.heat + energy), accepted

    def repeated(self, trial: Callable[..., Any], n: int | Array, walk: Walk, *memory: Any) -> tuple[Walk, Array]:
        """Return the walk after n trials, and how many were accepted.

        Args:
            trial: (k, walk, *memory) -> (walk, accepted, *memory) of the trial k.
        """

        def one(k, carry):
            walk, count, *memory = carry
            walk, accepted, *memory = trial(k, walk, *memory)
            return walk, count + accepted.astype(jnp.int32), *memory

        zero = jnp.zeros((), jnp.int32)
        walk, count, *_ = lax.fori_loop(zero, jnp.where(self.on, n, 0).astype(jnp.int32), one, (walk, zero, *memory))
        return walk, count


def lucks(key: Array, n: int, dtype) -> Array:
    """Return what n trials may add to E / kT, (n,): -ln u, with u uniform between 0 and 1.

    From 1 - u in [0, 1), so that u is never 0: in float32 one draw of 10^7 would accept whatever is tried.
    """
    return jax.random.exponential(key, (n,), dtype)


@dataclass(frozen=True)
class Move:
    """A number of trials of one kind.

    Args:
        trials: a step; None takes as many as there are atoms.

    Class attributes:
        name: in the log.
        needs: the fields of `Controls` that it reads, besides the temperature.
        transmutes: it changes the species of atoms.
    """

    trials: int | None = None
    name: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    transmutes: ClassVar[bool] = False

    def __post_init__(self):
        if self.trials is not None and not (isinstance(self.trials, int | np.integer) and self.trials >= 1):
            raise ValueError(f"trials is the number of {self.name} trials a step, 1 or more; got {self.trials!r}.")

    def number(self, n: int) -> int:
        """Return the number of trials a step for n atoms."""
        return n if self.trials is None else int(self.trials)

    def bias(self, counts: Array, controls: Any) -> Array:
        """Return what stands in the weight besides the energy (and P V), eV, for numbers of atoms (S,) of species."""
        return jnp.zeros((), controls.dt.dtype)

    def __call__(self, walk: Walk, setting: Setting, key: Array) -> tuple[Walk, Array]:
        """Return the walk after the trials of a step, and how many were accepted."""
        raise NotImplementedError(f"{type(self).__name__} defines no trials.")
