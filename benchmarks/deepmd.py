"""Deep Potential of water (se_e2_a, [25, 50, 100] x 16, 240 x 240 x 240, 6 Å): energy and forces against deepmd-kit.

Microseconds per atom, one core, float64; random weights. jaxmlp runs on a given neighbour list, with the embedding
networks and with Chebyshev series in their place ("compressed", to a relative error of 1e-10); deepmd-kit's PyTorch
backend, uncompressed and with its own list, reads the file that jaxmlp writes, in a process of its own with the Python
of `DEEPMD_PYTHON`. Its compiled operators, which only its own compression needs, are left out.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from common import SHARED, emit, forces_on_a_list, medians, pin, seconds, setup

DEEPMD = """
import importlib.util, json, sys, time, types

sys.modules["deepmd.pt.cxx_op"] = types.ModuleType("deepmd.pt.cxx_op")
sys.modules["deepmd.pt.cxx_op"].ENABLE_CUSTOMIZED_OP = False
if importlib.util.find_spec("e3nn") is None:  # models that are not run here need it
    class Empty(types.ModuleType):
        __path__ = []
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})
    for name in ("e3nn", "e3nn.o3", "e3nn.nn", "e3nn.math", "e3nn.util", "e3nn.util.jit"):
        sys.modules[name] = Empty(name)
import numpy as np
import torch

torch.set_num_threads(1)
from deepmd.dpmodel.utils.serialization import load_dp_model
from deepmd.infer import DeepPot
from deepmd.pt.utils.serialization import deserialize_to_file

folder = sys.argv[1]
deserialize_to_file(folder + "/m.pth", load_dp_model(folder + "/m.dp"))
potential = DeepPot(folder + "/m.pth")
positions, cell, types_ = np.load(folder + "/s.npz").values()
run = lambda: potential.eval(positions.reshape(1, -1), cell.reshape(1, 9), types_)
forces, times = run()[1], []
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    forces = run()[1]
    times.append(time.perf_counter() - start)
np.save(folder + "/forces.npy", forces.reshape(-1, 3))
print(json.dumps(float(np.median(times))))
"""


def water(repeat):
    """ASE atoms: repeats of a box of liquid water with 192 atoms."""
    from ase import Atoms

    case = np.load(SHARED / "dp" / "cases" / "water_se_e2_a_oneside.npz")
    atoms = Atoms(case["c00_numbers"], case["c00_positions"], cell=case["c00_cell"], pbc=True) * repeat
    atoms.rattle(0.02, seed=1)
    return atoms


def deepmd_kit(potential, params, atoms, repeats: int):
    """Return seconds of an evaluation by deepmd-kit and its forces; None where it does not run."""
    import jaxmlp as jm

    with tempfile.TemporaryDirectory() as folder:
        jm.save(f"{folder}/m.dp", potential, params)
        places = np.array([potential.species.index(z) for z in atoms.numbers])
        np.savez(f"{folder}/s.npz", atoms.positions, np.array(atoms.cell), places)
        command = [os.environ.get("DEEPMD_PYTHON", sys.executable), "-c", DEEPMD, folder, str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None
        return json.loads(done.stdout.splitlines()[-1]), np.load(f"{folder}/forces.npy")


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jaxmlp as jm
    from jaxmlp.potentials.deepmd import deep_potential, statistics

    rows = []
    for one_side in (True, False):
        potential = deep_potential((8, 1), 6.0, sel=(46, 92), one_side=one_side)
        params = potential.init(jax.random.key(0))
        params = statistics(potential, params, [jm.System.from_ase(water((1, 1, 1)))])
        series = potential.compress(params)
        for repeat in ((1, 1, 1),) if quick else ((2, 2, 1), (2, 2, 2)):
            atoms = water(repeat)
            n = len(atoms)
            functions, firsts, slots = {}, {}, 0
            for code, loaded in {"jaxmlp": (potential, params), "jaxmlp, compressed": series}.items():
                functions[code], _, slots = forces_on_a_list(loaded, atoms)
                firsts[code] = seconds(functions[code])
            times = medians(functions, 3 if quick else 5)
            forces = functions["jaxmlp"]()[1]
            found = deepmd_kit(potential, params, atoms, 1 if quick else 3)
            name = f"water, networks of {'the neighbour' if one_side else 'both'}"
            for code, t in times.items():
                rows.append({
                    "benchmark": "DP energy and forces", "system": name, "atoms": n, "code": code, "slots": slots,
                    "us_per_atom": t / n * 1e6, "first_call_s": firsts[code], "speedup": t / times["jaxmlp"],
                    "max_force_difference": float(np.abs(functions[code]()[1] - forces).max()),
                })  # fmt: skip
            if found is not None:
                rows.append({
                    "benchmark": "DP energy and forces", "system": name, "atoms": n, "code": "deepmd-kit (PyTorch)",
                    "us_per_atom": found[0] / n * 1e6, "speedup": found[0] / times["jaxmlp"],
                    "max_force_difference": float(np.abs(found[1] - forces).max()),
                })  # fmt: skip
    emit(rows)


if __name__ == "__main__":
    main("--quick" in sys.argv)
