"""Energy, forces and virials from one backward pass over neighbour rows, in blocks, on one device or many.

A local potential is differentiated inside each block with respect to the edge vectors, G_ij = dE_i/dr_ij, so that a
block's intermediates never leave the cache and are never stored. Everything else is a sum over edges:

    F_i = sum_j (G_ij - G_ji),    virial = -sum_ij r_ij (x) G_ij,    W_i = sum_j r_ij (x) G_ji,

where G_ji is *gathered* through the reverse slots of the neighbour list (a scatter costs ten times more on a CPU).
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from jaxmlp.message_passing import Chain, step_energies
from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.search import Neighbors
from jaxmlp.potential import MessagePassing, Params, Potential
from jaxmlp.rows import (
    DEFAULT,
    Execution,
    Rows,
    flat,
    full_graph,
    graph_of,
    incoming,
    moment,
    moments,
    planes_of,
    rows_of,
    sites,
    summed,
    vectors_of,
)

__all__ = ["DEFAULT", "Evaluation", "Execution", "evaluate", "full_graph"]


class Evaluation(NamedTuple):
    """What one evaluation gives; parts that a jitted caller does not use are not computed.

    Args:
        energy: eV.
        energies: (N,) site energies, eV.
        forces: (N, 3) eV/Å.
        virial: (3, 3) eV, -dE/dstrain.
        virials: (N, 3, 3) eV, W_i = sum_j r_ij (x) dE_j/dr_ji; not symmetric for many-body potentials; their sum is the
            virial. For potentials that are not local this is the part of the edges only, see `heat_flux`.
        box_gradient: (3, 3) eV/Å, dE/dbox at fixed R; None without a box.
        parts: energies of `potential.terms`, each eV and without its weight: what a path between potentials is made of.
    """

    energy: Array
    energies: Array
    forces: Array
    virial: Array
    virials: Array
    box_gradient: Array | None
    parts: tuple[Array, ...] = ()


def evaluate(
    potential: Potential,
    params: Params,
    R: Array,
    box: Array | None,
    species: Array,
    neighbors: Neighbors,
    *,
    execution: Execution = DEFAULT,
) -> Evaluation:
    """Return energy, forces and virials of `potential` at R (N, 3), box (3, 3) or None.

    Pure; meant to be jitted by the caller. With overflowed `neighbors` the energies are NaN.

    Args:
        species: (N,) indices into `potential.species`; a negative one marks an atom that does not exist (padding).
        neighbors: a list that holds every pair nearer than `potential.cutoff`.
    """
    found, weighted = [], []
    for term, p, weight in potential.terms(params):
        run = _evaluate_rows if in_rows(term) else _evaluate_whole
        found.append(run(term, p, R, box, species, neighbors, execution))
        weighted.append(jax.tree.map(partial(jnp.multiply, weight), found[-1]))
    total = jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *weighted)
    lost = jnp.where(neighbors.overflow & potential.uses_neighbors, jnp.nan, 0.0).astype(R.dtype)
    parts = tuple(part.energy + lost for part in found)
    return total._replace(energy=total.energy + lost, energies=total.energies + lost, parts=parts)


def in_rows(potential: Potential) -> bool:
    """Whether blocks of rows are all that an evaluation needs to see at a time."""
    return potential.local or isinstance(potential, MessagePassing)


def _site_energies(potential, params, graph: Graph, execution: Execution) -> Array:
    """Energies of existing atoms in the dtype of the geometry, 0 for padded atoms."""
    dtype = graph.planes[0].dtype
    graph, params = execution.network(graph, params)
    with jax.default_matmul_precision(execution.products):
        energies = potential.site_energies(params, graph).astype(dtype)
    return graph.existing(energies)


def _evaluate_whole(potential, params, R, box, species, neighbors, execution) -> Evaluation:
    """Evaluate a potential that needs the whole system at once."""
    graph = full_graph(potential, R, box, species, neighbors)

    def total(planes, R, box):
        e = _site_energies(potential, params, replace(graph, planes=planes, R=R, box=box), execution)
        return jnp.sum(e), e

    wrt = (0, 1) if box is None else (0, 1, 2)
    (G, dR, *d_box), energies = jax.grad(total, wrt, has_aux=True)(graph.planes, R, box)
    received = incoming(G, neighbors.reverse)
    forces = summed(G) - summed(received) - dR
    virials = moments(graph.planes, received)
    virial = -moment(graph.planes, G) - R.T @ dR
    if box is not None:
        virial -= box.T @ d_box[0]
    return Evaluation(jnp.sum(energies), energies, forces, virial, virials, _box_gradient(R, box, forces, virial))


def _box_gradient(R, box, forces, virial):
    """dE/dbox at fixed R, from -virial = R^T dE/dR + box^T dE/dbox."""
    return None if box is None else jnp.linalg.solve(box.T, R.T @ forces - virial)


def _evaluate_rows(potential, params, R, box, species, neighbors, execution) -> Evaluation:
    """Evaluate a potential in blocks of rows, sharded over `execution.devices`."""
    n = len(R)
    devices = execution.devices or 1
    size = execution.rows(potential, -(-n // devices))
    X = sites(R, box, neighbors)
    rows = rows_of(neighbors, X, species, devices * -(-n // (devices * size)) * size)
    shard = _shard if potential.local else _shard_of_steps
    work = partial(shard, potential, execution, size, "atoms" if devices > 1 else None)
    if devices > 1:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("atoms",))
        each, all_ = PartitionSpec("atoms"), PartitionSpec()
        work = jax.shard_map(
            work,
            mesh=mesh,
            in_specs=(each, all_, all_, all_, all_, all_, all_),
            out_specs=(each, each, each, all_),
            check_vma=False,
        )
    energies, forces, virials, virial = work(rows, params, X, R, box, species, neighbors)
    energies, forces, virials = energies[:n], forces[:n], virials[:n]
    return Evaluation(jnp.sum(energies), energies, forces, virial, virials, _box_gradient(R, box, forces, virial))


def _shard(potential, execution, size, axis, rows: Rows, params, X, R, box, species, neighbors):
    """One device's rows: energies, forces and virials of its atoms, and the virial of all."""
    planes = planes_of(X)
    cutoff = neighbors.shells[-1][0]
    blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)

    @partial(jax.checkpoint, prevent_cse=False)  # a derivative of the forces recomputes a block, and stores none
    def differentiate(block: Rows):
        vectors = vectors_of(planes, block, cutoff)

        def total(vectors):
            graph = graph_of(potential, block, vectors, R, box, species, neighbors)
            e = _site_energies(potential, params, graph, execution)
            return jnp.sum(e), e

        if potential.pairwise:
            G, energies = _central(total, vectors)
        else:
            G, energies = jax.grad(total, has_aux=True)(vectors)
        return energies, G, summed(G), -moments(vectors, G), -moment(vectors, G, symmetric=potential.pairwise)

    energies, G, out, virials, virial = lax.map(differentiate, blocks)
    virial = jnp.sum(virial, axis=0)
    if potential.pairwise:  # G_ji = -G_ij
        forces = 2 * out
    else:
        G_all = [flat(x) for x in G]
        if axis is not None:
            G_all = [lax.all_gather(x, axis, tiled=True) for x in G_all]

        @partial(jax.checkpoint, prevent_cse=False)
        def receive(block_out):
            block, out = block_out
            received = incoming(G_all, block.reverse)
            return out - summed(received), moments(vectors_of(planes, block, cutoff), received)

        forces, virials = lax.map(receive, (blocks, out))
    if axis is not None:
        virial = lax.psum(virial, axis)
    return flat(energies), flat(forces), flat(virials), virial


