"""One step of gradient training, and the errors of a batch: pure functions, compiled once for each shape of batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.batch import PER_ATOM, Batch
from jaxmlp.fitting.batches.predictions import by_structure, predict_kinds
from jaxmlp.fitting.training.loss import Loss, errors
from jaxmlp.fitting.training.trainable import Trainable
from jaxmlp.potential import Params, Potential


class State(NamedTuple):
    """All that training changes.

    Args:
        trained: what `Trainable.start` returns, as it changes.
        scales: log sigma by kind, see `Loss.noise`.
        optimizer: optax' state.
        average: exponential moving average of `trained`, or None.
        step: steps made.
    """

    trained: Any
    scales: dict[str, Array]
    optimizer: Any
    average: Any
    step: Array


class StepInfo(NamedTuple):
    """What a step found, before it changed anything: loss, mean error by kind, and where it is finite, (B,)."""

    loss: Array
    means: dict[str, Array]
    finite: Array
    gradient: Array


@dataclass(frozen=True)
class Training:
    """What is fixed during training.

    Args:
        ema: decay of the moving average of the parameters; 0 keeps none.
        kinds: of labels that count.
    """

    potential: Potential
    trainable: Trainable
    loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    kinds: tuple[str, ...]
    ema: float = 0.0
    execution: Execution = DEFAULT

    def start(self, key: Array, dtype) -> State:
        """The state before the first step."""
        # Copies: buffers of a state are donated, none may be donated twice, and the caller's parameters stay.
        copied = lambda tree: jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
        trained = copied(self.trainable.start(key))
        scales = self.loss.scales(self.kinds, dtype)
        optimizer = self.optimizer.init((trained, scales))
        average = copied(trained) if self.ema else None
        return State(trained, scales, optimizer, average, jnp.zeros((), jnp.int32))

    def params(self, state: State) -> Params:
        """The parameters of a state: their moving average, if there is one."""
        return self.trainable.params(state.trained if state.average is None else state.average)

    def sums(self, params: Params, batch: Batch, step: Array) -> dict[str, tuple[Array, Array]]:
        """Errors and weights of the structures by kind, (devices, B)."""
        of = lambda b: errors(self.loss, self.potential, params, b, self.kinds, step=step, execution=self.execution)
        return over_devices(of, batch)

    def step(self, state: State, batch: Batch, counts: Array | None = None) -> tuple[State, StepInfo]:
        """Return the state after one step on a batch with a leading axis of devices.

        Args:
            counts: (structures + 1,) how often each structure of the data set counts, for members of a committee that
                see bootstraps of it; the last is not used. None: once.
        """
        if counts is not None:
            weights = jax.tree.map(lambda w: w * counts[batch.ids].astype(w.dtype), batch.weights)
            batch = replace(batch, weights=weights)

        def objective(changed):
            trained, scales = changed
            sums = self.sums(self.trainable.params(trained), batch, state.step)
            means = {k: jnp.sum(x) / jnp.maximum(jnp.sum(w), 1e-30) for k, (x, w) in sums.items()}
            total = self.loss.total(means, state.step, scales)
            penalty = jnp.asarray(self.loss.penalty(trained), total.dtype)
            finite = jnp.stack([jnp.isfinite(x) for x, _ in sums.values()]).all(axis=0)
            return total + penalty, (means, finite)

        changed = (state.trained, state.scales)
        (value, (means, finite)), gradient = jax.value_and_grad(objective, has_aux=True)(changed)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counts
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, changed, value=value)
            trained, scales = optax.apply_updates(changed, updates)
        average = state.average
        if self.ema:
            # The average of the first steps is short: the start is forgotten at once.
            t = state.step.astype(value.dtype)
            decay = jnp.minimum(self.ema, (1 + t) / (10 + t))
            average = jax.tree.map(lambda a, x: (decay * a + (1 - decay) * x).astype(x.dtype), average, trained)
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradient)))
        info = StepInfo(value, means, finite, norm)
        return State(trained, scales, optimizer, average, state.step + 1), info


def over_devices(function: Callable, batch: Batch):
    """Map a function of a batch over its leading axis of devices, which is sharded where it is longer than one."""
    if len(batch.R) == 1:
        one = jax.tree.map(lambda x: x[0], batch)
        return jax.tree.map(lambda x: x[None], function(one))
    return jax.vmap(function)(batch)


COMPONENTS = {"energy": 1, "forces": 3, "virial": 9, "dipole": 3, "charges": 1}


def batch_errors(
    loss: Loss,
    potential: Potential,
    params: Params,
    batch: Batch,
    kinds: tuple[str, ...],
    execution: Execution = DEFAULT,
) -> dict[str, tuple[Array, ...]]:
    """Return by kind, of a batch without axis of devices, sums over the components of the errors of each structure.

    Five arrays (B,): |d|, d^2, what the loss makes of d, the number of components, and 1 where there is a label.
    Energies, virials and dipoles are those of an atom; second derivatives are not looked at.
    """
    kinds = tuple(k for k in kinds if k in COMPONENTS)
    p = predict_kinds(potential, params, batch, kinds, execution)
    found = {}
    for kind in kinds:
        d = getattr(p, kind) - batch.labels[kind]
        each = kind in PER_ATOM
        if each:
            d = jnp.where(batch.real.reshape(-1, *[1] * (d.ndim - 1)), d, 0.0)
        else:
            d = d / batch.counts.reshape(-1, *[1] * (d.ndim - 1))
        total = lambda x, each=each: by_structure(_flat_sum(x), batch) if each else _flat_sum(x)
        number = COMPONENTS[kind] * (batch.counts if each else jnp.ones_like(batch.counts))
        there = (batch.weights[kind] > 0).astype(number.dtype)
        found[kind] = (*map(total, (jnp.abs(d), jnp.square(d), loss.measure(d))), number, there)
    return found


def _flat_sum(x: Array) -> Array:
    """Sums over all axes but the first."""
    return jnp.sum(x.reshape(len(x), -1), axis=1)
