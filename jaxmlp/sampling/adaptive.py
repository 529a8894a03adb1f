"""What bias potentials that grow along a simulation share: their memory is their parameters."""

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.sampling import kernels as kn
from jaxmlp.sampling.bias import Bias

Memory = TypeVar("Memory", bound=Any)


@dataclass(frozen=True, kw_only=True)
class Adaptive(Bias):
    """A bias made of Gaussians, one of which is deposited every `pace` steps where the simulation is.

    The potential is a set of numbers; what it has learnt is its `memory`, a NamedTuple of arrays of fixed capacity with
    at least `kernels` and `kT`, which stands where other potentials have parameters:

        memory = bias.start(kT)
        energy = energy_fn(potential + bias, system)                      # E(R, box, (params, memory))
        memory = bias.updated(memory, bias.variables(graph), kT)          # inside jit, every `pace` steps

    When a Gaussian does not fit into the memory, `overflowed` is True and the bias NaN: go back to the memory from
    before, and go on with `enlarged`. Forces change abruptly where a Gaussian is deposited.

    Args:
        width: standard deviations of the Gaussians, one for each component or one for all, in the unit of s. Half to a
            third of the fluctuation in a basin.
        pace: steps between depositions.
        capacity: room for Gaussians at the start.
    """

    width: tuple[float, ...]
    pace: int = 500
    capacity: int = 256

    def __post_init__(self):
        super().__post_init__()
        name, d = type(self).__name__, self.cv.size
        width = np.atleast_1d(np.asarray(self.width, float))
        if width.shape not in ((1,), (d,)) or not ((width > 0) & (width < np.inf)).all():
            raise ValueError(f"{name}.width must be {d} positive numbers, one for each component; got {self.width}.")
        object.__setattr__(self, "width", tuple(np.broadcast_to(width, d).tolist()))
        for field in ("pace", "capacity"):
            if not (isinstance(getattr(self, field), int | np.integer) and getattr(self, field) >= 1):
                raise ValueError(f"{name}.{field} is a whole number, at least 1; got {getattr(self, field)!r}.")

    def start(self, kT, dtype=float):
        """Return the memory of a simulation that begins, kT in eV."""
        raise NotImplementedError(f"{type(self).__name__} defines no start.")

    def updated(self, memory: Memory, s: Array, kT: Array) -> Memory:
        """Return the memory after a deposition at s (d,), kT in eV. Inside jit."""
        raise NotImplementedError(f"{type(self).__name__} defines no updated.")

    def overflowed(self, memory: Memory) -> Array:
        """Return True where a Gaussian did not fit into the memory, a bool."""
        return kn.overflowed(memory.kernels)

    def enlarged(self, memory: Memory) -> Memory:
        """Return the same memory with room for twice as many Gaussians. On the host.

        Raises:
            ValueError: it has overflowed, so that a Gaussian is lost.
        """
        return memory._replace(kernels=kn.enlarged(memory.kernels))

    def tempering(self, kT: Array) -> Array | float:
        """Return gamma, by which the bias divides the free energy that remains."""
        raise NotImplementedError(f"{type(self).__name__} defines no tempering.")

    def free_energy(self, memory: Memory, s) -> Array:
        """Return F(s) = -gamma / (gamma - 1) V(s), (G,) eV, at points s (G,) or (G, d), its minimum over them at 0."""
        points = jnp.asarray(s, memory.kernels.centers.dtype)
        if points.ndim == 1:
            points = points[:, None]
        if points.shape[1:] != (self.cv.size,):
            raise ValueError(f"s must be (points, {self.cv.size}); got shape {jnp.shape(s)}.")
        F = -jax.vmap(lambda s: self.bias(memory, s))(points) / (1 - 1 / self.tempering(memory.kT))
        return F - jnp.min(F)
