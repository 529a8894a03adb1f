"""Errors of correlated series, on autoregressive series of known correlation time."""

import numpy as np
import pytest
import scipy.signal

from jaxmlp.statistics import average, equilibrated, jackknife


def autoregressive(a: float, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Return x_t = a x_{t-1} + (1 - a^2)^(1/2) noise, stationary: mean 0, variance 1, tau = (1 + a) / 2 (1 - a)."""
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    noise[1:] *= np.sqrt(1 - a * a)
    return scipy.signal.lfilter([1], [1, -a], noise, axis=0)


@pytest.mark.parametrize(("method", "bias"), [("autocorrelation", 0.02), ("blocking", 0.06)])
@pytest.mark.parametrize("a", [0.0, 0.9])
def test_correlation_time_and_coverage_of_the_error(a, method, bias):
    columns = 500
    result = average(autoregressive(a, 8000, columns), method=method)
    tau = (1 + a) / (2 * (1 - a))
    standard_error = result.time.std() / np.sqrt(columns)
    assert abs(result.time.mean() - tau) < bias * tau + 4 * standard_error  # bias: blocks of about 10 tau lose 5 %
    z = result.mean / result.error
    assert abs(z.mean()) < 4 / np.sqrt(columns)
    # z^2 / df of a t distribution: blocks, at least 30 here, add 2 / 30 to the variance; 4 standard errors of it.
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / columns) + bias
    np.testing.assert_allclose(result.samples, 8000 / (2 * result.time), rtol=1e-12)
    np.testing.assert_allclose(result.error, autoregressive(a, 8000, columns).std(axis=0) / np.sqrt(result.samples))


@pytest.mark.parametrize("method", ["autocorrelation", "blocking"])
def test_alternating_rows_average_better_than_independent_ones(method):
    result = average(autoregressive(-0.6, 4000, 300), method=method)
    assert np.all(result.samples > 4000)
    z = result.mean / result.error
    assert 0.5 < z.var() < 1 + 4 * np.sqrt(2 / 300)  # tau = 1/8: estimates are high, errors never too small
    assert average(np.tile([1.0, -1.0], 50), method=method).error == pytest.approx(0.01)  # at least 1 / T


def test_the_autocorrelation_of_a_short_series_is_summed_up_to_the_window():
    x = np.array([1.0, 2.0, 4.0, 3.0, 1.0, 0.0, 2.0, 5.0, 3.0, 2.0, 2.5, 1.5])
    d, T = x - x.mean(), len(x)
    c = np.array([d[: T - t] @ d[t:] / (T - t) for t in range(T)])
    tau = [0.5 + c[1:M].sum() / c[0] + c[M] / (2 * c[0]) for M in range(1, T)]
    M = next(M for M in range(1, T) if M >= 5 * tau[M - 1] > 0)
    assert M > 1
    result = average(x)
    assert result.time == pytest.approx(tau[M - 1] * (1 + (2 * M + 1) / T), rel=1e-12)
    assert result.mean == pytest.approx(x.mean(), rel=1e-14)


def test_blocks_are_the_first_that_are_long_enough():
    x = autoregressive(0.5, 301, 1)[:, 0]
    T, error = len(x), {}
    for B in (1, 2, 4, 8, 16, 32, 64):  # blocks end with the last row; what does not fill one is left out at the start
        parts = x[T % B :].reshape(-1, B).mean(axis=1)
        error[B] = parts.std(ddof=1) / np.sqrt(len(parts))
    B = next(B for B in error if 2 * T * (error[B] / error[1]) ** 4 < B**3)
    assert 1 < B < 64
    assert average(x, method="blocking").error == pytest.approx(error[B], rel=1e-12)


@pytest.mark.parametrize("method", ["autocorrelation", "blocking"])
def test_columns_and_axes_are_averaged_like_single_series(method):
    x = 3.0 + autoregressive(0.5, 1000, 6).reshape(1000, 2, 3)
    result = average(x, method=method)
    other = average(np.moveaxis(x, 0, 2), method=method, axis=2)
    one = average(x[:, 1, 2], method=method)
    assert result.mean.shape == (2, 3)
    assert isinstance(one.mean, float)
    for name in result._fields:
        np.testing.assert_allclose(getattr(result, name), getattr(other, name), rtol=1e-12)
        assert getattr(result, name)[1, 2] == pytest.approx(getattr(one, name), rel=1e-12)


def test_a_constant_has_no_error():
    result = average(np.full((100, 2), 0.1))
    np.testing.assert_array_equal(result.mean, 0.1)
    np.testing.assert_array_equal(result.error, 0.0)
    np.testing.assert_array_equal(result.samples, 100.0)


@pytest.mark.parametrize("method", ["autocorrelation", "blocking"])
def test_series_that_tell_no_error_are_refused(method):
    with pytest.raises(ValueError, match=r"at least 10 rows.*Run longer"):
        average(np.zeros(9), method=method)
    with pytest.raises(ValueError, match=r"independent samples; an error needs 10. Run longer"):
        average(np.arange(200.0), method=method)
    x = autoregressive(0.0, 100, 2)
    x[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 of 200 values are not finite, the first at index \(7, 1\)"):
        average(x, method=method)


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"blocking.*got 'bootstrap'"):
        average(np.zeros(100), method="bootstrap")


def test_jackknife_of_a_mean_is_the_error_of_block_averages():
    x = autoregressive(0.5, 1003, 1)[:, 0]
    value, error = jackknife(np.mean, x, blocks=20)
    parts = x[3:].reshape(20, 50).mean(axis=1)
    assert value == pytest.approx(x.mean(), rel=1e-13)
    assert error == pytest.approx(parts.std(ddof=1) / np.sqrt(20), rel=1e-10)


def test_jackknife_covers_functions_of_several_averages():
    def ratio(x, y):
        return np.array([x.var(), x.mean() / y.mean()])

    columns = 400
    x = 2 + autoregressive(0.5, 2000, columns)
    y = 4 + 0.5 * autoregressive(0.5, 2000, columns, seed=1)
    results = [jackknife(ratio, x[:, i], y[:, i]) for i in range(columns)]
    z = np.array([(value - [1, 0.5]) / error for value, error in results])
    assert z.shape == (columns, 2)
    # Student's t of 19 degrees of freedom has variance 19/17 and fourth moment 3.4 (19/17)^2.
    assert np.all(np.abs(z.var(axis=0) - 19 / 17) < 4 * np.sqrt(2.4 / columns) * 19 / 17)


def test_jackknife_refuses_series_that_do_not_match():
    with pytest.raises(ValueError, match="same rows; they have 100, 90"):
        jackknife(np.mean, np.zeros(100), np.zeros(90))
    with pytest.raises(ValueError, match="from 2 to the 15 rows"):
        jackknife(np.mean, np.zeros(15))


def test_relaxation_is_found():
    noise = autoregressive(0.8, 3000, 3)
    relaxing = noise + [0, 5, 10] * np.exp(-np.arange(3000)[:, None] / 60)
    start = [equilibrated(relaxing[:, i]) for i in range(3)]
    assert start[0] < 600  # numbers of samples scatter by a tenth, so some of a stationary series is lost
    assert all(60 < s < 600 for s in start[1:])  # after ten relaxation times 10 exp(-10) is lost in noise of 1
    assert equilibrated(relaxing) == max(start)
    assert average(relaxing[start[2] :, 2]).samples > average(relaxing[60:, 2]).samples
