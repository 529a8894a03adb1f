"""Graph networks: energy and forces of MACE, NequIP and PaiNN against mace-torch, nequip and schnetpack.

Microseconds per atom, one core, 512 atoms of a copper-aluminium crystal, in float64 and float32. The original codes
make the models, with random weights (`mace_l3_nu3` is the reference file), and evaluate them in a process of their own
on a given neighbour list; jaxmlp reads the same files and has a given list too. `MACE_PYTHON`, with mace-torch and
schnetpack, and `NEQUIP_PYTHON` name their interpreters. "splines" are MACE's radial networks as Chebyshev series, to a
relative error of 1e-6 (float32) and 1e-9. Force differences are relative to the largest force.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, rival, seconds, setup

START = """
import os, warnings
warnings.filterwarnings("ignore")
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
import torch
torch.set_num_threads(1)
torch.manual_seed(0)
path, precision, *rest = arguments
dtype = getattr(torch, precision)
torch.set_default_dtype(torch.float64)

class Fixed:  # forces of a model on a list that is made once
    def __init__(self, run):
        self.run = run
    def get_forces(self, *_, **__):
        return self.run()
"""

MACE = (
    START
    + """
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

if not os.path.exists(path):
    blocks = modules.interaction_classes
    torch.save(modules.ScaleShiftMACE(
        r_max=5.0, num_bessel=8, num_polynomial_cutoff=5, max_ell=3, num_interactions=2, num_elements=2, correlation=3,
        interaction_cls_first=blocks["RealAgnosticInteractionBlock"], hidden_irreps=o3.Irreps(rest[0]),
        interaction_cls=blocks["RealAgnosticResidualInteractionBlock"], MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.array([-1.0, -2.0]), avg_num_neighbors=42.0, atomic_numbers=[13, 29],
        gate=torch.nn.functional.silu, atomic_inter_scale=0.5, atomic_inter_shift=0.1), path)
model = torch.load(path, weights_only=False).to(dtype)
for parameter in model.parameters():
    parameter.requires_grad_(False)
torch.set_default_dtype(dtype)
entry = data.AtomicData.from_config(
    data.config_from_atoms(atoms), z_table=AtomicNumberTable([13, 29]), cutoff=float(model.r_max))
batch = next(iter(torch_geometric.dataloader.DataLoader([entry], batch_size=1))).to_dict()
atoms.calc = Fixed(lambda: model(batch)["forces"].detach().numpy())
"""
)

PAINN = (
    START
    + """
import typing
import torch.utils.data.dataloader as loader

loader.T_co = getattr(loader, "T_co", typing.TypeVar("T_co"))  # newer versions of torch lack it
import schnetpack as spk

if not os.path.exists(path):
    torch.set_default_dtype(torch.float32)
    net = spk.representation.PaiNN(
        128, 3, spk.nn.GaussianRBF(20, 5.0), cutoff_fn=spk.nn.CosineCutoff(5.0))
    heads = [spk.atomistic.Atomwise(n_in=128, output_key="energy"), spk.atomistic.Forces()]
    torch.save(spk.model.NeuralNetworkPotential(
        net, input_modules=[spk.atomistic.PairwiseDistances()], output_modules=heads), path)
model = torch.load(path, weights_only=False, map_location="cpu").to(dtype)
torch.set_default_dtype(dtype)
converter = spk.interfaces.AtomsConverter(
    neighbor_list=spk.transform.MatScipyNeighborList(cutoff=5.0), dtype=dtype, device="cpu")
for parameter in model.parameters():
    parameter.requires_grad_(False)
inputs = converter(atoms)
atoms.calc = Fixed(lambda: model(dict(inputs))["forces"].detach().numpy())
"""
)

NEQUIP = (
    START
    + """
import pathlib
from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
from nequip.model import NequIPGNNModel
from nequip.utils.global_state import set_global_state

set_global_state()
options = dict(
    seed=1, r_max=5.0, type_names=["Al", "Cu"], num_layers=4, l_max=2, parity=True, num_features=32,
    radial_mlp_depth=2, radial_mlp_width=64, avg_num_neighbors=42.0, model_dtype=precision)
