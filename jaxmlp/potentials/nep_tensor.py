"""NEP models of the dipole moment and the polarizability: sums of per-atom tensors instead of energies."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params
from jaxmlp.potentials.nep import NEP


@dataclass(frozen=True)
class NEPTensor(NEP):
    """A NEP whose network outputs and their derivatives make up a tensor of every atom; see the subclasses.

    Xu et al., J. Chem. Theory Comput. 20, 3273 (2024). The tensors of all atoms sum to that of the system. They depend
    on each atom's own row of the graph, so they can be evaluated in blocks of rows like local energies.
    """

    tensor_shape: ClassVar[tuple[int, ...]] = ()

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Raise: these models have no energy."""
        raise TypeError(
            f"{type(self).__name__} describes a tensor of shape {self.tensor_shape}, not an energy: use "
            "site_tensors(params, graph), and a NEP potential for energies and forces."
        )

    def site_tensors(self, params: Params, graph: Graph) -> Array:
        """Return the tensor of every atom of the graph, (n, *tensor_shape), in the units of the training data."""
        raise NotImplementedError

    def _output_and_gradient(self, params: Params, graph: Graph) -> tuple[Array, Array]:
        """Return U_i + b1 of the first network and dU_i/dr_ij (n, 3, M); rows are independent, so one sweep does."""
        value, pull = jax.vjp(lambda planes: self.outputs(params, replace(graph, planes=planes)), graph.planes)
        return value, jnp.stack(pull(jnp.ones_like(value))[0], axis=1)


@dataclass(frozen=True)
class NEPDipole(NEPTensor):
    """mu = sum_i mu_i,  mu_i = -sum_j |r_ij|^2 dU_i/dr_ij."""

    kind: ClassVar[str] = "_dipole"
    tensor_shape: ClassVar[tuple[int, ...]] = (3,)

    def site_tensors(self, params: Params, graph: Graph) -> Array:
        """Return the dipole of every atom, (n, 3)."""
        _, gradient = self._output_and_gradient(params, graph)
        square = jnp.sum(graph.vectors**2, axis=1, keepdims=True)
        return -jnp.sum(square * gradient, axis=-1)

    def dipoles(self, params: Params, graph: Graph) -> Array:
        """Return the dipole of every atom, (n, 3); e Å where it was fitted by `jaxmlp.fitting`."""
        return self.site_tensors(params, graph)


@dataclass(frozen=True)
class NEPPolarizability(NEPTensor):
    """alpha = sum_i alpha_i,  alpha_i = -sum_j r_ij (x) dU_i/dr_ij + U'_i 1, with two networks U and U' (`_scalar`).

    The parameters of the second network are W0_scalar, b0_scalar, w1_scalar and b1_scalar; both share the descriptor.
    """

    kind: ClassVar[str] = "_polarizability"
    tensor_shape: ClassVar[tuple[int, ...]] = (3, 3)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters as `NEP.init` does, for both networks."""
        first, second = jax.random.split(key)
        params, other = super().init(first, dtype), super().init(second, dtype)
        return params | {f"{name}_scalar": other[name] for name in ("W0", "b0", "w1", "b1")}

    def site_tensors(self, params: Params, graph: Graph) -> Array:
        """Return the polarizability of every atom, (n, 3, 3)."""
        q, pull = jax.vjp(lambda planes: self.descriptors(params, replace(graph, planes=planes)), graph.planes)
        _, push = jax.vjp(lambda q: self.network(params, q, graph.species), q)
        gradient = jnp.stack(pull(push(jnp.ones_like(q[:, 0]))[0])[0], axis=1)  # (n, 3, M)
        scalar = self.network(params, q, graph.species, "_scalar") - params["b1_scalar"]
        tensor = jnp.sum(graph.vectors[:, :, None] * gradient[:, None], axis=-1)
        return scalar[:, None, None] * jnp.eye(3, dtype=q.dtype) - tensor
