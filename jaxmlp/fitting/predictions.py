"""What a potential says of a batch, and its derivative by the parameters in one pass.

A loss L of energies, forces and virials has the derivative

    dL/dp = sum_b L_E dE_b/dp + sum_i L_F . dF_i/dp + sum_b L_W : dW_b/dp,

with F = -dE/dR and W = -dE/dstrain. The last two sums are the derivative by p of *one* directional derivative of the
energy, along displacements -L_F of the atoms and strains -L_W of the structures. What would be the reverse derivative
of a reverse derivative thus is the reverse derivative of a forward one: nothing of the forces' backward pass is kept or
differentiated, blocks of rows are worked on one by one, and the memory of a step is that of an energy's gradient.
`jax.grad` through the forces gives the same (and is the test of this).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.evaluate import DEFAULT, Execution, evaluate, in_rows, row_energies
from jaxmlp.fitting.batches import Batch
from jaxmlp.potential import Params, Potential


class Prediction(NamedTuple):
    """Energies (B,) eV, forces (N, 3) eV/Å and virials (B, 3, 3) eV of a batch; None for what was not asked for."""

    energy: Array
    forces: Array | None = None
    virial: Array | None = None


def by_structure(values: Array, batch: Batch) -> Array:
    """Sums (B, ...) of per-atom values (N, ...) over the atoms of each structure."""
    return jax.ops.segment_sum(values, batch.structure, len(batch.counts) + 1, indices_are_sorted=True)[:-1]


def check(potential: Potential) -> None:
    """Refuse potentials that cannot see many structures at once.

    Raises:
        ValueError: an energy that is not made of rows of neighbours.
    """
    members = getattr(potential, "members", ())
    for member in members:
        check(member)
    if not members and not (in_rows(potential) and potential.uses_neighbors):
        raise ValueError(
            f"{type(potential).__name__} depends on a whole system at once, or on its atoms by number: it cannot be "
            "trained on batches of structures."
        )


def predict(
    potential: Potential,
    params: Params,
    batch: Batch,
    *,
    forces: bool = True,
    virial: bool = False,
    execution: Execution = DEFAULT,
) -> Prediction:
    """Return energies, and forces and virials if asked for; in reverse mode differentiable by `params` only.

    Args:
        forces, virial: what to compute beside energies.
    """
    return _predictor(potential, forces, virial, execution)(params, batch)


def plain(potential: Potential, params: Params, batch: Batch, *, virial: bool = True, execution=DEFAULT) -> Prediction:
    """Return what `predict` does, in the form that JAX differentiates by itself, to every order and in both modes."""
    box = jnp.eye(3, dtype=batch.R.dtype)
    out = evaluate(potential, params, batch.R, box, batch.species, batch.neighbors, execution=execution)
    return Prediction(
        by_structure(out.energies, batch), out.forces, by_structure(out.virials, batch) if virial else None
    )


def hessian_product(potential: Potential, params: Params, batch: Batch, v: Array, execution: Execution) -> Array:
    """Return H v (N, 3) eV/Å^2 of all structures of a batch for v (N, 3): their Hessians are blocks of one."""

    def forces(R):
        return plain(potential, params, replace(batch, R=R), virial=False, execution=execution).forces

    return -jax.jvp(forces, (batch.R,), (v,))[1]


def _energies(potential, params, R, image, batch: Batch, execution) -> Array:
    """Site energies (N,) as a function of the positions and of the vectors of images."""
    neighbors = replace(batch.neighbors, image=image)
    box = jnp.eye(3, dtype=R.dtype)
    total = jnp.zeros_like(R[:, 0])
    for term, p, weight in potential.terms(params):
        total += weight * row_energies(term, p, R, box, batch.species, neighbors, execution)
    return total


def _predictor(potential: Potential, forces: bool, virial: bool, execution: Execution) -> Callable:
    @jax.custom_vjp
    def run(params, batch: Batch) -> Prediction:
        if not (forces or virial):
            sites = _energies(potential, params, batch.R, batch.neighbors.image, batch, execution)
            return Prediction(by_structure(sites, batch))
        out = plain(potential, params, batch, virial=virial, execution=execution)
        return out if forces else out._replace(forces=None)

    def forward(params, batch):
        return run(params, batch), (params, batch)

    def backward(kept, slope: Prediction):
        params, batch = kept
        own = jnp.append(slope.energy, 0)[batch.structure]
        zero = jnp.zeros((), batch.R.dtype)
        d_R, d_image = jnp.zeros_like(batch.R), jnp.zeros_like(batch.neighbors.image)
        if slope.forces is not None:
            d_R -= jnp.where(batch.real[:, None], slope.forces, zero)
        if slope.virial is not None:
            strain = jnp.concatenate([slope.virial, jnp.zeros_like(slope.virial[:1])])[batch.structure]  # (N, 3, 3)
            moved = lambda x, s: jnp.einsum("na,nab->nb", x, s, precision="highest")
            d_R -= moved(batch.R, strain)
            d_image -= moved(batch.neighbors.image, strain[batch.neighbors.owner])

        def work(p):
            of = partial(_energies, potential, p, batch=batch, execution=execution)
            if slope.forces is None and slope.virial is None:
                return jnp.sum(own * of(batch.R, batch.neighbors.image))
            sites, change = jax.jvp(of, (batch.R, batch.neighbors.image), (d_R, d_image))
            return jnp.sum(own * sites) + jnp.sum(change)

        return jax.grad(work, allow_int=True)(params), _no_slope(batch)

    run.defvjp(forward, backward)
    return run


def _no_slope(batch: Batch) -> Batch:
    """Zeros: nothing is differentiated by a batch."""

    def zero(x):
        return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(zero, batch)
