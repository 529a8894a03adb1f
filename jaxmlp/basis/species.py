"""Parameters and functions that depend on the species of an edge, chosen by selection."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def by_species(values: Array, species: Array) -> Array:
    """Return values[i, species[i]] for values (n, S, ...) by selection, which vectorises where a gather does not."""
    out = values[:, 0]
    for t in range(1, values.shape[1]):
        out = jnp.where((species == t).reshape(-1, *[1] * (out.ndim - 1)), values[:, t], out)
    return out


def pair_values(table: Array, species: Array, neighbor_species: Array) -> Array:
    """Return table[t_i, t_j] (n, M) of a table (S, S); a scalar for one species, so that nothing is gathered."""
    if table.shape[0] == 1:
        return table[0, 0]
    rows = table[species]  # (n, S)
    out = rows[:, :1]
    for t in range(1, table.shape[0]):
        out = jnp.where(neighbor_species == t, rows[:, t, None], out)
    return out


def one_hot(species: Array, count: int, axis: int, dtype) -> Array:
    """Return 1 where an atom has the species of the new `axis`, else 0."""
    shape = [1] * (species.ndim + 1)
    shape[axis] = count
    return (jnp.expand_dims(species, axis) == jnp.arange(count, dtype=species.dtype).reshape(shape)).astype(dtype)


def pair_table(table: np.ndarray, species: Array, neighbor_species: Array, dtype) -> Array | float:
    """Return table[t_i, t_j] (n, M) for a constant (S, S) table: a number where all entries agree, else selections."""
    table = np.asarray(table, dtype=float)
    if (table == table.flat[0]).all():
        return float(table.flat[0])
    return jnp.asarray(table, dtype)[species[:, None], neighbor_species]


def triplet_values(table: Array, species: Array, neighbor_species: Array) -> Array:
    """Return table[t_i, t_j, t_k] (n, M, M) of a table (S, S, S); a scalar for one species."""
    if table.shape[0] == 1:
        return table[0, 0, 0]
    rows = table[species]  # (n, S, S)
    out = rows[:, :1, :1]
    for s in range(table.shape[0]):
        for t in range(table.shape[0]):
            if s or t:
                chosen = (neighbor_species == s)[:, :, None] & (neighbor_species == t)[:, None, :]
                out = jnp.where(chosen, rows[:, s, t, None, None], out)
    return out


def check_species(name: str, species: tuple[int, ...]) -> None:
    """Refuse species that are not different atomic numbers.

    Raises:
        ValueError: naming the class `name` and what came.
    """
    if not species or len(set(species)) != len(species) or not all(1 <= z <= 118 for z in species):
        raise ValueError(f"{name}.species must be different atomic numbers; got {species}.")


def is_element(z: int, species: tuple[int, ...], index: Array, dtype) -> Array:
    """Return 1 where the species `index` into the atomic numbers `species` is z, else 0; 1 everywhere for z = 0."""
    if z == 0:
        return jnp.ones(index.shape, dtype)
    return (index == species.index(z)).astype(dtype) if z in species else jnp.zeros(index.shape, dtype)


def is_pair(elements: tuple[int, int], species: tuple[int, ...], own: Array, theirs: Array, dtype) -> Array:
    """Return 1 for edges (n, M) between the two elements, in either order, else 0; 0 stands for any element.

    Args:
        species: atomic numbers that the indices `own` (n,) and `theirs` (n, M) stand for.
    """
    match = jnp.zeros(theirs.shape, dtype)
    for a, b in {elements, elements[::-1]}:
        match = jnp.maximum(match, is_element(a, species, own, dtype)[:, None] * is_element(b, species, theirs, dtype))
    return match


def subset(species: tuple[int, ...], wanted: tuple[int, ...]) -> list[int]:
    """Return the positions of the atomic numbers `wanted` in `species`.

    Raises:
        ValueError: naming what is not there.
    """
    missing = sorted(set(wanted) - set(species))
    if missing or len(set(wanted)) != len(wanted):
        raise ValueError(
            f"cannot restrict a potential for atomic numbers {species} to {tuple(wanted)}"
            + (f": {missing} are not among them." if missing else ": a species occurs twice.")
        )
    return [species.index(z) for z in wanted]
