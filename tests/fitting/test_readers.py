"""Files with numbers computed by hand, round trips, and the sign of virials against energy differences."""

import gzip

import ase
import ase.io
import jax
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import jaxmlp as jm
from jaxmlp.fitting.data.readers import iterate_structures, read_structures
from jaxmlp.formats.errors import FormatError
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.units import GPa, bohr, hartree

XYZ = """2
Lattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.5 {more} pbc="T T T"
Ar 0.0 0.0 0.0 0.1 0.2 0.3
Ne 1.0 1.5 2.0 -0.1 -0.2 -0.3
"""
W = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])  # eV; the volume is 120 Å^3
W_NINE = "1 0.1 0.2 0.1 2 0.3 0.2 0.3 3"

CFG = """BEGIN_CFG
 Size
    2
 Supercell
    4 0 0
    0 5 0
    0 0 6
 AtomData:  id type cartes_x cartes_y cartes_z fx fy fz charge
    1 0 0.0 0.0 0.0 0.1 0.2 0.3 0.5
    2 1 1.0 1.5 2.0 -0.1 -0.2 -0.3 -0.5
 Energy
    -3.5
 PlusStress:  xx yy zz yz xz xy
    1 2 3 0.3 0.2 0.1
 Feature   EFS_by   VASP
 Feature   config_type  liquid
END_CFG

BEGIN_CFG
 Size
    1
 AtomData:  id type cartes_x cartes_y cartes_z
    1 1 0.0 0.0 0.0
END_CFG
"""

N2P2 = """begin
comment two atoms
lattice 4 0 0
lattice 0 5 0
lattice 0 0 6
atom 0.0 0.0 0.0 Ar 0.0 0.0 0.1 0.2 0.3
atom 1.0 1.5 2.0 Ne 0.0 0.0 -0.1 -0.2 -0.3
energy -3.5
charge 0.0
end
begin
atom 0 0 0 Ar 0.25 0 0 0 0
energy -1
charge 0.25
end
"""


@pytest.fixture
def write(tmp_path):
    def file(name: str, text: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    return file


def two_atoms(structure, *, virial=True):
    """What all the files above say."""
    assert structure.system.numbers.tolist() == [18, 10]
    np.testing.assert_allclose(structure.system.R, [[0, 0, 0], [1, 1.5, 2]])
    np.testing.assert_allclose(structure.system.box, np.diag([4, 5, 6]))
    assert structure.energy == -3.5
    np.testing.assert_allclose(structure.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    if virial:
        np.testing.assert_allclose(structure.virial, W, rtol=1e-12)
    else:
        assert structure.virial is None


@pytest.mark.parametrize(
    "label",
    [
        f'virial="{W_NINE}"',
        f'virials="{W_NINE}"',
        f'Virial="{W_NINE}"',
        'stress="' + " ".join(str(-float(w) / 120) for w in W_NINE.split()) + '"',
        'stress="' + " ".join(str(-w / 120) for w in (1, 2, 3, 0.3, 0.2, 0.1)) + '"',
        f'virial="{W_NINE}" stress="' + " ".join(f"{-float(w) / 120:.4f}" for w in W_NINE.split()) + '"',
    ],
)
def test_virial_and_stress_of_extended_xyz_in_all_spellings(write, label):
    (structure,) = read_structures(write("a.xyz", XYZ.format(more=label)))
    two_atoms(structure)


def test_gzip_groups_weights_and_missing_labels(tmp_path):
    text = XYZ.format(more="config_type=liquid config_weight=2.5") + "1\n\nAr 0 0 0\n\n"
    with gzip.open(tmp_path / "a.xyz.gz", "wt") as file:
        file.write(text)
    first, second = read_structures(tmp_path / "a.xyz.gz")
    two_atoms(first, virial=False)
    assert (first.group, first.weight) == ("liquid", 2.5)
    assert second.energy is None
    assert second.forces is None
    assert (second.group, second.weight, second.system.box) == ("all", 1.0, None)
    assert second.name.endswith("a.xyz.gz, structure 1")


def test_labels_under_other_names(write):
    text = XYZ.format(more='REF_energy=-7.25 free_energy=-3.6 REF_stress="1 2 3 4 5 6" stress="0 0 0 0 0 0"')
    path = write("a.xyz", text.replace(":forces:R:3", ":REF_forces:R:3"))
    (plain,) = read_structures(path)
    assert (plain.energy, plain.forces) == (-3.5, None)
    named = read_structures(path, energy="REF_energy", forces="REF_forces", stress="REF_stress")[0]
    assert named.energy == -7.25
    assert named.forces[1, 2] == -0.3
    np.testing.assert_allclose(named.virial, -120 * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]))
    assert read_structures(path, energy="free_energy")[0].energy == -3.6


