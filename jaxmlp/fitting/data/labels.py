"""From what a data file says, in its units and signs, to a `Structure` in ours: what all readers of files share."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import units as ase_units
from ase.data import atomic_numbers, chemical_symbols

from jaxmlp import units as constants
from jaxmlp.derivatives import VOIGT
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.text import Words
from jaxmlp.system import System

LENGTH = {"å": 1.0, "a": 1.0, "ang": 1.0, "angstrom": 1.0, "bohr": constants.bohr, "nm": 10.0}  # in Å
ENERGY = {  # in eV
    "ev": 1.0,
    "mev": 1e-3,
    "hartree": constants.hartree,
    "ha": constants.hartree,
    "ry": constants.hartree / 2,
    "rydberg": constants.hartree / 2,
    "kcal/mol": constants.kcal_per_mol,
    "kj/mol": constants.kcal_per_mol / 4.184,
}
STRESS = {"gpa": constants.GPa, "kbar": 1000 * constants.bar, "bar": constants.bar, "ev/å^3": 1.0}  # in eV/Å^3
DIPOLE = {"debye": ase_units.Debye, "d": ase_units.Debye}  # in e Å

TypeMap = Sequence[str] | Mapping[int | str, str]


class Scale(NamedTuple):
    """Factors from the units of a file to ours: Å, eV, eV/Å, eV/Å^3, e Å."""

    length: float = 1.0
    energy: float = 1.0
    forces: float = 1.0
    stress: float = 1.0
    dipole: float = 1.0


def scale_of(units: Mapping[str, str] | None) -> Scale:
    """Return the factors of named units.

    Args:
        units: "length" (Å, Angstrom, A, Bohr, nm) and "energy" (eV, meV, Hartree, Ry, kcal/mol, kJ/mol), Å and eV where
            missing. Forces are in energy/length, stresses in energy/length^3, dipoles in e times length, unless
            "forces" ("Hartree/Bohr", any energy/length), "stress" (GPa, kbar, bar, eV/Å^3) or "dipole" (Debye, or a
            length) says otherwise. Virials have the unit of the energy.

    Raises:
        ValueError: a quantity or a unit that is not known.
    """
    units = dict(units or {})
    unknown = set(units) - {"length", "energy", "forces", "stress", "dipole"}
    if unknown:
        raise ValueError(f"units are those of length, energy, forces, stress and dipole; got {sorted(unknown)}.")
    length = _factor("length", units.get("length", "Å"), LENGTH)
    energy = _factor("energy", units.get("energy", "eV"), ENERGY)
    forces, stress, dipole = energy / length, energy / length**3, length
    if "forces" in units:
        numerator, _, denominator = units["forces"].rpartition("/")
        forces = _factor("forces", numerator, ENERGY) / _factor("forces", denominator, LENGTH)
    if "stress" in units:
        stress = _factor("stress", units["stress"].replace("A^3", "Å^3"), STRESS)
    if "dipole" in units:
        dipole = _factor("dipole", units["dipole"].removeprefix("e "), DIPOLE | LENGTH)
    return Scale(length, energy, forces, stress, dipole)


def _factor(quantity: str, name: str, table: dict[str, float]) -> float:
    found = table.get(name.strip().replace("Å", "å").casefold())  # the Ångström sign of some files is another letter
    if found is None:
        raise ValueError(f"units: {quantity} can be in {', '.join(table)}; got {name!r}.")
    return found


class Record(NamedTuple):
    """What a file says of one structure, in the file's units; None where it says nothing.

    Args:
        system: positions and box in the file's unit of length.
        virial, stress: (3, 3); W = -dE/dstrain and ASE's sign, W = -volume * stress. Two statements of one label.
        volume: of the cell, for the stress; None where the file gives no three lattice vectors.
    """

    system: System
    energy: float | None = None
    forces: np.ndarray | None = None
    virial: np.ndarray | None = None
    stress: np.ndarray | None = None
    dipole: np.ndarray | None = None
    charges: np.ndarray | None = None
    weight: float = 1.0
    group: str = "all"
    volume: float | None = None

    def structure(self, scale: Scale, source: str) -> Structure:
        """Return the structure in our units.

        Raises:
            ValueError: labels of a wrong shape; a virial and a stress that contradict each other.
        """

        def times(x, factor):
            return None if x is None else np.asarray(x, dtype=float) * factor

        system = self.system
        if scale.length != 1.0:
            box = None if system.box is None else system.box * scale.length
            system = system.replace(R=system.R * scale.length, box=box, velocities=None)
        virial = times(self.virial, scale.energy)
        if self.stress is not None:
            of_stress = self._virial_of_stress(scale, source)
            if virial is None:
                virial = of_stress
            elif of_stress is not None:
                _agree(virial, of_stress, len(system), source)
        energy = None if self.energy is None else float(self.energy) * scale.energy
        forces, dipole = times(self.forces, scale.forces), times(self.dipole, scale.dipole)
        return Structure(
            system, energy, forces, virial, dipole, times(self.charges, 1.0), None, self.weight, self.group, source
        )

    def _virial_of_stress(self, scale: Scale, source: str) -> np.ndarray | None:
        if self.volume is None:
            if np.any(self.stress):
                raise ValueError(f"{source}: a stress needs a volume, but there are no three lattice vectors.")
            return None
        return -np.asarray(self.stress, dtype=float) * (scale.stress * self.volume * scale.length**3)


def _agree(virial: np.ndarray, of_stress: np.ndarray, atoms: int, source: str) -> None:
    """Allow for rounding, of a stress with few digits above all: two per cent, or 1 meV per atom."""
    difference = np.abs(virial - of_stress).max()
    if difference > 0.02 * np.abs(virial).max() + 1e-3 * atoms:
        raise ValueError(
            f"{source}: virial and stress contradict each other. A virial (eV, positive under compression) must be "
            f"-volume * stress; its trace is {np.trace(virial):.6g} eV, the other {np.trace(of_stress):.6g} eV. "
            'Is the stress in other units (units={"stress": "GPa"})? To use one of them, name a key that does not '
            'occur for the other, for example stress="none".'
        )


def full_tensor(values, what: str) -> np.ndarray:
    """Return (3, 3) from 6 numbers (xx yy zz yz xz xy) or 9."""
    x = np.asarray(values, dtype=float).ravel()
    if x.size == 9:
        return x.reshape(3, 3)
    if x.size != 6:
        raise ValueError(f"expected {what} of 6 (xx yy zz yz xz xy) or 9 numbers, found {x.size}.")
    tensor = np.empty((3, 3))
    for value, (a, b) in zip(x, VOIGT, strict=True):
        tensor[a, b] = tensor[b, a] = value
    return tensor


def atomic_number(name: str) -> int | None:
    """Return the atomic number of an element's symbol in any case, or of a number in words; None for other names."""
    if name.isdigit() and 0 < int(name) < len(chemical_symbols):
        return int(name)
    return atomic_numbers.get(name.strip().capitalize()) or None  # "X" has the number 0


def mapped_number(key: int | str, type_map: TypeMap | None) -> int | None:
    """Return the atomic number of a type, a number from 0 or a name, by the user's map; None where it has no entry."""
    if isinstance(type_map, Mapping):
        name = type_map.get(key)
    else:
        name = type_map[key] if type_map is not None and isinstance(key, int) and 0 <= key < len(type_map) else None
    return None if name is None else atomic_number(str(name))


def lines_of(path: str | PathLike) -> Iterator[str]:
    """Yield the lines of a text file, plain or gzip, one at a time.

    Raises:
        FormatError: binary data, or a gzip file that is damaged.
    """
    with Path(path).open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    number = 0
    with gzip.open(path, "rb") if zipped else Path(path).open("rb") as file:
        try:
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise FormatError(path, number, "expected text, found binary data.")
                yield line.decode("utf-8", errors="replace")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(path, number, f"the gzip file is damaged after this line: {error}.") from error


def words_of(path: str | PathLike) -> Iterator[Words]:
    """Yield the words of every line that has some."""
    for number, line in enumerate(lines_of(path), 1):
        words = line.split()
        if words:
            yield Words(path, number, words)
