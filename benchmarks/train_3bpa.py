"""Train a MACE from scratch on the first 10, 50 or 450 configurations of 3BPA at 300 K, for some minutes each.

    python benchmarks/train_3bpa.py [configurations] [minutes]

prints the error of the forces on the test set at 300 K. The loss is that of the energies and forces of a batch; its
gradient goes through the forces. Everything is `jm.evaluate_fn` under `vmap` and an optax chain.
"""

import gzip
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase.io import read

import jaxmlp as jm
from jaxmlp.potentials.mace import MACE

DATA = Path(__file__).parents[2] / "shared" / "data" / "3bpa"


def dataset(name: str):
    """Positions (B, 27, 3) Å, energies (B,) eV less those of the atoms, forces (B, 27, 3) eV/Å, atomic numbers."""
    with gzip.open(DATA / f"{name}.xyz.gz", "rt") as file:
        frames = read(file, ":", format="extxyz")
    alone = {a.numbers[0]: a.get_potential_energy() for a in read(DATA / "iso_atoms.xyz", ":")}
    E = [a.get_potential_energy() - sum(alone[z] for z in a.numbers) for a in frames]
    R, F = (np.array([get(a) for a in frames]) for get in (lambda a: a.positions, lambda a: a.get_forces()))
    return R, np.array(E), F, frames[0].numbers


def train(count: int, minutes: float, batch: int = 5, seed: int = 0) -> dict:
    R, E, F, numbers = dataset("train_300K")
    order = np.random.default_rng(seed).permutation(len(R))[:count]
    R, E, F = R[order], E[order], F[order]
    options = {"hidden": "16x0e+16x1o", "max_ell": 2, "avg_num_neighbors": 10.0, "radial_mlp": (32, 32)}
    model = MACE(tuple(sorted(set(numbers.tolist()))), 4.5, **options)
    params = model.init(jax.random.key(seed), jnp.float32)
    params |= {"scale": jnp.float32(F.std()), "shift": jnp.float32(E.mean() / len(numbers))}
    system = jm.System(numbers, R[0])
    predict = jax.vmap(jm.evaluate_fn(model, system, headroom=0.3), (0, None, None))
    schedule = lambda progress: 0.01 * 0.5 * (1 + np.cos(np.pi * progress))
    optimiser = optax.inject_hyperparams(optax.amsgrad)(0.01)
    fixed = ("scale", "shift", "E0", "radial")

    @jax.jit
    def update(params, average, state, R, E, F):
        def loss(params):
            out = predict(R, None, params)
            return jnp.mean((out.energy - E) ** 2) / len(numbers) + 100 * jnp.mean((out.forces - F) ** 2)

        value, slope = jax.value_and_grad(loss)(params)
        slope |= {name: jax.tree.map(jnp.zeros_like, slope[name]) for name in fixed}
        change, state = optimiser.update(slope, state, params)
        params = optax.apply_updates(params, change)
        return params, optax.incremental_update(params, average, 0.01), state, value

    average, state, start, steps = params, optimiser.init(params), None, 0
    rng, epochs, progress = np.random.default_rng(seed), 0, 0.0
    while progress < 1:
        for rows in rng.permutation(count)[: count // batch * batch].reshape(-1, batch):
            state.hyperparams["learning_rate"] = jnp.float32(schedule(progress))
            data = (jnp.asarray(x[rows], jnp.float32) for x in (R, E, F))
            params, average, state, value = update(params, average, state, *data)
            start = start or time.perf_counter()  # after compiling
            progress, steps = min((time.perf_counter() - start) / (60 * minutes), 1.0), steps + 1
        epochs += 1
    R, E, F, _ = dataset("test_300K")
    parts = np.array_split(np.arange(len(R) // 20 * 20), len(R) // 20)
    run = jax.jit(predict)
    out = [run(jnp.asarray(R[part], jnp.float32), None, average) for part in parts]
    dF = np.concatenate([o.forces for o in out]) - F[: parts[-1][-1] + 1]
    dE = np.concatenate([o.energy for o in out]) - E[: parts[-1][-1] + 1]
    rms = lambda x: float(1e3 * np.sqrt(np.mean(x**2)))
    found = {"configurations": count, "epochs": epochs, "steps": steps, "loss": float(value)}
    return found | {"force RMSE, meV/Å": rms(dF), "energy RMSE, meV": rms(dE)}


if __name__ == "__main__":
    counts = [int(sys.argv[1])] if len(sys.argv) > 1 else [10, 50, 450]
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 4.0
    for count in counts:
        print(train(count, minutes), flush=True)
