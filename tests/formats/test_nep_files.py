"""NEP files: what is read is what was written, and nothing else passes for a NEP file."""

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmlp import FormatError
from jaxmlp.formats import nep
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.nep_charge import NEPCharge
from jaxmlp.potentials.nep_tensor import NEPDipole, NEPPolarizability
from jaxmlp.potentials.nep_zbl import NEPZBL

SMALL = {"n_max": (2, 1), "basis_size": (3, 2), "l_max": 2, "neurons": 4}
ONE = {"species": (14,), "radial_cutoffs": (5.0,), "angular_cutoffs": (4.0,)} | SMALL
TWO = {"species": (52, 82), "radial_cutoffs": (6.0, 6.0), "angular_cutoffs": (4.0, 4.0)} | SMALL
MIXED = TWO | {"radial_cutoffs": (6.0, 5.5), "angular_cutoffs": (4.0, 3.7), "neighbor_hints": (90, 30)}
NEP2 = {"version": 2, "basis_size": (2, 1)}
POTENTIALS = {
    "nep4": NEP(**ONE, extra=("222", "1111")),
    "nep4 hints": NEP(**ONE, neighbor_hints=(80, 47)),
    "nep3": NEP(**TWO, version=3, extra=("1111",)),
    "nep5": NEP(**TWO, version=5, extra=("222",)),
    "nep2": NEP(**TWO | NEP2),
    "new terms": NEP(**TWO, extra=("222", "112", "134")),
    "cutoffs": NEP(**MIXED),
    "universal": NEP(**TWO, zbl=NEPZBL(0.7, 1.4, 4.0)),
    "type-wise": NEP(**MIXED, zbl=NEPZBL(1.0, 2.0, 4.0, factor=0.65)),
    "flexible": NEP(**TWO, zbl=NEPZBL(0.0, 0.0, 4.0, flexible=True)),
    "temperature": NEP(**TWO, zbl=NEPZBL(0.7, 1.4, 4.0), temperature=True),
    "dipole": NEPDipole(**TWO),
    "polarizability": NEPPolarizability(**TWO),
    "polarizability 3": NEPPolarizability(**TWO, version=3),
    "charge": NEPCharge(**TWO, mode=2, zbl=NEPZBL(0.7, 1.4, 4.0)),
}
TEXT = (
    """nep4 1 Si
cutoff 5 4 80 47
n_max 0 0
basis_size 1 1
l_max 1 0 0
ANN 2 0
"""
    + "0.5\n" * (2 * 2 + 2 + 2 + 1 + 2 + 2 + 2)
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(expected[name]), err_msg=name)


@pytest.mark.parametrize("name", POTENTIALS)
def test_a_saved_file_reads_the_same(name, tmp_path):
    potential = POTENTIALS[name]
    params = potential.init(jax.random.key(3))
    nep.save(tmp_path / "nep.txt", potential, params)
    read, numbers = nep.load(tmp_path / "nep.txt")
    assert read == potential
    assert_same(numbers, params)


def test_one_species_of_version_two_has_no_coefficients(tmp_path):
    potential = NEP(**ONE | NEP2)
    params = potential.init(jax.random.key(0))
    with pytest.raises(ValueError, match="no place for coefficients"):
        nep.save(tmp_path / "nep.txt", potential, params)
    del params["c_radial"], params["c_angular"]
    nep.save(tmp_path / "nep.txt", potential, params)
    read, numbers = nep.load(tmp_path / "nep.txt")
    assert read == potential
    assert_same(numbers, params)


@pytest.mark.shared
def test_published_files_survive_a_round_trip(shared, tmp_path):
    files = sorted((shared / "reference" / "nep" / "models").glob("*.txt"))
    assert len(files) == 23
    for file in files:
        potential, params = nep.load(file)
        nep.save(tmp_path / "nep.txt", potential, params)
        read, numbers = nep.load(tmp_path / "nep.txt")
        assert read == potential
        assert_same(numbers, params)


def test_old_files_of_version_three_leave_out_the_basis_size(tmp_path):
    for potential in (
        NEP(**TWO | {"version": 3, "basis_size": (2, 1)}),
        NEP(**TWO | {"version": 3, "basis_size": (8, 8)}),
    ):
        params = potential.init(jax.random.key(1))
        nep.save(tmp_path / "nep.txt", potential, params)
        lines = (tmp_path / "nep.txt").read_text().split("\n")
        old = written(
            tmp_path / "old.txt", "\n".join(x for x in lines if "basis_size" not in x).replace("2 0 0", "2 0")
        )
        read, numbers = nep.load(old)
        assert read == potential
        assert_same(numbers, params)


def test_typewise_factors_at_the_end_of_the_cutoff_line(tmp_path):
    potential = NEP(**TWO, zbl=NEPZBL(1.0, 2.0, 4.0))
    nep.save(tmp_path / "nep.txt", potential, potential.init(jax.random.key(1)))
    text = (tmp_path / "nep.txt").read_text()
    read, _ = nep.load(written(tmp_path / "a.txt", text.replace("cutoff 6.0 4.0", "cutoff 6.0 4.0 90 30 0 0 0.7")))
    assert read.zbl == NEPZBL(1.0, 2.0, 4.0, factor=0.7)
    with pytest.raises(FormatError, match="species radii"):
        nep.load(written(tmp_path / "b.txt", text.replace("cutoff 6.0 4.0", "cutoff 6.0 4.0 90 30 2 2 0.7")))


