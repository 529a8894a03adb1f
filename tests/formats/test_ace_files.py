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
from jaxmlp.potentials.ace_functions import functions
from jaxmlp.potentials.ace_tables import terms

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


YACE = """elements: [Si]
E0: [0.5]
deltaSplineBins: 0.001
embeddings:
  0: {ndensity: 1, FS_parameters: [1.0, 1.0], npoti: FinnisSinclair, rho_core_cutoff: 100, drho_core_cutoff: 20}
bonds:
  [0, 0]: {nradmax: 2, lmax: 1, nradbasemax: 2, radbasename: ChebPow, radparameters: [2.0],
    radcoefficients: [[[1, 0], [1, 0]], [[0, 1], [0, 1]]], prehc: 10, lambdahc: 2, rcut: 4.0, dcut: 0.01}
functions:
  0:
    - {mu0: 0, rank: 1, ndensity: 1, num_ms_combs: 1, mus: [0], ns: [1], ls: [0], ms_combs: [0], ctildes: [1.5]}
    - {mu0: 0, rank: 2, ndensity: 1, num_ms_combs: 2, mus: [0, 0], ns: [1, 2], ls: [1, 1], ms_combs: [0, 0, 1, -1],
       ctildes: [0.5, -0.5]}
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
        (", c: [0.5]", "", "an entry `c`"),
        ("    rcutij: 4.0\n", "", "an entry `rcutij`"),
        ("nr: [1, 2], nl: [1, 1], c", "nr: [1], nl: [1, 1], c", "a list of 2"),
        ("nr: [1, 2], nl: [1, 1], c", "nr: [1, 2], nl: [1, 0], c", "couple to a scalar"),
        (", lint: [0]", "", "couple to a scalar"),
        ("c: 1.5}", "c: 1.5, weight: 2}", "not known"),
        ("parameters: [1.0, 1.0]", "parameters: !!python/object/apply:os.system [exit]", "2 numbers|finite"),
    ],
    ".yace": [
        ("elements: [Si]", "elements: [Si, Si]", "different element symbols"),
        ("elements: [Si]", "elements: [Si, O]", "a list of 2"),
        ("E0: [0.5]", "E0: [0.5, 0.5]", "a list of 1"),
        ("deltaSplineBins: 0.001\n", "", "an entry `deltaSplineBins`"),
        ("E0: [0.5]", "E0: [0.5]\nE1: 3", "`E1` that is not known"),
        ("  [0, 0]: {", "  [0, 1]: {", "between 0 and 0"),
        ("rcut: 4.0, ", "", "an entry `rcut`"),
        ("dcut: 0.01", "dcut: 0.01, inner_cutoff_type: hard", "inner_cutoff_type of"),
        ("[0, 1]]]", "[0, 1, 7]]]", "beyond and not zero"),
        ("ndensity: 1, FS", "ndensity: 2, FS", "4 numbers"),
        ("ctildes: [0.5, -0.5]", "ctildes: [0.5]", "a list of 2"),
        ("ctildes: [0.5, -0.5]", "weights: [0.5, -0.5]", "an entry `ctildes`"),
        (", -1],", ", -2],", "beyond its l"),
        ("ns: [1, 2]", "ns: [1, 3]", "radial functions"),
        ("num_ms_combs: 2", "num_ms_combs: 3", "a list of 6"),
        ("mu0: 0, rank: 2", "mu0: 1, rank: 2", "mu0"),
        ("functions:\n  0:", "functions:\n  1:", "between 0 and 0"),
    ],
    ".ace": [
        ("nelements=1", "nelements=0", "between 1 and 118"),
        ("nelements=1", "nelements=2", "element symbols"),
        ("embedding-function: FinnisSinclair", "embedding-function: Other", "one of"),
        (
            "embedding-function: FinnisSinclair\n2 FS parameters: 1.0 1.0",
            "2 FS parameters: 1.0 0.5",
            "embedding-function",
        ),
        ("2 FS parameters: 1.0 1.0", "3 FS parameters: 1.0 1.0", "finite"),
        ("ndens=1", "ndens=2", "ndens"),
        ("ndensitymax=1", "ndensitymax=2", "4 FS parameters"),
        ("mu=( 0 0 )", "mu=( 0 1 )", "an entry of mu"),
        ("num_ms=2", "num_ms=1", "end of the file"),
        ("total_basis_size: 1", "total_basis_size: 2", "truncated"),
        ("total_basis_size: 1", "total_basis_size: x", "a number of functions"),
        ("cutoff= 4.0", "cutof= 4.0", "expected `cutoff=`"),
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
    text = {".yaml": YAML, ".yace": YACE, ".ace": TEXT}[ending]
    assert old in text
    with pytest.raises(FormatError, match=match) as error:
        ace.load(written(tmp_path / f"model{ending}", text.replace(old, new, 1)))
    assert "model" in str(error.value)
    assert error.value.line is not None


def as_text(potential: ACE, params) -> str:
    """A .ace file of several elements, in the order of LAMMPS' own writer (ACECTildeBasisSet::save)."""
    s, size = len(potential.species), potential.radial_size
    first = potential.embeddings[0]
    bonds = [b for row in potential.bonds for b in row]
    core, radial = np.asarray(params["core"]).reshape(-1, 2), np.asarray(params["radial"])
    numbers = lambda x: " ".join(repr(float(v)) for v in np.ravel(x))
    blocks, at = {1: [[] for _ in range(s)], 2: [[] for _ in range(s)]}, 0
    for t, block in enumerate(potential.functions):
        for f in block:
            part = terms(f)
            rows = [
                (p, w * c) for terms_, c in zip(part, np.asarray(params["c"])[at:], strict=False) for p, w in terms_
            ]
            at += len(part)
            mus, ns, ls = ([factor[k] for factor in rows[0][0]] for k in range(3))
            text = [f"ctilde_basis_func: rank={len(mus)} ndens={len(first.weights)} mu0={t} mu=( {str(mus)[1:-1]} )"]
            text += [f"{name}=( {' '.join(map(str, x))} )" for name, x in (("n", ns), ("l", ls))]
            text += [f"num_ms={len(rows)}"]
            text += [f"< {' '.join(str(x[3]) for x in p)} >:  {numbers(c)}" for p, c in rows]
            blocks[min(len(mus), 2)][t].append("\n".join(text))
    lists = []
    for title, k in (("total_basis_size_rank1", 1), ("total_basis_size", 2)):
        lists += [f"{title}: {' '.join(str(len(b)) for b in blocks[k])}", *(x for b in blocks[k] for x in b)]
    functions = "\n".join(lists)
    symbols = {14: "Si", 8: "O", 6: "C"}
    return f"""nelements={s}
elements: {" ".join(symbols[z] for z in potential.species)}

lmax={potential.l_max}

embedding-function: {first.kind}
{2 * len(first.weights)} FS parameters:  {numbers(list(zip(first.weights, first.powers, strict=True)))}
core energy-cutoff parameters: {numbers([(e.core_cutoff, e.core_width) for e in potential.embeddings])}
E0: {numbers(params["E0"])}

radbasename={bonds[0].family}
nradbase={size}
nradmax={potential.n_max}
cutoffmax={potential.cutoff}
deltaSplineBins=0.001
core repulsion parameters: {numbers(core)}
radparameter= {numbers([b.decay for b in bonds])}
cutoff= {numbers([b.cutoff for b in bonds])}
dcut= {numbers([b.width for b in bonds])}
crad= {numbers(radial.transpose(0, 1, 4, 2, 3))}

rankmax=4
ndensitymax={len(first.weights)}

num_c_tilde_max=1
num_ms_combinations_max=1
{functions}
"""


