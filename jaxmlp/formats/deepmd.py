"""Deep Potential files of deepmd-kit: .dp, .yaml and .json, and through its own converter .pth and .pb."""

import importlib.util
import subprocess
import sys
import tempfile
from os import PathLike, fspath
from pathlib import Path

from jaxmlp.formats.deepmd_model import built
from jaxmlp.formats.deepmd_tree import MAGIC, read
from jaxmlp.formats.errors import FormatError
from jaxmlp.potential import Params
from jaxmlp.potentials.deepmd import DeepPotential
from jaxmlp.potentials.deepmd_zbl import DeepZBL

BACKENDS = (".pth", ".pb")


def load(path: str | PathLike) -> tuple[DeepPotential | DeepZBL, Params]:
    """Return the potential and parameters of a model file; see `deepmd_model.built`.

    A model with fparam or aparam is given its default, or else the mean of its training data; set others by
    `energy(..., fparam=, aparam=)`. .pth (PyTorch) and .pb (TensorFlow) files hold programs: deepmd-kit itself, where
    it is installed, converts them in a process of its own.

    Raises:
        FormatError: the file is not a Deep Potential model, is damaged, or has options that are not supported.
        ValueError: a .pth or .pb file where deepmd-kit is not installed.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    if is_backend(head, path):
        return _converted(path)
    return built(read(path))


def save(path: str | PathLike, potential: DeepPotential | DeepZBL, params: Params) -> None:
    """Write a .dp, .yaml or .json file that deepmd-kit (.dp, .yaml) and `load` read; see `deepmd_write.tree`."""
    from jaxmlp.formats.deepmd_write import write

    write(path, potential, params)


def is_backend(head: bytes, path: str | PathLike) -> bool:
    """A zip archive of TorchScript, or a file called .pb that is none of the readable forms."""
    name = fspath(path).lower()
    if head.startswith(b"PK\x03\x04"):
        return name.endswith((".pth", ".pt"))
    return name.endswith(".pb")


def recognise(head: bytes, path: str | PathLike) -> bool:
    """True for .dp (HDF5 with a model), .yaml and .json of a model, and the files of deepmd-kit's backends."""
    if head.startswith(MAGIC):
        return b"json" in head or fspath(path).lower().endswith(".dp")
    if is_backend(head, path):
        return True
    if b"\0" in head or b"model" not in head:
        return False
    return any(word in head for word in (b"descriptor", b"@variables", b"@class"))


def _converted(path: str | PathLike) -> tuple[DeepPotential | DeepZBL, Params]:
    """Convert to .dp by deepmd-kit's command in a process of its own, and load that."""
    if importlib.util.find_spec("deepmd") is None:
        raise ValueError(
            f"{path}: a file of deepmd-kit's PyTorch or TensorFlow backend. Convert it where deepmd-kit is installed, "
            f"`dp convert-backend {Path(path).name} model.dp`, and load model.dp; or install it here: "
            'pip install "jaxmlp[deepmd]".'
        )
    command = [sys.executable, "-m", "deepmd", "convert-backend"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.dp"
        done = subprocess.run([*command, fspath(path), str(target)], capture_output=True, text=True)
        if done.returncode or not target.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise FormatError(path, None, f"deepmd-kit cannot convert it: {last[:300]}")
        return built(read(target))
