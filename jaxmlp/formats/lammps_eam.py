"""Embedded-atom tables: DYNAMO's funcfl (.eam) and setfl (.eam.alloy), and LAMMPS' Finnis-Sinclair form (.eam.fs)."""

from os import PathLike
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, chemical_symbols

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.lammps_triplets import atomic_number
from jaxmlp.formats.text import TextReader, Words
from jaxmlp.potential import Params
from jaxmlp.potentials.eam import EAM

_KINDS = ("funcfl", "alloy", "fs")
_ENDINGS = {".eam": "funcfl", ".fs": "fs", ".alloy": "alloy", ".setfl": "alloy"}
_HARTREE_BOHR = 27.2 * 0.529  # eV Å: how the format's effective charges turn into r phi = Z^2
_MOST_POINTS = 1_000_000
_FAR = 100.0  # Å, no interaction reaches further


def load(path: str | PathLike, kind: str | None = None) -> tuple[EAM, Params]:
    """Return the potential and the parameters of an embedded-atom file, in LAMMPS' metal units.

    Args:
        kind: "funcfl", "alloy" or "fs"; from the ending of the name (.eam, .eam.alloy, .eam.fs) where None, else funcfl
            or alloy from the content.

    Raises:
        FormatError: the file is wrong, truncated, or of another kind.
    """
    kind = _ENDINGS.get(Path(path).suffix) if kind is None else kind
    if kind not in (None, *_KINDS):
        raise ValueError(f"kind must be one of {_KINDS}; got {kind!r}.")
    reader = TextReader(path, f"an EAM {kind or ''} file".replace("  ", " "))
    if kind is None:
        kind = "funcfl" if _looks_like_funcfl(reader) else "alloy"
    return _load_funcfl(reader) if kind == "funcfl" else _load_setfl(reader, kind == "fs")


def _looks_like_funcfl(reader: TextReader) -> bool:
    """Whether line 3 holds the grid; in setfl it is a title and line 4 names the elements."""
    try:
        _grid(Words(reader.path, 3, reader.lines[2].split()))
    except (FormatError, IndexError):
        return False
    return True


def _grid(words: Words) -> tuple[int, float, int, float, float]:
    """n_rho, drho, n_r, dr and the cutoff of a line of these five."""
    words.expect_length(5, "the grid: n_rho drho n_r dr cutoff")
    n_rho, n_r = (
        words.expect_int(k, f"the number of points {name}", 5, _MOST_POINTS) for k, name in ((0, "n_rho"), (2, "n_r"))
    )
    drho, dr = (words.expect_float(k, f"a positive step {name}", 1e-12, 1e12) for k, name in ((1, "drho"), (3, "dr")))
    cutoff = words.expect_float(4, "a cutoff in Å", 1e-3, _FAR)
    if dr * n_r > 10 * _FAR:
        words.refuse(f"distances n_r dr below {10 * _FAR:g} Å")
    return n_rho, drho, n_r, dr, cutoff


def _load_funcfl(reader: TextReader) -> tuple[EAM, Params]:
    reader.skip(1)
    header = reader.next("atomic number, mass, lattice constant, lattice type")
    z = header.expect_int(0, "an atomic number", 1, len(chemical_symbols) - 1)
    header.expect_float(1, "a mass in amu", 0.0)
    n_rho, drho, n_r, dr, cutoff = _grid(reader.next("the grid: n_rho drho n_r dr cutoff"))
    embedding = reader.floats(n_rho, "embedding function F(rho)")
    charge = reader.floats(n_r, "effective charge Z(r)")
    density = reader.floats(n_r, "density rho(r)")
    reader.expect_end()
    potential = EAM((z,), cutoff, dr, drho)
    return potential, potential.tabulated(embedding[None], density[None], (_HARTREE_BOHR * charge * charge)[None, None])


