"""Linear fits: parameters in which a potential's energy is linear, determined by least squares over all labels."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxmlp.evaluate import Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import loader_of
from jaxmlp.fitting.batches.predictions import check, plain
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.linear.bayesian_regression import ard, bayesian_ridge
from jaxmlp.fitting.linear.edge_slopes import fast_columns, flattened
from jaxmlp.fitting.linear.least_absolute import least_absolute
from jaxmlp.fitting.linear.ridge_choice import choose_ridge
from jaxmlp.fitting.linear.smoothness import power_of, smoothness_prior
from jaxmlp.fitting.linear.solvers import LinearFit, least_squares, ridge
from jaxmlp.fitting.linear.tall_qr import TallQR, add_rows, combine, no_rows
from jaxmlp.fitting.training.trainable import matches, names
from jaxmlp.potential import Params, Potential, merge

SOLVERS = ("bayesian", "ard", "ridge", "least-squares")
KINDS = ("energy", "forces", "virial")
SIGNIFICANCE = 3.0  # standard deviations that a parameter is worth; at 1 a third of those without meaning stay
SMALL_BLOCKS = Execution(block=4)  # columns multiply what a block keeps; more rows leave the cache (3 times slower)


class Rows(NamedTuple):
    """Rows of the design matrix of one batch: A (n, p), y (n,) and weights (n,), by kind of label.

    The weights make energies and virials those of an atom, and hold the weights of the structures.
    """

    energy: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    forces: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    virial: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


class LinearResult(NamedTuple):
    """What a linear fit gives.

    Args:
        params: of the potential, with the new coefficients.
        fit: coefficients, their uncertainty and the evidence.
        factors: of the rows by kind, unscaled: other weights need no new rows. Of absolute errors, as they are
            weighted at the end.
        coefficients: puts coefficients (p,) into `params`; draws of `fit.sample` make a committee.
    """

    params: Params
    fit: LinearFit
    factors: dict[str, TallQR]
    coefficients: Callable[[Array], Params]


def split_linear(potential: Potential, params: Params, energies: bool = False):
    """Return the linear parameters as a vector (p,), what puts such a vector into `params`, and their tree.

    Args:
        energies: whether the energies of atoms are among them; constants of the family never are.

    Raises:
        ValueError: the energy is not linear in any parameter.
    """
    part = potential.linear_parameters(params)
    leaves, tree = jax.tree.flatten(part, is_leaf=lambda x: x is None)
    labels = names(jax.tree.map(lambda x: 0 if x is None else x, part, is_leaf=lambda x: x is None))
    own = (potential.atomic_energies,) if potential.atomic_energies else ()
    kept = []
    for name, x in zip(labels, leaves, strict=True):
        fixed = matches(name, potential.constants) or matches(name, own)
        kept.append(x if x is not None and (not fixed or (energies and matches(name, own))) else None)
    if all(x is None for x in kept):
        raise ValueError(f"the energy of {type(potential).__name__} is linear in none of its parameters.")
    part = jax.tree.unflatten(tree, kept)
    flat, unravel = ravel_pytree(part)
    return flat, lambda c: merge(unravel(c), params), part


def design_rows(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    *,
    kinds: tuple[str, ...] = KINDS,
    energies: np.ndarray | None = None,
    fit_energies: bool = False,
    batch_size: int = 4,
    chunk: int = 8,
    execution: Execution = SMALL_BLOCKS,
    fast: bool = True,
) -> Iterator[Rows]:
    """Yield the rows of all structures, batch by batch: labels less what the fixed parameters give.

    A column is the derivative of energies, forces and virials along one linear parameter. Potentials with
    `linear_functions` give all at once (`edge_slopes`); of any other it is a forward derivative of the backward pass,
    of `chunk` columns at once under `vmap`, so that what does not depend on them is computed once.

    Args:
        kinds: of labels.
        energies: (S,) eV of atoms, subtracted from the data.
        fit_energies: the energies of atoms are columns too.
        fast: False: one column after another, for all potentials.
    """
    c0, put, part = split_linear(potential, params, fit_energies)
    loader = loader_of(structures, potential, batch_size, dtype=c0.dtype, energies=energies)
    potential = loader.ready
    kinds = loader.kinds = tuple(k for k in kinds if k in loader.kinds)
    forces, virial = "forces" in kinds, "virial" in kinds
    linear = potential.linear_functions(params) if fast else None
    flatten = flattened(part)

    @jax.jit
    def work(batch: Batch):
        def predict(c):
            out = plain(potential, put(c), batch, virial=virial, execution=execution)
            return out if forces else out._replace(forces=None)

        origin = jnp.zeros_like(c0)
        if linear is not None:
            columns = fast_columns(potential, linear, flatten, batch, forces=forces, virial=virial)
        else:
            columns = one_by_one(predict, origin, chunk)
        return predict(origin), columns

    for batch in loader.epoch():
        constant, columns = jax.device_get(work(batch))
        yield label_rows(jax.device_get(batch), constant, columns, kinds)


def one_by_one(predict: Callable, at: Array, chunk: int = 8):
    """Derivatives (..., p) of a function of a vector (p,), along `chunk` of its components at once."""
    p = len(at)
    along = lambda k: jax.jvp(predict, (at,), (jax.nn.one_hot(k, p, dtype=at.dtype),))[1]  # zero from p on
    found = jax.lax.map(lambda first: jax.vmap(along)(first + jnp.arange(chunk)), jnp.arange(0, p, chunk))
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, *x.shape[2:])[:p], 0, -1), found)


def label_rows(batch: Batch, base, columns, kinds) -> Rows:
    """Return the rows of a batch: labels less `base`, and `columns` (..., p), both predictions."""
    real, n = batch.species >= 0, batch.counts
    out = {}
    for kind in kinds:
        weight = batch.weights[kind]
        if kind == "forces":
            keep = real & (np.append(weight, 0)[batch.structure] > 0)
            A, b = columns.forces[keep], base.forces[keep]
            y = batch.labels["forces"][keep] - b
            w = np.repeat(np.sqrt(np.append(weight, 0)[batch.structure][keep]), 3)
        else:
            keep = weight > 0
            A, b = getattr(columns, kind)[keep], getattr(base, kind)[keep]
            y = batch.labels[kind][keep] - b
            w = np.repeat(np.sqrt(weight[keep]) / n[keep], 1 if kind == "energy" else 9)
        out[kind] = (A.reshape(-1, A.shape[-1]), y.ravel(), w)
    return Rows(**out)


def fit_linear(
    potential: Potential,
    params: Params,
    structures: Sequence[Structure],
    *,
    weights: dict[str, float] | None = None,
    solver: str = "bayesian",
    strength: float | None = None,
    prior: np.ndarray | str | Mapping[str, float] | None = None,
    error: str = "mse",
    energies: np.ndarray | None = None,
    fit_energies: bool = False,
    batch_size: int = 4,
    execution: Execution = SMALL_BLOCKS,
) -> LinearResult:
    """Determine the parameters in which the energy is linear, all others fixed, from energies, forces and virials.

    Args:
        params: the fixed parameters, and the constants of the family; double precision is wise.
        weights: by kind, of errors of the energy per atom (eV), of forces (eV/Å) and of virials per atom (eV), squared
            in the sum; None: with "bayesian" and "ard" the noise of every kind is learned, else 1, 1 and 1.
        solver: "bayesian", ridge regression of the largest evidence; "ard", with a strength for each parameter, which
            prunes those that do not matter; "ridge"; "least-squares", of minimum norm.
        strength: of the ridge; None: that of the largest evidence.
        prior: factors of the parameters in the ridge's norm, (p,), or "smooth" or {"smooth": power} for those that
            follow from the degrees of the functions, see `Potential.roughness`; the columns are normalised first, so
            that units do not matter. With solver "bayesian" or "ridge".
        error: "mse", or "mae" for absolute errors in place of squares, see `least_absolute`, which keeps all rows in
            memory; of the solvers "ridge" and "least-squares" then.
        energies: (S,) eV of atoms, subtracted from the data; the caller adds them to the result (`Potential.shifted`).
        fit_energies: fit the energies of atoms too (what is left of them).

    Raises:
        ValueError: a potential that is not linear, no labels, an unknown solver.
    """
    options = {"weights": weights, "solver": solver, "strength": strength, "prior": prior, "error": error}
    options = checked_options(potential, params, options, fit_energies)
    rows = collected(
        potential, params, structures, options, energies=energies, fit_energies=fit_energies, batch_size=batch_size,
        execution=execution,
    )  # fmt: skip
    return determined(potential, params, rows, options, fit_energies)


class Collected(NamedTuple):
    """The rows of some structures, by kind: their factors, and for absolute errors the rows themselves."""

    factors: dict[str, TallQR]
    rows: dict[str, list]

    @classmethod
    def joined(cls, parts: Sequence["Collected"]) -> "Collected":
        """Those of several sets of structures together."""
        kinds = parts[0].factors
        factors = {k: combine([p.factors[k] for p in parts]) for k in kinds}
        return cls(factors, {k: [row for p in parts for row in p.rows[k]] for k in kinds})


def checked_options(potential: Potential, params: Params, options: dict, fit_energies: bool) -> dict:
    """The options weights, solver, strength, prior and error of `fit_linear`, the prior as factors.

    Raises:
        ValueError: what does not go together, or a potential that is not linear.
    """
    check(potential)
    solver, prior, error = (options[k] for k in ("solver", "prior", "error"))
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}.")
    if error not in ("mse", "mae") or (error == "mae" and solver not in ("ridge", "least-squares")):
        raise ValueError(f'error is "mse", or "mae" with solver "ridge" or "least-squares"; got {error!r}, {solver!r}.')
    if prior is not None and solver not in ("bayesian", "ridge"):
        raise ValueError(f"a prior goes with solver bayesian or ridge; got {solver!r}.")
    part = split_linear(potential, params, fit_energies)[2]
    if isinstance(prior, str | Mapping):
        prior = smoothness_prior(potential, params, part, power_of(prior))
    return options | {"prior": prior}


def collected(
    potential: Potential, params: Params, structures: Sequence[Structure], options: dict, **more
) -> Collected:
    """The rows of structures, for `determined`; `more` are arguments of `design_rows`."""
    weights = options["weights"]
    kinds = tuple(k for k in KINDS if weights is None or weights.get(k, 0) > 0)
    p = len(split_linear(potential, params, more["fit_energies"])[0])
    out = Collected({kind: no_rows(p) for kind in kinds}, {kind: [] for kind in kinds})
    # A factor is copied whenever rows are added, so let some come together.
    waiting: dict[str, list] = {kind: [] for kind in kinds}

    def add(kind, least):
        if sum(len(y) for _, y, _ in waiting[kind]) >= least:
            out.factors[kind] = add_rows(out.factors[kind], *map(np.concatenate, zip(*waiting[kind], strict=True)))
            waiting[kind].clear()

    for rows in design_rows(potential, params, structures, kinds=kinds, **more):
        for kind in kinds:
            found = getattr(rows, kind)
            if found is not None:
                waiting[kind].append(found)
                out.rows[kind].extend([found] * (options["error"] == "mae"))
                add(kind, p / 4)
    for kind in kinds:
        add(kind, 1)
    return out


def determined(
    potential: Potential, params: Params, rows: Collected, options: dict, fit_energies: bool
) -> LinearResult:
    """Solve for the linear parameters.

    Raises:
        ValueError: no labels.
    """
    c0, put, _ = split_linear(potential, params, fit_energies)
    weights, error = options["weights"], options["error"]
    how = {k: options[k] for k in ("solver", "strength", "prior")}
    factors = {kind: qr for kind, qr in rows.factors.items() if qr.rows}
    if not factors:
        raise ValueError(f"the data have no labels of {', '.join(rows.factors)}.")
    if error == "mae":
        if how["solver"] == "ridge" and how["strength"] is None:
            how["strength"] = solve(factors, weights=weights, **how).precision
        fit, factors = least_absolute({k: rows.rows[k] for k in factors}, partial(solve, **how), weights=weights)
    else:
        fit = solve(factors, weights=weights, **how)
    return LinearResult(put(jnp.asarray(fit.coefficients, c0.dtype)), fit, factors, put)


def solve(
    factors: dict[str, TallQR],
    *,
    weights: dict[str, float] | None = None,
    solver: str = "bayesian",
    strength: float | None = None,
    prior: np.ndarray | None = None,
) -> LinearFit:
    """Solve again from the factors of `LinearResult`, say with other weights; arguments as for `fit_linear`."""
    everything = combine(list(factors.values()), [1.0 if weights is None else weights[k] ** 0.5 for k in factors])
    learned = everything if weights is not None else list(factors.values())
    if solver == "bayesian":
        return bayesian_ridge(learned, prior=prior, normalize=True)
    if solver == "ard":
        return ard(learned, significance=SIGNIFICANCE)
    if solver == "least-squares":
        return least_squares(everything)
    if strength is None:
        strength = choose_ridge(everything, prior=prior, normalize=True).strength
    return ridge(everything, strength, prior=prior, normalize=True)
