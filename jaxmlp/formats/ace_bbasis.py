"""ACE potentials in the B basis, `.yaml` files of pacemaker: species blocks with functions of coupled moments."""

from dataclasses import dataclass, field
from os import PathLike

import numpy as np

from jaxmlp.basis.cluster import coupling
from jaxmlp.formats.ace_model import Block, Bond, built, family_of, numbers_of, read_yaml
from jaxmlp.formats.ace_yace import embedding
from jaxmlp.formats.yaml_nodes import Fields, Node
from jaxmlp.potential import Params
from jaxmlp.potentials.ace import ACE, INNER, ACEBond
from jaxmlp.potentials.ace_tables import Function

KIND = "an ACE potential in the B basis (.yaml)"
EMBEDDING = ("ndensityi", "npoti", "parameters", "rho_core_cut", "drho_core_cut")
BOND = ("nradmaxi", "lmaxi", "rcutij", "dcutij", "nradbaseij", "radbase", "radparameters", "radcoefficients",
        "core-repulsion", "r_in", "delta_in", "inner_cutoff_type")  # fmt: skip
IGNORED = ("NameOfCutoffFunctionij",)


@dataclass
class _Species:
    """One species block, unread but for its functions."""

    node: Node
    elements: tuple[str, ...]
    fields: dict[str, Node] = field(default_factory=dict)
    functions: list[Node] = field(default_factory=list)


def load(path: str | PathLike, *, spline: bool = False) -> tuple[ACE, Params]:
    """Return the potential, in the B basis, and the parameters of a .yaml file; `spline`: with its radial tables.

    Elements are ordered by their symbols, as in pyace's exports. A pair of species whose block has no radial functions
    takes those of the pair in the other order.

    Raises:
        FormatError: the file is not one, is truncated, or contradicts itself.
    """
    root = Fields(read_yaml(path, KIND), KIND)
    general = Fields(root.take("global"), "global")
    step = general.take("DeltaSplineBins").number("DeltaSplineBins in Å", 1e-6, 0.1)
    e0 = general.get("E0")
    general.done()
    root.left.pop("metadata", None)
    listed = root.take("species")
    root.done()
    blocks = [_species(node) for node in listed.list("species")]
    names = sorted({b.elements[0] for b in blocks if len(b.elements) == 1})
    species = numbers_of(path, listed.line, names)
    energies = _energies(e0, names)
    by_elements = {b.elements: b for b in blocks}
    if len(by_elements) != len(blocks):
        listed.refuse("every speciesblock once")
    for b in blocks:
        if not set(b.elements) <= set(names):
            b.node.refuse(f"a speciesblock of the elements {', '.join(names)}")
    bonds = [[_bond(by_elements, a, b, listed) for b in names] for a in names]
    read_blocks = [_block(a, names, blocks, by_elements) for a in names]
    return built(path, listed.line, species, bonds, read_blocks, energies, step if spline else 0.0)


def _energies(node: Node | None, names: list[str]) -> list[float]:
    """Energies of isolated atoms: one number, or a mapping by element."""
    if node is None:
        return [0.0] * len(names)
    if node.is_mapping:
        given = Fields(node, "E0")
        out = [given.take(name).number("an energy in eV") for name in names]
        given.done()
        return out
    return [node.number("E0 in eV")] * len(names)


def _species(node: Node) -> _Species:
    f = Fields(node, "a species block")
    title = f.take("speciesblock")
    elements = tuple(title.text("the elements of a species block").split())
    if not elements:
        title.refuse("the elements of a species block")
    if len(elements) == 2 and elements[0] == elements[1]:
        elements = elements[:1]
    out = _Species(node, elements)
    functions = f.get("nbody")
    if functions is not None:
        out.functions = functions.list("nbody")
    for name in IGNORED:
        f.get(name)
    for name in (*EMBEDDING, *BOND):
        entry = f.get(name)
        if entry is not None:
            out.fields[name] = entry
    f.done()
    return out


def _take(block: _Species, name: str) -> Node:
    if name not in block.fields:
        block.node.refuse(f"the species block {' '.join(block.elements)} with an entry `{name}`")
    return block.fields[name]


