"""LAMMPS .sw and .tersoff files: what is read, what is refused and where, and files written back."""

import contextlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp.formats import lammps_sw, lammps_tersoff
from jaxmlp.formats.errors import FormatError
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

SW = """# a title
Ga Ga Ga 2.1 2.1 1.8 20.0 1.2 -0.3 7.0 0.60 4 0 0.0

Ga Ga N  1.9 0.0 0.0 18.0 0.0 -0.35 0 0 0 0 0.0   # unused pair parameters may be 0
Ga N Ga  1.9 0.0 0.0 18.0 0.0
         -0.35 0 0 0 0 0.0
Ga N N   1.7 2.0 1.85 22.0 1.1 -0.25 7.2 0.55 4 0 0.0
N Ga Ga  1.7 2.0 1.85 24.0 1.3 -0.4 7.2 0.55 4 0 0.0
N Ga N   1.5 0.0 0.0 17.0 0.0 -0.28 0 0 0 0 0.0
N N Ga   1.5 0.0 0.0 17.0 0.0 -0.28 0 0 0 0 0.0
N N N    1.4 1.9 1.75 21.0 1.15 -0.333 6.8 0.62 4 0 0.0
"""
TERSOFF = """# a title
Si Si Si 3 1.0 1.3 1.0e5 16.0 -0.60 0.79 1.1e-6 1.73 470 2.85 0.15 2.48 1830
C C C 1 1.0 0.9 3.8D4 4.35 -0.58 0.75 1.6e-7 2.21 347
   1.95 0.15 3.49 1394
Si Si C 3 1.0 0.4 1.0e5 16.0 -0.60 0 0 0 0 2.40 0.15 0 0
Si C Si 1 0.9 0.3 1.0e5 16.0 -0.60 0 0 0 0 2.70 0.20 0 0
Si C C 1 0.8 0.5 0.9e5 15.0 -0.55 0.80 1.2e-6 1.97 395 2.60 0.20 2.98 1597
C Si Si 3 1.1 0.7 3.8e4 4.40 -0.57 0.73 1.6e-7 1.97 395 2.60 0.20 2.98 1597
C Si C 3 1.0 0.6 3.8e4 4.40 -0.57 0 0 0 0 2.30 0.20 0 0
C C Si 1 1.0 0.2 3.8e4 4.40 -0.57 0 0 0 0 2.60 0.30 0 0
"""


@pytest.fixture
def sw(tmp_path):
    def write(text):
        (tmp_path / "a.sw").write_text(text)
        return tmp_path / "a.sw"

    return write


@pytest.fixture
def tersoff(tmp_path):
    def write(text):
        (tmp_path / "a.tersoff").write_text(text)
        return tmp_path / "a.tersoff"

    return write


def test_a_stillinger_weber_file(sw):
    potential, params = lammps_sw.load(sw(SW))
    assert (potential.species, potential.p, potential.q) == ((31, 7), 4, 0)
    assert potential.cutoff == 2.1 * 1.8
    np.testing.assert_array_equal(params["sigma"], [[2.1, 2.0], [2.0, 1.9]])
    np.testing.assert_array_equal(params["gamma"], [[1.2, 1.1], [1.3, 1.15]])
    assert params["lambda"][0, 0, 1] == 18.0
    assert params["epsilon"][1, 0, 1] == 1.5
    potential, params = lammps_sw.load(sw(SW), ["N"])
    assert (potential.species, potential.cutoff) == ((7,), 1.9 * 1.75)
    assert lammps_sw.load(sw(SW), ["N", "Ga"])[1]["sigma"].tolist() == [[1.9, 2.0], [2.0, 2.1]]


def test_a_tersoff_file(tersoff):
    potential, params = lammps_tersoff.load(tersoff(TERSOFF))
    assert (potential.species, potential.m) == ((14, 6), (3, 3, 1, 1, 3, 3, 1, 1))
    assert potential.cutoff == 2.85 + 0.15
    assert params["c"][1, 1, 1] == 3.8e4  # a Fortran exponent
    np.testing.assert_array_equal(params["A"], [[1830, 1597], [1597, 1394]])
    assert lammps_tersoff.load(tersoff(TERSOFF), ["C"])[0].m == 1


def same(a, b):
    assert a[0] == b[0]
    jax.tree.map(np.testing.assert_array_equal, a[1], b[1])


def test_saved_files_read_the_same(sw, tersoff, tmp_path):
    for module, path in ((lammps_sw, sw(SW)), (lammps_tersoff, tersoff(TERSOFF))):
        model = module.load(path)
        module.save(tmp_path / "copy", *model)
        same(module.load(tmp_path / "copy"), model)
    silicon = stillinger_weber_silicon()
    lammps_sw.save(tmp_path / "Si.sw", *silicon)
    same(lammps_sw.load(tmp_path / "Si.sw"), silicon)
    with pytest.raises(ValueError, match=r"\['gamma'\] are missing"):
        lammps_sw.save(tmp_path / "x", silicon[0], {k: v for k, v in silicon[1].items() if k != "gamma"})
    with pytest.raises(ValueError, match="needs finite parameters"):
        lammps_sw.save(tmp_path / "x", silicon[0], silicon[1] | {"gamma": silicon[1]["gamma"] * np.nan})


