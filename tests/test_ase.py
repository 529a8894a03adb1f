"""The ASE calculator: ASE's own numerical checks, its optimisers and dynamics, and how often it compiles."""

from dataclasses import dataclass

import ase.units
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed, PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons

import jaxmlp as jm
import jaxmlp.ase as interface
from jaxmlp.ase import JaxMLP


@dataclass(frozen=True)
class Metal(jm.Potential):
    """E_i = sum_j a (1 - r/rc)^6 - sqrt(sum_j b_j (1 - r/rc)^4), b of the neighbour's species: binds fcc metals."""

    species: tuple[int, ...] = (29, 79)
    cutoff: float = 4.0

    def init(self, key, dtype=float):
        return {"a": jnp.asarray(200.0, dtype), "b": jnp.linspace(80.0, 100.0, len(self.species), dtype=dtype)}

    def site_energies(self, params, graph):
        u = jnp.maximum(1 - graph.distances / self.cutoff, 0.0)
        density = jnp.sum(params["b"][graph.neighbor_species] * u**4, axis=1)
        bound = jnp.where(density > 0, density, 1.0)
        return params["a"] * jnp.sum(u**6, axis=1) - jnp.where(density > 0, jnp.sqrt(bound), 0.0)

    def restrict(self, params, species):
        index = np.array([self.species.index(z) for z in species])
        return Metal(tuple(species), self.cutoff), {"a": params["a"], "b": params["b"][index]}


METAL, PARAMS = Metal(), Metal().init(None)


def calculator(**options) -> JaxMLP:
    return JaxMLP(METAL, PARAMS, **options)


def alloy() -> Atoms:
    atoms = bulk("Cu", a=4.1, cubic=True) * (2, 1, 1)
    atoms.numbers[::3] = 79
    atoms.rattle(0.1, seed=0)
    strain = np.array([[0.01, 0.02, 0.0], [0.0, -0.02, 0.01], [0.02, 0.0, 0.03]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return atoms


def test_forces_and_stress_are_the_derivatives_of_the_energy():
    atoms = alloy()
    atoms.calc = calculator()
    # Central differences with steps of 1e-5 and 1e-6: error about 1e-10 / step from rounding.
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-8)
    stress = calculate_numerical_stress(atoms, eps=1e-6, voigt=True)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-8)


def test_properties_agree_with_each_other_and_with_the_pure_function():
    atoms = alloy()
    atoms.calc = calculator()
    energy = jm.energy_fn(METAL, jm.System.from_ase(atoms))(atoms.positions, atoms.cell.array, PARAMS)
    assert atoms.get_potential_energy() == pytest.approx(float(energy), rel=1e-13)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(float(energy), rel=1e-13)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-14)
    assert atoms.get_stress(voigt=False).shape == (3, 3)
    assert set(atoms.calc.results) == set(JaxMLP.implemented_properties)


def test_clusters_have_no_stress():
    atoms = Atoms("Cu2Au", [[0, 0, 0], [2.5, 0, 0], [0, 2.6, 0.3]], cell=10 * np.eye(3))
    atoms.calc = calculator()
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-7)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_slabs_have_the_stress_of_their_cell():
    atoms = alloy()
    atoms.pbc = (True, True, False)
    atoms.calc = calculator()
    stress = calculate_numerical_stress(atoms, eps=1e-6, voigt=True)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-8)


def test_atoms_and_cells_relax():
    atoms = alloy()
    atoms.calc = calculator()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.01, steps=50)
    assert np.abs(atoms.get_forces()).max() < 0.01
    # The force of the filter on its cell is V sigma / N.
    assert np.abs(atoms.get_stress()).max() < 0.01 * len(atoms) / atoms.get_volume()


def test_velocity_verlet_conserves_the_energy():
    atoms = alloy()
    atoms.calc = calculator()
    start = atoms.get_total_energy()
    swing = []
    dynamics = VelocityVerlet(atoms, 2 * ase.units.fs)
    dynamics.attach(lambda: swing.append((atoms.get_potential_energy(), atoms.get_total_energy())))
    dynamics.run(100)
    potential, total = np.array(swing).T
    # The error of a step of 2 fs is a small, bounded part of the exchange between potential and kinetic energy.
    assert np.abs(total - start).max() < 0.01 * np.ptp(potential)


def test_phonons_at_gamma_are_three_zeros(tmp_path):
    atoms = bulk("Cu", a=3.5)
    phonons = Phonons(atoms, calculator(), supercell=(2, 2, 2), delta=0.01, name=tmp_path / "phonons")
    phonons.run()
    phonons.read(acoustic=True)
    at_gamma, at_x = phonons.band_structure([[0, 0, 0], [0.5, 0, 0.5]])
    np.testing.assert_allclose(at_gamma, 0, atol=1e-4)  # eV; the acoustic sum rule leaves rounding under a root
    assert at_x.min() > 1e-3


