"""GAP files: what is read is what was written, and nothing else passes for a gap.xml."""

from dataclasses import replace
from pathlib import Path

import ase
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.gap_clusters import Angle3b, Distance2b, DistanceNb
from jaxmlp.basis.soap import SOAP
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.combinators import Sum
from jaxmlp.formats import gap
from jaxmlp.potentials.gap import GAP, GAPTerm
from jaxmlp.potentials.pair import LennardJones

TEXT = """<GAP_1>
<Potential label="GAP_1" init_args="IP GAP label=GAP_1"/>
<GAP_params label="GAP_1" gap_version="1686220958">
  <GAP_data do_core="F">
    <e0 Z="6" value=".65000000000000002E+000"/>
    <e0 Z="14" value="-0.1D+01"/>
  </GAP_data>
  <gpSparse label="GAP_1" n_coordinate="2">
    <gpCoordinates label="GAP_11" dimensions="1" signal_variance=".5" signal_mean="0.0" sparsified="T"
      n_permutations="1" covariance_type="1" n_sparseX="2" sparseX_filename="points">
      <theta> .1E+001 </theta>
      <descriptor>distance_2b cutoff=4.0 covariance_type=ard_se delta=0.5 Z1=6 Z2=14</descriptor>
      <permutation i="1">1  </permutation>
      <sparseX i="1" alpha="-.3" sparseCutoff="1.0"/>
      <sparseX i="2" alpha=".65000000000000002E+000" sparseCutoff=".5"/>
    </gpCoordinates>
    <gpCoordinates label="GAP_12" dimensions="3" signal_variance="1.5" signal_mean="0.0" sparsified="T"
      n_permutations="2" covariance_type="1" n_sparseX="1">
      <theta>1.0 1.0 1.0 </theta>
      <descriptor>distance_Nb order=3 cutoff=2.5 compact_clusters=F Z={6 6 14}</descriptor>
      <permutation i="1">1 2 3 </permutation>
      <permutation i="2">1 3 2 </permutation>
      <sparseX i="1" alpha="0.2" sparseCutoff="1.0">1.0 2.0 2.5 </sparseX>
    </gpCoordinates>
  </gpSparse>
  <XYZ_data><frame>nothing to see</frame></XYZ_data>
  <command_line><![CDATA[ gap={...} < & ]]></command_line>
</GAP_params>
</GAP_1>
"""
POINTS = ".20000000000000000E+001\n0.35D+01\n"

RADIAL = Covariance("ard_se")
SOAP_ = SOAP((14, 6), 4.0, 2, 1, central_weight=0.5)
TURBO = SOAPTurbo((6, 14), 4.0, 3.5, 1, (2, 2), (0.4, 0.5), (0.1, 0.0), (0.3, 0.4), (0.0, 0.1), (1.0, 2.0), (1.0, 0.5))
TERMS = {
    "pairs": (
        GAPTerm(Distance2b(4.0, elements=(6, 14)), RADIAL, 3),
        GAPTerm(Distance2b(4.5, 1.0, (14, 14), (1, -2), 1.5, 2), Covariance("pp"), 2),
    ),
    "clusters": (
        GAPTerm(Angle3b(3.0, 0.7, 6, (6, 14)), RADIAL, 2),
        GAPTerm(DistanceNb(3, 2.5, elements=(6, 6, 14)), replace(RADIAL, permutations=((0, 1, 2), (0, 2, 1))), 2),
        GAPTerm(DistanceNb(4, 2.0, elements=(6,) * 4, compact_clusters=True), RADIAL, 1),
    ),
    "soap": (GAPTerm(SOAP_, Covariance("dot_product", 4.0), 3, 6), GAPTerm(SOAP_, Covariance("dot_product"), 1, 14)),
    "old soap": (
        GAPTerm(
            SOAP((6,), 4.0, 2, 1, weigh_degrees=False, central_reference_all_species=True),
            Covariance("dot_product", 2.5),
            2,
            6,
        ),
    ),
    "turbo": (
        GAPTerm(TURBO, Covariance("dot_product", 4.0), 2),
        GAPTerm(replace(TURBO, central_index=2, compress=(0, 3, 5)), Covariance("dot_product", 2.0), 1),
    ),
}