def test_keywords_of_gpumd_in_any_case(write):
    text = XYZ.format(more="").replace("Lattice", "lattice").replace("Properties", "properties")
    text = text.replace("energy", "Energy").replace("forces", "force")
    two_atoms(read_structures(write("train.xyz", text))[0], virial=False)


def test_units_convert_all_labels(write):
    label = (
        f'virial="{W_NINE}" dipole="1 0 0" stress="' + " ".join(str(-w / 120) for w in (1, 2, 3, 0.3, 0.2, 0.1)) + '"'
    )
    path = write("a.xyz", XYZ.format(more=label))
    (s,) = read_structures(path, units={"length": "Bohr", "energy": "Hartree"})
    assert s.energy == pytest.approx(-3.5 * hartree)
    np.testing.assert_allclose(s.system.R[1], np.array([1, 1.5, 2]) * bohr)
    np.testing.assert_allclose(s.system.box, np.diag([4, 5, 6]) * bohr)
    np.testing.assert_allclose(s.forces[0], np.array([0.1, 0.2, 0.3]) * 51.42206747, rtol=1e-8)  # CODATA 2018
    np.testing.assert_allclose(s.virial, W * hartree)
    np.testing.assert_allclose(s.dipole, [bohr, 0, 0])
    mixed = read_structures(path, units={"forces": "Hartree/Bohr", "dipole": "Debye"}, virial="none")[0]
    assert mixed.energy == -3.5
    assert mixed.forces[0, 0] == pytest.approx(5.142206747)
    assert mixed.dipole[0] == pytest.approx(0.2081943)
    gpa = read_structures(path, units={"stress": "GPa"}, virial="none")[0]
    np.testing.assert_allclose(gpa.virial, W * GPa)
    kcal = read_structures(path, units={"energy": "kcal/mol"})[0]
    assert kcal.energy == pytest.approx(-3.5 / 23.060548)


def test_contradicting_virial_and_stress(write):
    label = f'virial="{W_NINE}" stress="' + " ".join(str(w / 120) for w in (1, 2, 3, 0.3, 0.2, 0.1)) + '"'
    with pytest.raises(FormatError, match=r"structure 0: virial and stress contradict each other.*6 eV.*-6 eV"):
        read_structures(write("a.xyz", XYZ.format(more=label)))


def test_database_of_ase(tmp_path):
    from ase.db import connect

    atoms = ase.Atoms("ArNe", [[0, 0, 0], [1, 1.5, 2]], cell=[4, 5, 6], pbc=True)
    forces = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    stress = -W[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / 120
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=forces, stress=stress)
    for name in ("a.db", "a.json"):
        with connect(tmp_path / name) as database:
            database.write(atoms, config_type="liquid", ref_energy=-2.0, data={"ref_forces": 2 * forces})
        (s,) = read_structures(tmp_path / name)
        two_atoms(s)
        assert s.group == "liquid"
        (other,) = read_structures(tmp_path / name, energy="ref_energy")
        assert other.energy == -2.0
    ase.io.write(tmp_path / "a.traj", [atoms, atoms])
    for s in read_structures(tmp_path / "a.traj"):
        two_atoms(s)


def test_mlip(write):
    path = write("a.cfg", CFG)
    first, second = read_structures(path, type_map=["Ar", "Ne"])
    two_atoms(first)
    assert first.group == "liquid"
    np.testing.assert_allclose(first.charges, [0.5, -0.5])
    assert second.system.numbers.tolist() == [10]
    assert (second.energy, second.forces, second.virial, second.system.box) == (None, None, None, None)
    assert read_structures(path, type_map={0: "Ar", 1: "Ne"}, group="EFS_by")[0].group == "VASP"


def test_mlip_fractional_positions_and_another_order_of_columns(write):
    text = CFG.replace("cartes", "direct").replace("2 1 1.0 1.5 2.0", "2 1 0.25 0.3 0.333333333333333333")
    text = text.replace("xx yy zz yz xz xy\n    1 2 3 0.3 0.2 0.1", "xx yy zz xy xz yz\n    1 2 3 0.1 0.2 0.3")
    two_atoms(read_structures(write("a.cfg", text.split("\n\n")[0]), type_map=["Ar", "Ne"])[0])


def test_n2p2(write):
    path = write("input.data", N2P2)
    first, second = read_structures(path)
    two_atoms(first, virial=False)
    assert first.charges is None
    assert second.charges.tolist() == [0.25]
    assert second.system.pbc == (False, False, False)
    atomic = read_structures(path, units={"length": "Bohr", "energy": "Hartree"})[0]
    assert atomic.forces[0, 0] == pytest.approx(5.142206747)


