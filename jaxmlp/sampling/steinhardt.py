"""Order of the bonds around atoms: the q_l and w_l of Steinhardt, their averages, and numbers of solid-like atoms.

Neighbours count with smooth weights, so that all these are smooth functions of the positions: f(r) = 1 below `inner`, 0
beyond the cutoff, with two continuous derivatives. Where all neighbours are nearer than `inner` or beyond the cutoff,
the values are those of the usual definitions. For crystals at finite temperature let f fall over the gap after the
first (for bcc the second) shell.
"""

from dataclasses import dataclass, field

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.coupling import real_wigner_3j
from jaxmlp.basis.cutoffs import polynomial_core
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.neighbors.graph import Graph
from jaxmlp.sampling.blocks import by_rows
from jaxmlp.sampling.structure import check_range, fade, group
from jaxmlp.sampling.variables import Variable, chosen, root


@dataclass(frozen=True)
class BondOrder(Variable):
    """What variables of the directions of bonds share.

    q_lm(i) = sum_j f(r_ij) Y_lm(r_ij) / D(sum_j f(r_ij)), with D(n) = n from one neighbour on. Below, where an atom is
    about to lose its last neighbour, D(n) = 3/8 + 3/4 n^2 - n^4/8, and q_lm fades with it. Y_lm are real; sums over all
    m of products of two, and the w_l, are those of the complex ones.

    Args:
        l: degree.
        cutoff, inner: Å.
        atoms: indices of the atoms i; None for all. All atoms are neighbours.
    """

    l: int
    cutoff: float = field()  # else dataclasses take the class attribute of `Variable` for a default
    inner: float = field()
    atoms: tuple[int, ...] | None = None

    def __post_init__(self):
        name = type(self).__name__
        if not (isinstance(self.l, int) and self.l >= 1):
            raise ValueError(f"{name}.l is the degree of spherical harmonics, 1, 2 ...; got {self.l!r}.")
        check_range(name, self.inner, self.cutoff)
        group(self, "atoms")

    def bonds(self, graph: Graph) -> tuple[Array, Array]:
        """Return weights f (N, M) and sums over neighbours of f Y_lm, (N, 2 l + 1)."""

        def row(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
            r = jnp.sqrt(x * x + y * y + z * z)
            f = fade(r, self.inner, self.cutoff)
            harmonics = real_harmonics(x / r, y / r, z / r, self.l, self.l)
            return f, jnp.stack([jnp.sum(f * Y) for Y in harmonics])

        f, sums = by_rows(row, graph.planes)
        return graph.existing(f), graph.existing(sums)

    def moments(self, graph: Graph) -> tuple[Array, Array]:
        """Return weights f (N, M) and q_lm (N, 2 l + 1)."""
        f, sums = self.bonds(graph)
        return f, sums / _divisor(jnp.sum(f, axis=1))[:, None]

    def sites(self, graph: Graph) -> Array:
        """Return the value of every atom, (N,)."""
        raise NotImplementedError(f"{type(self).__name__} has no values of single atoms.")

    def of(self, graph: Graph) -> Array:
        """Return the mean of the atoms' values, (1,)."""
        w = chosen(graph, self.atoms, f"{type(self).__name__}.atoms")
        return (w @ self.sites(graph) / jnp.sum(w))[None]


@dataclass(frozen=True)
class RotationalInvariant(BondOrder):
    """A second-order or third-order invariant of moments q_lm.

    q_l = [4 pi / (2 l + 1) sum_m |q_lm|^2]^(1/2),  w_l = sum_{m1 + m2 + m3 = 0} (l l l; m1 m2 m3) q_lm1 q_lm2 q_lm3 /
    (sum_m |q_lm|^2)^(3/2): Steinhardt, Nelson and Ronchetti, Phys. Rev. B 28, 784 (1983). Where q_l = 0 its derivatives
    are set to zero; w_l has no limit there: below 100 roundings of q_l it is 0.

    Args:
        kind: "q" or "w"; w_l vanishes for odd l.
    """

    kind: str = "q"

    def __post_init__(self):
        super().__post_init__()
        if self.kind not in ("q", "w"):
            raise ValueError(f'{type(self).__name__}.kind is "q" or "w"; got {self.kind!r}.')
        if self.kind == "w" and self.l % 2:
            raise ValueError(f"w_l is zero for odd l; got l={self.l}.")


@dataclass(frozen=True)
class Steinhardt(RotationalInvariant):
    """s = the mean over atoms of q_l(i), or of w_l(i): the order around single atoms.

    Args:
        averaged: take in place of q_lm(i) its mean over the atom and its neighbours (with their weights f): Lechner and
            Dellago, J. Chem. Phys. 129, 114707 (2008).
    """

    averaged: bool = False

    def sites(self, graph: Graph) -> Array:
        """Return q_l(i) or w_l(i) of every atom, (N,)."""
        f, q = self.moments(graph)
        if self.averaged:
            around = sum_over_neighbors(graph, f, q)
            q = (q + around) / (1 + jnp.sum(f, axis=1))[:, None]
        return order(self.l, q, self.kind)


@dataclass(frozen=True)
class GlobalSteinhardt(RotationalInvariant):
    """s = Q_l or W_l of all bonds together, Q_lm = sum_i sum_j f Y_lm / D(sum_i sum_j f): zero in a large liquid.

    `atoms` are the atoms i.
    """

    def of(self, graph: Graph) -> Array:
        f, sums = self.bonds(graph)
        w = chosen(graph, self.atoms, "GlobalSteinhardt.atoms")
        return order(self.l, w @ sums / _divisor(w @ jnp.sum(f, axis=1)), self.kind)[None]


@dataclass(frozen=True)
class Crystallinity(BondOrder):
    """s = number of solid-like atoms: those with many neighbours whose surroundings are oriented as their own.

    s = sum_i S(n_i; connections),  n_i = sum_j f(r_ij) S(q_i . q_j / |q_i| |q_j|; bonded),  q_i = (q_lm(i)), where
    S(x; a, b) rises from 0 at a to 1 at b with two continuous derivatives. With a = b it is the criterion of ten Wolde,
    Ruiz-Montero and Frenkel, J. Chem. Phys. 104, 9932 (1996), who take l = 6 and 1/2 for `bonded`.

    Args:
        bonded: (a, b), similarity of neighbours that are connected.
        connections: (a, b), their number around a solid-like atom.
    """

    bonded: tuple[float, float] = (0.5, 0.7)
    connections: tuple[float, float] = (6.0, 8.0)

    def __post_init__(self):
        super().__post_init__()
        for name in ("bonded", "connections"):
            a, b = getattr(self, name)
            if not a < b:
                raise ValueError(f"Crystallinity.{name} is (a, b) with a < b; got {getattr(self, name)}.")

    def connected(self, graph: Graph) -> Array:
        """Return n_i, (N,)."""
        f, q = self.moments(graph)
        size = root(jnp.sum(q * q, axis=1, keepdims=True))
        u = q / jnp.where(size > 0, size, 1.0)
        alike = jnp.einsum("nm,nkm->nk", u, graph.gather(u))
        return jnp.sum(f * _step(alike, *self.bonded), axis=1)

    def sites(self, graph: Graph) -> Array:
        """Return 1 for solid-like atoms, 0 for others and what is between for those between, (N,)."""
        return _step(self.connected(graph), *self.connections)

    def of(self, graph: Graph) -> Array:
        return (chosen(graph, self.atoms, "Crystallinity.atoms") @ self.sites(graph))[None]


def order(l: int, q: Array, kind: str) -> Array:
    """Return q_l or w_l, (...), of moments q_lm (..., 2 l + 1)."""
    square = jnp.sum(q * q, axis=-1)
    if kind == "q":
        return root(4 * jnp.pi / (2 * l + 1) * square)
    cubes = jnp.einsum("...a,...b,...c,abc->...", q, q, q, jnp.asarray(real_wigner_3j(l, l, l), q.dtype))
    some = square > (100 * jnp.finfo(q.dtype).eps) ** 2
    return jnp.where(some, cubes / jnp.where(some, square, 1.0) ** 1.5, 0.0)


def sum_over_neighbors(graph: Graph, f: Array, x: Array) -> Array:
    """Return sum_j f_ij x_j, (N, K), of weights f (N, M) and features x (N, K)."""
    return jnp.einsum("nm,nmk->nk", f, graph.gather(x))


def _divisor(n: Array) -> Array:
    few = jnp.minimum(n, 1.0)
    return jnp.where(n < 1, 0.375 + 0.75 * few**2 - 0.125 * few**4, n)


def _step(x: Array, low: float, high: float) -> Array:
    return 1 - polynomial_core(jnp.clip((x - low) / (high - low), 0.0, 1.0), 2)
