"""Collective variables: closed forms, derivatives, invariances, periodic images, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from fixed_lists import lists, value
from scipy.spatial.transform import Rotation

import jaxmlp as jm
from jaxmlp.sampling import (
    RMSD,
    Angle,
    Center,
    Coordination,
    Crystallinity,
    Density,
    DensityWave,
    Distance,
    Function,
    GlobalSteinhardt,
    GyrationRadius,
    PairEntropy,
    Position,
    Projection,
    Stack,
    Steinhardt,
    Torsion,
    Transformed,
    Volume,
    center_of_mass,
    site_variable_fn,
    variable,
    variable_fn,
)

SKEWED = np.array([[9.0, 0.0, 0.0], [2.5, 8.0, 0.0], [-1.5, 2.0, 8.5]])
RNG = np.random.default_rng(4)


def gas(n=40, seed=1):
    """Random atoms, none nearer to another than 1.5 Å."""
    rng, R = np.random.default_rng(seed), np.zeros((0, 3))
    while len(R) < n:
        new = rng.random(3) @ SKEWED
        if np.linalg.norm(images_of(new, R), axis=-1).min(initial=9.0) > 1.5:
            R = np.append(R, [new], axis=0)
    return jm.System(np.resize([18, 36], n), R, SKEWED)


def images_of(a, R):
    """Vectors from a to all images of R in the neighbouring cells, (n, 27, 3)."""
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    return (R - a)[:, None] + shifts @ SKEWED


GAS = gas()
X = RNG.normal(size=(4, 3))  # a reference shape
NEAR = dict(cutoff=3.6, inner=2.4)

CASES = {
    "position": Position(3),
    "position-of-a-group": Position((1, 2, 5), axis=1),
    "distance": Distance((0, 7)),
    "distance-of-centres": Distance((Center((0, 1), (2.0, 1.0)), (4, 5, 6)), minimum_image=False),
    "projection": Projection((2, 9), direction=(1.0, 2.0, -0.5)),
    "angle": Angle((0, 3, 8)),
    "torsion": Torsion((0, 3, 8, 11)),
    "gyration": GyrationRadius(Center((1, 2, 5, 9), (1.0, 2.0, 3.0, 4.0))),
    "rmsd": RMSD((1, 2, 5, 9), X),
    "volume": Volume(),
    "density": Density((0, 1, 2)),
    "density-wave": DensityWave((2, 0, 1), atoms=tuple(range(0, 40, 2))),
    "coordination": Coordination(**NEAR),
    "coordination-of-groups": Coordination(**NEAR, a=(0, 1, 2), b=tuple(range(1, 40, 2)), r0=2.8),
    "pair-entropy": PairEntropy(3.2, width=0.2, points=40),
    "q6": Steinhardt(6, **NEAR),
    "averaged-q4": Steinhardt(4, **NEAR, averaged=True, atoms=(0, 3, 4)),
    "w4": Steinhardt(4, **NEAR, kind="w"),
    "Q6": GlobalSteinhardt(6, **NEAR),
    "W4": GlobalSteinhardt(4, **NEAR, kind="w"),
    "crystallinity": Crystallinity(6, **NEAR, bonded=(-0.3, 0.9), connections=(0.2, 6.0)),
    "stack": Stack((Distance((0, 7)), Coordination(**NEAR), Torsion((0, 3, 8, 11)))),
    "transformed": Transformed(Stack((Distance((0, 7)), Coordination(3.4, 2.0))), lambda s: s[0] - s[1] ** 2),
    "function": Function(lambda R, box: jnp.stack([R[0] @ R[1], jnp.trace(box)]), size=2),
}
UNLABELLED = {"crystallinity", "q6", "w4", "Q6", "W4", "volume", "coordination", "pair-entropy"}  # name no atoms
FIXED = {"position", "position-of-a-group", "function"}  # in space
TURNED = set(CASES) - FIXED - {"projection"}  # rotation changes nothing

search = lists(GAS, 4.0)


class Subject:
    """A variable with its compiled functions of (R, box, neighbours), shared by all laws."""

    def __init__(self, name):
        self.name, self.cv = name, CASES[name]
        self.neighbors = search(GAS.R, GAS.box)
        self.v = np.random.default_rng(6).normal(size=GAS.R.shape)
        self.of = partial(value, self.cv)
        self._value, self._derivatives = jax.jit(self.of), jax.jit(self._gradients)

    def __call__(self, R, box, neighbors=None):
        return np.asarray(self._value(R, box, self.neighbors if neighbors is None else neighbors))

    def _gradients(self, R, box, neighbors):
        weighted = lambda R, box: jnp.arange(1.0, self.cv.size + 1) @ self.of(R, box, neighbors)
        slopes = jax.grad(weighted, (0, 1))
        return *slopes(R, box), jax.jvp(lambda R: slopes(R, box)[0], (R,), (self.v,))[1]

    def derivatives(self, R, box):
        """Gradients of sum_a a s_a in R and box, and the change of the first along v."""
        return [np.asarray(x) for x in self._derivatives(R, box, self.neighbors)]


@pytest.fixture(scope="module", params=sorted(CASES))
def subject(request):
    return Subject(request.param)


def slope(f, h=1e-3):
    """df/dt at t = 0 by central differences, error O(h^4)."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def test_shape_and_dtype(subject):
    s = subject(GAS.R, GAS.box)
    assert s.shape == (subject.cv.size,) == (len(subject.cv.periods),)
    assert np.isfinite(s).all()
    half = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, subject.neighbors)
    assert jax.eval_shape(subject.of, half.R, half.box, half).dtype == jnp.float32  # also if x64 is enabled
    with jax.enable_x64(False):
        assert jax.eval_shape(subject.of, half.R, half.box, half).dtype == jnp.float32


