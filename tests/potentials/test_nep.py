"""NEP without reference files: both mixing forms, slicing, padding, derivatives, temperature, tensors and charges."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp import Graph
from jaxmlp.potentials.coulomb import k_bounds, reciprocal_energies
from jaxmlp.potentials.nep import NEP
from jaxmlp.potentials.nep_charge import NEPCharge
from jaxmlp.potentials.nep_descriptor import EXTRA
from jaxmlp.potentials.nep_tensor import NEPDipole, NEPPolarizability
from jaxmlp.potentials.nep_zbl import NEPZBL, covalent_radius

SPECIES = (52, 82, 8)
OPTIONS = {
    "species": SPECIES,
    "radial_cutoffs": (5.0,) * 3,
    "angular_cutoffs": (4.0,) * 3,
    "n_max": (2, 2),
    "basis_size": (3, 4),
    "l_max": 2,
    "extra": ("222", "1111"),
    "neurons": 5,
}
VARIANTS = {
    "version 2": {"version": 2, "basis_size": (2, 2)},
    "version 3": {"version": 3},
    "version 4": {},
    "version 5": {"version": 5, "extra": ()},
    "all terms": {"l_max": 4, "extra": EXTRA},
    "one cutoff": {"angular_cutoffs": (5.0,) * 3},
    "cutoffs per species": {"radial_cutoffs": (5.0, 4.6, 4.2), "angular_cutoffs": (4.0, 3.5, 3.8)},
    "terms beyond l_max": {"l_max": 1, "extra": EXTRA},
    "universal": {"zbl": NEPZBL(1.0, 2.5, 4.0)},
    "type-wise": {"zbl": NEPZBL(1.0, 2.5, 4.0, factor=0.6)},
    "flexible": {"zbl": NEPZBL(0.0, 0.0, 4.0, flexible=True)},
    "temperature": {"temperature": True},
}
N, M, ANGULAR = 6, 12, 8


def random_graph(count: int = 3, seed: int = 0, empty: int = 3) -> Graph:
    """Rows of random vectors, nearer ones first; the last `empty` slots of each shell are padded."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(N, 3, M))
    r = np.where(np.arange(M) < ANGULAR, rng.uniform(1.2, 3.99, (N, M)), rng.uniform(4.01, 5.2, (N, M)))
    vectors = u / np.linalg.norm(u, axis=1, keepdims=True) * r[:, None]
    mask = (np.arange(M) % ANGULAR < ANGULAR - empty) & np.ones((N, 1), bool)
    vectors = np.where(mask[:, None], vectors, 10.0)
    kinds = np.where(mask, rng.integers(0, count, (N, M)), 0).astype(np.int32)
    own = (np.arange(N) % count).astype(np.int32)
    planes = tuple(jnp.asarray(vectors[:, k]) for k in range(3))
    index = jnp.asarray(rng.integers(0, N, (N, M)).astype(np.int32))
    shells = ((4.0, ANGULAR), (5.0, M))
    return Graph(jnp.asarray(own), planes, index, jnp.asarray(kinds), jnp.asarray(mask), None, None, shells)


def make(cls=NEP, **changes):
    potential = cls(**OPTIONS | changes)
    params = potential.init(jax.random.key(1))
    # Descriptors of order one, and biases that show.
    draws = jax.random.uniform(jax.random.key(2), (potential.size + len(SPECIES) + 1,), minval=0.05, maxval=0.2)
    params["q_scaler"], params["b1"] = draws[: potential.size], draws[-1]
    if "b_t" in params:
        params["b_t"] = draws[potential.size : -1]
    return potential, params


def energies_of(potential):
    return jax.jit(potential.site_energies)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_mixing_forms_agree(variant):
    potential, params = make(**VARIANTS[variant])
    graph = random_graph()
    density, edge = (jax.jit(replace(potential, mixing=m).descriptors)(params, graph) for m in ("density", "edge"))
    np.testing.assert_allclose(density, edge, rtol=1e-11, atol=1e-12)  # rounding of sums of 12 neighbours, cubed
    assert np.abs(density).max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_restriction_is_exact(variant):
    potential, params = make(**VARIANTS[variant])
    graph = random_graph(2)
    few, fewer = potential.restrict(params, (8, 52))
    assert few.species == (8, 52)
    # In the restricted potential the species 0 and 1 are 8 and 52, before 2 and 0.
    renamed = replace(
        graph, species=jnp.asarray([2, 0], np.int32)[graph.species],
        neighbor_species=jnp.where(graph.mask, jnp.asarray([2, 0], np.int32)[graph.neighbor_species], 0),
    )  # fmt: skip
    expected = energies_of(potential)(params, renamed)
    np.testing.assert_allclose(energies_of(few)(fewer, graph), expected, rtol=1e-13, atol=1e-13)
    same, untouched = potential.restrict(params, SPECIES)
    assert same is potential
    assert untouched is params


