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

from jaxmlp.combinators import Committee
from jaxmlp.fitting.accuracy import (
    Accuracy,
    Predictions,
    accuracy,
    predict_members,
    predict_structures,
)
from jaxmlp.fitting.batches.predictions import has_energy, predicts
from jaxmlp.fitting.calibration import Calibration, calibration, deviations, mean_and_spread, members_of
from jaxmlp.fitting.config import Config, read_config
from jaxmlp.fitting.data.checks import Finding
from jaxmlp.fitting.data.net_forces import treat_net_forces
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.methods import fitted_by
from jaxmlp.fitting.sets import checked, mapped, read_sets, some
from jaxmlp.fitting.starts import start_of
from jaxmlp.fitting.teacher import subtract
from jaxmlp.fitting.training.train import Row
from jaxmlp.potential import Params, Potential

MODEL = "potential.safetensors"
MAY_CHANGE = ("epochs", "patience", "checkpoint_every", "output", "resume")  # between a run and its continuation


class Part(NamedTuple):
    """A set of structures, of those on disk `sets.SAMPLE` evenly chosen ones, with predictions and errors.

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
        sets = {name: mapped(treated, structures, "treated") for name, structures in sets.items()}
    base = None
    if "base" in settings.potential:
        from jaxmlp.formats.detect import load

        base = load(settings.potential["base"])
    learned = sets
    if base is not None:
        less = partial(subtract, potential=base[0], params=base[1])
        learned = {name: mapped(less, structures, "corrections") for name, structures in sets.items()}
    dtype = jnp.dtype(settings.dtype)
    if dtype == jnp.float64 and jnp.result_type(float) != jnp.float64:
        raise ValueError(
            f"precision {settings.precision or 'float64'} needs jax.config.update('jax_enable_x64', True) at the start "
            "of the program."
        )
    potential, params, energies = start_of(settings, learned["train"], start, dtype)
    output = None if settings.output is None else Path(settings.output)
    if output is not None:
        _open(output, settings)
    params, history = fitted_by(settings, potential, params, learned, energies, output, on_epoch)
    potential, params = _finished(settings, potential, params, energies, base)
    parts = {}
    for name, structures in sets.items():
        parts[name] = _part(potential, params, some(structures), settings.members)
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
