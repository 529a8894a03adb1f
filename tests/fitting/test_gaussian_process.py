"""Fits of GAPs against textbook Gaussian processes of sums and derivatives, and against themselves."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag

import jaxmlp as jm
from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.gap_clusters import Angle3b, Distance2b
from jaxmlp.basis.soap import SOAP
from jaxmlp.fitting.accuracy import predict_structures
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.data.structure import Structure
from jaxmlp.fitting.gap.gaussian_process import fit_gap, sparse_covariances
from jaxmlp.fitting.gap.points import energy_spread, instances, select_sparse
from jaxmlp.fitting.gap.rows import kernel_columns
from jaxmlp.fitting.gap.sparse_gpr import dense_gpr
from jaxmlp.potentials.gap import GAP, GAPTerm
from jaxmlp.system import System

CUTOFF = 4.0
BOX = np.array([[4.6, 0.1, 0], [0.4, 4.8, 0.2], [0, 0.3, 5.0]])
SIGMAS = {"sigma_energy": 0.02, "sigma_forces": 0.05, "sigma_virial": 0.1}


def soap(zeta, m, species=(14,), center=14, n_max=2, l_max=1, width=0.6):
    return GAPTerm(SOAP(species, CUTOFF, n_max, l_max, width, 1.0), Covariance("dot_product", zeta), m, center)


PAIRS = GAPTerm(Distance2b(CUTOFF, 1.0, (14, 14)), Covariance("ard_se"), 5)
MIXED = GAP(
    (14, 8),
    (
        GAPTerm(Distance2b(CUTOFF, 1.0, (14, 8)), Covariance("ard_se"), 4),
        soap(2.0, 5, (14, 8), 8),
        GAPTerm(Angle3b(3.2, 0.7, 14, (14, 8)), Covariance("ard_se"), 6),
        soap(3.0, 6, (14, 8), 14),
    ),
)


def clusters(n, species=(14,), seed=0, sizes=(2, 3, 4), box=None):
    """Small clusters, or crystals that see their own images, with energies and forces of chance."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        size = sizes[k % len(sizes)]
        R = np.array([[0.0, 0, 0], [2.3, 0, 0], [0, 2.4, 0], [0, 0.3, 2.5], [2.2, 2.3, 0.2]])[:size]
        system = System(np.resize(species, size), R + 0.3 * rng.uniform(-1, 1, R.shape), box)
        virial = rng.normal(size=(3, 3)) if box is not None else None
        out.append(
            Structure(
                system, float(rng.normal()), rng.normal(size=(size, 3)),
                None if virial is None else virial + virial.T, group="abc"[k % 3],
            )
        )  # fmt: skip
    return out


def bare(structures, *kinds):
    """Structures with some of the labels only."""
    drop = {kind: None for kind in ("energy", "forces", "virial") if kind not in kinds}
    return [s.replace(**drop) for s in structures]


def start(potential, seed=1):
    return potential.init(jax.random.key(seed))


def kernel(term, p, a, b):
    delta = float(p["delta"])
    if term.covariance.kind == "dot_product":
        return delta**2 * (a @ b.T) ** term.covariance.zeta
    return delta**2 * jnp.exp(-0.5 * jnp.sum(((a[:, None] - b) / p["theta"]) ** 2, axis=2))


def definition(term, system):
    """The function of R that returns x (I, d) and weights (I,) of all instances of a cluster of one element."""
    if isinstance(term.descriptor, SOAP):
        vectors = jm.descriptor_fn(term.descriptor, system)
        return lambda R: (vectors(R, None), jnp.ones(len(R)))
    i, j = np.nonzero(~np.eye(len(system), dtype=bool))

    def pairs(R):
        r = jnp.linalg.norm(R[i] - R[j], axis=1)
        return r[:, None], 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(r - CUTOFF + 1, 0.0, 1.0)))

    return pairs


