"""3BPA, one molecule trained at 300 K: MACE and linear ACE, on one core; run by `training.py`."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmlp import fitting
from jaxmlp.basis.radial import cheb_pow
from jaxmlp.potentials.ace_functions import ace, functions
from jaxmlp.potentials.mace import MACE

DATA = Path(__file__).parents[2] / "shared" / "data"
Row = dict[str, Any]

PUBLISHED = {  # Kovács et al., JCTC 17, 7696 (2021); Batatia et al., arXiv:2206.07697: meV and meV/Å
    "linear ACE, published": (7.1, 27.1, 24.0, 64.3),
    "NequIP, published": (3.28, 10.77, 11.16, 26.37),
    "MACE, L 2, 256 channels, published": (3.0, 8.8, 9.7, 21.8),
}
SPECIES = (1, 6, 7, 8)


def molecules(name: str) -> list[fitting.Structure]:
    """The structures of a file of the data set."""
    return fitting.read_structures(DATA / "3bpa" / f"{name}.xyz.gz")


def alone() -> np.ndarray:
    """Energies (4,) eV of isolated atoms."""
    found = {s.system.numbers[0]: s.energy for s in fitting.read_structures(DATA / "3bpa" / "iso_atoms.xyz")}
    return np.array([found[z] for z in SPECIES])


def bound(structures, energies: np.ndarray) -> float:
    """The mean energy of an atom, eV, less that of isolated atoms."""
    of = lambda s: s.energy - energies[np.searchsorted(SPECIES, s.system.numbers)].sum()
    return float(np.mean([of(s) / len(s) for s in structures]))


def tested(potential, params) -> Row:
    """Errors of the test sets, of double precision: energies of the molecule in meV, forces in meV/Å."""
    out = {}
    for kelvin in (300, 600):
        structures = molecules(f"test_{kelvin}K")
        found = fitting.accuracy(structures, fitting.predict_structures(potential, params, structures))
        out[f"energy_{kelvin}"] = 1e3 * found.energy.rmse * len(structures[0])
        out[f"forces_{kelvin}"] = 1e3 * found.forces.rmse
    return out


def double(params):
    """The parameters in double precision."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64 if jnp.issubdtype(x.dtype, jnp.floating) else None), params
    )


