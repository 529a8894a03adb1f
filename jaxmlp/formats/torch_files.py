"""Files of graph networks trained with PyTorch: tensors and options by name, with complaints that name them.

A model is a torch file (a state dict, a dict that has one, or a whole pickled module; nothing in it is executed, see
`torch_pickle`), or `weights.npz` with the same tensors. Hyper-parameters that the shapes of tensors do not tell stand
in the file, in `config.json` beside it, or are given to `load`.
"""

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jax import Array

from jaxmlp.formats import torch_pickle
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_pickle import Inert

CONFIG = "config.json"
WEIGHTS = ("weights.npz", "state_dict.pt", "model.pt", "best_model", "model.model")  # looked for in a folder
# Families, and parts of tensor names of which all occur in a file of theirs and of no other. The first that fits.
FAMILIES = {
    "PaiNN": ("interatomic_context_net", "mu_channel_mix"),
    "SchNet": ("filter_network", "in2f"),
    "DimeNetPlusPlus": ("lin_sbf1", "lin_rbf2"),
    "EGNN": ("gcl_0", "edge_mlp"),
    "Allegro": ("allegro", "tensor_embed"),
    "NequIP": ("layer0_convnet",),
    "MACE": ("symmetric_contractions",),
}
_MISSING: Any = object()
_INTEGER, _NUMBER = "an integer", "a number"


