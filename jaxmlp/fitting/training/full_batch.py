"""Fits by L-BFGS with all data in every step: for potentials of few parameters, in double precision."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.loader import loader_of
from jaxmlp.fitting.batches.predictions import check
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.training.loss import Loss, errors
from jaxmlp.fitting.training.minimizers import lbfgs
from jaxmlp.fitting.training.train import Row, Trained
from jaxmlp.fitting.training.trainable import Trainable, dtype_of
from jaxmlp.potential import Params, Potential


def train_lbfgs(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    *,
    loss: Loss | None = None,
    steps: int = 500,
    batch_size: int = 16,
    trainable: Trainable | None = None,
    energies: np.ndarray | None = None,
    gtol: float = 1e-7,
    execution: Execution = DEFAULT,
    on_epoch: Callable[[Row], None] | None = None,
) -> Trained:
    """Minimise the loss over the whole training set by L-BFGS; arguments as for `train`.

    Parameters are scaled by their size at the start (the root mean square of every array), so that those of different
    units move alike.

    Args:
        steps: at most; each takes one or two passes over the data.
        gtol: ends where no component of the gradient, by scaled parameters, is larger.

    Raises:
        ValueError: weights that depend on the step, a loss that is not finite at the start.
    """
    loss = Loss() if loss is None else loss
    if any(callable(w) for w in (*loss.weights.values(), loss.smooth)) or loss.noise:
        raise ValueError(
            "lbfgs minimises one function: weights that depend on the step, or are learned, are not possible."
        )
    params = jax.tree.map(jnp.asarray, params)
    chosen = Trainable.of(potential, params) if trainable is None else trainable
    dtype = dtype_of(params)
    data = loader_of(structures, potential, batch_size, dtype=dtype, energies=energies)
    kinds = loss.kinds(data.kinds)
    check(potential, kinds + ("energy",) * loss.smooths)
    data.choose(kinds)
    potential = data.ready
    batches = list(data.epoch())  # held on the device: every step sees all of them
    totals = {k: sum(_total(k, b, loss) for b in batches) for k in (*kinds, *["smooth"] * loss.smooths)}
    start = chosen.start(jax.random.key(0))
    size = [jax.tree.map(lambda x: jnp.sqrt(jnp.mean(jnp.square(x))) + 1e-12, x) for x in start]
    size = [jax.tree.map(lambda s: jnp.where(s > 1e-8, s, 1.0), x) for x in size]
    unscaled = lambda theta: [jax.tree.map(jnp.multiply, t, s) for t, s in zip(theta, size, strict=True)]

    @jax.jit
    def part(theta, batch):
        def value(theta):
            found = errors(loss, potential, chosen.params(unscaled(theta)), batch, kinds, execution=execution)
            means = {k: jnp.sum(x) / totals[k] for k, (x, _) in found.items()}
            return loss.total(means, jnp.zeros((), jnp.int32), {}), means

        return jax.value_and_grad(value, has_aux=True)(theta)

    penalty = jax.jit(jax.value_and_grad(lambda theta: jnp.asarray(loss.penalty(unscaled(theta)), dtype)))
    seen: dict[str, float] = {}

    def value_and_grad(theta):
        total, gradient = penalty(theta)
        means = dict.fromkeys(totals, 0.0)
        for batch in batches:
            (v, m), g = part(theta, batch)
            total, gradient = total + v, jax.tree.map(jnp.add, gradient, g)
            means = {k: means[k] + m[k] for k in totals}
        seen.update({k: float(x) for k, x in means.items()})
        return total, gradient

    history: list[Row] = []

    def after(theta, step):
        row: Row = {"epoch": len(history) + 1, "step": len(history) + 1, "loss": float(step.cost)}
        row |= {f"train_{k}": x**0.5 if loss.error == "mse" else x for k, x in seen.items() if k in kinds}
        if loss.smooths:
            row["curvature"] = seen["smooth"] ** 0.5
        history.append(row)
        if on_epoch is not None:
            on_epoch(row)

    theta = [jax.tree.map(jnp.divide, t, s) for t, s in zip(start, size, strict=True)]
    found = lbfgs(value_and_grad, theta, gtol=gtol, max_steps=steps, callback=after)
    best = chosen.params(unscaled(found.theta))
    return Trained(best, history, len(history), best, len(data.shapes))


def _total(kind: str, batch, loss: Loss) -> float:
    """The sum of weights that the mean error of a kind is divided by."""
    if kind == "smooth":
        return float(np.sum(np.asarray(batch.counts)[np.asarray(batch.ids) >= 0]))
    w = np.asarray(batch.weights[kind])
    return float(np.sum(w * np.asarray(batch.counts) if kind in ("forces", "hessian", "charges") and loss.atoms else w))
