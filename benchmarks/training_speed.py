"""Epochs of training in turns with those of mace-torch and deepmd-kit; run by `training.py`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from training_3bpa import DATA, SPECIES, Row, alone, molecules

from jaxmlp import fitting
from jaxmlp.potentials.deepmd import deep_potential
from jaxmlp.potentials.mace import MACE

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
