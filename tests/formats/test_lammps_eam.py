"""EAM files: what is read, what is refused and where, files written back, and damaged ones."""

import contextlib
import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmlp.formats import lammps_eam
from jaxmlp.formats.errors import FormatError
from jaxmlp.potentials.eam import EAM


def rows(values, n=5):
    return "".join(" ".join(map(repr, values[k : k + n].tolist())) + "\n" for k in range(0, len(values), n))


def table(kind, n_rho=12, n_r=11):
    """Return the text of a file and the arrays it was made of."""
    rng = np.random.default_rng(1)
    s = 1 if kind == "funcfl" else 2
    F, phi = rng.normal(size=(s, n_rho)), rng.normal(size=(s, s, n_r))
    rho = rng.normal(size=(s, s, n_r) if kind == "fs" else (s, n_r))
    phi = phi + phi.swapaxes(0, 1)
    grid = f"{n_rho} 0.01 {n_r} 0.5 5.0\n"
    if kind == "funcfl":
        charge = rng.normal(size=n_r)
        text = "copper\n29 63.55 3.615 FCC\n" + grid + rows(F[0], 4) + rows(charge, 4) + rows(rho[0], 4)
        return text, F, rho, (27.2 * 0.529 * charge * charge)[None, None]
    text = "one\ntwo\n# three\n2 Cu Al\n" + grid
    for i, (z, mass) in enumerate(((29, 63.55), (13, 26.98))):
        text += f"{z} {mass} 3.6 fcc\n" + rows(F[i])
        text += rows(rho[i]) if kind == "alloy" else rows(rho[0, i]) + rows(rho[1, i])  # of source i, at Cu and at Al
    return text + rows(phi[0, 0]) + rows(phi[1, 0]) + rows(phi[1, 1]), F, rho, phi


ENDING = {"funcfl": "eam", "alloy": "eam.alloy", "fs": "eam.fs"}
KINDS = sorted(ENDING)


def write(folder, kind, text):
    path = folder / f"a.{ENDING[kind]}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_of_a_file(tmp_path, kind):
    text, F, rho, phi = table(kind)
    potential, params = lammps_eam.load(write(tmp_path, kind, text))
    species = (29,) if kind == "funcfl" else (29, 13)
    assert potential == EAM(species, 5.0, 0.5, 0.01, kind == "fs")
    np.testing.assert_array_equal(params["embedding"][..., 0], F)
    np.testing.assert_array_equal(params["density"][..., 0], rho)
    np.testing.assert_array_equal(params["pair"][..., 0], phi)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_files_read_the_same(tmp_path, kind):
    model = lammps_eam.load(write(tmp_path, kind, table(kind)[0]))
    copy = tmp_path / ("copy.eam.fs" if kind == "fs" else "copy.eam.alloy")
    lammps_eam.save(copy, *model)
    again = lammps_eam.load(copy)
    assert again[0] == model[0]
    jax.tree.map(np.testing.assert_array_equal, again[1], model[1])
    with pytest.raises(ValueError, match="pair table must be finite"):
        lammps_eam.save(copy, model[0], model[1] | {"pair": model[1]["pair"] * np.nan})


def test_the_kind_may_be_given_or_seen_in_the_content(tmp_path):
    for kind in ("funcfl", "alloy"):
        path = tmp_path / "table"
        path.write_text(table(kind)[0])
        assert lammps_eam.load(path)[0] == lammps_eam.load(path, kind)[0]
    path.write_text(table("fs")[0])
    assert lammps_eam.load(path, "fs")[0].finnis_sinclair
    with pytest.raises(ValueError, match="kind must be one of"):
        lammps_eam.load(path, "meam")


