"""The native file gives back exactly what was saved, or an error that says why not."""

import json
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as to_bytes
from test_detect import classical

import jaxmlp as jm
from jaxmlp.combinators import Weighted
from jaxmlp.formats import native
from jaxmlp.potentials.bonded import FourierDihedral, HarmonicBond
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.potentials.silvera_goldman import silvera_goldman
from jaxmlp.potentials.uhlenbeck_ford import uhlenbeck_ford
from jaxmlp.potentials.zbl import zbl


@native.register
@dataclass(frozen=True)
class Springs(jm.Potential):
    """A potential with parameters in every kind of container."""

    species: tuple[int, ...]
    cutoff: float
    name: str = "springs"
    shift: float | None = None

    def init(self, key, dtype=float):
        return {"k": [jnp.ones((2,), dtype), None], "deep": ({"n": jnp.arange(3)}, jnp.zeros((), jnp.float32))}

    def site_energies(self, params, graph):
        u = jnp.where(graph.distances < self.cutoff, (1 - graph.distances / self.cutoff) ** 4, 0.0)
        return params["k"][0][0] * u.sum(axis=1) + params["deep"][0]["n"].sum()


SPRINGS = Springs((14, 8), 4.0 + 1e-15)
NEP_CARBON = NEP((6,), (4.2,), (3.7,), (2, 2), (2, 2), 2, neurons=3)


def same(a, b) -> bool:
    """Equal trees: containers, None, dtypes, shapes and bits."""
    leaves_a, tree_a = jax.tree.flatten(a)
    leaves_b, tree_b = jax.tree.flatten(b)
    return tree_a == tree_b and all(
        x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b)
    )


def models():
    key = jax.random.key(0)
    springs, carbon = SPRINGS.init(key), NEP_CARBON.init(key)
    yield SPRINGS, springs
    yield NEP_CARBON, carbon
    yield NEP_CARBON, jax.tree.map(lambda x: x.astype(jnp.float32), carbon)
    yield SPRINGS + 0.1 * SPRINGS, (springs, springs)
    yield HarmonicBond((18,), ((0, 1), (1, 70_000))), {"k": jnp.ones(2), "length": jnp.ones(2)}
    yield (
        FourierDihedral((18,), ((0, 1, 2, 3),), multiplicities=(1, 3)),
        {"k": jnp.ones((1, 2)), "phase": jnp.ones((1, 2))},
    )
    yield jm.interpolate(NEP_CARBON, NEP_CARBON), {"x": jnp.asarray(0.25), "a": carbon, "b": carbon}
    yield Weighted((NEP_CARBON, NEP_CARBON)), {"x": jnp.asarray([0.5, 2.0]), "members": (carbon, carbon)}
    yield uhlenbeck_ford((6,), 25.0, 300.0, 1.5)
    for _, potential, params in classical():
        yield potential, params
    yield lennard_jones((18,), 0.0104, 3.4, 8.5)
    yield zbl((14, 6), 0.5, 1.2)
    yield silvera_goldman(8.0, tail=True)
    yield jm.Committee.of(NEP_CARBON, 2), jm.Committee.stack([carbon, carbon])


@pytest.mark.parametrize(("potential", "params"), list(models()))
def test_what_was_saved_comes_back_exactly(tmp_path, potential, params):
    native.save(tmp_path / "model.safetensors", potential, params)
    again, params_again = native.load(tmp_path / "model.safetensors")
    assert again == potential
    assert same(params, params_again)
    assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_every_dtype_and_shape_comes_back(tmp_path, dtype):
    arrays = {"scalar": jnp.ones((), dtype), "x/y": jnp.zeros((1, 2), dtype), "x": {"y": jnp.ones((2, 2), dtype)}}
    params = [arrays, (), {}]
    tree = native._flatten(params, "params", flat := {})
    assert same(native._unflatten("file", json.loads(json.dumps(tree)), dict(flat)), jax.tree.map(np.asarray, params))


@dataclass(frozen=True)
class Unknown(jm.Potential):
    species: tuple[int, ...] = (1,)
    cutoff: float = 1.0