def deepmd_system(folder, *, mixed=False, nopbc=False):
    """Two frames in two sets: the two atoms, and the same with twice the labels."""
    for k, factor in enumerate((1.0, 2.0)):
        part = folder / f"set.{k:03d}"
        part.mkdir(parents=True)
        pad = 3 * mixed
        np.save(part / "coord.npy", np.array([[0, 0, 0, 1, 1.5, 2] + [9.0] * pad]))
        np.save(part / "force.npy", factor * np.array([[0.1, 0.2, 0.3, -0.1, -0.2, -0.3] + [0.0] * pad]))
        np.save(part / "energy.npy", factor * np.array([-3.5]))
        np.save(part / "virial.npy", factor * W.reshape(1, 9))
        if not nopbc:
            np.save(part / "box.npy", np.diag([4.0, 5, 6]).reshape(1, 9))
        if mixed:
            np.save(part / "real_atom_types.npy", np.array([[1, 0, -1]]))
    (folder / "type.raw").write_text("0 0 0" if mixed else "1\n0\n")
    (folder / "type_map.raw").write_text("Ne\nAr\n")
    if nopbc:
        (folder / "nopbc").touch()


@pytest.mark.parametrize("mixed", [False, True])
def test_deepmd(tmp_path, mixed):
    deepmd_system(tmp_path / "data" / "a", mixed=mixed)
    first, second = read_structures(tmp_path / "data" / "a")
    two_atoms(first)
    assert (first.group, second.energy) == ("all", -7.0)
    deepmd_system(tmp_path / "data" / "deep" / "b", nopbc=True)
    everything = read_structures(tmp_path / "data")
    assert [s.group for s in everything] == ["a", "a", "deep/b", "deep/b"]
    assert everything[2].system.box is None
    (tmp_path / "data" / "a" / "type_map.raw").unlink()
    two_atoms(read_structures(tmp_path / "data" / "a", type_map=["Ne", "Ar"])[0])
    with pytest.raises(ValueError, match=r"a has no type_map.raw. Name the elements"):
        read_structures(tmp_path / "data" / "a")


def test_virials_of_all_formats_are_minus_the_derivative_of_the_energy(tmp_path):
    """A compressed Lennard-Jones crystal, its virial by finite differences, written as each format has it."""
    rng = np.random.default_rng(0)
    atoms = ase.Atoms(
        "Ar4", cell=[5.0, 5.1, 5.2], pbc=True, scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    atoms.rattle(0.1, rng=rng)
    system = jm.System.from_ase(atoms)
    potential, params = lennard_jones([18], 0.0104, 3.4, 6.0, truncation="force-shifted")
    energy = jax.jit(jm.energy_fn(potential, system))
    h, V = 1e-5, np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] = h
        up, down = (np.eye(3) + s * strain for s in (1, -1))
        E = [float(energy(system.R @ F, system.box @ F, params)) for F in (up, down)]
        V[a, b] = -(E[0] - E[1]) / (2 * h)
    assert np.trace(V) > 1  # compressed, hence positive
    forces = np.asarray(jax.jit(jm.forces(energy))(system.R, system.box, params))
    E = float(energy(system.R, system.box, params))
    s = -V / system.volume
    atoms.calc = SinglePointCalculator(atoms, energy=E, forces=forces, stress=s[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    rows = "\n".join(" ".join(map(repr, map(float, (*r, *f)))) for r, f in zip(system.R, forces)).splitlines()
    cell = "\n".join(" ".join(map(str, v)) for v in system.box)
    (tmp_path / "a.cfg").write_text(
        f"BEGIN_CFG\nSize\n4\nSupercell\n{cell}\nAtomData: type cartes_x cartes_y cartes_z fx fy fz\n"
        + "".join(f"0 {row}\n" for row in rows)
        + f"Energy\n{E}\nPlusStress: xx yy zz yz xz xy\n"
        + " ".join(str(float(V[i, j])) for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)))
        + "\nEND_CFG\n"
    )
    part = tmp_path / "deepmd" / "set.000"
    part.mkdir(parents=True)
    (tmp_path / "deepmd" / "type.raw").write_text("0 0 0 0")
    for name, x in (("coord", system.R), ("box", system.box), ("energy", [E]), ("force", forces), ("virial", V)):
        np.save(part / f"{name}.npy", np.asarray(x).reshape(1, -1))
    for name in ("a.xyz", "a.cfg", "deepmd"):
        options = {} if name == "a.xyz" else {"type_map": ["Ar"]}
        (read,) = read_structures(tmp_path / name, **options)
        np.testing.assert_allclose(read.virial, (V + V.T) / 2, atol=1e-6)  # digits of the extended XYZ file
        np.testing.assert_allclose(read.forces, forces, atol=1e-7)
        assert read.energy == pytest.approx(E, abs=1e-7)


