"""Linear fits: numpy's least squares on rows from the energy function; known coefficients are found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture import POTENTIAL, SPECIES, TRUE, labelled, systems

import jaxmlp as jm
from jaxmlp.fitting import accuracy, build, cross_validate, fit_linear, kfold, label, predict_structures, solve
from jaxmlp.fitting.linear.fit import design_rows, split_linear
from jaxmlp.potentials.mtp import MTP
from jaxmlp.potentials.snap import SNAP

SMALL = systems(3)
MTP_SMALL = MTP(SPECIES, 5.0, 2.0, 4, 6)


def test_rows_are_the_derivatives_of_the_energy_function():
    params = MTP_SMALL.init(jax.random.key(0))
    structures = labelled(SMALL)
    c, put, _ = split_linear(MTP_SMALL, params)
    found = {}
    for rows in design_rows(MTP_SMALL, params, structures, batch_size=3):
        for kind in ("energy", "forces", "virial"):
            found.setdefault(kind, []).append(getattr(rows, kind)[0])
    s = structures[2]
    energy = jm.energy_fn(MTP_SMALL, s.system)
    R, box = jnp.asarray(s.system.R), jnp.asarray(s.system.box)
    slopes = jax.jacrev(lambda c: energy(R, box, put(c)))(c)
    forces = -jax.jacfwd(lambda c: jax.grad(energy)(R, box, put(c)))(c)
    where = [np.abs(a - slopes).max(axis=1) < 1e-10 * np.abs(slopes).max() for a in found["energy"]]
    assert sum(w.sum() for w in where) == 1  # the row of this structure, and no other
    every = np.concatenate(found["forces"])
    for row in np.asarray(forces).reshape(-1, len(c)):
        assert np.abs(every - row).max(axis=1).min() < 1e-10 * np.abs(every).max()


COMPONENTS = {
    "snap": SNAP(SPECIES, (0.5, 0.45), 4.5, 3),
    "quadratic, chemical": SNAP(SPECIES, rcutfac=4.5, twojmax=2, quadraticflag=True, chemflag=True),
    "mtp": MTP_SMALL,
    "ace": build("ace", SPECIES, cutoff=4.5, n_max=[4, 2, 1], l_max=[0, 2, 1]),
    "ace of pairs": build("ace", SPECIES, cutoff=4.5, n_max=[4], l_max=[0]),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_all_columns_at_once_are_those_one_by_one(name):
    potential = COMPONENTS[name]
    params = potential.init(jax.random.key(0))
    assert potential.linear_functions(params) is not None
    structures = labelled(SMALL)
    options = {"fit_energies": True, "batch_size": 2}
    both = [design_rows(potential, params, structures, **options, fast=fast) for fast in (True, False)]
    for fast, slow in zip(*both, strict=True):
        for kind in ("energy", "forces", "virial"):
            for one, other in zip(getattr(fast, kind), getattr(slow, kind), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12 * np.abs(other).max())


def test_an_ace_whose_cores_repel_is_fitted_column_by_column():
    potential = COMPONENTS["ace of pairs"]
    params = potential.init(jax.random.key(0))
    assert potential.linear_functions(params | {"core": params["core"] + 1.0}) is None


def test_the_solution_is_that_of_numpy():
    """Energies and forces, weighted: `solve` against lstsq on the rows themselves."""
    params = MTP_SMALL.init(jax.random.key(0))
    structures = labelled(systems(12))
    weights = {"energy": 4.0, "forces": 1.0}
    fit = fit_linear(MTP_SMALL, params, structures, weights=weights, solver="least-squares")
    A, y = [], []
    for rows in design_rows(MTP_SMALL, params, structures, kinds=("energy", "forces")):
        for kind, weight in weights.items():
            a, b, w = getattr(rows, kind)
            A.append(weight**0.5 * w[:, None] * a)
            y.append(weight**0.5 * w * b)
    expected = np.linalg.lstsq(np.concatenate(A), np.concatenate(y))[0]
    np.testing.assert_allclose(fit.fit.coefficients, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_a_linear_potential_is_found_again_by_every_solver():
    potential = SNAP(SPECIES, rcutfac=4.5, twojmax=2)
    params = potential.init(jax.random.key(3))
    params["constant"] = jnp.array([-1.0, 2.0])
    data, test = label(systems(6), potential, params), label(systems(2, seed=7), potential, params)
    blank = params | {"linear": jnp.zeros_like(params["linear"]), "constant": jnp.zeros(2)}
    fitted = fit_linear(potential, blank, data, fit_energies=True)
    for solver in ("bayesian", "ard", "ridge", "least-squares"):
        fit = solve(fitted.factors, solver=solver)
        found = predict_structures(potential, fitted.coefficients(jnp.asarray(fit.coefficients)), test)
        errors = accuracy(test, found)
        assert errors.energy.rmse < 1e-5
        assert errors.forces.rmse < 1e-4


def test_energies_of_atoms_are_taken_off_the_data():
    params = MTP_SMALL.init(jax.random.key(0))
    energies = np.array([-5.0, -8.0])
    data = labelled(systems(6))
    shifted = [s.replace(energy=s.energy + sum(energies[SPECIES.index(z)] for z in s.system.numbers)) for s in data]
    one = fit_linear(MTP_SMALL, params, data, solver="ridge", strength=1e-3)
    two = fit_linear(MTP_SMALL, params, shifted, solver="ridge", strength=1e-3, energies=energies)
    np.testing.assert_allclose(one.fit.coefficients, two.fit.coefficients, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(one.params["species_coeffs"], params["species_coeffs"])


def test_other_weights_need_no_new_rows():
    params = MTP_SMALL.init(jax.random.key(0))
    data = labelled(systems(6))
    weights = {"energy": 100.0, "forces": 1.0}
    once = fit_linear(MTP_SMALL, params, data, weights=weights, solver="ridge", strength=1e-3)
    every = fit_linear(MTP_SMALL, params, data, solver="ridge", strength=1e-3, weights={"energy": 1.0, "forces": 1.0})
    again = solve(every.factors, weights=weights, solver="ridge", strength=1e-3)
    np.testing.assert_allclose(again.coefficients, once.fit.coefficients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("error", ["mse", "mae"])
def test_cross_validation_is_a_fit_to_the_rest_of_the_data(error):
    params = MTP_SMALL.init(jax.random.key(0))
    structures = labelled(systems(6))
    options = {"weights": {"energy": 4.0, "forces": 1.0}, "solver": "ridge", "strength": 1e-6, "error": error}
    found = cross_validate(MTP_SMALL, params, structures, 3, seed=5, fit_energies=True, **options)
    assert sorted(id(s) for fold in found for s in fold.held) == sorted(map(id, structures))
    for fold, (train, held) in zip(found, kfold(structures, 3, seed=5), strict=True):
        assert list(map(id, fold.held)) == list(map(id, held))
        assert list(map(id, fold.train)) == list(map(id, train))
        alone = fit_linear(MTP_SMALL, params, train, fit_energies=True, **options)
        expected = alone.fit.coefficients
        np.testing.assert_allclose(fold.result.fit.coefficients, expected, atol=1e-7 * np.abs(expected).max())


def test_what_cannot_be_fitted_is_named():
    data = labelled(SMALL)
    with pytest.raises(ValueError, match="LennardJones is linear in none"):
        fit_linear(POTENTIAL, TRUE, data)
    params = MTP_SMALL.init(jax.random.key(0))
    with pytest.raises(ValueError, match="solver must be one of"):
        fit_linear(MTP_SMALL, params, data, solver="svd")
    bare = [s.replace(virial=None) for s in data]
    with pytest.raises(ValueError, match="no labels of virial"):
        fit_linear(MTP_SMALL, params, bare, weights={"virial": 1.0})
