"""Free energy and pressure of the Uhlenbeck-Ford fluid: the reference system of liquids.

Published are pressures from simulations, as cubic splines between 106 densities for each p: supplement of Paula Leite,
Freitas, Azevedo, de Koning, J. Chem. Phys. 145, 194101 (2016). Their noise, 1e-4 in beta P / rho at every density,
leaves 1e-4 in beta F / N once it is integrated, and the splines follow it. Here one smooth series for each p goes
through all pressures (residuals 0.8 to 1.2e-4, no trend) and has the exact virial coefficients B_2, B_3 and B_4.

The exact coefficients also show the size of the systems that were simulated: the pressures are low by what follows from

    beta F_N = N beta f - ln(chi) / 2,    chi = d(beta P) / d rho

(Lebowitz, Percus, Phys. Rev. 124, 1673 (1961): the canonical free energy beyond Stirling's formula), with 1/N =
1.07(13)e-3. The series is the limit of large N for published pressures at N = 1000; the term is put back for any N.
Our simulations agree: p = 1, x = 1, 64 atoms 2.1535(4) (here 2.1536; 2.1595 for large N); p = 50, x = 0.2, 125 atoms
4.3379(24) (4.3372; 4.3440). A box of few neighbour shells does more to a dense fluid: p = 50, x = 0.5, 64 atoms is
0.1 % below its 18.491, 216 atoms 18.5016(18) (18.4995).
"""

import math

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.cutoffs import derivative

PUBLISHED_ATOMS = 1000  # of the published simulations, as far as their pressures tell
DENSEST = 4.0  # x up to which they go
_SCALE = 0.7  # of the variable of the series

# beta f(x) / x = sum_k c_k T_k(2 t - 1), t = (x / (x + a)) (4 + a) / 4, a = _SCALE; from k = 0
_SERIES = {
    1: (
        1.0764182524, 0.0938282775, 0.0211942856, 0.0045755111, 0.0009919288, 0.0002721390,
        0.0000889308, 0.0000302008, -0.0000007275, 0.0000078658, 0.0000072215, -0.0000145146,
        0.0000079014, 0.0000022330, -0.0000026516, 0.0000021603, -0.0000012685,
    ),
    25: (
        14.3620348733, 10.5824707879, 1.9474537730, -0.2245011581, -0.0952003320, 0.0438138050,
        0.0152135612, -0.0043227754, -0.0011837324, 0.0008128291, 0.0001890504, -0.0001426564,
        0.0000101858, 0.0000270072, -0.0000120572, 0.0000038917, -0.0000010143,
    ),
    50: (
        25.7092168740, 23.2040484739, 4.5291860444, -0.7159378032, -0.2760800447, 0.1409833292,
        0.0412911135, -0.0189001146, -0.0029044729, 0.0035142925, 0.0000427024, -0.0005296473,
        0.0001376936, 0.0000467413, -0.0000311534, 0.0000105329, -0.0000017411,
    ),
    75: (
        36.5516387593, 36.1312460489, 7.3018252081, -1.2931407734, -0.4873405998, 0.2632064293,
        0.0701834236, -0.0392446909, -0.0039696265, 0.0072188429, -0.0005020839, -0.0010554218,
        0.0003866675, 0.0000823147, -0.0000863055, 0.0000190422, 0.0000036316,
    ),
    100: (
        47.1509230317, 49.1975486158, 10.1804731259, -1.9184114049, -0.7158429230, 0.4010750907,
        0.1002380430, -0.0634283316, -0.0043259143, 0.0116001316, -0.0014657159, -0.0015790324,
        0.0007080134, 0.0000866511, -0.0001257328, 0.0000253604, 0.0000057110,
    ),
}  # fmt: skip


def reduced_density(density: Array | float, sigma: Array | float) -> Array | float:
    """Return x = (pi sigma^2)^(3/2) rho / 2, for rho in 1/Å^3 and sigma in Å: B_2 rho at p = 1."""
    return 0.5 * (math.pi * sigma**2) ** 1.5 * density


def uhlenbeck_ford_excess(x: Array | float, p: int, atoms: Array | float = PUBLISHED_ATOMS) -> Array:
    """Return beta F_exc / N of the Uhlenbeck-Ford fluid of epsilon = p kT: what it has beyond `ideal_gas`, per atom.

    Within 1.4e-4 (p = 75: 2.8e-4) of the integrated splines of the supplement, which wander by as much.

    Args:
        x: any shape, 0 to 4, see `reduced_density`; NaN comes back for others.
        p: 1, 25, 50, 75 or 100.
        atoms: N. That of the system whose free energy is wanted (its ideal part with the exact N!), or infinity.

    Raises:
        ValueError: p is not one of those.
    """
    x = jnp.asarray(1.0 * x)
    chi = derivative(lambda x: x + x * x * derivative(lambda x: _limit(x, p))(x))(x)
    return _limit(x, p) - jnp.log(chi) / (2.0 * atoms)


def uhlenbeck_ford_compressibility(x: Array | float, p: int, atoms: Array | float = PUBLISHED_ATOMS) -> Array:
    """Return beta P / rho = 1 + x d(beta F_exc / N)/dx of the Uhlenbeck-Ford fluid; arguments as there."""
    x = jnp.asarray(1.0 * x)
    return 1.0 + x * derivative(lambda x: uhlenbeck_ford_excess(x, p, atoms))(x)


def _limit(x: Array, p: int) -> Array:
    """Return beta f(x), the limit of large N."""
    if p not in _SERIES:
        raise ValueError(f"the Uhlenbeck-Ford fluid is known for p = {', '.join(map(str, _SERIES))}; got {p}.")
    x = jnp.where((x >= 0.0) & (x <= DENSEST), x, jnp.nan)
    s = 2.0 * (1.0 + _SCALE / DENSEST) * x / (x + _SCALE) - 1.0
    after, later = jnp.zeros_like(s), jnp.zeros_like(s)
    for c in reversed(_SERIES[p][1:]):  # Clenshaw's sum
        after, later = c + 2.0 * s * after - later, after
    return x * (_SERIES[p][0] + s * after - later)
