"""Batches: every structure in a batch has the energies, forces and virials that it has alone, and so do derivatives."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture import POTENTIAL, SPECIES, TRUE, labelled, systems

import jaxmlp as jm
from jaxmlp.evaluate import Execution
from jaxmlp.fitting import Loader, Loss, collate, predict
from jaxmlp.fitting.batches.batch import Shape, kinds_of, shape_of
from jaxmlp.fitting.batches.neighborhoods import neighborhood
from jaxmlp.fitting.batches.predictions import check, plain
from jaxmlp.fitting.training.loss import errors
from jaxmlp.potentials.bonded import HarmonicBond
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.painn import PaiNN

NETWORKS = {
    "local": NEP(SPECIES, (5.0, 5.0), (4.0, 4.0), (2, 2), (3, 3), 2, (), 4),
    "message passing": PaiNN(SPECIES, 4.0, n_features=4, n_interactions=2, n_radial=4, hidden=(4,)),
}


@pytest.fixture(scope="module")
def structures():
    return labelled(systems())


def together(structures, potential, more: Shape | None = None, dtype=np.float64):
    hoods = [neighborhood(s.system, potential.species, potential.shells) for s in structures]
    shape = shape_of(hoods, structures)
    if more is not None:
        slots = tuple(a + b for a, b in zip(shape.slots, more.slots * len(shape.slots)))
        shape = Shape(*(a + b for a, b in zip(shape[:3], more[:3])), slots, shape.directions)
    batch = collate(structures, hoods, shape, potential.shells, kinds_of(structures), dtype)
    return jax.tree.map(jnp.asarray, batch)


def of_each(potential, params, structures):
    """Energies, forces and virials of every structure, evaluated alone."""
    found = []
    for s in structures:
        box = None if s.system.box is None else jnp.asarray(s.system.box)
        found.append(jm.evaluate_fn(potential, s.system)(jnp.asarray(s.system.R), box, params))
    return np.array([f.energy for f in found]), np.concatenate([f.forces for f in found]), [f.virial for f in found]


def test_a_batch_gives_what_each_structure_gives_alone(structures):
    batch = together(structures, POTENTIAL)
    found = jax.jit(lambda p, b: predict(POTENTIAL, p, b, virial=True))(TRUE, batch)
    np.testing.assert_allclose(found.energy, batch.labels["energy"], rtol=1e-11)
    np.testing.assert_allclose(found.forces, batch.labels["forces"], atol=1e-12)
    np.testing.assert_allclose(found.virial, batch.labels["virial"], atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_batches_padded_or_not(structures, name):
    potential = NETWORKS[name]
    params = potential.init(jax.random.key(1), float)
    structures = structures[1:4]
    energies, forces, virials = of_each(potential, params, structures)
    for more in (None, Shape(5, 7, 2, (4,))):
        batch = together(structures, potential, more)
        found = jax.jit(lambda p, b: predict(potential, p, b, virial=True))(params, batch)
        n, b = sum(map(len, structures)), len(structures)
        scale = np.abs(forces).max()
        np.testing.assert_allclose(found.energy[:b], energies, rtol=1e-11)
        np.testing.assert_allclose(found.forces[:n], forces, atol=1e-11 * scale)
        np.testing.assert_allclose(found.virial[:b], virials, atol=1e-10 * scale)
        np.testing.assert_array_equal(found.energy[b:], 0)
        np.testing.assert_array_equal(found.forces[n:], 0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kinds", [("energy",), ("energy", "forces", "virial")], ids=" ".join)
def test_the_gradient_in_one_pass_is_that_of_jax(structures, name, kinds):
    """Of a loss with all labels, by the forward derivative of `predict` and by the reverse one through `evaluate`."""
    potential = NETWORKS[name]
    params = potential.init(jax.random.key(2), float)
    batch = together(structures, potential, Shape(5, 7, 2, (4,)))
    loss = Loss(1.0, 2.0, 0.5)

    def total(sums):
        return sum(jnp.sum(x) for x, _ in sums.values())

    def simple(params):
        found = plain(potential, params, batch, virial=True, execution=Execution(block=8))
        return total(loss.sums(found, None, batch, kinds))

    fast = jax.jit(jax.grad(lambda p: total(errors(loss, potential, p, batch, kinds, execution=Execution(block=8)))))
    ours, theirs = fast(params), jax.jit(jax.grad(simple))(params)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * np.abs(b).max())


def test_missing_labels_count_nothing(structures):
    bare = [s.replace(forces=None) if k % 2 else s.replace(energy=None) for k, s in enumerate(structures)]
    batch = together(bare, POTENTIAL)
    sums = errors(Loss(), POTENTIAL, jax.tree.map(lambda x: 1.1 * x, TRUE), batch, ("energy", "forces"))
    for k in range(len(bare)):
        assert (sums["energy"][0][k] > 0) == (k % 2 == 1) == (sums["energy"][1][k] > 0)
        assert (sums["forces"][0][k] > 0) == (k % 2 == 0) == (sums["forces"][1][k] > 0)


def test_second_derivatives_are_labels_too(structures):
    rng = np.random.default_rng(0)
    some = []
    for s in structures[2:4]:
        v = rng.normal(size=(2, len(s), 3))
        box = None if s.system.box is None else jnp.asarray(s.system.box)
        H = jax.jit(jm.hessian(jm.energy_fn(POTENTIAL, s.system)))(jnp.asarray(s.system.R), box, TRUE)
        H = np.asarray(H).reshape(3 * len(s), 3 * len(s))
        some.append(s.replace(hessian=(v, (v.reshape(2, -1) @ H).reshape(v.shape))))
    batch = together(some, POTENTIAL, Shape(3, 2, 1, (4,)))
    sums = errors(Loss(hessian=1.0), POTENTIAL, TRUE, batch, ("hessian",))["hessian"]
    np.testing.assert_allclose(sums[0], 0, atol=1e-18)
    off = jax.tree.map(lambda x: 1.01 * x, TRUE)
    value = lambda p: jnp.sum(errors(Loss(hessian=1.0), POTENTIAL, p, batch, ("hessian",))["hessian"][0])
    slope = jax.grad(value)(off)
    h = 1e-5
    moved = [value(off | {"sigma": off["sigma"].at[0, 0].add(s * h)}) for s in (1, -1)]
    np.testing.assert_allclose(slope["sigma"][0, 0], (moved[0] - moved[1]) / (2 * h), rtol=1e-6)


def test_an_epoch_has_every_structure_once_and_few_shapes():
    many = labelled(systems(23, seed=5))
    loader = Loader(many, POTENTIAL, 4)
    seen = [batch for batch in loader.epoch(seed=3)]
    ids = np.concatenate([b.ids[b.ids >= 0] for b in seen])
    assert sorted(ids.tolist()) == list(range(23))
    assert len({b.R.shape + b.neighbors.index.shape for b in seen}) == len(loader.shapes) <= 4
    again = np.concatenate([b.ids[b.ids >= 0] for b in loader.epoch(seed=3)])
    other = np.concatenate([b.ids[b.ids >= 0] for b in loader.epoch(seed=4)])
    assert np.array_equal(ids, again)
    assert not np.array_equal(ids, other)
    for batch in seen:
        for k, i in enumerate(batch.ids[batch.ids >= 0]):
            np.testing.assert_array_equal(batch.R[batch.structure == k], many[i].system.R)
            assert (batch.labels["energy"][k], batch.counts[k]) == (many[i].energy, len(many[i]))


def test_energies_of_atoms_are_subtracted():
    many = labelled(systems(5))
    energies = np.array([-3.0, 7.0])
    (batch,) = Loader(many, POTENTIAL, 8, energies=energies, buckets=1).epoch()
    for k, i in enumerate(batch.ids[batch.ids >= 0]):
        atoms = sum(energies[SPECIES.index(z)] for z in many[i].system.numbers)
        np.testing.assert_allclose(batch.labels["energy"][k], many[i].energy - atoms, rtol=1e-12)


def test_what_does_not_fit_is_named(structures):
    hoods = [neighborhood(s.system, SPECIES, (6.0,)) for s in structures]
    with pytest.raises(ValueError, match="do not fit into a batch"):
        collate(structures, hoods, shape_of(hoods)._replace(atoms=3), (6.0,), ())
    with pytest.raises(ValueError, match=r"toy 0: this potential knows .*Ar"):
        Loader(structures, replace(POTENTIAL, species=(10,)), 2)
    with pytest.raises(ValueError, match="at least one structure"):
        Loader([], POTENTIAL)
    with pytest.raises(ValueError, match="HarmonicBond depends on atoms by their numbers"):
        check(POTENTIAL + HarmonicBond(SPECIES, ((0, 1),)))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "cutoff", "atoms"), [("inp_snap2020", 5.0, 0.05), ("mlearn_Si", 4.9, 0.12)])
def test_little_is_wasted_on_mixed_sets(shared, name, cutoff, atoms):
    """Of places for atoms, and of slots for neighbours, in batches of 8 structures of 4 to 217 and 1 to 64 atoms."""
    from jaxmlp.fitting import read_structures

    structures = read_structures(shared / "data" / name / "train.xyz.gz")[:600]
    species = tuple(sorted({z for s in structures for z in s.system.species}))
    loader = Loader(structures, LennardJones_like(species, cutoff), 8, kinds=())
    places = sum(loader.shapes[b].atoms for b, _ in loader.plan(0))
    assert 1 - sum(map(len, structures)) / places < atoms
    assert loader.waste < 0.2


def LennardJones_like(species, cutoff):
    return replace(POTENTIAL, species=species, cutoff=cutoff)
