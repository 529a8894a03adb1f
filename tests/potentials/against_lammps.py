"""The comparison of a potential with LAMMPS' numbers for one of its references."""

import jax
import numpy as np
from ase.data import atomic_numbers
from lammps_reference import REFERENCES, stored

import jaxmlp as jm


def agrees(name: str, potential: jm.Potential, params, *, energy_factor: float = 1.0, rounding: float = 2e-13) -> None:
    """Assert energy, forces and virial equal to LAMMPS' within `rounding`, relative to the largest number of each kind.

    Sums of about 100 neighbours per atom, in another order than LAMMPS', leave a few 1e-14.
    """
    reference = REFERENCES[name]
    R, box, kinds = reference.structure
    numbers = np.array([atomic_numbers[e] for e in reference.elements])
    system = jm.System(numbers[kinds], R, box)
    out = jax.jit(jm.evaluate_fn(potential, system))(R, box, params)
    expected = stored(name)
    scale = np.abs(np.asarray(out.energies)).sum()
    np.testing.assert_allclose(out.energy * energy_factor, expected["energy"], rtol=0, atol=rounding * scale)
    forces, virial = expected["forces"], expected["virial"]
    np.testing.assert_allclose(
        out.forces * energy_factor, forces, rtol=0, atol=rounding * max(10 * np.abs(forces).max(), scale / len(R))
    )
    components = np.asarray(out.virial)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(
        components * energy_factor, virial, rtol=0, atol=10 * rounding * max(scale, np.abs(virial).max())
    )
