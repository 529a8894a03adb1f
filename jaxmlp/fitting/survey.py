"""What potentials want to know of a training set before they are trained: `Potential.adapted`."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.evaluate import DEFAULT, map_rows
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.training.trainable import dtype_of
from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.grid import edges
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System, species_index


class Survey:
    """Means and extremes over the atoms of a training set.

    Args:
        structures: of the training set.
        limit: at most as many of them, evenly chosen, for what needs an evaluation of all.
    """

    def __init__(self, structures: Sequence[Structure], limit: int = 500):
        self.structures = tuple(structures)
        self.limit = limit

    @property
    def some(self) -> tuple[Structure, ...]:
        """The structures that evaluations go through."""
        step = max(1, -(-len(self.structures) // self.limit))
        return self.structures[::step]

    @property
    def systems(self) -> Iterator[System]:
        """Their systems."""
        return (s.system for s in self.some)

    @cached_property
    def force_rms(self) -> float:
        """eV/Å, of the components of the forces; 1 where there are none."""
        forces = [s.forces for s in self.structures if s.forces is not None]
        if not forces:
            return 1.0
        rms = float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
        return rms if rms > 0 else 1.0

    def mean_neighbors(self, cutoff: float) -> float:
        """Neighbours of an atom within `cutoff` (Å), on average; at least 1."""
        found = atoms = 0
        for system in self.systems:
            found += len(edges(system.R, system.box, system.pbc, cutoff)[0])
            atoms += len(system)
        return max(1.0, found / atoms)

    def per_atom(
        self, potential: Potential, params: Params, quantity: str | Callable[[Potential, Params, Graph], Array]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return values (atoms, ...) and species (atoms,) of all atoms.

        Args:
            quantity: a method (params, graph) -> (n, ...) of a local potential, by its name, or a function (potential,
                params, graph) of that kind.
        """
        loader = Loader(self.some, potential, 16, kinds=(), dtype=dtype_of(params), whole=False)
        call = getattr(type(potential), quantity) if isinstance(quantity, str) else quantity
        function = lambda potential, params, graph, execution: call(potential, params, graph)

        @jax.jit
        def of(params, batch):
            box = jnp.eye(3, dtype=batch.R.dtype)
            return map_rows(function, potential, params, batch.R, box, batch.species, batch.neighbors, DEFAULT)

        values, species = [], []
        for batch in loader.epoch():
            real = np.asarray(batch.real)
            values.append(np.asarray(of(params, batch))[real])
            species.append(np.asarray(batch.species)[real])
        return np.concatenate(values), np.concatenate(species)

    def species(self, potential: Potential) -> np.ndarray:
        """How many atoms of each species of a potential there are, (S,)."""
        counts = np.zeros(len(potential.species), int)
        for s in self.structures:
            counts += np.bincount(species_index(potential.species, s.system.numbers), minlength=len(counts))
        return counts
