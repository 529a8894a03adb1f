"""Whole fits from configurations: files, errors, energies of atoms, committees, deltas, and the command line."""

import json

import ase.io
import jax
import numpy as np
import pytest
import yaml
from mixture import POTENTIAL, SPECIES, TRUE, labelled, systems, with_nan

import jaxmlp as jm
from jaxmlp import cli
from jaxmlp.fitting import FAMILIES, accuracy, build, predict_structures, read_config, subtract

DATA = labelled(systems(10))
TEST = labelled(systems(3, seed=8))
ENERGIES = dict(zip(SPECIES, (-3.0, -7.0)))
MTP = {"family": "mtp", "cutoff": 5.0, "inner": 2.0, "radial_size": 4, "level": 6}
LINEAR = {"potential": MTP, "method": "linear", "linear": {"solver": "ridge", "strength": 1e-3}}


def shifted(structures):
    return [s.replace(energy=s.energy + sum(ENERGIES[z] for z in s.system.numbers)) for s in structures]


def write_xyz(path, structures):
    frames = []
    for s in structures:
        atoms = s.system.to_ase()
        atoms.info |= {"REF_energy": s.energy, "config_type": s.group}
        atoms.arrays["REF_forces"] = s.forces
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_xyz(folder / "train.xyz", shifted(DATA))
    write_xyz(folder / "test.xyz", shifted(TEST))
    return folder


def test_a_linear_fit_from_python_holds_the_energies_of_atoms():
    fitted = jm.fit(LINEAR | {"data": {"energies": {"Ne": -3.0, "Ar": -7.0}}}, train=shifted(DATA), test=shifted(TEST))
    np.testing.assert_allclose(fitted.params["species_coeffs"], list(ENERGIES.values()), rtol=1e-12)
    s = shifted(TEST)[2]
    energy = jm.energy_fn(fitted.potential, s.system)(s.system.R, s.system.box, fitted.params)
    np.testing.assert_allclose(energy, fitted.parts["test"].predictions.energy[2], rtol=1e-10)
    again = accuracy(shifted(TEST), predict_structures(fitted.potential, fitted.params, shifted(TEST)))
    assert again.energy == fitted.parts["test"].accuracy.energy
    assert fitted.parts["train"].accuracy.energy.rmse < 0.1


def test_parameters_to_start_from_are_given_by_their_names():
    config = {"potential": {"family": "snap", "rcutfac": 4.5, "twojmax": 2}, "method": "linear"}
    train = labelled(systems(6))
    found = jm.fit(config, train=train, parameters={"weight": [0.3, 0.4]})
    np.testing.assert_array_equal(found.params["weight"], [0.3, 0.4])
    for values, message in (
        ({"weight": [0.3]}, r"shape \(2,\); got \(1,\)"),
        ({"wj": [1.0, 1.0]}, "stands for 0 arrays"),
    ):
        with pytest.raises(ValueError, match=message):
            jm.fit(config, train=train, parameters=values)


def test_a_fit_from_the_command_line_leaves_a_potential_that_other_commands_read(data, tmp_path, capsys):
    nep = {"family": "nep", "cutoff": [5.0, 4.0], "n_max": [2, 2], "basis_size": [3, 3], "l_max": [2], "neurons": 4}
    config = {
        "data": {"train": "train.xyz", "test": "test.xyz", "validation": 2,
                 "read": {"energy": "REF_energy", "forces": "REF_forces"}},
        "potential": nep | {"version": 5}, "epochs": 4, "batch_size": 4, "checkpoint_every": 2,
        "optimizer": {"learning_rate": {"schedule": "cosine", "start": 0.01}, "clip": 1.0},
        "loss": {"energy": {"start": 0.1, "end": 1.0}, "forces": 1.0},
    }  # fmt: skip
    (data / "fit.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    assert cli.main(["fit", str(data / "fit.yaml"), "--output", str(out), "--epochs", "2", "--quiet"]) == 0
    assert "test" in capsys.readouterr().out
    assert cli.main(["fit", str(data / "fit.yaml"), "--output", str(out)]) == 0  # goes on to 4
    epochs = [json.loads(line)["epoch"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]
    (data / "other.yaml").write_text(yaml.safe_dump(config | {"batch_size": 2, "seed": 5}))
    assert cli.main(["fit", str(data / "other.yaml"), "--output", str(out)]) == 2
    assert "another batch_size, seed" in capsys.readouterr().err
    names = {p.name for p in out.iterdir()}
    assert {"potential.safetensors", "report.txt", "report.json", "learning.png", "parity.png", "config.json"} <= names
    capsys.readouterr()
    assert cli.main(["evaluate", str(out / "potential.safetensors"), str(data / "test.xyz")]) == 0
    assert cli.main(["fit", str(data / "fit.yaml"), "--check"]) == 0
    assert "train: 8 structures" in capsys.readouterr().out


def test_bad_data_stop_the_fit_and_are_named(data, tmp_path, capsys):
    write_xyz(tmp_path / "train.xyz", [with_nan(s) if k == 3 else s for k, s in enumerate(shifted(DATA))])
    config = LINEAR | {"data": {"train": "train.xyz", "read": {"energy": "REF_energy", "forces": "REF_forces"}}}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["fit", str(tmp_path / "fit.yaml"), "-o", str(tmp_path / "out")]) == 2
    assert "train.xyz" in capsys.readouterr().err


def test_a_correction_to_a_base_is_a_sum(tmp_path):
    base = {name: 0.9 * x for name, x in TRUE.items()}
    jm.save(tmp_path / "base.safetensors", POTENTIAL, base)
    config = LINEAR | {"potential": MTP | {"base": str(tmp_path / "base.safetensors")}, "data": {"energies": "none"}}
    fitted = jm.fit(config, train=DATA)
    assert isinstance(fitted.potential, jm.Sum)
    rest = subtract(DATA, POTENTIAL, base)
    direct = jm.fit(LINEAR | {"data": {"energies": "none", "check": False}}, train=rest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), fitted.params[1], direct.params)


