"""Tall linear systems, row by row: only the triangular factor of [A | y] is kept, however many rows there are."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import lapack

_PANELS = ((4000, 32), (np.inf, 64))  # parameters up to which LAPACK eliminates so many columns together, as measured


class TallQR(NamedTuple):
    """All that least squares needs of the rows [A | y]: |A c - y|^2 = |R_A c - R_y|^2 + rho^2 for every c.

    R^T R = [A | y]^T [A | y], but R has the condition number of A where A^T A would have its square. Factors of parts
    of the data combine to that of all (Golub and Van Loan, Matrix Computations, 4th edition, Sec. 6.5.3: updating a QR
    factorisation by rows), so that rows may come in blocks, and from several processes.

    Args:
        R: (p + 1, p + 1) upper triangular, [[R_A (p, p), R_y (p,)], [0, rho]]; signs of its rows are arbitrary.
        rows: number of rows behind it, those of weight 0 not counted.
        log_weight: sum of the logarithms of their weights: densities of y are those of the weighted y times its exp.
    """

    R: np.ndarray
    rows: int
    log_weight: float

    @property
    def parameters(self) -> int:
        """p, the number of columns of A."""
        return len(self.R) - 1

    @property
    def norms(self) -> np.ndarray:
        """Euclidean norms of the weighted columns of A, (p,)."""
        return np.linalg.norm(self.R[:, :-1], axis=0)

    @property
    def total(self) -> float:
        """Sum of squares of the weighted y."""
        return float(self.R[:, -1] @ self.R[:, -1])

    def misfit(self, coefficients: ArrayLike) -> float:
        """Return the sum of squared weighted residuals |A c - y|^2 for coefficients c (p,)."""
        residual = self.R @ np.append(np.asarray(coefficients, dtype=float), -1.0)
        return float(residual @ residual)


def no_rows(parameters: int) -> TallQR:
    """Return the factor of no rows at all, to which `add_rows` adds."""
    return TallQR(np.zeros((parameters + 1, parameters + 1), order="F"), 0, 0.0)


def add_rows(qr: TallQR, A: ArrayLike, y: ArrayLike, weights: ArrayLike = 1.0) -> TallQR:
    """Return the factor of the earlier rows and a block of new ones.

    Costs 2 n p^2 operations, whatever the size n of the block, and a copy of the earlier factor.

    Args:
        A: (n, p).
        y: (n,).
        weights: () or (n,), multiply rows of A and y: 1/sigma for noise of standard deviation sigma, so that a sum of
            squares has the weights squared. Rows of weight 0 are left out.

    Raises:
        ValueError: shapes that do not fit together, negative weights, rows with values that are not finite.
    """
    A, y = np.asarray(A, dtype=float), np.asarray(y, dtype=float)
    if A.ndim != 2 or A.shape[1] != qr.parameters:
        raise ValueError(f"A must have shape (rows, {qr.parameters}), a column per parameter; got {A.shape}.")
    if y.shape != A.shape[:1]:
        raise ValueError(f"y must have shape {A.shape[:1]}, a value for every row of A; got {y.shape}.")
    weights = np.asarray(weights, dtype=float)
    if weights.shape not in ((), y.shape):
        raise ValueError(f"weights must be one number or have shape {y.shape}, as y has; got {weights.shape}.")
    weights = np.broadcast_to(weights, y.shape)
    bad = np.flatnonzero(~(np.isfinite(A).all(axis=1) & np.isfinite(y) & np.isfinite(weights)))
    if len(bad):
        raise ValueError(f"rows {_some(bad)} of this block (added after {qr.rows} others) hold values not finite.")
    if np.any(weights < 0):
        raise ValueError(f"weights of rows {_some(np.flatnonzero(weights < 0))} are negative; they are 1/sigma.")
    used = weights > 0
    if not used.all():
        A, y, weights = A[used], y[used], weights[used]
    rows = np.empty((len(y), qr.parameters + 1), order="F")
    rows[:, :-1] = A * weights[:, None]
    rows[:, -1] = y * weights
    return TallQR(stacked(qr.R, rows), qr.rows + len(y), qr.log_weight + float(np.log(weights).sum()))


def tall_qr(blocks: Iterable[tuple]) -> TallQR:
    """Return the factor of all rows of blocks (A, y) or (A, y, weights), as `add_rows` takes them, one after another.

    Raises:
        ValueError: no block, or what `add_rows` raises.
    """
    qr = None
    for block in blocks:
        if qr is None:
            qr = no_rows(np.shape(block[0])[-1])
        qr = add_rows(qr, *block)
    if qr is None:
        raise ValueError("there is no block of rows, so the number of parameters is unknown; use no_rows(parameters).")
    return qr


def combine(parts: Sequence[TallQR], scales: ArrayLike = 1.0) -> TallQR:
    """Return the factor of the rows of several parts together, those of part k multiplied by `scales[k]` > 0.

    Raises:
        ValueError: no parts, or parts with different numbers of parameters.
    """
    if len({part.parameters for part in parts}) != 1:
        raise ValueError(f"parts must have equal numbers of parameters; got {[part.parameters for part in parts]}.")
    scales = np.broadcast_to(np.asarray(scales, dtype=float), (len(parts),))
    R = scales[0] * parts[0].R
    for part, scale in zip(parts[1:], scales[1:], strict=True):
        R = stacked(R, scale * part.R, triangular=True, overwrite=True)
    log_weight = sum(part.log_weight + part.rows * np.log(scale) for part, scale in zip(parts, scales, strict=True))
    return TallQR(R, sum(part.rows for part in parts), float(log_weight))


def stacked(R: np.ndarray, rows: np.ndarray, *, triangular: bool = False, overwrite: bool = False) -> np.ndarray:
    """Return the triangular factor (m, m) of [[R], [rows]] for upper triangular R (m, m) and rows (n, m).

    Args:
        triangular: `rows`, of which there are m at most, are zero below their diagonal too, which saves half the work.
        overwrite: R and rows are not needed any more: with many parameters each copy is gigabytes.
    """
    m, n = len(R), len(rows)
    if n == 0 or m == 0:
        return R
    panel = next(columns for limit, columns in _PANELS if m <= limit)
    # LAPACK's tpqrt keeps R's zeros, where a QR of the stack would cost 2 (m + n) m^2 for every block.
    factor, _, _, info = lapack.dtpqrt(
        n if triangular else 0, min(panel, m), R, np.asfortranarray(rows), overwrite_a=overwrite, overwrite_b=overwrite
    )
    assert info == 0, info
    return factor


def _some(indices: np.ndarray) -> str:
    """Return the first few indices in words."""
    return ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
