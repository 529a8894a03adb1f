"""Sparse points to start from: descriptors of random neighbourhoods."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.gap_clusters import Distance2b, DistanceNb
from jaxmlp.basis.soap import PowerSpectrum
from jaxmlp.neighbors.graph import Graph

NEIGHBORS = 12


def sparse_points(term, species: tuple[int, ...], key: Array, dtype) -> Array:
    """Return descriptors (m, d) of neighbours at random places between 0.3 and 0.9 of the cutoff.

    Args:
        term: a `GAPTerm`; its elements are those of the atoms, and any of `species` where it names none.
    """
    descriptor, m = term.descriptor, term.n_sparse
    directions, radii, kinds, own = jax.random.split(key, 4)
    if isinstance(descriptor, PowerSpectrum):
        center = (term.center,)
        others = (descriptor.species,) * NEIGHBORS
    elif isinstance(descriptor, Distance2b | DistanceNb):
        center, others = (descriptor.elements[0],), tuple((z,) for z in descriptor.elements[1:])
    else:
        center, others = (descriptor.center,), tuple((z,) for z in descriptor.elements)
    slots = len(others)
    v = jax.random.normal(directions, (3, m, slots), dtype)
    r = descriptor.cutoff * jax.random.uniform(radii, (m, slots), dtype, 0.3, 0.9)
    v = v / jnp.sqrt(jnp.sum(v * v, axis=0)) * r
    theirs = [_draw(k, z, species, m) for k, z in zip(jax.random.split(kinds, slots), others, strict=True)]
    graph = Graph(
        species=_draw(own, center, species, m),
        planes=(v[0], v[1], v[2]),
        neighbors=jnp.zeros((m, slots), jnp.int32),
        neighbor_species=jnp.stack(theirs, axis=1),
        mask=jnp.ones((m, slots), bool),
        R=jnp.zeros((m, 3), dtype),
        box=None,
        shells=((descriptor.cutoff, slots),),
    )
    if isinstance(descriptor, PowerSpectrum):
        return descriptor.vectors(species, graph)
    x, weight = descriptor.instances(species, graph)
    return x[jnp.arange(m), jnp.argmax(weight, axis=1)]


def _draw(key: Array, elements: tuple[int, ...], species: tuple[int, ...], count: int) -> Array:
    """Indices into `species` of atoms of some elements; 0 stands for all."""
    index = np.array([k for k, z in enumerate(species) if z in elements or 0 in elements], np.int32)
    return jax.random.choice(key, jnp.asarray(index), (count,))
