"""ANI networks: Behler-Parrinello networks of modified symmetry functions."""

from collections.abc import Mapping
from itertools import combinations_with_replacement

import numpy as np

from jaxmlp.basis.symmetry_functions import MEAN, SymmetryFunction
from jaxmlp.potentials.bpnn import BPNN

NODES = {1: (160, 128, 96), 6: (144, 112, 96), 7: (128, 112, 96), 8: (128, 112, 96)}  # of ANI-1x
OTHER = (128, 112, 96)
SHIFTS = tuple(0.9 + 4.3 / 16 * k for k in range(16))  # Å


def ani(
    species: tuple[int, ...] = (1, 6, 7, 8),
    *,
    radial_cutoff: float = 5.2,
    radial_eta: float = 16.0,
    radial_shifts: tuple[float, ...] = SHIFTS,
    angular_cutoff: float = 3.5,
    angular_eta: float = 8.0,
    zeta: float = 32.0,
    angular_shifts: tuple[float, ...] = (0.9, 1.55, 2.2, 2.85),
    angles: int = 8,
    nodes: Mapping[int, tuple[int, ...]] | None = None,
    energy_unit: float = 1.0,
    paper: bool = False,
) -> BPNN:
    """Return an ANI network; the defaults are those of ANI-1x, J. S. Smith et al., J. Chem. Phys. 148, 241733 (2018).

    Smith, Isayev, Roitberg, Chem. Sci. 8, 3192 (2017), Eqs. (3) and (4), with f(r) = (cos(pi r/rc) + 1) / 2:

        G_m = c sum_j exp(-eta (r_ij - R_m)^2) f(r_ij)                                              of each element,
        G_mp = 2^(1 - zeta) sum_(j < k) (1 + cos(theta - theta_p))^zeta exp(-eta ((r_ij + r_ik) / 2 - R_m)^2) f f

    of each pair of elements, theta_p = (p + 1/2) pi / angles. The programs that trained the published models, NeuroChem
    and torchani, have c = 1/4 and arccos(0.95 cos theta) in the place of theta (which keeps the derivatives finite for
    atoms in a line); so has this function, unless `paper` is set: then c = 1 and the angle is theta. The functions
    stand in the order of torchani: radial ones by element, then m; angular ones by pair of elements, then m, then p.

    The activation is the CELU of alpha = 0.1, the output linear, nothing is scaled.

    Args:
        species: atomic numbers; torchani has H, C, N, O.
        radial_cutoff, radial_shifts, angular_cutoff, angular_shifts: Å; the R_m.
        radial_eta, angular_eta: Å^-2.
        angles: number of theta_p.
        nodes: sizes of the hidden layers by atomic number, where others than of ANI-1x (C: 144, 112, 96; H: 160, 128,
            96; others: 128, 112, 96).
        energy_unit: eV, of the networks' outputs; the published ones give hartree.
        paper: the form of the article.
    """
    window = {"cutoff_type": 1}
    functions = [
        SymmetryFunction(2, (z,), radial_cutoff, radial_eta, float(shift), factor=1.0 if paper else 0.25, **window)
        for z in species
        for shift in radial_shifts
    ]
    own = {"zeta": zeta, "cosine_scale": 1.0 if paper else 0.95} | window
    functions += [
        SymmetryFunction(
            MEAN, tuple(sorted(pair)), angular_cutoff, angular_eta, float(shift), angle=float(angle), **own
        )
        for pair in combinations_with_replacement(species, 2)
        for shift in angular_shifts
        for angle in (np.arange(angles) + 0.5) * 180 / angles
    ]
    sizes = [tuple((nodes or {}).get(z, NODES.get(z, OTHER))) for z in species]
    activations = tuple(("celu",) * len(size) + ("l",) for size in sizes)
    lists = (tuple(functions),) * len(species)
    return BPNN(tuple(species), lists, tuple(sizes), activations, "none", energy_unit=energy_unit)
