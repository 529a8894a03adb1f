"""Radial functions of MACE: bases, transforms of the distance, the network of them, and the repulsion of nuclei."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.irreps import silu
from jaxmlp.basis.radial_bessel import polynomial_envelope
from jaxmlp.basis.scalar_network import scalar_network

RADIAL_TYPES = ("bessel", "gaussian", "chebyshev")
TRANSFORMS = ("none", "agnesi", "soft")
REPULSION = 14.3996  # eV Å, e^2 / (4 pi eps_0) as MACE rounds it
BOHR = 0.529  # Å, as MACE rounds it
# The universal screening function with the amplitudes and decays of MACE, which differ a little from those of ZBL.
SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))


def transformed(kind: str, r: Array, r0: Array, constants: dict[str, Array]) -> Array:
    """Return the distance (n, M) that the radial basis sees.

    "agnesi": 1 / (1 + a t^q / (1 + t^(q - p))), t = r / r0 with r0 the mean of the covalent radii (Witt et al., J.
    Chem. Phys. 159, 164101 (2023)). "soft": p0 + (r - p0) (1 + tanh(alpha (r - m) / (p1 - p0))) / 2, p0 = 3/4 and
    p1 = 4/3 of the sum of the radii, m between.

    Args:
        r0: sum of the covalent radii of the two atoms, (n, M) or a scalar, Å.
        constants: a, q and p of "agnesi", alpha of "soft".
    """
    if kind == "none":
        return r
    if kind == "agnesi":
        a, q, p = (constants[k] for k in "aqp")
        t = r / (0.5 * r0)
        return 1.0 / (1.0 + a * t**q / (1.0 + t ** (q - p)))
    near, far = 0.75 * r0, 4.0 / 3.0 * r0
    steep = constants["alpha"] / (far - near)
    return near + (r - near) * 0.5 * (1.0 + jnp.tanh(steep * (r - 0.5 * (near + far))))


def radial_basis(kind: str, x: Array, cutoff: float, constants: Array) -> Array:
    """Return the radial functions of the transformed distances x (n, M), without the envelope, (n, M, K).

    Args:
        constants: (K,) frequencies of sqrt(2 / rc) sin(w x) / x, 1/Å; centres of exp(-(x - c)^2 / 2 d^2), d their
            distance; degrees of Chebyshev polynomials T_n(x).
    """
    count = constants.shape[0]
    if kind == "bessel":
        return math.sqrt(2.0 / cutoff) * jnp.sin(x[..., None] * constants) / x[..., None]
    if kind == "gaussian":
        return jnp.exp(-0.5 * ((count - 1) / cutoff) ** 2 * (x[..., None] - constants) ** 2)
    planes = [jnp.ones_like(x), x]
    while len(planes) < count + 1:
        planes.append(2.0 * x * planes[-1] - planes[-2])
    return jnp.stack(planes[1:], axis=-1)


def hidden_layers(weights: Sequence[Array], e: Array) -> Array:
    """Return what a network without biases has before its last layer, of e (n, M, K): h <- silu(h W / sqrt(fan in))."""
    return silu(scalar_network(e, weights[:-1], silu, 1.0)) if len(weights) > 1 else e


def repulsion(
    r: Array, z_i: Array, z_j: Array, reach: Array, p: int, exponent: Array, prefactor: Array, exists: Array
) -> Array:
    """Return V_i = 1/2 sum_j 14.3996 Z_i Z_j / r phi(r / a) u_p(r / reach), (n,) eV.

    a = 0.4543 0.529 Å / (Z_i^0.3 + Z_j^0.3), with the prefactor and exponent of the file.

    Args:
        r: (n, M) Å.
        z_i, z_j: atomic numbers (n, 1) and (n, M), floats.
        reach: sums of covalent radii (n, M), Å.
        exists: (n, M) 1 where the edge is one, nearer than the cutoff of the potential, else 0.
    """
    x = r * (z_i**exponent + z_j**exponent) / (prefactor * BOHR)
    screening = sum(a * jnp.exp(-b * x) for a, b in SCREENING)
    return 0.5 * jnp.sum(REPULSION * z_i * z_j / r * screening * polynomial_envelope(r / reach, p) * exists, axis=1)
