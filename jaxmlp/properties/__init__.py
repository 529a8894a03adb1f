"""Properties of materials from simulations."""

from jaxmlp.properties.force_constants import ForceConstants, crystal_energy_fn, force_constants_fn
from jaxmlp.properties.phonons import GAMMA, QMesh, dynamical_matrix, frequencies, gruneisen_fn, monkhorst_pack
from jaxmlp.properties.rdf import rdf

__all__ = [
    "GAMMA",
    "ForceConstants",
    "QMesh",
    "crystal_energy_fn",
    "dynamical_matrix",
    "force_constants_fn",
    "frequencies",
    "gruneisen_fn",
    "monkhorst_pack",
    "rdf",
]
