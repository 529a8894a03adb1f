"""jaxmlp: every interatomic potential is a pure function E(R, box, params); the rest is built from it with JAX."""

from jaxmlp import md, units
from jaxmlp.combinators import Committee, Interpolation, Scaled, Sum, Weighted, interpolate
from jaxmlp.derivatives import (
    elastic_constants,
    forces,
    heat_flux,
    hessian,
    hvp,
    pressure,
    stress,
    virial,
)
from jaxmlp.descriptors import descriptor_fn
from jaxmlp.energy import energy_fn, evaluate_fn, heat_flux_fn, prepare, site_fn, total_energy
from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.formats.detect import load, save
from jaxmlp.formats.errors import FormatError
from jaxmlp.minimize import minimize
from jaxmlp.neighbors import Graph, Neighbors, NeighborSearch
from jaxmlp.potential import MessagePassing, Potential, merge
from jaxmlp.shipped import models
from jaxmlp.system import System

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import `fit` and the packages that it does not need at the start when they are first asked for."""
    from importlib import import_module

    if name in ("fitting", "free_energy", "sampling", "properties"):
        return import_module(f"jaxmlp.{name}")
    if name == "fit":
        return import_module("jaxmlp.fitting").fit
    raise AttributeError(f"module 'jaxmlp' has no attribute {name!r}")


__all__ = [
    "Committee",
    "Evaluation",
    "Execution",
    "FormatError",
    "Graph",
    "Interpolation",
    "MessagePassing",
    "NeighborSearch",
    "Neighbors",
    "Potential",
    "Scaled",
    "Sum",
    "System",
    "Weighted",
    "descriptor_fn",
    "elastic_constants",
    "energy_fn",
    "evaluate",
    "evaluate_fn",
    "forces",
    "heat_flux",
    "heat_flux_fn",
    "hessian",
    "hvp",
    "interpolate",
    "load",
    "md",
    "merge",
    "minimize",
    "models",
    "prepare",
    "pressure",
    "save",
    "site_fn",
    "stress",
    "total_energy",
    "units",
    "virial",
]
