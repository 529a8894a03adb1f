"""Symmetry functions of Behler and Parrinello: radial and angular sums over the neighbours of an atom.

Behler, J. Chem. Phys. 134, 074106 (2011); weighted: Gastegger et al., J. Chem. Phys. 148, 241709 (2018); compact
support: Bircher, Singraber, Dellago, Mach. Learn.: Sci. Technol. 2, 035026 (2021); type 30: Smith, Isayev, Roitberg,
Chem. Sci. 8, 3192 (2017). The other type numbers are those of n2p2.
"""

import functools
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.cutoffs import compact, polynomial_cutoff
from jaxmlp.basis.edges import length
from jaxmlp.basis.neighbor_pairs import Pairs, arccos, materialised, sine
from jaxmlp.neighbors.graph import Graph

RADIAL, ANGULAR = (2, 12, 20, 23), (3, 9, 13, 21, 22, 24, 25, 30)
COMPACT, WEIGHTED = (20, 21, 22, 23, 24, 25), (12, 13, 23, 24, 25)
NARROW = (3, 13, 21, 24)  # with factors of the third distance
MEAN = 30  # with a Gaussian of the mean distance, ANI's


@dataclass(frozen=True)
class SymmetryFunction:
    """One function; lengths in the unit of its model, angles in degrees. What a type does not use keeps its default.

    Type 30 is 2^(1 - zeta) sum_(j < k) (1 + cos(theta' - angle))^zeta exp(-eta ((r_ij + r_ik) / 2 - shift)^2) f f, with
    cos theta' = cosine_scale cos theta.

    Args:
        kind: the type, 2, 3, 9, 12, 13, 20 to 25 or 30.
        elements: atomic numbers of the neighbours, growing; none for weighted types.
        cutoff: the outer radius.
        eta, shift: the Gaussian exp(-eta (r - shift)^2).
        lambd, zeta: the angular factor 2^(1 - zeta) (1 + lambd cos theta)^zeta.
        left: inner end of a compact radial function.
        angles: ends of the compact angular function.
        core: name of a compact function, p1 to p4 (with a for asymmetric) or e.
        cutoff_type, alpha: cutoff function and inner radius / cutoff, of types that are not compact.
        angle, cosine_scale: of type 30.
        factor: what the sum is multiplied by.
    """

    kind: int
    elements: tuple[int, ...]
    cutoff: float
    eta: float = 0.0
    shift: float = 0.0
    lambd: float = 1.0
    zeta: float = 1.0
    left: float = 0.0
    angles: tuple[float, float] = (0.0, 0.0)
    core: str = ""
    cutoff_type: int = 0
    alpha: float = 0.0
    angle: float = 0.0
    cosine_scale: float = 1.0
    factor: float = 1.0

    def __post_init__(self):
        wanted = 0 if self.kind in WEIGHTED else 1 if self.kind in RADIAL else 2
        if self.kind not in RADIAL + ANGULAR or len(self.elements) != wanted:
            raise ValueError(f"no symmetry function has type {self.kind} and the neighbour elements {self.elements}.")
        if not 0 < self.cutoff < float("inf") or not self.left < self.cutoff or not 0 <= self.alpha < 1:
            raise ValueError(f"a symmetry function needs left < cutoff, cutoff > 0 and 0 <= alpha < 1; got {self}.")

    @property
    def radial(self) -> tuple[tuple, tuple[float, ...]]:
        """The family of its function of a distance, and what is different within a family."""
        if self.kind in COMPACT:
            return ("compact", self.cutoff, self.core), (self.left,)
        return ("mean" if self.kind == MEAN else "gauss", self.cutoff, self.cutoff_type, self.alpha), (
            self.eta,
            self.shift,
        )

    @property
    def angular(self) -> tuple[tuple, tuple[float, ...]]:
        """The family of its function of the angle, and what is different within a family."""
        if self.kind in COMPACT:
            return ("compact", self.core.rstrip("a")), self.angles
        if self.kind == MEAN:
            return ("shifted", self.cosine_scale), (self.angle, self.zeta)
        return ("power",), (self.lambd, self.zeta)


def radial_factors(keys: list[tuple], r: Array, window: Array) -> Array:
    """Return exp(-eta (r - shift)^2) window, or compact functions times window, (n, K, ...), of distances r (n, ...).

    Args:
        keys: `SymmetryFunction.radial` of each function, all of one family.
        window: (n, ...).
    """
    family = keys[0][0]
    columns = [
        np.reshape(c, (-1, *[1] * (r.ndim - 1))).astype(r.dtype) for c in zip(*(p for _, p in keys), strict=True)
    ]
    r, window = r[:, None], window[:, None]
    if family[0] == "compact":
        return compact(r, columns[0], *family[1:]) * window
    eta, shift = columns
    return jnp.exp(-eta * ((r - shift) ** 2 if shift.any() else r * r)) * window


