"""Symmetry functions against loops over neighbours and pairs of them, written from the formulas."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import Graph
from jaxmlp.basis.symmetry_functions import RADIAL, SymmetryFunction, symmetry_functions

SPECIES = (14, 6)
UNIT = 0.53  # Å
CUTOFFS = [
    SymmetryFunction(kind, elements, 8.0, eta=0.02, cutoff_type=t, alpha=0.2)
    for t in range(9)
    for kind, elements in ((2, (6,)), (9, (6, 14)))
]
EXPONENTIAL = [
    SymmetryFunction(2, (14,), 7.0, eta=0.1, shift=1.5, cutoff_type=2),
    SymmetryFunction(12, (), 7.0, eta=0.1, shift=1.5, cutoff_type=2),
    *(
        SymmetryFunction(kind, elements, 7.0, eta, shift, lambd, zeta, cutoff_type=6)
        for kind, elements in ((3, (6, 14)), (3, (6, 6)), (9, (14, 14)), (13, ()))
        for eta, shift, lambd, zeta in ((0.01, 0.0, -1.0, 1.0), (0.03, 0.5, 1.0, 5.0), (0.03, 0.5, -2.0, 2.5))
    ),
    SymmetryFunction(30, (6, 14), 7.0, 0.3, 3.0, zeta=6.0, angle=30.0, cosine_scale=0.95, cutoff_type=1, factor=0.5),
]
COMPACT = [
    SymmetryFunction(kind, () if kind > 22 else (6,) if kind == 20 else (6, 14), 8.0, left=left, core=core, **more)
    for kind, core, left in zip(range(20, 26), ("p1", "p2a", "p3", "p4a", "e", "p2"), (-8.0, 1.0, -2.0) * 2)
    for more in ([{}] if kind in RADIAL else [{"angles": (20.0, 150.0)}, {"angles": (-70.0, 70.0)}])
]
FUNCTIONS = tuple(CUTOFFS + EXPONENTIAL + COMPACT)


def environment(slots: int) -> Graph:
    """Two atoms with neighbours inside and outside the cutoff, and padded slots."""
    rng = np.random.default_rng(slots)
    u = rng.normal(size=(2, 3, slots))
    vectors = u / np.linalg.norm(u, axis=1, keepdims=True) * rng.uniform(1.2, 4.6, (2, 1, slots))
    mask = np.arange(slots) < np.array([[slots], [slots - 3]])
    vectors = np.where(mask[:, None], vectors, 9.0)
    theirs = np.where(mask, rng.integers(0, 2, (2, slots)), 0)
    planes = tuple(jnp.asarray(vectors[:, k]) for k in range(3))
    index = jnp.zeros((2, slots), jnp.int32)
    return Graph(
        jnp.zeros(2, jnp.int32), planes, index, jnp.asarray(theirs, jnp.int32), jnp.asarray(mask), jnp.zeros((2, 3)),
        None, ((4.3, slots),),
    )  # fmt: skip


def cutoff_function(f: SymmetryFunction, r: float) -> float:
    if r >= f.cutoff:
        return 0.0
    inner = 0.0 if f.cutoff_type in (0, 2, 3, 4) else f.alpha * f.cutoff
    x = max(0.0, (r - inner) / (f.cutoff - inner))
    return [
        lambda: 1.0,
        lambda: (np.cos(np.pi * x) + 1) / 2,
        lambda: np.tanh(1 - x) ** 3,
        lambda: np.tanh(1 - x) ** 3 / np.tanh(1) ** 3,
        lambda: np.exp(1 - 1 / (1 - x * x)),
        lambda: (2 * x - 3) * x**2 + 1,
        lambda: ((15 - 6 * x) * x - 10) * x**3 + 1,
        lambda: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
        lambda: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
    ][f.cutoff_type]()


def compact(t: float, low: float, high: float, core: str) -> float:
    x = abs(t - (low + high) / 2) / ((high - low) / 2)
    if x >= 1:
        return 0.0
    x = (2 - x) * x if core.endswith("a") else x
    kind = 4 if core[0] == "e" else 4 + int(core[1])
    return cutoff_function(SymmetryFunction(2, (6,), 1.0, cutoff_type=kind), x)


def radial(f: SymmetryFunction, r: float) -> float:
    if f.core:
        return compact(r, f.left, f.cutoff, f.core)
    return np.exp(-f.eta * (r - f.shift) ** 2) * cutoff_function(f, r)


def angular(f: SymmetryFunction, cosine: float) -> float:
    if f.core:
        return compact(np.degrees(np.arccos(cosine)), *f.angles, f.core.rstrip("a"))
    if f.kind == 30:
        return 2 ** (1 - f.zeta) * (1 + np.cos(np.arccos(f.cosine_scale * cosine) - np.radians(f.angle))) ** f.zeta
    return 2 ** (1 - f.zeta) * max(1 + f.lambd * cosine, 0.0) ** f.zeta


def value(f: SymmetryFunction, x: np.ndarray, Z: np.ndarray) -> float:
    r = np.linalg.norm(x, axis=1)
    if f.kind in RADIAL:
        return sum(
            (z if not f.elements else float(f.elements == (z,))) * radial(f, d) for z, d in zip(Z, r, strict=True)
        )
    total = 0.0
    for j, k in itertools.combinations(range(len(r)), 2):
        weight = Z[j] * Z[k] if not f.elements else float(f.elements == tuple(sorted((Z[j], Z[k]))))
        gap = np.linalg.norm(x[j] - x[k])
        if f.kind == 30:
            pair = (
                np.exp(-f.eta * ((r[j] + r[k]) / 2 - f.shift) ** 2)
                * cutoff_function(f, r[j])
                * cutoff_function(f, r[k])
            )
        else:
            pair = radial(f, r[j]) * radial(f, r[k]) * (radial(f, gap) if f.kind in (3, 13, 21, 24) else 1.0)
        total += weight * pair * angular(f, x[j] @ x[k] / (r[j] * r[k]))
    return f.factor * total


@pytest.mark.parametrize("slots", [7, 24])  # rows in one part, and in two
def test_every_type_and_cutoff(slots):
    graph = environment(slots)
    got = np.asarray(jax.jit(lambda g: symmetry_functions(FUNCTIONS, SPECIES, UNIT, g))(graph))
    vectors, numbers = np.asarray(graph.vectors), np.array(SPECIES)[np.asarray(graph.neighbor_species)]
    for i in range(2):
        here = np.asarray(graph.mask[i])
        x, Z = vectors[i].T[here] / UNIT, numbers[i][here]
        for k, f in enumerate(FUNCTIONS):
            # Rounding of a sum of 276 terms, of size up to 14^2 in weighted functions.
            np.testing.assert_allclose(got[i, k], value(f, x, Z), 1e-12, 1e-12, err_msg=str(f))


@pytest.mark.parametrize("cosine", [-1.0, 1.0])
@pytest.mark.parametrize("kind", [9, 30])
def test_second_derivatives_of_atoms_in_a_line(kind, cosine):
    """cos theta has a maximum or minimum there, where rounding may take it beyond 1: its curvature must not be lost."""
    elements, lambd = (6, 6), -cosine
    f = SymmetryFunction(kind, elements, 4.0, 0.1, lambd=lambd, angle=20.0, cosine_scale=0.95, cutoff_type=2)

    def total(x):
        d = jnp.stack([jnp.asarray([1.1, 0.7, 0.3]), x])
        index = jnp.zeros((1, 2), jnp.int32)
        graph = Graph(
            index[:, 0], tuple(d[None, :, k] for k in range(3)), index, index, index == 0, jnp.zeros((1, 3)), None,
            ((4.0, 2),),
        )  # fmt: skip
        return symmetry_functions((f,), (6,), 1.0, graph)[0, 0]

    line = cosine * 1.3 * np.array([1.1, 0.7, 0.3])
    hessian, slope = jax.jit(jax.hessian(total)), jax.jit(jax.grad(total))
    for x in (line, line * (1 + 1e-15), line * 0.9):
        numerical = np.stack([(slope(x + h) - slope(x - h)) / 2e-5 for h in 1e-5 * np.eye(3)])
        np.testing.assert_allclose(hessian(x), numerical, rtol=1e-6, atol=1e-8)  # h^2 and rounding / h


def test_what_is_no_function_is_refused():
    for wrong in ({"kind": 4}, {"elements": (6, 6)}, {"cutoff": -1.0}, {"left": 5.0}, {"alpha": 1.0}):
        with pytest.raises(ValueError, match="symmetry function"):
            SymmetryFunction(**{"kind": 2, "elements": (6,), "cutoff": 4.0} | wrong)
