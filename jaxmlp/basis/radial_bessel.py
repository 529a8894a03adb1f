"""Radial functions of the graph networks: Bessel functions under a polynomial envelope, and networks of them."""

import jax.numpy as jnp
from jax import Array


def polynomial_envelope(x: Array, p: int) -> Array:
    """Return u_p(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), 0 from x = 1 on.

    Klicpera, Groß and Günnemann, ICLR 2020 (arXiv:2003.03123), Eq. (8). It ends with two vanishing derivatives.
    Computed as (1 - x)^3 sum_(k < p) (k+1)(k+2)/2 x^k, which is the same and has nothing that cancels near x = 1.
    """
    x = jnp.minimum(x, 1.0)
    total = 0.5 * p * (p + 1)
    for k in range(p - 2, -1, -1):
        total = total * x + 0.5 * (k + 1) * (k + 2)
    return (1.0 - x) ** 3 * total


def radial_bessel(r: Array, x: Array, frequencies: Array, p: int | None) -> Array:
    """Return sin(w_n x) / r u_p(x), (..., K).

    Klicpera et al., Eq. (7), without its prefactor: w_n = n pi at first, where r = rc x.

    Args:
        r: distances, > 0.
        x: distances over the cutoff, of the same shape.
        frequencies: w_n (K,), which may be trained.
        p: of the envelope; None for none.
    """
    scale = 1.0 / r if p is None else polynomial_envelope(x, p) / r
    return jnp.sin(x[..., None] * frequencies) * scale[..., None]
