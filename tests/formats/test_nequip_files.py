"""Files of NequIP and Allegro: what is wrong with a file is said by name."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.formats import allegro, native, nequip
from jaxmlp.formats.errors import FormatError

TYPES = {"type_names": ["H", "O"], "r_max": 4.0, "avg_num_neighbors": 8.0, "seed": 1, "model_dtype": "float32"}
LATENT = {"num_scalar_features": 2, "num_tensor_features": 2, "allegro_mlp_hidden_layers_width": 3}
EMBED = {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 2}
ARGUMENTS = {
    nequip: TYPES | {"num_layers": 2, "num_features": 2, "radial_mlp_width": 3, "num_bessels": 2},
    allegro: TYPES | LATENT | {"l_max": 1, "num_layers": 1, "parity": False, "radial_chemical_embed": EMBED}
    | {"scalar_embed_mlp_hidden_layers_depth": 0, "readout_mlp_hidden_layers_depth": 0},
}  # fmt: skip
W = "model.func."


def shapes(reader) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of `ARGUMENTS`, counted by hand."""
    scale = {f"{W}per_type_energy_scale_shift.{name}": (0,) for name in ("scales", "shifts")}
    common = {"model._empty": (0,), f"{W}edge_norm._rmax_recip": ()} | scale
    if reader is allegro:
        embed = f"{W}radial_chemical_embed."
        return common | {
            f"{embed}bessel_encode.bessel_weights": (1, 2),
            f"{embed}type_embed.center_embed.weight": (2, 1),
            f"{embed}type_embed.neighbor_embed.weight": (2, 1),
            f"{embed}type_embed.basis_linear.mlp.0.weight": (2, 2),
            f"{W}scalar_embed_mlp.mlp_module.mlp.0.weight": (2, 2),
            f"{W}tensor_embed.env_embed_linear.mlp.0.weight": (2, 4),
            f"{W}allegro.first_layer_env_embed_projection.mlp.0.weight": (2, 6),
            f"{W}allegro.latents.0.mlp.0.weight": (4, 3),
            f"{W}allegro.latents.0.mlp.2.weight": (3, 2),
            f"{W}allegro.tps.0.weights": (2, 2),
            f"{W}allegro.tps.0.w3j": (2, 4, 1),
            f"{W}edge_readout.mlp_module.mlp.0.weight": (4, 1),
        }
    first, second = f"{W}layer0_convnet.conv.", f"{W}layer1_convnet.conv."
    return common | {
        f"{W}type_embed.embed_module.weight": (2, 2),
        f"{W}bessel_encode.bessel_weights": (1, 2),
        f"{first}linear_1.weight": (4,),
        f"{first}edge_mlp.mlp.0.weight": (2, 3),
        f"{first}edge_mlp.mlp.2.weight": (3, 4),  # 0e x 0e and 0e x 1o
        f"{first}linear_2.weight": (12,),  # 2x0e to 4x0e, 2x1o to 2x1o
        f"{second}linear_1.weight": (8,),
        f"{second}edge_mlp.mlp.0.weight": (2, 3),
        f"{second}edge_mlp.mlp.2.weight": (3, 4),  # 0e x 0e and 1o x 1o
        f"{second}linear_2.weight": (8,),
        f"{second}sc.weight": (8,),
        f"{W}per_atom_energy_readout.mlp_module.mlp.0.weight": (2, 1),
    }


def tensors(reader) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    out = {name: rng.normal(size=shape) for name, shape in shapes(reader).items()}
    out[f"{W}edge_norm._rmax_recip"] = np.array(0.25)
    if reader is allegro:
        w3j = np.zeros((2, 4, 1))
        w3j[0, 0, 0] = 1.0
        w3j[1, 1:, 0] = 1 / np.sqrt(3)
        out[f"{W}allegro.tps.0.w3j"] = w3j
    return out


def write(folder, reader, changed_tensors=(), **changed):
    np.savez(
        folder / "weights.npz", **{k: x for k, x in (tensors(reader) | dict(changed_tensors)).items() if x is not None}
    )
    arguments = {k: x for k, x in (ARGUMENTS[reader] | changed).items() if x != "left out"}
    (folder / "config.json").write_text(json.dumps({"builder_arguments": arguments}))
    return folder


both = pytest.mark.parametrize("reader", [nequip, allegro], ids=["nequip", "allegro"])


@both
def test_the_smallest_file_is_read_and_kept(tmp_path, reader):
    potential, params = reader.load(write(tmp_path, reader))
    assert potential.species == (1, 8)
    np.testing.assert_array_equal(params["scale"], [1.0, 1.0])
    np.testing.assert_array_equal(params["shift"], [0.0, 0.0])
    drawn = jax.eval_shape(potential.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, drawn)
    if type(potential).__name__ in native.CLASSES:
        native.save(tmp_path / "model.safetensors", potential, params)
        again, same = native.load(tmp_path / "model.safetensors")
        assert again == potential
        jax.tree.map(np.testing.assert_array_equal, same, params)


