"""How far a structure is from those of the training: the extrapolation grade of moment tensor potentials (MaxVol).

b is the derivative of an energy with respect to all n coefficients, in MLIP-3's order: radial[s, t, mu, k] (without the
common scaling factor), species_coeffs, moment_coeffs. Of all b of the training, n are selected whose matrix A has the
largest volume. The grade of another b is max_k |(b A^-1)_k|: up to 1 the structure is interpolated. Podryabinkin and
Shapeev, Comput. Mater. Sci. 140, 171 (2017); neighbourhoods: Hodapp and Shapeev, Mach. Learn.: Sci. Technol. 1, 045005
(2020).
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction
from jaxmlp.basis.moments import basic_moments, scalars
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params

if TYPE_CHECKING:
    from jaxmlp.potentials.mtp import MTP


def coefficient_gradients(potential: "MTP", params: Params, graph: Graph) -> Array:
    """Return b_i = dE_i/d(coefficients) of every atom, (n, size); their sum over atoms is the b of a configuration.

    Coefficients of species that the selection has and the potential has not are zero.
    """
    near = graph.within(potential.cutoff)
    planes = potential.polynomials(params, near)
    f = potential.mixed(params["radial"], planes, near)
    u = direction(*near.planes)

    def energies(f):
        B = scalars(potential.moments, basic_moments(potential.moments, f, u))  # (scalars, n)
        return jnp.einsum("kn,k->", B, params["moment_coeffs"], precision="highest"), B.T

    df, B = jax.grad(energies, has_aux=True)(f)  # (n, mu, M)
    known = potential.selection or potential.species
    index = jnp.asarray(np.array([known.index(z) for z in potential.species], dtype=np.int32))
    count = jnp.arange(len(known), dtype=jnp.int32)
    own = (index[near.species][:, None] == count).astype(f.dtype)  # (n, S)
    theirs = (index[near.neighbor_species][:, None] == count[:, None]).astype(f.dtype)  # (n, S, M)
    with_species = jnp.einsum("ntm,num,nkm->ntuk", theirs, df, planes, precision="highest")
    radial = own[:, :, None, None, None] * with_species[:, None]  # (n, S, S, mu, k)
    return jnp.concatenate([radial.reshape(len(f), -1), own, B], axis=1)


def grade(inverse: Array, b: Array) -> Array:
    """Return max_k |(b A^-1)_k| of every row of b (..., n), given A^-1 (n, n).

    Active sets are badly conditioned: grades from the inverse that MLIP stored and from a new one agree to 1e-7.
    """
    return jnp.max(jnp.abs(jnp.einsum("...i,ij->...j", b, inverse, precision="highest")), axis=-1)


def configuration_grade(inverse: Array, b: Array, energy_weight: float = 1.0, weight_scaling: int = 2) -> Array:
    """Return the grade of a configuration (...), max_k |(b A^-1)_k|, given b_i of its atoms (..., N, n) and A^-1.

    b = energy_weight N^(-weight_scaling/2) sum_i b_i, as MLIP weighs the energy equation of a configuration when it
    selects; with a scaling of 2 a supercell has the grade of its cell. energy_weight = 0 stands for a set selected
    from neighbourhoods: the configuration then has the largest grade of them.
    """
    if energy_weight == 0:
        return jnp.max(grade(inverse, b), axis=-1)
    return grade(inverse, jnp.sum(b, axis=-2) * (energy_weight * b.shape[-2] ** (-weight_scaling / 2)))


def select(b: np.ndarray, active_set: np.ndarray | None = None, threshold: float = 1.001) -> np.ndarray:
    """Return the active set (n, n) after the rows of b (rows, n) were offered to it: MaxVol by single swaps.

    The row with the largest |(b A^-1)_k| takes the place of row k of A while it exceeds `threshold`; every swap
    multiplies |det A| by that number.

    Args:
        active_set: where to start; None starts with 10^-6 times the unit matrix, as MLIP does.
    """
    b = np.asarray(b, dtype=float)
    n = b.shape[1]
    a = 1e-6 * np.eye(n) if active_set is None else np.array(active_set, dtype=float)
    coordinates = np.linalg.solve(a.T, b.T).T  # b A^-1
    while True:
        row, k = np.unravel_index(np.abs(coordinates).argmax(), coordinates.shape)
        pivot = coordinates[row, k]
        if not abs(pivot) > threshold:
            return a
        a[k] = b[row]
        change = coordinates[row].copy()
        change[k] -= 1.0
        coordinates -= np.outer(coordinates[:, k] / pivot, change)
