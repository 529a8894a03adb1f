"""Layers that graph networks share: activations, dense networks, radial functions and cutoffs, features last."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxmlp.basis.cutoffs import exponential_core
from jaxmlp.basis.radial import cosine

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "shifted_softplus": lambda x: jax.nn.softplus(x) - math.log(2.0),
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "identity": lambda x: x,
}
CUTOFFS: dict[str, Callable[[Array, float], Array]] = {
    "cosine": cosine,
    "mollifier": lambda r, cutoff: exponential_core(r * (1.0 / cutoff)),
}
RADIAL = ("gaussian", "centered", "bessel")
glorot = nn.initializers.xavier_uniform()


class MLP(nn.Module):
    """Dense layers with an activation between them, none after the last.

    Args:
        sizes: outputs of each layer, "dense0", "dense1", ...
        activation: a key of `ACTIVATIONS`.
    """

    sizes: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for k, size in enumerate(self.sizes):
            x = x if k == 0 else ACTIVATIONS[self.activation](x)
            x = nn.Dense(size, kernel_init=glorot, name=f"dense{k}")(x)
        return x


def initial(module: nn.Module, key: Array, dtype, *shapes: tuple[int, ...], **options) -> Any:
    """Return starting parameters of a module that is called with arrays of these shapes."""
    variables = module.init(key, *(jnp.zeros(shape, jnp.float32) for shape in shapes), **options)
    return jax.tree.map(lambda x: x.astype(dtype), dict(variables["params"]))


def applied(module: nn.Module, params: Any, *args, method: str | None = None) -> Any:
    """Return what a module, or a method of it, gives with these parameters."""
    return module.apply({"params": params}, *args, method=method)


def check_choices(name: str, **options: tuple[Any, Any]) -> None:
    """Refuse options, given as name=(value, choices), whose value is none of the choices.

    Raises:
        ValueError: naming the class `name` and the option.
    """
    for option, (value, choices) in options.items():
        if value not in choices:
            raise ValueError(f"{name}.{option} must be one of {', '.join(choices)}; got {value!r}.")


def check_counts(name: str, least: int = 1, **options: int | tuple[int, ...]) -> None:
    """Refuse options that are not counts of at least `least`.

    Raises:
        ValueError: naming the class `name` and the option.
    """
    for option, value in options.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in numbers):
            raise ValueError(f"{name}.{option} must be at least {least}; got {value!r}.")


def check_cutoff(name: str, cutoff: float) -> None:
    """Refuse a cutoff that is no positive distance.

    Raises:
        ValueError: naming the class `name`.
    """
    if not 0 < cutoff < math.inf:
        raise ValueError(f"{name}.cutoff is a distance in Å and must be positive; got {cutoff}.")


def radial_start(kind: str, size: int, cutoff: float, dtype) -> dict[str, Array]:
    """Return the parameters of radial functions from which schnetpack starts; see `radial`."""
    if kind == "bessel":
        return {"freqs": jnp.arange(1, size + 1, dtype=dtype) * (math.pi / cutoff)}
    if kind == "centered":
        return {"offsets": jnp.zeros(size, dtype), "widths": jnp.linspace(1.0, cutoff, size, dtype=dtype)}
    spacing = cutoff / max(size - 1, 1)
    return {"offsets": jnp.linspace(0.0, cutoff, size, dtype=dtype), "widths": jnp.full(size, spacing, dtype)}


def radial(params: dict[str, Array], r: Array) -> Array:
    """Return radial functions of distances r (...) Å, (..., K).

    Gaussians exp(-(r - offsets_k)^2 / (2 widths_k^2)), or sin(freqs_k r) / r where `params` has frequencies (1/Å).
    """
    r = r[..., None]
    if "freqs" in params:
        return jnp.sin(r * params["freqs"]) / r
    return jnp.exp(-0.5 * ((r - params["offsets"]) / params["widths"]) ** 2)
