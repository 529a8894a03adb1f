"""The native file: safetensors arrays; hyper-parameters and the structure of the parameters as JSON in its metadata.

Metadata (all strings): format "jaxmlp"; version "1"; potential: {"class": name, "fields": {...}}, nested for potentials
made of potentials; params: the tree, in which {"dict": {...}}, {"list": [...]} and {"tuple": [...]} hold names of
arrays or null; checksum: SHA-256 of the two and of every array. Names of classes are looked up in `CLASSES`: nothing
in a file is imported or executed, and a damaged file is an error, never another model.
"""

import dataclasses
import hashlib
import importlib
import json
import math
import os
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.expected import IMPOSSIBLE, fits, refusal
from jaxmlp.potential import Params, Potential

VERSION = "1"
LARGEST_HEADER = 1 << 26  # bytes; 64 MiB name more arrays than any potential has
LARGEST_COUNT = 10_000  # no integer hyper-parameter is larger, and a basis of this size still builds in seconds
LARGEST_INDEX = 2**31 - 1  # but for indices of atoms and rows of tables
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

# Every class a file may name, and where it is defined. A new potential joins by one line.
CLASSES: dict[str, str | type] = {
    "Sum": "jaxmlp.combinators",
    "Scaled": "jaxmlp.combinators",
    "Interpolation": "jaxmlp.combinators",
    "Weighted": "jaxmlp.combinators",
    "Committee": "jaxmlp.combinators",
    "UhlenbeckFord": "jaxmlp.potentials.uhlenbeck_ford",
    "NEP": "jaxmlp.potentials.nep",
    "NEPZBL": "jaxmlp.potentials.nep_zbl",
    "NEPCharge": "jaxmlp.potentials.nep_charge",
    "NEPDipole": "jaxmlp.potentials.nep_tensor",
    "NEPPolarizability": "jaxmlp.potentials.nep_tensor",
    "MTP": "jaxmlp.potentials.mtp",
    "Moments": "jaxmlp.basis.moments",
    "SNAP": "jaxmlp.potentials.snap",
    "LennardJones": "jaxmlp.potentials.pair",
    "LennardJonesTail": "jaxmlp.potentials.pair",
    "Morse": "jaxmlp.potentials.pair",
    "SilveraGoldman": "jaxmlp.potentials.silvera_goldman",
    "SilveraGoldmanTail": "jaxmlp.potentials.silvera_goldman",
    "StillingerWeber": "jaxmlp.potentials.stillinger_weber",
    "Tersoff": "jaxmlp.potentials.tersoff",
    "EAM": "jaxmlp.potentials.eam",
    "ZBL": "jaxmlp.potentials.zbl",
    "ACE": "jaxmlp.potentials.ace",
    "ACEBond": "jaxmlp.potentials.ace",
    "ACEEmbedding": "jaxmlp.potentials.ace",
    "DeepPotential": "jaxmlp.potentials.deepmd",
    "DeepZBL": "jaxmlp.potentials.deepmd_zbl",
    "DeepNetwork": "jaxmlp.basis.deepmd_networks",
    "Chebyshev": "jaxmlp.basis.deepmd_tables",
    "SeE2A": "jaxmlp.potentials.deepmd_descriptors",
    "SeE2R": "jaxmlp.potentials.deepmd_descriptors",
    "SeE3": "jaxmlp.potentials.deepmd_descriptors",
    "SeAtten": "jaxmlp.potentials.deepmd_attention",
    "LocalFrame": "jaxmlp.potentials.deepmd_frame",
    "MACE": "jaxmlp.potentials.mace",
    "NequIP": "jaxmlp.potentials.nequip",
    "Allegro": "jaxmlp.potentials.allegro",
    "SchNet": "jaxmlp.potentials.schnet",
    "PaiNN": "jaxmlp.potentials.painn",
    "DimeNetPlusPlus": "jaxmlp.potentials.dimenet",
    "EGNN": "jaxmlp.potentials.egnn",
    "BPNN": "jaxmlp.potentials.bpnn",
    "SymmetryFunction": "jaxmlp.basis.symmetry_functions",
    "Covariance": "jaxmlp.basis.covariance",
    "Distance2b": "jaxmlp.basis.gap_clusters",
    "Angle3b": "jaxmlp.basis.gap_clusters",
    "DistanceNb": "jaxmlp.basis.gap_clusters",
    "Glue": "jaxmlp.potentials.glue",
    "GAP": "jaxmlp.potentials.gap",
    "GAPTerm": "jaxmlp.potentials.gap",
    "SOAP": "jaxmlp.basis.soap",
    "SOAPTurbo": "jaxmlp.basis.soap_turbo",
    "Overlap": "jaxmlp.basis.soap_turbo_radial",
    "HarmonicBond": "jaxmlp.potentials.bonded",
    "MorseBond": "jaxmlp.potentials.bonded",
    "HarmonicAngle": "jaxmlp.potentials.bonded",
    "HarmonicDihedral": "jaxmlp.potentials.bonded",
    "FourierDihedral": "jaxmlp.potentials.bonded",
    "RyckaertBellemans": "jaxmlp.potentials.bonded",
    "Free": "jaxmlp.potentials.external",
    "UniformForce": "jaxmlp.potentials.external",
    "Tether": "jaxmlp.potentials.external",
    "Polynomial": "jaxmlp.potentials.external",
    "Wall": "jaxmlp.potentials.external",
}