def test_text_files_of_several_elements(tmp_path):
    """Every number of an element and of an ordered pair is its own; the .yace form is the other way round the loop."""
    cutoffs = [[4.0, 4.1, 4.2], [4.3, 4.4, 4.5], [4.6, 4.7, 4.8]]
    bonds = tuple(
        tuple(
            ACEBond("ChebExpCos", 3, 2.0 + 0.1 * i + 0.3 * j, rc, 0.2 + 0.1 * i + 0.05 * j) for j, rc in enumerate(row)
        )
        for i, row in enumerate(cutoffs)
    )
    embeddings = tuple(
        ACEEmbedding("FinnisSinclairShiftedScaled", (1.0, 0.5), (1.0, 0.5), 50.0 + t, 5.0 + t) for t in range(3)
    )
    listed = tuple(functions(3, (2, 2, 1), (0, 2, 1)))
    potential = ACE((14, 8, 6), bonds, embeddings, (listed[:-10], listed[10:], listed), 2, 2)
    params = drawn(potential)
    read, numbers = jm.load(written(tmp_path / "x.ace", as_text(potential, params)))
    assert read.bonds == bonds
    assert read.embeddings == embeddings
    for name in ("radial", "core", "E0"):
        np.testing.assert_array_equal(numbers[name], params[name])
    assert energy(read, numbers) == pytest.approx(energy(potential, params), rel=1e-12)
    ace.save(tmp_path / "y.yace", read, numbers)
    assert energy(*ace.load(tmp_path / "y.yace")) == pytest.approx(energy(potential, params), rel=1e-12)


