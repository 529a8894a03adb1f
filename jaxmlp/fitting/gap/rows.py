"""Covariances of energies, forces and virials with the sparse points of a GAP: K_NM of Gaussian-process regression.

Two ways to the same numbers. Any process: the energy is linear in the weights alpha, so that a column of K_NM is what
the potential predicts for one weight 1 and all others 0; a backward pass for every column. SOAP with a dot-product
kernel, where there are many columns: with u_is = q_i . x_s,

    dk(q_i, x_s)/dr_ij = delta^2 zeta u_is^(zeta - 1) x_s . dq_i/dr_ij,

one product of the matrix of all dq_i/dr_ij (edges times 3, d) with the sparse points (d, m), scaled afterwards. With
37 neighbours, d = 325 and m = 500 a structure of 54 atoms takes 0.3 s instead of 5 s.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.basis.density import power_spectrum
from jaxmlp.basis.soap import PowerSpectrum
from jaxmlp.basis.species import is_element
from jaxmlp.evaluate import Execution, full_graph
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.predictions import Prediction, by_structure, plain
from jaxmlp.fitting.linear.edge_slopes import edge_sums, values_and_slopes
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.gap import GAP, GAPTerm

COLUMNS = 128  # worked on at once: bounds the memory of the gradients of all edges
SMALL_BLOCKS = Execution(block=8)


def kernel_columns(
    potential: GAP, params: Params, batch: Batch, *, forces: bool = True, virial: bool = True, fast: bool = True
) -> Prediction:
    """Return the rows of K_NM of a batch: what energies, forces and virials are per weight of every sparse point.

    Energies (B, m) in eV per unit of weight, forces (N, 3, m) and virials (B, 3, 3, m), m being the number of sparse
    points of all processes, in their order: predictions without the energies of atoms are these times all `alpha`.
    Pure; meant to be jitted by the caller.

    The memory is that of dq/dr of all edges, (edges, 3, d): batches of one structure or few.

    Args:
        forces, virial: whether to compute them.
        fast: the second way of the module's text where it applies; False: the first for all processes.
    """
    kinds = (forces, virial)
    found: list[Prediction | None] = [None] * len(potential.processes)
    groups: dict[PowerSpectrum, list[int]] = {}
    for k, term in enumerate(potential.processes):
        if fast and isinstance(term.descriptor, PowerSpectrum) and term.covariance.kind == "dot_product":
            groups.setdefault(term.descriptor, []).append(k)
        else:
            found[k] = _by_prediction(potential, params, k, batch, kinds)
    for descriptor, members in groups.items():
        for k, columns in zip(members, _by_product(potential, params, descriptor, members, batch, kinds), strict=True):
            found[k] = columns
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *found)


def _only(kinds: tuple[bool, bool], energy, forces, virial) -> Prediction:
    return Prediction(energy, forces if kinds[0] else None, virial if kinds[1] else None)


def _by_prediction(potential: GAP, params: Params, k: int, batch: Batch, kinds: tuple[bool, bool]) -> Prediction:
    """The columns of process k, by an evaluation for each; what does not depend on the weights is computed once."""
    alone = replace(potential, processes=(potential.processes[k],))
    own = params["processes"][k]
    e0 = jnp.zeros_like(params["e0"])

    def column(alpha: Array) -> Prediction:
        out = plain(
            alone, {"e0": e0, "processes": (own | {"alpha": alpha},)}, batch, virial=kinds[1], execution=SMALL_BLOCKS
        )
        return _only(kinds, out.energy, out.forces, out.virial)

    m = len(own["alpha"])
    columns = lax.map(column, jnp.eye(m, dtype=own["sparse"].dtype), batch_size=min(m, COLUMNS))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), columns)


def _by_product(
    potential: GAP,
    params: Params,
    descriptor: PowerSpectrum,
    members: Sequence[int],
    batch: Batch,
    kinds: tuple[bool, bool],
) -> list[Prediction]:
    """The columns of processes that share a SOAP, by products of matrices."""
    box = jnp.eye(3, dtype=batch.R.dtype)
    graph = full_graph(potential, batch.R, box, batch.species, batch.neighbors).within(descriptor.cutoff)
    numbers = potential.species
    D = None
    if any(kinds):
        q, D = vectors_and_slopes(descriptor, numbers, graph)
    else:
        q = descriptor.vectors(numbers, graph)
    out = []
    for k in members:
        term, own = potential.processes[k], params["processes"][k]
        mask = graph.existing(is_element(term.center, numbers, graph.species, q.dtype))
        value, slope = _kernel(term, own, q)
        weight = own["cutoff"] * mask[:, None]
        energy = by_structure(weight * value, batch)
        if D is None:
            out.append(Prediction(energy))
            continue
        forces, virials = _edge_sums(graph, D, own["sparse"], weight * slope, kinds)
        out.append(_only(kinds, energy, forces, by_structure(virials, batch) if kinds[1] else None))
    return out


def _kernel(term: GAPTerm, own: Params, q: Array) -> tuple[Array, Array]:
    """k(q_i, x_s) and its derivative by the product u = q_i . x_s, both (N, m)."""
    u = jnp.matmul(q, own["sparse"].T, precision="highest")
    one = jnp.ones((1, 1), q.dtype)
    of = lambda u: term.covariance.covariance(u[..., None], one, None, own["delta"], own["f0"])[..., 0]
    return jax.jvp(of, (u,), (jnp.ones_like(u),))


def vectors_and_slopes(descriptor: PowerSpectrum, numbers: tuple[int, ...], graph: Graph) -> tuple[Array, Array]:
    """Return the vectors q of all atoms, (n, d), and their derivatives dq_i/dr_ij by the edges, (n, M, 3, d).

    Args:
        numbers: atomic numbers that the species of the graph stand for.
        graph: rows of neighbours within the descriptor's cutoff.
    """

    def functions(X, species: Array) -> Array:
        return descriptor.normalised(power_spectrum(descriptor.layout, X))

    def push(X, species: Array, dX) -> Array:
        _, change = jax.linearize(lambda X: functions(X, species), X)
        return jax.vmap(change)(jax.tree.map(lambda x: x[:, None], dX))[:, 0]

    density = lambda graph: descriptor.densities(numbers, graph)
    return values_and_slopes(density, functions, descriptor.cutoff, graph, push)


def _edge_sums(graph: Graph, D: Array, sparse: Array, weight: Array, kinds: tuple[bool, bool]):
    """Forces (N, 3, m) and virials (N, 3, 3, m) of the gradients G_ijs = weight_is x_s . dq_i/dr_ij of the edges."""
    (N, M), (m, d) = graph.mask.shape, sparse.shape
    size = min(m, COLUMNS)
    pad = -m % size
    chunks = jnp.pad(sparse, ((0, pad), (0, 0))).reshape(-1, size, d)
    weights = jnp.pad(weight, ((0, 0), (0, pad))).reshape(N, -1, size).swapaxes(0, 1)

    def columns(chunk):
        x, w = chunk
        G = jnp.matmul(D.reshape(-1, d), x.T, precision="highest").reshape(N, M, 3, size) * w[:, None, None]
        return edge_sums(graph, G, *kinds)

    join = lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)[..., :m]
    return jax.tree.map(join, lax.map(columns, (chunks, weights)))