def test_restriction_to_unknown_species():
    potential, params = make()
    with pytest.raises(ValueError, match="14"):
        potential.restrict(params, (52, 14))


@pytest.mark.parametrize("variant", ["version 4", "cutoffs per species", "type-wise", "flexible"])
def test_padding_is_invisible_to_every_derivative(variant):
    potential, params = make(**VARIANTS[variant])
    near = random_graph(empty=4)
    far = replace(near, planes=tuple(jnp.where(near.mask, x, 55.0) for x in near.planes))

    @jax.jit
    def derivatives(graph):
        """Energies, gradient, and a second derivative along a direction, forward over reverse."""

        def energy(planes):
            e = potential.site_energies(params, replace(graph, planes=planes))
            return jnp.sum(e**2), e

        along = tuple(jnp.cos(x) for x in graph.planes)
        return jax.jvp(jax.grad(energy, has_aux=True), (graph.planes,), (along,))

    for got, moved in zip(jax.tree.leaves(derivatives(near)), jax.tree.leaves(derivatives(far))):
        assert np.isfinite(got).all()
        np.testing.assert_array_equal(got, moved)
        if got.ndim == 2:
            assert not np.asarray(got)[~np.asarray(near.mask)].any()

    keep = np.flatnonzero(np.asarray(near.mask[0]))
    bare = replace(
        near,
        planes=tuple(x[:, keep] for x in near.planes),
        neighbors=near.neighbors[:, keep],
        neighbor_species=near.neighbor_species[:, keep],
        mask=near.mask[:, keep],
        shells=((4.0, int((keep < ANGULAR).sum())), (5.0, len(keep))),
    )
    energies = (energies_of(potential)(params, graph) for graph in (near, bare))
    np.testing.assert_allclose(*energies, rtol=1e-12)  # order of sums


def test_parameters_can_be_differentiated():
    potential, params = make(version=5, temperature=True, zbl=NEPZBL(0, 0, 4.0, flexible=True))
    graph = random_graph()
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(potential.site_energies(p, graph) ** 2)))(params)
    assert gradient.keys() == params.keys()
    for name, g in gradient.items():
        assert np.isfinite(g).all(), name
        assert np.abs(g).max() > 0, name


def test_temperature_is_the_last_descriptor():
    potential, params = make(temperature=True)
    graph = random_graph()
    q = jax.jit(potential.descriptors)(params, graph)
    energy = energies_of(potential)
    np.testing.assert_allclose(q[:, -1], 300.0 * params["q_scaler"][-1], rtol=1e-15)
    hot, cold = (energy(params | {"temperature": jnp.asarray(300.0 + t)}, graph) for t in (0.5, -0.5))
    slope = jax.jit(jax.jvp, static_argnums=0)(
        lambda t: energy(params | {"temperature": t}, graph), (jnp.asarray(300.0),), (jnp.asarray(1.0),)
    )[1]
    np.testing.assert_allclose(hot - cold, slope, rtol=1e-2, atol=1e-12)  # central difference, error O(1 K^2)


def test_many_networks_are_gathered():
    numbers = tuple(range(1, 11))
    wide = {"species": numbers, "radial_cutoffs": (5.0,) * 10, "angular_cutoffs": (4.0,) * 10}
    potential, params = make(**wide)
    graph = random_graph(10)
    energies = energies_of(potential)(params, graph)
    # With more networks than atoms each atom's own one can be used by hand.
    q = np.asarray(jax.jit(potential.descriptors)(params, graph))
    for i in range(N):
        t = int(graph.species[i])
        h = np.tanh(np.asarray(params["W0"][t]) @ q[i] - np.asarray(params["b0"][t]))
        assert energies[i] == pytest.approx(float(params["w1"][t] @ h - params["b1"]), rel=1e-12)


