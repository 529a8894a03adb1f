"""From a configuration to a fitted potential, its errors and its files."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.combinators import Committee
from jaxmlp.fitting.accuracy import (
    Accuracy,
    Predictions,
    accuracy,
    predict_members,
    predict_structures,
    without_atoms,
)
from jaxmlp.fitting.batches.loader import loader_of
from jaxmlp.fitting.batches.predictions import has_energy, predicts
from jaxmlp.fitting.calibration import Calibration, calibration, deviations, mean_and_spread, members_of
from jaxmlp.fitting.config import Config, read_config
from jaxmlp.fitting.data.checks import Finding, check_structures, raise_errors
from jaxmlp.fitting.data.labels import atomic_number
from jaxmlp.fitting.data.net_forces import treat_net_forces
from jaxmlp.fitting.data.readers import iterate_structures, read_structures
from jaxmlp.fitting.data.reference_energies import fit_reference_energies
from jaxmlp.fitting.data.splits import places, split
from jaxmlp.fitting.data.store import StructureStore, chunks
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.families import build, drawn
from jaxmlp.fitting.gap.gaussian_process import fit_gap
from jaxmlp.fitting.linear.fit import LinearResult, fit_linear
from jaxmlp.fitting.linear.projected import Pass, fit_projected
from jaxmlp.fitting.snes.snes import train_snes
from jaxmlp.fitting.survey import Survey
from jaxmlp.fitting.teacher import label, subtract
from jaxmlp.fitting.training.full_batch import train_lbfgs
from jaxmlp.fitting.training.train import Row, train
from jaxmlp.fitting.training.trainable import Trainable, dtype_of, matches, names
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials.gap import GAP

MODEL = "potential.safetensors"
SAMPLE = 1000  # structures of a set on disk that stand for all of them where all are needed at once
MAY_CHANGE = ("epochs", "patience", "checkpoint_every", "output", "resume")  # between a run and its continuation


class Part(NamedTuple):
    """A set of structures, of those on disk `SAMPLE` evenly chosen ones, with predictions and errors.

    Args:
        spread: standard deviations of the members of a committee, in place of predictions.
        calibration: by kind, how they compare with the errors.
    """

    structures: list[Structure]
    predictions: Predictions
    accuracy: Accuracy
    spread: Predictions | None = None
    calibration: dict[str, Calibration] | None = None


class Fit(NamedTuple):
    """What a fit gives; unpacks as (potential, params, ...).

    Args:
        potential, params: with the energies of atoms in them, of the best epoch; a `Committee` of members.
        history: one row an epoch.
        parts: "train", "validation" and "test", those there are.
        findings: of the check of the data.
        seconds: for everything but reading the data.
        output: folder of the files, or None.
    """

    potential: Potential
    params: Params
    history: list[Row]
    parts: dict[str, Part]
    findings: list[Finding]
    seconds: float
    output: Path | None


def fit(
    config: Mapping[str, Any] | str | PathLike | Config,
    *,
    train: Iterable[Structure] | None = None,
    validation: Sequence[Structure] | None = None,
    test: Sequence[Structure] | None = None,
    start: tuple[Potential, Params] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    **changes: Any,
) -> Fit:
    """Fit a potential to labelled structures as a configuration says.

    >>> fitted = jm.fit({"data": {"train": "train.xyz"}, "potential": {"family": "nep"}, "epochs": 200})
    >>> energy = jm.energy_fn(fitted.potential, system)

    Args:
        config: a mapping, the path of a YAML file, or a `Config`: see there for all words.
        train, validation, test: structures, in place of files; of `train` also a `StructureStore`, or with `data:
            stream` an iterator.
        start: potential and parameters to go on with, in place of {"family": ...} or {"file": ...}.
        on_epoch: called with the row of every epoch.
        changes: fields of the configuration that replace those of `config`.

    Raises:
        ValueError: what is wrong with the configuration or with the data, by structure.
        TrainingFailed: the training diverged, and where.
    """
    if start is not None and isinstance(config, Mapping) and "potential" not in config:
        config = dict(config) | {"potential": {"file": "(given)"}}
    settings = read_config(config, **changes)
    sets = read_sets(settings, {"train": train, "validation": validation, "test": test})
    findings = checked(sets) if settings.data.check else []
    begin = time.perf_counter()
    if settings.data.net_force != "keep":
        treated = partial(treat_net_forces, how=settings.data.net_force)
        sets = {name: _mapped(treated, structures, "treated") for name, structures in sets.items()}
    base = None
    if "base" in settings.potential:
        from jaxmlp.formats.detect import load

        base = load(settings.potential["base"])
    learned = sets
    if base is not None:
        less = partial(subtract, potential=base[0], params=base[1])
        learned = {name: _mapped(less, structures, "corrections") for name, structures in sets.items()}
    dtype = jnp.dtype(settings.dtype)
    if dtype == jnp.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            f"precision {settings.precision or 'float64'} needs jax.config.update('jax_enable_x64', True) at the start "
            "of the program."
        )
    potential, params, energies = _start(settings, learned["train"], start, dtype)
    output = None if settings.output is None else Path(settings.output)
    if output is not None:
        _open(output, settings)
    params, history = _fitted(settings, potential, params, learned, energies, output, on_epoch)
    potential, params = _finished(settings, potential, params, energies, base)
    parts = {}
    for name, structures in sets.items():
        parts[name] = _part(potential, params, _some(structures), settings.members)
    result = Fit(potential, params, history, parts, findings, time.perf_counter() - begin, output)
    if output is not None:
        write(result)
    return result


def _part(potential: Potential, params: Params, structures: list[Structure], members: int) -> Part:
    """The structures with predictions and errors, and of a committee the spread."""
    asked = _reported(potential, structures)
    if members == 1:
        found = predict_structures(potential, params, structures, **asked)
        return Part(structures, found, accuracy(structures, found))
    one, each = members_of(potential, params)
    found, spread = mean_and_spread(predict_members(one, each, structures, **asked))
    pairs = deviations(structures, found, spread)
    compared = {kind: calibration(e, s, members=members) for kind, (e, s) in pairs.items() if s.any()}
    return Part(structures, found, accuracy(structures, found), spread, compared)


def _reported(potential: Potential, structures: Sequence[Structure]) -> dict[str, bool]:
    """What the report wants of a potential: all that it predicts and that any of the structures has."""
    labelled = lambda kind: any(getattr(s, kind) is not None for s in structures)
    energy = has_energy(potential)
    asked = {"energy": energy} | {kind: energy and labelled(kind) for kind in ("forces", "virial")}
    return asked | {kind: predicts(potential, kind) and labelled(kind) for kind in ("dipole", "charges")}


def read_sets(settings: Config, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the sets of structures that a configuration names: "train", and "validation" and "test" if there are.

    Args:
        given: sets in memory, which come before files.

    Raises:
        ValueError: no training structures, or a validation set that leaves none.
    """
    sets: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        source, here = getattr(settings.data, name), (given or {}).get(name)
        files = [source] if isinstance(source, str | PathLike) else source
        if isinstance(here, StructureStore):
            sets[name] = here
        elif name == "train" and settings.data.stream and (here is not None or isinstance(files, list | tuple)):
            sets[name] = _stored(settings, files, here)
        elif here is not None:
            sets[name] = list(here)
        elif isinstance(files, list | tuple):
            sets[name] = [s for path in files for s in read_structures(path, **settings.data.read)]
    if not sets.get("train"):
        raise ValueError("data: train names no structures: give a file, a folder, or fit(..., train=structures).")
    if settings.data.limit is not None:
        count = min(settings.data.limit, len(sets["train"]))
        sets["train"] = _chosen(sets["train"], places(sets["train"], [count], seed=settings.seed)[0])
    part = settings.data.validation
    if "validation" not in sets and part is not None:
        n = len(sets["train"])
        count = round(part * n) if isinstance(part, float) else int(part)
        if not 0 <= count < n:
            raise ValueError(f"data: validation takes {part} of {n} structures: leave some to train on.")
        if count:
            train, held = places(sets["train"], [n - count, count], seed=settings.seed)
            sets["validation"] = [sets["train"][k] for k in held]
            sets["train"] = _chosen(sets["train"], train)
    if settings.data.teacher is not None:
        from jaxmlp.formats.detect import load

        potential, params = load(settings.data.teacher)
        taught = partial(
            label, potential=potential, params=params, hessian_rows=settings.data.hessian_rows, seed=settings.seed
        )
        sets = {name: _mapped(taught, s, "taught") for name, s in sets.items()}
    return {name: sets[name] for name in ("train", "validation", "test") if name in sets}


