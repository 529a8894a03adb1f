"""Train a MACE from scratch on the first 10, 50 and 450 configurations of 3BPA at 300 K, on one core.

    python benchmarks/train_3bpa.py [minutes]

Errors are those of the test set at 300 K; they fall with the number of configurations.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase.io import read
from common import emit, pin

import jaxmlp as jm
from jaxmlp.potentials.mace import MACE

TITLE = "A MACE trained from scratch on configurations of 3BPA at 300 K"
DATA = Path(__file__).parents[2] / "shared" / "data" / "3bpa"


def dataset(name):
    """Positions (B, 27, 3) Å, energies (B,) eV less those of lone atoms, forces (B, 27, 3) eV/Å; atomic numbers."""
    frames = read(DATA / f"{name}.xyz.gz", ":")
    alone = {a.numbers[0]: a.get_potential_energy() for a in read(DATA / "iso_atoms.xyz", ":")}
    E = [a.get_potential_energy() - sum(alone[z] for z in a.numbers) for a in frames]
    R, F = np.array([a.positions for a in frames]), np.array([a.get_forces() for a in frames])
    return [jnp.asarray(x, jnp.float32) for x in (R, E, F)], frames[0].numbers


def train(count, minutes, batch=5):
    data, numbers = dataset("train_300K")  # in random order
    rng = np.random.default_rng(0)
    R, E, F = (x[:count] for x in data)
    mace = MACE((1, 6, 7, 8), 4.5, "16x0e+16x1o", max_ell=2, radial_mlp=(32, 32), avg_num_neighbors=10.0)
    params = mace.init(jax.random.key(0), jnp.float32) | {"scale": F.std(), "shift": E.mean() / len(numbers)}
    predict = jax.vmap(jm.evaluate_fn(mace, jm.System(numbers, R[0]), headroom=0.3), (0, None, None))
    optimiser = optax.inject_hyperparams(optax.amsgrad)(0.01)

    @jax.jit
    def update(params, average, state, R, E, F):
        def loss(params):
            out = predict(R, None, params)
            return jnp.mean((out.energy - E) ** 2) / len(numbers) + 100 * jnp.mean((out.forces - F) ** 2)

        slope = jax.grad(loss)(params)
        slope |= {name: jax.tree.map(jnp.zeros_like, slope[name]) for name in ("scale", "shift", "E0", "radial")}
        change, state = optimiser.update(slope, state, params)
        params = optax.apply_updates(params, change)
        return params, optax.incremental_update(params, average, 0.01), state

    average, state, start, done, steps = params, optimiser.init(params), None, 0.0, 0
    while done < 1:
        rows = rng.choice(count, batch, replace=False)
        state.hyperparams["learning_rate"] = jnp.float32(0.005 * (1 + np.cos(np.pi * done)))
        params, average, state = jax.block_until_ready(update(params, average, state, R[rows], E[rows], F[rows]))
        start, steps = start or time.perf_counter(), steps + 1  # after compiling
        done = min((time.perf_counter() - start) / (60 * minutes), 1.0)
    (R, E, F), _ = dataset("test_300K")
    run = jax.jit(predict)
    out = [run(R[k : k + 9], None, average) for k in range(0, len(R) // 9 * 9, 9)]
    errors = (
        np.concatenate([getattr(o, q) for o in out]) - x[: 9 * len(out)] for q, x in (("forces", F), ("energy", E))
    )
    force, energy = (1e3 * float(np.sqrt(np.mean(x**2))) for x in errors)
    row = {"benchmark": TITLE, "configurations": count, "minutes": minutes, "steps": steps}
    return row | {"force_rmse": force, "energy_rmse": energy}


if __name__ == "__main__":
    pin()
    minutes = 0.1 if "--quick" in sys.argv else float((sys.argv[1:] or ["4"])[0])
    emit([train(count, minutes) for count in (10, 50, 450)])
