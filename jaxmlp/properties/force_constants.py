"""Exact force constants of crystals: rows of the Hessian of a supercell, by Hessian-vector products.

The rows Phi(0 kappa, .) of the atoms of one cell vanish beyond the range of the potential, so that a supercell exists
in which no two images of an atom lie within it: there they are those of the infinite crystal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.combinators import Composite
from jaxmlp.derivatives import hvp
from jaxmlp.energy import prepare, total_energy
from jaxmlp.geometry import inverse
from jaxmlp.neighbors import Neighbors
from jaxmlp.neighbors.grid import edges
from jaxmlp.potential import MessagePassing, Params, Potential
from jaxmlp.potentials.pair import PairTail
from jaxmlp.relabelled import Relabelled
from jaxmlp.system import System

_TIE = 1e-5  # Å; images of an atom whose distances differ by less are at the same distance
_ROWS = 2**14  # atoms of all Hessian-vector products computed at once


def _neighbors(system: System, shells: tuple[float, ...], room: float) -> Neighbors:
    """Return a neighbour list of `system` up to `room` times the cutoffs, made on the host."""
    R, n = system.R, len(system)
    i, j, shift = edges(R, system.box, system.pbc, room * shells[-1])
    i, j, shift = i.astype(int), j.astype(int), np.asarray(shift, int)
    distance = np.linalg.norm(R[j] + shift @ system.box - R[i], axis=1)
    order = np.lexsort((distance, i))
    i, j, shift, distance = i[order], j[order], shift[order], distance[order]
    slot = np.arange(len(i)) - np.searchsorted(i, i)
    counts = [np.bincount(i[distance < room * c], minlength=n).max() for c in shells]
    slots = max(int(counts[-1]), 1)
    away, place = np.unique(np.c_[shift, j], axis=0, return_inverse=True)  # images; those at home are atoms
    ghost = (away[:, :3] != 0).any(axis=1)
    site = np.where(ghost, n + np.cumsum(ghost) - 1, away[:, 3])[place.ravel()]
    owner = np.concatenate([np.arange(n), away[ghost, 3], [0]])
    image = np.concatenate([np.zeros((n, 3), int), away[ghost, :3], np.zeros((1, 3), int)])
    index, reverse = np.full((n, slots), len(owner) - 1), np.full((n, slots), -1)
    index[i, slot] = site
    there = np.lexsort(np.c_[-shift, i, j].T)  # the edge j -> i, back, has the rank of the edge i -> j
    back = np.empty(len(i), int)
    back[there] = np.lexsort(np.c_[shift, j, i].T)
    reverse[i, slot] = slots * j + slot[back]
    index, reverse, owner, image = (jnp.asarray(x, jnp.int32) for x in (index, reverse, owner, image))
    held = tuple((c, max(int(count), 1)) for c, count in zip(shells, counts, strict=True))
    return Neighbors(index, reverse, owner, image, jnp.asarray(R), jnp.asarray(system.box), jnp.asarray(False), held)


def crystal_energy_fn(potential: Potential, system: System, *, headroom: float = 0.03) -> Callable[..., Array]:
    """Return energy(R, box, params), eV, for states of a crystal that differ from `system` by strain and small shifts.

    Other than that of `energy_fn`, it finds its neighbours once, here: derivatives of high order compile in half the
    time. Beyond what its list holds for the energy is NaN.

    Args:
        headroom: the list holds for a uniform linear compression by this fraction, less the atoms' shifts against each
            other. R may not be moved by lattice vectors against `system`.

    Raises:
        ValueError: a negative headroom, or an element that the potential lacks.
    """
    if not headroom >= 0:
        raise ValueError(f"headroom is a fraction and must not be negative; got {headroom}.")
    R0, box0, cutoff = system.R, np.asarray(system.box), potential.cutoff
    room = 1 + headroom + 1e-6  # rounding moves pairs across the end of the list
    neighbors = _neighbors(system, potential.shells, room)

    def holds(R, box):
        """Whether no pair within the cutoff can have been further apart in `system` than the list reaches."""
        fractional, start = jnp.asarray(R0 @ np.linalg.inv(box0), R.dtype), jnp.asarray(box0, R.dtype)
        moved = R - fractional @ box
        moved = moved - jnp.mean(moved, axis=0)
        stretch = jnp.linalg.norm(inverse(box) @ start, ord=2)
        shift = jnp.max(jnp.linalg.norm(moved, axis=1))
        return stretch * (cutoff + 2 * shift) <= room * cutoff

    def energy(R, box, params):
        R, box = jnp.asarray(R), jnp.asarray(box)
        ready, p, species = prepare(potential, params, system)
        E = total_energy(ready, jax.tree.map(jnp.asarray, p), R, box, jnp.asarray(species), neighbors)
        return E + jnp.where(holds(*lax.stop_gradient((R, box))), 0.0, jnp.nan).astype(R.dtype)

    return energy


class ForceConstants(NamedTuple):
    """Force constants of a crystal, between the home cell and the cells at lattice vectors l.

    Args:
        values: (L, n, 3, n, 3) eV/Å^2, Phi(0 kappa a, l kappa' b) = d2E/dR_a(0 kappa) dR_b(l kappa').
        translations: (L, 3) l in lattice vectors, whole numbers (kept as floats: they take part in derivatives).
        masses: (n,) amu.
    """

    values: Array
    translations: Array
    masses: Array


@dataclass(frozen=True, eq=False)
class _Images:
    """How the rows of a supercell's Hessian become force constants of the crystal.

    Args:
        supercell: repeats along the lattice vectors.
        translations: (L, 3) lattice vectors l.
        weights: (L, n, n) share of l in the force constant between kappa at home and the atom of the supercell that is
            kappa' at l: 0 where l is not the image that interacts, 1 / m where m images are equally near.
    """

    supercell: tuple[int, int, int]
    translations: np.ndarray
    weights: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """(cells, 3) lattice vectors of the supercell's cells, home first."""
        return np.array(list(product(*map(range, self.supercell))))


