"""Minima of functions of a few numbers, differentiable in all that the function depends on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

_STEPS = 60  # before a search is given up


def with_slope(f: Callable[[Array], Any]) -> Callable[[Array], tuple[Any, Any]]:
    """Return x (k,) -> f(x) and df/dx in one forward pass; the derivatives have a new last axis."""

    def both(x):
        return jax.vmap(lambda e: jax.jvp(f, (x,), (e,)), out_axes=(None, -1))(jnp.eye(len(x), dtype=x.dtype))

    return both


def taylor(f: Callable[[Array], Any], x: Array, order: int) -> Callable[[Array], Any]:
    """Return d -> f(x + d) as its Taylor polynomial about x (k,), for any pytree of floats f(x).

    f is evaluated and differentiated here, once: what is done with the polynomial, and its derivatives, costs little.
    """
    jet = f
    for _ in range(order):
        jet = with_slope(jet)
    terms = jet(x)
    chosen = []
    for k in range(order + 1):
        term = terms
        for level in range(order):
            term = term[1 if level < k else 0]
        chosen.append(term)

    def polynomial(d):
        def leaf(*derivatives):
            total, factorial = derivatives[0], 1
            for k, derivative in enumerate(derivatives[1:], start=1):
                factorial *= k
                for _ in range(k):
                    derivative = derivative @ d
                total = total + derivative / factorial
            return total

        return jax.tree.map(leaf, *chosen)

    return polynomial


def search(gradient: Callable, stiffness: Callable, guess: Array, args: tuple, *, reach: float) -> Array:
    """Return x (k,), where gradient(x, *args) = 0 to half of the digits, near `guess`. No derivative passes through.

    Broyden's method, Nocedal and Wright, Numerical Optimization, 2nd ed., Alg. 11.3. NaN where it does not end.

    Args:
        stiffness: (x, *args) -> (k, k), something like the Hessian, for the start.
        reach: longest step of a component.
    """
    args = lax.stop_gradient(args)
    tiny, still = jnp.finfo(guess.dtype).tiny, jnp.sqrt(jnp.finfo(guess.dtype).eps)

    def more(state):
        _, _, step, _, k = state
        return (jnp.max(jnp.abs(step)) > still) & (k < _STEPS)

    def one(state):
        x, H, step, before, k = state
        now = gradient(x, *args)
        change = jnp.where(k > 0, now - before - H @ step, 0.0)
        H = H + jnp.outer(change, step) / jnp.maximum(step @ step, tiny)
        step = -jnp.linalg.solve(H, now)
        step = step * jnp.minimum(1.0, reach / jnp.maximum(jnp.max(jnp.abs(step)), tiny))
        return x + step, H, step, now, k + 1

    start = (guess, stiffness(guess, *args), jnp.ones_like(guess), jnp.zeros_like(guess), jnp.zeros((), jnp.int32))
    x, _, step, _, _ = lax.while_loop(more, one, start)
    return lax.stop_gradient(jnp.where(jnp.max(jnp.abs(step)) <= still, x, jnp.nan))


def polished(f: Callable[[Array], Array], x: Array, order: int) -> Array:
    """Return the minimum of f next to x, differentiable in what f closes over, by any mode of differentiation.

    Steps -H^-1 df/dx with one constant Hessian H. If x is the minimum to half of the digits, the first step gives the
    others. And if x is a constant, every step makes the derivatives of the minimum of one order more right, for
    x(t) - x_k(t) = O(t^(k + 1)) becomes O(t^(k + 2)): the implicit function theorem, to any order. NaN where H is not
    positive.

    Args:
        order: of the highest derivative that is taken; a higher one is NaN or infinite.
    """
    _, (_, hessian) = lax.stop_gradient(with_slope(with_slope(f))(x))
    x = jnp.where(jnp.linalg.eigvalsh(hessian)[0] > 0, x, jnp.nan)
    for _ in range(max(order, 1)):
        x = x - jnp.linalg.solve(hessian, with_slope(f)(x)[1])
    return x + (x - lax.stop_gradient(x)) ** (order + 0.5)  # 0, as are its derivatives up to `order`
