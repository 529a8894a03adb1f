"""Linear regression from triangular factors: against numpy.linalg.lstsq, dense formulas, integrals and statistics."""

import itertools

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm

from jaxmlp.fitting.linear.bayesian_regression import ard, bayesian_ridge
from jaxmlp.fitting.linear.ridge_choice import choose_ridge
from jaxmlp.fitting.linear.solvers import least_squares, ridge
from jaxmlp.fitting.linear.tall_qr import add_rows, combine, no_rows, tall_qr

RNG = np.random.default_rng


def problem(n=60, p=7, seed=0, noise=0.1):
    rng = RNG(seed)
    A = rng.standard_normal((n, p))
    return A, A @ rng.standard_normal(p) + noise * rng.standard_normal(n)


def with_condition(n, p, condition, seed=0):
    """Return A (n, p) with singular values from 1 to 1 / condition."""
    rng = RNG(seed)
    U, V = np.linalg.qr(rng.standard_normal((n, p)))[0], np.linalg.qr(rng.standard_normal((p, p)))[0]
    return U * np.logspace(0, -np.log10(condition), p) @ V.T


def test_blocks_of_every_size_and_parts_give_the_factor_of_all_rows():
    A, y = problem()
    weights = RNG(1).uniform(0.1, 10, len(y))
    whole = tall_qr([(A, y, weights)])
    rows = weights[:, None] * np.column_stack([A, y])
    np.testing.assert_allclose(whole.R.T @ whole.R, rows.T @ rows, rtol=1e-12, atol=1e-12 * np.sum(rows**2))
    assert np.all(np.tril(whole.R, -1) == 0)
    ends = [0, 1, 3, 30, 31, 60]
    blocks = [(A[a:b], y[a:b], weights[a:b]) for a, b in itertools.pairwise(ends)]
    parts = combine([tall_qr(blocks[:2]), tall_qr(blocks[2:4]), tall_qr(blocks[4:])])
    scaled = combine([tall_qr(blocks[:3]), tall_qr([(A[30:], y[30:], weights[30:] / 5)])], [1.0, 5.0])
    for other in (tall_qr(blocks), parts, scaled):
        np.testing.assert_allclose(np.abs(other.R), np.abs(whole.R), rtol=1e-10, atol=1e-11)  # signs are free
        assert other.rows == 60
        np.testing.assert_allclose(other.log_weight, np.log(weights).sum(), rtol=1e-12)
    c = RNG(2).standard_normal(7)
    np.testing.assert_allclose(whole.misfit(c), np.sum((weights * (A @ c - y)) ** 2), rtol=1e-12)


def test_parts_that_lack_columns_are_combined():
    A, y = problem()
    A[:30, [0, 2]] = 0  # some rows do not contain all parameters
    A[30:, 1] = A[30:, 3]
    parts = combine([tall_qr([(A[a:b], y[a:b])]) for a, b in itertools.pairwise([0, 2, 5, 30, 60])])
    rows = np.column_stack([A, y])
    np.testing.assert_allclose(parts.R.T @ parts.R, rows.T @ rows, atol=1e-12 * np.sum(rows**2))


def test_rows_of_weight_zero_are_absent():
    A, y = problem()
    weights = np.ones(60)
    weights[::3] = 0
    some = tall_qr([(A, y, weights)])
    assert some.rows == 40
    left = weights > 0
    np.testing.assert_allclose(some.R, tall_qr([(A[left], y[left])]).R, rtol=1e-14)


