"""Systems of DeePMD-kit in numpy format, https://docs.deepmodeling.com/projects/deepmd/en/stable/data/system.html.

Lengths in Å, energies in eV. A virial is in eV and positive under compression, as ours: DeePMD-kit's ASE calculator
takes stress = -virial / volume (pull request 338).
"""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

from jaxmlp.fitting.data.labels import Record, TypeMap, atomic_number, mapped_number
from jaxmlp.formats.errors import FormatError
from jaxmlp.system import System

FILES = {"box": 9, "energy": 1, "virial": 9, "dipole": 3}  # numbers per frame; per atom: coord, force, real_atom_types


def read_deepmd(path: str | PathLike, *, type_map: TypeMap | None) -> Iterator[tuple[str, Record]]:
    """Yield (place, record) for every frame of the system in a folder, or of all systems below it.

    The group is the name of the system's folder relative to `path`.

    Args:
        path: a folder with type.raw and set.*/coord.npy, or one that has such folders somewhere below.
        type_map: names of the types where a folder has no type_map.raw; a mapping {name: symbol} translates names in
            type_map.raw that are no chemical symbols. As in DeePMD-kit, a type_map.raw comes first: numbers in
            type.raw refer to it.

    Raises:
        FormatError: naming the file.
        ValueError: the elements of the types are unknown.
    """
    root = Path(path)
    systems = sorted(file.parent for file in root.rglob("type.raw"))
    if not systems:
        raise FormatError(root, None, "expected a DeePMD-kit system: a folder with type.raw and set.*/coord.npy.")
    for system in systems:
        yield from _system(system, "all" if system == root else system.relative_to(root).as_posix(), type_map)


def _system(folder: Path, group: str, type_map: TypeMap | None) -> Iterator[tuple[str, Record]]:
    sets = sorted(folder.glob("set.*"))
    if not any((s / "coord.npy").is_file() for s in sets):
        raise FormatError(folder, None, "expected set.*/coord.npy beside type.raw (the raw text format is not read).")
    words = (folder / "type.raw").read_text().split()
    if not words or not all(word.isdigit() for word in words):
        raise FormatError(folder / "type.raw", None, "expected the types of all atoms as integers from 0.")
    types = np.array([int(word) for word in words])
    number_of_type = _table(folder, type_map)
    periodic = not (folder / "nopbc").exists()
    frame = 0
    for part in sets:
        arrays = _arrays(part, len(types), periodic)
        for k in range(len(arrays["coord"])):
            one = {name: np.asarray(array[k], dtype=float) for name, array in arrays.items()}
            here = one.pop("real_atom_types", types).astype(int)
            place = f"{folder}, frame {frame}"
            yield place, _frame(place, one, here, number_of_type, group)
            frame += 1


def _frame(place: str, one: dict[str, np.ndarray], types: np.ndarray, table: dict[int, int], group: str) -> Record:
    real = types >= 0  # mixed systems are padded with virtual atoms of type -1
    unknown = sorted(set(types[real].tolist()) - set(table))
    if unknown:
        raise ValueError(
            f"{place}: atoms have type {unknown[0]}, but no element is known for it (known: {table}). "
            'Name the elements in the order of the types: type_map=["O", "H"].'
        )
    numbers = np.array([table[t] for t in types[real].tolist()], int)
    try:
        system = System(numbers, one["coord"].reshape(-1, 3)[real], one["box"].reshape(3, 3) if "box" in one else None)
    except ValueError as error:
        raise FormatError(place, None, str(error)) from error
    return Record(
        system,
        float(one["energy"][0]) if "energy" in one else None,
        one["force"].reshape(-1, 3)[real] if "force" in one else None,
        one["virial"].reshape(3, 3) if "virial" in one else None,
        dipole=one.get("dipole"),
        group=group,
    )


def _arrays(folder: Path, atoms: int, periodic: bool) -> dict[str, np.ndarray]:
    """Return what there is, (frames, numbers per frame), mapped from the files and not yet read."""
    sizes = FILES | {"coord": 3 * atoms, "force": 3 * atoms, "real_atom_types": atoms}
    if not periodic:
        del sizes["box"]
    arrays: dict[str, np.ndarray] = {}
    for name in ("coord", *(name for name in sizes if name != "coord")):
        file = folder / f"{name}.npy"
        if not file.is_file():
            continue
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FormatError(file, None, f"expected an array in numpy format: {error}") from error
        frames = len(arrays.get("coord", array)) if array.ndim else 0
        if array.dtype.kind not in "fiu" or array.size != frames * sizes[name]:
            raise FormatError(
                file, None, f"expected {frames} frames of {sizes[name]} numbers, found {array.dtype} {array.shape}."
            )
        arrays[name] = array.reshape(frames, sizes[name])
    if "coord" not in arrays:
        raise FormatError(folder, None, "expected coord.npy.")
    if periodic and "box" not in arrays:
        raise FormatError(folder, None, "expected box.npy, or a file `nopbc` beside type.raw for free clusters.")
    return arrays


def _table(folder: Path, type_map: TypeMap | None) -> dict[int, int]:
    """Return the atomic number of every type that has one."""
    file = folder / "type_map.raw"
    if not file.is_file():
        if type_map is None:
            raise ValueError(f'{folder} has no type_map.raw. Name the elements of the types: type_map=["O", "H"].')
        keys = type_map if hasattr(type_map, "keys") else range(len(type_map))
        found = {int(t): mapped_number(t, type_map) for t in keys if isinstance(t, int)}
        return {t: number for t, number in found.items() if number is not None}
    table = {}
    for t, name in enumerate(file.read_text().split()):
        translated = mapped_number(name, type_map) if hasattr(type_map, "keys") else None
        number = translated or (None if name.isdigit() else atomic_number(name))
        if number is not None:
            table[t] = number
    return table