def test_single_precision_keeps_its_type():
    potential, params = make(version=5, zbl=NEPZBL(1.0, 2.5, 4.0, factor=0.6), radial_cutoffs=(5.0, 4.6, 4.2))
    graph, params = jax.tree.map(lambda x: x.astype("float32") if x.dtype == "float64" else x, (random_graph(), params))
    assert energies_of(potential)(params, graph).dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"species": (1, 1, 2)}, "different atomic numbers"),
        ({"version": 6}, "version"),
        ({"radial_cutoffs": (5.0,)}, "one positive distance"),
        ({"angular_cutoffs": (4.0, 4.0, float("nan"))}, "one positive distance"),
        ({"l_max": 9}, "l_max"),
        ({"neurons": 0}, "neuron"),
        ({"version": 2}, "basis_size"),
        ({"extra": ("1111", "222")}, "in this order"),
        ({"mixing": "both"}, "mixing"),
    ],
)
def test_impossible_hyper_parameters(changes, match):
    with pytest.raises(ValueError, match=match):
        NEP(**OPTIONS | changes)


def test_zbl_of_two_atoms():
    """The closed formula for one pair, half to each atom."""
    zbl = NEPZBL(1.0, 2.0, 4.0)
    potential, params = make(zbl=zbl, extra=())
    energy, without = energies_of(potential), energies_of(replace(potential, zbl=None))
    for r in (0.5, 1.5, 2.5):
        planes = tuple(jnp.full((N, M), 10.0).at[0, 0].set(x) for x in (r, 0.0, 0.0))
        graph = replace(random_graph(), planes=planes, mask=jnp.zeros((N, M), bool).at[0, 0].set(True))
        got = (energy(params, graph) - without(params, graph))[0]
        i, j = SPECIES[int(graph.species[0])], SPECIES[int(graph.neighbor_species[0, 0])]
        x = r * (i**0.23 + j**0.23) * 2.134563
        phi = 0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
        phi += 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
        switch = {0.5: 1.0, 1.5: 0.5, 2.5: 0.0}[r]
        assert got == pytest.approx(0.5 * 14.399645 * i * j / r * phi * switch, rel=1e-10, abs=1e-12)
    flexible, numbers = make(zbl=NEPZBL(0, 0, 4.0, flexible=True), extra=())
    numbers["zbl"] = NEPZBL.universal_start(3, float)
    graph = random_graph()
    np.testing.assert_allclose(energies_of(flexible)(numbers, graph), energy(numbers, graph), rtol=1e-13)


def test_covalent_radii():
    assert covalent_radius(1) == 0.426667
    assert covalent_radius(94) == 2.06667
    with pytest.raises(ValueError, match="95"):
        covalent_radius(95)


