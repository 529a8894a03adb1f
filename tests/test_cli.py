"""The command line: what it prints and writes, its exit codes, its one-line errors."""

import inspect
import json
import subprocess
import sys

import ase.io
import jax
import numpy as np
import pytest
from ase.build import bulk

import jaxmlp as jm
from jaxmlp.ase import JaxMLP
from jaxmlp.cli import main
from jaxmlp.commands import dynamics, quantum, running
from jaxmlp.formats import detect
from jaxmlp.md.simulation import simulation
from jaxmlp.potentials.bpnn import bpnn
from jaxmlp.potentials.mtp import MTP
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and a structure: eight atoms of silicon, disturbed."""
    folder = tmp_path_factory.mktemp("cli")
    detect.save(folder / "si.safetensors", *stillinger_weber_silicon())
    atoms = bulk("Si", a=5.5, cubic=True)
    atoms.rattle(0.05, seed=1)
    ase.io.write(folder / "si.xyz", atoms, format="extxyz")
    iron = bulk("Fe")
    ase.io.write(folder / "fe.xyz", iron, format="extxyz")
    (folder / "broken.safetensors").write_bytes((folder / "si.safetensors").read_bytes()[:-9])
    (folder / "empty.xyz").write_text("0\n\n")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def call(line: str):
        code = main(line.split())
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_info(run):
    code, out, _ = run("info si.safetensors")
    assert code == 0
    assert "StillingerWeber" in out
    assert "3.77118 Å" in out
    assert "jaxmlp's own" in out


def test_elements_of_files_that_name_none(run, folder):
    potential = MTP((14,), cutoff=4.0, level=4)
    detect.save(folder / "si.mtp", potential, potential.init(jax.random.key(0)))
    code, _, err = run("info si.mtp")
    assert code == 2
    assert "does not name its elements" in err
    code, out, _ = run("info si.mtp --species Si")
    assert code == 0
    assert "level" in out
    assert run("evaluate si.mtp si.xyz --species Si")[0] == 0
    assert run("evaluate si.mtp si.xyz --species Si,C")[0] == 2


def test_evaluate_writes_what_the_calculator_gives(run, folder):
    code, out, _ = run("evaluate si.safetensors si.xyz -o out.xyz")
    assert code == 0
    assert "pressure (GPa)" in out
    atoms = ase.io.read(folder / "out.xyz")
    expected = ase.io.read(folder / "si.xyz")
    expected.calc = JaxMLP(*stillinger_weber_silicon())
    # The file has eight digits.
    assert atoms.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=1e-7)
    np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), atol=1e-7)
    code, out, _ = run("evaluate si.safetensors out.xyz")
    assert "energies in the files: RMS difference 0.000 meV/atom" in out
    assert "forces in the files: RMS difference 0.000000 eV/Å" in out


def test_relax(run, folder):
    code, out, _ = run("relax si.safetensors si.xyz --cell -o relaxed.xyz")
    assert code == 0
    assert "converged" in out
    assert "-4.336600 eV/atom" in out
    relaxed = ase.io.read(folder / "relaxed.xyz")
    np.testing.assert_allclose(relaxed.cell.lengths(), 5.431, atol=2e-3)
    code, out, err = run("relax si.safetensors si.xyz --cell --steps 2")
    assert code == 1
    assert "NOT converged" in out
    assert err.startswith("jaxmlp: no force below")


def test_md_restarts_bit_for_bit(run, folder):
    common = "--log-every 10 --checkpoint-every 20"
    code, out, _ = run(f"md si.safetensors si.xyz --steps 40 {common} --log all.csv -o all.xyz --trajectory all.h5")
    assert code == 0
    assert "second half" in out
    assert run(f"md si.safetensors si.xyz --steps 20 {common} --checkpoint run.ckpt")[0] == 0
    assert run(f"md si.safetensors --restart run.ckpt --steps 20 {common} --log rest.csv -o rest.xyz")[0] == 0
    assert (folder / "all.xyz").read_text() == (folder / "rest.xyz").read_text()
    rows = (folder / "all.csv").read_text().splitlines()
    assert rows[0].startswith("step,time,")
    assert rows[-2:] == (folder / "rest.csv").read_text().splitlines()[-2:]


def columns(file):
    """Read a log."""
    return np.genfromtxt(file, delimiter=",", names=True)


def test_md_of_a_cell_that_changes_its_shape(run, folder):
    ramps = "--temperature 300 --temperature-end 600 --pressure 1 --pressure-end 2"
    cell = "--bulk-modulus 100 --tau-pressure 50 --tau 50 --cell triclinic"
    line = f"md si.safetensors si.xyz --ensemble npt-berendsen {ramps} {cell} --steps 60 --log-every 1 --log npt.csv"
    code, out, err = run(line)
    assert code == 0
    assert err.startswith("jaxmlp: weak coupling")
    assert err.count("\n") == 1
    for words in ("potential energy (eV/atom)", "pressure (GPa)", "volume (Å^3/atom)", "standard error"):
        assert words in out
    log = columns(folder / "npt.csv")
    box = np.stack([[log[f"box_{i}{j}"] for j in "xyz"] for i in "xyz"])
    np.testing.assert_allclose(np.linalg.det(np.moveaxis(box, 2, 0)), log["volume"], rtol=1e-12)
    assert np.ptp(log["box_xy"]) > 0


def test_md_with_colored_noise_and_atoms_held_fixed(run, folder):
    (folder / "gle.txt").write_text("# 1/fs\n0.01 0.02\n-0.02 0.03\n")
    code, _, _ = run("md si.safetensors si.xyz --ensemble gle --gle-file gle.txt --fixed 0-2,5 --steps 20 -o gle.xyz")
    assert code == 0
    moved = np.abs(ase.io.read(folder / "gle.xyz").positions - ase.io.read(folder / "si.xyz").positions).max(axis=1)
    assert np.flatnonzero(moved < 1e-7).tolist() == [0, 1, 2, 5]  # the file has eight digits


def test_a_log_without_rows(run):
    code, out, _ = run("md si.safetensors si.xyz --steps 20 --checkpoint short.ckpt")
    assert code == 0
    assert "errors need 10 independent rows" in out
    code, out, _ = run("md si.safetensors --restart short.ckpt --steps 20")
    assert code == 0
    assert "none of them was a multiple of --log-every" in out


def test_pimd_restarts_bit_for_bit(run, folder):
    common = "--log-every 1 --checkpoint-every 20"
    files = "--log pimd.csv -o pimd.xyz --trajectory beads.xyz"
    code, out, _ = run(f"pimd si.safetensors si.xyz --beads 4 --steps 40 {common} {files}")
    assert code == 0
    assert "kinetic energy, centroid virial (eV/atom)" in out
    assert "kinetic energy, primitive (eV/atom)" in out
    assert len(ase.io.read(folder / "beads.xyz", ":")[-1]) == 8
    assert run(f"pimd si.safetensors si.xyz --beads 4 --steps 20 {common} --checkpoint pimd.ckpt")[0] == 0
    assert run(f"pimd si.safetensors --restart pimd.ckpt --steps 20 {common} --log rest.csv -o rest.xyz")[0] == 0
    assert (folder / "pimd.xyz").read_text() == (folder / "rest.xyz").read_text()
    assert (folder / "pimd.csv").read_text().splitlines()[-20:] == (folder / "rest.csv").read_text().splitlines()[-20:]

    line = "--mode rpmd --beads-from pimd.ckpt --beads 4 --steps 10 --log-every 1 --log rpmd.csv"
    assert run(f"pimd si.safetensors si.xyz {line}")[0] == 0
    before, after = columns(folder / "pimd.csv"), columns(folder / "rpmd.csv")
    assert after["potential"][0] == pytest.approx(before["potential"][20], abs=1e-9)  # the same beads
    np.testing.assert_allclose(after["conserved"], after["conserved"][0], atol=1e-3)  # no thermostat; 8 atoms


def test_options_are_arguments_of_the_functions_they_belong_to():
    """Every option of every ensemble and mode, together, is understood where it ends up."""
    pimd = {"thermostat": "pile_g", "pressure": 1.0, "barostat": "rescaling"}
    piglet = {"thermostat": "piglet"}
    kinds = [*dynamics.ENSEMBLES.values(), *quantum.DYNAMICS.values()]
    kinds += [quantum._kind("pimd", given)[0] for given in ({}, pimd, piglet)]
    known = set(inspect.signature(simulation).parameters)
    for kind in kinds:
        names = {*running.COMMON, *kind.takes, *kind.needs}
        values = dict.fromkeys(names - {"fixed", "bonds", "gle_file"}, 1.0)
        arguments = {**running.keywords(values, 10), **dict.fromkeys(names & {"fixed", "bonds"})}
        assert set(arguments) <= set(inspect.signature(getattr(jm.md, kind.function)).parameters) | known
        assert not {"temperature_end", "pressure_end"} & set(arguments)


def test_units_of_options():
    out = running.keywords({"pressure": 2.0, "pressure_end": 3.0, "bulk_modulus": 100.0, "fixed": "1-3,7"}, 50)
    assert out["pressure"] == jm.md.Ramp(2.0 / 160.2176634, 3.0 / 160.2176634, 50)
    assert out["compressibility"] == pytest.approx(1.602176634)
    assert out["fixed"] == [1, 2, 3, 7]


def test_md_that_diverges_fails_with_one_line(run):
    code, _, err = run("md si.safetensors si.xyz --ensemble nve --temperature 3000 --dt 100 --steps 50")
    assert code == 1
    assert err.startswith("jaxmlp: at step")
    assert err.count("\n") == 1


def test_convert(run, folder):
    assert run("convert si.safetensors si.sw")[0] == 0
    potential, _ = detect.load(folder / "si.sw")
    assert potential == stillinger_weber_silicon()[0]
    code, _, err = run("convert si.safetensors si.doc")
    assert code == 2
    assert "cannot tell from the name" in err


def test_check_writes_its_card(run, folder):
    arguments = "--section curves --json card.json --png card.png"
    code, out, _ = run(f"check si.safetensors si.xyz {arguments}")
    assert code == 0
    assert "all hard tests pass" in out
    assert json.loads((folder / "card.json").read_text())["passed"]
    assert (folder / "card.png").exists()


def test_check_of_a_bad_model_fails(run, folder):
    from jaxmlp.potentials.pair import lennard_jones

    detect.save(folder / "lj.safetensors", *lennard_jones((18,), 0.0104, 3.405, 6.0))
    code, out, err = run("check lj.safetensors --section curves")
    assert code == 1
    assert "FAIL" in out
    assert err == "jaxmlp: lj.safetensors: a hard test of the validation card fails.\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("info nothing.txt", "No such file"),
        ("info broken.safetensors", "broken.safetensors: expected a complete safetensors file"),
        ("info si.xyz", "expected a model file, found `8`"),
        ("evaluate si.safetensors fe.xyz", "knows Si; the system also contains Fe"),
        ("evaluate si.safetensors nothing.xyz", "nothing.xyz: there is no such file"),
        ("evaluate si.safetensors si.safetensors", "ASE cannot read it"),
        ("evaluate si.safetensors empty.xyz", "empty.xyz: "),
        ("md si.safetensors", "either a STRUCTURE to start from or --restart"),
        ("md si.safetensors si.xyz --dt -1", "time step in fs"),
        ("md si.safetensors si.xyz --ensemble nve --pressure 1", "--pressure does not belong to --ensemble nve"),
        ("md si.safetensors si.xyz --tau 10", "--tau does not belong to --ensemble langevin"),
        ("md si.safetensors si.xyz --ensemble npt-mtk", "--ensemble npt-mtk needs --pressure"),
        ("md si.safetensors si.xyz --ensemble npt-rescaling --pressure 0", "needs --bulk-modulus"),
        ("md si.safetensors si.xyz --ensemble npt-berendsen --pressure 0 --bulk-modulus 0", "must be positive; got 0"),
        ("md si.safetensors si.xyz --ensemble gle", "--ensemble gle needs --gle-file"),
        ("md si.safetensors si.xyz --ensemble gle --gle-file si.xyz", "expected <A shape="),
        ("md si.safetensors si.xyz --fixed 1-x", "indices of atoms are written as 0-9,12"),
        ("md si.safetensors si.xyz --fixed 0-8", "indices of atoms, 0 to 7"),
        ("md si.safetensors si.xyz --bonds si.xyz", "expected two indices of atoms in every line"),
        ("md si.safetensors --restart x.ckpt --temperature 1", "--temperature cannot be changed by a restart"),
        ("pimd si.safetensors", "either a STRUCTURE to start from or --restart"),
        ("pimd si.safetensors si.xyz --cell x", "--cell does not belong to --mode pimd without --pressure"),
        ("pimd si.safetensors si.xyz --pressure 0", "needs --bulk-modulus"),
        ("pimd si.safetensors si.xyz --mode rpmd --tau 1", "--tau does not belong to --mode rpmd"),
        ("pimd si.safetensors si.xyz --thermostat piglet", "needs --gle-file"),
        ("pimd si.safetensors si.xyz --scheme suzuki-chin --beads 3", "even number of beads"),
        ("relax si.safetensors si.xyz --pressure 1", "give --cell too"),
        ("check si.safetensors --section everything", "unknown: everything"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run, line, message):
    code, _, err = run(line)
    assert code == 2
    assert message in err
    assert err.startswith("jaxmlp: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    ["md si.safetensors si.xyz --ensemble npt", "info", "nonsense", "md si.safetensors --dtt 1", "pimd x --mode md"],
)
def test_misspelt_commands_are_refused(run, line):
    code, _, err = run(line)
    assert code == 2
    assert "Usage" in err


def test_debug_shows_where_an_error_comes_from(run):
    with pytest.raises(jm.FormatError):
        run("--debug info broken.safetensors")


@pytest.mark.parametrize(
    "command", ["info", "evaluate", "relax", "md", "pimd", "free-energy", "melt", "convert", "check", "demo"]
)
def test_help_explains_every_command(run, command):
    code, out, _ = run(f"{command} --help")
    assert code == 0
    assert "Usage" in out
    if command in ("evaluate", "relax", "md", "pimd", "demo"):
        assert any(unit in out for unit in ("eV", "fs", "GPa"))


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "jaxmlp", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "evaluate" in done.stdout


def test_a_folder_that_does_not_say_its_units(tmp_path, capsys):
    potential = bpnn((14,), 4.0, n_radial=2, n_angular=1, nodes=(2,))
    jm.save(tmp_path / "x.n2p2", potential, potential.init(jax.random.key(0)))
    file = tmp_path / "x.n2p2" / "input.nn"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "unit" not in line.lower()))
    assert main(["info", str(file.parent)]) == 2
    assert "length_unit" in capsys.readouterr().err
    assert main(["info", str(file.parent), "--units", "bohr,2.0"]) == 0
    assert "BPNN" in capsys.readouterr().out
    assert main(["info", str(file.parent), "--units", "bohr"]) == 2
    loaded = JaxMLP.from_file(file.parent, units=("bohr", 2.0)).potential
    assert loaded.cutoff == pytest.approx(4.0 * 0.529177, rel=1e-5)
    assert loaded.energy_unit == 2.0
