"""The descriptor of NEP: radial sums, angular moments, and their rotational invariants.

Every function works on the rows of a graph, neighbour axis last, and knows nothing of networks or files.
"""

from functools import partial

import jax.numpy as jnp
from jax import Array

from jaxmlp.basis.coupling import real_wigner_3j
from jaxmlp.basis.species import one_hot

# Extra invariants: degrees of the moments they couple, in the order of the file format.
CUBIC = {"222": (2, 2, 2), "112": (1, 1, 2), "123": (1, 2, 3), "233": (2, 3, 3), "134": (1, 3, 4)}
EXTRA = ("222", "1111", "112", "123", "233", "134")

einsum = partial(jnp.einsum, precision="highest")


def radial_sums(f: Array, c: Array, species: Array, neighbor_species: Array) -> Array:
    """Return q_n = sum_j sum_k c[n, k, t_i, t_j] f_k(r_ij), (n, n_max + 1), summing neighbours by species, then mixing.

    Args:
        f: (n, K, M) radial functions.
        c: (n_max + 1, K, S, S).
    """
    n, k, _ = f.shape
    a, _, s, _ = c.shape
    if s == 1:
        return einsum("nk,ak->na", f.sum(-1), c[..., 0, 0])
    sums = einsum("nkm,nsm->nsk", f, one_hot(neighbor_species, s, 1, f.dtype))
    return jnp.sum(_own_coefficients(c, species).reshape(n, a, s * k) * sums.reshape(n, 1, s * k), axis=-1)


def moments_density(f: Array, y: Array, c: Array, species: Array, neighbor_species: Array) -> Array:
    """Return A_lm^n = sum_j g_n(r_ij) Y_lm, (n, n_max + 1, LM), with one set of densities per neighbour species.

    The neighbours are summed first and the radial functions mixed once per atom: least work for one species.

    Args:
        f: (n, K, M) radial functions.
        y: (n, LM, M) angular functions.
        c: (n_max + 1, K, S, S).
    """
    n, k, m = f.shape
    a, _, s, _ = c.shape
    if s == 1:
        return einsum("ak,nkl->nal", c[..., 0, 0], einsum("nkm,nlm->nkl", f, y))
    here = one_hot(neighbor_species, s, 1, f.dtype)
    split = (here[:, :, None] * f[:, None]).reshape(n, s * k, m)
    density = einsum("nqm,nlm->nql", split, y)
    return einsum("naq,nql->nal", _own_coefficients(c, species).reshape(n, a, s * k), density)


def moments_edge(f: Array, y: Array, c: Array, species: Array, neighbor_species: Array) -> Array:
    """Return the moments of `moments_density`, mixing the radial functions on every edge.

    Less work from two species on: coefficients are selected by products with 0 and 1, which the backward pass of the
    geometry does not see (two species: 13 % of the whole evaluation; four: 25 %).
    """
    n, k, m = f.shape
    a, _, s, _ = c.shape
    own = _own_coefficients(c, species).transpose(0, 1, 3, 2).reshape(n, a * k, s)
    edge = einsum("nqs,nsm->nqm", own, one_hot(neighbor_species, s, 1, f.dtype)).reshape(n, a, k, m)
    return einsum("nam,nlm->nal", (edge * f[:, None]).sum(2), y)


def _own_coefficients(c: Array, species: Array) -> Array:
    """c[n, k, t_i, t_j] as (atoms, n, t_j, k)."""
    return c.transpose(2, 0, 3, 1)[species]


def invariants(moments: Array, l_max: int, extra: tuple[str, ...]) -> Array:
    """Return the invariants of the moments (n, N, LM), l = 1 ... l_max, as (n, terms, N).

    First q_l = sum_m A_lm^2 for l = 1 ... l_max, then the terms of `extra`: sum of 3j(l1 l2 l3) A_l1 A_l2 A_l3, and for
    1111 (7/15) (sum_m A_1m^2)^2. Moments beyond l_max are zero. (222 and 1111: Fan et al., J. Chem. Phys. 157, 114801
    (2022), there in expanded form.)
    """
    block = {l: moments[:, :, l * l - 1 : l * (l + 2)] for l in range(1, l_max + 1)}
    terms = [jnp.sum(block[l] ** 2, axis=-1) for l in range(1, l_max + 1)]
    for name in extra:
        if name == "1111":
            terms.append((7.0 / 15.0) * terms[0] ** 2)
        elif max(CUBIC[name]) > l_max:
            terms.append(jnp.zeros_like(moments[:, :, 0]))
        else:
            a, b, c = (block[l] for l in CUBIC[name])
            terms.append(cubic(a, b, c, CUBIC[name]))
    return jnp.stack(terms, axis=1)


def cubic(a: Array, b: Array, d: Array, degrees: tuple[int, int, int]) -> Array:
    """Return sum C[x, y, z] a_x b_y d_z over the last axes, C the real 3j tensor of the three degrees."""
    coupling = jnp.asarray(real_wigner_3j(*degrees), a.dtype)
    return einsum("xyz,nax,nay,naz->na", coupling, a, b, d)
