"""Properties of materials from simulations."""

from jaxmlp.properties.rdf import rdf

__all__ = ["rdf"]
