"""Bonded terms of molecules with a fixed topology: bonds, angles and dihedrals between numbered atoms."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.species import subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential

if TYPE_CHECKING:
    from jaxmlp.system import System


@dataclass(frozen=True)
class Bonded(Potential):
    """A sum over terms of a few atoms each, named by their indices in the system; a subclass is the formula of a term.

    The vectors between consecutive atoms of a term are the shortest ones between their periodic images, so that atoms
    may be wrapped into the cell or not. A vector is surely found where it is shorter than half of every distance
    between opposite faces of the cell. A term's energy belongs in equal parts to its atoms. All arrays in params have
    the terms as their first axis. Energies and angles: eV and radians.

    Args:
        species: atomic numbers of the potential; they play no role but must agree with those of potentials added to it.
        atoms: (terms, 2, 3 or 4) indices into the system, counted from 0: anything numpy understands.
        pbc: periodic directions; `energy_fn` and the drivers set them from the system.
    """

    species: tuple[int, ...]
    atoms: tuple[tuple[int, ...], ...]
    pbc: tuple[bool, bool, bool] = (True, True, True)
    size: ClassVar[int]
    local: ClassVar[bool] = False
    uses_neighbors: ClassVar[bool] = False
    cutoff: ClassVar[float] = 2.0  # Å, of a neighbour list that is not used; the protocol asks for one

    def __post_init__(self):
        name = type(self).__name__
        atoms = np.asarray(self.atoms)
        if atoms.ndim != 2 or atoms.shape[1] != self.size or len(atoms) == 0 or atoms.dtype.kind not in "iu":
            raise ValueError(f"{name}.atoms must be integers of shape (terms, {self.size}); got shape {atoms.shape}.")
        ordered = np.sort(atoms, axis=1)
        bad = np.flatnonzero((atoms.min(axis=1) < 0) | (ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if len(bad):
            raise ValueError(
                f"{name}.atoms[{bad[0]}] = {atoms[bad[0]].tolist()}: indices are different and not negative."
            )
        object.__setattr__(self, "atoms", tuple(map(tuple, atoms.tolist())))

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        """Return the energy of every term, (terms,) eV, from the vectors (terms, 3) Å between consecutive atoms."""
        raise NotImplementedError(f"{type(self).__name__} defines no term_energies.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        atoms = np.array(self.atoms)
        if atoms.max() >= len(graph.R):
            raise ValueError(
                f"{type(self).__name__} binds atom {atoms.max()}, counted from 0; the system has {len(graph.R)} atoms."
            )
        places = [graph.R[atoms[:, k]] for k in range(self.size)]
        steps = tuple(minimum_image(b - a, graph.box, self.pbc) for a, b in pairwise(places))
        energies = self.term_energies(params, steps)
        if energies.shape != (len(atoms),):
            raise ValueError(
                f"the parameters of {type(self).__name__} must have {len(atoms)} entries, one for each term; "
                f"got {', '.join(f'{k}: {jnp.shape(v)}' for k, v in params.items())}."
            )
        shares = jnp.zeros(len(graph.R), energies.dtype)
        return shares.at[atoms].add(energies[:, None] / self.size)

    def for_system(self, system: "System") -> "Bonded":
        return replace(self, pbc=system.pbc)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["Bonded", Params]:
        subset(self.species, species)
        return replace(self, species=tuple(species)), params


class HarmonicBond(Bonded):
    """E = k/2 (r - length)^2; params {"k": eV/Å^2, "length": Å}. (LAMMPS' K is k/2.)"""

    size = 2

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        return 0.5 * params["k"] * jnp.square(_norm(steps[0]) - params["length"])


class MorseBond(Bonded):
    """E = depth (1 - exp(-alpha (r - length)))^2; params {"depth": eV, "alpha": 1/Å, "length": Å}."""

    size = 2

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        x = jnp.exp(-params["alpha"] * (_norm(steps[0]) - params["length"]))
        return params["depth"] * jnp.square(1.0 - x)


class HarmonicAngle(Bonded):
    """E = k/2 (theta - angle)^2, theta at the middle atom; params {"k": eV, "angle": radians}. (LAMMPS' K is k/2.)

    theta has a kink where the three atoms are in line: there its derivatives are set to zero.
    """

    size = 3

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        return 0.5 * params["k"] * jnp.square(angle(-steps[0], steps[1]) - params["angle"])


class HarmonicDihedral(Bonded):
    """E = k/2 (phi - angle)^2 with the difference taken between -pi and pi; params {"k": eV, "angle": radians}.

    With the central atom of three others first, it is the harmonic improper that keeps a centre planar (angle = 0).
    """

    size = 4

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        difference = dihedral(*steps) - params["angle"]
        turns = jnp.round(difference / (2.0 * jnp.pi))
        return 0.5 * params["k"] * jnp.square(difference - 2.0 * jnp.pi * turns)


@dataclass(frozen=True)
class FourierDihedral(Bonded):
    """E = sum_n k_n (1 + cos(n phi - phase_n)); params {"k": (terms, n) eV, "phase": (terms, n) radians}.

    Args:
        multiplicities: the numbers n, in the order of the second axis of the parameters.
    """

    multiplicities: tuple[int, ...] = (1, 2, 3)
    size = 4

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        phi = dihedral(*steps)
        n = jnp.asarray(np.array(self.multiplicities), phi.dtype)
        return jnp.sum(params["k"] * (1.0 + jnp.cos(n * phi[:, None] - params["phase"])), axis=1)


class RyckaertBellemans(Bonded):
    """E = sum_n c_n cos^n(phi - pi), n = 0 ... 5; params {"c": (terms, 6) eV}. phi = pi is trans."""

    size = 4

    def term_energies(self, params: Params, steps: tuple[Array, ...]) -> Array:
        cos = -jnp.cos(dihedral(*steps))
        energy = jnp.zeros_like(cos)
        for n in reversed(range(6)):  # Horner
            energy = energy * cos + params["c"][:, n]
        return energy


def minimum_image(d: Array, box: Array | None, pbc: tuple[bool, bool, bool]) -> Array:
    """Return the shortest of the vectors d + n @ box, n integers along periodic directions, for d (..., 3) Å.

    Rounding the coordinates along the periodic lattice vectors alone may miss it in a skewed cell; so the neighbouring
    images are compared too.
    """
    if box is None or not any(pbc):
        return d
    lattice = box[np.flatnonzero(pbc)]  # (1 to 3, 3); d is projected on what it spans
    nearest = -jnp.round(d @ lattice.T @ jnp.linalg.inv(lattice @ lattice.T))
    offsets = np.array(list(np.ndindex(*[3] * len(lattice)))) - 1
    candidates = nearest[..., None, :] + jnp.asarray(offsets, d.dtype)
    squared = jnp.sum(jnp.square(d[..., None, :] + candidates @ lattice), axis=-1)
    chosen = jnp.take_along_axis(candidates, jnp.argmin(squared, axis=-1)[..., None, None], axis=-2)[..., 0, :]
    return d + chosen @ lattice


def angle(a: Array, b: Array) -> Array:
    """Return the angle between vectors (..., 3), radians; accurate at all angles, with finite derivatives."""
    normal = jnp.sum(jnp.square(jnp.cross(a, b)), axis=-1)
    in_line = normal <= (jnp.finfo(a.dtype).eps ** 2) * jnp.sum(a * a, axis=-1) * jnp.sum(b * b, axis=-1)
    sine = jnp.where(in_line, 0.0, jnp.sqrt(jnp.where(in_line, 1.0, normal)))
    return jnp.arctan2(sine, jnp.sum(a * b, axis=-1))


def dihedral(b1: Array, b2: Array, b3: Array) -> Array:
    """Return the angle between the planes of (b1, b2) and (b2, b3), vectors (..., 3), between -pi and pi.

    IUPAC: 0 for cis, pi for trans, positive where the bond in front turns clockwise into the bond behind. Where three
    atoms are in line it means nothing; it is 0 there, with zero derivatives.
    """
    m, n = jnp.cross(b1, b2), jnp.cross(b2, b3)
    x = jnp.sum(m * n, axis=-1)
    y = _norm(b2) * jnp.sum(b1 * n, axis=-1)
    size = jnp.sum(b1 * b1, axis=-1) * jnp.sum(b2 * b2, axis=-1) ** 2 * jnp.sum(b3 * b3, axis=-1)
    defined = x * x + y * y > (jnp.finfo(x.dtype).eps ** 2) * size
    return jnp.arctan2(jnp.where(defined, y, 0.0), jnp.where(defined, x, 1.0))


def _norm(d: Array) -> Array:
    return jnp.sqrt(jnp.sum(d * d, axis=-1))
