"""Predictions for a data set, and their errors: of all, by kind of configuration and by element."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.batch import PER_ATOM
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.batches.predictions import check, predict_kinds
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.training.trainable import dtype_of
from jaxmlp.potential import Params, Potential


class Predictions(NamedTuple):
    """Energies (n,) eV, and of each structure its forces (N, 3) eV/Å, virial (3, 3) eV, dipole (3,) e Å and
    charges (N,) e; None for what was not asked for."""

    energy: np.ndarray  # None for a model of dipoles, of which nothing asks it
    forces: list[np.ndarray] | None = None
    virial: list[np.ndarray] | None = None
    dipole: list[np.ndarray] | None = None
    charges: list[np.ndarray] | None = None


class Error(NamedTuple):
    """Mean absolute and root mean square error of `count` numbers."""

    mae: float
    rmse: float
    count: int


class Accuracy(NamedTuple):
    """Errors of some structures; None where there are no labels.

    Args:
        energy: eV/atom.
        forces: eV/Å, of components.
        virial: eV/atom, of the nine components.
        stress: eV/Å^3, of the nine components, for systems that have a volume.
        dipole: e Å/atom, of the three components.
        charges: e.
    """

    energy: Error | None
    forces: Error | None
    virial: Error | None
    stress: Error | None
    dipole: Error | None = None
    charges: Error | None = None


def predict_structures(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    *,
    energy: bool = True,
    forces: bool = True,
    virial: bool = False,
    dipole: bool = False,
    charges: bool = False,
    batch_size: int = 8,
    execution: Execution = DEFAULT,
) -> Predictions:
    """Return what a potential says of many structures, in the precision of `params`.

    Energies of atoms (`Potential.atomic_energies`) are added in double precision, so that large ones cost no digits.

    Args:
        energy: False for models of dipoles, and then no forces and virials.
        forces, virial, dipole, charges: what to return beside energies.

    Raises:
        ValueError: elements that the potential lacks, labels that it does not predict.
    """
    return predict_members(
        potential, [params], structures, energy=energy, forces=forces, virial=virial, dipole=dipole, charges=charges,
        batch_size=batch_size, execution=execution,
    )[0]  # fmt: skip


def predict_members(
    potential: Potential,
    members: Sequence[Params],
    structures: Sequence[Structure],
    *,
    energy: bool = True,
    forces: bool = True,
    virial: bool = False,
    dipole: bool = False,
    charges: bool = False,
    batch_size: int = 8,
    execution: Execution = DEFAULT,
) -> list[Predictions]:
    """Return what a potential says of many structures with each of several parameters, by one compiled program.

    Args:
        members: one pytree each, as for `predict_structures`, with the same shapes and dtypes.
    """
    kinds = ("energy",) * energy + ("dipole",) * dipole + ("charges",) * charges
    check(potential, kinds)
    loader = Loader(structures, potential, batch_size, dtype=dtype_of(members[0]), kinds=())
    kinds += ("forces",) * forces + ("virial",) * virial
    run = jax.jit(lambda p, b: predict_kinds(loader.ready, p, b, kinds, execution))
    bare = [without_atoms(potential, params) for params in members]
    energies = np.zeros((len(members), len(structures)))
    found: list[dict[str, list]] = [
        {kind: [None] * len(structures) for kind in kinds if kind != "energy"} for _ in members
    ]
    for batch in loader.epoch():
        ids = np.asarray(batch.ids)
        structure = np.where(batch.real, batch.structure, -1)
        for m, (params, atoms) in enumerate(bare):
            out = jax.device_get(run(params, batch))
            for k, i in enumerate(ids[ids >= 0]):
                if energy:
                    energies[m, i] = float(out.energy[k]) + loader.facts.counts[i] @ atoms
                for kind, values in found[m].items():
                    of_all = getattr(out, kind)
                    values[i] = of_all[structure == k] if kind in PER_ATOM else of_all[k]
    return [Predictions(e if energy else None, **values) for e, values in zip(energies, found)]


def without_atoms(potential: Potential, params: Params) -> tuple[Params, np.ndarray]:
    """Return `params` less the energies of atoms, where the potential has them as they are, and these, (S,) eV."""
    none = np.zeros(len(potential.species))
    name = potential.atomic_energies
    if not name or not isinstance(params, dict):
        return params, none
    atoms = np.asarray(params[name], float)
    return params | {name: jax.numpy.zeros_like(params[name])}, atoms


def accuracy(structures: Sequence[Structure], predictions: Predictions) -> Accuracy:
    """Return the errors of predictions for structures; every structure, whatever its weight, counts alike."""

    def known(name, values, divide=None):
        pairs = [(s, v) for s, v in zip(structures, () if values is None else values) if getattr(s, name) is not None]
        if not pairs:
            return None
        d = [np.ravel((v - getattr(s, name)) / (divide(s) if divide else 1)) for s, v in pairs]
        return _error(np.concatenate(d))

    stressed = [(s, v) for s, v in zip(structures, predictions.virial or ()) if s.virial is not None and _volume(s)]
    stress = [np.ravel((v - s.virial) / _volume(s)) for s, v in stressed]
    return Accuracy(
        known("energy", predictions.energy, len), known("forces", predictions.forces),
        known("virial", predictions.virial, len), _error(np.concatenate(stress)) if stress else None,
        known("dipole", predictions.dipole, len), known("charges", predictions.charges),
    )  # fmt: skip


def by_group(structures: Sequence[Structure], predictions: Predictions) -> dict[str, Accuracy]:
    """Return the errors of every group of structures, the largest first."""
    groups: dict[str, list[int]] = {}
    for k, s in enumerate(structures):
        groups.setdefault(s.group, []).append(k)
    pick = lambda x, chosen: None if x is None else [x[k] for k in chosen]
    return {
        name: accuracy(pick(structures, chosen), Predictions(*(pick(x, chosen) for x in predictions)))
        for name, chosen in sorted(groups.items(), key=lambda item: -len(item[1]))
    }


def by_element(structures: Sequence[Structure], predictions: Predictions) -> dict[str, Error]:
    """Return the errors of the forces on the atoms of every element, eV/Å."""
    from ase.data import chemical_symbols

    found: dict[int, list[np.ndarray]] = {}
    for s, F in zip(structures, predictions.forces or ()):
        if s.forces is not None:
            for z in np.unique(s.system.numbers):
                found.setdefault(int(z), []).append((F - s.forces)[s.system.numbers == z].ravel())
    return {chemical_symbols[z]: _error(np.concatenate(d)) for z, d in sorted(found.items())}


def _error(d: np.ndarray) -> Error:
    return Error(float(np.mean(np.abs(d))), float(np.sqrt(np.mean(d**2))), len(d))


def _volume(s: Structure) -> float:
    return s.system.volume if s.system.box is not None and all(s.system.pbc) else 0.0