@pytest.mark.parametrize(("n", "rank"), [(50, 8), (50, 5), (6, 6), (5, 5), (5, 3)])
def test_least_squares_is_that_of_lapack_also_without_full_rank(n, rank):
    rng = RNG(n + rank)
    A = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, 8))
    y = rng.standard_normal(n)
    fit = least_squares(tall_qr([(A[:3], y[:3]), (A[3:], y[3:])]))
    expected, _, found, _ = np.linalg.lstsq(A, y, rcond=None)
    assert found == rank
    np.testing.assert_allclose(fit.coefficients, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(fit.effective, rank, rtol=1e-10)
    if n > rank:
        variance = np.sum((A @ expected - y) ** 2) / (n - rank)
        np.testing.assert_allclose(fit.noise**2, variance, rtol=1e-10)
        np.testing.assert_allclose(
            fit.covariance, variance * np.linalg.pinv(A.T @ A, rcond=1e-10), rtol=1e-6, atol=1e-9
        )
    else:
        assert np.isnan(fit.noise)


def test_condition_number_1e8_where_normal_equations_fail():
    A = with_condition(200, 10, 1e8)
    exact = np.ones(10)
    y = A @ exact
    qr = tall_qr([(A[i : i + 20], y[i : i + 20]) for i in range(0, 200, 20)])
    for fit in (least_squares(qr), ridge(qr, 0.0), ridge(qr, 0.0, solver="svd")):
        np.testing.assert_allclose(fit.coefficients, exact, atol=1e-6)  # 1e8 times a rounding of 2e-16, times about 10
    normal = np.linalg.solve(A.T @ A + np.finfo(float).tiny, A.T @ y)
    assert np.abs(normal - exact).max() > 1e-3


def test_scales_of_columns_do_not_matter_to_qr():
    A, y = problem()
    scale = np.logspace(-20, 20, 7)
    expected = np.linalg.lstsq(A, y, rcond=None)[0]
    fit = ridge(tall_qr([(A * scale, y)]), 0.0)
    np.testing.assert_allclose(fit.coefficients * scale, expected, rtol=1e-12)
    # Nor, with normalised columns, to a ridge.
    plain, scaled = (ridge(tall_qr([(X, y)]), 3.0, normalize=True) for X in (A, A * scale))
    np.testing.assert_allclose(scaled.coefficients * scale, plain.coefficients, rtol=1e-11)
    gamma = np.diag(np.sqrt(np.mean(A**2, axis=0)))
    np.testing.assert_allclose(plain.coefficients, np.linalg.solve(A.T @ A + 3 * gamma**2, A.T @ y), rtol=1e-11)


@pytest.mark.parametrize("solver", ["qr", "svd"])
@pytest.mark.parametrize("prior", ["identity", "diagonal", "differences", "square"])
def test_ridge_is_the_closed_form(solver, prior):
    A, y = problem()
    weights = RNG(1).uniform(0.5, 2, 60)
    gammas = {
        "identity": None,
        "diagonal": np.arange(1.0, 8.0) ** 2,  # a smoothness prior
        "differences": np.diff(np.eye(7), n=2, axis=0),
        "square": RNG(3).standard_normal((9, 7)),
    }
    gamma = gammas[prior]
    G = np.eye(7) if gamma is None else np.diag(gamma) if gamma.ndim == 1 else gamma
    fit = ridge(tall_qr([(A, y, weights)]), 0.3, prior=gamma, solver=solver)
    W = np.diag(weights**2)
    inverse = np.linalg.inv(A.T @ W @ A + 0.3 * G.T @ G)
    c = inverse @ A.T @ W @ y
    np.testing.assert_allclose(fit.coefficients, c, rtol=1e-11)
    effective = np.trace(A @ inverse @ A.T @ W)
    np.testing.assert_allclose(fit.effective, effective, rtol=1e-11)
    variance = np.sum(weights**2 * (A @ c - y) ** 2) / (60 - effective)
    np.testing.assert_allclose(fit.covariance, variance * inverse, rtol=1e-9, atol=1e-15)
    if prior == "differences":
        assert fit.log_evidence is None  # two directions without a prior: it is improper
    else:
        spread = variance * (A @ np.linalg.inv(0.3 * G.T @ G) @ A.T + np.linalg.inv(W))
        np.testing.assert_allclose(fit.log_evidence, multivariate_normal(np.zeros(60), spread).logpdf(y), rtol=1e-10)


def test_a_singular_problem_is_refused_by_qr_and_has_a_shortest_solution():
    A, y = problem()
    A = np.column_stack([A, A[:, 0]])
    qr = tall_qr([(A, y)])
    with pytest.raises(np.linalg.LinAlgError, match="do not determine all 8 coefficients"):
        ridge(qr, 0.0)
    fit = ridge(qr, 0.0, solver="svd")
    np.testing.assert_allclose(fit.coefficients, np.linalg.lstsq(A, y, rcond=None)[0], atol=1e-10)
    with pytest.raises(np.linalg.LinAlgError, match="do not determine"):
        ridge(no_rows(2), 0.0)


@pytest.mark.parametrize("p", [1, 2])
def test_evidence_is_the_integral_over_the_coefficients(p):
    A, y = problem(5, p, seed=4, noise=0.5)
    sigma = np.linspace(0.4, 0.8, 5)
    gamma = np.array([0.7, 1.9])[:p]
    fit = ridge(tall_qr([(A, y, 1 / sigma)]), 2.0, prior=gamma, noise=1.0)

    # The trapezoidal rule converges exponentially for a bell-shaped integrand: 12 points per standard deviation.
    axes = [c + width * np.linspace(-8, 8, 200) for c, width in zip(fit.coefficients, np.sqrt(np.diag(fit.covariance)))]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, p)
    log_joint = norm(grid @ A.T, sigma).logpdf(y).sum(axis=1) + norm(0, 1 / (np.sqrt(2.0) * gamma)).logpdf(grid).sum(
        axis=1
    )
    integral = np.exp(log_joint).sum() * np.prod([axis[1] - axis[0] for axis in axes])
    np.testing.assert_allclose(fit.log_evidence, np.log(integral), atol=1e-10)