def weights_of(path: str | PathLike) -> Path:
    """Return the file with the tensors: `path`, or in a folder the first of `WEIGHTS` that is there."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise FormatError(path, None, f"expected one of {', '.join(WEIGHTS)} in this folder.")


def read_object(path: str | PathLike) -> Any:
    """Return what a torch file holds: see `torch_pickle.read`; for .npz the dict of its arrays."""
    path = weights_of(path)
    with open(path, "rb") as file:
        head = file.read(4)
    if head == torch_pickle.MAGIC and path.suffix.lower() == ".npz":
        try:
            with np.load(path, allow_pickle=False) as z:
                return {name: z[name] for name in z.files}
        except (ValueError, OSError, EOFError, KeyError) as error:
            raise FormatError(path, None, f"expected arrays in an .npz archive: {error}") from error
    return torch_pickle.read(path)


def state_of(content: Any) -> dict[str, np.ndarray] | None:
    """Return the tensors by name of what `read_object` gave: a state dict, a dict that has one, a module; or None."""
    if isinstance(content, Inert):
        return torch_pickle.state_dict(content) or None
    if not isinstance(content, dict):
        return None
    tensors = {name: x for name, x in content.items() if isinstance(x, np.ndarray) and isinstance(name, str)}
    if tensors and len(tensors) == len(content):
        return tensors
    for key in ("state_dict", "model_state_dict", "model"):
        inner = state_of(content.get(key))
        if inner is not None:
            return inner
    return None


def opened(path: str | PathLike) -> tuple[Path, Any, dict[str, np.ndarray]]:
    """Return the file that `path` is or that is in this folder, what it holds, and the tensors by name in that.

    Raises:
        FormatError: the file holds none, or is damaged.
        OSError: it cannot be read.
    """
    file = weights_of(path)
    content = read_object(file)
    state = state_of(content)
    if state is None:
        raise FormatError(file, None, "expected tensors by name: a state dict, or a module or dict that has one.")
    return file, content, state


def read_state(path: str | PathLike) -> dict[str, np.ndarray]:
    """Return the tensors by name of a file, or of the one in a folder; errors as of `opened`."""
    return opened(path)[2]


def read_config(path: str | PathLike) -> dict[str, Any]:
    """Return what stands in `config.json` in the folder, or beside the file; {} where there is none.

    Raises:
        FormatError: it is no JSON object.
    """
    path = Path(path)
    file = (path if path.is_dir() else path.parent) / CONFIG
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise FormatError(file, line, f"expected JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FormatError(file, 1, f"expected a JSON object with hyper-parameters, found a {type(found).__name__}.")
    return found


def architecture(path: str | PathLike) -> str | None:
    """Return the family of a model file, a key of `FAMILIES` or the name in its config.json; None for no such file.

    Nothing is unpickled: names of tensors are looked for in the bytes.
    """
    path = Path(path)
    try:
        path = weights_of(path)
        with open(path, "rb") as file:
            if file.read(4) != torch_pickle.MAGIC:
                return None
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as z:
                text = "\n".join(z.files).encode()
        else:
            text = torch_pickle.pickled_text(path)
        if not text:
            return None
        named = read_config(path).get("architecture")
    except (OSError, ValueError):
        return None
    fits = [family for family, parts in FAMILIES.items() if all(part.encode() in text for part in parts)]
    if fits:
        return named if isinstance(named, str) and fits[0] in named else fits[0]
    return None


def atomic_numbers_of(path: str | PathLike, species, known) -> tuple[int, ...]:
    """Return the atomic numbers of the `species` asked for, symbols or numbers; all `known` ones for None.

    Raises:
        ValueError: some are not known.
    """
    if species is None:
        return tuple(known)
    numbers = tuple(atomic_numbers.get(z, 0) if isinstance(z, str) else z for z in species)
    strange = [z for z, n in zip(species, numbers) if n not in known]
    if strange or not numbers:
        raise ValueError(
            f"{path}: species={list(species)!r}: {strange} are none of the {len(known)} elements of this file."
        )
    return numbers


class Weights:
    """The tensors of a file, each to be taken once.

    Args:
        path: the file, for complaints.
        tensors: by name.
    """

    def __init__(self, path: str | PathLike, tensors: dict[str, np.ndarray]):
        self.path, self._tensors, self._left = path, tensors, set(tensors)

    @classmethod
    def read(cls, path: str | PathLike) -> "Weights":
        """Return those of a file or folder; see `read_state`."""
        return cls(weights_of(path), read_state(path))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self, prefix: str = "") -> list[str]:
        """Return all names that start with `prefix`, taken or not, in the order of the file."""
        return [name for name in self._tensors if name.startswith(prefix)]

    def count(self, prefix: str) -> int:
        """Return how many k from 0 on have tensors `prefix`k. ..., "interactions." say."""
        k = 0
        while any(name.startswith(f"{prefix}{k}.") for name in self._tensors):
            k += 1
        return k

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Return the shape of a tensor, which must have so many axes."""
        if name not in self._tensors:
            raise FormatError(self.path, None, f"the tensor {name!r} is missing.")
        shape = np.shape(self._tensors[name])
        if len(shape) != rank:
            raise FormatError(self.path, None, f"the tensor {name!r} has shape {shape}; expected {rank} axes.")
        return shape

    def empty(self, name: str) -> bool:
        """Return whether a tensor, which is there, has no numbers."""
        return np.size(self._tensors[name]) == 0

    def take(self, name: str, shape: tuple[int | None, ...] | None = None) -> np.ndarray:
        """Return a tensor as float64 (integers and truth values as they are).

        Args:
            shape: what it must be; None stands for any length of an axis, and in place of the tuple for any shape.

        Raises:
            FormatError: naming the tensor, if it is missing, of another shape, or not finite.
        """
        if name not in self._tensors:
            raise FormatError(self.path, None, f"the tensor {name!r} is missing.")
        value = np.asarray(self._tensors[name])
        if shape is not None and (
            len(shape) != value.ndim or any(n not in (None, m) for n, m in zip(shape, value.shape))
        ):
            wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
            raise FormatError(self.path, None, f"the tensor {name!r} has shape {value.shape}; expected {wanted}.")
        if value.dtype.kind == "f":
            value = value.astype(np.float64)
            if not np.isfinite(value).all():
                raise FormatError(self.path, None, f"the tensor {name!r} holds NaN or infinite numbers.")
        elif value.dtype.kind not in "iub":
            raise FormatError(self.path, None, f"the tensor {name!r} is of dtype {value.dtype}; expected numbers.")
        self._left.discard(name)
        return value

    def number(self, name: str) -> float:
        """Return a tensor of one number."""
        value = self.take(name)
        if value.size != 1:
            raise FormatError(self.path, None, f"the tensor {name!r} has shape {value.shape}; expected one number.")
        return float(value.reshape(()))

    def linear(self, prefix: str, inputs: int | None, outputs: int | None, *, bias: bool = True) -> dict[str, Array]:
        """Return a torch.nn.Linear as parameters of flax's Dense: {"kernel": (in, out), "bias": (out,)}."""
        weight = self.take(f"{prefix}.weight", (outputs, inputs))
        dense = {"kernel": jnp.asarray(weight.T, float)}
        return dense | {"bias": jnp.asarray(self.take(f"{prefix}.bias", weight.shape[:1]), float)} if bias else dense

    def skip(self, *names: str) -> None:
        """Count tensors as taken which the energy does not depend on, where they are there."""
        self._left.difference_update(names)

    def finish(self) -> None:
        """Refuse a file with tensors that nobody took: they belong to options that are not known.

        Raises:
            FormatError: naming them.
        """
        if self._left:
            some = sorted(self._left)
            more = f" and {len(some) - 5} more" if len(some) > 5 else ""
            raise FormatError(
                self.path, None, f"tensors of options that are not supported: {', '.join(some[:5])}{more}."
            )


