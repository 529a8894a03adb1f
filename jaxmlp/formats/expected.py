"""Does what a file says fit together? Types of hyper-parameters and shapes of parameters; nothing is computed."""

import types
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential
from jaxmlp.system import System

# What a constructor or a trace raises on numbers that make no sense.
IMPOSSIBLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def fits(cls: type, field: str, value: Any) -> str | None:
    """Return None where `value` has the type that `cls` declares for `field`, else that type in words."""
    hint = typing.get_type_hints(cls).get(field, Any)
    if _has_type(value, hint):
        return None
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _has_type(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_has_type(value, a) for a in args)
    if origin is typing.Literal:
        return value in args
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_has_type(v, args[0]) for v in value)
        return len(value) == len(args) and all(_has_type(v, a) for v, a in zip(value, args, strict=True))
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, hint) if isinstance(hint, type) else True


def refusal(potential: Potential, params: Params) -> str | None:
    """Return why `params` cannot be those of `potential`, or None: compared with `init`, then traced abstractly."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), _default(x)), params)
    return _unlike_init(potential, shapes, "params") or _unusable(potential, shapes)


def _default(x) -> np.dtype:
    """The dtype of an array as jax holds it: every float is the default float, so that dtypes never clash."""
    kind = np.asarray(x).dtype.kind
    return np.dtype(jnp.result_type(float)) if kind == "f" else jnp.asarray(np.zeros((), np.asarray(x).dtype)).dtype


def _unlike_init(potential: Potential, shapes: Params, where: str) -> str | None:
    """Compare with the shapes of `init`, member by member for potentials made of potentials."""
    from jaxmlp.combinators import Committee, Interpolation, Scaled, Sum, Weighted

    if isinstance(potential, Sum):
        if not isinstance(shapes, tuple | list) or len(shapes) != len(potential.members):
            return f"{where} of a Sum must be a tuple of {len(potential.members)}."
        pairs = [(m, s, f"{where}[{k}]") for k, (m, s) in enumerate(zip(potential.members, shapes, strict=True))]
    elif isinstance(potential, Interpolation):
        if not isinstance(shapes, dict) or set(shapes) != {"x", "a", "b"} or len(potential.members) != 2:
            return f"{where} of an Interpolation must be a dict of x, a and b, for two members."
        pairs = [(m, shapes[k], f"{where}[{k!r}]") for m, k in zip(potential.members, "ab", strict=True)]
    elif isinstance(potential, Weighted):
        if not isinstance(shapes, dict) or set(shapes) != {"x", "members"}:
            return f"{where} of a Weighted sum must be a dict of x and members."
        if not isinstance(shapes["members"], tuple | list) or len(shapes["members"]) != len(potential.members):
            return f"{where}['members'] must be a tuple of {len(potential.members)}."
        parts = zip(potential.members, shapes["members"], strict=True)
        pairs = [(m, s, f"{where}['members'][{k}]") for k, (m, s) in enumerate(parts)]
    elif isinstance(potential, Committee):
        if len(potential.members) != 1:
            return "a Committee has one member, whose parameters are stacked."
        if any(s.shape[:1] != (potential.size,) for s in jax.tree.leaves(shapes)):
            return f"every array of {where} needs a leading axis of the committee's size, {potential.size}."
        one = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), shapes)
        pairs = [(potential.members[0], one, where)]
    elif isinstance(potential, Scaled):
        if len(potential.members) != 1:
            return "a Scaled potential has one member."
        pairs = [(potential.members[0], shapes, where)]
    elif hasattr(potential, "init"):
        return _unlike(_initial(potential), shapes, where)
    else:
        return None
    return next((problem for pair in pairs if (problem := _unlike_init(*pair))), None)


def _initial(potential) -> Params:
    try:
        return jax.eval_shape(lambda: potential.init(jax.random.key(0)))
    except IMPOSSIBLE as error:
        return f"its init fails: {error}"


def _unlike(expected, found, where: str) -> str | None:
    """Compare two trees of shapes. A missing dict entry is left to the trace: some formats have optional ones."""
    if isinstance(expected, str):
        return expected
    if isinstance(expected, dict):
        if not isinstance(found, dict) or set(found) - set(expected):
            names = sorted(found) if isinstance(found, dict) else type(found).__name__
            return f"{where} must be a dict of {sorted(expected)}; found {names}."
        return next((p for k in found if (p := _unlike(expected[k], found[k], f"{where}[{k!r}]"))), None)
    if isinstance(expected, tuple | list):
        if not isinstance(found, tuple | list) or len(found) != len(expected):
            return f"{where} must have {len(expected)} entries."
        return next((p for k, (e, f) in enumerate(zip(expected, found)) if (p := _unlike(e, f, f"{where}[{k}]"))), None)
    if getattr(expected, "shape", None) != getattr(found, "shape", None):
        return f"{where} must have shape {getattr(expected, 'shape', None)}; found {getattr(found, 'shape', None)}."
    return None


def _unusable(potential: Potential, shapes: Params) -> str | None:
    """Trace what two atoms (as many as bonded terms name) with four neighbour slots give; nothing is computed."""
    try:
        if not potential.species or not all(isinstance(z, int) and 1 <= z <= 118 for z in potential.species):
            return f"species must be atomic numbers; got {potential.species}."
        if not 0 < potential.cutoff < float("inf"):
            return f"the cutoff must be a positive distance in Å; got {potential.cutoff}."
        if any(s.size == 0 for s in jax.tree.leaves(shapes)):
            return "an array is empty."
        with jax.numpy_dtype_promotion("standard"):
            cell = potential.cutoff * np.eye(3)  # sums over k vectors depend on it: of this size, they are short
            two = System(np.full(2, potential.species[0]), [[0, 0, 0], cell[0] / 2], cell)
            found: list[Potential] = []

            def terms(params):
                named = potential.for_system(two).terms(params)
                found.extend(term for term, _, _ in named)
                return [p for _, p, _ in named]

            for p, term in zip(jax.eval_shape(terms, shapes), found):
                n = max(2, 1 + int(np.max(getattr(term, "atoms", 0))))
                # Models of dipoles and polarizabilities have per-atom tensors in the place of energies.
                of = getattr(term, "site_tensors", term.site_energies)
                expected = (n, *getattr(term, "tensor_shape", ()))
                out = jax.eval_shape(of, p, _graph_of(term, n))
                if getattr(out, "shape", None) != expected:
                    return f"{n} atoms give results of shape {getattr(out, 'shape', None)} instead of {expected}."
    except IMPOSSIBLE as error:
        lines = str(error).strip().splitlines()
        return f"they cannot be evaluated ({type(error).__name__}: {lines[0] if lines else ''})."
    return None


def _graph_of(potential: Potential, n: int) -> Graph:
    """The shapes of a graph of n atoms with four neighbour slots."""
    shape: Any = jax.ShapeDtypeStruct  # stands in for arrays of a Graph
    dtype = jnp.result_type(float)
    real, integer, truth = (shape((n, 4), kind) for kind in (dtype, jnp.int32, bool))
    return Graph(
        species=shape((n,), jnp.int32),
        planes=(real, real, real),
        neighbors=integer,
        neighbor_species=integer,
        mask=truth,
        back=integer,
        R=shape((n, 3), dtype),
        box=shape((3, 3), dtype),
        shells=tuple((radius, 4) for radius in potential.shells),
    )