def reach_in_neighbors(potential: Potential) -> int | None:
    """How many neighbour distances apart two atoms may be and still interact; None where there is no bound."""
    if isinstance(potential, PairTail):  # depends on the volume only
        return 0
    if isinstance(potential, Relabelled):
        return reach_in_neighbors(potential.member)
    if potential.pairwise:
        return 1
    if potential.local:  # both are neighbours of the atom whose energy it is
        return 2
    if isinstance(potential, MessagePassing):
        return 2 * potential.steps
    if isinstance(potential, Composite):
        links = [reach_in_neighbors(m) for m in potential.members]
        return None if None in links else max(k for k in links if k is not None)
    return None


def _images_within(system: System, reach: float) -> _Images:
    """Return all pairs nearer than `reach`, in the smallest supercell found that holds no pair twice."""
    n = len(system)
    i, j, shift = edges(system.R, system.box, system.pbc, reach)
    i, j = (np.append(x.astype(int), np.arange(n)) for x in (i, j))  # an atom interacts with itself
    shift = np.concatenate([shift, np.zeros((n, 3))]).astype(int)
    pair = i * n + j

    def unique(repeats):
        place = np.ravel_multi_index((shift % repeats).T, repeats)
        return len(np.unique(pair * np.prod(repeats) + place)) == len(pair)

    repeats = tuple(int(k) for k in np.ptp(shift, axis=0) + 1)
    shrinking = True
    while shrinking:
        smaller = [tuple(k - (axis == a) for a, k in enumerate(repeats)) for axis in np.argsort(repeats)[::-1]]
        fits = [s for s in smaller if min(s) > 0 and unique(s)]
        shrinking = bool(fits)
        repeats = fits[0] if fits else repeats
    translations, place = np.unique(shift, axis=0, return_inverse=True)
    weights = np.zeros((len(translations), n, n))
    weights[place.ravel(), i, j] = 1.0
    return _Images(repeats, translations, weights)


def _nearest_images(system: System, supercell: tuple[int, int, int]) -> _Images:
    """Return for every atom of a supercell its image nearest to each home atom, or the images equally near."""
    n, repeats = len(system), np.array(supercell)
    box = repeats[:, None] * system.box
    inverse_box = np.linalg.inv(box)
    s = system.R @ inverse_box
    cells = np.array(list(product(*map(range, supercell))))
    # From the image within half a cell along each edge, the nearest is at most this many cells away.
    span = np.floor(0.5 + 0.5 * np.linalg.norm(box, axis=1).sum() * np.linalg.norm(inverse_box, axis=0)).astype(int)
    around = np.array(list(product(*(range(-k, k + 1) if periodic else (0,) for k, periodic in zip(span, system.pbc)))))
    found = []
    for a in range(n):
        difference = s - s[a] + cells[:, None] / repeats  # (cells, n, 3)
        home = np.where(system.pbc, np.round(difference), 0).astype(int)
        distance = np.linalg.norm(((difference - home)[:, :, None] + around) @ box, axis=-1)  # (cells, n, images)
        nearest = distance < distance.min(axis=2, keepdims=True) + _TIE
        cell, b, m = np.nonzero(nearest)
        share = 1 / nearest.sum(axis=2)[cell, b]
        found.append((cells[cell] + repeats * (around[m] - home[cell, b]), np.full(len(b), a), b, share))
    l, a, b, share = (np.concatenate(x) for x in zip(*found, strict=True))
    translations, place = np.unique(l, axis=0, return_inverse=True)
    weights = np.zeros((len(translations), n, n))
    weights[place.ravel(), a, b] = share
    return _Images(supercell, translations, weights)


