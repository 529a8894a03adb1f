"""Representative points: scores by definition, geometry, quotas."""

import numpy as np
import pytest

from jaxmlp.fitting.gap.sparse_selection import (
    cur_points,
    farthest_points,
    grid_points,
    leverage_scores,
    quotas,
    random_points,
    select_by_group,
)

RNG = np.random.default_rng


def test_leverage_scores_are_the_diagonal_of_a_projector():
    X = RNG(0).standard_normal((30, 6))
    scores = leverage_scores(X, 6)
    np.testing.assert_allclose(scores, np.diag(X @ np.linalg.solve(X.T @ X, X.T)) / 6, rtol=1e-12)
    assert leverage_scores(X, 2).sum() == pytest.approx(1.0)
    flat = np.column_stack([X[:, :2], X[:, :2]])  # rank 2: singular vectors of rounding noise do not count
    np.testing.assert_allclose(leverage_scores(flat, 4), leverage_scores(X[:, :2], 2), rtol=1e-10)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_greedy_cur_follows_its_definition(shape):
    X = RNG(1).standard_normal(shape) * np.logspace(0, -2, shape[1])
    chosen = cur_points(X, 8)
    left = X.copy()
    for i in chosen:
        U = np.linalg.svd(left, full_matrices=False)[0]
        assert i == np.argmax(U[:, 0] ** 2)
        left -= left @ np.outer(left[i], left[i]) / (left[i] @ left[i])
    np.testing.assert_array_equal(cur_points(X, 8), chosen)  # deterministic


def test_rows_chosen_by_cur_span_the_others_better_than_chance():
    rng = RNG(2)
    X = rng.standard_normal((200, 30)) @ (np.logspace(0, -4, 30)[:, None] * rng.standard_normal((30, 30)))

    def lost(rows):
        Q = np.linalg.qr(X[rows].T)[0]
        return np.linalg.norm(X - X @ Q @ Q.T)

    optimum = np.sqrt(np.sum(np.linalg.svd(X)[1][10:] ** 2))
    chance = np.mean([lost(random_points(X, 10, key=k)) for k in range(20)])
    drawn = np.mean([lost(cur_points(X, 10, key=k)) for k in range(20)])
    assert optimum < lost(cur_points(X, 10)) < 3 * optimum
    assert lost(cur_points(X, 10)) < drawn < 1.5 * chance


def test_drawn_rows_follow_their_scores():
    X = np.diag(np.ones(4))[np.repeat([0, 1, 2, 3], [1, 2, 4, 8])]  # leverage of a row: 1/4 over the copies it has
    counts = np.zeros(15)
    draws = 4000
    for key in range(draws):
        counts[cur_points(X, 1, rank=4, key=key)] += 1
    p = np.repeat([1, 1 / 2, 1 / 4, 1 / 8], [1, 2, 4, 8]) / 4
    assert np.all(np.abs(counts / draws - p) < 4.5 * np.sqrt(p * (1 - p) / draws))
    np.testing.assert_array_equal(cur_points(X, 12, key=3), cur_points(X, 12, key=3))
    assert len(set(cur_points(X, 15, key=3))) == 15  # more than the rank is possible by chance


def test_farthest_points_of_a_line_and_their_bound():
    X = np.arange(11.0)[:, None]
    np.testing.assert_array_equal(farthest_points(X, 5), [0, 10, 5, 2, 7])
    np.testing.assert_array_equal(farthest_points(X, 3, start=5), [5, 0, 10])
    np.testing.assert_array_equal(farthest_points(X, 4, start=[3, 4]), [3, 4, 10, 0])
    X = RNG(3).standard_normal((300, 5))
    chosen = farthest_points(X, 20)
    distance = np.linalg.norm(X[:, None] - X[chosen], axis=-1).min(axis=1)
    between = np.linalg.norm(X[chosen][:, None] - X[chosen], axis=-1)[~np.eye(20, dtype=bool)]
    assert distance.max() <= between.min()
    assert chosen[0] == np.argmax(np.linalg.norm(X - X.mean(axis=0), axis=1))


