"""MTP files: what is read is what was written, and nothing else passes for an MTP file."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.basis.moments import Moments
from jaxmlp.formats import mtp
from jaxmlp.potentials.mtp import MTP
from jaxmlp.potentials.mtp_grade import select
from jaxmlp.potentials.nep import NEP

SMALL = {"cutoff": 4.0, "inner": 1.5, "radial_size": 3, "level": 6}
OWN = Moments(((0, 0, 0, 0), (1, 0, 0, 0)), ((0, 0, 1, 2), (0, 1, 2, 3)), (0, 3))
POTENTIALS = {
    "one species": MTP((14,), **SMALL),
    "two species": MTP((14, 6), **SMALL),
    "smallest": MTP((14,), **SMALL | {"level": 2}),
    "own tables": MTP((14,), **SMALL | {"level": 0}, tables=OWN),
    "active set": MTP((14, 6), **SMALL | {"level": 4}, selection=(14, 6)),
}
TEXT = """MTP
version = 1.1.0
potential_name = MTP1m
scaling = 1.5e-01
species_count = 1
potential_tag =
radial_basis_type = RBChebyshev
\tmin_dist = 1.5
\tmax_dist = 4.0
\tradial_basis_size = 2
\tradial_funcs_count = 1
\tradial_coeffs
\t\t0-0
\t\t\t{0.5, -0.25}
alpha_moments_count = 2
alpha_index_basic_count = 1
alpha_index_basic = {{0, 0, 0, 0}}
alpha_index_times_count = 1
alpha_index_times = {{0, 0, 1, 1}}
alpha_scalar_moments = 2
alpha_moment_mapping = {0, 1}
species_coeffs = {-1.5}
moment_coeffs = {0.1, 0.2}
"""


def start(potential: MTP) -> dict:
    params = potential.init(jax.random.key(3))
    if potential.selection:
        a = select(np.random.default_rng(0).normal(size=(3 * potential.size, potential.size)))
        params |= {"active_set": jnp.asarray(a), "active_inverse": jnp.asarray(np.linalg.inv(a))}
    return params


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(expected[name]), err_msg=name)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("ending", [".mtp", ".almtp", ".safetensors"])
def test_a_saved_file_reads_the_same(name, ending, tmp_path):
    potential, path = POTENTIALS[name], tmp_path / f"potential{ending}"
    params = start(potential)
    jm.save(path, potential, params)
    options = {} if ending == ".safetensors" else {"species": potential.species}
    read, numbers = jm.load(path, **options)
    assert read == potential
    assert_same(numbers, params)


@pytest.mark.shared
def test_published_files_survive_a_round_trip(shared, tmp_path):
    files = sorted((shared / "reference" / "mtp" / "models").glob("*mtp"))
    assert len(files) == 20
    for file in files:
        count = int(file.read_bytes().split(b"species_count", 1)[1].split()[1])
        potential, params = jm.load(file, species=list(range(1, count + 1)))
        assert potential.level in range(2, 29)  # all have the tables of a level
        assert bool(potential.selection) == (file.suffix == ".almtp")
        mtp.save(tmp_path / "x.mtp", potential, params)
        read, numbers = mtp.load(tmp_path / "x.mtp", potential.species)
        assert read == potential
        assert_same(numbers, params)


def test_species_are_symbols_or_numbers(tmp_path):
    path = written(tmp_path / "x.mtp", TEXT)
    assert (
        mtp.load(path, ["Si"])[0].species
        == mtp.load(path, [14])[0].species
        == mtp.load(path, np.array([14]))[0].species
    )
    assert jm.load(path, species=["Si"])[0].species == (14,)
    with pytest.raises(ValueError, match=r"does not name its elements: pass species=\[...\]"):
        jm.load(path)
    for wrong in (["Si", "C"], ["Xx"], [0], []):
        with pytest.raises(ValueError, match="1 type"):
            mtp.load(path, wrong)
    with pytest.raises(ValueError, match="a list of symbols"):
        mtp.load(path, "Si")


def test_pairs_may_be_labelled_by_atomic_numbers(tmp_path):
    path = written(tmp_path / "x.almtp", TEXT.replace("0-0", "14-14"))
    assert mtp.load(path)[0].species == (14,)
    assert mtp.load(path, ["Ge"])[0].species == (32,)


def test_other_writers(tmp_path):
    potential, params = mtp.load(written(tmp_path / "a.mtp", TEXT), [14])
    assert (potential.level, potential.cutoff, potential.inner, potential.radial_size) == (4, 4.0, 1.5, 2)
    assert float(params["scaling"]) == 0.15
    for old, new in (
        ("\n", "\r\n"),
        ("min_dist", "min_val"), ("max_dist", "max"), ("radial_basis_size", "basis_size"), ("\t", "  "), (", ", ","),
    ):  # fmt: skip
        read, numbers = mtp.load(written(tmp_path / "b.mtp", TEXT.replace(old, new)), [14])
        assert read == potential
        assert_same(numbers, params)
    untrained = mtp.load(written(tmp_path / "c.mtp", TEXT.replace("scaling = 1.5e-01\n", "")), [14])
    assert float(untrained[1]["scaling"]) == 1.0


BAD = {
    "empty": ("", "", 1, "end of the file"),
    "kind": ("MTP\n", "MTQ\n", 1, "first word"),
    "template": ("moment_coeffs = {0.1, 0.2}\n", "", 22, "moment_coeffs.*template"),
    "no weights": ("\tradial_coeffs\n\t\t0-0\n\t\t\t{0.5, -0.25}\n", "", 20, "radial_coeffs.*template"),
    "unknown": ("scaling", "scalling", 4, "scalling"),
    "magnetic": ("alpha_moments_count", "magnetic_basis_type = BChebyshev\nalpha_moments_count", 15, "magnetic"),
    "radial basis": ("RBChebyshev", "RBShapeev", 7, "RBShapeev"),
    "twice": ("version = 1.1.0", "scaling = 1", 4, "once"),
    "nan": ("1.5e-01", "nan", 4, "finite"),
    "huge number": ("1.5e-01", "1e999", 4, "finite"),
    "underscore": ("0.25", "0.2_5", 14, "finite"),
    "types": ("species_count = 1", "species_count = 2", 15, "all pairs of 2"),
    "no types": ("species_count = 1", "species_count = 0", 5, "1 to 118"),
    "cutoff": ("max_dist = 4.0", "max_dist = 1e9", 9, "0 to 100"),
    "distances": ("max_dist = 4.0", "max_dist = 1.0", 19, "min_dist is 1.5"),
    "no size": ("\tradial_basis_size = 2\n", "", 11, "basis_size"),
    "coefficients": ("{0.5, -0.25}", "{0.5}", 14, "2 entries"),
    "more coefficients": ("{0.5, -0.25}", "{0.5, -0.25, 0.1}", 14, "after 2 entries"),
    "functions": ("radial_funcs_count = 1", "radial_funcs_count = 2", 15, "radial_coeffs of 0-0"),
    "count": ("basic_count = 1", "basic_count = 2", 17, "2 entries"),
    "huge count": ("basic_count = 1", "basic_count = 9999999999", 16, "integer"),
    "moments": ("moments_count = 2", "moments_count = 3", 19, "alpha_moments_count is 3"),
    "product": ("{{0, 0, 1, 1}}", "{{0, 5, 1, 1}}", 19, "not made before"),
    "order": ("species_count = 1", "species_coeffs = {1}", 5, "species_count before"),
    "mapping": ("mapping = {0, 1}", "mapping = {0, 7}", 19, "scalars"),
    "row": ("{{0, 0, 0, 0}}", "{{0, 0, 0}}", 17, "4 entries"),
    "minus": ("{{0, 0, 0, 0}}", "{{0, 0, 0, -1}}", 17, "integer"),
    "comma": ("{0.1, 0.2}", "{0.1 0.2}", 23, ", or }"),
    "truncated": (", 0.2}\n", "", 23, "truncated"),
    "pair twice": ("0-0\n", "0-0\n{1, 2}\n0-0\n", 15, "once"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(name, tmp_path):
    old, new, line, match = BAD[name]
    assert old in TEXT
    text = TEXT.replace(old, new, 1) if old else ""
    with pytest.raises(FormatError, match=match) as error:
        mtp.load(written(tmp_path / "x.mtp", text), [14])
    assert "x.mtp" in str(error.value)
    assert error.value.line == line


def test_a_damaged_active_set(tmp_path):
    potential = POTENTIALS["active set"]
    mtp.save(tmp_path / "x.almtp", potential, start(potential))
    data = (tmp_path / "x.almtp").read_bytes()
    at = data.index(b"weight_scaling 2\n#") + 18
    n = potential.size
    for damaged in (
        data[: at + 100],
        data[:at] + b"\0" * 8 * n + data[at + 8 * n :],
        data[:at] + b"\xff" * 8 + data[at + 8 :],
    ):
        (tmp_path / "y.almtp").write_bytes(damaged)
        with pytest.raises(FormatError, match="active set"):
            mtp.load(tmp_path / "y.almtp", potential.species)
    (tmp_path / "y.almtp").write_bytes(data[: data.index(b"\n#MVS")] + b"\n")
    read, numbers = mtp.load(tmp_path / "y.almtp", potential.species)
    assert read == replace(potential, selection=())
    assert "active_set" not in numbers


def test_binary_data(tmp_path):
    (tmp_path / "x.mtp").write_bytes(b"MTP\n\0\1\2")
    with pytest.raises(FormatError, match="binary"):
        mtp.load(tmp_path / "x.mtp", [14])


def test_saving_refuses_what_a_file_cannot_say(tmp_path):
    potential = POTENTIALS["active set"]
    params = start(potential)
    with pytest.raises(ValueError, match="parameters of this MTP"):
        mtp.save(tmp_path / "x", potential, {k: v for k, v in params.items() if k != "scaling"})
    with pytest.raises(ValueError, match="finite"):
        mtp.save(tmp_path / "x", potential, params | {"scaling": np.nan})
    with pytest.raises(ValueError, match="shape"):
        mtp.save(tmp_path / "x", potential, params | {"moment_coeffs": np.ones(1)})
    with pytest.raises(ValueError, match="drop it"):
        mtp.save(tmp_path / "x", *potential.restrict(params, (6,)))
    with pytest.raises(ValueError, match="not a NEP"):
        mtp.save(tmp_path / "x", NEP((14,), (5.0,), (4.0,), (2, 1), (3, 2), 2), {})
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    """Files of every kind, to be damaged."""
    out = []
    for potential in POTENTIALS.values():
        path = tmp_path_factory.mktemp("seed") / "x.mtp"
        mtp.save(path, potential, start(potential))
        out.append(path.read_bytes())
    return out


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for species in ([14], [14, 6]):
        refused = None
        try:
            potential, params = mtp.load(path, species)
        except ValueError as error:
            refused = error
        if refused is None:
            assert all(np.isfinite(np.asarray(x)).all() for x in params.values())
            assert params["moment_coeffs"].shape == (len(potential.moments.scalars),)
        elif isinstance(refused, FormatError):
            assert refused.line is not None
        else:
            assert "each a different element" in str(refused)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(seeds, tmp_path, data):
    seed = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(seed) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" \n.-+0123456789{},=enE"))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    load_or_refuse(tmp_path / "x.mtp", bytes(seed))


@FUZZ
@given(st.lists(st.sampled_from(TEXT.splitlines()), max_size=40))
def test_shuffled_lines(tmp_path, lines):
    load_or_refuse(tmp_path / "x.mtp", "\n".join(["MTP", *lines]).encode())


@FUZZ
@given(st.text("MTP {}=,\n0123456789.-alpha_index_basic_count species radial", max_size=120))
def test_arbitrary_text(tmp_path, text):
    load_or_refuse(tmp_path / "x.mtp", b"MTP\n" + text.encode())
