"""Writes mace_options.npz: small models of mace-torch with unusual options, random weights, and what it computes.

Run with a Python that has mace-torch: `python tests/potentials/mace_options.py`.
"""

import json
import os
from pathlib import Path

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4 stores its constants as pickles

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric

COMMON = {
    "r_max": 4.0, "num_bessel": 5, "num_polynomial_cutoff": 4, "max_ell": 2, "hidden_irreps": "4x0e+4x1o",
    "MLP_irreps": "6x0e", "radial_MLP": [8, 8], "interaction_cls_first": "RealAgnosticResidualInteractionBlock",
    "interaction_cls": "RealAgnosticResidualInteractionBlock", "correlation": 2, "num_interactions": 2, "gate": "silu",
    "avg_num_neighbors": 7.0, "heads": ["Default"],
}  # fmt: skip
NONLINEAR = dict.fromkeys(("interaction_cls_first", "interaction_cls"), "RealAgnosticResidualNonLinearInteractionBlock")
ATTENTION = dict.fromkeys(("interaction_cls_first", "interaction_cls"), "RealAgnosticAttResidualInteractionBlock")
MODELS = {
    "gaussian-soft-heads": {
        "radial_type": "gaussian", "distance_transform": "Soft", "apply_cutoff": False, "heads": ["dft", "cc"],
        "correlation": [3, 2],
    },
    "chebyshev-agnesi-density-so3": {
        "radial_type": "chebyshev", "distance_transform": "Agnesi", "use_so3": True, "hidden_irreps": "4x0e+4x1e",
        "interaction_cls_first": "RealAgnosticDensityInteractionBlock", "apply_cutoff": False,
        "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
    },
    "agnostic-three-layers-edge": {
        "use_agnostic_product": True, "num_interactions": 3, "use_last_readout_only": True,
        "edge_irreps": "3x0e+2x1o", "use_edge_irreps_first": True, "pair_repulsion": True,
    },
    "pseudo-bias-keep": {
        "hidden_irreps": "4x0e+4x0o+4x1e+4x1o", "readout_cls": "NonLinearBiasReadoutBlock",
        "keep_last_layer_irreps": True, "gate": "tanh",
    },
    "one-layer-degree-four": {"num_interactions": 1, "max_ell": 1, "correlation": 4, "gate": None},
    "message-skip-twice": {
        "interaction_cls_first": "RealAgnosticInteractionBlock", "interaction_cls": "RealAgnosticInteractionBlock",
    },
    # As in the newest foundation models: the envelope on the radial network, products without species.
    "nonlinear-edge-heads": {
        **NONLINEAR, "edge_irreps": "3x0e+3x1o", "use_edge_irreps_first": True, "apply_cutoff": False,
        "use_agnostic_product": True, "distance_transform": "Agnesi", "heads": ["dft", "cc"],
        "readout_cls": "NonLinearBiasReadoutBlock",
    },
    # Edges have irreps that the features lack; beyond the cutoff only the missing edges stop the biases.
    "nonlinear-mixed-cut": {
        **NONLINEAR, "interaction_cls": "RealAgnosticDensityResidualInteractionBlock", "max_ell": 1,
        "hidden_irreps": "3x0e+3x1o", "edge_irreps": "2x0e+2x1o+2x2e",
    },
    "nonlinear-lacking": {
        **NONLINEAR, "hidden_irreps": "3x0e", "edge_irreps": "2x0e+2x1o", "max_ell": 1, "keep_last_layer_irreps": True,
    },
    "attention": {**ATTENTION, "edge_irreps": "3x0e+3x1o", "apply_cutoff": False},
    "attention-cut": {**ATTENTION, "interaction_cls_first": "RealAgnosticResidualInteractionBlock", "max_ell": 1},
}  # fmt: skip
NUMBERS = [1, 8, 1, 8, 8]
POSITIONS = np.random.default_rng(3).uniform(0, 3.4, (5, 3))
DIRECTION = np.random.default_rng(4).normal(size=(5, 3))
CELL = np.array([[3.9, 0.2, 0.0], [0.3, 4.1, 0.4], [-0.2, 0.1, 4.4]])


