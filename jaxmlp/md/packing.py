"""Simulations as JSON and named arrays, for checkpoints. Names are looked up in a table; nothing is executed."""

import dataclasses
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.potential import Potential

# Every class a checkpoint may name, and where it is defined: frozen dataclasses (static), named tuples (of arrays).
STATIC = {
    "Ensemble": "jaxmlp.md.ensembles",
    "RingPolymer": "jaxmlp.md.ring_polymer",
    "Exchange": "jaxmlp.md.exchange",
    "Replicas": "jaxmlp.md.replicas",
    "ReplicaForces": "jaxmlp.md.replicas",
    "Dynamics": "jaxmlp.md.recording",
    "Forces": "jaxmlp.md.state",
    "BeadForces": "jaxmlp.md.bead_forces",
    "PILE": "jaxmlp.md.ring_polymer",
    "Langevin": "jaxmlp.md.thermostats",
    "CSVR": "jaxmlp.md.thermostats",
    "Berendsen": "jaxmlp.md.thermostats",
    "GLE": "jaxmlp.md.thermostats",
    "NoseHoover": "jaxmlp.md.nose_hoover",
    "MTK": "jaxmlp.md.barostats",
    "CellRescaling": "jaxmlp.md.barostats",
    "BerendsenPressure": "jaxmlp.md.barostats",
    "Constraints": "jaxmlp.md.constraints",
    "Execution": "jaxmlp.rows",
    "NeighborSearch": "jaxmlp.neighbors.search",
    "Grid": "jaxmlp.neighbors.grid",
    "MonteCarlo": "jaxmlp.sampling.monte_carlo",
    "Hybrid": "jaxmlp.sampling.hybrid",
    "DisplacementMoves": "jaxmlp.sampling.moves",
    "VolumeMoves": "jaxmlp.sampling.moves",
    "SwapMoves": "jaxmlp.sampling.moves",
    "SemiGrandMoves": "jaxmlp.sampling.moves",
}
TUPLES = {
    "State": "jaxmlp.md.state",
    "Atoms": "jaxmlp.md.state",
    "Controls": "jaxmlp.md.controls",
    "Ramp": "jaxmlp.md.controls",
    "SmoothRamp": "jaxmlp.md.controls",
    "InverseRamp": "jaxmlp.md.controls",
    "Work": "jaxmlp.md.work",
    "Hills": "jaxmlp.sampling.metadynamics",
    "Estimate": "jaxmlp.sampling.opes",
    "Kernels": "jaxmlp.sampling.kernels",
    "GLEMatrices": "jaxmlp.md.controls",
    "Bath": "jaxmlp.md.thermostats",
    "Colored": "jaxmlp.md.thermostats",
    "Chain": "jaxmlp.md.nose_hoover",
    "Piston": "jaxmlp.md.barostats",
    "Bonds": "jaxmlp.md.constraints",
    "Beads": "jaxmlp.md.ring_polymer",
    "Swaps": "jaxmlp.md.exchange",
    "Tally": "jaxmlp.sampling.walks",
}


def static(value: Any) -> Any:
    """Return a frozen dataclass, made of such, tuples, texts and numbers, as JSON; potentials leave a gap."""
    if isinstance(value, Potential):
        return {"potential": None}
    if dataclasses.is_dataclass(value):
        name = type(value).__name__
        if name not in STATIC:
            raise ValueError(f"a checkpoint cannot hold a {name}: it is not one of {', '.join(STATIC)}.")
        return {"class": name, "fields": {f.name: static(getattr(value, f.name)) for f in dataclasses.fields(value)}}
    return [static(x) for x in value] if isinstance(value, tuple) else value


def from_static(node: Any, potential: Potential) -> Any:
    """Return what `static` wrote, with the potential in its gap."""
    if isinstance(node, list):
        return tuple(from_static(x, potential) for x in node)
    if not isinstance(node, dict):
        return node
    if "potential" in node:
        return potential
    fields = {name: from_static(x, potential) for name, x in node["fields"].items()}
    return getattr(import_module(STATIC[node["class"]]), node["class"])(**fields)


def tree(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return the structure of named tuples of arrays as JSON; the arrays go to `arrays`, named by their path."""
    if value is None:
        return None
    if isinstance(value, tuple):
        if not value:
            return {"tuple": "", "fields": {}}
        parts = zip(type(value)._fields, value)  # type: ignore[attr-defined]
        return {"tuple": type(value).__name__, "fields": {k: tree(x, f"{name}.{k}", arrays) for k, x in parts}}
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        arrays[name] = np.asarray(jax.random.key_data(value))
        return {"key": str(jax.random.key_impl(value)), "array": name}
    arrays[name] = np.array(value, order="C")
    return name


def from_tree(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return what `tree` wrote."""
    if node is None:
        return None
    if isinstance(node, str):
        return jnp.asarray(arrays[node])
    if "key" in node:
        return jax.random.wrap_key_data(jnp.asarray(arrays[node["array"]]), impl=node["key"])
    if not node["tuple"]:
        return ()
    fields = {name: from_tree(x, arrays) for name, x in node["fields"].items()}
    return getattr(import_module(TUPLES[node["tuple"]]), node["tuple"])(**fields)