@pytest.fixture
def traces(monkeypatch):
    """Count how often the step is traced, in a fresh jit."""
    step = interface._step.__wrapped__
    counter = []

    def counted(*args):
        counter.append(1)
        return step(*args)

    monkeypatch.setattr(interface, "_step", jax.jit(counted, static_argnums=(0, 1, 2)))
    return counter


def test_dynamics_compile_once(monkeypatch):
    once = chex.assert_max_traces(interface._step.__wrapped__, n=1)
    monkeypatch.setattr(interface, "_step", jax.jit(once, static_argnums=(0, 1, 2)))
    atoms = alloy()
    atoms.calc = calculator()
    VelocityVerlet(atoms, 2 * ase.units.fs).run(20)
    atoms.rattle(0.2, seed=2)  # beyond the skin: the list is renewed inside the compiled code
    atoms.get_forces()
    atoms.set_cell(atoms.cell.array * 1.02, scale_atoms=True)
    atoms.get_forces()


def test_lists_are_kept_until_stale():
    atoms = alloy()
    atoms.calc = calculator()
    atoms.get_forces()
    first = np.asarray(atoms.calc._neighbors.R)
    atoms.positions += 0.01
    atoms.get_forces()
    np.testing.assert_array_equal(atoms.calc._neighbors.R, first)
    atoms.positions[0] += 0.4  # 0.7 Å, more than half the skin
    forces = atoms.get_forces()
    assert not np.array_equal(atoms.calc._neighbors.R, first)
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-5), atol=1e-7)


def test_a_list_that_overflows_grows_and_the_result_is_right(traces):
    atoms = alloy()
    atoms.calc = calculator()
    atoms.get_forces()
    atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)
    crushed = atoms.get_potential_energy()
    assert len(traces) == 2  # the first capacities, in which the overflow was found, and the grown ones
    exact = jm.energy_fn(METAL, jm.System.from_ase(atoms))(atoms.positions, atoms.cell.array, PARAMS)
    assert crushed == pytest.approx(float(exact), rel=1e-12)


def test_one_calculator_serves_different_systems():
    calc = calculator()
    energies = []
    for atoms in (bulk("Cu"), alloy(), Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]]), bulk("Cu")):
        atoms.calc = calc
        energies.append(atoms.get_potential_energy())
        atoms.calc = calculator()
        assert atoms.get_potential_energy() == pytest.approx(energies[-1], rel=1e-13)
    assert energies[0] == energies[-1]
    assert len(set(np.round(energies, 6))) == 3


def test_mixed_precision_is_close():
    atoms = alloy()
    atoms.calc = calculator()
    forces = atoms.get_forces()
    atoms.calc = calculator(precision="mixed")
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-4)  # float32: 1e-7 of terms of some 10 eV/Å, summed


def test_unknown_elements_are_named():
    atoms = bulk("Fe")
    atoms.calc = calculator()
    with pytest.raises(ValueError, match=r"knows Cu, Au; the system also contains Fe"):
        atoms.get_potential_energy()


def test_energies_that_are_not_finite_are_errors():
    atoms = bulk("Cu")
    atoms.calc = JaxMLP(METAL, {"a": jnp.asarray(jnp.nan), "b": PARAMS["b"]})
    with pytest.raises(CalculationFailed, match="the energy is nan"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("options", [{"skin": -1.0}, {"skin": float("nan")}, {"precision": "half"}, {"block": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        calculator(**options)


@pytest.mark.shared
def test_a_published_model_with_charges_gives_the_reference_numbers(shared):
    calc = JaxMLP.from_file(shared / "reference/nep/models/PbTe_qNEP_charge2.txt")
    cases = np.load(shared / "reference/nep/cases/PbTe_qNEP_charge2.npz")
    case = {name[4:]: cases[name] for name in cases.files if name.startswith("c00_")}
    atoms = Atoms(case["numbers"], case["positions"], cell=case["cell"], pbc=True, calculator=calc)
    # The reference writes 2 pi with nine digits.
    assert atoms.get_potential_energy() == pytest.approx(float(case["energy"]), abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), case["forces"], atol=1e-6)
    virial = (case["virial"] + case["virial"].T) / 2
    np.testing.assert_allclose(-atoms.get_stress(voigt=False) * atoms.get_volume(), virial, atol=1e-6)
    atoms.set_cell(atoms.cell.array * 1.3, scale_atoms=True)  # more k vectors than the calculator was prepared for
    grown = atoms.get_potential_energy()
    atoms.calc = JaxMLP(calc.potential, calc.params)
    assert atoms.get_potential_energy() == pytest.approx(grown, rel=1e-12)
