"""Deep Potential files: what is read is what was written, and nothing else passes for one."""

import copy
import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.basis.deepmd_networks import embedding, fitting
from jaxmlp.formats import deepmd, deepmd_write
from jaxmlp.potentials.deepmd import DeepPotential, SeAtten, SeE2A, SeE2R, SeE3
from jaxmlp.potentials.deepmd_frame import LocalFrame
from jaxmlp.potentials.deepmd_zbl import DeepZBL
from jaxmlp.potentials.nep import NEP

NET = embedding(1, (2, 4), timestep=True)
A = SeE2A(4.0, 1.0, (3, 4), NET, axis=2, exclude=((0, 1),), protection=0.1)
ATTENTION = SeAtten(4.0, 1.0, 9, 2, NET, embedding(4, (2, 4)), 2, axis=2, attention=2, hidden=3, scale=0.7)


def potential(*parts, **options) -> DeepPotential:
    inputs = sum(part.size for part in parts) + options.get("fparams", 0) + options.get("aparams", 0)
    return DeepPotential((8, 1), parts, fitting(inputs, (3, 3)), **options)


POTENTIALS = {
    "se_e2_a": potential(A, exclude=((0, 0),), vacuum=(1,), closest=0.9),
    "hybrid": potential(SeE2R(3.0, 0.0, (2, 5), NET, True), SeE3(2.0, 0.5, (2, 2), NET), fparams=2, aparams=1),
    "attention": potential(ATTENTION, mixed=True),
    "concat": potential(SeAtten(4.0, 1.0, 9, 2, embedding(3, (2, 4)), None, 2, axis=2, one_side=True), mixed=True),
    "zbl": DeepZBL(potential(A), 3.0, 0.001, 0.3, 9, 0.8, 1.1, 0.1, 7),
}


def start(p) -> dict:
    """Parameters with statistics that are not trivial."""
    params = p.init(jax.random.key(3))
    deep = params["deep"] if isinstance(p, DeepZBL) else params
    for part, own in zip((p.deep if isinstance(p, DeepZBL) else p).parts, deep["parts"], strict=True):
        if not isinstance(part, SeAtten):
            own["davg"] = jnp.asarray([[0.1, 0.2], [0.3, 0.4]])
        own["dstd"] = 0.2 + jnp.abs(jax.random.normal(jax.random.key(4), own["dstd"].shape))
        if isinstance(part, SeE2R):  # there is no angular column, and se_e3 has networks for a <= b only
            own["dstd"] = own["dstd"].at[..., 1].set(own["dstd"][..., 0])
        if isinstance(part, SeE3):
            own["network"] = jax.tree.map(lambda x: x.at[2].set(x[1]), own["network"])
    deep["bias"] = jnp.asarray([-3.0, 0.5])
    if isinstance(p, DeepZBL):
        params["table"] = jax.random.normal(jax.random.key(5), params["table"].shape)
    elif p.fparams:
        params |= {
            "fparam_mean": jnp.array([0.5, 0.1]),
            "fparam": jnp.array([0.7, 0.2]),
            "aparam_mean": jnp.array([2.0]),
        }
        params["aparam"] = params["aparam_mean"][None]
    return params


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15, atol=1e-15)  # type vectors are stored less the skip


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("ending", [".dp", ".yaml", ".json", ".safetensors"])
def test_a_saved_file_reads_the_same(name, ending, tmp_path):
    p, path = POTENTIALS[name], tmp_path / f"model{ending}"
    params = start(p)
    jm.save(path, p, params)
    read, numbers = jm.load(path)
    assert read == p
    assert_same(numbers, params)


@pytest.mark.shared
def test_published_files_survive_a_round_trip(shared, tmp_path):
    files = sorted((shared / "reference" / "dp" / "models").glob("*.dp"))
    assert len(files) == 11
    for file in files:
        p, params = jm.load(file)
        jm.save(tmp_path / "x.dp", p, params)
        read, numbers = jm.load(tmp_path / "x.dp")
        assert read == p
        assert_same(numbers, params)


