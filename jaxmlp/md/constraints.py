"""Rigid bonds by SHAKE and RATTLE: constraints |r_a| = d_a on distances between atoms, solved cluster by cluster.

The Lagrange multipliers lambda_a of the constraints a = (i, j) act along r_a = R_j - R_i + shift_a @ box: lambda_a r_a
on j, the opposite on i. Those that share atoms, directly or not, are a cluster; with the signs s_am = -1, 1, 0 of its
atoms m = i, j, others, one multiplier changes every relative velocity of its cluster by

    A_ab lambda_b r_b,    A_ab = sum_m s_am s_bm / m_m.

Positions: Ryckaert, Ciccotti, Berendsen, J. Comput. Phys. 23, 327 (1977), with the multipliers of a cluster by Newton's
method together: M-SHAKE of Kräutler, van Gunsteren, Hünenberger, J. Comput. Chem. 22, 501 (2001). Momenta: Andersen, J.
Comput. Phys. 52, 24 (1983). Clusters are padded to the largest number of constraints and solved side by side: a bond of
length zero between no atoms, decoupled from the rest, is what padding means.

All functions are pure and differentiable. R (N, 3) Å unwrapped, p (N, 3) momenta, mass (N, 1) amu, box (3, 3) Å or
None; times in Å (amu/eV)^(1/2).
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.potentials.bonded import minimum_image

if TYPE_CHECKING:
    from jaxmlp.system import System

LARGEST = 30  # constraints of a cluster; the work on every cluster grows as the cube of the largest
FARTHEST = 0.1  # relative error of a length from which Newton's method surely converges
INDEPENDENT = 1e-3  # smallest singular value of the gradients of independent constraints, as unit vectors

_einsum = partial(jnp.einsum, precision=lax.Precision.HIGHEST)  # a GPU would round single precision to 10 bits


class Clusters(NamedTuple):
    """Constraints of every cluster, numpy arrays for C clusters of at most k constraints between m atoms.

    Args:
        atoms: (C, m) int32; an atom of the same cluster in padding, so that a NaN stays where it is.
        rows: (C, k) int32 constraints; 0 in padding.
        real: (C, k) False in padding.
        signs: (C, k, m) int8, -1 and 1 at the first and second atom of a constraint; 0 in padding.
    """

    atoms: np.ndarray
    rows: np.ndarray
    real: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class Constraints:
    """The atoms of n constraints: hashable and static. len(constraints) = n degrees of freedom are lost.

    Args:
        pairs: (n, 2) indices into the system, counted from 0: anything numpy understands.

    Raises:
        ValueError: indices that are no integers, negative, or equal; a pair that occurs twice.
    """

    pairs: tuple[tuple[int, int], ...]

    def __post_init__(self):
        pairs = np.asarray(self.pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0 or pairs.dtype.kind not in "iu":
            raise ValueError(f"Constraints.pairs must be integers of shape (n, 2); got shape {pairs.shape}.")
        bad = np.flatnonzero((pairs.min(axis=1) < 0) | (pairs[:, 0] == pairs[:, 1]))
        if len(bad):
            found = pairs[bad[0]].tolist()
            raise ValueError(f"Constraints.pairs[{bad[0]}] = {found}: indices are different and not negative.")
        _, first, counts = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True, return_counts=True)
        if counts.max() > 1:
            twice = pairs[first[counts.argmax()]].tolist()
            raise ValueError(f"Constraints.pairs holds {twice} {counts.max()} times; a bond is constrained once.")
        object.__setattr__(self, "pairs", tuple(map(tuple, pairs.tolist())))

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def clusters(self) -> Clusters:
        """The constraints that share atoms, directly or not, together.

        Raises:
            ValueError: a cluster has more than `LARGEST` constraints.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        atoms, ends = np.unique(np.array(self.pairs), return_inverse=True)
        ends = ends.reshape(-1, 2)
        links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(atoms), len(atoms)))
        C, of_atom = connected_components(links, directed=False)
        of_bond = of_atom[ends[:, 0]]
        bond, atom = _places(of_bond), _places(of_atom)
        k, m = int(bond.max()) + 1, int(atom.max()) + 1
        if k > LARGEST:
            one = atoms[of_atom == np.bincount(of_bond).argmax()][:5].tolist()
            raise ValueError(
                f"{k} constraints hang together (atoms {', '.join(map(str, one))}, ...); a cluster may have {LARGEST}: "
                "its multipliers are solved for together. Constrain fewer bonds, those to hydrogen only say."
            )
        out = Clusters(
            np.zeros((C, m), np.int32), np.zeros((C, k), np.int32), np.zeros((C, k), bool), np.zeros((C, k, m), np.int8)
        )
        out.atoms[of_atom[atom == 0]] = atoms[atom == 0, None]
        out.atoms[of_atom, atom] = atoms
        out.rows[of_bond, bond] = np.arange(len(ends))
        out.real[of_bond, bond] = True
        out.signs[of_bond, bond, atom[ends[:, 0]]] = -1
        out.signs[of_bond, bond, atom[ends[:, 1]]] = 1
        return out


