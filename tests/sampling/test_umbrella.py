"""Profiles of samples and their errors, weights, and umbrella sampling of a double well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from well import KT, V, X, steps

from jaxmlp.sampling import Restraint, profile, samples, umbrella, umbrella_profile, weights

pytestmark = pytest.mark.optimized

EDGES = np.linspace(-2.6, 2.6, 27)


def gaussian_samples(n=20000, seed=0):
    return np.random.default_rng(seed).normal(0.3, 0.5, n)


def test_a_profile_of_known_samples_and_its_errors():
    """Independent samples: bins are binomial, so that the error of F is kT [(1 - p) / (p n)]^(1/2)."""
    s, edges = gaussian_samples(), np.linspace(-0.7, 1.3, 11)
    out = profile(s, KT, edges, blocks=100)
    counts = np.histogram(s, edges)[0]
    p = counts / len(s)
    np.testing.assert_allclose(out.F, -KT * np.log(p / p.max()), rtol=1e-12, atol=1e-15)
    binomial = KT * np.sqrt((1 - p) / (p * len(s)))
    np.testing.assert_allclose(out.error, binomial, rtol=0.35)  # 100 blocks: 7 % each; 5 sigma in one of 10 bins
    exact = KT * 0.5 * ((out.s - 0.3) / 0.5) ** 2
    pull = (out.F - out.F[5] - exact + exact[5]) / np.hypot(out.error, out.error[5])
    assert np.abs(np.delete(pull, 5)).max() < 4


def test_gaussians_smooth_a_profile():
    """A density of Gaussians is the distribution widened by them, and periodic where the variable is."""
    s, points = gaussian_samples(), np.linspace(-0.7, 1.3, 11)
    out = profile(s, KT, points, width=0.3)
    exact = KT * (points - 0.3) ** 2 / (2 * (0.5**2 + 0.3**2))
    difference = out.F - exact
    assert np.abs(difference - difference.mean()).max() < 4 * out.error.max()
    turned = (s + np.pi) % (2 * np.pi) - np.pi
    far = profile(turned + 2 * np.pi, KT, points, width=0.3, periods=(2 * np.pi,))
    np.testing.assert_allclose(far.F, out.F, rtol=1e-9, atol=1e-12)


def test_profiles_of_two_variables():
    rng = np.random.default_rng(1)
    s = rng.normal(size=(50000, 2)) * np.array([0.5, 1.0])
    out = profile(s, KT, [np.linspace(-0.5, 0.5, 5), np.linspace(-1, 1, 4)])
    assert out.s.shape == (12, 2)
    counts = np.histogram2d(*s.T, [np.linspace(-0.5, 0.5, 5), np.linspace(-1, 1, 4)])[0]
    np.testing.assert_allclose(out.F, -KT * np.log(counts / counts.max()).ravel(), rtol=1e-12, atol=1e-15)
    smooth = profile(s, KT, out.s, width=(0.1, 0.2))
    np.testing.assert_allclose(smooth.F, out.F, atol=0.02)  # counts of 2000: 0.005 each, and bins' curvature


def test_weights_turn_one_distribution_into_another():
    s = gaussian_samples()
    bias = -0.2 * s  # the samples are of V + bias for V = kT (s - 0.3)^2 / 2 / 0.5^2 + 0.2 s, of mean 0.3 - 0.25
    w = weights(bias, KT)
    np.testing.assert_allclose(w.sum(), 1, rtol=1e-12)
    assert abs(w @ s - (0.3 - 0.2 * 0.25 / KT)) < 5 * 0.5 / samples(w) ** 0.5
    np.testing.assert_allclose(weights(bias + 0.3, KT, 0.3), w, rtol=1e-12)
    np.testing.assert_allclose(samples(np.full(7, 0.1)), 7)
    assert samples(w) < 0.9 * len(s)


def test_no_samples_have_no_finite_free_energy():
    s = np.append(gaussian_samples(200), 5.0)
    out = profile(s, KT, [-2.0, 0.3, 2.0, 4.0, 6.0])
    assert np.isinf(out.F[2])
    assert np.isfinite(out.F[3])
    assert np.isinf(out.error[2:]).all()  # a single sample, in a single block, has no error that can be told
    assert np.isfinite(out.error[:2]).all()


CENTERS = np.linspace(-2.6, 2.6, 14)
K = 3.0


def windows(n, seed=0):
    """Samples (14, n) of the double well under restraints, one program over a stack of parameters."""
    bias = Restraint(X, (18,))
    params = {"k": jnp.full((14, 1), K), "center": jnp.asarray(CENTERS)[:, None]}

    def one(params, key):
        force = lambda x: -jax.grad(lambda x: V(x) + bias.bias(params, x[None]))(x)

        def sample(carry, key):
            carry = steps(force, 20)(*carry, key)
            return carry, carry[0]

        return jax.lax.scan(sample, (params["center"][0], jnp.zeros(())), jax.random.split(key, n))[1]

    return np.asarray(jax.jit(jax.vmap(one))(params, jax.random.split(jax.random.key(seed), 14)))


def test_umbrella_sampling_of_a_double_well():
    """F(s) to 0.02 eV (PHYSICS.md, section 6), and where the errors say."""
    s = windows(5000)
    out = umbrella_profile(s, K, CENTERS, KT, EDGES, blocks=10)
    fine = np.linspace(EDGES[:-1], EDGES[1:], 41)
    exact = -KT * np.log(np.trapezoid(np.exp(-V(fine) / KT), fine, axis=0))  # of bins
    difference = out.F - exact
    difference -= difference.mean()
    assert np.abs(difference).max() < 0.02
    assert out.error.max() < 0.02
    # 26 bins whose errors are correlated, by ten blocks each: the mean square is a rough number of order one
    assert 0.2 < np.mean((difference / out.error) ** 2) < 3
    joined = umbrella(s, K, CENTERS, KT)
    moments = np.array([joined.w @ V(joined.s[:, 0]), joined.w @ joined.s[:, 0] ** 2])
    np.testing.assert_allclose(moments, [0.11316606, 3.74733576], rtol=0.03)  # kT / (2 samples in each basin)^(1/2)


def test_one_window_at_another_temperature_is_a_reweighting():
    """Two windows that are the same simulation join to it; energies carry the weights to another temperature."""
    s = windows(400)[:2]
    joined = umbrella(s, 0.0, CENTERS[:2], KT, energies=[V(x) for x in s], target=0.25)
    x = s.ravel()
    w = np.exp(-V(x) * (1 / 0.25 - 1 / KT))
    np.testing.assert_allclose(joined.w, w / w.sum(), rtol=1e-6)  # pymbar's convergence
    np.testing.assert_allclose(joined.f, 0, atol=1e-6)
    assert joined.window.tolist() == [0] * 400 + [1] * 400


def test_windows_of_a_periodic_variable():
    """Restraints on both sides of the seam hold the same samples: the profile is that of one window."""
    rng = np.random.default_rng(3)
    k, turn = 4.0, 2 * np.pi
    s = [np.pi + rng.normal(0, (KT / k) ** 0.5, 4000) for _ in range(2)]
    wrapped = [(x + np.pi) % turn - np.pi for x in s]
    joined = umbrella(wrapped, k, [np.pi, -np.pi], KT, periods=(turn,))
    np.testing.assert_allclose(joined.f, 0, atol=1e-6)
    d = np.abs(np.concatenate(wrapped)) - np.pi
    expected = np.exp(0.5 * k * d**2 / KT)
    np.testing.assert_allclose(joined.w, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: weights([1.0, np.nan], KT), "1 not finite"),
        (lambda: profile([0.0, np.nan] * 20, KT, EDGES), "finite"),
        (lambda: profile(np.zeros(40), KT, EDGES, w=np.ones(3)), "40 finite weights"),
        (lambda: profile(np.zeros(40), KT, EDGES, blocks=5), "blocks"),
        (lambda: profile(np.zeros(40), KT, EDGES[::-1]), "growing edges"),
        (lambda: profile(np.zeros((40, 2)), KT, EDGES), "2 array"),
        (lambda: profile(np.zeros(40), KT, EDGES, width=-1.0), "width positive"),
        (lambda: umbrella(np.zeros((3, 20)), 1.0, [0.0, 1.0], KT), "centers must be"),
        (lambda: umbrella(np.zeros((2, 20)), 1.0, [0.0, 1.0], [0.2, 0.3]), "different temperatures"),
        (lambda: umbrella(np.zeros((2, 20)), 1.0, [0.0, 1.0], KT, target=0.3), "need `energies`"),
        (lambda: umbrella(np.zeros((2, 20)), 1.0, [0.0, 1.0], KT, energies=np.zeros((2, 3))), "40 samples"),
        (lambda: umbrella_profile(np.zeros((2, 20)), 1.0, [0.0, 1.0], KT, EDGES, blocks=30), "shortest window"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
