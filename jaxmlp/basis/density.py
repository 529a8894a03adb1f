"""Densities of neighbours in radial functions and spherical harmonics, and their power spectra."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.harmonics import harmonic_levels
from jaxmlp.basis.neighbor_pairs import materialised
from jaxmlp.basis.series import Series, evaluate
from jaxmlp.basis.tangents import along, given

matmul = partial(jnp.matmul, precision="highest")


class Expansion(NamedTuple):
    """How a neighbour of one species enters the density: radial functions R_l(a; r) times an envelope.

    Args:
        series: of R_l(a; r); its functions are numbered l, then a.
        envelope: what multiplies them, a function of r (n, M) that is 0 from the cutoff on.
    """

    series: Series
    envelope: Callable[[Array], Array]


def density(
    expansions: list[Expansion], l_max: int, planes: tuple[Array, ...], kinds: list[Array | None]
) -> list[Array]:
    """Return X_l, (n, channels, 2 l + 1) for l = 0 ... l_max: sums over neighbours of R_l(a; r) Y_lm(r / |r|).

    Channels are numbered by species of the density, then a. An expansion that stands for several species is computed
    once.

    Args:
        expansions: one for every species of the density.
        planes: three (n, M) Å.
        kinds: for each species, (n, M) whether a neighbour belongs to it; None stands for all.
    """
    r = length(*planes)
    harmonics = harmonic_levels(*direction(*planes), l_max)
    done: dict[int, list[Array]] = {}
    parts: list[list[Array]] = [[] for _ in harmonics]
    for expansion, kind in zip(expansions, kinds, strict=True):
        if id(expansion) not in done:
            done[id(expansion)] = _radial(expansion, l_max, r)
        for part, radial, y in zip(parts, done[id(expansion)], harmonics, strict=True):
            mine = radial if kind is None else jnp.where(kind, radial, 0.0)
            part.append(jnp.einsum("anm,nym->nay", mine, y, precision="highest"))
    return [jnp.concatenate(x, axis=1) for x in parts]


def _radial(expansion: Expansion, l_max: int, r: Array) -> list[Array]:
    """R_l(a; r), (A, n, M) for each l. A split: the derivative of slices would be a sum of padded arrays."""
    values = evaluate(expansion.series, r) * expansion.envelope(r)
    return [materialised(x) for x in jnp.split(values, l_max + 1)]


@dataclass(frozen=True)
class Spectrum:
    """Which products of channels make the power spectrum, p_(c c' l) = factor sum_m X_clm X_c'lm.

    Args:
        channels: their number.
        l_max: largest degree.
        components: (c, c', l) of every component, in order; each set {c, c'} once.
        factor: of products of two different channels.
    """

    channels: int
    l_max: int
    components: tuple[tuple[int, int, int], ...] = field(repr=False)
    factor: float = 2.0**0.5
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "_hash", hash((self.channels, self.l_max, self.components, self.factor)))

    def __hash__(self) -> int:
        return self._hash


def power_spectrum(layout: Spectrum, X: list[Array]) -> Array:
    """Return p, (n, components), of X_l (n, channels, 2 l + 1)."""
    c, d, l = np.array(layout.components).T
    products = jnp.stack([matmul(x, x.swapaxes(1, 2)) for x in X], axis=1)
    flat = products.reshape(len(products), -1)
    chosen = flat.at[:, (l * layout.channels + c) * layout.channels + d].get(mode="promise_in_bounds")
    return chosen * jnp.asarray(np.where(c == d, 1.0, layout.factor), flat.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def function_of_spectrum(function: Callable[..., Array], layout: Spectrum, X: list[Array], args: Any) -> Array:
    """Return function(p, args), (n,), of the power spectrum p of X, row by row, with a faster first derivative.

    dE/dX_l = W_l X_l with W the symmetric matrix of the dE/dp: one product of matrices for each degree, where plain
    differentiation would scatter the components. Derivatives of every order follow, forward and reverse.
    """
    return function(power_spectrum(layout, X), args)


@partial(function_of_spectrum.defjvp, symbolic_zeros=True)
def _function_of_spectrum_jvp(function, layout, primals, tangents):
    (X, args), (dX, dargs) = primals, tangents
    p = power_spectrum(layout, X)
    out = function(p, args)
    more = along(lambda args: function(p, args), args, dargs)
    change = jnp.zeros_like(out) if more is None else more
    if any(map(given, dX)):
        slope = jax.grad(lambda p: jnp.sum(function(p, args)))(p)
        for x, dx, w in zip(X, dX, _matrices(layout, slope), strict=True):
            if given(dx):
                change = change + jnp.sum(matmul(w, x) * dx, axis=(1, 2))
    return out, change


def _matrices(layout: Spectrum, slope: Array) -> list[Array]:
    """The matrices W_l (n, channels, channels) with dE/dX_l = W_l X_l, from dE/dp (n, components)."""
    c, d, l = np.array(layout.components).T
    n, size = len(slope), layout.channels
    place = np.full((layout.l_max + 1, size, size), len(c))  # a column of zeros stands for what is not there
    place[l, c, d] = place[l, d, c] = np.arange(len(c))
    scaled = slope * jnp.asarray(np.where(c == d, 2.0, layout.factor), slope.dtype)
    padded = jnp.pad(scaled, ((0, 0), (0, 1)))
    full = padded.at[:, place.ravel()].get(mode="promise_in_bounds").reshape(n, *place.shape)
    return [full[:, k] for k in range(layout.l_max + 1)]
