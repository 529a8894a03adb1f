"""Stillinger-Weber: pair and angular terms of tetrahedral solids, at a cost linear in the number of neighbours."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import length
from jaxmlp.basis.species import pair_values, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential

PAIR = ("sigma", "a", "gamma", "A", "B")
TRIPLET = ("epsilon", "lambda", "cos_angle")

# exp(-600) = 1e-261: nothing is lost where the exponential is set to 0 before its derivatives overflow.
_VANISHED = 600.0


@dataclass(frozen=True)
class StillingerWeber(Potential):
    """E_i = 1/2 sum_j phi_2(r_ij) + sum_{j<k} lambda epsilon f_ij f_ik (cos theta_jik - cos_angle)^2.

    phi_2(r) = A epsilon (B (sigma/r)^p - (sigma/r)^q) exp(sigma / (r - a sigma)), f(r) = exp(gamma sigma / (r - a
    sigma)), both 0 from r = a sigma on, with all derivatives. Stillinger and Weber, PRB 31, 5262 (1985), Eqs. (2.3) to
    (2.5), with parameters of every ordered pair and triplet of species as LAMMPS' pair_style sw reads them.

    The angular sum is not done over pairs of neighbours. With the unit vectors u of r_ij and the sums over neighbours j
    of species s, n_s = sum f, V_s = sum f u, Q_s = sum f u (x) u, it is the polynomial

        1/2 sum_st lambda epsilon (Q_s : Q_t - 2 cos_angle V_s . V_t + cos_angle^2 n_s n_t)  minus its terms j = k.

    params: "sigma" (Å), "a", "gamma", "A", "B": (S, S), indexed by centre i and neighbour j; "epsilon" (eV), "lambda",
    "cos_angle": (S, S, S), centre i first, the same for jk and kj; phi_2 takes epsilon[i, j, j]. The halves of phi_2
    take their parameters from ij and ji. With `p` or `q` None, "p" or "q" (S, S) are parameters too.

    Args:
        species: atomic numbers, in the order of the axes of the parameters.
        cutoff: Å, not smaller than any a sigma.
        p, q: exponents where all pairs share one integer; None takes them from the parameters (slower).
    """

    species: tuple[int, ...]
    cutoff: float
    p: int | None = 4
    q: int | None = 0
    block: ClassVar[int] = 64

    def __post_init__(self):
        if not 0 < self.cutoff < float("inf"):
            raise ValueError(f"StillingerWeber.cutoff is a distance in Å and must be positive; got {self.cutoff}.")
        for name in ("p", "q"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 0):
                raise ValueError(f"StillingerWeber.{name} must be a non-negative integer or None; got {value}.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        pair = {k: pair_values(params[k], graph.species, graph.neighbor_species) for k in PAIR}
        each = np.arange(len(self.species))
        epsilon = pair_values(params["epsilon"][:, each, each], graph.species, graph.neighbor_species)
        distance = length(*graph.planes)  # (n, M)
        sigma = pair["sigma"]
        cutoff = pair["a"] * sigma
        scale = jnp.maximum(1.0, pair["gamma"]) * sigma
        inside = distance < cutoff - scale / _VANISHED
        r = jnp.where(inside, distance, 0.5 * cutoff)  # outside, nothing is singular and nothing counts
        x = sigma / r
        t = sigma / (r - cutoff)
        powers = [
            _power(x, pair_values(params[k], graph.species, graph.neighbor_species) if n is None else n)
            for k, n in (("p", self.p), ("q", self.q))
        ]
        half_phi = (0.5 * epsilon * pair["A"]) * (pair["B"] * powers[0] - powers[1]) * jnp.exp(t)
        f = jnp.where(inside, jnp.exp(pair["gamma"] * t), 0.0)
        return jnp.sum(jnp.where(inside, half_phi, 0.0), axis=1) + self._angular(params, graph, f, r)

    def _angular(self, params: Params, graph: Graph, f: Array, r: Array) -> Array:
        """The sum over pairs of neighbours by way of their moments n, V, Q, (n,) eV."""
        x, y, z = graph.planes
        # One division, and no unit vectors: then the adjoint of each component of r_ij is a short expression.
        f2 = f / (r * r)
        f1 = f2 * r
        if len(self.species) == 1:
            strength = params["lambda"][0, 0, 0] * params["epsilon"][0, 0, 0]
            c = params["cos_angle"][0, 0, 0]
            total = partial(jnp.sum, axis=1)
            fx, fy, fz = f2 * x, f2 * y, f2 * z
            Q = total(fx * x) ** 2 + total(fy * y) ** 2 + total(fz * z) ** 2
            Q += 2.0 * (total(fy * z) ** 2 + total(fx * z) ** 2 + total(fx * y) ** 2)
            V = total(f1 * x) ** 2 + total(f1 * y) ** 2 + total(f1 * z) ** 2
            own = (1.0 - c) ** 2 * total(f * f)
            return 0.5 * strength * (Q - 2.0 * c * V + c**2 * total(f) ** 2 - own)
        s = len(self.species)
        one_hot = jnp.stack([graph.neighbor_species == t for t in range(s)], axis=1)  # (n, S, M)

        def by_species(weight, *planes):
            """sum_m weight plane over the neighbours of each species, (n, S, planes)."""
            return jnp.einsum("nsm,nkm->nsk", jnp.where(one_hot, weight[:, None], 0.0), jnp.stack(planes, axis=1))

        n = by_species(f, jnp.ones_like(f))
        V = by_species(f1, x, y, z)
        Q = by_species(f2, x * x, y * y, z * z, y * z, x * z, x * y)
        weights = jnp.asarray(np.array([1, 1, 1, 2, 2, 2.0]), f.dtype)
        nn, VV, QQ = (jnp.einsum("nsk,ntk->nst", a, b) for a, b in ((n, n), (V, V), (Q * weights, Q)))
        strength = (params["lambda"] * params["epsilon"])[graph.species]  # (n, S, S)
        c = params["cos_angle"][graph.species]
        each = np.arange(s)
        own = jnp.sum(by_species(f, f)[..., 0] * (strength * (1.0 - c) ** 2)[:, each, each], axis=1)
        return 0.5 * (jnp.sum(strength * (QQ - 2.0 * c * VV + c**2 * nn), axis=(1, 2)) - own)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["StillingerWeber", Params]:
        keep = subset(self.species, species)
        sliced = {k: v[np.ix_(*[keep] * v.ndim)] for k, v in params.items()}
        return replace(self, species=tuple(species)), sliced


def _power(x: Array, exponent: int | Array) -> Array | float:
    if isinstance(exponent, int):
        return x**exponent if exponent else 1.0
    return jnp.exp(exponent * jnp.log(x))


def stillinger_weber(species: tuple[int, ...], values: dict[str, np.ndarray]) -> tuple[StillingerWeber, Params]:
    """Return a potential and its parameters from numbers: all of `PAIR`, `TRIPLET`, and "p" and "q" (S, S).

    The cutoff is the largest a sigma. Exponents that are one integer for all pairs become hyper-parameters.

    Raises:
        ValueError: parameters that are missing, not finite, of the wrong shape, or not the same for jk and kj.
    """
    s = len(species)
    arrays = {k: np.asarray(values[k], float) for k in (*PAIR, *TRIPLET, "p", "q")}
    for name, x in arrays.items():
        shape = (s,) * (3 if name in TRIPLET else 2)
        if x.shape != shape or not np.isfinite(x).all():
            raise ValueError(f"Stillinger-Weber {name!r} must be finite and of shape {shape}; got shape {x.shape}.")
    for name, x in (("lambda epsilon", arrays["lambda"] * arrays["epsilon"]), ("cos_angle", arrays["cos_angle"])):
        if not np.allclose(x, x.swapaxes(1, 2), rtol=1e-6, atol=0):  # files with few digits; the mean counts
            raise ValueError(f"Stillinger-Weber {name} must be the same for neighbours j, k and k, j.")
    static = {}
    for name in ("p", "q"):
        first = arrays[name].flat[0]
        shared = (arrays[name] == first).all() and first == int(first) and first >= 0
        static[name] = int(first) if shared else None
        if shared:
            del arrays[name]
    cutoff = float((arrays["a"] * arrays["sigma"]).max())
    return StillingerWeber(tuple(species), cutoff, **static), {k: jnp.asarray(x, float) for k, x in arrays.items()}


def stillinger_weber_silicon() -> tuple[StillingerWeber, Params]:
    """Return the silicon of Stillinger and Weber, with the unit of energy 2.1683 eV that gives -4.3366 eV per atom."""
    values = {"epsilon": 2.1683, "sigma": 2.0951, "a": 1.80, "lambda": 21.0, "gamma": 1.20, "cos_angle": -1 / 3}
    values |= {"A": 7.049556277, "B": 0.6022245584, "p": 4.0, "q": 0.0}
    return stillinger_weber((14,), {k: np.full((1,) * (3 if k in TRIPLET else 2), v) for k, v in values.items()})