def changed(tree: dict, place: str, value) -> dict:
    """The tree with another value at a place; `drop` removes it."""
    tree = copy.deepcopy(tree)
    *keys, last = [int(k) if k.isdigit() else k for k in place.split("/")]
    node = tree
    for key in keys:
        node = node[key]
    if value is DROP:
        del node[last]
    else:
        node[last] = value
    return tree


DROP = object()
D, N = "model/descriptor", "model/descriptor/embeddings/networks/0/layers/0"
BAD = {
    "no model": ("model", DROP, "a mapping with an entry `model`"),
    "kind": ("model/type", "linear_ener", "at model/type: .*standard or zbl.*`linear_ener`"),
    "elements": ("model/type_map", ["O", "foo"], "at model/type_map: .*element symbols"),
    "unknown option": ("model/descriptor/use_tanh", True, "at model/descriptor/use_tanh: .*not known"),
    "unknown in the model": ("model/hessian", True, "at model/hessian"),
    "unknown in the fitting": ("model/fitting/surprise", 1, "at model/fitting/surprise"),
    "descriptor": (f"{D}/type", "dpa2", "at model/descriptor/type: .*dpa1.*`dpa2`"),
    "cutoff": (f"{D}/rcut", -1.0, "rcut: expected a finite number between"),
    "cutoffs": (f"{D}/rcut_smth", 5.0, r"env_mat/rcut_smth|inner < cutoff"),
    "env_mat": (f"{D}/env_mat/rcut", 5.0, "env_mat/rcut: expected a finite number between 4 and 4"),
    "exp switch": (f"{D}/env_mat/use_exp_switch", True, "use_exp_switch false"),
    "sel": (f"{D}/sel", [3], "sel: expected a list of 2"),
    "sel size": (f"{D}/sel", [3, 5], r"davg: expected an array of shape \(2, 8, 4\), found an array \(2, 7, 4\)"),
    "huge sel": (f"{D}/sel", [10**9, 1], "an integer between 0 and 100000"),
    "axis": (f"{D}/axis_neuron", 9, "axis must be 1 to 4"),
    "slots": (f"{D}/@variables/davg", np.arange(56.0).reshape(2, 7, 4), "mean 0 of the angular columns"),
    "dstd": (f"{D}/@variables/dstd", np.zeros((2, 7, 4)), "not 0"),
    "nan": (f"{D}/@variables/dstd", np.full((2, 7, 4), np.nan), "finite numbers"),
    "spin": (f"{D}/spin", {"use_spin": [True]}, "not supported"),
    "pairs": (f"{D}/exclude_types", [[0, 7]], "exclude_types/0/1: expected an integer between 0 and 1"),
    "networks": (f"{D}/embeddings/networks", [None] * 4, "networks of one shape"),
    "ndim": (f"{D}/embeddings/ndim", 1, "ndim: expected an integer between 2 and 2"),
    "activation": (f"{N}/activation_function", "sin", "an activation of.*`sin`"),
    "weights": (f"{N}/@variables/w", np.ones(3), r"w: expected an array of shape \(any, any\)"),
    "inputs": (f"{N}/@variables/w", np.ones((2, 2)), "networks of one shape|one number"),
    "b": (f"{N}/@variables/b", np.ones(5), r"b: expected an array of shape \(2\)"),
    "timestep": (f"{N}/use_timestep", False, "use_timestep true exactly where"),
    "precision": (f"{N}/precision", "int8", "precision of"),
    "text in an array": (f"{N}/@variables/b", "variable", "array|dataset"),
    "fitting": ("model/fitting/type", "dipole", "of type ener"),
    "property": ("model/fitting/var_name", "gap", "of type ener"),
    "descriptor size": ("model/fitting/dim_descrpt", 9, "between 8 and 8"),
    "case": ("model/fitting/dim_case_embd", 3, "dim_case_embd"),
    "mask": ("model/fitting/use_aparam_as_mask", True, "use_aparam_as_mask false"),
    "fparam": ("model/fitting/numb_fparam", 2, "fparam_avg: expected an array"),
    "bias": ("model/fitting/@variables/bias_atom_e", np.ones((3, 1)), r"shape \(2, 1\)"),
    "atomic energies": ("model/fitting/atom_ener", [1.0], "2 energies"),
    "exclusion": ("model/fitting/exclude_types", [1], "repeat the model's atom_exclude_types"),
    "out bias": ("model/@variables/out_bias", np.ones(2), r"out_bias: expected an array of shape \(1, 2, 1\)"),
}


