"""Files of SchNet, PaiNN, DimeNet++ and EGNN: what is read is what was written, complaints name tensor or option."""

import json

import jax
import numpy as np
import pytest
import torch_writer

import jaxmlp as jm
from jaxmlp import FormatError
from jaxmlp.formats import dimenet, egnn, schnetpack, torch_files
from jaxmlp.potentials.dimenet import DimeNetPlusPlus
from jaxmlp.potentials.egnn import EGNN
from jaxmlp.potentials.painn import PaiNN
from jaxmlp.potentials.schnet import SchNet

FEW = {"cutoff": 4.25, "n_features": 4, "n_interactions": 2, "n_radial": 3, "hidden": (5, 3)}  # 4.25 is a float32
SPECIES = (1, 2, 3)  # the rows of an embedding of four
DENSE = {"kernel": "weight", "bias": "bias"}


def started(potential):
    """Parameters none of which are zero."""
    params = potential.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.asarray(x) + 0.1 * rng.normal(size=x.shape), params)


def linear(name: str, layer: dict) -> dict:
    return {f"{name}.{DENSE[k]}": np.ascontiguousarray(np.transpose(x)) for k, x in layer.items()}


def layers(name: str, mlp: dict, step: int = 1) -> dict:
    return {k: v for n in range(len(mlp)) for k, v in linear(f"{name}.{step * n}", mlp[f"dense{n}"]).items()}


def schnetpack_state(p, params) -> dict:
    """The state dict of schnetpack's model; parameters that steps share occur several times."""
    r = "representation."
    out = {r + "embedding.weight": np.concatenate([np.zeros((1, p.n_features)), params["embedding"]])}
    out |= {f"{r}radial_basis.{name}": x for name, x in params["radial"].items()}
    out[r + "cutoff_fn.cutoff"] = np.array([p.cutoff], np.float32)
    if p.cutoff_function == "mollifier":
        out[r + "cutoff_fn.eps"] = np.array([1e-7], np.float32)
    for k in range(p.n_interactions):
        block = params["interactions"][min(k, len(params["interactions"]) - 1)]
        at = f"{r}interactions.{k}."
        if isinstance(p, SchNet):
            out |= linear(at + "in2f", block["in2f"]) | layers(at + "filter_network", block["filter"])
            out |= layers(at + "f2out", block["f2out"])
        else:
            out |= layers(at + "interatomic_context_net", block["context"])
            mix = f"{r}mixing.{k}."
            out |= layers(mix + "intraatomic_context_net", block["update"])
            out |= linear(mix + "mu_channel_mix", block["mix"])
    if isinstance(p, PaiNN):
        filters = {name: np.concatenate([f[name] for f in params["filters"]], -1) for name in DENSE}
        out |= linear(r + "filter_net", filters)
    out |= layers("output_modules.0.outnet", params["readout"])
    mean = np.array([0.25])
    return out | {
        "postprocessors.1.mean": mean,
        "postprocessors.1.atomref": np.concatenate([[0.0], params["offset"] - mean]),
    }


def schnetpack_config(p) -> dict:
    out = {
        "radial_basis": {v: k for k, v in schnetpack.RADIAL.items()}[p.radial],
        "cutoff_fn": {v: k for k, v in schnetpack.CUTOFFS.items()}[p.cutoff_function],
        "activation_representation": p.activation,
        "activation_output": p.readout_activation,
        "shared_interactions": p.shared_interactions,
        "n_rbf": p.n_radial,
        "n_atom_basis": p.n_features,
        "n_interactions": p.n_interactions,
        "energy_offset": {"add_mean": True, "add_atomrefs": True},
        "eV_per_native_unit": 1.0,
        "postprocessors": ["CastTo64()", "AddOffsets()"],
    }
    return out | ({"shared_filters": p.shared_filters, "painn_epsilon": p.epsilon} if isinstance(p, PaiNN) else {})