def mace_3bpa(folder: Path, epochs: int = 110, held: int = 45, batch: int = 2) -> list[Row]:
    """Train a small MACE on 450 configurations, in single precision; 50 choose the epoch.

    The learning rate is constant for `held` epochs, and then falls linearly to the end.
    """
    start = time.process_time()
    everything = molecules("train_300K")
    train, validation = everything[:450], everything[450:]
    energies = alone()
    energies = energies + bound(train, energies)
    # With harmonics up to l = 2, 200 epochs of half the time each end at 15.9 meV/Å (300 K), with 3 these at 14.6.
    potential = MACE(SPECIES, 5.0, "64x0e+64x1o", max_ell=3, radial_mlp=(32, 32))
    params = potential.init(jax.random.key(0), jnp.float32)
    potential, params = potential.adapted(params, fitting.Survey(train))
    loader = fitting.Loader(train, potential, batch, dtype=np.float32, energies=energies, buckets=1)
    one = len(loader.plan(None))
    loss = fitting.Loss(energy=fitting.staged(1.0, 1000.0, at=(3 * epochs // 4 * one,)), forces=100.0)
    falls = optax.linear_schedule(0.012, 1e-5, (epochs - held) * one)
    rate = optax.join_schedules([optax.constant_schedule(0.012), falls], [held * one])
    # Muon for matrices, Adam for the rest: after two minutes 43 meV/Å, where Adam alone has 48.
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.contrib.muon(rate))
    spent = Clock(folder / "mace.jsonl", start)
    trained = fitting.train(
        potential, params, loader, validation, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch,
        ema=0.999, energies=energies, checkpoint=folder / "mace", on_epoch=spent,
    )  # fmt: skip
    minutes = spent.seconds / 60
    params = potential.shifted(double(trained.params), energies)
    return [{
        "model": f"MACE {potential.hidden}, l {potential.max_ell}", "parameters": count(params),
        "epochs": epochs, "cpu_minutes": minutes, "compilations": trained.compilations, **tested(potential, params),
    }]  # fmt: skip


def count(params) -> int:
    """Numbers in a tree."""
    return sum(x.size for x in jax.tree.leaves(params))


class Clock:
    """CPU seconds of a training, those of the runs that it continues included; prints every epoch's row.

    Args:
        path: a file of rows, one line an epoch.
        start: CPU seconds of this process when the work began.
    """

    def __init__(self, path: Path, start: float):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.start = path, start
        self.before = json.loads(path.read_text().splitlines()[-1])["cpu"] if path.exists() else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.process_time() - self.start

    def __call__(self, row: Row) -> None:
        line = json.dumps(row | {"cpu": self.seconds})
        with self.path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


# Linear ACE: largest degree, sum of n + l / 4 over the factors, of the functions of rank 1 to 3 around each species.
# With 4001 functions and half of the data, errors of forces are 59 meV/Å, with n + l / 3 61, and with a cutoff of 4 Å
# 64; 3425 by n + l, with a cutoff of 5 Å and the power 5.25, have 80.
DEGREES = {1: (12, 5.5, 4.5), 6: (12, 9, 7), 7: (12, 7, 5.5), 8: (12, 7, 5.5)}
N_MAX, L_MAX, L_WEIGHT = (12, 6, 4), (0, 14, 10), 1 / 4
POWER, CUTOFF = 1.8, 3.3  # of u = (1 - r/cutoff)^power, in which the radial functions are polynomials


def ace_3bpa(_: Path) -> list[Row]:
    """Fit a linear ACE by ridge regression, in double precision; 50 configurations choose the strength."""
    start = time.process_time()
    everything = molecules("train_300K")
    train, validation = everything[:450], everything[450:]
    energies = alone()
    energies = energies + bound(train, energies)
    potential = ace(SPECIES, CUTOFF, n_max=N_MAX, l_max=L_MAX, degree=4, radial="ChebPow", decay=POWER)
    lists = tuple(tuple(f for r, d in enumerate(DEGREES[z], 1) for f in of_rank(r, d)) for z in SPECIES)
    potential = replace(potential, functions=lists, n_max=max(N_MAX[1:]), l_max=max(L_MAX))
    params = potential.init(jax.random.key(0))
    params = params | {"radial": orthonormal(params["radial"], train)}
    weights = {"energy": float(len(train[0]) ** 2), "forces": 1.0}
    options = {"weights": weights, "solver": "ridge"}
    fit = fitting.fit_linear(potential, params, train, energies=energies, strength=0.3, **options)
    others = [fitting.solve(fit.factors, strength=s, **options).coefficients for s in (0.1, 1.0)]
    found = [fit.params, *(fit.coefficients(jnp.asarray(c)) for c in others)]
    found = [potential.shifted(p, energies) for p in found]
    of = lambda p: fitting.accuracy(validation, fitting.predict_structures(potential, p, validation)).forces.rmse
    params = min(found, key=of)
    minutes = (time.process_time() - start) / 60
    row = {"model": f"linear ACE, rank {len(N_MAX)}", "parameters": len(fit.fit.coefficients), "cpu_minutes": minutes}
    return [row | tested(potential, params)]


def of_rank(rank: int, degree: float):
    """The functions of one rank up to a degree."""
    every = functions(len(SPECIES), N_MAX[:rank], L_MAX[:rank], degree, l_weight=L_WEIGHT)
    return [f for f in every if len(f[0]) == rank]


def orthonormal(radial, structures, width: float = 0.1, uniform: float = 0.1) -> jax.Array:
    """Radial functions (S, S, N, L + 1, size) that are orthonormal over the distances of each pair of species.

    Polynomials of low degree then tell apart what occurs: with the same functions, errors are an eighth smaller.

    Args:
        radial: of the shape wanted.
        width: Å, by which distances are smeared.
        uniform: share of a uniform distribution in their density, from the shortest to the cutoff.
    """
    grid = np.linspace(0.7, CUTOFF, 2000)
    g = np.stack(cheb_pow(jnp.asarray(grid), CUTOFF, POWER, 0.0, radial.shape[-1]))
    smear = np.exp(-0.5 * ((grid[:, None] - grid) / width) ** 2)
    species = np.searchsorted(SPECIES, structures[0].system.numbers)
    R = np.array([s.system.R for s in structures])
    r = np.linalg.norm(R[:, :, None] - R[:, None], axis=-1)  # (structures, atoms, atoms)
    out = np.zeros(radial.shape)
    for a, b in np.ndindex(radial.shape[:2]):
        pairs = r[:, species == a][:, :, species == b]
        pairs = pairs[(pairs > 0) & (pairs < CUTOFF)]
        density = smear @ np.histogram(pairs, np.append(grid, CUTOFF + grid[1] - grid[0]))[0]
        there = grid > (pairs.min(initial=CUTOFF) if len(pairs) else 1.0) - 3 * width
        density = (1 - uniform) * density / max(density.sum(), 1e-12) + uniform * there / there.sum()
        triangle = np.linalg.qr((g * np.sqrt(density)).T, mode="r")
        C = np.linalg.inv(triangle).T * np.sign(np.diag(triangle))[:, None]
        out[a, b] = C[: radial.shape[2], None]
    return jnp.asarray(out)