@pytest.mark.parametrize(("cls", "shape"), [(NEPDipole, (3,)), (NEPPolarizability, (3, 3))])
def test_tensors_turn_with_the_atoms_and_have_no_energy(cls, shape):
    potential, params = make(cls)
    graph = random_graph()
    Q = jnp.asarray(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    turned = replace(graph, planes=tuple(sum(Q[a, b] * graph.planes[b] for b in range(3)) for a in range(3)))
    tensor, rotated = (jax.jit(potential.site_tensors)(params, g) for g in (graph, turned))
    assert tensor.shape == (N, *shape)
    expected = jnp.einsum("ab,nb->na", Q, tensor) if len(shape) == 1 else jnp.einsum("ab,nbc,dc->nad", Q, tensor, Q)
    np.testing.assert_allclose(rotated, expected, rtol=0, atol=1e-11 * np.abs(tensor).max())
    with pytest.raises(TypeError, match="not an energy"):
        potential.site_energies(params, graph)


def crystal(seed=0):
    """A skewed periodic cell with the rows of all images within 5 Å, as a function of (R, box)."""
    rng = np.random.default_rng(seed)
    box = np.array([[5.1, 0.2, 0.0], [0.4, 5.6, -0.3], [0.1, 0.5, 6.0]])
    R = rng.uniform(0, 1, (N, 3)) @ box
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    rows = [[] for _ in range(N)]
    for i in range(N):
        for j in range(N):
            for s in shifts:
                r = np.linalg.norm(R[j] + s @ box - R[i])
                if 1e-9 < r < 5.2:
                    rows[i].append((r, j, *s))
    slots = max(len(row) for row in rows)
    index, shift = np.zeros((N, slots), np.int32), np.zeros((N, slots, 3))
    mask = np.zeros((N, slots), bool)
    for i, row in enumerate(rows):
        for m, (_, j, *s) in enumerate(sorted(row)):
            index[i, m], shift[i, m], mask[i, m] = j, s, True
    own = (np.arange(N) % 3).astype(np.int32)
    theirs = np.where(mask, own[index], 0).astype(np.int32)

    def graph(R, box):
        d = R[index] + jnp.asarray(shift) @ box - R[:, None]
        planes = tuple(jnp.where(mask, d[..., k], 10.0) for k in range(3))
        shells = ((4.0, slots), (5.0, slots))
        return Graph(
            *(jnp.asarray(x) for x in (own,)), planes, *(jnp.asarray(x) for x in (index, theirs, mask)), R, box, shells
        )

    return jnp.asarray(R), jnp.asarray(box), graph


@pytest.fixture(scope="module", params=[1, 2, 3])
def charged(request):
    R, box, graph = crystal()
    potential, params = make(NEPCharge, mode=request.param, l_max=2, extra=())
    potential = potential.for_box(box)
    return potential, params, R, box, graph


def test_charges_are_neutral_and_energies_have_their_gradient(charged):
    potential, params, R, box, graph = charged
    assert abs(jnp.sum(jax.jit(potential.charges)(params, graph(R, box)))) < 1e-13
    energy = jax.jit(lambda R, box: jnp.sum(potential.site_energies(params, graph(R, box))))
    rng = np.random.default_rng(2)
    dR, dbox = jnp.asarray(rng.normal(size=(N, 3))), jnp.asarray(rng.normal(size=(3, 3)))
    gR, gbox = jax.jit(jax.grad(energy, (0, 1)))(R, box)
    h = 1e-4
    slope = sum(c * energy(R + k * h * dR, box + k * h * dbox) for k, c in ((1, 8), (-1, -8), (2, -1), (-2, 1))) / (
        12 * h
    )  # error O(h^4)
    np.testing.assert_allclose(slope, jnp.sum(gR * dR) + jnp.sum(gbox * dbox), rtol=1e-7)


def test_padded_atoms_have_no_charge(charged):
    potential, params, R, box, graph = charged
    g = graph(R, box)
    more = jax.tree.map(lambda x: jnp.concatenate([x, x[:2]]) if len(x) == N else x, g)
    more = replace(more, mask=more.mask.at[N:].set(False), exists=jnp.arange(N + 2) < N)
    more = replace(more, planes=tuple(jnp.where(more.mask, x, 10.0) for x in more.planes))
    q = jax.jit(potential.charges)(params, more)
    np.testing.assert_allclose(q[:N], jax.jit(potential.charges)(params, g), rtol=1e-12)
    assert not np.asarray(q[N:]).any()
    expected = energies_of(potential)(params, g)
    np.testing.assert_allclose(energies_of(potential)(params, more)[:N], expected, rtol=1e-11)


def test_born_charges_are_those_of_the_polarization(charged):
    """Z_j sums to zero (acoustic sum rule), as every pair's part is added to one atom and taken from the other."""
    potential, params, R, box, graph = charged
    born = jax.jit(lambda p: potential.born_effective_charges(p, graph(R, box)))
    Z = born(params)
    assert Z.shape == (N, 3, 3)
    np.testing.assert_allclose(Z.sum(0), 0.0, atol=1e-13)
    wide = born(params | {"sqrt_epsilon": jnp.asarray(2.0)})
    np.testing.assert_allclose(wide, 2.0 * Z, rtol=1e-14)


def test_too_few_k_vectors_make_the_energy_nan(charged):
    potential, params, R, box, graph = charged
    far = replace(potential, k_max=k_bounds(box, 2 * np.pi * potential.alpha))
    energy = energies_of(far)
    assert np.isfinite(energy(params, graph(R, box))).all()
    g = replace(graph(R, box), box=2.0 * box)
    assert np.isnan(energy(params, g)).all() == (potential.mode < 3)
    if potential.mode < 3:
        with pytest.raises(ValueError, match="for_box"):
            replace(potential, k_max=None).site_energies(params, graph(R, box))


def test_reciprocal_sum_is_that_over_k_vectors():
    R, box, _ = crystal()
    q = np.random.default_rng(4).normal(size=N)
    alpha, cut = 0.6, 4.0
    got = reciprocal_energies(jnp.asarray(q), R, box, alpha, cut, k_bounds(box, cut, 0.2))
    k = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3, indexing="ij"), -1).reshape(-1, 3)
    k = 2 * np.pi * k @ np.linalg.inv(box).T
    square = (k**2).sum(1)
    k, square = k[(square > 1e-9) & (square < cut**2)], square[(square > 1e-9) & (square < cut**2)]
    phase = np.exp(1j * k @ np.asarray(R).T)
    S = phase.conj() @ q
    site = (np.exp(-square / (4 * alpha**2)) / square * S) @ phase * q
    np.testing.assert_allclose(got, 2 * np.pi / np.linalg.det(box) * site.real, rtol=0, atol=1e-13)
