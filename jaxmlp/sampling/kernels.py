"""Sums of Gaussians that grow: fixed arrays with a count, what adaptive biases remember."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

Difference = Callable[[Array, Array], Array]  # of s and centres, the short way round where a component is periodic


class Kernels(NamedTuple):
    """Up to C Gaussians in d dimensions; free places have height 0. All are floats, so that parameters are.

    Args:
        centers: (C, d).
        widths: (C, d), standard deviations.
        heights: (C,).
        count: places taken. Larger than C where one did not fit: then it is lost, and every bias NaN.
    """

    centers: Array
    widths: Array
    heights: Array
    count: Array


class Kernel(NamedTuple):
    """One Gaussian: center (d,), width (d,), height."""

    center: Array
    width: Array
    height: Array


def empty(capacity: int, size: int, dtype) -> Kernels:
    """Return room for `capacity` Gaussians in `size` dimensions."""
    zero = jnp.zeros((capacity, size), dtype)
    return Kernels(zero, jnp.ones_like(zero), zero[:, 0], jnp.zeros((), dtype))


def overflowed(kernels: Kernels) -> Array:
    """Return True where a Gaussian did not fit."""
    return kernels.count > kernels.heights.shape[-1]


def taken(kernels: Kernels) -> Array:
    """Return True for places that hold a Gaussian, (C,)."""
    return jnp.arange(len(kernels.heights), dtype=kernels.count.dtype) < kernels.count


def total(kernels: Kernels, s: Array, difference: Difference) -> Array:
    """Return sum_k h_k exp(-sum_a (s_a - s_ka)^2 / 2 width_ka^2) at s (d,); NaN where one did not fit."""
    x = difference(s, kernels.centers) / kernels.widths
    value = kernels.heights @ jnp.exp(-0.5 * jnp.sum(x * x, axis=1))
    return value + jnp.where(overflowed(kernels), jnp.nan, 0.0).astype(value.dtype)


def appended(kernels: Kernels, new: Kernel) -> Kernels:
    """Return the kernels and one more."""
    place = kernels.count.astype(jnp.int32)  # beyond the end nothing is written
    put = lambda array, value: array.at[place].set(value, mode="drop")
    return Kernels(
        put(kernels.centers, new.center),
        put(kernels.widths, new.width),
        put(kernels.heights, new.height),
        kernels.count + 1,
    )


def removed(kernels: Kernels, k: Array) -> Kernels:
    """Return the kernels without number k: the last one takes its place."""
    last = kernels.count.astype(jnp.int32) - 1
    move = lambda array, free: array.at[k].set(array[last]).at[last].set(free)
    return Kernels(move(kernels.centers, 0.0), move(kernels.widths, 1.0), move(kernels.heights, 0.0), kernels.count - 1)


def compressed(kernels: Kernels, new: Kernel, threshold: float, difference: Difference) -> Kernels:
    """Return the kernels and one more, merged with those that are near.

    The new one is merged with the nearest other, if that is less than `threshold` of its widths away, and the result
    again, until none is near: Invernizzi and Parrinello, J. Phys. Chem. Lett. 11, 2731 (2020). A merger keeps the sum
    of heights, and the mean and variance that the two have together.
    """

    def nearest(kernels, new):
        x = difference(new.center, kernels.centers) / kernels.widths
        distance = jnp.where(taken(kernels), jnp.sum(x * x, axis=1), jnp.inf)
        k = jnp.argmin(distance)
        return k, distance[k] < threshold**2

    def merge(carry):
        kernels, new, k, _ = carry
        old = Kernel(kernels.centers[k], kernels.widths[k], kernels.heights[k])
        kernels, new = removed(kernels, k), merged(old, new, difference)
        return kernels, new, *nearest(kernels, new)

    start = (kernels, new, *nearest(kernels, new))
    kernels, new, *_ = lax.while_loop(lambda carry: carry[3], merge, start)
    return appended(kernels, new)


def merged(a: Kernel, b: Kernel, difference: Difference) -> Kernel:
    """Return the Gaussian with the height, mean and variance of two together."""
    height = a.height + b.height
    share = b.height / height
    d = difference(b.center, a.center)
    variance = (1 - share) * a.width**2 + share * b.width**2 + share * (1 - share) * d**2
    return Kernel(a.center + share * d, jnp.sqrt(variance), height)


def enlarged(kernels: Kernels) -> Kernels:
    """Return the same kernels with room for twice as many. On the host.

    Raises:
        ValueError: one did not fit, and is lost.
    """
    if jnp.any(overflowed(kernels)):
        raise ValueError("a kernel did not fit and is lost: enlarge the memory from before the step that failed.")
    room = empty(kernels.heights.shape[0], kernels.centers.shape[1], kernels.heights.dtype)
    join = lambda a, b: jnp.concatenate([a, b])
    return Kernels(
        join(kernels.centers, room.centers),
        join(kernels.widths, room.widths),
        join(kernels.heights, room.heights),
        kernels.count,
    )
