"""ACE energy and forces: jaxmlp against pyace where it is installed. Microseconds per atom, float64, one core.

Profile of Cu-PBE (742 functions, 5905 products of up to six factors, 134 neighbours): see the rows "without products",
the neighbour sums alone (radial functions, harmonics, moments). Floor: the products are one complex multiplication and
its two adjoints each, some 30 flops x 7500; the neighbour sums one GEMM of 16 x 49 x 134 forward, two backward.
"""

from common import SHARED, emit, medians, pin, setup

MODELS = {"Cu": "Cu-PBE-core-rep.yace", "Al": "Al.pbe.rhocore.yace", "Ta": "Ta_FitSNAP_PACE.yace"}
LATTICE = {"Cu": ("fcc", 3.63), "Al": ("fcc", 4.05), "Ta": ("bcc", 3.31)}


def structure(kind: str, repeat: int):
    """A rattled crystal of some hundred atoms."""
    from ase.build import bulk

    atoms = bulk(kind, LATTICE[kind][0], a=LATTICE[kind][1], cubic=True).repeat(repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import dataclasses
    import time

    import jax.numpy as jnp
    import numpy as np

    import jaxmlp as jm

    rows = []
    for kind, name in MODELS.items():
        path = SHARED / "ace" / "models" / name
        atoms = structure(kind, 4 if quick else 6)
        system, n = jm.System.from_ase(atoms), len(atoms)
        potential, params, species = jm.prepare(*jm.load(path), system)
        search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=0.5, headroom=0.03)
        R, box = jnp.asarray(system.R), jnp.asarray(system.box)
        neighbors = jax.jit(search)(R, box)

        def forces(potential, p, species=species, R=R, box=box, neighbors=neighbors):
            out = jm.evaluate(potential, p, R, box, jnp.asarray(species), neighbors)
            return out.energy, out.forces

        # The moments of the same factors without their products: functions of rank 1 and 2, one for each (n, l).
        pairs = {(m, n, l) for f in potential.functions[0] for m, n, l in zip(*f[:3], strict=True) if len(f[0]) > 1}
        few = [f for f in potential.functions[0] if len(f[0]) == 1]
        few += [((m, m), (k, k), (l, l), (), (0, 0)) for m, k, l in sorted(pairs)]
        bare = dataclasses.replace(potential, functions=(tuple(few),))
        models = {"jaxmlp": (potential, params), "jaxmlp, without products": (bare, bare.init(jax.random.key(0)))}
        functions, compile_seconds = {}, {}
        for code, (model, p) in models.items():
            start = time.perf_counter()
            run = jax.jit(lambda p, model=model: forces(model, p)).lower(p).compile()
            compile_seconds[code] = time.perf_counter() - start
            functions[code] = lambda run=run, p=p: jax.block_until_ready(run(p))
        error = None
        try:
            from pyace import PyACECalculator

            atoms.calc = PyACECalculator(str(path))
            error = float(np.abs(atoms.get_forces() - functions["jaxmlp"]()[1]).max())

            def rival(atoms=atoms):
                atoms.calc.reset()
                atoms.get_forces()

            functions["pyace"] = rival
        except ImportError:
            pass
        times = medians(functions, 3 if quick else 7)
        for code, t in times.items():
            rows.append({
                "benchmark": "ACE energy and forces", "system": name, "atoms": n, "code": code,
                "us_per_atom": t / n * 1e6, "speedup": times["pyace"] / t if "pyace" in times else None,
                "max_force_difference": error, "compile_s": compile_seconds.get(code),
                "neighbors": round(float(neighbors.mask.sum(1).mean()), 1), "functions": potential.size,
            })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
