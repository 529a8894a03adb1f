"""Fits that are linear in most parameters: the others by Gauss-Newton steps, the linear ones eliminated at every one.

The labels are y = F(theta, c) with F linear in c. At theta, with A = dF/dc and J = dF/dtheta, the least squares problem

    |A c' + J dtheta - (y - F(theta, 0))|^2 + strength |Gamma c'|^2 + damping |Gamma_J dtheta|^2

gives the step dtheta and the coefficients behind it; without J it gives the best c at theta, and so the cost of theta
that variable projection minimises (Golub and Pereyra, SIAM J. Numer. Anal. 10, 413 (1973); J at the coefficients of the
step before: Kaufman, BIT 15, 49 (1975)). Both come from one factor of the rows [A J | y], made in one pass over the
data; `variable_projection.projected_residual` is the same for a matrix in memory.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxmlp.evaluate import Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import loader_of
from jaxmlp.fitting.batches.predictions import check, plain
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.linear.edge_slopes import fast_columns, flattened
from jaxmlp.fitting.linear.fit import SMALL_BLOCKS, label_rows, one_by_one, split_linear
from jaxmlp.fitting.linear.tall_qr import TallQR, add_rows, combine, no_rows
from jaxmlp.fitting.training.trainable import matches, names
from jaxmlp.potential import Params, Potential


class Pass(NamedTuple):
    """One pass over the data.

    Args:
        cost: of theta, with the best coefficients.
        damping: of the step that led there.
        accepted: whether the cost fell.
    """

    cost: float
    damping: float
    accepted: bool


class Projected(NamedTuple):
    """What `fit_projected` gives: parameters, the best found, and all passes."""

    params: Params
    history: list[Pass]


def fit_projected(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    *,
    vary: tuple[str, ...],
    weights: dict[str, float],
    strength: float = 1e-6,
    passes: int = 12,
    damping: float = 1e-3,
    energies: np.ndarray | None = None,
    fit_energies: bool = False,
    batch_size: int = 4,
    execution: Execution = SMALL_BLOCKS,
    on_pass: Callable[[Pass], None] | None = None,
) -> Projected:
    """Determine parameters in which the energy is not linear together with those in which it is.

    Args:
        params: where the search starts; in double precision.
        vary: names of the parameters that are not linear, patterns as in `Trainable.of`.
        weights, strength, energies, fit_energies: as for `fit_linear` with solver "ridge".
        passes: over the data, one for each step tried; the first two only find coefficients and derivatives.
        damping: first, of steps in units of the columns of J; changes with the success of the steps.
        on_pass: called with every `Pass`.

    Raises:
        ValueError: names that stand for nothing or for linear parameters, no labels.
    """
    check(potential)
    c0, _, part = split_linear(potential, params, fit_energies)
    theta0, put = _chosen(potential, params, vary, part)
    kinds = tuple(k for k, w in weights.items() if w > 0)
    loader = loader_of(structures, potential, batch_size, dtype=c0.dtype, energies=energies)
    loader.kinds = kinds = tuple(k for k in kinds if k in loader.kinds)
    if not kinds:
        raise ValueError(f"the data have no labels of {', '.join(weights)}.")
    work = jax.jit(_rows_of(loader.ready, put, part, fit_energies, kinds, execution))
    p, q = len(c0), len(theta0)

    def factor(theta: np.ndarray, c: np.ndarray) -> TallQR:
        parts = {kind: no_rows(p + q) for kind in kinds}
        for batch in loader.epoch():
            constant, columns = jax.device_get(work(jnp.asarray(theta), jnp.asarray(c), batch))
            rows = label_rows(jax.device_get(batch), constant, columns, kinds)
            for kind in kinds:
                found = getattr(rows, kind)
                if found is not None:
                    parts[kind] = add_rows(parts[kind], *found)
        used = [kind for kind in kinds if parts[kind].rows]
        return combine([parts[k] for k in used], [weights[k] ** 0.5 for k in used])

    theta, c = np.asarray(theta0, float), np.zeros(p)
    best: tuple | None = None
    history: list[Pass] = []
    for k in range(passes):
        qr = factor(theta, c)
        coefficients, cost = _solve(qr, p, strength, None)
        accepted = best is None or cost < best[2] or k == 1
        if accepted:
            best = (theta, coefficients, cost, qr)
            damping = damping if k < 2 else damping / 5
        else:
            damping *= 4
        history.append(Pass(cost, damping, accepted))
        if on_pass is not None:
            on_pass(history[-1])
        assert best is not None
        if k == 0:
            c = coefficients  # J was that of no coefficients at all
            continue
        step, _ = _solve(best[3], p, strength, damping)
        theta, c = best[0] + step[p:], step[:p]
    assert best is not None
    new = put(jnp.asarray(best[0]))
    return Projected(split_linear(potential, new, fit_energies)[1](jnp.asarray(best[1], c0.dtype)), history)


def _chosen(potential: Potential, params: Params, vary: tuple[str, ...], part):
    """The parameters to vary as a vector (q,), and the function that puts such a vector into `params`."""
    leaves, tree = jax.tree.flatten(params)
    labels = names(params)
    linear = {
        name
        for name, x in zip(
            names(jax.tree.map(lambda x: 0 if x is None else x, part, is_leaf=lambda x: x is None)),
            jax.tree.leaves(part, is_leaf=lambda x: x is None), strict=True,
        )
        if x is not None
    }  # fmt: skip
    chosen = [matches(name, vary) for name in labels]
    for pattern in vary:
        if not any(matches(name, (pattern,)) for name in labels):
            raise ValueError(f"vary: {pattern!r} stands for no parameter; there are {', '.join(labels)}.")
    wrong = [name for name, c in zip(labels, chosen, strict=True) if c and name in linear]
    if wrong:
        raise ValueError(f"vary: the energy is linear in {', '.join(wrong)}, which is fitted anyway.")
    flat, unravel = ravel_pytree([x for x, c in zip(leaves, chosen, strict=True) if c])

    def put(theta) -> Params:
        new = iter(unravel(theta))
        return jax.tree.unflatten(tree, [next(new) if c else x for x, c in zip(leaves, chosen, strict=True)])

    return flat, put


def _rows_of(potential: Potential, put, part, fit_energies: bool, kinds, execution: Execution) -> Callable:
    """theta, c, batch -> what is predicted without coefficients, and the columns [A J] (..., p + q)."""
    forces, virial = "forces" in kinds, "virial" in kinds
    flatten = flattened(part)

    def work(theta, c, batch: Batch):
        def predict(theta, c):
            params = split_linear(potential, put(theta), fit_energies)[1](c)
            out = plain(potential, params, batch, virial=virial, execution=execution)
            return out if forces else out._replace(forces=None)

        linear = potential.linear_functions(put(theta))
        if linear is not None:
            A = fast_columns(potential, linear, flatten, batch, forces=forces, virial=virial)
        else:
            A = one_by_one(lambda c: predict(theta, c), jnp.zeros_like(c))
        J = one_by_one(lambda theta: predict(theta, c), theta)
        return predict(theta, jnp.zeros_like(c)), jax.tree.map(lambda a, j: jnp.concatenate([a, j], axis=-1), A, J)

    return work


def _solve(qr: TallQR, p: int, strength: float, damping: float | None) -> tuple[np.ndarray, float]:
    """Coefficients and steps that minimise the problem of the module's text, and the cost; damping=None: without J."""
    n = qr.parameters
    scale = qr.norms / max(qr.rows, 1) ** 0.5
    scale[scale == 0] = 1.0
    used = np.arange(n if damping is not None else p)
    ridge = np.where(used < p, strength, (damping or 0.0) * qr.rows)
    rows = np.zeros((len(used), len(used) + 1))
    rows[:, :-1] = np.diag(np.sqrt(ridge) * scale[used])
    stacked = np.vstack([qr.R[:, [*used, n]], rows])
    R: np.ndarray = np.asarray(np.linalg.qr(stacked, mode="r"))
    k = len(used)
    solution = np.linalg.lstsq(R[:k, :k], R[:k, k], rcond=None)[0]
    return solution, float(R[k, k] ** 2)
