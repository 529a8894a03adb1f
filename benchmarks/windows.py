"""What windows of a path cost: 16 points between a NEP crystal and springs, together against one after the other.

Microseconds per atom, window and step of Langevin dynamics, float64, one core. "alone" is a single window times 16;
"replicas" the loop that free energies run in (`md.replicas`); "vmap of runs" is `jax.vmap` of `md.simulate`; "vmap of a
step" what replicas are on an accelerator. No list is renewed while the clock runs; runs take turns.
"""

import numpy as np
from common import SHARED, crystal, emit, pin, setup, turns

WINDOWS = 16


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jaxmlp as jm
    from jaxmlp.free_energy import path
    from jaxmlp.free_energy.paths import point
    from jaxmlp.potentials.einstein import einstein_crystal

    system = jm.System.from_ase(crystal("Si", (4, 4, 2), rattle=0.02))
    potential, params, _ = jm.prepare(*jm.load(SHARED / "nep" / "models" / "Si_2022_NEP4_5body.txt"), system)
    whole, together = path(potential, params, *einstein_crystal(system, 6.0))
    K, n = (3, 5) if quick else (WINDOWS, 100)
    x = (np.arange(K) + 0.5) / K
    options = {"temperature": 300.0, "dt": 1.0, "skin": 0.5}
    sims = [jm.md.nvt_langevin(whole, point(together, s), system, key=k, **options) for k, s in enumerate(x)]
    replicas = jm.md.replicas(sims)

    def loop(step, state):
        run = jax.jit(lambda s: jax.lax.fori_loop(0, n, lambda _, s: step(s), s)).lower(state).compile()
        return lambda: jax.block_until_ready(run(state))

    one, all_ = sims[0], replicas
    single = lambda state: one.dynamics.step(state, one.atoms, one.controls)
    mapped = lambda state: all_.dynamics.step(state, all_.atoms, all_.controls)
    structure = jax.tree.structure(one.atoms.params)
    axes = structure.unflatten([0 if v else None for v in all_.dynamics.forces.varies])

    def vmapped(state):
        step = lambda state, p: one.dynamics.step(state, one.atoms._replace(params=p), one.controls)
        return jax.vmap(step, (0, axes))(state, all_.atoms.params)

    run = jax.vmap(jm.md.simulate(one), (0, None, None, type(one.atoms)(axes, *[None] * (len(one.atoms) - 1))))
    runs = jax.jit(lambda state, atoms: run(state, one.controls, n, atoms))
    state = all_.state._replace(swaps=())
    functions = {
        "vmap of runs": lambda: jax.block_until_ready(runs(state, all_.atoms)),
        "alone": loop(single, one.state),
        "replicas": loop(mapped, all_.state),
        "vmap of a step": loop(vmapped, state),
    }
    times = turns(functions, 2 if quick else 5)
    rows = []
    for code, t in times.items():
        each = np.array(t) * (K if code == "alone" else 1)
        ratio = float(np.median(each / (K * np.array(times["alone"]))))
        rows.append({
            "benchmark": f"Windows of a path: {K} of {len(system)} NEP silicon atoms", "system": "NEP to springs",
            "atoms": len(system), "code": code, "us_per_atom": float(np.median(each)) / (n * K * len(system)) * 1e6,
            "over_alone": ratio - 1,
        })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