def potential_of(name: str):
    terms = TERMS[name]
    species = tuple(sorted(set().union(*(t.elements for t in terms))))
    potential, rng = GAP(species, terms), np.random.default_rng(1)
    processes = []
    for t in terms:
        m, d = t.n_sparse, t.descriptor.dimensions
        p = {"alpha": rng.normal(size=m), "cutoff": rng.random(m), "sparse": rng.random((m, d)), "delta": np.array(0.3)}
        p |= {"f0": np.array(0.1)} | ({} if t.covariance.kind == "dot_product" else {"theta": 1 + rng.random(d)})
        processes.append(p)
    return potential, {"e0": rng.normal(size=len(species)), "processes": tuple(processes)}


def written(folder: Path, text: str = TEXT, points: str | None = POINTS) -> Path:
    (folder / "gap.xml").write_bytes(text.encode())
    if points is not None:
        (folder / "points").write_bytes(points.encode())
    return folder / "gap.xml"


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", TERMS)
def test_a_saved_file_reads_the_same(name, tmp_path):
    potential, params = potential_of(name)
    jm.save(tmp_path / "gap.xml", potential, params)
    read, numbers = jm.load(tmp_path / "gap.xml")
    assert read == potential
    assert_same(numbers, params)


def test_what_files_of_gap_fit_say(tmp_path):
    potential, params = jm.load(written(tmp_path))
    assert potential.species == (6, 14)
    assert np.asarray(params["e0"]).tolist() == [0.65, -1.0]
    pair, triangle = potential.processes
    assert pair == GAPTerm(Distance2b(4.0, elements=(6, 14)), Covariance("ard_se"), 2)
    assert triangle.descriptor == DistanceNb(3, 2.5, elements=(6, 6, 14))
    assert triangle.covariance.permutations == ((0, 1, 2), (0, 2, 1)) == triangle.descriptor.permutations
    p, q = params["processes"]
    assert np.asarray(p["sparse"]).tolist() == [[2.0], [3.5]]
    assert np.asarray(p["alpha"]).tolist() == [-0.3, 0.65]
    assert np.asarray(p["cutoff"]).tolist() == [1.0, 0.5]
    assert (float(p["delta"]), float(p["f0"]), float(q["delta"])) == (0.5, 0.0, 1.5)
    assert np.asarray(q["sparse"]).tolist() == [[1.0, 2.0, 2.5]]
    sliced = (
        '<sparseX_slice start="1" end="2">1.0 2.0</sparseX_slice><sparseX_slice start="3" end="3">2.5</sparseX_slice>'
    )
    again = gap.load(written(tmp_path, TEXT.replace("1.0 2.0 2.5 </sparseX>", f"{sliced}</sparseX>")))
    assert_same(again[1], params)


def test_species_and_labels(tmp_path):
    path = written(tmp_path)
    assert gap.load(path, species=["Si", "C"])[0].species == (14, 6)
    assert gap.load(path, label="GAP_1")[0].species == (6, 14)
    with pytest.raises(FormatError, match="labelled 'other'"):
        gap.load(path, label="other")
    with pytest.raises(ValueError, match="symbols or atomic numbers"):
        gap.load(path, species=["Xx"])
    anything = TEXT.replace("Z1=6 Z2=14", "").replace(" Z={6 6 14}", "")
    with pytest.raises(ValueError, match="does not name its elements"):
        gap.load(written(tmp_path, anything))
    assert gap.load(path, species=["O"])[0].species == (8,)


