"""Tersoff files of LAMMPS (pair_style tersoff)."""

from collections.abc import Sequence
from os import PathLike

import numpy as np

from jaxmlp.formats.lammps_triplets import finite, read_triplets, write_triplets
from jaxmlp.potential import Params
from jaxmlp.potentials.tersoff import PAIR, TRIPLET, Tersoff, tersoff

_NAMES = ("m", "gamma", "lambda3", "c", "d", "cos_angle", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")
_FAR = 100.0  # Å, no interaction reaches further


def load(path: str | PathLike, elements: Sequence[str] | None = None) -> tuple[Tersoff, Params]:
    """Return the potential and the parameters of a LAMMPS .tersoff file, in its metal units.

    Args:
        elements: labels of the file to take, in this order; all of them where None.

    Raises:
        FormatError: the file is wrong, truncated, or lacks a triplet.
        ValueError: `elements` that the file does not have.
    """
    read = read_triplets(path, "a LAMMPS .tersoff file", _NAMES, elements)
    pair = {name: read.pair(name) for name in PAIR}
    triplet = {name: read.values[name] for name in (*TRIPLET, "m")}
    read.require(np.isin(triplet["m"], (1, 3)), "m = 1 or 3", triplet["m"])
    for name in ("R", "D"):
        read.require((triplet[name] >= 0) & (triplet[name] <= _FAR), f"{name} from 0 to {_FAR:g} Å", triplet[name])
    reach = triplet["R"] + triplet["D"]
    read.require((reach > 0) & (triplet["D"] <= triplet["R"]), "R + D above 0 and D not larger than R", reach)
    read.require((triplet["d"] != 0) | (triplet["c"] == 0), "d different from 0", triplet["d"])
    read.require((pair["n"] > 0) & (pair["n"] <= 1e4), "n above 0 and up to 1e4", pair["n"])
    read.require(pair["beta"] >= 0, "beta not below 0", pair["beta"])
    return tersoff(read.species, pair | triplet)


def save(path: str | PathLike, potential: Tersoff, params: Params) -> None:
    """Write a LAMMPS .tersoff file that `load` reads back as the same potential and numbers.

    Raises:
        ValueError: parameters that are missing or not finite.
    """
    shape = (len(potential.species),) * 3
    given = finite(params, [name for name in _NAMES if name != "m"], "LAMMPS .tersoff")
    full = {k: np.broadcast_to(v[:, :, None] if v.ndim == 2 else v, shape) for k, v in given.items()}
    full["m"] = np.broadcast_to(np.reshape(potential.m, () if isinstance(potential.m, int) else shape), shape)
    write_triplets(path, "Tersoff", potential.species, {name: full[name] for name in _NAMES})
