"""Every potential that must obey the laws of `test_laws.py`: one line each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxmlp as jm

jax.config.update("jax_enable_x64", True)  # parameters are made where this module is imported


@dataclass(frozen=True)
class Case:
    """A potential with parameters and a small crystal.

    Args:
        smooth: energy and forces go to zero continuously at the cutoff (False where the model truncates by definition).
        free: it makes sense without a box.
    """

    potential: jm.Potential
    params: Any
    system: jm.System
    smooth: bool = True
    free: bool = True


def rattled(species: tuple[int, ...], spacing: float, seed: int = 0) -> jm.System:
    """Eight atoms on a skewed, rattled cubic grid: the cell is shorter than the cutoff of most potentials."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) * spacing
    box = 2 * spacing * (np.eye(3) + 0.1 * rng.uniform(-1, 1, (3, 3)))
    R = grid / (2 * spacing) @ box + 0.07 * spacing * rng.uniform(-1, 1, (8, 3))
    return jm.System(np.resize(species, 8), R, box)


def _lennard_jones(truncation: str, **options) -> Case:
    from jaxmlp.potentials.pair import lennard_jones

    potential, params = lennard_jones((18, 36), [0.0104, 0.0143], [3.4, 3.65], 6.5, truncation=truncation, **options)
    return Case(potential, params, rattled((18, 36), 3.7), smooth=truncation == "force-shifted", free=not options)


def _silicon() -> Case:
    from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

    return Case(*stillinger_weber_silicon(), rattled((14,), 2.7))


def _nep(species=(14, 6), cls="NEP", **options) -> Case:
    """A random network, scaled to energies of some eV."""
    from jaxmlp.potentials import nep, nep_charge
    from jaxmlp.potentials.nep_zbl import NEPZBL

    cls = {"NEP": nep.NEP, "qNEP": nep_charge.NEPCharge}[cls]
    if options.get("zbl"):
        options["zbl"] = NEPZBL(*options["zbl"])
    s = len(species)
    potential = cls(
        species, (4.5,) * s, (3.8,) * s, n_max=(3, 2), basis_size=(4, 5), neurons=6, **{"l_max": 4} | options
    )  # fmt: skip
    system = rattled(species, 2.4)
    if isinstance(potential, nep_charge.NEPCharge):
        potential = potential.for_box(system.box, margin=1.0)
    return Case(potential, potential.init(jax.random.key(1)), system, free=potential.local)


CASES: dict[str, Callable[[], Case]] = {
    "lennard-jones-truncated": lambda: _lennard_jones("truncated"),
    "lennard-jones-force-shifted": lambda: _lennard_jones("force-shifted"),
    "lennard-jones-tail": lambda: _lennard_jones("truncated", tail=True),
    "stillinger-weber": _silicon,
    "nep4": _nep,
    "nep3-five-body": lambda: _nep(version=3, extra=("222", "1111")),
    "nep5-all-terms": lambda: _nep(version=5, extra=("222", "1111", "112", "123", "233", "134")),
    "nep4-zbl": lambda: _nep(zbl=(1.5, 3.5, 3.8)),
    "qnep-ewald": lambda: _nep(cls="qNEP", mode=1),
    "qnep-real-space": lambda: _nep(cls="qNEP", mode=3),
    "nep4-edge-mixing": lambda: _nep((14, 6, 8), mixing="edge", l_max=6),
}
