"""Lattice dynamics of crystals: dynamical matrices, frequencies, meshes of wave vectors, Grueneisen parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp import units
from jaxmlp.geometry import strained
from jaxmlp.potential import Params
from jaxmlp.properties.force_constants import ForceConstants

# jaxlib (0.10.1, CPU) shares batches of matrices worth 2e5 operations or more among the threads of its pool, and waits
# for them on a thread of that pool: a few such calls at a time wait for each other forever. Smaller ones do not wait.
_LAPACK_WORK = 6000  # cubes of the sizes of the matrices of a batch; an eigenvalue problem takes some 30 times that


class QMesh(NamedTuple):
    """Wave vectors q (Q, 3), in reciprocal lattice vectors, and their weights (Q,), which add up to 1."""

    q: np.ndarray
    weights: np.ndarray

    @property
    def gamma(self) -> np.ndarray:
        """(Q,) True where q is a reciprocal lattice vector, and three modes are translations of the crystal."""
        return (np.abs(self.q - np.round(self.q)) < 1e-12).all(axis=1)


GAMMA = QMesh(np.zeros((1, 3)), np.ones(1))


def monkhorst_pack(shape: int | tuple[int, int, int], *, gamma: bool = False) -> QMesh:
    """Return a regular mesh, one of each pair q and -q, which have the same frequencies.

    q_r = (2 r - n - 1) / 2 n with r = 1 ... n, Monkhorst and Pack, PRB 13, 5188 (1976), Eq. (3): even n avoid Gamma. In
    cells whose vectors are not at right angles such a mesh lacks some symmetry of the crystal; one with Gamma has it.

    Args:
        shape: n along the three reciprocal vectors; one number stands for all three.
        gamma: shift the mesh so that Gamma belongs to it: q_r = (r - 1) / n.

    Raises:
        ValueError: a number of points that is not positive.
    """
    n = np.broadcast_to(np.asarray(shape), 3)
    if not (n == n.astype(int)).all() or (n < 1).any():
        raise ValueError(f"a mesh needs a positive number of points in each direction; got {shape}.")
    doubled = np.stack(np.meshgrid(*(np.arange(k) * 2 for k in n), indexing="ij"), -1).reshape(-1, 3)  # 2 n q
    doubled = doubled if gamma else doubled - n + 1
    place = np.ravel_multi_index((doubled % (2 * n)).T, tuple(2 * n))
    partner = np.ravel_multi_index((-doubled % (2 * n)).T, tuple(2 * n))
    keep = place <= partner
    return QMesh(doubled[keep] / (2 * n), np.where(place == partner, 1.0, 2.0)[keep] / n.prod())


def dynamical_matrix(phi: ForceConstants, q: Array) -> Array:
    """Return D(q), (..., 3 n, 3 n) Hermitian, eV / (amu Å^2), whose eigenvalues are the squares of angular frequencies.

    D_{kappa a, kappa' b}(q) = (m_kappa m_kappa')^(-1/2) sum_l Phi(0 kappa a, l kappa' b) exp(2 pi i q . l), with phases
    of lattice vectors only: those of positions in the cell would change eigenvectors, not frequencies. The field of the
    dipoles of an ionic crystal, which splits optical modes near Gamma, is only there as far as the supercell holds it.

    Args:
        q: (..., 3) in reciprocal lattice vectors, so that it goes along with a strain.
    """
    values, translations, masses = phi
    size = 3 * len(masses)
    q = jnp.asarray(q, values.dtype)
    angle = 2 * jnp.pi * (q @ translations.T)
    flat = mass_weighted(values, masses).reshape(-1, size * size)
    D = lax.complex(jnp.cos(angle) @ flat, jnp.sin(angle) @ flat).reshape(*q.shape[:-1], size, size)
    return (D + D.swapaxes(-1, -2).conj()) / 2


def gamma_matrix(phi: ForceConstants) -> Array:
    """Return D(q = 0), (3 n, 3 n), which is real."""
    D = jnp.sum(mass_weighted(phi.values, phi.masses), axis=0).reshape(3 * len(phi.masses), -1)
    return (D + D.T) / 2


def mass_weighted(values: Array, masses: Array) -> Array:
    """Return force constants (..., n, 3, n, 3) over the roots of both masses."""
    root = jnp.sqrt(masses)[:, None]
    return values / (root[:, :, None, None] * root)


def map_q(function: Callable[[Array], Any], q: Array, size: int) -> Any:
    """Return function(q), any pytree, of every wave vector q (Q, 3), in batches small enough for matrices (size, size).

    What a batch computes is computed again for derivatives, not kept.
    """
    batch = int(np.clip(_LAPACK_WORK // size**3, 1, len(q)))
    padded = jnp.concatenate([q, jnp.broadcast_to(q[:1], (-len(q) % batch, 3))])
    some = jax.checkpoint(jax.vmap(function), prevent_cse=False)
    out = lax.map(some, padded.reshape(-1, batch, 3))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: len(q)], out)


def frequencies(phi: ForceConstants, q: Array) -> Array:
    """Return nu = omega / 2 pi, (Q, 3 n) THz, ascending; those of unstable modes, imaginary, are given as negative.

    Differentiable where the frequency is neither degenerate nor 0. Of degenerate frequencies, only derivatives of sums
    over all of them have a meaning.

    Args:
        q: (Q, 3) in reciprocal lattice vectors.
    """
    q = jnp.asarray(q, phi.values.dtype)
    square = map_q(lambda q: jnp.linalg.eigvalsh(dynamical_matrix(phi, q)), q, 3 * len(phi.masses))
    moving = square != 0
    nu = jnp.sqrt(jnp.abs(jnp.where(moving, square, 1.0))) / units.THz
    return jnp.where(moving, jnp.sign(square) * nu, 0.0)


def gruneisen_fn(phi: Callable[[Array, Array, Params], ForceConstants]) -> Callable[..., Array]:
    """Return gruneisen(q, R, box, params): -d ln omega / d ln V of all modes, (Q, 3 n) in the order of `frequencies`.

    -(1 / 6 omega^2) e* . (dD/dstrain) . e for a uniform strain that takes the positions along: atoms that would relax
    in the strained cell do not. NaN for the translations at Gamma.

    Args:
        phi: what `force_constants_fn` returns.
    """

    def gruneisen(q, R, box, params):
        R, box = jnp.asarray(R), jnp.asarray(box)
        one = jnp.eye(3, dtype=R.dtype)
        now, change = jax.jvp(lambda e: phi(*strained(R, box, e), params), (jnp.zeros_like(one),), (one,))
        slope = now._replace(values=change.values)

        def of(q):
            square, modes = jnp.linalg.eigh(dynamical_matrix(now, q))
            return square, jnp.sum(modes.conj() * (dynamical_matrix(slope, q) @ modes), axis=0).real

        square, change = map_q(of, jnp.asarray(q, R.dtype), 3 * len(R))
        still = jnp.abs(square) < 1e-9 * jnp.max(jnp.abs(square))
        return jnp.where(still, jnp.nan, -change / (6 * jnp.where(still, 1.0, square)))

    return gruneisen
