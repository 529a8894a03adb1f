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


@pytest.mark.parametrize("scaling", [0, 1, 2])
def test_grades_of_configurations_selected_by_their_energies(scaling, tmp_path):
    """Against the definition: configurations of the set have grade 1, a supercell that of its cell times a power."""
    potential = MTP((14,), cutoff=4.0, inner=1.0, radial_size=3, level=6, selection=(14,), energy_weight=0.5,
                    weight_scaling=scaling)  # fmt: skip
    params = potential.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    box = 3.1 * np.eye(3)
    first = jm.System(np.full(2, 14), np.zeros((2, 3)), box)
    gradients = jax.jit(jm.site_fn(potential, first, "coefficient_gradients", headroom=2.0))
    sites = [gradients(rng.uniform(0, 3.1, (2, 3)), box, params) for _ in range(3 * potential.size)]
    assert np.isfinite(sites).all()
    rows = 0.5 * np.sum(sites, axis=1) / 2 ** (scaling / 2)
    active = select(rows)
    params |= {"active_set": jnp.asarray(active), "active_inverse": jnp.asarray(np.linalg.inv(active))}
    grades = np.array([potential.configuration_grade(params, b) for b in sites])
    np.testing.assert_allclose(grades, np.abs(np.linalg.solve(active.T, rows.T)).max(axis=0), rtol=1e-6)
    chosen = (rows[:, None] == active).all(axis=2).any(axis=1)
    assert chosen.sum() > 5  # rows without a partner stay those of the start, where coefficients are redundant
    np.testing.assert_allclose(grades[chosen], 1.0, rtol=1e-6)
    assert grades.max() <= 1.001 + 1e-6
    many = jnp.concatenate([sites[0]] * 8)
    assert potential.configuration_grade(params, many) == pytest.approx(grades[0] * 8 ** (1 - scaling / 2), rel=1e-9)

    mtp.save(tmp_path / "x.almtp", potential, params)
    read, numbers = mtp.load(tmp_path / "x.almtp", (14,))
    assert read == potential
    assert read.configuration_grade(numbers, sites[1]) == pytest.approx(grades[1], rel=1e-12)
    text = (tmp_path / "x.almtp").read_bytes()
    for old, new in ((b"force_weight 0.0", b"force_weight 1.0"), (b"energy_weight 0.5", b"energy_weight x.5"),
                     (b"weight_scaling", b"weight_scalinx")):  # fmt: skip
        (tmp_path / "y.almtp").write_bytes(text.replace(old, new))
        with pytest.raises(jm.FormatError, match=r"neighbourhoods|each with a number"):
            mtp.load(tmp_path / "y.almtp", (14,))


@pytest.mark.shared
def test_a_selection_of_neighbourhoods_grades_a_configuration_by_its_worst(shared):
    folder = shared / "reference" / "mtp"
    name = "mlip3_multi3_level10_grades"
    potential, params = mtp.load(folder / f"models/{name}.almtp", (1, 2, 3))
    assert potential.energy_weight == 0
    for case in read_cases(folder / f"cases/{name}.npz", potential.species):
        b = jnp.asarray(case.expected["energy_derivatives"])
        worst = case.expected["nbh_grades"].max()
        assert potential.configuration_grade(params, b) == pytest.approx(worst, rel=2e-7)


def test_a_selection_lacks_no_species():
    with pytest.raises(ValueError, match="selection"):
        MTP((14, 6), selection=(14,))
    with pytest.raises(ValueError, match="weight_scaling"):
        MTP((14,), selection=(14,), weight_scaling=3)
