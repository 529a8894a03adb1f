"""Quantum thermal averages from path integrals: functions of one configuration whose means over many are the answer.

Arrays of a ring polymer of P beads (see `modes`); beta = 1 / kT of the physical temperature and beta_P = beta / P:

    R (P, N, 3) Å, unwrapped     V (P,) eV, V(R_j)     F (P, N, 3) eV/Å, -dV/dR of the plain potential
    W (P, 3, 3) eV, -dV/dstrain, sum_i R_i (x) F_i in a free cluster     mass (N, 1) amu     kT in eV

u_j = R_j - mean(R) is the deviation from the centroid. `energies` is a function (P, N, 3) -> (P,) eV.

High-order actions weigh the potential of bead j as

    V_eff,j = w_j V_j + g_j,    g_j = d_j hbar^2 beta_P^2 sum_i |F_ij|^2 / m_i,

"primitive": w = 1, d = 0. "takahashi-imada": w = 1, d = 1/24 (J. Phys. Soc. Jpn. 53, 3765 (1984)).
"suzuki-chin" with alpha = 0, even P: w = 2/3, d = 0 for j = 0, 2, ... and w = 4/3, d = 1/9 for j = 1, 3, ...
(Suzuki, Phys. Lett. A 201, 425 (1995); Chin, Phys. Lett. A 226, 344 (1997)).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.md.modes import HBAR, ring_frequency

Energies = Callable[[Array], Array]
SCHEMES = ("primitive", "takahashi-imada", "suzuki-chin")


def deviations(R: Array) -> Array:
    """Return u (P, N, 3), the positions relative to the centroids."""
    return R - jnp.mean(R, axis=0)


def radius_of_gyration(R: Array) -> Array:
    """Return (mean_j |u_j|^2)^(1/2) of every atom's ring, (N,) Å."""
    return jnp.sqrt(jnp.mean(jnp.sum(deviations(R) ** 2, axis=2), axis=0))


# Kinetic energy and pressure


def spring_energies(R: Array, mass: Array, kT: Array) -> Array:
    """Return the energy of every atom's springs, sum_j m omega_P^2 |R_j - R_{j+1}|^2 / 2, (N,) eV."""
    stretch = R - jnp.roll(R, -1, axis=0)
    return 0.5 * ring_frequency(len(R), kT) ** 2 * jnp.sum(mass * stretch**2, axis=(0, 2))


def kinetic_primitive(R: Array, mass: Array, kT: Array) -> Array:
    """Return the thermodynamic estimator 3 N P kT / 2 - (springs) / P, eV: Barker, J. Chem. Phys. 70, 2914 (1979).

    Its variance grows with P; `kinetic_centroid_virial` has the same mean.
    """
    P, N, _ = R.shape
    return 1.5 * N * P * kT - jnp.sum(spring_energies(R, mass, kT)) / P


def kinetic_virial(R: Array, F: Array) -> Array:
    """Return -sum R . F / 2 P, eV, for bound systems: Herman, Bruskin, Berne, J. Chem. Phys. 76, 5150 (1982)."""
    return -0.5 * jnp.sum(R * F) / len(R)


def kinetic_centroid_virial(R: Array, F: Array, kT: Array) -> Array:
    """Return 3 N kT / 2 - sum u . F / 2 P, eV."""
    return 1.5 * R.shape[1] * kT + kinetic_virial(deviations(R), F)


def kinetic_tensor(R: Array, F: Array, kT: Array) -> Array:
    """Return kT / 2 - sum_j (u F^T + F u^T) / 4 P of every atom, (N, 3, 3) eV: `kinetic_centroid_virial` by parts."""
    virial = jnp.einsum("jia,jib->iab", deviations(R), F, precision=jax.lax.Precision.HIGHEST) / len(R)
    return 0.5 * kT * jnp.eye(3, dtype=R.dtype) - 0.25 * (virial + virial.swapaxes(1, 2))


def pressure(K: Array, W: Array, volume: Array) -> Array:
    """Return (2 K + mean_j tr W_j) / 3 V, eV/Å^3, with any of the kinetic energies K."""
    return (2 * K + jnp.trace(jnp.mean(W, axis=0))) / (3 * volume)


