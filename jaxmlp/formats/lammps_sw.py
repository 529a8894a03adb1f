"""Stillinger-Weber files of LAMMPS (pair_style sw)."""

from collections.abc import Sequence
from os import PathLike

import numpy as np

from jaxmlp.formats.lammps_triplets import finite, read_triplets, write_triplets
from jaxmlp.potential import Params
from jaxmlp.potentials.stillinger_weber import PAIR, TRIPLET, StillingerWeber, stillinger_weber

_NAMES = ("epsilon", "sigma", "a", "lambda", "gamma", "cos_angle", "A", "B", "p", "q", "tol")
_FAR = 100.0  # Å, no interaction reaches further


def load(path: str | PathLike, elements: Sequence[str] | None = None) -> tuple[StillingerWeber, Params]:
    """Return the potential and the parameters of a LAMMPS .sw file, in its metal units.

    Parameters of pairs (sigma, a, gamma, A, B, p, q) come from the records i j j. `tol`, with which LAMMPS shortens the
    cutoff to save time, is read and not used: 0 is exact.

    Args:
        elements: labels of the file to take, in this order; all of them where None.

    Raises:
        FormatError: the file is wrong, truncated, lacks a triplet, or holds parameters that depend on an order that
            means nothing.
        ValueError: `elements` that the file does not have.
    """
    read = read_triplets(path, "a LAMMPS .sw file", _NAMES, elements)
    pair = {name: read.pair(name) for name in (*PAIR, "p", "q")}
    for name in ("sigma", "a"):
        read.require((pair[name] > 0) & (pair[name] <= _FAR), f"{name} above 0 and up to {_FAR:g}", pair[name])
    reach = pair["a"] * pair["sigma"]
    read.require(reach <= _FAR, f"a cutoff a sigma up to {_FAR:g} Å", reach)
    read.require((pair["gamma"] >= 0) & (pair["gamma"] <= 1000), "gamma between 0 and 1000", pair["gamma"])
    for name in ("p", "q"):
        read.require(np.abs(pair[name]) <= 100, f"an exponent {name} between -100 and 100", pair[name])
    triplet = {name: read.values[name] for name in TRIPLET}
    read.require(np.abs(triplet["cos_angle"]) <= 1, "costheta0 between -1 and 1", triplet["cos_angle"])
    read.require_symmetric("lambda epsilon", triplet["lambda"] * triplet["epsilon"])
    read.require_symmetric("costheta0", triplet["cos_angle"])
    return stillinger_weber(read.species, pair | triplet)


def save(path: str | PathLike, potential: StillingerWeber, params: Params) -> None:
    """Write a LAMMPS .sw file that `load` reads back as the same potential and numbers.

    Raises:
        ValueError: parameters that are missing or not finite.
    """
    s = len(potential.species)
    given = dict(params)
    for name in ("p", "q"):
        if getattr(potential, name) is not None:
            given[name] = np.full((s, s), float(getattr(potential, name)))
    given = finite(given, [name for name in _NAMES if name != "tol"], "LAMMPS .sw")
    shape = (s, s, s)
    # A record i j k repeats the pair parameters of ij; only those of i j j are read.
    full = {k: np.broadcast_to(v[:, :, None] if v.ndim == 2 else v, shape) for k, v in given.items()}
    full["tol"] = np.zeros(shape)
    write_triplets(path, "Stillinger-Weber", potential.species, {name: full[name] for name in _NAMES})
