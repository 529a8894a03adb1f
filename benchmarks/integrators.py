"""What integrators cost: steps of every ensemble against the force call, and beads of a ring polymer against as many.

Microseconds per atom and step, float64, one core. "forces" is the evaluation, with the look whether the neighbour list
still holds, in a loop like that of dynamics; "forces and virial" the same for barostats. No list is renewed while the
clock runs. Runs of a few milliseconds take turns many times: the ratio is the median of those of the turns.
"""

import numpy as np
from common import SHARED, crystal, emit, pin, setup, turns


def loop(jax, function, state, n: int):
    """A compiled function that applies function(state) -> state n times."""
    run = jax.jit(lambda s: jax.lax.fori_loop(0, n, lambda _, s: function(s), s)).lower(state).compile()
    return lambda: jax.block_until_ready(run(state))


def forces_of(sim):
    """A function state -> state that evaluates forces at positions which depend on the last ones."""

    def step(state):
        state = sim.dynamics.forces(state, sim.atoms)
        return state._replace(R=state.R + 1e-30 * state.F)

    return step


def step_of(sim):
    return lambda state: sim.dynamics.step(state, sim.atoms, sim.controls)


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


BAROSTATS = ("MTK", "piston", "rescaling")


def lennard_jones_steps(jax, jm, quick: bool) -> list[dict]:
    """Steps of every ensemble, 4,096 atoms."""
    from jaxmlp.potentials.pair import lennard_jones

    n, atoms = 8, crystal("Ar", 4 if quick else (16, 8, 8))
    system = jm.System.from_ase(atoms)
    potential, params = lennard_jones((18,), 0.0104, 3.4, 8.5)
    functions = {}
    for name, make in ensembles(jm).items():
        sim = make(potential, params, system, dt=1.0, skin=0.7)
        sim = jm.md.run(sim, 4, log_every=10**6).simulation
        if name in ("NVE", "MTK, isotropic"):
            base = "forces" if name == "NVE" else "forces and virial"
            functions[base] = loop(jax, forces_of(sim), sim.state, n)
        functions[name] = loop(jax, step_of(sim), sim.state, n)
    base = lambda name: "forces and virial" if any(b in name for b in BAROSTATS) else "forces"
    times = turns(functions, 5 if quick else 100)
    return rows("Lennard-Jones", len(atoms), times, {name: n for name in times}, base)


def beads(jax, jm, quick: bool) -> list[dict]:
    """Steps of a ring polymer of 512 atoms of a NEP, against as many force calls as it has beads."""
    potential, params = jm.load(SHARED / "nep" / "models" / "C_2022_NEP4.txt")
    atoms, P = crystal("C", 2 if quick else 4), 2 if quick else 8
    system = jm.System.from_ase(atoms)
    options = {"temperature": 300.0, "dt": 0.25, "skin": 0.5}
    sims = jm.md.nve(potential, params, system, **options), jm.md.pimd(potential, params, system, beads=P, **options)
    one, ring = (jm.md.run(sim, 4, log_every=10**6).simulation for sim in sims)
    functions = {
        "forces": loop(jax, forces_of(one), one.state, P),
        f"PIMD, {P} beads": loop(jax, step_of(ring), ring.state, 1),
    }
    times = turns(functions, 3 if quick else 15)
    return rows("NEP carbon", len(atoms), times, dict.fromkeys(times, P), lambda name: "forces")


def rows(system: str, atoms: int, times: dict, calls: dict[str, int], base) -> list[dict]:
    return [
        {
            "benchmark": "steps of integrators", "system": system, "atoms": atoms, "code": name,
            "us_per_atom": float(np.median(t)) / calls[name] / atoms * 1e6,
            "over_forces": float(np.median(t / times[base(name)])) - 1,
        }
        for name, t in times.items()
    ]  # fmt: skip


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jaxmlp as jm

    emit(lennard_jones_steps(jax, jm, quick) + beads(jax, jm, quick))


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