def test_derivatives_are_finite_differences(subject):
    R, box, v = GAS.R, GAS.box, subject.v
    weights = np.arange(1.0, subject.cv.size + 1)
    dR, dbox, change = subject.derivatives(R, box)
    # h^4 with h = 3e-4, of functions that change over 0.1 Å; rounding of 1e-15 / h
    found = slope(lambda t: weights @ subject(R + t * v, box), 3e-4)
    np.testing.assert_allclose(found, np.sum(dR * v), rtol=1e-6, atol=1e-8)
    strain = np.random.default_rng(8).normal(size=(3, 3))
    F = lambda t: np.eye(3) + t * strain
    found = slope(lambda t: weights @ subject(R @ F(t), box @ F(t)), 1e-4)
    np.testing.assert_allclose(found, np.sum((R.T @ dR + box.T @ dbox) * strain), rtol=1e-6, atol=1e-8)
    found = slope(lambda t: np.sum(v * subject.derivatives(R + t * v, box)[0]), 2e-4)
    np.testing.assert_allclose(found, np.sum(v * change), rtol=1e-5, atol=1e-6)


def test_invariances(subject):
    s, name = subject(GAS.R, GAS.box), subject.name
    moved = subject(GAS.R + np.array([0.4, -1.3, 2.2]), GAS.box)
    assert subject.cv.homogeneous == (name not in FIXED)
    if subject.cv.homogeneous:
        np.testing.assert_allclose(moved, s, rtol=1e-11, atol=1e-11)  # rounding of positions of 10 Å
    else:
        assert np.abs(moved - s).max() > 0.1
    Q = Rotation.from_rotvec([0.3, -1.0, 0.7]).as_matrix()
    if name in TURNED:
        np.testing.assert_allclose(subject(GAS.R @ Q.T, GAS.box @ Q.T), s, rtol=1e-10, atol=1e-10)
    if name in UNLABELLED:
        R = GAS.R[np.random.default_rng(5).permutation(40)]
        np.testing.assert_allclose(subject(R, GAS.box, search(R, GAS.box)), s, rtol=1e-11, atol=1e-11)