def _stored(settings: Config, files, structures: Iterable[Structure] | None) -> StructureStore:
    """The training structures on disk: as they lie there, if they come from the same files, else written now."""
    where = settings.data.stream
    if where is True and settings.output is None:
        raise ValueError("data: stream needs a folder: name one (stream: folder), or give an output.")
    folder = Path(where) if isinstance(where, str) else Path(settings.output or ".") / "structures"
    of = ""
    if structures is None:
        found = [p for f in map(Path, files) for p in ([f] if f.is_file() else sorted(f.rglob("*"))) if p.is_file()]
        marks = [(str(p.absolute()), p.stat().st_size, p.stat().st_mtime_ns) for p in found]
        of = json.dumps([marks, dict(settings.data.read)], default=str)
        structures = (s for path in files for s in iterate_structures(path, **settings.data.read))
        if (folder / "index.json").exists() and (store := StructureStore(folder)).about["of"] == of:
            return store
    return StructureStore.write(structures, folder, of=of)


def _chosen(structures, which: list[int]):
    """Some of the structures, in memory or on disk as they are."""
    return structures.select(which) if isinstance(structures, StructureStore) else [structures[k] for k in which]


def _mapped(function: Callable[[list[Structure]], list[Structure]], structures, name: str):
    """What a function makes of structures; on disk shard by shard, in a folder of that name."""
    if isinstance(structures, StructureStore):
        return structures.mapped(function, structures.folder / name)
    return function(structures)


