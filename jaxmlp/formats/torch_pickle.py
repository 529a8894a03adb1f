"""What `torch.save` wrote, read without torch and without running anything the file asks for.

Such a file is a zip archive with a pickle, `data.pkl`, and the numbers of every tensor beside it. A pickle names
functions and classes that its reader is to import and call, which is how a bad file does harm. Here no name is ever
imported: tensors become numpy arrays, plain containers are Python's, and an object of any other class, a module of
schnetpack or mace say, becomes an `Inert` one that only holds what was stored of it.
"""

import pickle
import zipfile
from collections import OrderedDict
from os import PathLike
from typing import Any

import numpy as np

from jaxmlp.formats.errors import FormatError

MAGIC = b"PK\x03\x04"
STORAGES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "ComplexFloatStorage": "<c8", "ComplexDoubleStorage": "<c16",
}  # fmt: skip


class Inert:
    """An object, or a function's result, of a class that was not looked up.

    Attributes:
        name: module and name, "schnetpack.representation.painn PaiNN"; also of the class itself, as which functions
            and classes appear that were stored by name.
        args: what it was to be called with.
        state: what was stored of it, the dict of its attributes as a rule.
    """

    name = ""
    args: tuple
    state: Any
    items: list

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state, self.items = args, {}, []
        return self

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):  # entries of a subclass of dict or list
        self.items.append((key, value))

    def append(self, value):
        self.items.append(value)

    def extend(self, values):
        self.items.extend(values)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute; of a torch module also a buffer, parameter or submodule."""
        if not isinstance(self.state, dict):
            return default
        for place in (self.state, *(self.state.get(p) for p in ("_buffers", "_parameters", "_modules"))):
            if isinstance(place, dict) and name in place:
                return place[name]
        return default


def kind_of(x: Any) -> str:
    """Return the bare name, "PaiNN", of an `Inert` object, or of a class or function stored by name; "" for others."""
    if isinstance(x, Inert) and x.name.endswith(" getattr") and len(x.args) == 2:  # how methods of builtins are stored
        return str(x.args[1])
    return x.name.split()[-1] if isinstance(x, Inert) or (isinstance(x, type) and issubclass(x, Inert)) else ""


def read(path: str | PathLike) -> Any:
    """Return the object in a torch file: arrays, plain containers and `Inert` objects.

    Raises:
        FormatError: the file is no zip archive of `torch.save`, or is damaged.
        OSError: it cannot be read.
    """
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            found = "an older form of it" if file.read(1) == b"\x80" else "something else"
        raise FormatError(
            path, None, f"expected a file of torch.save (torch 1.6 or later), found {found}; save it anew with torch."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive).load()
    except FormatError:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, TypeError, LookupError) as error:
        raise FormatError(path, None, f"a damaged file of torch.save: {type(error).__name__}: {error}") from error
    except (AttributeError, NotImplementedError, OverflowError, RecursionError, MemoryError) as error:
        raise FormatError(path, None, f"a damaged file of torch.save: {type(error).__name__}: {error}") from error


def state_dict(module: Inert) -> dict[str, np.ndarray]:
    """Return the tensors of a stored torch module by the names that its `state_dict()` gives them."""
    out: dict[str, np.ndarray] = {}

    def visit(node, prefix: str):
        if not isinstance(node, Inert) or not isinstance(node.state, dict):
            return
        transient = node.state.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, value in (node.state.get(kind) or {}).items():
                if isinstance(value, np.ndarray) and name not in transient:
                    out[prefix + name] = value
        for name, child in (node.state.get("_modules") or {}).items():
            visit(child, f"{prefix}{name}.")

    visit(module, "")
    return out


def pickled_text(path: str | PathLike) -> bytes:
    """Return the bytes of the pickle in a torch file, in which names can be looked for; empty if there is none."""
    if not zipfile.is_zipfile(path):
        return b""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(_pickle_of(path, archive))
    except (zipfile.BadZipFile, FormatError, NotImplementedError):
        return b""


def _pickle_of(path, archive: zipfile.ZipFile) -> str:
    found = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise FormatError(path, None, "expected a file of torch.save, with one data.pkl in it; found another archive.")
    return found[0]


class _Reader(pickle.Unpickler):
    """A pickle reader that imports nothing."""

    def __init__(self, path, archive: zipfile.ZipFile):
        self.path, self.archive = path, archive
        member = _pickle_of(path, archive)
        self.folder = member.removesuffix("data.pkl")
        self.storages: dict[str, np.ndarray] = {}
        order = f"{self.folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise FormatError(path, None, "the numbers are stored big-endian; save the file on another machine.")
        super().__init__(archive.open(member))

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        return type("Inert", (Inert,), {"name": f"{module} {name}"})

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The numbers of one storage, ("storage", type, key, device, count)."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, str):
            raise FormatError(self.path, None, f"a tensor of an unknown type: {getattr(dtype, 'name', kind)}.")
        if key not in self.storages:
            data = self.archive.read(f"{self.folder}data/{key}")
            if dtype == "bfloat16":  # the upper half of a float32
                half = np.frombuffer(data, "<u2").astype("<u4") << 16
                self.storages[key] = half.view("<f4")
            else:
                self.storages[key] = np.frombuffer(data, dtype)
        if len(self.storages[key]) < count:
            raise FormatError(self.path, None, f"tensor data {key} end early: the file is truncated.")
        return self.storages[key]


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_) -> np.ndarray:
    """The tensor (size) of numbers of a storage."""
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its data")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    steps = tuple(s * storage.itemsize for s in stride)
    return np.array(np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), steps))


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *args: ":".join(map(str, args)),
    ("_codecs", "encode"): lambda text, encoding="latin1": str(text).encode("latin1"),
} | {
    (module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, complex, slice)
}
