"""Features that rotate: irreducible representations of O(3), their harmonics, couplings, linear maps and gates.

The conventions are those of e3nn (Geiger and Smidt, arXiv:2207.09453): polar axis y, components m = -l ... l, weights
normalised by the number of what is summed over.

A *feature* is a dictionary {"0e": (..., 1, F), "1o": (..., 3, F), ...} with one array for each irrep: components on the
last axis but one, channels on the last. So a linear map is one matrix product for each irrep, and everything vectorises
over the channels. *Irreps* name the same without numbers: ((F, l, p), ...) with parity p = 1 (even) or -1 (odd), as the
text "16x0e+16x1o".
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.coupling import clebsch_gordan, real_to_complex
from jaxmlp.basis.harmonics import real_harmonics

Irreps = tuple[tuple[int, int, int], ...]
Features = Mapping[str, Array]

NORMALIZATIONS = ("component", "norm", "integral")
CONVENTIONS = ("0.6.0", "0.4.4")

# <phi(z)^2>^(-1/2) for a standard normal z as e3nn's torch package estimates it, once, from 10^6 random numbers: its
# models are trained with these. The integrals are 1.67653, 1.59254 and 1.84623.
NORMALISED = {
    "silu": 1.6791767923989418,
    "tanh": 1.5937334472592695,
    "sigmoid": 1.8467055342154763,
    "ssp": 1.878204668541552,  # ln(1 + e^x) - ln 2
    "abs": 1.001110600838467,
}

# Degrees, in any order, of the couplings up to l = 6 whose sign differs between e3nn 0.4.4 and 0.6.0.
_FLIPPED = frozenset([*((1, l, l) for l in range(2, 7)), (3, 4, 6), (4, 4, 5), (4, 5, 6), (5, 5, 5), (5, 6, 6)])


# Names of irreps.


def label(l: int, p: int) -> str:
    """Return "1o" for l = 1, p = -1."""
    return f"{l}{'e' if p > 0 else 'o'}"


def parse_irreps(text: str) -> Irreps:
    """Return the irreps that a text such as "16x0e + 1o" names, in its order, without those of no channels.

    Raises:
        ValueError: naming the part that is no irrep.
    """
    out = []
    for part in text.replace(" ", "").split("+") if text.strip() else []:
        match = re.fullmatch(r"(?:(\d+)x)?(\d+)([eo])", part)
        if match is None:
            raise ValueError(f"irreps are written like 16x0e+16x1o; found {part!r} in {text!r}.")
        out.append((int(match[1] or 1), int(match[2]), 1 if match[3] == "e" else -1))
    return tuple(block for block in out if block[0])


def format_irreps(irreps: Irreps) -> str:
    """Return the text of irreps, "16x0e+16x1o"."""
    return "+".join(f"{mul}x{label(l, p)}" for mul, l, p in irreps)


def merged(irreps: Irreps) -> Irreps:
    """Return irreps in e3nn's order, by l and then odd before even, with equal ones joined."""
    total: dict[tuple[int, int], int] = {}
    for mul, l, p in irreps:
        total[l, p] = total.get((l, p), 0) + mul
    return tuple((total[l, p], l, p) for l, p in sorted(total))


def widths(irreps: Irreps) -> dict[str, int]:
    """Return {label: number of channels}."""
    return {label(l, p): mul for mul, l, p in merged(irreps)}


