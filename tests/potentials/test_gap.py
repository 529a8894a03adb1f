"""GAP: predicted variances, models made from scratch, restriction."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import rattled

import jaxmlp as jm
from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.gap_clusters import Angle3b, Distance2b
from jaxmlp.basis.soap import SOAP
from jaxmlp.potentials.gap import GAP, GAPTerm, gap

NOISE = 0.02
SYSTEM = rattled((14, 8), 2.4)
DOT, GAUSS = Covariance("dot_product", zeta=2.0), Covariance("ard_se")
TERMS = (
    GAPTerm(SOAP((14, 8), 4.2, 3, 2, 0.6), DOT, 5, center=8),
    GAPTerm(Distance2b(4.2, 0.8, (14, 8)), GAUSS, 4),
    GAPTerm(Angle3b(3.2, 0.7, 14, (14, 8)), GAUSS, 6),
)


def model(*terms):
    potential = GAP((14, 8), terms)
    params = potential.init(jax.random.key(3))
    cutoff = jnp.linspace(0.5, 1.0, terms[0].n_sparse)
    for p in params["processes"]:
        p |= {"delta": jnp.asarray(0.7), "f0": jnp.asarray(0.0)}
    params["processes"][0]["cutoff"] = cutoff if terms[0].covariance.kind == "ard_se" else jnp.ones_like(cutoff)
    return potential, params


def instances(term):
    """x (I, d) and weights (I,) of every atom that is one of the term's, by the list of all neighbours."""
    from matscipy.neighbours import neighbour_list

    s, z = SYSTEM, SYSTEM.numbers
    d = term.descriptor
    if isinstance(d, SOAP):
        q = np.asarray(jax.jit(jm.descriptor_fn(d, s))(s.R, s.box))
        return [(q[k : k + 1], np.ones(1) * (z[k] == term.center)) for k in range(len(z))]
    i, j, v = neighbour_list("ijD", positions=s.R, cell=np.asarray(s.box), pbc=(True,) * 3, cutoff=d.cutoff)
    x = (np.linalg.norm(v, axis=1) - d.cutoff + d.cutoff_transition_width) / d.cutoff_transition_width
    f = 0.5 * (1 + np.cos(np.pi * np.clip(x, 0, 1)))
    out = []
    for k in range(len(z)):
        at = np.nonzero(i == k)[0]
        rows, weights = [], []
        for a in at:
            r = np.linalg.norm(v[a])
            if isinstance(d, Distance2b):
                if {z[k], z[j[a]]} == set(d.elements):
                    rows.append([r])
                    weights.append(f[a])
                continue
            for b in at:
                if a != b and z[k] == d.center and (z[j[a]], z[j[b]]) == d.elements:
                    t = np.linalg.norm(v[b])
                    rows.append([r + t, (r - t) ** 2, np.linalg.norm(v[a] - v[b])])
                    weights.append(2 * f[a] * f[b])  # both orders of each triangle count
        out.append((np.array(rows).reshape(-1, d.dimensions), np.array(weights)))
    return out


def kernel(term, p, a, b):
    delta = float(p["delta"])
    if term.covariance.kind == "dot_product":
        return delta**2 * (a @ b.T) ** term.covariance.zeta
    gap = (a[:, None] - b) / np.asarray(p["theta"])
    return delta**2 * np.exp(-0.5 * np.sum(gap**2, axis=2))


def dense_variance(term, p):
    """Rasmussen and Williams, Eq. (2.26), with dense matrices of one Gaussian process."""
    xs, c = np.asarray(p["sparse"]), np.asarray(p["cutoff"])
    K = c[:, None] * c * kernel(term, p, xs, xs) + NOISE**2 * np.eye(len(xs))
    out = []
    for x, w in instances(term):
        k = c * kernel(term, p, x, xs)
        S = kernel(term, p, x, x) - k @ np.linalg.inv(K) @ k.T
        out.append(w @ S @ w)
    return np.array(out)


@pytest.mark.parametrize("terms", [TERMS[:1], TERMS[1:2], TERMS[2:], TERMS], ids=["soap", "pairs", "triplets", "all"])
def test_the_variance_is_the_textbook_formula(terms):
    potential, params = model(*terms)
    expected = sum(map(dense_variance, terms, params["processes"]))
    variances = jax.jit(jm.site_fn(potential, SYSTEM, "variances"))
    found = variances(SYSTEM.R, SYSTEM.box, potential.factorise(params, NOISE))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.max(found) > 0.01


