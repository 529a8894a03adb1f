"""SHAKE and RATTLE: closed forms of rigid rotors and a pendulum, conservation, a brute-force solution, derivatives."""

from functools import partial
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fsolve
from scipy.special import ellipk

import jaxmlp as jm
from jaxmlp.md.constraints import (
    LARGEST,
    Bonds,
    Constraints,
    constraint_forces,
    constraints,
    project_momenta,
    project_positions,
    residual,
)

OH, ANGLE = 0.9572, np.deg2rad(104.52)
WATER = OH * np.array([[0, 0], [np.sin(ANGLE / 2), np.cos(ANGLE / 2)], [-np.sin(ANGLE / 2), np.cos(ANGLE / 2)]])
WATER = np.pad(WATER, ((0, 0), (0, 1)))
TRIANGLE = ((0, 1), (0, 2), (1, 2))

close = partial(np.testing.assert_allclose, equal_nan=False)


class Rigid(NamedTuple):
    """Constraints of a system, with its arrays."""

    constraints: Constraints
    bonds: Bonds
    R: jax.Array
    mass: jax.Array
    box: jax.Array | None

    @classmethod
    def of(cls, system, pairs, lengths=None):
        box = None if system.box is None else jnp.asarray(system.box)
        found, bonds = constraints(system, pairs, lengths)
        return cls(found, bonds, jnp.asarray(system.R), jnp.asarray(system.masses)[:, None], box)

    def momenta(self, seed=0):
        """Random momenta, of about 1 (amu eV)^(1/2), that obey the constraints."""
        p = np.random.default_rng(seed).normal(size=self.R.shape)
        return rattle(self.constraints, self.bonds, self.R, jnp.asarray(p), self.mass, self.box)

    def rates(self, R, p):
        """r . (v_j - v_i) of every bond of an open system, by hand."""
        i, j = np.array(self.constraints.pairs).T
        v = p / self.mass
        return jnp.sum((R[j] - R[i]) * (v[j] - v[i]), axis=1)


def free(R):
    return jnp.zeros_like(R)


def egg_box(R):
    """The forces of E = -sum cos R."""
    return -jnp.sin(R)


def trajectory(rigid: Rigid, R, p, h, steps, force=free):
    """Return R and p after every step of velocity Verlet with RATTLE, (steps, N, 3)."""
    on, rest = (rigid.constraints, rigid.bonds), (rigid.mass, rigid.box)

    def step(state, _):
        R, p = state
        p = p + 0.5 * h * force(R)
        new, p = project_positions(*on, R + h * p / rigid.mass, R, p, *rest, h)
        p = project_momenta(*on, new, p + 0.5 * h * force(new), *rest)
        return (new, p), (new, p)

    return jax.lax.scan(step, (R, p), length=steps)[1]


run = jax.jit(trajectory, static_argnames=("steps", "force"))
shake, rattle, reactions = (
    jax.jit(f, static_argnums=0) for f in (project_positions, project_momenta, constraint_forces)
)
jax.tree_util.register_pytree_node(
    Rigid, lambda x: (x[1:], x.constraints), lambda static, children: Rigid(static, *children)
)


def kinetic(p, mass):
    return 0.5 * jnp.sum(p * p / mass, axis=(-2, -1))


@pytest.fixture(scope="module")
def water():
    return Rigid.of(jm.System([8, 1, 1], WATER), TRIANGLE)


@pytest.fixture(scope="module")
def mixed():
    """A water, a dimer and a chain of four with its angles fixed (5 constraints): most of the clusters is padding."""
    chain = np.array([[0, 0, 0], [1.3, 0.2, 0], [1.8, 1.4, 0.3], [3.0, 1.5, 0.9]]) + 4
    system = jm.System([8, 1, 1, 7, 7, 6, 6, 6, 6], np.concatenate([WATER, [[0, 0, 3], [0.3, 0.9, 3.4]], chain]))
    rest = ((4, 3), (5, 6), (6, 7), (7, 8), (5, 7), (8, 6))
    return Rigid.of(system, TRIANGLE + rest)