@pytest.fixture(scope="module")
def tree() -> dict:
    p = potential(SeE2A(4.0, 1.0, (3, 4), NET, axis=2))
    return deepmd_write.tree(p, start(p))


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(name, tree, tmp_path):
    place, value, match = BAD[name]
    bad = changed(tree, place, value)
    deepmd_write._write_hdf5(tmp_path / "x.dp", bad)
    with pytest.raises(FormatError, match=match) as error:
        deepmd.load(tmp_path / "x.dp")
    assert "x.dp" in str(error.value)
    if name != "nan":  # neither JSON nor our YAML can say it
        text = yaml.safe_dump(deepmd_write._with_arrays(bad, deepmd_write._listed), sort_keys=False)
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(FormatError) as error:
            deepmd.load(tmp_path / "x.yaml")
        assert error.value.line is not None


def test_statistics_that_differ_between_slots_are_refused(tree, tmp_path):
    davg = np.zeros((2, 7, 4))
    davg[0, 1, 0] = 0.1
    deepmd_write._write_hdf5(tmp_path / "x.dp", changed(tree, f"{D}/@variables/davg", davg))
    with pytest.raises(FormatError, match="the same statistics in all slots"):
        deepmd.load(tmp_path / "x.dp")


def test_attention_with_a_mean_is_refused(tmp_path):
    p = POTENTIALS["concat"]
    params = start(p)
    params["parts"][0]["davg"] = jnp.ones((2, 1))
    deepmd_write._write_hdf5(tmp_path / "x.dp", deepmd_write.tree(p, params))
    with pytest.raises(FormatError, match="set_davg_zero"):
        deepmd.load(tmp_path / "x.dp")


def test_arrays_come_from_this_file_and_fit_into_it(tree, tmp_path):
    path, other = tmp_path / "x.dp", tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones((1, 2, 1))
    tricks = {
        "external": lambda f: f.__setitem__("variable_0000", h5py.ExternalLink(str(other), "secret")),
        "soft": lambda f: f.__setitem__("variable_0000", h5py.SoftLink("/variable_0001")),
        "group": lambda f: f.create_group("variable_0000"),
        "missing": lambda f: None,
        "text": lambda f: f.__setitem__("variable_0000", "text"),
        "reference": lambda f: f.__setitem__("variable_0000", f["variable_0001"].ref),
        "huge": lambda f: f.create_dataset("variable_0000", (10**6, 10**6), chunks=(10, 10)),
        "stored elsewhere": lambda f: f.create_dataset(
            "variable_0000", (1, 2, 1), "f8", external=[(str(other), 0, h5py.h5f.UNLIMITED)]
        ),
    }
    for name, trick in tricks.items():
        deepmd_write._write_hdf5(path, tree)
        with h5py.File(path, "a") as file:
            del file["variable_0000"]
            trick(file)
        with pytest.raises(FormatError, match=r"dataset of this file|array of numbers|larger than the file"):
            deepmd.load(path)
        assert name


def test_other_files(tmp_path):
    path = tmp_path / "x.dp"
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)
    with pytest.raises(FormatError, match="an attribute `json`"):
        deepmd.load(path)
    for text, match in (
        ("[1, 2]", "a mapping"),
        ('{"model": NaN}', "not a number"),
        ('{"model": ' + "[" * 100 + "]" * 100 + "}", "within 60 others|JSON"),
        ('{"model": ' + "[" * 100_000, "JSON"),
        ("model: &a [*a]", "aliases|mapping"),
        ("model: {type: !!python/object/apply:os.system [ls]}", "a text|standard"),
        ("a: 1\na: 2", "each once|every key"),
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FormatError, match=match):
            deepmd.load(tmp_path / "x.json")