def register(cls: type) -> type:
    """Let native files name `cls`, a frozen dataclass of your own; call it before `load`. Usable as a decorator."""
    if not dataclasses.is_dataclass(cls):
        raise ValueError(f"only frozen dataclasses can be stored; {cls.__name__} is none.")
    if cls.__name__ in CLASSES and CLASSES[cls.__name__] is not cls:
        raise ValueError(f"another class named {cls.__name__} is known already; rename yours.")
    CLASSES[cls.__name__] = cls
    return cls


def save(path: str | PathLike, potential: Potential, params: Params) -> None:
    """Write a file from which `load` returns the same potential, parameters, structure and dtypes.

    Raises:
        ValueError: what the format cannot hold (unregistered classes, arrays that are not finite or not numbers).
    """
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, np.ndarray] = {}
    texts = {
        "potential": json.dumps(_encode(potential), allow_nan=False),
        "params": json.dumps(_flatten(params, "params", arrays), allow_nan=False),
    }
    problem = refusal(potential, params)
    if problem:
        raise ValueError(f"params do not fit the potential: {problem}")
    metadata = {"format": "jaxmlp", "version": VERSION, **texts, "checksum": _checksum(texts, arrays)}
    partial = Path(f"{os.fspath(path)}.part")
    partial.write_bytes(to_bytes(arrays, metadata))
    partial.replace(path)  # a killed writer leaves no half file behind


def load(path: str | PathLike) -> tuple[Potential, Params]:
    """Return the potential and its parameters, as jax arrays (float64 becomes float32 where x64 is not enabled).

    Raises:
        FormatError: the file is no native file, is damaged, or contradicts itself.
    """
    from safetensors import SafetensorError, safe_open

    check_header(path)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_metadata(path, metadata)
            names = list(file.keys())
            for name in names:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in DTYPES:
                    raise FormatError(path, None, f"array {name!r} has dtype {dtype}; expected {', '.join(DTYPES)}.")
            arrays = {name: np.asarray(file.get_tensor(name)) for name in names}
    except SafetensorError as error:
        raise FormatError(path, None, f"expected a complete safetensors file; the reader says: {error}.") from error
    if _checksum(metadata, arrays) != metadata["checksum"]:
        raise FormatError(
            path, None, "the checksum does not match: the file was changed or damaged after it was saved."
        )
    for name, value in arrays.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise FormatError(path, None, f"array {name!r} holds NaN or infinite numbers.")
    unused = dict(arrays)
    try:
        potential = _decode(path, _json(path, "potential", metadata["potential"]))
        params = _unflatten(path, _json(path, "params", metadata["params"]), unused)
    except RecursionError as error:
        raise FormatError(path, None, "the metadata are nested too deeply for any potential.") from error
    if not isinstance(potential, Potential):
        raise FormatError(path, None, f"expected a potential, found a {type(potential).__name__}.")
    if unused:
        raise FormatError(path, None, f"arrays {sorted(unused)} have no place in the parameters.")
    problem = refusal(potential, params)
    if problem:
        raise FormatError(path, None, f"the arrays do not fit the potential: {problem}")
    return potential, jax.tree.map(jnp.asarray, params)


def recognise(head: bytes, path: str | PathLike) -> bool:
    """True for a safetensors file: a plausible header length, then a JSON object."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LARGEST_HEADER


def check_header(path: str | PathLike) -> None:
    """Refuse a file whose header cannot be one, before anything of its size is allocated."""
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(9)
    if not recognise(head, path):
        raise FormatError(path, None, "expected a safetensors file: eight bytes of header length, then a JSON header.")
    length = int.from_bytes(head[:8], "little")
    if length > size - 8:
        raise FormatError(path, None, f"the header is {length} bytes long; the file has {size}: it is truncated.")


def _check_metadata(path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != "jaxmlp":
        raise FormatError(
            path,
            None,
            f"expected metadata format = 'jaxmlp', found {metadata.get('format')!r}: no model of jaxmlp.",
        )
    if metadata.get("version") != VERSION:
        raise FormatError(
            path, None, f"expected version {VERSION} of the format, found {metadata.get('version')!r}; update jaxmlp."
        )
    for name in ("potential", "params", "checksum"):
        if name not in metadata:
            raise FormatError(path, None, f"expected the metadata to have an entry {name!r}; it is missing.")


def _checksum(texts: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ("potential", "params"):
        digest.update(f"{name}:{len(texts[name])}:".encode() + texts[name].encode())
    for name in sorted(arrays):
        digest.update(f"{name}:{arrays[name].dtype.name}:{arrays[name].shape}:".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _json(path, name: str, text: str):
    def constant(word):
        raise ValueError(f"{word} is not a number")

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(path, None, f"expected JSON in the metadata entry {name!r}: {error}.") from error


def _class(name: str) -> type:
    entry = CLASSES[name]
    return getattr(importlib.import_module(entry), name) if isinstance(entry, str) else entry


def _encode(value: Any):
    """A hyper-parameter as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if name not in CLASSES or _class(name) is not type(value):
            raise ValueError(
                f"{name} is not among the classes a native file may hold; call jaxmlp.formats.native.register({name})."
            )
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": name, "fields": fields}
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"hyper-parameters must be finite; found {value}.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"a hyper-parameter of type {type(value).__name__} cannot be stored; use numbers, texts and tuples."
    )