def dimenet_state(p, params) -> dict:
    out = {"emb.emb.weight": np.concatenate([np.zeros((1, p.n_features)), params["embedding"]])}
    out["rbf.freq"] = params["freq"]
    edges = params["edges"]
    whole = np.concatenate([edges[name]["kernel"] for name in ("target", "source", "edge")])
    out |= linear("emb.lin_rbf", edges["radial"]) | linear(
        "emb.lin", {"kernel": whole, "bias": edges["target"]["bias"]}
    )
    for k, block in enumerate(params["outputs"]):
        names = {"radial": "lin_rbf", "up": "lin_up", "last": "lin"}
        names |= {f"dense{n}": f"lins.{n}" for n in range(p.n_output_layers)}
        for ours, theirs in names.items():
            out |= linear(f"output_blocks.{k}.{theirs}", block[ours])
    for k, block in enumerate(params["interactions"]):
        names = {name: f"lin_{name}" for name in ("kj", "ji", "down", "up", "rbf1", "rbf2", "sbf1", "sbf2")}
        names["middle"] = "lin"
        for n in range(2 * (p.n_before + p.n_after)):
            where, place = ("before", n // 2) if n // 2 < p.n_before else ("after", n // 2 - p.n_before)
            names[f"residual_{n}"] = f"layers_{where}_skip.{place}.lin{n % 2 + 1}"
        for ours, theirs in names.items():
            out |= linear(f"interaction_blocks.{k}.{theirs}", block[ours])
    return out


def dimenet_config(p) -> dict:
    arguments = {"cutoff": p.cutoff, "envelope_exponent": p.envelope_exponent, "hidden_channels": p.n_features}
    return {"constructor_kwargs": arguments, "activation": p.activation}


def egnn_state(p, params) -> dict:
    out = linear("embedding_in", {"kernel": params["embedding"], "bias": np.zeros(p.n_features)})
    out |= linear("embedding_out", params["readout"])
    for k, layer in enumerate(params["layers"]):
        at = f"gcl_{k}."
        kernel = np.concatenate([layer["target"]["kernel"], layer["source"]["kernel"], layer["distance"][None]])
        out |= linear(at + "edge_mlp.0", {"kernel": kernel, "bias": layer["target"]["bias"]})
        names = {"edge": "edge_mlp.2", "node1": "node_mlp.0", "node2": "node_mlp.2", "gate": "att_mlp.0"}
        names |= {"coord1": "coord_mlp.0", "coord2": "coord_mlp.2"}
        for ours, theirs in names.items():
            out |= linear(at + theirs, layer[ours]) if ours in layer else {}
    return out


def egnn_config(p) -> dict:
    arguments = {name: getattr(p, name) for name in ("attention", "normalize", "tanh", "residual")}
    columns = f"one-hot over Z in the order {list(p.species)}"
    return {"constructor_kwargs": arguments, "coords_agg": p.aggregation, "node_input": columns}


DIMENET = dict(n_features=4, n_blocks=2, n_interaction=3, n_basis=2, n_output=5, n_spherical=3, n_radial=2)
MODELS = {
    "schnet": (schnetpack, SchNet(SPECIES, **FEW, n_filters=6, readout_activation="tanh")),
    "schnet-shared": (schnetpack, SchNet(SPECIES, **FEW, n_filters=4, radial="bessel", shared_interactions=True)),
    "painn": (schnetpack, PaiNN(SPECIES, **FEW, cutoff_function="mollifier")),
    "painn-shared": (schnetpack, PaiNN(SPECIES, **FEW, shared_filters=True, shared_interactions=True, epsilon=1e-6)),
    "dimenet++": (dimenet, DimeNetPlusPlus(SPECIES, 4.2, **DIMENET, n_before=2, n_after=1, single_constants=True)),
    "dimenet++-bare": (
        dimenet,
        DimeNetPlusPlus(SPECIES, 4.2, **DIMENET, n_before=0, n_after=0, n_output_layers=0, single_constants=True),
    ),
    "egnn": (egnn, EGNN(SPECIES, 100.0, 4, 2, envelope=False, attention=True, normalize=True, residual=False)),
    "egnn-sum": (egnn, EGNN(SPECIES, 100.0, 4, 3, envelope=False, tanh=True, aggregation="sum")),
}
STATES = {schnetpack: schnetpack_state, dimenet: dimenet_state, egnn: egnn_state}
CONFIGS = {schnetpack: schnetpack_config, dimenet: dimenet_config, egnn: egnn_config}


def described(name: str):
    """The reader, the state dict and the config of a model, with its parameters as `load` gives them."""
    reader, potential = MODELS[name]
    params = started(potential)
    if reader is not schnetpack:
        params["offset"] = np.zeros(len(SPECIES))
    return reader, potential, params, STATES[reader](potential, params), CONFIGS[reader](potential)


def write(folder, state: dict, config: dict | None, file: str = "weights.npz"):
    if file.endswith(".npz"):
        np.savez(folder / file, **state)
    else:
        torch_writer.save(folder / file, state)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / file


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("file", ["weights.npz", "state_dict.pt"])
def test_what_is_read_is_what_was_written(name, file, tmp_path):
    reader, potential, params, state, config = described(name)
    path = write(tmp_path, state, config, file)
    for place in (path, tmp_path):
        found, numbers = reader.load(place)
        assert found == potential
        assert jax.tree.structure(numbers) == jax.tree.structure(params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15), numbers, params)
    assert torch_files.architecture(path) == {"EGNN": "EGNN"}.get(type(potential).__name__, type(potential).__name__)


