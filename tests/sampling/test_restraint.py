"""Bias potentials: the laws that potentials of variables obey, closed forms, windows as stacks of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_laws
from registry import Case, rattled

import jaxmlp as jm
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.sampling import (
    OPES,
    Coordination,
    Crystallinity,
    DensityWave,
    Distance,
    Limit,
    Linear,
    Metadynamics,
    Position,
    Restraint,
    Stack,
    Steinhardt,
    Torsion,
    Transformed,
    Volume,
    linear_bias,
    lower_limit,
    restraint,
    upper_limit,
    variable_fn,
)

SPECIES = (18, 36)
SYSTEM = rattled(SPECIES, 3.7)
NEAR = dict(cutoff=5.2, inner=3.4)
LOCAL = lennard_jones(SPECIES, [0.0104, 0.0143], [3.4, 3.65], 6.5, truncation="force-shifted")


def springs(cv, k=0.7):
    """Restraints away from where `SYSTEM` is."""
    s = np.asarray(jax.jit(variable_fn(cv, SYSTEM))(SYSTEM.R, SYSTEM.box))
    return restraint(cv, SPECIES, k, s + 0.3)


def _lists():
    """Variables of neighbours, of different cutoffs, added to a local potential."""
    several = Stack((
        Coordination(**NEAR, a=(0, 1, 2), r0=3.0),
        Steinhardt(4, 4.8, 3.0, kind="w", averaged=True),
        Crystallinity(2, **NEAR, bonded=(-0.9, 0.9), connections=(0.5, 6.0)),
    ))  # fmt: skip
    bias = springs(several)
    return LOCAL[0] + bias[0], (LOCAL[1], bias[1])


def _atoms():
    """Variables of numbered atoms, and of the cell."""
    turned = Transformed(Torsion((0, 1, 3, 2)), jnp.cos)  # a reflection changes the sign of the angle
    internal = springs(Stack((Distance((0, 5)), turned, DensityWave((1, 0, 1)), Volume())), k=0.1)
    beyond = upper_limit(Distance((1, 6)), SPECIES, 0.4, 1.0)
    below = lower_limit(Distance((2, 4)), SPECIES, 0.4, 30.0)
    pulled = linear_bias(Distance((3, 7)), SPECIES, 0.2)
    potential = LOCAL[0] + internal[0] + beyond[0] + below[0] + pulled[0]
    return potential, ((((LOCAL[1], internal[1]), beyond[1]), below[1]), pulled[1])


def _adaptive():
    """Biases with a memory of some depositions around where `SYSTEM` is."""
    cv = Stack((Distance((0, 5)), Coordination(**NEAR)))
    s = jax.jit(variable_fn(cv, SYSTEM))(SYSTEM.R, SYSTEM.box)
    grown = []
    for bias in (
        Metadynamics(cv, SPECIES, width=(0.4, 0.5), height=0.3, biasfactor=8.0, capacity=6),
        OPES(cv, SPECIES, width=(0.5, 0.6), barrier=0.8, capacity=6),
        OPES(cv, SPECIES, width=(0.5, 0.6), barrier=0.8, capacity=6, explore=True),
    ):
        memory, step = bias.start(0.1), jax.jit(bias.updated)
        for shift in ([0.4, 0.1], [-0.3, 0.2], [0.1, -0.5], [0.6, 0.2]):
            memory = step(memory, s + jnp.array(shift), 0.1)
        grown.append((bias, memory))
    (a, m), (b, n), (c, o) = grown
    return a + b + c, ((m, n), o)


@pytest.fixture(scope="module", params=[_lists, _atoms, _adaptive], ids=["lists", "atoms", "adaptive"])
def subject(request):
    return test_laws.Subject(Case(*request.param(), SYSTEM, labelled=True))


@pytest.mark.parametrize(
    "law",
    [
        test_laws.test_the_energy_is_finite_and_not_trivial,
        test_laws.test_translation_and_lattice_vectors_change_nothing,
        test_laws.test_rotation_and_reflection_change_nothing,
        test_laws.test_evaluate_is_the_gradient_of_the_energy,
        test_laws.test_forces_and_virial_are_finite_differences,
        test_laws.test_second_derivatives_agree_in_every_mode,
        test_laws.test_the_gradient_in_the_parameters_is_a_finite_difference,
        test_laws.test_the_energy_is_linear_in_the_linear_parameters,
        test_laws.test_more_padding_changes_nothing,
        test_laws.test_vmap_is_a_loop,
        test_laws.test_float32_and_mixed_precision_stay_near,
        test_laws.test_an_overflow_is_never_silent,
    ],
    ids=lambda law: law.__name__.removeprefix("test_"),
)
def test_laws_of_potentials(law, subject):
    law(subject)


ATOM = jm.System([18, 18], [[0.0, 0, 0], [2.5, 0, 0]])


def evaluation(potential, params, system=ATOM):
    out = jax.jit(jm.evaluate_fn(potential, system))(system.R, system.box, params)
    return float(out.energy), np.asarray(out.forces)


@pytest.mark.parametrize(
    ("make", "energy", "pull"),  # pull: -dE/dr of the distance r = 2.5
    [
        (lambda cv: restraint(cv, (18,), 3.0, 2.0), 1.5 * 0.25, -1.5),
        (lambda cv: upper_limit(cv, (18,), 3.0, 2.0), 1.5 * 0.25, -1.5),
        (lambda cv: upper_limit(cv, (18,), 3.0, 2.6), 0.0, 0.0),
        (lambda cv: lower_limit(cv, (18,), 3.0, 3.0), 1.5 * 0.25, 1.5),
        (lambda cv: lower_limit(cv, (18,), 3.0, 2.4), 0.0, 0.0),
        (lambda cv: linear_bias(cv, (18,), -0.4), -1.0, 0.4),
    ],
)
def test_closed_forms(make, energy, pull):
    for cv in (Distance((0, 1)), lambda R, box: jnp.linalg.norm(R[1] - R[0])):
        potential, params = make(cv)
        E, F = evaluation(potential, params)
        np.testing.assert_allclose(E, energy, rtol=1e-13)
        np.testing.assert_allclose(F, [[-pull, 0, 0], [pull, 0, 0]], rtol=1e-13, atol=1e-14)
        assert potential.homogeneous == isinstance(cv, Distance)


def test_a_torsion_goes_the_short_way_round():
    R = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1.0], [np.cos(3.0), np.sin(3.0), 1.0]])
    four = jm.System([6] * 4, R)
    potential, params = restraint(Torsion((0, 1, 2, 3)), (6,), 2.0, -3.0)
    E, _ = evaluation(potential, params, four)
    np.testing.assert_allclose(E, (2 * np.pi - 6) ** 2, rtol=1e-12)


def test_the_energy_belongs_to_all_atoms_and_species_may_be_missing():
    potential, params = restraint(Distance((0, 1)), (36, 18, 10), 3.0, 2.0)
    ready, *_ = jm.prepare(potential, params, ATOM)
    assert ready.species == (18,)
    out = jax.jit(jm.evaluate_fn(potential, ATOM))(ATOM.R, None, params)
    np.testing.assert_allclose(out.energies, [0.1875, 0.1875])


def test_windows_are_a_stack_of_parameters():
    """vmap over k and center, and over positions with them."""
    cv = Position(1, axis=0)
    potential, _ = restraint(cv, (18,), 0.0, 0.0)
    energy = jax.jit(jax.vmap(jm.energy_fn(potential, ATOM), (None, None, 0)))
    windows = {"k": jnp.full((5, 1), 2.0), "center": jnp.linspace(0.0, 4.0, 5)[:, None]}
    np.testing.assert_allclose(energy(ATOM.R, None, windows), (2.5 - np.arange(5)) ** 2, rtol=1e-13)


def test_pinning_an_interface_adds_to_a_potential():
    """Pedersen's harmonic field on |rho_k|: forces on all atoms, no total force."""
    potential, params = restraint(DensityWave((2, 2, 2)), SPECIES, 0.5, 1.0)
    both = LOCAL[0] + potential
    assert both.homogeneous
    assert not both.local
    E, F = evaluation(both, (LOCAL[1], params), SYSTEM)
    s = float(DensityWave((2, 2, 2))(SYSTEM.R, SYSTEM.box)[0])
    alone, G = evaluation(*LOCAL, SYSTEM)
    np.testing.assert_allclose(E, alone + 0.25 * (s - 1) ** 2, rtol=1e-12)
    assert np.abs(F - G).min() > 0
    np.testing.assert_allclose(F.sum(axis=0), 0, atol=1e-12)