def centroid_virial(R: Array, F: Array, W: Array) -> Array:
    """Return mean_j (W_j - sum_i u_ij (x) F_ij), (3, 3) eV: -dV/dstrain where box and centroids feel it, not the u_j.

    With it the pressure is (3 N kT + tr) / 3 V, the same as `pressure` of the centroid-virial kinetic energy.
    """
    spread = jnp.einsum("jia,jib->ab", deviations(R), F, precision=jax.lax.Precision.HIGHEST)
    return jnp.mean(W, axis=0) - spread / len(R)


# Heat capacity


def heat_capacity_terms(energies: Energies, R: Array) -> tuple[Array, Array]:
    """Return epsilon and epsilon', eV, the first two derivatives at s = 1 of s mean_j V(mean(R) + s^(1/2) u_j).

    At beta' = s beta, deviations u_j s^(1/2) make the springs independent of s, and Z(beta') is beta'^(-3N/2) times
    the average of exp(-beta s mean_j V): Yamamoto, J. Chem. Phys. 123, 104101 (2005). So the energy is
    3 N kT / 2 + <epsilon>, and a second derivative of ln Z gives `heat_capacity`.
    """
    center, u = jnp.mean(R, axis=0), deviations(R)

    def scaled(s):
        return s * jnp.mean(energies(center + jnp.sqrt(s) * u))

    def slope(s):
        return jax.jvp(scaled, (s,), (jnp.ones_like(s),))[1]

    one = jnp.ones((), R.dtype)
    return jax.jvp(slope, (one,), (one,))


def heat_capacity(eps: Array, deps: Array, kT: Array, dof: int) -> Array:
    """Return Cv / k = dof / 2 + var(epsilon) / kT^2 - <epsilon'> / kT.

    Args:
        eps, deps: (samples,) eV, from `heat_capacity_terms`.
        dof: free coordinates of the centroids, 3 N, or 3 N - 3 where their centre of mass is held.
    """
    return 0.5 * dof + eps.var() / kT**2 - deps.mean() / kT


# Momentum distribution and isotopes


def end_to_end(energies: Energies, R: Array, V: Array, atom: int, x: Array, mass: Array, kT: Array) -> Array:
    """Return a sample of n(x), the end-to-end distribution of the open path of one atom, with n(0) = 1.

    Lin, Morrone, Car, Parrinello, Phys. Rev. Lett. 105, 110602 (2010): the ring is cut at bead 0 and displaced by
    y_j x, y_j = j / P - 1/2 for j = 0 ... P, where bead P is bead 0 again and both ends have half a weight:

        n(x) = exp(-m x^2 kT / 2 hbar^2) <exp(-beta_P sum_j [V(R_j + y_j x) - V(R_j)])>.

    The momentum distribution is its Fourier transform, int n(x) exp(i p . x / hbar) dx / (2 pi hbar)^3; -hbar^2 times
    its Hessian at x = 0 is <p p^T>. Every bead may be bead 0: rolls of (R, V) give more samples.

    Args:
        energies: takes P + 1 configurations here.
        V: (P,) eV, at R.
        x: (3,) Å.
    """
    P = len(R)
    y = jnp.asarray(np.arange(P + 1) / P - 0.5, R.dtype)
    opened = jnp.concatenate([R, R[:1]]).at[:, atom].add(y[:, None] * x)
    E = energies(opened)
    work = jnp.sum(E[1:-1]) + 0.5 * (E[0] + E[-1]) - jnp.sum(V)
    return jnp.exp(-0.5 * mass[atom, 0] * kT / HBAR**2 * jnp.sum(x * x) - work / (P * kT))


def isotope_scaled(energies: Energies, R: Array, V: Array, ratio: Array, kT: Array) -> Array:
    """Return h, with Z(m') / Z(m) = prod_i (m'_i / m_i)^(3/2) <exp(-h)> for heavier or lighter isotopes.

    h = beta_P sum_j [V(mean(R) + (m / m')^(1/2) u_j) - V(R_j)]: Cheng and Ceriotti, J. Chem. Phys. 141, 244112 (2014).
    Two such averages, of two environments, make a fractionation ratio, in which the classical factor cancels.

    Args:
        ratio: m' / m (N, 1), 1 for atoms that are not replaced.
    """
    scaled = jnp.mean(R, axis=0) + deviations(R) / jnp.sqrt(ratio)
    return jnp.sum(energies(scaled) - V) / (len(R) * kT)


