"""How pair functions of a distance are cut off."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.chebyshev import chebyshev_cosine

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


def polynomial_core(x: Array, degree: int) -> Array:
    """Return the polynomial that falls from 1 at x = 0 to 0 at x = 1, flat to order `degree` (1 to 4) at both ends."""
    if degree == 1:
        return (2 * x - 3) * x**2 + 1
    if degree == 2:
        return ((15 - 6 * x) * x - 10) * x**3 + 1
    if degree == 3:
        return (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1
    return (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1


def exponential_core(x: Array) -> Array:
    """Return exp(1 - 1 / (1 - x^2)), 0 from x = 1 on; below exp(-400), where derivatives overflow, it is 0 too."""
    inside = x * x < 0.9975
    return jnp.where(inside, jnp.exp(1 - 1 / (1 - jnp.where(inside, x * x, 0.0))), 0.0)


def polynomial_cutoff(r: Array, cutoff: float, kind: int, alpha: float = 0.0) -> Array:
    """Return cutoff function `kind` (0 to 8) of n2p2: 1 below alpha cutoff, 0 beyond the cutoff.

    0: step; 1: (cos(pi x) + 1) / 2; 2: tanh^3(1 - r / rc); 3: that over tanh^3(1); 4: exp(1 - 1 / (1 - x^2)); 5 to 8:
    polynomials of growing smoothness, with x = (r - alpha rc) / (rc - alpha rc). 0, 3 and 4 ignore alpha.
    """
    if kind not in range(9):
        raise ValueError(f"the cutoff type must be 0 to 8; got {kind}.")
    inside = r < cutoff
    inner = 0.0 if kind in (0, 2, 3, 4) else alpha * cutoff
    x = jnp.clip((r - inner) / (cutoff - inner), 0.0, 1.0)
    if kind == 0:
        f = jnp.ones_like(r)
    elif kind == 1:
        f = 2.0 * chebyshev_cosine(x, 1.0, 0)[0]
    elif kind in (2, 3):
        f = jnp.tanh(1 - x) ** 3
        f = f / jnp.tanh(jnp.ones((), r.dtype)) ** 3 if kind == 3 else f
    elif kind == 4:
        f = exponential_core(x)
    else:
        f = polynomial_core(x, kind - 4)
    return jnp.where(inside, f, 0.0)


def cosine_transition(r: Array, cutoff: float, width: float) -> Array:
    """Return 1 below cutoff - width, (1 + cos(pi (r - cutoff + width) / width)) / 2 up to the cutoff, 0 beyond."""
    return polynomial_cutoff(r, cutoff, 1, 1 - width / cutoff) if width > 0 else polynomial_cutoff(r, cutoff, 0)


def compact(t: Array, low: float, high: float, core: str) -> Array:
    """Return a function of t with support [low, high], 1 at the centre: core p1 to p4, e; with `a`, x -> (2 - x) x."""
    x = jnp.abs(t - (low + high) / 2) / ((high - low) / 2)
    inside = x < 1
    x = jnp.where(inside, x, 1.0)
    if core.endswith("a"):
        x = (2 - x) * x
    f = exponential_core(x) if core[0] == "e" else polynomial_core(x, int(core[1]))
    return jnp.where(inside, f, 0.0)