def test_closed_forms():
    R = np.array([[0.0, 0, 0], [1.0, 0, 0], [1.0, 2.0, 0], [1.0, 2.0, 2.0]])
    np.testing.assert_allclose(Distance((0, 2))(R), [5**0.5])
    np.testing.assert_allclose(Distance(((0, 1), 2))(R), [4.25**0.5])
    np.testing.assert_allclose(Projection((0, 3), direction=(0, 3, 4))(R), [(2 * 3 + 2 * 4) / 5])
    np.testing.assert_allclose(Angle((0, 1, 2))(R), [np.pi / 2])
    # Looking along the middle bond, from the front: the bond behind is turned clockwise by a right angle.
    np.testing.assert_allclose(Torsion((0, 1, 2, 3))(R), [np.pi / 2])
    np.testing.assert_allclose(Position((0, 3))(R), [0.5, 1.0, 1.0])
    np.testing.assert_allclose(GyrationRadius((0, 2))(R), [1.25**0.5])
    np.testing.assert_allclose(Volume()(R, SKEWED), [9 * 8 * 8.5])
    np.testing.assert_allclose(Density((0, 1, 2))(R, SKEWED), [3 / 612])
    np.testing.assert_allclose(Density()(R, SKEWED), [4 / 612])
    assert Torsion((0, 1, 2, 3)).periods == (2 * np.pi,)
    water = jm.System([8, 1, 1], [[0, 0, 0], [0.6, 0.7, 0], [0.6, -0.7, 0]])
    com = water.masses @ water.R / water.masses.sum()
    np.testing.assert_allclose(Position(center_of_mass(water, (0, 1, 2)))(water.R), com, atol=1e-15)


def test_images():
    """Vectors between atoms are the shortest; wrapping atoms changes nothing but where it is asked for."""
    R = np.array([[0.5, 0.2, 0.1], [1.5, 1.2, 0.6], [4.0, 4.0, 4.0]])
    far = R + np.array([[0, 0, 0], [2, -1, 3], [0, 1, 0]]) @ SKEWED
    for cv in (Distance((0, 1)), Angle((0, 1, 2)), Projection((0, 1))):
        np.testing.assert_allclose(cv(far, SKEWED), cv(R, SKEWED), rtol=1e-12)
    np.testing.assert_allclose(Distance((0, 1))(R, SKEWED), [1.5])
    np.testing.assert_allclose(
        Distance((0, 1), minimum_image=False)(far, SKEWED), [np.linalg.norm(far[1] - far[0])], rtol=1e-14
    )
    slab = jm.System([18, 18], [[0, 0, 0], [0, 0, 5.0]], np.diag([6.0, 6.0, 7.0]), (True, True, False))
    np.testing.assert_allclose(variable_fn(Distance((0, 1)), slab)(slab.R, slab.box), [5.0])
    solid = jm.System([18, 18], slab.R, slab.box)
    np.testing.assert_allclose(variable_fn(Distance((0, 1)), solid)(solid.R, solid.box), [2.0])


def test_rmsd_is_that_of_the_best_rotation():
    R = X @ Rotation.from_rotvec([1.0, 2.0, -0.4]).as_matrix().T + 3.0
    cv = RMSD((0, 1, 2, 3), X)
    assert float(cv(R)[0]) < 1e-7  # rounding 1e-16, under the root
    w = np.array([1.0, 2.0, 0.5, 1.5])
    noisy = R + 0.3 * RNG.normal(size=R.shape)
    centred = lambda x: x - w @ x / w.sum()
    _, rssd = Rotation.align_vectors(centred(noisy), centred(X), weights=w)
    weighted = RMSD(Center((0, 1, 2, 3), w), X)
    np.testing.assert_allclose(weighted(noisy), [rssd / w.sum() ** 0.5], rtol=1e-12)
    mirrored = X * np.array([1, 1, -1])  # rotations only: a mirror image is another shape
    assert float(cv(mirrored)[0]) > 0.1