def _bond(blocks: dict[tuple[str, ...], _Species], a: str, b: str, listed: Node) -> Bond:
    candidates = [(a,)] if a == b else [(a, b), (b, a)]
    block = next((blocks[c] for c in candidates if c in blocks and "radbase" in blocks[c].fields), None)
    if block is None:
        listed.refuse(f"a species block {' '.join(candidates[0])} with radial functions")
    n = _take(block, "nradmaxi").integer("nradmaxi", 0, 1000)
    l = _take(block, "lmaxi").integer("lmaxi", 0, 20)
    k = _take(block, "nradbaseij").integer("nradbaseij", 1, 1000)
    name = _take(block, "radbase")
    family = family_of(name.path, name.line, name.text("radbase"))
    lam = _take(block, "radparameters").numbers("radparameters")
    given = block.fields.get("radcoefficients")
    radial = np.broadcast_to(np.eye(max(n, 1), k)[:, None], (max(n, 1), l + 1, k))
    if given is not None and given.list("radcoefficients"):
        radial = _coefficients(given, n, l, k)
    cutoff, width = (_take(block, q).number(f"{q} in Å", 0.0, 100.0) for q in ("rcutij", "dcutij"))
    optional = [block.fields.get(q) for q in ("r_in", "delta_in")]
    inner = [0.0 if x is None else x.number("an inner radius in Å", 0.0, 100.0) for x in optional]
    kind = block.fields.get("inner_cutoff_type")
    how = "density" if kind is None else kind.text("inner_cutoff_type")
    if kind is not None and how not in INNER:
        kind.refuse(f"inner_cutoff_type of {', '.join(INNER)}")
    core = block.fields.get("core-repulsion")
    numbers = (0.0, 1.0) if core is None else core.numbers("core-repulsion", 2)
    bond = ACEBond(family, k, lam[0] if lam else 1.0, cutoff, width, *inner)
    return Bond(bond, radial, (numbers[0], numbers[1]), how, block.node.line)


def _coefficients(node: Node, n: int, l: int, k: int) -> np.ndarray:
    """Radial coefficients as (n, l + 1, k): nested in this order, or flat with l fastest, then n, then k."""
    members = node.list("radcoefficients")
    if members[0].is_list:
        rows = node.list("radcoefficients, one entry for each n", n)
        out = [[x.numbers("radcoefficients", k) for x in row.list("radcoefficients of an n", l + 1)] for row in rows]
        return np.array(out).reshape(n, l + 1, k)
    return np.array(node.numbers("radcoefficients", n * (l + 1) * k)).reshape(k, n, l + 1).transpose(1, 2, 0)


def _block(element: str, names: list[str], blocks: list[_Species], by_elements) -> Block:
    own = by_elements[element,]
    count = _take(own, "ndensityi").integer("ndensityi", 1, 100)
    kind = _take(own, "npoti").text("npoti")
    numbers = _take(own, "parameters").numbers("parameters")
    cut, width = own.fields.get("rho_core_cut"), own.fields.get("drho_core_cut")
    e = embedding(
        _take(own, "npoti"),
        kind,
        numbers,
        count,
        100000.0 if cut is None else cut.number("rho_core_cut"),
        250.0 if width is None else width.number("drho_core_cut", 1e-12),
    )
    block = Block(e, [], [])
    for b in (b for b in blocks if b.elements[0] == element):
        for node in b.functions:
            function, row = _function(node, element, names, count)
            block.functions.append(function)
            block.rows.append(row)
    return block


def _function(node: Node, element: str, names: list[str], densities: int) -> tuple[Function, np.ndarray]:
    f = Fields(node, "a function")
    kind = f.take("type")
    symbols = kind.text("the elements of a function").split()
    if len(symbols) < 2 or symbols[0] != element or not set(symbols) <= set(names):
        kind.refuse(f"{element}, then elements among {', '.join(names)}")
    rank = len(symbols) - 1
    mus = tuple(names.index(x) for x in symbols[1:])
    ns = f.take("nr").integers("nr", 1, 1000, rank)
    ls = f.take("nl").integers("nl", 0, 20, rank)
    given = f.get("lint")
    lint = () if given is None else given.integers("lint", 0, 40)
    c = f.take("c")
    values = c.numbers("c", densities) if c.is_list else (c.number("c"),)
    if len(values) != densities:
        c.refuse(f"{densities} coefficients")
    f.done()
    try:
        coupling(ls, lint)
    except ValueError as error:
        node.refuse(f"angular momenta that couple to a scalar ({error})")
    return (mus, ns, ls, lint, ()), np.array([values])