def _central(total, vectors) -> tuple[tuple[Array, ...], Array]:
    """Edge gradients G_ij = g_ij r_ij and site energies of a pair potential, whose energy depends on distances only.

    g_ij r_ij^2 is the derivative by a stretch of the edge. XLA on a CPU computes anything but a quotient once for every
    sum that it goes into, here three planes of forces and six of the virial: g is one.
    """
    stretch = lambda s: total(tuple(s * x for x in vectors))
    slope, energies = jax.grad(stretch, has_aux=True)(jnp.ones_like(vectors[0]))
    g = slope / sum(x * x for x in vectors)
    return tuple(g * x for x in vectors), energies


def _shard_of_steps(potential, execution, size, axis, rows: Rows, params, X, R, box, species, neighbors):
    """What `_shard` returns, of a message-passing potential."""
    chain = Chain.of(potential, execution, size, axis, rows, X, R, box, species, neighbors)
    energies, inputs = chain.forward(params)
    G, _ = chain.backward(params, inputs)
    G_all = chain.everywhere(G)

    @partial(jax.checkpoint, prevent_cse=False)
    def receive(block_G):
        block, G = block_G
        vectors = chain.vectors(block)
        received = incoming(G_all, block.reverse)
        return summed(G) - summed(received), moments(vectors, received), -moment(vectors, G)

    forces, virials, virial = lax.map(receive, (chain.blocks, G))
    virial = jnp.sum(virial, axis=0)
    if axis is not None:
        virial = lax.psum(virial, axis)
    return energies, flat(forces), flat(virials), virial


def map_rows(function, potential, params, R, box, species, neighbors, execution) -> Array:
    """Return function(potential, params, graph), (n, ...) per-atom values of a row, in blocks, for all N atoms."""
    n = len(R)
    size = execution.rows(potential, n)
    X = sites(R, box, neighbors)
    planes = planes_of(X)
    rows = rows_of(neighbors, X, species, -(-n // size) * size)

    @partial(jax.checkpoint, prevent_cse=False)
    def one(block: Rows):
        graph = graph_of(
            potential, block, vectors_of(planes, block, neighbors.shells[-1][0]), R, box, species, neighbors
        )
        return function(potential, params, graph, execution)

    return flat(lax.map(one, jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)))[:n]


def row_energies(potential, params, R, box, species, neighbors, execution) -> Array:
    """Return the site energies (N,) in blocks of rows, for plain automatic differentiation."""
    if not potential.local:
        return step_energies(potential, params, R, box, species, neighbors, execution)
    return map_rows(_site_energies, potential, params, R, box, species, neighbors, execution)
