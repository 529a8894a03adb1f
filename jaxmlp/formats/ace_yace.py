"""ACE potentials in the C-tilde basis, `.yace` files of pacemaker, LAMMPS and FitSNAP."""

from os import PathLike
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from jaxmlp.formats.ace_model import Block, Bond, built, family_of, numbers_of, read_yaml
from jaxmlp.formats.yaml_nodes import Fields, Node
from jaxmlp.potential import Params
from jaxmlp.potentials.ace import ACE, INNER, ACEBond, ACEEmbedding
from jaxmlp.potentials.ace_embedding import EMBEDDINGS
from jaxmlp.potentials.ace_tables import Function, terms

KIND = "an ACE potential (.yace)"


def load(path: str | PathLike, *, spline: bool = False) -> tuple[ACE, Params]:
    """Return the potential and parameters of a .yace file; `spline`: with the file's radial tables.

    Raises:
        FormatError: the file is not one, is truncated, or contradicts itself.
    """
    root = Fields(read_yaml(path, KIND), KIND)
    elements = root.take("elements")
    species = numbers_of(path, elements.line, [x.text("an element") for x in elements.list("elements")])
    s = len(species)
    e0 = root.get("E0")
    energies = [0.0] * s if e0 is None else list(e0.numbers("E0, one energy for each element", s))
    step = root.take("deltaSplineBins").number("deltaSplineBins in Å", 1e-6, 0.1)
    embeddings = _by_species(root.take("embeddings"), s, "embeddings")
    bonds = _bonds(root.take("bonds"), s)
    functions = _by_species(root.take("functions"), s, "functions")
    root.left.pop("metadata", None)
    root.done()
    blocks = [_block(t, embeddings[t], functions[t], s) for t in range(s)]
    return built(path, elements.line, species, bonds, blocks, energies, step if spline else 0.0)


def _by_species(node: Node, s: int, what: str) -> list[Node]:
    found = {key.integer(f"a species of {what}", 0, s - 1): value for key, value in node.items(what)}
    if len(found) != s:
        node.refuse(f"{what} of {s} species")
    return [found[t] for t in range(s)]


def _bonds(node: Node, s: int) -> list[list[Bond]]:
    found = {}
    for key, value in node.items("bonds"):
        found[key.integers("a pair of species", 0, s - 1, 2)] = _bond(value)
    if len(found) != s * s or len(found) != len(node.node.value):
        node.refuse(f"bonds of {s * s} ordered pairs of species, each once")
    return [[found[i, j] for j in range(s)] for i in range(s)]


def _bond(node: Node) -> Bond:
    f = Fields(node, "a bond")
    n, l = f.take("nradmax").integer("nradmax", 0, 1000), f.take("lmax").integer("lmax", 0, 20)
    k = f.take("nradbasemax").integer("nradbasemax", 1, 1000)
    name = f.take("radbasename")
    family = family_of(name.path, name.line, name.text("radbasename"))
    lam = f.take("radparameters").numbers("radparameters")
    radial = np.zeros((max(n, 1), l + 1, k))
    coefficients = f.take("radcoefficients")
    for a, row in enumerate(coefficients.list("radcoefficients")):
        for b, column in enumerate(row.list("radcoefficients of one n")):
            for c, x in enumerate(column.list("radcoefficients of one n and l")):
                value = x.number("a radial coefficient")
                if a < radial.shape[0] and b <= l and c < k:
                    radial[a, b, c] = value
                elif value:
                    x.refuse(f"radcoefficients of {n} x {l + 1} x {k}; this one is beyond and not zero")
    rcut, dcut = f.take("rcut").number("rcut in Å", 0.0, 100.0), f.take("dcut").number("dcut in Å", 0.0, 100.0)
    optional = {q: f.get(q) for q in ("rcut_in", "dcut_in")}
    start, width = (0.0 if x is None else x.number(f"{q} in Å", 0.0, 100.0) for q, x in optional.items())
    kind = f.get("inner_cutoff_type")
    inner = "density" if kind is None else kind.text("inner_cutoff_type")
    if kind is not None and inner not in INNER:
        kind.refuse(f"inner_cutoff_type of {', '.join(INNER)}")
    core = (f.take("prehc").number("prehc"), f.take("lambdahc").number("lambdahc"))
    f.done()
    bond = ACEBond(family, k, lam[0] if lam else 1.0, rcut, dcut, start, width)
    return Bond(bond, radial, core, inner, node.line)


def embedding(node: Node, kind: str, parameters: tuple[float, ...], count: int, cutoff: float, width: float):
    """Return the embedding of `count` densities, weights and powers alternating in `parameters`."""
    if kind not in EMBEDDINGS:
        node.refuse(f"an embedding of {', '.join(EMBEDDINGS)}, not `{kind[:40]}`")
    if len(parameters) < 2 * count:
        node.refuse(f"{2 * count} numbers (weight and power of {count} densities)")
    return ACEEmbedding(kind, parameters[: 2 * count : 2], parameters[1 : 2 * count : 2], cutoff, width)


