"""What families say of themselves to a fit: constants, energies of atoms, statistics of the training set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixture import SPECIES, labelled, systems

from jaxmlp.fitting import FAMILIES, Survey, Trainable, build, names, predict_structures
from jaxmlp.fitting.training.trainable import matches
from jaxmlp.neighbors.grid import edges
from jaxmlp.potentials.deepmd import statistics

SMALL = {
    "nep": {"cutoff": (5.0, 4.0), "n_max": (2, 2), "basis_size": (3, 3), "l_max": (2,), "neurons": 4, "version": 5},
    "mtp": {"cutoff": 5.0, "inner": 2.0, "radial_size": 4, "level": 4},
    "snap": {"rcutfac": 4.5, "twojmax": 2},
    "ace": {"cutoff": 4.5, "n_max": (4, 2), "l_max": (0, 1)},
    "gap": {"cutoff": 4.5, "n_max": 2, "l_max": 2, "n_sparse": 3, "n_sparse_pairs": 2},
    "bpnn": {"cutoff": 4.5, "n_radial": 3, "n_angular": 1, "nodes": (4,)},
    "dp": {"cutoff": 4.5, "sel": (40, 40), "neuron": (2, 4), "axis": 2, "nodes": (4,)},
    "schnet": {"cutoff": 4.5, "n_features": 4, "n_interactions": 1, "n_radial": 4, "hidden": (4,)},
    "painn": {"cutoff": 4.5, "n_features": 4, "n_interactions": 1, "n_radial": 4, "hidden": (4,)},
    "dimenet": {"cutoff": 4.5, "n_features": 4, "n_blocks": 1, "n_interaction": 4, "n_output": 4},
    "egnn": {"cutoff": 4.5},
    "nequip": {"cutoff": 4.5},
    "allegro": {"cutoff": 4.5},
    "mace": {"cutoff": 4.5, "hidden": "4x0e", "max_ell": 1, "correlation": (2, 2), "radial_mlp": (4,)},
}
DATA = labelled(systems(4))
EVALUATED = ("nep", "mtp", "snap", "bpnn", "painn", "mace")


@pytest.fixture(scope="module")
def survey():
    return Survey(DATA)


def start(family):
    potential = build(family, SPECIES, **SMALL[family])
    return potential, potential.init(jax.random.key(0), float)


@pytest.mark.parametrize("family", FAMILIES)
def test_energies_of_atoms_have_a_place_and_are_not_trained(family):
    potential, params = start(family)
    trained = Trainable.of(potential, params)
    every = dict(zip(names(params), trained.chosen, strict=True))
    assert any(every.values())
    moved = potential.shifted(params, np.array([1.0, 10.0]))
    changed = {
        name: np.asarray(b) - np.asarray(a)
        for name, a, b in zip(every, jax.tree.leaves(params), jax.tree.leaves(moved), strict=True)
        if not np.array_equal(a, b)
    }
    assert len(changed) == 1
    for name in every:
        assert not (every[name] and matches(name, potential.constants))


@pytest.mark.parametrize("family", EVALUATED)
def test_energies_of_atoms_are_added_to_every_atom(family):
    potential, params = start(family)
    before = predict_structures(potential, params, DATA[:2], forces=False).energy
    after = predict_structures(potential, potential.shifted(params, [-2.0, 5.0]), DATA[:2], forces=False).energy
    added = [sum({10: -2.0, 18: 5.0}[z] for z in s.system.numbers) for s in DATA[:2]]
    np.testing.assert_allclose(after - before, added, rtol=1e-9)


def test_nep_of_version_4_takes_equal_energies_only():
    potential = build("nep", SPECIES, **SMALL["nep"] | {"version": 4})
    params = potential.init(jax.random.key(0), float)
    assert float(potential.shifted(params, [3.0, 3.0])["b1"]) == -3.0
    with pytest.raises(ValueError, match="one bias for all species"):
        potential.shifted(params, [3.0, 4.0])


def test_a_nep_sees_descriptors_of_range_one(survey):
    potential, params = start("nep")
    potential, params = potential.adapted(params, survey)
    q, _ = survey.per_atom(potential, params, "descriptors")
    np.testing.assert_allclose(np.ptp(q, axis=0), 1.0, rtol=1e-9)


def test_a_network_of_symmetry_functions_sees_inputs_between_0_and_1(survey):
    potential, params = start("bpnn")
    potential, params = potential.adapted(params, survey)
    G, species = survey.per_atom(potential, params, "descriptors")
    assert -1e-12 <= G.min() <= G.max() <= 1 + 1e-12
    assert np.isfinite(G).all()
    assert set(species) == {0, 1}


def test_graph_networks_know_neighbours_and_forces(survey):
    rms = np.sqrt(np.mean(np.concatenate([s.forces for s in DATA]) ** 2))
    count = sum(len(edges(s.system.R, s.system.box, s.system.pbc, 4.5)[0]) for s in DATA) / sum(map(len, DATA))
    potential, params = start("mace")
    potential, params = potential.adapted(params, survey)
    np.testing.assert_allclose([potential.avg_num_neighbors, params["scale"]], [count, rms], rtol=1e-12)
    for family in ("nequip", "allegro"):
        potential, params = start(family)
        potential, params = potential.adapted(params, survey)
        np.testing.assert_allclose(potential.neighbors, [count], rtol=1e-12)
        np.testing.assert_allclose(params["scale"], [rms, rms], rtol=1e-12)


def test_a_deep_potential_takes_its_statistics_from_the_data(survey):
    potential, params = start("dp")
    _, adapted = potential.adapted(params, survey)
    one = statistics(potential, params, [s.system for s in DATA[:1]])
    _, same = potential.adapted(params, Survey(DATA[:1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), same, one)
    assert float(jnp.max(jnp.abs(adapted["parts"][0]["davg"] - one["parts"][0]["davg"]))) > 0


def test_a_sum_adapts_and_shifts_its_members(survey):
    a, p = start("mtp")
    b, q = start("mace")
    both, params = (a + b).adapted((p, q), survey)
    assert both.members[1].avg_num_neighbors > 1
    assert matches("1/E0", both.constants)
    moved = both.shifted(params, [1.0, 2.0])
    np.testing.assert_allclose(moved[0]["species_coeffs"] - p["species_coeffs"], [1.0, 2.0])
