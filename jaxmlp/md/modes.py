"""Normal modes of ring polymers: transforms, free motion, contraction, free paths.

A ring polymer of P beads R (P, N, 3) with momenta p is classical at the temperature P T,

    H = sum_j [p_j^2 / 2 m + m omega_P^2 (R_j - R_{j+1})^2 / 2 + V(R_j)],    omega_P = P kT / hbar,

with kT of the physical temperature T. The transform to modes q is orthogonal; mode 0 is sqrt(P) times the centroid.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp import units

HBAR = 1e15 * units.hbar * units.fs  # eV Å (amu/eV)^(1/2)


def ring_frequency(P: int, kT: Array) -> Array:
    """Return omega_P = P kT / hbar, angular, in (eV/amu)^(1/2) / Å."""
    return P * kT / HBAR


@lru_cache
def mode_matrix(P: int) -> np.ndarray:
    """Return the orthogonal C (P, P) with q_n = sum_j C[n, j] R_j, in the order of rising frequencies.

    Rows 0, 1, 2, 3, ... hold k = 0, 1, 1, 2, ...: the constant P^(-1/2), then (2/P)^(1/2) cos and sin of 2 pi k j / P
    in turn; for even P the last row is the alternating P^(-1/2) (-1)^j.
    """
    n, j = np.arange(P)[:, None], np.arange(P)
    angle = 2 * np.pi * ((n + 1) // 2 * j % P) / P
    single = (n == 0) | (2 * ((n + 1) // 2) == P)
    C = np.where(n % 2 == 0, np.where(n == 0, 1.0, np.sin(angle)), np.cos(angle)) * np.sqrt(np.where(single, 1, 2) / P)
    C.setflags(write=False)  # shared by every caller
    return C


def mode_frequencies(P: int, omega_P: Array) -> Array:
    """Return omega_k = 2 omega_P sin(pi k / P), (P,) in the order of `mode_matrix` and the unit of omega_P."""
    omega_P = jnp.asarray(omega_P)
    return omega_P * jnp.asarray(2 * np.sin(np.pi * ((np.arange(P) + 1) // 2) / P), omega_P.dtype)


def _multiply(matrix: np.ndarray, x: Array) -> Array:
    return jnp.tensordot(jnp.asarray(matrix, x.dtype), x, axes=1, precision=lax.Precision.HIGHEST)


def to_modes(x: Array) -> Array:
    """Transform beads (P, ...) into modes (P, ...)."""
    return _multiply(mode_matrix(len(x)), x)


def to_beads(q: Array) -> Array:
    """Transform modes (P, ...) into beads (P, ...)."""
    return _multiply(mode_matrix(len(q)).T, q)


def free_ring_polymer(
    q: Array, p: Array, mass: Array, omega: Array, h: Array, dt: Array, *, method: str = "cayley"
) -> tuple[Array, Array]:
    """Move modes q and p (P, N, 3) by h under the springs alone: dq/dt = p / m, dp/dt = -m omega^2 q.

    Both methods rotate (q, p / m omega) by an angle and move the centroid by h p / m.
    "exact": angle = omega h.
    "cayley": angle = (h / dt) 2 arctan(omega dt / 2), the power h / dt of the Cayley transform over a time step,
    (1 - A dt/2)^-1 (1 + A dt/2); h = dt / 2 is its square root. Korol, Bou-Rabee, Miller, J. Chem. Phys. 151, 124103
    (2019) and 152, 104102 (2020). A full step turns no mode by pi or more, so no mode resonates with the forces.

    Args:
        mass: amu, (N, 1), or (P, N, 1) where modes have masses of their own; their omega must then agree with it.
        omega: (P,) angular frequencies, 0 for the centroid.
        h: duration of this move; dt: that of the whole time step. Both in Å (amu/eV)^(1/2).
    """
    if method not in ("exact", "cayley"):
        raise ValueError(f'method is "exact" or "cayley"; got {method!r}.')
    omega = omega[:, None, None]
    share = h / jnp.where(dt == 0, jnp.ones_like(dt), dt)  # a step of length zero changes nothing
    angle = omega * h if method == "exact" else 2 * share * jnp.arctan(0.5 * omega * dt)
    c, s = jnp.cos(angle), jnp.sin(angle)
    moving = omega > 0
    flight = jnp.where(moving, s / jnp.where(moving, omega, 1.0), h)  # sin(angle) / omega, which tends to h
    return c * q + flight * p / mass, c * p - s * omega * mass * q


@lru_cache
def contraction(P: int, P_short: int) -> np.ndarray:
    """Return T (P', P), which maps P beads on P' = P_short <= P: T = (P'/P)^(1/2) C_{P'}^T [first P' rows of C_P].

    Markland and Manolopoulos, J. Chem. Phys. 129, 024105 (2008). A smooth part of the potential adds
    (P / P') sum_j' V((T R)_j') to H, see `contract`, and (P / P') T^T f to the forces, see `expand_forces`.

    T T^T = P' / P, so centroids are kept, and with them energies and forces linear in R; a harmonic V is exact for
    rings without the modes left out. For even P' < P, of the two modes k = P'/2 only the cosine has a counterpart,
    the sine being zero at all short beads. It keeps the factor 1 (as in i-PI), for which the above holds; reading the
    path at the short beads would give it 2^(1/2) and count its harmonic energy twice.
    """
    if not 1 <= P_short <= P:
        raise ValueError(f"a ring of {P} beads contracts to between 1 and {P} beads; got {P_short}.")
    T = np.sqrt(P_short / P) * mode_matrix(P_short).T @ mode_matrix(P)[:P_short]
    T.setflags(write=False)
    return T


def contract(x: Array, P_short: int) -> Array:
    """Map beads (P, ...) on fewer beads (P_short, ...), with the same centroid."""
    return _multiply(contraction(len(x), P_short), x)


def expand_forces(f: Array, P: int) -> Array:
    """Return (P / P') T^T f (P, ...), the forces on P beads of forces f (P', ...) on the contracted ones."""
    return _multiply(P / len(f) * contraction(P, len(f)).T, f)


def free_path(key: Array, P: int, mass: Array, kT: Array) -> Array:
    """Draw the beads of free particles relative to their centroids, (P, N, 3) Å, from the exact distribution.

    Every internal mode is Gaussian of variance P kT / (m omega_k^2).

    Args:
        mass: (N, 1) amu; its dtype is that of the path.
        kT: eV, of the physical temperature.
    """
    noise = jax.random.normal(key, (P - 1, len(mass), 3), mass.dtype)
    kT = jnp.asarray(kT, mass.dtype)
    omega = mode_frequencies(P, ring_frequency(P, kT))[1:, None, None]
    internal = jnp.sqrt(P * kT / mass) / omega * noise
    return to_beads(jnp.concatenate([jnp.zeros_like(internal, shape=(1, len(mass), 3)), internal]))
