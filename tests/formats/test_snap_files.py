"""SNAP files: what is read is what was written, and nothing else passes for a SNAP file."""

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.combinators import Sum
from jaxmlp.formats import snap
from jaxmlp.formats.snap_recipe import LAMMPS_COULOMB
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.snap import SNAP
from jaxmlp.potentials.zbl import ZBL, zbl

SMALL = {"rcutfac": 4.2, "twojmax": 2}
POTENTIALS = {
    "one species": SNAP((42,), (0.5,), **SMALL),
    "two species": SNAP((42, 28), (0.5, 0.45), rmin0=0.1, bnormflag=True, switchflag=False, **SMALL),
    "quadratic": SNAP((42, 28), (0.5, 0.45), quadraticflag=True, bzeroflag=False, **SMALL),
    "elements": SNAP((42, 28), (0.5, 0.45), chemflag=True, wselfallflag=True, bnormflag=True, **SMALL),
    "inner": SNAP((42, 28), (0.5, 0.45), sinner=(1.0, 1.1), dinner=(0.2, 0.3), bnormflag=False, **SMALL),
}
COEFFICIENTS = """# a remark

2 6 # elements, coefficients
Mo 0.5 1
0.25
1.5e-1 # B[1]
-0.5
0.125
+.5
2.
Ni 0.45 0.8
1
2
3
4
5
6
"""
HYPERPARAMETERS = """# LAMMPS SNAP parameters
rcutfac 4.2
twojmax 2

rfac0 0.99 # optional
rmin0 0
diagonalstyle 3
bzeroflag 0
quadraticflag 0
chunksize 100
"""
RECIPE = """# a recipe
variable inner equal 1.5
variable z index 42
pair_style hybrid/overlay zbl ${inner} 3.0 snap
pair_coeff 1 1 zbl $z $z
pair_coeff 1 2 zbl 42 28.0
pair_coeff 2 2 zbl 28 28
pair_coeff * * snap x.snapcoeff x.snapparam Mo Ni
"""


def write(folder: Path, coefficients=COEFFICIENTS, hyperparameters=HYPERPARAMETERS, recipe=RECIPE) -> Path:
    for ending, text in (("snapcoeff", coefficients), ("snapparam", hyperparameters), ("snap", recipe)):
        (folder / f"x.{ending}").write_bytes(text.encode())
    return folder / "x.snap"


def assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("ending", [".snap", ".snapcoeff", ".snapparam", ".safetensors"])
def test_a_saved_file_reads_the_same(name, ending, tmp_path):
    potential = POTENTIALS[name]
    params = potential.init(jax.random.key(3))
    jm.save(tmp_path / f"x{ending}", potential, params)
    read, numbers = jm.load(tmp_path / f"x{ending}")
    if potential.bnormflag is None:
        assert read.bnormflag in (None, potential.chemflag)
    assert (read.cutoff, read.components, read.radii) == (potential.cutoff, potential.components, potential.radii)
    if potential.bnormflag is not None:
        assert read == potential
    assert_same(numbers, params)


