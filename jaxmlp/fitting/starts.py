"""Where a fit starts: potential, parameters and energies of atoms."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.fitting.accuracy import without_atoms
from jaxmlp.fitting.config import Config
from jaxmlp.fitting.data.labels import atomic_number
from jaxmlp.fitting.data.reference_energies import fit_reference_energies
from jaxmlp.fitting.families import build, drawn
from jaxmlp.fitting.sets import some
from jaxmlp.fitting.survey import Survey
from jaxmlp.fitting.training.trainable import matches, names
from jaxmlp.potential import Params, Potential


def start_of(settings: Config, structures, start, dtype):
    """Potential and parameters to start from, without energies of atoms, and these, (S,) eV."""
    cast = lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else jnp.asarray(x)
    file = settings.potential.get("file")
    if start is not None or file is not None:
        if start is None:
            from jaxmlp.formats.detect import load

            start = load(file)
        potential, params = start
        params = given(settings.parameters, params)
        bare, atoms = without_atoms(potential, params)
        return potential, jax.tree.map(cast, bare), atoms
    options = {k: v for k, v in settings.potential.items() if k not in ("family", "base", "species")}
    named = settings.potential.get("species")
    species = {z for s in structures for z in s.system.species} if named is None else set(map(_number, named))
    potential = build(settings.potential["family"], tuple(sorted(species)), **options)
    energies = _energies(settings, structures, potential.species)
    params = given(settings.parameters, drawn(potential, jax.random.key(settings.seed), dtype))
    params = jax.tree.map(cast, params)
    try:
        potential.shifted(params, energies)
    except ValueError:
        if settings.data.energies != "fit":
            raise
        energies = _uniform(potential, params, structures)
    potential, params = potential.adapted(params, Survey(some(structures)))
    return potential, params, energies


def given(values: Mapping[str, Any], params: Params) -> Params:
    """Return `params` with other values of some parameters, by their names.

    Raises:
        ValueError: a name that is not there or stands for several arrays, or a wrong shape.
    """
    leaves, tree = jax.tree.flatten(params)
    known = names(params)
    for name, value in values.items():
        places = [k for k, other in enumerate(known) if matches(other, (name,))]
        if len(places) != 1:
            raise ValueError(f"parameters: {name!r} stands for {len(places)} arrays; there are {', '.join(known)}.")
        old = jnp.asarray(leaves[places[0]])
        if np.shape(value) != old.shape:
            raise ValueError(f"parameters: {name} has the shape {old.shape}; got {np.shape(value)}.")
        leaves[places[0]] = jnp.asarray(value, old.dtype)
    return jax.tree.unflatten(tree, leaves)


def _number(name: str | int) -> int:
    z = atomic_number(str(name))
    if z is None:
        raise ValueError(f"potential: {name!r} in species is no element: give symbols or atomic numbers.")
    return z


def _energies(settings: Config, structures, species) -> np.ndarray:
    wanted = settings.data.energies
    if wanted == "none" or not any(s.energy is not None for s in structures):
        return np.zeros(len(species))
    given = wanted if isinstance(wanted, Mapping) else None
    if given is None and wanted != "fit":
        raise ValueError(f"data: energies is fit, none, or a mapping from symbols to eV; got {wanted!r}.")
    found = fit_reference_energies(structures, species, isolated_atoms=given)
    return np.array([found[z] for z in species])


def _uniform(potential: Potential, params: Params, structures) -> np.ndarray:
    """The mean energy of an atom for all species, or zeros where the potential has no place for that either."""
    mean = np.full(len(potential.species), np.mean([s.energy / len(s) for s in structures if s.energy is not None]))
    try:
        potential.shifted(params, mean)
    except ValueError:
        return np.zeros(len(mean))
    return mean
