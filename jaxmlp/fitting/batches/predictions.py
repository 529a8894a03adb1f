"""What a potential says of a batch, and its derivative by the parameters in one pass.

A loss L of energies, forces and virials has the derivative

    dL/dp = sum_b L_E dE_b/dp + sum_i L_F . dF_i/dp + sum_b L_W : dW_b/dp,

with F = -dE/dR and W = -dE/dstrain. The last two sums are the derivative by p of *one* directional derivative of the
energy, along displacements -L_F of the atoms and strains -L_W of the structures. What would be the reverse derivative
of a reverse derivative thus is the reverse derivative of a forward one: nothing of the forces' backward pass is kept or
differentiated, blocks of rows are worked on one by one, and the memory of a step is that of an energy's gradient.
`jax.grad` through the forces gives the same (and is the test of this).

Dipoles and charges are what the potential itself says of its atoms; JAX differentiates them by the parameters.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.combinators import Sum, summands
from jaxmlp.evaluate import DEFAULT, Execution, evaluate, full_graph, map_rows, row_energies
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.whole import energies_whole, evaluate_whole, sites_whole
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential


class Prediction(NamedTuple):
    """Energies (B,) eV, forces (N, 3) eV/Å, virials (B, 3, 3) eV, dipoles (B, 3) e Å and charges (N,) e of a batch;
    None for what was not asked for."""

    energy: Array  # None for a model of dipoles, of which nothing asks it
    forces: Array | None = None
    virial: Array | None = None
    dipole: Array | None = None
    charges: Array | None = None


QUANTITIES = {"dipole": "dipoles", "charges": "charges"}  # what a potential calls what it says of its atoms


def by_structure(values: Array, batch: Batch) -> Array:
    """Sums (B, ...) of per-atom values (N, ...) over the atoms of each structure."""
    return jax.ops.segment_sum(values, batch.structure, len(batch.counts) + 1, indices_are_sorted=True)[:-1]


def has_energy(potential: Potential) -> bool:
    """Whether a potential is one; models of dipoles and polarizabilities have tensors in place of energies."""
    return not hasattr(potential, "site_tensors")


def check(potential: Potential, kinds: tuple[str, ...] = ("energy",)) -> None:
    """Refuse potentials that cannot be fitted to labels of some kinds.

    Raises:
        ValueError: energies that depend on atoms by their numbers, or on nothing but places in space; labels that the
            potential does not predict.
    """
    members = getattr(potential, "members", ())
    for member in members:
        check(member, ())
    name = type(potential).__name__
    if not members and not potential.uses_neighbors:
        raise ValueError(
            f"{name} depends on atoms by their numbers or places, not on neighbours: it cannot be trained on batches "
            "of structures."
        )
    for kind in kinds:
        if kind in QUANTITIES and not predicts(potential, kind):
            raise ValueError(
                f"{name} predicts no {QUANTITIES[kind]}: leave {kind} out of the loss, or take a model that does (nep "
                "with charge_mode for charges and dipoles, with model_type: 1 for dipoles)."
            )
        if kind not in QUANTITIES and not has_energy(potential):
            raise ValueError(f"{name} has no energies: of the loss, only dipole can be positive.")


def predicts(potential: Potential, kind: str) -> bool:
    """Whether a potential, or a member of a sum, says anything of "dipole" or "charges"."""
    return any(_defines(QUANTITIES[kind], part) for part in _parts(potential))


def _defines(quantity: str, potential: Potential) -> bool:
    return callable(getattr(potential, quantity, None))


def _parts(potential: Potential) -> list[Potential]:
    """The members of a sum, and of the sums among them, or the potential itself."""
    return [q for m in potential.members for q in _parts(m)] if isinstance(potential, Sum) else [potential]


def predict(
    potential: Potential,
    params: Params,
    batch: Batch,
    *,
    energy: bool = True,
    forces: bool = True,
    virial: bool = False,
    dipole: bool = False,
    charges: bool = False,
    execution: Execution = DEFAULT,
) -> Prediction:
    """Return energies, and what else is asked for; in reverse mode differentiable by `params` only.

    Args:
        energy: False for models that have none, and then no forces and virials.
        forces, virial, dipole, charges: what to compute beside energies.
    """
    out = _predictor(potential, forces, virial, execution)(params, batch) if energy else Prediction(None)
    if dipole:
        out = out._replace(dipole=by_structure(site_values(potential, params, batch, "dipoles", execution), batch))
    if charges:
        out = out._replace(charges=site_values(potential, params, batch, "charges", execution))
    return out


def predict_kinds(potential: Potential, params: Params, batch: Batch, kinds, execution: Execution) -> Prediction:
    """Return what `predict` does of some kinds of labels."""
    asked = {kind: kind in kinds for kind in ("forces", "virial", "dipole", "charges")}
    energy = "energy" in kinds or asked["forces"] or asked["virial"]
    return predict(potential, params, batch, energy=energy, **asked, execution=execution)


def site_values(potential: Potential, params: Params, batch: Batch, quantity: str, execution: Execution) -> Array:
    """Return a per-atom quantity (N, ...) summed over the parts of the potential that define it; 0 for padding."""

    def of(term, p):
        function = partial(_of_atoms, quantity, batch.R.dtype)
        if batch.whole:
            return sites_whole(function, term, p, batch, execution)
        geometry = (batch.R, jnp.eye(3, dtype=batch.R.dtype), batch.species, batch.neighbors)
        if term.local:
            return map_rows(function, term, p, *geometry, execution)
        return function(term, p, full_graph(term, *geometry), execution)

    found = [of(term, p) for term, p in summands(potential, params) if _defines(quantity, term)]
    total = sum(found[1:], start=found[0])
    return jnp.where(batch.real.reshape(-1, *[1] * (total.ndim - 1)), total, jnp.zeros((), total.dtype))


def _of_atoms(quantity: str, dtype, term: Potential, params: Params, graph: Graph, execution: Execution) -> Array:
    graph, params = execution.network(graph, params)
    with jax.default_matmul_precision(execution.products):
        return getattr(term, quantity)(params, graph).astype(dtype)


def plain(potential: Potential, params: Params, batch: Batch, *, virial: bool = True, execution=DEFAULT) -> Prediction:
    """Return what `predict` does, in the form that JAX differentiates by itself, to every order and in both modes."""
    if batch.whole:
        energy, F, W = evaluate_whole(potential, params, batch, execution)
        return Prediction(energy, F, W if virial else None)
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
    """Energies (B,) as a function of the positions and of the vectors of images, or of the boxes of a whole batch."""
    if batch.whole:
        return energies_whole(potential, params, R, image, batch, execution)
    neighbors = replace(batch.neighbors, image=image)
    box = jnp.eye(3, dtype=R.dtype)
    total = jnp.zeros_like(R[:, 0])
    for term, p, weight in potential.terms(params):
        total += weight * row_energies(term, p, R, box, batch.species, neighbors, execution)
    return by_structure(total, batch)


def _predictor(potential: Potential, forces: bool, virial: bool, execution: Execution) -> Callable:
    cells = lambda batch: batch.neighbors.box if batch.whole else batch.neighbors.image

    @jax.custom_vjp
    def run(params, batch: Batch) -> Prediction:
        if not (forces or virial):
            return Prediction(_energies(potential, params, batch.R, cells(batch), batch, execution))
        out = plain(potential, params, batch, virial=virial, execution=execution)
        return out if forces else out._replace(forces=None)

    def forward(params, batch):
        return run(params, batch), (params, batch)

    def backward(kept, slope: Prediction):
        params, batch = kept
        zero = jnp.zeros((), batch.R.dtype)
        d_R, d_cells = jnp.zeros_like(batch.R), jnp.zeros_like(cells(batch))
        if slope.forces is not None:
            d_R -= jnp.where(batch.real[:, None], slope.forces, zero)
        if slope.virial is not None:
            strain = jnp.concatenate([slope.virial, jnp.zeros_like(slope.virial[:1])])[batch.structure]  # (N, 3, 3)
            moved = lambda x, s: jnp.einsum("n...a,nab->n...b", x, s, precision="highest")
            d_R -= moved(batch.R, strain)
            d_cells -= moved(cells(batch), slope.virial if batch.whole else strain[batch.neighbors.owner])

        def work(p):
            of = partial(_energies, potential, p, batch=batch, execution=execution)
            if slope.forces is None and slope.virial is None:
                return jnp.sum(slope.energy * of(batch.R, cells(batch)))
            energies, change = jax.jvp(of, (batch.R, cells(batch)), (d_R, d_cells))
            return jnp.sum(slope.energy * energies) + jnp.sum(change)

        return jax.grad(work, allow_int=True)(params), _no_slope(batch)

    run.defvjp(forward, backward)
    return run


def _no_slope(batch: Batch) -> Batch:
    """Zeros: nothing is differentiated by a batch."""

    def zero(x):
        return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(zero, batch)
