"""Symmetry functions of Behler and Parrinello: radial and angular sums over the neighbours of an atom.

Behler, J. Chem. Phys. 134, 074106 (2011); weighted: Gastegger et al., J. Chem. Phys. 148, 241709 (2018); compact
support: Bircher, Singraber, Dellago, Mach. Learn.: Sci. Technol. 2, 035026 (2021). Type numbers are those of n2p2.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.cutoffs import compact, polynomial_cutoff
from jaxmlp.basis.edges import length
from jaxmlp.neighbors.graph import Graph

RADIAL, ANGULAR = (2, 12, 20, 23), (3, 9, 13, 21, 22, 24, 25)
COMPACT, WEIGHTED = (20, 21, 22, 23, 24, 25), (12, 13, 23, 24, 25)
NARROW = (3, 13, 21, 24)  # with factors of the third distance


@dataclass(frozen=True)
class SymmetryFunction:
    """One function; lengths in the unit of its model, angles in degrees. What a type does not use keeps its default.

    Args:
        kind: the type, 2, 3, 9, 12, 13 or 20 to 25.
        elements: atomic numbers of the neighbours, growing; none for weighted types.
        cutoff: the outer radius.
        eta, shift: the Gaussian exp(-eta (r - shift)^2).
        lambd, zeta: the angular factor 2^(1 - zeta) (1 + lambd cos theta)^zeta.
        left: inner end of a compact radial function.
        angles: ends of the compact angular function.
        core: name of a compact function, p1 to p4 (with a for asymmetric) or e.
        cutoff_type, alpha: cutoff function and inner radius / cutoff, of types that are not compact.
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

    def __post_init__(self):
        wanted = 0 if self.kind in WEIGHTED else 1 if self.kind in RADIAL else 2
        if self.kind not in RADIAL + ANGULAR or len(self.elements) != wanted:
            raise ValueError(f"no symmetry function has type {self.kind} and the neighbour elements {self.elements}.")
        if not 0 < self.cutoff < float("inf") or not self.left < self.cutoff or not 0 <= self.alpha < 1:
            raise ValueError(f"a symmetry function needs left < cutoff, cutoff > 0 and 0 <= alpha < 1; got {self}.")

    @property
    def radial(self) -> tuple:
        """What decides the radial factor of one distance."""
        if self.kind in COMPACT:
            return ("compact", self.left, self.cutoff, self.core)
        return ("gauss", self.eta, self.shift, self.cutoff, self.cutoff_type, self.alpha)

    @property
    def angular(self) -> tuple:
        """What decides the factor of the angle; without the prefactor."""
        return ("compact", *self.angles, self.core.rstrip("a")) if self.kind in COMPACT else (self.lambd, self.zeta)


def radial_factor(key: tuple, r: Array) -> Array:
    """Return exp(-eta (r - shift)^2) f(r), or a compact function, of distances; zero beyond the cutoff."""
    if key[0] == "compact":
        return compact(r, *key[1:])
    _, eta, shift, cutoff, kind, alpha = key
    f = polynomial_cutoff(r, cutoff, kind, alpha)
    if eta == 0:
        return f
    safe = jnp.minimum(r, 2 * cutoff)
    return jnp.exp(-eta * (safe - shift) ** 2) * f


def angular_factor(key: tuple, cosine: Array) -> Array:
    """Return 2^(1 - zeta) max(1 + lambda cos theta, 0)^zeta, or a compact function of theta, of cosines."""
    if key[0] == "compact":
        inside = jnp.abs(cosine) < 1 - 4 * jnp.finfo(cosine.dtype).eps
        ends = jnp.where(cosine > 0, jnp.zeros_like(cosine), jnp.full_like(cosine, np.pi))
        theta = jnp.where(inside, jnp.arccos(jnp.where(inside, cosine, 0.0)), ends)
        return compact(theta, np.deg2rad(key[1]).item(), np.deg2rad(key[2]).item(), key[3])
    lambd, zeta = key
    base = 1 + lambd * cosine
    if zeta == int(zeta):
        return 2.0 ** (1 - zeta) * jnp.maximum(base, 0.0) ** int(zeta)
    positive = base > 0
    return jnp.where(positive, 2.0 ** (1 - zeta) * jnp.where(positive, base, 1.0) ** zeta, 0.0)