def test_labels_of_one_element(tersoff):
    text = TERSOFF + TERSOFF.replace("Si", "Si(B)").replace("C C C 1", "# ").replace("   1.95", "# ")
    with pytest.raises(FormatError, match="one label for each element"):
        lammps_tersoff.load(tersoff(text))
    assert lammps_tersoff.load(tersoff(text), ["Si(B)", "C"])[0].species == (14, 6)
    with pytest.raises(ValueError, match="knows C, Si"):
        lammps_tersoff.load(tersoff(TERSOFF), ["Ge"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2.1 2.1 1.8", "2.1 -2.1 1.8", "line 2: expected sigma above 0"),
        ("2.1 2.1 1.8", "2.1 2.1 1e5", "line 2: expected a above 0 and up to 100"),
        ("2.1 2.1 1.8", "2.1 nan 1.8", "line 2: expected .* finite number"),
        ("2.1 2.1 1.8", "2.1 1e999 1.8", "line 2: expected .* finite number"),
        ("2.1 2.1 1.8", "2.1 2,1 1.8", "line 2: expected .* finite number"),
        ("1.4 1.9 1.75", "1.4 1.9 1.75 9", "line 11: expected three element labels and 11 numbers"),
        ("N N N ", "N N Xx", "line 11: expected a label that begins with a chemical element as word 3"),
        ("N N N ", "N N Ga", "line 11: expected each triplet once .this one stands on line 10"),
        ("N N N    1.4", "N N N    1.4 1.9 #", "found the end of the file: a LAMMPS .sw file is truncated"),
        ("-0.333", "-1.333", "line 11: expected costheta0 between -1 and 1"),
        ("Ga N Ga  1.9", "Ga N Ga  1.8", "line 4: expected the same lambda epsilon here and on line 5"),
    ],
)
def test_wrong_stillinger_weber_files_are_refused(sw, old, new, message):
    assert SW.count(old) == 1
    with pytest.raises(FormatError, match=message):
        lammps_sw.load(sw(SW.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Si Si Si 3", "Si Si Si 2", "line 2: expected m = 1 or 3, found 2"),
        ("0.15 2.48", "-0.15 2.48", "line 2: expected D from 0 to 100"),
        ("-0.60 0.79", "-0.60 0", "line 2: expected n above 0"),
        ("1.0e5 16.0 -0.60 0.79", "1.0e5 0 -0.60 0.79", "line 2: expected d different from 0"),
        ("C C C 1", "C C Si 1", "line 10: expected each triplet once"),
        ("2.85 0.15", "285 0.15", "line 2: expected R from 0 to 100"),
    ],
)
def test_wrong_tersoff_files_are_refused(tersoff, old, new, message):
    assert TERSOFF.count(old) == 1
    with pytest.raises(FormatError, match=message):
        lammps_tersoff.load(tersoff(TERSOFF.replace(old, new)))


def test_a_missing_triplet_and_an_empty_file(tersoff):
    with pytest.raises(
        FormatError, match=r"a record for every triplet of Si C, found none for Si C Si.*complete .* C, Si"
    ):
        lammps_tersoff.load(tersoff("".join(x for x in TERSOFF.splitlines(True) if not x.startswith("Si C Si"))))
    with pytest.raises(FormatError, match="found the end of the file"):
        lammps_tersoff.load(tersoff("# nothing\n"))


def test_binary_data_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"Si Si Si\n1.0 \0\1\2")
    with pytest.raises(FormatError, match=r"line 2: expected a LAMMPS .sw file, found binary data"):
        lammps_sw.load(tmp_path / "a")


damage = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 900), st.just(0)),
    st.tuples(st.just("flip"), st.integers(0, 900), st.integers(1, 255)),
)


@settings(max_examples=150, deadline=None)
@given(damage=damage, kind=st.sampled_from(["sw", "tersoff"]))
def test_a_damaged_file_is_an_error_or_a_model(tmp_path_factory, damage, kind):
    raw = bytearray((SW if kind == "sw" else TERSOFF).encode())
    what, at, change = damage
    at %= len(raw)
    if what == "cut":
        raw = raw[:at]
    else:
        raw[at] ^= change
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(raw)
    with contextlib.suppress(FormatError):
        _, params = (lammps_sw if kind == "sw" else lammps_tersoff).load(path)
        assert all(np.isfinite(x).all() for x in params.values())
