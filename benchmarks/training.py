"""Training: the accuracy that a budget of CPU time buys, and epochs against those of mace-torch and deepmd-kit.

    python benchmarks/training.py [3bpa] [pbte] [speed] [--only NAME] [--output benchmarks] [--folder FOLDER]

writes TRAINING.md and training.json; what is not run stays as it was. All on one core. `3bpa` trains on the 450 + 50
configurations at 300 K and tests on those at 300 and 600 K; FOLDER keeps checkpoints, so that a run that was stopped
goes on. `pbte` fits a NEP to GPUMD's example by gradients and by SNES. `speed` needs the interpreters MACE_PYTHON
(mace-torch) and DEEPMD_PYTHON (deepmd-kit, with TensorFlow and PyTorch); ours and theirs make epochs in turns, so that
a drifting machine slows both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import machine, pin, setup

if __name__ == "__main__":
    pin()  # before jax counts the cores
jax = setup(x64=True)

import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

from jaxmlp import fitting  # noqa: E402
from jaxmlp.basis.radial import cheb_pow  # noqa: E402
from jaxmlp.potentials.ace_functions import ace, functions  # noqa: E402
from jaxmlp.potentials.deepmd import deep_potential  # noqa: E402
from jaxmlp.potentials.mace import MACE  # noqa: E402

DATA = Path(__file__).parents[2] / "shared" / "data"
Row = dict[str, Any]

# 3BPA: one molecule at 300 K; energies of isolated atoms are given

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


# Linear ACE: largest degree, sum of n + l over the factors, of the functions of rank 1 to 4 around each species
DEGREES = {1: (12, 9, 5, 4), 6: (12, 9, 6, 5), 7: (12, 9, 5, 4), 8: (12, 8, 4, 4)}
N_MAX, L_MAX = (12, 8, 4, 3), (0, 5, 4, 3)
POWER, CUTOFF = 5.25, 5.0  # of u = (1 - r/cutoff)^power, in which the radial functions are polynomials


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
    fit = fitting.fit_linear(potential, params, train, energies=energies, strength=1e-6, **options)
    fits = [fitting.solve(fit.factors, strength=s, **options) for s in (1e-8, 1e-6, 1e-4, 1e-2)]
    found = [potential.shifted(fit.coefficients(jnp.asarray(one.coefficients)), energies) for one in fits]
    of = lambda p: fitting.accuracy(validation, fitting.predict_structures(potential, p, validation)).forces.rmse
    params = min(found, key=of)
    minutes = (time.process_time() - start) / 60
    row = {"model": "linear ACE, rank 4", "parameters": len(fits[0].coefficients), "cpu_minutes": minutes}
    return [row | tested(potential, params)]


def of_rank(rank: int, degree: int):
    """The functions of one rank up to a degree."""
    every = functions(len(SPECIES), N_MAX[:rank], L_MAX[:rank], degree)
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


# PbTe: NEP by gradients, and by evolution as in GPUMD

NEP = {"family": "nep", "cutoff": [8.0, 4.0], "n_max": [4, 4], "basis_size": [8, 8], "l_max": [4, 2, 0], "neurons": 30}


def pbte(folder: Path, model: str, evaluations: int, **settings) -> list[Row]:
    """Fit a NEP to the 25 configurations of GPUMD's example, in single precision.

    Args:
        evaluations: of energies and forces of a configuration, for each epoch.
        settings: of the fit; `epochs` are generations of SNES.
    """
    start = time.process_time()
    train = fitting.read_structures(DATA / "pbte_nep" / "train.xyz.gz")
    print_every = lambda row: row["epoch"] % 50 or print(row, flush=True)
    fitted = fitting.fit(
        {"potential": NEP, "data": {"check": False}, "precision": "float32"} | settings, train=train,
        output=str(folder / "pbte"), on_epoch=print_every,
    )  # fmt: skip
    found = fitted.parts["train"].accuracy
    return [{
        "model": model, "parameters": count(fitted.params), "epochs": settings["epochs"],
        "evaluations": evaluations * settings["epochs"], "cpu_minutes": (time.process_time() - start) / 60,
        "energy": 1e3 * found.energy.rmse, "forces": 1e3 * found.forces.rmse,
    }]  # fmt: skip


def pbte_gradient(folder: Path, epochs: int = 2200) -> list[Row]:
    """By Adam, with a larger weight of energies in the second half."""
    return pbte(
        folder / "gradient", "NEP4, Adam", 25, epochs=epochs, batch_size=5, ema=0.995, checkpoint_every=10_000,
        loss={"energy": {"values": [1.0, 60.0], "epochs": [epochs // 2]}, "forces": 1.0},
        optimizer={"learning_rate": {"start": 0.02, "end": 2e-5}, "clip": 10.0},
    )  # fmt: skip


def pbte_snes(folder: Path, generations: int = 15000, population: int = 50, batch: int = 5) -> list[Row]:
    """By SNES, with fewer configurations in a generation than GPUMD's all.

    GPUMD starts with weights of about 1 and sigma 0.1; networks here start with weights of about 0.1, which such a
    sigma drowns: errors of forces stay at 140 meV/Å.
    """
    return pbte(
        folder / "snes", "NEP4, SNES", population * batch, method="snes", epochs=generations,
        snes={"population": population, "batch_size": batch, "sigma0": 0.01},
    )  # fmt: skip


# Speed: epochs in turns with another code's

MACE_TORCH = """
import json, os, sys, time, warnings
warnings.filterwarnings("ignore")
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
settings = json.loads(sys.argv[1])
import numpy as np, torch
torch.set_num_threads(1)
torch.manual_seed(0)
torch.set_default_dtype(torch.float32)
from ase.io import read
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric
from mace.tools.train import train_one_epoch
from torch_ema import ExponentialMovingAverage

