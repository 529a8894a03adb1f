"""How pair functions of a distance are cut off."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

PairFunction = Callable[[Array], Array]

TRUNCATIONS = ("truncated", "shifted", "force-shifted", "smoothed")


def cut_off(phi: PairFunction, truncation: str, cutoff: Array, inner: Array | None = None) -> PairFunction:
    """Return the pair function that `phi` becomes below the cutoff; what it gives beyond is not to be used.

    - "truncated": phi(r), with a step at the cutoff.
    - "shifted": phi(r) - phi(rc); forces are those of phi.
    - "force-shifted": phi(r) - phi(rc) - (r - rc) phi'(rc); energy and force end at zero.
    - "smoothed": phi(r) + C below `inner`, phi(r) + C + A/3 (r - inner)^3 + B/4 (r - inner)^4 up to the cutoff, with A,
      B, C such that phi and its first two derivatives end at zero (the switching of LAMMPS' pair_style zbl):
      A = (-3 phi' + d phi'')/d^2, B = (2 phi' - d phi'')/d^3, C = -phi + d phi'/2 - d^2 phi''/12, d = rc - inner.
    """
    if truncation == "truncated":
        return phi
    slope_of = derivative(phi)
    value, slope = phi(cutoff), slope_of(cutoff)
    if truncation == "shifted":
        return lambda r: phi(r) - value
    if truncation == "force-shifted":
        return lambda r: phi(r) - value - (r - cutoff) * slope
    if truncation == "smoothed" and inner is not None:
        curvature = derivative(slope_of)(cutoff)
        d = cutoff - inner
        a = (-3.0 * slope + d * curvature) / d**2
        b = (2.0 * slope - d * curvature) / d**3
        c = -value + 0.5 * d * slope - d**2 * curvature / 12.0

        def smoothed(r):
            x = jnp.maximum(r - inner, 0.0)
            return phi(r) + c + x**3 * (a / 3.0 + 0.25 * b * x)

        return smoothed
    raise ValueError(f"unknown truncation {truncation!r}: choose one of {TRUNCATIONS}.")


def derivative(phi: PairFunction) -> PairFunction:
    """Return the derivative of a function that acts on every element of an array by itself."""
    return lambda r: jax.jvp(phi, (r,), (jnp.ones_like(r),))[1]