def radial_window(family: tuple, r: Array) -> Array:
    """Return the cutoff function of a family; 1 for compact functions, which have none."""
    return jnp.ones_like(r) if family[0] == "compact" else polynomial_cutoff(r, *family[1:])


def angular_factors(keys: list[tuple], cosine: Array) -> list[Array]:
    """Return ((1 + lambda cos theta) / 2)^zeta (0 where 1 + lambda cos theta < 0), compact or ANI's functions of theta.

    Args:
        keys: `SymmetryFunction.angular` of each function.
        cosine: of the angles, any shape.
    """
    compacts = any(family[0] == "compact" for family, _ in keys)
    theta = arccos(cosine) if compacts else None
    powers: dict[tuple, Array] = {}

    def power(base: Array, zeta: int, name: tuple) -> Array:
        """base^zeta; products are shared between exponents."""
        if zeta > 1 and (name, zeta) not in powers:
            half = power(base, zeta // 2, name)
            powers[name, zeta] = half * half if zeta % 2 == 0 else half * half * base
        return powers[name, zeta] if zeta > 1 else base

    planes = []
    for family, (first, second) in keys:
        if family[0] == "compact":
            planes.append(compact(theta, np.deg2rad(first).item(), np.deg2rad(second).item(), family[1]))
            continue
        if family[0] == "power":
            base = 0.5 + (0.5 * first) * cosine
            base = jnp.maximum(base, 0.0) if abs(first) > 1 else base
        else:
            c, turn = family[1] * cosine, np.deg2rad(first)
            base = 0.5 + (0.5 * np.cos(turn).item()) * c + (0.5 * np.sin(turn).item()) * sine(c)
        if second == int(second) and second >= 1:
            planes.append(power(base, int(second), (family, first)))
        else:
            positive = base > 0
            planes.append(jnp.where(positive, jnp.where(positive, base, 1.0) ** second, 0.0))
    return planes


def symmetry_functions(functions: tuple[SymmetryFunction, ...], species: tuple[int, ...], unit: float, graph: Graph):
    """Return the values (n, K) of all `functions` at every atom.

    Args:
        species: atomic numbers of the species of the graph.
        unit: Å, the length unit of the functions.
    """
    groups: dict[tuple, list[int]] = {}
    for k, f in enumerate(functions):
        # Angles do not know of the cutoff: where only they belong to a pair, one list serves all cutoffs.
        kind = _radial if f.kind in RADIAL else _narrow if f.kind in NARROW or f.kind == MEAN else _wide
        groups.setdefault((kind, 0.0 if kind is _wide else f.cutoff), []).append(k)
    values, place, width = [], np.zeros(len(functions), int), 0
    for (evaluate, _), chosen in groups.items():
        members = [functions[k] for k in chosen]
        flat, where = evaluate(members, species, unit, graph.within(max(f.cutoff for f in members) * unit))
        place[chosen] = width + np.array(where)
        width += flat.shape[1]
        values.append(flat)
    # 2^(1 - zeta) (1 + x)^zeta = 2 ((1 + x) / 2)^zeta
    factors = np.array([f.factor * (2.0 if f.kind in (3, 9, 13, MEAN) else 1.0) for f in functions])
    return jnp.concatenate(values, axis=1)[:, place] * factors.astype(values[0].dtype)


def _channels(species: tuple[int, ...], graph: Graph) -> list[Array]:
    """S + 1 planes (n, M): 1 where a neighbour has the species; last, its atomic number."""
    dtype = graph.planes[0].dtype
    chosen = [(graph.neighbor_species == s).astype(dtype) for s in range(len(species))]
    if len(species) == 1:
        chosen = [jnp.ones_like(graph.planes[0])]
    return [*chosen, functools.reduce(jnp.add, (z * w for z, w in zip(species, chosen, strict=True)))]


def _elements(f: SymmetryFunction, species: tuple[int, ...]) -> tuple[int, ...]:
    """The channels of its neighbours, growing."""
    if not f.elements:
        return (len(species),) * (1 if f.kind in RADIAL else 2)
    return tuple(sorted(species.index(z) for z in f.elements))


def _edges(functions, species, r: Array, graph: Graph) -> tuple[list, list, Array, Array]:
    """Radial keys (Q) and channels (C) in use; the radial factors (n, Q, M) and channels (n, C, M) of the edges."""
    keys = sorted({f.radial for f in functions})
    used = sorted({e for f in functions for e in _elements(f, species)})
    families = [(family, list(group)) for family, group in groupby(keys, itemgetter(0))]
    g = jnp.concatenate([radial_factors(group, r, radial_window(family, r)) for family, group in families], axis=1)
    channels = _channels(species, graph)
    return keys, used, g, jnp.stack([channels[c] for c in used], axis=1)


def _radial(functions, species, unit, graph: Graph) -> tuple[Array, list[int]]:
    keys, used, g, channels = _edges(functions, species, length(*graph.planes) / unit, graph)
    sums = jnp.einsum("nqm,ncm->nqc", g, channels, precision="highest")
    place = [keys.index(f.radial) * len(used) + used.index(_elements(f, species)[0]) for f in functions]
    return sums.reshape(len(g), -1), place


def _narrow(functions, species, unit, graph: Graph) -> tuple[Array, list[int]]:
    """Planes E = g_j g_k g(r_jk), or f_j f_k g(mean), of radial functions and elements, times planes A of angles."""
    pairs = Pairs(unit, graph)
    angles = sorted({f.angular for f in functions})
    A = [materialised(a) for a in angular_factors(angles, pairs.cosine)]
    channels = _channels(species, graph)
    kinds = {f.radial[0] for f in functions}
    third = {kind: pairs.mean() if kind == "mean" else pairs.gap(1e-6 * functions[0].cutoff) for kind, *_ in kinds}
    window = {family: radial_window(family, pairs.r) for family in kinds}
    planes = {f: pairs.weight * (1.0 if f[0] == "mean" else radial_window(f, third[f[0]])) for f in kinds}
    planes = {f: materialised(jnp.broadcast_to(x, pairs.cosine.shape)) for f, x in planes.items()}
    # Radial functions that go with the same elements and angles share one product of matrices.
    needs: dict[tuple, tuple[set, set]] = {}
    for f in functions:
        couples, which = needs.setdefault(f.radial, (set(), set()))
        couples.add(_elements(f, species))
        which.add(angles.index(f.angular))
    groups: dict[tuple, list[tuple]] = {}
    for key, (couples, which) in needs.items():
        groups.setdefault((key[0], tuple(sorted(couples)), tuple(sorted(which))), []).append(key)
    place: dict[tuple, int] = {}
    values, width, n = [], 0, len(pairs.r)
    for (family, couples, which), keys in groups.items():
        g = window[family][:, None] if family[0] == "mean" else radial_factors(keys, pairs.r, window[family])
        t = radial_factors(keys, third[family[0]], planes[family])
        rows = []
        for a, b in couples:
            ga, gb = (g * channels[c][:, None] for c in (a, b))
            one, two = ([ga], [gb]) if a == b else ([ga, gb], [gb, ga])
            rows.append(pairs.products(jnp.stack(one, axis=2), jnp.stack(two, axis=2)) * t)
        E = jnp.stack(rows, axis=1).reshape(n, len(couples) * len(keys), -1)
        angular = jnp.stack([A[l] for l in which], axis=1).reshape(n, len(which), -1)
        values.append(jnp.einsum("nrp,nlp->nrl", E, angular, precision="highest").reshape(n, -1))
        names = [(key, couple, l) for couple in couples for key in keys for l in which]
        place |= {name: width + k for k, name in enumerate(names)}
        width += len(names)
    where = [place[f.radial, _elements(f, species), angles.index(f.angular)] for f in functions]
    return jnp.concatenate(values, axis=1), where


def _wide(functions, species, unit, graph: Graph) -> tuple[Array, list[int]]:
    """sum_jk g_j A_jk g_k, the sum over k by one product of matrices for all radial functions and elements."""
    pairs = Pairs(unit, graph)
    angles = sorted({f.angular for f in functions})
    A = jnp.stack([materialised(a * pairs.weight) for a in angular_factors(angles, pairs.cosine)], axis=2)
    keys, used, g, channels = _edges(functions, species, pairs.r, graph)
    n, q, c = len(g), len(keys), len(used)
    h = (g[:, :, None] * channels[:, None]).reshape(n, q * c, -1)
    left, right = pairs.left(h), pairs.right(h)  # (n, P, Q C, m)
    U = jnp.einsum("npljk,npck->npljc", A, right, precision="highest").reshape(n, *A.shape[1:4], q, c)
    left = left.reshape(n, len(pairs.parts), q, c, -1)
    T = jnp.einsum("npqaj,npljqb->nqlab", left, U, precision="highest")
    T = jnp.where(np.eye(c, dtype=bool), T, T + jnp.swapaxes(T, 3, 4))
    index = np.arange(T[0].size).reshape(T.shape[1:])
    where = []
    for f in functions:
        a, b = (used.index(e) for e in _elements(f, species))
        where.append(int(index[keys.index(f.radial), angles.index(f.angular), a, b]))
    return T.reshape(n, -1), where
