"""Small structures of two species labelled by a Lennard-Jones mixture: cells of several sizes and shapes, a cluster."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import jaxmlp as jm
from jaxmlp.fitting import Structure
from jaxmlp.potentials.pair import LennardJones

SPECIES = (10, 18)
TRUE = {"epsilon": jnp.array([[0.04, 0.06], [0.06, 0.10]]), "sigma": jnp.array([[2.5, 2.7], [2.7, 3.0]])}
POTENTIAL = LennardJones(SPECIES, 6.0, "force-shifted")


def systems(count: int = 6, seed: int = 0) -> list[jm.System]:
    """Crystals of 2 to 8 atoms in strained cells, smaller than the cutoff too, and every fourth a cluster."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(count):
        cells = ((1, 1, 1), (2, 1, 1), (2, 2, 1))[k % 3]
        grid = np.array(list(np.ndindex(*cells)), float)
        s = np.concatenate([grid, grid + 0.5]) / cells
        box = 4.2 * np.diag(cells) @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3)))
        R = s @ box + 0.08 * rng.normal(size=(len(s), 3))
        numbers = np.array(SPECIES)[(np.arange(len(s)) + k) % 2]
        out.append(jm.System(numbers, R, box) if k % 4 < 3 else jm.System(numbers, R))
    return out


def labelled(all_systems: list[jm.System], params=TRUE) -> list[Structure]:
    """Structures with the energies, forces and virials of `POTENTIAL`, summed over images one by one in numpy."""
    out = []
    for k, system in enumerate(all_systems):
        energy, forces, virial = lennard_jones(system, *(np.asarray(params[name]) for name in ("epsilon", "sigma")))
        out.append(Structure(system, energy, forces, virial, group=f"size {len(system)}", source=f"toy {k}"))
    return out


def lennard_jones(system: jm.System, epsilon, sigma, cutoff: float = POTENTIAL.cutoff):
    """Energy, forces and virial of the force-shifted potential phi(r) - phi(rc) - (r - rc) phi'(rc)."""
    n, t = len(system), np.searchsorted(SPECIES, system.numbers)
    reach = range(-4, 5) if system.box is not None else (0,)
    box = np.zeros((3, 3)) if system.box is None else system.box
    energy, forces, virial = 0.0, np.zeros((n, 3)), np.zeros((3, 3))

    def phi(r, e, s):
        return 4 * e * ((s / r) ** 12 - (s / r) ** 6), 4 * e * (6 * s**6 / r**7 - 12 * s**12 / r**13)

    for shift in np.array([(a, b, c) for a in reach for b in reach for c in reach], float) @ box:
        d = system.R[None] + shift - system.R[:, None]  # (i, j, 3)
        r = np.linalg.norm(d, axis=2)
        i, j = np.nonzero((r > 1e-9) & (r < cutoff))
        e, s, r, d = epsilon[t[i], t[j]], sigma[t[i], t[j]], r[i, j], d[i, j]
        (v, dv), (end, slope) = phi(r, e, s), phi(cutoff, e, s)
        energy += 0.5 * np.sum(v - end - (r - cutoff) * slope)
        pull = ((dv - slope) / r)[:, None] * d  # dphi/dr_ij
        np.add.at(forces, i, pull)
        virial -= 0.5 * d.T @ pull
    return energy, forces, virial


def wrong(factor: float = 1.1):
    """Parameters to start from."""
    return jax.tree.map(lambda x: factor * x, TRUE)


def with_nan(s: Structure) -> Structure:
    """A structure whose first force is NaN."""
    forces = s.forces.copy()
    forces[0, 0] = np.nan
    return replace(s, forces=forces)
