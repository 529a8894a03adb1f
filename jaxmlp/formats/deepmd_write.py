"""Write a Deep Potential as the tree that deepmd-kit reads: .dp (HDF5), .yaml or .json."""

import json
from itertools import pairwise
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from jaxmlp.basis.deepmd_networks import Layers
from jaxmlp.formats.deepmd_layers import collection_tree
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd import DeepPotential, Part
from jaxmlp.potentials.deepmd_attention import SeAtten
from jaxmlp.potentials.deepmd_descriptors import SeE2A, SeE2R, SeE3
from jaxmlp.potentials.deepmd_zbl import DeepZBL

NAMES = {SeE2A: "se_e2_a", SeE2R: "se_r", SeE3: "se_e3"}
Tree = dict[str, Any]


def write(path: str | PathLike, potential: DeepPotential | DeepZBL, params: Params) -> None:
    """Write the file that the ending of its name stands for: .dp, .yaml (both for deepmd-kit too) or .json.

    Raises:
        ValueError: what the files cannot express (compressed or restricted models, local frames), numbers that are not
            finite.
    """
    if not isinstance(potential, DeepPotential | DeepZBL):
        raise ValueError(f"a Deep Potential file holds a DeepPotential or DeepZBL, not a {type(potential).__name__}.")
    if not all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params)):
        raise ValueError("the parameters hold NaN or infinite numbers; such a model cannot be saved.")
    root = tree(potential, params)
    if fspath(path).lower().endswith(".dp"):
        _write_hdf5(path, root)
        return
    plain = _with_arrays(root, _listed)
    if fspath(path).lower().endswith(".json"):
        Path(path).write_text(json.dumps(plain), encoding="utf-8")
        return
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    Path(path).write_text(yaml.dump(plain, Dumper=dumper, sort_keys=False, default_flow_style=None), encoding="utf-8")


def tree(potential: DeepPotential | DeepZBL, params: Params) -> Tree:
    """Return the whole file as plain data with numpy arrays."""
    deep = potential.deep if isinstance(potential, DeepZBL) else potential
    model = _zbl(potential, params) if isinstance(potential, DeepZBL) else _standard(potential, params)
    closest = {"min_nbor_dist": np.array(deep.closest)} if deep.closest else {}
    script = {"type_map": [chemical_symbols[z] for z in deep.species]}
    return {
        "software": "jaxmlp", "backend": "jaxmlp", "model": model, "model_def_script": script,
        "@variables": closest,
    }  # fmt: skip


def _model(species: tuple[int, ...], bias, **fields) -> Tree:
    """What every model has; out_bias (S,)."""
    s = len(species)
    return {
        "@class": "Model", "@version": 2, "type_map": [chemical_symbols[z] for z in species], "atom_exclude_types": [],
        "pair_exclude_types": [], "rcond": None, "preset_out_bias": None,
        "@variables": {"out_bias": np.asarray(bias, float).reshape(1, s, 1), "out_std": np.ones((1, s, 1))},
    } | fields  # fmt: skip


def _standard(p: DeepPotential, params: Params) -> Tree:
    s = len(p.species)
    symbols = [chemical_symbols[z] for z in p.species]
    parts = [_descriptor(part, q, symbols) for part, q in zip(p.parts, params["parts"], strict=True)]
    hybrid = {"@class": "Descriptor", "type": "hybrid", "@version": 1, "list": parts}
    bias = np.asarray(params["bias"], float)
    silent = [t for t in p.inactive if bias[t] == 0]
    layers = _constant(params["fitting"], [t for t in p.inactive if bias[t] != 0], p.mixed)
    conditions: Tree = {"case_embd": None}
    for name, count in (("fparam", p.fparams), ("aparam", p.aparams)):
        mean, scale = (np.asarray(params[f"{name}_{q}"], float) if count else None for q in ("mean", "scale"))
        conditions |= {f"{name}_avg": mean, f"{name}_inv_std": scale}
    energies = [float(bias[t]) if t in p.vacuum else None for t in range(s)] if p.vacuum else []
    net = p.fitting
    fit = {
        "@class": "Fitting", "@version": 4, "type": "ener", "var_name": "energy", "ntypes": s, "dim_descrpt": p.width,
        "dim_out": 1, "neuron": list(net.sizes[1:-1]), "resnet_dt": any(net.timesteps), "numb_fparam": p.fparams,
        "numb_aparam": p.aparams, "dim_case_embd": 0,
        "default_fparam": [float(x) for x in np.asarray(params["fparam"])] if p.fparams else None,
        "activation_function": net.activations[0], "precision": "float64", "mixed_types": p.mixed,
        "nets": collection_tree(net, layers, s, 0 if p.mixed else 1, "FittingNetwork"), "rcond": None,
        "exclude_types": silent, "@variables": {"bias_atom_e": bias[:, None]} | conditions,
        "type_map": symbols, "tot_ener_zero": False, "trainable": [True] * (len(net.sizes) - 1), "layer_name": None,
        "use_aparam_as_mask": False, "spin": None, "atom_ener": energies,
    }  # fmt: skip
    fields = {
        "pair_exclude_types": [list(pair) for pair in p.exclude],
        "atom_exclude_types": silent,
        "type": "standard",
    }
    return _model(p.species, np.zeros(s), descriptor=hybrid if len(parts) > 1 else parts[0], fitting=fit, **fields)


