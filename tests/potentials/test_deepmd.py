"""Deep Potentials: compression, frame and atomic parameters, empty slots, statistics, local frames."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import rattled

import jaxmlp as jm
from jaxmlp.ase import JaxMLP
from jaxmlp.basis.deepmd_networks import ACTIVATIONS, embedding, fitting, tanh
from jaxmlp.formats.electron_configuration import occupations, spin_orbitals
from jaxmlp.potentials.deepmd import DeepPotential, SeAtten, SeE2A, SeE2R, deep_potential, statistics
from jaxmlp.potentials.deepmd_frame import LocalFrame
from jaxmlp.potentials.pair import lennard_jones

SPECIES = (8, 1)
SYSTEM = rattled(SPECIES, 2.0)
SMALL = {"neuron": (4, 8), "axis": 3, "nodes": (8, 8)}


@cache
def model(*parts, mixed=False, seed=1, **options):
    """A potential of these descriptors with the statistics of SYSTEM."""
    inputs = sum(part.size for part in parts) + options.get("fparams", 0) + options.get("aparams", 0)
    potential = DeepPotential(SPECIES, parts, fitting(inputs, (8, 8)), mixed, **options)
    params = statistics(potential, potential.init(jax.random.key(seed)), [SYSTEM])
    return potential, params | {"bias": jnp.array([-3.0, 1.0])}


def evaluated(potential, params, system=SYSTEM, **conditions):
    run = jax.jit(jm.evaluate_fn(potential, system))
    return run(system.R, system.box, params, **conditions)


@cache
def plain(name):
    """What a model of `PARTS` gives for SYSTEM."""
    return evaluated(*model(*PARTS[name], mixed=isinstance(PARTS[name][0], SeAtten)))


NET = embedding(1, (4, 8), timestep=True)
PARTS = {
    "se_e2_a": (SeE2A(4.0, 1.0, (40, 40), NET, axis=3),),
    "se_e2_a one side": (SeE2A(4.0, 1.0, (40, 40), NET, True, exclude=((0, 1),), axis=3),),
    "se_e2_r exclude": (SeE2R(4.0, 1.0, (40, 40), NET, True, exclude=((1, 1),)),),
    "concat": (SeAtten(4.0, 1.0, 80, 2, embedding(5, (4, 8)), None, 2, axis=3, smooth=False),),
    "strip": (SeAtten(4.0, 1.0, 80, 2, NET, embedding(4, (4, 8)), 2, axis=3),),
    "strip not smooth": (SeAtten(4.0, 1.0, 80, 2, NET, embedding(2, (4, 8)), 2, axis=3, smooth=False, one_side=True),),
}


MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("se_e2_r exclude", "concat", "strip not smooth")]


@pytest.mark.parametrize("name", ["se_e2_a", "strip", *MORE])
def test_compression_keeps_energies_and_forces(name):
    potential, params = model(*PARTS[name], mixed=isinstance(PARTS[name][0], SeAtten))
    small, series = potential.compress(params, closest=1.0)
    table = small.parts[0].table
    assert table.error < 1e-10
    assert table.slope_error < 1e-7  # a derivative of a series loses about size^2
    assert table.size < 100
    assert "network" not in series["parts"][0]
    full, short = plain(name), evaluated(small, series)
    scale = float(jnp.abs(full.forces).max())
    # The bounds are those of the networks' outputs; sums over some 30 neighbours and a network follow.
    np.testing.assert_allclose(short.energies, full.energies, 0, 1e-9)
    np.testing.assert_allclose(short.forces, full.forces, 0, 1e-7 * scale)


def test_a_looser_tolerance_gives_a_shorter_series_and_a_larger_error():
    potential, params = model(*PARTS["se_e2_a"])
    tables = [potential.compress(params, closest=1.0, tolerance=t)[0].parts[0].table for t in (1e-3, 1e-6, 1e-12)]
    assert tables[0].size < tables[1].size < tables[2].size
    for table, bound in zip(tables, (1e-3, 1e-6, 1e-12), strict=True):
        assert bound * 1e-3 < table.error < 2 * bound  # measured, not assumed


def test_beyond_the_closest_distance_a_compressed_force_is_continuous():
    potential, params = model(*PARTS["se_e2_a"])
    potential, params = potential.compress(params, closest=1.2)
    pair = jm.System(np.array([8, 1]), [[0, 0, 0], [0, 0, 1.2]])
    energy = jm.energy_fn(potential, replace(pair, R=np.array([[0, 0, 0], [0, 0, 0.8]])), headroom=0.0)
    force = jax.jit(jax.vmap(jax.grad(lambda r: energy(jnp.array([[0.0, 0, 0], [0.0, 0, 1.0]]) * r, None, params))))
    at = force(jnp.array([0.8, 1.2 - 1e-7, 1.2 + 1e-7]))
    assert np.isfinite(at).all()
    np.testing.assert_allclose(at[1], at[2], rtol=1e-5)  # the slope changes by 2e-7 times the curvature


def test_what_cannot_be_compressed_says_so():
    part = SeAtten(4.0, 1.0, 80, 2, NET, embedding(4, (4, 8)), 2, axis=3, attention=1, hidden=4)
    potential, params = model(part, mixed=True)
    with pytest.raises(ValueError, match="attention mixes the neighbours"):
        potential.compress(params)
    potential, params = model(*PARTS["se_e2_a"])
    with pytest.raises(ValueError, match="more than 400 polynomials"):
        potential.compress(params, tolerance=1e-40)
    with pytest.raises(ValueError, match="closest distance below the cutoff"):
        potential.compress(params, closest=5.0)


@pytest.mark.parametrize("name", ["se_e2_a", "se_e2_r exclude"])
def test_series_made_on_the_way_keep_derivatives_by_the_networks(name):
    potential, params = model(*PARTS[name])
    fast = potential.tabulated([params], 1.0)
    assert fast.parts[0].table is not None

    def loss(params, potential):
        out = jm.evaluate_fn(potential, SYSTEM)(SYSTEM.R, SYSTEM.box, params)
        return out.energy + jnp.sum(out.forces**2)

    slopes = jax.jit(jax.grad(loss), static_argnums=1)
    exact, found = slopes(params, potential), slopes(params, fast)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-9 * float(jnp.abs(a).max()) + 1e-12)


def test_series_grow_with_the_networks_and_give_way_to_them():
    potential, params = model(*PARTS["se_e2_a"])
    fast = potential.tabulated([params], 1.0)
    assert fast.tabulated([params], 1.0) is fast

    def steeper(factor):
        part, *_ = params["parts"]
        return params | {"parts": (part | {"network": jax.tree.map(lambda x: factor * x, part["network"])},)}

    longer = fast.tabulated([steeper(3.0)], 1.0)
    assert longer.parts[0].table.size > fast.parts[0].table.size
    energies = [evaluated(p, steeper(3.0)).energies for p in (potential, longer)]
    np.testing.assert_allclose(*energies, rtol=1e-10)
    assert fast.tabulated([params, steeper(3.0)], 1.0) == longer == longer.tabulated([params, steeper(3.0)], 1.0)
    assert fast.tabulated([steeper(1e3)], 1.0) == potential  # no series is long enough


def test_the_electronic_entropy_is_a_gradient_by_the_frame_parameter():
    potential, params = model(*PARTS["se_e2_a"], fparams=2, aparams=1)
    rng = np.random.default_rng(0)
    fparam, aparam = rng.normal(size=2), rng.normal(size=(8, 1))
    params = params | {"fparam_mean": jnp.array([0.3, -0.1]), "fparam_scale": jnp.array([2.0, 0.5])}
    energy = jax.jit(jm.energy_fn(potential, SYSTEM))
    at = lambda f, a: energy(SYSTEM.R, SYSTEM.box, params, fparam=f, aparam=a)
    own = potential.conditioned(params, fparam, aparam)
    slope = jax.jit(jax.grad(jm.energy_fn(potential, SYSTEM), argnums=2))(SYSTEM.R, SYSTEM.box, own)
    h = 1e-4
    for k in range(2):
        d = h * np.eye(2)[k]
        np.testing.assert_allclose(
            slope["fparam"][k], (at(fparam + d, aparam) - at(fparam - d, aparam)) / (2 * h), 1e-6
        )
    for k in (0, 7):
        d = h * np.eye(8)[:, k, None]
        np.testing.assert_allclose(
            slope["aparam"][k, 0], (at(fparam, aparam + d) - at(fparam, aparam - d)) / (2 * h), 1e-6
        )


def test_atomic_parameters_belong_to_their_atoms_in_blocks_of_any_size():
    potential, params = model(*PARTS["se_e2_a"], aparams=1)
    aparam = np.linspace(-1, 1, 8)[:, None]
    whole, blocks = (
        jax.jit(jm.site_fn(potential, SYSTEM, "site_energies", block=block))(
            SYSTEM.R, SYSTEM.box, params, aparam=aparam
        )
        for block in (8, 3)
    )
    np.testing.assert_allclose(blocks, whole, 1e-12)
    order = np.array([6, 1, 4, 3, 2, 5, 0, 7])  # of the same species
    R = SYSTEM.R[order]
    moved = jax.jit(jm.site_fn(potential, SYSTEM, "site_energies", block=3))(
        R, SYSTEM.box, params, aparam=aparam[order]
    )
    np.testing.assert_allclose(moved, whole[order], 1e-12)


def test_parameters_that_do_not_fit_are_refused():
    without, params = model(*PARTS["se_e2_a"])
    with pytest.raises(ValueError, match="no fparam"):
        evaluated(without, params, fparam=[1.0])
    with pytest.raises(ValueError, match="LennardJones has no aparam"):
        evaluated(*lennard_jones(SPECIES, [0.01, 0.01], [3.4, 3.4], 6.5), aparam=[1.0])
    potential, params = model(*PARTS["se_e2_a"], fparams=2, aparams=1)
    with pytest.raises(ValueError, match=r"fparam must have shape \(2,\); got \(3,\)"):
        evaluated(potential, params, fparam=np.zeros(3))
    with pytest.raises(ValueError, match=r"aparam must have shape \(1, 1\) or \(8, 1\); got \(5, 1\)"):
        evaluated(potential, params, aparam=np.zeros((5, 1)))


@pytest.mark.parametrize("name", ["se_e2_a", "se_e2_r exclude", "strip"])
def test_leaving_out_absent_species_changes_nothing(name):
    potential, params = model(*PARTS[name], mixed=name == "strip")
    assert name == "strip" or float(jnp.abs(params["parts"][0]["davg"]).min()) > 0  # so that empty slots matter
    R, box = jnp.asarray(SYSTEM.R), jnp.asarray(SYSTEM.box)
    less, fewer = potential.restrict(params, (1,))

    def energy(p, q):
        species = jnp.full(8, p.species.index(1), jnp.int32)
        return jax.jit(lambda q: jm.total_energy(p, q, R, box, species, neighbors))(q)

    neighbors = jax.jit(jm.NeighborSearch.allocate(SYSTEM.R, SYSTEM.box, (True,) * 3, potential.shells))(R, box)
    np.testing.assert_allclose(energy(less, fewer), energy(potential, params), rtol=1e-13)
    swapped, other = potential.restrict(params, (1, 8))
    out = evaluated(swapped, other)
    np.testing.assert_allclose(out.energies, plain(name).energies, rtol=1e-12)


def test_farthest_neighbours_beyond_sel_are_dropped():
    part = SeE2A(4.0, 1.0, (5, 7), NET, axis=3)
    potential, params = model(part)
    got = evaluated(potential, params).energies
    for atom in (0, 1):
        near = _nearest(SYSTEM, atom, 4.0, (5, 7))
        alone = jm.System(
            np.array([SYSTEM.numbers[atom], *(SPECIES[t] for t, _ in near)]), [[0, 0, 0], *(v for _, v in near)]
        )
        np.testing.assert_allclose(evaluated(potential, params, alone).energies[0], got[atom], rtol=1e-12)


def _nearest(system, atom, cutoff, sel):
    """(species, vector) of the neighbours that an atom keeps, by the definition."""
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3) @ system.box
    d = (system.R[None] + shifts[:, None] - system.R[atom]).reshape(-1, 3)
    species = np.tile([SPECIES.index(z) for z in system.numbers], len(shifts))
    r = np.linalg.norm(d, axis=1)
    order = [k for k in np.argsort(r) if 1e-9 < r[k] < cutoff][: sum(sel)]
    return [(t, d[k]) for t in (0, 1) for k in [k for k in order if species[k] == t][: sel[t]]]


def test_statistics_normalise_the_environment():
    potential, params = model(*PARTS["se_e2_a"])
    p = params["parts"][0]
    assert p["davg"].shape == (2, 2)
    assert np.ptp(p["davg"], axis=1).max() == 0  # the same for all neighbours of a centre
    again = statistics(potential, params, [SYSTEM, SYSTEM])
    np.testing.assert_allclose(again["parts"][0]["dstd"], p["dstd"], rtol=1e-12)
    rows, slots = [], 80  # by the definition, for the oxygen atoms
    for atom in range(0, 8, 2):
        r = np.array([np.linalg.norm(v) for _, v in _nearest(SYSTEM, atom, 4.0, (40, 40))])
        u = np.clip((r - 1.0) / 3.0, 0, 1)
        rows += [*((1 + u**3 * (-10 + 15 * u - 6 * u**2)) / r), *np.zeros(slots - len(r))]
    np.testing.assert_allclose(p["davg"][0, 0], np.mean(rows), rtol=1e-10)
    np.testing.assert_allclose(p["dstd"][0, 0, 0], np.std(rows), rtol=1e-10)


@pytest.mark.parametrize("descriptor", ["se_e2_a", "se_e2_r", "se_e3", "se_atten"])
def test_models_from_scratch(descriptor):
    sel = 40 if descriptor == "se_atten" else (20, 20)
    potential = deep_potential(SPECIES, 3.0, descriptor=descriptor, sel=sel, **SMALL)
    params = potential.init(jax.random.key(0))
    given = [x for x in jax.tree.leaves(potential.linear_parameters(params))]
    assert {x.shape[-1] for x in given} == {1, 2}  # the last layer and the biases
    energy = jax.jit(jm.energy_fn(potential, SYSTEM))
    moved = jax.tree.map(lambda x: x + 0.5, potential.linear_parameters(params))
    at = lambda t: energy(
        SYSTEM.R, SYSTEM.box, jm.merge(jax.tree.map(lambda a, b: a + t * (b - a), given_tree, moved), params)
    )
    given_tree = potential.linear_parameters(params)
    np.testing.assert_allclose(at(2.0) - at(1.0), at(1.0) - at(0.0), rtol=1e-10)
    with pytest.raises(ValueError, match="sel"):
        deep_potential(SPECIES, 3.0, descriptor=descriptor, sel=(1, 2, 3))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="descriptor must be se_e2_a"):
        deep_potential(SPECIES, descriptor="se_e4", sel=(1, 1))
    with pytest.raises(ValueError, match="must lead from 24 numbers"):
        DeepPotential(SPECIES, PARTS["se_e2_a"], fitting(5, (3,)))


def frames(system, part, davg, dstd):
    """The local-frame descriptor of every atom by the definition, with numpy."""
    out = []
    for atom in range(len(system)):
        near = _nearest(system, atom, part.cutoff, (10**6, 10**6))
        by = [[v for t, v in near if t == s] for s in (0, 1)]
        own = SPECIES.index(system.numbers[atom])
        rule = part.axes[own]
        a, b = (by[t][k + (part.sel_a[t] if c else 0)] for c, t, k in (rule[:3], rule[3:]))
        e1 = a / np.linalg.norm(a)
        e2 = b - (b @ e1) * e1
        e2 /= np.linalg.norm(e2)
        frame = np.array([e1, e2, np.cross(e1, e2)])
        full, radial = [], []
        for t in (0, 1):
            for k in range(part.sel_a[t]):
                v = by[t][k] if k < len(by[t]) else None
                full += [0.0] * 4 if v is None else [1 / np.linalg.norm(v), *(frame @ v / (v @ v))]
            for k in range(part.sel_a[t], part.sel_a[t] + part.sel_r[t]):
                radial.append(1 / np.linalg.norm(by[t][k]) if k < len(by[t]) else 0.0)
        out.append((np.array(full + radial) - davg[own]) / dstd[own])
    return np.array(out)


def test_local_frames_follow_their_definition():
    part = LocalFrame(3.4, (4, 6), (3, 30), ((0, 0, 0, 0, 1, 0), (0, 1, 1, 1, 0, 1)))
    potential, params = model(part)
    D = jax.jit(jm.site_fn(potential, SYSTEM, "descriptors"))(SYSTEM.R, SYSTEM.box, params)
    own = {q: np.asarray(params["parts"][0][q]) for q in ("davg", "dstd")}
    np.testing.assert_allclose(D, frames(SYSTEM, part, **own), rtol=0, atol=1e-11)
    energy = jax.jit(jm.energy_fn(potential, SYSTEM))
    R = jnp.asarray(SYSTEM.R)
    v = np.random.default_rng(4).normal(size=R.shape)
    h = 1e-5
    slope = (energy(R + h * v, SYSTEM.box, params) - energy(R - h * v, SYSTEM.box, params)) / (2 * h)
    forces = evaluated(potential, params).forces
    np.testing.assert_allclose(-np.sum(forces * v), slope, rtol=1e-6)
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    Q *= np.sign(np.linalg.det(Q))  # a rotation; a reflection turns the third axis around
    np.testing.assert_allclose(energy(R @ Q.T, SYSTEM.box @ Q.T, params), energy(R, SYSTEM.box, params), rtol=1e-12)
    with pytest.raises(ValueError, match="cannot be restricted"):
        potential.restrict(params, (1,))
    with pytest.raises(ValueError, match="there is no neighbour"):
        replace(part, axes=((0, 0, 9, 0, 1, 0), part.axes[1]))


def test_activations():
    x = jnp.linspace(-30, 30, 1001)
    np.testing.assert_allclose(tanh(x), np.tanh(x), rtol=0, atol=4e-16)
    for name, expected in {
        "sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "gelu": jax.nn.gelu, "softplus": jax.nn.softplus,
    }.items():  # fmt: skip
        np.testing.assert_allclose(ACTIVATIONS[name](x), expected(x), rtol=1e-12, atol=1e-14)


def test_electron_configurations():
    assert sum(occupations(79).values()) == 79
    assert (occupations(79)["5d"], occupations(79)["6s"]) == (10, 1)  # gold
    v = spin_orbitals(8) * 118**0.5
    np.testing.assert_allclose(v[:11], [1, 1, 1, 1, 1, 1, -1, 1, -1, 1, -1])  # 1s2 2s2 2p4
    np.testing.assert_allclose(np.linalg.norm(spin_orbitals(1)), 1.0)


def test_the_calculator_takes_frame_and_atomic_parameters():
    potential, params = model(*PARTS["se_e2_a"], fparams=1, aparams=1)
    conditions = {"fparam": [0.4], "aparam": np.linspace(0, 1, 8)}
    atoms = SYSTEM.to_ase()
    atoms.calc = JaxMLP(potential, params, **conditions)
    expected = jax.jit(jm.energy_fn(potential, SYSTEM))(SYSTEM.R, SYSTEM.box, params, **conditions)
    np.testing.assert_allclose(atoms.get_potential_energy(), expected, rtol=1e-12)
    atoms.calc = JaxMLP(potential, params, fparam=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"fparam must have shape \(1,\)"):
        atoms.get_potential_energy()
