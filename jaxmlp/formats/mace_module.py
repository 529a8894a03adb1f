"""What a pickled model of mace-torch says of its hyper-parameters, beside its tensors."""

from typing import Any

import numpy as np

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_pickle import Inert, kind_of

READOUTS = ("LinearReadoutBlock", "NonLinearReadoutBlock", "NonLinearBiasReadoutBlock")


def options_of(path, module: Any) -> dict[str, Any]:
    """Return the options, under the names of mace-torch's arguments; {} for what is no pickled module.

    Raises:
        FormatError: the module is of a class whose energy is not that of a MACE.
    """
    if not isinstance(module, Inert):
        return {}
    if kind_of(module) not in ("MACE", "ScaleShiftMACE"):
        raise FormatError(path, None, f"expected a MACE or ScaleShiftMACE; found a {kind_of(module)}.")
    blocks = _children(module, "interactions")
    found: dict[str, Any] = {
        "architecture": kind_of(module),
        "interactions": [kind_of(block) for block in blocks],
        "avg_num_neighbors": _number(blocks[0].get("avg_num_neighbors")) if blocks else None,
        "heads": _texts(module.get("heads")),
        "edge_irreps": irreps_text(module.get("edge_irreps")),
        "hidden_irreps": irreps_text(blocks[0].get("hidden_irreps")) if len(blocks) > 1 else None,
    }
    for name in (
        "apply_cutoff", "use_so3", "use_agnostic_product", "use_last_readout_only", "use_edge_irreps_first",
    ):  # fmt: skip
        found[name] = module.get(name)
    for readout in _children(module, "readouts"):
        if kind_of(readout) not in READOUTS:
            raise FormatError(path, None, f"a readout is a {kind_of(readout)}; expected {', '.join(READOUTS)}.")
        activation = readout.get("non_linearity")
        acts = _children(activation, "acts") if isinstance(activation, Inert) else []
        if acts:
            found["gate"] = kind_of(acts[0].get("f")) or "silu"
    if module.get("embedding_specs") is not None or module.get("joint_embedding") is not None:
        raise FormatError(path, None, "the option 'embedding_specs' (charges, spins ...) is not supported.")
    return {name: value for name, value in found.items() if value is not None}


def irreps_text(irreps: Any) -> str | None:
    """Return "16x0e+16x1o" of a pickled e3nn Irreps, or of a text."""
    if isinstance(irreps, str):
        return irreps
    if not isinstance(irreps, Inert) or not irreps.args:
        return None
    parts = []
    for block in irreps.args[0]:  # tuples whose classes were not looked up
        mul, irrep = block.args[0]
        l, p = irrep.args[0]
        parts.append(f"{int(mul)}x{int(l)}{'e' if p > 0 else 'o'}")
    return "+".join(parts)


def _children(module: Inert, name: str) -> list[Inert]:
    """The members of a ModuleList."""
    modules = module.get(name)
    inner = modules.state.get("_modules") if isinstance(modules, Inert) and isinstance(modules.state, dict) else None
    return [child for child in (inner or {}).values() if isinstance(child, Inert)]


def _number(value: Any) -> float | None:
    """A number, or one of numpy's, which is pickled as a call with its dtype and its bytes."""
    if isinstance(value, Inert) and value.name.endswith(" scalar") and len(value.args) == 2:
        dtype, content = value.args
        value = np.frombuffer(content, np.dtype(dtype.args[0]))[0]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _texts(value: Any) -> list[str] | None:
    return [str(x) for x in value] if isinstance(value, list | tuple) else None