class Bonds(NamedTuple):
    """What a concrete system adds to `Constraints`: arrays that may be differentiated or swept.

    Args:
        length: (n,) Å.
        shift: (n, 3) int32, the bond vector is R_j - R_i + shift @ box. Unwrapped positions keep it.
    """

    length: Array
    shift: Array


def constraints(system: "System", pairs, lengths=None) -> tuple[Constraints, Bonds]:
    """Return constraints of the distances between pairs of atoms of `system`, each along its shortest image.

    Where the system has other lengths than those given, positions come to obey them by
    `project_positions(constraints, bonds, R, R, p, mass, box, h)`.

    Args:
        pairs: (n, 2) indices, counted from 0.
        lengths: Å, a number or (n,); None for those of the system.

    Raises:
        ValueError: indices, lengths or clusters that cannot be; a system far from the lengths; constraints that depend
            on each other (the three distances of a linear molecule, say).
    """
    static = Constraints(pairs)
    i, j = np.array(static.pairs).T
    if max(i.max(), j.max()) >= len(system):
        raise ValueError(
            f"a constraint binds atom {max(i.max(), j.max())}, counted from 0; the system has {len(system)} atoms."
        )
    d = system.R[j] - system.R[i]
    shift = np.zeros((len(d), 3), np.int32)
    if system.box is not None:
        moved = np.asarray(minimum_image(jnp.asarray(d), jnp.asarray(system.box), system.pbc)) - d
        shift = np.rint(moved @ np.linalg.inv(system.box)).astype(np.int32)
        d = d + shift @ system.box
    present = np.linalg.norm(d, axis=1)
    given = present if lengths is None else np.asarray(lengths, float)
    if given.ndim > 1 or given.size not in (1, len(d)):
        raise ValueError(f"lengths must be a number or one for each of the {len(d)} pairs; got shape {given.shape}.")
    length = np.broadcast_to(given, len(d))
    bad = np.flatnonzero(~((length > 0) & (length < np.inf)))
    if len(bad):
        b = bad[0]
        raise ValueError(f"lengths are positive, in Å; that of atoms {i[b]} and {j[b]} is {length[b]}.")
    error = np.abs(present / length - 1)
    if error.max() > FARTHEST:
        b = error.argmax()
        raise ValueError(
            f"atoms {i[b]} and {j[b]} are {present[b]:.4g} Å apart and shall be {length[b]:.4g} Å: start from a "
            f"structure that is nearer to its constraints, within {FARTHEST:.0%}."
        )
    _check_independent(static, d / present[:, None])
    return static, Bonds(jnp.asarray(length), jnp.asarray(shift))


