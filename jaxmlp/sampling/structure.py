"""Variables of the whole system: volume, density, density waves, coordination, pair entropy."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.cutoffs import polynomial_cutoff
from jaxmlp.geometry import fractional, volume
from jaxmlp.neighbors.graph import Graph
from jaxmlp.sampling.variables import Variable, atom_indices, chosen, root


def _box(graph: Graph, name: str) -> Array:
    if graph.box is None:
        raise ValueError(f"{name} needs a box, and the system has none.")
    return graph.box


def group(variable: Variable, *fields: str) -> None:
    """Turn fields that hold atoms into tuples; None, which stands for all atoms, stays."""
    for name in fields:
        if (atoms := getattr(variable, name)) is not None:
            object.__setattr__(variable, name, atom_indices(f"{type(variable).__name__}.{name}", atoms))


def check_range(name: str, inner: float, cutoff: float) -> None:
    """Refuse distances that are not 0 <= inner < cutoff."""
    if not 0 <= inner < cutoff < float("inf"):
        raise ValueError(f"{name} needs distances 0 <= inner < cutoff in Å; got inner={inner}, cutoff={cutoff}.")


def fade(r: Array, inner: float, cutoff: float) -> Array:
    """Return 1 below `inner`, 0 beyond `cutoff`, between them a polynomial with two continuous derivatives."""
    return polynomial_cutoff(r, cutoff, 6, inner / cutoff)


@dataclass(frozen=True)
class Volume(Variable):
    """s = |det box|, Å^3."""

    def of(self, graph: Graph) -> Array:
        return volume(_box(graph, "Volume"))[None]


@dataclass(frozen=True)
class Density(Variable):
    """s = n / |det box|, 1/Å^3, the number density of some atoms.

    Args:
        atoms: indices; None for all atoms.
    """

    atoms: tuple[int, ...] | None = None

    def __post_init__(self):
        group(self, "atoms")

    def of(self, graph: Graph) -> Array:
        return jnp.sum(chosen(graph, self.atoms, "Density.atoms"))[None] / volume(_box(graph, "Density"))


@dataclass(frozen=True)
class DensityWave(Variable):
    """s = |rho_k|, rho_k = n^(-1/2) sum_j exp(-i k . R_j) over n atoms: order of long range, for interface pinning.

    Pedersen, J. Chem. Phys. 139, 104102 (2013). k = 2 pi box^-1 h follows the cell, so that a strain of all atoms
    changes nothing. With k a reciprocal vector of a perfect crystal of one atom to the primitive cell s = n^(1/2); in a
    liquid <s^2> is its structure factor. Its derivatives are set to zero where it is 0.

    Args:
        h: (h_a, h_b, h_c), whole waves along the three lattice vectors of the box.
        atoms: indices; None for all atoms.
    """

    h: tuple[int, int, int]
    atoms: tuple[int, ...] | None = None

    def __post_init__(self):
        group(self, "atoms")
        h = np.asarray(self.h)
        if h.shape != (3,) or h.dtype.kind not in "iu" or not h.any():
            raise ValueError(f"DensityWave.h must be three integers, not all zero; got {self.h}.")
        object.__setattr__(self, "h", tuple(h.tolist()))

    def of(self, graph: Graph) -> Array:
        turns = fractional(graph.R, _box(graph, "DensityWave")) @ jnp.asarray(self.h, graph.R.dtype)
        phase = 2 * jnp.pi * (turns - jnp.round(turns))  # unwrapped atoms may have made many turns
        w = chosen(graph, self.atoms, "DensityWave.atoms")
        waves = jnp.stack([w @ jnp.cos(phase), w @ jnp.sin(phase)])
        return root(waves @ waves / jnp.sum(w))[None]


@dataclass(frozen=True)
class Coordination(Variable):
    """s = 1/|A| sum_{i in A} sum_{j in B} c(r_ij), the mean number of atoms of B around those of A.

    c(r) = f(r), or f(r) / (1 + (r / r0)^n) where `r0` is given; f falls from 1 at `inner` to 0 at the cutoff with two
    continuous derivatives. All images count; an atom is no neighbour of itself.

    Args:
        cutoff, inner: Å.
        a, b: indices; None for all atoms.
        r0: Å, where the rational function is 1/2.
        n: its exponent.
    """

    cutoff: float = field()  # else dataclasses take the class attribute of `Variable` for a default
    inner: float = field()
    a: tuple[int, ...] | None = None
    b: tuple[int, ...] | None = None
    r0: float | None = None
    n: int = 6

    def __post_init__(self):
        group(self, "a", "b")
        check_range("Coordination", self.inner, self.cutoff)
        if self.r0 is not None and not self.r0 > 0:
            raise ValueError(f"Coordination.r0 is a distance in Å and must be positive; got {self.r0}.")

    def of(self, graph: Graph) -> Array:
        r = graph.distances
        c = fade(r, self.inner, self.cutoff)
        if self.r0 is not None:
            c = c / (1 + (r / self.r0) ** self.n)
        own, theirs = chosen(graph, self.a, "Coordination.a"), chosen(graph, self.b, "Coordination.b")
        return (own @ jnp.sum(c * graph.gather(theirs), axis=1) / jnp.sum(own))[None]


@dataclass(frozen=True)
class PairEntropy(Variable):
    """s = -2 pi rho int_0^r_m [g(r) ln g(r) - g(r) + 1] r^2 dr, entropy of pairs in units of k_B per atom.

    g(r) = 1 / (4 pi N rho r^2) sum_{i != j} exp(-(r - r_ij)^2 / 2 width^2) / (2 pi width^2)^(1/2), as in Piaggi,
    Valsson and Parrinello, Phys. Rev. Lett. 119, 015701 (2017); rho = N / V. The more order, the lower it is. Pairs
    between r_m + 3 width and r_m + 4 width are faded out: the Gaussian of such a pair reaches 1 % at r_m.

    Args:
        r_m: Å, end of the integral.
        width: Å, of the Gaussians.
        points: of the trapezoidal rule; they should be nearer to each other than `width`.
    """

    r_m: float
    width: float = 0.125
    points: int = 100

    def __post_init__(self):
        if not (0 < self.r_m < float("inf") and 0 < self.width < float("inf")):
            raise ValueError(f"PairEntropy.r_m and width are lengths in Å; got {self.r_m} and {self.width}.")
        if not self.r_m / self.points < self.width:
            raise ValueError(
                f"PairEntropy: {self.points} points up to {self.r_m} Å are too few for a width of {self.width} Å; "
                f"take {int(2 * self.r_m / self.width)}."
            )

    @property
    def cutoff(self):
        return self.r_m + 4 * self.width

    def of(self, graph: Graph) -> Array:
        dtype, N = graph.R.dtype, jnp.sum(chosen(graph, None, ""))
        rho = N / volume(_box(graph, "PairEntropy"))
        grid = np.linspace(0, self.r_m, self.points + 1)[1:]  # the integrand is 0 at r = 0
        weight = np.where(np.arange(self.points) == self.points - 1, 0.5, 1.0) * (grid[1] - grid[0])
        r = graph.distances
        pairs = graph.existing(fade(r, self.cutoff - self.width, self.cutoff))
        scale = 1 / (self.width * math.sqrt(2 * math.pi))  # a numpy number would be of double precision

        def count(at):
            return jnp.sum(pairs * jnp.exp(-0.5 * jnp.square((r - at) / self.width))) * scale

        at = jnp.asarray(grid, dtype)
        g = lax.map(jax.checkpoint(count), at) / (4 * jnp.pi * N * rho * at * at)
        some = g > jnp.finfo(dtype).tiny
        g_ln_g = jnp.where(some, g * jnp.log(jnp.where(some, g, 1.0)), 0.0)
        return (-2 * jnp.pi * rho * (jnp.asarray(weight, dtype) @ ((g_ln_g - g + 1) * at * at)))[None]