def build(options: dict):
    o = COMMON | options
    kwargs = {k: v for k, v in o.items() if k not in ("readout_cls", "gate")}
    for name in ("hidden_irreps", "MLP_irreps", "edge_irreps"):
        if kwargs.get(name):
            kwargs[name] = o3.Irreps(kwargs[name])
    for name in ("interaction_cls_first", "interaction_cls"):
        kwargs[name] = modules.interaction_classes[o[name]]
    if "readout_cls" in o:
        kwargs["readout_cls"] = getattr(modules.blocks, o["readout_cls"])
    gate = {"silu": torch.nn.functional.silu, "tanh": torch.tanh, None: None}[o["gate"]]
    heads = len(o["heads"])
    energies = np.array([[-1.0, -2.5], [-1.2, -2.4]])[:heads]
    model = modules.ScaleShiftMACE(
        **kwargs, gate=gate, num_elements=2, atomic_energies=energies if heads > 1 else energies[0],
        atomic_numbers=[1, 8], atomic_inter_scale=[0.7, 0.9][:heads] if heads > 1 else 0.7,
        atomic_inter_shift=[0.1, -0.2][:heads] if heads > 1 else 0.1,
    )  # fmt: skip
    for block in model.interactions:
        if "Att" in type(block).__name__:
            narrow(block)
    return model, o


def narrow(block):
    """Give the network of an attention block hidden layers of 4, not 256 as always: the file stays small."""
    inputs = block.edge_feats_irreps.num_irreps + 2 * block.node_feats_down_irreps.num_irreps
    sizes = [inputs, 4, 4, 4, block.conv_tp.weight_numel]
    block.conv_tp_weights = FullyConnectedNet(sizes, torch.nn.functional.silu)


def batch(o: dict, head: str, positions):
    config = data.config_from_atoms(Atoms(NUMBERS, positions, cell=CELL, pbc=True), head_name=head)
    table = AtomicNumberTable([1, 8])
    entry = data.AtomicData.from_config(config, z_table=table, cutoff=o["r_max"], heads=o["heads"])
    return next(iter(torch_geometric.dataloader.DataLoader([entry], batch_size=1, shuffle=False))).to_dict()


def energy(model, o: dict, head: str, positions) -> float:
    return model(batch(o, head, positions))["energy"].item()


def main():
    torch.set_default_dtype(torch.float64)
    out = {"numbers": np.array(NUMBERS), "positions": POSITIONS, "direction": DIRECTION, "cell": CELL}
    configs = {}
    for name, options in MODELS.items():
        torch.manual_seed(len(name))
        model, o = build(options)
        for parameter in model.parameters():  # biases too
            with torch.no_grad():
                parameter += 0.1 * torch.randn(parameter.shape)
        for k, head in enumerate(o["heads"]):
            result = model(batch(o, head, POSITIONS), compute_virials=True)
            for key in ("energy", "node_energy", "forces", "virials"):
                out[f"{name}/{k}/{key}"] = result[key].detach().numpy()
            moved = [energy(model, o, head, POSITIONS + t * DIRECTION) for t in (1e-4, -1e-4)]
            out[f"{name}/{k}/slope"] = (moved[0] - moved[1]) / 2e-4
        for key, value in model.state_dict().items():
            if "output_mask" not in key and value.numel():
                out[f"{name}/state/{key}"] = value.numpy()
        configs[name] = {k: v for k, v in o.items() if v is not None or k == "gate"} | {"gate": str(o["gate"])}
        configs[name].pop("readout_cls", None)
    np.savez_compressed(Path(__file__).with_suffix(".npz"), configs=json.dumps(configs), **out)


main()
