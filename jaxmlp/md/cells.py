"""How a cell may change its shape, the work of an external pressure, and functions of small matrices."""

from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.geometry import volume


def _symmetric(*entries: tuple[int, int]) -> np.ndarray:
    """The symmetric matrix of unit norm, tr(E E) = 1, that is the same at all entries given."""
    E = np.zeros((3, 3))
    for i, j in entries:
        E[i, j] = E[j, i] = 1
    return E / np.linalg.norm(E)


_X, _Y, _Z = (0, 0), (1, 1), (2, 2)
# Strain rates that a barostat may use: matrices E_a with tr(E_a E_b) = delta_ab. Symmetric ones do not turn the cell.
CELLS = {
    "isotropic": np.stack([_symmetric(_X, _Y, _Z)]),
    "orthorhombic": np.stack([_symmetric(_X), _symmetric(_Y), _symmetric(_Z)]),
    "tetragonal": np.stack([_symmetric(_X, _Y), _symmetric(_Z)]),
    "triclinic": np.stack([_symmetric(e) for e in (_X, _Y, _Z, (1, 2), (0, 2), (0, 1))]),
    "x": np.stack([_symmetric(_X)]),
    "y": np.stack([_symmetric(_Y)]),
    "z": np.stack([_symmetric(_Z)]),
}
ROOT_3 = sqrt(3.0)


def along(cell: str, G: Array) -> Array:
    """Return tr(G E_a), (n,), of a matrix G (3, 3); entries of G that no E_a has are not computed."""
    return jnp.stack([sum(float(E[i, j]) * G[i, j] for i, j in np.argwhere(E)) for E in CELLS[cell]])


def strain(cell: str, x: Array) -> Array:
    """Return sum_a x_a E_a, (3, 3), of x (n,)."""
    return jnp.einsum("aij,a->ij", jnp.asarray(CELLS[cell], x.dtype), x)


def external_work(box: Array, pressure: Array, reference: Array) -> Array:
    """Return the work (eV) that brought the cell from nothing to `box` against an external pressure.

    P V for a scalar pressure. A tensor Pi (3, 3) adds V_0 tr((Pi - P) eta), with P = tr Pi / 3 and Lagrange's strain
    eta = (F^T F - 1) / 2 of the reference cell: it is the thermodynamic tension, the tensor of Cauchy's stress where
    the cell has the shape of the reference. Parrinello, Rahman, J. Appl. Phys. 52, 7182 (1981), Eqs. (2.24)-(2.25).

    Args:
        pressure: eV/Å^3, () or symmetric (3, 3); compression is positive.
        reference: (3, 3) Å.
    """
    if jnp.ndim(pressure) == 0:
        return pressure * volume(box)
    mean = jnp.trace(pressure) / 3
    unit = jnp.eye(3, dtype=box.dtype)
    F = jnp.linalg.solve(reference, box)
    eta = 0.5 * (F @ F.T - unit)
    # With row vectors r = r_0 F, F F^T is the metric of the deformed cell in the frame of the reference.
    return mean * volume(box) + volume(reference) * jnp.sum((pressure - mean * unit) * eta)


def by_strain(work, box: Array) -> Array:
    """Return the symmetric derivative (3, 3) of work(box) by a strain box -> box (1 + strain), eV."""
    unit = jnp.eye(3, dtype=box.dtype)
    D = jax.grad(lambda e: work(box @ (unit + e)))(jnp.zeros_like(unit))
    return 0.5 * (D + D.T)


def flow(cell: str, p: Array, mass: Array) -> Array:
    """Return sum p (x) p / m, (3, 3) eV, of momenta (n, 3) and masses (n, 1); zeros where `along` looks at nothing."""
    v = p / mass
    seen = np.any(CELLS[cell], axis=0)
    entry = lambda i, j: jnp.sum(p[:, i] * v[:, j]) if seen[i, j] else jnp.zeros((), p.dtype)
    upper = {(i, j): entry(i, j) for i in range(3) for j in range(i, 3)}
    return jnp.stack([jnp.stack([upper[min(i, j), max(i, j)] for j in range(3)]) for i in range(3)])


def exponentials(X: Array) -> tuple[Array, Array]:
    """Return exp(X) and (exp(X) - 1) / X for X (3, 3), to rounding for norms up to 1; derivatives have no poles.

    Taylor series of order 9 for X / 4, doubled twice: phi(2 X) = (exp(X) + 1) phi(X) / 2.
    """
    unit = jnp.eye(3, dtype=X.dtype)
    mul = lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
    x = X / 4
    # Loops keep the program short: unrolled, its derivative took ten seconds to compile.
    horner = lambda phi, k: (unit + mul(x, phi) / k, None)
    phi, _ = lax.scan(horner, unit, jnp.arange(10, 1, -1).astype(X.dtype))
    double = lambda pair, _: ((mul(pair[0], pair[0]), 0.5 * mul(pair[0] + unit, pair[1])), None)
    (exp, phi), _ = lax.scan(double, (unit + mul(x, phi), phi), length=2)
    return exp, phi