blocks, species = modules.interaction_classes, [1, 6, 7, 8]
model = modules.ScaleShiftMACE(
    r_max=settings["cutoff"], num_bessel=8, num_polynomial_cutoff=5, max_ell=settings["max_ell"], num_interactions=2,
    num_elements=4, correlation=3, hidden_irreps=o3.Irreps(settings["hidden"]), MLP_irreps=o3.Irreps("16x0e"),
    interaction_cls_first=blocks["RealAgnosticInteractionBlock"], radial_MLP=[64, 64, 64],
    interaction_cls=blocks["RealAgnosticResidualInteractionBlock"], atomic_energies=np.array(settings["energies"]),
    avg_num_neighbors=settings["neighbors"], atomic_numbers=species, gate=torch.nn.functional.silu,
    atomic_inter_scale=1.0, atomic_inter_shift=0.0)
entries = []
for atoms in read(settings["data"], f":{settings['count']}"):
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = None
    one = data.config_from_atoms(atoms, key_specification=data.KeySpecification.from_defaults())
    entries.append(data.AtomicData.from_config(one, z_table=AtomicNumberTable(species), cutoff=settings["cutoff"]))
loader = torch_geometric.dataloader.DataLoader(entries, batch_size=settings["batch"], shuffle=True)
loss = modules.WeightedEnergyForcesLoss(1.0, 100.0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
average = ExponentialMovingAverage(model.parameters(), decay=0.99)
wanted = {"forces": True, "virials": False, "stress": False}

class Silent:
    def log(self, row):
        self.last = row

for epoch, _ in enumerate(sys.stdin):
    start, cpu = time.perf_counter(), time.process_time()
    train_one_epoch(model, loss, loader, optimizer, epoch, wanted, 10.0, average, Silent(), torch.device("cpu"), False)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]), flush=True)
