"""Free-energy differences from works and reduced energies against closed forms, and the coverage of their errors."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.free_energy.estimators import bar, jarzynski, linear_response, mbar, perturbation

pymbar = pytest.importorskip("pymbar", minversion="4")

KT, F = 0.08, 0.31  # eV


def gaussian_works(rng, n_f, n_b, spread=1.0, F=F, kT=KT):
    """W_f ~ N(F + s^2 / 2 kT, s^2) and -W_b ~ N(F - s^2 / 2 kT, s^2), which obey Crooks; s = spread kT."""
    s, dissipation = spread * kT, spread**2 * kT / 2
    return F + dissipation + s * rng.normal(size=n_f), -F + dissipation + s * rng.normal(size=n_b)


def ar1(rng, n, memory):
    """Unit Gaussian series with autocorrelation memory^|t|, correlation time (1 + memory) / (1 - memory) / 2."""
    x, noise = np.empty(n), rng.normal(size=n)
    x[0] = noise[0]
    for t in range(1, n):
        x[t] = memory * x[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    return x


def covered(deviations, errors):
    """Assert that a share of 68.3 % lies within one error, to 3 of its own standard errors, above and below."""
    share = np.mean(np.abs(deviations) < errors)
    assert abs(share - 0.683) < 3 * np.sqrt(0.683 * 0.317 / len(errors)), share


def oscillators(rng, K, samples):
    """Reduced energies (4, n) of exact samples of oscillators K (kT = 1), and their numbers."""
    x = np.concatenate([rng.normal(size=n) / np.sqrt(k) for k, n in zip(K, samples)])
    return K[:, None] * x**2 / 2, np.array(samples), x


@pytest.mark.parametrize(
    "estimate",
    [
        lambda f, b: linear_response(f, b),
        lambda f, b: bar(f, b, KT),
        lambda f, b: bar(f[:60], b, KT),
        lambda f, b: jarzynski(f, KT),
    ],
    ids=["linear_response", "bar", "bar-unequal-numbers", "jarzynski"],
)
def test_gaussian_works_give_the_difference_and_an_honest_error(estimate):
    found = [estimate(*gaussian_works(np.random.default_rng(seed), 200, 200)) for seed in range(400)]
    deviations, errors = np.array([x.difference - F for x in found]), np.array([x.error for x in found])
    # The mean of 400 is 20 times as sharp; the bias of Jarzynski's and Bennett's, of order kT / n, stays: 0.01 kT.
    assert abs(deviations.mean()) < 4 * np.sqrt(np.mean(errors**2) / 400) + 0.01 * KT
    covered(deviations, errors)
    np.testing.assert_allclose(np.mean([x.dissipation for x in found]), KT / 2, rtol=0.05)


def test_bennett_agrees_with_pymbar():
    W_f, W_b = gaussian_works(np.random.default_rng(7), 300, 120, spread=2.0)
    ours, theirs = bar(W_f, W_b, KT), pymbar.bar(W_f / KT, W_b / KT)
    np.testing.assert_allclose(ours.difference, KT * theirs["Delta_f"], atol=1e-9)
    # pymbar's sample variances are over n, ours over n - 1
    np.testing.assert_allclose(ours.error, KT * theirs["dDelta_f"], rtol=1 / 120)


def test_bennett_without_overlap_and_with_single_works():
    """Far from overlap the root lies between the two sets of works; one work each gives their mean."""
    far = bar(np.array([5.0, 5.1]), np.array([-1.0, -1.1]), KT)
    assert 1.0 < far.difference < 5.1
    assert np.isfinite(far.error)
    one = bar([0.5], [-0.3], KT)
    assert one.difference == pytest.approx(0.4, abs=1e-12)
    assert np.isnan(one.error)
    assert linear_response([0.5], [-0.3])[::2] == pytest.approx((0.4, 0.1))
    assert bar([0.3, 0.3], [-0.3, -0.3], KT) == pytest.approx((0.3, 0.0, 0.0))


@pytest.mark.parametrize("estimate", [linear_response, lambda f, b, **o: bar(f, b, KT, **o)], ids=["linear", "bar"])
def test_errors_of_time_series_know_their_correlation(estimate):
    """AR(1) with memory 0.8: nine correlated values are worth one."""
    found, naive = [], []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        W_f, W_b = F + KT / 2 + KT * ar1(rng, 2000, 0.8), -F + KT / 2 + KT * ar1(rng, 2000, 0.8)
        found.append(estimate(W_f, W_b, correlated=True))
        naive.append(estimate(W_f, W_b).error)
    errors = np.array([x.error for x in found])
    covered(np.array([x.difference for x in found]) - F, errors)
    assert 2.3 < np.mean(errors) / np.mean(naive) < 3.1  # 3 for linear functions; bar's s forgets a little faster


def test_jarzynski_says_when_few_works_carry_it():
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = jarzynski(gaussian_works(rng, 2000, 1)[0], KT)
    # <w>^2 / <w^2> = exp(-s^2 / kT^2); its inverse less 1 is the relative variance, with which the bias is kT / 2 n
    assert good.effective == pytest.approx(2000 / np.e, rel=0.15)
    assert good.bias == pytest.approx(KT * (np.e - 1) / 4000, rel=0.25)
    assert good.dissipation == pytest.approx(KT / 2, rel=0.1)
    with pytest.warns(UserWarning, match="too high"):
        bad = jarzynski(gaussian_works(rng, 200, 1, spread=5.0)[0], KT)
    assert bad.difference > F + KT
    with pytest.raises(ValueError, match="10 rows"):
        jarzynski([0.1, 0.2], KT)


@pytest.mark.filterwarnings("ignore:.*carry this exponential average")
def test_the_bias_of_jarzynski_is_the_one_it_states():
    found = [jarzynski(gaussian_works(np.random.default_rng(s), 20, 1, spread=0.9)[0], KT) for s in range(1000)]
    deviation, stated = np.array([x.difference for x in found]) - F, np.mean([x.bias for x in found])
    noise = deviation.std() / 1000**0.5
    assert stated > 3 * noise
    assert abs(deviation.mean() - stated) < 3 * noise + 2 * KT / 20**2  # the next order


def test_perturbation_and_its_gradient():
    """x ~ exp(-x^2 / 2 kT), U_b - U_a = (k - 1) x^2 / 2 - g x: F = kT ln(k) / 2 - g^2 / 2 k; dF/dg = -g / k."""
    x = jnp.asarray(np.sqrt(KT) * np.random.default_rng(3).normal(size=200_000))

    def difference(k, g):
        return perturbation((k - 1) * x**2 / 2 - g * x, KT)

    k, g = 1.3, 0.2
    value, effective = difference(k, g)
    # standard error of F: kT (1 / effective - 1 / n)^(1/2)
    assert abs(value - (KT * np.log(k) / 2 - g**2 / 2 / k)) < 4 * KT * np.sqrt(1 / effective - 1 / 200_000)
    assert 1e5 < effective < 2e5
    slopes = jax.jit(jax.grad(lambda k, g: difference(k, g).difference, (0, 1)))(k, g)
    mean, square = g / k, KT / k + (g / k) ** 2  # of x under b
    np.testing.assert_allclose(slopes, (square / 2, -mean), rtol=0.02)  # 4 standard errors of 0.5 %
    np.testing.assert_allclose(perturbation(0 * x + 0.4, KT), (0.4, 200_000), rtol=1e-12)
    host = jarzynski(np.asarray((k - 1) * x**2 / 2 - g * x), KT)
    np.testing.assert_allclose((host.difference, host.effective), (value, effective), rtol=1e-10)


def test_mbar_of_four_oscillators():
    """Delta f = ln(K_j / K_i) / 2: 0.34657359, 0.69314718, 1.03972077; <x^2> = 1 / K (PHYSICS.md, section 3)."""
    K = np.array([1.0, 2.0, 4.0, 8.0])
    u, N, x = oscillators(np.random.default_rng(0), K, (5000,) * 4)
    found = mbar(u, N, observable=x**2)
    exact = [0.0, 0.34657359, 0.69314718, 1.03972077]
    assert (np.abs(found.differences[0] - exact)[1:] < 3 * found.errors[0, 1:]).all()
    assert (found.errors[0, 1:] < 0.02).all()
    np.testing.assert_allclose(found.differences, np.subtract.outer(found.differences[0], found.differences[0]).T)
    assert (np.abs(found.averages - 1 / K) < 3 * found.average_errors).all()
    assert (found.average_errors < 0.03 / K).all()
    np.testing.assert_allclose(found.overlap.sum(axis=1), 1.0, rtol=1e-6)
    assert (np.diag(found.overlap, 1) > 0.1).all()
    independent = mbar(u, N, correlated=False)
    np.testing.assert_allclose(found.errors, independent.errors, rtol=0.15)  # 2 tau scatters about 1


def test_mbar_errors_of_independent_samples_are_pymbars():
    K = np.array([1.0, 2.0, 4.0, 8.0])
    u, N, _ = oscillators(np.random.default_rng(6), K, (3000, 1000, 500, 2000))
    independent = mbar(u, N, observable=u, correlated=False)
    assert (np.abs(independent.averages - 0.5) < 3 * independent.average_errors).all()
    with jax.numpy_dtype_promotion("standard"):
        theirs = pymbar.MBAR(u, N)
        expected = theirs.compute_expectations(u, state_dependent=True)
        errors = theirs.compute_free_energy_differences()["dDelta_f"]
    # Another form of the same errors, equal but for terms of order 1 / n
    np.testing.assert_allclose(independent.errors, errors, rtol=0.01)
    np.testing.assert_allclose(independent.averages, expected["mu"], rtol=1e-10)
    np.testing.assert_allclose(independent.average_errors, expected["sigma"], rtol=0.01)


def test_mbar_of_two_states_is_bennetts():
    K = np.array([1.0, 3.0])
    u, N, _ = oscillators(np.random.default_rng(4), K, (700, 300))
    both = mbar(u, N, correlated=False)
    d = u[1] - u[0]
    two = bar(d[:700], -d[700:], 1.0)
    np.testing.assert_allclose(both.differences[0, 1], two.difference, atol=1e-6)
    np.testing.assert_allclose(both.errors[0, 1], two.error, rtol=0.02)


def test_mbar_errors_of_time_series_know_their_correlation():
    """AR(1) samples of memory 0.9; functions of x^2 have memory 0.81, and 9.5 of them are worth one."""
    K, n, found = np.array([1.0, 2.0]), 3000, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = np.concatenate([ar1(rng, n, 0.9) / np.sqrt(k) for k in K])
        found.append(mbar(K[:, None] * x**2 / 2, [n, n], observable=x**2))
    naive = mbar(K[:, None] * x**2 / 2, [n, n], correlated=False).errors[0, 1]
    covered([m.differences[0, 1] - np.log(2) / 2 for m in found], [m.errors[0, 1] for m in found])
    covered([m.averages[1] - 0.5 for m in found], [m.average_errors[1] for m in found])
    assert 2.5 < np.mean([m.errors[0, 1] for m in found]) / naive < 3.3  # 9.5^(1/2) = 3.1, a little less for s(x^2)


def test_mbar_takes_states_without_samples():
    K = np.array([1.0, 1.5, 2.0])
    u, N, _ = oscillators(np.random.default_rng(5), K, (3000, 0, 3000))
    found = mbar(u, N)
    assert abs(found.differences[0, 1] - np.log(1.5) / 2) < 3 * found.errors[0, 1]


def test_no_global_flag_changes():
    """In a fresh process: double precision off, strict promotion, a seeded numpy generator, and nothing on stderr."""
    program = """
