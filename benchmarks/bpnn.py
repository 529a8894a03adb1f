"""Behler-Parrinello networks: energy and forces of metals and of water.

Microseconds per atom, one core, float64, on a given neighbour list (skin 0). The floor is the time of the exponentials
alone that the energy needs (one for each pair of neighbours inside the cutoff and each narrow Gaussian, one for each
neighbour and each radial one), on arrays that stay in cache: a code that evaluates them all cannot be faster.
"""

import os
import sys

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, seconds, setup

METALS = {"Cu_mlearn": ("Cu", "fcc", 3.63, 6), "Mo_mlearn": ("Mo", "bcc", 3.17, 8)}
WATER = "H2O_revPBE0-D3"


def structure(name: str, quick: bool):
    """ASE atoms of about 1,000 (quick: 50 to 100) atoms."""
    from ase import Atoms
    from ase.build import bulk

    if name == WATER:
        case = np.load(SHARED / "bpnn" / "cases" / f"{name}.npz")
        atoms = Atoms(case["c06_numbers"], case["c06_positions"], cell=case["c06_cell"], pbc=True)
        return atoms * (1 if quick else 2)
    element, lattice, a, repeat = METALS[name]
    atoms = bulk(element, lattice, a=a, cubic=True) * (3 if quick else repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def exponentials(potential, system) -> float:
    """Exponentials per atom: each needed for the functions of its own element, and inside their cutoffs."""
    from matscipy.neighbours import neighbour_list

    numbers = system.numbers
    i, d = neighbour_list("iD", positions=system.R, cell=system.box, pbc=system.pbc, cutoff=potential.cutoff)
    start = np.searchsorted(i, np.arange(len(numbers) + 1))
    total = 0
    for atom in range(0, len(numbers), max(1, len(numbers) // 50)):
        x = d[start[atom] : start[atom + 1]]
        gaps = np.linalg.norm(x[:, None] - x[None], axis=2)[np.triu_indices(len(x), 1)]
        fs = potential.functions[potential.species.index(numbers[atom])]
        narrow = {f.radial for f in fs if f.kind in (3, 13)}
        total += sum(np.sum(gaps < key[0][1] * potential.length_unit) for key in narrow)
        total += len({f.radial for f in fs}) * len(x)
    return total / len(range(0, len(numbers), max(1, len(numbers) // 50)))


def main(quick: bool = False) -> None:
    pin()
    os.environ.setdefault("NPROC", "1")
    jax = setup()
    import jax.numpy as jnp

    import jaxmlp as jm

    rows = []
    x = jnp.asarray(np.random.default_rng(0).uniform(0.0, 5.0, 4096))
    repeated = jax.jit(lambda x: jax.lax.fori_loop(0, 64, lambda k, y: jnp.exp(-y), x))
    bare = medians({"exp": lambda: jax.block_until_ready(repeated(x))}, 20)["exp"] / (64 * x.size)
    for name in (*METALS, WATER):
        atoms = structure(name, quick)
        folder = SHARED / "bpnn" / "models" / name
        loaded = jm.load(folder, length_unit="bohr", energy_unit="ev" if name in METALS else "hartree")
        run, potential, slots = forces_on_a_list(loaded, atoms)
        first = seconds(run)
        ours = medians({"ours": run}, 5)["ours"]
        n = len(atoms)
        floor = exponentials(potential, jm.System.from_ase(atoms)) * bare
        common = {"benchmark": "BPNN energy and forces", "system": name, "atoms": n}
        rows.append(common | {
            "code": "jaxmlp", "speedup": 1.0, "us_per_atom": ours / n * 1e6, "first_call_s": first,
            "slots": slots,
        })  # fmt: skip
        rows.append(common | {
            "code": "floor: the energy's exponentials", "us_per_atom": floor * 1e6, "speedup": floor * n / ours,
        })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    main("--quick" in sys.argv)
