"""Atoms, positions and cell on the host, and their exchange with ASE and files."""

from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from jaxmlp.geometry import completed_cell

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class System:
    """N atoms on the host (numpy arrays); what jitted functions need is passed to them explicitly.

    Args:
        numbers: (N,) atomic numbers.
        R: (N, 3) Å.
        box: (3, 3) Å, rows are the lattice vectors; None for a free cluster. Non-periodic directions need a lattice
            vector too (any length); `from_ase` completes missing ones.
        pbc: periodic directions.
        masses: (N,) amu; standard atomic weights where None.
        velocities: (N, 3) Å/fs, or None.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a singular box.
    """

    numbers: np.ndarray
    R: np.ndarray
    box: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] = None  # type: ignore[assignment]  # completed in __post_init__
    masses: np.ndarray = None  # type: ignore[assignment]  # completed in __post_init__
    velocities: np.ndarray | None = None

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("numbers", np.asarray(self.numbers, dtype=np.int32))
        put("R", np.asarray(self.R, dtype=float))
        n = len(self.numbers)
        if self.numbers.ndim != 1 or n == 0:
            raise ValueError("System.numbers must be a list of at least one atomic number.")
        if self.R.shape != (n, 3):
            raise ValueError(f"System.R must be ({n}, 3) Å for {n} atomic numbers; got shape {self.R.shape}.")
        if not np.isfinite(self.R).all():
            bad = np.flatnonzero(~np.isfinite(self.R).all(axis=1))[:5]
            raise ValueError(f"positions must be finite; atoms {bad.tolist()} have NaN or infinite coordinates.")
        pbc = self.pbc if self.pbc is not None else (self.box is not None,) * 3
        put("pbc", tuple(bool(p) for p in np.broadcast_to(pbc, 3)))
        if self.box is None:
            if any(self.pbc):
                raise ValueError("a periodic System needs a box: (3, 3) Å, rows are the lattice vectors.")
        else:
            box = np.asarray(self.box, dtype=float)
            if box.shape == (3,):
                box = np.diag(box)
            if box.shape != (3, 3):
                raise ValueError(f"System.box must be (3, 3) or (3,) Å; got shape {box.shape}.")
            put("box", completed_cell(box, np.asarray(self.pbc)))
        if self.masses is None:
            from ase.data import atomic_masses

            put("masses", np.asarray(atomic_masses[self.numbers], dtype=float))
        else:
            put("masses", np.asarray(self.masses, dtype=float))
        if self.masses.shape != (n,) or not (self.masses > 0).all():
            raise ValueError(f"System.masses must be {n} positive numbers in amu.")
        if self.velocities is not None:
            put("velocities", np.asarray(self.velocities, dtype=float))
            if self.velocities.shape != (n, 3):
                raise ValueError(f"System.velocities must be ({n}, 3) Å/fs; got {self.velocities.shape}.")

    def __len__(self) -> int:
        return len(self.numbers)

    def replace(self, **changes) -> "System":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def species(self) -> tuple[int, ...]:
        """The atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def volume(self) -> float:
        """Å^3.

        Raises:
            ValueError: the system is not periodic in three directions, so that it has no volume.
        """
        if self.box is None or not all(self.pbc):
            raise ValueError("only a system periodic in all three directions has a volume.")
        return float(abs(np.linalg.det(self.box)))

    @classmethod
    def from_ase(cls, atoms: "Atoms") -> "System":
        """Take positions, cell, pbc, masses and, where set, velocities from an `ase.Atoms`."""
        from ase import units as ase_units

        cell = completed_cell(atoms.cell.array, atoms.pbc)
        velocities = atoms.get_velocities() * ase_units.fs if atoms.has("momenta") else None
        pbc = tuple(atoms.pbc.tolist())
        return cls(atoms.get_atomic_numbers(), atoms.get_positions(), cell, pbc, atoms.get_masses(), velocities)

    def to_ase(self) -> "Atoms":
        """Return an `ase.Atoms` with positions, cell, pbc, masses and velocities."""
        from ase import Atoms
        from ase import units as ase_units

        atoms = Atoms(self.numbers, self.R, cell=self.box, pbc=self.pbc, masses=self.masses)
        if self.velocities is not None:
            atoms.set_velocities(self.velocities / ase_units.fs)
        return atoms

    @classmethod
    def read(cls, path: str | PathLike, index: int = -1) -> "System":
        """Read one structure from any file ASE knows (extended XYZ, POSCAR, CIF, LAMMPS data ...)."""
        import ase.io

        return cls.from_ase(ase.io.read(path, index=index))

    def write(self, path: str | PathLike) -> None:
        """Write the structure to any format ASE knows, chosen by the file's ending."""
        import ase.io

        ase.io.write(path, self.to_ase())


def species_index(species: tuple[int, ...], numbers: np.ndarray) -> np.ndarray:
    """Return the position of every atomic number in `species`, (N,) int32.

    Raises:
        ValueError: naming the elements, and the atoms, that `species` lacks.
    """
    from ase.data import chemical_symbols

    lookup = np.full(max(max(species), int(numbers.max())) + 1, -1, dtype=np.int32)
    lookup[list(species)] = np.arange(len(species), dtype=np.int32)
    index = lookup[numbers]
    if (index < 0).any():
        known = ", ".join(chemical_symbols[z] for z in species)
        unknown = ", ".join(
            f"{chemical_symbols[z]} (atoms {', '.join(str(i) for i in np.flatnonzero(numbers == z)[:3])}"
            f"{', ...' if (numbers == z).sum() > 3 else ''})"
            for z in np.unique(numbers[index < 0])
        )
        raise ValueError(
            f"this potential knows {known}; the system also contains {unknown}. Remove them or load another potential."
        )
    return index