def test_a_free_dimer_turns_by_the_arcsine_of_its_step():
    """RATTLE turns it by arcsin(h omega) a step, exactly, with constant speed: R_new is orthogonal to r(R_old)."""
    d, omega, h, steps = 1.1, 0.7, 0.3, 100
    masses = np.array([14.0, 16.0])
    inward = np.array([-masses[1], masses[0]])[:, None] / masses.sum() * d  # places of the atoms along the bond
    rigid = Rigid.of(jm.System([7, 8], inward * [1.0, 0, 0], masses=masses), [(0, 1)])
    p = rigid.mass * omega * inward * np.array([0, 1.0, 0])
    R, p = run(rigid, rigid.R, p, h, steps)
    turned = np.arcsin(h * omega) * steps
    along, across = np.array([np.cos(turned), np.sin(turned), 0]), np.array([-np.sin(turned), np.cos(turned), 0])
    close(R[-1], inward * along, atol=1e-12)  # rounding of 100 steps
    close(p[-1], rigid.mass * omega * inward * across, atol=1e-11)


def test_a_free_top_keeps_lengths_momenta_and_its_path_backwards(water):
    start = water.momenta()
    R, p = run(water, water.R, start, 0.05, 400)
    for a, (i, j) in enumerate(water.constraints.pairs):
        close(jnp.linalg.norm(R[:, j] - R[:, i], axis=1), water.bonds.length[a], rtol=1e-13)
    assert np.abs(R[-1] - water.R).max() > 0.5  # it went somewhere
    close(jax.vmap(water.rates)(R, p), 0, atol=1e-13)
    close(p.sum(axis=1) - start.sum(axis=0), 0, atol=1e-12)
    close(np.cross(R, p).sum(axis=1) - np.cross(water.R, start).sum(axis=0), 0, atol=1e-11)
    back, p_back = run(water, R[-1], -p[-1], 0.05, 400)
    close(back[-1], water.R, atol=1e-10)  # rounding of 800 steps
    close(p_back[-1], -start, atol=1e-10)


def test_the_energy_is_kept_by_a_free_top_and_to_second_order_by_a_bound_one(water):
    """Without forces RATTLE is the map of Moser and Veselov (1991), which keeps the energy of a top."""
    start = water.momenta()
    _, p = run(water, water.R, start, 0.05, 400)
    close(kinetic(p, water.mass), kinetic(start, water.mass), rtol=1e-12)
    error = {}
    for refined in (1, 2, 4):
        R, p = run(water, water.R, start, 0.08 / refined, 400, force=egg_box)
        energy = (kinetic(p, water.mass) - jnp.sum(jnp.cos(R), axis=(-2, -1)))[: 100 * refined]
        error[refined] = np.abs(energy - kinetic(start, water.mass) + jnp.sum(jnp.cos(water.R))).max()
    assert 1e-5 < error[2] < 1e-1
    assert abs(error[1] / error[2] - 4) < 0.2  # the next order is relatively of the size of h^2
    assert abs(error[2] / error[4] - 4) < 0.05


