"""Cross-validation of linear fits: the rows of every part of the data are computed once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmlp.fitting.data.splits import kfold
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.linear.fit import (
    SMALL_BLOCKS,
    Collected,
    LinearResult,
    checked_options,
    collected,
    determined,
)
from jaxmlp.potential import Params, Potential


class Fold(NamedTuple):
    """One fit of a cross-validation.

    Args:
        train, held: structures that it was fitted to, and those that it has not seen.
        result: of the fit, as `fit_linear` gives it.
    """

    train: list[Structure]
    held: list[Structure]
    result: LinearResult


def cross_validate(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    folds: int = 5,
    *,
    seed: int = 0,
    stratify: str | None = None,
    energies: np.ndarray | None = None,
    fit_energies: bool = False,
    weights: dict[str, float] | None = None,
    solver: str = "bayesian",
    strength: float | None = None,
    prior: Any = None,
    error: str = "mse",
    **more: Any,
) -> list[Fold]:
    """Fit linear parameters to all but one part of the structures, for every part: in little more time than one fit.

    The rows of each part are computed and brought to a triangle once; the triangles of the others then combine.

    >>> parts = fitting.cross_validate(potential, params, structures, 5, weights={"energy": 100.0, "forces": 1.0})
    >>> found = [fitting.predict_structures(potential, f.result.params, f.held) for f in parts]

    Args:
        folds, seed, stratify: of the parts, see `kfold`.
        energies: (S,) eV of atoms, subtracted from the data; they are not in the parameters of the results.
        more: batch_size and execution; these and the others as of `fit_linear`.

    Raises:
        ValueError: as `kfold` and `fit_linear`.
    """
    options = {"weights": weights, "solver": solver, "strength": strength, "prior": prior, "error": error}
    options = checked_options(potential, params, options, fit_energies)
    given = {"energies": energies, "fit_energies": fit_energies, "execution": SMALL_BLOCKS, **more}
    pairs = kfold(structures, folds, seed=seed, stratify=stratify)
    parts = [collected(potential, params, held, options, **given) for _, held in pairs]
    out = []
    for k, (train, held) in enumerate(pairs):
        rest = Collected.joined([p for j, p in enumerate(parts) if j != k])
        out.append(Fold(train, held, determined(potential, params, rest, options, fit_energies)))
    return out
