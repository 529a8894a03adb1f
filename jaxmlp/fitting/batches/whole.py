"""Batches for potentials that need a whole system at once, as Ewald sums do: structures of one padded shape in a row.

They share the form of a packed `Batch`: atom a of structure k is atom k n + a, n the atoms of the largest structure.
What differs is that every structure keeps its own box, with images as lattice translations, and its own neighbour list,
whose arrays have a leading axis (B,): so a potential sees one system after the other, as `jaxmlp.energy_fn` shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Execution, _site_energies, evaluate, full_graph, in_rows, row_energies
from jaxmlp.fitting.batches.batch import Batch, Shape, collate
from jaxmlp.fitting.batches.neighborhoods import Neighborhood
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.neighbors.search import Neighbors
from jaxmlp.potential import Params, Potential


def collate_whole(
    structures: Sequence[Structure],
    hoods: Sequence[Neighborhood],
    shape: Shape,
    *options,
    ids: Sequence[int],
    filler: tuple[Structure, Neighborhood],
) -> Batch:
    """Return the batch of some structures, as numpy arrays.

    Args:
        shape: atoms, images and slots of one structure, and how many structures.
        options: shells, kinds, dtype and offsets as for `collate`.
        ids: numbers of the structures.
        filler: a structure of this shape, whose copies fill up the batch with weights of zero: of no atoms at all,
            charges have no mean.
    """
    shells, kinds, dtype, offsets = options
    one = shape._replace(structures=1)
    count = len(structures)
    chosen = [*zip(structures, hoods), *[filler] * (shape.structures - count)]
    parts = []
    for k, (s, h) in enumerate(chosen):
        real = k < count
        part = collate([s], [h], one, shells, kinds, dtype, [offsets[k] if real else 0.0], [ids[k] if real else -1])
        weights = part.weights if real else {kind: np.zeros_like(w) for kind, w in part.weights.items()}
        box = np.eye(3) if s.system.box is None else s.system.box
        shift = np.rint(part.neighbors.image @ np.linalg.inv(box)).astype(np.int32)
        neighbors = replace(part.neighbors, image=shift, box=box.astype(dtype))
        parts.append(replace(part, neighbors=neighbors, weights=weights, structure=np.full_like(part.structure, k)))
    join = lambda axis, *x: np.concatenate(x, axis)
    rows = jax.tree.map(partial(join, 0), *(replace(p, neighbors=None, labels={}) for p in parts))
    # Directions of second derivatives come before the atoms.
    labels = {
        name: join(1 if name in ("directions", "hessian") else 0, *(p.labels[name] for p in parts))
        for name in parts[0].labels
    }
    stacked = jax.tree.map(lambda *x: np.stack(x), *(p.neighbors for p in parts))
    return replace(rows, labels=labels, neighbors=stacked)


def over_structures(function: Callable, batch: Batch, *more: Array):
    """Return function(R, species, neighbors, *more of one structure) for all structures, stacked (B, ...).

    Args:
        more: arrays (B, ...).
    """
    count = len(batch.counts)
    split = lambda x: x.reshape(count, -1, *x.shape[1:])
    arguments = (split(batch.R), split(batch.species), batch.neighbors, *more)
    # One by one on a CPU, where nothing is gained by more; checkpoints keep one structure's intermediates only.
    size = 1 if jax.default_backend() == "cpu" else count
    one = jax.checkpoint(lambda x: function(*x), prevent_cse=False)
    return lax.map(one, arguments, batch_size=size)


def evaluate_whole(potential: Potential, params: Params, batch: Batch, execution: Execution):
    """Return energies (B,), forces (N, 3) and virials (B, 3, 3), differentiable to every order and in both modes."""

    def one(R, species, neighbors: Neighbors):
        out = evaluate(potential, params, R, neighbors.box, species, neighbors, execution=execution)
        return out.energy, out.forces, out.virial

    energy, forces, virial = over_structures(one, batch)
    return energy, forces.reshape(-1, 3), virial


def energies_whole(potential: Potential, params: Params, R: Array, boxes: Array, batch: Batch, execution) -> Array:
    """Return energies (B,) as a function of positions (N, 3) and boxes (B, 3, 3)."""

    def one(R, species, neighbors: Neighbors, box):
        total = jnp.zeros((), R.dtype)
        for term, p, weight in potential.terms(params):
            if in_rows(term):
                sites = row_energies(term, p, R, box, species, neighbors, execution)
            else:
                sites = _site_energies(term, p, full_graph(term, R, box, species, neighbors), execution)
            total += weight * jnp.sum(sites)
        return total

    return over_structures(one, replace(batch, R=R), boxes)


def sites_whole(function: Callable, potential: Potential, params: Params, batch: Batch, execution: Execution) -> Array:
    """Return function(potential, params, graph, execution), per-atom values of a system, for all atoms, (N, ...)."""

    def one(R, species, neighbors: Neighbors):
        graph = full_graph(potential, R, neighbors.box, species, neighbors)
        return function(potential, params, graph, execution)

    values = over_structures(one, batch)
    return values.reshape(-1, *values.shape[2:])
