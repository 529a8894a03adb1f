"""Neighbour search inside jit against matscipy and vesin (C++). Microseconds per atom, one core, float64."""

from common import crystal, emit, medians, pin, setup

CASES = {"diamond, 5 Å": ("C", 8, 5.0), "silicon, 5.5 Å": ("Si", 8, 5.5), "argon, 9.5 Å": ("Ar", 10, 9.5)}


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jax.numpy as jnp
    import matscipy.neighbours
    import vesin

    import jaxmlp as jm

    rows = []
    for name, (kind, repeat, cutoff) in CASES.items():
        atoms = crystal(kind, 4 if quick else repeat)
        system, n = jm.System.from_ase(atoms), len(atoms)
        search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, (cutoff,), headroom=0.05)
        R, box = jnp.asarray(system.R), jnp.asarray(system.box)
        run = jax.jit(search)
        vesin_list = vesin.NeighborList(cutoff=cutoff, full_list=True)
        functions = {
            "jaxmlp": lambda run=run, R=R, box=box: jax.block_until_ready(run(R, box)),
            "vesin": lambda v=vesin_list, s=system: v.compute(s.R, s.box, True, quantities="ijS"),
            "matscipy": lambda a=atoms, c=cutoff: matscipy.neighbours.neighbour_list("ijS", a, c),
        }
        found = int(run(R, box).mask.sum())
        assert found == len(functions["matscipy"]()[0]) == len(functions["vesin"]()[0])
        times = medians(functions, 3 if quick else 7)
        rows += [
            {"benchmark": "neighbour search", "system": name, "atoms": n, "code": code, "us_per_atom": t / n * 1e6,
             "speedup": t / times["jaxmlp"], "neighbors": round(found / n, 1)}
            for code, t in times.items()
        ]  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