@pytest.mark.parametrize("name", ["schnet", "painn", "dimenet++"])
def test_species_that_are_asked_for(name, tmp_path):
    reader, potential, params, state, config = described(name)
    path = write(tmp_path, state, config)
    found, numbers = reader.load(path, species=["Li", "H"])
    expected, cut = potential.restrict(jax.tree.map(jax.numpy.asarray, params), (3, 1))
    assert found == expected
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15), numbers, cut)
    with pytest.raises(ValueError, match=r"'U'.* none of the 3 elements"):
        reader.load(path, species=["H", "U"])


@pytest.mark.parametrize("name", ["schnet", "dimenet++", "egnn"])
def test_units_scale_the_energy(name, tmp_path):
    reader, _, _, state, config = described(name)
    path = write(tmp_path, state, config | ({"eV_per_native_unit": None} if reader is schnetpack else {}))
    system = jm.System([1, 3, 2], [[0, 0, 0], [1.3, 0.2, 0], [0.1, 1.2, 0.9]])
    energies = []
    for unit in (1.0, 0.043):
        found, params = reader.load(path, eV_per_native_unit=unit)
        energies.append(jax.jit(jm.energy_fn(found, system))(system.R, None, params))
    np.testing.assert_allclose(energies[1], 0.043 * energies[0], rtol=1e-13)


NAN = np.full((4, 4), np.nan)
BAD_TENSORS = {
    ("schnet", "representation.interactions.1.f2out.0.bias"): (None, "f2out.0.bias' is missing"),
    ("schnet", "representation.interactions.0.in2f.weight"): (np.ones((6, 3)), r"in2f.weight' has shape \(6, 3\)"),
    ("schnet", "representation.interactions.0.f2out.1.weight"): (NAN, "f2out.1.weight' holds NaN"),
    ("schnet", "representation.radial_basis.widths"): (np.zeros(3), "widths' must not hold zeros"),
    ("schnet", "representation.film.weight"): (np.ones(2), "not supported: representation.film.weight"),
    ("schnet", "output_modules.1.outnet.0.weight"): (np.ones((1, 4)), "one Atomwise module .* found 2"),
    ("schnet", "postprocessors.1.atomref"): (np.ones(2), "atomref' has 2 entries"),
    ("schnet", "representation.cutoff_fn.cutoff"): (np.array([-1.0]), "impossible.*cutoff.*-1"),
    ("painn", "representation.mixing.1.mu_channel_mix.weight"): (None, "mixing.1.mu_channel_mix.weight' is missing"),
    ("painn", "representation.filter_net.weight"): (np.ones((20, 3)), r"filter_net.weight' has shape \(20, 3\)"),
    ("dimenet++", "interaction_blocks.1.lin_ji.bias"): (None, "lin_ji.bias' is missing"),
    ("dimenet++", "interaction_blocks.0.lin_sbf1.weight"): (np.ones((2, 5)), "5 columns for 2 radial"),
    ("dimenet++", "output_blocks.0.lin.weight"): (np.ones((2, 5)), "expected one output"),
    ("dimenet++", "output_blocks.3.lin.weight"): (np.ones((1, 5)), "not supported: output_blocks.3.lin.weight"),
    ("egnn", "gcl_1.att_mlp.0.weight"): (None, "gcl_1.att_mlp.0.weight' is missing"),
    ("egnn", "gcl_0.edge_mlp.0.weight"): (np.ones((4, 11)), "in_edge_nf is 2"),
    ("egnn", "embedding_out.weight"): (np.ones((2, 4)), "out_node_nf is 2"),
}


@pytest.mark.parametrize(("name", "tensor"), BAD_TENSORS)
def test_bad_tensors_are_named(name, tensor, tmp_path):
    value, message = BAD_TENSORS[name, tensor]
    reader, _, _, state, config = described(name)
    state = {k: x for k, x in (state | {tensor: value}).items() if x is not None}
    with pytest.raises(FormatError, match=message):
        reader.load(write(tmp_path, state, config))