def log_evidence(A, y, variances, alpha):
    """Return log p(y) from the dense covariance of y, for noise variances (n,) and prior precisions alpha (p,)."""
    L = np.linalg.cholesky(np.diag(variances) + A / alpha @ A.T)
    return -0.5 * np.sum(np.linalg.solve(L, y) ** 2) - np.log(np.diag(L)).sum() - 0.5 * len(y) * np.log(2 * np.pi)


def test_bayesian_ridge_is_the_maximum_of_the_evidence():
    A, y = problem(noise=0.5)
    fit = bayesian_ridge(tall_qr([(A, y)]))
    best = minimize(
        lambda x: -log_evidence(A, y, np.full(60, np.exp(x[0])), np.full(7, np.exp(x[1]))), [0, 0], tol=1e-10
    )
    np.testing.assert_allclose([fit.noise**2, fit.precision], np.exp(best.x), rtol=1e-4)  # of the minimiser
    np.testing.assert_allclose(fit.log_evidence, -best.fun, rtol=1e-10)
    assert fit.converged
    assert np.all(np.abs(np.diff(fit.history)) < 1e-8)  # the start was the answer
    again = ridge(tall_qr([(A, y)]), fit.precision * fit.noise**2)
    np.testing.assert_allclose(again.noise, fit.noise, rtol=1e-5)
    np.testing.assert_allclose(again.coefficients, fit.coefficients, rtol=1e-10)
    np.testing.assert_allclose(again.covariance, fit.covariance, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(fit.effective, again.effective, rtol=1e-10)


def test_several_noises_are_found_and_maximise_the_evidence():
    rng = RNG(5)
    A, c = rng.standard_normal((160, 6)), rng.standard_normal(6)
    noise = np.repeat([0.01, 1.0, 20.0], [60, 60, 40])
    y = A @ c + noise * rng.standard_normal(160)
    slices = (slice(0, 60), slice(60, 120), slice(120, 160))
    gamma = np.linspace(1, 3, 6)
    kinds = [tall_qr([(A[s], y[s])]) for s in slices]
    fit = bayesian_ridge(kinds, prior=gamma, tolerance=1e-8)
    assert fit.converged
    for found, true, n in zip(fit.noise, [0.01, 1.0, 20.0], [60, 60, 40], strict=True):
        assert abs(np.log(found / true)) < 4 / np.sqrt(2 * (n - 6))  # standard error of a logarithm of sigma

    def negative(x):
        return -log_evidence(A, y, np.repeat(np.exp(x[:3]), [60, 60, 40]), np.exp(x[3]) * gamma**2)

    x = np.append(np.log(fit.noise**2), np.log(fit.precision))
    np.testing.assert_allclose(fit.log_evidence, -negative(x), rtol=1e-10)
    for direction in np.eye(4):  # a maximum: the slope vanishes, and both sides are lower
        up, down = negative(x + 1e-3 * direction), negative(x - 1e-3 * direction)
        assert (
            abs(up - down) / 2e-3 < 1e-4
        )  # of the difference quotient: h^2 / 6 times third derivatives of about n / 2
        assert min(up, down) > negative(x)
    assert np.all(np.diff(fit.history) > -1e-6)


def test_exact_rows_and_rows_that_say_nothing_end_with_finite_numbers():
    A, y = problem(noise=0.0)
    fit = bayesian_ridge(tall_qr([(A, y)]))
    np.testing.assert_allclose(fit.coefficients, np.linalg.lstsq(A, y, rcond=None)[0], rtol=1e-7)
    assert 0 < fit.noise < 1e-7
    fit = bayesian_ridge([tall_qr([(A, y)]), tall_qr([(A[:1], y[:1])])])
    assert np.isfinite(fit.log_evidence)
    assert np.all(fit.noise > 0)
    noise = RNG(9).standard_normal(60)
    fit = bayesian_ridge(tall_qr([(A, noise - A @ np.linalg.lstsq(A, noise, rcond=None)[0])]))
    assert fit.effective < 1e-2
    np.testing.assert_allclose(fit.coefficients, 0, atol=1e-10)


def sparse_problem(p=30, n=200, seed=6):
    rng = RNG(seed)
    A = rng.standard_normal((n, p)) * np.logspace(-3, 3, p)  # parameters in very different units
    c = np.zeros(p)
    support = rng.choice(p, 5, replace=False)
    c[support] = rng.choice([-1, 1], 5) * rng.uniform(1, 3, 5) / np.logspace(-3, 3, p)[support]
    return A, A @ c + 0.3 * rng.standard_normal(n), np.sort(support)


def test_ard_finds_the_support():
    A, y, support = sparse_problem()
    evidence, strict = (ard(tall_qr([(A, y)]), significance=t) for t in (1.0, 4.0))
    assert evidence.converged
    assert strict.converged
    assert set(support) <= set(np.flatnonzero(evidence.coefficients))
    np.testing.assert_array_equal(np.flatnonzero(strict.coefficients), support)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(strict.precision)), support)
    assert abs(np.log(strict.noise / 0.3)) < 4 / np.sqrt(2 * 195)
    error = strict.coefficients[support] - np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    assert np.all(np.abs(error) < 0.1 * np.sqrt(np.diag(strict.covariance)[support]))  # hardly shrunk
    # Removal at the fixed point is where the evidence is largest; it never falls below that of a common prior.
    assert evidence.log_evidence > strict.log_evidence > bayesian_ridge(tall_qr([(A, y)]), normalize=True).log_evidence
    kept = np.flatnonzero(evidence.coefficients)
    dense = log_evidence(A[:, kept], y, np.full(200, evidence.noise**2), evidence.precision[kept])
    np.testing.assert_allclose(evidence.log_evidence, dense, rtol=1e-9)