import jax, numpy as np
import jaxmlp.free_energy.estimators as estimators, sys
assert "pymbar" not in sys.modules
jax.config.update("jax_numpy_dtype_promotion", "strict")
np.random.seed(1)
expected = np.random.RandomState(1).normal(size=3)
x = np.random.default_rng(0).normal(size=400)
found = estimators.mbar(np.array([x**2 / 2, x**2]), [200, 200], correlated=False)
assert found.differences.dtype == np.float64
assert "pymbar" in sys.modules
assert not jax.config.jax_enable_x64
assert jax.numpy.ones(2).dtype == np.float32
assert jax.config.jax_numpy_dtype_promotion == "strict"
assert (np.random.normal(size=3) == expected).all()
assert np.geterr()["over"] == "warn"
import logging
assert logging.getLogger("pymbar").level == logging.NOTSET
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=quiet())
    assert done.returncode == 0, done.stderr
    assert "PyMBAR" not in done.stderr
    assert "imeseries" not in done.stderr


def quiet():
    import os

    return {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}


def test_what_makes_no_sense_is_refused():
    W_f, W_b = gaussian_works(np.random.default_rng(2), 50, 50, spread=0.3)
    with pytest.raises(ValueError, match="sign"):
        linear_response(W_f, W_b - 1.0)
    with pytest.raises(ValueError, match="forward is a list of finite works"):
        bar([np.nan], W_b, KT)
    with pytest.raises(ValueError, match="kT is in eV"):
        bar(W_f, W_b, 0.0)
    with pytest.raises(ValueError, match="add up"):
        mbar(np.zeros((2, 10)), [5, 6])
    with pytest.raises(ValueError, match="not finite"):
        mbar(np.full((2, 10), np.inf), [5, 5])
    with pytest.raises(ValueError, match="observable"):
        mbar(np.zeros((2, 10)), [5, 5], observable=np.zeros(9))
