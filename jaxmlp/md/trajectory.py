"""Trajectories: what a frame holds, and where files of frames are opened."""

from os import PathLike, fspath
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from jaxmlp.md.state import identified
from jaxmlp.units import fs

if TYPE_CHECKING:
    from jaxmlp.md.simulation import Simulation


class Frame(NamedTuple):
    """One moment of a simulation on the host.

    Args:
        step, time: steps done, and fs.
        numbers, masses: (N,), amu.
        R: (N, 3) Å, unwrapped.
        velocities: (N, 3) Å/fs.
        forces: (N, 3) eV/Å.
        box: (3, 3) Å or None.
        pbc: periodic directions.
        energy, kinetic: potential and kinetic energy, eV.
        stress: (3, 3) eV/Å^3 of the atoms at rest, positive under tension; None where not all directions are periodic.
        transmuted: numbers and masses may differ from frame to frame.
    """

    step: int
    time: float
    numbers: np.ndarray
    masses: np.ndarray
    R: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray
    box: np.ndarray | None
    pbc: tuple[bool, bool, bool]
    energy: float
    kinetic: float
    stress: np.ndarray | None
    transmuted: bool = False

    @classmethod
    def of(cls, sim: "Simulation", virial) -> "Frame":
        """Take a frame from a simulation and the virial (3, 3) eV at its state."""
        state, pbc = sim.state, sim.dynamics.forces.search.pbc
        masses, centroid = np.asarray(identified(state, sim.atoms).mass, dtype=float), sim.dynamics.forces.centroid
        p = np.asarray(centroid(state.p), dtype=float)
        box = None if state.box is None else np.asarray(state.box, dtype=float)
        stress = -np.asarray(virial, dtype=float) / abs(np.linalg.det(box)) if box is not None and all(pbc) else None
        return cls(
            sim.step,
            sim.time,
            sim.elements,
            masses[:, 0],
            np.asarray(centroid(state.R), dtype=float),
            p / masses * fs,
            np.asarray(centroid(state.F), dtype=float),
            box,
            pbc,
            float(np.mean(state.energy)),
            float(0.5 * np.sum(p * p / masses)),
            stress,
            state.species is not None,
        )

    def wrapped(self) -> "Frame":
        """Return the frame with its positions moved into the cell along periodic directions."""
        if self.box is None:
            return self
        s = self.R @ np.linalg.inv(self.box)
        return self._replace(R=self.R - np.where(self.pbc, np.floor(s), 0) @ self.box)


class Trajectory(Protocol):
    """A file of frames. It is a context; `keep` comes before the first `append`."""

    def keep(self, step: int) -> None:
        """Keep the frames of steps before `step` (none for 0) and drop the others."""

    def append(self, frame: Frame) -> None:
        """Write a frame so that the file is whole again."""

    def __enter__(self) -> "Trajectory": ...

    def __exit__(self, *error) -> None: ...


def open_trajectories(trajectory: "str | PathLike | Trajectory", sim: "Simulation") -> list[Trajectory]:
    """Return the trajectories of a simulation, one for each place of an exchange, ready to take its present frames.

    Raises:
        ValueError: an ending that names no known format; one name for several places.
    """
    if not sim.state.swaps:
        return [open_trajectory(trajectory, sim)]
    if not isinstance(trajectory, str | PathLike) or "{}" not in fspath(trajectory):
        raise ValueError(
            "an exchange writes one file for each place: put {} into the name, as in 'run_{}.xyz'; got "
            f"{trajectory!r}."
        )
    return [open_trajectory(fspath(trajectory).replace("{}", str(k)), sim) for k in range(len(sim.state.step))]


def frames(sim: "Simulation", virial) -> list[Frame]:
    """Return the present frame of a simulation, or those of all places of an exchange."""
    if not sim.state.swaps:
        return [Frame.of(sim, virial)]
    from jaxmlp.md.replicas import replica

    return [Frame.of(replica(sim, k), virial[k]) for k in range(len(sim.state.step))]


def open_trajectory(trajectory: "str | PathLike | Trajectory", sim: "Simulation") -> Trajectory:
    """Return a trajectory, ready to take the simulation's present frame.

    Raises:
        ValueError: an ending that names no known format.
    """
    if isinstance(trajectory, str | PathLike):
        name = fspath(trajectory)
        if name.endswith((".xyz", ".extxyz")):
            from jaxmlp.md.xyz import XYZ

            trajectory = XYZ(name)
        elif name.endswith((".h5", ".h5md", ".hdf5")):
            from jaxmlp.md.h5md import H5MD

            trajectory = H5MD(name)
        else:
            raise ValueError(f"a trajectory ends in .xyz, .extxyz (extended XYZ), .h5 or .h5md (H5MD); got {name!r}.")
    trajectory.keep(sim.step)
    return trajectory