HILLS = {"height": 0.1, "biasfactor": 5.0}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: restraint(Distance((0, 1)), (18,), 1.0, [1.0, 2.0]), r"a number or \(1,\)"),
        (lambda: Linear(Torsion((0, 1, 2, 3)), (18,)), "jumps"),
        (lambda: Limit(Distance((0, 1)), (18,), "left"), '"upper" or "lower"'),
        (lambda: Restraint(Distance((0, 1)), (18, 18)), "different atomic numbers"),
        (lambda: Restraint(3.0, (18,)), "a function of"),
        (lambda: evaluation(Restraint(Distance((0, 1)), (18,)), {"k": jnp.ones(1)}), "must have shapes"),
        (lambda: Metadynamics(Distance((0, 1)), (18,), width=(0.1, 0.2), **HILLS), "1 positive numbers"),
        (lambda: Metadynamics(Distance((0, 1)), (18,), width=0.1, **HILLS | {"biasfactor": 1.0}), "larger than 1"),
        (lambda: Metadynamics(Distance((0, 1)), (18,), width=0.1, **HILLS | {"height": -1.0}), "must be positive"),
        (lambda: Metadynamics(Distance((0, 1)), (18,), width=0.1, **HILLS, pace=0.5), "whole number"),
        (lambda: OPES(Distance((0, 1)), (18,), width=0.1, barrier=0.0), "must be positive"),
        (
            lambda: OPES(Distance((0, 1)), (18,), width=0.1, barrier=1.0, biasfactor=float("inf"), explore=True),
            "finite biasfactor",
        ),
        (lambda: OPES(Distance((0, 1)), (18,), width=0.1, barrier=0.1).start(0.2), "above 1"),
        (lambda: OPES(Distance((0, 1)), (18,), width=0.1, barrier=1.0, threshold=-1.0), "0 or more"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