def test_a_recipe_with_a_repulsion_survives_a_round_trip(tmp_path):
    read, numbers = jm.load(write(tmp_path))
    assert isinstance(read, Sum)
    repulsion, potential = read.members
    assert repulsion == ZBL((42, 28), 3.0, inner=1.5, coulomb=LAMMPS_COULOMB)
    assert (potential.rcutfac, potential.twojmax, potential.rfac0, potential.bzeroflag) == (4.2, 2, 0.99, False)
    np.testing.assert_array_equal(numbers[0]["charge"], [42.0, 28.0])
    np.testing.assert_array_equal(numbers[1]["constant"], [0.25, 1.0])
    np.testing.assert_array_equal(numbers[1]["linear"], [[0.15, -0.5, 0.125, 0.5, 2.0], [2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(numbers[1]["weight"], [1.0, 0.8])
    jm.save(tmp_path / "y.snap", read, numbers)
    again, same = jm.load(tmp_path / "y.snap")
    assert again.members[0] == repulsion
    assert again.members[1].components == potential.components
    assert_same(same, numbers)


@pytest.mark.shared
def test_published_files_survive_a_round_trip(shared, tmp_path):
    files = sorted((shared / "reference/snap/models").glob("*.snap"))
    assert len(files) == 20
    for file in files:
        potential, params = jm.load(file)
        jm.save(tmp_path / "x.snap", potential, params)
        assert_same(jm.load(tmp_path / "x.snap")[1], params)
        own = jm.load(file.with_suffix(".snapcoeff"))[1]
        assert_same(own, params[1] if isinstance(params, tuple) else params)


def test_elements_may_be_chosen(tmp_path):
    path = write(tmp_path)
    assert jm.load(path, elements=["Ni"])[0].species == (28,)
    potential, params = jm.load(tmp_path / "x.snapparam", elements=["Ni", "Mo"])
    assert potential.species == (28, 42)
    assert potential.radii == (0.45, 0.5)
    np.testing.assert_array_equal(params["constant"], [1.0, 0.25])
    for wrong in (["Si"], "Ni", ["nickel"]):
        with pytest.raises(ValueError, match="a list of some of"):
            jm.load(path, elements=wrong)
    write(tmp_path, recipe="pair_style snap\npair_coeff * * x.snapcoeff x.snapparam NULL Ni Ni\n")
    assert jm.load(path)[0].species == (28,)


BAD = {
    "no coefficients": ("snapcoeff", None, "", 0, "truncated"),
    "fewer": ("snapcoeff", "6\n", "", 16, "truncated"),
    "more": ("snapcoeff", "6\n", "6\n7\n", 18, "end of a SNAP coefficient file"),
    "count": ("snapcoeff", "2 6", "2 5", 10, "element, radius, weight"),
    "wrong size": ("snapparam", "quadraticflag 0", "quadraticflag 1", 3, "21 coefficients"),
    "huge": ("snapcoeff", "2 6", "2 99999999", 4, "99999999"),
    "element": ("snapcoeff", "Ni 0.45", "Xy 0.45", 11, "chemical element"),
    "same element": ("snapcoeff", "Ni 0.45", "Mo 0.45", 11, "did not come before"),
    "radius": ("snapcoeff", "Ni 0.45", "Ni -1", 11, "radius"),
    "nan": ("snapcoeff", "+.5", "nan", 9, "finite"),
    "two numbers": ("snapcoeff", "+.5", "1 2", 9, "one of 6"),
    "keyword": ("snapparam", "rmin0", "rmin", 6, "keyword of pair_style snap"),
    "style": ("snapparam", "diagonalstyle 3", "diagonalstyle 2", 7, "diagonalstyle 3"),
    "twice": ("snapparam", "rmin0 0", "twojmax 2", 6, "once"),
    "missing": ("snapparam", "twojmax 2\n", "", 9, "twojmax"),
    "flag": ("snapparam", "bzeroflag 0", "bzeroflag 2", 8, "between 0 and 1"),
    "far": ("snapparam", "rcutfac 4.2", "rcutfac 900", 2, "up to 100"),
    "rmin0": ("snapparam", "rmin0 0", "rmin0 50", None, "rmin0 <"),
    "degree": ("snapparam", "twojmax 2", "twojmax 99", 3, "0 and 20"),
    "inner": ("snapparam", "rmin0 0", "switchinnerflag 1", 6, "sinner and dinner"),
    "inner count": ("snapparam", "rmin0 0", "switchinnerflag 1\nsinner 1\ndinner 1 1", 7, "2 element"),
    "no style": ("snap", "pair_style hybrid", "#pair_style hybrid", 8, "a pair_style"),
    "other style": ("snap", "3.0 snap", "3.0 coul/cut 10 snap", 4, "zbl inner outer snap"),
    "bare style": ("snap", "pair_style hybrid/overlay zbl ${inner} 3.0 snap", "pair_style", 4, "pair_style snap, or"),
    "window": ("snap", "3.0 snap", "1.0 snap", 4, "inner distance below"),
    "pair": ("snap", "pair_coeff 1 2 zbl 42 28.0\n", "", 7, "zbl for Mo Ni"),
    "charges": ("snap", "zbl 28 28", "zbl 28 29", 7, "one nuclear charge of Ni"),
    "types": ("snap", "1 2 zbl", "1 3 zbl", 6, "types from 1 to 2"),
    "file": ("snap", "x.snapparam", "y.snapparam", 8, "exists"),
    "variable": ("snap", "${inner}", "${iner}", 4, "set before"),
    "command": ("snap", "# a recipe", "pair_style2 snap", 1, "pair_style"),
    "not in file": ("snap", "Mo Ni", "Mo Si", None, "elements of x.snapcoeff"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(name, tmp_path):
    which, old, new, line, match = BAD[name]
    texts = {"snapcoeff": COEFFICIENTS, "snapparam": HYPERPARAMETERS, "snap": RECIPE}
    assert old is None or old in texts[which]
    text = "" if old is None else texts[which].replace(old, new)
    names = {"snapcoeff": "coefficients", "snapparam": "hyperparameters", "snap": "recipe"}
    path = write(tmp_path, **{names[which]: text})
    with pytest.raises(FormatError, match=match) as error:
        snap.load(path)
    assert error.value.line == line


def test_a_pair_of_files(tmp_path):
    write(tmp_path)
    (tmp_path / "x.snapparam").unlink()
    with pytest.raises(FormatError, match=r"x\.snapparam beside it"):
        jm.load(tmp_path / "x.snapcoeff")
    with pytest.raises(FormatError, match="exists"):
        jm.load(tmp_path / "x.snap")


def test_saving_refuses_what_the_files_cannot_say(tmp_path):
    potential = POTENTIALS["elements"]
    params = potential.init(jax.random.key(0))
    with pytest.raises(ValueError, match="parameters of this SNAP"):
        snap.save(tmp_path / "x.snap", potential, params | {"more": 1})
    with pytest.raises(ValueError, match="finite"):
        snap.save(tmp_path / "x.snap", potential, params | {"constant": np.full(2, np.nan)})
    with pytest.raises(ValueError, match="unrestricted"):
        snap.save(tmp_path / "x.snap", *potential.restrict(params, (28,)))
    with pytest.raises(ValueError, match="not a NEP"):
        snap.save(tmp_path / "x.snap", NEP((14,), (5.0,), (4.0,), (2, 1), (3, 2), 2), {})
    repulsion, charges = zbl((42, 28), 1.0, 2.0)
    for ending, match in ((".snap", "coulomb"), (".snapcoeff", "needs a recipe")):
        with pytest.raises(ValueError, match=match):
            snap.save(tmp_path / f"x{ending}", repulsion + potential, (charges, params))
    assert not list(tmp_path.iterdir())


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load_or_refuse(path: Path) -> None:
    try:
        potential, params = snap.load(path)
    except FormatError:
        return
    assert set(potential.species) <= {42, 28} or len(potential.species) <= 2
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params))


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(tmp_path, data):
    texts = [bytearray(t.encode()) for t in (COEFFICIENTS, HYPERPARAMETERS, RECIPE)]
    seed = data.draw(st.sampled_from(texts))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(seed) - 1))
        seed[where] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(list(b" \n.-+0123456789#*$zblsnap"))))
    if data.draw(st.booleans()):
        del seed[data.draw(st.integers(0, len(seed))) :]
    for ending, text in zip(("snapcoeff", "snapparam", "snap"), texts):
        (tmp_path / f"x.{ending}").write_bytes(bytes(text))
    load_or_refuse(tmp_path / "x.snap")


@FUZZ
@given(st.lists(st.sampled_from(RECIPE.splitlines() + HYPERPARAMETERS.splitlines()), max_size=30))
def test_shuffled_lines(tmp_path, lines):
    write(tmp_path, hyperparameters="\n".join(lines))
    load_or_refuse(tmp_path / "x.snap")
    write(tmp_path, recipe="\n".join(lines))
    load_or_refuse(tmp_path / "x.snap")