def products(a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the irreps (l, p) in the product of two."""
    return [(l, a[1] * b[1]) for l in range(abs(a[0] - b[0]), a[0] + b[0] + 1)]


# The layout of e3nn: blocks one after the other, in each channels and then components ("mul_ir").


def from_flat(x: Array, irreps: Irreps) -> dict[str, Array]:
    """Return the feature of e3nn's layout (..., dim); blocks of equal irreps are joined in their order."""
    out: dict[str, Array] = {}
    start = 0
    for mul, l, p in irreps:
        stop = start + mul * (2 * l + 1)
        block = x[..., start:stop].reshape(*x.shape[:-1], mul, 2 * l + 1).swapaxes(-1, -2)
        name = label(l, p)
        out[name] = jnp.concatenate([out[name], block], axis=-1) if name in out else block
        start = stop
    return out


def to_flat(features: Features, irreps: Irreps) -> Array:
    """Return e3nn's layout (..., dim) of a feature: the inverse of `from_flat`."""
    used: dict[str, int] = {}
    blocks = []
    for mul, l, p in irreps:
        name = label(l, p)
        start = used.get(name, 0)
        block = features[name][..., start : start + mul].swapaxes(-1, -2)
        blocks.append(block.reshape(*block.shape[:-2], -1))
        used[name] = start + mul
    return jnp.concatenate(blocks, axis=-1)


# Harmonics and couplings.


def harmonics(x: Array, y: Array, z: Array, l_max: int, normalization: str = "component") -> list[list[Array]]:
    """Return the planes Y_lm, for each l = 0 ... l_max a list of 2l + 1 arrays, at unit vectors (x, y, z).

    In terms of the harmonics S_lm of `real_harmonics`, Y_lm(x, y, z) ~ S_lm(z, x, y): Y_1 ~ (x, y, z). sum_m Y_lm^2 is
    2l + 1 ("component"), 1 ("norm") or (2l + 1) / 4 pi ("integral").
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"harmonics are normalised by {NORMALIZATIONS}; got {normalization!r}.")
    planes = iter(real_harmonics(z, x, y, l_max))
    out = []
    for l in range(l_max + 1):
        square = {"component": 4 * math.pi, "norm": 4 * math.pi / (2 * l + 1), "integral": 1.0}[normalization]
        out.append(
            [
                jnp.broadcast_to(jnp.asarray(next(planes) * math.sqrt(square), x.dtype), x.shape)
                for _ in range(2 * l + 1)
            ]
        )
    return out


@cache
def coupling(l1: int, l2: int, l3: int, convention: str = "0.6.0") -> np.ndarray:
    """Return the invariant real tensor w (2 l1 + 1, 2 l2 + 1, 2 l3 + 1) of norm 1: e3nn's `wigner_3j`.

    w = Re[(-i)^(l1 + l2 - l3) sum <l1 m1 l2 m2 | l3 m3> U1 U2 U3*] / sqrt(2 l3 + 1), U of `real_to_complex`, is the
    tensor of e3nn 0.6.0 (and of e3nn-jax) for all degrees. In e3nn 0.4.4, which MACE requires, 34 of those up to
    l = 6 have the other sign, all with odd l1 + l2 + l3.

    Raises:
        ValueError: for "0.4.4" and a degree above 6, where its signs are not known.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"the signs of couplings are those of e3nn {' or '.join(CONVENTIONS)}; got {convention!r}.")
    u1, u2, u3 = real_to_complex(l1), real_to_complex(l2), real_to_complex(l3).conj()
    w = np.einsum("xyz,xi,yj,zk->ijk", clebsch_gordan(l1, l2, l3), u1, u2, u3) * (-1j) ** (l1 + l2 - l3)
    w = w.real / math.sqrt(2 * l3 + 1)
    w[np.abs(w) < 1e-15] = 0.0  # rounding of exact zeros
    if convention == "0.4.4":
        if max(l1, l2, l3) > 6:
            raise ValueError(f"the signs of e3nn 0.4.4 are known up to l = 6; got the coupling {(l1, l2, l3)}.")
        if tuple(sorted((l1, l2, l3))) in _FLIPPED:
            w = -w
    w.flags.writeable = False
    return w


# Maps of features.


def linear(weights: Mapping[str, Array], features: Features) -> dict[str, Array]:
    """Return sum_u x[..., u] W[u, w] / sqrt(number of u), for each irrep that has weights W (F_in, F_out)."""
    return {name: features[name] @ (w / math.sqrt(w.shape[0])) for name, w in weights.items()}


def linear_from_flat(weights: np.ndarray, irreps_in: Irreps, irreps_out: Irreps) -> dict[str, np.ndarray]:
    """Return the matrices of `linear` from the flat weights of e3nn's `Linear`, one (mul_in, mul_out) block after
    another for each pair of equal irreps, in first and then out."""
    count = sum(a * b for a, *one in irreps_in for b, *two in irreps_out if one == two)
    if len(weights) != count:
        maps = f"{format_irreps(irreps_in)} to {format_irreps(irreps_out)}"
        raise ValueError(f"a linear map of {maps} needs {count} weights; got {len(weights)}.")
    before, after = widths(irreps_in), widths(irreps_out)
    out = {name: np.zeros((before[name], after[name]), weights.dtype) for name in after if name in before}
    start = 0
    for a, (mul_a, *irrep_a) in enumerate(irreps_in):
        row = sum(mul for mul, *irrep in irreps_in[:a] if irrep == irrep_a)
        for b, (mul_b, *irrep_b) in enumerate(irreps_out):
            if irrep_a == irrep_b:
                column = sum(mul for mul, *irrep in irreps_out[:b] if irrep == irrep_b)
                block = weights[start : start + mul_a * mul_b].reshape(mul_a, mul_b)
                out[label(*irrep_a)][row : row + mul_a, column : column + mul_b] = block
                start += mul_a * mul_b
    return out


def silu(x: Array) -> Array:
    """Return the normalised x / (1 + e^-x)."""
    return NORMALISED["silu"] * jax.nn.silu(x)


def tanh(x: Array) -> Array:
    """Return the normalised tanh."""
    return NORMALISED["tanh"] * jnp.tanh(x)


def gate(
    features: Features,
    irreps: Irreps,
    even: Callable = silu,
    odd: Callable = tanh,
    gates: Callable = silu,
) -> dict[str, Array]:
    """Return `irreps` from a feature that has, as last "0e" channels, also a gate for each channel with l > 0.

    Even and odd scalars x become even(x) and odd(x), others gates(g) x. The gates are in the order of `irreps`, which
    has every irrep once; an irrep that the feature lacks is left out.
    """
    out = {}
    start = sum(mul for mul, l, p in irreps if l == 0 and p > 0)
    for mul, l, p in irreps:
        name = label(l, p)
        if name in features:
            if l > 0:
                out[name] = gates(features["0e"][..., start : start + mul]) * features[name]
            else:
                out[name] = even(features[name][..., :mul]) if p > 0 else odd(features[name])
        start += mul if l > 0 else 0
    return out


def gate_input(irreps: Irreps) -> Irreps:
    """Return the irreps from which `gate` makes `irreps`."""
    return merged((*irreps, (sum(mul for mul, l, _ in irreps if l > 0), 0, 1)))
