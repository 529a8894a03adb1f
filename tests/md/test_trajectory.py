"""Trajectory files, without running anything."""

import os
import subprocess
import sys

import ase.io
import h5py
import numpy as np
import pytest
from ase import units as ase_units

from jaxmlp import FormatError, md
from jaxmlp.md.h5md import clear_marks, lookup3


def frame(step: int, n: int = 5) -> md.Frame:
    rng = np.random.default_rng(step)
    return md.Frame(
        step=step,
        time=0.5 * step,
        numbers=np.array([14, 6, 14, 1, 8][:n]),
        masses=np.array([28.0, 12.0, 28.0, 1.0, 16.0][:n]),
        R=rng.normal(scale=9.0, size=(n, 3)),
        velocities=rng.normal(scale=1e-3, size=(n, 3)),
        forces=rng.normal(size=(n, 3)),
        box=np.array([[6.0, 0, 0], [1, 7, 0], [0, 2, 8]]),
        pbc=(True, True, True),
        energy=-3.25 * step,
        kinetic=1.5,
        stress=np.diag([0.1, 0.2, 0.3]),
    )


def write(trajectory: md.Trajectory, frames: list, keep: int = 0) -> None:
    trajectory.keep(keep)
    with trajectory:
        for f in frames:
            trajectory.append(f)


def test_ase_reads_extended_xyz(tmp_path):
    write(md.XYZ(tmp_path / "a.xyz"), [frame(0), frame(10)])
    first, atoms = ase.io.read(tmp_path / "a.xyz", ":")
    f = frame(10)
    assert (first.info["step"], atoms.info["step"], atoms.info["time"]) == (0, 10, 5.0)
    assert atoms.pbc.all()
    assert atoms.numbers.tolist() == f.numbers.tolist()
    np.testing.assert_allclose(atoms.cell.array, f.box)
    np.testing.assert_allclose(atoms.positions, f.R, atol=1e-8)  # eight decimals are written
    np.testing.assert_allclose(atoms.get_forces(), f.forces, atol=1e-8)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), f.stress)
    assert atoms.get_potential_energy() == f.energy
    # The momenta of the file belong to the masses of the simulation; ASE divides by its own.
    np.testing.assert_allclose(atoms.get_momenta(), f.velocities / ase_units.fs * f.masses[:, None], atol=1e-8)


def test_wrapped_positions_are_inside_and_equivalent(tmp_path):
    write(md.XYZ(tmp_path / "a.xyz", wrapped=True), [frame(1)])
    atoms = ase.io.read(tmp_path / "a.xyz")
    s = atoms.get_scaled_positions(wrap=False)
    assert ((s > -1e-8) & (s < 1 + 1e-8)).all()
    shift = (atoms.positions - frame(1).R) @ np.linalg.inv(frame(1).box)
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-8)
    cluster = frame(1)._replace(box=None, pbc=(False,) * 3, stress=None)
    write(md.XYZ(tmp_path / "b.xyz", wrapped=True), [cluster])
    np.testing.assert_allclose(ase.io.read(tmp_path / "b.xyz").positions, cluster.R, atol=1e-8)


def test_h5md_follows_the_standard(tmp_path):
    write(md.H5MD(tmp_path / "a.h5"), [frame(0), frame(10), frame(20)])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/creator"].attrs["name"] == "jaxmlp"
        box = file["particles/all/box"]
        assert box.attrs["dimension"] == 3
        assert box.attrs["boundary"].tolist() == [b"periodic"] * 3
        for name in ("position", "velocity", "force", "box/edges"):
            group = file["particles/all"][name]
            assert group["step"][:].tolist() == [0, 10, 20]
            assert group["time"][:].tolist() == [0.0, 5.0, 10.0]
        assert np.array_equal(file["particles/all/position/value"][1], frame(10).R)  # every bit
        assert np.array_equal(file["particles/all/velocity/value"][2], frame(20).velocities)
        assert np.array_equal(file["observables/stress/value"][0], frame(0).stress)
        assert file["particles/all/species"][:].tolist() == frame(0).numbers.tolist()
    cluster = frame(1)._replace(box=None, pbc=(False,) * 3, stress=None)
    write(md.H5MD(tmp_path / "b.h5", dtype="float32"), [cluster])
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["particles/all/box"].attrs["boundary"].tolist() == [b"none"] * 3
        assert file["particles/all/position/value"].dtype == np.float32
        assert "edges" not in file["particles/all/box"]


@pytest.mark.parametrize(("kind", "name"), [(md.XYZ, "a.xyz"), (md.H5MD, "a.h5")])
def test_later_frames_are_dropped_before_a_run_goes_on(kind, name, tmp_path):
    path = tmp_path / name
    write(kind(path), [frame(k) for k in (0, 10, 20, 30)])
    write(kind(path), [frame(20), frame(40)], keep=20)

    def steps():
        if kind is md.XYZ:
            return [atoms.info["step"] for atoms in ase.io.read(path, ":")]
        with h5py.File(path) as file:
            return file["particles/all/position/step"][:].tolist()

    assert steps() == [0, 10, 20, 40]
    write(kind(path), [frame(0)])
    assert steps() == [0]


def test_an_incomplete_frame_is_dropped(tmp_path):
    path = tmp_path / "a.xyz"
    write(md.XYZ(path), [frame(0), frame(10)])
    whole = path.read_bytes()
    middle = whole.index(b"5\n", 1)
    for end in (middle + 1, middle + 2, middle + 60, len(whole) - 1):
        path.write_bytes(whole[:end])
        write(md.XYZ(path), [frame(10)], keep=20)
        assert path.read_bytes() == whole


def test_files_of_others_are_not_overwritten(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nfrom somewhere else\nH 0 0 0\n")
    with pytest.raises(FormatError, match="Choose another file name"):
        md.XYZ(tmp_path / "a.xyz").keep(10)
    (tmp_path / "a.h5").write_bytes(b"not HDF5 at all")
    with pytest.raises(FormatError, match="expected an HDF5 file"):
        md.H5MD(tmp_path / "a.h5").keep(10)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FormatError, match="expected an H5MD file"):
        md.H5MD(tmp_path / "b.h5").keep(10)


WRITER = """
import sys, itertools
sys.path.insert(0, sys.argv[2])
from test_trajectory import frame, md
trajectory = md.H5MD(sys.argv[1])
trajectory.keep(0)
with trajectory:
    for k in itertools.count():
        trajectory.append(frame(k))
        if k == 5:
            print("go", flush=True)
"""


def test_a_killed_writer_leaves_a_readable_file(tmp_path):
    path = tmp_path / "a.h5"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), os.path.dirname(__file__)], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"go\n"
    child.kill()
    child.wait()
    try:
        file = h5py.File(path)
    except OSError:  # killed between a frame and the clearing of the marks
        clear_marks(path)
        file = h5py.File(path)
    with file:
        steps = file["particles/all/position/step"][:]
        assert len(steps) > 5
        assert steps.tolist() == list(range(len(steps)))
        for k in steps:
            assert np.array_equal(file["particles/all/position/value"][k], frame(k).R)


def test_lookup3_is_that_of_its_author():
    assert lookup3(b"") == 0xDEADBEEF  # both from the driver of lookup3.c
    assert lookup3(b"Four score and seven years ago") == 0x17770551
