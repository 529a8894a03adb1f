"""ACE energy and forces: jaxmlp against LAMMPS' ML-PACE and pyace where they are installed (no package index has them).

Microseconds per atom, float64, one core; jaxmlp on a given neighbour list with a skin of 0.5 Å.

Where the time goes, Cu-PBE-core-rep (5863 products of two to six of 245 moments, two densities; 176 neighbours with the
skin in 196 slots), 115 us in all, each part with its adjoint: radial functions 8, harmonics 16, moments 30 (a product
16 x 49 x 196 and its two adjoints, 0.92 MFlop), products 50 (forward 13), the rest 11 (complex moments, densities,
cores, forces). At the 73 GFlop/s of a large matrix product the moments take 13 us. The products are 0.12 MFlop, under
2 us at that rate; they cost by rows gathered and added, 16 500 each way at 6 and 19 ns for 8 atoms. Tried: sums of
gathered rows instead of additions to rows (47), complex numbers (49), groups of products with a common factor (42).
"""

import tempfile
from pathlib import Path

from common import SHARED, emit, medians, pin, setup, start_lammps

MODELS = {"Cu": "Cu-PBE-core-rep.yace", "Al": "Al.pbe.rhocore.yace", "Ta": "Ta_FitSNAP_PACE.yace"}
STEPS = 5
LATTICE = {"Cu": ("fcc", 3.63), "Al": ("fcc", 4.05), "Ta": ("bcc", 3.31)}


def structure(kind: str, repeat: int):
    """A rattled crystal of some hundred atoms."""
    from ase.build import bulk

    atoms = bulk(kind, LATTICE[kind][0], a=LATTICE[kind][1], cubic=True).repeat(repeat)
    atoms.rattle(0.05, seed=1)
    return atoms


def lammps(path: Path, atoms):
    """Return a function that makes LAMMPS evaluate `STEPS` times with its list kept, and the forces; or None."""
    import numpy as np
    from ase.io.lammpsdata import write_lammps_data

    try:
        code = start_lammps()
    except ImportError:
        return None
    if not code.has_package("ML-PACE"):
        return None
    symbol = atoms.get_chemical_symbols()[0]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "s.data"
        write_lammps_data(data, atoms, atom_style="atomic", masses=True, specorder=[symbol])
        code.commands_list([
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "newton on", f"read_data {data}",
            "pair_style pace", f"pair_coeff * * {path} {symbol}", "neighbor 0.5 bin",
            "neigh_modify delay 1000000 every 1000000 check no", "run 0",
        ])  # fmt: skip
    order = np.argsort(code.numpy.extract_atom("id")[: len(atoms)])
    forces = np.array(code.numpy.extract_atom("f"))[: len(atoms)][order]
    return (lambda: code.command(f"run {STEPS} pre no post no")), forces


def pyace(path: Path, atoms):
    """Return a function that makes pyace evaluate once, and the forces; or None."""
    try:
        from pyace import PyACECalculator  # the package of this name on PyPI is another
    except ImportError:
        return None
    atoms.calc = PyACECalculator(str(path))

    def run():
        atoms.calc.reset()
        return atoms.get_forces()

    return run, run()


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
        errors, calls = {}, {"LAMMPS ML-PACE": STEPS}
        for code, start in (("LAMMPS ML-PACE", lammps), ("pyace", pyace)):
            if (rival := start(path, atoms)) is not None:
                functions[code], theirs = rival
                errors[code] = float(np.abs(theirs - functions["jaxmlp"]()[1]).max())
        times = {code: t / calls.get(code, 1) for code, t in medians(functions, 3 if quick else 7).items()}
        for code, t in times.items():
            rows.append({
                "benchmark": "ACE energy and forces", "system": name, "atoms": n, "code": code,
                "us_per_atom": t / n * 1e6, "speedup": t / times["jaxmlp"] if code in ("jaxmlp", *errors) else None,
                "max_force_difference": errors.get(code), "compile_s": compile_seconds.get(code),
                "neighbors": round(float(neighbors.mask.sum(1).mean()), 1), "functions": potential.size,
            })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
