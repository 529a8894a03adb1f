"""Values that are computed once."""

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_jvp
def once(x: Array) -> Array:
    """Return x, all NaN where its first number is.

    XLA on a CPU computes what looks cheap again in every sum that uses it: the momenta after a thermostat in each of
    six components of the pressure. The loop, of no turn for numbers, is a border that it does not cross.
    """
    if jax.default_backend() != "cpu":
        return x
    lost = jnp.isnan(x.reshape(-1)[0])
    return lax.while_loop(lambda c: c[1], lambda c: (c[0] + jnp.nan, jnp.zeros_like(c[1])), (x, lost))[0]


once.defjvps(lambda tangent, answer, x: tangent)
