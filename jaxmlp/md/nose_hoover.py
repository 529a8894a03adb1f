"""Nose-Hoover chains."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxmlp.md.thermostats import Target, Thermostat

_CUBE, _FOURTH = 1 / (2 - 2 ** (1 / 3)), 1 / (4 - 4 ** (1 / 3))
_SEVEN = (-1.17767998417887, 0.235573213359357, 0.784513610477560)  # Yoshida 1990, Table 1, solution A
# Suzuki-Yoshida weights: a symmetric second-order map over w_1 h, w_2 h, ... is one of order 2, 4, 4, 6 over h.
SUZUKI_YOSHIDA = {
    1: (1.0,),
    3: (_CUBE, 1 - 2 * _CUBE, _CUBE),
    5: (_FOURTH, _FOURTH, 1 - 4 * _FOURTH, _FOURTH, _FOURTH),
    7: (*_SEVEN, 1 - 2 * sum(_SEVEN), *reversed(_SEVEN)),
}


class Chain(NamedTuple):
    """A chain of M thermostats, or one for each group.

    Args:
        v: (M,) or (M, groups) velocities of the thermostats' positions xi, 1/time.
        potential: eV, sum_j N_j kT xi_j with N_1 = dof and N_j = 1 (summed as it changes, so that kT may).
    """

    v: Array
    potential: Array


@dataclass(frozen=True)
class NoseHoover(Thermostat):
    """A Nose-Hoover chain with masses Q_1 = dof kT tau^2 and Q_j = kT tau^2 (kT that of step 0).

    Martyna, Tuckerman, Tobias, Klein, Mol. Phys. 87, 1117 (1996), Eqs. (29) and (30), with the forces
    G_1 = (2 K - dof kT) / Q_1 and G_j = (Q_{j-1} v_{j-1}^2 - kT) / Q_j.

    Args:
        chain: length M. A chain of one is not ergodic for harmonic motion.
        order: number of Suzuki-Yoshida weights, 1, 3, 5 or 7.
    """

    chain: int = 3
    order: int = 3
    needs: ClassVar[tuple[str, ...]] = ("temperature", "tau")

    def __post_init__(self):
        if self.chain < 1:
            raise ValueError(f"a Nose-Hoover chain needs at least one link (3 are usual); got chain={self.chain}.")
        if self.order not in SUZUKI_YOSHIDA:
            raise ValueError(f"order is a number of Suzuki-Yoshida weights, 1, 3, 5 or 7; got {self.order}.")

    def start(self, p, target, key):
        return Chain(jnp.zeros((self.chain, *target.group_dof), p.dtype), jnp.zeros((), p.dtype))

    def masses(self, target: Target) -> list[Array]:
        """Q_j, eV time^2."""
        Q = target.kT0 * target.tau**2 * jnp.ones_like(target.dof)
        return [target.dof * Q, *[Q] * (self.chain - 1)]

    def __call__(self, p, bath, target, h, key):
        Q, kT, last = self.masses(target), target.kT, self.chain - 1
        twice_K = 2 * target.kinetic(p)

        def one(carry, h):
            scale, v, potential = carry
            v = list(v)

            def push(j):
                drive = twice_K * scale * scale - target.dof * kT if j == 0 else Q[j - 1] * v[j - 1] ** 2 - kT
                brake = 1.0 if j == last else jnp.exp(-0.25 * h * v[j + 1])
                v[j] = (v[j] * brake + 0.5 * h * drive / Q[j]) * brake

            for j in range(last, -1, -1):
                push(j)
            scale = scale * jnp.exp(-h * v[0])
            potential = potential + h * jnp.sum(kT * (target.dof * v[0] + sum(v[1:], start=jnp.zeros_like(v[0]))))
            for j in range(last + 1):
                push(j)
            return (scale, jnp.stack(v), potential), None

        weights = h * jnp.asarray(SUZUKI_YOSHIDA[self.order], p.dtype)
        (scale, v, potential), _ = lax.scan(one, (jnp.ones_like(twice_K), bath.v, bath.potential), weights)
        return p * target.spread(scale, 1.0), Chain(v, potential)

    def energy(self, bath, target):
        return bath.potential + sum(jnp.sum(0.5 * Q * v * v) for Q, v in zip(self.masses(target), bath.v))