def test_fortran_exponents_and_comments(tmp_path):
    text = table("funcfl")[0].replace("0.01", "1.0D-02").replace("FCC", "FCC # comment")
    assert lammps_eam.load(write(tmp_path, "funcfl", text))[0].drho == 0.01


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("funcfl", "29 63.55", "129 63.55", "line 2: expected an atomic number as an integer between 1 and 118"),
        ("funcfl", "12 0.01", "12.5 0.01", "line 3: expected the number of points n_rho as an integer"),
        ("funcfl", "12 0.01", "1000000000 0.01", "line 3: expected the number of points n_rho as an integer between"),
        ("funcfl", "12 0.01", "999999 0.01", "line 3: expected 999999 numbers .embedding.*a file of .* bytes"),
        ("funcfl", "12 0.01", "13 0.01", "line 7: expected the last 1 of 13 numbers"),
        ("funcfl", "12 0.01", "11 0.01", "line 6: expected the last 3 of 11 numbers"),
        ("funcfl", "11 0.5", "11 -0.5", "line 3: expected a positive step dr"),
        ("funcfl", "0.5 5.0", "0.5 5e9", "line 3: expected a cutoff in Å"),
        ("funcfl", "0.5 5.0", "0.5 nan", "line 3: expected a cutoff in Å"),
        ("funcfl", "0.5 5.0", "0.5", "line 3: expected the grid"),
        ("alloy", "2 Cu Al", "3 Cu Al", "line 4: expected 3 element symbols"),
        ("alloy", "2 Cu Al", "2 Cu Cu", "line 4: expected different chemical elements"),
        ("alloy", "2 Cu Al", "2 Cu A1", "line 4: expected different chemical elements"),
        ("alloy", "2 Cu Al", "Cu Al", "line 4: expected the number of elements"),
        ("alloy", "12 0.01", "900000 0.01", "line 5: expected 1800055 numbers, found a file"),
        ("alloy", "13 26.98 3.6 fcc", "13 26.98 3.6 fcc 7", "line 13: expected atomic number, mass"),
        ("alloy", "13 26.98 3.6 fcc", "13", "line 13: expected the mass of Al"),
    ],
)
def test_wrong_headers_are_refused(tmp_path, kind, old, new, message):
    text = table(kind)[0]
    assert text.count(old) == 1
    with pytest.raises(FormatError, match=message):
        lammps_eam.load(write(tmp_path, kind, text.replace(old, new)))


@pytest.mark.parametrize("word", ["nan", "inf", "-Infinity", "1e400", "0x1p3", "1_0", "١"])
def test_what_is_no_finite_number_is_refused(tmp_path, word):
    lines = table("alloy")[0].split("\n")
    lines[7] = word + lines[7][lines[7].index(" ") :]
    with pytest.raises(FormatError, match=r"line 8: expected embedding function F.rho. of Cu as a finite number"):
        lammps_eam.load(write(tmp_path, "alloy", "\n".join(lines)))


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_overlong_files_are_refused(tmp_path, kind):
    lines = table(kind)[0].splitlines(keepends=True)
    with pytest.raises(FormatError, match=r"found the end of the file: an EAM .* file is truncated"):
        lammps_eam.load(write(tmp_path, kind, "".join(lines[:-1])))
    with pytest.raises(FormatError, match="expected the end of an EAM"):
        lammps_eam.load(write(tmp_path, kind, "".join(lines) + "1.0\n"))


def test_a_file_of_another_kind_is_refused(tmp_path):
    """Alloy tables lack a density that Finnis-Sinclair files have; funcfl names no elements."""
    for kind, other in (("alloy", "fs"), ("fs", "alloy"), ("funcfl", "alloy"), ("alloy", "funcfl")):
        with pytest.raises(FormatError):
            lammps_eam.load(write(tmp_path, other, table(kind)[0]))


TEXT = {kind: table(kind)[0].encode() for kind in KINDS}


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_a_damaged_file_is_an_error_or_a_model(tmp_path_factory, kind, cut, flips):
    raw = bytearray(TEXT[kind])
    for place, change in flips:
        raw[int(place * len(raw))] ^= change
    if cut is not None:
        raw = raw[: int(cut * len(raw))]
    path = write(tmp_path_factory.getbasetemp(), kind, bytes(raw))
    start = time.monotonic()
    with contextlib.suppress(FormatError):
        potential, params = lammps_eam.load(path)
        assert all(np.isfinite(x).all() for x in params.values())
        assert 0 < potential.cutoff <= 100
    assert time.monotonic() - start < 10  # a hang, not a speed: 0.01 s where nothing else runs
