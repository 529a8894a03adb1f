"""Thermal momenta."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.md.state import kinetic_energy


def thermal_momenta(
    key: Array,
    mass: Array,
    kT: Array,
    *,
    keep_momentum: bool = False,
    spin_free: Array | None = None,
    exact: bool = False,
) -> Array:
    """Draw Maxwell-Boltzmann momenta (N, 3), (amu eV)^(1/2).

    Removing total (angular) momentum projects out those modes in the metric 1/m, so that the others keep their exact
    distribution: the kinetic energy then has 3 N - 3 (3 N - 6) degrees of freedom.

    Args:
        mass: (N, 1) amu.
        kT: eV.
        keep_momentum: keep the total momentum that was drawn (a single atom always keeps it).
        spin_free: positions (N, 3) Å of a free cluster whose angular momentum about its centre of mass is removed.
        exact: scale to the kinetic energy dof kT / 2; a thermal sample fluctuates around it.
    """
    n = len(mass)
    p = jnp.sqrt(mass * kT) * jax.random.normal(key, (n, 3), mass.dtype)
    if not keep_momentum and n > 1:
        p = still(p, mass)
    if spin_free is not None:
        p = without_rotation(p, mass, spin_free)
    if exact:
        dof = 3 * n - (3 if not keep_momentum and n > 1 else 0) - (3 if spin_free is not None else 0)
        K = kinetic_energy(p, mass)
        p = p * jnp.sqrt(jnp.where(K > 0, 0.5 * dof * kT / jnp.where(K > 0, K, 1.0), 0.0))
    return p


def still(p: Array, mass: Array) -> Array:
    """Return p without total momentum."""
    return p - mass * jnp.sum(p, axis=0) / jnp.sum(mass)


def without_rotation(p: Array, mass: Array, R: Array) -> Array:
    """Return p without angular momentum about the centre of mass: p - m omega x r, with omega = I^-1 L."""
    r = R - jnp.sum(mass * R, axis=0) / jnp.sum(mass)
    L = jnp.sum(jnp.cross(r, p), axis=0)
    inertia = jnp.sum(mass * r * r) * jnp.eye(3, dtype=p.dtype) - (mass * r).T @ r
    omega = jnp.linalg.pinv(inertia, hermitian=True) @ L  # a linear molecule has no inertia about its axis
    return p - mass * jnp.cross(omega, r)
