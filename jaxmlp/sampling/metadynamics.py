"""Well-tempered metadynamics."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from jaxmlp.sampling import kernels as kn
from jaxmlp.sampling.adaptive import Adaptive


class Hills(NamedTuple):
    """What metadynamics remembers: its Gaussians in the order of their deposition, heights in eV, and kT in eV."""

    kernels: kn.Kernels
    kT: Array


@dataclass(frozen=True, kw_only=True)
class Metadynamics(Adaptive):
    """V(s, t) = sum_k w_k exp(-sum_a (s_a - s_a(t_k))^2 / 2 width_a^2),  w_k = height exp(-V(s(t_k), t_k) / kB DeltaT).

    gamma = 1 + DeltaT / T; in the end V(s) = -(1 - 1/gamma) F(s) + const: Barducci, Bussi and Parrinello, Phys. Rev.
    Lett. 100, 020603 (2008). All Gaussians are kept. The parameters are `Hills`; see `Adaptive`.

    Args:
        height: eV, of the first Gaussian.
        biasfactor: gamma > 1; inf for Gaussians of constant height.
    """

    height: float
    biasfactor: float

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.height < float("inf"):
            raise ValueError(f"Metadynamics.height is an energy in eV and must be positive; got {self.height}.")
        if not self.biasfactor > 1:
            raise ValueError(f"Metadynamics.biasfactor must be larger than 1 (or inf); got {self.biasfactor}.")

    def tempering(self, kT):
        return self.biasfactor

    def start(self, kT, dtype=float) -> Hills:
        return Hills(kn.empty(self.capacity, self.cv.size, dtype), jnp.asarray(kT, dtype))

    def bias(self, params: Hills, s: Array) -> Array:
        return kn.total(params.kernels, s, self.cv.difference)

    def updated(self, memory: Hills, s: Array, kT: Array) -> Hills:
        dtype = memory.kT.dtype
        s, kT = s.astype(dtype), jnp.asarray(kT, dtype)
        height = self.height * jnp.exp(-self.bias(memory, s) / kT / (self.biasfactor - 1))
        new = kn.Kernel(s, jnp.asarray(self.width, dtype), height)
        return Hills(kn.appended(memory.kernels, new), kT)

    def offsets(self, memory: Hills, s) -> Array:
        """Return c after 0, 1 ... capacity depositions, (capacity + 1,) eV: averages reweight with exp((V - c) / kT).

        c(t) = kT ln [int exp(gamma/(gamma - 1) V(s, t) / kT) ds / int exp(1/(gamma - 1) V(s, t) / kT) ds]: Tiwary and
        Parrinello, J. Phys. Chem. B 119, 736 (2015). After the last deposition c stays constant.

        Args:
            s: (G,) or (G, d), a uniform grid over all of s that the simulation can reach.
        """
        kernels, kT = memory.kernels, memory.kT
        points = jnp.asarray(s, kT.dtype).reshape(len(s), -1)

        def integral(V, power):
            return logsumexp(power * V / kT)

        def deposit(V, kernel):
            center, width, height = kernel
            x = self.cv.difference(points, center) / width
            V = V + height * jnp.exp(-0.5 * jnp.sum(x * x, axis=1))
            over = 1 / (self.biasfactor - 1)
            return V, kT * (integral(V, 1 + over) - integral(V, over))

        _, c = jax.lax.scan(deposit, jnp.zeros(len(points), kT.dtype), kernels[:3])
        return jnp.concatenate([jnp.zeros(1, c.dtype), c])
