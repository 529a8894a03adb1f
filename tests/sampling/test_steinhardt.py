"""Bond order: the table of perfect neighbourhoods, the definitions with sharp neighbours, smoothness, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from fixed_lists import lists, value, with_list
from scipy.special import sph_harm_y

import jaxmlp as jm
from jaxmlp.basis.coupling import wigner_3j
from jaxmlp.sampling import Crystallinity, GlobalSteinhardt, Steinhardt, Variable, blocks, restraint, variable_fn

golden = (1 + 5**0.5) / 2
rectangle = np.array([[0, s, t * golden] for s in (1, -1) for t in (1, -1)])
ICOSAHEDRON = 1.5 * np.concatenate([np.zeros((1, 3)), rectangle, np.roll(rectangle, 1, 1), np.roll(rectangle, 2, 1)])


def crystal(kind):
    """A system and the distance of its furthest neighbour that counts."""
    if kind == "ico12":
        return jm.System(np.full(13, 18), ICOSAHEDRON), np.linalg.norm(ICOSAHEDRON[1])
    atoms, r = {
        "fcc12": (bulk("Cu", "fcc", a=4.0), 4 / 2**0.5),
        "hcp12": (bulk("Mg", "hcp", a=3.0, c=3 * (8 / 3) ** 0.5), 3.0),
        "bcc8": (bulk("Fe", "bcc", a=3.0), 3 * 0.75**0.5),
        "bcc14": (bulk("Fe", "bcc", a=3.0), 3.0),
        "sc6": (bulk("Po", "sc", a=3.0), 3.0),
        "diamond4": (bulk("Si", "diamond", a=5.43), 5.43 * 3**0.5 / 4),
    }[kind]
    return jm.System.from_ase(atoms), r


class Several(Variable):
    """q4, q6, w4, w6 of atom 0, plain, averaged and of all bonds: one program for the whole table."""

    def __init__(self, r, atoms=None):
        near = dict(inner=1.02 * r, cutoff=1.04 * r, atoms=atoms)
        self.cutoff, self.homogeneous = near["cutoff"], True
        self.kinds = [(l, k) for k in "qw" for l in (4, 6)]
        self.plain = [Steinhardt(l, **near, kind=k) for l, k in self.kinds]
        self.averaged = [Steinhardt(l, **near, kind=k, averaged=True) for l, k in self.kinds]
        self.whole = [GlobalSteinhardt(l, **near, kind=k) for l, k in self.kinds]
        self.size = 12

    def of(self, graph):
        return jnp.concatenate([v.of(graph) for v in (*self.plain, *self.averaged, *self.whole)])


@pytest.mark.parametrize(
    ("kind", "values"),
    [  # PHYSICS.md, section 7
        ("fcc12", (0.190941, 0.574524, -0.159317, -0.013161)),
        ("hcp12", (0.097222, 0.484762, 0.134097, -0.012442)),
        ("bcc8", (0.509175, 0.628539, -0.159317, 0.013161)),
        ("bcc14", (0.036370, 0.510688, 0.159317, 0.013161)),
        ("sc6", (0.763763, 0.353553, 0.159317, 0.013161)),
        ("ico12", (0, 0.663325, 0, -0.169754)),
        ("diamond4", (0.509175, 0.628539, -0.159317, 0.013161)),
    ],
)
def test_perfect_neighborhoods(kind, values):
    system, r = crystal(kind)
    found = jax.jit(variable_fn(Several(r, (0,) if kind == "ico12" else None), system))(system.R, system.box)
    found = np.reshape(found, (3, 4))
    np.testing.assert_allclose(found[0], values, rtol=0, atol=6e-7)  # the table has six digits
    if kind == "diamond4":  # the second atom has the inverted neighbourhood, which for even l is the same
        np.testing.assert_allclose(found[2], found[0], rtol=0, atol=1e-12)
    if kind not in ("hcp12", "ico12"):  # all atoms have the same q_lm
        np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=0, atol=1e-12)


def liquid():
    """A disordered box in which no pair is between 3.0 and 3.1 Å, so that neighbours are sharp, and its bonds."""
    rng = np.random.default_rng(0)
    box = np.diag([7.0, 7.5, 8.0])
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1

    def vectors(R):
        return R[None, :, None] - R[:, None, None] + shifts @ box  # (N, N, 27, 3)

    R = rng.random((14, 3)) @ box
    for _ in range(500):  # move one atom of every pair that is in the way
        d = np.linalg.norm(vectors(R), axis=-1)
        bad = np.argwhere(((d > 2.98) & (d < 3.12)) | ((d > 0) & (d < 1.2)))
        if len(bad) == 0:
            return jm.System(np.full(14, 18), R, box), vectors(R), (d > 0) & (d < 3)
        R[bad[0, 0]] = rng.random(3) @ box
    raise AssertionError("no such liquid was found")


def test_the_definitions_with_complex_harmonics():
    """q_l, w_l, averaged and global, from scipy's harmonics and loops over neighbours."""
    system, d, bonded = liquid()
    assert bonded.sum(axis=(1, 2)).min() >= 1
    l = 4
    theta = np.arctan2(np.hypot(d[..., 0], d[..., 1]), d[..., 2])
    phi = np.arctan2(d[..., 1], d[..., 0])
    Y = np.array([sph_harm_y(l, m, theta, phi) for m in range(-l, l + 1)]) * bonded  # (2l+1, N, N, 27)
    n = bonded.sum(axis=(1, 2))
    q = Y.sum(axis=(2, 3)) / n

    def invariants(q):
        square = np.sum(np.abs(q) ** 2, axis=0)
        w = np.einsum("a...,b...,c...,abc->...", q, q, q, wigner_3j(l, l, l))
        assert np.abs(w.imag).max() < 1e-14
        return np.sqrt(4 * np.pi / (2 * l + 1) * square), w.real / square**1.5

    averaged = (q + np.einsum("ijk,mj->mi", bonded, q)) / (n + 1)
    near, neighbors = dict(cutoff=3.1, inner=3.0), lists(system, 3.1)(system.R, system.box)
    for found, expected in (({}, q), (dict(averaged=True), averaged)):
        for kind, values in zip("qw", invariants(expected)):
            cv = Steinhardt(l, **near, kind=kind, **found)
            sites = value(cv, system.R, system.box, neighbors, "sites")
            np.testing.assert_allclose(sites, values, rtol=1e-11, atol=1e-12)
    for kind, expected in zip("qw", invariants(Y.sum(axis=(1, 2, 3)) / n.sum())):
        cv = GlobalSteinhardt(l, **near, kind=kind)
        np.testing.assert_allclose(value(cv, system.R, system.box, neighbors), [expected], rtol=1e-11)
    u = q / np.sqrt(np.sum(np.abs(q) ** 2, axis=0))
    alike = np.einsum("mi,mj->ij", u, u.conj()).real
    rising = lambda x: np.clip(x, 0, 1) ** 3 * (10 - 15 * np.clip(x, 0, 1) + 6 * np.clip(x, 0, 1) ** 2)
    connections = np.einsum("ijk,ij->i", bonded, rising((alike + 0.4) / 1.2))
    cv = Crystallinity(l, **near, bonded=(-0.4, 0.8), connections=(0.5, 4.0))
    solid = value(cv, system.R, system.box, neighbors, "sites")
    np.testing.assert_allclose(solid, rising((connections - 0.5) / 3.5), rtol=1e-10, atol=1e-12)
    assert 0.05 < solid.mean() < 0.95


