"""The arrays of an HDF5 file of unknown origin, read in a process of its own: libhdf5 crashes on some damaged files."""

import json
import subprocess
import sys
import tempfile
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from jaxmlp.formats.errors import FormatError

# Keeps plain datasets of numbers in the root group; says of others why it does not.
READER = """
import json, os, sys
import h5py
import numpy as np

path, folder = sys.argv[1:]
left, arrays, refused = os.path.getsize(path), {}, {}
with h5py.File(path, "r") as file:
    text = file.attrs.get("json")
    if not isinstance(text, (str, bytes)) or len(text) > left:
        sys.exit("expected an attribute `json` with the model's description")
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            refused[name] = "expected a dataset of this file, found a link"
            continue
        data = file[name]
        if (not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu" or data.is_virtual or data.external):
            refused[name] = "expected an array of numbers in this file"
            continue
        left -= data.nbytes
        if left < 0:
            refused[name] = f"the array {data.shape} and those before it are larger than the file"
            break
        arrays[name] = np.asarray(data[()])
np.savez(os.path.join(folder, "arrays.npz"), **{"d" + name: x for name, x in arrays.items()})
with open(os.path.join(folder, "texts.json"), "w", encoding="utf-8") as out:
    json.dump([text if isinstance(text, str) else text.decode(), refused], out)
"""


def read(path: str | PathLike, kind: str) -> tuple[str, dict[str, np.ndarray], dict[str, str]]:
    """Return the attribute `json`, the root's arrays by name, and why others are refused.

    Raises:
        FormatError: the file cannot be read, or has no such attribute.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", READER, fspath(Path(path).resolve()), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
        except subprocess.TimeoutExpired as error:
            raise FormatError(
                path, None, f"expected {kind} in a sound HDF5 file: it cannot be read to the end."
            ) from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["the HDF5 library crashed"])[-1]
            raise FormatError(path, None, f"expected {kind} in a sound HDF5 file: {last[:200]}.")
        text, refused = json.loads((Path(folder) / "texts.json").read_text(encoding="utf-8"))
        with np.load(Path(folder) / "arrays.npz", allow_pickle=False) as z:
            return text, {name[1:]: z[name] for name in z.files}, refused
