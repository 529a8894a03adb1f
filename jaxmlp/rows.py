"""Rows of neighbours in blocks: what a block of atoms needs of the system, and how evaluations run over blocks."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.geometry import times
from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.search import Neighbors
from jaxmlp.potential import Potential

ROWS_ON_ACCELERATOR = 1 << 16
PRECISIONS = ("mixed", "tensorfloat32", "bfloat16")


@dataclass(frozen=True)
class Execution:
    """How an evaluation runs; changes rounding, never results.

    Args:
        block: rows of a potential evaluated together; None takes the potential's own choice on a CPU, and
            as many rows as fit on an accelerator.
        precision: None follows the dtype of R; "mixed" keeps positions, edge vectors and sums in the dtype of R
            (float64) and evaluates the potential in float32. "tensorfloat32" and "bfloat16" do the same, and let an
            accelerator round what the matrix products of networks multiply to these; on a CPU they are "mixed".
        devices: number of devices the atoms are sharded over. On a CPU, start Python with
            XLA_FLAGS=--xla_force_host_platform_device_count=n to have n of them.
        scatter: how a message-passing potential collects the gradients of features that atoms share: True adds them up
            as they come, block by block; False keeps those of all edges and gathers them through the reverse slots of
            the list, always in the same order. None: True on a CPU, False on an accelerator.
    """

    block: int | None = None
    precision: str | None = None
    devices: int | None = None
    scatter: bool | None = None

    def __post_init__(self):
        if self.precision not in (None, *PRECISIONS):
            raise ValueError(f"precision must be None or one of {', '.join(PRECISIONS)}; got {self.precision!r}.")
        if self.block is not None and self.block < 1:
            raise ValueError(f"block is a number of rows and must be positive; got {self.block}.")
        if self.devices is not None and not 1 <= self.devices <= jax.device_count():
            raise ValueError(
                f"devices={self.devices}, but this process has {jax.device_count()}. On a CPU set XLA_FLAGS="
                f"--xla_force_host_platform_device_count={self.devices} before jax is imported."
            )

    def network(self, graph: Graph, params):
        """Return graph and parameters as a potential gets them."""
        return (graph, params) if self.precision is None else cast((graph, params), jnp.float32)

    @property
    def products(self) -> str:
        """The precision of matrix products that ask for none."""
        return "highest" if self.precision in (None, "mixed") else self.precision

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


class Rows(NamedTuple):
    """What a block of rows needs; leading axis: atoms."""

    index: Array
    reverse: Array
    X: Array
    species: Array
    atom: Array


def rows_of(neighbors: Neighbors, X: Array, species: Array, n: int) -> Rows:
    """The rows of all atoms, padded to n."""
    own = jnp.arange(len(species), dtype=jnp.int32)
    rows = Rows(neighbors.index, neighbors.reverse, X[: len(species)], species, own)
    fill = Rows(len(X) - 1, -1, 0, -1, len(species))
    return Rows(*(pad(x, n, v) for x, v in zip(rows, fill)))


def sites(R: Array, box: Array | None, neighbors: Neighbors) -> Array:
    """Return the positions (sites, 3) Å of the atoms and images that `neighbors` points to."""
    X = jnp.concatenate([R, R.at[neighbors.owner[len(R) :]].get(mode="promise_in_bounds")])
    return X if box is None else X + times(neighbors.image.astype(R.dtype), box)


def full_graph(potential: Potential, R: Array, box: Array | None, species: Array, neighbors: Neighbors) -> Graph:
    """Return the graph of all atoms, differentiable in R and box."""
    X = sites(R, box, neighbors)
    rows = rows_of(neighbors, X, species, len(R))
    return graph_of(
        potential, rows, vectors_of(planes_of(X), rows, neighbors.shells[-1][0]), R, box, species, neighbors
    )


def planes_of(X: Array) -> list[Array]:
    """The coordinates of the sites as contiguous planes."""
    return [X[:, k] for k in range(3)]


def vectors_of(planes: list[Array], rows: Rows, cutoff: float) -> tuple[Array, ...]:
    """The planes of r_ij, three (n, M); padded slots get a vector 3.5 times longer than the cutoff."""
    mask = rows.index < len(planes[0]) - 1
    d = [x.at[rows.index].get(mode="promise_in_bounds") - rows.X[:, k, None] for k, x in enumerate(planes)]
    return tuple(jnp.where(mask, x, 2.0 * cutoff) for x in d)


def graph_of(potential, rows: Rows, vectors, R, box, species, neighbors: Neighbors) -> Graph:
    atoms = neighbors.owner.at[rows.index].get(mode="promise_in_bounds")
    own = jnp.maximum(rows.species, 0)
    if len(potential.species) == 1:
        theirs = jnp.zeros_like(rows.index)
    else:
        theirs = jnp.maximum(species, 0)[neighbors.owner].at[-1].set(0)
        theirs = theirs.at[rows.index].get(mode="promise_in_bounds")
    mask = rows.index < len(neighbors.owner) - 1
    back = jnp.where(rows.reverse >= 0, rows.reverse % mask.shape[1], -1)
    return Graph(own, vectors, atoms, theirs, mask, R, box, neighbors.shells, rows.species >= 0, rows.atom, back)


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x, tree)


def summed(planes) -> Array:
    """Sums over neighbours, (n, 3), of three planes (n, M).

    As products with ones: XLA on a CPU splits the sum of a long row in two passes, a tenth of a Lennard-Jones step.
    """
    ones = jnp.ones(planes[0].shape[1], planes[0].dtype)
    return jnp.stack([jnp.matmul(x, ones, precision=lax.Precision.HIGHEST) for x in planes], axis=1)


def moments(r, G) -> Array:
    """sum_j r_ij (x) G_ij, (n, 3, 3), of planes."""
    return jnp.stack([jnp.stack([jnp.sum(a * b, axis=1) for b in G], axis=1) for a in r], axis=1)


def moment(r, G, symmetric: bool = False) -> Array:
    """sum_ij r_ij (x) G_ij, (3, 3), of planes (n, M); six sums instead of nine where it is known to be symmetric."""
    total: dict[tuple[int, int], Array] = {}
    for i, a in enumerate(r):
        columns = range(i if symmetric else 0, 3)
        row = jnp.sum(summed([a * G[j] for j in columns]), axis=0)
        total |= {(i, j): row[k] for k, j in enumerate(columns)}
    return jnp.stack([jnp.stack([total.get((i, j), total.get((j, i))) for j in range(3)]) for i in range(3)])


def incoming(G, reverse: Array) -> list[Array]:
    """G_ji for every edge i -> j, three planes (n, M), from the edge gradients of all rows, three planes (N, M)."""
    known = reverse >= 0
    slot = jnp.maximum(reverse, 0)
    return [jnp.where(known, x.reshape(-1).at[slot].get(mode="promise_in_bounds"), 0) for x in G]


def pad(x: Array, n: int, value) -> Array:
    return x if len(x) == n else jnp.pad(x, [(0, n - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=value)


def flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])
