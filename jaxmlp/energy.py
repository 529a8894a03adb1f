"""From a potential and a system to the pure function E(R, box, params)."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.tangents import along, given
from jaxmlp.derivatives import heat_flux
from jaxmlp.evaluate import (
    DEFAULT,
    Evaluation,
    Execution,
    _site_energies,
    evaluate,
    full_graph,
    in_rows,
    map_rows,
    row_energies,
)
from jaxmlp.message_passing import parameter_gradient, potential_flux
from jaxmlp.neighbors.search import Neighbors, NeighborSearch
from jaxmlp.potential import MessagePassing, Params, Potential
from jaxmlp.system import System, species_index

SITE_QUANTITIES = (
    "site_energies", "descriptors", "variances", "charges", "born_effective_charges", "dipoles",
    "site_tensors", "grades",
)  # fmt: skip


class EnergyFn(Protocol):
    """energy(R, box, params) -> eV; `fparam` and `aparam` put frame and atomic parameters into `params`."""

    def __call__(self, R: Array, box: Array | None, params: Params, *, fparam=None, aparam=None) -> Array: ...


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _row_energy(potential, execution, params, R, box, species, neighbors) -> Array:
    return jnp.sum(row_energies(potential, params, R, box, species, neighbors, execution))


@partial(_row_energy.defjvp, symbolic_zeros=True)
def _row_energy_jvp(potential, execution, primals, tangents):
    """dE = -F . dR + dE/dbox : dbox + dE/dparams . dparams, with F from the blocked evaluation.

    This makes `jax.grad(energy)` as fast and as frugal as `evaluate`. The rule is made of differentiable operations, so
    derivatives of every order, forward and reverse, are those of the plain energy.
    """
    params, R, box, species, neighbors = primals
    d_params, d_R, d_box, _, _ = tangents
    change = jnp.zeros((), R.dtype)
    if given(d_R) or given(d_box):
        out = evaluate(potential, params, R, box, species, neighbors, execution=execution)
        energy = jnp.sum(out.energies)
        if given(d_R):
            change -= jnp.sum(out.forces * d_R)
        if given(d_box):
            change += jnp.sum(out.box_gradient * d_box)
    else:
        energy = _row_energy(potential, execution, params, R, box, species, neighbors)
    if potential.local:
        of = lambda params: jnp.sum(row_energies(potential, params, R, box, species, neighbors, execution))
        more = along(of, params, d_params)
        return energy, change if more is None else change + more
    tangents = jax.tree.structure(params).flatten_up_to(d_params)
    if any(map(given, tangents)):
        gradient = jax.tree.leaves(parameter_gradient(potential, params, R, box, species, neighbors, execution))
        change += sum(jnp.sum(g * t) for g, t in zip(gradient, tangents) if given(t)).astype(R.dtype)
    return energy, change


def total_energy(
    potential: Potential,
    params: Params,
    R: Array,
    box: Array | None,
    species: Array,
    neighbors: Neighbors,
    *,
    execution: Execution = DEFAULT,
) -> Array:
    """Return the energy (eV) with a given neighbour list; differentiable in params, R and box to every order.

    Arguments as for `evaluate`. With overflowed neighbours the energy is NaN.
    """
    energy = jnp.where(neighbors.overflow & potential.uses_neighbors, jnp.nan, 0.0).astype(R.dtype)
    for term, p, weight in potential.terms(params):
        if in_rows(term):
            part = _row_energy(term, execution, p, R, box, species, neighbors)
        else:
            part = jnp.sum(_site_energies(term, p, full_graph(term, R, box, species, neighbors), execution))
        energy += weight * part
    return energy


def prepare(
    potential: Potential, params: Params, system: System, also: Iterable[int] = ()
) -> tuple[Potential, Params, np.ndarray]:
    """Return potential and parameters for the atoms of `system`, and the species index (N,) of every atom.

    Elements that the system lacks are sliced away (exactly), and hyper-parameters that depend on the cell are set.

    Args:
        also: atomic numbers that are kept though the system lacks them.

    Raises:
        ValueError: the system has elements that the potential lacks.
    """
    species_index(potential.species, system.numbers)  # says which elements the potential lacks
    here = {*system.numbers.tolist(), *also}
    present = tuple(z for z in potential.species if z in here)
    if present != potential.species:
        potential, params = potential.restrict(params, present)
    return potential.for_system(system), params, species_index(present, system.numbers)


def _prepared(potential, system: System, skin, headroom):
    """Search and species of a system, and a function that prepares (potential, params) when the parameters come."""
    species = species_index(potential.species, system.numbers)
    order = np.unique(species)
    search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=skin, headroom=headroom)

    def reduced(params, fparam, aparam):
        params = potential.conditioned(params, fparam, aparam, len(species))
        ready, p, _ = prepare(potential, params, system)
        return ready, jax.tree.map(jnp.asarray, p)

    return search, np.searchsorted(order, species).astype(np.int32), reduced


def energy_fn(
    potential: Potential,
    system: System,
    *,
    skin: float = 0.0,
    headroom: float = 0.1,
    precision: str | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> EnergyFn:
    """Return the pure function energy(R, box, params) -> eV for the atoms of `system`.

    It searches neighbours inside jit and is differentiable in R, box and params to every order, forward and reverse.
    Parameters of elements that the system lacks are sliced away first. `jit` it. Potentials that depend on frame or
    atomic parameters take them by keyword, energy(R, box, params, fparam=..., aparam=...): see `Potential.conditioned`.

    Args:
        potential: hyper-parameters.
        system: species and periodicity; its positions decide the sizes of the neighbour list.
        skin: Å by which lists reach beyond the cutoff; only useful where lists are reused.
        headroom: lists hold for a uniform linear compression of `system` by this fraction. Beyond, where a list
            overflows, the energy is NaN: build a new function from a system like the one evaluated.
        precision, block, devices: see `Execution`.

    Raises:
        ValueError: the system has elements that the potential lacks.
    """
    execution = Execution(block, precision, devices)
    search, species, prepared = _prepared(potential, system, skin, headroom)

    def energy(R: Array, box: Array | None, params: Params, *, fparam=None, aparam=None) -> Array:
        R = jnp.asarray(R)
        box = None if box is None else jnp.asarray(box)
        reduced, p = prepared(params, fparam, aparam)
        return total_energy(reduced, p, R, box, jnp.asarray(species), search(R, box), execution=execution)

    return energy


def evaluate_fn(
    potential: Potential,
    system: System,
    *,
    skin: float = 0.0,
    headroom: float = 0.1,
    precision: str | None = None,
    block: int | None = None,
    devices: int | None = None,
) -> Callable[..., Evaluation]:
    """Return the pure function evaluate(R, box, params) -> `Evaluation`: all first derivatives at once.

    Arguments as for `energy_fn`.
    """
    execution = Execution(block, precision, devices)
    search, species, prepared = _prepared(potential, system, skin, headroom)

    def run(R: Array, box: Array | None, params: Params, *, fparam=None, aparam=None) -> Evaluation:
        R = jnp.asarray(R)
        box = None if box is None else jnp.asarray(box)
        reduced, p = prepared(params, fparam, aparam)
        return evaluate(reduced, p, R, box, jnp.asarray(species), search(R, box), execution=execution)

    return run


def heat_flux_fn(
    potential: Potential,
    system: System,
    *,
    skin: float = 0.0,
    headroom: float = 0.1,
    precision: str | None = None,
    block: int | None = None,
) -> Callable[..., Array]:
    """Return the pure function flux(R, box, params, velocities, masses=None) -> J (3,).

    J = sum_i v_i E_i + sum_i sum_k (r_i - r_k) (dE_i/dr_k . v_k), in eV times the unit of `velocities`, over all atoms
    i of the system and all images k that their energies depend on: d/dt sum_i r_i E_i of an open system. For local
    potentials it is that of `heat_flux`; for message-passing ones the sum reaches over their whole receptive field, as
    in Langer et al., PRB 108, L100302 (2023), whatever the size of the cell. With `masses` (N,) amu, E_i includes
    m v^2/2, for velocities in (eV/amu)^(1/2). Differentiable.

    Args:
        skin, headroom, precision, block: as for `energy_fn`.

    Raises:
        ValueError: a part of the potential has site energies that depend on the whole system at once.
    """
    execution = Execution(block, precision)
    search, species, prepared = _prepared(potential, system, skin, headroom)

    def flux(R: Array, box: Array | None, params: Params, velocities: Array, masses: Array | None = None) -> Array:
        R, v = jnp.asarray(R), jnp.asarray(velocities)
        box = None if box is None else jnp.asarray(box)
        reduced, p = prepared(params, None, None)
        neighbors, index = search(R, box), jnp.asarray(species)
        kinetic = jnp.zeros_like(R[:, 0]) if masses is None else 0.5 * jnp.asarray(masses) * jnp.sum(v * v, axis=1)
        J = (kinetic + jnp.where(neighbors.overflow, jnp.nan, 0.0).astype(R.dtype)) @ v
        for term, q, weight in reduced.terms(p):
            if isinstance(term, MessagePassing):
                energies, moments = potential_flux(term, q, R, box, index, neighbors, v, execution)
                J += weight * (energies @ v + moments)
            elif term.local:
                J += weight * heat_flux(evaluate(term, q, R, box, index, neighbors, execution=execution), v)
            else:
                raise ValueError(
                    f"the heat flux of {type(term).__name__} is not known: it is neither local nor in steps."
                )
        return J

    return flux


def site_fn(
    potential: Potential,
    system: System,
    quantity: str,
    *,
    skin: float = 0.0,
    headroom: float = 0.1,
    block: int | None = None,
) -> Callable[..., Array]:
    """Return the pure function f(R, box, params) -> (N, ...) of a per-atom quantity that the potential defines.

    For instance "descriptors" of a NEP, "charges" or "born_effective_charges" (e) of a qNEP, and "site_tensors" of
    dipole and polarizability models, whose sum over atoms is the system's dipole (3,) or polarizability (3, 3). With
    overflowed neighbours the values are NaN. Differentiable.

    Args:
        quantity: name of a method (params, graph) -> (n, ...) of the potential.
        skin, headroom, block: as for `energy_fn`.

    Raises:
        ValueError: the potential has no such quantity, or lacks an element of the system.
    """
    if not callable(getattr(potential, quantity, None)):
        known = [q for q in SITE_QUANTITIES if hasattr(potential, q)]
        raise ValueError(f"{type(potential).__name__} defines no {quantity!r}; it has {', '.join(known)}.")
    execution = Execution(block)
    search, species, prepared = _prepared(potential, system, skin, headroom)

    def values(R: Array, box: Array | None, params: Params, *, fparam=None, aparam=None) -> Array:
        R = jnp.asarray(R)
        box = None if box is None else jnp.asarray(box)
        reduced, p = prepared(params, fparam, aparam)
        neighbors, index = search(R, box), jnp.asarray(species)

        def function(potential, params, graph, execution):
            return getattr(potential, quantity)(params, graph)

        if reduced.local:
            x = map_rows(function, reduced, p, R, box, index, neighbors, execution)
        else:
            x = function(reduced, p, full_graph(reduced, R, box, index, neighbors), execution)
        return x + jnp.where(neighbors.overflow, jnp.nan, 0.0).astype(x.dtype)

    return values
