"""Gradient training: epochs over a data set, validation, the best parameters, checkpoints that resume exactly."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import Loader, loader_of
from jaxmlp.fitting.batches.predictions import check
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.training.checkpoints import Checkpoints
from jaxmlp.fitting.training.loss import Loss
from jaxmlp.fitting.training.step import State, StepInfo, Training, batch_errors
from jaxmlp.fitting.training.trainable import Trainable, dtype_of
from jaxmlp.potential import Params, Potential

Row = dict[str, float]


class TrainingFailed(RuntimeError):
    """The loss or its gradient is not finite; the message says in which structures, or what else to look at."""


class Trained(NamedTuple):
    """What training gives.

    Args:
        params: of the epoch with the smallest validation loss, of members along a first axis if there are several.
        history: one row an epoch: epoch, step, loss, errors by kind of training and validation, seconds.
        best: the number of that epoch.
        last: the parameters after the last epoch.
        compilations: of the training step; one for each shape of batch.
    """

    params: Params
    history: list[Row]
    best: int
    last: Params
    compilations: int


@dataclass
class _Run:
    """What changes from epoch to epoch beside the state; kept in checkpoints."""

    epoch: int = 0
    best: int = 0
    best_loss: float = float("inf")
    history: list[Row] = field(default_factory=list)


def train(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure] | Loader,
    validation: Sequence[Structure] = (),
    *,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | float = 1e-3,
    epochs: int = 100,
    batch_size: int = 8,
    seed: int = 0,
    ema: float = 0.0,
    patience: int | None = None,
    trainable: Trainable | None = None,
    energies: np.ndarray | None = None,
    members: int = 1,
    bootstrap: bool = False,
    starts: Callable[[Array], Params] | None = None,
    devices: int = 1,
    execution: Execution = DEFAULT,
    checkpoint: str | PathLike | None = None,
    checkpoint_every: int = 10,
    on_epoch: Callable[[Row], None] | None = None,
) -> Trained:
    """Fit the parameters of a potential to labelled structures by gradients, in the precision of `params`.

    Args:
        params: starting parameters.
        structures, validation: the training set, and what decides which epoch was best, by the loss with the weights
            at the end of training; without a validation set the training set does. A `StructureStore` as training set
            stays on disk; a `Loader` in its place has its own batch size and energies.
        loss: what is made small; None takes `Loss()`.
        optimizer: any optax chain, or the learning rate of Adam.
        epochs, batch_size: of the training.
        seed: of the order of the structures, and of low-rank updates.
        ema: decay of a moving average of the parameters, which is then what is validated and returned.
        patience: epochs without a better validation loss after which training stops; None never.
        trainable: which parameters change; None takes all that are no constants of the family.
        energies: (S,) eV of atoms, subtracted from the data: `params` then are those of the rest, and the caller adds
            them (`Potential.shifted`).
        members: of a committee, trained side by side under `vmap`.
        bootstrap: each member sees its own draw, with replacement, of the training set.
        starts: parameters of a member from a key; None starts all from `params`, which then differ by their draws only.
        devices: over which batches are sharded; each step takes `devices` batches.
        checkpoint: folder; if it holds a run of the same shape, training goes on where that stopped.
        checkpoint_every: epochs between checkpoints; the last epoch and the best are always kept.
        on_epoch: called with the row of every epoch.

    Raises:
        TrainingFailed: something is not finite.
        ValueError: options that make no sense, labels that the loss needs and the data lack, another run's checkpoint.
    """
    check(potential, ())
    if epochs < 1 or members < 1 or checkpoint_every < 1:
        raise ValueError(f"epochs, members and checkpoint_every are positive; got {epochs}, {members}.")
    loss = Loss() if loss is None else loss
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optax.adam(float(optimizer))
    params = jax.tree.map(jnp.asarray, params)
    options: dict[str, Any] = {"dtype": dtype_of(params), "energies": energies}
    data = structures if isinstance(structures, Loader) else loader_of(structures, potential, batch_size, **options)
    kinds = loss.kinds(data.kinds)
    check(potential, kinds + ("energy",) * loss.smooths)
    data.choose(kinds)
    potential = data.ready
    held = Loader(validation, potential, batch_size, **options) if len(validation) else None
    if held is not None:
        held.choose(kinds)
        potential = held.ready
    training = Training(
        potential, Trainable.of(potential, params) if trainable is None else trainable, loss,
        optax.with_extra_args_support(optimizer), kinds, ema, execution,
    )  # fmt: skip
    driver = _Driver(training, data, held, starts, members, bootstrap, devices, seed)
    run = _Run()
    state = driver.start()
    best = driver.params(state)
    driver.tabulate(best)
    store = None if checkpoint is None else Checkpoints(checkpoint)
    if store is not None:
        found = store.restore({"state": state, "best": best})
        if found is not None:
            arrays, info = found
            state, best = arrays["state"], arrays["best"]
            run = _Run(**info)
            driver.tabulate(driver.params(state))
    stale = lambda: patience is not None and run.epoch - run.best > patience
    while run.epoch < epochs and not stale():
        begin = time.perf_counter()
        state, row = driver.epoch(state, run.epoch)
        run.epoch += 1
        now = driver.params(state)
        row |= driver.validate(now)
        driver.tabulate(now)
        judged = row["validation_loss"] if held is not None else driver.judged(row)
        if judged < run.best_loss:
            run.best, run.best_loss, best = run.epoch, judged, now
        row = {"epoch": run.epoch, **row, "seconds": time.perf_counter() - begin}
        run.history.append(row)
        if on_epoch is not None:
            on_epoch(row)
        if store is not None and (run.epoch % checkpoint_every == 0 or run.epoch == epochs or stale()):
            store.save(run.epoch, {"state": state, "best": best}, vars(run))
    return Trained(best, run.history, run.best, driver.params(state), driver.compilations)


class _Driver:
    """Compiled steps, and how members and devices are laid out."""

    def __init__(self, training: Training, data, held, starts, members, bootstrap, devices, seed):
        self.training, self.data, self.held = training, data, held
        self.starts = starts
        self.closest = min(loader.closest for loader in (data, held) if loader is not None)
        self.members, self.devices, self.seed = members, devices, seed
        if not 1 <= devices <= jax.device_count():
            raise ValueError(f"devices={devices}, but this process has {jax.device_count()}.")
        self.sharding = None
        if devices > 1:
            mesh = Mesh(np.array(jax.devices()[:devices]), ("batches",))
            self.sharding = NamedSharding(mesh, PartitionSpec("batches"))
            self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.counts = None
        if bootstrap:
            draws = np.random.default_rng(seed).integers(len(data), size=(members, len(data)))
            counts = np.stack([np.bincount(d, minlength=len(data) + 1) for d in draws])
            self.counts = jnp.asarray(counts if members > 1 else counts[0])
        self.compilations = 0
        self._compile()
        # The weights at the end decide which epoch was best, whatever they are until then.
        with jax.numpy_dtype_promotion("standard"):
            end = {k: w(jnp.asarray(10**9)) if callable(w) else w for k, w in training.loss.weights.items()}
        self.weights = {k: float(w) for k, w in end.items()}

    def _compile(self) -> None:
        step, errors = self.training.step, self._errors
        if self.members > 1:
            axes = (0, None) if self.counts is None else (0, None, 0)
            step, errors = jax.vmap(step, axes), jax.vmap(errors, (0, None))

        def traced(*arguments):
            self.compilations += 1  # Python runs once for each compilation
            return step(*arguments)

        self.step = jax.jit(traced, donate_argnums=0)
        self.errors = jax.jit(errors)

    def tabulate(self, params: Params) -> None:
        """Compile for a potential whose networks of distances are series, and again when they no longer do."""
        several = range(self.members) if self.members > 1 else ()
        members = [jax.tree.map(lambda x, k=k: x[k], params) for k in several] or [params]
        potential = self.training.potential.tabulated(members, self.closest)
        if potential != self.training.potential:
            self.training = replace(self.training, potential=potential)
            self._compile()

    def start(self) -> State:
        dtype = self.data.dtype
        key = jax.random.key(self.seed)
        if self.members == 1:
            state = self.training.start(key, dtype)
        else:
            keys = jax.random.split(key, self.members)

            def one(key):
                trained = self.training.start(key, dtype)
                if self.starts is None:
                    return trained
                own = self.starts(key)
                chosen = [x for x, c in zip(jax.tree.leaves(own), self.training.trainable.chosen) if c]
                average = [jnp.copy(x) for x in chosen] if self.training.ema else None  # a buffer is donated once
                return trained._replace(trained=chosen, average=average)

            if self.starts is not None and any(self.training.trainable.low_rank):
                raise ValueError("members of their own start cannot be trained by updates of low rank.")
            state = jax.vmap(one)(keys)
        return state if self.sharding is None else jax.device_put(state, self.everywhere)

    def params(self, state: State) -> Params:
        of = self.training.params
        out = of(state) if self.members == 1 else jax.vmap(of)(state)
        return jax.tree.map(lambda x: jnp.array(x, copy=True), out)  # the state's buffers are donated to the next step

    def batches(self, loader: Loader, seed) -> Iterator[tuple[Batch, list[np.ndarray]]]:
        """Groups of as many batches of one shape as there are devices, with the structures in each."""
        waiting: dict[int, list] = {}
        plan = loader.plan(seed)
        groups = []
        for bucket, chosen in plan:
            group = waiting.setdefault(bucket, [])
            group.append(chosen)
            if len(group) == self.devices:
                groups.append((bucket, waiting.pop(bucket)))
        groups += list(waiting.items())
        for bucket, group in groups:
            filled = group + [np.array([], int)] * (self.devices - len(group))
            made = [loader.batch(bucket, chosen) for chosen in filled]
            batch = jax.tree.map(lambda *x: np.stack(x), *made)
            yield jax.device_put(batch, self.sharding), filled

    def epoch(self, state: State, number: int) -> tuple[State, Row]:
        """One epoch; the row has its mean loss and errors."""
        infos: list[StepInfo] = []
        chosen: list[list[np.ndarray]] = []
        for batch, members in self.batches(self.data, (self.seed, number)):
            arguments = (state, batch) if self.counts is None else (state, batch, self.counts)
            state, info = self.step(*arguments)
            infos.append(info)
            chosen.append(members)
        infos = jax.device_get(infos)
        self._look(infos, chosen)
        row: Row = {"step": int(np.ravel(jax.device_get(state.step))[0])}
        row["loss"] = float(np.mean([i.loss for i in infos]))
        row["gradient"] = float(np.mean([i.gradient for i in infos]))
        for kind in self.training.kinds:
            mean = float(np.mean([i.means[kind] for i in infos]))
            row[f"train_{kind}"] = mean**0.5 if self.training.loss.error == "mse" else mean
        if self.training.loss.smooths:
            row["curvature"] = float(np.mean([i.means["smooth"] for i in infos])) ** 0.5  # eV/Å^2
        return state, row

    def _look(self, infos: list[StepInfo], chosen) -> None:
        """Find the first step that was not finite, and say why."""
        for k, (info, groups) in enumerate(zip(infos, chosen, strict=True)):
            if np.isfinite(info.loss).all() and np.isfinite(info.gradient).all():
                continue
            finite = info.finite if self.members == 1 else info.finite.all(axis=0)
            bad = [self.data.structures[i] for f, group in zip(finite, groups) for i, ok in zip(group, f) if not ok]
            if bad and not all(len(bad) == sum(map(len, groups)) and np.isnan(i.loss).all() for i in infos[: k + 1]):
                where = "; ".join(s.name for s in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
                raise TrainingFailed(
                    f"step {k + 1} of this epoch: the errors of {len(bad)} structures are not finite: {where}. Look at "
                    "their labels and positions (`jaxmlp fit --check`); if all structures are named, the parameters "
                    "diverged: lower the learning rate or clip the gradient."
                )
            raise TrainingFailed(
                f"step {k + 1} of this epoch: the loss is {np.mean(info.loss):.3g}, its gradient "
                f"{np.mean(info.gradient):.3g}: the training diverged. Lower the learning rate, or clip the gradient "
                "(optax.clip_by_global_norm)."
            )

    def _errors(self, params, batch: Batch):
        one = jax.tree.map(lambda x: x[0], batch)
        kinds = () if self.held is None else self.held.kinds
        training = self.training
        return batch_errors(training.loss, training.potential, params, one, kinds, training.execution)

    def judged(self, row: Row) -> float:
        """The loss of training with the weights at the end."""
        power = 2 if self.training.loss.error == "mse" else 1
        return sum(self.weights[k] * row[f"train_{k}"] ** power for k in self.training.kinds)

    def validate(self, params: Params) -> Row:
        """RMSE and MAE by kind of the validation set, mean over members, and its loss."""
        if self.held is None:
            return {}
        devices, self.devices = self.devices, 1
        sharding, self.sharding = self.sharding, None
        total: dict[str, np.ndarray] = {}
        for batch, _ in self.batches(self.held, None):
            for kind, (*sums, number, there) in jax.device_get(self.errors(params, batch)).items():
                members = 1 if self.members == 1 else self.members
                found = [np.sum(there * x, dtype=float) / members for x in (*sums, number)]
                total[kind] = total.get(kind, np.zeros(4)) + found
        self.devices, self.sharding = devices, sharding
        row: Row = {}
        value = 0.0
        for kind, (absolute, square, measure, number) in total.items():
            if number:
                row[f"mae_{kind}"], row[f"rmse_{kind}"] = absolute / number, (square / number) ** 0.5
                value += self.weights[kind] * measure / number
        return row | {"validation_loss": value}
