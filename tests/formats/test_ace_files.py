"""ACE files: what is read is what was written, and nothing else passes for an ACE file."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.formats import ace
from jaxmlp.potentials.ace import ACE, ACEBond, ACEEmbedding

ONE = (((0,), (1,), (0,), (), ()), ((0, 0), (1, 2), (1, 1), (), ()), ((0, 0, 0), (1, 1, 2), (1, 1, 2), (2,), ()))
TWO = (((1,), (2,), (0,), (), ()), ((0, 1), (1, 1), (1, 1), (), (-1, 1, 0, 0)))
POTENTIALS = {
    "one": ACE((14,), ((ACEBond("ChebExpCos", 3, 2.5, 4.0),),), (ACEEmbedding(),), (ONE,), 2, 2),
    "two": ACE(
        (14, 8),
        ((ACEBond("ChebPow", 2, 2.0, 4.0), ACEBond("SBessel", 3, 1.0, 4.5)),
         (ACEBond("ChebLinear", 3, 1.0, 4.5), ACEBond("ChebExpCos", 3, 4.0, 4.2, 0.5, 1.5, 0.2))),
        (ACEEmbedding("FinnisSinclairShiftedScaled", (1.0, 0.5), (1.0, 0.5)),
         ACEEmbedding("FinnisSinclair", (1.0,), (0.7,))),
        (ONE + TWO, TWO),
        2,
        2,
        inner="distance",
    ),
}  # fmt: skip
YAML = """global:
  DeltaSplineBins: 0.001
species:
  - speciesblock: Si
    ndensityi: 1
    npoti: FinnisSinclair
    parameters: [1.0, 1.0]
    lmaxi: 1
    nradmaxi: 2
    nradbaseij: 2
    radbase: ChebPow
    radparameters: [2.0]
    radcoefficients: [1, 1, 0, 0, 0, 0, 1, 1]
    rcutij: 4.0
    dcutij: 0.01
    core-repulsion: [10, 2]
    nbody:
      - {type: Si Si, nr: [1], nl: [0], c: 1.5}
      - {type: Si Si Si, nr: [1, 2], nl: [1, 1], c: [0.5]}
      - {type: Si Si Si Si, nr: [1, 1, 1], nl: [1, 1, 0], lint: [0], c: [0.25]}
"""
TEXT = """nelements=1
elements: Si
lmax=1
embedding-function: FinnisSinclair
2 FS parameters: 1.0 1.0
core energy-cutoff parameters: 100 20
radbasename=ChebPow
nradbase=2
nradmax=2
cutoffmax=4.0
deltaSplineBins=0.001
core repulsion parameters: 10 2
radparameter= 2.0
cutoff= 4.0
dcut= 0.01
crad= 1 1 0 0
 0 0 1 1
rankmax=2
ndensitymax=1
num_c_tilde_max=2
num_ms_combinations_max=2
total_basis_size_rank1: 1
ctilde_basis_func: rank=1 ndens=1 mu0=0 mu=( 0 )
n=( 1 )
l=( 0 )
num_ms=1
< 0 >: 1.5
total_basis_size: 1
ctilde_basis_func: rank=2 ndens=1 mu0=0 mu=( 0 0 )
n=( 1 2 )
l=( 1 1 )
num_ms=2
< 0 0 >: 0.5
< 1 -1 >: -0.5
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def energy(potential, params) -> float:
    rng = np.random.default_rng(3)
    R = np.array([[x, y, z] for x in (0, 2) for y in (0, 2) for z in (0, 2)]) * 1.15 + rng.uniform(-0.2, 0.2, (8, 3))
    system = jm.System(np.resize(potential.species, 8), R)
    return float(jax.jit(jm.energy_fn(potential, system))(jnp.asarray(R), None, params))


def drawn(potential):
    params = potential.init(jax.random.key(3))
    keys = jax.random.split(jax.random.key(4), len(params))
    return {name: x + 0.3 * jax.random.normal(k, x.shape) for k, (name, x) in zip(keys, params.items(), strict=True)}


@pytest.mark.parametrize("name", POTENTIALS)
def test_a_saved_file_gives_the_same_energy(name, tmp_path):
    potential = POTENTIALS[name]
    params = drawn(potential)
    jm.save(tmp_path / "x.yace", potential, params)
    read, numbers = jm.load(tmp_path / "x.yace")
    assert energy(read, numbers) == pytest.approx(energy(potential, params), rel=1e-12)
    ace.save(tmp_path / "y.yace", read, numbers)  # in the C-tilde basis the file is the model, to the last bit
    again, same = ace.load(tmp_path / "y.yace")
    assert again == read
    for key in numbers:
        np.testing.assert_array_equal(same[key], numbers[key])


