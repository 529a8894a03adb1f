"""Checkpoints from which a run continues bit for bit: safetensors arrays, and what is static as JSON metadata.

The neighbour list is not stored but made again from the positions it was made for, so that its next rebuild comes at
the same step as in the run that was not interrupted.
"""

import hashlib
import json
import os
from os import PathLike
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.energy import prepare
from jaxmlp.formats.errors import FormatError
from jaxmlp.md.packing import from_static, from_tree, static, tree
from jaxmlp.md.simulation import Simulation, evaluated
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

FORMAT = "jaxmlp-checkpoint"
VERSION = "2"


def save(path: str | PathLike, sim: Simulation) -> None:
    """Write a checkpoint; the file at `path` is replaced in one stroke, so that there is a whole one at any moment."""
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, np.ndarray] = {"numbers": sim.numbers}
    arrays["elements"] = np.asarray(sim.dynamics.forces.potential.species, np.int32)
    if sim.made_for is not None:
        arrays["made_for"] = np.array(sim.made_for, order="C")
    lists = sim.dynamics.reference(sim.state.neighbors)
    trees = {
        "state": tree(sim.state._replace(neighbors=None), "state", arrays),
        "atoms": tree(sim.atoms._replace(params=None), "atoms", arrays),
        "controls": tree(sim.controls, "controls", arrays),
        "lists": [tree(x, name, arrays) for x, name in zip(lists, ("list.R", "list.box"))],
    }
    description = {
        "dynamics": static(sim.dynamics),
        "trees": trees,
        "potential": repr(sim.dynamics.forces.potential),
        "params": _fingerprint(sim.atoms.params),
    }
    texts = {"format": FORMAT, "version": VERSION, "description": json.dumps(description)}
    content = to_bytes(arrays, {**texts, "checksum": _checksum(texts["description"], arrays)})
    partial = Path(f"{os.fspath(path)}.part")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def restart(path: str | PathLike, potential: Potential, params: Params) -> Simulation:
    """Return the simulation stored in a checkpoint; `run` continues it bit for bit on the same machine and jax version.

    Args:
        path: written by `run(..., checkpoint=path)`.
        potential, params: those of the interrupted simulation; they are not stored.

    Raises:
        FormatError: the file is damaged or no checkpoint.
        ValueError: the checkpoint belongs to another potential or other parameters, or needs 64-bit numbers that this
            process has not enabled.
    """
    arrays, description = _read(path)
    try:
        return _assembled(path, arrays, description, potential, params)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(path, None, f"the checkpoint lacks a part or has one too many: {error}.") from error


def _assembled(path, arrays, description, potential: Potential, params: Params) -> Simulation:
    R, numbers, made_for = arrays["state.R"], arrays["numbers"], arrays.get("made_for")
    if R.dtype != jnp.asarray(R[:0]).dtype:
        raise ValueError(f"{path} holds a simulation in {R.dtype}; start Python with JAX_ENABLE_X64=1 to continue it.")
    pbc = (made_for is not None,) * 3  # only elements and cell matter here
    system = System(numbers, R.reshape(-1, len(numbers), 3)[0], made_for, pbc)
    elements = arrays.get("elements", numbers).tolist()  # Monte Carlo may bring in some that the start lacks
    potential, params, _ = prepare(potential, params, system, elements)
    params = jax.tree.map(jnp.asarray, params)
    if repr(potential) != description["potential"]:
        raise ValueError(
            f"{path} belongs to a simulation with {description['potential']}; got {potential!r}. Pass that potential, "
            "or start a new simulation from the last frame of the trajectory."
        )
    if _fingerprint(params) != description["params"]:
        raise ValueError(
            f"{path} belongs to a simulation with other parameters of the same {type(potential).__name__}. Pass those, "
            "or start a new simulation from the last frame of the trajectory."
        )
    dynamics, trees = from_static(description["dynamics"], potential), description["trees"]
    state = from_tree(trees["state"], arrays)
    atoms = from_tree(trees["atoms"], arrays)._replace(params=params)
    controls = from_tree(trees["controls"], arrays)
    R, box = (from_tree(x, arrays) for x in trees["lists"])
    neighbors = evaluated(dynamics, state._replace(R=R, box=box), atoms, controls).neighbors
    return Simulation(dynamics, atoms, controls, state._replace(neighbors=neighbors), numbers, made_for)


def _read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """Return arrays and description of a checkpoint after checking that it is whole."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {os.fspath(path)!r}.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError) as error:
        raise FormatError(path, None, f"expected a complete safetensors file; the reader says: {error}.") from error
    if metadata.get("format") != FORMAT:
        raise FormatError(path, None, f"expected a checkpoint, found metadata format = {metadata.get('format')!r}.")
    if metadata.get("version") != VERSION:
        raise FormatError(path, None, f"expected version {VERSION}, found {metadata.get('version')!r}; update jaxmlp.")
    text = metadata.get("description", "")
    if metadata.get("checksum") != _checksum(text, arrays):
        raise FormatError(path, None, "the checksum does not match: the file was damaged after it was written.")
    return arrays, json.loads(text)


def _fingerprint(params: Params) -> str:
    """SHA-256 of the structure, dtypes, shapes and bytes of the parameters."""
    digest = hashlib.sha256(str(jax.tree.structure(params)).encode())
    for leaf in jax.tree.leaves(params):
        x = np.asarray(leaf)
        digest.update(f"{x.dtype}{x.shape}".encode() + x.tobytes())
    return digest.hexdigest()


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        x = np.asarray(arrays[name])
        digest.update(f"{name}{x.dtype}{x.shape}".encode() + x.tobytes())
    return digest.hexdigest()
