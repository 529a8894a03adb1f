"""Design rows of energies that are linear in functions of sums over neighbours (SNAP, MTP, ACE), all columns at once.

With X_i = sum_j x(r_ij) + X_0 and E_i = sum_k c_k f_k(X_i), the force of an edge has the columns

    df_k/dr_ij = f_k'(X_i) . dx(r_ij)/dr_ij,

a forward derivative of the functions along 3 M tangents, whose number does not grow with that of the columns. A
backward pass for every column does the same (`linear.design_rows` with `fast=False`, its test): 30 times slower for
a SNAP of 31 columns.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import full_graph
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.predictions import Prediction, by_structure
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import LinearFunctions, Potential

ROWS = 4  # worked on at once


def fast_columns(
    potential: Potential,
    linear: LinearFunctions,
    flatten: Callable[[Any], Array],
    batch: Batch,
    *,
    forces: bool = True,
    virial: bool = True,
) -> Prediction:
    """Return energies (B, p), forces (N, 3, p) and virials (B, 3, 3, p) for unit coefficients.

    Args:
        linear: of the potential, see `Potential.linear_functions`.
        flatten: the tree of derivatives of site energies, leading axis n, as (n, p).
    """
    box = jnp.eye(3, dtype=batch.R.dtype)
    graph = full_graph(potential, batch.R, box, batch.species, batch.neighbors).within(potential.cutoff)
    functions = lambda X, species: flatten(linear.functions(X, species))
    slopes = linear.slopes
    push = None if slopes is None else lambda X, species, dX: flatten(slopes(X, species, dX))
    if not (forces or virial):
        return Prediction(by_structure(graph.existing(functions(linear.density(graph), graph.species)), batch))
    values, G = values_and_slopes(linear.density, functions, potential.cutoff, graph, push)
    F, W = edge_sums(graph, G, forces, virial)
    energy = by_structure(graph.existing(values), batch)
    return Prediction(energy, F, None if W is None else by_structure(graph.existing(W), batch))


def values_and_slopes(
    density: Callable, functions: Callable, cutoff: float, graph: Graph, push: Callable | None = None
) -> tuple[Array, Array]:
    """Return functions f of all atoms, (n, p), and their derivatives by the edges, (n, M, 3, p).

    Args:
        density: graph -> X, arrays (n, ...), each a sum over the edges of a row and a constant.
        functions: (X, species (n,)) -> (n, p).
        cutoff: Å, that of the density.
        push: (X, species, dX) of one atom -> df, see `LinearFunctions.slopes`.
    """
    M = graph.mask.shape[1]

    def row(arrays) -> tuple[Array, Array]:
        species, planes, theirs, mask = arrays
        full = lambda s, p, t, k, m: Graph(s, p, jnp.zeros(t.shape, int), t, k, graph.R, None, ((cutoff, m),))
        X = density(full(species[None], tuple(x[None] for x in planes), theirs[None], mask[None], M))
        own = jnp.broadcast_to(species, theirs.shape)
        terms = lambda planes: density(full(own, tuple(x[:, None] for x in planes), theirs[:, None], mask[:, None], 1))
        one = jnp.ones_like(planes[0])
        along = lambda direction: jax.jvp(terms, (planes,), (tuple(d * one for d in direction),))[1]
        dX = jax.vmap(along)(tuple(jnp.eye(3, dtype=one.dtype)))  # (3, M, ...)
        tangents = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), dX)
        if push is not None:
            df = push(X, species[None], tangents)
            return functions(X, species[None])[0], df.reshape(3, M, -1).swapaxes(0, 1)
        # Tangents as so many atoms: the functions keep these along their contiguous axis.
        copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (3 * M, *x.shape[1:])), X)
        many = jnp.broadcast_to(species, (3 * M,))
        f, df = jax.jvp(lambda X: functions(X, many), (copies,), (tangents,))
        return f[0], df.reshape(3, M, -1).swapaxes(0, 1)

    return lax.map(row, (graph.species, graph.planes, graph.neighbor_species, graph.mask), batch_size=ROWS)


def edge_sums(graph: Graph, G: Array, forces: bool, virial: bool) -> tuple[Array | None, Array | None]:
    """Forces (N, 3, p) and virials of the rows (N, 3, 3, p) of the derivatives of edges G_ij (N, M, 3, p)."""
    N, M, _, p = G.shape
    back = graph.back
    assert back is not None  # `full_graph` makes it
    # An edge beyond the cutoff may have its reverse behind the slots kept; both derivatives are 0.
    known = (graph.mask & (back >= 0) & (back < M))[..., None, None]
    place = graph.neighbors * M + jnp.clip(back, 0, M - 1)
    F = W = None
    if forces:
        received = G.reshape(N * M, 3, p).at[place].get(mode="promise_in_bounds")
        F = jnp.sum(G - jnp.where(known, received, 0.0), axis=1)
    if virial:
        W = -jnp.einsum("naj,njbp->nabp", graph.vectors, G, precision="highest")
    return F, W


def flattened(part: Any) -> Callable[[Any], Array]:
    """Return what makes (n, p) of a tree of (n, ...) with the arrays of `part`, in the order of `ravel_pytree`.

    Args:
        part: a tree with None where there is nothing to fit.
    """
    leaves = jax.tree.leaves(part, is_leaf=lambda x: x is None)
    kept = [x is not None for x in leaves]

    def flatten(tree) -> Array:
        every = jax.tree.leaves(tree, is_leaf=lambda x: x is None)
        columns = [x for x, k in zip(every, kept, strict=True) if k]
        for x, like in zip(columns, [x for x in leaves if x is not None], strict=True):
            assert x.shape[1:] == np.shape(like), (x.shape, np.shape(like))
        return jnp.concatenate([x.reshape(len(x), -1) for x in columns], axis=1)

    return flatten
