"""A labelled structure: atoms and cell, and what a first-principles code says of them."""

from dataclasses import dataclass, replace

import numpy as np

from jaxmlp.system import System


@dataclass(frozen=True, eq=False)
class Structure:
    """A system on the host with its labels; None where a label is missing.

    Args:
        system: atoms, positions and cell.
        energy: eV.
        forces: (N, 3) eV/Å.
        virial: (3, 3) eV, W = -dE/dstrain = -volume * stress (ASE's sign), positive under compression.
        dipole: (3,) e Å.
        charges: (N,) e.
        hessian: (directions, products), both (K, N, 3): displacements v and the second derivatives sum_b H_ab v_b of
            the energy along them, eV/Å^2 for v without unit. Unit vectors v give rows of the Hessian.
        weight: of this structure in a loss, relative to others.
        group: the configuration's kind, by which errors are reported ("config_type" in many data sets).
        source: file and place it was read from, for messages.

    Raises:
        ValueError: labels of a wrong shape.
    """

    system: System
    energy: float | None = None
    forces: np.ndarray | None = None
    virial: np.ndarray | None = None
    dipole: np.ndarray | None = None
    charges: np.ndarray | None = None
    hessian: tuple[np.ndarray, np.ndarray] | None = None
    weight: float = 1.0
    group: str = "all"
    source: str = ""

    def __post_init__(self):
        n = len(self.system)
        shapes = {"forces": (n, 3), "virial": (3, 3), "dipole": (3,), "charges": (n,)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value, dtype=float)
            if value.shape != shape:
                raise ValueError(f"{self.name}: {name} of {n} atoms must be {shape}; got shape {value.shape}.")
            object.__setattr__(self, name, value)
        if self.energy is not None:
            object.__setattr__(self, "energy", float(self.energy))
        if self.hessian is not None:
            directions, products = (np.asarray(x, dtype=float) for x in self.hessian)
            if directions.shape != products.shape or directions.shape[1:] != (n, 3):
                raise ValueError(
                    f"{self.name}: hessian must be two arrays (K, {n}, 3); got {directions.shape}, {products.shape}."
                )
            object.__setattr__(self, "hessian", (directions, products))

    def __len__(self) -> int:
        return len(self.system)

    @property
    def name(self) -> str:
        """Where the structure is from, for messages."""
        return self.source or "a structure"

    def replace(self, **changes) -> "Structure":
        """Return a copy with some fields changed."""
        return replace(self, **changes)
