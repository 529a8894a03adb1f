"""Tersoff's bond-order potential."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from jaxmlp.basis.edges import length
from jaxmlp.basis.species import pair_values, subset, triplet_values
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential

PAIR = ("A", "B", "lambda1", "lambda2", "n", "beta")
TRIPLET = ("R", "D", "gamma", "lambda3", "c", "d", "cos_angle")

_LARGEST = 69.0776  # exp of it is 1e30; the same bound as LAMMPS'


@dataclass(frozen=True)
class Tersoff(Potential):
    """E_i = 1/2 sum_j f_C(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)).

    b_ij = (1 + (beta zeta_ij)^n)^(-1/2n), zeta_ij = sum_{k != j} f_C(r_ik) g(theta_jik) exp((lambda3 (r_ij - r_ik))^m),
    g = gamma (1 + c^2/d^2 - c^2/(d^2 + (cos theta - cos_angle)^2)), f_C = 1 below R - D, 0 beyond R + D, 1/2 - 1/2
    sin(pi/2 (r - R)/D) between: one continuous derivative. Tersoff, PRB 37, 6991 (1988) and PRB 39, 5566 (1989), in the
    form and with the parameters of LAMMPS' pair_style tersoff.

    params: "A", "B" (eV), "lambda1", "lambda2" (1/Å), "n", "beta": (S, S), centre i and neighbour j; "R", "D" (Å),
    "gamma", "lambda3" (1/Å), "c", "d", "cos_angle": (S, S, S), indexed i, j (the bond), k; f_C(r_ij) takes R[i, j, j].
    The two halves of the repulsion take their parameters from ij and ji.

    Args:
        species: atomic numbers, in the order of the axes of the parameters.
        cutoff: Å, not smaller than any R + D.
        m: the exponent m, 1 or 3: one number for all triplets, or S^3 of them, k fastest.
    """

    species: tuple[int, ...]
    cutoff: float
    m: int | tuple[int, ...] = 3
    block: ClassVar[int] = 32

    def __post_init__(self):
        if not 0 < self.cutoff < float("inf"):
            raise ValueError(f"Tersoff.cutoff is a distance in Å and must be positive; got {self.cutoff}.")
        powers = (self.m,) if isinstance(self.m, int) else self.m
        if not set(powers) <= {1, 3} or not (isinstance(self.m, int) or len(powers) == len(self.species) ** 3):
            raise ValueError(f"Tersoff.m must be 1 or 3, or S^3 such numbers for S species; got {self.m}.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        where = (graph.species, graph.neighbor_species)
        each = np.arange(len(self.species))
        p = {name: pair_values(params[name], *where) for name in PAIR}
        t = {name: triplet_values(params[name], *where) for name in TRIPLET}
        outer = pair_values((params["R"] + params["D"])[:, each, each], *where)
        distance = length(*graph.planes)
        # Distances beyond the list's use are replaced, so that no exponential grows with a padded slot's length.
        near = distance < self.cutoff
        r = jnp.where(near, distance, self.cutoff)
        bonded = distance < outer
        x, y, z = (component / r for component in graph.planes)
        cos = _outer(x) + _outer(y) + _outer(z)  # (n, M, M); of long vectors only where f_C is 0
        cos = jnp.where(near[:, :, None] & near[:, None, :], cos, 0.0)
        others = ~jnp.eye(r.shape[1], dtype=bool)
        # For one species f_C(r_ik) is a row (n, 1, M); else its range depends on j too.
        switch = jnp.where(near[:, None, :], _switch(r[:, None, :], t["R"], t["D"]), 0.0)
        stretch = self._stretch(r[:, :, None] - r[:, None, :], t, graph)
        weight = jnp.where(others, switch * _angular(cos, t) * stretch, 0.0)
        zeta = jnp.sum(weight, axis=2)
        energy = p["A"] * jnp.exp(-p["lambda1"] * r) - self._bond_order(zeta, p) * p["B"] * jnp.exp(-p["lambda2"] * r)
        own = _switch(r, *(pair_values(params[name][:, each, each], *where) for name in ("R", "D")))
        return 0.5 * jnp.sum(jnp.where(bonded, own * energy, 0.0), axis=1)

    def _stretch(self, difference: Array, t: Params, graph: Graph) -> Array:
        """exp((lambda3 (r_ij - r_ik))^m)."""
        x = t["lambda3"] * difference
        if isinstance(self.m, int):
            power = x**self.m
        else:
            cubic = jnp.asarray(np.array(self.m) == 3).reshape([len(self.species)] * 3)
            power = jnp.where(triplet_values(cubic, graph.species, graph.neighbor_species), x**3, x)
        return jnp.exp(jnp.clip(power, -_LARGEST, _LARGEST))

    def _bond_order(self, zeta: Array, p: Params) -> Array:
        """(1 + (beta zeta)^n)^(-1/2n); 1 with zero derivatives where (beta zeta)^n is below rounding, as in LAMMPS.

        Without the latter, derivatives of a lone bond (zeta = 0) are infinite for n < 1.
        """
        x = p["beta"] * zeta
        tiny = (2.0 * p["n"] * 0.5 * jnp.finfo(x.dtype).eps) ** (1.0 / p["n"])
        real = x > tiny
        exponent = p["n"] * jnp.log(jnp.where(real, x, 1.0))
        return jnp.where(real, jnp.exp(-nn.softplus(exponent) / (2.0 * p["n"])), 1.0)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Tersoff", Params]:
        keep = subset(self.species, species)
        sliced = {k: v[np.ix_(*[keep] * v.ndim)] for k, v in params.items()}
        m = self.m
        if not isinstance(m, int):
            powers = np.array(m).reshape([len(self.species)] * 3)[np.ix_(keep, keep, keep)]
            m = _one_or_all(powers)
        return replace(self, species=tuple(species), m=m), sliced


def _outer(x: Array) -> Array:
    return x[:, :, None] * x[:, None, :]


def _switch(r: Array, R: Array, D: Array) -> Array:
    """f_C; with D = 0, which some files have, a step."""
    wide = D > 0
    x = jnp.clip((r - R) / jnp.where(wide, D, 1.0), -1.0, 1.0)
    return jnp.where(wide, 0.5 - 0.5 * jnp.sin(0.5 * jnp.pi * x), (r < R).astype(r.dtype))


def _angular(cos: Array, t: Params) -> Array:
    """g, written so that two numbers near c^2/d^2, 1e7 for carbon, are not subtracted."""
    h2 = jnp.square(cos - t["cos_angle"])
    d2 = jnp.square(jnp.where(t["c"] == 0, 1.0, t["d"]))
    return t["gamma"] * (1.0 + jnp.square(t["c"]) * h2 / (d2 * (d2 + h2)))


def _one_or_all(powers: np.ndarray) -> int | tuple[int, ...]:
    flat = tuple(int(x) for x in powers.ravel())
    return flat[0] if len(set(flat)) == 1 else flat


def tersoff(species: tuple[int, ...], values: dict[str, np.ndarray]) -> tuple[Tersoff, Params]:
    """Return a potential and its parameters from numbers: all of `PAIR`, `TRIPLET`, and "m" (S, S, S).

    The cutoff is the largest R + D.

    Raises:
        ValueError: parameters that are not finite or of the wrong shape.
    """
    s = len(species)
    arrays = {k: np.asarray(values[k], float) for k in (*PAIR, *TRIPLET)}
    for name, x in arrays.items():
        shape = (s,) * (3 if name in TRIPLET else 2)
        if x.shape != shape or not np.isfinite(x).all():
            raise ValueError(f"Tersoff {name!r} must be finite and of shape {shape}; got shape {x.shape}.")
    if not ((arrays["d"] != 0) | (arrays["c"] == 0)).all():
        raise ValueError("Tersoff 'd' divides and must not be zero.")
    cutoff = float((arrays["R"] + arrays["D"]).max())
    m = _one_or_all(np.asarray(values["m"]))
    return Tersoff(tuple(species), cutoff, m), {k: jnp.asarray(x, float) for k, x in arrays.items()}
