"""ASE's calculator interface: any potential drives ASE's optimisers, dynamics, phonons and equations of state."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from jaxmlp.energy import prepare
from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.neighbors import Neighbors, NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System, species_index

if TYPE_CHECKING:
    from ase import Atoms

_FAR = 1e9  # Å; a list made for positions so far away is stale for any others


@partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    potential: Potential, search: NeighborSearch, execution: Execution, params, R, box, species, neighbors
) -> tuple[Evaluation, Neighbors]:
    """Renew the list where it is stale and evaluate. Compiled once per (potential, search), for all calculators."""
    neighbors = search.update(neighbors, R, box)
    return evaluate(potential, params, R, box, species, neighbors, execution=execution), neighbors


class JaxMLP(Calculator):
    """Energy, site energies, forces and stresses of a potential, in ASE's units (eV, Å) and signs.

    Compiled code and neighbour list are kept between calls. The list is searched again when atoms have moved by half
    the skin; code is compiled again only when the number of atoms, the elements, the periodicity or the capacities of
    the list change. Numbers have the precision of jax's default floating type: call `jax.config.update(
    "jax_enable_x64", True)` first for double precision, which tight optimisation and phonons need.

    `stress` and `stresses` exist where the atoms have three lattice vectors and are periodic along at least one;
    `stresses` sum to `stress`, and exist for local potentials only.

    Args:
        potential, params: as from `jaxmlp.load`.
        precision: None, or "mixed" for the potential in float32 with float64 positions and sums.
        skin: Å by which the neighbour list reaches beyond the cutoff.
        block, devices: see `jaxmlp.Execution`.
        fparam, aparam: frame parameters (P,) and atomic ones (atoms, P) of potentials that have them, in place of those
            in `params`; see `Potential.conditioned`.

    Raises:
        ValueError: on evaluation, atoms with an element that the potential lacks; fparam or aparam that do not fit.
        CalculationFailed: on evaluation, an energy that is not finite.
    """

    implemented_properties = ["energy", "energies", "free_energy", "forces", "stress", "stresses"]  # noqa: RUF012
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012
    name = "jaxmlp"

    def __init__(
        self,
        potential: Potential,
        params: Params,
        *,
        precision: str | None = None,
        skin: float = 1.0,
        block: int | None = None,
        devices: int | None = None,
        fparam: Any = None,
        aparam: Any = None,
    ):
        if not 0 <= skin < np.inf:
            raise ValueError(f"skin is a distance in Å and must not be negative; got {skin}.")
        super().__init__()
        self.potential, self.params = potential, params
        self.fparam, self.aparam = fparam, aparam
        self.skin = float(skin)
        self.execution = Execution(block, precision, devices)
        self._setup: Any = None  # what the compiled code was made for
        self._neighbors: Neighbors | None = None

    @classmethod
    def from_file(
        cls,
        path: str | PathLike,
        *,
        species: Sequence[str] | None = None,
        units: tuple[str | float, str | float] | None = None,
        **options,
    ) -> "JaxMLP":
        """Return the calculator of a model file of any known format; options as for the class.

        Args:
            species: elements of the file's types, for formats that do not name them (MTP).
            units: of length and energy in the file, for formats that do not say (n2p2): ("bohr", "hartree").
        """
        from jaxmlp.formats.detect import load

        choice: dict = {} if species is None else {"species": species}
        if units is not None:
            choice |= {"length_unit": units[0], "energy_unit": units[1]}
        return cls(*load(path, **choice), **options)

    def calculate(
        self,
        atoms: "Atoms | None" = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `self.results` with all properties: they come from one pass."""
        super().calculate(atoms, properties, system_changes)
        system = System.from_ase(self.atoms)
        out = self._evaluate(system)
        results = {
            "energy": float(out.energy),
            "energies": np.asarray(out.energies, dtype=float),
            "forces": np.asarray(out.forces, dtype=float),
        }
        results["free_energy"] = results["energy"]
        if self.atoms.cell.rank == 3 and any(self.atoms.pbc):
            volume = self.atoms.get_volume()
            results["stress"] = _voigt(np.asarray(out.virial, dtype=float)) / -volume
            if self.potential.local:
                results["stresses"] = _voigt(np.asarray(out.virials, dtype=float)) / -volume
        self.results = results

    def _evaluate(self, system: System) -> Evaluation:
        setup = (len(system), system.species, system.pbc, system.box is None)
        if self._setup is None or self._setup[0] != setup:
            self._setup = self._allocate(setup, system)
        R = jnp.asarray(system.R, float)
        box = None if system.box is None else jnp.asarray(system.box, float)
        for attempt in range(8):  # each repetition has larger capacities, counted at these very positions
            _, potential, params, search = self._setup
            index = jnp.asarray(species_index(potential.species, system.numbers))
            out, neighbors = _step(potential, search, self.execution, params, R, box, index, self._neighbors)
            self._neighbors = neighbors
            finite = bool(jnp.isfinite(out.energy))
            # A sum over k vectors may have been prepared for a smaller cell.
            outgrown = attempt == 0 and not finite and prepare(self.potential, self.params, system)[0] != potential
            if not (bool(neighbors.overflow) or outgrown):
                break
            self._setup = self._allocate(setup, system, at_least=search if bool(neighbors.overflow) else None)
        if not finite:
            self._setup = self._neighbors = None
            raise CalculationFailed(
                f"the energy is {float(out.energy)}: atoms lie on top of each other, or the parameters hold NaN. Look "
                "at the positions and at `jaxmlp check MODEL`."
            )
        return out

    def _allocate(self, setup, system: System, at_least: NeighborSearch | None = None):
        """Prepare the potential for these atoms, choose capacities and start with a stale list."""
        own = self.potential.conditioned(self.params, self.fparam, self.aparam, len(system))
        potential, params, _ = prepare(self.potential, own, system)
        search = NeighborSearch.allocate(
            system.R, system.box, system.pbc, potential.shells, skin=self.skin, at_least=at_least
        )
        box = None if system.box is None else jnp.asarray(system.box, float)
        like = jax.eval_shape(search, jax.ShapeDtypeStruct(system.R.shape, jnp.result_type(float)), box)
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        self._neighbors = replace(blank, R=jnp.full_like(blank.R, _FAR), box=box)
        return setup, potential, jax.tree.map(jnp.asarray, params), search


def _voigt(tensor: np.ndarray) -> np.ndarray:
    """The symmetric part of (..., 3, 3) as (..., 6) in the order xx yy zz yz xz xy."""
    t = (tensor + np.swapaxes(tensor, -1, -2)) / 2
    return t[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