def test_ard_is_at_a_maximum_of_the_evidence():
    A, y, _ = sparse_problem(p=10, n=60)
    fit = ard(tall_qr([(A, y)]), tolerance=1e-8)
    kept = np.flatnonzero(fit.coefficients)
    x = np.append(np.log(fit.noise**2), np.log(fit.precision[kept]))

    def negative(x, columns=kept):
        return -log_evidence(A[:, columns], y, np.full(60, np.exp(x[0])), np.exp(x[1:]))

    for direction in np.eye(len(x)):
        up, down = negative(x + 1e-3 * direction), negative(x - 1e-3 * direction)
        assert (
            abs(up - down) / 2e-3 < 1e-4
        )  # of the difference quotient: h^2 / 6 times third derivatives of about n / 2
        assert min(up, down) > negative(x)
    for other in set(range(10)) - set(kept):  # none of those removed would come back, with any precision
        for log_alpha in np.linspace(-10, 10, 11) + np.log(np.mean(A[:, other] ** 2)):
            assert negative(np.append(x, log_alpha), np.append(kept, other)) > negative(x)


def test_ard_keeps_one_of_equal_columns_and_none_of_noise():
    A, y = problem(n=300, p=3)
    A = np.column_stack([A, A[:, 0], np.zeros(300)])
    fit = ard(tall_qr([(A, y)]), significance=3.0)
    kept = set(np.flatnonzero(fit.coefficients))
    assert kept in ({0, 1, 2}, {1, 2, 3})
    fit = ard(tall_qr([(A, RNG(3).standard_normal(300))]), significance=4.0)
    np.testing.assert_array_equal(fit.coefficients, 0)
    np.testing.assert_allclose(fit.log_evidence, norm(0, fit.noise).logpdf(RNG(3).standard_normal(300)).sum())


