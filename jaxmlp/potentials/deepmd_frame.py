"""The local-frame descriptor of the first Deep Potential papers."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.deepmd_environment import among
from jaxmlp.basis.edges import length
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd_descriptors import Pairs


@dataclass(frozen=True)
class LocalFrame:
    """D_i lists, by species and then by distance, (1/r, u_1/r, u_2/r, u_3/r) of neighbours in the atom's own frame.

    Han, Zhang, Car, E, Commun. Comput. Phys. 23, 629 (2018); Zhang et al., PRL 120, 143001 (2018), Eq. (2); loc_frame
    of deepmd-kit. u_a are the components of the direction along the axes e_1 = u(first), e_2 the part of u(second)
    perpendicular to e_1, normalised, e_3 = e_1 x e_2. The sel_a[t] nearest neighbours of species t give four numbers,
    the next sel_r[t] give 1/r only; empty places hold zeros. All are normalised as (D - davg) / dstd.

    The energy has steps by definition: where a neighbour crosses the cutoff, where neighbours change places in the
    order, and under reflection, which turns e_3 around. Atoms without the two axis neighbours get u = 0.

    Parameters: "davg" and "dstd", (S, D).

    Args:
        cutoff: Å.
        sel_a, sel_r: for each species, neighbours with full and with radial information.
        axes: for each species of the centre, (class, species, place) of the first and of the second axis neighbour, six
            numbers: class 0 counts among the sel_a, 1 among the sel_r; place 0 is the nearest of its kind. `axis_rule`.
    """

    cutoff: float
    sel_a: tuple[int, ...]
    sel_r: tuple[int, ...]
    axes: tuple[tuple[int, int, int, int, int, int], ...]

    def __post_init__(self):
        s = len(self.sel_a)
        if not 0 < self.cutoff < float("inf") or len(self.sel_r) != s or len(self.axes) != s:
            raise ValueError("LocalFrame needs a cutoff in Å, and sel_a, sel_r and axes for each species.")
        for c, t, k in (rule[j : j + 3] for rule in self.axes for j in (0, 3)):
            if c not in (0, 1) or not 0 <= t < s or not 0 <= k < (self.sel_a, self.sel_r)[c][t]:
                raise ValueError(f"LocalFrame.axes: there is no neighbour (class {c}, species {t}, place {k}).")

    @property
    def sel(self) -> tuple[int, ...]:
        return tuple(a + r for a, r in zip(self.sel_a, self.sel_r))

    @property
    def slots(self) -> int:
        return sum(self.sel)

    @property
    def columns(self) -> int:
        return len(self.sel_a)

    @property
    def size(self) -> int:
        return 4 * sum(self.sel_a) + sum(self.sel_r)

    def init(self, key: Array, dtype=float) -> Params:
        shape = (len(self.sel_a), self.size)
        return {"davg": jnp.zeros(shape, dtype), "dstd": jnp.ones(shape, dtype)}

    def __call__(self, params: Params, graph: Graph, total: int, removed: Pairs) -> Array:
        r = length(*graph.planes)
        inside = r < self.cutoff
        if removed:
            inside = inside & ~among(removed, graph)
        blocks, there = self._sorted(graph, r, inside)
        u = [jnp.zeros_like(r[:, :3])] * 2
        for t, rule in enumerate(self.axes):
            mine = (graph.species == t)[:, None]
            u = [jnp.where(mine, self._axis(blocks, there, rule[j : j + 3]), x) for j, x in zip((0, 3), u)]
        frame = _frame(*u)
        out = []
        for t, (a, b) in enumerate(zip(self.sel_a, self.sel_r)):
            x, on = blocks[t], there[t]
            inverse = jnp.where(on, 1.0 / jnp.where(on, length(*(x[:, c] for c in range(3))), 1.0), 0.0)  # (n, slots)
            local = jnp.einsum("nac,ncm->nma", frame, x, precision="highest") * (inverse**2)[:, :, None]
            full = jnp.concatenate([inverse[:, :a, None], local[:, :a]], axis=2)
            out.append((full.reshape(len(r), 4 * a), inverse[:, a : a + b]))
        D = jnp.concatenate([full for full, _ in out] + [radial for _, radial in out], axis=1)
        return (D - params["davg"][graph.species]) / params["dstd"][graph.species]

    def _sorted(self, graph: Graph, r: Array, inside: Array) -> tuple[list[Array], list[Array]]:
        """For each species the vectors (n, 3, slots) of its nearest neighbours in order, and which slots are filled."""
        blocks, there = [], []
        fixed = lax.stop_gradient(r)
        for t, count in enumerate(self.sel):
            here = inside & (graph.neighbor_species == t)
            order = jnp.argsort(jnp.where(here, fixed, jnp.inf), axis=1)[:, :count]
            on = _picked(here, order, count)
            blocks.append(jnp.stack([jnp.where(on, _picked(x, order, count), 1.0) for x in graph.planes], axis=1))
            there.append(on)
        return blocks, there

    def _axis(self, blocks, there, rule) -> Array:
        """The vector (n, 3) of one axis neighbour; 0 where there is none."""
        kind, t, place = rule
        slot = place + (self.sel_a[t] if kind else 0)
        return jnp.where(there[t][:, slot, None], blocks[t][:, :, slot], 0.0)

    def compress(self, params: Params, closest: float, tolerance: float):
        """Return the descriptor as it is: it has no networks."""
        return self, params

    def restrict(self, params: Params, keep: np.ndarray) -> tuple["LocalFrame", Params]:
        """Return the descriptor for the same species in another order.

        Raises:
            ValueError: some species are left out: the network would lack inputs.
        """
        if sorted(keep.tolist()) != list(range(len(self.sel_a))):
            raise ValueError("a local-frame potential cannot be restricted to some of its species.")
        if keep.tolist() == sorted(keep.tolist()):
            return self, params
        raise ValueError("a local-frame potential keeps the order of its species.")


def _picked(x: Array, order: Array, count: int) -> Array:
    """x (n, M) at the slots `order`, (n, count), filled up with zeros."""
    return jnp.pad(jnp.take_along_axis(x, order, axis=1), ((0, 0), (0, count - order.shape[1])))


def _frame(first: Array, second: Array) -> Array:
    """The axes (n, 3, 3), one in each row, from two vectors (n, 3); zeros where they do not make a frame."""
    dot = lambda a, b: jnp.sum(a * b, axis=1, keepdims=True)
    some = dot(first, first) > 0
    e1 = jnp.where(some, first, 1.0)
    e1 = jnp.where(some, e1 / jnp.sqrt(dot(e1, e1)), 0.0)
    rest = second - dot(second, e1) * e1
    some = some & (dot(rest, rest) > 0)
    e2 = jnp.where(some, rest, 1.0)
    e2 = jnp.where(some, e2 / jnp.sqrt(dot(e2, e2)), 0.0)
    e1 = jnp.where(some, e1, 0.0)
    e3 = jnp.cross(e1, e2)
    return jnp.stack([e1, e2, e3], axis=1)
