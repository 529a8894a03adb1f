"""Variables of a few atoms, or of centres of groups of them: positions, distances, angles, torsions, sizes, shapes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potentials.bonded import angle, dihedral, minimum_image
from jaxmlp.sampling.variables import Variable, atom_indices, root

if TYPE_CHECKING:
    from jaxmlp.system import System


@dataclass(frozen=True)
class Center:
    """The point sum_i w_i R_i / sum_i w_i of a group of atoms, whose positions are taken unwrapped.

    Args:
        atoms: different indices, counted from 0: anything numpy understands.
        weights: as many positive numbers; () for equal ones.
    """

    atoms: tuple[int, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "atoms", atom_indices("Center.atoms", self.atoms))
        weights = tuple(np.asarray(self.weights, float).tolist())
        if weights and (len(weights) != len(self.atoms) or not all(w > 0 for w in weights)):
            raise ValueError(f"Center.weights must be {len(self.atoms)} positive numbers, or (); got {self.weights}.")
        object.__setattr__(self, "weights", weights)

    def shares(self, dtype) -> Array:
        """Return w_i / sum w, (atoms,)."""
        w = np.array(self.weights or (1.0,) * len(self.atoms))
        return jnp.asarray(w / w.sum(), dtype)

    def places(self, graph: Graph) -> Array:
        """Return the positions of the atoms, (atoms, 3) Å."""
        return graph.R[np.array(atom_indices("Center.atoms", self.atoms, len(graph.R)))]

    def of(self, graph: Graph) -> Array:
        """Return the point, (3,) Å."""
        R = self.places(graph)
        return self.shares(R.dtype) @ R


def center_of_mass(system: "System", atoms) -> Center:
    """Return the centre of mass of some atoms of `system`."""
    return Center(atoms, system.masses[np.asarray(atom_indices("atoms", atoms, len(system)))])


def center(point) -> Center:
    """Return the point that an index, a group of indices (their geometric centre) or a `Center` stands for."""
    return point if isinstance(point, Center) else Center(point)


@dataclass(frozen=True)
class Position(Variable):
    """s = R, or one component of it, Å: where a point is in space.

    Args:
        point: an atom's index, indices of a group, or a `Center`.
        axis: 0, 1 or 2 for x, y or z; None for all three.
    """

    point: Center
    axis: int | None = None
    homogeneous: ClassVar[bool] = False

    def __post_init__(self):
        object.__setattr__(self, "point", center(self.point))
        if self.axis not in (None, 0, 1, 2):
            raise ValueError(f"Position.axis is 0, 1, 2 or None; got {self.axis!r}.")

    @property
    def size(self):
        return 3 if self.axis is None else 1

    def of(self, graph: Graph) -> Array:
        R = self.point.of(graph)
        return R if self.axis is None else R[self.axis : self.axis + 1]


@dataclass(frozen=True)
class Internal(Variable):
    """A function of the vectors between consecutive points; a subclass is its formula.

    Args:
        points: each an atom's index, indices of a group (its geometric centre), or a `Center`.
        minimum_image: take the shortest of the vectors' periodic images, so that atoms may be wrapped into the cell or
            not. Without, vectors are what the coordinates say, and may grow beyond half the cell.
        pbc: periodic directions for `minimum_image`; `variable_fn`, `energy_fn` and the drivers set them.
    """

    points: tuple[Center, ...]
    minimum_image: bool = True
    pbc: tuple[bool, bool, bool] = (True, True, True)
    count: ClassVar[int] = 2

    def __post_init__(self):
        name = type(self).__name__
        if len(self.points) != self.count:
            raise ValueError(f"{name}.points must be {self.count} points; got {len(self.points)}.")
        object.__setattr__(self, "points", tuple(map(center, self.points)))
        if any(a == b for a, b in pairwise(self.points)):
            raise ValueError(f"{name}.points: two neighbouring points are the same.")

    def value(self, *steps: Array) -> Array:
        """Return s, a scalar, from vectors (3,) Å."""
        raise NotImplementedError(f"{type(self).__name__} defines no value.")

    def of(self, graph: Graph) -> Array:
        places = [p.of(graph) for p in self.points]
        steps = [b - a for a, b in pairwise(places)]
        if self.minimum_image:
            steps = [minimum_image(d, graph.box, self.pbc) for d in steps]
        return self.value(*steps)[None]


class Distance(Internal):
    """s = |R_b - R_a|, Å, of points (a, b)."""

    def value(self, step: Array) -> Array:
        return root(step @ step)


@dataclass(frozen=True)
class Projection(Internal):
    """s = n . (R_b - R_a), Å, of points (a, b) along a fixed direction, whose unit vector is n."""

    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def __post_init__(self):
        super().__post_init__()
        n = np.asarray(self.direction, float)
        if n.shape != (3,) or not 0 < np.linalg.norm(n) < np.inf:
            raise ValueError(f"Projection.direction must be a vector (3,) that is not zero; got {self.direction}.")
        object.__setattr__(self, "direction", tuple((n / np.linalg.norm(n)).tolist()))

    def value(self, step: Array) -> Array:
        return step @ jnp.asarray(self.direction, step.dtype)


class Angle(Internal):
    """s = the angle at b, radians, of points (a, b, c); its derivatives are set to zero where they are in line."""

    count = 3

    def value(self, *steps: Array) -> Array:
        return angle(-steps[0], steps[1])


class Torsion(Internal):
    """s = the dihedral angle of points (a, b, c, d), radians between -pi and pi; period 2 pi.

    Its sign and where it is undefined: see `jaxmlp.potentials.bonded.dihedral`.
    """

    count = 4

    @property
    def periods(self):
        return (2 * np.pi,)

    def value(self, *steps: Array) -> Array:
        return dihedral(*steps)


@dataclass(frozen=True)
class GyrationRadius(Variable):
    """s = [sum_i w_i |R_i - R_0|^2 / sum_i w_i]^(1/2), Å, around the centre R_0 of a group.

    Args:
        group: indices, or a `Center` with weights; positions are taken unwrapped.
    """

    group: Center

    def __post_init__(self):
        object.__setattr__(self, "group", center(self.group))

    def of(self, graph: Graph) -> Array:
        d = self.group.places(graph) - self.group.of(graph)
        return root(self.group.shares(d.dtype) @ jnp.sum(d * d, axis=1))[None]


@dataclass(frozen=True)
class RMSD(Variable):
    """s = min_Q [sum_i w_i |R_i - R_0 - Q (X_i - X_0)|^2 / sum_i w_i]^(1/2), Å, over all rotations Q.

    s^2 = sum_i w_i (|R_i - R_0|^2 + |X_i - X_0|^2) - 2 lambda (with sum w = 1), lambda the largest eigenvalue of the
    4 x 4 matrix of quaternions made of C = sum_i w_i (X_i - X_0) (x) (R_i - R_0): Horn, J. Opt. Soc. Am. A 4, 629
    (1987). A difference of large numbers: below about 10^-8 of the group's size (in float32 10^-4) it is rounding.
    Second derivatives exist where the eigenvalues are different.

    Args:
        group: indices, or a `Center` with weights; positions are taken unwrapped.
        reference: X (atoms, 3) Å.
    """

    group: Center
    reference: tuple[tuple[float, float, float], ...]

    def __post_init__(self):
        object.__setattr__(self, "group", center(self.group))
        X = np.asarray(self.reference, float)
        if X.shape != (len(self.group.atoms), 3):
            raise ValueError(f"RMSD.reference must be ({len(self.group.atoms)}, 3) Å; got shape {X.shape}.")
        object.__setattr__(self, "reference", tuple(map(tuple, X.tolist())))

    def of(self, graph: Graph) -> Array:
        x = self.group.places(graph) - self.group.of(graph)
        w = self.group.shares(x.dtype)
        X = jnp.asarray(self.reference, x.dtype)
        X = X - w @ X
        C = (w[:, None] * X).T @ x
        skew = jnp.stack([C[1, 2] - C[2, 1], C[2, 0] - C[0, 2], C[0, 1] - C[1, 0]])
        corner = C + C.T - jnp.trace(C) * jnp.eye(3, dtype=x.dtype)
        K = jnp.block([[jnp.trace(C)[None, None], skew[None]], [skew[:, None], corner]])
        square = w @ jnp.sum(x * x + X * X, axis=1) - 2 * jnp.linalg.eigvalsh(K)[-1]
        return root(square)[None]
