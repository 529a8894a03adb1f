"""From the tree of a Deep Potential file to a potential and its parameters: the models and the fitting network."""

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from jaxmlp.basis.deepmd_networks import DeepNetwork, Layers
from jaxmlp.formats.deepmd_descriptor import descriptor, pairs
from jaxmlp.formats.deepmd_layers import collection
from jaxmlp.formats.deepmd_tree import Entry
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd import DeepPotential
from jaxmlp.potentials.deepmd_zbl import DeepZBL

# What a file may say without a change of the energy: how the model was or will be trained, and redundant sizes.
TRAINING = ("@class", "@version", "rcond", "preset_out_bias", "trainable", "type_map", "ntypes", "precision")


def built(root: Entry) -> tuple[DeepPotential | DeepZBL, Params]:
    """Return the potential and parameters of a file's root.

    Raises:
        FormatError: what is missing, does not fit, or is not supported.
    """
    model = root.take("model")
    variables = root.get("@variables", {})
    closest = variables.get("min_nbor_dist")
    nearest = 0.0 if closest.value is None else closest.number(0.0, 1e3)
    kind = model.take("type")
    if kind.text() == "standard":
        return _standard(model, nearest)
    if kind.value == "zbl":
        return _zbl(model, nearest)
    kind.refuse("a model of type standard or zbl")


def _species(model: Entry) -> tuple[int, ...]:
    entry = model.take("type_map")
    species = tuple(atomic_numbers.get(e.text(), 0) for e in entry.list())
    if not species or min(species) < 1 or len(set(species)) != len(species):
        entry.refuse("different element symbols")
    return species


def _biases(model: Entry, s: int) -> np.ndarray:
    """out_bias (S,); out_std is used in training only."""
    variables = model.get("@variables", {})
    bias = variables.get("out_bias")
    variables.done("out_std")
    return np.zeros(s) if bias.value is None else bias.array(1, s, 1)[0, :, 0]


def _standard(model: Entry, closest: float, slots: int = 0) -> tuple[DeepPotential, Params]:
    species = _species(model)
    s = len(species)
    out_bias = _biases(model, s)
    parts, params, size = descriptor(model.take("descriptor"), s)
    absent = model.get("atom_exclude_types", []).integers(0, s - 1)
    exclude = pairs(model.get("pair_exclude_types", []), s)
    f = model.take("fitting")
    model.done(*TRAINING)
    fit = _fitting(f, s, size)
    if sorted(fit.exclude) != sorted(absent):
        f.refuse("exclude_types that repeat the model's atom_exclude_types: deepmd-kit's backends disagree on others")
    bias = np.where(np.isin(np.arange(s), absent), 0.0, fit.bias + out_bias)
    try:
        potential = DeepPotential(
            species,
            parts,
            fit.network,
            fit.mixed,
            exclude=exclude,
            inactive=tuple(sorted(absent)),
            vacuum=fit.vacuum,
            fparams=fit.fparams,
            aparams=fit.aparams,
            closest=closest,
            slots=slots,
        )
    except ValueError as error:
        model.refuse(f"a model that fits together ({error})")
    out = {"parts": params, "fitting": fit.layers, "bias": jnp.asarray(bias, float)}
    return potential, out | {q: jnp.asarray(v, float) for q, v in fit.conditions.items()}


class _Fit:
    """A fitting network of a file."""

    network: DeepNetwork
    layers: Layers
    mixed: bool
    bias: np.ndarray
    exclude: tuple[int, ...]
    vacuum: tuple[int, ...]
    fparams: int
    aparams: int
    conditions: dict[str, np.ndarray]


