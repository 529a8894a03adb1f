"""Sparse points and hyper-parameters of a GAP from a training set: where the kernels of a fit have their centres."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxmlp.basis.soap import PowerSpectrum
from jaxmlp.evaluate import DEFAULT, map_rows
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.data.reference_energies import composition, fit_reference_energies, isolated_atom_energies
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.gap.sparse_selection import cur_points, farthest_points, grid_points, random_points
from jaxmlp.fitting.survey import Survey
from jaxmlp.potential import Params
from jaxmlp.potentials.gap import GAP, GAPTerm

METHODS = ("cur", "farthest", "random", "grid")
LIMIT = 20000  # instances of a process that are looked at
SAME = 1e-5  # of the range of the vectors: 1 - k of nearer points is lost in the jitter of K_MM
THETA = 0.5  # of the range of a component; gap_fit's theta_fac, for which its users take values around this


@dataclass(frozen=True)
class Instances:
    """Instances of a process in a training set.

    Args:
        x: (I, d) vectors.
        group: (I,) number of the structure's group.
        count: sum of the weights of all instances of an atom that has any, on average.
    """

    x: np.ndarray
    group: np.ndarray
    count: float


def select_sparse(
    potential: GAP,
    params: Params,
    structures: Sequence[Structure],
    *,
    method: str = "cur",
    clusters: str = "grid",
    seed: int = 0,
    per_group: Mapping[str, int] | None = None,
    delta: float | Sequence[float] | None = None,
    theta: float | Sequence[ArrayLike] | None = None,
    limit: int = LIMIT,
) -> Params:
    """Return `params` with sparse points, and with the hyper-parameters that belong to them, for every process.

    "sparse" are vectors of instances in the structures, different ones, as `GAPTerm.n_sparse` says how many. "cutoff"
    is 1 for all: a sparse point stands for the value of the Gaussian process at x_s, and any other factor c_s would
    only be divided out by `alpha` (gap_fit takes the cutoff function of the instance, with the same predictions, but
    covariances that are the worse conditioned the nearer a point is to the cutoff). "alpha" is 0.

    - "cur": drawn by leverage scores of the vectors, gap_fit's cur_points; "farthest"; "random"; and "grid", gap_fit's
      uniform: one of each cell of an even grid. See `sparse_selection`.
    - theta of gap_fit's theta_fac = 0.5: half of the range of every component (checked with files of gap_fit).
    - delta: such that the process varies over the instances as much as the energy per atom over the structures, less
      what composition explains: delta n (mean k(x, x) - mean k(x, x'))^(1/2) is its standard deviation, with k of
      delta = 1 and the sum n of the weights of an atom's instances (1 for SOAP). All SOAP vectors are alike: delta is
      larger than the spread of the energies. For Mo of mlearn, 1.5 eV where that is 0.4 eV.

    Args:
        method: of SOAP vectors.
        clusters: of distances, angles and clusters of atoms.
        seed: of what is drawn.
        per_group: numbers of SOAP points that come from structures of some groups; the others come from all structures
            of other groups (of all, where there are none).
        delta: eV, for all processes, or for each of them; None: see above.
        theta: for all processes without a dot product, or for each process a number, (d,) or None; None: see above.
        limit: instances of a process that are looked at, drawn at random: the memory is `limit` times d numbers.

    Raises:
        ValueError: fewer different instances than sparse points; an unknown method or group; numbers that do not fit.
    """
    for name, value in (("method", method), ("clusters", clusters)):
        if value not in METHODS:
            raise ValueError(f"{name} must be one of {', '.join(METHODS)}; got {value!r}.")
    names = sorted({s.group for s in structures})
    unknown = set(per_group or {}) - set(names)
    if unknown:
        raise ValueError(f"per_group names {sorted(unknown)}; the groups of the structures are {names}.")
    deltas = _each("delta", delta, potential)
    thetas = _each("theta", theta, potential)
    spread = None if delta is not None else energy_spread(potential, structures)
    processes = []
    for k, (term, own) in enumerate(zip(potential.processes, params["processes"], strict=True)):
        found = instances(potential, term, structures, seed=seed + k, limit=limit)
        soap = isinstance(term.descriptor, PowerSpectrum)
        shares = {names.index(g): n for g, n in (per_group or {}).items()} if soap else {}
        x = found.x[_chosen(term, found, method if soap else clusters, seed + k, shares, k)]
        dtype = own["sparse"].dtype
        own = {name: value for name, value in own.items() if name not in ("theta", "factor")} | {
            "sparse": jnp.asarray(x, dtype), "cutoff": jnp.ones(len(x), dtype), "alpha": jnp.zeros(len(x), dtype),
        }  # fmt: skip
        if term.covariance.kind != "dot_product":
            width = np.ptp(found.x, axis=0)
            length = np.where(width > 0, THETA * width, 1.0) if thetas[k] is None else np.asarray(thetas[k], float)
            if not np.all(length > 0) or length.ndim > 1:
                raise ValueError(f"theta of {_name(k, term)} are length scales and must be positive; got {length}.")
            own["theta"] = jnp.asarray(np.broadcast_to(length, width.shape), dtype)
        size = deltas[k] if spread is None else spread / (found.count * _contrast(term, found.x, own.get("theta")))
        if not 0 < size < np.inf:
            raise ValueError(f"delta of {_name(k, term)} is a standard deviation in eV, positive; got {size}.")
        own["delta"] = jnp.asarray(size, dtype)
        processes.append(own)
    return params | {"processes": tuple(processes)}


def _each(name: str, value, potential: GAP) -> list:
    """One value for each process."""
    n = len(potential.processes)
    values = [value] * n if value is None or np.ndim(value) == 0 else list(value)
    if len(values) != n:
        raise ValueError(f"{name} must be one number, or one for each of {n} processes; got {len(values)}.")
    return values


def _contrast(term: GAPTerm, x: np.ndarray, theta: Array | None) -> float:
    """(mean k(x, x) - mean k(x, x'))^(1/2) of k with delta = 1: how much a function of the prior varies over the x."""
    some = jnp.asarray(x[:: max(1, len(x) // 1000)])
    theta = None if theta is None else theta.astype(some.dtype)
    one = jnp.ones((), some.dtype)
    K = np.asarray(term.covariance.matrix(some, some, theta, one, 0 * one))
    variance = float(np.mean(np.diagonal(K)) - np.mean(K))
    return variance**0.5 if variance > 1e-12 else 1.0


def instances(
    potential: GAP, term: GAPTerm, structures: Sequence[Structure], *, seed: int = 0, limit: int = LIMIT
) -> Instances:
    """Return the `Instances` of a process in some structures, at most `limit` of them, drawn at random.

    Raises:
        ValueError: there are none.
    """
    descriptor = term.descriptor
    loader = Loader(structures, potential, 8, kinds=(), buckets=2)
    names = sorted({s.group for s in structures})
    groups = np.array([names.index(s.group) for s in structures])
    rng = np.random.default_rng(seed)
    soap = isinstance(descriptor, PowerSpectrum)

    def of_rows(potential, params, graph, execution):
        if soap:
            return descriptor.vectors(potential.species, graph)[:, None]
        x, weight = descriptor.instances(potential.species, graph)
        return jnp.concatenate([x, weight[..., None]], axis=-1)

    @jax.jit
    def of(batch):
        box = jnp.eye(3, dtype=batch.R.dtype)
        return map_rows(of_rows, potential, None, batch.R, box, batch.species, batch.neighbors, DEFAULT)

    plan = loader.plan(None)
    atoms = sum(len(h) for h in loader.hoods)
    vectors, labels, total, having = [], [], 0.0, 0
    for bucket, members in plan:
        batch = loader.batch(bucket, members)
        values, real = np.asarray(of(batch)), batch.species >= 0
        own = real if not term.center else real & (np.array(potential.species)[batch.species] == term.center)
        x, weight = (values, np.ones(values.shape[:2])) if soap else (values[..., :-1], values[..., -1])
        there = own[:, None] & (weight > 1e-10)
        total, having = total + weight[there].sum(), having + there.any(axis=1).sum()
        atom, place = np.nonzero(there)
        most = -(-limit * int(real.sum()) // atoms)
        if len(atom) > most:
            some = np.sort(rng.choice(len(atom), most, replace=False))
            atom, place = atom[some], place[some]
        vectors.append(x[atom, place])
        labels.append(groups[batch.ids[batch.structure[atom]]])
    if not having:
        raise ValueError(f"the structures have no instance of {_name(None, term)}: leave this process out.")
    return Instances(np.concatenate(vectors), np.concatenate(labels), float(total / having))


def _chosen(term: GAPTerm, found: Instances, method: str, seed: int, shares: dict[int, int], k: int) -> np.ndarray:
    """Indices of the sparse points among the instances."""
    scale = max(float(np.ptp(found.x, axis=0).max()), 1e-3)
    _, first = np.unique(np.round(found.x / (SAME * scale)), axis=0, return_index=True)
    first = np.sort(first)
    m = term.n_sparse
    if sum(shares.values()) > m or min(shares.values(), default=0) < 0:
        raise ValueError(f"per_group asks for {sum(shares.values())} points; {_name(k, term)} has n_sparse = {m}.")
    select: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "cur": partial(cur_points, key=seed),
        "farthest": farthest_points,
        "random": partial(random_points, key=seed),
        "grid": grid_points,
    }
    parts = []
    left = np.ones(len(first), bool)
    for group, n in shares.items():
        parts.append((np.flatnonzero(found.group[first] == group), n))
        left[parts[-1][0]] = False
    rest = m - sum(shares.values())
    parts.append((np.flatnonzero(left) if left.any() else np.arange(len(first)), rest))
    chosen: list[np.ndarray] = []
    for rows, n in parts:
        rows = np.setdiff1d(rows, np.concatenate(chosen)) if chosen else rows
        if n > len(rows):
            raise ValueError(
                f"{_name(k, term)} asks for {n} sparse points; the structures have {len(rows)} different instances to "
                "choose from. Take a smaller n_sparse, or more structures."
            )
        if n:
            chosen.append(rows[select[method](found.x[first[rows]], n)])
    return first[np.concatenate(chosen)]


def _name(k: int | None, term: GAPTerm) -> str:
    number = "the process" if k is None else f"process {k}"
    center = f" of element {term.center}" if term.center else ""
    return f"{number} ({type(term.descriptor).__name__}{center})"


def reference_energies(potential: GAP, structures: Sequence[Structure]) -> np.ndarray:
    """Return e0 (S,) eV: energies of isolated atoms among the structures, least squares for the other elements."""
    isolated = {z: e for z, e in isolated_atom_energies(structures).items() if z in potential.species}
    if not isolated and all(s.energy is None for s in structures):
        return np.zeros(len(potential.species))
    found = fit_reference_energies(structures, potential.species, isolated_atoms=isolated)
    return np.array([found[z] for z in potential.species])


def energy_spread(potential: GAP, structures: Sequence[Structure]) -> float:
    """Return the standard deviation of energies per atom, less what composition explains, eV.

    Where it is 0, of a single structure say, it is what forces do over 0.1 Å.
    """
    labelled = [s for s in structures if s.energy is not None]
    spread = 0.0
    if labelled:
        found = fit_reference_energies(labelled, potential.species)
        counts = composition(labelled, potential.species)
        energies = np.array([s.energy for s in labelled]) - counts @ [found[z] for z in potential.species]
        spread = float(np.std(energies / counts.sum(axis=1)))
    return spread if spread > 1e-6 else 0.1 * Survey(structures).force_rms