def _constant(layers: Layers, species: list[int], mixed: bool) -> Layers:
    """The fitting networks with 0 in the last layer of some species: their energy is then the bias alone."""
    if not species:
        return layers
    if mixed:
        raise ValueError("a species with a bias and no network has no Deep Potential file if one network serves all.")
    last = {q: jnp.asarray(x).at[np.array(species)].set(0.0) for q, x in layers[-1].items()}
    return (*layers[:-1], last)


def _descriptor(part: Part, params: Params, symbols: list[str]) -> Tree:
    s = len(symbols)
    if not isinstance(part, SeE2A | SeE2R | SeE3 | SeAtten):
        raise ValueError(f"a {type(part).__name__} has no Deep Potential file; save it as .safetensors.")
    if part.table is not None or getattr(part, "absent", 0):
        state = "compressed" if part.table is not None else "restricted to some of its species"
        raise ValueError(f"a potential {state} has no Deep Potential file; save the full one, or as .safetensors.")
    net = part.network
    sel = (part.sel,) if isinstance(part, SeAtten) else part.sel
    columns = 1 if isinstance(part, SeE2R) else 4
    davg, dstd = np.zeros((s, sum(sel), columns)), np.ones((s, sum(sel), columns))
    ends = np.cumsum((0, *sel))
    for t, (a, b) in enumerate(pairwise(ends)):
        davg[:, a:b, 0] = np.asarray(params["davg"])[:, t, None]
        dstd[:, a:b, 0] = np.asarray(params["dstd"])[:, t, 0, None]
        dstd[:, a:b, 1:] = np.asarray(params["dstd"])[:, t, 1, None, None]
    out: Tree = {
        "@class": "Descriptor", "type": NAMES.get(type(part), "dpa1"), "@version": 2, "rcut": part.cutoff,
        "rcut_smth": part.inner, "sel": list(sel), "neuron": list(net.sizes[1:]), "resnet_dt": any(net.timesteps),
        "set_davg_zero": not davg.any(), "activation_function": net.activations[0], "precision": "float64",
        "env_mat": {
            "rcut": part.cutoff, "rcut_smth": part.inner, "protection": part.protection, "use_exp_switch": False
        },
        "exclude_types": [list(pair) for pair in part.exclude], "env_protection": part.protection,
        "@variables": {"davg": davg, "dstd": dstd}, "type_map": symbols, "trainable": True,
    }  # fmt: skip
    if isinstance(part, SeAtten):
        return out | {"spin": None} | _attention(part, params, symbols)
    keys = 1 if part.one_side else 2
    out["embeddings"] = collection_tree(net, params["network"], s, keys, "EmbeddingNetwork")
    if isinstance(part, SeE3):
        return out
    out |= {"type_one_side": part.one_side, "spin": None}
    return out | {"axis_neuron": part.axis} if isinstance(part, SeE2A) else out


def _attention(part: SeAtten, params: Params, symbols: list[str]) -> Tree:
    s, f, h = part.species, part.network.outputs, part.hidden
    scale = part.scale or None
    common: Tree = {
        "nnei": part.sel, "embed_dim": f, "hidden_dim": h, "dotr": part.dotr, "do_mask": False, "scaling_factor": 1.0,
        "normalize": part.normalize, "temperature": scale, "precision": "float64",
    }  # fmt: skip
    layers = []
    for layer in params.get("attention", ()):
        inner = common | {"num_heads": 1, "bias": True, "smooth": part.smooth}
        inner |= {"in_proj": _linear(layer["in"]), "out_proj": _linear(layer["out"])}
        norm = {q: np.asarray(layer["norm"][q], float) for q in ("w", "b")}
        layers.append(common | {
            "trainable_ln": True, "ln_eps": part.epsilon, "attention_layer": inner,
            "attn_layer_norm": {
                "@class": "LayerNorm", "@version": 1, "eps": part.epsilon, "trainable": True, "precision": "float64",
                "@variables": norm,
            },
        })  # fmt: skip
    out: Tree = {
        "ntypes": s, "axis_neuron": part.axis, "tebd_dim": part.width, "sel": [part.sel],
        "tebd_input_mode": "strip" if part.strip else "concat", "attn": h, "attn_layer": part.attention,
        "attn_dotr": part.dotr, "attn_mask": False, "scaling_factor": 1.0, "normalize": part.normalize,
        "temperature": scale, "trainable_ln": True, "ln_eps": part.epsilon, "smooth_type_embedding": part.smooth,
        "type_one_side": part.one_side, "concat_output_tebd": part.append, "use_econf_tebd": False,
        "use_tebd_bias": False,
        "embeddings": collection_tree(part.network, params["network"], s, 0, "EmbeddingNetwork"),
        "attention_layers": common | {
            "@class": "NeighborGatedAttention", "@version": 1, "layer_num": part.attention, "trainable_ln": True,
            "ln_eps": part.epsilon, "attention_layers": layers,
        },
        "type_embedding": _types(np.asarray(params["types"], float), symbols),
    }  # fmt: skip
    if part.strip:
        out["embeddings_strip"] = collection_tree(part.strip, params["strip"], s, 0, "EmbeddingNetwork")
    return out


