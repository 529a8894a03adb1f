"""Tabulated pair cores: the spline between its knots, the line before them, nothing beyond."""

import ase
import jax
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import jaxmlp as jm
from jaxmlp.potentials.glue import Glue, table

R, E = np.array([0.8, 1.0, 1.5, 2.2, 2.6]), np.array([9.0, 5.0, 1.5, 0.2, 0.1])


@pytest.mark.parametrize(("ends", "bc"), [((-30.0, 0.0), ((1, -30.0), (1, 0.0))), ((None, None), "natural")])
def test_a_pair_has_the_energy_of_its_spline(ends, bc):
    potential, params = Glue((6, 8), ((6, 8),), (2.6,)), (table(R[::-1], E[::-1], *ends),)
    spline = CubicSpline(R, E, bc_type=bc)
    system = jm.System.from_ase(ase.Atoms("CO", [[0, 0, 0], [1.2, 0, 0]]))
    energy = jax.jit(jax.value_and_grad(jm.energy_fn(potential, system, headroom=0.9)))
    for r in (0.3, 0.79, 1.0, 1.2, 2.59, 2.61):
        expected = spline(max(r, 0.8)) + spline(0.8, 1) * min(r - 0.8, 0)
        slope = spline(max(r, 0.8), 1)
        value, gradient = energy(np.array([[0, 0, 0], [r, 0, 0]]), system.box, params)
        np.testing.assert_allclose(value, expected if r < 2.6 else 0.0, rtol=1e-13)
        np.testing.assert_allclose(gradient[1], [slope if r < 2.6 else 0.0, 0, 0], rtol=1e-12, atol=1e-13)


def test_restriction_keeps_the_pairs_that_are_left(tmp_path):
    params = (table(R, E, 0.0, 0.0), table(R, 2 * E, 0.0, 0.0))
    potential = Glue((6, 8, 14), ((6, 6), (8, 14)), (2.6, 2.6))
    for species, pairs in (((14, 8), ((8, 14),)), ((6,), ((6, 6),))):
        kept, numbers = potential.restrict(params, species)
        assert (kept.species, kept.pairs, len(numbers)) == (species, pairs, 1)
    nothing, zeros = potential.restrict(params, (14,))
    system = jm.System.from_ase(ase.Atoms("Si2", [[0, 0, 0], [0.9, 0, 0]]))
    assert float(jm.energy_fn(nothing, system)(system.R, system.box, zeros)) == 0.0
    jm.save(tmp_path / "x.safetensors", potential, params)
    assert jm.load(tmp_path / "x.safetensors")[0] == potential


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Glue((6,), ((6, 8),), (2.0,)), "not among them"),
        (lambda: Glue((6, 8), ((6, 8), (8, 6)), (2.0, 2.0)), "every pair once"),
        (lambda: Glue((6,), ((6, 6),), (0.0,)), "positive"),
        (lambda: table(np.ones(3), np.ones(3), None, None), "different distances"),
    ],
)
def test_what_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