def test_ard_finds_a_noise_for_each_kind():
    A, y, support = sparse_problem()
    y = y.copy()
    y[100:] += 30 * RNG(1).standard_normal(100)
    fit = ard([tall_qr([(A[:100], y[:100])]), tall_qr([(A[100:], y[100:])])], significance=4.0)
    np.testing.assert_array_equal(np.flatnonzero(fit.coefficients), support)
    assert abs(np.log(fit.noise[0] / 0.3)) < 4 / np.sqrt(2 * 95)
    assert abs(np.log(fit.noise[1] / 30)) < 4 / np.sqrt(2 * 95)


def test_scores_of_ridges_are_the_dense_formulas():
    A, y = problem(n=40, noise=1.0)
    weights = RNG(1).uniform(0.5, 2, 40)
    gamma = np.linspace(1, 2, 7)
    parts = [tall_qr([(A[s], y[s], weights[s])]) for s in (slice(0, 10), slice(10, 25), slice(25, 40))]
    strengths = np.logspace(-3, 3, 7)
    Aw, yw = A * weights[:, None], y * weights

    def hat(strength, A=Aw):
        return np.linalg.solve(A.T @ A + strength * np.diag(gamma**2), A.T)

    gcv = choose_ridge(parts, "gcv", prior=gamma, strengths=strengths)
    for strength, score, effective in zip(strengths, gcv.scores, gcv.effective, strict=True):
        H = Aw @ hat(strength)
        np.testing.assert_allclose(effective, np.trace(H), rtol=1e-10)
        np.testing.assert_allclose(score, 40 * np.sum((yw - H @ yw) ** 2) / (40 - np.trace(H)) ** 2, rtol=1e-10)
    groups = choose_ridge(parts, "groups", prior=gamma, strengths=strengths)
    for strength, score in zip(strengths, groups.scores, strict=True):
        total = 0.0
        for s in (slice(0, 10), slice(10, 25), slice(25, 40)):
            others = np.setdiff1d(np.arange(40), np.arange(40)[s])
            c = hat(strength, Aw[others]) @ yw[others]
            total += np.sum((Aw[s] @ c - yw[s]) ** 2)
        np.testing.assert_allclose(score, total / 40, rtol=1e-10)
    evidence = choose_ridge(parts, "evidence", prior=gamma, strengths=strengths)
    for strength, score in zip(strengths, evidence.scores, strict=True):
        spread = A / (strength * gamma**2) @ A.T + np.diag(weights**-2)
        variance = y @ np.linalg.solve(spread, y) / 40
        np.testing.assert_allclose(score, -multivariate_normal(np.zeros(40), variance * spread).logpdf(y), rtol=1e-10)
    for choice in (gcv, groups, evidence):
        best = int(np.argmin(choice.scores))
        assert strengths[max(best - 1, 0)] <= choice.strength <= strengths[min(best + 1, 6)]


def test_the_chosen_ridge_predicts_better_than_none_or_ten_times_as_much():
    rng = RNG(8)
    errors = []
    for _ in range(40):
        A, new = rng.standard_normal((25, 20)), rng.standard_normal((200, 20))
        c = rng.standard_normal(20)
        qr = tall_qr([(A, A @ c + 3 * rng.standard_normal(25))])
        chosen = [choose_ridge(qr, criterion).strength for criterion in ("evidence", "gcv")]
        fits = [ridge(qr, strength) for strength in (*chosen, 0.0, 1e3 * chosen[0])]
        errors.append([np.sum((new @ (fit.coefficients - c)) ** 2) for fit in fits])
    by_evidence, by_gcv, none, too_much = np.mean(errors, axis=0)
    assert by_evidence < min(none, too_much)
    assert by_gcv < none


