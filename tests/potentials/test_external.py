"""Fields, tethers, wells and walls: closed forms, and those laws of potentials that hold without symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_laws
from registry import Case, rattled

import jaxmlp as jm
from jaxmlp.potentials.external import Free, Polynomial, Tether, UniformForce, Wall, electric_field, tether
from jaxmlp.potentials.pair import lennard_jones

SALT = jm.System([11, 17, 11], [[0.3, 1.0, 2.0], [2.5, -1.2, 0.4], [4.8, 0.7, -0.6]])
BOX = np.array([[6.0, 0.0, 0.0], [4.5, 5.0, 0.0], [-2.5, 3.0, 7.0]])


def energies_of(potential, params, system=SALT, exists=None):
    """Return the site energies as a function of R, of a graph without neighbours."""
    potential, params, species = jm.prepare(potential, jax.tree.map(jnp.asarray, params), system)
    none = jnp.zeros((len(system), 0))
    index, box = none.astype(jnp.int32), None if system.box is None else jnp.asarray(system.box)
    rows = (jnp.asarray(species), (none,) * 3, index, index, none > 0)
    return lambda R: potential.site_energies(params, jm.Graph(*rows, R, box, exists=exists))


def evaluation(potential, params, system=SALT):
    """Return site energies and forces."""
    of, R = energies_of(potential, params, system), jnp.asarray(system.R)
    return of(R), -jax.grad(lambda R: of(R).sum())(R)


@pytest.fixture(scope="module")
def subject():
    """Every external potential, added to a local one."""
    system = rattled((18, 36), 3.7)
    local = lennard_jones((18, 36), [0.0104, 0.0143], [3.4, 3.65], 6.5, truncation="force-shifted")
    species, rng = local[0].species, np.random.default_rng(0)
    springs, ties = tether(system, [0.5, 0.7, 0.9], [6, 1, 4], species=species)
    terms = (
        local,
        (springs, ties | {"X": ties["X"] + 0.1}),
        electric_field(species, [0.3, -0.4], [0.2, -0.1, 0.4]),
        (Polynomial(species), {"c": jnp.asarray(0.02 * rng.normal(size=(3, 5)))}),
        (Free(species), {}),
        (
            Wall(species, "lj93", 2, "lower", 9.0),
            {"epsilon": np.array([0.2, 0.3]), "sigma": np.array([3.0, 3.2]), "position": -3.0},
        ),
        (Wall(species, "harmonic", 0, "upper", 3.0), {"epsilon": np.array([0.2, 0.3]), "position": 7.0}),
    )
    potential = sum((p for p, _ in terms[1:]), start=terms[0][0])
    nested = local[1]
    for _, params in terms[1:]:
        nested = (nested, params)
    return test_laws.Subject(Case(potential, nested, system))


@pytest.mark.parametrize(
    "law",
    [
        test_laws.test_evaluate_is_the_gradient_of_the_energy,
        test_laws.test_forces_and_virial_are_finite_differences,
        test_laws.test_second_derivatives_agree_in_every_mode,
        test_laws.test_the_gradient_in_the_parameters_is_a_finite_difference,
        test_laws.test_the_energy_is_linear_in_the_linear_parameters,
        test_laws.test_more_padding_changes_nothing,
        test_laws.test_vmap_is_a_loop,
        test_laws.test_float32_and_mixed_precision_stay_near,
    ],
    ids=lambda law: law.__name__.removeprefix("test_"),
)
def test_laws_without_symmetry(law, subject):
    law(subject)


def test_an_ideal_gas_has_no_energy():
    energies, forces = evaluation(Free((11, 17)), {})
    assert energies.shape == (3,)
    assert not energies.any()
    assert not forces.any()


def test_a_uniform_field_pulls_charges():
    field = np.array([0.1, -0.3, 0.2])
    charges = np.array([1.0, -0.8, 1.0])
    potential, params = electric_field((11, 17), [1.0, -0.8], field)
    energies, forces = evaluation(potential, params)
    np.testing.assert_allclose(energies, -charges * (SALT.R @ field), rtol=1e-14)
    np.testing.assert_allclose(forces, charges[:, None] * field, rtol=1e-14)
    energy = lambda field: evaluation(*electric_field((11, 17), [1.0, -0.8], field))[0].sum()
    np.testing.assert_allclose(-jax.grad(energy)(field), charges @ SALT.R, rtol=1e-14)  # the dipole


def test_tethers_pull_chosen_atoms_back():
    potential, params = tether(SALT, [2.0, 3.0], [2, 0])
    moved = SALT.replace(R=SALT.R + np.array([[0.1, 0, 0], [5.0, 0, 0], [0, -0.2, 0.3]]))
    energies, forces = evaluation(potential, params, moved)
    np.testing.assert_allclose(energies, [0.5 * 3 * 0.01, 0, 0.5 * 2 * 0.13], rtol=1e-12)
    np.testing.assert_allclose(forces, [[-0.3, 0, 0], [0, 0, 0], [0, 0.4, -0.6]], atol=1e-14)


def test_an_einstein_crystal_has_springs_for_a_hessian():
    of = energies_of(*tether(SALT, 1.7))
    hessian = jax.hessian(lambda R: of(R).sum())(jnp.asarray(SALT.R + 0.1))
    np.testing.assert_allclose(hessian.reshape(9, 9), 1.7 * np.eye(9), atol=1e-14)


@pytest.mark.parametrize("along_b", [True, False])
def test_a_wrapped_atom_is_tied_to_the_nearest_image_of_its_point(along_b):
    system = jm.System([11, 17, 11], SALT.R, BOX, (True, along_b, True))
    unwrapped, params = tether(system, 2.0)
    nearest = Tether((11, 17), unwrapped.atoms, minimum_image=True)
    steps = np.array([[1, 0, -2], [0, 0, 3], [-1, 0, 0]]) @ BOX
    moved = system.replace(R=system.R + 0.1 + steps)
    energies, forces = evaluation(nearest, params, moved)
    np.testing.assert_allclose(energies, np.full(3, 0.03), rtol=1e-12)
    np.testing.assert_allclose(forces, np.full((3, 3), -0.2), rtol=1e-12)
    energies, _ = evaluation(unwrapped, params, moved)
    np.testing.assert_allclose(energies, np.sum((0.1 + steps) ** 2, axis=1), rtol=1e-12)
    energies, _ = evaluation(nearest, params, moved.replace(R=moved.R + BOX[1]))
    assert (energies < 0.031).all() if along_b else (energies > 1.0).all()


def test_polynomial_wells():
    c = np.array([[1.0, 0.5, -2.0, 0.0, 0.3], [0, 0, 0.7, 0, 0], [0, 0, 0, 0, 0]])
    energies, forces = evaluation(Polynomial((11, 17)), {"c": c})
    x, y, _ = SALT.R.T
    np.testing.assert_allclose(energies, np.polyval(c[0, ::-1], x) + 0.7 * y**2, rtol=1e-13)
    slope = np.stack([0.5 - 4 * x + 1.2 * x**3, 1.4 * y, 0 * x], axis=1)
    np.testing.assert_allclose(forces, -slope, rtol=1e-13, atol=1e-13)
    of = energies_of(Polynomial((11, 17)), {"c": c})
    curvature = jax.hessian(lambda R: of(R).sum())(jnp.zeros((3, 3)))
    np.testing.assert_allclose(curvature.reshape(9, 9), np.diag([-4.0, 1.4, 0] * 3), atol=1e-15)


@pytest.mark.parametrize("side", ["lower", "upper"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_walls_as_in_lammps(axis, side):
    """fix wall/harmonic and fix wall/lj93: a sodium at 0.5 and one out of reach, a chlorine at 1.1 from the wall."""
    r, inward = np.array([0.5, 1.1, 4.0]), 1.0 if side == "lower" else -1.0
    R = SALT.R.copy()
    R[:, axis] = 2.0 + inward * r
    system = SALT.replace(R=R)
    epsilon, sigma, reach = np.array([0.4, 0.7]), np.array([1.2, 0.9]), 2.5
    e, s = epsilon[[0, 1, 0]], sigma[[0, 1, 0]]
    near = r < reach

    wall = Wall((11, 17), "harmonic", axis, side, reach)
    energies, forces = evaluation(wall, {"epsilon": epsilon, "position": 2.0}, system)
    np.testing.assert_allclose(energies, near * e * (r - reach) ** 2, rtol=1e-12)
    expected = np.zeros((3, 3))
    expected[:, axis] = -inward * near * 2 * e * (r - reach)
    np.testing.assert_allclose(forces, expected, atol=1e-12)

    params = {"epsilon": epsilon, "sigma": sigma, "position": 2.0}
    energies, forces = evaluation(Wall((11, 17), "lj93", axis, side, reach), params, system)
    u = lambda r: e * (2 / 15 * (s / r) ** 9 - (s / r) ** 3)
    np.testing.assert_allclose(energies, near * (u(r) - u(reach)), rtol=1e-12)
    expected[:, axis] = inward * near * e * (6 / 5 * s**9 / r**10 - 3 * s**3 / r**4)  # fwall of LAMMPS
    np.testing.assert_allclose(forces, expected, rtol=1e-12, atol=1e-12)


def test_behind_a_wall():
    behind = SALT.replace(R=np.array([[0, 0, -0.5], [0, 0, 1.0], [0, 0, 5.0]]))
    params = {"epsilon": np.array([0.4, 0.4]), "position": 0.0}
    _, forces = evaluation(Wall((11, 17), "harmonic", 2, "lower", 2.0), params, behind)
    np.testing.assert_allclose(forces[:, 2], [2.0, 0.8, 0.0], rtol=1e-13)
    wall, params = Wall((11, 17), "lj93", 2, "lower", 2.0), params | {"sigma": np.ones(2)}
    energies, forces = evaluation(wall, params, behind)
    np.testing.assert_array_equal(np.isnan(energies), [True, False, False])
    np.testing.assert_array_equal(np.isnan(forces[:, 2]), [True, False, False])
    # An atom that does not exist may be anywhere.
    of = energies_of(wall, params, behind, exists=jnp.array([False, True, True]))
    slope = jax.grad(lambda R: of(R).sum())(jnp.asarray(behind.R))
    assert np.isfinite(slope).all()
    assert not slope[0].any()


CASES = [
    (Free((17, 11)), {}),
    (UniformForce((17, 11)), {"force": np.arange(6.0).reshape(2, 3)}),
    (Tether((17, 11), (2, 0), minimum_image=True), {"k": np.ones(2), "X": np.ones((2, 3))}),
    (Polynomial((17, 11)), {"c": 0.1 * np.arange(12.0).reshape(3, 4)}),
    (Wall((17, 11), "harmonic", 0, "upper", 9.0), {"epsilon": np.array([1.0, 2.0]), "position": np.array(7.0)}),
    (
        Wall((17, 11), "lj93", 1, "lower", 9.0),
        {"epsilon": np.array([1.0, 2.0]), "sigma": np.array([1.5, 1.8]), "position": np.array(-3.0)},
    ),
]
NAMES = [f"{type(p).__name__}{getattr(p, 'kind', '')}" for p, _ in CASES]


@pytest.mark.parametrize(("potential", "params"), CASES, ids=NAMES)
def test_files_and_slices_keep_everything(tmp_path, potential, params):
    jm.save(tmp_path / "model.safetensors", potential, params)
    again, values = jm.load(tmp_path / "model.safetensors")
    assert again == potential
    assert jax.tree.structure(values) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, values, params)
    sliced, part = potential.restrict(params, (11,))
    assert sliced.species == (11,)
    sodium = jm.System([11, 11, 11], SALT.R)
    salt = evaluation(potential, params)[0]
    np.testing.assert_array_equal(evaluation(sliced, part, sodium)[0][::2], salt[::2])  # the sodium atoms of the salt


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Free((11, 11)), "Free.species must be different"),
        (lambda: Tether((11,), ((0, 1),)), r"Tether.atoms must be integers of shape \(terms,\)"),
        (lambda: Tether((11,), (0.5,)), "Tether.atoms must be integers"),
        (lambda: Tether((11,), (0, 3, 0)), "0 is among them 2 times"),
        (lambda: Tether((11,), (2, -1)), "-1 is among them"),
        (lambda: tether(SALT, 1.0, [1, 3]), "binds atom 3, .* has 3 atoms"),
        (lambda: evaluation(Tether((11, 17), (0, 7)), {"k": np.ones(2), "X": np.ones((2, 3))}), "binds atom 7"),
        (lambda: evaluation(Tether((11, 17), (0, 2)), {"k": np.ones(1), "X": np.ones((2, 3))}), r"'k': \(2,\)"),
        (lambda: evaluation(Polynomial((11, 17)), {"c": np.ones((2, 3))}), r"Polynomial must have shapes .*\(3, 3\)"),
        (lambda: Wall((11,), "lj126", 0, "lower", 3.0), "Wall.kind must be one of"),
        (lambda: Wall((11,), "lj93", 3, "lower", 3.0), "Wall.axis must be one of"),
        (lambda: Wall((11,), "lj93", 0, "lo", 3.0), "Wall.side must be one of"),
        (lambda: Wall((11,), "lj93", 0, "lower", -3.0), "Wall.reach is a distance"),
        (lambda: electric_field((11, 17), [1.0], np.ones(3)), "needs 2 charges"),
        (lambda: Wall((11,), "harmonic", 0, "lower", 1.0) + Free((17,)), "same species"),
    ],
)
def test_what_makes_no_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