model = NequIPGNNModel(**options)
if not os.path.exists(path):
    torch.save({"model_builder_kwargs": options, "state_dict": model.state_dict()}, path)
state = torch.load(path, weights_only=False)["state_dict"]
model.load_state_dict({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()})
for parameter in model.parameters():
    parameter.requires_grad_(False)
model.eval()
torch.set_default_dtype(dtype)
inputs = compute_neighborlist_(ChemicalSpeciesToAtomTypeMapper(["Al", "Cu"])(from_ase(atoms)), r_max=5.0)
inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
atoms.calc = Fixed(lambda: model(dict(inputs))["forces"].detach().numpy())
"""
)

MODELS = {  # name: (variable of the interpreter, its program, what the program needs, options of load)
    "MACE mace_l3_nu3": ("MACE_PYTHON", MACE, "", {}),
    "MACE 64x0e": ("MACE_PYTHON", MACE, "64x0e", {}),
    "MACE 128x0e+128x1o": ("MACE_PYTHON", MACE, "128x0e+128x1o", {}),
    "NequIP l 2, 32 features, 4 layers": ("NEQUIP_PYTHON", NEQUIP, "", {}),
    "PaiNN 128 features": ("MACE_PYTHON", PAINN, "", {"eV_per_native_unit": 1.0}),
}
RIVALS = {"MACE": "mace-torch", "NequIP": "nequip", "PaiNN": "schnetpack"}


def alloy(quick: bool):
    """A rattled fcc crystal, every third atom aluminium: 512 atoms with 42 neighbours nearer than 5 Å."""
    from ase.build import bulk

    atoms = bulk("Cu", "fcc", a=3.75, cubic=True) * ((2, 2, 2) if quick else (8, 4, 4))
    atoms.numbers[::3] = 13
    atoms.rattle(0.05, seed=1)
    return atoms


def main(quick: bool = False) -> None:
    pin()
    setup()
    rows = []
    atoms = alloy(quick)
    folder = tempfile.TemporaryDirectory()
    for k, (name, (variable, program, need, options)) in enumerate(MODELS.items()):
        path = Path(folder.name) / f"{k}.model"
        if "l3_nu3" in name:
            path = SHARED / "gnn" / "mace_l3_nu3" / "model.model"
        for precision in ("float64", "float32"):
            found = rival(variable, program, atoms, str(path), precision, need)
            if path.exists():
                rows += measure(name, path, options, precision, atoms, found, quick)
    emit(rows)


def measure(name: str, path: Path, options: dict, precision: str, atoms, found, quick: bool) -> list[dict]:
    """Rows of one model in one precision."""
    import jaxmlp as jm

    potential, params = jm.load(path, **options)
    loaded = {"jaxmlp": (potential, params)}
    if hasattr(potential, "compress"):
        tolerance = 1e-9 if precision == "float64" else 1e-6
        loaded["jaxmlp, splines"] = potential.compress(params, tolerance=tolerance)
    functions, firsts, slots = {}, {}, 0
    for code, pair in loaded.items():
        functions[code], _, slots = forces_on_a_list(pair, atoms, dtype=precision)
        firsts[code] = seconds(functions[code])
    times = medians(functions, 2 if quick else 5)
    forces, n = functions["jaxmlp"]()[1], len(atoms)
    scale = float(np.abs(forces).max())
    common = {"benchmark": "Graph networks, energy and forces", "system": f"{name}, {precision}", "atoms": n}
    rows = [
        common | {
            "code": code, "slots": slots, "us_per_atom": t / n * 1e6, "first_call_s": firsts[code],
            "speedup": t / times["jaxmlp"],
            "max_force_difference": float(np.abs(functions[code]()[1] - forces).max()) / scale,
        }
        for code, t in times.items()
    ]  # fmt: skip
    if found is not None:
        rows.append(common | {
            "code": RIVALS[name.split()[0]], "us_per_atom": found[0] / n * 1e6, "speedup": found[0] / times["jaxmlp"],
            "max_force_difference": float(np.abs(found[1] - forces).max()) / scale,
        })  # fmt: skip
    return rows


if __name__ == "__main__":
    main("--quick" in sys.argv)