"""

DEEPMD = """
import json, os, sys, time
os.environ.update(
    OMP_NUM_THREADS="1", DP_INTRA_OP_PARALLELISM_THREADS="1", DP_INTER_OP_PARALLELISM_THREADS="1",
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1", TF_CPP_MIN_LOG_LEVEL="3")
settings = json.loads(sys.argv[1])
os.chdir(settings["folder"])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

class Gate:  # in the place of what draws a batch: an epoch later it gives the time, and waits to be told to go on
    def __init__(self, call):
        self.call, self.drawn = call, 0
    def __call__(self, *arguments, **options):
        if self.drawn % settings["steps"] == 0:
            if self.drawn:
                print(json.dumps([time.perf_counter() - self.wall, time.process_time() - self.cpu]), file=answers)
                answers.flush()
            if not sys.stdin.readline():
                os._exit(0)
            self.wall, self.cpu = time.perf_counter(), time.process_time()
        self.drawn += 1
        return self.call(*arguments, **options)

if settings["backend"] == "pt":
    import types
    sys.modules["deepmd.pt.cxx_op"] = types.ModuleType("deepmd.pt.cxx_op")  # operators of compression
    sys.modules["deepmd.pt.cxx_op"].ENABLE_CUSTOMIZED_OP = False
    import torch
    torch.set_num_threads(1)
    from deepmd.pt.train.training import Trainer
    gate = Gate(Trainer._next_training_batch)
    Trainer._next_training_batch = lambda *a, **k: gate(*a, **k)
else:
    from deepmd.utils.data_system import DeepmdDataSystem
    gate = Gate(DeepmdDataSystem.get_batch)
    DeepmdDataSystem.get_batch = lambda *a, **k: gate(*a, **k)
from deepmd.main import main
main(["--" + settings["backend"], "train", "input.json", "--skip-neighbor-stat"])
"""


class Rival:
    """A code in a process of its own, which makes an epoch whenever it is told to."""

    def __init__(self, variable: str, program: str, settings: Row):
        command = [os.environ.get(variable, sys.executable), "-c", program, json.dumps(settings)]
        quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self.process = subprocess.Popen(command, **quiet)

    def epoch(self) -> list[float] | None:
        """Seconds of the wall and of the processor, None if the process has ended."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self.process.stdout:
            if line.startswith("["):  # packages print too
                return json.loads(line)
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def in_turns(rivals: dict[str, Rival], run: Callable, epochs: int, common: Row) -> list[Row]:
    """Rows of our training and of the rivals': medians over the epochs after the first.

    Args:
        run: trains for as many epochs, with `on_epoch` as told, and returns `Trained`.
        common: what all rows have.
    """
    ours: list[list[float]] = []
    theirs: dict[str, list] = {name: [] for name in rivals}
    cpu = [time.process_time()]

    def on_epoch(row):
        ours.append([row["seconds"], time.process_time() - cpu[0]])
        for name, rival in rivals.items():
            theirs[name].append(rival.epoch())
        cpu[0] = time.process_time()

    trained = run(epochs=epochs, on_epoch=on_epoch)
    median = lambda times: [float(x) for x in np.median(np.array(times[1:]), axis=0)]
    wall, processor = median(ours)
    rows = [
        common
        | {"code": "jaxmlp", "wall": wall, "cpu": processor, "ratio": 1.0, "first": ours[0][1],
           "compilations": trained.compilations}
    ]  # fmt: skip
    for name, times in theirs.items():
        if None in times:
            print(f"{name} does not run: left out", file=sys.stderr)
            continue
        wall, processor = median(times)
        row = {"code": name, "wall": wall, "cpu": processor, "ratio": processor / rows[0]["cpu"], "first": times[0][1]}
        rows.append(common | row)
    return rows


def mace_speed(hidden: str, count: int, epochs: int = 6, batch: int = 5) -> list[Row]:
    """MACE on configurations of 3BPA, in single precision: mace-torch's defaults beside the irreps of the features."""
    structures = molecules("train_300K")[:count]
    energies = alone()
    potential = MACE(SPECIES, 5.0, hidden)
    potential, params = potential.adapted(potential.init(jax.random.key(0), jnp.float32), fitting.Survey(structures))
    loader = fitting.Loader(structures, potential, batch, dtype=np.float32, energies=energies)

    def run(**options):
        optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(1e-3))
        loss = fitting.Loss(energy=1.0, forces=100.0)
        return fitting.train(potential, params, loader, loss=loss, optimizer=optimizer, ema=0.99, **options)

    settings = {
        "hidden": hidden, "max_ell": potential.max_ell, "cutoff": potential.cutoff, "count": count, "batch": batch,
        "neighbors": potential.avg_num_neighbors, "energies": energies.tolist(),
        "data": str(DATA / "3bpa" / "train_300K.xyz.gz"),
    }  # fmt: skip
    common = {"system": f"MACE {hidden}, 3BPA, float32", "configurations": count, "batch": batch}
    with Rival("MACE_PYTHON", MACE_TORCH, settings) as rival:
        return in_turns({"mace-torch": rival}, run, epochs, common)


