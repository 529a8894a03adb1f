"""Descriptors in the tree of a Deep Potential file."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from jaxmlp.formats.deepmd_layers import NAMES, collection, network
from jaxmlp.formats.deepmd_tree import Entry
from jaxmlp.formats.electron_configuration import spin_orbitals
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd_attention import SeAtten
from jaxmlp.potentials.deepmd_descriptors import Pairs, SeE2A, SeE2R, SeE3

SMOOTH = {
    "se_e2_a": SeE2A,
    "se_a": SeE2A,
    "se_e2_r": SeE2R,
    "se_r": SeE2R,
    "se_e3": SeE3,
    "se_e2_t": SeE3,
    "se_t": SeE3,
}
# Entries that change no energy, or that others say too.
REDUNDANT = (
    "@class", "@version", "type", "type_map", "ntypes", "trainable", "set_davg_zero", "precision", "neuron",
    "resnet_dt", "activation_function", "seed",
)  # fmt: skip


def descriptor(entry: Entry, s: int) -> tuple[tuple, tuple[Params, ...], int]:
    """Return the descriptors, their parameters, and how many numbers they give; more than one for a hybrid."""
    kind = entry.take("type")
    if kind.text() == "hybrid":
        found = [descriptor(e, s) for e in entry.take("list").list()]
        entry.done(*REDUNDANT)
        if not found:
            entry.refuse("a hybrid of at least one descriptor")
        return sum((f[0] for f in found), ()), sum((f[1] for f in found), ()), sum(f[2] for f in found)
    try:
        if kind.value in SMOOTH:
            part, params = _smooth(entry, SMOOTH[kind.value], s)
        elif kind.value in ("dpa1", "se_atten"):
            part, params = _attention(entry, s)
        else:
            kind.refuse("a descriptor of se_e2_a, se_r, se_e3, dpa1 or hybrid")
    except ValueError as error:
        if hasattr(error, "path"):  # a FormatError says where already
            raise
        entry.refuse(f"a descriptor that fits together ({error})")
    return (part,), (params,), part.size


def pairs(entry: Entry, s: int) -> Pairs:
    """Return pairs of species, [] where there are none."""
    return tuple((a, b) for a, b in (e.integers(0, s - 1, 2) for e in entry.list()))


def _distances(entry: Entry) -> dict:
    """cutoff, inner and protection, which `env_mat` repeats."""
    cutoff, inner = entry.take("rcut").number(1e-3, 1e3), entry.take("rcut_smth").number(0.0, 1e3)
    protection = entry.get("env_protection", 0.0).number(0.0, 1e3)
    again = entry.get("env_mat", {})
    for name, value in (("rcut", cutoff), ("rcut_smth", inner), ("protection", protection)):
        again.get(name, value).number(value, value)
    if again.get("use_exp_switch", False).truth():
        again.refuse("use_exp_switch false")
    again.done()
    return {"cutoff": cutoff, "inner": inner, "protection": protection}


def _statistics(entry: Entry, s: int, sel: tuple[int, ...], columns: int) -> dict[str, jax.Array]:
    """davg (S, S') and dstd (S, S', 2) of slots that share them."""
    v = entry.take("@variables")
    shape = (s, sum(sel), columns)
    avg, std = v.take("davg"), v.take("dstd")
    davg, dstd = avg.array(*shape), std.array(*shape)
    v.done()
    if columns == 4 and (davg[..., 1:] != 0).any():
        avg.refuse("mean 0 of the angular columns: the energy would not be invariant under rotations")
    if columns == 4 and (dstd[..., 1:] != dstd[..., 1:2]).any():
        std.refuse("one deviation of the three angular columns: the energy would not be invariant under rotations")
    if (dstd == 0).any():
        std.refuse("deviations that are not 0")
    ends = np.cumsum((0, *sel))
    mean, deviation = np.zeros((s, len(sel))), np.ones((s, len(sel), 2))
    for t, (a, b) in enumerate(pairwise(ends)):
        for x, e in ((davg, avg), (dstd, std)):
            if (x[:, a:b] != x[:, a : a + 1]).any():
                e.refuse("the same statistics in all slots of a neighbour species, as trained models have")
        if b > a:
            mean[:, t], deviation[:, t, 0], deviation[:, t, 1] = davg[:, a, 0], dstd[:, a, 0], dstd[:, a, -1]
    return {"davg": jnp.asarray(mean, float), "dstd": jnp.asarray(deviation, float)}


def _smooth(entry: Entry, cls: type, s: int) -> tuple[SeE2A | SeE2R | SeE3, Params]:
    options = _distances(entry)
    sel = entry.take("sel").integers(0, 100_000, s)
    if not sum(sel):
        entry.refuse("sel with at least one neighbour")
    one_side = entry.get("type_one_side", False).truth() if cls is not SeE3 else False
    net, layers = collection(entry.take("embeddings"), s, 1 if one_side else 2)
    options |= {"sel": sel, "network": net, "exclude": pairs(entry.get("exclude_types", []), s)}
    if cls is SeE2A:
        options["axis"] = entry.take("axis_neuron").integer(1, 10_000)
    entry.get("spin").nothing([])
    params = _statistics(entry, s, sel, 1 if cls is SeE2R else 4)
    entry.done(*REDUNDANT)
    if net.sizes[0] != 1:
        entry.refuse("embedding networks of one number")
    if cls is SeE3:  # the file has them for species a <= b
        upper = np.array([min(a, b) * s + max(a, b) for a in range(s) for b in range(s)])
        layers = jax.tree.map(lambda p: p[upper], layers)
    return cls(one_side=one_side, **options), params | {"network": layers}


def _attention(entry: Entry, s: int) -> tuple[SeAtten, Params]:
    options = _distances(entry)
    given = entry.take("sel")
    sel = given.integers(1, 100_000, 1)[0] if isinstance(given.value, list) else given.integer(1)
    mode = entry.get("tebd_input_mode", "concat")
    if mode.value not in ("concat", "strip"):
        mode.refuse("a tebd_input_mode of concat or strip")
    net, layers = collection(entry.take("embeddings"), s, 0)
    strip, strip_layers = None, None
    if mode.value == "strip":
        strip, strip_layers = collection(entry.take("embeddings_strip"), s, 0)
    width = entry.take("tebd_dim").integer(1, 10_000)
    depth = entry.get("attn_layer", 0).integer(0, 100)
    hidden = entry.get("attn", 128).integer(1, 10_000)
    smooth = entry.get("smooth_type_embedding", False).truth()
    temperature, factor = entry.get("temperature"), entry.get("scaling_factor", 1.0)
    shrink = factor.number(1e-12)
    scale = 0.0 if shrink == 1.0 else (hidden * shrink) ** -0.5
    if temperature.value is not None:
        scale = temperature.number()
        if scale == 0:
            temperature.refuse("a temperature that is not 0")
    one_side = entry.get("type_one_side", False).truth()
    flags = {q: entry.get(q, True).truth() for q in ("normalize", "attn_dotr", "concat_output_tebd")}
    options |= {
        "exclude": pairs(entry.get("exclude_types", []), s),
        "axis": entry.take("axis_neuron").integer(1, 10_000),
    }
    params: Params = {"types": _types(entry, s, width), "network": layers}
    if strip is not None:
        params["strip"] = strip_layers
    epsilon = entry.get("ln_eps", 1e-5).number(0.0, 1.0)
    attention = _attention_layers(entry.get("attention_layers", {}), depth, hidden, net.outputs)
    if depth:
        params["attention"] = attention
    entry.get("spin").nothing([])
    params |= _statistics(entry, s, (sel,), 4)
    entry.done(*REDUNDANT, "attn_mask", "trainable_ln", "use_econf_tebd", "use_tebd_bias", "stripped_type_embedding")
    known = s == 1 or (strip is not None and smooth)
    if np.any(params["davg"]) and (depth or not known):
        entry.refuse("davg 0 (set_davg_zero): else empty slots would depend on which atom comes first in the file")
    part = SeAtten(
        sel=sel,
        species=s,
        network=net,
        strip=strip,
        width=width,
        attention=depth,
        hidden=hidden,
        normalize=flags["normalize"],
        dotr=flags["attn_dotr"],
        smooth=smooth,
        scale=scale,
        epsilon=epsilon,
        append=flags["concat_output_tebd"],
        one_side=one_side,
        **options,
    )
    return part, params


def _types(entry: Entry, s: int, width: int) -> jax.Array:
    """The type vectors (S, width): the type network at one-hot vectors or electron configurations."""
    e = entry.take("type_embedding")
    symbols = [x.text() for x in entry.get("type_map", []).list()] or []
    configurations = e.get("use_econf_tebd", False).truth()
    net, arrays = network(e.take("embedding"))
    inputs = np.eye(s)
    if configurations:
        if len(symbols) != s or any(q not in atomic_numbers for q in symbols):
            entry.refuse(f"a type_map of {s} element symbols, whose electron configurations are used")
        inputs = np.array([spin_orbitals(atomic_numbers[q]) for q in symbols])
    e.done(*REDUNDANT, "padding", "use_tebd_bias")
    if net.sizes[0] != inputs.shape[1] or net.outputs != width:
        e.refuse(f"a type network from {inputs.shape[1]} numbers to {width}")
    out = net(tuple({q: jnp.asarray(x, float) for q, x in a.items()} for a in arrays), jnp.asarray(inputs, float))
    return out


def _attention_layers(entry: Entry, depth: int, hidden: int, channels: int) -> tuple[Params, ...]:
    out = []
    for e in entry.get("attention_layers", []).list(depth):
        a, norm = e.take("attention_layer"), e.take("attn_layer_norm").take("@variables")
        a.get("num_heads", 1).integer(1, 1)
        layer = {}
        for name, place, n, m in (("in", "in_proj", channels, 3 * hidden), ("out", "out_proj", hidden, channels)):
            p = a.take(place)
            activation = p.get("activation_function", "none")
            if p.get("resnet", False).truth() or NAMES.get(str(activation.value).lower(), "linear") != "linear":
                p.refuse("a linear projection without skip")
            v = p.take("@variables")
            w, b = v.take("w").array(n, m), v.get("b")
            v.get("idt").nothing()
            layer[name] = {"w": w, "b": np.zeros(m) if b.value is None else b.array(m)}
        layer["norm"] = {q: norm.take(q).array(channels) for q in ("w", "b")}
        out.append(jax.tree.map(lambda x: jnp.asarray(x, float), layer))
    return tuple(out)
