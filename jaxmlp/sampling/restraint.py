"""Bias potentials of a fixed form: springs, walls and constant forces on collective variables."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.potential import Params, only
from jaxmlp.sampling.bias import Bias


class Restraint(Bias):
    """V = sum_a k_a/2 (s_a - center_a)^2; params {"k": (d,) eV over the square of s, "center": (d,)}.

    Differences of periodic variables are taken the short way round. k and center are parameters: the windows of an
    umbrella sampling are one potential with a stack of them, to `vmap` over.
    """

    def bias(self, params: Params, s: Array) -> Array:
        _check(self, params, "k", "center")
        return 0.5 * jnp.sum(params["k"] * jnp.square(self.cv.difference(s, params["center"])))

    def linear_parameters(self, params: Params) -> Params:
        return only(params, ["k"])


@dataclass(frozen=True)
class Limit(Bias):
    """V = sum_a k_a/2 (s_a - limit_a)^2 for components beyond their limit; params {"k": (d,), "limit": (d,)}.

    For periodic variables "beyond" is the half period after the limit, and V jumps at the end of it.

    Args:
        side: "upper" where s is to stay below the limit, "lower" where above.
    """

    side: str = "upper"

    def __post_init__(self):
        super().__post_init__()
        if self.side not in ("upper", "lower"):
            raise ValueError(f'Limit.side is "upper" or "lower"; got {self.side!r}.')

    def bias(self, params: Params, s: Array) -> Array:
        _check(self, params, "k", "limit")
        d = self.cv.difference(s, params["limit"])
        beyond = jnp.maximum(d if self.side == "upper" else -d, 0.0)
        return 0.5 * jnp.sum(params["k"] * jnp.square(beyond))

    def linear_parameters(self, params: Params) -> Params:
        return only(params, ["k"])


class Linear(Bias):
    """V = sum_a slope_a s_a, a constant force on every component; params {"slope": (d,) eV over the unit of s}.

    Raises:
        ValueError: a component is periodic, so that V would jump.
    """

    def __post_init__(self):
        super().__post_init__()
        if any(self.cv.periods):
            raise ValueError(f"a linear bias of a periodic variable jumps; {self.cv} has periods {self.cv.periods}.")

    def bias(self, params: Params, s: Array) -> Array:
        _check(self, params, "slope")
        return params["slope"] @ s

    def linear_parameters(self, params: Params) -> Params:
        return params


def restraint(cv: Any, species: tuple[int, ...], k, center) -> tuple[Restraint, Params]:
    """Return potential and parameters of springs: V = sum_a k_a/2 (s_a - center_a)^2.

    Args:
        cv: a `Variable`, or a function f(R, box) -> scalar.
        species: atomic numbers of the potential that it is added to.
        k: eV over the square of the unit of s, a number or (d,).
        center: a number or (d,).
    """
    potential = Restraint(cv, species)
    return potential, _params(potential, k=k, center=center)


def upper_limit(cv: Any, species: tuple[int, ...], k, limit) -> tuple[Limit, Params]:
    """Return potential and parameters of a spring that pulls s back below a limit; arguments as for `restraint`."""
    potential = Limit(cv, species, "upper")
    return potential, _params(potential, k=k, limit=limit)


def lower_limit(cv: Any, species: tuple[int, ...], k, limit) -> tuple[Limit, Params]:
    """Return potential and parameters of a spring that pulls s back above a limit; arguments as for `restraint`."""
    potential = Limit(cv, species, "lower")
    return potential, _params(potential, k=k, limit=limit)


def linear_bias(cv: Any, species: tuple[int, ...], slope) -> tuple[Linear, Params]:
    """Return potential and parameters of a constant force on s: V = slope . s, slope a number or (d,)."""
    potential = Linear(cv, species)
    return potential, _params(potential, slope=slope)


def _params(potential: Bias, **values) -> Params:
    d = potential.cv.size
    for name, x in values.items():
        if np.shape(x) not in ((), (1,), (d,)):
            raise ValueError(f"{name} must be a number or ({d},), one for each component; got shape {np.shape(x)}.")
    return {name: jnp.broadcast_to(jnp.asarray(x, float), (d,)) for name, x in values.items()}


def _check(potential: Bias, params: Params, *names: str) -> None:
    """Refuse parameters of other names or shapes: many would broadcast."""
    found, wanted = {n: jnp.shape(x) for n, x in params.items()}, dict.fromkeys(names, (potential.cv.size,))
    if found != wanted:
        raise ValueError(f"the parameters of this {type(potential).__name__} must have shapes {wanted}; got {found}.")