def dp_speed(precision: str, count: int = 20, epochs: int = 6) -> list[Row]:
    """se_e2_a of deepmd-kit's water example, 192 atoms a step."""
    structures = fitting.read_structures(DATA / "water_dp" / "train.xyz.gz")[:count]
    potential = deep_potential((8, 1), 6.0, sel=(46, 92))
    params = potential.init(jax.random.key(0), jnp.dtype(precision))
    potential, params = potential.adapted(params, fitting.Survey(structures))
    atoms = fitting.fit_reference_energies(structures, potential.species)
    energies = np.array([atoms[z] for z in potential.species])
    loader = fitting.Loader(structures, potential, 1, dtype=np.dtype(precision), energies=energies)
    rate = optax.exponential_decay(1e-3, 5000, 0.95)
    loss = fitting.Loss(
        energy=fitting.prefactor(0.02, 1.0, rate), forces=fitting.prefactor(1000.0, 1.0, rate), size=0.5
    )
    run = lambda **options: fitting.train(potential, params, loader, loss=loss, optimizer=optax.adam(rate), **options)
    common = {"system": f"DP of water, {precision}", "configurations": count, "batch": 1}
    with tempfile.TemporaryDirectory() as folder:
        settings = {}
        for backend in ("tf", "pt"):
            deepmd_input(Path(folder) / backend, structures, precision)
            settings[backend] = {"folder": f"{folder}/{backend}", "steps": count, "backend": backend}
        with Rival("DEEPMD_PYTHON", DEEPMD, settings["tf"]) as tf, Rival("DEEPMD_PYTHON", DEEPMD, settings["pt"]) as pt:
            return in_turns({"deepmd-kit (TensorFlow)": tf, "deepmd-kit (PyTorch)": pt}, run, epochs, common)


def deepmd_input(folder: Path, structures, precision: str) -> None:
    """Write data, of configurations of the same atoms, and input.json of deepmd-kit's example water/se_e2_a."""
    arrays = folder / "data" / "set.000"
    arrays.mkdir(parents=True)
    numbers = structures[0].system.numbers
    assert all((s.system.numbers == numbers).all() for s in structures)
    (folder / "data" / "type_map.raw").write_text("O\nH\n")
    (folder / "data" / "type.raw").write_text("\n".join("0" if z == 8 else "1" for z in numbers))
    flat = lambda of: np.array([np.ravel(of(s)) for s in structures])
    np.save(arrays / "coord.npy", flat(lambda s: s.system.R))
    np.save(arrays / "box.npy", flat(lambda s: s.system.box))
    np.save(arrays / "energy.npy", flat(lambda s: s.energy)[:, 0])
    np.save(arrays / "force.npy", flat(lambda s: s.forces))
    descriptor = {
        "type": "se_e2_a", "sel": [46, 92], "rcut_smth": 0.5, "rcut": 6.0, "neuron": [25, 50, 100], "axis_neuron": 16,
        "resnet_dt": False, "type_one_side": True, "precision": precision, "seed": 1,
    }  # fmt: skip
    fitting_net = {"neuron": [240, 240, 240], "resnet_dt": True, "precision": precision, "seed": 1}
    settings = {
        "model": {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting_net},
        "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 1e-3, "stop_lr": 3.51e-8},
        "loss": {
            "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
            "start_pref_v": 0, "limit_pref_v": 0,
        },
        "training": {
            "training_data": {"systems": [str(folder / "data")], "batch_size": 1}, "numb_steps": 1_000_000,
            "disp_freq": 1_000_000, "save_freq": 1_000_000, "seed": 1,
        },
    }  # fmt: skip
    (folder / "input.json").write_text(json.dumps(settings))


# What is run and what is written