def test_a_teacher_labels_the_structures_of_its_student(tmp_path):
    jm.save(tmp_path / "teacher.safetensors", POTENTIAL, TRUE)
    bare = [s.replace(energy=None, forces=None, virial=None) for s in DATA]
    config = LINEAR | {"data": {"energies": "none", "teacher": str(tmp_path / "teacher.safetensors")}}
    student = jm.fit(config, train=bare)
    same = [s if all(s.system.pbc) else s.replace(virial=None) for s in DATA]  # a cluster gets none
    direct = jm.fit(LINEAR | {"data": {"energies": "none"}}, train=same)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), student.params, direct.params)


def test_a_committee_and_fine_tuning():
    small = {"family": "painn", "cutoff": 4.0, "n_features": 4, "n_interactions": 1, "n_radial": 4, "hidden": [4]}
    common = {"epochs": 2, "batch_size": 5, "optimizer": {"learning_rate": 0.01}}
    both = jm.fit({"potential": small, "members": 2, "bootstrap": True, **common}, train=shifted(DATA))
    assert isinstance(both.potential, jm.Committee)
    one = jax.tree.map(lambda x: x[0], both.params)
    member = both.potential.members[0]
    tuned = jm.fit({"freeze": ["embedding"], **common}, train=shifted(DATA), start=(member, one))
    np.testing.assert_array_equal(tuned.params["embedding"], one["embedding"])
    np.testing.assert_array_equal(tuned.params["offset"], one["offset"])
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), tuned.params["readout"], one["readout"])
    assert max(jax.tree.leaves(moved)) > 0


def test_a_gap_by_its_configuration():
    gap = {"family": "gap", "cutoff": 4.5, "n_max": 2, "l_max": 1, "n_sparse": 6, "n_sparse_pairs": 4}
    options = {"method": "gpr", "gpr": {"sigma_energy": 0.01, "sigma_forces": 0.1}}
    fitted = jm.fit({"potential": gap, "data": {"energies": {"Ne": -3.0, "Ar": -7.0}}, **options}, train=shifted(DATA))
    np.testing.assert_array_equal(fitted.params["e0"], list(ENERGIES.values()))
    assert fitted.parts["train"].accuracy.energy.rmse < 0.05
    with pytest.raises(ValueError, match="gpr fits a GAP; MTP is none"):
        jm.fit({"potential": MTP, "method": "gpr"}, train=DATA)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_built_by_its_name(family):
    options = {"dp": {"sel": [20, 20]}, "ace": {"n_max": [4, 2], "l_max": [0, 2]}}.get(family, {})
    options |= {"cutoff": 4.0} if family in ("nequip", "allegro", "mace") else {}
    potential = build(family, SPECIES, **options)
    assert potential.species == SPECIES
    with pytest.raises(ValueError, match=rf"{family} has no option 'cuttof'"):
        build(family, SPECIES, cuttof=3.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"potential": MTP, "epoch": 3}, "no option 'epoch'.*did you mean 'epochs'"),
        ({"potential": {"family": "mcae"}}, "no family is named 'mcae'.*did you mean 'mace'"),
        ({"potential": {"family": "mace"}}, "mace needs the option cutoff"),
        ({"potential": {}}, "either a family .* or a file"),
        ({"potential": MTP, "data": {"trian": "x"}}, "data has no option 'trian'.*did you mean 'train'"),
        ({"potential": MTP, "loss": {"force": 1.0}}, "loss has no option 'force'.*did you mean 'forces'"),
        ({"potential": MTP, "method": "sgd"}, "method: 'sgd'"),
        ({"potential": MTP, "optimizer": {"name": "adm"}}, "no optimizer is named 'adm'.*did you mean 'adam'"),
        ({"potential": MTP, "optimizer": {"learning_rate": {"schedule": "cos"}}}, "no schedule is named 'cos'"),
        ({"potential": MTP, "loss": {"energy": {"start": 1, "end": 2}}}, "learning rate, which is constant"),
        ({"potential": MTP, "method": "linear", "linear": {"alpha": 1}}, "linear has no option 'alpha'"),
        ({"potential": MTP, "data": {"validation": 99}}, "validation takes 99 of 10"),
    ],
)
def test_words_that_are_not_known_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        jm.fit(config, train=DATA)


def test_a_configuration_needs_structures_and_a_mapping(tmp_path):
    with pytest.raises(ValueError, match="train names no structures"):
        jm.fit({"potential": MTP})
    (tmp_path / "a.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="must hold a mapping"):
        read_config(tmp_path / "a.yaml")
