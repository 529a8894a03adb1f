"""Monte Carlo moves: displacements of atoms, changes of the cell, exchanges and changes of species."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.geometry import inverse, times, volume
from jaxmlp.md.cells import CELLS, exponentials, strain
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.sampling.differences import Change, Configuration
from jaxmlp.sampling.walks import Move, Setting, Walk, lucks


@dataclass(frozen=True)
class DisplacementMoves(Move):
    """Displacements of single atoms, chosen at random, uniform in a ball of the radius `Controls.displacement`.

    The radius is at most half the skin of the neighbour list, which then holds for both places. Atoms that are held
    fixed stay.
    """

    name: ClassVar[str] = "displacement"
    needs: ClassVar[tuple[str, ...]] = ("displacement",)

    def __call__(self, walk: Walk, setting: Setting, key: Array) -> tuple[Walk, Array]:
        who, where, luck = jax.random.split(key, 3)
        search, place = setting.search, walk.place
        n, dtype = self.number(len(place.R)), place.R.dtype
        movable, total = _first(setting.mobile)
        atoms = movable[jax.random.randint(who, (n,), 0, total, jnp.int32)]
        size = jnp.minimum(setting.controls.displacement, 0.5 * search.skin)
        steps = size * _in_ball(where, n, dtype)
        luck = lucks(luck, n, dtype)

        def trial(k, walk, home, reach):
            R, atom = walk.place.R, atoms[k]
            new = R[atom] + steps[k]
            lists = walk.place.neighbors
            far = ~(jnp.sum((new - home[atom]) ** 2) <= reach**2)
            # A list made here holds for the trial, too. One that overflowed is kept, as `NeighborSearch.update` does.
            stale = far & ~lists.overflow & jnp.isfinite(walk.heat)

            def renew(carry):
                return search(R, walk.place.box), R, jnp.full_like(reach, 0.5 * search.skin), jnp.array(False)

            lists, home, reach, _ = lax.while_loop(lambda c: c[-1], renew, (lists, home, reach, stale))
            walk = walk._replace(place=walk.place._replace(neighbors=lists))
            change = Change(atom[None], new[None], walk.place.species[atom][None])
            walk, accepted = setting.tried(walk, change, 0.0, luck[k])
            return walk, accepted, home, reach

        return setting.repeated(trial, jnp.where(total > 0, n, 0), walk, *_reach(search, place))


@dataclass(frozen=True)
class VolumeMoves(Move):
    """Changes of the cell, with all atoms at the same fractional coordinates, at the pressure P.

    R -> R exp(e), box -> box exp(e), e = sum_a x_a E_a with the matrices of `md.cells.CELLS` and x_a uniform between
    -d and d, d = `Controls.volume_change` / 3^(1/2): an isotropic trial changes ln V by up to `volume_change`. Its
    weight is exp(-(dE + P dV) / kT) (V'/V)^(N + 1) for N atoms that move: the trials are uniform in ln V, and the
    isothermal-isobaric ensemble is exp(-P V / kT) V^N dV; an ideal gas has <V> = (N + 1) kT / P. Eppenga, Frenkel,
    Mol. Phys. 52, 1303 (1984). For cells of any shape it is V^(-2) dbox, as with the barostat `md.MTK`.

    Args:
        cell: "isotropic", "orthorhombic", "tetragonal", "triclinic", "x", "y" or "z".
    """

    trials: int | None = 1
    cell: str = "isotropic"
    name: ClassVar[str] = "volume"
    needs: ClassVar[tuple[str, ...]] = ("pressure", "volume_change")

    def __post_init__(self):
        super().__post_init__()
        if self.cell not in CELLS:
            raise ValueError(f"volume moves change the cell in one of {', '.join(CELLS)}; got {self.cell!r}.")

    def __call__(self, walk: Walk, setting: Setting, key: Array) -> tuple[Walk, Array]:
        how, luck = jax.random.split(key)
        n, dtype = self.number(len(walk.place.R)), walk.place.R.dtype
        now, energies = setting.controls, setting.energies
        if jnp.ndim(now.pressure) > 0:
            raise ValueError("volume moves take a scalar pressure, not a tensor; a barostat of `md` takes both.")
        largest = now.volume_change / np.sqrt(3.0).astype(dtype)
        x = largest * jax.random.uniform(how, (n, len(CELLS[self.cell])), dtype, -1.0)
        luck = lucks(luck, n, dtype)
        free = jnp.sum(setting.mobile).astype(dtype) + 1
        kT = jnp.mean(now.kT)

        def trial(k, walk):
            old, e = walk.place, strain(self.cell, x[k])
            grow, _ = exponentials(e)
            R, box = times(old.R, grow), old.box @ grow
            new = old._replace(R=R, box=box, neighbors=setting.search.update(old.neighbors, R, box))
            energy, rest = energies.total(new) - energies.total(old), energies.rest(new)
            more = now.pressure * (volume(box) - volume(old.box)) - free * kT * jnp.trace(e)
            accepted = setting.accepts(walk, energy + more, luck[k])
            choose = lambda new, old: jnp.where(accepted, new, old)
            place = jax.tree.map(choose, new, old)
            return Walk(place, choose(rest, walk.rest), walk.heat + choose(energy, 0.0)), accepted

        return setting.repeated(trial, n, walk)


@dataclass(frozen=True)
class SwapMoves(Move):
    """Exchanges of the species of two atoms of different species, at a fixed composition.

    Args:
        species: atomic numbers that take part, two or more; () for all. Atoms that are held fixed take no part.
    """

    species: tuple[int, ...] = ()
    name: ClassVar[str] = "swap"
    transmutes: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.species)) != len(self.species) or len(self.species) == 1:
            raise ValueError(f"a swap needs two different species or more, as atomic numbers; got {self.species}.")

    def __call__(self, walk: Walk, setting: Setting, key: Array) -> tuple[Walk, Array]:
        one, two, luck = jax.random.split(key, 3)
        n, species = self.number(len(walk.place.R)), walk.place.species
        S, known = len(setting.energies.potential.species), setting.energies.potential.species
        chosen = _among(species, known, self.species or known) & setting.mobile
        # Atoms in the order of their species: a swap changes two entries, so that partners are found in no time.
        order = jnp.argsort(jnp.where(chosen, species, S)).astype(jnp.int32)
        counts = species_counts(species, S, chosen)
        starts, total = jnp.cumsum(counts, dtype=jnp.int32) - counts, jnp.sum(counts, dtype=jnp.int32)
        n_possible = jnp.where(jnp.sum(counts > 0) > 1, n, 0)  # of one species alone nothing can be exchanged
        first = jax.random.randint(one, (n,), 0, total, jnp.int32)
        second = jax.random.bits(two, (n,), jnp.uint32)
        luck = lucks(luck, n, walk.place.R.dtype)

        def trial(k, walk, order):
            R, species = walk.place.R, walk.place.species
            p = first[k]
            kind = species[order[p]]
            q = (second[k] % (total - counts[kind]).astype(jnp.uint32)).astype(jnp.int32)
            q = jnp.where(q >= starts[kind], q + counts[kind], q)  # over the atoms of the same species
            pair, other = jnp.stack([order[p], order[q]]), jnp.stack([order[q], order[p]])
            walk, accepted = setting.tried(walk, Change(pair, R[pair], species[other]), 0.0, luck[k])
            for place, atom, partner in zip((p, q), pair, other):
                order = lax.dynamic_update_index_in_dim(order, jnp.where(accepted, partner, atom), place, 0)
            return walk, accepted, order

        return setting.repeated(trial, n_possible, walk, order)


@dataclass(frozen=True)
class SemiGrandMoves(Move):
    """Changes of the species of single atoms, with chemical potentials: the semi-grand ensemble.

    The weight is exp(-(E - sum_s mu_s N_s) / kT) with `Controls.chemical_potentials` mu_s, of which only differences
    count; the part of ideal gases of other masses is not in them: momenta have the distribution of the masses there
    are. A constraint of the variance adds (kappa N / 2) sum_s (x_s - x0_s)^2 to E, with the shares x_s = N_s / N of all
    species and `Controls.composition` x0_s; for two species that is kappa N (x - x0)^2. It holds compositions within a
    miscibility gap: the chemical potential of the canonical ensemble is mu_s - kappa (<x_s> - x0_s), up to a constant.
    Sadigh, Erhart, Stukowski, Caro, Martinez, Zepeda-Ruiz, Phys. Rev. B 85, 184203 (2012).

    Args:
        species: atomic numbers, two or more; atoms of others, and those that are held fixed, take no part.
        constrained: there is the constraint of the variance.
    """

    species: tuple[int, ...] = ()
    constrained: bool = False
    name: ClassVar[str] = "semi-grand"
    transmutes: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.species)) != len(self.species) or len(self.species) < 2:
            raise ValueError(f"semi-grand moves need two different species or more; got {self.species}.")

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("chemical_potentials", *(("kappa", "composition") if self.constrained else ()))

    def bias(self, counts: Array, controls: Any) -> Array:
        numbers = counts.astype(controls.dt.dtype)
        energy = -jnp.sum(controls.chemical_potentials * numbers)
        if not self.constrained:
            return energy
        N = jnp.sum(numbers)
        return energy + 0.5 * controls.kappa * N * jnp.sum((numbers / N - controls.composition) ** 2)

    def added(self, counts: Array, old: Array, new: Array, controls: Any) -> Array:
        """Return what a change of an atom from one species to another adds to `bias`, eV.

        It is not taken from two values of `bias`, which grow with N: in float32 their difference is lost.
        """
        mu, dtype = controls.chemical_potentials, controls.dt.dtype
        energy = mu[old] - mu[new]
        if not self.constrained:
            return energy
        ahead = (counts[new] - counts[old] + 1).astype(dtype) / jnp.sum(counts).astype(dtype)
        return energy + controls.kappa * (ahead - (controls.composition[new] - controls.composition[old]))

    def __call__(self, walk: Walk, setting: Setting, key: Array) -> tuple[Walk, Array]:
        who, what, luck = jax.random.split(key, 3)
        n, species, now = self.number(len(walk.place.R)), walk.place.species, setting.controls
        known = setting.energies.potential.species
        for name in self.needs:
            if name != "kappa" and jnp.shape(getattr(now, name)) != (len(known),):
                raise ValueError(f"{name} are {len(known)} numbers, of the species {known}; got {getattr(now, name)}.")
        kinds = np.array([known.index(z) for z in self.species], np.int32)
        rank = np.zeros(len(known), np.int32)
        rank[kinds] = np.arange(len(kinds))
        atoms, total = _first(_among(species, known, self.species) & setting.mobile)
        atoms = atoms[jax.random.randint(who, (n,), 0, total, jnp.int32)]
        onward = jax.random.randint(what, (n,), 1, len(kinds), jnp.int32)
        luck = lucks(luck, n, walk.place.R.dtype)

        def trial(k, walk, counts):
            atom = atoms[k]
            old = walk.place.species[atom]
            new = jnp.asarray(kinds)[(jnp.asarray(rank)[old] + onward[k]) % len(kinds)]
            change = Change(atom[None], walk.place.R[atom][None], new[None])
            walk, accepted = setting.tried(walk, change, self.added(counts, old, new, now), luck[k])
            one = accepted.astype(counts.dtype)
            return walk, accepted, counts.at[old].add(-one).at[new].add(one)

        return setting.repeated(trial, jnp.where(total > 0, n, 0), walk, species_counts(species, len(known)))


def species_counts(species: Array, S: int, chosen: Array | bool = True) -> Array:
    """Return the numbers of (chosen) atoms of S species, (S,) int32."""
    one_hot = (species[:, None] == jnp.arange(S, dtype=species.dtype)) & jnp.reshape(chosen, (-1, 1))
    return jnp.sum(one_hot, axis=0, dtype=jnp.int32)


def _in_ball(key: Array, n: int, dtype) -> Array:
    """Return points (n, 3) uniform in the unit ball: x / (x.x + 2 t)^(1/2) with normal x and exponential t.

    Barthe, Guédon, Mendelson, Naor, Ann. Probab. 33, 480 (2005), Theorem 1.
    """
    direction, radius = jax.random.split(key)
    x = jax.random.normal(direction, (n, 3), dtype)
    t = jax.random.exponential(radius, (n, 1), dtype)
    return x / jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True) + 2 * t)


def _among(species: Array, known: tuple[int, ...], some: tuple[int, ...]) -> Array:
    """Return which atoms are of some species, (N,) bool."""
    return jnp.asarray(np.isin(known, some))[species]


def _first(chosen: Array) -> tuple[Array, Array]:
    """Return the atoms, (N,) int32, with the chosen ones first, and how many these are."""
    return jnp.argsort(~chosen).astype(jnp.int32), jnp.sum(chosen, dtype=jnp.int32)


def _reach(search: NeighborSearch, place: Configuration) -> tuple[Array, Array]:
    """Return points (N, 3) such that the neighbour list holds while every atom is nearer to its own than a radius (Å).

    See `NeighborSearch.update`: points are the positions for which the list was made, deformed with the cell.
    """
    lists, box = place.neighbors, place.box
    rc = search.shells[-1]
    if box is None or lists.box is None:
        return lists.R, jnp.asarray(0.5 * search.skin, lists.R.dtype)
    back = inverse(box) @ lists.box
    stretch = 1.0 + jnp.linalg.norm(back - jnp.eye(3, dtype=box.dtype))
    return times(lists.R, inverse(lists.box) @ box), 0.5 * ((rc + search.skin) / stretch - rc)
