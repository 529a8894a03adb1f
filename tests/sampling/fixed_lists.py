"""Variables with a neighbour list made beforehand: what is compiled is the variable alone."""

from functools import partial

import jax
import jax.numpy as jnp

import jaxmlp as jm
from jaxmlp.evaluate import full_graph
from jaxmlp.sampling import Restraint


def lists(system, cutoff, skin=0.8):
    """A compiled function (R, box) -> Neighbors."""
    return jax.jit(jm.NeighborSearch.allocate(system.R, system.box, system.pbc, (cutoff,), skin=skin, headroom=0.2))


def value(cv, R, box, neighbors, method="of"):
    """The variable, or its values of single atoms, with these neighbours."""
    R, box = jnp.asarray(R), None if box is None else jnp.asarray(box)
    of_one_species = Restraint(cv, (18,))
    graph = full_graph(of_one_species, R, box, jnp.zeros(len(R), jnp.int32), neighbors)
    return getattr(cv, method)(graph)


def with_list(cv, system, method="of", skin=0.8):
    """A function (R, box) of the variable that keeps the neighbours of `system`."""
    neighbors = lists(system, cv.cutoff, skin)(system.R, system.box)
    return partial(value, cv, neighbors=neighbors, method=method)