@pytest.mark.shared
def test_published_files_survive_a_round_trip(shared, tmp_path):
    files = sorted((shared / "reference" / "ace" / "models").glob("*"))
    assert len(files) == 16
    for file in files:
        potential, params = jm.load(file)
        assert isinstance(potential, ACE)
        if file.suffix == ".yace":
            ace.save(tmp_path / "x.yace", potential, params)
            read, numbers = ace.load(tmp_path / "x.yace")
            assert read.embeddings == potential.embeddings
            np.testing.assert_array_equal(numbers["c"], params["c"])


def test_three_forms_of_one_model(tmp_path):
    b, c = jm.load(written(tmp_path / "a.yaml", YAML)), jm.load(written(tmp_path / "a.ace", TEXT))
    assert b[0].size == 3
    assert c[0].size == 3
    np.testing.assert_array_equal(b[1]["radial"], c[1]["radial"])
    for potential, params in (b, c):
        ace.save(tmp_path / "a.yace", potential, params)
        assert energy(*jm.load(tmp_path / "a.yace")) == pytest.approx(energy(potential, params), rel=1e-12)


BAD = {
    ".yaml": [
        ("DeltaSplineBins", "DeltaBins", "DeltaSplineBins"),
        ("speciesblock: Si", "speciesblock: Sx", "element symbols"),
        ("FinnisSinclair", "Other", "embedding of"),
        ("parameters: [1.0, 1.0]", "parameters: [1.0]", "2 numbers"),
        ("lmaxi: 1", "lmaxi: 99", "between 0 and 20"),
        ("radbase: ChebPow", "radbase: Cheb", "radial functions of"),
        ("0, 1, 1]", "0, 1]", "a list of 8"),
        ("rcutij: 4.0", "rcutij: nan", "finite"),
        ("rcutij: 4.0", "rcutij: -1", "between 0 and 100"),
        ("nr: [1]", "nr: [3]", "radial functions"),
        ("type: Si Si,", "type: Si O,", "elements among"),
        ("lint: [0]", "lint: [1]", "couple to a scalar"),
        ("c: [0.5]", "c: [0.5, 1]", "a list of 1"),
        ("    lmaxi: 1", "    lmaxi: 1\n    surprise: 3", "not known"),
        ("    lmaxi: 1", "    lmaxi: 1\n    lmaxi: 1", "once"),
        ("[1.0, 1.0]", "[1.0, 1.0", "expected an ACE"),
    ],
    ".ace": [
        ("nelements=1", "nelements=3", "between 1 and 1"),
        ("lmax=1", "lmaks=1", "expected `lmax=`"),
        ("crad= 1 1 0 0", "crad= 1 1 0 x", "radial coefficient"),
        ("crad= 1 1 0 0", "crad= 1 1 0", "radial coefficient"),
        ("nradbase=2", "nradbase=900", "radial coefficients"),
        ("mu0=0", "mu0=1", "mu0"),
        ("< 1 -1 >", "< 1 -7 >", "beyond its l"),
        ("< 1 -1 >: -0.5", "", "truncated"),
        ("-0.5", "-0.5 7", "end of the file"),
        ("-0.5", "inf", "finite"),
    ],
}


@pytest.mark.parametrize(("ending", "old", "new", "match"), [(e, *bad) for e, rows in BAD.items() for bad in rows])
def test_bad_files_say_where_and_why(ending, old, new, match, tmp_path):
    text = YAML if ending == ".yaml" else TEXT
    assert old in text
    with pytest.raises(FormatError, match=match) as error:
        ace.load(written(tmp_path / f"model{ending}", text.replace(old, new, 1)))
    assert "model" in str(error.value)
    assert error.value.line is not None


def test_saving_refuses_what_is_not_finite(tmp_path):
    potential = POTENTIALS["one"]
    params = potential.init(jax.random.key(0))
    with pytest.raises(ValueError, match="finite"):
        ace.save(tmp_path / "x", potential, params | {"E0": np.array([np.nan])})
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seed")
    out = [YAML.encode(), TEXT.encode()]
    for potential in POTENTIALS.values():
        ace.save(folder / "x.yace", potential, potential.init(jax.random.key(0)))
        out.append((folder / "x.yace").read_bytes())
    return out


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        potential, params = ace.load(path)
    except FormatError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.line is not None
        return
    assert all(np.isfinite(np.asarray(x)).all() for x in params.values())
    assert params["c"].shape == (potential.size, potential.densities)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(seeds, tmp_path, data):
    seed = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(seed) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" \n.-+0123456789_enZ[]{}:,*&!"))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    load_or_refuse(tmp_path / "x", bytes(seed))


@FUZZ
@given(st.text("elements: Si E0[]{},&*!-\nnelements=<>()0123456789. speciesblock", max_size=120))
def test_arbitrary_text(tmp_path, text):
    load_or_refuse(tmp_path / "x", text.encode())
