"""Folders of n2p2: what is read is what was written, and nothing else passes for one."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.basis.symmetry_functions import SymmetryFunction
from jaxmlp.formats import n2p2
from jaxmlp.potentials.ani import ani
from jaxmlp.potentials.bpnn import bpnn
from jaxmlp.potentials.nep import NEP

INPUT = """# Length unit : Angstrom
# Energy unit : eV
number_of_elements 2
elements Si C # in any order
atom_energy Si -1.5
cutoff_type 6 0.2
scale_symmetry_functions
scale_min_short 0.0
scale_max_short 1.0
global_hidden_layers_short 2
global_nodes_short 3 2
global_activation_short t p l
epochs 10 ! training
kalman_type 0
symfunction_short Si 2 Si 0.1 0.0 5.0
symfunction_short Si 3 Si C 0.02 -1 4.0 4.5
symfunction_short C 2 Si 0.3 1.0 5.0 a remark
"""
SCALING = """# element, function, min, max, mean, sigma
1 1 0.0 1.0 0.5 0.2
2 1 0.1 2.0 1.0 0.5
2 2 0.0 0.5 0.1 0.1
-3.0 1.0
"""
SIZES = {6: (1, 3, 2, 1), 14: (2, 3, 2, 1)}


def count(sizes) -> int:
    return sum(i * o + o for i, o in pairwise(sizes))


def write(folder: Path, text=INPUT, scaling=SCALING, weights=None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "input.nn").write_bytes(text.encode())
    (folder / "scaling.data").write_bytes(scaling.encode())
    for z, sizes in SIZES.items():
        numbers = "".join(f"{0.1 * (k + 1) * (-1) ** k:.3f}\n" for k in range(count(sizes)))
        (folder / f"weights.{z:03d}.data").write_text((weights or {}).get(z, numbers))
    return folder


def assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def small(**options):
    return replace(bpnn((6, 14), 5.0, n_radial=2, n_angular=1, zetas=(2.5,), nodes=(3, 2)), **options)


COMPACT = (
    SymmetryFunction(20, (6,), 5.0, left=-5.0, core="p2a"),
    SymmetryFunction(22, (6, 14), 5.0, left=-1.5, angles=(20.0, 160.0), core="e"),
    SymmetryFunction(23, (), 5.0, left=1.0, core="p1"),
    SymmetryFunction(24, (), 5.0, left=1.0, angles=(-60.0, 60.0), core="p3"),
)
WEIGHTED = (
    SymmetryFunction(12, (), 4.5, 0.1, 1.0, cutoff_type=1, alpha=0.25),
    SymmetryFunction(13, (), 4.5, 0.1, 1.0, -1.0, 3.0, cutoff_type=1, alpha=0.25),
)
POTENTIALS = {
    "scaled": small(),
    "centred": small(scaling="center", normalize_nodes=True, length_unit=0.5, energy_unit=3.0),
    "both": small(scaling="scale_center", smin=-1.0, mean_energy=-2.0, conv_energy=7.5, conv_length=3.25),
    "sigma": small(scaling="sigma", length_unit=1 / 1.8897261328, energy_unit=1 / 0.0367493254),
    "compact": small(functions=(COMPACT, COMPACT[:1]), scaling="none"),
    "weighted": small(functions=(WEIGHTED, WEIGHTED[:1])),
    "layers": small(nodes=((3, 2), (4,)), activations=(("t", "p", "l"), ("s", "l"))),
    "linear": small(nodes=((), (4, 3, 2)), activations=(("l",), ("t", "e", "h", "l"))),
    "sizes": small(nodes=((3, 2), (2, 3)), activations=(("t", "t", "l"), ("g", "c", "l"))),
}


@pytest.mark.parametrize("name", POTENTIALS)
def test_a_saved_folder_reads_the_same(name, tmp_path):
    potential = POTENTIALS[name]
    potential = replace(potential, functions=tuple(tuple(sorted(fs, key=n2p2.order)) for fs in potential.functions))
    params = potential.init(jax.random.key(3))
    params["atom_energy"] = np.array([0.1, -0.2])
    n2p2.save(tmp_path / "model", potential, params)
    read, numbers = jm.load(tmp_path / "model")
    assert read == potential
    assert_same(numbers, params)
    n2p2.save(tmp_path / "again" / "input.nn", read, numbers)
    assert_same(n2p2.load(tmp_path / "again" / "input.nn")[1], params)


def test_elements_and_functions_are_sorted(tmp_path):
    base = bpnn((14, 6), 5.0, n_radial=2, n_angular=1, nodes=(3,))
    potential = replace(base, functions=tuple(fs[::-1] for fs in base.functions), nodes=((3,), (2,)))
    params = potential.init(jax.random.key(1))
    scaling = [{k: x + 0.1 * np.arange(len(x)) for k, x in s.items()} for s in params["scaling"]]
    params |= {"scaling": tuple(scaling), "atom_energy": np.array([1.0, 2.0])}
    n2p2.save(tmp_path / "m", potential, params)
    read, numbers = n2p2.load(tmp_path / "m")
    assert (read.species, read.nodes) == ((6, 14), ((2,), (3,)))
    rng = np.random.default_rng(0)
    system = jm.System([14, 6, 14, 6], 2.0 * rng.normal(size=(4, 3)), None)
    pairs = ((read, numbers), (potential, params))
    got, expected = (jax.jit(jm.energy_fn(p, system))(system.R, None, q) for p, q in pairs)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.shared
def test_published_folders_survive_a_round_trip(shared, tmp_path):
    folders = sorted((shared / "reference" / "bpnn" / "models").iterdir())
    assert len(folders) == 15
    for folder in folders:
        potential, params = jm.load(folder, length_unit="bohr", energy_unit="hartree")
        n2p2.save(tmp_path / folder.name, potential, params)
        read, numbers = n2p2.load(tmp_path / folder.name)
        assert read == potential
        assert_same(numbers, params)


def test_what_is_read(tmp_path):
    potential, params = n2p2.load(write(tmp_path / "m"))
    assert (potential.species, potential.length_unit, potential.energy_unit) == ((6, 14), 1.0, 1.0)
    assert (potential.nodes, potential.activations) == (((3, 2),) * 2, (("t", "p", "l"),) * 2)
    assert potential.functions[1][1] == SymmetryFunction(
        3, (6, 14), 4.5, eta=0.02, lambd=-1.0, zeta=4.0, cutoff_type=6, alpha=0.2
    )
    np.testing.assert_array_equal(params["atom_energy"], [0.0, -1.5])
    np.testing.assert_array_equal(params["weights"][1][0], [[0.1, -0.4], [-0.2, 0.5], [0.3, -0.6]])
    np.testing.assert_array_equal(params["biases"][1][0], [0.7, -0.8, 0.9])
    np.testing.assert_array_equal(params["scaling"][1]["max"], [2.0, 0.5])
    assert_same(n2p2.load(write(tmp_path / "m", INPUT.replace("\n", "\r\n")))[1], params)


def test_units(tmp_path):
    folder = write(tmp_path / "m", INPUT.replace("# Length unit : Angstrom\n", ""))
    with pytest.raises(ValueError, match="does not say its length unit: pass length_unit="):
        n2p2.load(folder)
    assert n2p2.load(folder, length_unit=0.5)[0].length_unit == 0.5
    assert n2p2.load(folder, length_unit="Bohr", energy_unit="Ha")[0].energy_unit == 1 / 0.0367493254
    for wrong in ("furlong", -1.0, float("nan")):
        with pytest.raises(ValueError, match="length unit"):
            n2p2.load(folder, length_unit=wrong)


@pytest.mark.parametrize(
    ("lines", "nodes", "activations"),
    [
        ("element_nodes_short C 5 4", (5, 4), ("t", "p", "l")),
        ("element_nodes_short C 2 4", (3, 4), ("t", "p", "l")),  # layer 2 has 4 nodes
        ("element_nodes_short C 1 5\nelement_nodes_short C 2 4", (5, 4), ("t", "p", "l")),
        ("element_activation_short C s s l", (3, 2), ("s", "s", "l")),
        ("element_hidden_layers_short C 1\nelement_nodes_short C 4\nelement_activation_short C g l", (4,), ("g", "l")),
        ("element_hidden_layers_short C 0\nelement_activation_short C l", (), ("l",)),
    ],
)
def test_overrides_per_element(tmp_path, lines, nodes, activations):
    numbers = "0.5\n" * count((1, *nodes, 1))
    potential, params = n2p2.load(write(tmp_path / "m", INPUT + lines + "\n", weights={6: numbers}))
    assert potential.nodes == (nodes, (3, 2))
    assert potential.activations == (activations, ("t", "p", "l"))
    assert [len(b) for b in params["biases"][0]] == [*nodes, 1]


BAD = {
    "unknown": ("epochs 10", "epoch 10", 13, "not `epoch`"),
    "charges": ("epochs 10", "use_electrostatics", 13, "charges are not supported"),
    "fourth generation": ("epochs 10", "nnp_type 4G-HDNNP", 13, "second generation"),
    "runner's generation": ("epochs 10", "nnp_gen 3", 13, "second generation"),
    "pairs": ("epochs 10", "nn_type_short 2", 13, "nn_type_short 1"),
    "global function": ("epochs 10", "global_symfunction_short 2 0.1 0.0 5.0", 13, "write a symfunction_short"),
    "twice": ("epochs 10", "cutoff_type 1", 13, "`cutoff_type` once"),
    "flag twice": ("epochs 10", "scale_symmetry_functions", 13, "once"),
    "two scalings": ("epochs 10", "scale_symmetry_functions_sigma", 13, "one way"),
    "energy twice": ("epochs 10", "atom_energy Si 1", 13, "energy of Si once"),
    "normalisation": ("epochs 10", "mean_energy 1.0", 13, "all of mean_energy"),
    "conversion": ("epochs 10", "mean_energy 1\nconv_energy 0\nconv_length 1", None, "conv_energy"),
    "no elements": ("elements Si", "#elements Si", None, "keyword `elements`"),
    "count": ("number_of_elements 2", "number_of_elements 3", 4, "3 different symbols"),
    "element": ("elements Si C", "elements Si Xx", 4, "symbol of an element"),
    "stranger": ("symfunction_short C 2 Si", "symfunction_short C 2 Ge", 17, "element of the model"),
    "no functions": ("symfunction_short C 2", "#symfunction_short C 2", None, "symfunction_short lines of C"),
    "cutoff type": ("cutoff_type 6", "cutoff_type 9", 6, "between 0 and 8"),
    "alpha": ("cutoff_type 6 0.2", "cutoff_type 6 1.0", 15, "alpha"),
    "no cutoff type": ("cutoff_type", "#", None, "keyword `cutoff_type`"),
    "layers": ("global_nodes_short 3 2", "global_nodes_short 3", 11, "2 hidden layer"),
    "activation": ("t p l", "t x l", 12, "letters"),
    "activations": ("t p l", "t p", 12, "letters"),
    "no nodes": ("global_nodes_short", "#", None, "nodes and activations of C"),
    "override": ("epochs 10", "element_nodes_short C 3 2 1", 13, "2 hidden layer"),
    "override twice": ("epochs 10", "element_nodes_short C 5 4\nelement_nodes_short C 5 4", 14, "once"),
    "depth alone": ("epochs 10", "element_hidden_layers_short C 1", None, "nodes and activations of C"),
    "single neuron": ("epochs 10", "element_activation_short C 1 1 t", 13, "letters"),
    "type": ("Si 2 Si 0.1", "Si 4 Si 0.1", 15, "type of symmetry function"),
    "few": ("0.1 0.0 5.0", "0.1 0.0", 15, "E eta shift cutoff"),
    "number": ("0.1 0.0 5.0", "0.1 0.0 nan", 15, "finite"),
    "radius": ("0.1 0.0 5.0", "0.1 0.0 -5.0", 15, "between"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_say_where_and_why(name, tmp_path):
    old, new, line, match = BAD[name]
    assert old in INPUT
    with pytest.raises(FormatError, match=match) as error:
        n2p2.load(write(tmp_path / "m", INPUT.replace(old, new, 1)))
    assert "input.nn" in str(error.value)
    assert error.value.line == line


def test_bad_scaling(tmp_path):
    for old, new, line, match in (
        ("2 2 0.0", "#", None, "element 2, symmetry function 2"),
        ("2 2 0.0", "2 1 0.0", 4, "once"),
        ("2 2 0.0", "2 3 0.0", 4, "between 1 and 2"),
        ("2 2 0.0", "3 1 0.0", 4, "element"),
        ("0.0 0.5 0.1", "0.5 0.5 0.1", 4, "range"),
        ("0.0 0.5 0.1", "0.0 inf 0.1", 4, "finite"),
    ):
        with pytest.raises(FormatError, match=match) as error:
            n2p2.load(write(tmp_path / "m", scaling=SCALING.replace(old, new)))
        assert "scaling.data" in str(error.value)
        assert error.value.line == line
    (tmp_path / "m" / "scaling.data").unlink()
    with pytest.raises(FormatError, match="missing"):
        n2p2.load(tmp_path / "m")


def test_bad_weights(tmp_path):
    n = count(SIZES[6])
    for text, line, match in (
        ("0.1\n" * (n - 1), n, f"expected {n} weights.*found {n - 1}"),
        ("0.1\n" * (n + 1), n + 1, "no more"),
        ("0.1\n" * (n - 1) + "x\n", n, "a weight"),
        ("0.1 a 1 0 1 1 2\n" + "0.1\n" * (n - 1), 1, "`a 0 1 1 1`"),
    ):
        with pytest.raises(FormatError, match=match) as error:
            n2p2.load(write(tmp_path / "m", weights={6: text}))
        assert "weights.006.data" in str(error.value)
        assert error.value.line == line
    write(tmp_path / "n")
    (tmp_path / "n" / "weights.014.data").unlink()
    with pytest.raises(FormatError, match=r"weights\.014\.data.*missing"):
        n2p2.load(tmp_path / "n")
    shutil.rmtree(tmp_path / "n")
    with pytest.raises(FormatError, match=r"input\.nn.*missing"):
        n2p2.load(tmp_path / "n" / "input.nn")


def test_saving_refuses_what_the_files_cannot_say(tmp_path):
    potential = small()
    params = potential.init(jax.random.key(0))
    mixed = tuple(replace(f, alpha=0.1) if f.kind == 3 else f for f in potential.functions[0])
    for other, values, match in (
        (NEP((14,), (5.0,), (4.0,), (2, 1), (3, 2), 2), {}, "not a NEP"),
        (ani((6, 14)), params, "activations"),
        (replace(ani((6, 14)), activations=(("t", "t", "t", "l"),) * 2), params, "ANI"),
        (small(functions=(mixed,) * 2), params, "one cutoff type"),
        (potential, params | {"more": 1}, "parameters of a BPNN"),
        (potential, params | {"atom_energy": np.zeros(3)}, "shape"),
        (potential, params | {"atom_energy": np.full(2, np.nan)}, "finite"),
        (potential, params | {"biases": params["biases"][:1]}, "2 element"),
        (small(nodes=((2, 3), (1, 3))), small(nodes=((2, 3), (1, 3))).init(jax.random.key(0)), "cannot tell"),
    ):
        with pytest.raises(ValueError, match=match):
            n2p2.save(tmp_path / "m", other, values)
    assert not list(tmp_path.iterdir())


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load_or_refuse(folder: Path) -> None:
    try:
        potential, params = n2p2.load(folder, length_unit=1.0, energy_unit=1.0)
    except FormatError:
        return
    assert potential.species
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params))
    for t, nodes in enumerate(potential.nodes):
        assert [w.shape[0] for w in params["weights"][t]] == [*nodes, 1]
        assert params["weights"][t][0].shape[1] == len(potential.functions[t])


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(tmp_path, data):
    folder = write(tmp_path / "m")
    file = data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    seed = bytearray((folder / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(seed) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" \n.-+0123456789#!_aeglst"))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    (folder / file).write_bytes(bytes(seed))
    load_or_refuse(folder)


LINES = [
    *INPUT.splitlines(), "element_nodes_short C 1 2", "element_hidden_layers_short C 1",
    "element_activation_short C t l", "element_hidden_layers_short Si 0", "center_symmetry_functions",
    "normalize_nodes", "nnp_type 2G-HDNNP", "symfunction_short C 22 Si C -5 5 60 180 p2a",
    "symfunction_short C 12 0.1 0 5", "global_hidden_layers_short 0",
]  # fmt: skip


@FUZZ
@given(st.lists(st.sampled_from(LINES), max_size=40))
def test_shuffled_lines(tmp_path, lines):
    load_or_refuse(write(tmp_path / "m", "\n".join(lines)))
    load_or_refuse(write(tmp_path / "m", INPUT + "\n".join(lines)))
