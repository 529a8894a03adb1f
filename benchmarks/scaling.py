"""NEP carbon from 64 to 10^6 atoms: microseconds and peak memory per atom, one core; and two host devices against one.

Every size runs in a process of its own, so that the peak memory is its own. Evaluations follow each other inside one
compiled loop, as in dynamics.
"""

import json
import os
import subprocess
import sys

from common import SHARED, crystal, emit, pin, seconds, setup

REPEATS = {"64": (2, 2, 2), "512": (4, 4, 4), "4096": (8, 8, 8), "32768": (16, 16, 16), "1000000": (50, 50, 50)}


def one(repeat, devices: int, repeats: int) -> dict:
    """Evaluate one size in this process."""
    pin(devices)
    jax = setup()
    import resource

    import jax.numpy as jnp
    import numpy as np

    import jaxmlp as jm

    atoms = crystal("C", tuple(repeat))
    system, n = jm.System.from_ase(atoms), len(atoms)
    potential, params, species = jm.prepare(*jm.load(SHARED / "nep" / "models" / "C_2022_NEP4.txt"), system)
    search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, skin=0.5, headroom=0.03)
    R, box = jnp.asarray(system.R), jnp.asarray(system.box)
    neighbors = jax.block_until_ready(jax.jit(search)(R, box))

    steps = max(1, min(100, 50_000 // n))

    @jax.jit
    def loop(params, R, box, neighbors):
        def one(_, carry):
            R, _ = carry
            run = jm.Execution(devices=devices)
            out = jm.evaluate(potential, params, R, box, jnp.asarray(species), neighbors, execution=run)
            return R + 1e-9 * out.forces, out.energy

        return jax.lax.fori_loop(0, steps, one, (R, jnp.zeros((), R.dtype)))

    compiled = seconds(lambda: jax.block_until_ready(loop(params, R, box, neighbors)))
    times = [seconds(lambda: jax.block_until_ready(loop(params, R, box, neighbors))) / steps for _ in range(repeats)]
    assert np.isfinite(loop(params, R, box, neighbors)[1])
    t = float(np.median(times))
    return {
        "benchmark": "weak scaling", "system": "C_2022_NEP4.txt", "atoms": n, "code": f"jaxmlp, {devices} device(s)",
        "us_per_atom": t / n * 1e6, "first_call_s": compiled,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "slots": search.slots[-1][1],
    }  # fmt: skip


def main(quick: bool = False) -> None:
    rows = []
    sizes = ["64", "512"] if quick else list(REPEATS)
    for size, devices in [(s, 1) for s in sizes] + [("512" if quick else "4096", 2)]:
        flags = f"--xla_force_host_platform_device_count={devices}"
        repeats = "2" if size == "1000000" else "7"
        command = [sys.executable, __file__, "--one", json.dumps(REPEATS[size]), str(devices), repeats]
        if devices > (os.cpu_count() or 1):
            continue
        env = os.environ | {"XLA_FLAGS": flags, "NPROC": "1"}  # one thread for each device
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        rows.append(json.loads(out.stdout.splitlines()[-1]))
    reference = {r["atoms"]: r["us_per_atom"] for r in rows if r["code"].startswith("jaxmlp, 1")}
    for r in rows:
        r["speedup"] = reference[r["atoms"]] / r["us_per_atom"]
    emit(rows)


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main("--quick" in sys.argv)
