"""Covariance functions of Gaussian processes on descriptors: how alike two descriptor vectors are."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.tangents import given

KINDS = ("ard_se", "dot_product", "pp")

# Beyond, the components of x are contracted by a matrix product; below, one by one, which fuses.
_FEW = 16


@dataclass(frozen=True)
class Covariance:
    """k(x, x') of the GAP code, for descriptors x of any dimension d.

    - "ard_se": k = delta^2 K + f0^2, K = exp(-r^2 / 2), r^2 = sum_q ((x_q - x'_q) / theta_q)^2.
    - "pp": the same with the piecewise polynomial K = (1 - r)^(j + 1) ((j + 1) r + 1) inside r = 1, 0 beyond, j =
      floor(d / 2) + 2: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), Eq. (4.21), q = 1.
      Its third derivative jumps where x = x'; it is given as the mean of both sides there, 0.
    - "dot_product": k = delta^2 (x . x')^zeta. f0 does not enter, as in QUIP's prediction.

    With permutations P of the components, K(x, x') becomes sum_P K(x, P x') / sqrt(sum_P K(x, P x) sum_P K(x', P x')).
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015), section "Permutational symmetry"; QUIP's
    covariance_type 1, 4 and 2. delta is the file's `signal_variance` (eV), f0 its `signal_mean` (eV).

    Args:
        kind: one of `KINDS`.
        zeta: exponent of "dot_product"; where it is no integer, k is 0 for x . x' <= 0.
        permutations: rows of component indices 0 ... d - 1, the identity among them; empty for none.
    """

    kind: str
    zeta: float = 1.0
    permutations: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"Covariance.kind must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        if not 0 < self.zeta < 1000:
            raise ValueError(f"Covariance.zeta is an exponent between 0 and 1000; got {self.zeta}.")
        if self.permutations:
            identity = tuple(range(len(self.permutations[0])))
            if any(tuple(sorted(row)) != identity for row in self.permutations) or identity not in self.permutations:
                raise ValueError(
                    "Covariance.permutations must each hold the same component indices once, the identity among them; "
                    f"got {self.permutations}."
                )
            if self.kind == "dot_product":
                raise ValueError("Covariance.permutations are for the kinds ard_se and pp, not for dot_product.")

    def covariance(self, x: Array, sparse: Array, theta: Array | None, delta: Array, f0: Array) -> Array:
        """Return k(x, x_s), (..., m), of descriptors x (..., d) with sparse points (m, d).

        Args:
            theta: (d,) length scales; None for "dot_product".
            delta, f0: scalars, eV.
        """
        if self.kind == "dot_product":
            return delta**2 * self._power(jnp.matmul(x, sparse.T, precision="highest"))
        assert theta is not None
        u, v = x / theta, self._permuted(sparse) / theta  # (..., d), (P, m, d)
        K = sum(_profile(self.kind, x.shape[-1], 0, _squared(u, row)) for row in v)
        if self.permutations:
            norm = self._self_overlap(x, theta)[..., None] * self._self_overlap(sparse, theta)
            K = K / jnp.sqrt(norm)
        return delta**2 * K + f0**2

    def self_covariance(self, x: Array, theta: Array | None, delta: Array, f0: Array) -> Array:
        """Return k(x, x), (...), of descriptors x (..., d)."""
        if self.kind == "dot_product":
            return delta**2 * self._power(jnp.sum(x * x, axis=-1))
        return jnp.broadcast_to(delta**2 + f0**2, x.shape[:-1])

    def matrix(self, a: Array, b: Array, theta: Array | None, delta: Array, f0: Array) -> Array:
        """Return k(a_i, b_j), (na, nb), of descriptors (na, d) and (nb, d)."""
        return self.covariance(a, b, theta, delta, f0)

    def predict(self, x: Array, sparse: Array, theta: Array | None, delta: Array, f0: Array, weights: Array) -> Array:
        """Return sum_s weights_s k(x, x_s), (...): `covariance` times weights (m,), with derivatives that cost little.

        For "ard_se" in a few dimensions, what is differentiated is the sum: its derivative is a sum of the same
        exponentials with other weights, one product of matrices instead of passes over (..., m, d). With angle_3b,
        energy and forces are 6 times faster so.
        """
        d = x.shape[-1]
        if self.kind != "ard_se" or d > _FEW:
            return jnp.matmul(self.covariance(x, sparse, theta, delta, f0), weights, precision="highest")
        assert theta is not None
        c = jnp.mean(sparse, axis=0)  # any point nearby: differences of small numbers are exact
        u = tuple((x[..., q] - c[q]) / theta[q] for q in range(d))
        w, scale = weights, delta**2
        if self.permutations:
            w = w / jnp.sqrt(self._self_overlap(sparse, theta))
            scale = scale / jnp.sqrt(self._self_overlap(x, theta))
        v = (self._permuted(sparse) - c) / theta
        total = _weighted(u, v.reshape(-1, d), jnp.tile(w, len(v))[None])[0]
        return scale * total + f0**2 * jnp.sum(weights)

    def _power(self, dot: Array) -> Array:
        if self.zeta == int(self.zeta):
            return dot ** int(self.zeta)
        positive = dot > 0
        return jnp.where(positive, jnp.where(positive, dot, 1.0) ** self.zeta, 0.0)

    def _permuted(self, x: Array) -> Array:
        """All permutations of the components of x, (P, ..., d)."""
        return jnp.stack([x[..., np.array(row)] for row in self.permutations]) if self.permutations else x[None]

    def _self_overlap(self, x: Array, theta: Array) -> Array:
        """sum_P K(x, P x), (...); at least 1, which the identity gives."""
        d = x.shape[-1]
        difference = (self._permuted(x) - x) / theta
        return jnp.sum(_profile(self.kind, d, 0, jnp.sum(difference * difference, axis=-1)), axis=0)


def _squared(u: Array, v: Array) -> Array:
    """|u - v_s|^2, (..., m), of u (..., d) and v (m, d)."""
    d = u.shape[-1]
    if d <= _FEW:
        square = (u[..., :1] - v[:, 0]) ** 2
        for q in range(1, d):
            square += (u[..., q, None] - v[:, q]) ** 2
        return square
    square = jnp.sum(u * u, axis=-1, keepdims=True) + jnp.sum(v * v, axis=-1)
    return jnp.maximum(square - 2 * jnp.matmul(u, v.T, precision="highest"), 0.0)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _profile(kind: str, d: int, order: int, s: Array) -> Array:
    """(-2 d/ds)^order of K as a function of s = r^2.

    The rule goes by s, of which K is a smooth function where it is one of r: at r = 0, dr/dx does not exist.
    """
    if kind == "ard_se":
        return jnp.exp(-0.5 * s)
    j = d // 2 + 2
    if order == 0:
        r = _root(s)
        return jnp.maximum(1 - r, 0.0) ** (j + 1) * ((j + 1) * r + 1)
    f = lambda s: (j + 1) * (j + 2) * jnp.maximum(1 - _root(s), 0.0) ** j
    for _ in range(order - 1):
        f = partial(_descend, f)
    return f(s)


@_profile.defjvp
def _profile_jvp(kind, d, order, primals, tangents):
    (s,), (ds,) = primals, tangents
    return _profile(kind, d, order, s), -0.5 * _profile(kind, d, order + 1, s) * ds


def _descend(f, s: Array) -> Array:
    return -2.0 * jax.jvp(f, (s,), (jnp.ones_like(s),))[1]


def _root(s: Array) -> Array:
    """sqrt(s), with derivative 0 at 0."""
    positive = s > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, s, 1.0)), 0.0)


@jax.custom_jvp
def _weighted(u: tuple[Array, ...], v: Array, C: Array) -> Array:
    """sum_s C_cs exp(-|u - v_s|^2 / 2), (c, ...), of d planes u, points v (m, d) and weights C (c, m)."""
    points = v.reshape(*v.shape, *[1] * u[0].ndim)
    s = sum((plane - points[:, q]) ** 2 for q, plane in enumerate(u))
    return jnp.tensordot(C, jnp.exp(-0.5 * s), 1, precision="highest")


@partial(_weighted.defjvp, symbolic_zeros=True)
def _weighted_jvp(primals, tangents):
    """Each derivative of W(C) = sum_s C_s exp(-|u - v_s|^2 / 2) is made of such sums with other weights:

    dW = sum_q (W(C v_q) - u_q W(C)) du_q + W(dC) + sum_q (u_q W(C dv_q) - W(C dv_q v_q)).
    """
    u, v, C = primals
    du, dv, dC = tangents
    if any(map(given, du)):
        rows = [C, *(C * v[:, q] for q in range(len(u)))]
        sums = _weighted(u, v, jnp.concatenate(rows)).reshape(len(rows), len(C), *u[0].shape)
        out = sums[0]
        change = sum(t * (sums[q + 1] - u[q] * out) for q, t in enumerate(du) if given(t))
    else:
        out = _weighted(u, v, C)
        change = jnp.zeros_like(out)
    if given(dC):
        change += _weighted(u, v, dC)
    if given(dv):
        for q in range(len(u)):
            step = C * dv[:, q]
            change += u[q] * _weighted(u, v, step) - _weighted(u, v, step * v[:, q])
    return out, change