def _fitting(f: Entry, s: int, size: int) -> _Fit:
    out = _Fit()
    kind = f.get("type", "ener")
    if kind.value != "ener" or f.get("var_name", "energy").value != "energy":
        kind.refuse("a fitting network of type ener, of energies")
    f.get("dim_descrpt", size).integer(size, size)
    f.get("dim_out", 1).integer(1, 1)
    f.get("dim_case_embd", 0).integer(0, 0)
    f.get("spin").nothing([])
    if f.get("use_aparam_as_mask", False).truth():
        f.refuse("use_aparam_as_mask false")
    out.fparams, out.aparams = (f.get(q, 0).integer(0, 1000) for q in ("numb_fparam", "numb_aparam"))
    out.mixed = f.get("mixed_types", False).truth()
    out.exclude = f.get("exclude_types", []).integers(0, s - 1)
    out.network, out.layers = collection(f.take("nets"), s, 0 if out.mixed else 1)
    given = f.get("default_fparam")
    v = f.take("@variables")
    bias = v.take("bias_atom_e")
    out.bias = bias.array(s, 1)[:, 0] if np.ndim(bias.value) == 2 else bias.array(s)
    out.conditions = {}
    for name, count in (("fparam", out.fparams), ("aparam", out.aparams)):
        given_mean, given_scale = v.get(f"{name}_avg"), v.get(f"{name}_inv_std")
        if count:
            mean, scale = given_mean.array(count), given_scale.array(count)
            out.conditions |= {
                f"{name}_mean": mean,
                f"{name}_scale": scale,
                name: mean if name == "fparam" else mean[None],
            }
    if out.fparams and given.value is not None:
        out.conditions["fparam"] = np.array([e.number() for e in given.list(out.fparams)])
    v.get("case_embd").nothing()
    v.done()
    energies = f.get("atom_ener", [])
    values = [] if energies.value is None else energies.list()
    if values and len(values) != s:
        energies.refuse(f"{s} energies, null where none is set")
    out.vacuum = tuple(t for t, e in enumerate(values) if e.value is not None)
    for t in out.vacuum:
        out.bias[t] = _energy(values[t])
    unimportant = ("neuron", "resnet_dt", "activation_function", "tot_ener_zero", "layer_name", "seed")
    f.done(*TRAINING, *unimportant)
    return out


def _energy(e: Entry) -> float:
    return float(e.array(1)[0]) if np.shape(e.value) == (1,) else e.number()


def _zbl(model: Entry, closest: float) -> tuple[DeepZBL, Params]:
    """A network and a table, mixed by the distance to the nearest atom."""
    species = _species(model)
    s = len(species)
    bias = _biases(model, s)
    first, second = model.take("models").list(2)
    if first.take("type").value != "standard" or second.take("type").value != "pairtab":
        model.refuse("a standard model, then one of type pairtab")
    numbers = {q: model.take(q).number(0.0, 1e3) for q in ("sw_rmin", "sw_rmax", "smin_alpha")}
    for name in ("atom_exclude_types", "pair_exclude_types"):
        model.get(name).nothing([])
        second.get(name).nothing([])
    model.done(*TRAINING, "weights")
    if _species(second) != species:
        second.refuse("the same type_map in both models")
    table_bias = _biases(second, s)
    reach, own = second.take("rcut").number(1e-3, 1e3), second.take("sel")
    slots = sum(own.integers(0, 100_000)) if isinstance(own.value, list) else own.integer(1)
    tab = second.take("tab")
    second.done(*TRAINING)
    v = tab.take("@variables")
    start, step, rows, _ = v.take("tab_info").array(4)
    rows = int(rows)
    data = v.take("tab_data")
    if not (0 <= start < 1e3 and 0 < step < 1e3 and 0 < rows < 1 << 24) or np.size(data.value) != s * s * rows * 4:
        data.refuse(f"a table of {s} x {s} pairs, {rows} rows and 4 coefficients")
    table = data.array(*data.value.shape).reshape(s, s, rows, 4)
    tab.done("@class", "@version", "rmin", "rmax", "hh", "ntypes", "rcut", "nspline")
    deep, params = _standard(first, closest)
    if deep.species != species:
        first.refuse("the same type_map in both models")
    try:
        potential = DeepZBL(
            deep,
            reach,
            float(start),
            float(step),
            rows,
            numbers["sw_rmin"],
            numbers["sw_rmax"],
            numbers["smin_alpha"],
            max(deep.slots, slots),
        )
    except ValueError as error:
        model.refuse(f"a model that fits together ({error})")
    values = {"table": table, "table_bias": table_bias, "bias": bias}
    return potential, {"deep": params} | {q: jnp.asarray(x, float) for q, x in values.items()}