# One call of quippy-ase 0.10.1 on this file and molecule: IP Glue with clamped and natural ends, plus the GAP.
CORE = """<quip><Potential label="core"
init_args="Sum init_args_pot1={IP Glue label=rep} init_args_pot2={IP GAP label=GAP_1}"/>
<Glue_params n_types="2" label="rep">
<per_type_data type="1" atomic_num="6"><potential_density num_points="1">
<point rho="0" E="0"/></potential_density></per_type_data>
<per_type_data type="2" atomic_num="8"/>
<per_pair_data type1="1" type2="1"><potential_pair num_points="7" y1="-80.0" yn="0.0">
<point r="0.5" E="30"/><point r="0.8" E="12"/><point r="1.0" E="6"/><point r="1.3" E="2.5"/><point r="1.7" E="0.7"/>
<point r="2.2" E="0.15"/><point r="2.6" E="0"/></potential_pair></per_pair_data>
<per_pair_data type1="1" type2="2"><potential_pair num_points="5" y1="1.0e31" yn="0.0">
<point r="0.6" E="25"/><point r="0.9" E="9"/><point r="1.4" E="2"/><point r="2.0" E="0.4"/><point r="2.4" E="0"/>
</potential_pair></per_pair_data></Glue_params>
<GAP_params label="GAP_1" gap_version="1686220958"><GAP_data do_core="T">
<e0 Z="6" value="0.6"/><e0 Z="8" value="0.8"/></GAP_data>
<gpSparse label="GAP_1" n_coordinate="1"><gpCoordinates dimensions="1" signal_variance="0.5" signal_mean="0.0"
 n_permutations="1" covariance_type="1" n_sparseX="2"><theta> 1.0 </theta><descriptor>distance_2b cutoff=3.0 Z1=6 Z2=8
</descriptor><permutation i="1">1 </permutation><sparseX i="1" alpha="0.3" sparseCutoff="1.0"> 1.2 </sparseX>
<sparseX i="2" alpha="-.65" sparseCutoff=".5"> .2E+001 </sparseX></gpCoordinates></gpSparse></GAP_params></quip>
"""
MOLECULE = ase.Atoms("COCOC", [[0, 0, 0], [1.1, 0.1, 0], [1.3, 1.2, 0.3], [0.2, 0.1, 1.9], [0.1, -0.45, 0.05]])
SITES = [19.502261602204438, 6.008202505564378, 2.5564795902808948, 1.3250305735141787, 19.095194880854944]
FORCES = [
    [-33.24488050280715, 75.00016726919199, -11.443637951513285],
    [22.670409633091477, -3.0152149114308235, -3.1857245244672288],
    [3.846767901633322, 11.92255735293604, 2.4162024193297755],
    [-0.044401052829389526, 0.3943834540268892, 5.501913972799133],
    [6.772104020911733, -84.30189316472409, 6.711246083851606],
]


def test_a_core_potential_adds(tmp_path):
    path = written(tmp_path, CORE)
    potential, params = jm.load(path)
    assert isinstance(potential, Sum)
    assert potential.members[0].pairs == ((6, 6), (6, 8))
    system = jm.System.from_ase(MOLECULE)
    out = jax.jit(jm.evaluate_fn(potential, system))(system.R, system.box, params)
    np.testing.assert_allclose(out.energies, SITES, rtol=0, atol=1e-12)  # rounding of energies up to 40 eV
    np.testing.assert_allclose(out.forces, FORCES, rtol=0, atol=1e-11)
    for old, new, match in (
        ('E="0"/></potential_density>', 'E="0.1"/></potential_density>', "embedding energy of 0"),
        ('num_points="7"', 'num_points="6"', "6 <point>"),
        ('r="0.8"', 'r="0.5"', "different distances"),
        ('type="2"', 'type="1"', "2 different elements"),
        ("IP Glue label=rep", "IP LJ label=rep", "IP LJ"),
        ("IP Glue label=rep", "IP Glue label=no", "labelled 'no'"),
        ("Sum init_args_pot1={IP Glue label=rep} init_args_pot2={IP GAP label=GAP_1}", "IP GAP", "do_core T"),
    ):
        assert old in CORE
        with pytest.raises(FormatError, match=match):
            gap.load(written(tmp_path, CORE.replace(old, new)))