def test_streaming_stops_early(write):
    path = write("a.xyz", XYZ.format(more="") + "not a number\n")
    stream = iterate_structures(path)
    two_atoms(next(stream), virial=False)
    with pytest.raises(FormatError, match=r"a.xyz, line 5: expected the number of atoms of structure 1"):
        next(stream)


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("a.xyz", XYZ.format(more="").rsplit("\n", 2)[0], {}, r"line 1: structure 0 has 2 atoms, but the file ends"),
        ("a.xyz", XYZ.format(more="").replace("Ne 1.0", "Ne x"), {}, r"line 1: structure 0: .*'x'"),
        ("a.xyz", XYZ.format(more="").replace("Ne 1.0", "Ne nan"), {}, r"structure 0: positions must be finite"),
        ("a.xyz", XYZ.format(more="").replace("Ne", "Qq"), {}, r"line 1: structure 0: .*Qq"),
        ("a.xyz", XYZ.format(more='virial="1 2 3"'), {}, r"structure 0: .*virial"),
        ("a.xyz", XYZ.format(more='REF_virial="1 2 3"'), {"virial": "REF_virial"}, r"of 6 .* or 9 numbers, found 3"),
        ("a.xyz", XYZ.format(more="").replace("-3.5", "unknown"), {}, r"expected numbers as energy, found 'unknown'"),
        ("a.xyz", '1\nstress="1 1 1 0 0 0"\nAr 0 0 0\n', {}, r"structure 0: a stress needs a volume"),
        ("a.cfg", CFG, {}, r'elements of a .cfg file are numbers from 0. Name them: type_map=\["Si", "O"\]'),
        ("a.cfg", CFG, {"type_map": ["Ar"]}, r"line 1: .* atoms of type 1; type_map has no element for it"),
        ("a.cfg", CFG.replace("-0.3 -0.5", "-0.3"), {"type_map": ["Ar", "Ne"]}, r"line 10: expected atom 2 of 2 \(9"),
        ("a.cfg", CFG.replace("PlusStress", "Stress"), {"type_map": ["Ar", "Ne"]}, r"line 13: expected PlusStress:"),
        ("a.cfg", CFG.rsplit("END_CFG", 1)[0], {"type_map": ["Ar", "Ne"]}, r"line 23: .*truncated"),
        ("a.cfg", CFG.replace("charge", "chrge"), {"type_map": ["Ar", "Ne"]}, r"line 8: expected the names of columns"),
        ("input.data", N2P2.replace("Ne", "Qq"), {}, r"line 7: expected the symbol of an element \(word 5\)"),
        ("input.data", N2P2.replace("lattice 0 0 6\n", ""), {}, r"line 1: expected 3 lattice vectors or none, found 2"),
        ("input.data", N2P2.rsplit("end", 1)[0], {}, r"line 11: expected `end` of the structure that begins here"),
        ("input.data", N2P2.replace("energy -1", "enrgy -1"), {}, r"line 13: expected comment, lattice, atom, energy"),
        ("input.data", N2P2, {"energy": "REF_energy"}, r"the format n2p2 fixes the names of its labels; remove energy"),
        ("a.xyz", XYZ, {"units": {"length": "feet"}}, r"length can be in .*bohr.*; got 'feet'"),
        ("a.xyz", XYZ, {"units": {"time": "fs"}}, r"units are those of length, energy, .*; got \['time'\]"),
        ("a.xyz", XYZ, {"format": "xzy"}, r"format must be one of extxyz, .*; got 'xzy'"),
        ("a.xyz", XYZ, {"type_map": "Si"}, r"type_map is a list of symbols"),
        ("a.xyz", "", {}, r"expected structures, found an empty file"),
        ("a.txt", "once upon a time\n", {}, r"a.txt: structure 0, read by ASE"),
    ],
)  # fmt: skip
def test_bad_files_and_options(write, name, text, options, message):
    with pytest.raises(ValueError, match=message):
        read_structures(write(name, text), **options)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        iterate_structures(tmp_path / "nowhere.xyz")
    with pytest.raises(FormatError, match=r"of a folder, DeePMD-kit systems"):
        read_structures(tmp_path)
    whole = gzip.compress(XYZ.format(more="").encode() * 50)
    (tmp_path / "a.xyz.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"the gzip file is damaged"):
        read_structures(tmp_path / "a.xyz.gz")
    deepmd_system(tmp_path / "d")
    np.save(tmp_path / "d" / "set.001" / "force.npy", np.zeros((1, 5)))
    with pytest.raises(FormatError, match=r"set.001/force.npy: expected 1 frames of 6 numbers, found float64 \(1, 5\)"):
        read_structures(tmp_path / "d")


@pytest.mark.shared
def test_published_set(shared):
    structures = read_structures(shared / "data" / "mlearn_Mo" / "test.xyz.gz")
    assert len(structures) == 23
    assert {s.group for s in structures} == {"Surface", "Elastic", "Vacancy", "AIMD-NVT"}
    assert all(s.virial is not None and s.forces is not None for s in structures)
