"""The work done by parameters of a potential that change with the step, and the potential at a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.energy import total_energy
from jaxmlp.evaluate import Execution
from jaxmlp.md.controls import Ramp, at
from jaxmlp.neighbors import Neighbors
from jaxmlp.potential import Params, Potential


class Work(NamedTuple):
    """What a state remembers where parameters change.

    A step takes parameters p to p'. The energy E(R, p') - E(R, p) of this change is booked in halves, one at the
    positions before the step and one at those after it, so that a path and its reverse do exactly opposite work.

    Args:
        done: eV, the sum over the steps so far.
        back: eV, the change of the energy at R when the parameters of the step before became those of this one.
        ahead: eV, the change when those of this step become those of the next one.
    """

    done: Array
    back: Array
    ahead: Array

    @classmethod
    def none(cls, dtype) -> "Work":
        return cls(*(jnp.zeros((), dtype) for _ in cls._fields))

    def booked(self, ahead: Array) -> "Work":
        """Return the work after a step whose start had `ahead`."""
        return self._replace(done=self.done + 0.5 * (ahead + self.back))


def changes(
    potential: Potential,
    params: Params,
    step: Array,
    parts: tuple[Array, ...],
    R: Array,
    box: Array | None,
    species: Array,
    neighbors: Neighbors,
    execution: Execution,
) -> tuple[Array, Array]:
    """Return `back` and `ahead` of `Work` at a step.

    The energy is sum_k w_k E_k over the terms of the potential. Where only weights change, as on the way from one
    potential to another, this costs nothing: dE = sum_k E_k dw_k. A term whose own parameters change is differentiated
    along them, which is exact for parameters in which it is linear or quadratic.

    Args:
        params: with ramps.
        parts: E_k at the step, of `Evaluation`.
    """
    constant = {id(x) for x in jax.tree.leaves(params, is_leaf=_ramp) if not _ramp(x)}
    before, now, after = (potential.terms(at(params, step + d)) for d in (-1, 0, 1))
    back = ahead = jnp.zeros((), R.dtype)
    for (_, p0, w0), (term, p, w), (_, p1, w1), part in zip(before, now, after, parts, strict=True):
        back, ahead = back + (w - w0) * part, ahead + (w1 - w) * part
        if all(id(x) in constant for x in jax.tree.leaves(p)):
            continue
        energy = lambda p, term=term: total_energy(term, p, R, box, species, neighbors, execution=execution)
        slope = jax.grad(energy, allow_int=True)(p)
        back, ahead = back + w * _along(slope, p0, p), ahead + w * _along(slope, p, p1)
    return back, ahead


def _ramp(x) -> bool:
    return isinstance(x, Ramp)


def _along(slope: Params, start: Params, end: Params) -> Array:
    """The scalar product of a gradient and a change of parameters."""
    pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(start), jax.tree.leaves(end))
    total = jnp.zeros(())
    for g, a, b in pairs:
        if jnp.issubdtype(jnp.asarray(b).dtype, jnp.floating):
            total = total + jnp.sum(g * (b - a))
    return total
