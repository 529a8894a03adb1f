"""Sums of products in classes are the sums they stand for, whatever the numbers of terms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.basis.products import bilinear, tabulate


@pytest.mark.parametrize("longest", [1, 5, 40, 1000])
def test_sums_of_any_length(longest):
    rng = np.random.default_rng(longest)
    counts = rng.integers(0, longest + 1, size=30)
    r = rng.permutation(np.repeat(np.arange(30), counts))  # in no order
    i, j = rng.integers(0, 20, size=len(r)), rng.integers(0, 7, size=len(r))
    c = rng.integers(-3, 4, size=len(r))
    a, b = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    expected = np.zeros((30, 3))
    np.add.at(expected, r, c[:, None] * a[i] * b[j])
    found = bilinear(tabulate(30, r, i, j, c), jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, expected, atol=1e-11)