def project_positions(
    constraints: Constraints,
    bonds: Bonds,
    R_new: Array,
    R_old: Array,
    p: Array,
    mass: Array,
    box: Array | None,
    h: Array | float,
    *,
    iterations: int = 5,
) -> tuple[Array, Array]:
    """Return R with all |r_a| = d_a, and p + m (R - R_new) / h: SHAKE after a drift from R_old to R_new over h.

    R = R_new + 1/m sum_a lambda_a r_a(R_old), each term at the two atoms of a. Newton's method doubles the number of
    correct digits in an iteration; five reach rounding from errors of `FARTHEST`. Where lengths are still wrong by more
    than the root of the rounding error (a bond turned too far in a step), the atoms of the cluster become NaN.
    """
    old, new = _vectors(constraints, bonds, R_old, box), _vectors(constraints, bonds, R_new, box)
    of = constraints.clusters
    length = jnp.where(of.real, bonds.length[of.rows], jnp.zeros((), bonds.length.dtype))
    forces = jax.vmap(partial(_shake, iterations))(of.real, _coupling(of, mass), old, new, length)
    change = _at_atoms(of, forces, p)
    return R_new + change / mass, p + change / jnp.where(h == 0, 1.0, h)  # a step of length zero changes nothing


def project_momenta(
    constraints: Constraints, bonds: Bonds, R: Array, p: Array, mass: Array, box: Array | None
) -> Array:
    """Return p without relative velocities along the bonds, r_a . (v_j - v_i) = 0 (RATTLE, exactly)."""
    of, r = constraints.clusters, _vectors(constraints, bonds, R, box)
    rate = jnp.sum(r * _along(of, p / mass), axis=-1)
    return p + _at_atoms(of, _multipliers(of, mass, r, rate)[..., None] * r, p)


def constraint_forces(
    constraints: Constraints, bonds: Bonds, R: Array, p: Array, F: Array, mass: Array, box: Array | None
) -> tuple[Array, Array]:
    """Return the forces (N, 3) eV/Å that keep the lengths under forces F, and their virial (3, 3) eV.

    From d^2 |r_a|^2 / dt^2 = 0: r_a . (a_j - a_i) + (v_j - v_i)^2 = 0, with accelerations under F and these forces.
    R and p obey the constraints. The virial, sum_a r_a (x) lambda_a r_a, adds to that of the potential.
    """
    of, r = constraints.clusters, _vectors(constraints, bonds, R, box)
    v = _along(of, p / mass)
    rate = jnp.sum(r * _along(of, F / mass) + v * v, axis=-1)
    forces = _multipliers(of, mass, r, rate)[..., None] * r
    return _at_atoms(of, forces, p), _einsum("ckx,cky->xy", r, forces)


def residual(constraints: Constraints, bonds: Bonds, R: Array, box: Array | None) -> Array:
    """Return the largest relative violation of a length, max_a ||r_a| / d_a - 1|."""
    of = constraints.clusters
    r = jnp.linalg.norm(_vectors(constraints, bonds, R, box)[of.real], axis=-1)
    return jnp.max(jnp.abs(r / bonds.length[of.rows[of.real]] - 1))


def _places(label: np.ndarray) -> np.ndarray:
    """Number the items of every label, 0, 1, ... in their order."""
    order = np.argsort(label, kind="stable")
    place = np.empty(len(label), np.int64)
    place[order] = np.arange(len(label)) - np.searchsorted(label[order], label[order])
    return place


def _check_independent(constraints: Constraints, directions: np.ndarray) -> None:
    """Refuse constraints whose gradients are linearly dependent, for unit vectors (n, 3) along the bonds."""
    of = constraints.clusters
    C, k, _ = of.signs.shape
    rows = of.signs[..., None] * directions[of.rows][:, :, None] / np.sqrt(2)
    rows = np.concatenate([rows.reshape(C, k, -1), ~of.real[..., None] * np.eye(k)], axis=2)
    smallest = np.linalg.svd(rows, compute_uv=False)[:, -1]
    if smallest.min() < INDEPENDENT:
        c = smallest.argmin()
        pairs = ", ".join(str(constraints.pairs[a]) for a in of.rows[c][of.real[c]])
        raise ValueError(
            f"the constraints {pairs} depend on each other: some follow from the others, as the third distance of "
            "three atoms in line does, or the tenth of five atoms. Leave them out."
        )


