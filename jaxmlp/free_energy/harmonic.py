"""Harmonic free energies of crystals, classical and quantum, and all their derivatives.

A free energy is F = sum f(omega^2) = tr f(D) over dynamical matrices D. Derivatives of single eigenvalues and
eigenvectors do not exist where frequencies are degenerate, as those of every crystal with some symmetry are; those of
the trace do, and are computed without them (`spectral_trace`).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp import units
from jaxmlp.md.modes import HBAR
from jaxmlp.potential import Params, Potential
from jaxmlp.properties.force_constants import (
    ForceConstants,
    cell_force_constants_fn,
    crystal_energy_fn,
    force_constants_fn,
)
from jaxmlp.properties.phonons import QMesh, dynamical_matrix, frequencies, gamma_matrix, map_q, mass_weighted
from jaxmlp.system import System

_NEAR = 1e-3  # relative; the error of the mean over eigenvalues that are nearer is some power 3 or 4 of this


class Thermodynamics(NamedTuple):
    """Free energy F and internal energy U (eV), entropy S and heat capacity C at constant cell (eV/K), of one cell."""

    free_energy: Array
    energy: Array
    entropy: Array
    heat_capacity: Array


def mode_free_energy(square: Array, temperature: Array, *, quantum: bool = True) -> Array:
    """Return the free energy of oscillators, eV, in the shape of `square`.

    Quantum hbar omega / 2 + kT ln(1 - exp(-hbar omega / kT)), also at T = 0; classical kT ln(hbar omega / kT). NaN for
    imaginary frequencies.

    Args:
        square: omega^2, eV / (amu Å^2), the eigenvalues of `dynamical_matrix`.
        temperature: K.
    """
    kT = units.kB * temperature
    energy = HBAR * jnp.sqrt(square)
    if not quantum:
        return kT * jnp.log(energy / kT)
    warm = kT > 0
    x = energy / jnp.where(warm, kT, 1.0)
    return 0.5 * energy + jnp.where(warm, kT * jnp.log(-jnp.expm1(-x)), 0.0)


def _slope(function: Callable) -> Callable:
    """The derivative of a function of single numbers, applied to arrays of any shape."""
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def _divided_difference(function: Callable, x: Array) -> Array:
    """Return function[x_0, ..., x_k] for ascending nodes x (k + 1, ...), without cancellation where some coincide.

    For nodes close together it is the mean of function^(k)(x) / k! over the simplex that they span (Hermite and
    Genocchi), by k + 1 points that integrate cubics (k = 1) or quadratics exactly; otherwise it follows from those of
    all nodes but the first and but the last.
    """
    k = len(x) - 1
    if k == 0:
        return function(x[0])
    derivative = function
    for _ in range(k):
        derivative = _slope(derivative)
    centre = jnp.mean(x, axis=0)
    near = jnp.mean(derivative(centre + (x - centre) / math.sqrt(k + 2)), axis=0) / math.factorial(k)
    width = x[-1] - x[0]
    apart = width > _NEAR * jnp.abs(x[-1])
    change = _divided_difference(function, x[1:]) - _divided_difference(function, x[:-1])
    return jnp.where(apart, change / jnp.where(apart, width, 1.0), near)


def spectral_trace(f: Callable[[Array, Array], Array], D: Array, T: Array, *, order: int = 2) -> Array:
    """Return tr f(D, T) of a Hermitian matrix D (n, n), with finite derivatives where eigenvalues are equal.

    The value is sum_a f(w_a). The derivatives are those of the Taylor polynomial about the present D, whose
    coefficients, divided differences of f', are smooth functions of the eigenvalues (Daleckii and Krein; Higham,
    Functions of Matrices, 2008, Eq. (3.28)): in the basis of the eigenvectors

        tr f(D + d) = sum_a f(w_a) + sum_a f'(w_a) d_aa + 1/2 sum_ab f'[w_a, w_b] d_ab d_ba
                      + 1/3 sum_abc f'[w_a, w_b, w_c] d_ab d_bc d_ca + ...

    Here d is D - D, zero, and all that is differentiated with respect to D; eigenvalues and eigenvectors never are. No
    rule of a `custom_jvp` is needed, whose second derivatives JAX may lose where it inlines the function.

    Args:
        f: a smooth function of arrays of eigenvalues, element by element, and of a scalar T.
        order: of the highest derivative with respect to D that is taken; a higher one is NaN. Costs n^order.
    """
    now = lax.stop_gradient(D)
    w, V = jnp.linalg.eigh(now)
    T = jnp.asarray(T, w.dtype)
    d = V.conj().T @ (D - now) @ V
    slope = _slope(lambda x: f(x, T))
    total = jnp.sum(f(w, T))
    for k in range(1, order + 1):
        letters = "abcdefgh"[:k]
        nodes = jnp.sort(jnp.stack(jnp.meshgrid(*k * [w], indexing="ij")), axis=0)  # (k, n, ..., n)
        coefficients = _divided_difference(slope, nodes) / k
        chain = ",".join(a + b for a, b in zip(letters, letters[1:] + letters[0]))
        total += jnp.einsum(f"{letters},{chain}->", coefficients.astype(d.dtype), *k * [d]).real
    step = jnp.sum(jnp.real(d))
    return total + step ** (order + 0.5)  # 0, as are its derivatives up to `order`


def vibrational_free_energy(
    phi: ForceConstants, mesh: QMesh, temperature: Array, *, quantum: bool = True, order: int = 2
) -> Array:
    """Return sum_q w_q sum_nu f(omega_q,nu), eV per cell: the free energy of the phonons, without the static energy.

    f is `mode_free_energy`. The translations at Gamma are left out: with `phonons.GAMMA` this is the free energy of the
    3 N - 3 vibrations of a finite periodic cell. NaN where a frequency is imaginary.

    Args:
        temperature: K.
        order: of the highest derivative with respect to anything but the temperature, see `spectral_trace`.
    """
    f = partial(mode_free_energy, quantum=quantum)
    trace = partial(spectral_trace, f, order=order)
    masses, dtype, size = phi.masses, phi.values.dtype, 3 * len(phi.masses)
    temperature = jnp.asarray(temperature, dtype)
    total = jnp.zeros((), dtype)
    if mesh.gamma.any():
        shifts = jnp.kron(jnp.sqrt(masses / jnp.sum(masses))[:, None], jnp.eye(3, dtype=dtype))  # (3 n, 3) translations
        inner = jnp.eye(size, dtype=dtype) - shifts @ shifts.T
        stiff = lax.stop_gradient(jnp.max(jnp.abs(mass_weighted(phi.values, masses))))  # what they get for their 0
        D = inner @ gamma_matrix(phi) @ inner + stiff * shifts @ shifts.T
        total += mesh.weights[mesh.gamma].sum() * (trace(D, temperature) - 3 * f(stiff, temperature))
    if not mesh.gamma.all():
        q, weights = (jnp.asarray(x[~mesh.gamma], dtype) for x in mesh)
        total += weights @ map_q(lambda q: trace(dynamical_matrix(phi, q), temperature), q, size)
    return total


def mean_square_displacements(phi: ForceConstants, mesh: QMesh, temperature: Array, *, quantum: bool = True) -> Array:
    """Return <u_a u_b> of the atoms of a cell about their sites, (n, 3, 3) Å^2.

    They are 2 dF/dPhi(0 kappa a, 0 kappa b), as the energy of a cell is 1/2 sum Phi u u: for one oscillator,
    (hbar / 2 m omega) coth(hbar omega / 2 kT).

    Args:
        mesh: one that avoids Gamma converges faster; without the long waves around it the result is too small.
        temperature: K.
    """

    def free_energy(values):
        return vibrational_free_energy(phi._replace(values=values), mesh, temperature, quantum=quantum, order=1)

    slope = 2 * jax.grad(free_energy)(phi.values)
    home = jnp.all(phi.translations == 0, axis=1)
    slope = jnp.sum(jnp.where(home[:, None, None, None, None], slope, 0.0), axis=0)
    return jnp.einsum("iaib->iab", slope)


def harmonic_fn(
    potential: Potential,
    system: System,
    mesh: QMesh,
    *,
    quantum: bool = True,
    order: int = 2,
    supercell: int | tuple[int, int, int] | None = None,
    headroom: float = 0.03,
) -> Callable[[Array, Array, Array, Params], Array]:
    """Return the pure function F(temperature, R, box, params), eV per cell: E + `vibrational_free_energy`.

    `jit` it; differentiable in everything. For a finite simulation cell, whose waves are those that fit into it, give
    that cell and `mesh=phonons.GAMMA`: F is then that of its 3 N - 3 vibrations.

    Args:
        system: one cell of the crystal.
        mesh: wave vectors, see `phonons.monkhorst_pack`.
        order: of the highest derivative with respect to anything but the temperature that is taken.
        supercell, headroom: see `properties.force_constants_fn`.
    """
    energy = crystal_energy_fn(potential, system, headroom=headroom)
    phi = force_constants_for(mesh, potential, system, supercell, headroom)

    def free_energy(temperature, R, box, params):
        phonons = vibrational_free_energy(phi(R, box, params), mesh, temperature, quantum=quantum, order=order)
        return energy(R, box, params) + phonons

    return free_energy


def force_constants_for(
    mesh: QMesh, potential: Potential, system: System, supercell: int | tuple[int, int, int] | None, headroom: float
) -> Callable[[Array, Array, Params], ForceConstants]:
    """Return the function phi(R, box, params) that gives what a mesh needs: at Gamma alone, no supercell."""
    if mesh.gamma.all():
        return cell_force_constants_fn(potential, system, headroom=headroom)
    return force_constants_fn(potential, system, supercell=supercell, headroom=headroom)


def thermodynamics(free_energy: Callable[..., Array]) -> Callable[..., Thermodynamics]:
    """Return thermodynamics(temperature, ...) of a function free_energy(temperature, ...), by its derivatives.

    S = -dF/dT, U = F + T S, C = -T d^2F/dT^2, all other arguments fixed.
    """

    def of(temperature, *args):
        T = jnp.asarray(temperature, float)
        one = jnp.ones_like(T)

        def first(T):
            return jax.jvp(lambda T: free_energy(T, *args), (T,), (one,))

        (F, F_T), (_, F_TT) = jax.jvp(first, (T,), (one,))
        return Thermodynamics(F, F - T * F_T, -F_T, -T * F_TT)

    return of


def harmonic(
    potential: Potential,
    params: Params,
    system: System,
    temperatures: np.ndarray,
    mesh: QMesh,
    *,
    quantum: bool = True,
    supercell: int | tuple[int, int, int] | None = None,
) -> Thermodynamics:
    """Return F, U, S and C of a crystal for every temperature, each (temperatures,), per cell; U and F with E_0.

    Args:
        temperatures: K.
        system: one cell of the crystal, relaxed.
        mesh, supercell: as for `harmonic_fn`.

    Raises:
        ValueError: an imaginary frequency, or a temperature that is not positive (with `quantum`, negative).
    """
    T = np.atleast_1d(np.asarray(temperatures, float))
    if not (T >= 0).all() or (not quantum and not (T > 0).all()):
        raise ValueError(f"temperatures are in K and must be {'positive or 0' if quantum else 'positive'}; got {T}.")
    R, box = jnp.asarray(system.R), jnp.asarray(system.box)
    phi = jax.jit(force_constants_for(mesh, potential, system, supercell, 0.0))(R, box, params)
    nu = np.asarray(jax.jit(frequencies)(phi, jnp.asarray(mesh.q, R.dtype)))
    moving = np.ones(nu.shape, bool)
    for k in np.flatnonzero(mesh.gamma):
        moving[k, np.argsort(np.abs(nu[k]))[:3]] = False
    check_stable(nu, mesh.q, moving)
    square = jnp.asarray((nu[moving] * units.THz) ** 2)
    weights = jnp.asarray(np.broadcast_to(mesh.weights[:, None], nu.shape)[moving])
    static = jax.jit(crystal_energy_fn(potential, system, headroom=0.0))(R, box, params)

    def free_energy(T):
        return static + jnp.sum(weights * mode_free_energy(square, T, quantum=quantum))

    return Thermodynamics(*map(np.asarray, jax.jit(jax.vmap(thermodynamics(free_energy)))(jnp.asarray(T))))


def check_stable(nu: np.ndarray, q: np.ndarray, moving: np.ndarray | None = None) -> None:
    """Raise a ValueError that names the wave vector and the frequency if any of `nu` (Q, modes) THz is not positive.

    Args:
        nu: as `phonons.frequencies` gives them.
        q: (Q, 3).
        moving: False for the translations at Gamma, which are not looked at.
    """
    considered = nu if moving is None else np.where(moving, nu, np.inf)
    if considered.min() > 0:
        return
    k, mode = np.unravel_index(np.argmin(considered), considered.shape)
    at = ", ".join(f"{x:.4g}" for x in q[k])
    raise ValueError(
        f"a harmonic free energy does not exist: at q = ({at}) the frequency of mode {mode} is "
        f"{abs(considered[k, mode]):.4g}i THz, and {(considered <= 0).any(axis=1).sum()} of {len(q)} wave vectors have "
        "imaginary ones. Relax the crystal, or look for the structure that it goes over into."
    )