def _images(potential: Potential, system: System, supercell, headroom: float) -> _Images:
    if system.box is None or not any(system.pbc):
        raise ValueError("force constants between cells need a periodic system; for a cluster use jaxmlp.hessian.")
    if supercell is not None:
        repeats = tuple(int(k) for k in np.broadcast_to(supercell, 3))
        if min(repeats) < 1 or any(k > 1 and not periodic for k, periodic in zip(repeats, system.pbc, strict=True)):
            raise ValueError(
                f"supercell must be positive, and 1 along directions that are not periodic; got {supercell}."
            )
        return _nearest_images(system, repeats)
    links = reach_in_neighbors(potential)
    if links is None:
        raise ValueError(
            f"{type(potential).__name__} is not a sum of terms of finite range: give the supercell=(n, n, n) beyond "
            "which its force constants are neglected."
        )
    return _images_within(system, links * potential.cutoff * (1 + headroom + 1e-6))


def force_constants_fn(
    potential: Potential,
    system: System,
    *,
    supercell: int | tuple[int, int, int] | None = None,
    headroom: float = 0.03,
) -> Callable[[Array, Array, Params], ForceConstants]:
    """Return the pure function phi(R, box, params) -> `ForceConstants` of the crystal whose cell is `system`.

    3 n Hessian-vector products of a supercell. `jit` it; it is differentiable in everything.

    Args:
        system: the primitive cell, or any other; its masses are those of the crystal.
        supercell: repeats of the cell. None takes the smallest found in which the result is that of the infinite
            crystal: about twice the range of the force constants across, which is the cutoff of a pair potential, twice
            that of another local one, 2 steps cutoffs with message passing. A smaller one cuts them off: an atom
            interacts with its nearest image, or in equal shares with the images equally near, which is exact at wave
            vectors that fit into the supercell.
        headroom: see `crystal_energy_fn`; the values are NaN beyond. The default lets a cell shrink by 9 % of its
            volume.

    Raises:
        ValueError: no periodic direction, an unsuitable supercell, or none with a potential of infinite range.
    """
    return _force_constants_fn(potential, system, _images(potential, system, supercell, headroom), headroom)


def cell_force_constants_fn(
    potential: Potential, system: System, *, headroom: float = 0.03
) -> Callable[[Array, Array, Params], ForceConstants]:
    """Return phi(R, box, params) -> `ForceConstants` of a periodic cell as it is, for q = 0 only.

    Those between its atoms and all images of its atoms are added up: they are the Hessian of the cell.
    """
    n = len(system)
    alone = _Images((1, 1, 1), np.zeros((1, 3), int), np.ones((1, n, n)))
    return _force_constants_fn(potential, system, alone, headroom)


def _force_constants_fn(potential, system: System, images: _Images, headroom: float):
    cells, n = images.cells, len(system)
    repeats = np.array(images.supercell)
    big = System(
        np.tile(system.numbers, len(cells)),
        (system.R + (cells @ system.box)[:, None]).reshape(-1, 3),
        repeats[:, None] * system.box,
        system.pbc,
    )
    energy = crystal_energy_fn(potential, big, headroom=headroom)
    cell_of = np.ravel_multi_index((images.translations % repeats).T, images.supercell)
    batch = max(k for k in range(1, 3 * n + 1) if 3 * n % k == 0 and (k * len(big) <= _ROWS or k == 1))

    def phi(R: Array, box: Array, params: Params) -> ForceConstants:
        R, box = jnp.asarray(R), jnp.asarray(box)
        all_R = (jnp.asarray(cells, R.dtype) @ box)[:, None] + R
        all_box = jnp.asarray(repeats, R.dtype)[:, None] * box

        def row(v):
            at_home = jnp.zeros_like(all_R).at[0].set(v).reshape(-1, 3)
            return hvp(energy)(all_R.reshape(-1, 3), all_box, params, at_home)

        basis = jnp.eye(3 * n, dtype=R.dtype).reshape(-1, n, 3)
        rows = lax.map(row, basis, batch_size=batch)
        blocks = jnp.moveaxis(rows.reshape(n, 3, len(cells), n, 3), 2, 0)
        values = blocks[cell_of] * jnp.asarray(images.weights, R.dtype)[:, :, None, :, None]
        return ForceConstants(values, *(jnp.asarray(x, R.dtype) for x in (images.translations, system.masses)))

    return phi
