"""What the free energy of a periodic box of N atoms lacks of N times that of an atom in the infinite system.

A box of a few hundred atoms is off by a per cent of kT per atom, opposite in crystals and liquids, which moves a
melting temperature by as much. The leading terms are known:

- A crystal: the vibrations of a box are those at the wave vectors that fit into it, without the three translations,
  whose place is taken by the ideal gas of the crystal's centre, for which there is room for one primitive cell (see
  `free_energy.einstein`). Both sums over wave vectors, that of the box and that over the whole zone, are harmonic.
- A liquid: Xi = sum_N Z_N exp(mu N / kT) has P V = kT ln Xi but for exponentially small terms, since there is no
  surface. Z_N is the share of exactly N atoms, the Gaussian density at its middle: F_N = N f + kT ln det(2 pi C) / 2
  with the covariance C of the numbers of atoms of each species in the open box. Of one species it is N rho kT kappa_T,
  kappa_T the isothermal compressibility.
"""

import math

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxmlp.energy import prepare
from jaxmlp.free_energy.harmonic import vibrational_free_energy
from jaxmlp.free_energy.ideal_gas import ideal_gas
from jaxmlp.free_energy.lattice import primitive_cell
from jaxmlp.geometry import heights
from jaxmlp.potential import Params, Potential
from jaxmlp.properties.force_constants import force_constants_fn, reach_in_neighbors
from jaxmlp.properties.phonons import QMesh, monkhorst_pack
from jaxmlp.system import System
from jaxmlp.units import kB


def crystal_finite_size(
    potential: Potential, params: Params, sites: System, temperature: float, *, cells: int | None = None
) -> float:
    """Return N f - F_N of a crystal in the harmonic approximation, eV of the whole box.

    To be added to the free energy of the box, however anharmonic it is: what then is left to depend on the size of the
    box is small. Classical nuclei.

    Args:
        potential: where its range is infinite, force constants between images of the box are neglected.
        sites: all atoms of the box at their sites; where translations map them on each other, their mean is taken.
        temperature: K.
        cells: number of primitive cells that F_N was computed with; None counts them.

    Raises:
        ValueError: the crystal is harmonically unstable at these sites.
    """
    cell, multiples = primitive_cell(sites)
    cells = round(float(np.linalg.det(multiples))) if cells is None else cells
    bounded = reach_in_neighbors(potential) is not None
    if not bounded:
        cell, multiples = sites, np.eye(3, dtype=int)
    potential, params, _ = prepare(potential, params, cell)
    phi = jax.jit(force_constants_fn(potential, cell, supercell=None if bounded else 1))(cell.R, cell.box, params)
    count = round(float(np.linalg.det(multiples)))
    # An even mesh avoids Gamma. That of a box twice as wide errs by 0.01 to 0.05 kT in all, an eighth of it with four.
    wider = 4 if len(cell) <= 8 else 2
    fine = wider * np.ceil(np.cbrt(sites.volume) / np.asarray(heights(np.asarray(cell.box)))).astype(int)
    q = fitting_wave_vectors(multiples)
    box, infinite = (
        float(vibrational_free_energy(phi, mesh, temperature, quantum=False, order=0))
        for mesh in (QMesh(q, np.full(count, 1 / count)), monkhorst_pack(tuple(fine)))
    )
    if not np.isfinite(box + infinite):
        raise ValueError(
            "the crystal is harmonically unstable at its mean sites, so how its free energy depends on the size of the "
            "box cannot be had from its phonons: leave finite_size out, and compare boxes of several sizes."
        )
    centre = ideal_gas([0], [np.sum(sites.masses)], sites.volume / cells, temperature)  # one particle of all the mass
    return count * (infinite - box) - float(centre)


def fitting_wave_vectors(multiples: ArrayLike) -> np.ndarray:
    """Return the wave vectors q (n_c, 3) of a primitive cell, in its reciprocal vectors, that fit into a box of many.

    Args:
        multiples: (3, 3) integers, box = multiples @ cell.
    """
    multiples = np.asarray(multiples)
    count = round(abs(float(np.linalg.det(multiples))))
    inverse = np.round(np.linalg.inv(multiples) * count).astype(int)
    # q = m inverse(multiples)^T for integers m; those that differ by integers are the same one.
    span = np.abs(multiples).sum(axis=0)
    m = np.stack(np.meshgrid(*(np.arange(2 * s + 1) - s for s in span), indexing="ij"), -1).reshape(-1, 3)
    found = np.unique(m @ inverse.T % count, axis=0)
    assert len(found) == count
    return found / count


def liquid_finite_size(numbers: ArrayLike, volumes: ArrayLike, temperature: float) -> float:
    """Return N f - F_N of a liquid, eV of the whole box: -kT ln det(2 pi C) / 2.

    Mixtures are taken for ideal ones, in which which atom is where is left to chance: then det(2 pi C) is 2 pi N rho kT
    kappa_T times the product of all 2 pi N_s over 2 pi N.

    Args:
        numbers: (N,) atomic numbers.
        volumes: Å^3, of a run at constant pressure, whose variance is V kT kappa_T; its logarithm is what counts.
        temperature: K.
    """
    volumes = np.asarray(volumes, float)
    n, of_species = np.size(numbers), np.unique(numbers, return_counts=True)[1]
    fluctuation = n * volumes.var() / volumes.mean() ** 2  # rho kT kappa_T, 1 in an ideal gas
    total = math.log(2 * math.pi * n * fluctuation)
    mixing = np.log(2 * math.pi * of_species).sum() - math.log(2 * math.pi * n)
    return float(-0.5 * kB * temperature * (total + mixing))
