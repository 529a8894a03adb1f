"""Sums, multiples, interpolations and committees against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import rattled

import jaxmlp as jm
from jaxmlp.potentials.pair import LennardJones, Morse, lennard_jones

SYSTEM = rattled((18, 36), 3.7)
A, PA = lennard_jones((18, 36), [0.0104, 0.0143], [3.4, 3.65], 6.5, truncation="force-shifted")
B = Morse((18, 36), 5.0, "force-shifted")
PB = {k: jnp.full((2, 2), x) for k, x in {"depth": 0.02, "alpha": 1.5, "length": 3.9}.items()}


def value(potential, params):
    return jax.jit(jm.evaluate_fn(potential, SYSTEM))(SYSTEM.R, SYSTEM.box, params)


@pytest.fixture(scope="module")
def parts():
    return value(A, PA), value(B, PB)


def same(out, expected):
    np.testing.assert_allclose(out.energy, expected[0], rtol=1e-12)
    np.testing.assert_allclose(out.forces, expected[1], rtol=1e-11, atol=1e-13)


def test_a_sum_adds_energies_and_forces(parts):
    a, b = parts
    same(value(A + B, (PA, PB)), (a.energy + b.energy, a.forces + b.forces))


def test_a_multiple_scales(parts):
    same(value(-0.5 * A, PA), (-0.5 * parts[0].energy, -0.5 * parts[0].forces))


def test_a_local_and_a_whole_system_term_add(parts):
    fluid, params = lennard_jones((18, 36), [0.0104, 0.0143], [3.4, 3.65], 6.5, tail=True)
    local = value(LennardJones((18, 36), 6.5), params[0])
    tail = value(fluid.members[1], params[1])
    same(value(fluid, params), (local.energy + tail.energy, local.forces + tail.forces))
    np.testing.assert_allclose(value(2.0 * fluid, params).virial, 2 * (local.virial + tail.virial), rtol=1e-12)


def test_an_interpolation_has_its_ends_and_their_difference_as_slope(parts):
    a, b = parts
    mixed = jm.interpolate(A, B)
    energy = jax.jit(jax.value_and_grad(lambda x: jm.energy_fn(mixed, SYSTEM)(SYSTEM.R, SYSTEM.box, x)))
    for x in (0.0, 0.3, 1.0):
        e, slope = energy({"x": jnp.asarray(x), "a": PA, "b": PB})
        np.testing.assert_allclose(e, (1 - x) * a.energy + x * b.energy, rtol=1e-12)
        np.testing.assert_allclose(slope["x"], b.energy - a.energy, rtol=1e-12)


def test_a_committee_is_the_mean_of_its_members():
    members = [jax.tree.map(lambda x, k=k: x * (1 + 0.01 * k), PA) for k in range(3)]
    committee = jm.Committee.of(A, 3)
    stacked = committee.stack(members)
    outs = [value(A, p) for p in members]
    mean = (np.mean([o.energy for o in outs]), np.mean([o.forces for o in outs], axis=0))
    same(value(committee, stacked), mean)
    each = jax.vmap(jm.energy_fn(A, SYSTEM), (None, None, 0))(SYSTEM.R, SYSTEM.box, stacked)
    np.testing.assert_allclose(each, [o.energy for o in outs], rtol=1e-12)


def test_restriction_slices_every_member(parts):
    argon = rattled((36,), 3.7)
    committee = jm.Committee.of(A + 0.5 * B, 2)
    params = committee.stack([(PA, PB), (PA, PB)])
    full = jm.energy_fn(committee, argon)(argon.R, argon.box, params)
    alone, p = (A + 0.5 * B).restrict((PA, PB), (36,))
    assert alone.species == (36,)
    np.testing.assert_allclose(full, jm.energy_fn(alone, argon)(argon.R, argon.box, p), rtol=1e-12)


def test_members_with_other_elements_are_refused():
    with pytest.raises(ValueError, match="same species in the same order"):
        A + Morse((36, 18), 5.0)
    with pytest.raises(ValueError, match="at least one member"):
        jm.Committee.of(A, 0)


def test_frame_parameters_reach_the_members_that_have_them():
    from jaxmlp.potentials.deepmd import deep_potential

    options = {"sel": (30, 30), "neuron": (3, 6), "axis": 2, "nodes": (4,)}
    hot = deep_potential((18, 36), 5.0, fparams=1, **options)
    params = hot.init(jax.random.key(0))
    at = lambda potential, p, **given: jm.energy_fn(potential, SYSTEM)(SYSTEM.R, SYSTEM.box, p, **given)
    own, plain = (at(hot, params, fparam=x) for x in ([0.7], None))
    assert abs(own - plain) > 1e-6
    other = at(A, PA)
    both = (PA, params)
    np.testing.assert_allclose(at(A + hot, both, fparam=[0.7]), other + own, rtol=1e-12)
    np.testing.assert_allclose(at(2.0 * hot, params, fparam=[0.7]), 2 * own, rtol=1e-12)
    mixed = {"x": jnp.asarray(0.25), "a": PA, "b": params}
    np.testing.assert_allclose(at(jm.interpolate(A, hot), mixed, fparam=[0.7]), 0.75 * other + 0.25 * own, rtol=1e-12)
    two = jm.Committee.stack([params, params])
    np.testing.assert_allclose(at(jm.Committee.of(hot, 2), two, fparam=[0.7]), own, rtol=1e-12)
    with pytest.raises(ValueError, match="no member of this Sum has aparam"):
        at(A + hot, both, aparam=[[0.1]])


def test_message_passing_members_are_evaluated_in_blocks():
    """Multiples, sums, interpolations and committees of potentials that pass messages, against their definitions."""
    from registry import CASES

    case = CASES["schnet-shared"]()
    net, params, system = case.potential, case.params, case.system
    other = jax.tree.map(lambda x: 0.9 * x, params)
    morse = Morse(net.species, 4.0, "force-shifted")
    pair = {k: jnp.full((2, 2), x) for k, x in {"depth": 0.2, "alpha": 1.5, "length": 2.0}.items()}

    def run(potential, params):
        return jax.jit(jm.evaluate_fn(potential, system, block=3))(system.R, system.box, params)

    a, b, m = run(net, params), run(net, other), run(morse, pair)
    combinations = [
        (0.5 * net + morse, (params, pair), (0.5, 0.0, 1.0)),
        (jm.interpolate(net, morse), {"x": jnp.asarray(0.3), "a": params, "b": pair}, (0.7, 0.0, 0.3)),
        (jm.Committee.of(net, 2), jm.Committee.stack([params, other]), (0.5, 0.5, 0.0)),
        (2.0 * jm.Committee.of(net, 2), jm.Committee.stack([params, other]), (1.0, 1.0, 0.0)),
    ]
    for potential, p, weights in combinations:
        assert not [
            term for term, _, _ in potential.terms(p) if not (term.local or isinstance(term, jm.MessagePassing))
        ]
        out = run(potential, p)
        for name in ("energy", "energies", "forces", "virial", "box_gradient"):
            expected = sum(w * getattr(x, name) for w, x in zip(weights, (a, b, m)))
            np.testing.assert_allclose(getattr(out, name), expected, rtol=0, atol=1e-11, err_msg=name)
