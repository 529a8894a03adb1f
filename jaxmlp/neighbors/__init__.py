"""Neighbour lists: dense padded rows, searched inside jit."""

from jaxmlp.neighbors.graph import Graph
from jaxmlp.neighbors.search import Neighbors, NeighborSearch

__all__ = ["Graph", "NeighborSearch", "Neighbors"]