def test_a_text_file_may_leave_the_embedding_function_out(tmp_path):
    without = TEXT.replace("embedding-function: FinnisSinclair\n", "")
    assert ace.load(written(tmp_path / "a.ace", without))[0] == ace.load(written(tmp_path / "b.ace", TEXT))[0]


BOMBS = {
    "aliases": "l0: &l0 [x]\n" + "\n".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 9)}]" for k in range(1, 40)),
    "rows": f"r: &r [{', '.join('0' * 3000)}]\nc: &c [{', '.join(['*r'] * 3000)}]\nradcoefficients: [*c, *c, *c]",
    "itself": "bonds: &a {0: *a}",
    "deep": "bonds: " + "[" * 50_000,
    "deep block": "bonds:\n  " + "- " * 50_000,
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("kind", ["elements: [Si]\nembeddings: {}\n", "speciesblock: 1\nspecies: []\n"])
def test_small_files_that_stand_for_large_ones_are_refused(name, kind, tmp_path):
    with pytest.raises(FormatError, match=r"aliases stand for|within \d+ others"):
        ace.load(written(tmp_path / "model", kind + BOMBS[name]))


def test_aliases_of_honest_files_are_read(tmp_path):
    """Writers name lists that occur twice."""
    text = YACE.replace("ns: [1], ls: [0]", "ns: &a [1], ls: [0]").replace("[[1, 0], [1, 0]]", "[&b [1, 0], *b]")
    a, b = (ace.load(written(tmp_path / "m.yace", t)) for t in (text, YACE))
    assert a[0] == b[0]
    np.testing.assert_array_equal(a[1]["radial"], b[1]["radial"])


@pytest.mark.parametrize("head", [b"\n", b" ", b"# \n", b"\n - {", b"- ", b" \r\n"])
def test_recognition_takes_no_time(head):
    assert not ace.recognise(head * (60_000 // len(head)) + b"x", "model")


def test_saving_refuses_what_is_not_finite(tmp_path):
    potential = POTENTIALS["one"]
    params = potential.init(jax.random.key(0))
    with pytest.raises(ValueError, match="finite"):
        ace.save(tmp_path / "x", potential, params | {"E0": np.array([np.nan])})
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("seed")
    out = [YAML.encode(), YACE.encode(), TEXT.encode()]
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
