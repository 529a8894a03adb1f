"""Files as torch.save writes them, made without torch: for tests of the readers."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def _named(module: str, name: str):
    """A class that pickles as `module.name`."""
    return type(name, (), {"__module__": module, "__qualname__": name})


TORCH, UTILS = types.ModuleType("torch"), types.ModuleType("torch._utils")
for _name in STORAGES.values():
    setattr(TORCH, _name, _named("torch", _name))
UTILS._rebuild_tensor_v2 = _named("torch._utils", "_rebuild_tensor_v2")


class _Storage:
    def __init__(self, key: str, values: np.ndarray):
        self.key, self.values = key, values


class _Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages: list[_Storage] = []

    def persistent_id(self, obj):
        if isinstance(obj, _Storage):
            kind = getattr(TORCH, STORAGES[obj.values.dtype.name])
            return ("storage", kind, obj.key, "cpu", obj.values.size)
        return None

    def reducer_override(self, obj):
        if type(obj) is not np.ndarray:
            return NotImplemented
        storage = _Storage(str(len(self.storages)), np.ascontiguousarray(obj))
        self.storages.append(storage)
        strides = tuple(s // obj.itemsize for s in storage.values.strides) if obj.ndim else ()
        return UTILS._rebuild_tensor_v2, (storage, 0, obj.shape, strides, False, OrderedDict())


def save(path, content) -> None:
    """Write `content`, in which numpy arrays stand for tensors."""
    known = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": TORCH, "torch._utils": UTILS}
    try:
        pickler = _Pickler(buffer := io.BytesIO())
        pickler.dump(content)
    finally:
        for name, module in known.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", "little")
        for storage in pickler.storages:
            archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