@both
def test_every_missing_or_misshapen_tensor_is_named(tmp_path, reader):
    for name, shape in shapes(reader).items():
        if name == "model._empty":
            continue
        write(tmp_path, reader, {name: None})
        # Without the tensor that tells the prefix, its name is what is missing.
        with pytest.raises(FormatError, match=name.removeprefix(W)):
            reader.load(tmp_path)
        write(tmp_path, reader, {name: np.zeros((*shape, 3) if shape != (0,) else 5)})
        with pytest.raises(FormatError, match=name.rpartition(".")[2]):
            reader.load(tmp_path)
        if np.prod(shape):
            write(tmp_path, reader, {name: np.full(shape, np.nan)})
            with pytest.raises(FormatError, match="NaN"):
                reader.load(tmp_path)


@both
def test_unknown_tensors_and_options_are_named(tmp_path, reader):
    with pytest.raises(FormatError, match="layer7_convnet"):
        reader.load(write(tmp_path, reader, {f"{W}layer7_convnet.conv.sc.weight": np.zeros(3)}))
    with pytest.raises(FormatError, match="not supported: colour, taste"):
        reader.load(write(tmp_path, reader, taste=1, colour="red"))
    with pytest.raises(FormatError, match="types"):
        reader.load(write(tmp_path, reader, type_names=["H", "water"]))
    potential, _ = reader.load(write(tmp_path, reader, type_names=["H", "water"]), atomic_numbers=[1, 10])
    assert potential.species == (1, 10)


COMMON = [
    (dict(r_max="left out"), "'r_max' is needed"),
    (dict(r_max=5.0), "'r_max'"),
    (dict(avg_num_neighbors="left out"), "'avg_num_neighbors' is needed"),
    (dict(avg_num_neighbors={"H": 3.0}), "a number for each of"),
    (dict(avg_num_neighbors=0.0), "positive average number"),
    (dict(type_names="left out"), "'type_names' is needed"),
    (dict(type_names=["H", "H"]), "different elements"),
    (dict(l_max=-1), "'l_max'"),
    (dict(num_layers=0), "'num_layers'"),
    (dict(pair_potential={"_target_": "nequip.nn.pair_potential.LennardJones"}), r"pair_potential\.ZBL"),
]
CASES = [
    *((nequip, *case) for case in COMMON),
    *((allegro, *case) for case in COMMON),
    (nequip, dict(num_features=[2, 2, 2]), "'num_features'"),
    (nequip, dict(num_features="many"), "'num_features'"),
    (nequip, dict(polynomial_cutoff_p=5.5), "'polynomial_cutoff_p'"),
    (nequip, dict(parity="yes"), "'parity' must be true or false"),
    (nequip, dict(convnet_nonlinearity_type="norm"), "'convnet_nonlinearity_type'"),
    (nequip, dict(convnet_nonlinearity_scalars={"e": "silu"}), "'convnet_nonlinearity_scalars'"),
    (nequip, dict(readout_mlp_nonlinearity="relu"), "'readout_mlp_nonlinearity'"),
    (nequip, dict(categorical_graph_field_embed=[{"field": "charge"}]), "graph fields"),
    (nequip, dict(preset="XXL"), "preset"),
    (nequip, dict(feature_irreps_hidden=["2x0e+2y1o", "2x0e"], radial_mlp_depth=[1, 1], radial_mlp_width=[3, 3],
                  irreps_edge_sh="0e+1o", type_embed_num_features=2), "2y1o"),
    (nequip, dict(feature_irreps_hidden=["2x0e+2x1o+2x0e", "2x0e"], radial_mlp_depth=[1, 1], radial_mlp_width=[3, 3],
                  irreps_edge_sh="0e+1o", type_embed_num_features=2), "every irrep once"),
    (nequip, dict(feature_irreps_hidden=["2x0e", "2x0e"], radial_mlp_depth=[1], radial_mlp_width=[3, 3],
                  irreps_edge_sh="0e+1o", type_embed_num_features=2), "'radial_mlp_depth'"),
    (allegro, dict(radial_chemical_embed={"_target_": "a.GaussianEmbed"}), "TwoBodyBesselScalarEmbed"),
    (allegro, dict(radial_chemical_embed=EMBED | {"width": 3}), "width"),
    (allegro, dict(allegro_mlp_nonlinearity="sigmoid"), "'allegro_mlp_nonlinearity'"),
    (allegro, dict(tensor_track_allowed_irreps="1o+0e", irreps_edge_sh="0e+1o", l_max="left out"), "0e first"),
    (allegro, dict(tensor_track_allowed_irreps="0e+1o", irreps_edge_sh="0e+1e", l_max="left out"), "irreps_edge_sh"),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "changed", "message"), CASES)
def test_impossible_options_are_named(tmp_path, reader, changed, message):
    with pytest.raises(FormatError, match=message):
        reader.load(write(tmp_path, reader, **changed))


def test_couplings_of_no_known_convention_are_refused(tmp_path):
    name = f"{W}allegro.tps.0.w3j"
    with pytest.raises(FormatError, match="couplings"):
        allegro.load(write(tmp_path, allegro, {name: 2 * tensors(allegro)[name]}))


def test_a_folder_without_a_model_is_refused(tmp_path):
    for reader in (nequip, allegro):
        with pytest.raises(FormatError, match=r"weights\.npz"):
            reader.load(tmp_path)