BAD = {
    "empty": ("", "", 1, "end of the file"),
    "kind": ("nep4", "nep6", 1, r"nep6"),
    "dispersion": ("nep4", "nep4_vdw", 1, "not supported"),
    "combination": ("nep4", "nep5_dipole", 1, "no such combination"),
    "symbol": ("Si", "Sx", 1, "element symbols"),
    "count": ("nep4 1", "nep4 2", 1, "2 different"),
    "huge count": ("nep4 1", "nep4 999999999", 1, "1 to 118"),
    "zbl missing": ("nep4", "nep4_zbl", 2, "expected `zbl"),
    "keyword": ("cutoff", "cutof", 2, "expected `cutoff"),
    "nan": ("cutoff 5", "cutoff nan", 2, "finite"),
    "infinite": ("cutoff 5", "cutoff inf", 2, "finite"),
    "negative": ("cutoff 5", "cutoff -5", 2, "more than 0"),
    "far": ("cutoff 5", "cutoff 5e9", 2, "at most 100"),
    "cutoffs": ("cutoff 5 4 80 47", "cutoff 5 4 80", 2, "expected `cutoff"),
    "huge n_max": ("n_max 0", "n_max 99999999", 3, "0 to 10000"),
    "real count": ("n_max 0", "n_max 1.5", 3, "whole numbers"),
    "too many functions": ("n_max 0", "n_max 9999", None, "asks for"),
    "basis": ("basis_size", "basis", 4, "expected `basis_size"),
    "l_max": ("l_max 1", "l_max 9", 5, "1 to 8"),
    "flag": ("l_max 1 0 0", "l_max 1 0 2", 5, "0 to 1"),
    "layers": ("ANN 2 0", "ANN 2 5", 6, "0 to 0"),
    "no neuron": ("ANN 2 0", "ANN 0 0", 6, "1 to"),
    "word": ("ANN 2 0\n0.5", "ANN 2 0\n0.5x", 7, "one number"),
    "number nan": ("ANN 2 0\n0.5", "ANN 2 0\nnan", 7, "finite"),
    "underscore": ("ANN 2 0\n0.5\n0.5", "ANN 2 0\n0.5\n1_0", 8, "finite"),
    "extra number": ("ANN 2 0\n0.5", "ANN 2 0\n0.5 0.5", 21, "asks for 15 .* holds 16"),
    "truncated": ("\n0.5\n0.5\n0.5\n0.5\n", "\n0.5\n", 18, "truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(name, tmp_path):
    old, new, line, match = BAD[name]
    assert old in TEXT
    text = TEXT.replace(old, new, 1) if old else ""
    with pytest.raises(FormatError, match=match) as error:
        nep.load(written(tmp_path / "nep.txt", text))
    assert "nep.txt" in str(error.value)
    assert line in (None, error.value.line)


def test_the_template_of_bad_files_is_good(tmp_path):
    potential, _ = nep.load(written(tmp_path / "nep.txt", TEXT))
    assert potential.size == 2


def test_a_binary_file(tmp_path):
    path = tmp_path / "nep.txt"
    path.write_bytes(b"PK\x03\x04\x00\x00" * 100)
    with pytest.raises(FormatError, match="binary"):
        nep.load(path)


def test_saving_refuses_what_a_file_cannot_say(tmp_path):
    potential = NEP(**ONE)
    params = potential.init(jax.random.key(0))
    with pytest.raises(ValueError, match="lack 'b1'"):
        nep.save(tmp_path / "x", potential, {k: v for k, v in params.items() if k != "b1"})
    with pytest.raises(ValueError, match="finite"):
        nep.save(tmp_path / "x", potential, params | {"b1": np.nan})
    with pytest.raises(ValueError, match="shape"):
        nep.save(tmp_path / "x", potential, params | {"q_scaler": np.ones(3)})
    far = NEP(**ONE, zbl=NEPZBL(0.7, 1.4, 5.0))
    with pytest.raises(ValueError, match="angular cutoff"):
        nep.save(tmp_path / "x", far, params)
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[bytes]:
    """Files of every kind, to be damaged."""
    out = []
    for potential in POTENTIALS.values():
        path = tmp_path_factory.mktemp("seed") / "nep.txt"
        nep.save(path, potential, potential.init(jax.random.key(0)))
        out.append(path.read_bytes())
    return out


def load_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        potential, params = nep.load(path)
    except FormatError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.line is not None
        return
    assert all(np.isfinite(np.asarray(x)).all() for x in params.values())
    assert params["q_scaler"].shape == (potential.size,)


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(seeds, tmp_path, data):
    seed = bytearray(data.draw(st.sampled_from(seeds)))
    head = min(len(seed), 160)  # most flips go to the header, where they do harm
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, (head if data.draw(st.booleans()) else len(seed)) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" \n.-+0123456789_enZ"))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    load_or_refuse(tmp_path / "nep.txt", bytes(seed))


@FUZZ
@given(st.text("nep345_zbl charge123 dipole SiTePb cutoff max basis l ANN \n0123456789.-", max_size=120))
def test_arbitrary_text(tmp_path, text):
    load_or_refuse(tmp_path / "nep.txt", text.encode())
