"""The steps of message-passing potentials over blocks of rows: energies, gradients and the heat flux.

Features x_k(i) of atom i after step k depend on its own features, on what its neighbours share, and on its edges:

    x_(k+1)(i) = step_k(x_k(i), {y_k(j)}, {r_ij}),

with y the shared part of x. The backward pass is written out step by step: a block of rows is computed again and
differentiated, dE/dr_ij adds up over the steps, and dE/dy(j) is collected from the edges that point to j. Only the
features between steps are kept, never what a step computes per edge; and as the pass is made of plain operations, its
own derivatives hold to every order, forward and reverse, which a `custom_vjp` of the gather would forbid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.search import Neighbors
from jaxmlp.potential import MessagePassing, Params
from jaxmlp.rows import DEFAULT, Execution, Rows, flat, graph_of, planes_of, rows_of, sites, vectors_of

SMALL = 64  # rows


@dataclass(frozen=True)
class Chain:
    """The steps of a potential over the rows of one device.

    Args:
        blocks: rows (blocks, size, ...).
        planes: coordinates of all sites.
        axis: name of the axis of devices that share the rows, or None.
    """

    potential: MessagePassing
    execution: Execution
    blocks: Rows
    planes: list[Array]
    R: Array
    box: Array | None
    species: Array
    neighbors: Neighbors
    axis: str | None = None

    @classmethod
    def of(cls, potential, execution, size, axis, rows: Rows, X, R, box, species, neighbors) -> "Chain":
        blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
        return cls(potential, execution, blocks, planes_of(X), R, box, species, neighbors, axis)

    def recomputed(self, function: Callable) -> Callable:
        """Return the work on a block so that its derivatives compute it again and nothing of it is kept.

        Training on small structures takes derivatives of forces, and there it is faster to keep everything.
        """
        return function if self.blocks.species.size <= SMALL else jax.checkpoint(function, prevent_cse=False)

    def vectors(self, block: Rows) -> tuple[Array, ...]:
        """The planes of r_ij of a block."""
        return vectors_of(self.planes, block, self.neighbors.shells[-1][0])

    def graph(self, block: Rows, vectors) -> Graph:
        """The graph of a block, with its edge vectors put in."""
        return graph_of(self.potential, block, vectors, self.R, self.box, self.species, self.neighbors)

    def step(self, k: int, params, block: Rows, vectors, own, theirs):
        """Step k of a block: (features, shared); energies in the dtype of the geometry, 0 where there is no atom."""
        dtype = vectors[0].dtype
        graph, params = self.execution.network(self.graph(block, vectors), params)
        with jax.default_matmul_precision(self.execution.products):
            own, shared = self.potential.step(k, params, graph, own, theirs)
        if k == self.potential.steps - 1:
            own = graph.existing(own.astype(dtype))
        return own, shared

    def everywhere(self, shared):
        """Features that the rows of this device share, of all devices' rows (N', ...)."""
        whole = jax.tree.map(flat, shared)
        if self.axis is None:
            return whole
        return jax.tree.map(lambda x: lax.all_gather(x, self.axis, tiled=True), whole)

    def forward(self, params) -> tuple[Array, list]:
        """Return the energies (n',) and the (own, shared) features that each step starts from."""
        own = shared = None
        inputs = []
        for k in range(self.potential.steps):
            inputs.append((own, shared))

            @self.recomputed
            def one(x, k=k, shared=shared):
                block, own = x
                vectors = self.vectors(block)
                return self.step(k, params, block, vectors, own, self.graph(block, vectors).gather(shared))

            own, shared = lax.map(one, (self.blocks, own))
            shared = self.everywhere(shared)
        return flat(own), inputs

    def backward(self, params, inputs: list, parameters: bool = False):
        """Return G_ij = dE/dr_ij, three planes (blocks, size, M), and dE/dparams if asked for, else None."""
        d_own: Any = jnp.where(self.blocks.species >= 0, 1.0, 0.0).astype(self.planes[0].dtype)
        d_shared = d_params = G = None
        for k in reversed(range(self.potential.steps)):
            own, shared = inputs[k]
            body = partial(self._pull, k, params, parameters, shared)
            start = (
                jax.tree.map(jnp.zeros_like, shared) if self.adds else None,
                jax.tree.map(jnp.zeros_like, params) if parameters else None,
            )
            (d_theirs, more), (g, d_own, stacked) = lax.scan(body, start, (self.blocks, own, d_own, d_shared))
            G = g if G is None else jax.tree.map(jnp.add, G, g)
            if parameters:
                d_params = more if d_params is None else jax.tree.map(jnp.add, d_params, more)
            d_shared = self._home(d_theirs) if self.adds else self._gathered(stacked)
        if parameters and self.axis is not None:
            d_params = lax.psum(d_params, self.axis)
        return G, d_params

    @property
    def adds(self) -> bool:
        """Whether gradients of shared features are added up where they belong, not gathered through reverse slots."""
        return jax.default_backend() == "cpu" if self.execution.scatter is None else self.execution.scatter

    def _pull(self, k: int, params, parameters: bool, shared, totals, x):
        """Differentiate step k of one block."""

        @self.recomputed
        def pull(block, own, d_own, d_shared, shared):
            vectors = self.vectors(block)
            theirs = self.graph(block, vectors).gather(shared)
            if parameters:
                _, back = jax.vjp(lambda p, *a: self.step(k, p, block, *a), params, vectors, own, theirs)
                return back((d_own, d_shared))
            _, back = jax.vjp(lambda *a: self.step(k, params, block, *a), vectors, own, theirs)
            return (None, *back((d_own, d_shared)))

        block, own, d_own, d_shared = x
        d_params, g, d_own, d_theirs = pull(block, own, d_own, d_shared, shared)
        total, total_params = totals
        if self.adds:
            atoms = self.neighbors.owner.at[block.index].get(mode="promise_in_bounds")
            total = jax.tree.map(lambda t, d: t.at[atoms].add(d, mode="promise_in_bounds"), total, d_theirs)
            d_theirs = None
        if parameters:
            total_params = jax.tree.map(jnp.add, total_params, d_params)
        return (total, total_params), (g, d_own, d_theirs)

    def _home(self, total):
        """What all devices have added up, as blocks of this device's rows."""
        if self.axis is not None:
            total = jax.tree.map(lambda x: lax.psum_scatter(x, self.axis, tiled=True), total)
        shape = self.blocks.species.shape
        return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), total)

    def _gathered(self, d_theirs):
        """The sum over incoming edges, as blocks of rows, of an array over all edges."""
        edges = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), self.everywhere(d_theirs))

        @self.recomputed
        def receive(reverse):
            known, slot = reverse >= 0, jnp.maximum(reverse, 0)

            def of(x):
                x = x.at[slot].get(mode="promise_in_bounds")
                return jnp.sum(jnp.where(known.reshape(*known.shape, *[1] * (x.ndim - 2)), x, 0), axis=1)

            return jax.tree.map(of, edges)

        return None if d_theirs is None else lax.map(receive, self.blocks.reverse)


