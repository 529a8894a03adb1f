"""Training without gradients: the separable natural evolution strategy of neuroevolution potentials."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.batch import kinds_of
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.batches.predictions import check
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.snes.snes_loss import Fit, Problem, Stacks, without_bias
from jaxmlp.fitting.training.checkpoints import Checkpoints
from jaxmlp.fitting.training.train import Row, TrainingFailed
from jaxmlp.fitting.training.trainable import Trainable
from jaxmlp.potential import Params, Potential

# Atoms in a batch and individuals worked on together. CPU: their edge gradients should stay in the cache (PbTe, 76
# slots, float32, CPU time of an individual and atom: 6.5 us at 500 atoms, 7.5 us at 6000). What depends on positions
# alone is computed once for all individuals: 5 at once take 0.8 of the time of one by one, 10 no less. The numbers of
# an accelerator are guesses.
ON_CPU, ON_ACCELERATOR = (512, 5), (32768, 16)


class Evolved(NamedTuple):
    """What an evolution gives.

    Args:
        params: the best found: of all elites and means that a row of the history was written for, that with the
            smallest validation loss, or loss of training where there is no validation set.
        history: rows: epoch (the generation), loss, l1, l2 (its parts) and errors (RMSE) of the elite, the best
            individual of that generation, for the whole training set (train_*) and for validation (rmse_*); mean_loss
            of the distribution's mean; sigma, the mean standard deviation; evaluations so far; seconds since the last.
        best: the generation of `params`.
        last: the mean of the distribution after the last generation.
        sigma: (D,) its standard deviations, in the order of `ravel_pytree` of what `Trainable.start` returns.
        evaluations: how often energy and forces of a structure were computed for an individual.
    """

    params: Params
    history: list[Row]
    best: int
    last: Params
    sigma: Array
    evaluations: int


class Search(NamedTuple):
    """Normal distribution of D parameters, mean (D,) and standard deviations sigma (D,)."""

    mean: Array
    sigma: Array


def utilities(population: int, dtype=float) -> Array:
    """Return what individuals count by their rank, (P,), the best first; they add up to zero.

    u_k = max(0, ln(P/2 + 1) - ln k) / sum_j max(0, ln(P/2 + 1) - ln j) - 1/P, k = 1 ... P: Wierstra et al., J. Mach.
    Learn. Res. 15, 949 (2014), Sec. 3.1.
    """
    k = jnp.arange(1, population + 1, dtype=dtype)
    u = jnp.maximum(jnp.log(jnp.asarray(population / 2 + 1, dtype)) - jnp.log(k), 0)
    return u / jnp.sum(u) - 1 / population


def evolved(search: Search, s: Array, losses: Array) -> Search:
    """Return the distribution after a generation of individuals mean + sigma s, s (P, D) normal, with losses (P,).

        mean <- mean + eta_m sigma sum_k u_k s_k,   sigma <- sigma exp(eta_s sum_k u_k (s_k^2 - 1)),

    eta_m = 1, eta_s = (3 + ln D) / (10 sqrt D): Schaul, Glasmachers, Schmidhuber, GECCO 2011, p. 845; Algorithm 6 and
    Table 1 of Wierstra et al. 2014, where the 1/2 stands in the exponent; what Fan et al., PRB 104, 104309 (2021) and
    GPUMD take. A loss that is not a number ranks last.
    """
    d = s.shape[1]
    u = utilities(len(losses), s.dtype)[:, None]
    s = s[jnp.argsort(losses)]
    rate = float((3 + np.log(d)) / (10 * np.sqrt(d)))  # not an array, which would widen single precision
    return Search(
        search.mean + search.sigma * jnp.sum(u * s, axis=0),
        search.sigma * jnp.exp(rate * jnp.sum(u * (s * s - 1), axis=0)),
    )


def train_snes(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    validation: Sequence[Structure] = (),
    *,
    generations: int = 10000,
    population: int = 50,
    sigma0: float | None = None,
    batch_size: int | None = None,
    lambda_e: float = 1.0,
    lambda_f: float = 1.0,
    lambda_v: float = 0.1,
    lambda_1: float | None = None,
    lambda_2: float | None = None,
    seed: int = 0,
    trainable: Trainable | None = None,
    bias: str | None = None,
    energies: np.ndarray | None = None,
    every: int = 10,
    devices: int = 1,
    execution: Execution = DEFAULT,
    checkpoint: str | PathLike | None = None,
    checkpoint_every: int = 100,
    on_generation: Callable[[Row], None] | None = None,
) -> Evolved:
    """Fit the parameters z (D,) of a potential by evolution, in the precision of `params`: only energies and forces of
    many individuals are computed, no derivative by parameters.

        L(z) = lambda_e RMSE(E / n) + lambda_f RMSE(F) + lambda_v RMSE(W / n)
             + lambda_1 mean |z| + lambda_2 (mean z^2)^(1/2)

    over structures, components of forces, and the six components of symmetric virials, in eV and Å; structures count by
    their weights. This is the loss of GPUMD's manual, chapter "Neuroevolution potential", section "Optimization
    procedure"; so are the defaults, sqrt(D) / 1000 for lambda_1 and lambda_2 (GPUMD pull request 541).

    Args:
        params: starting mean of the distribution.
        structures, validation: the training set, and what decides which individual is the best.
        population: individuals of a generation, P.
        sigma0: starting standard deviation of every parameter; None: a tenth of the root mean square of the array of
            the smallest parameters, which for a new NEP is 0.01. GPUMD, whose parameters are larger, takes 0.1: on its
            PbTe example errors of forces here stay at 140 meV/Å then, where 0.01 has 90 after 1200 generations.
        batch_size: structures of a generation, in batches drawn once that take turns (GPUMD's mini-batches); None takes
            all at once.
        trainable: which parameters change; None takes all that are no constants of the family.
        bias: name of a scalar among the parameters that adds the same energy to every atom (NEP: "b1"). It does not
            evolve, and is not penalised: each individual gets the value that is best for the energies of the structures
            it sees, so that RMSE(E / n) is a standard deviation; `params` and `last` get that for the whole training
            set. None: no parameter is special.
        energies: (S,) eV of atoms, subtracted from the data, as in `train`.
        every: generations between rows of the history, and between looks at the validation set; all these run in
            one compiled loop.
        devices: over which the individuals are spread.
        checkpoint: folder; if it holds a run of the same shape, the evolution goes on where that stopped.
        checkpoint_every: generations between checkpoints, a multiple of `every`.
        on_generation: called with every row.

    Raises:
        TrainingFailed: no individual has a finite loss.
        ValueError: options that make no sense, no labels that count, another run's checkpoint.
    """
    check(potential)
    potential = potential.for_boxes([s.system.box for s in (*structures, *validation)])
    _check_options(generations, population, sigma0, every, devices, checkpoint_every)
    weights = {"energy": lambda_e, "forces": lambda_f, "virial": lambda_v}
    kinds = tuple(k for k in kinds_of(structures) if weights.get(k, 0) > 0)
    params = jax.tree.map(jnp.asarray, params)
    trainable = Trainable.of(potential, params) if trainable is None else trainable
    if bias is not None:
        trainable = without_bias(trainable, bias)
    z, unravel = ravel_pytree(trainable.start(jax.random.key(seed)))
    strength = [len(z) ** 0.5 / 1000 if x is None else x for x in (lambda_1, lambda_2)]
    if not min(*weights.values(), *strength) >= 0:
        raise ValueError(f"the weights of a loss must not be negative; got {weights}, {strength}.")
    weights = {k: weights[k] for k in kinds}
    problem = Problem(potential, trainable, unravel, weights, strength[0], strength[1], bias, execution)
    load = partial(_loaded, potential, kinds, z.dtype, energies, batch_size)
    data, held = load(structures, None if batch_size is None else seed), load(validation, None)
    if data is None:
        raise ValueError("the training set has no energies, forces or virials whose weight is positive.")
    slope = problem.slope(jax.tree.map(lambda x: x[0], data.stacks[0])) if bias is not None else 0.0
    step = jax.jit(partial(_generations, problem, batch_size is not None, population, devices, seed))
    judge = jax.jit(partial(_judged, problem))
    sigma0 = _first_sigma(unravel(z)) if sigma0 is None else sigma0
    state = _State(Search(z, jnp.full_like(z, sigma0)), z)
    run, best = _Run(), (z, jnp.zeros((), z.dtype))
    store = None if checkpoint is None else Checkpoints(checkpoint)
    if store is not None and (found_run := store.restore({"state": state, "best": best})) is not None:
        state, best, run = found_run[0]["state"], found_run[0]["best"], _Run(**found_run[1])
    while run.epoch < generations:
        begin = time.perf_counter()
        last = min(generations, (run.epoch // every + 1) * every)
        state = step(state, run.epoch, last, data)
        run.evaluations += population * data.structures(run.epoch, last)
        run.epoch = last
        both = jnp.stack([state.elite, state.search.mean])
        fit, fit_held = jax.device_get(judge(both, data, held))
        row, values = _row(fit, fit_held, weights)
        if not (np.isfinite(row["loss"]) and np.isfinite(values).any()):
            raise TrainingFailed(
                f"generation {last}: the best individual has the losses {row['loss']} (training) and {values[0]} "
                "(what it is judged by). Look at labels and positions (`jaxmlp fit --check`), or start with a smaller "
                "sigma0."
            )
        k = int(np.nanargmin(values))
        if values[k] < run.best_loss:
            run.best, run.best_loss, best = last, float(values[k]), (both[k], jnp.asarray(fit.shift[k]))
        row = {"epoch": last, **row, "sigma": float(jnp.mean(state.search.sigma)), "evaluations": run.evaluations}
        row["seconds"] = time.perf_counter() - begin
        run.history.append(row)
        if on_generation is not None:
            on_generation(row)
        if store is not None and (last % checkpoint_every == 0 or last == generations):
            store.save(last, {"state": state, "best": best}, vars(run))
    fit, _ = judge(jnp.stack([state.elite, state.search.mean]), data, held)
    mean = problem.finished(state.search.mean, fit.shift[1], slope)
    return Evolved(problem.finished(*best, slope), run.history, run.best, mean, state.search.sigma, run.evaluations)


def _first_sigma(tree) -> float:
    """A tenth of the root mean square of the smallest parameters: what moves larger ones little would drown these."""
    sizes = [float(jnp.sqrt(jnp.mean(x * x))) for x in jax.tree.leaves(tree)]
    return 0.1 * min((x for x in sizes if x > 0), default=1.0)


def _check_options(generations, population, sigma0, every, devices, checkpoint_every) -> None:
    if generations < 1 or every < 1 or population < 2 or not (sigma0 is None or sigma0 > 0):
        raise ValueError(
            "generations, every and sigma0 are positive, and a population is of two or more; got "
            f"{generations}, {every}, {sigma0} and {population}."
        )
    if checkpoint_every < 1 or checkpoint_every % every:
        raise ValueError(f"checkpoint_every must be a multiple of every = {every}; got {checkpoint_every}.")
    if not 1 <= devices <= jax.device_count() or population % devices:
        raise ValueError(
            f"devices={devices} must divide the population of {population}, and this process has {jax.device_count()}."
        )


def _loaded(potential, kinds, dtype, energies, batch_size, structures, seed: int | None) -> Stacks | None:
    """A data set on the device, with those of the kinds that it has; None where it has none."""
    kinds = tuple(k for k in kinds if k in kinds_of(structures))
    if not kinds:
        return None
    if batch_size is None:
        atoms = (ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR)[0]
        batch_size = max(1, round(atoms * len(structures) / sum(map(len, structures))))
    return Stacks.of(Loader(structures, potential, batch_size, dtype=dtype, energies=energies, kinds=kinds), seed)


def _row(fit: Fit, held: Fit | None, weights) -> tuple[Row, np.ndarray]:
    """The part of a row that comes from errors of elite and mean (2,), and what these two are judged by."""
    row: Row = {"loss": float(fit.loss[0]), "mean_loss": float(fit.loss[1])}
    row |= {"l1": float(fit.l1[0]), "l2": float(fit.l2[0])}
    row |= {f"train_{k}": float(x[0]) for k, x in fit.rmse.items()}
    if held is None:
        return row, np.asarray(fit.loss)
    row |= {f"rmse_{k}": float(x[0]) for k, x in held.rmse.items()}
    values = np.sum([weights[k] * x for k, x in held.rmse.items()], axis=0)
    return row | {"validation_loss": float(values[0])}, values


@dataclass
class _Run:
    """What changes beside the state; kept in checkpoints."""

    epoch: int = 0
    best: int = 0
    best_loss: float = float("inf")
    evaluations: int = 0
    history: list[Row] = field(default_factory=list)


class _State(NamedTuple):
    """The distribution, and the best individual (D,) of the last generation."""

    search: Search
    elite: Array


def _judged(problem: Problem, z: Array, data: Stacks, held: Stacks | None) -> tuple[Fit, Fit | None]:
    """Errors of individuals (K, D) for all of the training set and, with the same bias, of the validation set."""
    fit = lax.map(lambda x: problem.fit(x, data.stacks), z)
    if held is None:
        return fit, None
    return fit, lax.map(lambda x: problem.fit(x[0], held.stacks, x[1]), (z, fit.shift))


def _generations(problem: Problem, mini: bool, population, devices, seed, state: _State, first, last, data: Stacks):
    """Return the state after generations first ... last - 1.

    The key of a generation depends on its number only: however the loop is cut, the evolution is the same.
    """
    together = (ON_CPU if jax.default_backend() == "cpu" else ON_ACCELERATOR)[1]
    share = population // devices
    together = max(k for k in range(1, together + 1) if share % k == 0)

    def losses(z, g, data):
        def of(stacks):
            return lax.map(lambda x: problem.fit(x, stacks).loss, z, batch_size=together)

        if not mini:
            return of(data.stacks)
        k = g % len(data.sizes)
        pick = lambda stack: jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, data.place[k], 1), stack)
        return lax.switch(data.bucket[k], [lambda stack=stack: of([pick(stack)]) for stack in data.stacks])

    if devices > 1:
        each, all_ = PartitionSpec("individuals"), PartitionSpec()
        mesh = Mesh(np.array(jax.devices()[:devices]), ("individuals",))
        losses = jax.shard_map(losses, mesh=mesh, in_specs=(each, all_, all_), out_specs=each, check_vma=False)

    def one(g, state: _State) -> _State:
        search = state.search
        key = jax.random.fold_in(jax.random.key(seed), g)
        s = jax.random.normal(key, (population, len(search.mean)), search.mean.dtype)
        z = search.mean + search.sigma * s
        L = losses(z, g, data)
        return _State(evolved(search, s, L), z[jnp.argsort(L)[0]])

    return lax.fori_loop(first, last, one, state)
