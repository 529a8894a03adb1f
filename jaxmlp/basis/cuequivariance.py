"""Convolution and symmetric product by the kernels of NVIDIA's cuequivariance: the same numbers, faster on its GPUs.

Needs the package cuequivariance-jax (and on a GPU cuequivariance-ops-jax): `pip install "jaxmlp[cuda]"`. Elsewhere its
plain form runs, which is slower than that of `convolution` and `equivariant_polynomials`.
"""

import math
from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.convolution import Path
from jaxmlp.basis.equivariant_polynomials import Irrep, Plan, plan
from jaxmlp.basis.irreps import Features, coupling, label


def _modules():
    """The two packages.

    Raises:
        ImportError: saying how to get them.
    """
    try:
        import cuequivariance
        import cuequivariance_jax
    except ImportError as error:
        raise ImportError(
            'kernels="cuequivariance" needs the package cuequivariance-jax: pip install "jaxmlp[cuda]", or set '
            'kernels="jax".'
        ) from error
    return cuequivariance, cuequivariance_jax


def _run(polynomial, inputs: list[Array], rows: int, indices: list) -> Array:
    """The polynomial's only output, (rows, size)."""
    _, cuex = _modules()
    out = jax.ShapeDtypeStruct((rows, polynomial.outputs[0].size), inputs[-1].dtype)
    method = "uniform_1d" if jax.default_backend() == "gpu" else "naive"
    return cuex.segmented_polynomial(polynomial, inputs, [out], indices, method=method)[0]


def _starts(sizes: dict) -> dict:
    """Where each of some blocks starts; under None where the last ends."""
    return dict(zip([*sizes, None], map(int, np.cumsum([0, *sizes.values()]))))


@cache
def _convolution_polynomial(paths: tuple[Path, ...], convention: str):
    """sum over paths of R x Y, and for each irrep of the result its paths."""
    cue, _ = _modules()
    width = paths[0].mul
    product = cue.SegmentedTensorProduct.from_subscripts("u,u,,u")
    sources = sorted({p.source for p in paths})
    edges = sorted({p.edge for p in paths})
    targets = {t: [k for k, p in enumerate(paths) if p.target == t] for t in dict.fromkeys(p.target for p in paths)}
    first_source = _starts({s: 2 * s[0] + 1 for s in sources})
    first_edge = _starts({edge: 2 * edge + 1 for edge in edges})
    first_target = _starts({t: (2 * t[0] + 1) * len(members) for t, members in targets.items()})
    product.add_segments(0, [(width,)] * len(paths))
    product.add_segments(1, [(width,)] * first_source[None])
    product.add_segments(2, [()] * first_edge[None])
    product.add_segments(3, [(width,)] * first_target[None])
    for k, path in enumerate(paths):
        members = targets[path.target]
        w = math.sqrt(2 * path.target[0] + 1) * coupling(path.source[0], path.edge, path.target[0], convention)
        for i, j, m in np.argwhere(np.abs(w) > 1e-14):
            place = first_target[path.target] + m * len(members) + members.index(k)
            segments = (k, first_source[path.source] + i, first_edge[path.edge] + j, place)
            product.add_path(*map(int, segments), c=w[i, j, m])
    return cue.SegmentedPolynomial.eval_last_operand(product), sources, edges, targets


def convolution(
    x: Features, Y: Sequence[Sequence[Array]], R: Array, paths: Sequence[Path], convention: str = "0.6.0"
) -> dict[str, Array]:
    """Return what `jaxmlp.basis.convolution.convolution` returns.

    Raises:
        ValueError: paths of different numbers of channels, which the kernels do not take.
    """
    if len({path.mul for path in paths}) != 1:
        raise ValueError('kernels="cuequivariance" needs as many channels of every irrep; set kernels="jax".')
    polynomial, sources, edges, targets = _convolution_polynomial(tuple(paths), convention)
    n, M = R.shape[:2]
    width = paths[0].mul
    features = jnp.concatenate([x[label(*s)].reshape(n * M, -1) for s in sources], axis=1)
    planes = jnp.stack([plane.reshape(-1) for edge in edges for plane in Y[edge]], axis=1)
    atom = jnp.repeat(jnp.arange(n, dtype=jnp.int32), M)
    m = _run(polynomial, [R.reshape(n * M, -1), features, planes], n, [None, None, None, atom])
    out, start = {}, 0
    for target, members in targets.items():
        size = (2 * target[0] + 1) * len(members) * width
        out[label(*target)] = m[:, start : start + size].reshape(n, 2 * target[0] + 1, -1)
        start += size
    return out


@cache
def _product_polynomial(irreps: tuple[Irrep, ...], degree: int, wanted: tuple[Irrep, ...], width: int):
    """sum_r W_r P_r(A) of all wanted irreps."""
    cue, _ = _modules()
    tables: Plan = plan(irreps, degree, wanted)
    size = sum(2 * l + 1 for l, _ in irreps)
    monomials = [np.arange(size)[:, None]]
    for before, variable in tables.factors:
        monomials.append(np.concatenate([monomials[-1][before], variable[:, None]], axis=1))
    products = [cue.SegmentedTensorProduct.from_subscripts(",".join("u" * (nu + 2))) for nu in range(1, degree + 1)]
    rows = {irrep: [0 if t is None else t.shape[1] for t in tables.tables[irrep]] for irrep in wanted}
    for nu, product in enumerate(products, start=1):
        product.add_segments(0, [(width,)] * sum(map(sum, rows.values())))
        for operand in range(1, nu + 1):
            product.add_segments(operand, [(width,)] * size)
        product.add_segments(nu + 1, [(width,)] * sum(2 * l + 1 for l, _ in wanted))
    weight, component = 0, 0
    for irrep in wanted:
        for product, table, factors in zip(products, tables.tables[irrep], monomials):
            if table is None:
                continue
            for M, r, k in np.argwhere(np.abs(table) > 1e-14):
                segments = (weight + r, *factors[k], component + M)
                product.add_path(*map(int, segments), c=table[M, r, k])
            weight += table.shape[1]
        component += 2 * irrep[0] + 1
    operations = [
        (cue.Operation([0, *[1] * nu, 2]), product) for nu, product in enumerate(products, start=1) if product.num_paths
    ]
    operands = [products[0].operands[k] for k in (0, 1, 2)]
    return cue.SegmentedPolynomial(operands[:2], operands[2:], operations)


def symmetric_product(
    A: Array, weights: dict[Irrep, Array], species: Array, irreps: tuple[Irrep, ...], degree: int
) -> dict[Irrep, Array]:
    """Return sum_r W[t, r] P_r(A), for each irrep of the weights (n, 2 L + 1, F).

    Args:
        A: (n, components, F).
        weights: (S, r, F) for each irrep; one row where they depend on no species.
        species: (n,) t.
        irreps, degree: of A, and of the polynomials P of `equivariant_polynomials`.
    """
    wanted = tuple(weights)
    n, _, width = A.shape
    polynomial = _product_polynomial(irreps, degree, wanted, width)
    W = jnp.concatenate([w.reshape(len(w), -1) for w in weights.values()], axis=1)
    row = jnp.zeros_like(species) if len(W) == 1 else species
    B = _run(polynomial, [W, A.reshape(n, -1)], n, [row, None, None])
    out, start = {}, 0
    for irrep in wanted:
        size = (2 * irrep[0] + 1) * width
        out[irrep] = B[:, start : start + size].reshape(n, -1, width)
        start += size
    return out
