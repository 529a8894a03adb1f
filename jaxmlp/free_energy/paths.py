"""Paths from one Hamiltonian to another: parameters of a potential with ramps over x = 0 ... 1."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.combinators import Interpolation, interpolate
from jaxmlp.energy import total_energy
from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.md.controls import Ramp, SmoothRamp, at
from jaxmlp.neighbors import Neighbors
from jaxmlp.potential import Params, Potential


def path(
    a: Potential, params_a: Params, b: Potential, params_b: Params, ramp: type[Ramp] = SmoothRamp
) -> tuple[Interpolation, Params]:
    """Return potential and parameters of the path E = (1 - s) E_a + s E_b, s = 0 ... 1.

    Other paths are potentials with a `md.Ramp(start, stop, 1)` in place of any of their parameters.

    Args:
        ramp: how s depends on the time of a switch: `md.SmoothRamp`, `md.Ramp` (linear) or `md.InverseRamp`.

    Raises:
        ValueError: the potentials do not have the same species in the same order.
    """
    return interpolate(a, b), {"x": ramp(0.0, 1.0, 1), "a": params_a, "b": params_b}


def checked_path(params: Params) -> Params:
    """Return `params` as they are.

    Raises:
        ValueError: they hold no ramp, or one that does not go from 0 to 1.
    """
    found = [x for x in jax.tree.leaves(params, is_leaf=_is_ramp) if _is_ramp(x)]
    if not found:
        raise ValueError(
            "a path needs a ramp among its parameters: see `free_energy.path`, or put md.Ramp(start, stop, 1) in place "
            "of the parameter that changes."
        )
    for x in found:
        if int(x.first) != 0 or int(x.last) != 1:
            raise ValueError(f"ramps of a path go from 0 to 1; got one from {x.first} to {x.last}.")
    return params


def stretched(params: Any, first: int, steps: int, *, back: bool = False) -> Any:
    """Return a path's parameters (or controls) with ramps from step `first` on, `steps` steps long.

    Args:
        back: from x = 1 to 0.
    """

    def stretch(x):
        if not _is_ramp(x):
            return x
        step = lambda n: jnp.full(jnp.shape(x.first), n, jnp.int32)  # of replicas one for each
        there = x._replace(first=step(first), last=step(first + steps))
        return there.reversed() if back else there

    return jax.tree.map(stretch, params, is_leaf=_is_ramp)


def point(params: Any, x: Array | float) -> Any:
    """Return the parameters at a point 0 <= x <= 1 of a path."""
    return at(params, jnp.asarray(x, float))


def weights(potential: Potential, params: Params, x: Array) -> Array | None:
    """Return the weights (terms,) at x of the energies `Evaluation.parts`, or None where more than weights changes.

    Then E(x) = sum_k w_k(x) E_k: one evaluation knows the energies at all points of the path, and the slope.
    """
    now = at(params, x)
    constant = {id(leaf) for leaf in jax.tree.leaves(params, is_leaf=_is_ramp) if not _is_ramp(leaf)}
    terms = potential.terms(now)
    if any(id(leaf) not in constant for _, p, _ in terms for leaf in jax.tree.leaves(p)):
        return None
    return jnp.stack([jnp.asarray(w, float) for _, _, w in terms])


def energies(
    potential: Potential,
    params: Params,
    x: Array,
    R: Array,
    box: Array | None,
    species: Array,
    neighbors: Neighbors,
    execution: Execution = DEFAULT,
) -> tuple[Array, Array]:
    """Return E and dE/dx (eV) at a point of a path, for positions R with a neighbour list."""
    energy = lambda x: total_energy(potential, at(params, x), R, box, species, neighbors, execution=execution)
    return jax.jvp(energy, (x,), (jnp.ones_like(x),))


def within(x: Array | float) -> Array:
    """Return 0 <= x <= 1 moved off the ends, where ramps have a kink, by less than anybody sees."""
    return jnp.clip(jnp.asarray(x, float), 1e-12, 1 - 1e-12)


def _is_ramp(x: Any) -> bool:
    return isinstance(x, Ramp)