Runs = dict[str, tuple[str, str, dict[str, Callable[[Path], list[Row]]]]]
RUNS: Runs = {
    "3bpa": (
        "3BPA, trained at 300 K",
        "450 configurations to train on, 50 to choose the epoch by, 1669 at 300 K and 2138 at 600 K to test. Root mean "
        "square errors.",
        {"MACE": mace_3bpa, "ACE": ace_3bpa},
    ),
    "pbte": (
        "PbTe, GPUMD's example",
        "25 configurations of 250 atoms, all to train on. Root mean square errors; evaluations are those of energies, "
        "with forces, of one configuration, of gradients by the parameters too with Adam.",
        {"Adam": pbte_gradient, "SNES": pbte_snes},
    ),
    "speed": (
        "Epochs",
        "Medians after the first epoch; the ratio is that of CPU times, as the machine is shared. The first epoch "
        "compiles. mace-torch in eager mode, which is how it trains; deepmd-kit by its own training loops.",
        {
            "MACE, 32 channels": lambda _: mace_speed("32x0e+32x1o", 50),
            "MACE, 128 channels": lambda _: mace_speed("128x0e+128x1o", 20),
            "DP, float64": lambda _: dp_speed("float64"),
            "DP, float32": lambda _: dp_speed("float32"),
        },
    ),
}  # fmt: skip
REFERENCES = {
    "3bpa": [
        {"model": name} | dict(zip(("energy_300", "forces_300", "energy_600", "forces_600"), errors, strict=True))
        for name, errors in PUBLISHED.items()
    ],
    "pbte": [
        {"model": "NEP, GPUMD (SNES), published", "epochs": 20000, "evaluations": 20000 * 50 * 25, "energy": 0.41,
         "forces": 40.0},
    ],
}  # fmt: skip
COLUMNS = {
    "model": "model", "system": "system", "code": "code", "configurations": "configurations", "batch": "batch",
    "parameters": "parameters", "epochs": "epochs", "evaluations": "evaluations", "cpu_minutes": "CPU, min",
    "energy": "E, meV/atom", "forces": "F, meV/Å",
    "energy_300": "E 300 K, meV", "forces_300": "F 300 K, meV/Å", "energy_600": "E 600 K, meV",
    "forces_600": "F 600 K, meV/Å", "wall": "s/epoch", "cpu": "CPU s/epoch", "ratio": "ratio",
    "first": "first epoch, CPU s", "compilations": "compilations",
}  # fmt: skip


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    keys = [k for k in COLUMNS if any(k in row for row in rows)]
    lines = ["| " + " | ".join(COLUMNS[k] for k in keys) + " |", "|" + "---|" * len(keys)]
    return "\n".join(lines + ["| " + " | ".join(cell(row.get(k)) for k in keys) + " |" for row in rows])


def cell(value) -> str:
    """A number to three digits, or what else there is."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def report(record: Row) -> str:
    """The page of the record."""
    parts = [
        "# Training",
        "Written by `python benchmarks/training.py`, which says what is run. One core of a shared machine; CPU is the "
        "time of the processor, of compiling too.",
    ]
    for subject, (heading, text, names) in RUNS.items():
        done = [record[f"{subject}: {name}"] for name in names if f"{subject}: {name}" in record]
        if done:
            rows = [row for run in done for row in run["rows"]] + REFERENCES.get(subject, [])
            where = done[-1]["machine"]
            known = {name: v for name, v in where["versions"].items() if name in ("jax", "jaxlib", "jaxmlp", "numpy")}
            versions = ", ".join(f"{name} {version}" for name, version in known.items())
            last = f"{where['date']}, {where['cpu']} (shared), one core, Python {where['python']}, {versions}."
            parts += [f"## {heading}", text, table(rows), last]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Run what the command line asks for; write TRAINING.md and training.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=list(RUNS), help="some of " + ", ".join(RUNS))
    parser.add_argument("--only", help="one run of a subject, such as MACE")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the page")
    parser.add_argument("--folder", type=Path, help="of checkpoints; a temporary one if there is none")
    options = parser.parse_args()
    path = options.output / "training.json"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for subject in options.subjects:
            for name, run in RUNS[subject][2].items():
                if options.only not in (None, name):
                    continue
                rows = run(folder)
                # Read right before it is written: another run may have added to it.
                record = json.loads(path.read_text()) if path.exists() else {}
                record[f"{subject}: {name}"] = {"rows": rows, "machine": machine()}
                path.write_text(json.dumps(record, indent=1) + "\n")
                (options.output / "TRAINING.md").write_text(report(record))
                print(table(rows), flush=True)


if __name__ == "__main__":
    main()
