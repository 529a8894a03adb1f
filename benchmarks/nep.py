"""NEP energy and forces: jaxmlp against NEP_CPU as calorine ships it. Microseconds per atom, float64, one core."""

from common import SHARED, crystal, emit, medians, pin, setup

MODELS = {"C": ("C_2022_NEP4.txt", 8), "Si": ("Si_2022_NEP4_5body.txt", 8), "PbTe": ("PbTe_NEP4.txt", 8)}


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jax.numpy as jnp
    import numpy as np

    import jaxmlp as jm

    rows = []
    for kind, (name, repeat) in MODELS.items():
        path = SHARED / "nep" / "models" / name
        atoms = crystal(kind, 3 if quick else repeat)
        atoms = atoms[: len(atoms) // 4096 * 4096] if len(atoms) % 4096 == 0 else atoms
        system, n = jm.System.from_ase(atoms), len(atoms)
        potential, params, species = jm.prepare(*jm.load(path), system)
        search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=0.5, headroom=0.03)
        R, box = jnp.asarray(system.R), jnp.asarray(system.box)
        neighbors = jax.jit(search)(R, box)

        def forces(p, R, box, neighbors, potential=potential, species=species, precision=None):
            run = jm.Execution(precision=precision)
            out = jm.evaluate(potential, p, R, box, jnp.asarray(species), neighbors, execution=run)
            return out.energy, out.forces

        double = jax.jit(forces)
        mixed = jax.jit(lambda *a, f=forces: f(*a, precision="mixed"))
        functions = {
            "jaxmlp": lambda: jax.block_until_ready(double(params, R, box, neighbors)),
            "jaxmlp, mixed precision": lambda: jax.block_until_ready(mixed(params, R, box, neighbors)),
            "jaxmlp, list searched too": lambda f=jax.jit(lambda R: forces(params, R, box, search(R, box))): (
                jax.block_until_ready(f(R))
            ),
        }
        try:
            from calorine.calculators import CPUNEP

            atoms.calc = CPUNEP(str(path))
            there = atoms.get_forces()
            error = float(np.abs(there - double(params, R, box, neighbors)[1]).max())

            def rival(atoms=atoms):
                atoms.calc.reset()
                atoms.get_forces()

            functions["calorine"] = rival
        except ImportError:
            error = None
        times = medians(functions, 3 if quick else 7)
        for code, t in times.items():
            rows.append({
                "benchmark": "NEP energy and forces", "system": name, "atoms": n, "code": code,
                "us_per_atom": t / n * 1e6, "speedup": times["calorine"] / t if "calorine" in times else None,
                "max_force_difference": error, "neighbors": round(float(neighbors.mask.sum(1).mean()), 1),
            })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