@pytest.mark.parametrize(
    ("potential", "params", "message"),
    [
        (Unknown(), {}, r"register\(Unknown\)"),
        (NEP_CARBON, {"W0": jnp.array([jnp.nan])}, "params/W0 holds NaN"),
        (NEP_CARBON, {"W0": "text"}, "expected an array of numbers"),
        (NEP_CARBON, {1: jnp.ones(1)}, "keys that are not texts"),
        (NEP_CARBON, NEP_CARBON.init(jax.random.key(0)) | {"W0": jnp.ones((1, 3, 2))}, "must have shape"),
        (Springs((14,), 4.0, shift=float("inf")), SPRINGS.init(None), "must be finite"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, potential, params, message):
    with pytest.raises(ValueError, match=message):
        native.save(tmp_path / "model.safetensors", potential, params)
    assert not list(tmp_path.iterdir())


def written(tmp_path, *, potential=None, params=None, arrays=None, **metadata):
    """A file with a right checksum and any content."""
    flat: dict = {}
    tree = native._flatten(NEP_CARBON.init(jax.random.key(0)), "params", flat)
    flat |= arrays or {}
    texts = {
        "potential": potential if isinstance(potential, str) else json.dumps(potential or native._encode(NEP_CARBON)),
        "params": json.dumps(params or tree),
    }
    entries = {"format": "jaxmlp", "version": "1", **texts, "checksum": native._checksum(texts, flat), **metadata}
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_bytes(flat, {k: v for k, v in entries.items() if v is not None}))
    return path


def fields(**changes):
    return {"class": "NEP", "fields": native._encode(NEP_CARBON)["fields"] | changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": "pt"}, "format = 'jaxmlp', found 'pt'"),
        ({"version": "2"}, "expected version 1"),
        ({"checksum": None}, "entry 'checksum'"),
        ({"checksum": "0" * 64}, "checksum does not match"),
        ({"potential": "{"}, "expected JSON"),
        ({"potential": "[" * 100_000}, "expected JSON"),
        ({"potential": '{"class": "NEP", "fields": {"cutoff": NaN}}'}, "NaN is not a number"),
        ({"potential": '{"class": "NEPZBL", "fields": {"inner": 1e999, "outer": 2, "cutoff": 2}}'}, "expected finite"),
        ({"potential": "[" * 900 + "]" * 900}, "nested too deeply|found a tuple"),
        ({"potential": {"class": "os.system", "fields": {}}}, "class 'os.system' is not known"),
        ({"potential": {"class": "NEP", "fields": {}}}, "NEP needs fields"),
        ({"potential": {"class": "NEP", "code": "x", "fields": {}}}, "found the keys"),
        ({"potential": {"class": "NEPZBL", "fields": {"inner": 1, "outer": 2, "cutoff": 2}}}, "found a NEPZBL"),
        ({"potential": [1, 2]}, "found a tuple"),
        ({"potential": fields(colour=1)}, "no fields .'colour'"),
        ({"potential": fields(neurons="3")}, "NEP.neurons must be int"),
        ({"potential": fields(species=[6.0])}, "NEP.species must be"),
        ({"potential": fields(n_max=[10**9, 2])}, "beyond 10000"),
        ({"potential": fields(n_max=[9000, 9000])}, "must have shape"),
        ({"potential": fields(radial_cutoffs=[-1.0])}, "NEP refuses its fields"),
        ({"potential": fields(neurons=4)}, "must have shape"),
        ({"params": {"dict": {"W0": "params/W0"}}}, "have no place"),
        ({"params": {"dict": {"W0": "params/W9"}}}, "missing or used twice"),
        ({"params": {"set": []}}, "expected an array name"),
        ({"arrays": {"params/W0": np.full((1, 3, 9), np.inf)}}, "NaN or infinite"),
        ({"arrays": {"params/W0": np.ones((1, 3, 8))}}, "must have shape"),
        ({"arrays": {"params/more": np.ones(1)}}, "have no place"),
        ({"arrays": {"params/W0": np.ones((1, 3, 9), np.complex64)}}, "has dtype C64"),
    ],
)
def test_hostile_files_are_refused_with_a_reason(tmp_path, content, message):
    path = written(tmp_path, **content)
    with pytest.raises(jm.FormatError, match=message) as error:
        native.load(path)
    assert str(path) in str(error.value)


def test_an_absurd_header_is_refused_before_anything_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(jm.FormatError, match="expected a safetensors file"):
        native.load(path)
    path.write_bytes((2**20).to_bytes(8, "little") + b"{}")
    with pytest.raises(jm.FormatError, match="truncated"):
        native.load(path)
    path.write_bytes(b"")
    with pytest.raises(jm.FormatError, match="expected a safetensors file"):
        native.load(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    params = NEP_CARBON.init(jax.random.key(0))
    native.save(path, NEP_CARBON, params)
    return path.read_bytes(), params, path.with_name("fuzzed.safetensors")


def refused_or_right(saved, data: bytes) -> None:
    _, params, path = saved
    path.write_bytes(data)
    try:
        potential, found = native.load(path)
    except jm.FormatError:
        return
    assert potential == NEP_CARBON
    assert same(found, params)


fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(cut=st.integers(0, 10**6))
def test_truncated_files_are_refused(saved, cut):
    data = saved[0][: cut % len(saved[0])]
    saved[2].write_bytes(data)
    with pytest.raises(jm.FormatError):
        native.load(saved[2])


@fuzz
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_flipped_byte_never_gives_another_model(saved, flips):
    data = bytearray(saved[0])
    for place, change in flips:
        data[place % len(data)] ^= change
    refused_or_right(saved, bytes(data))


@fuzz
@given(place=st.integers(0, 3000), junk=st.binary(min_size=1, max_size=40))
def test_inserted_bytes_never_give_another_model(saved, place, junk):
    refused_or_right(saved, saved[0][:place] + junk + saved[0][place:])


def test_a_class_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="rename yours"):
        native.register(dataclass(frozen=True)(type("NEP", (jm.Potential,), {})))
    with pytest.raises(ValueError, match="frozen dataclasses"):
        native.register(re.Pattern)
