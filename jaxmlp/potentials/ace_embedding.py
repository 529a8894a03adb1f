"""From densities to energies in ACE: Finnis-Sinclair embeddings, and the repulsion of cores that takes over nearby."""

import math

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.cutoffs import cut_off
from jaxmlp.basis.radial import cosine, smooth_step
from jaxmlp.basis.screening import universal, universal_length
from jaxmlp.units import coulomb

EMBEDDINGS = ("FinnisSinclair", "FinnisSinclairShiftedScaled")


def embed(kind: str, rho: Array, power: float) -> Array:
    """Return F(rho; m), odd in rho, rho itself for m = 1; derivatives are finite at rho = 0.

    FinnisSinclair: F = s ((1 - e) a^m + lam e a), s = sign(rho), a = |rho|, e = exp(-(w a)^3), w = 1e6, lam = w^(1-m).
    FinnisSinclairShiftedScaled: F = s ((x + a)^m - y), q = 1/m, x = q^(q/(1-q)) exp(-a), y = q^(1/(1-q)) exp(-a).
    Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), Eqs. (34) ff.
    """
    if power == 1.0:
        return rho
    s = jnp.where(rho >= 0, 1.0, -1.0).astype(rho.dtype)
    a = s * rho
    if kind == "FinnisSinclair":
        w = 1e6
        small = w * a > 30 ** (1 / 3)
        e = jnp.where(small, 0.0, jnp.exp(-(jnp.where(small, 0.0, w * a) ** 3)))
        safe = jnp.where(a > 1e-10, a, 1.0)
        lam = w ** (1.0 - power)
        return jnp.where(a > 1e-10, s * ((1.0 - e) * safe**power + lam * e * safe), lam * rho)
    q = 1.0 / power
    decay = jnp.exp(-a)
    return s * ((q ** (q / (1.0 - q)) * decay + a) ** power - q ** (1.0 / (1.0 - q)) * decay)


def core_pair(r: Array, cutoff: Array | float, prefactor: Array, decay: Array) -> Array:
    """Return p exp(-q r^2)/r (1 + cos(pi r/c))/2, p = |prefactor|, q = |decay|; 0 from q r^2 = 50 on."""
    q = jnp.abs(decay) * r * r
    near = q < 50.0
    return jnp.where(near, jnp.abs(prefactor) * jnp.exp(-jnp.where(near, q, 0.0)) / r * cosine(r, cutoff), 0.0)


def zbl_pair(r: Array, cutoff: Array, width: Array, scale: Array, z_i: Array, z_j: Array) -> Array:
    """Return half the universal repulsion, smoothed as LAMMPS' pair_style zbl does, times h; 0 beyond the cutoff."""
    length = universal_length(z_i, z_j)

    def phi(x):
        return universal(x / length) / x

    inside = r < cutoff
    safe = jnp.where(inside, r, 0.5 * cutoff)
    smoothed = cut_off(phi, "smoothed", cutoff, cutoff - width)(safe)
    energy = 0.5 * coulomb * scale * z_i * z_j * smoothed * smooth_step(safe, cutoff, width)
    return jnp.where(inside, energy, 0.0)


def valid_powers(weights: tuple[float, ...], powers: tuple[float, ...]) -> bool:
    """True for equally many finite weights and positive powers, at least one."""
    return len(weights) == len(powers) > 0 and all(
        math.isfinite(w) and 0 < m < math.inf for w, m in zip(weights, powers, strict=True)
    )
