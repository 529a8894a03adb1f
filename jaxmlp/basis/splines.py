"""Piecewise cubic functions on an even grid: tables of embedded-atom potentials."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def knots(values: np.ndarray) -> np.ndarray:
    """Return values and slopes times the grid step, (..., n, 2), of tabulated values (..., n), n >= 5.

    Slopes are the fourth-order central differences (f_{k-2} - 8 f_{k-1} + 8 f_{k+1} - f_{k+2})/12; second-order at the
    last point but one of either end, one-sided at the ends: the splines of LAMMPS' pair_style eam.
    """
    f = np.asarray(values, dtype=float)
    if f.shape[-1] < 5:
        raise ValueError(f"a spline needs at least 5 tabulated values; got {f.shape[-1]}.")
    slope = np.empty_like(f)
    slope[..., 2:-2] = ((f[..., :-4] - f[..., 4:]) + 8.0 * (f[..., 3:-1] - f[..., 1:-3])) / 12.0
    slope[..., 1] = 0.5 * (f[..., 2] - f[..., 0])
    slope[..., -2] = 0.5 * (f[..., -1] - f[..., -3])
    slope[..., 0] = f[..., 1] - f[..., 0]
    slope[..., -1] = f[..., -1] - f[..., -2]
    return np.stack([f, slope], axis=-1)


def locate(x: Array, n: int) -> tuple[Array, Array]:
    """Return the interval k and the place t in it of x, measured in grid steps from the first of n points.

    0 <= k <= n - 2; t = 1 beyond the last point, so that the function stays there at its last value, and t < 0 before
    the first one, where the first cubic goes on.
    """
    k = jnp.clip(jnp.floor(x), 0, n - 2)
    return k.astype(jnp.int32), jnp.minimum(x - k, 1.0)


def cubic(flat: Array, start: Array, t: Array) -> Array:
    """Return the cubic Hermite interpolation between two knots; differentiable to every order inside an interval.

    Args:
        flat: knots of any number of tables, (..., n, 2), flattened.
        start: position in `flat` of the knot before each argument, any shape.
        t: place between that knot and the next, the same shape.
    """
    f0, s0, f1, s1 = (flat.at[start + k].get(mode="promise_in_bounds") for k in range(4))
    rise = f1 - f0
    return (((s0 + s1 - 2.0 * rise) * t + (3.0 * rise - 2.0 * s0 - s1)) * t + s0) * t + f0