def _linear(p: Params) -> Tree:
    arrays = {"w": np.asarray(p["w"], float), "b": np.asarray(p["b"], float), "idt": None}
    return {
        "@class": "Layer", "@version": 2, "bias": True, "use_timestep": False, "activation_function": "none",
        "resnet": False, "precision": "float64", "trainable": True, "@variables": arrays,
    }  # fmt: skip


def _types(types: np.ndarray, symbols: list[str]) -> Tree:
    """Type vectors as a linear layer of one-hot vectors; where the sizes agree, the layer adds those, as all do."""
    s, width = types.shape
    skip = np.concatenate([np.eye(s)] * (width // s), axis=1) if width in (s, 2 * s) else 0.0
    layer = _linear({"w": types - skip, "b": types}) | {"bias": False, "activation_function": "Linear", "resnet": True}
    layer["@variables"]["b"] = None
    common: Tree = {"neuron": [width], "activation_function": "Linear", "resnet_dt": False, "precision": "float64"}
    inner = {"@class": "EmbeddingNetwork", "@version": 2, "in_dim": s, "bias": False, "layers": [layer]} | common
    return common | {
        "@class": "TypeEmbedNet", "@version": 2, "ntypes": s, "trainable": True, "padding": True,
        "use_econf_tebd": False, "use_tebd_bias": False, "type_map": symbols, "embedding": inner,
    }  # fmt: skip


def _zbl(p: DeepZBL, params: Params) -> Tree:
    s = len(p.species)
    r = p.start + p.step * np.arange(p.rows + 1)
    table = np.asarray(params["table"], float)
    knots = np.concatenate([table[..., 3], table[..., -1:, :].sum(axis=-1)], axis=-1)  # (S, S, rows + 1)
    columns = [knots[a, b] for a in range(s) for b in range(a, s)]
    tab = {
        "@class": "PairTab", "@version": 1, "rmin": p.start, "rmax": float(r[-1]), "hh": p.step, "ntypes": s,
        "rcut": p.reach, "nspline": p.rows,
        "@variables": {
            "vdata": np.stack([r, *columns], axis=1), "tab_info": np.array([p.start, p.step, p.rows, s], float),
            "tab_data": table.reshape(-1),
        },
    }  # fmt: skip
    pairs = _model(p.species, params["table_bias"], type="pairtab", tab=tab, rcut=p.reach, sel=p.sel)
    return _model(
        p.species,
        params["bias"],
        type="zbl",
        models=[_standard(p.deep, params["deep"]), pairs],
        weights="mean",
        sw_rmin=p.sw_rmin,
        sw_rmax=p.sw_rmax,
        smin_alpha=p.alpha,
    )


def _write_hdf5(path, root: Tree) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        count = iter(range(1 << 30))

        def stored(x: np.ndarray) -> str:
            return str(file.create_dataset(f"variable_{next(count):04d}", data=x).name)

        file.attrs["json"] = json.dumps(_with_arrays(root, stored), separators=(",", ":"))


def _with_arrays(node: Any, change) -> Any:
    """The tree with `change` of its arrays in their places."""
    if isinstance(node, dict):
        return {k: _with_arrays(v, change) for k, v in node.items()}
    if isinstance(node, list):
        return [_with_arrays(v, change) for v in node]
    return change(node) if isinstance(node, np.ndarray) else node


def _listed(x: np.ndarray) -> Tree:
    return {
        "@class": "np.ndarray", "@is_variable": True, "@version": 1, "dtype": x.dtype.name, "value": x.tolist()
    }  # fmt: skip
