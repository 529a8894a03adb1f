"""Allegro models of the code nequip-allegro (0.8): torch files with the builder's arguments, or npz and config.json."""

import math
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.irreps import CONVENTIONS, coupling, format_irreps, parse_irreps
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.nequip_builder import Model
from jaxmlp.formats.torch_files import Options
from jaxmlp.potential import Params
from jaxmlp.potentials.allegro import VANISHING, Allegro, Product, plan, tracked_irreps

EMBEDDINGS = ("TwoBodyBesselScalarEmbed", "TwoBodySplineScalarEmbed")


def load(
    path: str | PathLike, *, builder_arguments: dict[str, Any] | None = None, atomic_numbers: list[int] | None = None
) -> tuple[Allegro, Params]:
    """Return the potential and parameters of a model that AllegroModel or FullAllegroModel built.

    Args:
        path: a folder, or the file with the tensors.
        builder_arguments: arguments of that function which the file does not tell, or which are to replace its own.
        atomic_numbers: of the types, where their names are no symbols of elements.

    Raises:
        FormatError: the file is damaged, or has options or tensors that are not supported.
    """
    model = Model(path, "tensor_embed.env_embed_linear.mlp.0.weight", builder_arguments, atomic_numbers)
    potential = _potential(model)
    params = _params(model, potential)
    model.options.finish()
    model.weights.finish()
    return potential, params


def _potential(model: Model) -> Allegro:
    """The hyper-parameters."""
    options = model.options
    embed = Options(model.path, options.take("radial_chemical_embed", dict))
    kind = str(embed.take("_target_", str)).rpartition(".")[2]
    if kind not in EMBEDDINGS:
        options.refuse("radial_chemical_embed", kind, f"one of {', '.join(EMBEDDINGS)}")
    radial: dict[str, Any] = {}
    if kind == EMBEDDINGS[0]:
        embed.skip("bessel_trainable")
        radial = {"bessels": embed.take("num_bessels", int, 8), "envelope": model.exponent(embed)}
    else:
        radial = {"splines": (embed.take("num_splines", int, 16), embed.take("spline_span", int, 12))}
    embed.finish()
    l_max, tracked = _irreps(model)
    features = (model.count("num_scalar_features", 64), model.count("num_tensor_features", 16))
    widths, activations = {}, []
    for name, key, width in (
        ("scalar_embed", "scalar_embed_mlp", 64), ("latent", "allegro_mlp", 64), ("readout", "readout_mlp", 32)
    ):  # fmt: skip
        size, depth = model.count(f"{key}_hidden_layers_width", width), model.count(f"{key}_hidden_layers_depth", 1, 0)
        widths[name] = (size,) * depth
        activations.append(model.activation(f"{key}_nonlinearity", VANISHING[:-1]))
    cutoff, cutoffs = model.cutoffs()
    zbl, zbl_envelope = model.repulsion()
    arguments = dict(
        species=model.species,
        cutoff=cutoff,
        l_max=l_max,
        tracked=tracked,
        layers=model.count("num_layers", 2),
        features=features,
        embedding=model.count("radial_chemical_embed_dim", features[0]),
        activations=tuple(activations),
        neighbors=model.neighbors(),
        coupled=options.take("tp_path_channel_coupling", bool, True),
        individual=options.take("weight_individual_irreps", bool, True),
        forward=options.take("forward_normalize", bool, True),
        cutoffs=cutoffs,
        zbl=zbl,
        zbl_envelope=zbl_envelope,
        **widths,
        **radial,
    )
    try:
        potentials = [Allegro(**arguments, convention=convention) for convention in CONVENTIONS]
    except ValueError as error:
        raise FormatError(model.path, None, str(error)) from error
    return next((potential for potential in potentials if _couples_as(model, potential)), None) or _strange(model)


def _irreps(model: Model) -> tuple[int, str]:
    """l_max and the tracked irreps."""
    options = model.options
    try:
        if "tensor_track_allowed_irreps" not in options:
            l_max = model.count("l_max", None, 0)
            return l_max, tracked_irreps(l_max, options.take("parity", bool, True))
        edge = options.take("irreps_edge_sh", object)
        l_max = edge if isinstance(edge, int) else len(parse_irreps(str(edge))) - 1
        natural = tracked_irreps(l_max, parity=False)
        if not isinstance(edge, int) and parse_irreps(str(edge)) != parse_irreps(natural):
            options.refuse("irreps_edge_sh", edge, f"{natural} or another such sequence")
        return l_max, format_irreps(parse_irreps(str(options.take("tensor_track_allowed_irreps", object))))
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(model.path, None, str(error)) from error


