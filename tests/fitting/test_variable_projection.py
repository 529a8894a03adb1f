"""Variable projection, Levenberg-Marquardt and L-BFGS on problems with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxmlp.fitting.linear.variable_projection import linear_coefficients, projected_residual
from jaxmlp.fitting.training.minimizers import lbfgs, levenberg_marquardt

T = np.linspace(0, 4, 41)
RATES = {"fast": jnp.array([2.0]), "slow": jnp.array(0.5)}


def exponentials(theta):
    """Return the design of c_0 + c_1 exp(-fast t) + c_2 exp(-slow t), (41, 3)."""
    t = jnp.asarray(T)
    return jnp.stack([jnp.ones_like(t), jnp.exp(-theta["fast"][0] * t), jnp.exp(-theta["slow"] * t)], axis=1)


def decay(noise=0.0):
    c = jnp.array([0.3, 1.0, -2.0])
    return exponentials(RATES) @ c + noise * np.random.default_rng(0).standard_normal(41), c


def rosenbrock(theta):
    return jnp.array([10 * (theta["y"] - theta["x"] ** 2), 1 - theta["x"]])


@pytest.mark.parametrize("ridge", [0.0, 0.3, np.array([0.0, 0.1, 2.0])], ids=["none", "common", "each"])
def test_the_residual_is_that_of_the_best_coefficients(ridge):
    y, _ = decay(0.1)
    theta = {"fast": jnp.array([1.4]), "slow": jnp.array(0.2)}
    A = np.asarray(exponentials(theta))
    D = np.diag(np.broadcast_to(ridge, 3))
    c = np.linalg.solve(A.T @ A + D, A.T @ y)
    np.testing.assert_allclose(linear_coefficients(jnp.asarray(A), y, ridge=ridge), c, rtol=1e-11)
    r = projected_residual(exponentials, y, ridge=ridge)(theta)
    np.testing.assert_allclose(r[:41], y - A @ c, atol=1e-12)
    np.testing.assert_allclose(jnp.sum(r**2), np.sum((y - A @ c) ** 2) + c @ D @ c, rtol=1e-11)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_derivatives_of_the_residual(ridge):
    y, _ = decay(0.1)
    theta = {"fast": jnp.array([1.4]), "slow": jnp.array(0.2)}
    exact = projected_residual(exponentials, y, ridge=ridge)
    check_grads(exact, (theta,), order=2, modes=["fwd", "rev"], rtol=1e-5)
    short = projected_residual(exponentials, y, ridge=ridge, kaufman=True)
    full, kaufman = (jax.jit(jax.jacfwd(r))(theta) for r in (exact, short))
    r = exact(theta)
    for name in ("fast", "slow"):
        difference = (full[name] - kaufman[name]).reshape(len(r))
        assert np.abs(difference).max() > 1e-3  # the second term is there
        np.testing.assert_allclose(r @ difference, 0, atol=1e-12)  # and orthogonal to r

    def loss(residual):
        return jax.jit(jax.grad(lambda theta: jnp.sum(residual(theta) ** 2)))(theta)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), loss(exact), loss(short))


@pytest.mark.parametrize("kaufman", [False, True])
def test_projection_finds_what_the_full_fit_finds_in_fewer_steps(kaufman):
    y, _ = decay(0.02)
    start = {"fast": jnp.array([4.0]), "slow": jnp.array(0.1)}
    projected = levenberg_marquardt(projected_residual(exponentials, y, kaufman=kaufman), start)
    full = levenberg_marquardt(
        lambda theta: y - exponentials(theta[0]) @ theta[1], (start, linear_coefficients(exponentials(start), y))
    )
    assert projected.converged
    assert full.converged
    np.testing.assert_allclose(projected.cost, full.cost, rtol=1e-10)
    # Costs are quadratic around the minimum: rates agree to about the square root of the tolerance on F.
    np.testing.assert_allclose(projected.theta["fast"], full.theta[0]["fast"], rtol=1e-6)
    np.testing.assert_allclose(projected.theta["slow"], full.theta[0]["slow"], rtol=1e-6)
    np.testing.assert_allclose(linear_coefficients(exponentials(projected.theta), y), full.theta[1], rtol=1e-6)
    assert len(projected.history) < len(full.history)


def test_exact_data_give_the_exact_rates():
    y, c = decay()
    found = levenberg_marquardt(projected_residual(exponentials, y), {"fast": jnp.array([5.0]), "slow": jnp.array(0.1)})
    assert found.converged
    np.testing.assert_allclose(found.theta["fast"], 2.0, rtol=1e-8)
    np.testing.assert_allclose(found.theta["slow"], 0.5, rtol=1e-8)
    np.testing.assert_allclose(linear_coefficients(exponentials(found.theta), y), c, rtol=1e-7)


def test_projection_works_under_vmap():
    y, _ = decay(0.1)
    residual = projected_residual(exponentials, y)
    thetas = {"fast": jnp.array([[1.4], [3.0]]), "slow": jnp.array([0.2, 0.6])}
    together = jax.vmap(residual)(thetas)
    for k in range(2):
        np.testing.assert_allclose(together[k], residual(jax.tree.map(lambda x, k=k: x[k], thetas)), atol=1e-13)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_rosenbrock_whatever_the_unit_of_a_parameter(scale):
    def residual(theta):
        return rosenbrock({"x": theta["x"] * scale, "y": theta["y"]})

    found = levenberg_marquardt(residual, {"x": jnp.array(-1.2 / scale), "y": jnp.array(1.0)})
    assert found.converged
    np.testing.assert_allclose([found.theta["x"] * scale, found.theta["y"]], 1.0, rtol=1e-8)
    assert found.cost < 1e-20
    assert len(found.history) < 40
    costs = [step.cost for step in found.history]
    assert np.all(np.diff(costs) <= 0)
    assert any(not step.accepted for step in found.history)


def test_reasons_to_stop():
    start = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
    limit = levenberg_marquardt(rosenbrock, start, max_steps=3)
    assert not limit.converged
    assert "limit of 3 steps" in limit.reason
    assert len(limit.history) == 3
    there = levenberg_marquardt(rosenbrock, {"x": jnp.array(1.0), "y": jnp.array(1.0)})
    assert there.converged
    assert there.history == []
    np.testing.assert_array_equal(there.theta["x"], 1.0)
    flat = levenberg_marquardt(rosenbrock, start, gtol=0, xtol=0, ftol=1e-3)
    assert flat.reason == "F is flat" or flat.cost < 1e-20
    seen = []
    levenberg_marquardt(rosenbrock, start, callback=seen.append, max_steps=5)
    assert len(seen) == 5


def test_the_damped_step_solves_its_equations():
    """The first step of a linear problem: (J^T J + mu diag(J^T J)) h = -J^T r."""
    rng = np.random.default_rng(1)
    J, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    one = levenberg_marquardt(lambda x: jnp.asarray(J) @ x - y, jnp.zeros(3), damping=0.5, max_steps=1)
    normal = J.T @ J
    np.testing.assert_allclose(one.theta, np.linalg.solve(normal + 0.5 * np.diag(np.diag(normal)), J.T @ y), rtol=1e-12)
    assert one.history[0].damping == 0.5
    full = levenberg_marquardt(lambda x: jnp.asarray(J) @ x - y, jnp.zeros(3))
    np.testing.assert_allclose(full.theta, np.linalg.lstsq(J, y, rcond=None)[0], rtol=1e-8)
    wide = levenberg_marquardt(lambda x: jnp.asarray(J.T) @ x - y[:3], jnp.zeros(20))  # more parameters than data
    assert wide.cost < 1e-16


def test_blocks_of_data_give_the_same_fit():
    y, _ = decay(0.02)

    def residual(theta, t, y):
        rate, amplitude = theta
        return y - amplitude[0] - amplitude[1] * jnp.exp(-rate[0] * t) - amplitude[2] * jnp.exp(-rate[1] * t)

    start = (jnp.array([4.0, 0.1]), jnp.array([0.0, 1.0, -1.0]))
    t = jnp.asarray(T)
    whole = levenberg_marquardt(residual, start, blocks=[(t, y)])
    parts = levenberg_marquardt(residual, start, blocks=[(t[:20], y[:20]), (t[20:], y[20:])])
    np.testing.assert_allclose(parts.cost, whole.cost, rtol=1e-12)
    np.testing.assert_allclose(parts.theta[0], whole.theta[0], rtol=1e-6)


def test_lbfgs_on_rosenbrock_and_a_badly_scaled_quadratic():
    def loss(theta):
        return jnp.sum(rosenbrock(theta) ** 2)

    start = {"x": jnp.array(-1.2), "y": jnp.array(1.0)}
    function = jax.jit(jax.value_and_grad(loss))
    found = lbfgs(function, start, gtol=1e-9)
    assert found.converged
    np.testing.assert_allclose([found.theta["x"], found.theta["y"]], 1.0, rtol=1e-7)
    assert np.abs(found.gradient["x"]) <= 1e-9
    costs = [step.cost for step in found.history]
    assert np.all(np.diff(costs) < 0)
    seen = []
    stopped = lbfgs(function, start, callback=lambda theta, step: seen.append(theta["x"]) or len(seen) == 4)
    assert len(seen) == len(stopped.history) == 4
    assert not stopped.converged
    stiffness = np.logspace(0, 4, 30)
    target = np.linspace(-1, 1, 30)
    well = lbfgs(lambda x: (np.sum(stiffness * (x - target) ** 2) / 2, stiffness * (x - target)), jnp.zeros(30))
    np.testing.assert_allclose(well.theta, target, atol=1e-6)


def test_lbfgs_returns_the_best_where_the_loss_ends():
    def loss(x):  # NaN beyond 2, towards which it falls
        return jnp.sum(jnp.sqrt(2 - x) + (x - 1) ** 4 * 1e-3)

    found = lbfgs(jax.value_and_grad(loss), jnp.array([0.0]))
    assert not found.converged
    assert "not finite" in found.reason
    assert 0 <= found.theta[0] <= 2
    assert np.isfinite(found.cost)


def test_bad_input_is_refused():
    y, _ = decay()
    with pytest.raises(ValueError, match="ridge multiplies squares"):
        projected_residual(exponentials, y, ridge=-1.0)
    with pytest.raises(ValueError, match=r"A and y must have shapes \(n, p\) and \(n,\); got \(41, 3\) and \(40,\)"):
        projected_residual(exponentials, y[:40])(RATES)
    with pytest.raises(ValueError, match=r"one number or have shape \(3,\)"):
        linear_coefficients(exponentials(RATES), y, ridge=np.ones(2))
    with pytest.raises(ValueError, match="2 rows do not determine 3 coefficients"):
        linear_coefficients(exponentials(RATES)[:2], y[:2])
    with pytest.raises(ValueError, match=r"residuals of blocks \[1\] are not finite at theta0"):
        levenberg_marquardt(lambda x, a: a * x, jnp.ones(2), blocks=[(jnp.ones(2),), (jnp.full(2, jnp.nan),)])
    with pytest.raises(ValueError, match="derivatives of the residuals are not finite"):
        levenberg_marquardt(lambda x: jnp.sqrt(x), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"must be floating-point numbers; \['n'\] is int"):
        levenberg_marquardt(lambda x: x["n"] * 1.0, {"n": jnp.array([1])})
    with pytest.raises(ValueError, match="holds no parameters"):
        lbfgs(lambda x: (0.0, x), {})
    with pytest.raises(ValueError, match="not finite at theta0"):
        lbfgs(lambda x: (jnp.nan, x), jnp.ones(2))
