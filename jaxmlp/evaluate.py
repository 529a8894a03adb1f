"""Energy, forces and virials from one backward pass over neighbour rows, in blocks, on one device or many.

A local potential is differentiated inside each block with respect to the edge vectors, G_ij = dE_i/dr_ij, so that a
block's intermediates never leave the cache and are never stored. Everything else is a sum over edges:

    F_i = sum_j (G_ij - G_ji),    virial = -sum_ij r_ij (x) G_ij,    W_i = sum_j r_ij (x) G_ji,

where G_ji is *gathered* through the reverse slots of the neighbour list (a scatter costs ten times more on a CPU).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.search import Neighbors
from jaxmlp.potential import Params, Potential

ROWS_ON_ACCELERATOR = 1 << 16


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
    """

    energy: Array
    energies: Array
    forces: Array
    virial: Array
    virials: Array
    box_gradient: Array | None


@dataclass(frozen=True)
class Execution:
    """How an evaluation runs; changes rounding, never results.

    Args:
        block: rows of a local potential evaluated together; None takes the potential's own choice on a CPU, and
            as many rows as fit on an accelerator.
        precision: None follows the dtype of R; "mixed" keeps positions, edge vectors and sums in the dtype of R
            (float64) and evaluates the potential in float32.
        devices: number of devices the atoms are sharded over. On a CPU, start Python with
            XLA_FLAGS=--xla_force_host_platform_device_count=n to have n of them.
    """

    block: int | None = None
    precision: str | None = None
    devices: int | None = None

    def __post_init__(self):
        if self.precision not in (None, "mixed"):
            raise ValueError(f'precision must be None or "mixed"; got {self.precision!r}.')
        if self.block is not None and self.block < 1:
            raise ValueError(f"block is a number of rows and must be positive; got {self.block}.")
        if self.devices is not None and not 1 <= self.devices <= jax.device_count():
            raise ValueError(
                f"devices={self.devices}, but this process has {jax.device_count()}. On a CPU set XLA_FLAGS="
                f"--xla_force_host_platform_device_count={self.devices} before jax is imported."
            )

    def rows(self, potential: Potential, n: int) -> int:
        """Rows per block for n rows: a divisor of n near the wanted size, where one exists, pads nothing."""
        wanted = self.block
        if wanted is None:
            wanted = potential.block if jax.default_backend() == "cpu" else ROWS_ON_ACCELERATOR
            for size in range(min(wanted, n), wanted // 2, -1):
                if n % size == 0:
                    return size
        return max(1, min(wanted, n))


DEFAULT = Execution()


class _Rows(NamedTuple):
    """What a block of rows needs; leading axis: atoms."""

    index: Array
    reverse: Array
    X: Array
    species: Array
    atom: Array


def _rows_of(neighbors: Neighbors, X: Array, species: Array, n: int) -> _Rows:
    """The rows of all atoms, padded to n."""
    own = jnp.arange(len(species), dtype=jnp.int32)
    rows = _Rows(neighbors.index, neighbors.reverse, X[: len(species)], species, own)
    fill = _Rows(len(X) - 1, -1, 0, -1, len(species))
    return _Rows(*(_pad(x, n, v) for x, v in zip(rows, fill)))


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
    parts = [
        (_evaluate_local if term.local else _evaluate_whole)(term, p, R, box, species, neighbors, execution)
        for term, p in potential.terms(params)
    ]
    total = jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *parts)
    lost = jnp.where(neighbors.overflow, jnp.nan, 0.0).astype(R.dtype)
    return total._replace(energy=total.energy + lost, energies=total.energies + lost)


def sites(R: Array, box: Array | None, neighbors: Neighbors) -> Array:
    """Return the positions (sites, 3) Å of the atoms and images that `neighbors` points to."""
    X = jnp.concatenate([R, R.at[neighbors.owner[len(R) :]].get(mode="promise_in_bounds")])
    return X if box is None else X + neighbors.image.astype(R.dtype) @ box


def full_graph(potential: Potential, R: Array, box: Array | None, species: Array, neighbors: Neighbors) -> Graph:
    """Return the graph of all atoms, differentiable in R and box."""
    X = sites(R, box, neighbors)
    rows = _rows_of(neighbors, X, species, len(R))
    return _graph(potential, rows, _vectors(_planes(X), rows, neighbors.shells[-1][0]), R, box, species, neighbors)


def _planes(X: Array) -> list[Array]:
    """The coordinates of the sites as contiguous planes."""
    return [X[:, k] for k in range(3)]


def _vectors(planes: list[Array], rows: _Rows, cutoff: float) -> tuple[Array, ...]:
    """The planes of r_ij, three (n, M); padded slots get a vector 3.5 times longer than the cutoff."""
    mask = rows.index < len(planes[0]) - 1
    d = [x.at[rows.index].get(mode="promise_in_bounds") - rows.X[:, k, None] for k, x in enumerate(planes)]
    return tuple(jnp.where(mask, x, 2.0 * cutoff) for x in d)


def _graph(potential, rows: _Rows, vectors, R, box, species, neighbors: Neighbors) -> Graph:
    atoms = neighbors.owner.at[rows.index].get(mode="promise_in_bounds")
    own = jnp.maximum(rows.species, 0)
    if len(potential.species) == 1:
        theirs = jnp.zeros_like(rows.index)
    else:
        theirs = jnp.maximum(species, 0)[neighbors.owner].at[-1].set(0)
        theirs = theirs.at[rows.index].get(mode="promise_in_bounds")
    mask = rows.index < len(neighbors.owner) - 1
    return Graph(own, vectors, atoms, theirs, mask, R, box, neighbors.shells, rows.species >= 0, rows.atom)


