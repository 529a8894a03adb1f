"""From the pieces of an ACE file to a potential and its parameters; what all ACE formats share."""

from dataclasses import replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import yaml
from ase.data import atomic_numbers

from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.yaml_nodes import Node, read
from jaxmlp.potential import Params
from jaxmlp.potentials.ace import ACE, ACEBond, ACEEmbedding
from jaxmlp.potentials.ace_tables import Function

FAMILY = {"TEST_SBessel": "SBessel", "SBessel": "SBessel"} | {n: n for n in ("ChebExpCos", "ChebPow", "ChebLinear")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LARGEST = 1 << 26  # numbers in the padded tables of a file
ALIASED = 1_000_000  # entries of a small file with its aliases written out
DEEPEST = 20  # models have 7


def read_yaml(path: str | PathLike, kind: str) -> Node:
    """Return the root of a YAML file that is no deeper, and with its aliases written out no larger, than models are.

    Raises:
        FormatError: as `yaml_nodes.read`; lists in lists in lists ..., or aliases that multiply or hold themselves.
    """
    _check_depth(path, kind)
    root = read(path, kind)
    sizes: dict[int, float] = {}

    def size(node: yaml.Node) -> float:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = float("inf")  # while it is counted: what holds itself has no end
            parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if size(root.node) > max(ALIASED, Path(path).stat().st_size):
        root.refuse(f"{kind} whose aliases stand for less than {ALIASED} entries")
    return root


def _check_depth(path: str | PathLike, kind: str) -> None:
    """Refuse deep nesting, on which yaml.compose overflows the stack; other faults are left to `read`."""
    depth = 0
    try:
        for event in yaml.parse(Path(path).read_bytes(), Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                line = event.start_mark.line + 1
                raise FormatError(path, line, f"expected {kind}, found lists and mappings within {DEEPEST} others.")
    except (yaml.YAMLError, UnicodeDecodeError):
        return


class Bond(NamedTuple):
    """A pair of a file: hyper-parameters, R_nl coefficients (n_max, l_max + 1, size), core repulsion."""

    bond: ACEBond
    radial: np.ndarray
    core: tuple[float, float]
    inner: str
    line: int


class Block(NamedTuple):
    """A central species of a file: embedding, functions, rows of coefficients for each."""

    embedding: ACEEmbedding
    functions: list[Function]
    rows: list[np.ndarray]  # (parameters of the function, P)


def numbers_of(path: str | PathLike, line: int, symbols: list[str]) -> tuple[int, ...]:
    """Return atomic numbers."""
    species = tuple(atomic_numbers.get(s, 0) for s in symbols)
    if not species or 0 in species or len(set(species)) != len(species):
        raise FormatError(path, line, f"expected different element symbols, found `{' '.join(symbols)[:60]}`.")
    return species


def family_of(path: str | PathLike, line: int, name: str) -> str:
    """Return the family of radial functions that a file calls `name`."""
    if name not in FAMILY:
        raise FormatError(path, line, f"expected radial functions of {', '.join(FAMILY)}, found `{name[:40]}`.")
    return FAMILY[name]


def built(
    path: str | PathLike,
    line: int,
    species: tuple[int, ...],
    bonds: list[list[Bond]],
    blocks: list[Block],
    energies: list[float],
    spline: float,
) -> tuple[ACE, Params]:
    """Return the potential and parameters; what the class refuses is the file's fault."""
    every = [b for row in bonds for b in row]
    s = len(species)
    n, l, k = (max(b.radial.shape[axis] for b in every) for axis in range(3))
    if s * s * n * l * k > LARGEST:
        raise FormatError(path, line, f"radial functions {n} x {l} x {k} of {s} species are too many.")
    if len({b.inner for b in every}) > 1 and "zbl" in {b.inner for b in every}:
        raise FormatError(path, line, "inner_cutoff_type zbl must be that of every pair or of none.")
    inner = every[0].inner if len({b.inner for b in every}) == 1 else "distance"
    radial, core = np.zeros((s, s, n, l, k)), np.zeros((s, s, 2))
    table = []
    for i, row in enumerate(bonds):
        for j, b in enumerate(row):
            a = b.radial.shape
            radial[i, j, : a[0], : a[1], : a[2]] = b.radial
            core[i, j] = b.core
        # A pair of type density has no inner cutoff, whatever the file says.
        table.append(
            tuple(replace(b.bond, inner_cutoff=0.0, inner_width=0.0) if b.inner == "density" else b.bond for b in row)
        )
    try:
        potential = ACE(
            species=species,
            bonds=tuple(table),
            embeddings=tuple(b.embedding for b in blocks),
            functions=tuple(tuple(b.functions) for b in blocks),
            n_max=n,
            l_max=l - 1,
            inner=inner,
            spline=spline,
        )
    except ValueError as error:
        raise FormatError(path, line, str(error)) from error
    c = np.zeros((potential.size, potential.densities))
    at = 0
    for rows in (r for b in blocks for r in b.rows):
        c[at : at + len(rows), : rows.shape[1]] = rows
        at += len(rows)
    params = {"c": c, "radial": radial, "core": core, "E0": np.array(energies, dtype=float)}
    return potential, {name: jnp.asarray(x) for name, x in params.items()}