def _some(structures) -> list[Structure]:
    """The structures, or a sample of those on disk."""
    return structures.some(SAMPLE) if isinstance(structures, StructureStore) else list(structures)


def checked(sets: Mapping[str, Sequence[Structure]]) -> list[Finding]:
    """Return what looks wrong with the structures.

    Raises:
        ValueError: what is surely wrong, by structure.
    """
    findings: list[Finding] = []
    for structures in sets.values():
        findings += check_set(structures)
        raise_errors(findings)
    return findings


def check_set(structures: Sequence[Structure]) -> list[Finding]:
    """Return what `check_structures` finds; on disk shard by shard."""
    if not isinstance(structures, StructureStore):
        return check_structures(structures)
    findings, first = [], 0
    for chunk in chunks(structures, max(structures.sizes)):
        findings += [f._replace(structure=f.structure + first) for f in check_structures(chunk)]
        first += len(chunk)
    return findings


def _start(settings: Config, structures, start, dtype):
    """Potential and parameters to start from, without energies of atoms, and these, (S,) eV."""
    cast = lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else jnp.asarray(x)
    file = settings.potential.get("file")
    if start is not None or file is not None:
        if start is None:
            from jaxmlp.formats.detect import load

            start = load(file)
        potential, params = start
        params = given(settings.parameters, params)
        bare, atoms = without_atoms(potential, params)
        return potential, jax.tree.map(cast, bare), atoms
    options = {k: v for k, v in settings.potential.items() if k not in ("family", "base", "species")}
    named = settings.potential.get("species")
    species = {z for s in structures for z in s.system.species} if named is None else set(map(_number, named))
    potential = build(settings.potential["family"], tuple(sorted(species)), **options)
    energies = _energies(settings, structures, potential.species)
    params = given(settings.parameters, drawn(potential, jax.random.key(settings.seed), dtype))
    params = jax.tree.map(cast, params)
    try:
        potential.shifted(params, energies)
    except ValueError:
        if settings.data.energies != "fit":
            raise
        energies = _uniform(potential, params, structures)
    potential, params = potential.adapted(params, Survey(_some(structures)))
    return potential, params, energies


def _number(name: str | int) -> int:
    z = atomic_number(str(name))
    if z is None:
        raise ValueError(f"potential: {name!r} in species is no element: give symbols or atomic numbers.")
    return z