def test_on_a_sparse_point_the_variance_is_that_of_the_noise():
    potential, params = model(TERMS[0])
    own = jax.jit(jm.descriptor_fn(TERMS[0].descriptor, SYSTEM))(SYSTEM.R, SYSTEM.box)[1]  # of an oxygen atom
    term = params["processes"][0]
    there = params | {"processes": (term | {"sparse": term["sparse"].at[2].set(own)},)}
    variances = jax.jit(jm.site_fn(potential, SYSTEM, "variances"))
    before, after = (variances(SYSTEM.R, SYSTEM.box, potential.factorise(p, 1e-3))[1] for p in (params, there))
    assert 0.9e-6 < after < 1e-6  # noise^2 of one observation; a little less, as others know of it too
    assert before > 1e-3
    np.testing.assert_allclose(variances(SYSTEM.R, SYSTEM.box, potential.factorise(there))[0], 0)  # silicon


def test_the_variance_has_derivatives():
    potential, params = model(TERMS[0])
    ready = potential.factorise(params, NOISE)
    total = jax.jit(lambda R: jnp.sum(jm.site_fn(potential, SYSTEM, "variances")(R, SYSTEM.box, ready)))
    R, v = jnp.asarray(SYSTEM.R), jnp.asarray(np.random.default_rng(0).normal(size=SYSTEM.R.shape))
    h = 1e-4
    slope = (total(R + h * v) - total(R - h * v)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(jax.grad(total)(R) * v), slope, rtol=1e-5)


def test_a_variance_without_factors_is_refused():
    potential, params = model(TERMS[0])
    with pytest.raises(ValueError, match="factorise"):
        jm.site_fn(potential, SYSTEM, "variances")(SYSTEM.R, SYSTEM.box, params)


def test_a_model_from_scratch_has_sensible_parameters():
    potential = gap((14, 8), 4.0, n_max=3, l_max=2, n_sparse=7, n_sparse_pairs=5)
    assert [t.n_sparse for t in potential.processes] == [5, 5, 5, 7, 7]
    params = potential.init(jax.random.key(0))
    for term, p in zip(potential.processes, params["processes"], strict=True):
        assert p["sparse"].shape == (term.n_sparse, term.descriptor.dimensions)
        if term.center:
            np.testing.assert_allclose(jnp.linalg.norm(p["sparse"], axis=1), 1, rtol=1e-12)
        else:
            assert np.all((p["sparse"] > 1.0) & (p["sparse"] < 4.0))
    q = jax.jit(jm.site_fn(potential, SYSTEM, "descriptors"))(SYSTEM.R, SYSTEM.box, params)
    assert q.shape == (8, 2 * potential.processes[-1].descriptor.dimensions)
    own = np.linalg.norm(q.reshape(8, 2, -1), axis=2)
    np.testing.assert_allclose(own, SYSTEM.numbers[:, None] == np.array([14, 8]), atol=1e-12)


def test_restriction_drops_what_is_absent_and_changes_no_energy():
    potential, params = model(
        *TERMS[:2], replace(TERMS[0], center=14), GAPTerm(Distance2b(4.0, 0.5, (14, 14)), GAUSS, 3)
    )
    silicon = jm.System([14] * 8, SYSTEM.R, SYSTEM.box)
    R, box, species = jnp.asarray(silicon.R), jnp.asarray(silicon.box), jnp.zeros(8, int)
    small, p = potential.restrict(params, (14,))
    assert [type(t.descriptor).__name__ for t in small.processes] == ["SOAP", "Distance2b"]
    assert small.processes[0].descriptor.dimensions < potential.processes[0].descriptor.dimensions
    neighbors = jm.NeighborSearch.allocate(silicon.R, silicon.box, silicon.pbc, potential.shells)(R, box)
    whole = jm.total_energy(potential, params, R, box, species, neighbors)
    np.testing.assert_allclose(jm.total_energy(small, p, R, box, species, neighbors), whole, rtol=1e-12)
    lone, p = model(TERMS[1])[0].restrict(params | {"processes": params["processes"][1:2]}, (8,))
    assert not lone.processes  # only the energies of isolated atoms are left
    e0 = {"e0": jnp.asarray([1.5]), "processes": ()}
    np.testing.assert_allclose(jm.total_energy(lone, e0, R, box, species, neighbors), 12.0)


def test_wrong_models_are_refused():
    with pytest.raises(ValueError, match="different atomic numbers"):
        GAP((14, 14), TERMS)
    with pytest.raises(ValueError, match=r"\[8\] too"):
        GAP((14,), TERMS)
    with pytest.raises(ValueError, match="n_sparse must be positive"):
        GAPTerm(TERMS[0].descriptor, DOT, 0)
    with pytest.raises(ValueError, match="center is for SOAP"):
        GAPTerm(TERMS[1].descriptor, GAUSS, 3, center=8)
