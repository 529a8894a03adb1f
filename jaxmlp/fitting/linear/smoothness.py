"""Smoothness priors of linear fits."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

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
