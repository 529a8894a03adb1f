"""Reference cases of NEP as padded graphs: all structures of one model share shapes, so one compilation serves them.

The lists come from matscipy, the geometry and its derivatives from plain JAX: nothing here uses jaxmlp but `Graph`.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matscipy.neighbours import neighbour_list

from jaxmlp import Graph

# The code generator that conftest.py asks for takes twice as long for the long programs of MTP; this is the usual one.
USUAL = "xla_cpu_use_fusion_emitters"
LONG_PROGRAM = {USUAL: True} if USUAL in os.environ.get("XLA_FLAGS", "") else None


class Case(NamedTuple):
    """One structure and what the original code says about it."""

    name: str
    R: np.ndarray
    box: np.ndarray
    species: np.ndarray
    expected: dict


class Rows(NamedTuple):
    """The list of one structure, padded: atoms that do not exist have `exists` False and no neighbours."""

    species: Array
    exists: Array
    neighbors: Array
    shift: Array
    mask: Array


def read_cases(path: Path, species: tuple[int, ...]) -> list[Case]:
    """Return the cases of one .npz file, with species as indices into `species`."""
    with np.load(path) as z:
        out = []
        for k, name in enumerate(z["names"]):
            data = {key[4:]: z[key] for key in z.files if key.startswith(f"c{k:02d}_")}
            index = np.array([species.index(number) for number in data["numbers"]])
            out.append(Case(str(name), data["positions"], data["cell"], index, data))
    return out


def padded(cases: list[Case], shells: tuple[float, ...]):
    """Yield (case, R, rows, radii) with equal shapes."""
    lists, most = [], np.zeros(len(shells), int)
    for case in cases:
        i, j, s, r = neighbour_list("ijSd", positions=case.R, cell=case.box, pbc=(True,) * 3, cutoff=shells[-1])
        shell = np.searchsorted(shells, r, side="right")
        lists.append((i, j, s, shell))
        for k in range(len(shells)):
            most[k] = max(most[k], np.bincount(i[shell == k], minlength=1).max())
    start = np.concatenate([[0], np.cumsum(-(-(most + 1) // 4) * 4)])
    radii = tuple(zip(shells, (int(x) for x in start[1:]), strict=True))
    atoms = max(len(case.R) for case in cases)
    for case, (i, j, s, shell) in zip(cases, lists, strict=True):
        n = len(case.R)
        neighbors, shift = np.zeros((atoms, start[-1]), np.int32), np.zeros((atoms, 3, start[-1]))
        mask = np.zeros((atoms, start[-1]), bool)
        for k in range(len(shells)):
            here = shell == k
            a = i[here]
            order = np.argsort(a, kind="stable")
            a = a[order]
            slot = start[k] + np.arange(len(a)) - np.searchsorted(a, a)
            neighbors[a, slot], shift[a, :, slot], mask[a, slot] = j[here][order], s[here][order], True
        R, species = np.zeros((atoms, 3)), np.zeros(atoms, np.int32)
        R[:n], species[:n] = case.R, case.species
        rows = Rows(*(jnp.asarray(x) for x in (species, np.arange(atoms) < n, neighbors, shift, mask)))
        yield case, jnp.asarray(R), rows, radii


def graph(R: Array, box: Array, rows: Rows, radii) -> Graph:
    """Return the graph, differentiable in R and box."""
    far = jnp.asarray(2.0 * radii[-1][0], R.dtype)
    d = R[rows.neighbors].transpose(0, 2, 1) - R[:, :, None]
    d = d + jnp.einsum("nam,ac->ncm", rows.shift.astype(R.dtype), box)
    d = jnp.where(rows.mask[:, None], d, far)
    theirs = jnp.where(rows.mask, rows.species[rows.neighbors], 0)
    return Graph(
        rows.species, tuple(d[:, k] for k in range(3)), rows.neighbors, theirs, rows.mask, R, box, radii, rows.exists
    )


def evaluate(potential, params, R: Array, box: Array, rows: Rows, radii) -> dict[str, Array]:
    """Return energy, atomic energies, forces, virial and atomic virials from one backward pass."""

    def geometry(R, strain):
        deform = jnp.eye(3, dtype=R.dtype) + strain
        R, cell = R @ deform, box @ deform
        return graph(R, cell, rows, radii).planes, R, cell

    def energies(planes, R, box):
        e = potential.site_energies(params, replace(graph(R, box, rows, radii), planes=planes))
        return jnp.where(rows.exists, e, 0.0)

    (planes, R, box), to_atoms = jax.vjp(geometry, R, jnp.zeros((3, 3), R.dtype))
    site, pull = jax.vjp(energies, planes, R, box)
    to_edges = pull(jnp.ones_like(site))
    dR, dstrain = to_atoms(to_edges)
    r, G = jnp.stack(planes, axis=1), jnp.stack(to_edges[0], axis=1)
    pairs = -r[:, :, None] * G[:, None]  # -r_ij (x) dE_i/dr_ij
    return {
        "energy": jnp.sum(site),
        "atomic_energies": site,
        "forces": -dR,
        "virial": -dstrain,
        "atomic_virials": jnp.zeros((len(R), 3, 3), R.dtype).at[rows.neighbors].add(pairs.transpose(0, 3, 1, 2)),
        "centre_virials": pairs.sum(-1),
    }
