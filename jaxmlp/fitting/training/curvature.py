"""The curvature of the energy, a penalty in training."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.predictions import by_structure, hessian_product
from jaxmlp.potential import Params, Potential


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