def isotope_springs(R: Array, mass: Array, ratio: Array, kT: Array) -> Array:
    """Return another h for `isotope_scaled`'s formula, from the springs alone; its variance grows with P.

    h = beta_P sum_i (m'_i / m_i - 1) (springs of i) - 3 (P - 1) / 2 sum_i ln(m'_i / m_i).
    """
    P, r = len(R), ratio[:, 0]
    return jnp.sum((r - 1) * spring_energies(R, mass, kT)) / (P * kT) - 1.5 * (P - 1) * jnp.sum(jnp.log(r))


# High-order actions


def fourth_order_weights(P: int, scheme: str) -> tuple[np.ndarray, np.ndarray]:
    """Return w (P,) and d (P,), which weigh V_j and hbar^2 beta_P^2 |F_j|^2 / m in V_eff,j (top of this file)."""
    if scheme == "primitive":
        return np.ones(P), np.zeros(P)
    if scheme == "takahashi-imada":
        return np.ones(P), np.full(P, 1 / 24)
    if scheme == "suzuki-chin":
        if P % 2:
            raise ValueError(f"suzuki-chin needs an even number of beads; got {P}.")
        return np.tile([2 / 3, 4 / 3], P // 2), np.tile([0, 1 / 9], P // 2)
    raise ValueError(f"scheme is one of {', '.join(SCHEMES)}; got {scheme!r}.")


def _coefficients(F: Array, kT: Array, scheme: str) -> tuple[Array, Array]:
    """Return w (P,) and d hbar^2 beta_P^2 (P,), amu Å^2 / eV."""
    P = len(F)
    w, d = (jnp.asarray(x, F.dtype) for x in fourth_order_weights(P, scheme))
    return w, d * (HBAR / (P * kT)) ** 2


def gradient_terms(F: Array, mass: Array, kT: Array, scheme: str) -> Array:
    """Return g_j, the terms of V_eff,j in the squared forces, (P,) eV."""
    return _coefficients(F, kT, scheme)[1] * jnp.sum(F * F / mass, axis=(1, 2))


def effective_potential(V: Array, F: Array, mass: Array, kT: Array, scheme: str) -> Array:
    """Return V_eff,j = w_j V_j + g_j, (P,) eV."""
    return _coefficients(F, kT, scheme)[0] * V + gradient_terms(F, mass, kT, scheme)


def effective_forces(F: Array, hessian_vector: Callable[[Array], Array], mass: Array, kT: Array, scheme: str) -> Array:
    """Return -dV_eff/dR = w F + 2 d hbar^2 beta_P^2 H (F / m), (P, N, 3) eV/Å.

    Args:
        hessian_vector: v (P, N, 3) -> H v, with the Hessian H = d^2 V / dR^2 of every bead at R.
    """
    w, c = _coefficients(F, kT, scheme)
    return w[:, None, None] * F + 2 * c[:, None, None] * hessian_vector(F / mass)


def kinetic_thermodynamic(R: Array, F: Array, mass: Array, kT: Array, scheme: str) -> Array:
    """Return `kinetic_primitive` + mean_j g_j, eV: m d(ln Z)/dm / beta.

    The same with less noise: `kinetic_centroid_virial` with `effective_forces`, + mean_j g_j.
    """
    return kinetic_primitive(R, mass, kT) + jnp.mean(gradient_terms(F, mass, kT, scheme))


def potential_thermodynamic(V: Array, F: Array, mass: Array, kT: Array, scheme: str) -> Array:
    """Return mean_j (w_j V_j + 2 g_j), eV: -d(ln Z)/d(lambda) / beta of lambda V at lambda = 1."""
    return jnp.mean(effective_potential(V, F, mass, kT, scheme) + gradient_terms(F, mass, kT, scheme))


def energy_thermodynamic(R: Array, V: Array, F: Array, mass: Array, kT: Array, scheme: str = "primitive") -> Array:
    """Return kinetic + potential, eV: -d(ln Z)/d(beta), where g_j, which grows as beta^2, counts three times."""
    return kinetic_thermodynamic(R, F, mass, kT, scheme) + potential_thermodynamic(V, F, mass, kT, scheme)


def potential_operator(V: Array) -> Array:
    """Return the mean of V over the beads 0, 2, ... of a Suzuki-Chin ring, eV, or of any other function of position.

    There the density is that of the Boltzmann operator to fourth order; at the other beads and in other schemes
    of fourth order it is not.
    """
    return jnp.mean(V[::2])
