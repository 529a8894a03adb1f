"""Linear fits that make the mean absolute error small: least squares whose rows are weighted again and again."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxmlp.fitting.linear.solvers import LinearFit
from jaxmlp.fitting.linear.tall_qr import TallQR, add_rows, no_rows

Block = tuple[np.ndarray, np.ndarray, np.ndarray]


def least_absolute(
    blocks: Mapping[str, Sequence[Block]],
    solve: Callable[[dict[str, TallQR]], LinearFit],
    *,
    weights: Mapping[str, float] | None = None,
    steps: int = 100,
    tolerance: float = 1e-3,
    floor: float = 0.02,
) -> tuple[LinearFit, dict[str, TallQR]]:
    """Return coefficients that make sum_k weight_k sum_rows |w (A c - y)| small, and the factors they are solved from.

    With |x| = x^2 / |x| the rows of a least squares problem get weights 1/|x|^(1/2) from the solution before
    (iteratively reweighted least squares; Huber and Ronchetti, Robust Statistics, 2009, Sec. 7.8). Errors below `floor`
    times the median of a kind count as that, so that the sum is Huber's function there.

    Args:
        blocks: by kind, rows A (n, p), y (n,) and w (n,).
        solve: factors by kind to coefficients, of rows weighted already.
        weights: of the kinds; None: 1 over the mean absolute error of each, the likelihood of Laplace's distribution.
        steps: at most.
        tolerance: ends when predictions change by less than this fraction of the median error, on average.

    Raises:
        ValueError: no rows, or negative weights.
    """
    kinds = [k for k, rows in blocks.items() if rows]
    if not kinds:
        raise ValueError("there are no rows to fit.")
    if weights is not None and not all(weights[k] > 0 for k in kinds):
        raise ValueError(f"weights of kinds must be positive; got {dict(weights)}.")
    p = blocks[kinds[0]][0][0].shape[1]
    scale = {k: [np.ones(len(y)) for _, y, _ in blocks[k]] for k in kinds}
    if weights is not None:
        scale = {k: [weights[k] ** 0.5 * s for s in scale[k]] for k in kinds}
    before = None
    for _ in range(steps):
        factors = {k: no_rows(p) for k in kinds}
        for k in kinds:
            for (A, y, w), s in zip(blocks[k], scale[k], strict=True):
                factors[k] = add_rows(factors[k], A, y, w * s)
        fit = solve(factors)
        residual = {k: np.concatenate([w * (A @ fit.coefficients - y) for A, y, w in blocks[k]]) for k in kinds}
        typical = {k: np.median(np.abs(r)) for k, r in residual.items()}
        if before is not None:
            moved = {k: np.mean(np.abs(residual[k] - before[k])) for k in kinds}
            if all(moved[k] <= tolerance * typical[k] for k in kinds):
                break
        before = residual
        for k, r in residual.items():
            mean = np.mean(np.abs(r))
            least = max(floor * typical[k], 1e-12 * mean, np.finfo(float).tiny)
            given = 1 / max(mean, least) if weights is None else weights[k]
            every = np.sqrt(given / np.maximum(np.abs(r), least))
            scale[k] = np.split(every, np.cumsum([len(y) for _, y, _ in blocks[k]])[:-1])
    return fit, factors
