"""MACE models of mace-torch: a pickled `.model`, a state dict, or `weights.npz` with `config.json`."""

import math
from os import PathLike

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.basis import equivariant_polynomials as polynomials
from jaxmlp.basis import irreps as ir
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.mace_module import options_of
from jaxmlp.formats.mace_nonlinear import (
    attention_layer,
    convolved,
    declared,
    hidden_widths,
    linear_of,
    marked,
    nonlinear_layer,
    plain_network,
)
from jaxmlp.formats.torch_files import Options, Weights, opened, read_config
from jaxmlp.potential import Params
from jaxmlp.potentials.mace import INTERACTIONS, MACE
from jaxmlp.potentials.mace_nonlinear import ATTENTION, NONLINEAR

RADIAL_NAMES = {"bessel": "bessel_weights", "gaussian": "gaussian_weights", "chebyshev": "n"}
# What a configuration may say that has no effect on the energy, or that the tensors themselves say.
SAID_TWICE = (
    "architecture", "code", "e3nn", "torch", "atomic_numbers", "atomic_energies_eV", "atomic_inter_scale",
    "atomic_inter_shift", "readouts", "use_reduced_cg_requested", "reduced_cg_effective", "cuequivariance_installed",
    "silu_normalize2mom_constant", "seed", "train_steps", "state_dict_shapes", "ops", "covalent_radii_A",
    "num_interactions", "pair_repulsion", "distance_transform", "radial_type", "num_bessel", "radial_MLP", "r_max",
    "num_polynomial_cutoff", "correlation", "use_reduced_cg", "MLP_irreps", "non_persistent_buffers",
)  # fmt: skip


def load(
    path: str | PathLike, *, head: str | None = None, avg_num_neighbors: float | None = None
) -> tuple[MACE, Params]:
    """Return the potential and its parameters.

    All classes of interaction blocks, plain and ScaleShift models; several heads, of which one is taken. Nothing in a
    pickled model is executed, and no torch is needed.

    Args:
        path: `.model`, a state dict, `weights.npz`, or a folder with one of these. Beside the last three, `config.json`
            says what tensors do not: "avg_num_neighbors" unless all blocks are nonlinear, others where they differ from
            mace-torch's defaults, "apply_cutoff" and "edge_irreps" among them.
        head: which to take of a model with several.
        avg_num_neighbors: in place of that of config.json.

    Raises:
        FormatError: naming the tensor or the option that is missing, of a wrong shape, or not supported.
        ValueError: `head` is needed, or not one of the model's.
    """
    file, content, state = opened(path)
    weights = Weights(file, state)
    options = Options(file, options_of(file, content) | read_config(path), {"avg_num_neighbors": avg_num_neighbors})
    architecture = options.choose("architecture", ("MACE", "ScaleShiftMACE"), "ScaleShiftMACE")
    options.require("sh_normalization", "component", "the normalisation of mace-torch.")
    options.require("sh_normalize", True, "as in mace-torch.")
    heads = options.take("heads", tuple, ("Default",))
    try:
        potential = _potential(options, weights)
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(file, None, str(error)) from error
    options.skip(*SAID_TWICE)
    options.finish()
    params = _params(potential, weights, _chosen(heads, head), len(heads), architecture == "ScaleShiftMACE")
    _skip_constants(weights, potential)
    weights.finish()
    return potential, jax.tree.map(lambda x: jnp.asarray(x, float), params)


def _chosen(heads: tuple[str, ...], head: str | None) -> int:
    if head is None and len(heads) > 1:
        raise ValueError(f"this model has the heads {', '.join(map(str, heads))}: choose one, load(..., head=...).")
    if head is not None and head not in heads:
        raise ValueError(f"this model has no head {head!r}; it has {', '.join(map(str, heads))}.")
    return 0 if head is None else heads.index(head)


# Hyper-parameters.