def test_grid_points_cover_the_range_evenly():
    X = RNG(4).beta(1, 8, (2000, 1))  # crowded near 0
    chosen = X[grid_points(X, 15), 0]
    assert len(set(chosen)) == 15
    edges = np.linspace(X.min(), X.max(), 11)
    assert np.all(np.histogram(chosen, edges)[0] >= 1)
    square = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    centres = square[grid_points(square, 9)]
    assert sorted(map(tuple, centres)) == [(a, b) for a in (1.0, 4.0, 7.0) for b in (1.0, 4.0, 7.0)]


def test_quotas_share_in_proportion_and_leave_no_group_out():
    groups = ["Si"] * 60 + ["O"] * 39 + ["H"]
    assert quotas(groups, 10) == {"H": 1, "O": 4, "Si": 5}
    assert quotas(groups, 100) == {"H": 1, "O": 39, "Si": 60}
    assert quotas(groups, 3) == {"H": 1, "O": 1, "Si": 1}
    rng = RNG(5)
    for _ in range(50):
        labels = rng.integers(0, 6, rng.integers(10, 100))
        names, sizes = np.unique(labels, return_counts=True)
        m = int(rng.integers(len(names), len(labels) + 1))
        counts = quotas(labels, m)
        assert sum(counts.values()) == m
        assert all(1 <= counts[name] <= size for name, size in zip(names.tolist(), sizes))


def test_selection_by_group_is_selection_in_each():
    X = RNG(6).standard_normal((50, 3))
    groups = np.tile([14, 8], 25)
    chosen = select_by_group(farthest_points, X, groups, {14: 4, 8: 2})
    np.testing.assert_array_equal(chosen[:4], 2 * farthest_points(X[::2], 4))
    np.testing.assert_array_equal(chosen[4:], 2 * farthest_points(X[1::2], 2) + 1)
    drawn = select_by_group(lambda X, m: random_points(X, m, key=1), X, groups, {8: 25})
    assert sorted(drawn) == list(range(1, 50, 2))


def test_bad_input_is_refused():
    X = RNG(7).standard_normal((10, 3))
    with pytest.raises(ValueError, match=r"shape \(n, d\)"):
        farthest_points(X[0], 2)
    bad = X.copy()
    bad[[2, 5], 1] = np.nan
    with pytest.raises(ValueError, match="rows 2, 5 are not finite"):
        cur_points(bad, 2)
    for select in (cur_points, farthest_points, grid_points):
        with pytest.raises(ValueError, match="between 1 and the number of rows, 10; got 11"):
            select(X, 11)
        with pytest.raises(ValueError, match="got 0"):
            select(X, 0)
    with pytest.raises(ValueError, match="only 3 rows are linearly independent; 4 were asked for"):
        cur_points(X, 4)
    with pytest.raises(ValueError, match="only 2 rows have a leverage score"):
        cur_points(np.diag([1.0, 1.0, 0.0]), 3, key=0)
    with pytest.raises(ValueError, match="only 2 rows are different; 3 were asked for"):
        farthest_points([[0.0], [1.0], [0.0], [1.0]], 3)
    with pytest.raises(ValueError, match="start must be 1 to 2 different indices"):
        farthest_points(X, 2, start=10)
    with pytest.raises(ValueError, match="rank must lie between 1 and 3"):
        leverage_scores(X, 4)
    with pytest.raises(ValueError, match="rank must lie between 1 and 3"):
        cur_points(X, 2, rank=0)
    with pytest.raises(ValueError, match="m must lie between 2"):
        quotas(["a", "b"], 1)
    with pytest.raises(ValueError, match="a label for each of the 10 rows"):
        select_by_group(farthest_points, X, [1, 2], {1: 1})
    with pytest.raises(ValueError, match="group 2 has 4 rows; 5 points"):
        select_by_group(farthest_points, X, [1] * 6 + [2] * 4, {2: 5})
