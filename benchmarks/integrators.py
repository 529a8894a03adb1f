"""What integrators cost: steps of every ensemble against the force call, and beads of a ring polymer against as many.

Microseconds per atom and step, float64, one core. "forces alone" is the evaluation with a given neighbour list inside a
loop like that of dynamics; a step of velocity Verlet adds two updates of momenta and one of positions to it. All run at
a skin so wide that no list is renewed.
"""

import numpy as np
from common import SHARED, crystal, emit, medians, pin, setup


def _loop(jax, function, state, n: int):
    """A compiled function that applies function(state) -> state n times."""
    run = jax.jit(lambda s: jax.lax.fori_loop(0, n, lambda _, s: function(s), s))
    return lambda: jax.block_until_ready(run(state))


def ensembles(jm):
    """Name -> function of potential, parameters, system and options: a simulation."""
    md = jm.md
    T, P = {"temperature": 80.0}, {"pressure": 0.05 * jm.units.GPa, "tau_pressure": 2000.0}
    C = {"compressibility": 1 / jm.units.GPa}
    gle = np.array([[0.002, 0.02], [-0.02, 0.05]])
    with_ = lambda make, **own: lambda p, q, s, **o: make(p, q, s, **own, **o)
    return {
        "NVE": with_(md.nve, **T),
        "Langevin": with_(md.nvt_langevin, **T),
        "Nose-Hoover chain": with_(md.nvt_nose_hoover, **T),
        "CSVR": with_(md.nvt_csvr, **T),
        "GLE, 1 auxiliary momentum": with_(md.nvt_gle, gle=gle, **T),
        "MTK, isotropic": with_(md.npt_mtk, **T, **P),
        "MTK, triclinic": with_(md.npt_mtk, cell="triclinic", **T, **P),
        "Langevin piston": with_(md.npt_langevin, **T, **P),
        "cell rescaling": with_(md.npt_rescaling, **T, **P, **C),
    }


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jaxmlp as jm
    from jaxmlp.potentials.pair import lennard_jones

    rows, n = [], (10 if quick else 50)
    atoms = crystal("Ar", 4 if quick else (16, 8, 8))
    system = jm.System.from_ase(atoms)
    potential, params = lennard_jones((18,), 0.0104, 3.4, 8.5)
    functions = {}
    for name, make in ensembles(jm).items():
        sim = make(potential, params, system, dt=1.0, skin=0.7)
        sim = jm.md.run(sim, 20, log_every=10**6).simulation
        step = lambda s, sim=sim: sim.dynamics.step(s, sim.atoms, sim.controls)
        functions[name] = _loop(jax, step, sim.state, n)
        if name in ("NVE", "MTK, isotropic"):
            # Positions depend on forces, so that the loop cannot be emptied; the list is looked at as in a step.
            def force(s, sim=sim):
                s = sim.dynamics.forces(s, sim.atoms)
                return s._replace(R=s.R + 1e-30 * s.F)

            functions["forces alone" if name == "NVE" else "forces and virial alone"] = _loop(jax, force, sim.state, n)
    times = medians(functions, 3 if quick else 7)
    per = {name: t / n / len(atoms) * 1e6 for name, t in times.items()}
    for name, us in per.items():
        base = per[
            "forces and virial alone" if any(k in name for k in ("MTK", "piston", "rescaling")) else "forces alone"
        ]
        rows.append({
            "benchmark": "integrators", "system": "Lennard-Jones", "atoms": len(atoms), "code": name, "us_per_atom": us,
            "over_forces": us / base - 1,
        })  # fmt: skip

    potential, params = jm.load(SHARED / "nep" / "models" / "C_2022_NEP4.txt")
    atoms, beads, n = crystal("C", 2 if quick else 4), (2 if quick else 8), (2 if quick else 4)
    system = jm.System.from_ase(atoms)
    sim = jm.md.nve(potential, params, system, temperature=300.0, dt=0.25, skin=0.5)
    ring = jm.md.pimd(potential, params, system, temperature=300.0, beads=beads, dt=0.25, skin=0.5)
    rings = [jm.md.run(s, 4, log_every=10**6).simulation for s in (sim, ring)]
    force = lambda s, sim=rings[0]: (lambda t: t._replace(R=t.R + 1e-30 * t.F))(sim.dynamics.forces(s, sim.atoms))
    step = lambda s, sim=rings[1]: sim.dynamics.step(s, sim.atoms, sim.controls)
    functions = {
        "forces alone": _loop(jax, force, rings[0].state, n * beads),
        f"PIMD, {beads} beads": _loop(jax, step, rings[1].state, n),
    }
    times = medians(functions, 3 if quick else 5)
    for name, t in times.items():
        us = t / (n * beads) / len(atoms) * 1e6
        rows.append({
            "benchmark": "integrators", "system": "NEP carbon", "atoms": len(atoms), "code": name, "us_per_atom": us,
            "over_forces": t / times["forces alone"] - 1,
        })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