BAD_OPTIONS = [
    ("schnet", "activation_representation", None, "'activation_representation' is needed"),
    ("schnet", "activation_output", "sin", "'activation_output' is 'sin'; expected one of shifted_softplus"),
    ("schnet", "eV_per_native_unit", None, "'eV_per_native_unit' is needed"),
    ("schnet", "energy_offset", None, "'add_mean' is needed"),
    ("schnet", "atomwise_aggregation", "avg", "'atomwise_aggregation' is 'avg'; expected 'sum'"),
    ("schnet", "cutoff_fn", "SwitchFunction", "'cutoff_fn' is 'SwitchFunction'; expected one of CosineCutoff"),
    ("schnet", "cutoff_fn", "MollifierCutoff", "'cutoff_fn' is 'MollifierCutoff'; expected the one"),
    ("schnet", "radial_basis", "BesselRBF", "'radial_basis' is 'BesselRBF'; expected 'GaussianRBF'"),
    ("schnet", "n_rbf", 20, "'n_rbf' is 20; expected 3"),
    ("schnet", "shared_interactions", True, "shared_interactions is true, but the interactions differ"),
    ("schnet", "native_length_unit", "Bohr", "'native_length_unit' is 'Bohr'"),
    ("schnet", "postprocessors", ["AddBias()"], "'postprocessors' is 'AddBias"),
    ("schnet", "electronic_embeddings", 1, "not supported: electronic_embeddings"),
    ("painn", "painn_epsilon", -1.0, "impossible.*epsilon"),
    ("dimenet++", "constructor_kwargs", {"envelope_exponent": 5}, "'cutoff' is needed"),
    ("dimenet++", "constructor_kwargs", {"cutoff": 5.0, "num_blocks": 7}, "'num_blocks' is 7; expected 2"),
    ("dimenet++", "activation", None, "'activation' is needed"),
    ("dimenet++", "activation", "sin", "impossible.*activation.*'sin'"),
    ("dimenet++", "atom_reference_energies", {"H": 1.0}, "'atom_reference_energies' is .*; expected null"),
    ("dimenet++", "surprise", 1, "not supported: surprise"),
    ("egnn", "constructor_kwargs", None, "'normalize' is needed"),
    ("egnn", "constructor_kwargs", {"attention": False}, "'attention' is False; expected True"),
    ("egnn", "constructor_kwargs", {"attention": True, "surprise": 1}, "not supported: surprise"),
    ("egnn", "coords_agg", "max", "'coords_agg' is 'max'; expected one of mean, sum"),
    ("egnn", "node_input", None, "'species' is needed"),
    ("egnn", "node_input", "in the order [1, 8]", "3 input columns need as many species; got 2"),
]


@pytest.mark.parametrize(("name", "option", "value", "message"), BAD_OPTIONS)
def test_bad_options_are_named(name, option, value, message, tmp_path):
    reader, _, _, state, config = described(name)
    config = {k: x for k, x in (config | {option: value}).items() if x is not None}
    with pytest.raises(FormatError, match=message):
        reader.load(write(tmp_path, state, config))


def test_without_config_what_is_missing_can_be_given(tmp_path):
    _, potential, params, state, _ = described("schnet")
    path = write(tmp_path, state, None)
    missing = dict(activation_representation="shifted_softplus", activation_output="tanh", eV_per_native_unit=1.0)
    found, numbers = schnetpack.load(path, **missing, add_mean=True, add_atomrefs=True)
    assert found == potential
    np.testing.assert_allclose(numbers["offset"], params["offset"], rtol=1e-14)
    _, numbers = schnetpack.load(path, **missing, add_mean=True, add_atomrefs=False)
    np.testing.assert_allclose(numbers["offset"], 0.25)


def test_other_constants_of_dimenet_are_refused(tmp_path):
    _, _, _, state, config = described("dimenet++")
    np.savez(tmp_path / dimenet.CONSTANTS, zeros=np.ones((3, 2)), normalizers=np.ones((3, 2)))
    with pytest.raises(FormatError, match="zeros differ from those of the original code"):
        dimenet.load(write(tmp_path, state, config))


@pytest.mark.parametrize("cls", [SchNet, PaiNN, DimeNetPlusPlus, EGNN])
def test_impossible_hyperparameters(cls):
    for options, message in (
        ({"cutoff": 0.0}, "cutoff is a distance"),
        ({"n_features": 0}, "n_features must be at least 1"),
        ({"activation": "sin"}, "activation must be one of"),
        ({"species": (6, 6)}, "species must be different"),
    ):
        with pytest.raises(ValueError, match=f"{cls.__name__}.{message}"):
            cls(**{"species": (6,)} | options)
