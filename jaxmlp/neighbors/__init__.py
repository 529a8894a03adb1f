from jaxmlp.neighbors.graph import Graph

__all__ = ["Graph"]
