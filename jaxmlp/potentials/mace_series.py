"""Chebyshev series of the distance that stand for a radial network of MACE."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.deepmd_tables import Chebyshev, tabulate
from jaxmlp.basis.radial_bessel import polynomial_envelope
from jaxmlp.potentials.mace_radial import hidden_layers, radial_basis

NEAR = 1e-4  # Å before the cutoff, where network and envelope are too small to be divided
LARGEST_TABLE = 200  # polynomials; beyond, the networks are about as fast


def radial_series(
    weights: Sequence[Array],
    radial_type: str,
    cutoff: float,
    constants: Array,
    p: int,
    apply_cutoff: bool,
    closest: float,
    tolerance: float,
) -> tuple[Chebyshev, Array]:
    """Return the series of network(r) / u(r), and its coefficients (polynomials, paths).

    Args:
        weights: of the network.
        radial_type, cutoff, constants: of `radial_basis`.
        p: of the envelope u.
        apply_cutoff: u multiplies the radial functions, so that the network is divided by it; else u is not in it.
        closest, tolerance: as for `MACE.compress`.
    """

    @jax.jit
    def network(s):
        r = cutoff - s
        e = radial_basis(radial_type, r, cutoff, constants)
        u = polynomial_envelope(r / cutoff, p)[..., None]
        last = weights[-1] / math.sqrt(weights[-1].shape[0])
        return hidden_layers(weights, e * u) @ last / u if apply_cutoff else hidden_layers(weights, e) @ last

    def both(s):
        s = jnp.asarray(s, constants.dtype)
        return tuple(np.asarray(x, float)[None] for x in jax.jvp(network, (s,), (jnp.ones_like(s),)))

    table, coefficients = tabulate(both, NEAR, cutoff - closest, tolerance, LARGEST_TABLE)
    return table, jnp.asarray(coefficients[0], constants.dtype)