def given(values: Mapping[str, Any], params: Params) -> Params:
    """Return `params` with other values of some parameters, by their names.

    Raises:
        ValueError: a name that is not there or stands for several arrays, or a wrong shape.
    """
    leaves, tree = jax.tree.flatten(params)
    known = names(params)
    for name, value in values.items():
        places = [k for k, other in enumerate(known) if matches(other, (name,))]
        if len(places) != 1:
            raise ValueError(f"parameters: {name!r} stands for {len(places)} arrays; there are {', '.join(known)}.")
        old = jnp.asarray(leaves[places[0]])
        if np.shape(value) != old.shape:
            raise ValueError(f"parameters: {name} has the shape {old.shape}; got {np.shape(value)}.")
        leaves[places[0]] = jnp.asarray(value, old.dtype)
    return jax.tree.unflatten(tree, leaves)


def _energies(settings: Config, structures, species) -> np.ndarray:
    wanted = settings.data.energies
    if wanted == "none" or not any(s.energy is not None for s in structures):
        return np.zeros(len(species))
    given = wanted if isinstance(wanted, Mapping) else None
    if given is None and wanted != "fit":
        raise ValueError(f"data: energies is fit, none, or a mapping from symbols to eV; got {wanted!r}.")
    found = fit_reference_energies(structures, species, isolated_atoms=given)
    return np.array([found[z] for z in species])


def _uniform(potential: Potential, params: Params, structures) -> np.ndarray:
    """The mean energy of an atom for all species, or zeros where the potential has no place for that either."""
    mean = np.full(len(potential.species), np.mean([s.energy / len(s) for s in structures if s.energy is not None]))
    try:
        potential.shifted(params, mean)
    except ValueError:
        return np.zeros(len(mean))
    return mean


def _fitted(settings: Config, potential, params, sets, energies, output, on_epoch) -> tuple[Params, list[Row]]:
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


def _finished(settings: Config, potential, params, energies, base) -> tuple[Potential, Params]:
    """Potential and parameters as users want them: in the widest precision, with the energies of atoms in them, members
    as a committee, the base added."""
    widest = jnp.result_type(float)
    cast = lambda x: x.astype(widest) if jnp.issubdtype(x.dtype, jnp.floating) else x

    def ready(p):
        p = jax.tree.map(cast, p)
        return potential.shifted(p, energies) if np.any(energies) else p

    if settings.members > 1:
        members = [ready(jax.tree.map(lambda x, k=k: x[k], params)) for k in range(settings.members)]
        potential, params = Committee.of(potential, len(members)), Committee.stack(members)
    else:
        params = ready(params)
    return (potential, params) if base is None else (base[0] + potential, (base[1], params))


def _open(output: Path, settings: Config) -> None:
    """Make the folder, and write the configuration into it.

    Raises:
        ValueError: it holds a run of another configuration.
    """
    output.mkdir(parents=True, exist_ok=True)
    file, run = output / "config.json", output / "checkpoints"
    new = json.loads(json.dumps(asdict(settings), default=str))
    if not settings.resume:
        shutil.rmtree(run, ignore_errors=True)
    elif run.is_dir() and file.exists():
        old = json.loads(file.read_text())
        others = [k for k in new if k not in MAY_CHANGE and new[k] != old.get(k)]
        if others:
            raise ValueError(
                f"{output} holds a run with another {', '.join(others)}: start it again (jaxmlp fit --fresh, or "
                "resume: false), or take another folder."
            )
    file.write_text(json.dumps(new, indent=1) + "\n")


def write(result: Fit) -> None:
    """Write potential, figures and report into the folder of the fit."""
    from jaxmlp.fitting.report import write_report
    from jaxmlp.formats.detect import save

    folder = result.output
    assert folder is not None
    save(folder / MODEL, result.potential, result.params)
    parts = result.parts
    spreads = {n: p.spread for n, p in parts.items() if p.spread is not None and n != "train"}
    compared = {n: parts[n].calibration or {} for n in spreads}
    sets = {n: (p.structures, p.predictions) for n, p in parts.items()}
    write_report(folder, result.history, sets, spreads=spreads, calibrations=compared)