def _potential(options: Options, weights: Weights) -> MACE:
    """The hyper-parameters, from the shapes of the tensors and, what these do not tell, the options."""
    species = tuple(weights.take("atomic_numbers", (None,)).tolist())
    layers = weights.count("interactions.")
    if layers == 0 or weights.count("products.") != layers:
        raise FormatError(weights.path, None, "expected tensors interactions.0... and as many products.0...")
    radial = [kind for kind, name in RADIAL_NAMES.items() if f"radial_embedding.bessel_fn.{name}" in weights]
    if not radial:
        raise FormatError(weights.path, None, "the tensor 'radial_embedding.bessel_fn.bessel_weights' is missing.")
    constants = f"radial_embedding.bessel_fn.{RADIAL_NAMES[radial[0]]}"
    basis = weights.take(constants).size
    channels, irreps, max_ell, correlation, agnostic = _products(options, weights, layers, len(species))
    interactions = _interactions(options, weights, layers, irreps, max_ell, len(species))
    neighbors = {"default": 1.0} if set(interactions) == {NONLINEAR} else {}  # these blocks do not divide by it
    up = weights.take("interactions.0.linear_up.weight").size
    names = weights.names("radial_embedding.distance_transform.")
    transform = ("agnesi" if any(n.endswith(".q") for n in names) else "soft") if names else "none"
    readouts, heads = weights.count("readouts."), _heads(options)
    last = f"readouts.{readouts - 1}"
    nonlinear = f"{last}.linear_1.weight" in weights
    hidden = weights.take(f"{last}.linear_1.weight").size // channels // heads if nonlinear else 16
    gate = options.choose("gate", ("silu", "tanh", "None"), "silu").replace("None", "none")
    return MACE(
        species,
        weights.number("r_max"),
        hidden=irreps,
        max_ell=max_ell,
        correlation=correlation,
        interactions=interactions,
        num_bessel=basis,
        num_polynomial_cutoff=int(weights.number("radial_embedding.cutoff_fn.p")),
        radial_type=radial[0],
        distance_transform=transform,
        apply_cutoff=options.take("apply_cutoff", bool, True),
        mlp=hidden,
        gate=gate,
        readout_bias=f"{last}.linear_mid.weight" in weights,
        last_readout_only=options.take("use_last_readout_only", bool, readouts < layers),
        keep_last=options.take("keep_last_layer_irreps", bool, False),
        agnostic_product=options.take("use_agnostic_product", bool, agnostic),
        so3=options.take("use_so3", bool, False),
        edge=options.take("edge_irreps", str, None),
        edge_first=options.take("use_edge_irreps_first", bool, up != channels**2),
        zbl=bool(weights.names("pair_repulsion_fn.")),
        avg_num_neighbors=options.take("avg_num_neighbors", float, **neighbors),
        convention="0.4.4",
        **hidden_widths(weights, layers),
    )


def _heads(options: Options) -> int:
    return len(options.take("heads", tuple, ("Default",)))


