"""Write nequip_reference.json: small NequIP and Allegro models with unusual options, as the original code has them.

Run where nequip 0.19 and nequip-allegro 0.8 are installed: `python tests/potentials/nequip_reference.py`. Parameters
are drawn from their names (`draw`), so that the file holds only their shapes, the other tensors, and the results.
"""

import json
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
TYPES = {"type_names": ["H", "O", "Si"], "model_dtype": "float64", "seed": 1, "r_max": 3.6}
SCALES = {"per_type_energy_scales": {"H": 0.8, "O": 1.3, "Si": 0.9}, "per_type_energy_shifts": -0.4}
COUNTS = {"avg_num_neighbors": {"H": 9.5, "O": 11.0, "Si": 12.5}}
PAIRS = {"per_edge_type_cutoff": {"H": 2.6, "O": {"H": 3.1, "Si": 3.3}}}
ZBL = {
    "pair_potential": {
        "_target_": "nequip.nn.pair_potential.ZBL",
        "units": "metal",
        "chemical_species": ["H", "O", "Si"],
        "polynomial_cutoff_p": 4,
    }
}
BESSEL = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 5}
SPLINE = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": 7, "spline_span": 4}
SMALL = {"scalar_embed_mlp_hidden_layers_width": 6, "allegro_mlp_hidden_layers_width": 7, "num_scalar_features": 6,
         "readout_mlp_hidden_layers_width": 5, "num_tensor_features": 3}  # fmt: skip

CASES: dict[str, dict] = {
    "full": {
        "_target_": "nequip.model.FullNequIPGNNModel",
        "irreps_edge_sh": "0e+1o+2e",
        "feature_irreps_hidden": ["4x0e+2x1o+3x2e", "3x0e+2x0o+2x1e+3x1o", "5x0e"],
        "radial_mlp_depth": [1, 2, 0],
        "radial_mlp_width": [6, 5, 4],
        "type_embed_num_features": 3,
        "readout_mlp_hidden_layers_depth": 2,
        "readout_mlp_hidden_layers_width": 4,
        "readout_mlp_nonlinearity": "mish",
        "bessel_trainable": True,
        "num_bessels": 5,
        **SCALES, **COUNTS, **PAIRS,
    },
    "residual": {
        "_target_": "nequip.model.NequIPGNNModel",
        "num_features": 3, "l_max": 1, "num_layers": 3, "type_embed_num_features": 5, "radial_mlp_width": 8,
        "learnable_shift": True, "convnet_resnet": True, "avg_num_neighbors": 10.0,
        "convnet_nonlinearity_scalars": {"e": "ssp", "o": "abs"},
        "convnet_nonlinearity_gates": {"e": "tanh", "o": "abs"},
        "per_type_energy_scales": 1.2, "per_type_energy_shifts": {"H": -1.0, "O": 0.5, "Si": 2.0},
    },
    "no_connection": {
        "_target_": "nequip.model.NequIPGNNModel",
        "num_features": [4, 3, 2], "l_max": 2, "num_layers": 2, "parity": False, "convnet_sc": False,
        "radial_mlp_depth": 0, "readout_mlp_hidden_layers_depth": 1, "readout_mlp_nonlinearity": None,
        "polynomial_cutoff_p": 3, **COUNTS,
    },
    "preset": {
        "_target_": "nequip.model.PresetNequIPGNNModel",
        "preset": "S", "num_features": [6, 4], "radial_mlp_width": 10, "readout_mlp_hidden_layers_depth": 1,
        "readout_mlp_nonlinearity": "gelu", "avg_num_neighbors": 8, **SCALES, **ZBL, **PAIRS,
    },
    "scalars": {
        "_target_": "nequip.model.NequIPGNNModel",
        "num_features": 5, "l_max": 0, "num_layers": 2, "readout_mlp_hidden_layers_depth": 1,
        "readout_mlp_nonlinearity": "softplus", "radial_mlp_width": 4, "avg_num_neighbors": 8.0, **SCALES,
    },
    "one_layer": {
        "_target_": "nequip.model.NequIPGNNModel",
        "num_features": 4, "l_max": 3, "num_layers": 1, "readout_mlp_hidden_layers_depth": 1,
        "readout_mlp_nonlinearity": "None", "radial_mlp_width": 4, "avg_num_neighbors": 8.0,
    },
    "l3": {
        "_target_": "nequip.model.NequIPGNNModel",
        "num_features": [3, 2, 2, 2], "l_max": 3, "num_layers": 3, "radial_mlp_width": 4, "avg_num_neighbors": 8.0,
    },
    "allegro_uncoupled": {
        "_target_": "allegro.model.AllegroModel",
        "l_max": 1, "parity": False, "num_layers": 1, "radial_chemical_embed": BESSEL | {"bessel_trainable": True},
        "radial_chemical_embed_dim": 4, "tp_path_channel_coupling": False, "forward_normalize": False,
        "allegro_mlp_hidden_layers_depth": 2, "allegro_mlp_nonlinearity": "mish", **SMALL, **SCALES, **COUNTS,
        **PAIRS, **ZBL,
    },
    "allegro_full": {
        "_target_": "allegro.model.FullAllegroModel",
        "irreps_edge_sh": "0e+1o+2e", "tensor_track_allowed_irreps": "0e+1o+1e+2e", "num_layers": 3,
        "radial_chemical_embed": SPLINE, "weight_individual_irreps": False, "allegro_mlp_nonlinearity": None,
        "scalar_embed_mlp_hidden_layers_depth": 0, "readout_mlp_hidden_layers_depth": 0, "avg_num_neighbors": 9.0,
        **SMALL,
    },
    "allegro_activations": {
        "_target_": "allegro.model.AllegroModel",
        "l_max": 2, "num_layers": 2, "radial_chemical_embed": BESSEL | {"polynomial_cutoff_p": 4},
        "scalar_embed_mlp_nonlinearity": "tanh", "allegro_mlp_nonlinearity": "gelu",
        "readout_mlp_nonlinearity": "ssp", "scalar_embed_mlp_hidden_layers_depth": 2, "avg_num_neighbors": 9.0,
        **SMALL, **SCALES,
    },
    "allegro_scalars": {
        "_target_": "allegro.model.AllegroModel",
        "l_max": 0, "num_layers": 2, "radial_chemical_embed": BESSEL, "avg_num_neighbors": 9.0, **SMALL,
    },
}  # fmt: skip


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the parameter of this name: uniform with unit variance; frequencies near 1, 2, ..."""
    x = np.random.default_rng(zlib.crc32(name.encode())).uniform(-np.sqrt(3), np.sqrt(3), shape)
    return 1 + np.arange(shape[-1]) + 0.1 * x if name.endswith("bessel_weights") else x


def structure() -> dict[str, list]:
    """Return six atoms of three elements in a skewed cell, narrower than the cutoff's diameter."""
    rng = np.random.default_rng(3)
    cell = np.array([[4.1, 0.2, 0.0], [-0.6, 3.7, 0.3], [0.4, 0.5, 4.4]])
    grid = np.array([[0, 0, 0], [0.5, 0, 0.1], [0, 0.5, 0.5], [0.5, 0.5, 0.6], [0.1, 0.6, 0], [0.6, 0.1, 0.5]])
    positions = (grid + 0.04 * rng.normal(size=(6, 3))) @ cell
    return {"numbers": [1, 8, 14, 8, 1, 14], "positions": positions.tolist(), "cell": cell.tolist()}


