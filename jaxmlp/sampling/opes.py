"""On-the-fly probability enhanced sampling."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.sampling import kernels as kn
from jaxmlp.sampling.adaptive import Adaptive


class Estimate(NamedTuple):
    """What OPES remembers.

    Args:
        kernels: Gaussians, compressed; their heights add up to the density, not normalised.
        deposits: n, the number of samples, counting one at the start.
        weight, weight2: sums of w_k and w_k^2 over them.
        Z: mean of the density over the explored region.
        kT: eV.
    """

    kernels: kn.Kernels
    deposits: Array
    weight: Array
    weight2: Array
    Z: Array
    kT: Array


@dataclass(frozen=True, kw_only=True)
class OPES(Adaptive):
    """V_n(s) = (1 - 1/gamma) kT ln(P_n(s) / Z_n + epsilon),  epsilon = exp(-barrier / kT / (1 - 1/gamma)).

    P_n(s) = sum_k w_k G(s, s_k) / sum_k w_k,  w_k = exp(V_{k-1}(s_k) / kT), estimates the unbiased distribution of s;
    Z_n, the mean of P_n over the centres of the compressed kernels, follows the explored region; the widths shrink as
    width [N_eff (d + 2) / 4]^(-1/(d + 4)) with N_eff = (1 + sum w)^2 / (1 + sum w^2): Invernizzi and Parrinello, J.
    Phys. Chem. Lett. 11, 2731 (2020). Averages reweight with exp(V / kT). Parameters: `Estimate`, see `Adaptive`.

    explore: V_n = (gamma - 1) kT ln(p_n(s) / Z_n + epsilon), epsilon = exp(-barrier / kT / (gamma - 1)), with p_n the
    sampled distribution, that is, with w_k = 1 in the sum of Gaussians and n in place of N_eff: Invernizzi and
    Parrinello, J. Chem. Theory Comput. 18, 3988 (2022). It leaves minima faster and converges more slowly.

    Args:
        barrier: eV, the largest that is to be overcome, and the depth of the bias.
        biasfactor: gamma > 1; inf for a flat target (not with explore); None for barrier / kT.
        threshold: kernels nearer than so many widths are merged.
        explore: estimate the sampled instead of the unbiased distribution.
    """

    barrier: float
    biasfactor: float | None = None
    threshold: float = 1.0
    explore: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.barrier < float("inf"):
            raise ValueError(f"OPES.barrier is an energy in eV and must be positive; got {self.barrier}.")
        if self.biasfactor is not None and not self.biasfactor > 1:
            raise ValueError(f"OPES.biasfactor must be larger than 1 (or inf), or None; got {self.biasfactor}.")
        if self.explore and self.biasfactor == float("inf"):
            raise ValueError("OPES.explore needs a finite biasfactor: with inf there is no target to sample.")
        if not 0 <= self.threshold < float("inf"):
            raise ValueError(f"OPES.threshold is a number of widths, 0 or more; got {self.threshold}.")

    def tempering(self, kT):
        return self.barrier / kT if self.biasfactor is None else self.biasfactor

    def strength(self, kT: Array) -> Array:
        """Return the factor of the logarithm over kT: 1 - 1/gamma, or gamma - 1 to explore."""
        gamma = self.tempering(kT)
        return gamma - 1 if self.explore else 1 - 1 / gamma

    def start(self, kT, dtype=float) -> Estimate:
        """Return the memory of a simulation that begins, kT in eV: V = -barrier everywhere.

        Raises:
            ValueError: kT is not below the barrier that stands for gamma kT.
        """
        if self.biasfactor is None and not kT < self.barrier:
            raise ValueError(f"biasfactor=None takes barrier / kT, which must be above 1: {self.barrier} eV / {kT} eV.")
        kT = jnp.asarray(kT, dtype)
        one, w = jnp.ones((), dtype), jnp.exp(-self.barrier / kT)
        return Estimate(kn.empty(self.capacity, self.cv.size, dtype), one, w, w**2, one, kT)

    def bias(self, params: Estimate, s: Array) -> Array:
        power = self.strength(params.kT)
        epsilon = jnp.exp(-self.barrier / params.kT / power)
        return power * params.kT * jnp.log(self.density(params, s) / params.Z + epsilon)

    def density(self, memory: Estimate, s: Array) -> Array:
        """Return P_n(s), or p_n(s) to explore, up to the factor prod_a width_a (2 pi)^(1/2)."""
        norm = memory.deposits if self.explore else memory.weight
        return kn.total(memory.kernels, s, self.cv.difference) / norm

    def updated(self, memory: Estimate, s: Array, kT: Array) -> Estimate:
        dtype, d = memory.kT.dtype, self.cv.size
        s, kT = s.astype(dtype), jnp.asarray(kT, dtype)
        w = jnp.exp(self.bias(memory, s) / kT)
        n, weight, weight2 = memory.deposits + 1, memory.weight + w, memory.weight2 + w**2
        samples = n if self.explore else (1 + weight) ** 2 / (1 + weight2)
        shrink = (samples * (d + 2) / 4) ** (-1 / (d + 4))
        height = (jnp.ones_like(w) if self.explore else w) / shrink**d
        new = kn.Kernel(s, shrink * jnp.asarray(self.width, dtype), height)
        kernels = kn.compressed(memory.kernels, new, self.threshold, self.cv.difference)
        after = Estimate(kernels, n, weight, weight2, memory.Z, kT)
        # Heights of free places are zero, but their centres must not count in the mean over centres.
        P = jax.vmap(lambda s: self.density(after, s))(kernels.centers)
        return after._replace(Z=jnp.sum(jnp.where(kn.taken(kernels), P, 0.0)) / kernels.count)