def _load_setfl(reader: TextReader, finnis_sinclair: bool) -> tuple[EAM, Params]:
    reader.skip(3)
    header = reader.next("the number of elements and their symbols")
    s = header.expect_int(0, "the number of elements", 1, len(chemical_symbols))
    header.expect_length(s + 1, f"{s} element symbols after their number")
    numbers = [atomic_number(symbol) for symbol in header[1:]]
    species = tuple(z for z in numbers if z is not None)
    if len(set(species)) != s:
        header.refuse("different chemical elements")
    n_rho, drho, n_r, dr, cutoff = _grid(reader.next("the grid: n_rho drho n_r dr cutoff"))
    # All tables are asked of the file's size before the first is stored.
    tables = s * (n_rho + (s if finnis_sinclair else 1) * n_r) + s * (s + 1) // 2 * n_r
    if 2 * tables > reader.size:
        raise FormatError(
            reader.path, reader.at, f"expected {tables} numbers, found a file of {reader.size} bytes in all."
        )
    embedding, density = [], []
    for symbol in header[1:]:
        line = reader.next(f"atomic number, mass, lattice constant, lattice type of {symbol}")
        line.expect_int(0, f"the atomic number of {symbol}", 0, 10_000)  # some files write a mere 1: not used
        line.expect_float(1, f"the mass of {symbol} in amu", 0.0)
        if len(line) > 4:
            line.refuse(f"atomic number, mass, lattice constant, lattice type of {symbol}")
        embedding.append(reader.floats(n_rho, f"embedding function F(rho) of {symbol}"))
        sources = (
            [f"density around {symbol}"] if not finnis_sinclair else [f"density of {symbol} at {x}" for x in header[1:]]
        )
        density.append([reader.floats(n_r, name) for name in sources])
    r_phi = np.zeros((s, s, n_r))
    for i in range(s):
        for j in range(i + 1):
            r_phi[i, j] = r_phi[j, i] = reader.floats(n_r, f"r phi(r) of {header[i + 1]} and {header[j + 1]}")
    reader.expect_end()
    potential = EAM(species, cutoff, dr, drho, finnis_sinclair)
    rho = np.array(density)  # (source, place, n_r)
    return potential, potential.tabulated(embedding, rho.swapaxes(0, 1) if finnis_sinclair else rho[:, 0], r_phi)


def save(path: str | PathLike, potential: EAM, params: Params) -> None:
    """Write an eam.alloy or, with densities of both species, an eam.fs file of the values at the grid points.

    `load` reads the same values back; slopes are computed from them, as the formats hold none. Masses are the standard
    ones, lattices unknown (0.0 none).

    Raises:
        ValueError: parameters that are not finite or do not fit.
    """
    s = len(potential.species)
    values = {k: np.asarray(params[k], float)[..., 0] for k in ("embedding", "density", "pair")}
    potential.tabulated(*values.values())  # checks
    symbols = [chemical_symbols[z] for z in potential.species]
    n_rho, n_r = values["embedding"].shape[-1], values["pair"].shape[-1]
    lines = ["written by jaxmlp", "units: metal", "eam.fs" if potential.finnis_sinclair else "eam.alloy"]
    lines += [f"{s} {' '.join(symbols)}", f"{n_rho} {potential.drho!r} {n_r} {potential.dr!r} {potential.cutoff!r}"]
    for i, z in enumerate(potential.species):
        lines.append(f"{z} {float(atomic_masses[z])!r} 0.0 none")
        lines += _numbers(values["embedding"][i])
        density = values["density"][:, i] if potential.finnis_sinclair else values["density"][i : i + 1]
        lines += [line for table in density for line in _numbers(table)]
    lines += [line for i in range(s) for j in range(i + 1) for line in _numbers(values["pair"][i, j])]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def _numbers(table: np.ndarray) -> list[str]:
    return [" ".join(repr(v) for v in table[k : k + 5].tolist()) for k in range(0, len(table), 5)]
