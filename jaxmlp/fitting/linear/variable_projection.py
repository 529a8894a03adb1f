"""Variable projection: fits that are linear in most parameters become fits of the few others.

min over theta and c of |y - A(theta) c|^2 + ridge |c|^2 is, with the best c for every theta, min over theta of
|r(theta)|^2, r = P(theta) y with the projector P on what the columns of A cannot reach (Golub and Pereyra, SIAM J.
Numer. Anal. 10, 413, 1973). The ridge adds the rows ridge^(1/2) c = 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike


def projected_residual(
    A_fn: Callable[[Any], Array], y: Array, *, ridge: ArrayLike = 0.0, kaufman: bool = False
) -> Callable[[Any], Array]:
    """Return r(theta) (n,), or (n + p,) with a ridge, whose squared norm is the smallest over the linear coefficients.

    r can be differentiated, forward and reverse, under `jit` and `vmap`. With B = A stacked on ridge^(1/2) and c, r at
    theta, its derivative is -P dB c - (B^+)^T dB^T r (Golub and Pereyra, Eq. 4.7, with the sign of r = y - B c).

    Args:
        A_fn: theta -> A (n, p), n >= p; its columns must be independent where ridge is 0 (r is NaN otherwise). Weights
            multiply the rows of A and y.
        y: (n,).
        ridge: (), or (p,) for each coefficient; numbers, at least 0, not traced.
        kaufman: leave out the second term of the derivative (Kaufman, BIT 15, 49, 1975). It is orthogonal to r, so that
            gradients of |r|^2 remain exact, and small where r is small. Second derivatives are then wrong.

    Raises:
        ValueError: a negative ridge; when r is called, shapes that do not fit together.
    """
    _check_ridge(ridge)
    solve = _kaufman if kaufman else _golub_pereyra

    def residual(theta: Any) -> Array:
        return solve(*_augmented(A_fn(theta), y, ridge))

    return residual


def linear_coefficients(A: Array, y: Array, *, ridge: ArrayLike = 0.0) -> Array:
    """Return the coefficients (p,) that minimise |y - A c|^2 + sum_a ridge_a c_a^2, for A (n, p) and y (n,).

    Raises:
        ValueError: a negative ridge, shapes that do not fit together.
    """
    _check_ridge(ridge)
    B, z = _augmented(A, y, ridge)
    Q, R = jnp.linalg.qr(B)
    return solve_triangular(R, Q.T @ z)


def _check_ridge(ridge: ArrayLike) -> None:
    if not np.all(np.asarray(ridge) >= 0):
        raise ValueError(f"ridge multiplies squares of the coefficients and must be at least 0; got {ridge}.")


def _augmented(A: Array, y: Array, ridge: ArrayLike) -> tuple[Array, Array]:
    """Return A over diag(ridge^(1/2)), and y over zeros."""
    if A.ndim != 2 or y.shape != A.shape[:1]:
        raise ValueError(f"A and y must have shapes (n, p) and (n,); got {A.shape} and {y.shape}.")
    p = A.shape[1]
    strength = np.asarray(ridge)
    if strength.shape not in ((), (p,)):
        raise ValueError(f"ridge must be one number or have shape ({p},); got {strength.shape}.")
    if A.shape[0] < p and not strength.all():
        raise ValueError(f"{A.shape[0]} rows do not determine {p} coefficients: choose a ridge.")
    if not strength.any():
        return A, y
    root = jnp.asarray(np.sqrt(np.broadcast_to(strength, (p,))), A.dtype)
    return jnp.concatenate([A, jnp.diag(root)]), jnp.concatenate([y, jnp.zeros(p, y.dtype)])


def _project(B: Array, z: Array) -> Array:
    Q, _ = jnp.linalg.qr(B)
    r = z - Q @ (Q.T @ z)
    return r - Q @ (Q.T @ r)  # once more: the first difference is orthogonal to Q only to the rounding of z


def _projection(second_term: bool) -> Callable[[Array, Array], Array]:
    """Return (B, z) -> z - B B^+ z with the derivative that variable projection uses."""
    project = jax.custom_jvp(_project)

    @project.defjvp
    def _(primals, tangents):
        (B, z), (dB, dz) = primals, tangents
        Q, R = jnp.linalg.qr(B)
        r = project(B, z)
        c = solve_triangular(R, Q.T @ z)
        change = dz - dB @ c
        dr = change - Q @ (Q.T @ change)
        if second_term:
            dr -= Q @ solve_triangular(R, dB.T @ r, trans="T")
        return r, dr

    return project


_golub_pereyra = _projection(True)
_kaufman = _projection(False)
