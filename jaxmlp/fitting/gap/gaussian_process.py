"""Fits of Gaussian approximation potentials: sparse Gaussian-process regression of energies, forces and virials."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.batches.predictions import Prediction
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.gap.points import LIMIT, reference_energies, select_sparse
from jaxmlp.fitting.gap.rows import kernel_columns
from jaxmlp.fitting.gap.sparse_gpr import SparseGP, sparse_gpr
from jaxmlp.fitting.linear.tall_qr import TallQR, add_rows, no_rows
from jaxmlp.potential import Params
from jaxmlp.potentials.gap import GAP

KINDS = ("energy", "forces", "virial")
SYMMETRIC = np.triu_indices(3)  # components of a virial that count, each once
ROWS = 1024  # that are eliminated together; the factor takes longer for fewer
BUCKETS = 2  # every shape of a batch is compiled, which takes as long as some tens of structures

Sigmas = tuple[float, float, float]


class GAPFit(NamedTuple):
    """What a fit gives.

    Args:
        params: of the potential, with the new e0 and alpha.
        posterior: of the weights alpha of all processes, one after the other; `posterior.fit.log_evidence` compares
            hyper-parameters, `posterior.variance(K)` is the variance of what has rows K of `kernel_columns`.
        factor: of all rows, weighted by 1/sigma.
    """

    params: Params
    posterior: SparseGP
    factor: TallQR

    def committee(self, key: Array, n: int) -> list[Params]:
        """Return n parameters drawn from the posterior: their predictions scatter as these are uncertain."""
        return [with_weights(self.params, alpha) for alpha in self.posterior.fit.sample(key, n)]


def fit_gap(
    potential: GAP,
    params: Params,
    structures: Sequence[Structure],
    *,
    sigma_energy: float = 0.001,
    sigma_forces: float = 0.1,
    sigma_virial: float = 0.1,
    groups: Mapping[str, Sigmas] | None = None,
    energies: ArrayLike | None = None,
    method: str | None = "cur",
    clusters: str = "grid",
    seed: int = 0,
    per_group: Mapping[str, int] | None = None,
    delta: float | Sequence[float] | None = None,
    theta: float | Sequence[ArrayLike] | None = None,
    limit: int = LIMIT,
    jitter: float = 1e-10,
    batch_size: int = 1,
) -> GAPFit:
    """Return a GAP fitted to energies, forces and virials, those of them that the structures have.

    Prior: independent processes f_p ~ N(0, k_p). Data: E = sum_i e0[t_i] + sum of w_d f_p(x_d) over instances d, its
    derivatives, and noise. The weights of the sparse points minimise

        sum_n (y_n - (K_NM alpha)_n)^2 / sigma_n^2 + alpha^T K_MM alpha,

    K_MM block by block c_s c_s' k_p(x_s, x_s'); by QR factorisation, row by row (`sparse_gpr`, `TallQR`): the condition
    number of K_NM is not squared, and memory does not grow with the data. Bartók and Csányi, Int. J. Quantum Chem. 115,
    1051 (2015); Deringer et al., Chem. Rev. 121, 10073 (2021).

    Standard deviations sigma_n as gap_fit's default_sigma and config_type_sigma with kernel_regularisation_is_per_atom,
    its default: of a structure of N atoms, sqrt(N) sigma_energy for its energy (the variances of its atoms add up),
    sigma_forces for a component of a force, sqrt(N) sigma_virial for each of six components of its symmetrised virial.
    A structure's `weight` divides its variances.

    Args:
        params: starting parameters (double precision is wise); what is not selected anew is kept from them.
        sigma_energy, sigma_virial: eV, of one atom.
        sigma_forces: eV/Å.
        groups: (sigma_energy, sigma_forces, sigma_virial) of the structures of some groups.
        energies: (S,) eV, e0; None: of isolated atoms among the structures (gap_fit's default), and for elements
            without such by least squares over all energies.
        method, clusters, seed, per_group, delta, theta, limit: as for `select_sparse`; method=None keeps sparse points
            and hyper-parameters of `params`.
        jitter: added to the diagonal of each block of K_MM, in units of its mean.
        batch_size: structures worked on together.

    Raises:
        ValueError: sigmas that are not positive, unknown groups, no labels at all, and what `select_sparse` raises;
            numpy.linalg.LinAlgError, which is one: sparse points so alike that K_MM is singular.
    """
    sigmas = _sigmas(structures, (sigma_energy, sigma_forces, sigma_virial), groups or {})
    e0 = reference_energies(potential, structures) if energies is None else np.asarray(energies, float)
    if e0.shape != (len(potential.species),):
        raise ValueError(f"energies must be one e0 in eV for each of {potential.species}; got shape {e0.shape}.")
    if method is not None:
        chosen = {"method": method, "clusters": clusters, "seed": seed, "per_group": per_group, "limit": limit}
        params = select_sparse(potential, params, structures, delta=delta, theta=theta, **chosen)
    elif delta is not None or theta is not None or per_group is not None:
        raise ValueError("method=None keeps sparse points and hyper-parameters of params; set delta and theta there.")
    params = params | {"e0": jnp.asarray(e0, jnp.asarray(params["e0"]).dtype)}
    params = params | {"processes": tuple(_without_factor(p) for p in params["processes"])}
    m = sum(len(p["alpha"]) for p in params["processes"])
    factor = no_rows(m)
    for A, y, sigma in _collected(_rows(potential, params, structures, e0, sigmas, batch_size)):
        factor = add_rows(factor, A, y, 1 / sigma)
    if not factor.rows:
        raise ValueError(f"none of {len(structures)} structures has a label of {', '.join(KINDS)}.")
    posterior = sparse_gpr(factor, sparse_covariances(potential, params), jitter=jitter)
    return GAPFit(with_weights(params, posterior.fit.coefficients), posterior, factor)


def sparse_covariances(potential: GAP, params: Params) -> list[np.ndarray]:
    """Return K_MM of every process, (m, m) eV^2: covariances c_s c_s' k(x_s, x_s') of its sparse points."""
    blocks: list[np.ndarray] = []
    for term, p in zip(potential.processes, params["processes"], strict=True):
        K = term.covariance.matrix(p["sparse"], p["sparse"], p.get("theta"), p["delta"], p["f0"])
        block = np.asarray(p["cutoff"][:, None] * p["cutoff"] * K, float)
        blocks.append((block + block.T) / 2)
    return blocks


def with_weights(params: Params, alpha: ArrayLike) -> Params:
    """Return `params` with the weights (m,) of all processes, one after the other, in "alpha"."""
    alpha = np.asarray(alpha)
    processes, start = [], 0
    for p in params["processes"]:
        stop = start + len(p["alpha"])
        processes.append(p | {"alpha": jnp.asarray(alpha[start:stop], p["alpha"].dtype)})
        start = stop
    return params | {"processes": tuple(processes)}


def _without_factor(process: Params) -> Params:
    return {name: value for name, value in process.items() if name != "factor"}


def _sigmas(structures: Sequence[Structure], default: Sigmas, groups: Mapping[str, Sigmas]) -> np.ndarray:
    """Standard deviations (structures, 3) of one atom's energy, force and virial."""
    if not structures:
        raise ValueError("a fit needs at least one structure.")
    unknown = set(groups) - {s.group for s in structures}
    if unknown:
        raise ValueError(f"no structure is of the groups {sorted(unknown)}; there are {_groups(structures)}.")
    for name, values in {"sigma_energy, sigma_forces, sigma_virial": default, **groups}.items():
        if len(values) != 3 or not all(0 < x < np.inf for x in values):
            raise ValueError(f"{name}: three standard deviations, positive, are needed; got {values}.")
    return np.array([groups.get(s.group, default) for s in structures], float)