def test_the_period_of_a_pendulum():
    """Released at 2 rad from the bottom it is at rest there again after 4 (l/g)^(1/2) K(sin(1))."""
    length, g, amplitude = 1.3, 0.8, 2.0
    period = 4 * np.sqrt(length / g) * ellipk(np.sin(amplitude / 2) ** 2)
    bob = length * np.array([np.sin(amplitude), 0, -np.cos(amplitude)])
    rigid = Rigid.of(jm.System([1, 1], [[0, 0, 0], bob], masses=[1e12, 2.0]), [(0, 1)])
    weight = jnp.zeros((2, 3)).at[1, 2].set(-2.0 * g)
    error = {}
    for steps in (200, 400):
        R, _ = run(rigid, rigid.R, jnp.zeros((2, 3)), period / steps, 400, force=Constant(weight))
        error[steps] = np.linalg.norm(R[steps - 1, 1] - bob)
        close(R[steps // 2 - 1, 1], bob * [-1, 1, 1], atol=2e-5)
    assert 1e-7 < error[200] < 1e-5
    # At rest the error of the place is the square of that of the time, which is of second order.
    assert abs(error[200] / error[400] - 16) < 1.0


class Constant:
    """A constant force; hashed by identity, as a static argument is."""

    def __init__(self, value):
        self.value = value

    def __call__(self, R):
        return self.value


def by_hand(pairs, lengths, new, old, mass):
    """Return SHAKE's positions by solving for the multipliers with fsolve."""

    def moved(multipliers):
        R = new.copy()
        for (i, j), x in zip(pairs, multipliers):
            R[i] -= x * (old[j] - old[i]) / mass[i]
            R[j] += x * (old[j] - old[i]) / mass[j]
        return R

    def excess(multipliers):
        R = moved(multipliers)
        return [np.sum((R[j] - R[i]) ** 2) - d * d for (i, j), d in zip(pairs, lengths)]

    return moved(fsolve(excess, np.zeros(len(pairs)), xtol=1e-14))


def test_a_random_cluster_as_solved_by_scipy():
    rng = np.random.default_rng(2)
    masses, old = rng.uniform(1, 16, 4), np.array([[0, 0, 0], [1.2, 0, 0], [0.4, 1.1, 0], [0.5, 0.4, 1.3]])
    system = jm.System([6] * 4, old, masses=masses)
    pairs = [pair for pair in combinations(range(4), 2) if pair != (1, 3)]
    rigid = Rigid.of(system, pairs)
    new, p = old + 0.15 * rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    exact = by_hand(pairs, np.asarray(rigid.bonds.length), new, old, masses)
    R, q = shake(*rigid[:2], jnp.asarray(new), rigid.R, jnp.asarray(p), *rigid[3:], 0.3)
    close(R, exact, atol=1e-10)  # the accuracy of fsolve
    close(q, p + masses[:, None] * (exact - new) / 0.3, atol=1e-8)
    # Momenta: p + sum of lambda r, the least-squares solution of r . (v_j - v_i) = 0 in the metric of the masses.
    q = rattle(*rigid[:2], rigid.R, jnp.asarray(p), *rigid[3:])
    J = np.zeros((5, 4, 3))
    for a, (i, j) in enumerate(pairs):
        J[a, j], J[a, i] = old[j] - old[i], old[i] - old[j]
    root = np.sqrt(masses)[:, None]
    J = (J / root).reshape(5, 12)
    scaled = (p / root).ravel()
    close(q, root * (scaled - np.linalg.pinv(J) @ J @ scaled).reshape(4, 3), atol=1e-12)


def test_neither_the_order_of_constraints_nor_padding_matters(mixed):
    p = mixed.momenta()
    order = np.random.default_rng(1).permutation(len(mixed.constraints))
    pairs = [mixed.constraints.pairs[a][:: 1 - 2 * (a % 2)] for a in order]  # every second one the other way round
    system = jm.System([8, 1, 1, 7, 7, 6, 6, 6, 6], mixed.R)
    other = Rigid.of(system, pairs)
    expected = run(mixed, mixed.R, p, 0.1, 5)
    for a, b in zip(run(other, mixed.R, p, 0.1, 5), expected):
        close(a, b, atol=1e-13)
    for atoms, pairs in ((slice(0, 3), TRIANGLE), (slice(3, 5), ((1, 0),))):
        alone = Rigid.of(jm.System(system.numbers[atoms], system.R[atoms]), pairs)
        for a, b in zip(run(alone, alone.R, p[atoms], 0.1, 5), expected):
            close(a, b[:, atoms], atol=1e-13)


def test_thousands_of_molecules_are_clusters_of_three():
    n = 2000
    shift = np.random.default_rng(0).permutation(n)[:, None, None] * 3
    static = Constraints((np.array(TRIANGLE) + shift).reshape(-1, 2))
    assert len(static) == 3 * n
    assert static.clusters.signs.shape == (n, 3, 3)
    assert static.clusters.real.all()
    assert hash(static) == hash(Constraints(static.pairs))


def test_molecules_across_the_boundary_move_as_whole_ones(water):
    box = np.array([[5.0, 0, 0], [4.0, 4.0, 0], [-2.0, 1.0, 6.0]])
    wrapped = WATER + np.array([[1, 0, 0], [0, -1, 1], [0, 0, 0]]) @ box
    rigid = Rigid.of(jm.System([8, 1, 1], wrapped, box), TRIANGLE)
    close(rigid.bonds.length, water.bonds.length, rtol=1e-14)
    p = water.momenta()
    F = 0.1 * water.momenta(1)
    for a, b in zip(run(rigid, rigid.R, p, 0.1, 5), run(water, water.R, p, 0.1, 5)):
        close(a - a[0], b - b[0], atol=1e-13)
    for a, b in zip(*(reactions(*x[:3], p, F, *x[3:]) for x in (rigid, water))):
        close(a, b, atol=1e-13)
    assert residual(*rigid[:3], rigid.box) < 1e-14


def test_derivatives_through_ten_steps_are_finite_differences(mixed):
    p, lever = mixed.momenta(), jnp.asarray(np.random.default_rng(3).normal(size=(2, *mixed.R.shape)))

    @jax.jit
    def end(given):
        """A projection of the last positions and momenta."""
        rigid = mixed._replace(bonds=mixed.bonds._replace(length=given["length"]), mass=given["mass"])
        R, p = trajectory(rigid, given["R"], given["p"], 0.08, 10, egg_box)
        return jnp.sum(lever[0] * R[-1] + lever[1] * p[-1])

    start = {"length": mixed.bonds.length, "mass": mixed.mass, "R": mixed.R, "p": p}
    gradient = jax.jit(jax.grad(end))(start)
    rng = np.random.default_rng(4)
    for name, x in start.items():
        step = jnp.asarray(rng.normal(size=x.shape))
        at = lambda t: end(start | {name: x + t * step})  # noqa: B023
        h = 1e-4
        found = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        close(jnp.sum(gradient[name] * step), found, rtol=1e-7, atol=1e-7)  # h^4 and 1e-14 / h


def test_the_force_on_a_turning_dimer_is_centripetal():
    masses, d, omega = np.array([1.0, 3.0]), 1.4, 0.6
    rigid = Rigid.of(jm.System([1, 1], [[0, 0, 0], [d, 0, 0]], masses=masses), [(0, 1)])
    v = omega * d * np.array([-0.75, 0.25])  # about the centre of mass
    p = rigid.mass * v[:, None] * np.array([0, 0, 1.0]) + rigid.mass * np.array([0.3, -0.2, 0.1])  # and it drifts
    forces, virial = reactions(*rigid[:3], p, jnp.zeros((2, 3)), *rigid[3:])
    size = masses[0] * v[0] ** 2 / (0.75 * d)
    close(forces, [[size, 0, 0], [-size, 0, 0]], atol=1e-14)
    close(virial, np.diag([-size * d, 0, 0]), atol=1e-14)
    close(jnp.trace(virial), -np.sum(masses * v**2), rtol=1e-13)  # the virial theorem
    # A pull along the bond is taken up by it, what it does to the centre of mass is not.
    pull = np.array([[-2.0, 0, 0], [2.0, 0, 0]]) + masses[:, None] * 0.7
    forces, virial = reactions(*rigid[:3], 0 * p, jnp.asarray(pull), *rigid[3:])
    close(forces, [[2, 0, 0], [-2, 0, 0]], atol=1e-14)
    close(virial[0, 0], -2 * d, rtol=1e-14)


def test_constraint_forces_are_those_of_the_next_instant(mixed):
    """Along R + t v + t^2 a / 2 the lengths change with t^3; the forces and their virial are those of the bonds."""
    p, F = mixed.momenta(), mixed.momenta(1)
    forces, virial = reactions(*mixed[:3], p, F, *mixed[3:])
    i, j = np.array(mixed.constraints.pairs).T
    v, a = p / mixed.mass, (F + forces) / mixed.mass

    def squares(t):
        R = mixed.R + t * v + 0.5 * t * t * a
        return jnp.sum(jnp.square(R[j] - R[i]), axis=1)

    close(jax.jacfwd(jax.jacfwd(squares))(0.0), 0, atol=1e-12)
    assert np.abs(forces).max() > 0.1
    close(virial, mixed.R.T @ forces, atol=1e-12)
    close(virial, virial.T, atol=1e-13)
    close(forces.sum(axis=0), 0, atol=1e-13)


def test_replicas_in_one_call(mixed):
    p = jnp.stack([mixed.momenta(seed) for seed in range(3)])
    R, q = jax.jit(jax.vmap(lambda p: trajectory(mixed, mixed.R, p, 0.1, 5)))(p)
    for k in range(3):
        for a, b in zip((R[k], q[k]), run(mixed, mixed.R, p[k], 0.1, 5)):
            close(a, b, atol=1e-13)


def test_a_structure_that_is_nearly_right_is_brought_to_its_lengths():
    system = jm.System([8, 1, 1], 1.08 * WATER)
    lengths = [OH, OH, 2 * OH * np.sin(ANGLE / 2)]
    rigid = Rigid.of(system, TRIANGLE, lengths)
    close(residual(*rigid[:3], None), 0.08, rtol=1e-12)
    R, _ = shake(*rigid[:2], rigid.R, rigid.R, jnp.zeros((3, 3)), *rigid[3:], 1.0)
    assert residual(*rigid[:2], R, None) < 1e-14
    close(np.average(R - rigid.R, axis=0, weights=system.masses), 0, atol=1e-15)


def test_a_bond_turned_too_far_is_not_a_number(mixed):
    """A dimer turned by more than a right angle has no solution; the other clusters have theirs."""
    p = jnp.zeros_like(mixed.R)
    far = mixed.R.at[4].set(mixed.R[3] - 2.5 * (mixed.R[4] - mixed.R[3]) + jnp.array([3.0, 0, 0]))
    R, _ = shake(*mixed[:2], far, mixed.R, p, *mixed[3:], 0.1)
    assert np.isnan(R[3:5]).all()
    close(np.delete(R, (3, 4), axis=0), np.delete(mixed.R, (3, 4), axis=0), atol=1e-14)


def test_the_dtype_is_that_of_the_arguments(water):
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, water)
    arguments = (single.R, single.R, single.R, single.mass, single.box)
    out = (
        jax.eval_shape(lambda *x: project_positions(*single[:2], *x, 0.1), *arguments),
        jax.eval_shape(lambda R, _, *x: project_momenta(*single[:2], R, *x), *arguments),
        jax.eval_shape(lambda R, *x: constraint_forces(*single[:2], R, *x), *arguments),
    )
    assert {x.dtype for x in jax.tree.leaves(out)} == {np.dtype(np.float32)}
    R, _ = shake(*single[:2], 1.05 * single.R, single.R, single.R, *single[3:], jnp.float32(0.1))
    assert residual(*single[:2], R, None) < 1e-6  # a few times 6e-8


LINE = np.arange(40)[:, None] * np.array([1.0, 0.3, 0])
FIVE = np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.1, 0], [0, 0, 1.2], [1, 1, 1]])