def test_crystallinity_tells_a_crystal_from_a_gas():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (3, 3, 3)
    system = jm.System.from_ase(atoms)
    rng = np.random.default_rng(2)
    cv = Crystallinity(6, cutoff=4.9, inner=4.2)
    count = jax.jit(variable_fn(cv, system, headroom=0.6))
    np.testing.assert_allclose(count(system.R, system.box), [108.0], rtol=1e-12)
    warm = system.R + 0.15 * rng.normal(size=system.R.shape)
    assert count(warm, system.box)[0] > 100
    assert count(rng.random(system.R.shape) @ system.box, system.box)[0] < 5


@pytest.mark.parametrize("cv", [Steinhardt(6, 4.0, 3.0), Crystallinity(4, 4.0, 3.0, connections=(0.0, 2.0))])
def test_the_last_neighbor_leaves_smoothly(cv):
    """Two neighbours leave an atom, which has 2, 1, and 0: the value and two derivatives end at zero, none jumps."""
    line = np.array([[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]])
    f = with_list(cv, jm.System([18] * 3, 3 * line))
    s = lambda r: f(line * r, None)[0]
    first = jax.grad(s)
    all_three = jax.jit(jax.vmap(lambda r: jnp.stack([s(r), first(r), jax.grad(first)(r)])))
    r = np.linspace(2.9, 4.1, 1201)
    values = np.asarray(all_three(jnp.asarray(r)))
    assert values[0, 0] > 0.3
    np.testing.assert_array_equal(values[r >= 4.0], 0.0)
    # In a step of 0.001 Å a smooth function with features of 0.1 Å changes by 2 % of its size at most; so do two of
    # its derivatives: a jump of any at the cutoff, at `inner`, or where the centre has one neighbour would be seen.
    steps = np.abs(np.diff(values, axis=0)).max(axis=0)
    assert (steps < 0.03 * np.abs(values).max(axis=0)).all()
    found = np.gradient(values[:, 0], r)
    np.testing.assert_allclose(found[2:-2], values[2:-2, 1], atol=1e-3)  # h^2/6 times the third derivative