def symmetry_functions(functions: tuple[SymmetryFunction, ...], species: tuple[int, ...], unit: float, graph: Graph):
    """Return the values (n, K) of all `functions` at every atom.

    Args:
        species: atomic numbers of the species of the graph.
        unit: Å, the length unit of the functions.
    """
    columns: dict[int, Array] = {}
    for kinds, evaluate in ((RADIAL, _radial), (ANGULAR, _angular)):
        cutoffs = sorted({f.cutoff for f in functions if f.kind in kinds})
        for cutoff in cutoffs:
            chosen = [k for k, f in enumerate(functions) if f.kind in kinds and f.cutoff == cutoff]
            values = evaluate([functions[k] for k in chosen], species, unit, graph.within(cutoff * unit))
            columns |= {k: values[:, i] for i, k in enumerate(chosen)}
    return jnp.stack([columns[k] for k in range(len(functions))], axis=1)


def _weights(species: tuple[int, ...], graph: Graph, dtype) -> Array:
    """(n, S + 1, M): 1 where a neighbour has the species; last, its atomic number."""
    chosen = [(graph.neighbor_species == s).astype(dtype) for s in range(len(species))]
    numbers = sum(z * w for z, w in zip(species, chosen, strict=True))
    return jnp.stack([*chosen, numbers], axis=1)


def _radial(functions, species, unit, graph: Graph) -> Array:
    r = length(*graph.planes) / unit
    keys = sorted({f.radial for f in functions}, key=str)
    values = jnp.stack([radial_factor(key, r) for key in keys], axis=1)
    sums = jnp.einsum("nfm,ncm->nfc", values, _weights(species, graph, r.dtype), precision="highest")
    which = [species.index(f.elements[0]) if f.elements else len(species) for f in functions]
    return sums[:, np.array([keys.index(f.radial) for f in functions]), np.array(which)]


def _angular(functions, species, unit, graph: Graph) -> Array:
    """Ordered pairs of neighbours as (n, M, M) planes; a pair of one kind is counted twice, hence the halves."""
    x = [p / unit for p in graph.planes]
    r = length(*x)
    n, m = r.shape
    cutoff = functions[0].cutoff
    near = r < cutoff
    valid = near[:, :, None] & near[:, None, :] & ~jnp.eye(m, dtype=bool)
    inverse = 1.0 / r
    dots = sum(a[:, :, None] * a[:, None, :] for a in x)
    cosine = jnp.clip(jnp.where(valid, dots * (inverse[:, :, None] * inverse[:, None, :]), 0.0), -1.0, 1.0)
    square = r * r
    gap2 = jnp.where(valid, square[:, :, None] + square[:, None, :] - 2 * dots, 4 * cutoff * cutoff)
    gap = jnp.sqrt(jnp.maximum(gap2, 1e-12))
    angular = sorted({f.angular for f in functions}, key=str)
    A = jnp.stack([angular_factor(key, cosine) for key in angular], axis=1).reshape(n, len(angular), m * m)
    weights = _weights(species, graph, r.dtype)
    columns: list = [None] * len(functions)
    groups: dict = {}
    for k, f in enumerate(functions):
        groups.setdefault((f.radial, f.kind in NARROW), []).append(k)
    for (key, narrow), members in groups.items():
        g = radial_factor(key, r)[:, None] * weights
        third = jnp.where(valid, radial_factor(key, gap), 0.0) if narrow else valid.astype(r.dtype)
        pairs = {}
        for k in members:
            e = functions[k].elements
            pairs[k] = tuple(sorted(species.index(z) for z in e)) if e else (len(species),) * 2
        channels = sorted(set(pairs.values()))
        E = [(1.0 if a != b else 0.5) * g[:, a, :, None] * g[:, b, None, :] * third for a, b in channels]
        E = jnp.stack(E, axis=1).reshape(n, len(channels), m * m)
        sums = jnp.einsum("ncp,nap->nca", E, A, precision="highest")
        for k in members:
            columns[k] = sums[:, channels.index(pairs[k]), angular.index(functions[k].angular)]
    return jnp.stack(columns, axis=1)
