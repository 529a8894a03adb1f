"""What rules of `custom_jvp` with symbolic zeros need: which tangents there are, and a derivative along those."""

from collections.abc import Callable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero


def given(tangent) -> bool:
    """Whether a tangent is there: neither None nor a symbolic zero."""
    return tangent is not None and not isinstance(tangent, SymbolicZero)


def along(function: Callable[[Any], Any], tree: Any, directions: Any) -> Any:
    """Return the derivative of function(tree) along the directions that are given; None where none is.

    Only the leaves that move are differentiated by, so that nothing is computed with tangents of zeros.

    Args:
        directions: like `tree`, with tangents that may be None or symbolic zeros for leaves.
    """
    leaves: list = jax.tree.leaves(tree)
    structure: Any = jax.tree.structure(tree)
    tangents = structure.flatten_up_to(directions)
    moved = [k for k, t in enumerate(tangents) if given(t)]
    if not moved:
        return None

    def of(*moving):
        full = list(leaves)
        for k, x in zip(moved, moving, strict=True):
            full[k] = x
        return function(structure.unflatten(full))

    return jax.jvp(of, tuple(leaves[k] for k in moved), tuple(tangents[k] for k in moved))[1]
