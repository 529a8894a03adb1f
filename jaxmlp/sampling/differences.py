"""What the trial of a Monte Carlo move does to the energy: of local potentials only the rows near it are looked at."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.energy import total_energy
from jaxmlp.evaluate import Execution, _site_energies
from jaxmlp.neighbors import Graph, Neighbors
from jaxmlp.potential import Params, Potential


class Change(NamedTuple):
    """What a trial makes of a few atoms.

    Args:
        atoms: (k,) int32, k different atoms.
        R: (k, 3) Å, where they shall be.
        species: (k,) int32, what they shall be.
    """

    atoms: Array
    R: Array
    species: Array


class Configuration(NamedTuple):
    """What the energy depends on.

    Args:
        R: (N, 3) Å.
        box: (3, 3) Å or None.
        species: (N,) int32, index into `potential.species`.
        neighbors: a list that holds for all of it, and for what a trial makes of it.
    """

    R: Array
    box: Array | None
    species: Array
    neighbors: Neighbors

    def after(self, change: Change, accepted: Array | bool = True) -> "Configuration":
        """Return the configuration with the change made, if it is accepted."""
        R, species = self.R, self.species
        for atom, new, kind in zip(*change):  # k is 1 or 2, and a slice is written in place
            R = lax.dynamic_update_index_in_dim(R, jnp.where(accepted, new, R[atom]), atom, 0)
            species = lax.dynamic_update_index_in_dim(species, jnp.where(accepted, kind, species[atom]), atom, 0)
        return self._replace(R=R, species=species)


@dataclass(frozen=True)
class Energies:
    """Energies of configurations, with the potential's parameters. Made and used inside one jitted function.

    Args:
        potential, params, execution: as for `evaluate`.
        local: take differences of local terms from the rows that a trial changes; False evaluates all atoms for every
            trial, with the same result to rounding.
    """

    potential: Potential
    params: Params
    execution: Execution
    local: bool = True

    @property
    def near(self) -> list[tuple[Potential, Params, Any]]:
        """Terms of the potential of which a trial changes a few rows."""
        return [term for term in self.potential.terms(self.params) if self.local and term[0].local]

    @property
    def far(self) -> list[tuple[Potential, Params, Any]]:
        """Terms that are evaluated for all atoms."""
        return [term for term in self.potential.terms(self.params) if not (self.local and term[0].local)]

    def rest(self, c: Configuration) -> Array:
        """Return the energy (eV) of the terms that are evaluated for all atoms; NaN where the list overflowed."""
        return self._sum(self.far, c)

    def total(self, c: Configuration) -> Array:
        """Return the energy, eV; NaN where the list overflowed."""
        return self._sum(self.near, c) + self.rest(c)

    def _sum(self, terms: list[Any], c: Configuration) -> Array:
        energy = jnp.where(c.neighbors.overflow, jnp.nan, 0.0).astype(c.R.dtype)
        for term, p, weight in terms:
            part = total_energy(term, p, c.R, c.box, c.species, c.neighbors, execution=self.execution)
            energy += weight * part
        return energy

    def difference(self, c: Configuration, change: Change, rest: Array) -> tuple[Array, Array]:
        """Return what a change adds to the energy, eV, and `rest` after it.

        Args:
            rest: that of the configuration before.
        """
        new = self.rest(c.after(change)) if self.far else rest
        energy = new - rest + jnp.where(c.neighbors.overflow, jnp.nan, 0.0).astype(c.R.dtype)
        for term, p, weight in self.near:
            of = _pair_difference if term.pairwise else _row_difference
            energy += weight * of(term, p, c, change, self.execution)
        return energy, new


def _pair_difference(potential: Potential, params: Params, c: Configuration, change: Change, execution: Execution):
    """What a change adds to a sum of pair energies, from the rows of the changed atoms.

    A row holds half of every pair energy of its atom. The other half is in the row of the neighbour: in one of these
    rows if that atom is changed too (or an image of this one), else in one that nobody looks at. So the difference is
    twice that of the rows, less that of their pairs among changed atoms.
    """
    k = len(change.atoms)
    rows = jnp.tile(change.atoms, 4)
    graph = _graph(potential, c, change, rows, jnp.repeat(jnp.array([True, False, True, False]), k))
    among = jnp.any(graph.neighbors[:, :, None] == change.atoms, axis=2) & graph.mask
    keep = jnp.where((jnp.arange(4 * k) < 2 * k)[:, None], graph.mask, among)
    e = _site_energies(potential, params, _masked(graph, keep, c.neighbors.shells[-1][0]), execution)
    new, old, new_among, old_among = jnp.sum(e.reshape(4, k), axis=1)
    return 2 * (new - old) - (new_among - old_among)


def _row_difference(potential: Potential, params: Params, c: Configuration, change: Change, execution: Execution):
    """What a change adds to the energy of a local potential, from the rows of the changed atoms and those who see them.

    They are evaluated in blocks, each in both configurations, and blocks without a row are left out.
    """
    k, N = len(change.atoms), len(c.R)
    graph = _graph(potential, c, change, jnp.tile(change.atoms, 2), jnp.repeat(jnp.array([True, False]), k))
    # In float32 the potential may see a neighbour that is a rounding error beyond the cutoff.
    near = graph.mask & (graph.squared_distances < potential.cutoff**2 * (1 + 1e-5))
    near = near[:k] | near[k:]
    touched = jnp.concatenate([change.atoms, jnp.where(near, graph.neighbors[:k], N).ravel()])
    touched = jnp.sort(touched)  # an atom is seen more than once in a cell smaller than the cutoff
    twice = jnp.concatenate([jnp.array([False]), touched[1:] == touched[:-1]])
    touched = jnp.sort(jnp.where(twice, N, touched))
    count = jnp.sum(touched < N, dtype=jnp.int32)
    size = -(-execution.rows(potential, 2 * len(touched)) // 2)
    touched = jnp.pad(touched, (0, -len(touched) % size), constant_values=N)
    after = jnp.repeat(jnp.array([True, False]), size)

    def add(b: Array, energy: Array) -> Array:
        rows = lax.dynamic_slice_in_dim(touched, b * size, size)
        e = _site_energies(potential, params, _graph(potential, c, change, jnp.tile(rows, 2), after), execution)
        return energy + jnp.sum(e[:size]) - jnp.sum(e[size:])

    return lax.fori_loop(jnp.zeros_like(count), -(-count // size), add, jnp.zeros((), c.R.dtype))


def _graph(potential: Potential, c: Configuration, change: Change, rows: Array, after: Array) -> Graph:
    """Return rows of the graph before or after a change, at a cost that does not depend on the number of atoms.

    Args:
        rows: (n,) atoms; N in rows that are padding.
        after: (n,) bool.
    """
    lists, N = c.neighbors, len(c.R)
    nowhere = len(lists.owner) - 1
    index = lists.index.at[rows].get(mode="fill", fill_value=nowhere)  # (n, M)
    reverse = lists.reverse.at[rows].get(mode="fill", fill_value=-1)
    mask = index < nowhere
    atoms = lists.owner.at[index].get(mode="promise_in_bounds")
    own = jnp.minimum(rows, N - 1)

    def changed(x: Array, new: Array, i: Array) -> Array:
        """x at atoms i (n, ...), where `after` with the new values."""
        found = x.at[i].get(mode="promise_in_bounds")
        late = after.reshape(-1, *[1] * (i.ndim - 1))
        for atom, value in zip(change.atoms, new):
            found = jnp.where(late & (i == atom), value, found)
        return found

    shift: Any = 0
    if c.box is not None:
        image = lists.image.at[index].get(mode="promise_in_bounds")
        shift = (image - lists.image.at[own].get(mode="promise_in_bounds")[:, None]).astype(c.R.dtype)  # (n, M, 3)
    planes = []
    for d in range(3):
        x, new = c.R[:, d], change.R[:, d]
        r = changed(x, new, atoms) - changed(x, new, own)[:, None]
        if c.box is not None:
            r = r + sum(shift[:, :, a] * c.box[a, d] for a in range(3))
        planes.append(r)
    species = changed(c.species, change.species, own)
    theirs = jnp.where(mask, changed(c.species, change.species, atoms), 0)
    back = jnp.where(reverse >= 0, reverse % mask.shape[1], -1)
    graph = Graph(species, tuple(planes), atoms, theirs, mask, c.R, c.box, lists.shells, rows < N, rows, back)
    return _masked(graph, mask, lists.shells[-1][0])


def _masked(graph: Graph, keep: Array, cutoff: float) -> Graph:
    """Return the graph with padding in the slots that are not kept; see `rows.vectors_of`."""
    return replace(graph, planes=tuple(jnp.where(keep, x, 2.0 * cutoff) for x in graph.planes), mask=keep)
