"""Files of MACE models: what is wrong with a bad one is named; a native copy is the same potential."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import mace

OPTIONS = Path(__file__).parents[1] / "potentials" / "mace_options.npz"
NAME = "message-skip-twice"
CONTRACTION = "products.0.symmetric_contractions.contractions.0."


def write(folder, change=None, *, name=NAME, **options):
    """A folder with weights.npz and config.json; `change` alters the dict of tensors."""
    with np.load(OPTIONS) as z:
        config = json.loads(str(z["configs"]))[name] | options
        start = f"{name}/state/"
        state = {key.removeprefix(start): z[key] for key in z.files if key.startswith(start)}
    if change is not None:
        change(state)
    np.savez(folder / "weights.npz", **state)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def rotated(state):
    state[f"{CONTRACTION}U_matrix_2"] = state[f"{CONTRACTION}U_matrix_2"] + 0.1


def cut(name):
    return lambda state: state.__setitem__(name, state[name][..., :-1])


def put(name, value):
    return lambda state: state.__setitem__(name, value)


BAD = {
    "missing": (lambda s: s.pop("interactions.1.linear.weight"), "'interactions.1.linear.weight' is missing"),
    "shape": (cut("interactions.0.linear_up.weight"), "interactions.0.linear_up.weight' has 15 numbers"),
    "radial": (cut("interactions.0.conv_tp_weights.layer1.weight"), "conv_tp_weights.layer[12].weight' has shape"),
    "nan": (put("atomic_energies_fn.atomic_energies", np.array([np.nan, 1.0])), "atomic_energies' holds NaN"),
    "unknown": (put("joint_embedding.project.weight", np.ones(3)), "not supported: joint_embedding.project.weight"),
    "coupling": (rotated, "U_matrix_2': this coupling tensor is not equivariant"),
    "components": (
        lambda s: [s.update({f"{CONTRACTION}U_matrix_1": np.eye(8)[:, :1]})], "has 8 components; expected a square"
    ),
    "cueq": (
        lambda s: [s.pop(k) for k in list(s) if k.startswith("products.0.symmetric")], "cuequivariance switched on"
    ),
    "zbl": (lambda s: s.update({"pair_repulsion_fn.c": np.ones(4)}), "pair_repulsion_fn"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_the_name_of_the_tensor(tmp_path, kind):
    change, message = BAD[kind]
    with pytest.raises(jm.FormatError, match=message):
        jm.load(write(tmp_path, change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"avg_num_neighbors": None}, "'avg_num_neighbors' is needed"),
        ({"avg_num_neighbors": "many"}, "'avg_num_neighbors' must be a number"),
        ({"interaction_cls": "RealAgnosticAttResidualInteractionBlock"}, "another block, as the tensors have it"),
        ({"interaction_cls": "RealAgnosticFieldInteractionBlock"}, "'interaction_cls' is"),
        ({"hidden_irreps": "4x0e+4x1"}, "'hidden_irreps' is"),
        ({"hidden_irreps": "4x0e+4x1o+4x2e"}, "the tensor"),
        ({"max_ell": 3}, "'max_ell' is 3"),
        ({"gate": "relu"}, "'gate' is 'relu'"),
        ({"spin": True}, "not supported: spin"),
        ({"sh_normalization": "norm"}, "'sh_normalization' is 'norm'"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(tmp_path, options, message):
    with pytest.raises(jm.FormatError, match=message):
        mace.load(write(tmp_path, **options))


def test_a_model_of_several_heads_asks_which(tmp_path):
    folder = write(tmp_path, name="gaussian-soft-heads")
    with pytest.raises(ValueError, match=r"has the heads dft, cc: choose one"):
        jm.load(folder)
    with pytest.raises(ValueError, match="no head 'hf'"):
        jm.load(folder, head="hf")
    assert jm.load(folder, head="cc")[1]["E0"][0] == -1.2


@pytest.mark.parametrize("name", [NAME, "attention", "nonlinear-lacking"])
def test_blocks_are_told_by_their_tensors(tmp_path, name):
    stated = mace.load(write(tmp_path, name=name))[0]
    options = dict.fromkeys(("interaction_cls", "interaction_cls_first", "hidden_irreps", "use_edge_irreps_first"))
    folder = write(tmp_path, name=name, **options)
    assert mace.load(folder)[0] == stated


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("nonlinear-lacking", lambda s: s.pop("interactions.1.beta"), "'interactions.1.beta' is missing"),
        ("nonlinear-lacking", cut("interactions.0.density_fn.net.1.bias"), r"net.1.bias' has shape \(63,\)"),
        ("nonlinear-lacking", cut("interactions.1.source_embedding.weight"), "source_embedding.weight' has shape"),
        ("nonlinear-lacking", cut("interactions.1.linear_res.weight"), "linear_res.weight' has"),
        ("nonlinear-lacking", lambda s: s.pop("interactions.0.alpha"), "expected another block, as the tensors"),
        ("attention", cut("interactions.1.linear_down.weight"), "linear_down.weight' has shape"),
        ("attention", cut("interactions.0.conv_tp_weights.layer3.weight"), "layer3.weight' has shape"),
        ("attention", lambda s: s.pop("interactions.1.skip_linear.weight"), "skip_linear.weight' is missing"),
    ],
)
def test_a_bad_tensor_of_a_block_is_named(tmp_path, name, change, message):
    with pytest.raises(jm.FormatError, match=message):
        mace.load(write(tmp_path, change, name=name))


def test_nonlinear_blocks_need_no_average_number_of_neighbors(tmp_path):
    stated = mace.load(write(tmp_path, name="nonlinear-lacking"))[0]
    potential = mace.load(write(tmp_path, name="nonlinear-lacking", avg_num_neighbors=None))[0]
    assert potential.avg_num_neighbors == 1.0 != stated.avg_num_neighbors


@pytest.mark.parametrize("name", [NAME, "attention", "nonlinear-edge-heads"])
def test_the_native_file_holds_the_same_potential(tmp_path, name):
    head = "cc" if "heads" in name else None
    potential, params = mace.load(write(tmp_path, name=name), head=head)
    jm.save(tmp_path / "model.safetensors", potential, params)
    again, same = jm.load(tmp_path / "model.safetensors")
    assert again == potential
    jax.tree.map(np.testing.assert_array_equal, same, params)
    with pytest.raises(ValueError, match="cannot tell"):
        jm.save(tmp_path / "copy.model", potential, params)
