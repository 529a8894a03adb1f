"""Representative points of a data set: leverage scores (CUR), farthest points, grids and chance, on descriptors (n, d).

Every function returns indices of rows, in the order of choice, without repetition. The memory needed is O(n d).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

_SAME = 1e-10  # residual or distance, in units of the largest, below which a point adds nothing to those chosen


def leverage_scores(X: ArrayLike, rank: int) -> np.ndarray:
    """Return how much every row takes part in the leading singular vectors, (n,), of sum 1.

    pi_i = 1/k sum_{a <= k} U_ia^2, X = U S V^T (Mahoney and Drineas, PNAS 106, 697, 2009, Eq. 3, for rows instead of
    columns). X is not centred.

    Args:
        X: descriptors (n, d).
        rank: k, of the truncated singular value decomposition; at most the numerical rank of X is used.
    """
    X = _checked(X)
    if not 1 <= rank <= min(X.shape):
        raise ValueError(f"rank must lie between 1 and {min(X.shape)} for descriptors of shape {X.shape}; got {rank}.")
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    U = U[:, :rank][:, s[:rank] > _SAME * s[0]]
    return np.sum(U**2, axis=1) / max(U.shape[1], 1)


def cur_points(X: ArrayLike, m: int, *, rank: int | None = None, key: int | None = None) -> np.ndarray:
    """Return m rows by their leverage scores (m,).

    Without `key`: one after another the row of largest score, all rows being made orthogonal to it before the scores
    are computed anew (Imbalzano, Anelli, Giofre, Klees, Behler and Ceriotti, J. Chem. Phys. 148, 241730, 2018); m is at
    most the rank of X, and each choice costs an eigenvalue problem of size min(n, d).

    With `key`: drawn without repetition, in proportion to the scores of X, for any m.

    Args:
        rank: singular vectors that count; None: 1 without `key` as in the paper, min(m, n, d) with it.
        key: seed of the draws.

    Raises:
        ValueError: more rows asked for than are linearly independent, or have a score.
    """
    X = _checked(X, m)
    if key is not None:
        scores = leverage_scores(X, min(m, *X.shape) if rank is None else rank)
        if np.count_nonzero(scores) < m:
            raise ValueError(f"only {np.count_nonzero(scores)} rows have a leverage score; {m} were asked for.")
        return np.random.default_rng(key).choice(len(X), m, replace=False, p=scores / scores.sum())
    # With fewer rows than columns a rotation leaves n columns, and the products of rows as they are.
    left = np.asarray(np.linalg.qr(X.T, mode="r")).T if X.shape[1] > len(X) else X.copy()
    d = left.shape[1]
    k = 1 if rank is None else rank
    if not 1 <= k <= d:
        raise ValueError(f"rank must lie between 1 and {d} for these descriptors; got {k}.")
    smallest = _SAME * np.linalg.norm(left, axis=1).max()
    chosen: list[int] = []
    while len(chosen) < m:
        eigenvalues, V = eigh(left.T @ left, subset_by_index=[d - k, d - 1])
        used = eigenvalues > max(_SAME**2 * eigenvalues[-1], smallest**2)
        scores = np.sum((left @ V[:, used]) ** 2 / eigenvalues[used], axis=1)
        scores[chosen] = -1.0
        best = int(np.argmax(scores))
        length = np.linalg.norm(left[best])
        if not used.any() or length <= smallest:
            raise ValueError(
                f"only {len(chosen)} rows are linearly independent; {m} were asked for. "
                "Give a key to draw by leverage scores, or choose farthest points."
            )
        chosen.append(best)
        direction = left[best] / length
        left -= np.outer(left @ direction, direction)
    return np.array(chosen)


def farthest_points(X: ArrayLike, m: int, *, start: int | ArrayLike | None = None) -> np.ndarray:
    """Return m rows, each the farthest in Euclidean distance from those chosen before (m,).

    Gonzalez, Theoretical Computer Science 38, 293 (1985): no row is farther from the chosen ones than twice the least
    that any m rows can achieve. O(n m d) operations; ties go to the smaller index.

    Args:
        start: one row or several to begin with, counted among the m; None: the row farthest from the mean.

    Raises:
        ValueError: fewer than m different rows, or a start that is not among them.
    """
    X = _checked(X, m)
    if start is None:
        start = int(np.argmax(np.sum((X - X.mean(axis=0)) ** 2, axis=1)))
    chosen = [int(i) for i in np.atleast_1d(np.asarray(start))]
    if not chosen or len(chosen) > m or min(chosen) < 0 or max(chosen) >= len(X) or len(set(chosen)) < len(chosen):
        raise ValueError(f"start must be 1 to {m} different indices of the {len(X)} rows; got {chosen}.")
    squares = np.full(len(X), np.inf)
    for i in chosen:
        squares = np.minimum(squares, np.sum((X - X[i]) ** 2, axis=1))
    scale = np.sum((X - X[chosen[0]]) ** 2, axis=1).max()
    while len(chosen) < m:
        best = int(np.argmax(squares))
        if squares[best] <= _SAME**2 * scale:
            raise ValueError(f"only {len(chosen)} rows are different; {m} were asked for.")
        chosen.append(best)
        squares = np.minimum(squares, np.sum((X - X[best]) ** 2, axis=1))
    return np.array(chosen)


def grid_points(X: ArrayLike, m: int) -> np.ndarray:
    """Return m rows spread evenly over the range of few descriptors, distances say (m,).

    The box of all rows is divided alike along every descriptor, as finely as keeps the occupied cells at most m; from
    each comes the row nearest to its centre. Farthest points fill up what is missing.

    Raises:
        ValueError: fewer than m different rows.
    """
    X = _checked(X, m)
    low, width = X.min(axis=0), np.ptp(X, axis=0)
    unit = (X - low) / np.where(width > 0, width, 1.0)
    chosen = _nearest_to_centres(unit, 1)
    for k in range(2, m + 1):
        finer = _nearest_to_centres(unit, k)
        if len(finer) > m:
            break
        chosen = finer
    return farthest_points(unit, m, start=chosen)


def _nearest_to_centres(unit: np.ndarray, k: int) -> np.ndarray:
    """Return for each occupied cell, of k along every direction of the unit cube, the row nearest to its centre."""
    cell = np.minimum((unit * k).astype(int), k - 1)
    distance = np.sum((unit * k - cell - 0.5) ** 2, axis=1)
    order = np.argsort(distance, kind="stable")
    _, first = np.unique(cell[order], axis=0, return_index=True)
    return order[first]


def random_points(X: ArrayLike, m: int, *, key: int) -> np.ndarray:
    """Return m rows drawn with equal probability, without repetition (m,)."""
    return np.random.default_rng(key).choice(len(_checked(X, m)), m, replace=False)


def quotas(groups: ArrayLike, m: int) -> dict[Any, int]:
    """Return how many of m points each group gets: in proportion to its size, at least one.

    Remainders go to the largest fractions (Hamilton's method), ties to the group that sorts first.

    Args:
        groups: (n,) labels, species or kinds of configurations.

    Raises:
        ValueError: more groups than points, or more points than rows.
    """
    names, sizes = np.unique(np.asarray(groups), return_counts=True)
    if not len(names) <= m <= sizes.sum():
        raise ValueError(f"m must lie between {len(names)}, one point per group, and {sizes.sum()} rows; got {m}.")
    share = 1 + (m - len(names)) * (sizes - 1) / max(sizes.sum() - len(names), 1)  # of the rows beyond the first
    counts = np.floor(share + 1e-9).astype(int)
    order = np.argsort(counts - share, kind="stable")
    counts[order[: m - counts.sum()]] += 1
    return {name.item(): int(count) for name, count in zip(names, counts, strict=True)}


def select_by_group(
    select: Callable[[np.ndarray, int], np.ndarray], X: ArrayLike, groups: ArrayLike, counts: dict[Any, int]
) -> np.ndarray:
    """Return indices of the rows that `select(X_g, m_g)` chooses in each group, group after group.

    Args:
        select: one of this module's functions, `lambda X, m: cur_points(X, m, key=0)` for instance.
        groups: (n,) labels.
        counts: points per group, those of `quotas` or others; groups without an entry get none.

    Raises:
        ValueError: labels that do not fit X, a group in `counts` that has no or too few rows.
    """
    X, groups = _checked(X), np.asarray(groups)
    if groups.shape != (len(X),):
        raise ValueError(f"groups must have a label for each of the {len(X)} rows; got shape {groups.shape}.")
    chosen = []
    for name, m in counts.items():
        rows = np.flatnonzero(groups == name)
        if m > len(rows):
            raise ValueError(f"group {name!r} has {len(rows)} rows; {m} points were asked for.")
        if m:
            chosen.append(rows[select(X[rows], m)])
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=int)


def _checked(X: ArrayLike, m: int = 1) -> np.ndarray:
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or not X.size:
        raise ValueError(f"descriptors must have shape (n, d), one row per point; got {X.shape}.")
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ValueError(f"descriptors of rows {', '.join(map(str, bad[:5]))} are not finite.")
    if not 1 <= m <= len(X):
        raise ValueError(f"the number of points must lie between 1 and the number of rows, {len(X)}; got {m}.")
    return X