@pytest.mark.parametrize(
    ("R", "pairs", "lengths", "message"),
    [
        (WATER, [(0, 1, 2)], None, r"integers of shape \(n, 2\)"),
        (WATER, [(0.0, 1.0)], None, r"integers of shape \(n, 2\)"),
        (WATER, [(0, 1), (2, 2)], None, r"pairs\[1\] = \[2, 2\]: indices are different"),
        (WATER, [(0, -1)], None, "not negative"),
        (WATER, [(0, 1), (0, 2), (1, 0)], None, r"holds \[0, 1\] 2 times"),
        (WATER, [(0, 3)], None, "binds atom 3, .* has 3 atoms"),
        (WATER, [(0, 1), (0, 2)], [0.96, 0.0], "that of atoms 0 and 2 is 0.0"),
        (WATER, [(0, 1)], np.nan, "positive, in Å"),
        (WATER, [(0, 1)], [1.0, 1.0], "each of the 1 pairs"),
        (WATER, [(0, 1), (0, 2)], [0.96, 1.2], "atoms 0 and 2 are 0.9572 Å apart and shall be 1.2 Å"),
        (LINE[:3], TRIANGLE, None, r"\(0, 1\), \(0, 2\), \(1, 2\) depend on each other"),
        (FIVE, list(combinations(range(5), 2)), None, "depend on each other"),
        (LINE, [(k, k + 1) for k in range(39)], None, f"39 .* a cluster may have {LARGEST}"),
    ],
)
def test_constraints_that_cannot_be_are_refused(R, pairs, lengths, message):
    with pytest.raises(ValueError, match=message):
        constraints(jm.System([1] * len(R), R), pairs, lengths)