def test_density_waves():
    """Of a perfect crystal n^(1/2) at its reciprocal vectors, 0 elsewhere; unwrapped atoms count the same."""
    fcc = jm.System.from_ase(bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 3))
    np.testing.assert_allclose(DensityWave((2, 2, 3))(fcc.R, fcc.box), [48**0.5], rtol=1e-12)  # 111
    np.testing.assert_allclose(DensityWave((0, 0, 6))(fcc.R, fcc.box), [48**0.5], rtol=1e-12)  # 002
    np.testing.assert_allclose(DensityWave((2, 0, 0))(fcc.R, fcc.box), [0.0], atol=1e-13)  # 100 is extinct
    R = fcc.R + 0.2 * RNG.normal(size=fcc.R.shape)
    k = 2 * np.pi * np.linalg.inv(fcc.box) @ [1, 2, 3]
    expected = abs(np.exp(-1j * R @ k).sum()) / 48**0.5
    np.testing.assert_allclose(DensityWave((1, 2, 3))(R, fcc.box), [expected], rtol=1e-12)
    unwrapped = R + RNG.integers(-50, 50, R.shape) @ fcc.box
    np.testing.assert_allclose(DensityWave((1, 2, 3))(unwrapped, fcc.box), [expected], rtol=1e-10)
    assert np.isfinite(jax.grad(lambda R: DensityWave((2, 0, 0))(R, fcc.box)[0])(jnp.zeros((48, 3)))).all()


def evaluated(cv, system=GAS):
    return np.asarray(jax.jit(variable_fn(cv, system))(system.R, system.box))


def pairs(R):
    """Vectors from every atom to the images of all others, (N, N * 27, 3)."""
    return np.array([images_of(a, R).reshape(-1, 3) for a in R])


def test_coordination_counts_pairs_of_groups():
    d = np.linalg.norm(pairs(GAS.R), axis=-1).reshape(40, 40, 27)
    x = np.clip((d - 2.4) / 1.2, 0, 1)
    c = np.where(d > 0, 1 - 10 * x**3 + 15 * x**4 - 6 * x**5, 0)
    of = lambda cv: float(evaluated(cv)[0])
    np.testing.assert_allclose(of(Coordination(**NEAR)), c.sum() / 40, rtol=1e-12)
    soft = c / (1 + (np.where(d > 0, d, 1.0) / 2.8) ** 8)
    a, b = [0, 1, 2], list(range(1, 40, 2))
    np.testing.assert_allclose(of(Coordination(**NEAR, a=a, b=b, r0=2.8, n=8)), soft[a][:, b].sum() / 3, rtol=1e-12)


def test_the_pair_entropy_of_its_formula():
    r_m, width, points = 3.2, 0.2, 40
    d = np.linalg.norm(pairs(GAS.R), axis=-1)
    d = d[(d > 0) & (d < r_m + 4 * width)]
    x = np.clip((d - r_m - 3 * width) / width, 0, 1)
    fading = 1 - 10 * x**3 + 15 * x**4 - 6 * x**5
    r = np.linspace(0, r_m, points + 1)[1:]
    rho = 40 / 612
    g = (fading * np.exp(-((r[:, None] - d) ** 2) / (2 * width**2))).sum(axis=1) / (2 * np.pi * width**2) ** 0.5
    g /= 4 * np.pi * 40 * rho * r**2
    integrand = np.append(0.0, (g * np.log(np.maximum(g, 1e-300)) - g + 1) * r**2)
    expected = -2 * np.pi * rho * np.trapezoid(integrand, np.append(0.0, r))
    cv = PairEntropy(r_m, width, points)
    np.testing.assert_allclose(evaluated(cv), [expected], rtol=1e-12)
    crystal = jm.System.from_ase(bulk("Ar", "fcc", a=5.3, cubic=True))
    cv = PairEntropy(7.0)
    rattled = crystal.replace(R=crystal.R + 0.3 * RNG.normal(size=crystal.R.shape))
    assert evaluated(cv, crystal)[0] < evaluated(cv, rattled)[0] < 0


