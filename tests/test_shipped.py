"""Potentials that come with jaxmlp: they load by name, give the numbers of their cards, and are small."""

import jax
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp import cli
from jaxmlp.fitting import accuracy, by_group, predict_structures, read_config, read_structures
from jaxmlp.shipped import FOLDER, located

NAMES = list(jm.models())


@pytest.mark.parametrize("name", NAMES)
def test_energy_and_forces_are_those_of_the_card(name):
    model = jm.models()[name]
    potential, params = jm.load(name)
    numbers = model.numbers
    assert numbers["name"] == name
    assert numbers["cutoff"] == potential.cutoff
    assert numbers["parameters"] == sum(np.size(x) for x in jax.tree.leaves(params))
    check = numbers["check"]
    R, box = np.array(check["positions"]), np.array(check["box"])
    energy, gradient = jax.value_and_grad(jm.energy_fn(potential, jm.System(np.full(len(R), 14), R, box)))(
        R, box, params
    )
    # float64; sums in another order on other machines, and descriptors of SNAP and GAP cancel to some digits
    np.testing.assert_allclose(energy, check["energy"], rtol=1e-8)
    np.testing.assert_allclose(-gradient, check["forces"], atol=1e-6)
    assert np.abs(gradient).max() > 0.1
    for word in (name, "BSD-3-Clause", "10.1021/acs.jpca.9b08723", "## Not for", f"{numbers['parameters']} numbers"):
        assert word in model.card


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_that_of_a_fit(name):
    config = read_config(jm.models()[name].config)
    family = name.split("/")[1]
    assert config.potential.get("family", family) == family
    first = jm.models()[name].folder / "start.yaml"
    assert first.exists() == ("file" in config.potential)
    if first.exists():
        assert read_config(first).potential["family"] == family


def test_all_are_small_and_part_of_the_package():
    assert "silicon/nep" in NAMES
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 20e6
    files = {"potential.safetensors", "config.yaml", "card.md", "card.json"}
    for model in jm.models().values():
        assert {path.name for path in model.folder.iterdir()} >= files


def test_a_name_stands_for_a_file(tmp_path, monkeypatch, capsys):
    assert cli.main(["models"]) == 0
    assert cli.main(["info", "silicon/nep"]) == 0
    assert cli.main(["convert", "silicon/nep", str(tmp_path / "nep.txt")]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    monkeypatch.chdir(tmp_path)
    potential, params = jm.load("silicon/nep")
    (tmp_path / "silicon").mkdir()
    jm.save(tmp_path / "silicon" / "nep.safetensors", potential, params)
    (tmp_path / "silicon" / "nep.safetensors").rename(tmp_path / "silicon" / "nep")
    assert located("silicon/nep").resolve() == tmp_path / "silicon" / "nep"  # a file that is there comes first


def test_unknown_names_are_told(capsys):
    with pytest.raises(FileNotFoundError, match=r"did you mean 'silicon/.*there are .*silicon/nep"):
        jm.load("silicon/nap")
    assert cli.main(["info", "silicon/nap"]) == 2
    assert "silicon/nep" in capsys.readouterr().err


def test_configurations_of_fits_take_names(tmp_path):
    (tmp_path / "fit.yaml").write_text("data: {train: a.xyz, teacher: silicon/nep}\npotential: {file: silicon/nep}\n")
    config = read_config(tmp_path / "fit.yaml")
    assert (config.data.teacher, config.potential["file"]) == ("silicon/nep", "silicon/nep")
    assert config.data.train == str(tmp_path / "a.xyz")


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_errors_of_the_test_set_are_those_of_the_card(shared, name):
    structures = read_structures(shared / "data" / "mlearn_Si" / "test.xyz.gz")
    found = predict_structures(*jm.load(name), structures)
    card = jm.models()[name].numbers["errors"]["test"]
    groups = {"all": accuracy(structures, found)} | by_group(structures, found)
    assert set(card) == set(groups)
    for group, errors in card.items():
        for kind in ("energy", "forces"):
            now = getattr(groups[group], kind)
            written = [errors[kind][k] for k in ("rmse", "mae")]
            assert [1000 * now.rmse, 1000 * now.mae] == pytest.approx(written, rel=1e-5)
