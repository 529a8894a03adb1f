"""Means of correlated time series and their errors, with numpy on the host. Time runs along the first axis."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 10  # independent samples below which neither a correlation time nor an error can be told


class Average(NamedTuple):
    """Mean of a time series, and what is known about it; numbers, or arrays of the shape of one row.

    Args:
        mean: average over all rows.
        error: its standard error.
        samples: effective number of independent rows, (rows) / (2 time).
        time: integrated autocorrelation time, 1/2 + sum_{t > 0} rho(t), in rows.
    """

    mean: Any
    error: Any
    samples: Any
    time: Any


def average(x: ArrayLike, *, method: str = "autocorrelation", axis: int = 0) -> Average:
    """Return mean, standard error, number of independent samples and correlation time of a time series.

    "autocorrelation": error^2 = 2 tau c(0) / T, tau(M) = 1/2 + sum_{t=1}^M rho(t), with the smallest M >= 5 tau(M):
    Sokal, in Functional Integration: Basics and Applications (Plenum, 1997), p. 131, Sec. 3. Here the last lag has half
    a weight and tau(M) > 0, which matters where rows alternate. Subtracting the mean of the same rows lowers every c(t)
    by error^2; the factor 1 + (2 M + 1) / T of Wolff, Comput. Phys. Commun. 156, 143 (2004) returns it.

    "blocking": error^2 = s_k^2 / (n_k - 1) from n_k averages over blocks of B = 2^k rows, with population variance
    s_k^2: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989). k is the first with B^3 > 2 T (error_k / error_0)^4:
    Lee et al., Phys. Rev. E 83, 066706 (2011). (The test of Jonsson, Phys. Rev. E 98, 043304 (2018) stops earlier: on
    2000 rows of an AR(1) series of tau = 9.5 its errors are too small by a factor 1.2, those of this rule by 1.02.)

    Args:
        x: (T, ...) along `axis`.

    Raises:
        ValueError: x is not finite, or too short for its correlation time: fewer than 10 independent samples.
    """
    if method not in ("autocorrelation", "blocking"):
        raise ValueError(f'method is "autocorrelation" or "blocking"; got {method!r}.')
    x = np.moveaxis(_checked(x, axis), axis, 0)
    rows = len(x)
    columns = (x - x[0]).reshape(rows, -1)
    time = _correlation_time(columns, _autocorrelation if method == "autocorrelation" else _blocking)
    samples = rows / (2 * time)
    if np.any(samples < FEWEST):
        raise ValueError(
            f"{rows} rows with a correlation time of {time.max():.3g} rows hold {samples.min():.2g} independent "
            f"samples; an error needs {FEWEST}. Run longer, or drop the start of the run, see `equilibrated`."
        )
    error = np.sqrt(columns.var(axis=0) / samples)
    mean, error, samples, time = (y.reshape(x.shape[1:])[()] for y in (columns.mean(axis=0), error, samples, time))
    return Average(x[0] + mean, error, samples, time)


def _checked(x: ArrayLike, axis: int = 0) -> np.ndarray:
    """Return x as an array of floats of at least `FEWEST` finite rows along `axis`."""
    x = np.asarray(x, float)
    if x.ndim == 0 or x.shape[axis] < FEWEST:
        raise ValueError(f"a time series needs at least {FEWEST} rows; got an array of shape {x.shape}. Run longer.")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {x.size} values are not finite, the first at index {tuple(bad[0].tolist())}: "
            "find out why the run made them, and leave those rows out."
        )
    return x


def _correlation_time(x: np.ndarray, variance_of_mean: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return tau = T error^2 / 2 var(x) of the columns of x (T, K); 1/2 for constants.

    Rows that alternate can average to nothing: tau is at least 1 / 2T, that of T^2 independent rows.
    """
    variance = x.var(axis=0)
    varies = variance > 0
    tau = 0.5 * len(x) * variance_of_mean(x) / np.where(varies, variance, 1.0)
    return np.where(varies, np.maximum(tau, 0.5 / len(x)), 0.5)


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    """Return the variance of the means of columns x (T, K) from autocorrelations up to Sokal's window."""
    rows = len(x)
    spectrum = np.fft.rfft(x - x.mean(axis=0), 2 * rows, axis=0)
    c = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[:rows] / np.arange(rows, 0, -1)[:, None]
    total = 2 * np.cumsum(c, axis=0) - c[0] - c  # 2 c(0) tau(M)
    lags = np.arange(rows)[:, None]
    # Beyond T / 2 estimates are noise; a series that needs such a window is too short, and found so by its samples.
    enough = ((lags * c[0] >= 2.5 * total) & (total > 0)) | (lags >= rows // 2)
    window = np.argmax(enough, axis=0)
    return np.take_along_axis(total, window[None], axis=0)[0] * (1 + (2 * window + 1) / rows) / rows


def _blocking(x: np.ndarray) -> np.ndarray:
    """Return the variance of the means of columns x (T, K) from blocks of sufficient length; inf if there are none."""
    d, variances = x, []
    while len(d) >= 2:
        variances.append(d.var(axis=0, ddof=1) / len(d))
        d = d[len(d) % 2 :]  # of an odd number the first, the least equilibrated one, is left out
        d = (d[::2] + d[1::2]) / 2
    v = np.array(variances)  # (levels, K)
    B = 2.0 ** np.arange(len(v))[:, None]
    long = B**3 * v[0] ** 2 > 2 * len(x) * v**2
    chosen = np.take_along_axis(v, np.argmax(long, axis=0)[None], axis=0)[0]
    return np.where(long.any(axis=0), chosen, np.inf)


def jackknife(function: Callable[..., ArrayLike], *series: ArrayLike, blocks: int = 20) -> tuple[Any, Any]:
    """Return function(*series) and its standard error, for functions that are not linear in averages.

    The error is [(n - 1) / n sum_b (f_b - mean(f))^2]^(1/2), f_b from the series without block b of n. Blocks must be
    longer than the correlation times. Rows that do not fill the blocks are left out at the start, of the error only.

    Args:
        function: of arrays (T', ...) like the series, e.g. `lambda eps, deps: heat_capacity(eps, deps, kT, dof)`.
        series: one or more (T, ...), of the same rows.
    """
    arrays = [_checked(x) for x in series]
    rows = len(arrays[0])
    if any(len(x) != rows for x in arrays):
        raise ValueError(f"the series must have the same rows; they have {', '.join(str(len(x)) for x in arrays)}.")
    if not 2 <= blocks <= rows:
        raise ValueError(f"blocks is a number from 2 to the {rows} rows of the series; got {blocks}.")
    length = rows // blocks
    kept = [x[rows - blocks * length :] for x in arrays]
    parts = np.array(
        [function(*(np.delete(x, slice(b * length, (b + 1) * length), axis=0) for x in kept)) for b in range(blocks)]
    )
    error = np.sqrt((blocks - 1) * parts.var(axis=0))
    return function(*arrays), error[()]


def equilibrated(x: ArrayLike, *, candidates: int = 100) -> int:
    """Return the row from which on a series has the most independent samples; what comes before relaxes.

    Chodera, J. Chem. Theory Comput. 12, 1799 (2016). Of several columns the last to relax decides.

    Args:
        x: (T, ...).
        candidates: number of starts that are tried, evenly spaced up to 10 rows before the end.
    """
    x = _checked(x)
    columns = (x - x[0]).reshape(len(x), -1)
    starts = np.unique(np.linspace(0, len(x) - FEWEST, candidates).astype(int))
    samples = [(len(x) - start) / _correlation_time(columns[start:], _autocorrelation) for start in starts]
    return int(starts[np.argmax(samples, axis=0)].max())
