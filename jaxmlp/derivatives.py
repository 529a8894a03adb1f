"""Forces, virial, stress, Hessian and their kin of any energy(R, box, params)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.evaluate import Evaluation
from jaxmlp.geometry import strained, volume

EnergyFn = Callable[..., Array]

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def forces(energy: EnergyFn) -> Callable[..., Array]:
    """Return forces(R, box, params) = -dE/dR, (N, 3) eV/Å."""
    return lambda R, box, params: -jax.grad(energy)(R, box, params)


def strain_energy(energy: EnergyFn) -> Callable[..., Array]:
    """Return f(strain, R, box, params): the energy after R -> R (1 + strain), box -> box (1 + strain)."""

    def of_strain(strain, R, box, params):
        return energy(*strained(R, box, strain), params)

    return of_strain


def virial(energy: EnergyFn) -> Callable[..., Array]:
    """Return virial(R, box, params) = -dE/dstrain, (3, 3) eV."""

    def of(R, box, params):
        R = jnp.asarray(R)
        box = None if box is None else jnp.asarray(box)
        return -jax.grad(strain_energy(energy))(jnp.zeros((3, 3), R.dtype), R, box, params)

    return of


def stress(energy: EnergyFn) -> Callable[..., Array]:
    """Return stress(R, box, params) = (1/V) dE/dstrain, (3, 3) eV/Å^3; positive under tension, as in ASE."""
    return lambda R, box, params: -virial(energy)(R, box, params) / volume(jnp.asarray(box))


def pressure(energy: EnergyFn) -> Callable[..., Array]:
    """Return pressure(R, box, params) = -tr(stress) / 3 of the atoms at rest, eV/Å^3."""
    return lambda R, box, params: -jnp.trace(stress(energy)(R, box, params)) / 3


def hvp(energy: EnergyFn) -> Callable[..., Array]:
    """Return hvp(R, box, params, v): the Hessian d2E/dR2 times v (N, 3), forward over reverse, eV/Å^2 times v."""

    def product(R, box, params, v):
        return jax.jvp(lambda R: jax.grad(energy)(R, box, params), (jnp.asarray(R),), (v,))[1]

    return product


def hessian(energy: EnergyFn, *, batch: int | None = None) -> Callable[..., Array]:
    """Return hessian(R, box, params), (N, 3, N, 3) eV/Å^2, column by column with `hvp`.

    Args:
        batch: columns computed at once; all of them where None (fast and memory-hungry).
    """

    def matrix(R, box, params):
        R = jnp.asarray(R)
        basis = jnp.eye(R.size, dtype=R.dtype).reshape(R.size, *R.shape)
        column = lambda v: hvp(energy)(R, box, params, v)
        columns = jax.lax.map(column, basis, batch_size=R.size if batch is None else min(batch, R.size))
        return columns.reshape(*R.shape, *R.shape)

    return matrix


def elastic_constants(energy: EnergyFn, *, relaxed: bool = True) -> Callable[..., Array]:
    """Return C(R, box, params), the (6, 6) elastic constants in Voigt order (xx yy zz yz xz xy), eV/Å^3.

    C_ijkl = (1/V) [E_ee - E_eu (E_uu)^+ E_ue] with derivatives of E(strain e, displacements u) at fixed strained
    positions; the second term lets the atoms relax inside the strained cell. At nonzero stress these are second
    derivatives of the energy with respect to symmetric strain, without pressure corrections. Differentiable in
    everything, where the crystal has no zero modes beyond the three translations.

    Args:
        relaxed: include the relaxation term; False gives the clamped-ion (Born) constants.
    """

    def voigt(gamma):
        strain = jnp.zeros((3, 3), gamma.dtype)
        for k, (a, b) in enumerate(VOIGT):
            half = 1.0 if a == b else 0.5
            strain = strain.at[a, b].set(half * gamma[k]).at[b, a].set(half * gamma[k])
        return strain

    def constants(R, box, params):
        R, box = jnp.asarray(R), jnp.asarray(box)

        def of(gamma, u):
            strained_R, strained_box = strained(R, box, voigt(gamma))
            return energy(strained_R + u, strained_box, params)

        zero, still = jnp.zeros(6, R.dtype), jnp.zeros_like(R)
        if not relaxed:
            return jax.hessian(of)(zero, still) / volume(box)
        n = R.size
        # All second derivatives at once: the energy is compiled twice differentiated one time, not three.
        of_both = jax.grad(lambda x: of(x[:6], x[6:].reshape(R.shape)))
        column = lambda v: jax.jvp(of_both, (jnp.zeros(6 + n, R.dtype),), (v,))[1]
        H = jax.vmap(column)(jnp.eye(6 + n, dtype=R.dtype))
        born, coupling, force_constants = H[:6, :6], H[6:, :6], H[6:, 6:]
        # Uniform translations cost nothing; giving them a stiffness leaves the solution orthogonal to them unchanged.
        shift = jnp.asarray(np.tile(np.eye(3), (n // 3, 1)) / np.sqrt(n / 3), R.dtype)
        stiff = force_constants + jnp.trace(force_constants) / n * shift @ shift.T
        return (born - coupling.T @ jnp.linalg.solve(stiff, coupling)) / volume(box)

    return constants


def heat_flux(evaluation: Evaluation, velocities: Array, masses: Array | None = None) -> Array:
    """Return J = sum_i v_i E_i + sum_i W_i v_i, (3,) eV times the unit of `velocities`, for local potentials.

    J = d/dt sum_i r_i E_i of an open system (Fan et al., PRB 92, 094301 (2015), Eq. 29, with W_i = sum_j r_ij (x)
    dE_j/dr_ji). With `masses` (N,) amu, E_i includes m v^2/2, for velocities in (eV/amu)^(1/2).
    """
    energies = evaluation.energies
    if masses is not None:
        energies = energies + 0.5 * masses * jnp.sum(velocities**2, axis=1)
    return energies @ velocities + jnp.einsum("nab,nb->a", evaluation.virials, velocities)