def _decode(path, node: Any, largest: int = LARGEST_COUNT):
    """A hyper-parameter from JSON; arrays become tuples, objects become instances of known classes."""
    if isinstance(node, list):
        return tuple(_decode(path, v, largest) for v in node)
    if isinstance(node, int) and not isinstance(node, bool) and abs(node) > largest:
        raise FormatError(path, None, f"the integer {node} is beyond {largest}: no hyper-parameter is so large.")
    if isinstance(node, float) and not math.isfinite(node):
        raise FormatError(path, None, f"a hyper-parameter is {node}; expected finite numbers.")
    if not isinstance(node, dict):
        return node
    if set(node) != {"class", "fields"} or not isinstance(node["fields"], dict) or not isinstance(node["class"], str):
        raise FormatError(path, None, f'expected {{"class": name, "fields": {{...}}}}, found the keys {sorted(node)}.')
    name, given = node["class"], node["fields"]
    if name not in CLASSES:
        raise FormatError(path, None, f"the class {name!r} is not known; known are {', '.join(sorted(CLASSES))}.")
    cls = _class(name)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    unknown = sorted(set(given) - set(fields))
    missing = sorted(
        f.name for f in fields.values() if f.name not in given and f.default is f.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise FormatError(
            path, None, f"{name} has no fields {unknown}" if unknown else f"{name} needs fields {missing}."
        )
    values = {
        field: _decode(path, v, LARGEST_INDEX if field in ("atoms", "rows") else LARGEST_COUNT)
        for field, v in given.items()
    }
    for field, value in values.items():
        wanted = fits(cls, field, value)
        if wanted:
            raise FormatError(path, None, f"{name}.{field} must be {wanted}; found {value!r:.80}.")
    try:
        return cls(**values)
    except IMPOSSIBLE as error:
        raise FormatError(path, None, f"{name} refuses its fields: {error}") from error


def _flatten(node: Any, name: str, arrays: dict[str, np.ndarray]):
    """The tree of `params` as JSON; its leaves go to `arrays`."""
    if node is None:
        return None
    if type(node) is dict:
        if not all(isinstance(k, str) for k in node):
            raise ValueError(f"{name} has keys that are not texts: {list(node)!r:.80}.")
        return {"dict": {k: _flatten(v, f"{name}/{k}", arrays) for k, v in node.items()}}
    if type(node) in (list, tuple):
        return {type(node).__name__: [_flatten(v, f"{name}/{k}", arrays) for k, v in enumerate(node)]}
    value = np.asarray(node)
    if value.dtype.name not in DTYPES.values():
        raise ValueError(f"{name} is a {type(node).__name__} of dtype {value.dtype}; expected an array of numbers.")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinite numbers; such a model cannot be saved.")
    while name in arrays:  # "a/b" may be one key or two
        name += "'"
    arrays[name] = np.array(value, order="C")
    return name


def _unflatten(path, node: Any, arrays: dict[str, np.ndarray]):
    """The tree of parameters; takes its leaves out of `arrays`."""
    if node is None:
        return None
    if isinstance(node, str):
        if node not in arrays:
            raise FormatError(path, None, f"the parameters need the array {node!r}, once; it is missing or used twice.")
        return arrays.pop(node)
    if isinstance(node, dict) and len(node) == 1:
        kind, content = next(iter(node.items()))
        if kind == "dict" and isinstance(content, dict):
            return {k: _unflatten(path, v, arrays) for k, v in content.items()}
        if kind in ("list", "tuple") and isinstance(content, list):
            items = [_unflatten(path, v, arrays) for v in content]
            return items if kind == "list" else tuple(items)
    raise FormatError(
        path, None, f"expected an array name, dict, list, tuple or null in the parameters, found {node!r:.80}."
    )