def test_files_of_the_backends_name_the_converter(tmp_path):
    (tmp_path / "frozen.pth").write_bytes(b"PK\x03\x04 torch script")
    with pytest.raises(ValueError, match=r"dp convert-backend frozen.pth model.dp.*jaxmlp\[deepmd\]"):
        jm.load(tmp_path / "frozen.pth")


def test_saving_refuses_what_a_file_cannot_say(tmp_path):
    path = tmp_path / "x.dp"
    p = POTENTIALS["se_e2_a"]
    params = start(p)
    with pytest.raises(ValueError, match="compressed"):
        deepmd.save(path, *p.compress(params))
    with pytest.raises(ValueError, match="restricted"):
        deepmd.save(path, *p.restrict(params, (1,)))
    with pytest.raises(ValueError, match="NaN"):
        deepmd.save(path, p, params | {"bias": jnp.full(2, jnp.nan)})
    frame = potential(LocalFrame(3.0, (2, 2), (0, 0), ((0, 0, 0, 0, 1, 0),) * 2))
    with pytest.raises(ValueError, match="LocalFrame has no Deep Potential file"):
        deepmd.save(path, frame, frame.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="not a NEP"):
        deepmd.save(path, NEP((14,), (5.0,), (4.0,), (2, 1), (3, 2), 2), {})
    assert not path.exists()
    compressed, series = p.compress(params)
    jm.save(tmp_path / "x.safetensors", compressed, series)
    read, numbers = jm.load(tmp_path / "x.safetensors")
    assert read == compressed
    assert_same(numbers, series)


def test_an_inactive_species_keeps_its_energy(tmp_path):
    p = potential(A, inactive=(1,))
    params = start(p)
    deepmd.save(tmp_path / "x.dp", p, params)
    read, numbers = deepmd.load(tmp_path / "x.dp")
    assert read.inactive == ()  # a network of zeros instead: deepmd-kit leaves out the bias of excluded species
    system = jm.System(np.array([8, 1, 1]), [[0, 0, 0], [0.9, 0, 0], [0, 1.1, 0]])
    a, b = (jax.jit(jm.energy_fn(q, system))(system.R, None, x) for q, x in ((p, params), (read, numbers)))
    np.testing.assert_allclose(a, b, rtol=1e-14)
    deepmd.save(tmp_path / "y.dp", p, params | {"bias": jnp.array([1.0, 0.0])})
    assert deepmd.load(tmp_path / "y.dp")[0].inactive == (1,)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[tuple[str, bytes]]:
    """Files of every kind, to be damaged."""
    out = []
    for ending in (".dp", ".yaml", ".json"):
        for name in ("se_e2_a", "attention"):
            path = tmp_path_factory.mktemp("seed") / f"x{ending}"
            deepmd.save(path, POTENTIALS[name], start(POTENTIALS[name]))
            out.append((ending, path.read_bytes()))
    return out


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refused = None
    try:
        p, params = deepmd.load(path)
    except FormatError as error:
        refused = str(error)
    if refused is not None:
        assert path.name in refused
        return
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params))
    assert jax.tree.leaves(params)
    assert p.fitting.sizes[0] == p.width + p.fparams + p.aparams


FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(seeds, tmp_path, data):
    ending, seed = data.draw(st.sampled_from(seeds))
    seed = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(seed) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b' \n.-0123456789{}[],:"enE'))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    load_or_refuse(tmp_path / f"x{ending}", bytes(seed))


@FUZZ
@given(st.data())
def test_models_with_an_entry_replaced(tree, tmp_path, data):
    plain = json.loads(json.dumps(deepmd_write._with_arrays(tree, deepmd_write._listed)))
    node = plain["model"]
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 3)):
            node = node[key]
            continue
        node[key] = data.draw(st.sampled_from([None, True, -1, 0, 10**12, 1e300, "x", [], {}, [[]], [1, "a"]]))
        break
    load_or_refuse(tmp_path / "x.json", json.dumps(plain).encode())