def _chain(potential, R, box, species, neighbors, execution) -> Chain:
    """The chain of all rows on one device."""
    size = execution.rows(potential, len(R))
    X = sites(R, box, neighbors)
    rows = rows_of(neighbors, X, species, -(-len(R) // size) * size)
    return Chain.of(potential, execution, size, None, rows, X, R, box, species, neighbors)


def step_energies(potential, params, R, box, species, neighbors, execution: Execution = DEFAULT) -> Array:
    """Return the site energies (N,) eV, step by step in blocks."""
    return _chain(potential, R, box, species, neighbors, execution).forward(params)[0][: len(R)]


def parameter_gradient(potential, params, R, box, species, neighbors, execution: Execution = DEFAULT) -> Params:
    """Return dE/dparams, a tree like `params`."""
    chain = _chain(potential, R, box, species, neighbors, execution)
    return chain.backward(params, chain.forward(params)[1], parameters=True)[1]


def potential_flux(potential, params, R, box, species, neighbors, velocities, execution: Execution = DEFAULT):
    """Return the site energies (N,) and sum_i sum_k (r_i - r_k) (dE_i/dr_k . v_k), (3,), the sum over all images k.

    This is the potential part of the heat flux of potentials whose site energies depend on atoms beyond their
    neighbours (Langer et al., PRB 108, L100302 (2023), there computed from explicit copies of the cell). Here every
    step carries, beside the rate of change T f_i = sum_k df_i/dr_k . v_k of its features, their three moments

        D f_i = sum_k (r_i - r_k) (df_i/dr_k . v_k).

    Seen from atom i, a feature of its neighbour j has D f_j - r_ij T f_j, as r_i - r_k = (r_j - r_k) - r_ij, and the
    edge r_ij the rate v_j - v_i and the moment -r_ij v_j: all of it linear in what the step before gave, for cells of
    any size.
    """
    chain = _chain(potential, R, box, species, neighbors, execution)
    padding = jnp.zeros((chain.blocks.species.size - len(R), 3), velocities.dtype)
    V = jnp.concatenate([velocities, padding])
    own = shared = None  # features and their changes, (n, 4, ...): the rate and the three moments
    for k in range(potential.steps):
        advance = partial(_moments_of_step, chain, k, params, V, shared)
        own, shared = lax.map(advance, (chain.blocks, V.reshape(*chain.blocks.species.shape, 3), own))
        shared = jax.tree.map(flat, shared)
    energies, changes = jax.tree.map(flat, own)
    return energies[: len(R)], jnp.sum(changes[: len(R), 1:], axis=0)


def _moments_of_step(chain: Chain, k: int, params, V, shared, x):
    """(features, changes) of a block, own and shared, after step k."""
    block, v, own = x
    vectors = chain.vectors(block)
    graph = chain.graph(block, vectors)
    arms = jnp.stack([jnp.zeros_like(vectors[0]), *vectors], axis=2)  # (n, M, 4)
    first = jnp.asarray([1.0, 0, 0, 0], arms.dtype)
    theirs_v = graph.gather(V)
    edges = tuple(theirs_v[:, :, c, None] * (first - arms) - v[:, c, None, None] * first for c in range(3))
    own, d_own = (None, None) if own is None else own
    theirs, d_theirs = (None, None) if shared is None else graph.gather(shared)

    def seen(d):  # (n, M, 4, ...)
        return d - jnp.expand_dims(arms, tuple(range(3, d.ndim))).astype(d.dtype) * d[:, :, :1]

    changes = (edges, d_own, jax.tree.map(seen, d_theirs))
    of = lambda *a: chain.step(k, params, block, *a)
    along = lambda *tangents: jax.jvp(of, (vectors, own, theirs), tangents)
    (own, shared), (d_own, d_shared) = jax.vmap(along, (2, 1, 2), ((None, None), (1, 1)))(*changes)
    return (own, d_own), (shared, d_shared)