def test_parts_of_a_stack_and_functions_of_them():
    a, b = Distance((0, 7)), Coordination(3.0, 2.0)
    whole = Stack((a, b, lambda R, box: R[0, 0]))
    assert (whole.cutoff, whole.size, whole.homogeneous, whole.shells) == (3.0, 3, False, (3.0,))
    s, parts = evaluated(whole), [evaluated(x) for x in (a, b)]
    np.testing.assert_allclose(s, np.append(np.concatenate(parts), GAS.R[0, 0]), rtol=1e-14)
    ratio = Transformed(whole, lambda s: s[0] / s[1])
    np.testing.assert_allclose(evaluated(ratio), [s[0] / s[1]], rtol=1e-14)
    assert hash(whole) == hash(Stack((a, b, whole.variables[2])))


def test_differences_go_the_short_way_round():
    cv = Stack((Torsion((0, 1, 2, 3)), Distance((0, 1))))
    d = cv.difference(jnp.array([3.0, 9.0]), jnp.array([-3.0, 1.0]))
    np.testing.assert_allclose(d, [6 - 2 * np.pi, 8.0])


def test_values_of_single_atoms():
    cv = Steinhardt(6, **NEAR)
    sites = jax.jit(site_variable_fn(cv, GAS))(GAS.R, GAS.box)
    assert sites.shape == (40,)
    np.testing.assert_allclose(sites.mean(), evaluated(cv)[0], rtol=1e-13)
    with pytest.raises(ValueError, match="not made of values of single atoms"):
        site_variable_fn(Volume(), GAS)


def test_an_overflow_is_never_silent():
    f = jax.jit(variable_fn(Coordination(**NEAR), GAS, headroom=0.0))
    assert np.isnan(f(0.5 * GAS.R, 0.5 * GAS.box)).all()


def test_a_program_is_compiled_once():
    traces = []

    def distance(R, box):
        traces.append(1)
        return jnp.linalg.norm(R[0] - R[1])

    f = jax.jit(variable_fn(distance, GAS))
    for scale in (1.0, 1.1):
        np.testing.assert_allclose(f(scale * GAS.R, GAS.box), [scale * np.linalg.norm(GAS.R[0] - GAS.R[1])], rtol=1e-13)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distance((0, 1, 2)), "must be 2 points"),
        (lambda: Angle((0, 0, 2)), "two neighbouring points are the same"),
        (lambda: Distance((0, -1)), "not negative"),
        (lambda: Distance((0, 1.5)), "indices of atoms"),
        (lambda: Center((0, 1), (1.0,)), "2 positive numbers"),
        (lambda: Projection((0, 1), direction=(0, 0, 0)), "not zero"),
        (lambda: Position(0, axis=3), "0, 1, 2 or None"),
        (lambda: RMSD((0, 1), X), r"\(2, 3\)"),
        (lambda: DensityWave((0, 0, 0)), "not all zero"),
        (lambda: DensityWave((0.5, 0, 0)), "three integers"),
        (lambda: Coordination(2.0, 3.0), "inner < cutoff"),
        (lambda: Coordination(3.0, 2.0, r0=-1.0), "must be positive"),
        (lambda: PairEntropy(5.0, width=0.1, points=20), "too few"),
        (lambda: Stack(()), "at least one"),
        (lambda: variable(3.0), "a function of"),
        (lambda: Function(jnp.sum, size=2, period=(1.0,)), "2 entries"),
        (lambda: Distance((0, 40))(GAS.R, GAS.box), "names atom 40"),
        (lambda: Volume()(GAS.R), "needs a box"),
        (lambda: Coordination(**NEAR)(GAS.R, GAS.box), "variable_fn"),
        (lambda: Function(lambda R, box: R[0])(GAS.R), "returns shape"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
