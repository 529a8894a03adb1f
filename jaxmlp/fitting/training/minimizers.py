"""Minimisation over trees of parameters on the host: Levenberg-Marquardt for sums of squares, L-BFGS for any loss."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from scipy.linalg import cho_factor, cho_solve

Tree = Any


class Step(NamedTuple):
    """One step of a minimisation.

    Args:
        cost: after the step, or before it if it was not accepted.
        gradient: the measure of the gradient that the threshold applies to, there.
        damping: mu, of the step; 0 in L-BFGS.
        accepted: whether the parameters changed.
    """

    cost: float
    gradient: float
    damping: float
    accepted: bool


class Optimum(NamedTuple):
    """Where a minimisation ended.

    Args:
        theta: the parameters, a tree like the first guess.
        cost: the loss there; |r|^2 / 2 for sums of squares.
        gradient: its gradient, a tree like theta.
        converged: whether it met a threshold, rather than a limit or an obstacle.
        reason: in words.
        history: of all steps.
    """

    theta: Tree
    cost: float
    gradient: Tree
    converged: bool
    reason: str
    history: list[Step]


def levenberg_marquardt(
    residual: Callable[..., jax.Array],
    theta0: Tree,
    *,
    blocks: Sequence[tuple] = ((),),
    damping: float = 1e-3,
    gtol: float = 1e-10,
    xtol: float = 1e-10,
    ftol: float = 1e-14,
    max_steps: int = 200,
    callback: Callable[[Step], None] | None = None,
) -> Optimum:
    """Return the theta that minimises F = |r(theta)|^2 / 2.

    Steps h solve (J^T J + mu D) h = -J^T r. Gain ratio and mu: Nielsen, report IMM-REP-1999-05, Technical University of
    Denmark (1999), also Madsen, Nielsen and Tingleff, Methods for Non-Linear Least Squares Problems (2004), Eq. 2.21
    and Algorithm 3.16. D: the largest diagonal of J^T J met so far, which makes steps independent of the parameters'
    units (More, in Numerical Analysis, Springer 1978, p. 105). J^T J squares the condition number of J, which slows the
    way but moves no minimum, since J^T r is exact; and it is all that blocks of data have to add up.

    Args:
        residual: residual(theta, *block) -> r (n,), differentiable; compiled once for each shape of block.
        theta0: tree of arrays of floating-point numbers.
        blocks: further arguments of `residual`, for data in blocks: r is that of all blocks, one after another.
        damping: first mu; D being the diagonal of J^T J, it is small where theta0 is thought to be near.
        gtol: ends where |J_a . r| < gtol |J_a| |r| for every parameter a (the cosine of MINPACK).
        xtol: ends where a step is shorter than xtol |theta|, both measured with D^(1/2).
        ftol: ends where F and its model both fall by less than the fraction ftol.
        max_steps: steps tried.
        callback: called with every `Step`.

    Raises:
        ValueError: parameters that are not floating-point numbers, residuals that are not finite at theta0.
    """
    theta, unravel = _flat(theta0)

    def one_block(x, *block):
        return residual(unravel(x), *block)

    @jax.jit
    def squares(x, *block):
        return jnp.sum(one_block(x, *block) ** 2) / 2

    @jax.jit
    def normal_equations(x, *block):
        n = jax.eval_shape(one_block, x, *block).shape[0]
        jacobian = jax.jacfwd if x.size <= n else jax.jacrev
        r, J = one_block(x, *block), jacobian(one_block)(x, *block)
        return jnp.sum(r**2) / 2, J.T @ J, J.T @ r

    def total(function, x):
        parts = [jax.tree.map(np.asarray, function(jnp.asarray(x, theta.dtype), *block)) for block in blocks]
        return jax.tree.map(lambda *terms: sum(np.asarray(t, dtype=float) for t in terms), *parts)

    x = np.asarray(theta, dtype=float)
    cost, JtJ, g = total(normal_equations, x)
    if not (np.isfinite(cost) and np.isfinite(JtJ).all()):
        bad = [k for k, block in enumerate(blocks) if not np.isfinite(one_block(theta, *block)).all()]
        what = f"residuals of blocks {bad}" if bad else "derivatives of the residuals"
        raise ValueError(f"{what} are not finite at theta0: start from other parameters.")
    D = np.diagonal(JtJ).copy()
    mu, nu = damping, 2.0
    history: list[Step] = []
    reason, converged = f"the limit of {max_steps} steps", False

    def slope() -> float:
        columns = np.sqrt(np.diagonal(JtJ) * 2 * cost)
        return float(np.max(np.abs(g) / np.where(columns > 0, columns, 1.0), initial=0.0))

    if slope() <= gtol:
        return Optimum(
            theta0, float(cost), unravel(jnp.asarray(g, theta.dtype)), True, "the gradient vanishes", history
        )
    while len(history) < max_steps:
        scale = np.where(D > 0, D, 1.0)  # a parameter without influence stays
        step, predicted = _damped_step(JtJ, g, mu * scale)
        trial = float(total(squares, x + step)) if step is not None else np.inf
        gain = (cost - trial) / predicted if np.isfinite(trial) and predicted > 0 else -1.0
        used = mu
        if gain > 0:
            small = cost - trial <= ftol * cost and predicted <= ftol * cost
            x = x + step
            cost, JtJ, g = total(normal_equations, x)
            D = np.maximum(D, np.diagonal(JtJ))
            mu, nu = mu * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
        else:
            small, mu, nu = False, mu * nu, 2 * nu
        history.append(Step(float(cost), slope(), used, gain > 0))
        if callback is not None:
            callback(history[-1])
        short = step is not None and np.linalg.norm(np.sqrt(scale) * step) <= xtol * np.linalg.norm(np.sqrt(scale) * x)
        for met, name in ((slope() <= gtol, "the gradient vanishes"), (short, "steps are short"), (small, "F is flat")):
            if met:
                reason, converged = name, True
        if converged:
            break
        if not np.isfinite(mu) or mu > 1e30:
            reason = "no step lowers F: the derivatives may be wrong, or rounding hides the descent"
            break
    gradient = unravel(jnp.asarray(g, theta.dtype))
    return Optimum(unravel(jnp.asarray(x, theta.dtype)), float(cost), gradient, converged, reason, history)


def _damped_step(JtJ: np.ndarray, g: np.ndarray, diagonal: np.ndarray) -> tuple[np.ndarray | None, float]:
    """Return h with (J^T J + diag) h = -g and the fall of F that the linear model predicts; None if it is singular."""
    scale = 1 / np.sqrt(np.diagonal(JtJ) + diagonal)  # to unit diagonal: Cholesky's pivots are then comparable
    try:
        factor = cho_factor(scale[:, None] * (JtJ + np.diag(diagonal)) * scale, check_finite=False)
    except np.linalg.LinAlgError:
        return None, 0.0
    h = -scale * cho_solve(factor, scale * g, check_finite=False)
    return h, float(0.5 * h @ (diagonal * h - g))


class _NotFinite(Exception):
    """The loss is NaN or infinite at a trial point."""


def lbfgs(
    value_and_grad: Callable[[Tree], tuple[Any, Tree]],
    theta0: Tree,
    *,
    gtol: float = 1e-6,
    ftol: float = 0.0,
    memory: int = 20,
    max_steps: int = 1000,
    callback: Callable[[Tree, Step], bool | None] | None = None,
) -> Optimum:
    """Return the theta that minimises a loss, by limited-memory BFGS (`scipy.optimize`'s L-BFGS-B without bounds).

    Args:
        value_and_grad: theta -> (loss, its gradient), `jax.jit(jax.value_and_grad(loss))` for instance. It may sum over
            batches.
        theta0: tree of arrays of floating-point numbers.
        gtol: ends where no component of the gradient is larger.
        ftol: ends where the loss falls by less than ftol times the loss or 1, whichever is larger: losses much below 1
            need a small one, 0 leaves the decision to gtol.
        memory: pairs of steps and gradient changes.
        callback: called with theta and `Step` after each step; the minimisation ends if it returns True.

    Raises:
        ValueError: parameters that are not floating-point numbers, a loss that is not finite at theta0. If it is not
            finite later, the best parameters so far are returned, not converged.
    """
    theta, unravel = _flat(theta0)
    evaluated: dict[str, Any] = {}
    history: list[Step] = []

    def tree(x):
        return unravel(jnp.asarray(x, theta.dtype))

    def function(x):
        value, gradient = value_and_grad(tree(x))
        value, gradient = float(value), np.asarray(ravel_pytree(gradient)[0], dtype=float)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise _NotFinite
        if not evaluated or value < evaluated["value"]:
            evaluated.update(x=x.copy(), value=value, gradient=gradient)
        return value, gradient

    def after_step(intermediate_result):
        best = float(np.max(np.abs(evaluated["gradient"]), initial=0.0))
        history.append(Step(float(intermediate_result.fun), best, 0.0, True))
        if callback is not None and callback(tree(intermediate_result.x), history[-1]):
            raise StopIteration

    options = {"maxcor": memory, "maxiter": max_steps, "maxfun": 20 * max_steps, "gtol": gtol, "ftol": ftol}
    x0 = np.asarray(theta, dtype=float)
    try:
        found = scipy.optimize.minimize(function, x0, jac=True, method="L-BFGS-B", callback=after_step, options=options)
        converged, reason = bool(found.success), str(found.message)
    except _NotFinite:
        if not evaluated:
            raise ValueError("the loss or its gradient is not finite at theta0: start from other parameters.") from None
        converged, reason = False, "the loss or its gradient is not finite at a trial point"
    best = evaluated
    return Optimum(tree(best["x"]), best["value"], tree(best["gradient"]), converged, reason, history)


def _flat(theta: Tree) -> tuple[jax.Array, Callable[[jax.Array], Tree]]:
    """Return all parameters as one vector, and the function back."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            name = jax.tree_util.keystr(path) or "theta0"
            raise ValueError(f"parameters must be floating-point numbers; {name} is {jnp.result_type(leaf)}.")
    flat, unravel = ravel_pytree(theta)
    if not flat.size:
        raise ValueError("theta0 holds no parameters.")
    return flat, unravel
