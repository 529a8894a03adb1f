"""Labels from potentials: agreement with the potentials themselves, and differences that add up again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.combinators import Sum
from jaxmlp.fitting.accuracy import predict_structures
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.teacher import hessian_products, label, subtract
from jaxmlp.potentials.pair import LennardJones, Morse
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.system import System

BASE = LennardJones((18, 36), 6.0, "smoothed", 5.0)
BASE_PARAMS = {"epsilon": jnp.array([[0.0103, 0.012], [0.012, 0.014]]), "sigma": jnp.array([[3.4, 3.5], [3.5, 3.6]])}
MORE = Morse((18, 36), 5.0, "smoothed", 4.0)
MORE_PARAMS = {
    "depth": jnp.full((2, 2), 0.01),
    "alpha": jnp.array([[1.1, 1.2], [1.2, 1.3]]),
    "length": jnp.full((2, 2), 3.8),
}


def systems() -> list[System]:
    """A crystal of two species, a larger one, and a cluster."""
    rng = np.random.default_rng(0)
    sites = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cell = 5.4 * np.eye(3) + 0.2 * rng.normal(size=(3, 3))
    small = System(np.array([18, 36, 18, 18]), sites @ cell + 0.1 * rng.normal(size=(4, 3)), cell)
    doubled = np.concatenate([sites, sites + np.eye(3)[0]]) @ cell + 0.1 * rng.normal(size=(8, 3))
    large = System(np.array([36, 18] * 4), doubled, np.diag([2.0, 1, 1]) @ cell)
    cluster = System(np.array([18, 36, 36]), 4.0 * np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    return [small, large, cluster]


def test_labels_are_those_of_the_potential():
    found = label(systems(), BASE, BASE_PARAMS)
    for s in (found[0], found[2]):
        energy, x = jm.energy_fn(BASE, s.system), (s.system.R, s.system.box, BASE_PARAMS)
        of = jax.jit(lambda *x, f=energy: (f(*x), jm.forces(f)(*x), jm.virial(f)(*x)))
        E, F, W = of(*x)
        np.testing.assert_allclose(s.energy, E, rtol=1e-12)
        np.testing.assert_allclose(s.forces, F, rtol=1e-9, atol=1e-12)
        if s.virial is not None:
            np.testing.assert_allclose(s.virial, W, rtol=1e-9, atol=1e-11)
    assert found[2].virial is None  # no volume, no virial
    assert [len(s) for s in found] == [4, 8, 3]


def test_hessian_products_are_those_of_the_hessian():
    potential, params = stillinger_weber_silicon()
    sites = np.array([[0, 0, 0], [0.25, 0.25, 0.25], [0, 0.5, 0.5]])
    moved = 5.4 * sites + 0.1 * np.random.default_rng(0).normal(size=(3, 3))
    atoms = [System(np.full(n, 14), moved[:n], 5.4 * np.eye(3)) for n in (3, 2)]
    found = label(atoms, potential, params, hessian_rows=2, seed=1)
    s, (v, products) = found[1].system, found[1].hessian
    H = jax.jit(jm.hessian(jm.energy_fn(potential, s)))(s.R, s.box, params)
    np.testing.assert_allclose(np.linalg.norm(v, axis=(1, 2)), 1, rtol=1e-14)
    np.testing.assert_allclose(products, np.einsum("iajb,kjb->kia", H, v), rtol=1e-9, atol=1e-10)
    assert not np.allclose(found[0].hessian[0][0], found[0].hessian[0][1])
    # Rows in other batches are the same rows; and structures that have some need not stand first.
    again = hessian_products([found[0].replace(hessian=None), found[1]], potential, params, batch_size=1)
    assert again[0] is None
    np.testing.assert_allclose(again[1], found[1].hessian[1], atol=1e-12)


def test_base_and_correction_reproduce_the_labels():
    data = label(systems(), Sum((BASE, MORE)), (BASE_PARAMS, MORE_PARAMS), hessian_rows=2)
    rest = subtract(data, BASE, BASE_PARAMS)
    for left in subtract(rest, MORE, MORE_PARAMS):
        for values in (left.energy, left.forces, 0.0 if left.virial is None else left.virial, left.hessian[1]):
            np.testing.assert_allclose(values, 0, atol=1e-12)
    # A correction that fits what is left makes, with the base, a potential for the labels.
    found = predict_structures(BASE + MORE, (BASE_PARAMS, MORE_PARAMS), data, virial=True)
    np.testing.assert_allclose(found.energy, [s.energy for s in data], rtol=1e-12)
    for s, F, W in zip(data, found.forces, found.virial, strict=True):
        np.testing.assert_allclose(F, s.forces, atol=1e-12)
        if s.virial is not None:
            np.testing.assert_allclose(W, s.virial, atol=1e-12)


def test_only_what_is_labelled_is_subtracted_and_the_rest_stays():
    one = Structure(systems()[0], energy=1.0, charges=np.arange(4.0), group="hot", weight=2.0)
    rest = subtract([one], BASE, BASE_PARAMS)[0]
    assert rest.forces is None
    assert rest.virial is None
    assert rest.hessian is None
    assert (rest.group, rest.weight) == ("hot", 2.0)
    np.testing.assert_array_equal(rest.charges, one.charges)
    new = label([one], BASE, BASE_PARAMS, energy=False, virial=False)[0]
    assert new.energy is None
    assert new.forces is not None
    np.testing.assert_allclose(1.0 - rest.energy, label([one], BASE, BASE_PARAMS)[0].energy, rtol=1e-12)
    assert label([], BASE, BASE_PARAMS) == subtract([], BASE, BASE_PARAMS) == []


def test_bad_input():
    with pytest.raises(ValueError, match="hessian_rows"):
        label(systems(), BASE, BASE_PARAMS, hessian_rows=-1)
    with pytest.raises(ValueError, match="Fe"):
        label([System(np.array([26]), np.zeros((1, 3)))], BASE, BASE_PARAMS)
