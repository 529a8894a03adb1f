"""The methods of a fit by their names in a configuration: what each is given, and what it gives back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.combinators import Committee
from jaxmlp.fitting.batches.loader import loader_of
from jaxmlp.fitting.config import Config
from jaxmlp.fitting.data.splits import split
from jaxmlp.fitting.families import drawn
from jaxmlp.fitting.gap.gaussian_process import fit_gap
from jaxmlp.fitting.linear.fit import LinearResult, fit_linear
from jaxmlp.fitting.linear.projected import Pass, fit_projected
from jaxmlp.fitting.snes.snes import train_snes
from jaxmlp.fitting.training.full_batch import train_lbfgs
from jaxmlp.fitting.training.train import Row, train
from jaxmlp.fitting.training.trainable import Trainable, dtype_of
from jaxmlp.potential import Params
from jaxmlp.potentials.gap import GAP


def fitted_by(settings: Config, potential, params, sets, energies, output, on_epoch) -> tuple[Params, list[Row]]:
    """The fitted parameters, of members along a first axis if there are several, and the history."""
    trainable = Trainable.of(
        potential, params, train=settings.train, freeze=settings.freeze, low_rank=settings.low_rank, rank=settings.rank
    )
    structures = sets["train"]
    common: dict[str, Any] = {"energies": energies}
    run: dict[str, Any] = common | {"execution": settings.execution}
    if settings.method == "linear":
        refined = not isinstance(settings.data.energies, Mapping)  # those of isolated atoms stay what they are
        common["fit_energies"] = refined
        options = dict(settings.linear)
        params, history = _projected(settings, potential, params, structures, options, common, on_epoch)
        fitted = fit_linear(potential, params, structures, **common, **options)
        if settings.members == 1:
            return fitted.params, history
        return Committee.stack(draws(fitted, jax.random.key(settings.seed), settings.members)), history
    if settings.method == "lbfgs":
        loss = settings.build_loss(1)
        got = train_lbfgs(
            potential, params, structures, loss=loss, steps=settings.epochs, batch_size=settings.batch_size,
            trainable=trainable, on_epoch=on_epoch, **run,
        )  # fmt: skip
        return got.params, got.history
    if settings.method == "gpr":
        if not isinstance(potential, GAP):
            raise ValueError(f"method gpr fits a GAP; {type(potential).__name__} is none.")
        found = fit_gap(potential, params, structures, seed=settings.seed, **common, **settings.gpr).params
        return potential.shifted(found, -energies), []  # they are added to the potentials of all methods alike
    if settings.method == "snes":
        evolved = train_snes(
            potential, params, structures, sets.get("validation", ()), generations=settings.epochs, seed=settings.seed,
            trainable=trainable, devices=settings.devices, checkpoint=_checkpoints(output), on_generation=on_epoch,
            **run, **settings.snes,
        )  # fmt: skip
        return evolved.params, evolved.history
    starts = None
    if settings.members > 1 and "family" in settings.potential and not any(trainable.low_rank):
        dtype = jnp.dtype(settings.dtype)
        starts = lambda key: merged(trainable.chosen, drawn(potential, key, dtype), params)
    loader = loader_of(structures, potential, settings.batch_size, dtype=jnp.dtype(settings.dtype), **common)
    per_epoch = -(-len(loader.plan(None)) // settings.devices)
    got = train(
        potential, params, loader, sets.get("validation", ()), loss=settings.build_loss(per_epoch),
        optimizer=settings.build_optimizer(per_epoch), epochs=settings.epochs, batch_size=settings.batch_size,
        seed=settings.seed, ema=settings.ema, patience=settings.patience, trainable=trainable,
        members=settings.members, bootstrap=settings.bootstrap, starts=starts, devices=settings.devices,
        checkpoint=_checkpoints(output), checkpoint_every=settings.checkpoint_every,
        on_epoch=on_epoch, **run,
    )  # fmt: skip
    return got.params, got.history


def draws(fitted: LinearResult, key: Array, count: int) -> list[Params]:
    """Return parameters drawn from the posterior of a linear fit, moved so that their mean is the fit's own.

    Raises:
        ValueError: the covariance is not known: no degree of freedom was left to estimate the noise.
    """
    drawn = fitted.fit.sample(key, count)
    drawn += fitted.fit.coefficients - drawn.mean(axis=0)
    if not np.isfinite(drawn).all():
        raise ValueError("members: the data leave no degree of freedom, and the fit has no posterior to draw from.")
    dtype = dtype_of(fitted.params)
    return [fitted.coefficients(jnp.asarray(c, dtype)) for c in drawn]


def _projected(settings: Config, potential, params, structures, options, common, on_epoch) -> tuple[Params, list[Row]]:
    """The parameters that a linear fit leaves as they are, found before it; takes what is meant for this out of
    `options`."""
    own = {k: options.pop(k) for k in ("vary", "passes", "damping", "fraction") if k in options}
    vary = own.pop("vary", ())
    if not vary:
        if own:
            raise ValueError(f"linear: {', '.join(own)} go with vary, the names of parameters that are not linear.")
        return params, []
    if options.get("weights") is None:
        raise ValueError("linear: vary needs weights of energy, forces and virial.")
    fraction = own.pop("fraction", 1.0)
    if not 0 < fraction <= 1:
        raise ValueError(f"linear: fraction is above 0 and at most 1; got {fraction}.")
    count = max(1, round(fraction * len(structures)))
    some = structures if count == len(structures) else split(structures, [count], seed=settings.seed)[0]
    history: list[Row] = []

    def on_pass(found: Pass) -> None:
        history.append({"epoch": len(history) + 1, "loss": found.cost, "damping": found.damping})
        if on_epoch is not None:
            on_epoch(history[-1])

    strength = options.get("strength")
    names = (vary,) if isinstance(vary, str) else tuple(vary)
    found = fit_projected(
        potential, params, some, vary=names, weights=options["weights"], on_pass=on_pass,
        strength=1e-6 if strength is None else strength, **own, **common,
    )  # fmt: skip
    return found.params, history


def _checkpoints(output: Path | None) -> Path | None:
    return None if output is None else output / "checkpoints"


def merged(chosen: tuple[bool, ...], drawn: Params, params: Params) -> Params:
    """Return `params` with the chosen arrays of others."""
    leaves, tree = jax.tree.flatten(params)
    others = jax.tree.leaves(drawn)
    return jax.tree.unflatten(tree, [new if c else old for c, new, old in zip(chosen, others, leaves, strict=True)])