BAD = {
    "truncated": ("</GAP_params>\n</GAP_1>\n", "", 28, "well-formed"),
    "entities": ("<GAP_1>\n<Pot", '<!DOCTYPE x [<!ENTITY a "b">]>\n<GAP_1>\n<Pot', 1, "DOCTYPE"),
    "outside": ("<GAP_1>\n<Pot", '<!DOCTYPE x SYSTEM "file:///etc/passwd">\n<GAP_1>\n<Pot', 1, "DOCTYPE"),
    "undefined entity": ("do_core", "x='&a;' do_core", 4, "well-formed"),
    "encoding": ("<GAP_1>\n<Pot", '<?xml version="1.0" encoding="rot13"?><GAP_1>\n<Pot', 1, "well-formed"),
    "deep": ("<XYZ_data>", "<XYZ_data>" + "<a>" * 40, 26, "deep"),
    "version": ('gap_version="1686220958"', 'gap_version="new"', 3, "gap_version as an integer"),
    "other potential": ("IP GAP label", "IP LJ label", 2, "IP LJ"),
    "scaled": ("IP GAP label=GAP_1", "IP GAP label=GAP_1 E_scale=2", 2, "label= only"),
    "label": ('<GAP_params label="GAP_1"', '<GAP_params label="GAP_2"', 1, "labelled 'GAP_1'"),
    "energy": ('value="-0.1D+01"', 'value="nan"', 6, "finite number"),
    "huge number": ("-0.1D+01", "1e999", 6, "finite number"),
    "element": ('Z="14" value', 'Z="140" value', 6, "between 1 and 118"),
    "count": ('n_coordinate="2"', 'n_coordinate="3"', 8, "3 <gpCoordinates>"),
    "kind": ('covariance_type="1" n_sparseX="2"', 'covariance_type="3" n_sparseX="2"', 9, "covariance_type 1, 2 or 4"),
    "dimensions": ('dimensions="1"', 'dimensions="2"', 9, "dimensions 1"),
    "points": ('n_sparseX="2"', 'n_sparseX="3"', 9, "3 <sparseX>"),
    "huge count": ('n_sparseX="2"', 'n_sparseX="9999999999"', 9, "n_sparseX as an integer"),
    "folder": ('filename="points"', 'filename="../points"', 9, "plain name"),
    "absolute": ('filename="points"', 'filename="/etc/passwd"', 9, "plain name"),
    "missing file": ('filename="points"', 'filename="gone"', 9, "missing"),
    "theta": (".1E+001", "0.0", 11, "other than 0"),
    "thetas": (".1E+001", "1.0 1.0", 11, "1 length scales"),
    "descriptor": ("distance_2b", "bispectrum_so4", 12, "bispectrum_so4"),
    "no cutoff": ("cutoff=4.0 ", "", 12, "`cutoff=`"),
    "key": ("Z1=6", "Z3=6", 12, "Z3"),
    "key twice": ("Z1=6", "Z2=6", 12, "each key once"),
    "key of others": ("Z1=6", "only_intra=T", 12, "not supported"),
    "braces": ("Z1=6", "Z1={6", 12, "braces in pairs"),
    "number": ("cutoff=4.0", "cutoff=4.0.1", 12, "finite numbers"),
    "cutoff": ("cutoff=4.0", "cutoff=-4", 12, "makes sense"),
    "index": ('i="2" alpha', 'i="1" alpha', 15, "each i once"),
    "alpha": ('alpha="-.3"', 'alpha="much"', 14, "alpha as a finite number"),
    "permutations": ("1 3 2 ", "1 3 3 ", 17, "permutations of the components"),
    "no permutation": ('<permutation i="2">1 3 2 </permutation>', "", 17, "2 <permutation>"),
    "few numbers": ("1.0 2.0 2.5 ", "1.0 2.0 ", 23, "3 components"),
    "no numbers": ("1.0 2.0 2.5 ", "", 17, "found fewer"),
    "clusters": ("clusters=F", "clusters=T", 20, "depends on how"),
    "size": ("distance_2b cutoff=4.0", "soap n_max=30 l_max=30 atom_sigma=1 n_species=90 cutoff=4", 12, "1 to 1000000"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(name, tmp_path):
    old, new, line, match = BAD[name]
    assert old in TEXT
    with pytest.raises(FormatError, match=match) as error:
        gap.load(written(tmp_path, TEXT.replace(old, new, 1)))
    assert "gap.xml" in str(error.value)
    assert error.value.line == line


@pytest.mark.parametrize(
    ("points", "match"),
    [
        ("", "truncated"),
        ("2.0\n", "found 1"),
        ("2.0 3.0 4.0\n", "found 3"),
        ("2.0\nnan\n", "line 2"),
        ("2_0 1\n", "2_0"),
        ("2.0\n\x00\n", "finite"),
    ],
)  # fmt: skip
def test_bad_files_of_points(points, match, tmp_path):
    with pytest.raises(FormatError, match=match) as error:
        gap.load(written(tmp_path, points=points))
    assert "points" in str(error.value)


def test_descriptor_strings(tmp_path):
    def read(text, version="1686220958", d=None, kind='covariance_type="2" zeta="2.0"'):
        body = TEXT.replace("distance_2b cutoff=4.0 covariance_type=ard_se delta=0.5 Z1=6 Z2=14", text)
        body = body.replace('gap_version="1686220958"', f'gap_version="{version}"').replace(
            'covariance_type="1"', kind, 1
        )
        if d is not None:
            body = body.replace('dimensions="1"', f'dimensions="{d}"').replace(POINTS, "")
        return gap.load(written(tmp_path, body, "1.0\n" * (2 * (d or 1))))[0].processes

    plain = "soap n_max=2 l_max=1 atom_sigma=0.5 cutoff=4.0"
    term = read(plain + " n_species=2 species_Z={14 6} Z=6", d=21)[0]
    assert (term.descriptor, term.center) == (SOAP((14, 6), 4.0, 2, 1, 0.5), 6)
    old = read(plain.replace("atom_sigma", "atom_gaussian_width") + " Z=6 normalize=F", "0", d=7)[0].descriptor
    assert old == SOAP((0,), 4.0, 2, 1, 0.5, normalise=False, central_reference_all_species=True, weigh_degrees=False)
    both = read(plain + " n_species=1 species_Z={{14}} n_Z=2 Z={6 14}", d=7)
    assert [t.center for t in both] == [6, 14, 0]
    assert both[0].descriptor.central_reference_all_species  # QUIP's default for a single density
    turbo = (
        "soap_turbo n_max=2 l_max=1 atom_sigma=0.4 cutoff=4.0 n_species=2 species_Z={6,14} cutoff_transition_width=0.4"
    )
    found = read(turbo + " compress_mode=trivial central_index=2", d=14)[0].descriptor
    assert found == SOAPTurbo((6, 14), 4.0, 3.6, 1, (2, 2), (0.4,) * 2, (0.0,) * 2, (0.4,) * 2, (0.0,) * 2, (1.0,) * 2,
                              (1.0,) * 2, 2, compress=(*range(8), 10, 11, *range(14, 18)))  # fmt: skip
    (tmp_path / "kept.dat").write_text("2 2 1 3\n1\n5\n20\n")
    assert read(turbo + " compress_file=kept.dat", d=3)[0].descriptor.compress == (0, 4, 19)
    for wrong, match in (
        (" compress_file=../kept.dat", "in the folder"),
        (" compress_mode=3_1", "3_1"),
        (" nu_R=1", "nu_R"),
    ):
        with pytest.raises(FormatError, match=match):
            read(turbo + wrong)
    with pytest.raises(FormatError, match="nu_R"):
        read(plain + " nu_R=1", d=7)


def test_saving_refuses_what_a_file_cannot_say(tmp_path):
    potential, params = potential_of("pairs")
    with pytest.raises(ValueError, match="not a LennardJones"):
        gap.save(tmp_path / "x.xml", LennardJones((6,), 3.0), {})
    with pytest.raises(ValueError, match="'e0' must be finite"):
        gap.save(tmp_path / "x.xml", potential, params | {"e0": np.array([np.nan, 1.0])})
    mixed = GAP((6, 14), (*TERMS["soap"], *TERMS["old soap"]))
    with pytest.raises(ValueError, match="weigh_degrees"):
        gap.save(tmp_path / "x.xml", mixed, params)
    assert list(tmp_path.iterdir()) == []


def load_or_refuse(folder: Path, text: bytes, points: bytes) -> None:
    (folder / "gap.xml").write_bytes(text)
    (folder / "points").write_bytes(points)
    refused = None
    try:
        potential, params = gap.load(folder / "gap.xml")
    except ValueError as error:
        refused = error
    if refused is not None:
        assert isinstance(refused, FormatError) or "does not name its elements" in str(refused)
        return
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params))
    members = potential.members if isinstance(potential, Sum) else [potential]
    for term, p in zip(members[-1].processes, (params[1] if len(members) > 1 else params)["processes"], strict=True):
        assert p["sparse"].shape == (term.n_sparse, term.descriptor.dimensions)


FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BYTES = st.one_of(st.integers(0, 255), st.sampled_from(list(b' \n.-+0123456789{}="<>/&;eEDTF')))


@FUZZ
@given(st.data())
def test_damaged_files_are_refused_or_are_models(tmp_path, data):
    files = [bytearray(data.draw(st.sampled_from([TEXT, CORE])).encode()), bytearray(POINTS.encode())]
    for _ in range(data.draw(st.integers(1, 4))):
        file = files[data.draw(st.sampled_from([0, 0, 0, 1]))]
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(BYTES)
    if data.draw(st.integers(0, 3)) == 0:
        file = files[data.draw(st.integers(0, 1))]
        del file[data.draw(st.integers(0, len(file))) :]
    load_or_refuse(tmp_path, *map(bytes, files))


@FUZZ
@given(st.text("distance_2b soap{}=,T 0123456789.-nlmaxZcutoff", max_size=80))
def test_arbitrary_descriptor_strings(tmp_path, text):
    body = TEXT.replace("distance_2b cutoff=4.0 covariance_type=ard_se delta=0.5 Z1=6 Z2=14", text)
    load_or_refuse(tmp_path, body.encode(), POINTS.encode())
