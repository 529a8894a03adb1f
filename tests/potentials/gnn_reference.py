"""Reference cases of graph networks as padded graphs with the slots of reversed edges; see `nep_reference`."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from nep_reference import Case, Rows, graph, padded

FAR = 200.0  # Å, the length of a box that stands for none


def read_cases(path: Path, species: tuple[int, ...]) -> list[Case]:
    """Return the cases of a cases.npz, with species as indices into `species`; free directions get a long box."""
    with np.load(path) as z:
        out = []
        for name in map(str, z["names"]):
            data = {key.split("/")[1]: z[key] for key in z.files if key.startswith(f"{name}/")}
            box, pbc = np.array(data["cell"]), data["pbc"]
            if not pbc.all():
                box = np.where(pbc[:, None], box, 0.0)
                normals = np.linalg.svd(box)[2][int(pbc.sum()) :]  # what the periodic directions leave
                box[~pbc] = FAR * normals
            index = np.array([species.index(number) for number in data["numbers"]])
            out.append(Case(name, data["positions"], box, index, data))
    return out


def reverse_slots(rows: Rows) -> Array:
    """Return the slot of each edge in the neighbour's row, (n, M); -1 in padded slots."""
    neighbors, shift, mask = (np.asarray(x) for x in (rows.neighbors, rows.shift, rows.mask))
    shift = shift.astype(int)
    place = {(i, neighbors[i, m], *shift[i, :, m]): m for i, m in zip(*np.nonzero(mask))}
    back = np.full(mask.shape, -1, np.int32)
    for i, m in zip(*np.nonzero(mask)):
        back[i, m] = place[(neighbors[i, m], i, *-shift[i, :, m])]
    return jnp.asarray(back)


def evaluate(potential, params, R: Array, box: Array, rows: Rows, back: Array, radii) -> dict[str, Array]:
    """Return energy, atomic energies, forces and virial."""

    def total(R, strain):
        deform = jnp.eye(3, dtype=R.dtype) + strain
        e = potential.site_energies(params, replace(graph(R @ deform, box @ deform, rows, radii), back=back))
        e = jnp.where(rows.exists, e, 0.0)
        return jnp.sum(e), e

    (dR, dstrain), site = jax.grad(total, (0, 1), has_aux=True)(R, jnp.zeros((3, 3), R.dtype))
    return {"energy": jnp.sum(site), "atomic_energies": site, "forces": -dR, "virial": -(dstrain + dstrain.T) / 2}


def compare(potential, params, path: Path, tolerance: float = 1e-8) -> dict[str, float]:
    """Hold every structure of a cases.npz against the potential; return the largest errors, relative to the scale."""
    run = jax.jit(evaluate, static_argnums=(0, 6))
    worst: dict[str, float] = {}
    for case, R, rows, radii in padded(read_cases(path, potential.species), potential.shells):
        out = run(potential, params, R, jnp.asarray(case.box), rows, reverse_slots(rows), radii)
        for key in ("energy", "atomic_energies", "forces", "virial"):
            found = np.asarray(out[key])
            found = found[: len(case.R)] if key in ("atomic_energies", "forces") else found
            expected = np.asarray(case.expected[key])
            scale = max(np.abs(expected).max(), 1e-3)
            np.testing.assert_allclose(found, expected, 0, tolerance * scale, err_msg=f"{key} of {case.name}")
            worst[key] = max(worst.get(key, 0.0), float(np.abs(found - expected).max() / scale))
    return worst


def assert_same(found, expected) -> None:
    """Two results of `load` are the same potential and the same parameters, to the bit."""
    (a, p), (b, q) = found, expected
    assert a == b
    assert jax.tree.structure(p) == jax.tree.structure(q)
    for x, y in zip(jax.tree.leaves(p), jax.tree.leaves(q), strict=True):
        np.testing.assert_array_equal(x, y)