def textbook(potential, params, structures, others):
    """Prior covariance of energies and forces of clusters of one size with those of others, by differentiation of k.

    What is differentiated by the positions of one cluster and then of the other knows of x(R) only to first order.
    """
    functions = [definition(term, structures[0].system) for term in potential.processes]
    of = lambda R: [function(R) for function in functions]
    around = jax.jit(lambda R: (of(R), jax.jacfwd(of)(R)))

    def energies(s, t, a, b):  # of displacements a and b
        def at(found, step):
            values, slopes = found
            return jax.tree.map(lambda x, dx: x + jnp.tensordot(dx, step, 2), values, slopes)

        terms = zip(potential.processes, params["processes"], at(s, a), at(t, b), strict=True)
        return sum(v @ kernel(term, p, x, y) @ w for term, p, (x, v), (y, w) in terms)

    @jax.jit
    def block(s, t):  # rows and columns: energy, then forces
        zero = jnp.zeros_like(structures[0].system.R)
        n, e = zero.size, lambda a, b: energies(s, t, a, b)
        top = jnp.append(e(zero, zero), -jax.grad(e, 1)(zero, zero))
        left = -jax.grad(e)(zero, zero).reshape(n, 1)
        return jnp.vstack([top, jnp.hstack([left, jax.jacfwd(jax.grad(e), 1)(zero, zero).reshape(n, n)])])

    rows, columns = ([around(jnp.asarray(s.system.R)) for s in many] for many in (structures, others))
    kept = slice(None if structures[0].forces is not None else 1)
    return np.block([[np.asarray(block(s, t))[kept, kept] for t in columns] for s in rows])


def data_of(structures):
    """y and sigma in the order of `textbook`."""
    y, sigma = [], []
    for s in structures:
        y.append([s.energy])
        sigma.append([SIGMAS["sigma_energy"] * len(s) ** 0.5])
        if s.forces is not None:
            y.append(s.forces.ravel())
            sigma.append(np.full(3 * len(s), SIGMAS["sigma_forces"]))
    return np.concatenate(y), np.concatenate(sigma)


def fitted(potential, params, structures, **options):
    return fit_gap(potential, params, structures, energies=[0.0] * len(potential.species), **SIGMAS, **options)


def test_with_every_neighbourhood_sparse_energies_give_the_dense_process():
    """Energies are sums of values of the process at the sparse points: nothing is approximated."""
    train, new = bare(clusters(4, sizes=(3,)), "energy"), bare(clusters(3, seed=5, sizes=(3,)), "energy")
    potential = GAP((14,), (replace(PAIRS, n_sparse=12), soap(20.0, 12, n_max=4, l_max=2, width=0.3)))
    params = select_sparse(
        potential, start(potential), train, method="random", clusters="random", delta=0.8, theta=0.05
    )
    fit = fitted(potential, params, train, method=None, jitter=0)
    y, sigma = data_of(train)
    dense = dense_gpr(textbook(potential, params, train, train), y, sigma)
    found = predict_structures(potential, fit.params, new, forces=False).energy
    expected = dense.predict(textbook(potential, params, new, train))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(fit.posterior.fit.log_evidence, dense.log_evidence, rtol=1e-8)


