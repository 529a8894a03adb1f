"""Embedding networks of one scalar as Chebyshev series: compression of Deep Potential models without a table.

A sum over neighbours of G_m(s_j) R_j with G_m(s) = sum_k C_mk T_k(s) is sum_k C_mk (sum_j T_k(s_j) R_j): only the
polynomials are summed over neighbours, and the width of the embedding is mixed in once for each atom. The tables of
Lu et al., J. Chem. Theory Comput. 18, 5559 (2022), look up a quintic for each neighbour and each m instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.basis.series import coefficients, nodes


@dataclass(frozen=True)
class Chebyshev:
    """T_k(z), k < size, of z = 2 v - 1, v = ((s - low) / (s - low + bend)) / ((high - low) / (high - low + bend)).

    The map is monotone and spends more of the polynomials on small s, where most neighbours are. Beyond `high` every
    function goes on linearly, with a continuous slope.

    Args:
        size: number of polynomials.
        low, high: range of s.
        bend: the map is linear for values far above high - low.
        error: largest measured |error| of a tabulated function on the range, relative to its largest value.
        slope_error: the same of the derivative with respect to s, relative to its largest value.
    """

    size: int
    low: float
    high: float
    bend: float
    error: float = 0.0
    slope_error: float = 0.0

    def __post_init__(self):
        if not (self.size >= 2 and self.high > self.low and self.bend > 0):
            raise ValueError(f"Chebyshev needs size >= 2, high > low and bend > 0; got {self}.")

    @property
    def _end(self) -> float:
        return (self.high - self.low) / (self.high - self.low + self.bend)

    def variable(self, s):
        """Return z of s in the range."""
        return (2.0 / self._end) * ((s - self.low) / (s - self.low + self.bend)) - 1.0

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Return s of z."""
        v = 0.5 * (z + 1.0) * self._end
        return self.low + self.bend * v / (1.0 - v)

    @property
    def last_slope(self) -> float:
        """dz/ds at `high`."""
        return 2.0 / self._end * self.bend / (self.high - self.low + self.bend) ** 2

    def planes(self, s: Array) -> Array:
        """Return T_k(z(s)) (..., size + 1, M) of s (..., M); the last is s - high beyond the range, else 0."""
        inside = jnp.clip(s, self.low, self.high)
        planes = jnp.concatenate([gegenbauer(self.variable(inside), self.size, 0), (s - inside)[None]])
        return jnp.moveaxis(planes, 0, -2)

    def transform(self, count: int) -> np.ndarray:
        """Return (size + 1, count): from values at `nodes(count)` to coefficients and the slope at `high`."""
        c = coefficients(np.eye(count))[: self.size]
        return np.vstack([c, np.arange(self.size) ** 2 * self.last_slope @ c])


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def gegenbauer(z: Array, size: int, order: int) -> Array:
    """Return Gegenbauer's C_k^(order)(z) (size, ...), k < size; of order 0 Chebyshev's T_k.

    Derivatives are those of a higher order (NIST DLMF 18.9.19, 18.9.21), so that no loop is differentiated. A loop on a
    CPU, where a program of all k takes seconds to compile and runs slower; elsewhere every step of a loop is a launch.
    """
    first = (jnp.ones_like(z), z * (2.0 * order if order else 1.0))
    n = np.arange(1, size + 1)
    # The recurrence of DLMF 18.9.1; of order 0 its factors are those of order 1.
    up, down = (2 + 0 * n, 1 + 0 * n) if order <= 1 else (2 * (n + order) / (n + 1), (n + 2 * order - 1) / (n + 1))
    factors = jnp.asarray(np.stack([up, down], axis=1), z.dtype)

    def step(two, f):
        return (two[1], f[0] * z * two[1] - f[1] * two[0]), two[0]

    loop = lambda unroll: lambda: lax.scan(step, first, factors, unroll=unroll)[1]
    return lax.platform_dependent(cpu=loop(1), default=loop(size))


@gegenbauer.defjvp
def _gegenbauer_jvp(size, order, primals, tangents):
    (z,), (dz,) = primals, tangents
    values = gegenbauer(z, size, order)
    if size == 1:
        return values, jnp.zeros_like(values)
    factor = 2.0 * order if order else jnp.arange(1, size, dtype=z.dtype).reshape(-1, *[1] * z.ndim)
    slopes = factor * gegenbauer(z, size - 1, order + 1) * dz
    return values, jnp.concatenate([jnp.zeros_like(values[:1]), slopes])


def tabulate(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    low: float,
    high: float,
    tolerance: float,
    largest: int,
) -> tuple[Chebyshev, np.ndarray]:
    """Return the map and the coefficients (networks, size + 1, F) of functions and their slopes, (networks, n, F) each.

    The number of polynomials is the smallest whose discarded coefficients add up to less than `tolerance` of the
    largest value, over a few maps; the errors of values and slopes are then measured on a grid of ten points for each
    node.

    Raises:
        ValueError: `largest` polynomials do not reach the tolerance.
    """
    choices = []
    for bend in (1e3, 2.0, 0.7, 0.3, 0.1):
        trial = Chebyshev(largest, low, high, bend * (high - low))
        values = function(trial.inverse(nodes(largest)))[0]
        c = np.abs(coefficients(values))
        lost = np.cumsum(c[:, ::-1], axis=1)[:, ::-1].max(axis=(0, 2)) / np.abs(values).max()
        if lost[-1] < tolerance:
            choices.append((max(int(np.argmax(lost < tolerance)), 2), trial.bend, values))
    if not choices:
        raise ValueError(
            f"the embedding networks need more than {largest} polynomials for a relative error of {tolerance:g}: allow "
            "a larger error or a larger closest distance."
        )
    size, bend, values = min(choices, key=lambda choice: choice[0])
    table = Chebyshev(size, low, high, bend)
    c = table.transform(largest) @ values
    s = table.inverse(np.cos(np.linspace(0, np.pi, 10 * largest)))
    z = table.variable(s)
    chebyshev = np.polynomial.chebyshev
    slopes = np.stack([chebyshev.chebval(z, chebyshev.chebder(np.eye(size)[k])) for k in range(size)], axis=1)
    slopes = slopes * (table.last_slope * ((high - low + bend) / (s - low + bend)) ** 2)[:, None]  # dz/ds
    errors = [
        float(np.abs(basis @ c[:, :-1] - exact).max() / np.abs(exact).max())
        for basis, exact in zip((chebyshev.chebvander(z, size - 1), slopes), function(s))
    ]
    return Chebyshev(size, low, high, bend, *errors), c
