"""What makes a potential smooth: priors of linear fits, and the curvature of the energy in training."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxmlp.evaluate import Execution
from jaxmlp.fitting.batches import Batch
from jaxmlp.fitting.predictions import by_structure, hessian_product
from jaxmlp.potential import Params, Potential

POWER = 2.0  # p of Witt et al., J. Chem. Phys. 159, 164101 (2023), in their examples


def power_of(prior: str | Mapping) -> float:
    """Return the power that "smooth" or {"smooth": power} asks for.

    Raises:
        ValueError: other words, or a power that is not positive.
    """
    if prior == "smooth":
        return POWER
    power = prior.get("smooth") if isinstance(prior, Mapping) and set(prior) == {"smooth"} else None
    if not isinstance(power, int | float) or not power > 0:
        raise ValueError(f'prior is "smooth", or {{"smooth": power}} with a positive power; got {prior!r}.')
    return float(power)


def smoothness_prior(potential: Potential, params: Params, part: Params, power: float = POWER) -> np.ndarray:
    """Return the factors (p,) of the linear parameters in a ridge's norm, larger where their functions vary faster.

    Args:
        part: `params` with None in place of all but the linear parameters, as `linear.split_linear` returns it.
        power: of the degrees, see `Potential.roughness`.

    Raises:
        ValueError: the functions of the family have no degrees.
    """
    rough = potential.roughness(params, power)
    if rough is None:
        raise ValueError(
            f"prior: the functions of {type(potential).__name__} have no degrees, as those of ace, mtp and snap have. "
            "Leave prior out, or give factors, one for each parameter."
        )
    chosen = jax.tree.map(lambda x, r: None if x is None else r, part, rough, is_leaf=lambda x: x is None)
    return np.asarray(ravel_pytree(chosen)[0], float)


def curvature(potential: Potential, params: Params, batch: Batch, step: Array, execution: Execution) -> tuple:
    """Return by structure, (B,), the sums over atoms of |H v|^2 / 3, eV^2/Å^4, and the numbers of atoms.

    H is the Hessian, minus the Jacobian of the forces, and v is drawn anew in every step: normal, independent, of
    variance 1. The mean of |H v|^2 over v is the sum of the squares of all elements of H: this is the Jacobian
    regularisation of Hoffman, Roberts, Yaida, arXiv:1908.02729 (2019), of the map from positions to forces, with one
    random projection a step.
    """
    key = jax.random.fold_in(jax.random.key(0), step)
    v = jax.random.normal(key, batch.R.shape, batch.R.dtype)
    product = hessian_product(potential, params, batch, jnp.where(batch.real[:, None], v, 0.0), execution)
    square = jnp.where(batch.real[:, None], jnp.square(product), 0.0)
    there = (batch.ids >= 0).astype(batch.R.dtype)
    return there * by_structure(jnp.mean(square, axis=1), batch), there * batch.counts