class Options:
    """Hyper-parameters by name, each to be taken once: those given to `load` come before those of the file.

    Args:
        path: the file, for complaints.
        values: what the file says.
        given: arguments of `load`; None for those left out.
    """

    def __init__(self, path: str | PathLike, values: dict[str, Any], given: dict[str, Any] | None = None):
        self.path = path
        self._values = dict(values) | {name: x for name, x in (given or {}).items() if x is not None}
        self._left = set(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take(self, name: str, kind: type, default: Any = _MISSING) -> Any:
        """Return an option; the default where it is missing or null.

        Args:
            kind: bool, int, float, str, tuple (of a list) or dict.

        Raises:
            FormatError: naming the option, if it is needed and missing, or of another kind.
        """
        self._left.discard(name)
        value = self._values.get(name)
        if value is None:
            if default is _MISSING:
                raise FormatError(
                    self.path,
                    None,
                    f"the option {name!r} is needed: put it into {CONFIG} beside the file, or give it to load.",
                )
            return default
        if kind is tuple and isinstance(value, list | tuple):
            return tuple(value)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        if isinstance(value, kind) and kind is not float and (kind is bool or not isinstance(value, bool)):
            return value
        wanted = {int: _INTEGER, float: _NUMBER, bool: "true or false", str: "a text", tuple: "a list", dict: "a dict"}
        raise FormatError(self.path, None, f"the option {name!r} must be {wanted[kind]}; found {value!r:.60}.")

    def choose(self, name: str, choices, default: Any = _MISSING) -> Any:
        """Return the option, a text that must be one of `choices`."""
        value = self.take(name, str, default)
        if value is not default and value not in choices:
            self.refuse(name, value, f"one of {', '.join(choices)}")
        return value

    def require(self, name: str, value: Any, why: str) -> None:
        """Refuse a file in which an option has another value than the only one that is supported."""
        found = self._values.get(name, value)
        self._left.discard(name)
        if found is not None and found != value:
            self.refuse(name, found, f"{value!r}: {why}")

    def refuse(self, name: str, found: Any, expected: str) -> NoReturn:
        """Raise the FormatError of an option that has a wrong value."""
        raise FormatError(self.path, None, f"the option {name!r} is {found!r:.60}; expected {expected}.")

    def skip(self, *names: str) -> None:
        """Count options as taken which the energy does not depend on."""
        self._left.difference_update(names)

    def finish(self) -> None:
        """Refuse a file with options that nobody took.

        Raises:
            FormatError: naming them.
        """
        if self._left:
            raise FormatError(self.path, None, f"options that are not supported: {', '.join(sorted(self._left))}.")
