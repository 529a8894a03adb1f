"""Deep Potential of water (se_e2_a, [25, 50, 100] x 16, 240 x 240 x 240, 6 Å): energy and forces against deepmd-kit.

Microseconds per atom, one core, float64; random weights. jaxmlp runs on a given neighbour list, with the embedding
networks and with Chebyshev series in their place ("compressed", to a relative error of 1e-10); deepmd-kit's PyTorch
backend, uncompressed and with its own list, reads the file that jaxmlp writes, in a process of its own with the Python
of `DEEPMD_PYTHON`. Its compiled operators, which only its own compression needs, are left out.
"""

import sys
import tempfile

import numpy as np
from common import emit, forces_on_a_list, medians, pin, rival, seconds, setup

DEEPMD = """
import types

sys.modules["deepmd.pt.cxx_op"] = types.ModuleType("deepmd.pt.cxx_op")
sys.modules["deepmd.pt.cxx_op"].ENABLE_CUSTOMIZED_OP = False
import torch

torch.set_num_threads(1)
from deepmd.calculator import DP
from deepmd.dpmodel.utils.serialization import load_dp_model
from deepmd.pt.utils.serialization import deserialize_to_file

deserialize_to_file(folder + "/m.pth", load_dp_model(arguments[0]))
atoms.calc = DP(folder + "/m.pth")
"""


def water(side: int):
    """ASE atoms: side^3 molecules, turned at random, on a grid of the density of the liquid, 0.997 g/cm^3."""
    from ase import Atoms
    from ase.build import molecule
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(1)
    spacing = 3.105
    one = molecule("H2O")
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 1, 3) * spacing
    turned = Rotation.random(side**3, rng).as_matrix() @ (one.positions - one.positions[0]).T
    places = grid + turned.transpose(0, 2, 1) + rng.normal(scale=0.1, size=(side**3, 1, 3))
    return Atoms(list(one.numbers) * side**3, places.reshape(-1, 3), cell=[side * spacing] * 3, pbc=True)


def main(quick: bool = False) -> None:
    pin()
    jax = setup()
    import jaxmlp as jm
    from jaxmlp.potentials.deepmd import deep_potential, statistics

    rows = []
    folder = tempfile.TemporaryDirectory()
    for one_side in (True, False):
        potential = deep_potential((8, 1), 6.0, sel=(46, 92), one_side=one_side)
        params = potential.init(jax.random.key(0))
        params = statistics(potential, params, [jm.System.from_ase(water(5))])
        series = potential.compress(params)
        path = f"{folder.name}/{one_side}.dp"
        jm.save(path, potential, params)
        for side in (4,) if quick else (6, 8):
            atoms = water(side)
            n = len(atoms)
            functions, firsts, slots = {}, {}, 0
            for code, loaded in {"jaxmlp": (potential, params), "jaxmlp, compressed": series}.items():
                functions[code], _, slots = forces_on_a_list(loaded, atoms)
                firsts[code] = seconds(functions[code])
            times = medians(functions, 3 if quick else 5)
            forces = functions["jaxmlp"]()[1]
            found = rival("DEEPMD_PYTHON", DEEPMD, atoms, path)
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
