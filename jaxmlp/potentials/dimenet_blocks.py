"""The networks of DimeNet++; features last, one row of edges for every atom."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxmlp.basis.radial_networks import ACTIVATIONS, glorot


def dense(size: int, name: str, *, bias: bool = True) -> nn.Dense:
    return nn.Dense(size, use_bias=bias, kernel_init=glorot, name=name)


class EdgeEmbedding(nn.Module):
    """m_ji = act(W [e_i, e_j, act(W' rbf)] + b), e the embeddings of the species; W in three parts."""

    features: int
    activation: str

    @nn.compact
    def __call__(self, table: Array, species: Array, neighbor_species: Array, rbf: Array) -> Array:
        """Return the messages (n, M, F) of embeddings `table` (S, F), of which each species is multiplied once."""
        act, f = ACTIVATIONS[self.activation], self.features
        target = dense(f, "target")(table)[species]
        source = dense(f, "source", bias=False)(table)[neighbor_species]
        edge = dense(f, "edge", bias=False)(act(dense(f, "radial")(rbf)))
        return act(target[:, None] + source + edge)


class EdgeReadout(nn.Module):
    """y = W_up sum_j (W_rbf rbf) o m_ji, then `layers` times act(W y + b), then a matrix to one number."""

    features: int
    width: int
    layers: int
    activation: str

    @nn.compact
    def __call__(self, m: Array, rbf: Array) -> Array:
        """Return the energies (n,) of messages (n, M, F)."""
        y = jnp.sum(dense(self.features, "radial", bias=False)(rbf) * m, axis=1)
        y = dense(self.width, "up", bias=False)(y)
        for k in range(self.layers):
            y = ACTIVATIONS[self.activation](dense(self.width, f"dense{k}")(y))
        return dense(1, "last", bias=False)(y)[:, 0]


class DirectionalInteraction(nn.Module):
    """m <- after(act(W before(act(W_ji m) + act(W_up b'))) + m), b' heard from the edges that end at the source.

    Of an edge kj is told b_kj = act(W_down (act(W_kj m_kj) o W_2 W_1 rbf)), and heard at ji b'_ji = sum_k b_kj o (W_4
    W_3 sbf). Layers of `before` and `after` are m + act(W_2 act(W_1 m)).

    Args:
        features, width, basis: of messages, of b, and between W_1 and W_2.
        before, after: residual layers.
    """

    features: int
    width: int
    basis: int
    before: int
    after: int
    activation: str

    def setup(self):
        f = self.features
        self.kj, self.ji, self.middle = (nn.Dense(f, kernel_init=glorot) for _ in range(3))
        self.down = nn.Dense(self.width, use_bias=False, kernel_init=glorot)
        self.up = nn.Dense(f, use_bias=False, kernel_init=glorot)
        self.rbf1 = nn.Dense(self.basis, use_bias=False, kernel_init=glorot)
        self.rbf2 = nn.Dense(f, use_bias=False, kernel_init=glorot)
        self.sbf1 = nn.Dense(self.basis, use_bias=False, kernel_init=glorot)
        self.sbf2 = nn.Dense(self.width, use_bias=False, kernel_init=glorot)
        layers = 2 * (self.before + self.after)
        self.residual = [nn.Dense(f, kernel_init=glorot) for _ in range(layers)]

    def tell(self, m: Array, rbf: Array, radial: Array, Y: Array) -> tuple[Array, Array]:
        """Return what an atom's neighbours need to hear it.

        Args:
            m: messages to the atom (n, M, F).
            rbf: (n, M, K).
            radial: radial part of sbf (n, M, L, K), without the spherical harmonics.
            Y: spherical harmonics of the directions (n, M, L^2).

        Returns:
            sum_k Y_lm(u_jk) Q_kj (n, L^2, width), Q the terms of degree l of b_kj o (W_4 W_3 sbf), and, to be taken off
            again by the atom at the other end of an edge, its own term there (n, M, width).
        """
        act = ACTIVATIONS[self.activation]
        b = act(self.down(act(self.kj(m)) * self.rbf2(self.rbf1(rbf))))
        degrees, count = radial.shape[-2:]
        both = self.sbf2(self.sbf1(jnp.eye(degrees * count, dtype=m.dtype)))  # W_4 W_3, once for all edges
        table = both.reshape(degrees, count, -1)
        sums, back = [], jnp.zeros_like(b)
        for l in range(degrees):
            Q = b * (radial[:, :, l] @ table[l])
            sums.append(jnp.einsum("nms,nmd->nsd", Y[..., l * l : (l + 1) ** 2], Q))
            back = back + ((-1) ** l * (2 * l + 1) / (4 * math.pi)) * Q
        return jnp.concatenate(sums, axis=1), back

    def hear(self, m: Array, heard: Array) -> Array:
        """Return the new messages (n, M, F) of the old ones and b' (n, M, width)."""
        act = ACTIVATIONS[self.activation]
        h = act(self.ji(m)) + act(self.up(heard))
        for k in range(self.before + self.after):
            h = act(self.middle(h)) + m if k == self.before else h
            h = h + act(self.residual[2 * k + 1](act(self.residual[2 * k](h))))
        return h if self.after else act(self.middle(h)) + m

    def everything(self, m: Array, rbf: Array, radial: Array, Y: Array) -> Array:
        return self.hear(m, self.tell(m, rbf, radial, Y)[1])
