"""Quasi-harmonic thermodynamics of crystals: the cell that minimises F(cell, T) + P V, and all that follows from it.

The strain at the minimum, and the positions of the atoms in the strained cell, are roots of gradients; derivatives pass
through them by the implicit function theorem. Thermal expansion, compressibility and heat capacity, and how they depend
on the parameters of the potential, are therefore exact derivatives at one temperature: nothing is fitted to volumes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.free_energy.harmonic import force_constants_for, harmonic, thermodynamics, vibrational_free_energy
from jaxmlp.free_energy.minima import polished, search, taylor, with_slope
from jaxmlp.geometry import strained, volume
from jaxmlp.potential import Params, Potential
from jaxmlp.properties.force_constants import ForceConstants, crystal_energy_fn
from jaxmlp.properties.phonons import QMesh
from jaxmlp.system import System


class Equilibrium(NamedTuple):
    """A crystal at temperature T and pressure P, one cell of it.

    Args:
        gibbs: eV, G = F + P V.
        entropy: eV/K, -dG/dT.
        heat_capacity: eV/K, at constant cell.
        volume: Å^3.
        strain: (modes,) of the cell against that of the system given.
        R, box: (n, 3) and (3, 3) Å.
    """

    gibbs: Array
    entropy: Array
    heat_capacity: Array
    volume: Array
    strain: Array
    R: Array
    box: Array


class Quasiharmonic(NamedTuple):
    """Properties for each of several temperatures; one cell of the crystal.

    Args:
        temperature: K.
        volume: Å^3.
        gibbs: eV.
        entropy: eV/K.
        cv, cp: eV/K, heat capacities at constant cell and at constant pressure.
        expansion: 1/K, (1/V) dV/dT; a third of it is the linear one of a cubic crystal.
        bulk_modulus: eV/Å^3, -V dP/dV at constant temperature.
        gruneisen: thermodynamic Grueneisen parameter, expansion * bulk_modulus * V / cv.
        R, box: (n, 3) and (3, 3) Å for each temperature.
    """

    temperature: np.ndarray
    volume: np.ndarray
    gibbs: np.ndarray
    entropy: np.ndarray
    cv: np.ndarray
    cp: np.ndarray
    expansion: np.ndarray
    bulk_modulus: np.ndarray
    gruneisen: np.ndarray
    R: np.ndarray
    box: np.ndarray


def strain_modes(strains: str | np.ndarray) -> np.ndarray:
    """Return the symmetric strains (modes, 3, 3) along which a cell may change.

    Args:
        strains: "isotropic", all lengths alike (1 mode); "axes", each Cartesian axis on its own (3); "full" (6); or the
            modes themselves, such as those that keep a crystal's symmetry.

    Raises:
        ValueError: another name, or modes that are not symmetric or not independent.
    """
    axes = np.eye(3)[:, :, None] * np.eye(3)[:, None, :]
    shears = np.zeros((3, 3, 3))
    for k, (a, b) in enumerate([(1, 2), (0, 2), (0, 1)]):
        shears[k, a, b] = shears[k, b, a] = 1.0
    named = {"isotropic": np.eye(3)[None], "axes": axes, "full": np.concatenate([axes, shears])}
    if isinstance(strains, str):
        if strains not in named:
            raise ValueError(f"strains must be one of {', '.join(named)} or an array (modes, 3, 3); got {strains!r}.")
        return named[strains]
    modes = np.asarray(strains, float)
    if modes.ndim != 3 or modes.shape[1:] != (3, 3) or not np.allclose(modes, modes.swapaxes(1, 2)):
        raise ValueError(f"strain modes must be an array (modes, 3, 3) of symmetric matrices; got shape {modes.shape}.")
    if np.linalg.matrix_rank(modes.reshape(len(modes), 9)) < len(modes):
        raise ValueError("strain modes must be linearly independent.")
    return modes


def relaxed_fn(energy: Callable[..., Array], *, order: int = 1) -> Callable[..., Array]:
    """Return relaxed(R, box, params): the positions (n, 3) Å of least energy near R, in a cell that does not change.

    NaN where no minimum is found near R. Differentiable in box and params.

    Args:
        order: of the highest derivative that is taken.
    """

    def relaxed(R, box, params):
        def height(u, R, box, params):
            moved = u.reshape(R.shape)
            # A stiffness against moving all atoms together, which costs nothing, makes the Hessian regular.
            return energy(R + moved, box, params) + 0.5 * jnp.sum(jnp.sum(moved, axis=0) ** 2) / len(R)

        args = (R, box, params)
        u = search(jax.grad(height), jax.jacfwd(jax.grad(height)), jnp.zeros(R.size, R.dtype), args, reach=0.1)
        u = polished(lambda u: height(u, *args), u, order)
        return R + u.reshape(R.shape)

    return relaxed


class _Parts(NamedTuple):
    """What a free energy is made of, at some strain: all that the potential is needed for."""

    energy: Array
    phi: ForceConstants
    volume: Array
    R: Array
    box: Array


def quasiharmonic_fn(
    potential: Potential,
    system: System,
    mesh: QMesh,
    *,
    quantum: bool = True,
    strains: str | np.ndarray = "isotropic",
    relax: bool = True,
    order: int = 2,
    supercell: int | tuple[int, int, int] | None = None,
    headroom: float = 0.03,
) -> Callable[[Array, Array, Params], Equilibrium]:
    """Return the pure function equilibrium(temperature, pressure, params) -> `Equilibrium`, a minimum of G over strain.

    G(T, P) = min [E(cell) + F_vib(cell, T) + P V(cell)], the positions in each cell those of least static energy E.
    `jit` it. It is differentiable in everything: alpha = (1/V) dV/dT, 1/B = -(1/V) dV/dP, C_P = T dS/dT, dV/dparams. As
    G is stationary in the strain, dG/dparams is also, for less, that of `harmonic.harmonic_fn` at fixed R and box. All
    NaN where no minimum is found: beyond the temperature at which the quasi-harmonic crystal loses its stability, or
    more than `headroom` from `system`.

    Args:
        system: one cell, relaxed with the potential or near that; strains are counted from it.
        mesh: wave vectors; with `phonons.GAMMA`, those of a finite simulation cell.
        strains: see `strain_modes`.
        order: 2 for first derivatives of an `Equilibrium`, 3 for second ones such as dalpha/dparams; those that need a
            higher one are NaN or infinite.
        relax: False leaves the atoms at their fractional coordinates, right where symmetry holds them and cheaper.
        supercell, headroom: as for `properties.force_constants_fn`.

    Raises:
        ValueError: an order below 2, strains that are no modes, or what `force_constants_fn` raises.
    """
    if order < 2:
        raise ValueError(f"order must be at least 2, which finding the minimum takes; got {order}.")
    modes = strain_modes(strains)
    energy = crystal_energy_fn(potential, system, headroom=headroom)
    crystal = force_constants_for(mesh, potential, system, supercell, headroom)
    relaxed = relaxed_fn(energy, order=order + 1)

    def clamped(x):
        R, box = jnp.asarray(system.R, x.dtype), jnp.asarray(system.box, x.dtype)
        return strained(R, box, jnp.tensordot(x, jnp.asarray(modes, x.dtype), 1))

    def parts(x, params):
        R, box = clamped(x)
        R = relaxed(R, box, params) if relax else R
        return _Parts(energy(R, box, params), crystal(R, box, params), volume(box), R, box)

    def vibrations(T, phi):
        return vibrational_free_energy(phi, mesh, T, quantum=quantum, order=order)

    def gibbs(p, T, P):
        return p.energy + vibrations(T, p.phi) + P * p.volume

    def stiffness(x, T, P, params):
        """Of the enthalpy of the crystal with its atoms held: somewhat stiffer, which makes the first steps shorter."""

        def enthalpy(x):
            R, box = clamped(x)
            return energy(R, box, params) + P * volume(box)

        return with_slope(with_slope(enthalpy))(x)[1][1]

    def equilibrium(temperature: Array, pressure: Array, params: Params) -> Equilibrium:
        T, P = jnp.asarray(temperature, float), jnp.asarray(pressure, float)

        def slope(x, T, P, params):
            return with_slope(lambda x: gibbs(parts(x, params), T, P))(x)[1]

        x = search(slope, stiffness, jnp.zeros(len(modes), T.dtype), (T, P, params), reach=0.01)
        near = taylor(lambda x: parts(x, params), x, order)
        d = polished(lambda d: gibbs(near(d), T, P), jnp.zeros_like(x), order - 1)
        p = near(d)
        F, _, S, C = thermodynamics(vibrations)(T, p.phi)
        return Equilibrium(p.energy + F + P * p.volume, S, C, p.volume, x + d, p.R, p.box)

    return equilibrium


def quasiharmonic(
    potential: Potential,
    params: Params,
    system: System,
    temperatures: np.ndarray,
    mesh: QMesh,
    *,
    pressure: float = 0.0,
    quantum: bool = True,
    strains: str | np.ndarray = "isotropic",
    supercell: int | tuple[int, int, int] | None = None,
    headroom: float = 0.03,
) -> Quasiharmonic:
    """Return cell, expansion, elasticity and heat capacities of a crystal at every temperature, see `Quasiharmonic`.

    Args:
        system: one cell, relaxed (`jaxmlp.minimize` with cell=True); in strained cells the positions are relaxed where
            symmetry does not hold them.
        temperatures: K.
        pressure: eV/Å^3.
        mesh, strains, supercell, headroom: as for `quasiharmonic_fn`.

    Raises:
        ValueError: a temperature out of range, imaginary frequencies of `system`, or no minimum of G.
    """
    temperatures = np.atleast_1d(np.asarray(temperatures, float))
    harmonic(potential, params, system, temperatures, mesh, quantum=quantum, supercell=supercell)  # is it stable?
    relax = not _held_by_symmetry(potential, params, system, strain_modes(strains), headroom)
    equilibrium = quasiharmonic_fn(
        potential, system, mesh, quantum=quantum, strains=strains, relax=relax, supercell=supercell, headroom=headroom
    )
    both = jax.jit(lambda z, params: with_slope(lambda z: equilibrium(z[0], z[1], params))(z))
    rows = []
    for T in temperatures:
        state, slope = jax.tree.map(np.asarray, both(jnp.asarray([T, pressure]), params))
        if not np.isfinite(state.gibbs):
            raise ValueError(
                f"no minimum of F + P V was found at {T} K and {pressure} eV/Å^3: the quasi-harmonic crystal is not "
                f"stable there, or the minimum is far from the given cell, compressed by more than {headroom:.0%} (a "
                "larger headroom helps) or strained to where frequencies are imaginary."
            )
        V, (V_T, V_P) = state.volume, slope.volume
        B = -V / V_P
        gamma = V_T * B / state.heat_capacity if state.heat_capacity > 0 else np.nan
        cp = T * slope.entropy[0]
        rows.append((T, V, state.gibbs, state.entropy, state.heat_capacity, cp, V_T / V, B, gamma, state.R, state.box))
    return Quasiharmonic(*map(np.array, zip(*rows, strict=True)))


def _held_by_symmetry(potential, params, system: System, modes: np.ndarray, headroom: float) -> bool:
    """Whether the atoms feel no forces in the cell nor in cells strained along all modes, so that none would relax."""
    energy = crystal_energy_fn(potential, system, headroom=headroom)
    force = jax.jit(jax.vmap(jax.grad(energy), (0, 0, None)))
    size = 0.5 * headroom / np.abs(modes).sum(axis=0).max()
    strains = np.concatenate([np.zeros((1, 3, 3)), size * modes, -size * modes])
    F = np.eye(3) + strains
    forces = force(jnp.asarray(system.R @ F), jnp.asarray(system.box @ F), params)
    return bool(np.abs(forces).max() < 1e-6)  # eV/Å; a force from missing symmetry is about 1 eV/Å times the strain