def _block(t: int, node: Node, functions: Node, s: int) -> Block:
    f = Fields(node, "an embedding")
    count = f.take("ndensity").integer("ndensity", 1, 100)
    kind, numbers = f.take("npoti").text("npoti"), f.take("FS_parameters").numbers("FS_parameters")
    cutoff = f.take("rho_core_cutoff").number("rho_core_cutoff")
    e = embedding(node, kind, numbers, count, cutoff, f.take("drho_core_cutoff").number("drho_core_cutoff", 1e-12))
    f.done()
    block = Block(e, [], [])
    for entry in functions.list("functions of one species"):
        function, rows = _function(t, entry, count, s)
        block.functions.append(function)
        block.rows.append(rows)
    return block


def _function(t: int, node: Node, densities: int, s: int) -> tuple[Function, np.ndarray]:
    f = Fields(node, "a function")
    mu0 = f.get("mu0")
    if mu0 is not None:
        mu0.integer("mu0, the species of the block", t, t)
    rank = f.take("rank").integer("rank", 1, 12)
    count = f.take("num_ms_combs").integer("num_ms_combs", 1)
    p = f.take("ndensity").integer("ndensity of the function, that of the embedding", densities, densities)
    mus = f.take("mus").integers("mus", 0, s - 1, rank)
    ns, ls = f.take("ns").integers("ns", 1, 1000, rank), f.take("ls").integers("ls", 0, 20, rank)
    ms = f.take("ms_combs").integers("ms_combs", -20, 20, rank * count)
    c = np.array(f.take("ctildes").numbers("ctildes", count * p)).reshape(count, p)
    f.left.pop("symmetric", None)
    f.done()
    return (mus, ns, ls, (), ms if rank > 1 else ()), c if rank > 1 else c.sum(0, keepdims=True)


def save(path: str | PathLike, potential: ACE, params: Params) -> None:
    """Write a .yace file; `load` reads back the same energies, a B basis as its C-tilde form.

    Raises:
        ValueError: parameters that are not finite or do not fit the potential.
    """
    p = potential
    values = {name: np.asarray(params[name], dtype=float) for name in ("c", "radial", "core", "E0")}
    if not all(np.isfinite(v).all() for v in values.values()) or values["c"].shape != (p.size, p.densities):
        raise ValueError(f"the parameters of an ACE must be finite, c of shape {(p.size, p.densities)}.")
    step = p.spline or 0.001
    lines = [
        f"elements: [{', '.join(chemical_symbols[z] for z in p.species)}]",
        f"E0: {_list(values['E0'])}",
        f"deltaSplineBins: {step!r}",
        "embeddings:",
    ]
    for t, e in enumerate(p.embeddings):
        numbers = [x for pair in zip(e.weights, e.powers, strict=True) for x in pair]
        lines.append(
            f"  {t}: {{ndensity: {len(e.weights)}, FS_parameters: {_list(numbers)}, npoti: {e.kind}, "
            f"rho_core_cutoff: {float(e.core_cutoff)!r}, drho_core_cutoff: {float(e.core_width)!r}}}"
        )
    lines.append("bonds:")
    for i, row in enumerate(p.bonds):
        for j, b in enumerate(row):
            radial = ", ".join(
                f"[{', '.join(_list(x) for x in part)}]" for part in values["radial"][i, j][..., : b.size]
            )
            name = "TEST_SBessel" if b.family == "SBessel" else b.family
            lines.append(
                f"  [{i}, {j}]: {{nradmax: {p.n_max}, lmax: {p.l_max}, nradbasemax: {b.size}, radbasename: {name}, "
                f"radparameters: [{float(b.decay)!r}], radcoefficients: [{radial}], "
                f"prehc: {float(values['core'][i, j, 0])!r}, lambdahc: {float(values['core'][i, j, 1])!r}, "
                f"rcut: {float(b.cutoff)!r}, dcut: {float(b.width)!r}, rcut_in: {float(b.inner_cutoff)!r}, "
                f"dcut_in: {float(b.inner_width)!r}, inner_cutoff_type: {p.inner}}}"
            )
    lines.append("functions:")
    at = 0
    for t, block in enumerate(p.functions):
        densities = len(p.embeddings[t].weights)
        lines.append(f"  {t}:" + ("" if block else " []"))
        for function in block:
            parts = terms(function)
            rows = [(product, w * c) for part, c in zip(parts, values["c"][at:]) for product, w in part]
            at += len(parts)
            lines.append(_function_line(t, function, rows, densities))
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def _list(values) -> str:
    return f"[{', '.join(repr(float(v)) for v in values)}]"


def _function_line(t: int, function: Function, rows, densities: int) -> str:
    """One entry; the factors of all its products have the same (mu, n, l), sorted."""
    first = [f[:3] for f in rows[0][0]]
    mus, ns, ls = (list(x) for x in zip(*first, strict=True))
    ms = [factor[3] for product, _ in rows for factor in product]
    c = [x for _, row in rows for x in row[:densities]]
    return (
        f"    - {{mu0: {t}, rank: {len(mus)}, ndensity: {densities}, num_ms_combs: {len(rows)}, mus: {mus}, ns: {ns}, "
        f"ls: {ls}, ms_combs: {ms}, ctildes: {_list(c)}}}"
    )