@pytest.mark.parametrize(("zeta", "points"), [(1.0, 6), (2.0, 21)])
def test_a_kernel_of_finite_rank_gives_the_dense_process_of_energies_and_forces(zeta, points):
    """Six components and zeta 2 make 21 features: as many sparse points span the process, and its derivatives."""
    potential = GAP((14,), (soap(zeta, points),))
    train, new = clusters(8, sizes=(3,)), clusters(3, seed=5, sizes=(3,))
    params = start(potential)
    sparse = np.random.default_rng(2).normal(size=(points, 7)) * [1, 1, 1, 1, 1, 1, 0]  # covariance_sigma0 is last
    params["processes"][0]["sparse"] = jnp.asarray(sparse / np.linalg.norm(sparse, axis=1, keepdims=True))
    fit = fitted(potential, params, train, method=None, jitter=0)
    y, sigma = data_of(train)
    dense = dense_gpr(textbook(potential, params, train, train), y, sigma)
    expected = dense.predict(textbook(potential, params, new, train))
    out = predict_structures(potential, fit.params, new)
    found = np.concatenate([np.append(e, F.ravel()) for e, F in zip(out.energy, out.forces, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


def test_with_few_points_it_is_the_textbook_sparse_process():
    """Least squares of [Lambda^(-1/2) K_NM, L^T] by its definition."""
    potential = GAP((14,), (PAIRS, soap(3.0, 4)))
    train = clusters(5, sizes=(3,))
    fit = fitted(potential, start(potential), train, delta=(0.3, 0.9), theta=0.7, clusters="farthest", jitter=0)

    functions = [definition(term, train[0].system) for term in potential.processes]

    def columns(R):
        found = zip(potential.processes, fit.params["processes"], functions, strict=True)
        parts = [(term, p, *function(R)) for term, p, function in found]
        return jnp.concatenate([w @ kernel(term, p, x, p["sparse"]) for term, p, x, w in parts])

    of = jax.jit(lambda R: (columns(R), jax.jacfwd(columns)(R)))
    K = []
    for s in train:
        energy, slope = of(s.system.R)
        K += [energy[None], -slope.reshape(9, -1).T]
    y, sigma = data_of(train)
    A = np.concatenate(K) / sigma[:, None]
    L = np.linalg.cholesky(block_diag(*sparse_covariances(potential, fit.params)))
    expected = np.linalg.lstsq(np.vstack([A, L.T]), np.append(y / sigma, np.zeros(9)))[0]
    found = np.concatenate([p["alpha"] for p in fit.params["processes"]])
    np.testing.assert_allclose(A @ found, A @ expected, rtol=1e-8, atol=1e-9 * np.abs(A @ expected).max())
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # K_MM's condition number is 1e9


def test_columns_times_weights_are_predictions():
    """All kinds of processes, two elements, atoms that see images of themselves, padding."""
    structures = clusters(2, (14, 8), box=BOX, sizes=(5, 4))
    params = start(MIXED)
    for p in params["processes"]:
        p["cutoff"] = jnp.linspace(0.5, 1.2, len(p["alpha"]))
    loader = Loader(structures, MIXED, 2, buckets=1)
    batch = next(loader.epoch())
    columns = jax.jit(lambda p, b: kernel_columns(MIXED, p, b)[:3])(params, batch)
    assert [x.shape[-1] for x in columns] == [21, 21, 21]
    alpha = np.concatenate([p["alpha"] for p in params["processes"]])
    found = [np.asarray(x @ alpha) for x in columns]
    out = predict_structures(MIXED, params | {"e0": jnp.zeros(2)}, structures, virial=True)
    np.testing.assert_allclose(found[0], out.energy, rtol=1e-10)
    for k in range(2):
        mine = np.asarray(batch.structure) == k
        np.testing.assert_allclose(found[1][mine], out.forces[k], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found[2][k], out.virial[k], rtol=1e-9, atol=1e-11)


def test_products_of_matrices_are_what_an_evaluation_for_each_column_gives():
    potential = GAP((14, 8), (soap(2.5, 5, (14, 8), 8, l_max=2),))
    params, structures = start(potential), clusters(1, (14, 8), box=BOX, sizes=(5,))
    batch = next(Loader(structures, potential, 1).epoch())
    run = lambda fast: jax.jit(lambda p, b: kernel_columns(potential, p, b, fast=fast))(params, batch)
    for a, b in zip(run(True)[:3], run(False)[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12 * np.abs(b).max())


def test_a_known_potential_is_found_again():
    potential = GAP((14, 8), (MIXED.processes[0], MIXED.processes[3]))
    structures = clusters(8, (14, 8), box=BOX, sizes=(5,))
    params = select_sparse(potential, start(potential), structures, method="farthest", delta=1.0)
    rng = np.random.default_rng(3)
    processes = tuple(p | {"alpha": jnp.asarray(rng.normal(size=len(p["alpha"])))} for p in params["processes"])
    truth = {"e0": jnp.array([-3.0, -7.0]), "processes": processes}
    own = predict_structures(potential, truth, structures, virial=True)
    labelled = [
        s.replace(energy=e, forces=F, virial=W)
        for s, e, F, W in zip(structures, own.energy, own.forces, own.virial, strict=True)
    ]
    small = {"sigma_energy": 1e-7, "sigma_forces": 1e-7, "sigma_virial": 1e-7}
    ready = potential.factorise(truth)
    fit = fit_gap(potential, ready, labelled[:6], batch_size=2, method=None, energies=[-3.0, -7.0], jitter=0.0, **small)
    out = predict_structures(potential, fit.params, labelled, virial=True)
    np.testing.assert_allclose(out.energy, own.energy, rtol=1e-7)
    np.testing.assert_allclose(np.concatenate(out.forces), np.concatenate(own.forces), atol=1e-5)
    np.testing.assert_allclose(fit.params["e0"], [-3, -7])
    assert not any("factor" in p for p in fit.params["processes"])  # of other data
    assert all(np.isfinite(p["factor"]).all() for p in potential.factorise(fit.params)["processes"])


def test_sigmas_follow_groups_atoms_and_weights():
    """Three ways to say the same: sigmas of a group, the default, and weights; energies go with sqrt(N)."""
    potential = GAP((14,), (soap(2.0, 4),))
    data = clusters(6)
    params = select_sparse(potential, start(potential), data, delta=1.0)
    alpha = lambda structures, **options: fit_gap(
        potential, params, structures, energies=[0.0], method=None, **options
    ).params["processes"][0]["alpha"]
    one = alpha(data, groups={g: (0.02, 0.3, 0.1) for g in "abc"})
    np.testing.assert_allclose(one, alpha(data, sigma_energy=0.02, sigma_forces=0.3), rtol=1e-9)
    heavy = [s.replace(weight=4.0) for s in data]
    np.testing.assert_allclose(one, alpha(heavy, sigma_energy=0.04, sigma_forces=0.6), rtol=1e-9)
    assert not np.allclose(one, alpha(data, sigma_energy=0.02, sigma_forces=0.3, groups={"a": (1.0, 1.0, 1.0)}))


def test_sigmas_of_energies_and_virials_go_with_the_root_of_the_number_of_atoms():
    potential = GAP((14,), (soap(2.0, 4),))
    one = clusters(1, box=BOX, sizes=(4,))[0]
    fit = fitted(potential, start(potential), [one], method=None)
    six = one.virial[np.triu_indices(3)]  # each component once
    expected = one.energy**2 / (4 * 0.02**2) + np.sum(one.forces**2) / 0.05**2 + np.sum(six**2) / (4 * 0.1**2)
    np.testing.assert_allclose(fit.factor.total, expected, rtol=1e-12)
    assert fit.factor.rows == 1 + 12 + 6


def test_committees_scatter_as_the_posterior_says():
    potential = GAP((14,), (soap(2.0, 5),))
    data = clusters(6)
    fit = fitted(potential, start(potential), data, delta=0.5)
    members = fit.committee(jax.random.key(0), 400)
    one = data[1]
    energy = jax.jit(jax.vmap(lambda p: jm.energy_fn(potential, one.system)(one.system.R, None, p)))
    found = np.asarray(energy(jax.tree.map(lambda *x: jnp.stack(x), *members)))
    batch = next(Loader([one], potential, 1).epoch())
    K = np.asarray(kernel_columns(potential, fit.params, batch, forces=False, virial=False).energy)
    variance = fit.posterior.variance(K)[0]
    # A sample variance of n normal draws has the relative standard error sqrt(2 / n): 0.07.
    assert abs(np.var(found) / variance - 1) < 4 * np.sqrt(2 / 400)
    assert abs(found.mean() - fit.posterior.predict(K)[0]) < 4 * np.sqrt(variance / 400)


@pytest.mark.parametrize("method", ["cur", "farthest", "random", "grid"])
def test_sparse_points_are_different_instances(method):
    data = clusters(9)
    data += data[:3]  # the same again
    potential = GAP((14,), (PAIRS, soap(2.0, 8)))
    params = select_sparse(potential, start(potential), data, method=method, clusters=method, seed=4)
    for term, p in zip(potential.processes, params["processes"], strict=True):
        x = instances(potential, term, data).x
        sparse = np.asarray(p["sparse"])
        assert sparse.shape == (term.n_sparse, term.descriptor.dimensions)
        distance = np.linalg.norm(sparse[:, None] - x, axis=2)
        np.testing.assert_allclose(distance.min(axis=1), 0, atol=1e-12)
        assert len(np.unique(np.round(sparse, 5), axis=0)) == term.n_sparse
    np.testing.assert_array_equal(params["processes"][0]["cutoff"], 1)
    again = select_sparse(potential, start(potential), data, method=method, clusters=method, seed=4)
    np.testing.assert_array_equal(again["processes"][1]["sparse"], params["processes"][1]["sparse"])


def test_pairs_are_spread_evenly_and_hyper_parameters_come_from_the_data():
    data = clusters(30)
    potential = GAP((14,), (PAIRS, soap(2.0, 4)))
    params = select_sparse(potential, start(potential), data)
    pairs = instances(potential, PAIRS, data)
    x, width = np.sort(np.asarray(params["processes"][0]["sparse"])[:, 0]), np.ptp(pairs.x)
    assert np.diff(x).max() < 2 * width / 5
    np.testing.assert_allclose(params["processes"][0]["theta"], width / 2)
    per_atom = [2 * len(s) * (len(s) - 1) / 2 for s in data]  # each pair is an instance of both atoms ...
    assert 0.5 * sum(per_atom) / sum(map(len, data)) < pairs.count <= sum(per_atom) / sum(map(len, data))  # ... times f
    spread = np.std([s.energy / len(s) for s in data])
    np.testing.assert_allclose(energy_spread(potential, data), spread, rtol=0.2)
    # A draw from the prior varies over the instances of all atoms as the energies do: its expected variance.
    for term, p, count in zip(potential.processes, params["processes"], (pairs.count, 1.0), strict=True):
        every = jnp.asarray(instances(potential, term, data).x)
        K = np.asarray(kernel(term, p, every, every))
        expected = count**2 * (np.trace(K) / len(K) - K.mean())
        np.testing.assert_allclose(expected, energy_spread(potential, data) ** 2, rtol=1e-6)


def test_points_from_groups_and_of_their_element():
    data = clusters(9, (14, 8))
    term = MIXED.processes[1]
    potential = GAP((14, 8), (term,))
    params = select_sparse(potential, start(potential), data, method="random", per_group={"b": 2})
    b = instances(potential, term, [s for s in data if s.group == "b"]).x
    oxygen = instances(potential, term, data).x
    assert len(oxygen) == sum(np.sum(s.system.numbers == 8) for s in data)
    inside = lambda x, y: (np.linalg.norm(x[:, None] - y, axis=2).min(axis=1) < 1e-10).sum()
    sparse = np.asarray(params["processes"][0]["sparse"])
    assert inside(sparse, b) == 2
    assert inside(sparse, oxygen) == 5
    assert len(instances(potential, term, data, limit=6).x) <= 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "pivot"}, "method must be one of cur"),
        ({"sigma_forces": 0.0}, "standard deviations, positive"),
        ({"groups": {"liquid": (1.0, 1.0, 1.0)}}, r"no structure is of the groups \['liquid'\]; there are a, b, c"),
        ({"per_group": {"liquid": 2}}, "per_group names"),
        ({"per_group": {"a": 9}}, "per_group asks for 9 points"),
        ({"delta": (1.0, 2.0)}, "one for each of 1 processes"),
        ({"delta": -1.0}, "delta of process 0"),
        ({"energies": [1.0, 2.0]}, "one e0 in eV for each"),
        ({"method": None, "delta": 1.0}, "method=None keeps"),
    ],
)
def test_options_that_make_no_sense(options, words):
    potential = GAP((14,), (soap(2.0, 4),))
    with pytest.raises(ValueError, match=words):
        fit_gap(potential, start(potential), clusters(3), **options)


def test_data_that_make_no_sense():
    potential = GAP((14,), (soap(2.0, 40),))
    with pytest.raises(ValueError, match=r"asks for 40 sparse points; the structures have 8 different"):
        fit_gap(potential, start(potential), clusters(3))
    potential = GAP((14,), (soap(2.0, 4),))
    with pytest.raises(ValueError, match="has a label of energy, forces, virial"):
        fit_gap(potential, start(potential), bare(clusters(3)), delta=1.0)
    with pytest.raises(ValueError, match="at least one structure"):
        fit_gap(potential, start(potential), [])
    with pytest.raises(ValueError, match="no instance of the process"):
        select_sparse(MIXED, start(MIXED), clusters(2), delta=1.0)