def _products(options: Options, weights: Weights, layers: int, species: int):
    """Channels, irreps of the features, largest l, degrees, and whether the product knows no species."""
    degrees, agnostic = [], False
    for t in range(layers):
        name = f"products.{t}.symmetric_contractions.contractions.0."
        if not weights.names(name):
            raise FormatError(
                weights.path, None, f"the tensors {name}... are missing: models that were saved with cuequivariance "
                "switched on keep their products in another form; convert them back with mace's mace_cueq_to_e3nn.",
            )  # fmt: skip
        degrees.append(_degree(weights, name))
    rows, _, channels = weights.shape("products.0.symmetric_contractions.contractions.0.weights_max", 3)
    agnostic = rows == 1 and species > 1
    U = weights.take("products.0.symmetric_contractions.contractions.0.U_matrix_1")
    size = U.shape[-2]
    so3 = options.take("use_so3", bool, False)
    text = options.take("hidden_irreps", str, None)
    if text is None:
        ls = []
        for k in range(weights.count("products.0.symmetric_contractions.contractions.")):
            U = weights.take(f"products.0.symmetric_contractions.contractions.{k}.U_matrix_1")
            ls.append(0 if U.ndim == 2 else (U.shape[0] - 1) // 2)
        text = ir.format_irreps(tuple((channels, l, 1 if so3 else (-1) ** l) for l in ls))
    try:
        irreps = ir.parse_irreps(text)
    except ValueError as error:
        options.refuse("hidden_irreps", text, str(error))
    max_ell = math.isqrt(size) - 1
    if (max_ell + 1) ** 2 != size:
        raise FormatError(weights.path, None, f"the tensor 'U_matrix_1' has {size} components; expected a square.")
    stated = options.take("max_ell", int, max_ell)
    if stated != max_ell:
        options.refuse("max_ell", stated, f"{max_ell}, as the tensors have it")
    return channels, ir.format_irreps(irreps), max_ell, tuple(degrees), agnostic


def _degree(weights: Weights, name: str) -> int:
    """The degree of a contraction: how many tensors U it has."""
    nu = 0
    while f"{name}U_matrix_{nu + 1}" in weights:
        nu += 1
    return nu


def _interactions(options: Options, weights: Weights, layers: int, irreps: str, max_ell: int, species: int):
    """The blocks' classes: those of the options, or what the sizes of their tensors tell."""
    stated = [options.take("interaction_cls_first", str, None)]
    stated += [options.take("interaction_cls", str, None)] * (layers - 1)
    stated = list(options.take("interactions", tuple, tuple(stated)))
    features = ir.parse_irreps(irreps)
    out = []
    for t in range(layers):
        name, special = stated[t], marked(weights, t)
        option = "interaction_cls" if t else "interaction_cls_first"
        if name is None and special is None:
            arriving = {i[1:] for i in features} if t else {(0, 1)}
            leaving = {i[1:] for i in (features if t < layers - 1 else features[:1])}
            size = weights.take(f"interactions.{t}.skip_tp.weight").size / (features[0][0] ** 2 * species)
            residual = size == len(arriving & leaving) and size != max_ell + 1
            density = bool(weights.names(f"interactions.{t}.density_fn."))
            name = next(n for n, kind in INTERACTIONS.items() if kind == (residual, density))
        name = special if name is None else name
        if name not in INTERACTIONS:
            options.refuse(option, name, f"one of {', '.join(INTERACTIONS)}")
        if special != (name if name in (ATTENTION, NONLINEAR) else None):
            options.refuse(option, name, f"{special or 'another block'}, as the tensors have it")
        out.append(name)
    return tuple(out)


# Parameters.


def _params(potential: MACE, weights: Weights, head: int, heads: int, scaled: bool) -> Params:
    s, F = len(potential.species), potential.channels
    E0 = weights.take("atomic_energies_fn.atomic_energies").reshape(-1, s)
    if len(E0) not in (1, heads):
        raise FormatError(weights.path, None, f"the tensor 'atomic_energies' has {len(E0)} rows for {heads} heads.")
    scale, shift = np.ones(1), np.zeros(1)
    if scaled:
        scale, shift = (weights.take(f"scale_shift.{n}").reshape(-1) for n in ("scale", "shift"))
    of_head = lambda x: x[head] if len(x) > 1 else x[0]
    radial = {"constants": weights.take(_constants(potential), None).reshape(-1)}
    for name in {"agnesi": "aqp", "soft": ("alpha",)}.get(potential.distance_transform, ()):
        radial[name] = weights.take(f"radial_embedding.distance_transform.{name}", ())
    params = {
        "embedding": weights.take("node_embedding.linear.weight", (s * F,)).reshape(s, F) / math.sqrt(s),
        "layers": tuple(_layer(potential, weights, t, head, heads) for t in range(potential.steps)),
        "radial": radial, "E0": of_head(E0), "scale": of_head(scale), "shift": of_head(shift),
    }  # fmt: skip
    places = np.array(potential.species)
    if potential.distance_transform != "none":
        params["radii"] = weights.take("radial_embedding.distance_transform.covalent_radii", (None,))[places]
    if potential.zbl:
        radii = weights.take("pair_repulsion_fn.covalent_radii", (None,))[places]
        if "radii" in params and not np.array_equal(radii, params["radii"]):
            raise FormatError(weights.path, None, "the two tensors 'covalent_radii' differ.")
        params["radii"] = radii
        names = {"exponent": "a_exp", "prefactor": "a_prefactor"}
        params["zbl"] = {k: weights.take(f"pair_repulsion_fn.{n}", ()) for k, n in names.items()}
    return params


def _constants(potential: MACE) -> str:
    return f"radial_embedding.bessel_fn.{RADIAL_NAMES[potential.radial_type]}"


def _layer(potential: MACE, weights: Weights, t: int, head: int, heads: int) -> Params:
    block = {ATTENTION: attention_layer, NONLINEAR: nonlinear_layer}.get(potential.interactions[t], _plain_layer)
    return block(weights, potential, t) | {
        "product": _product(potential, weights, t),
        "mix": linear_of(weights, f"products.{t}.linear", potential.outputs(t), potential.outputs(t)),
        "readout": _readout(potential, weights, t, head, heads) if potential.has_readout(t) else {},
    }


def _plain_layer(weights: Weights, potential: MACE, t: int) -> Params:
    """What a block has whose radial network sees distances only."""
    residual, density = INTERACTIONS[potential.interactions[t]]
    name = f"interactions.{t}."
    targets = tuple((potential.channels, l, p) for l, p in potential.targets(t))
    linear, columns, count = convolved(weights, potential, t, f"{name}linear", targets)
    sizes = (potential.num_bessel, *potential.radial_mlp, count)
    skip_in, skip_out = (potential.inputs(t), potential.outputs(t)) if residual else (targets, targets)
    layer = {
        "up": linear_of(weights, f"{name}linear_up", potential.inputs(t), declared(potential, t)),
        "radial": plain_network(weights, name, sizes, columns),
        "linear": linear,
        "skip": _skip(weights, f"{name}skip_tp", skip_in, skip_out, len(potential.species)),
    }
    if density:
        layer["density"] = weights.take(f"{name}density_fn.layer0.weight", (potential.num_bessel, 1))
    if not residual:  # only what a path reaches
        layer["skip"] = {n: w for n, w in layer["skip"].items() if n in linear}
    return layer


def _skip(weights: Weights, name: str, irreps_in: ir.Irreps, irreps_out: ir.Irreps, species: int):
    """Matrices (S, in, out) by irrep, with the factor of the number of elements."""
    flat, start, out = weights.take(f"{name}.weight", (None,)), 0, {}
    for mul_in, *irrep in irreps_in:
        for mul_out, *other in irreps_out:
            if irrep == other:
                block = flat[start : start + mul_in * species * mul_out]
                start += mul_in * species * mul_out
                if block.size == mul_in * species * mul_out:
                    out[ir.label(*irrep)] = block.reshape(mul_in, species, mul_out).swapaxes(0, 1) / math.sqrt(species)
    if start != flat.size:
        raise FormatError(weights.path, None, f"the tensor '{name}.weight' has {flat.size} numbers; expected {start}.")
    return out


def _product(potential: MACE, weights: Weights, t: int) -> dict[str, np.ndarray]:
    """Weights (S, r, F) of our polynomials: those of the file times what its tensors U are made of."""
    F, corr = potential.channels, potential.correlation[t]
    s = 1 if potential.agnostic_product else len(potential.species)
    irreps, out = potential.targets(t), {}
    size = polynomials.dimension(irreps)
    for k, (_, l, p) in enumerate(potential.outputs(t)):
        name = f"products.{t}.symmetric_contractions.contractions.{k}."
        parts = []
        for nu in range(1, corr + 1):
            lead = (2 * l + 1,) if l else ()
            U = weights.take(f"{name}U_matrix_{nu}", (*lead, *[size] * nu, None))
            W = weights.take(
                f"{name}weights_max" if nu == corr else f"{name}weights.{corr - 1 - nu}", (s, U.shape[-1], F)
            )
            try:
                C = polynomials.expand(U if l else U[None], irreps, (l, p))
            except ValueError as error:
                raise FormatError(weights.path, None, f"the tensor '{name}U_matrix_{nu}': {error}") from error
            parts.append(np.einsum("re,zef->zrf", C, W))
            zeroed = f"weights_{'max' if nu == corr else corr - 1 - nu}_zeroed"
            weights.skip(f"{name}{zeroed}")
        out[ir.label(l, p)] = np.concatenate(parts, axis=1)
    return out


def _readout(potential: MACE, weights: Weights, t: int, head: int, heads: int) -> Params:
    """Matrices of one head; a hidden layer of all heads is cut down to its own channels."""
    name = f"readouts.{0 if potential.last_readout_only else t}."
    F, m = potential.channels, potential.mlp
    if not potential.nonlinear(t):
        return {"out": weights.take(f"{name}linear.weight", (F * heads,)).reshape(F, heads)[:, head]}
    own, fewer = slice(head * m, (head + 1) * m), 1 / math.sqrt(heads)
    out = {
        "hidden": weights.take(f"{name}linear_1.weight", (F * heads * m,)).reshape(F, heads * m)[:, own],
        "out": weights.take(f"{name}linear_2.weight", (heads * m * heads,)).reshape(-1, heads)[own, head] * fewer,
    }
    if potential.readout_bias:
        middle = weights.take(f"{name}linear_mid.weight", ((heads * m) ** 2,)).reshape(heads * m, -1)
        out["middle"] = middle[own, own] * fewer
        out["middle_bias"] = weights.take(f"{name}linear_mid.bias", (heads * m,))[own]
        out["bias"] = weights.take(f"{name}linear_2.bias", (heads,))[head]
    return out


def _skip_constants(weights: Weights, potential: MACE) -> None:
    """Pass over what e3nn and mace store beside the weights, and check the constants that enter the energy."""
    constants = {"pair_repulsion_fn.c": [0.1818, 0.5099, 0.2802, 0.02817]}
    constants["pair_repulsion_fn.p"] = [potential.num_polynomial_cutoff]
    if potential.radial_type == "bessel":
        constants["radial_embedding.bessel_fn.prefactor"] = [math.sqrt(2 / potential.cutoff)]
    for name, value in constants.items():
        if name in weights and not np.allclose(weights.take(name).ravel(), value, rtol=1e-6, atol=0):
            raise FormatError(weights.path, None, f"the tensor {name!r} is not the constant {value} of mace-torch.")
    for name in weights.names():
        last = name.rsplit(".", 1)[-1]
        constant = last in ("output_mask", "num_interactions", "r_max") or "_w3j_" in last or "_compiled" in name
        if constant or weights.empty(name):
            weights.skip(name)
