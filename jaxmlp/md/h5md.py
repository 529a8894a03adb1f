"""Trajectories as H5MD 1.1 (de Buyl, Colberg, Höfling, Comput. Phys. Commun. 185, 1546 (2014)).

A run may be killed at any moment, and the file must stay readable. HDF5 promises this in its single-writer mode, in
which metadata are written in an order that never points to what is not there yet; but a file left open in that mode
carries a mark that makes ordinary readers refuse it. The mark is therefore cleared after every frame; a file of a run
that was killed just before that is read with h5py.File(path, swmr=True), or continued by `jaxmlp.md.run`.
"""

import os
import struct
from os import PathLike
from typing import Any

import numpy as np

from jaxmlp.formats.errors import FormatError
from jaxmlp.md.trajectory import Frame

_VALUES = {  # path in the file -> unit
    "particles/all/position": "Angstrom",
    "particles/all/velocity": "Angstrom fs-1",
    "particles/all/force": "eV Angstrom-1",
    "particles/all/box/edges": "Angstrom",
    "observables/potential_energy": "eV",
    "observables/kinetic_energy": "eV",
    "observables/stress": "eV Angstrom-3",
    "particles/all/species": "",  # atomic numbers; constant, without frames, where nothing changes them
    "particles/all/mass": "amu",
}
_PER_ATOM = ("particles/all/position", "particles/all/velocity", "particles/all/force")


class H5MD:
    """H5MD: position (unwrapped), velocity, force, box, species and mass of the group "all"; energies and stress.

    Args:
        path: the file.
        dtype: of positions, velocities and forces; "float64" keeps every bit.
    """

    def __init__(self, path: str | PathLike, *, dtype: str = "float64"):
        self.path, self.dtype = path, np.dtype(dtype)
        self._file: Any = None

    def keep(self, step: int) -> None:
        self._fresh = step == 0 or not os.path.exists(self.path)
        if self._fresh:
            return
        import h5py

        clear_marks(self.path)
        try:
            file = h5py.File(self.path, "r+", libver="latest")
        except OSError as error:
            raise FormatError(self.path, None, f"expected an HDF5 file; the reader says: {error}.") from error
        with file:
            if "h5md" not in file or "particles/all/position/step" not in file:
                raise FormatError(
                    self.path, None, "expected an H5MD file with particles/all; choose another file name."
                )
            frames = int(np.searchsorted(file["particles/all/position/step"][:], step))
            for name in _VALUES:
                if isinstance(file.get(name), h5py.Group):
                    file[name]["value"].resize(frames, axis=0)
            for name in ("step", "time"):
                file["particles/all/position"][name].resize(frames, axis=0)

    def append(self, frame: Frame) -> None:
        if self._file is None:
            self._open(frame)
        file = self._file
        values = _contents(frame)
        shared = file["particles/all/position"]
        count = len(shared["step"])
        for name, value in values.items():
            _add(file[name]["value"], count, value)
        _add(shared["time"], count, frame.time)
        _add(shared["step"], count, frame.step)
        file.flush()
        clear_marks(self.path)

    def _open(self, frame: Frame) -> None:
        import h5py

        if self._fresh:
            self._file = h5py.File(self.path, "w", libver="latest")
            _create(self._file, frame, self.dtype)
        else:
            self._file = h5py.File(self.path, "r+", libver="latest")
            there = self._file["particles/all/position/value"].shape[1]
            if there != len(frame.numbers):
                raise FormatError(self.path, None, f"it holds frames of {there} atoms, not {len(frame.numbers)}.")
            if isinstance(self._file["particles/all/species"], h5py.Group) != frame.transmuted:
                raise FormatError(
                    self.path, None, "it holds frames of a run in which the elements of atoms change and this run is "
                    "of the other kind, or the other way round. Choose another file name."
                )  # fmt: skip
        self._file.swmr_mode = True

    def __enter__(self) -> "H5MD":
        return self

    def __exit__(self, *error) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _contents(frame: Frame) -> dict[str, np.ndarray]:
    """The changing values of a frame by their path in the file; those that it lacks are left out."""
    particles = "particles/all/"
    values = {
        particles + "position": frame.R,
        particles + "velocity": frame.velocities,
        particles + "force": frame.forces,
        "observables/potential_energy": frame.energy,
        "observables/kinetic_energy": frame.kinetic,
    }
    if frame.box is not None:
        values[particles + "box/edges"] = frame.box
    if frame.stress is not None:
        values["observables/stress"] = frame.stress
    if frame.transmuted:
        values |= {particles + "species": frame.numbers.astype(np.int32), particles + "mass": frame.masses}
    return {name: np.asarray(value) for name, value in values.items()}