def _cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x, tree)


def _site_energies(potential, params, graph: Graph, execution: Execution) -> Array:
    """Energies of existing atoms in the dtype of the geometry, 0 for padded atoms."""
    dtype = graph.planes[0].dtype
    if execution.precision == "mixed":
        graph, params = _cast((graph, params), jnp.float32)
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
    incoming = _incoming(G, neighbors.reverse)
    forces = _summed(G) - _summed(incoming) - dR
    virials = _moments(graph.planes, incoming)
    virial = -jnp.sum(_moments(graph.planes, G), axis=0) - R.T @ dR
    if box is not None:
        virial -= box.T @ d_box[0]
    return Evaluation(jnp.sum(energies), energies, forces, virial, virials, _box_gradient(R, box, forces, virial))


def _box_gradient(R, box, forces, virial):
    """dE/dbox at fixed R, from -virial = R^T dE/dR + box^T dE/dbox."""
    return None if box is None else jnp.linalg.solve(box.T, R.T @ forces - virial)


def _summed(planes) -> Array:
    """Sums over neighbours, (n, 3), of three planes (n, M).

    As products with ones: XLA on a CPU splits the sum of a long row in two passes, a tenth of a Lennard-Jones step.
    """
    ones = jnp.ones(planes[0].shape[1], planes[0].dtype)
    return jnp.stack([jnp.matmul(x, ones, precision=lax.Precision.HIGHEST) for x in planes], axis=1)


def _moments(r, G) -> Array:
    """sum_j r_ij (x) G_ij, (n, 3, 3), of planes."""
    return jnp.stack([jnp.stack([jnp.sum(a * b, axis=1) for b in G], axis=1) for a in r], axis=1)


def _incoming(G, reverse: Array) -> list[Array]:
    """G_ji for every edge i -> j, three planes (n, M), from the edge gradients of all rows, three planes (N, M)."""
    known = reverse >= 0
    slot = jnp.maximum(reverse, 0)
    return [jnp.where(known, x.reshape(-1).at[slot].get(mode="promise_in_bounds"), 0) for x in G]


def _evaluate_local(potential, params, R, box, species, neighbors, execution) -> Evaluation:
    """Evaluate a local potential in blocks of rows, sharded over `execution.devices`."""
    n = len(R)
    devices = execution.devices or 1
    size = execution.rows(potential, -(-n // devices))
    X = sites(R, box, neighbors)
    rows = _rows_of(neighbors, X, species, devices * -(-n // (devices * size)) * size)
    work = partial(_shard, potential, execution, size, "atoms" if devices > 1 else None)
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


def _pad(x: Array, n: int, value) -> Array:
    return x if len(x) == n else jnp.pad(x, [(0, n - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=value)


def _shard(potential, execution, size, axis, rows: _Rows, params, X, R, box, species, neighbors):
    """One device's rows: energies, forces and virials of its atoms, and the virial of all."""
    planes = _planes(X)
    cutoff = neighbors.shells[-1][0]
    blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)

    @partial(jax.checkpoint, prevent_cse=False)  # a derivative of the forces recomputes a block, and stores none
    def differentiate(block: _Rows):
        vectors = _vectors(planes, block, cutoff)

        def total(vectors):
            graph = _graph(potential, block, vectors, R, box, species, neighbors)
            e = _site_energies(potential, params, graph, execution)
            return jnp.sum(e), e

        G, energies = jax.grad(total, has_aux=True)(vectors)
        virials = -_moments(vectors, G)
        return energies, G, _summed(G), virials, jnp.sum(virials, axis=0)

    energies, G, out, virials, virial = lax.map(differentiate, blocks)
    virial = jnp.sum(virial, axis=0)
    if potential.pairwise:  # G_ji = -G_ij
        forces = 2 * out
    else:
        G_all = [_flat(x) for x in G]
        if axis is not None:
            G_all = [lax.all_gather(x, axis, tiled=True) for x in G_all]

        @partial(jax.checkpoint, prevent_cse=False)
        def receive(block_out):
            block, out = block_out
            incoming = _incoming(G_all, block.reverse)
            return out - _summed(incoming), _moments(_vectors(planes, block, cutoff), incoming)

        forces, virials = lax.map(receive, (blocks, out))
    if axis is not None:
        virial = lax.psum(virial, axis)
    return _flat(energies), _flat(forces), _flat(virials), virial


def _flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])


def map_rows(function, potential, params, R, box, species, neighbors, execution) -> Array:
    """Return function(potential, params, graph), (n, ...) per-atom values of a row, in blocks, for all N atoms."""
    n = len(R)
    size = execution.rows(potential, n)
    X = sites(R, box, neighbors)
    planes = _planes(X)
    rows = _rows_of(neighbors, X, species, -(-n // size) * size)

    @partial(jax.checkpoint, prevent_cse=False)
    def one(block: _Rows):
        graph = _graph(potential, block, _vectors(planes, block, neighbors.shells[-1][0]), R, box, species, neighbors)
        return function(potential, params, graph, execution)

    return _flat(lax.map(one, jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)))[:n]


def local_energies(potential, params, R, box, species, neighbors, execution) -> Array:
    """Return the site energies (N,) of a local potential in blocks, for plain automatic differentiation."""
    return map_rows(_site_energies, potential, params, R, box, species, neighbors, execution)
