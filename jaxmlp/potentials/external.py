"""Potentials that act on single atoms from outside: fields, tethers, wells and walls, and none at all.

Positions are Cartesian and taken as they are: dynamics keeps them unwrapped, and moving an atom by a lattice vector
changes these energies. What a potential refers to (the origin, reference points, walls) stays where it is when the box
is strained; so the virial -dE/dstrain of such a potential is sum_i R_i (x) F_i, and depends on the origin of the
coordinates wherever the total force is not zero.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential, only
from jaxmlp.potentials.bonded import minimum_image

if TYPE_CHECKING:
    from jaxmlp.system import System


@dataclass(frozen=True)
class External(Potential):
    """A sum of energies of single atoms in the order of the system; a subclass is the formula of such an energy.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
    """

    species: tuple[int, ...]
    local: ClassVar[bool] = False
    uses_neighbors: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    per_species: ClassVar[tuple[str, ...]] = ()  # parameters whose first axis is that of the species
    # Å, of a neighbour list that is not used: in a sum it adds a shell to the list, which at 1 Å is nearly empty.
    cutoff: ClassVar[float] = 1.0

    def __post_init__(self):
        check_species(type(self).__name__, self.species)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["External", Params]:
        chosen = np.array(subset(self.species, species), np.int32)
        params = {name: jnp.asarray(x)[chosen] if name in self.per_species else x for name, x in params.items()}
        return replace(self, species=tuple(species)), params

    def _check(self, params: Params, **shapes: tuple[int, ...]) -> None:
        """Refuse parameters of other names or shapes: many would broadcast, or be indexed beyond their end."""
        found = {name: jnp.shape(x) for name, x in params.items()}
        if found != shapes:
            raise ValueError(f"the parameters of this {type(self).__name__} must have shapes {shapes}; got {found}.")


class Free(External):
    """E = 0, the ideal gas; params {}. Alone, or where a sum wants a term that does nothing."""

    local = True
    pairwise = True
    homogeneous = True

    def site_energies(self, params: Params, graph: Graph) -> Array:
        self._check(params)
        return jnp.zeros_like(graph.planes[0], shape=graph.species.shape)


class UniformForce(External):
    """E_i = -f[t_i] . R_i, a constant force on every atom of species t_i; params {"force": (S, 3) eV/Å}."""

    per_species = ("force",)

    def site_energies(self, params: Params, graph: Graph) -> Array:
        self._check(params, force=(len(self.species), 3))
        return -jnp.sum(params["force"][graph.species] * graph.R, axis=1)

    def linear_parameters(self, params: Params) -> Params:
        return params


def electric_field(species: tuple[int, ...], charges, field) -> tuple[UniformForce, Params]:
    """Return the potential and parameters of a uniform electric field: E_i = -q[t_i] field . R_i.

    Args:
        charges: (S,) e, of every species.
        field: (3,) V/Å.

    Raises:
        ValueError: shapes that do not fit.
    """
    charges, field = jnp.asarray(charges, float), jnp.asarray(field, float)
    if charges.shape != (len(species),) or field.shape != (3,):
        raise ValueError(
            f"electric_field needs {len(species)} charges (e), one for each species, and a field (3,) in V/Å; "
            f"got shapes {charges.shape} and {field.shape}."
        )
    return UniformForce(tuple(species)), {"force": charges[:, None] * field}


@dataclass(frozen=True)
class Tether(External):
    """E_i = k_i/2 |R_i - X_i|^2: springs from chosen atoms to fixed points; params {"k": (terms,) eV/Å^2, "X": (terms,
    3) Å}. With all atoms it is the Einstein crystal. (LAMMPS' K of fix spring/self is k.)

    Args:
        atoms: (terms,) different indices into the system, counted from 0: anything numpy understands.
        minimum_image: tie each atom to the nearest periodic image of its point, so that positions may be wrapped. An
            atom that goes half a cell away then changes its image; by default it is pulled back from any distance.
        pbc: periodic directions for `minimum_image`; `energy_fn` and the drivers set them from the system.
    """

    atoms: tuple[int, ...]
    minimum_image: bool = False
    pbc: tuple[bool, bool, bool] = (True, True, True)

    def __post_init__(self):
        super().__post_init__()
        atoms = np.asarray(self.atoms)
        if atoms.ndim != 1 or len(atoms) == 0 or atoms.dtype.kind not in "iu":
            raise ValueError(f"Tether.atoms must be integers of shape (terms,); got {atoms.dtype}, {atoms.shape}.")
        values, counts = np.unique(atoms, return_counts=True)
        if values[0] < 0 or counts.max() > 1:
            bad = values[0] if values[0] < 0 else values[counts.argmax()]
            raise ValueError(f"Tether.atoms are different and not negative; {bad} is among them {counts.max()} times.")
        object.__setattr__(self, "atoms", tuple(atoms.tolist()))

    def site_energies(self, params: Params, graph: Graph) -> Array:
        atoms = np.array(self.atoms, np.int32)
        if atoms.max() >= len(graph.R):
            raise ValueError(f"Tether binds atom {atoms.max()}, counted from 0; the system has {len(graph.R)} atoms.")
        self._check(params, k=(len(atoms),), X=(len(atoms), 3))
        d = graph.R[atoms] - params["X"]
        if self.minimum_image:
            d = minimum_image(d, graph.box, self.pbc)
        energies = 0.5 * params["k"] * jnp.sum(d * d, axis=1)
        return jnp.zeros_like(graph.R[:, 0]).at[atoms].set(energies)

    def for_system(self, system: "System") -> "Tether":
        return replace(self, pbc=system.pbc)

    def linear_parameters(self, params: Params) -> Params:
        return only(params, ["k"])


def tether(system: "System", k, atoms=None, *, species: tuple[int, ...] | None = None) -> tuple[Tether, Params]:
    """Return the potential and parameters of springs that hold atoms where they are in `system`.

    Args:
        k: eV/Å^2, a number or one for each of the atoms.
        atoms: indices, counted from 0; None for all atoms.
        species: atomic numbers of the potential, those of one that it is added to say; None for the system's.
    """
    atoms = np.arange(len(system)) if atoms is None else np.asarray(atoms)
    potential = Tether(system.species if species is None else tuple(species), atoms)
    if atoms.max() >= len(system):
        raise ValueError(f"tether binds atom {atoms.max()}, counted from 0; the system has {len(system)} atoms.")
    return potential, {"k": jnp.broadcast_to(jnp.asarray(k, float), atoms.shape), "X": jnp.asarray(system.R[atoms])}


class Polynomial(External):
    """E_i = sum_d sum_n c[d, n] x_d^n with R_i = (x_0, x_1, x_2): one well for all atoms; params {"c": (3, order + 1)
    eV/Å^n}. Harmonic, quartic and double wells; a direction without a force has a row of zeros.
    """

    def site_energies(self, params: Params, graph: Graph) -> Array:
        c = params["c"]
        self._check(params, c=(3, c.shape[-1] if c.ndim else 1))
        energies = jnp.zeros_like(graph.R)
        for n in reversed(range(c.shape[1])):  # Horner
            energies = energies * graph.R + c[:, n]
        return jnp.sum(energies, axis=1)

    def linear_parameters(self, params: Params) -> Params:
        return params


@dataclass(frozen=True)
class Wall(External):
    """A flat wall that repels the atoms nearer than `reach`; r is an atom's distance from it, on the inner side.

        harmonic: E_i = epsilon[t_i] (r - reach)^2,  r < reach                 (LAMMPS' fix wall/harmonic)
        lj93:     E_i = u(r) - u(reach),  r < reach,                           (LAMMPS' fix wall/lj93)
                  u(r) = epsilon[t_i] (2/15 (sigma[t_i] / r)^9 - (sigma[t_i] / r)^3)

    The force of lj93 jumps to zero at `reach`, but for reach = (2/5)^(1/6) sigma, the minimum of u, which makes it
    purely repulsive. Behind the wall (r <= 0) a harmonic one still pushes back; energy and force of lj93 are NaN there.

    params: {"epsilon": (S,) eV, for harmonic eV/Å^2, "position": Å, a scalar}, and for lj93 "sigma": (S,) Å.

    Args:
        kind: "harmonic" or "lj93".
        axis: 0, 1 or 2: the wall is normal to x, y or z.
        side: "lower" where the atoms are above the wall, r = x - position; "upper" where below, r = position - x.
        reach: Å, the cutoff of LAMMPS. (`cutoff` is that of the neighbour list.)
    """

    kind: Literal["harmonic", "lj93"]
    axis: int
    side: Literal["lower", "upper"]
    reach: float

    per_species = ("epsilon", "sigma")

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("kind", ("harmonic", "lj93")), ("axis", (0, 1, 2)), ("side", ("lower", "upper"))):
            if getattr(self, name) not in known:
                raise ValueError(f"Wall.{name} must be one of {known}; got {getattr(self, name)!r}.")
        if not 0 < self.reach < float("inf"):
            raise ValueError(f"Wall.reach is a distance in Å and must be positive; got {self.reach}.")

    def site_energies(self, params: Params, graph: Graph) -> Array:
        s = (len(self.species),)
        self._check(params, epsilon=s, position=(), **({"sigma": s} if self.kind == "lj93" else {}))
        x = graph.R[:, self.axis]
        r = x - params["position"] if self.side == "lower" else params["position"] - x
        near = ~(r >= self.reach)  # a NaN stays one
        if graph.exists is not None:  # padding may lie behind the wall
            near &= graph.exists
        r = jnp.where(near, r, self.reach)
        epsilon = params["epsilon"][graph.species]
        if self.kind == "harmonic":
            return epsilon * jnp.square(r - self.reach)
        sigma = params["sigma"][graph.species]

        def u(r):
            cube = (sigma / r) ** 3
            return epsilon * (2 / 15 * cube**3 - cube)

        return u(r * jnp.where(r > 0, 1.0, jnp.nan)) - u(self.reach)  # as a factor it reaches the forces

    def linear_parameters(self, params: Params) -> Params:
        return only(params, ["epsilon"])
