"""Pairs, angles and clusters of GAP: energies and forces of quippy, and how often each instance counts."""

import json
from pathlib import Path

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.cutoffs import cosine_transition
from jaxmlp.basis.gap_clusters import Angle3b, Distance2b, DistanceNb
from jaxmlp.evaluate import full_graph
from jaxmlp.formats.gap_strings import descriptors
from jaxmlp.neighbors.search import NeighborSearch
from jaxmlp.potentials.pair import LennardJones

SPECIES = (1, 6, 8)
REFERENCE = json.loads((Path(__file__).parent / "gap_clusters.json").read_text())
CUTOFF = 3.0


def refuse(message):
    raise AssertionError(message)


def graphs(structure, slots=0):
    """Return a function that makes the graph of positions, and these positions."""
    atoms = ase.Atoms(structure["numbers"], structure["positions"], cell=structure["cell"], pbc=structure["pbc"])
    system = jm.System.from_ase(atoms)
    shells = (1.9, 2.0, 2.1, 2.2, 2.4, 2.6, CUTOFF)  # the clusters look at their own neighbours only
    search = NeighborSearch.allocate(system.R, system.box, system.pbc, shells, headroom=0.3 if slots else 0.0)
    neighbors = search(system.R, system.box)
    species = jnp.asarray([SPECIES.index(z) for z in structure["numbers"]], jnp.int32)
    base = LennardJones(SPECIES, CUTOFF)
    return lambda R: full_graph(base, R, system.box, species, neighbors), jnp.asarray(system.R)


def models():
    for m in REFERENCE["models"]:
        descriptor = descriptors(m["string"], 1686220958, Path(), refuse)[0][0]
        rows = tuple(tuple(q - 1 for q in row) for row in m["permutations"])
        if isinstance(descriptor, DistanceNb):
            assert set(descriptor.permutations) == set(rows)
            rows = descriptor.permutations
        covariance = Covariance({1: "ard_se", 4: "pp"}[m["type"]], permutations=rows if len(rows) > 1 else ())
        yield descriptor, covariance, [jnp.asarray(m[k]) for k in ("sparse", "theta", "delta", "f0", "alpha")]


def energy(descriptor, covariance, arrays, graph):
    x, weight = descriptor.instances(SPECIES, graph)
    assert x.shape == (*weight.shape, descriptor.dimensions)
    return jnp.sum(weight * covariance.predict(x, *arrays))


@pytest.mark.parametrize(("k", "order"), [(0, 1), (1, 0)])
def test_energies_and_forces_are_those_of_quippy(k, order):
    """16 kinds of descriptors in two small triclinic cells, where atoms see many images of themselves."""
    graph, R = graphs(REFERENCE["structures"][k])
    mix = np.cos(np.arange(len(REFERENCE["models"])) + 1.0)  # forces of a sum of all models, each with its factor

    def energies(R):
        g = graph(R)
        each = jnp.stack([energy(*m, g) for m in models()])
        return jnp.sum(jnp.asarray(mix) * each), each

    run = jax.grad(energies, has_aux=True) if order else energies
    gradient, each = jax.jit(run)(R)
    # 1e-12: rounding of sums of up to 1000 terms of order 1 eV; 1e-11 in forces, with slopes up to 100 per Å
    np.testing.assert_allclose(each, [m["energies"][k] for m in REFERENCE["models"]], rtol=0, atol=1e-12)
    if order:
        forces = sum(c * np.array(m["forces"][k]) for c, m in zip(mix, REFERENCE["models"], strict=True))
        np.testing.assert_allclose(-gradient, forces, rtol=0, atol=1e-11)


H3 = {"numbers": [1, 1, 1], "positions": [[0, 0, 0], [1.0, 0, 0], [0, 1.2, 0]], "cell": np.zeros((3, 3)), "pbc": False}


def test_how_often_each_instance_counts():
    """A molecule whose three bonds are shorter than the cutoffs, with f = 1: weights are counts."""
    graph, R = graphs(H3)
    g = graph(R)
    pairs, triangles = 3, 1
    counted = (
        (Distance2b(3.0, elements=(1, 1)), 2 * pairs),
        (Distance2b(3.0, elements=(0, 1)), 2 * pairs),
        (Distance2b(3.0, elements=(1, 8)), 0),
        (Angle3b(2.2, center=1, elements=(1, 1)), 2 * 3),
        (Angle3b(2.2, elements=(0, 1)), 2 * 3),
        (Angle3b(2.2, center=8, elements=(1, 1)), 0),
        (DistanceNb(2, 2.4), pairs),
        (DistanceNb(2, 2.4, compact_clusters=True), 2 * pairs),
        (DistanceNb(3, 2.1, elements=(1, 1, 1)), triangles),
        (DistanceNb(3, 2.1, compact_clusters=True), 3),
    )
    instances = jax.jit(lambda g: [d.instances(SPECIES, g) for d, _ in counted])(g)
    for (descriptor, count), (x, weight) in zip(counted, instances, strict=True):
        assert float(jnp.sum(weight)) == pytest.approx(count, abs=1e-12), descriptor
        assert np.isfinite(np.asarray(x)).all()


def test_padded_slots_change_nothing_and_stay_finite():
    structure = REFERENCE["structures"][1]
    tight, R = graphs(structure)
    wide, _ = graphs(structure, slots=1)
    assert wide(R).mask.shape[1] > tight(R).mask.shape[1]
    model = list(models())[10]
    values = [jax.jit(jax.value_and_grad(lambda R, g=g: energy(*model, g(R))))(R) for g in (tight, wide)]
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-12)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=0, atol=1e-12)


def test_the_transition_function():
    r = jnp.asarray([0.1, 2.0, 2.25, 2.5, 7.0])
    np.testing.assert_allclose(cosine_transition(r, 2.5, 0.5), [1, 1, 0.5, 0, 0], atol=1e-15)
    third = jax.vmap(jax.grad(jax.grad(jax.grad(lambda x: cosine_transition(x, 2.5, 0.5)))))(r)
    assert np.isfinite(third).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Distance2b(-1.0), "positive"),
        (lambda: Distance2b(3.0, elements=(1,)), "2 atomic numbers"),
        (lambda: Distance2b(3.0, exponents=(1.5,)), "integers"),
        (lambda: Distance2b(3.0, tail_range=0.0), "tail_range"),
        (lambda: Angle3b(3.0, cutoff_transition_width=0.0), "cutoff_transition_width"),
        (lambda: Angle3b(3.0, center=-1), "center"),
        (lambda: DistanceNb(1, 3.0), "from 2 to 6"),
        (lambda: DistanceNb(4, 3.0), "compact_clusters=True"),
        (lambda: DistanceNb(3, 3.0, elements=(0, 1, 1)), "all given or all 0"),
        (lambda: DistanceNb(3, 3.0, elements=(8, 1, 1), compact_clusters=True), "depends on how"),
    ],
)
def test_what_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