def _groups(structures: Sequence[Structure]) -> str:
    return ", ".join(sorted({s.group for s in structures}))


def _rows(
    potential: GAP, params: Params, structures: Sequence[Structure], e0: np.ndarray, sigmas: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows (A (n, m), y (n,), sigma (n,)) of one batch of structures after another."""
    dtype = np.asarray(params["e0"]).dtype
    loader = Loader(structures, potential, batch_size, dtype=dtype, energies=e0, buckets=BUCKETS)
    loader.kinds = tuple(kind for kind in KINDS if kind in loader.kinds)
    if not loader.kinds:
        return
    derivatives = {"forces": "forces" in loader.kinds, "virial": "virial" in loader.kinds}
    columns = jax.jit(lambda params, batch: kernel_columns(potential, params, batch, **derivatives))
    for bucket, members in loader.plan(None):
        batch = loader.batch(bucket, members)
        yield _labelled(batch, jax.device_get(columns(params, batch)), sigmas[np.maximum(batch.ids, 0)])


def _labelled(batch: Batch, columns: Prediction, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of a batch for which there are labels; `sigmas` (B, 3) of its structures."""
    root = np.sqrt(batch.counts)
    parts = []
    if "energy" in batch.weights:
        weight = batch.weights["energy"]
        keep = weight > 0
        parts.append((columns.energy[keep], batch.labels["energy"][keep], (sigmas[:, 0] * root)[keep], weight[keep]))
    if columns.forces is not None:
        weight = np.append(batch.weights["forces"], 0)[batch.structure]  # (N,)
        keep = weight > 0
        sigma = np.append(sigmas[:, 1], 1)[batch.structure]
        parts.append(
            (columns.forces[keep].reshape(-1, columns.forces.shape[-1]), batch.labels["forces"][keep].ravel(),
             np.repeat(sigma[keep], 3), np.repeat(weight[keep], 3))
        )  # fmt: skip
    if columns.virial is not None:
        weight = batch.weights["virial"]
        keep = weight > 0
        symmetric = lambda W: ((W + W.swapaxes(1, 2)) / 2)[keep][:, *SYMMETRIC]
        A, y = symmetric(columns.virial), symmetric(batch.labels["virial"])
        sigma, weight = (np.repeat(x[keep], 6) for x in (sigmas[:, 2] * root, weight))
        parts.append((A.reshape(-1, A.shape[-1]), y.ravel(), sigma, weight))
    A, y, sigma, weight = (np.concatenate(x) for x in zip(*parts, strict=True))
    return A, y, sigma / np.sqrt(weight)


def _collected(rows: Iterator[tuple[np.ndarray, ...]]) -> Iterator[tuple[np.ndarray, ...]]:
    """Join blocks of rows until there are enough to be worth an elimination."""
    kept: list[tuple[np.ndarray, ...]] = []
    for block in rows:
        kept.append(block)
        if sum(len(b[1]) for b in kept) >= ROWS:
            yield tuple(map(np.concatenate, zip(*kept, strict=True)))
            kept = []
    if kept:
        yield tuple(map(np.concatenate, zip(*kept, strict=True)))
