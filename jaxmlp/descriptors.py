"""Descriptors of atoms by themselves, without a potential."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jax import Array

from jaxmlp.energy import site_fn
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System


@dataclass(frozen=True)
class _Described(Potential):
    """What `site_fn` needs of a descriptor: it is restricted to the species of a system by naming them."""

    descriptor: Any
    species: tuple[int, ...]
    cutoff: float = field(init=False)
    block: ClassVar[int] = 64

    def __post_init__(self):
        object.__setattr__(self, "cutoff", self.descriptor.cutoff)

    def vectors(self, params: Params, graph: Graph) -> Array:
        return self.descriptor.vectors(self.species, graph)


def descriptor_fn(
    descriptor: Any, system: System, *, skin: float = 0.0, headroom: float = 0.1, block: int | None = None
) -> Callable[[Array, Array | None], Array]:
    """Return the pure function f(R, box) -> (N, D): the descriptor's vectors of all atoms of `system`.

    Differentiable to every order; with overflowed neighbours the values are NaN. `jit` it.

    Args:
        descriptor: with a `cutoff` (Å) and `vectors(numbers, graph)`: `basis.soap.SOAP`, `basis.soap_turbo.SOAPTurbo`.
        skin, headroom, block: as for `energy_fn`.
    """
    described = _Described(descriptor, tuple(sorted(set(system.numbers.tolist()))))
    vectors = site_fn(described, system, "vectors", skin=skin, headroom=headroom, block=block)
    return lambda R, box: vectors(R, box, {})
