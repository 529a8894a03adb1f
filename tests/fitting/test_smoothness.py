"""Smoothness: priors of linear fits, the curvature of the energy as a penalty, labels whose forces do not add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture import POTENTIAL, SPECIES, TRUE, labelled, systems, wrong

import jaxmlp as jm
from jaxmlp.evaluate import Execution
from jaxmlp.fitting import Loader, Loss, fit_linear, read_config, solve, train, train_lbfgs, treat_net_forces
from jaxmlp.fitting.linear.fit import split_linear
from jaxmlp.fitting.linear.smoothness import smoothness_prior
from jaxmlp.fitting.training.curvature import curvature
from jaxmlp.fitting.training.loss import errors
from jaxmlp.potentials.ace_functions import ace
from jaxmlp.potentials.mtp import MTP
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.painn import PaiNN
from jaxmlp.potentials.snap import SNAP

DATA = labelled(systems(8))


def batch_of(structures, potential, kinds=("forces",)):
    return next(Loader(structures, potential, len(structures), buckets=1, kinds=kinds).epoch())


@pytest.mark.parametrize("name", ["local", "message passing"])
def test_curvature_is_that_of_the_hessian_and_its_slope_that_of_differences(name):
    potential = {
        "local": NEP(SPECIES, (5.0, 5.0), (4.0, 4.0), (2, 2), (3, 3), 2, (), 4),
        "message passing": PaiNN(SPECIES, 4.0, n_features=4, n_interactions=2, n_radial=4, hidden=(4,)),
    }[name]
    params = potential.init(jax.random.key(1), float)
    batch = batch_of(DATA[:2], potential)
    loss = Loss(0.0, 1.0, smooth=0.1)

    @jax.jit
    def value(p):
        found = errors(loss, potential, p, batch, ("forces",), step=3)
        return sum(jnp.sum(x) for x, _ in found.values()), found["smooth"]

    sums, numbers = value(params)[1]
    key = jax.random.fold_in(jax.random.key(0), 3)
    v = np.asarray(jax.random.normal(key, batch.R.shape, batch.R.dtype))
    k = int(np.flatnonzero(np.asarray(batch.ids) == 1)[0])
    s, own = DATA[1], np.asarray(batch.structure) == k
    geometry = jnp.asarray(s.system.R), jnp.asarray(s.system.box)
    H = jax.jit(jm.hessian(jm.energy_fn(potential, s.system)))(*geometry, params)
    Hv = np.asarray(H).reshape(3 * len(s), -1) @ v[own].ravel()
    np.testing.assert_allclose(sums[k], Hv @ Hv / 3, rtol=1e-9)
    assert numbers[k] == len(s)
    slope = jax.jit(jax.grad(lambda p: value(p)[0]))(params)
    rng = np.random.default_rng(0)
    d = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
    f = lambda h: float(value(jax.tree.map(lambda x, y: x + h * y, params, d))[0])
    h = 1e-4
    by_differences = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
    exact = sum(float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(d), strict=True))
    np.testing.assert_allclose(exact, by_differences, rtol=1e-6)


def test_a_larger_weight_leaves_less_curvature():
    options = {"optimizer": 3e-3, "batch_size": 8, "epochs": 20, "seed": 1}
    rough = [
        train(POTENTIAL, wrong(1.0), DATA[:4], loss=Loss(1.0, 1.0, smooth=w), **options).history[-1]
        for w in (1e-9, 1.0)
    ]
    assert rough[0]["curvature"] > 1.1 * rough[1]["curvature"]
    assert rough[0]["train_forces"] < rough[1]["train_forces"]
    assert "curvature" not in train(POTENTIAL, wrong(1.0), DATA, epochs=1).history[0]


def test_all_data_in_every_step_have_a_curvature_too():
    plain, smooth = (
        train_lbfgs(POTENTIAL, wrong(1.02), DATA, loss=Loss(1.0, 1.0, smooth=w), steps=20) for w in (0.0, 0.1)
    )
    batch = batch_of(DATA, POTENTIAL)
    mean = lambda p: float(jnp.sum(curvature(POTENTIAL, p, batch, 0, Execution())[0]))
    assert mean(smooth.params) < 0.9 * mean(plain.params)
    assert smooth.history[-1]["curvature"] > 0


LINEAR = {
    "mtp": MTP(SPECIES, 5.0, 2.0, 4, 8),
    "snap": SNAP(SPECIES, rcutfac=4.5, twojmax=3),
    "quadratic snap": SNAP(SPECIES, rcutfac=4.5, twojmax=2, quadraticflag=True),
    "ace": ace(SPECIES, 5.0, n_max=(4, 3), l_max=(0, 2)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_smoothness_prior_grows_with_degrees(name):
    potential = LINEAR[name]
    params = potential.init(jax.random.key(0))
    c, _, part = split_linear(potential, params, True)
    gamma = smoothness_prior(potential, params, part, 2.0)
    again = smoothness_prior(potential, params, part, 4.0)
    assert gamma.shape == (len(c),)
    assert gamma.min() == 1
    assert (again >= gamma).all()
    assert again.max() > 2 * gamma.max()
    fixed = len(SPECIES)  # energies of atoms
    assert np.sum(gamma == 1) >= fixed
    if name == "ace":
        f = [g for block in potential.functions for g in block]
        rough = np.asarray(potential.roughness(params, 2.0)["c"])[:, 0]
        np.testing.assert_allclose(rough, [sum(n**2 for n in g[1]) + sum(l**2 for l in g[2]) for g in f])
    if name == "snap":
        np.testing.assert_allclose(
            potential.roughness(params, 2.0)["linear"][0], [1 + sum(j * j for j in k[3:]) for k in potential.components]
        )


def test_the_levels_of_moments_say_how_rough_a_contraction_is():
    potential = MTP(SPECIES, 5.0, 2.0, 4, 6)
    params = potential.init(jax.random.key(0))
    # Level 2 + 4 mu + nu of a factor: of 6 there are M_00, M_10, products of M_00 with itself, M_01 . M_01 ...
    found = sorted(np.asarray(potential.roughness(params, 1.0)["moment_coeffs"]).tolist())
    assert found[0] == 1  # M_00: mu + 1 = 1, nu = 0
    assert 2 in found  # M_10, or M_00 M_00
    assert 4 in found  # M_01 . M_01


def test_a_prior_moves_weight_to_smooth_functions():
    potential = LINEAR["mtp"]
    params = potential.init(jax.random.key(0), float)
    part = split_linear(potential, params)[2]
    gamma = smoothness_prior(potential, params, part, 2.0)
    fit = fit_linear(potential, params, DATA, solver="ridge", strength=1.0, prior="smooth")
    again = [solve(fit.factors, solver="ridge", strength=1.0, prior=p).coefficients for p in (None, gamma, gamma**2)]
    np.testing.assert_allclose(fit.fit.coefficients, again[1], rtol=1e-9)
    norm = sum(qr.norms**2 for qr in fit.factors.values())
    share = [float(np.sum(norm * gamma * c**2) / np.sum(norm * c**2)) for c in again]
    assert share[0] > 1.02 * share[1] > 1.02**2 * share[2]
    learned = solve(fit.factors, prior=gamma)
    assert learned.log_evidence is not None
    assert np.abs(learned.coefficients - solve(fit.factors).coefficients).max() > 0


def test_priors_that_make_no_sense_are_refused():
    nep = {"potential": {"family": "nep"}, "method": "linear"}
    with pytest.raises(ValueError, match="positive power; got 'soft'"):
        read_config(nep | {"linear": {"prior": "soft"}})
    with pytest.raises(ValueError, match="positive power; got"):
        read_config(nep | {"linear": {"prior": {"smooth": -1}}})
    with pytest.raises(ValueError, match="a prior goes with solver bayesian or ridge"):
        fit_linear(LINEAR["mtp"], {}, DATA, solver="ard", prior="smooth")
    network = PaiNN(SPECIES, 4.0, n_features=4, n_interactions=1, n_radial=4, hidden=(4,))
    params = network.init(jax.random.key(0), float)
    with pytest.raises(ValueError, match="functions of PaiNN have no degrees"):
        fit_linear(network, params, DATA, prior="smooth")


def test_forces_that_do_not_add_up():
    rng = np.random.default_rng(0)
    noisy = [s.replace(forces=s.forces + 0.1 * rng.normal(size=s.forces.shape)) for s in DATA]
    removed = treat_net_forces(noisy, "remove")
    for s, t in zip(noisy, removed, strict=True):
        np.testing.assert_allclose(t.forces.sum(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(t.forces - s.forces, np.broadcast_to((t.forces - s.forces)[0], s.forces.shape))
    net = np.array([np.linalg.norm(s.forces.sum(axis=0)) / len(s) ** 0.5 for s in noisy])
    bound = float(np.median(net))
    dropped = treat_net_forces(noisy, bound)
    assert [s.forces is None for s in dropped] == (net > bound).tolist()
    assert all(s.energy is not None for s in dropped)
    assert treat_net_forces(noisy) == noisy
    with pytest.raises(ValueError, match="net_force is keep, remove or a positive number"):
        read_config({"potential": {"family": "nep"}, "data": {"net_force": "drop"}})

    def slope(structures, error):
        batch = batch_of(structures, POTENTIAL)
        f = lambda p: jnp.sum(errors(Loss(0.0, 1.0, error=error), POTENTIAL, p, batch, ("forces",))["forces"][0])
        return np.asarray(jax.jit(jax.grad(f))(TRUE)["sigma"])

    # Squares: the same gradient; absolute errors: another one.
    np.testing.assert_allclose(slope(noisy, "mse"), slope(removed, "mse"), rtol=1e-9, atol=1e-12)
    assert np.abs(slope(noisy, "mae") - slope(removed, "mae")).max() > 1e-6
    config = {"potential": {"family": "mtp", "cutoff": 5.0, "level": 4}, "method": "linear"}
    fitted = jm.fit(config | {"data": {"net_force": "remove", "check": False}}, train=noisy)
    np.testing.assert_allclose(fitted.parts["train"].structures[3].forces, removed[3].forces)
