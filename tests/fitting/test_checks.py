"""Sound data pass, and every fault that is put into them is found and named."""

import numpy as np
import pytest

from jaxmlp.fitting.data.checks import check_structures, raise_errors, report
from jaxmlp.fitting.data.readers import read_structures
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.system import System
from jaxmlp.units import GPa, bohr, hartree

LATTICE = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
STIFFNESS = 5.0  # eV/Å^2, of springs to the lattice sites
BULK = 2.0  # eV for a strain of 1, each diagonal component
E0 = -100.0  # eV per atom


def crystal(rng, k, *, strain=0.0, amplitude=0.1, group="md"):
    """Four nickel atoms on springs to their sites: energy, forces and virial are exact derivatives of each other."""
    F = np.eye(3) + np.diag(strain * rng.normal(size=3))
    box = 3.5 * F
    u = amplitude * rng.normal(size=(4, 3))
    u -= u.mean(axis=0)
    logarithm = np.log(np.diag(F))
    energy = 4 * E0 + 0.5 * STIFFNESS * (u**2).sum() + 0.5 * BULK * (logarithm**2).sum()
    # The springs are isotropic in the displacement in Å; under strain u scales with the cell.
    virial = -np.diag(BULK * logarithm) - STIFFNESS * u.T @ u
    system = System(np.full(4, 28), LATTICE @ box + u, box)
    return Structure(system, energy, -STIFFNESS * u, virial, group=group, source=f"set.xyz, structure {k}")


@pytest.fixture
def sound():
    rng = np.random.default_rng(0)
    moved = [crystal(rng, k) for k in range(20)]
    return moved + [crystal(rng, k, strain=0.02, amplitude=0.0, group="elastic") for k in range(20, 40)]


def kinds(findings):
    return {(f.structure, f.kind, f.severity) for f in findings}


def test_sound_data_pass(sound):
    assert check_structures(sound) == []
    assert report([]) == "nothing found"
    raise_errors([])
    assert check_structures([]) == []


def test_labels_that_are_not_finite(sound):
    forces = sound[3].forces.copy()
    forces[2, 1] = np.nan
    sound[3] = sound[3].replace(forces=forces)
    sound[7] = sound[7].replace(energy=np.inf)
    findings = check_structures(sound)
    assert kinds(findings) == {(3, "labels", "error"), (7, "labels", "error")}
    with pytest.raises(ValueError, match=r"2 error\(s\):\n.*structure 3: the forces of atom 2 is NaN") as error:
        raise_errors(findings)
    assert "structure 7: the energy is NaN or infinite" in str(error.value)


def test_missing_labels(sound):
    without = [s.replace(energy=None, forces=None) for s in sound]
    messages = [f.message for f in check_structures(without)]
    assert len(messages) == 2
    assert "neither this nor any other structure has energy" in messages[0]


def test_atoms_on_top_of_each_other(sound):
    R = sound[5].system.R.copy()
    R[3] = R[1] + sound[5].system.box[0] + [0, 0, 0.3]  # through the boundary
    sound[5] = sound[5].replace(system=sound[5].system.replace(R=R))
    (finding,) = [f for f in check_structures(sound) if f.kind == "contact"]
    assert (finding.structure, finding.severity) == (5, "error")
    assert "set.xyz, structure 5: the atoms Ni 1 and Ni 3 are 0.300 Å apart" in finding.message


def test_contacts_of_an_atom_with_its_own_image_and_collisions_on_purpose():
    thin = Structure(System(np.array([28]), np.zeros((1, 3)), np.diag([0.7, 9, 9])))
    dimer = Structure(System(np.array([28, 28]), [[0, 0, 0], [0, 0, 0.7]]))
    found = check_structures([thin, dimer])
    assert {(f.structure, f.severity) for f in found if f.kind == "contact"} == {(0, "error"), (1, "error")}
    assert not [f for f in check_structures([thin, dimer], contact=0) if f.kind == "contact"]


def test_copies_and_contradictions(sound):
    moved = sound[4].system.R + 3e-5  # a file with four decimals
    copy = sound[4].replace(source="b", system=sound[4].system.replace(R=moved))
    other = sound[8].replace(energy=sound[8].energy + 0.1, source="c")
    findings = check_structures([*sound, copy, other])
    assert kinds(findings) == {(40, "duplicate", "warning"), (41, "duplicate", "error")}
    assert "b: a copy of set.xyz, structure 4" in findings[0].message
    assert "c: the same atoms at the same positions as set.xyz, structure 8" in findings[1].message
    assert "energy by 0.025" in findings[1].message


def test_forces_that_do_not_sum_up_to_zero(sound):
    noise = sound[1].forces + 1e-3
    drift = sound[2].forces + 0.03
    broken = sound[3].forces + np.array([1.0, 0, 0])
    for k, forces in ((1, noise), (2, drift), (3, broken)):
        sound[k] = sound[k].replace(forces=forces)
    found = [f for f in check_structures(sound) if f.kind == "net force"]
    # |sum F| / sqrt(4) = 2 sqrt(3) 0.03 = 0.104 eV/Å, and 2 eV/Å
    assert kinds(found) == {(2, "net force", "warning"), (3, "net force", "error")}
    assert "0.104 eV/Å" in found[0].message