def _couples_as(model: Model, potential: Allegro) -> bool:
    """Whether the file's tensor products are those of the potential's convention, sqrt(2 l3 + 1) w of each path."""
    return all(
        np.allclose(model.take(f"allegro.tps.{k}.w3j", *w.shape), w, atol=1e-5)
        for k, w in enumerate(_stored(product, potential.convention) for product in plan(potential))
    )


def _strange(model: Model):
    raise FormatError(model.path, None, "the tensors 'allegro.tps.*.w3j' are not the couplings of e3nn.")


def _stored(product: Product, convention: str) -> np.ndarray:
    """sqrt(2 l3 + 1) w of all paths as nequip-allegro stores it: (paths, i, j, k), without j where all are diagonal in
    i, j and without the first axis for one path."""
    starts = [np.cumsum([0, *(2 * l + 1 for l in degrees)]) for degrees in _degrees(product)]
    out = np.zeros((len(product.paths), *(int(start[-1]) for start in starts)))
    for row, path in zip(out, product.paths):
        degrees = [every[place] for every, place in zip(_degrees(product), path)]
        where = tuple(slice(start[place], start[place + 1]) for start, place in zip(starts, path))
        row[where] = math.sqrt(2 * degrees[2] + 1) * coupling(*degrees, convention)
    size = out.shape[1]
    if size == out.shape[2] and not out[:, ~np.eye(size, dtype=bool)].any():
        out = np.einsum("piik->pik", out)
    return out[0] if len(out) == 1 else out


def _degrees(product: Product) -> tuple[list[int], list[int], list[int]]:
    """The degrees of what goes in, of the harmonics, and of what comes out."""
    harmonics = range(1 + max(path[1] for path in product.paths))
    return [l for _, l, _ in product.inputs], list(harmonics), [l for _, l, _ in product.outputs]


def _params(model: Model, potential: Allegro) -> Params:
    """The parameters."""
    sizes, (count, u) = potential.sizes(), potential.features
    degrees = potential.l_max + 1
    embed, first, latent, readout = "radial_chemical_embed", *potential.activations
    params: dict[str, Any] = {
        "scalar_embed": model.network("scalar_embed_mlp.mlp_module", sizes["scalar_embed"][0], first),
        "tensor_embed": model.network("tensor_embed.env_embed_linear", sizes["tensor_embed"][0], None),
        "first": model.network("allegro.first_layer_env_embed_projection", sizes["first"][0], None),
        "latent": tuple(model.network(f"allegro.latents.{k}", size, latent) for k, size in enumerate(sizes["latent"])),
        "readout": model.network("edge_readout.mlp_module", sizes["readout"][0], readout),
        **model.scale_shift(),
    }
    params["tensor_embed"] = _by_degree(params["tensor_embed"], 0, u, degrees)
    if potential.individual:
        params["first"] = _by_degree(params["first"], count, u, degrees)
        params["latent"] = (*(_by_degree(w, count, u, degrees) for w in params["latent"][:-1]), params["latent"][-1])
    else:
        model.skip("allegro._env_weighter._rtoi")
    params["paths"] = tuple(
        _paths(model, f"allegro.tps.{k}.weights", len(product.paths), u if potential.coupled else 0)
        for k, product in enumerate(plan(potential))
    )
    s = len(potential.species)
    if potential.splines is not None:
        number = potential.splines[0]
        table = model.array(f"{embed}.spline.class_embed.weight", s * s, potential.embedding * number)
        model.skip(f"{embed}.spline.lower", f"{embed}.spline.upper")
        return params | {"splines": table.reshape(s, s, potential.embedding, number)}
    return params | {
        "frequencies": model.array(f"{embed}.bessel_encode.bessel_weights", 1, potential.bessels)[0],
        "basis": model.network(f"{embed}.type_embed.basis_linear", sizes["basis"][0], None),
        "center": model.array(f"{embed}.type_embed.center_embed.weight", s, potential.embedding // 2),
        "neighbor": model.array(f"{embed}.type_embed.neighbor_embed.weight", s, potential.embedding // 2),
    }


def _by_degree(weights: tuple[Array, ...], start: int, u: int, degrees: int) -> tuple[Array, ...]:
    """Weights whose last columns, from `start` on, are sorted by l and then by channel instead of the reverse."""
    *others, last = weights
    columns = last[:, start:].reshape(-1, u, degrees).swapaxes(1, 2).reshape(len(last), -1)
    return (*others, jnp.concatenate([last[:, :start], columns], axis=1))


def _paths(model: Model, name: str, paths: int, u: int) -> Array:
    """The weights of paths, (paths, u), or (paths, 1) for u = 0; the file leaves out the axis of a single path."""
    shape = ((u,) if u else ()) + ((paths,) if paths > 1 else ())
    return jnp.moveaxis(model.array(name, *shape).reshape(max(u, 1), paths), 0, 1)
