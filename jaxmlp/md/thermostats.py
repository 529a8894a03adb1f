"""Thermostats: maps of momenta that keep a canonical distribution, and what they exchange with the atoms.

Each works on momenta p (n, d) with masses (n, 1): those of atoms, of the modes of a ring polymer, or of a barostat.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.md.controls import Controls, GLEMatrices
from jaxmlp.md.noise import normal
from jaxmlp.md.once import once
from jaxmlp.md.state import kinetic_energy
from jaxmlp.units import fs, kB


class Bath(NamedTuple):
    """What a thermostat without variables of its own leaves behind.

    Args:
        heat: eV given to the atoms so far.
        kinetic: kinetic energy right after the last thermostat move, eV. Its mean is exact for harmonic motion,
            where that at the end of a BAOAB step is low by (omega dt)^2 / 4.
    """

    heat: Array
    kinetic: Array


class Target(NamedTuple):
    """What a thermostat acts on and how strongly, in units of eV, amu and Å (amu/eV)^(1/2).

    Args:
        mass: (n, 1).
        kT, dof, friction, tau: scalars, or (groups,).
        kT0: kT at the start of a ramp, from which thermostats with masses make them.
        group: (n,) group of each row of p, the number of groups for rows that are left alone; None for one group.
        gle: matrices A (1/time) and C (eV).
    """

    mass: Array
    kT: Array
    dof: Array
    friction: Array | None = None
    tau: Array | None = None
    kT0: Array | None = None
    group: Array | None = None
    gle: GLEMatrices | None = None

    @classmethod
    def of(cls, atoms, controls: Controls, start: Controls) -> "Target":
        """Return the target of a thermostat of atoms.

        Args:
            controls: those of the step.
            start: those of step 0.
        """
        slow = None if controls.friction is None else controls.friction / fs
        tau = None if controls.tau is None else controls.tau * fs
        dof = atoms.dof if atoms.group is None else atoms.group_dof
        return cls(atoms.mass, controls.kT, dof, slow, tau, start.kT, atoms.group, _internal(controls))

    def spread(self, x: Array, neutral: float) -> Array:
        """Return x, one value a group, as (n, 1), with `neutral` for rows without a group; a scalar as it is."""
        if self.group is None:
            return x
        x = jnp.broadcast_to(x, self.group_dof)
        return jnp.append(x, jnp.asarray(neutral, x.dtype))[self.group][:, None]

    @property
    def group_dof(self) -> tuple[int, ...]:
        """Shape of what groups have one of."""
        return jnp.shape(self.dof)

    def kinetic(self, p: Array) -> Array:
        """Return the kinetic energy, eV, a scalar or (groups,)."""
        if self.group is None:
            return kinetic_energy(p, self.mass)
        each = 0.5 * jnp.sum(p * p / self.mass, axis=1)
        return jax.ops.segment_sum(each, self.group, self.group_dof[0] + 1)[:-1]


def _internal(controls: Controls) -> GLEMatrices | None:
    if controls.gle is None:
        return None
    A, C = controls.gle
    return GLEMatrices(A / fs, controls.kT * jnp.eye(A.shape[-1], dtype=A.dtype) if C is None else kB * C)


@dataclass(frozen=True)
class Thermostat:
    """A thermostat: what it needs of `Controls`, its memory, and its map of the momenta.

    Class attributes:
        needs: the controls it reads.
        keeps_momentum: a total momentum of zero stays zero.
        canonical: it samples the canonical ensemble.
    """

    needs: ClassVar[tuple[str, ...]] = ("temperature",)
    keeps_momentum: ClassVar[bool] = True
    canonical: ClassVar[bool] = True

    def start(self, p: Array, target: Target, key: Array) -> Any:
        """Return the memory at the start."""
        return Bath(jnp.zeros((), p.dtype), jnp.sum(target.kinetic(p)))

    def __call__(self, p: Array, bath: Any, target: Target, h: Array, key: Array) -> tuple[Array, Any]:
        """Return momenta and memory after a time h."""
        raise NotImplementedError(f"{type(self).__name__} defines no map of momenta.")

    def energy(self, bath: Any, target: Target) -> Array:
        """Return what makes, added to the energy of the atoms, the conserved quantity, eV."""
        return -bath.heat

    def kinetic(self, p: Array, bath: Any, mass: Array) -> Array:
        """Return the kinetic energy whose mean has the smallest error in the time step, eV."""
        return kinetic_energy(p, mass)


def booked(p: Array, old: Array, bath: Bath, mass: Array) -> tuple[Array, Bath]:
    """Return p and the memory with the heat that took the momenta from `old` to p."""
    kinetic = kinetic_energy(p, mass)
    return p, Bath(bath.heat + kinetic - kinetic_energy(old, mass), kinetic)


def rescaled(p: Array, factor: Array, K: Array, bath: Bath, target: Target) -> tuple[Array, Bath]:
    """Return the momenta times a factor, and the memory with the heat (factor^2 - 1) K of it.

    Args:
        factor: a scalar or (groups,).
        K: the kinetic energy before, of the same shape.
    """
    heat = jnp.sum((factor * factor - 1) * K)
    before = K if target.group is None else kinetic_energy(p, target.mass)
    return once(p * target.spread(factor, 1.0)), Bath(bath.heat + heat, before + heat)


@dataclass(frozen=True)
class Langevin(Thermostat):
    """dp = -friction p dt + sqrt(2 friction mass kT) dW, solved exactly."""

    needs: ClassVar[tuple[str, ...]] = ("temperature", "friction")
    keeps_momentum: ClassVar[bool] = False

    def __call__(self, p, bath, target, h, key):
        c = jnp.exp(-target.spread(target.friction, 0.0) * h)
        kT = target.spread(target.kT, 0.0)
        noise = normal(key, p.shape, p.dtype)
        return booked(once(c * p + jnp.sqrt((1 - c * c) * kT * target.mass) * noise), p, bath, target.mass)

    def kinetic(self, p, bath, mass):
        return bath.kinetic


@dataclass(frozen=True)
class CSVR(Thermostat):
    """Canonical sampling through velocity rescaling: momenta are scaled so that K follows its own Langevin equation.

    Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), Eqs. (A7) and (A8), exact for any h:
    p -> alpha p with alpha = sqrt(c) + R_1 s and alpha^2 = (sqrt(c) + R_1 s)^2 + s^2 sum_{i=2}^{dof} R_i^2, where
    c = exp(-h / tau), s^2 = (1 - c) kT / (2 K), and the sign of alpha is that of sqrt(c) + R_1 s.
    """

    needs: ClassVar[tuple[str, ...]] = ("temperature", "tau")

    def __call__(self, p, bath, target, h, key):
        one, many = jax.random.split(key)
        K = target.kinetic(p)
        moving = K > 0
        c = jnp.exp(-h / target.tau)
        s2 = (1 - c) * target.kT / (2 * jnp.where(moving, K, 1.0))
        first = jnp.sqrt(c) + normal(one, jnp.shape(K), p.dtype) * jnp.sqrt(s2)
        half = jnp.broadcast_to(0.5 * (target.dof - 1), jnp.shape(K)).astype(p.dtype)
        others = 2 * jnp.where(half > 0, jax.random.gamma(many, jnp.where(half > 0, half, 1.0)), 0.0)
        alpha = jnp.sign(first) * jnp.sqrt(first * first + s2 * others)
        return rescaled(p, jnp.where(moving, alpha, 1.0), K, bath, target)


@dataclass(frozen=True)
class Berendsen(Thermostat):
    """Weak coupling, lambda^2 = 1 + h (T_0 / T - 1) / tau: it relaxes the temperature and samples no ensemble.

    Berendsen, Postma, van Gunsteren, DiNola, Haak, J. Chem. Phys. 81, 3684 (1984), Eq. (11).
    """

    needs: ClassVar[tuple[str, ...]] = ("temperature", "tau")
    canonical: ClassVar[bool] = False

    def __call__(self, p, bath, target, h, key):
        K = target.kinetic(p)
        wanted = 0.5 * target.dof * target.kT / jnp.where(K > 0, K, 1.0)
        square = jnp.maximum(1 + h / target.tau * (wanted - 1), 0.0)
        scale = jnp.where(K > 0, jnp.sqrt(square), 1.0)
        return rescaled(p, scale, K, bath, target)


class Colored(NamedTuple):
    """What a generalised Langevin thermostat remembers: a `Bath`, and s auxiliary momenta / mass^(1/2), (s, n, d)."""

    heat: Array
    kinetic: Array
    s: Array


@dataclass(frozen=True)
class GLE(Thermostat):
    """Generalised Langevin equation d(p, s) = -A (p, s) dt + noise of stationary covariance C, solved exactly.

    Ceriotti, Bussi, Parrinello, J. Chem. Theory Comput. 6, 1170 (2010), Eqs. (6)-(9), for p divided by the root of the
    mass: T = exp(-A h), S S^T = C - T C T^T. Matrices in the literature (GLE4MD) come as A in inverse time and C in
    temperature; C = kT samples the canonical ensemble, another C a frequency-dependent temperature.
    """

    needs: ClassVar[tuple[str, ...]] = ("temperature", "gle")
    keeps_momentum: ClassVar[bool] = False

    def start(self, p, target, key):
        bath = super().start(p, target, key)
        root = _root(target.gle.C)
        n = root.shape[-1]
        noise = normal(key, (n, *p.shape), p.dtype)
        return Colored(bath.heat, bath.kinetic, jnp.stack(_mixed(root, noise)[1:]))

    def __call__(self, p, bath, target, h, key):
        root_mass = jnp.sqrt(target.mass)
        T, S = gle_propagator(target.gle, h)
        all_ = jnp.concatenate([(p / root_mass)[None], bath.s])
        noise = normal(key, all_.shape, p.dtype)
        new = jnp.stack([a + b for a, b in zip(_mixed(T, all_), _mixed(S, noise))])
        p, out = booked(once(new[0] * root_mass), p, bath, target.mass)
        return p, Colored(out.heat, out.kinetic, new[1:])

    def kinetic(self, p, bath, mass):
        return bath.kinetic


def gle_propagator(gle: GLEMatrices, h: Array) -> tuple[Array, Array]:
    """Return T = exp(-A h) and S with S S^T = C - T C T^T."""
    T = jax.scipy.linalg.expm(-gle.A * h)
    return T, _root(gle.C - T @ gle.C @ jnp.swapaxes(T, -1, -2))


def _root(C: Array) -> Array:
    """A root S of a covariance, S S^T = C, that may be singular: noise that is not there at h = 0."""
    values, vectors = jnp.linalg.eigh(0.5 * (C + jnp.swapaxes(C, -1, -2)))
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[..., None, :]


def _mixed(M: Array, x: Array) -> list[Array]:
    """M x along the first axis of x (s, ...), for M (s, s), or (modes, s, s) and x (s, modes, ...)."""
    rows = [[M[..., i, j] for j in range(M.shape[-1])] for i in range(M.shape[-1])]
    wide = lambda m: m.reshape(m.shape + (1,) * (x.ndim - 1 - m.ndim))
    return [sum((wide(m) * y for m, y in zip(row[1:], x[1:])), start=wide(row[0]) * x[0]) for row in rows]