def test_samples_have_mean_and_covariance_of_the_posterior():
    A, y = problem(p=3, noise=1.0)
    fit = bayesian_ridge(tall_qr([(A, y)]))
    n = 20000
    draws = fit.sample(jax.random.key(0), n)
    white = np.linalg.solve(np.linalg.cholesky(fit.covariance), (draws - fit.coefficients).T)
    assert np.all(np.abs(white.mean(axis=1)) < 4 / np.sqrt(n))
    second = white @ white.T / n
    assert np.all(np.abs(second - np.eye(3)) < 4 * np.sqrt((1 + np.eye(3)) / n))  # variances 2 / n and 1 / n
    np.testing.assert_array_equal(draws, fit.sample(jax.random.key(0), n))


def test_posterior_covers_the_truth():
    rng = RNG(11)
    z = []
    for _ in range(100):
        A, c = rng.standard_normal((50, 4)), rng.standard_normal(4)
        fit = ridge(tall_qr([(A, A @ c + rng.standard_normal(50))]), 1.0, noise=1.0)
        z.append(np.linalg.solve(np.linalg.cholesky(fit.covariance), fit.coefficients - c))
    z = np.ravel(z)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)


def test_bad_rows_are_named():
    A, y = problem(n=10)
    qr = add_rows(no_rows(7), A, y)
    bad = A.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match=r"rows 3 of this block \(added after 10 others\) hold values not finite"):
        add_rows(qr, bad, y)
    with pytest.raises(ValueError, match="rows 4, 7 of this block"):
        add_rows(qr, A, np.where(np.isin(np.arange(10), [4, 7]), np.inf, y))
    with pytest.raises(ValueError, match=r"A must have shape \(rows, 7\), a column per parameter; got \(10, 6\)"):
        add_rows(qr, A[:, :6], y)
    with pytest.raises(ValueError, match=r"y must have shape \(10,\)"):
        add_rows(qr, A, y[:9])
    with pytest.raises(ValueError, match=r"weights must be one number or have shape \(10,\)"):
        add_rows(qr, A, y, np.ones(3))
    with pytest.raises(ValueError, match="weights of rows 2 are negative"):
        add_rows(qr, A, y, np.where(np.arange(10) == 2, -1.0, 1.0))
    with pytest.raises(ValueError, match="no block of rows"):
        tall_qr([])
    with pytest.raises(ValueError, match="equal numbers of parameters"):
        combine([qr, no_rows(3)])


def test_bad_options_are_refused():
    qr = tall_qr([problem()])
    for strength in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="strength multiplies a sum of squares and must be at least 0"):
            ridge(qr, strength)
    with pytest.raises(ValueError, match=r'solver must be "qr" or "svd"'):
        ridge(qr, 1.0, solver="lu")
    with pytest.raises(ValueError, match=r"prior must have shape \(7,\)"):
        ridge(qr, 1.0, prior=np.ones(6))
    with pytest.raises(ValueError, match="not negative"):
        ridge(qr, 1.0, prior=-np.ones(7))
    with pytest.raises(ValueError, match="criterion must be"):
        choose_ridge(qr, "aic")
    with pytest.raises(ValueError, match="two factors or more"):
        choose_ridge(qr, "groups")
    with pytest.raises(ValueError, match="has not rank 7"):
        choose_ridge(qr, prior=np.diff(np.eye(7), axis=0))
    with pytest.raises(ValueError, match="strengths must be positive and increasing"):
        choose_ridge(qr, strengths=[1.0, 0.1])
    with pytest.raises(ValueError, match="all targets are zero"):
        bayesian_ridge(tall_qr([(np.eye(3), np.zeros(3))]))
    with pytest.raises(ValueError, match=r"kinds \[1\] have no rows"):
        bayesian_ridge([qr, no_rows(7)])
    with pytest.raises(ValueError, match="significance must be at least 1"):
        ard(qr, significance=0.5)