def main():
    import torch
    from allegro.model import allegro_models as allegro_model
    from matscipy.neighbours import neighbour_list
    from nequip import model as nequip_model
    from nequip.utils.global_state import set_global_state

    set_global_state()
    atoms = structure()
    R, cell = np.array(atoms["positions"]), np.array(atoms["cell"])
    i, j, shift = neighbour_list("ijS", positions=R, cell=cell, pbc=(True,) * 3, cutoff=TYPES["r_max"])
    kinds = [{1: 0, 8: 1, 14: 2}[z] for z in atoms["numbers"]]
    data = {
        "pos": torch.tensor(R),
        "cell": torch.tensor(cell)[None],
        "pbc": torch.tensor([[True] * 3]),
        "edge_index": torch.tensor(np.stack([i, j])).long(),
        "edge_cell_shift": torch.tensor(shift.astype(float)),
        "atom_types": torch.tensor(kinds),
    }
    out: dict = {"structure": atoms, "cases": {}}
    for name, case in CASES.items():
        arguments = TYPES | case
        package, _, builder = arguments["_target_"].rpartition(".")
        module = allegro_model if package.startswith("allegro") else nequip_model
        model = getattr(module, builder)(**{k: x for k, x in arguments.items() if k != "_target_"})
        parameters = {k: x for k, x in model.named_parameters() if x.requires_grad}
        with torch.no_grad():
            for key, x in parameters.items():
                x.copy_(torch.tensor(draw(key, tuple(x.shape))))
        model.eval()
        found = model(dict(data))
        others = {k: x for k, x in model.state_dict().items() if k not in parameters and "output_mask" not in k}
        out["cases"][name] = {
            "arguments": arguments,
            "parameters": {k: list(x.shape) for k, x in parameters.items()},
            "tensors": {k: sparse(x.numpy()) for k, x in others.items()},
            "energy": float(found["total_energy"]),
            "energies": found["atomic_energy"].detach().reshape(-1).tolist(),
            "forces": found["forces"].tolist(),
        }
        print(name, out["cases"][name]["energy"])
    FILE.write_text(json.dumps(out))


def sparse(x: np.ndarray) -> dict[str, list]:
    """Return the shape and the values that are not zero, with their places."""
    places = np.flatnonzero(x)
    return {"shape": list(x.shape), "places": places.tolist(), "values": x.reshape(-1)[places].tolist()}


if __name__ == "__main__":
    main()
