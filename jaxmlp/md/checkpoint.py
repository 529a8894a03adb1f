"""Checkpoints from which a run continues bit for bit: safetensors arrays, and what is static as JSON metadata.

The neighbour list is not stored but made again from the positions it was made for, so that its next rebuild comes at
the same step as in the run that was not interrupted.
"""

import hashlib
import json
import os
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.energy import prepare
from jaxmlp.evaluate import Execution
from jaxmlp.formats.errors import FormatError
from jaxmlp.md.ensembles import Ensemble
from jaxmlp.md.recording import Dynamics
from jaxmlp.md.simulation import Simulation, evaluated
from jaxmlp.md.state import Atoms, Bath, Chain, Controls, Forces, State
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.neighbors.grid import Grid
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

FORMAT = "jaxmlp-checkpoint"
VERSION = "1"


def save(path: str | PathLike, sim: Simulation) -> None:
    """Write a checkpoint; the file at `path` is replaced in one stroke, so that there is a whole one at any moment."""
    from safetensors.numpy import save as to_bytes

    state, search = sim.state, sim.dynamics.forces.search
    arrays = {
        **{name: getattr(state, name) for name in ("R", "p", "F", "energy", "step")},
        "numbers": sim.numbers,
        "mass": sim.atoms.mass,
        "dof": sim.atoms.dof,
        "key": jax.random.key_data(state.key),
        "list.R": state.neighbors.R,
        **{f"controls.{k}": v for k, v in sim.controls._asdict().items() if v is not None},
        **({f"bath.{k}": v for k, v in state.bath._asdict().items()} if state.bath else {}),
    }
    if state.box is not None:
        arrays |= {"box": state.box, "list.box": state.neighbors.box}
    arrays = {name: np.array(x, order="C") for name, x in arrays.items()}
    description = {
        "ensemble": asdict(sim.dynamics.ensemble),
        "search": asdict(search),
        "execution": asdict(sim.dynamics.forces.execution),
        "potential": repr(sim.dynamics.forces.potential),
        "params": _fingerprint(sim.atoms.params),
        "key": str(jax.random.key_impl(state.key)),
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
    numbers = arrays["numbers"]
    if arrays["R"].dtype != jnp.asarray(arrays["R"][:0]).dtype:
        raise ValueError(
            f"{path} holds a simulation in {arrays['R'].dtype}; start Python with JAX_ENABLE_X64=1 to continue it."
        )
    pbc = (False,) * 3 if "box" not in arrays else (True,) * 3  # only elements and cell matter here
    potential, params, species = prepare(potential, params, System(numbers, arrays["R"], arrays.get("box"), pbc))
    species, params = jnp.asarray(species), jax.tree.map(jnp.asarray, params)
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
    try:
        ensemble = Ensemble(**description["ensemble"])
        execution = Execution(**description["execution"])
        search = description["search"]
        grid = Grid(**{k: _tuples(v) for k, v in search.pop("grid").items()})
        search = NeighborSearch(grid=grid, **{k: _tuples(v) for k, v in search.items()})
        state, atoms, controls = _assemble(arrays, description["key"], params, species)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(path, None, f"the checkpoint lacks a part or has one too many: {error}.") from error
    dynamics = Dynamics(ensemble, Forces(potential, search, execution))
    reference = state._replace(R=jnp.asarray(arrays["list.R"]), box=_optional(arrays, "list.box"))
    neighbors = evaluated(dynamics, reference, atoms, controls).neighbors
    return Simulation(dynamics, atoms, controls, state._replace(neighbors=neighbors), numbers)


def _assemble(arrays, impl, params, species) -> tuple[State, Atoms, Controls]:
    get = {name: jnp.asarray(x) for name, x in arrays.items()}
    unlisted: Any = None  # until `restart` makes the list again
    bath = {name[5:]: x for name, x in get.items() if name.startswith("bath.")}
    state = State(
        R=get["R"],
        p=get["p"],
        F=get["F"],
        energy=get["energy"],
        box=_optional(arrays, "box"),
        neighbors=unlisted,
        bath=Chain(**bath) if "xi" in bath else Bath(**bath) if bath else (),
        key=jax.random.wrap_key_data(get["key"], impl=impl),
        step=get["step"],
    )
    controls = Controls(**{name[9:]: x for name, x in get.items() if name.startswith("controls.")})
    return state, Atoms(params, species, get["mass"], get["dof"]), controls


def _optional(arrays, name):
    return jnp.asarray(arrays[name]) if name in arrays else None


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


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
