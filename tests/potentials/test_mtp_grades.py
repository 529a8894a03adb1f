"""Extrapolation grades of MTP: against motep's and MLIP-3's numbers, and the properties of MaxVol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nep_reference import graph, padded, read_cases

import jaxmlp as jm
from jaxmlp.formats import mtp
from jaxmlp.potentials.mtp import MTP
from jaxmlp.potentials.mtp_grade import grade, select

SMALL = MTP((14, 6), cutoff=4.0, inner=1.0, radial_size=3, level=6)


@pytest.fixture(scope="module")
def system() -> jm.System:
    rng = np.random.default_rng(3)
    return jm.System(np.resize([14, 6], 6), rng.uniform(0, 4, (6, 3)))


@pytest.mark.shared
def test_grades_are_those_of_the_original_codes(shared):
    folder = shared / "reference" / "mtp"
    name = "mlip3_multi3_level10_grades"
    potential, params = mtp.load(folder / f"models/{name}.almtp", (1, 2, 3))

    @jax.jit
    def both(R, box, rows):
        g = graph(R, box, rows, radii)
        return potential.coefficient_gradients(params, g), potential.grades(params, g)

    cases = read_cases(folder / f"cases/{name}.npz", potential.species)
    for k, (case, R, rows, radii) in enumerate(padded(cases, potential.shells)):  # noqa: B007
        b, gamma = both(R, jnp.asarray(case.box), rows)
        n = len(case.R)
        expected = case.expected["energy_derivatives"]
        np.testing.assert_allclose(b[:n], expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
        # The reference's grades of its last two structures and its own b A^-1 differ by 1.2e-7, the others by nothing.
        own = np.abs(expected @ np.asarray(params["active_inverse"])).max(axis=1)
        np.testing.assert_allclose(gamma[:n], own, rtol=1e-8)
        np.testing.assert_allclose(gamma[:n], case.expected["nbh_grades"], rtol=1e-8 if k < 2 else 2e-7)
        if "nbh_grades_mlip3" in case.expected:  # printed with 5 digits
            np.testing.assert_allclose(gamma[:n], case.expected["nbh_grades_mlip3"], rtol=0, atol=1e-5)


def test_coefficient_gradients_are_the_derivatives(system):
    params = SMALL.init(jax.random.key(0)) | {"scaling": jnp.asarray(0.3)}
    b = jax.jit(jm.site_fn(SMALL, system, "coefficient_gradients"))(system.R, system.box, params)
    energies = jm.site_fn(SMALL, system, "site_energies")
    exact = jax.jit(jax.jacrev(lambda p: energies(system.R, system.box, p)))(params)
    exact = [np.asarray(exact[k]).reshape(6, -1) for k in ("radial", "species_coeffs", "moment_coeffs")]
    assert b.shape == (6, SMALL.size)
    np.testing.assert_allclose(b, np.concatenate(exact, axis=1), rtol=1e-10, atol=1e-13)


def test_a_restricted_potential_has_the_same_grades(system):
    """A system without one of the species sees the active set of all of them."""
    potential = MTP((14, 6), cutoff=4.0, inner=1.0, radial_size=3, level=6, selection=(14, 6))
    params = potential.init(jax.random.key(0))
    b = np.random.default_rng(0).normal(size=(3 * potential.size, potential.size))
    params["active_inverse"] = jnp.asarray(np.linalg.inv(select(b)))
    one = jm.System(np.full(6, 6), system.R)
    small, fewer = potential.restrict(params, (6,))
    assert small.size == potential.size
    gamma = jm.site_fn(small, one, "grades")(one.R, one.box, fewer)
    everything = jm.System(np.resize([6, 14], 7), np.vstack([system.R, [1e3, 0, 0]])[[0, 6, 1, 2, 3, 4, 5]])
    everything = jm.System(np.array([6, 14, 6, 6, 6, 6, 6]), everything.R)
    again = jm.site_fn(potential, everything, "grades")(everything.R, None, params)
    np.testing.assert_allclose(np.delete(again, 1), gamma, rtol=1e-8)


def test_maxvol_leaves_no_grade_above_the_threshold():
    b = np.random.default_rng(1).normal(size=(60, 8)) * np.geomspace(1, 1e-3, 8)
    a = select(b)
    assert np.asarray(grade(np.linalg.inv(a), b)).max() <= 1.001 + 1e-9
    rows = {tuple(row) for row in b}
    assert all(tuple(row) in rows for row in a)  # every row of the start was swapped
    np.testing.assert_array_equal(select(b, a), a)
    volume = np.abs(np.linalg.det(a))
    for k in range(8):
        for row in b[:20]:
            other = a.copy()
            other[k] = row
            assert np.abs(np.linalg.det(other)) <= volume * 1.0011
    np.testing.assert_allclose(grade(np.linalg.inv(a), 5.0 * a), 5.0)


def test_a_selection_lacks_no_species():
    with pytest.raises(ValueError, match="selection"):
        MTP((14, 6), selection=(14,))