def _add(dataset, count: int, value) -> None:
    dataset.resize(count + 1, axis=0)
    dataset[count] = value


def _create(file, frame: Frame, dtype: np.dtype) -> None:
    """Lay out an empty H5MD file; all values share one step and one time array, by hard links."""
    from jaxmlp import __version__

    meta = file.create_group("h5md")
    meta.attrs["version"] = np.array([1, 1], dtype=np.int32)
    meta.create_group("author").attrs["name"] = "unknown"
    creator = meta.create_group("creator")
    creator.attrs["name"], creator.attrs["version"] = "jaxmlp", __version__
    meta.create_group("modules").create_group("units").attrs["version"] = np.array([1, 0], dtype=np.int32)
    particles = file.create_group("particles/all")
    box = particles.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = np.array([b"periodic" if p else b"none" for p in frame.pbc])
    if not frame.transmuted:
        particles.create_dataset("species", data=frame.numbers.astype(np.int32))
        particles.create_dataset("mass", data=frame.masses).attrs["unit"] = "amu"
    clock = None
    for name, value in _contents(frame).items():
        group = file.create_group(name)
        if clock is None:
            clock = group
            group.create_dataset("step", (0,), np.int64, maxshape=(None,), chunks=(1024,))
            group.create_dataset("time", (0,), np.float64, maxshape=(None,), chunks=(1024,)).attrs["unit"] = "fs"
        else:
            group["step"], group["time"] = clock["step"], clock["time"]
        kind = dtype if name in _PER_ATOM else value.dtype
        chunk = (1, *value.shape) if value.size > 64 else (256, *value.shape)
        data = group.create_dataset("value", (0, *value.shape), kind, maxshape=(None, *value.shape), chunks=chunk)
        if _VALUES[name]:
            data.attrs["unit"] = _VALUES[name]
    file.flush()


def clear_marks(path: str | PathLike) -> None:
    """Clear the "open for writing" marks in the superblock of an HDF5 file, as the tool h5clear does.

    Superblock version 3: 8 bytes of signature, version, two sizes, marks (byte 11), four 8-byte addresses, and the
    lookup3 checksum of the 44 bytes before it. Files of other versions have no marks and are left alone.
    """
    with open(path, "r+b") as file:
        block = bytearray(file.read(48))
        if len(block) < 48 or block[:8] != b"\x89HDF\r\n\x1a\n" or block[8] != 3 or block[11] == 0:
            return
        block[11] = 0
        block[44:] = struct.pack("<I", lookup3(bytes(block[:44])))
        file.seek(0)
        file.write(block)


def lookup3(data: bytes) -> int:
    """Return Jenkins's 32-bit lookup3 hash ("hashlittle", start value 0), the checksum of HDF5 metadata."""

    def rotate(x: int, k: int) -> int:
        return ((x << k) | (x >> (32 - k))) & 0xFFFFFFFF

    a = b = c = (0xDEADBEEF + len(data)) & 0xFFFFFFFF
    whole = max(len(data) - 1, 0) // 12 * 12  # the last 1 to 12 bytes are mixed differently
    for start in range(0, whole, 12):
        x, y, z = struct.unpack_from("<3I", data, start)
        a, b, c = (a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF
        for k, l, m in ((4, 6, 8), (16, 19, 4)):
            a = ((a - c) & 0xFFFFFFFF) ^ rotate(c, k)
            c = (c + b) & 0xFFFFFFFF
            b = ((b - a) & 0xFFFFFFFF) ^ rotate(a, l)
            a = (a + c) & 0xFFFFFFFF
            c = ((c - b) & 0xFFFFFFFF) ^ rotate(b, m)
            b = (b + a) & 0xFFFFFFFF
    if len(data) == whole:
        return c
    x, y, z = struct.unpack("<3I", data[whole:].ljust(12, b"\0"))
    a, b, c = (a + x) & 0xFFFFFFFF, (b + y) & 0xFFFFFFFF, (c + z) & 0xFFFFFFFF
    c = ((c ^ b) - rotate(b, 14)) & 0xFFFFFFFF
    a = ((a ^ c) - rotate(c, 11)) & 0xFFFFFFFF
    b = ((b ^ a) - rotate(a, 25)) & 0xFFFFFFFF
    c = ((c ^ b) - rotate(b, 16)) & 0xFFFFFFFF
    a = ((a ^ c) - rotate(c, 4)) & 0xFFFFFFFF
    b = ((b ^ a) - rotate(a, 14)) & 0xFFFFFFFF
    return ((c ^ b) - rotate(b, 24)) & 0xFFFFFFFF