def test_blocks_of_rows_change_nothing(monkeypatch):
    """Value, forces and virial of a bias, with rows in three blocks, the last one shorter, and in one."""
    system, _, _ = liquid()
    potential, params = restraint(Steinhardt(4, 3.6, 2.8, averaged=True), (18,), 3.0, 0.0)

    def evaluated():
        out = jax.jit(jm.evaluate_fn(potential, system))(system.R, system.box, params)
        return out.energy, out.forces, out.virial

    whole = evaluated()
    monkeypatch.setattr(blocks, "ROWS", 6)
    for a, b in zip(evaluated(), whole):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_derivatives_are_finite_without_order():
    """Neither atoms without neighbours nor exact zeros of q_l make infinite derivatives."""
    lonely = jm.System([18, 18, 18], [[0, 0, 0], [9.0, 0, 0], [12.0, 0, 0]])
    for cv in (Steinhardt(6, 4.0, 3.0), Steinhardt(6, 4.0, 3.0, kind="w"), Crystallinity(6, 4.0, 3.0)):
        slope = jax.jit(jax.grad(lambda R, f: f(R, None)[0]), static_argnums=1)
        assert np.isfinite(slope(jnp.asarray(lonely.R), with_list(cv, lonely))).all()
    odd = jm.System([18] * 3, [[0, 0, 0], [3.0, 0, 0], [-3.0, 0, 0]])  # q_1 of atom 0 is zero, by symmetry
    f = with_list(Steinhardt(1, 4.0, 3.5, atoms=(0,)), odd)
    q, slope = jax.jit(jax.value_and_grad(lambda R: f(R, None)[0]))(jnp.asarray(odd.R))
    assert q == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Steinhardt(0, 4.0, 3.0), "degree"),
        (lambda: Steinhardt(6, 3.0, 4.0), "inner < cutoff"),
        (lambda: Steinhardt(6, 4.0, 3.0, kind="v"), '"q" or "w"'),
        (lambda: GlobalSteinhardt(5, 4.0, 3.0, kind="w"), "odd"),
        (lambda: Crystallinity(6, 4.0, 3.0, bonded=(0.7, 0.5)), "a < b"),
        (lambda: Steinhardt(6, 4.0, 3.0, atoms=(0, 0)), "different"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