def test_virials_that_are_not_symmetric(sound):
    sound[2] = sound[2].replace(virial=sound[2].virial + np.array([[0, 5.0, 0], [0, 0, 0], [0, 0, 0]]))
    (finding,) = [f for f in check_structures(sound) if f.kind == "virial"]
    assert (finding.structure, finding.severity) == (2, "error")


def test_cells():
    small = Structure(System(np.array([6] * 2), [[0, 0, 0], [0, 0, 1.0]], 1.0 * np.diag([1.0, 1.0, 0.2])))
    large = Structure(System(np.array([6]), np.zeros((1, 3)), 100 * np.eye(3)))
    found = {(f.structure, f.kind, f.severity) for f in check_structures([small, large], contact=0)}
    assert {(0, "cell", "error"), (1, "cell", "warning")} <= found


def test_free_clusters_among_periodic_copies(sound):
    sound[6] = sound[6].replace(system=System(sound[6].system.numbers, sound[6].system.R))
    (finding,) = [f for f in check_structures(sound) if f.kind == "cell"]
    assert finding.structure == 6
    assert "Is a lattice missing?" in finding.message


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1 / hartree, "Is it in Hartree rather than eV"), (hartree, "eV, where the others are in Hartree")],
)
def test_energies_of_a_few_structures_in_another_unit(sound, factor, words):
    for k in (2, 11, 30):
        sound[k] = sound[k].replace(energy=sound[k].energy * factor)
    found = [f for f in check_structures(sound) if "fit" in f.message]
    assert kinds(found) == {(k, "units", "error") for k in (2, 11, 30)}
    assert words in found[0].message


def test_energy_outliers(sound):
    sound[9] = sound[9].replace(energy=sound[9].energy + 60.0)
    (finding,) = [f for f in check_structures(sound) if f.kind == "energy"]
    assert (finding.structure, finding.severity) == (9, "warning")
    assert "15 eV" in finding.message


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (-1.0, "the forces have the wrong sign"),
        (bohr / hartree, "forces in Hartree/Bohr, energies in eV?"),
        (bohr, "forces per Bohr, positions in Å?"),
        (hartree / bohr, "the opposite of forces in Hartree/Bohr"),
        (-bohr / hartree, "forces in Hartree/Bohr, energies in eV, with the wrong sign?"),
    ],
)
def test_all_forces_in_another_unit_or_of_other_sign(sound, factor, words):
    wrong = [s.replace(forces=factor * s.forces) for s in sound]
    (finding,) = check_structures(wrong)
    assert (finding.kind, finding.severity) == ("units", "error")
    assert words in finding.message


@pytest.mark.parametrize(
    ("factor", "words"), [(-1.0, "the virials have the wrong sign"), (1 / GPa, "a stress in GPa taken for eV/Å^3?")]
)
def test_all_virials_in_another_unit_or_of_other_sign(sound, factor, words):
    wrong = [s.replace(virial=factor * s.virial) for s in sound]
    (finding,) = check_structures(wrong)
    assert (finding.kind, finding.severity) == ("units", "error")
    assert words in finding.message


def test_forces_of_a_few_structures_in_another_unit(sound):
    for k in (2, 9, 15):
        sound[k] = sound[k].replace(forces=sound[k].forces * bohr / hartree)
    found = [f for f in check_structures(sound[:20]) if "from here on" in f.message]
    assert kinds(found) == {(2, "units", "error")}
    assert "forces of 3 structure(s)" in found[0].message
    assert "Hartree/Bohr rather than eV/Å" in found[0].message


def test_rotated_molecules_are_compared_in_one_frame():
    """A molecule on springs between its atoms; each structure is turned at random."""
    rng = np.random.default_rng(1)
    sites = np.array([[0, 0, 0], [1.2, 0, 0], [0, 1.3, 0], [0, 0, 1.4]])
    structures = []
    for k in range(20):
        R = sites + 0.03 * rng.normal(size=(4, 3))
        d = R[:, None] - R
        r = np.linalg.norm(d, axis=2) + np.eye(4)
        r0 = np.linalg.norm(sites[:, None] - sites, axis=2) + np.eye(4)
        energy = 0.25 * 20.0 * ((r - r0) ** 2).sum()
        forces = -20.0 * ((r - r0) / r)[:, :, None] * d
        Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        Q = Q * np.sign(np.linalg.det(Q))
        system = System(np.array([6, 1, 1, 1]), R @ Q + rng.normal(size=3))
        structures.append(Structure(system, energy, forces.sum(axis=1) @ Q, source=str(k)))
    assert check_structures(structures) == []
    wrong = [s.replace(forces=-s.forces) for s in structures]
    assert "the forces have the wrong sign" in report(check_structures(wrong))


def test_report_is_short(sound):
    findings = check_structures([*sound, *sound])
    lines = report(findings, most=3).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "warning (duplicate): and 37 more like these."


@pytest.mark.shared
@pytest.mark.parametrize("name", ["carbon_wang2024/test", "mlearn_Mo/train", "si_gap18_subset/train", "pbte_nep/train"])
def test_published_sets_have_no_findings(shared, name):
    assert check_structures(read_structures(shared / "data" / f"{name}.xyz.gz")) == []


@pytest.mark.shared
def test_published_virials_of_the_wrong_sign_are_found(shared):
    structures = read_structures(shared / "data" / "mlearn_Mo" / "train.xyz.gz")
    wrong = [s.replace(virial=-s.virial) for s in structures]
    (finding,) = check_structures(wrong)
    assert "the virials have the wrong sign" in finding.message