def _along(of: Clusters, x: Array) -> Array:
    """x_j - x_i (C, k, 3) of per-atom x (N, 3); 0 in padding."""
    signs = jnp.asarray(of.signs, x.dtype)
    return _einsum("ckm,cmx->ckx", signs, x[of.atoms])


def _at_atoms(of: Clusters, forces: Array, like: Array) -> Array:
    """The sum (N, 3) of forces (C, k, 3) on the second atoms of the constraints, and their opposites on the first."""
    signs = jnp.asarray(of.signs, forces.dtype)
    parts = _einsum("ckm,ckx->cmx", signs, forces)
    return jnp.zeros_like(like).at[of.atoms].add(parts)


def _vectors(constraints: Constraints, bonds: Bonds, R: Array, box: Array | None) -> Array:
    """The bond vectors r_a (C, k, 3); 0 in padding."""
    of = constraints.clusters
    r = _along(of, R)
    if box is None:
        return r
    shift = jnp.where(of.real[..., None], bonds.shift[of.rows], 0)
    return r + _einsum("cki,ix->ckx", shift.astype(R.dtype), box)


def _coupling(of: Clusters, mass: Array) -> Array:
    """A_ab (C, k, k) in 1/amu; 0 in padding."""
    signs = jnp.asarray(of.signs, mass.dtype)
    return _einsum("ckm,cm,clm->ckl", signs, 1 / mass[of.atoms, 0], signs)


def _multipliers(of: Clusters, mass: Array, r: Array, rate: Array) -> Array:
    """lambda (C, k) with sum_b r_a . A_ab r_b lambda_b = -rate_a."""
    G = _coupling(of, mass) * _einsum("ckx,clx->ckl", r, r)
    return jax.vmap(_solve)(G + _identity(of.real, r.dtype), -rate)


def _shake(iterations: int, real: Array, A: Array, old: Array, new: Array, length: Array) -> Array:
    """lambda_a r_a(R_old) (k, 3) of one cluster, such that |new_a + sum_b A_ab lambda_b old_b| = length_a."""
    moves = A[..., None] * old  # (k, k, 3): what the multipliers b move the vectors a by
    identity = _identity(real, old.dtype)

    def moved(multipliers):
        return new + jnp.sum(moves * multipliers[:, None], axis=1)

    def excess(r):
        return 0.5 * (jnp.sum(r * r, axis=-1) - length * length)

    def newton(_, multipliers):
        r = moved(multipliers)
        return multipliers - _solve(jnp.sum(r[:, None] * moves, axis=-1) + identity, excess(r))

    multipliers = lax.fori_loop(0, iterations, newton, jnp.zeros_like(length))
    tolerance = jnp.finfo(old.dtype).eps ** 0.5
    solved = jnp.all(jnp.abs(excess(moved(multipliers))) <= tolerance * length * length)
    return jnp.where(solved, multipliers, jnp.nan)[:, None] * old


def _identity(real: Array, dtype) -> Array:
    """Ones on the diagonal in padding, so that matrices (..., k, k) are regular."""
    return (jnp.eye(real.shape[-1], dtype=bool) & ~real[..., None]).astype(dtype)


def _solve(M: Array, b: Array) -> Array:
    """Solve M x = b (k,) by Gauss-Jordan elimination. M is nearly symmetric and positive: nothing needs pivoting.

    Vectorised over clusters it takes a fourteenth of the time of LAPACK on 10^4 matrices (3, 3).
    """
    k = len(b)
    M = jnp.concatenate([M, b[:, None]], axis=1)
    for a in range(k):
        row = M[a] / M[a, a]
        M = (M - M[:, a, None] * row).at[a].set(row)
    return M[:, -1]
