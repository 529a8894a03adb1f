"""Path-integral estimators: exact averages over the Gaussian paths of oscillators, and derivatives of the action."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmlp.md import estimators as est
from jaxmlp.md.modes import HBAR
from jaxmlp.statistics import jackknife

# Oscillators at P = 1, 2, 4, ... beads: Z_P = 1 / 2 sinh(P a / 2) with a = 2 asinh(beta hbar omega / 2 P) and its
# derivatives, in units of hbar omega and k. Columns: primitive E, F, Cv at beta hbar omega = 3; primitive E, F,
# Takahashi-Imada E, Suzuki-Chin E at 10.
TABLE = {
    1: (0.33333333, 0.36620410, 1.0, 0.1, 0.23025851, None, None),
    2: (0.45333333, 0.44058528, 0.899200, 0.18620690, 0.32930858, 0.32686870, None),
    4: (0.52077069, 0.47074554, 0.660830, 0.31249076, 0.41901428, 0.45055156, 0.41256474),
    8: (0.54388131, 0.47978764, 0.544091, 0.42406640, 0.47210702, 0.49378734, 0.48581469),
    16: (0.55022496, 0.48217077, 0.508712, 0.47729064, 0.49219480, 0.49955633, 0.49880011),
    32: (0.55185030, 0.48277484, 0.499412, 0.49405272, 0.49798280, None, 0.49995991),
}
DIGITS = 5.5e-9  # half of the last printed digit of E and F; 100 times that of Cv
KT, MASS = 0.04, 1.7


def stiffness(x: float) -> float:
    """Return the spring constant of the oscillator of mass MASS with beta hbar omega = x at KT."""
    return MASS * (x * KT / HBAR) ** 2


def action(R, beta, k, mass, scheme):
    """Return beta_P (springs + sum_j V_eff,j) of independent oscillators, from the functions under test."""
    V, F = 0.5 * jnp.sum(k * R * R, axis=(1, 2)), -k * R
    kT = 1 / beta
    energy = jnp.sum(est.spring_energies(R, mass, kT)) + jnp.sum(est.effective_potential(V, F, mass, kT, scheme))
    return beta / len(R) * energy


@partial(jax.jit, static_argnames=("P", "scheme"))
def log_Z(beta, k, mass, P, scheme):
    """Return ln Z of one coordinate: (m P / 2 pi beta hbar^2)^(P/2) int exp(-action)."""

    def along_x(x):
        return action(jnp.zeros((P, 1, 3)).at[:, 0, 0].set(x), beta, k, jnp.full((1, 1), mass), scheme)

    M = jax.hessian(along_x)(jnp.zeros(P))
    return 0.5 * P * jnp.log(mass * P / (beta * HBAR**2)) - 0.5 * jnp.linalg.slogdet(M)[1]


@partial(jax.jit, static_argnames=("P", "scheme"))
def derivatives(k, P, scheme):
    """Return E, F and K in eV, and Cv / k, from ln Z."""

    def slope(beta):
        return jax.value_and_grad(log_Z)(beta, k, MASS, P, scheme)

    beta = 1 / KT
    (lnZ, minus_E), (_, curvature) = jax.jvp(slope, (beta,), (1.0,))
    by_mass = jax.grad(log_Z, 2)(beta, k, MASS, P, scheme)
    return jnp.stack([-minus_E, -lnZ / beta, MASS / beta * by_mass, beta**2 * curvature])


def thermodynamics(x: float, P: int, scheme: str = "primitive") -> np.ndarray:
    """Return E, F and K in hbar omega, and Cv / k."""
    return np.asarray(derivatives(stiffness(x), P, scheme)) / np.array([x * KT, x * KT, x * KT, 1])


class Paths:
    """Exact averages over the paths of N = 1 atom of MASS in a well of three spring constants k."""

    def __init__(self, k, P, scheme="primitive", mass=None):
        self.k = jnp.broadcast_to(jnp.asarray(k, float), (3,))
        self.mass = jnp.full((1, 1), MASS) if mass is None else mass
        self.shape = (P, len(self.mass), 3)
        self.size = int(np.prod(self.shape))
        M = self.hessian(lambda R: action(R, 1 / KT, self.k, self.mass, scheme))
        self.covariance = np.linalg.inv(M)

    def hessian(self, f) -> np.ndarray:
        """Return the second derivatives of a quadratic f, or of several, (..., n, n)."""
        slope = jax.jacrev(lambda r: f(r.reshape(self.shape)))
        points = jnp.concatenate([jnp.zeros((1, self.size)), jnp.eye(self.size)])
        at = np.moveaxis(np.asarray(jax.jit(jax.vmap(slope))(points)), 0, -1)
        return at[..., 1:] - at[..., :1]

    def energies(self, R):
        return 0.5 * jnp.sum(self.k * R * R, axis=(1, 2))

    def forces(self, R):
        return -self.k * R

    def moments(self, f) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of f = f(0) + r A r, or of several: tr A C and 2 tr (A C)^2 (Wick)."""
        AC = 0.5 * self.hessian(f) @ self.covariance
        mean = np.asarray(f(jnp.zeros(self.shape))) + np.trace(AC, axis1=-2, axis2=-1)
        return mean, 2 * np.sum(AC * AC.swapaxes(-1, -2), axis=(-1, -2))

    def mean(self, f) -> np.ndarray:
        return self.moments(f)[0]

    def sample(self, key, n):
        L = jnp.linalg.cholesky(jnp.asarray(self.covariance))
        return (jax.random.normal(key, (n, self.size)) @ L.T).reshape(n, *self.shape)


@jax.jit
def anharmonic(R):
    """A potential (P, N, 3) -> (P,) eV that couples everything, invariant to nothing."""
    d = R[:, :, None] - R[:, None]
    return (
        jnp.sum(0.3 * R**4 + 0.5 * R**2 + 0.2 * R**3, axis=(1, 2))
        + 0.1 * jnp.sum(d * d, axis=(1, 2, 3)) ** 2
        + 0.4 * jnp.sum(R[:, 0] * R[:, 1] * jnp.roll(R[:, 1], 1, axis=1), axis=1)
    )


forces = jax.jit(jax.grad(lambda R: -jnp.sum(anharmonic(R))))


@pytest.fixture
def ring():
    """Beads (4, 2, 3), their masses, and a kT."""
    R = 0.6 * jax.random.normal(jax.random.key(5), (4, 2, 3))
    return R, jnp.asarray([[1.0], [3.0]]), jnp.asarray(0.02)


@pytest.mark.parametrize("P", TABLE)
def test_partition_function_of_the_primitive_action(P):
    E, F, Cv, E10, F10, _, _ = TABLE[P]
    at3, at10 = thermodynamics(3.0, P), thermodynamics(10.0, P)
    np.testing.assert_allclose([at3[0], at3[1], at10[0], at10[1]], [E, F, E10, F10], rtol=0, atol=DIGITS)
    assert at3[3] == pytest.approx(Cv, abs=100 * DIGITS)


@pytest.mark.parametrize("P", TABLE)
def test_partition_function_of_fourth_order_actions(P):
    for scheme, E in zip(est.SCHEMES[1:], TABLE[P][5:]):
        if E is not None:
            assert thermodynamics(10.0, P, scheme)[0] == pytest.approx(E, abs=DIGITS)


@pytest.mark.parametrize("P", TABLE)
def test_exact_means_of_the_primitive_estimators(P):
    E, Cv = TABLE[P][0], TABLE[P][2]
    paths = Paths(stiffness(3.0), P)
    quantum = 3 * 3.0 * KT  # three coordinates of hbar omega = 3 kT

    def estimators(R):
        V, F = paths.energies(R), paths.forces(R)
        return jnp.stack(
            [
                est.kinetic_primitive(R, paths.mass, KT),
                est.kinetic_virial(R, F),
                est.kinetic_centroid_virial(R, F, KT),
                jnp.mean(V),
                0.5 * est.energy_thermodynamic(R, V, F, paths.mass, KT),
                *est.heat_capacity_terms(paths.energies, R),
            ]
        )

    (*means, eps, deps), variances = paths.moments(estimators)
    np.testing.assert_allclose(np.array(means) / quantum, E / 2, rtol=0, atol=DIGITS / 2)
    assert (1.5 * KT + eps) / quantum == pytest.approx(E, abs=DIGITS)
    sigma = np.sqrt(variances[-2])
    two = np.array([eps - sigma, eps + sigma]), np.array([deps, deps])  # rows with the exact mean and variance
    assert est.heat_capacity(*two, KT, 3) / 3 == pytest.approx(Cv, abs=100 * DIGITS)


@pytest.mark.parametrize(("P", "scheme"), [(2, "takahashi-imada"), (8, "takahashi-imada"), (4, "suzuki-chin"),
                                           (16, "suzuki-chin")])  # fmt: skip
def test_exact_means_of_the_fourth_order_estimators(P, scheme):
    E = TABLE[P][5 if scheme == "takahashi-imada" else 6]
    paths = Paths(stiffness(10.0), P, scheme)
    args = paths.mass, KT, scheme

    def estimators(R):
        V, F = paths.energies(R), paths.forces(R)
        effective = est.effective_forces(F, lambda v: paths.k * v, *args)
        return jnp.stack(
            [
                est.energy_thermodynamic(R, V, F, *args),
                est.potential_thermodynamic(V, F, *args),
                est.kinetic_thermodynamic(R, F, *args),
                est.kinetic_centroid_virial(R, effective, KT) + jnp.mean(est.gradient_terms(F, *args)),
            ]
        )

    energy, V, K, K_virial = paths.mean(estimators) / (3 * 10.0 * KT)
    assert energy == pytest.approx(E, abs=DIGITS)
    assert energy == pytest.approx(K + V, rel=1e-12)
    np.testing.assert_allclose([K, K_virial], thermodynamics(10.0, P, scheme)[2], rtol=1e-10)


def test_operator_estimator_of_suzuki_chin_converges_with_the_fourth_power_of_the_beads():
    exact = 0.25 / np.tanh(1.5)
    errors = []
    for P in (8, 16, 32):
        paths = Paths(stiffness(3.0), P, "suzuki-chin")
        errors.append(paths.mean(lambda R: est.potential_operator(paths.energies(R))) / (9 * KT) - exact)  # noqa: B023
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 16, rtol=0.05)  # next order: P^-6
    assert abs(errors[-1]) < 1e-5 * exact


def test_heat_capacity_of_sampled_paths():
    paths = Paths(stiffness(3.0), 8)
    R = paths.sample(jax.random.key(0), 40000)
    eps, deps = jax.jit(jax.vmap(lambda R: est.heat_capacity_terms(paths.energies, R)))(R)
    Cv, error = jackknife(lambda e, d: est.heat_capacity(e, d, KT, 3) / 3, eps, deps, blocks=50)
    assert abs(Cv - TABLE[8][2]) < 4 * error < 0.05
    K, K_error = jackknife(np.mean, jax.vmap(lambda R: est.kinetic_primitive(R, paths.mass, KT))(R))
    assert abs(K / (9 * KT) - TABLE[8][0] / 2) < 4 * K_error / (9 * KT) < 0.02


def test_heat_capacity_terms_are_derivatives_of_a_reweighted_partition_function():
    """On any set of configurations ln <exp(-[A(beta') - A(beta)])>, A = beta' mean V(q_j(beta')), defines E and Cv."""
    R = 0.3 * jax.random.normal(jax.random.key(1), (7, 4, 2, 3))
    beta = 1.7

    def log_ratio(b):
        center = R.mean(axis=1, keepdims=True)

        def A(b):
            return b * jax.vmap(anharmonic)(center + jnp.sqrt(b / beta) * (R - center)).mean(axis=1)

        return jnp.log(jnp.mean(jnp.exp(A(beta) - A(b)))) - 3.0 * jnp.log(b)  # 3 N / 2 = 3

    eps, deps = jax.jit(jax.vmap(lambda R: est.heat_capacity_terms(anharmonic, R)))(R)
    slope, curvature = jax.jit(lambda b: jax.jvp(jax.grad(log_ratio), (b,), (1.0,)))(beta)
    assert float(3 / beta + eps.mean()) == pytest.approx(-float(slope), rel=1e-12)
    assert float(est.heat_capacity(eps, deps, 1 / beta, 6)) == pytest.approx(float(beta**2 * curvature), rel=1e-11)


@pytest.mark.parametrize("scheme", est.SCHEMES)
def test_effective_forces_and_energies_are_derivatives_of_the_action(ring, scheme):
    R, mass, kT = ring

    def total(R):
        return jnp.sum(est.effective_potential(anharmonic(R), forces(R), mass, kT, scheme))

    def hessian_vector(v):
        return -jax.jvp(forces, (R,), (v,))[1]

    F = forces(R)
    F_eff = est.effective_forces(F, hessian_vector, mass, kT, scheme)
    np.testing.assert_allclose(F_eff, -jax.jit(jax.grad(total))(R), rtol=1e-12, atol=1e-12)
    if scheme != "primitive":  # the term in the Hessian is not lost in the tolerance
        assert np.abs(F_eff - est.fourth_order_weights(4, scheme)[0][:, None, None] * F).max() > 0.1

    def log_weight(beta, mass, strength):  # of R, with the measure (m P / 2 pi beta hbar^2)^(3 P / 2) of every atom
        V, f = strength * anharmonic(R), strength * F
        energy = jnp.sum(est.spring_energies(R, mass, 1 / beta))
        energy = energy + jnp.sum(est.effective_potential(V, f, mass, 1 / beta, scheme))
        return 6 * jnp.sum(jnp.log(mass / beta)) - beta / 4 * energy

    one = jnp.ones(())
    by_beta, by_mass, by_strength = jax.jit(jax.grad(log_weight, (0, 1, 2)))(1 / kT, mass, one)
    E = est.energy_thermodynamic(R, anharmonic(R), F, mass, kT, scheme)
    assert float(E) == pytest.approx(-float(by_beta), rel=1e-12)
    K = est.kinetic_thermodynamic(R, F, mass, kT, scheme)
    assert float(K) == pytest.approx(float(kT * jnp.sum(mass * by_mass)), rel=1e-12)
    V = est.potential_thermodynamic(anharmonic(R), F, mass, kT, scheme)
    assert float(V) == pytest.approx(-float(kT * by_strength), rel=1e-12)


def test_schemes_have_weights_of_mean_one_and_bad_ones_are_refused():
    for scheme in est.SCHEMES:
        assert est.fourth_order_weights(6, scheme)[0].mean() == pytest.approx(1, rel=1e-15)
    with pytest.raises(ValueError, match="even number of beads; got 5"):
        est.fourth_order_weights(5, "suzuki-chin")
    with pytest.raises(ValueError, match="primitive, takahashi-imada, suzuki-chin; got 'chin'"):
        est.fourth_order_weights(4, "chin")


def test_kinetic_tensor_of_an_anisotropic_well():
    x = (1.0, 3.0, 10.0)
    paths = Paths([stiffness(y) for y in x], 8)
    rotation = jnp.linalg.qr(jax.random.normal(jax.random.key(2), (3, 3)))[0]  # to axes where it is not diagonal

    measured = paths.mean(lambda R: est.kinetic_tensor(R @ rotation.T, paths.forces(R) @ rotation.T, KT)[0])
    exact = np.diag([thermodynamics(y, 8)[0] / 2 * y * KT for y in x])
    np.testing.assert_allclose(rotation.T @ measured @ rotation, exact, atol=1e-12 * KT)


def test_kinetic_tensor_adds_up_to_the_kinetic_energy(ring):
    R, _, kT = ring
    F = forces(R)
    T = est.kinetic_tensor(R, F, kT)
    assert T.shape == (2, 3, 3)
    assert float(jnp.trace(T.sum(axis=0))) == pytest.approx(float(est.kinetic_centroid_virial(R, F, kT)), rel=1e-13)
    np.testing.assert_array_equal(T, T.swapaxes(1, 2))


def test_centroid_virial_is_the_derivative_with_respect_to_a_strain_of_the_centroids(ring):
    R, _, kT = ring
    F = forces(R)
    W = jnp.einsum("jia,jib->jab", R, F)  # a free cluster
    np.testing.assert_allclose(W, -jax.jit(jax.vmap(virial_by_strain))(R), rtol=1e-12, atol=1e-12)

    def strained(strain):
        center = R.mean(axis=0)
        return jnp.mean(anharmonic(R - center + center @ (jnp.eye(3) + strain)))

    C = est.centroid_virial(R, F, W)
    np.testing.assert_allclose(C, -jax.jit(jax.grad(strained))(jnp.zeros((3, 3))), rtol=1e-11, atol=1e-12)
    P = est.pressure(est.kinetic_centroid_virial(R, F, kT), W, 11.0)
    assert float(P) == pytest.approx(float(3 * 2 * kT + jnp.trace(C)) / 33.0, rel=1e-12)


def virial_by_strain(R):
    """Return dV/dstrain of one bead, R -> R (1 + strain)."""
    return jax.grad(lambda strain: anharmonic((R @ (jnp.eye(3) + strain))[None])[0])(jnp.zeros((3, 3)))


def test_pressure_of_a_free_ring_is_that_of_an_ideal_gas():
    mass = jnp.ones((5, 1))
    R = jnp.ones((4, 5, 3))
    K = est.kinetic_centroid_virial(R, 0 * R, KT)
    assert float(est.pressure(K, jnp.zeros((4, 3, 3)), 7.0)) == pytest.approx(5 * KT / 7, rel=1e-14)
    assert float(est.kinetic_primitive(R, mass, KT)) == pytest.approx(1.5 * 4 * 5 * KT, rel=1e-14)


@pytest.mark.parametrize("P", [1, 4, 16])
def test_end_to_end_distribution_of_an_oscillator(P):
    """Exact at P beads: exp(-m Omega x^2 coth(P a / 2) / 4 hbar), Omega = sinh(a) P / beta hbar (Trotter, Mehler)."""
    y = 5.0
    paths = Paths(stiffness(y), P)
    x = jnp.asarray([0.05, -0.1, 0.15])

    def log_n(R):
        return jnp.log(est.end_to_end(paths.energies, R, paths.energies(R), 0, x, paths.mass, KT))

    zero = jnp.zeros(paths.shape)
    g = np.asarray(jax.grad(log_n)(zero)).ravel()  # log_n is linear in R
    mean = float(log_n(zero)) + 0.5 * g @ paths.covariance @ g
    a = 2 * np.arcsinh(0.5 * y / P)
    Omega = np.sinh(a) * P * KT / HBAR
    exact = -MASS * Omega / (4 * HBAR * np.tanh(P * a / 2)) * float(x @ x)
    assert exact < -0.3
    assert mean == pytest.approx(exact, rel=1e-10)
    if P == 16:  # exp(-m omega x^2 coth(beta hbar omega / 2) / 4 hbar), error O(P^-2)
        assert mean == pytest.approx(-MASS * y * KT / (4 * HBAR**2 * np.tanh(y / 2)) * float(x @ x), rel=0.02)


def test_end_to_end_distribution_displaces_one_atom(ring):
    R, mass, kT = ring
    V = anharmonic(R)
    assert float(est.end_to_end(anharmonic, R, V, 1, jnp.zeros(3), mass, kT)) == pytest.approx(1, rel=1e-12)
    x = jnp.asarray([0.01, 0.02, -0.01])
    log_n = np.log(est.end_to_end(lambda R: R[:, 0, 1] ** 2, R, R[:, 0, 1] ** 2, 1, x, mass, kT))
    assert log_n == pytest.approx(-3.0 * float(kT) * 6e-4 / (2 * HBAR**2), rel=1e-10)  # only the springs of atom 1
    log_n = np.log(est.end_to_end(lambda R: R[:, 0, 1] ** 2, R, R[:, 0, 1] ** 2, 0, x, mass, kT))
    y = np.array([-0.5, -0.25, 0, 0.25, 0.5]) * 0.02
    z = np.asarray(R[[0, 1, 2, 3, 0], 0, 1])
    work = np.sum(((z + y) ** 2 - z**2) * [0.5, 1, 1, 1, 0.5])
    assert log_n == pytest.approx(-float(kT) * 6e-4 / (2 * HBAR**2) - work / (4 * float(kT)), rel=1e-10)


@pytest.mark.parametrize(("P", "ratio"), [(1, 2.0), (2, 2.0), (8, 0.7)])
def test_isotope_ratio_of_an_oscillator(P, ratio):
    k = stiffness(4.0)
    paths = Paths(k, P, mass=jnp.full((2, 1), MASS))
    ratios = jnp.asarray([[ratio], [1.0]])
    lnZ = [float(log_Z(1 / KT, k, MASS * r, P, "primitive")) for r in (1.0, ratio)]
    exact = 3 * (lnZ[1] - lnZ[0]) - 1.5 * np.log(ratio)

    def h(R):
        return jnp.stack(
            [
                est.isotope_scaled(paths.energies, R, paths.energies(R), ratios, KT),
                est.isotope_springs(R, paths.mass, ratios, KT),
            ]
        )

    # <exp(-h)> of a quadratic h: exp(-h(0)) det(1 + C h'')^(-1/2)
    sign, log_det = np.linalg.slogdet(np.eye(paths.size) + paths.covariance @ paths.hessian(h))
    np.testing.assert_array_equal(sign, 1)
    np.testing.assert_allclose(-h(jnp.zeros(paths.shape)) - 0.5 * log_det, exact, rtol=1e-9, atol=1e-12)


def test_radius_of_gyration():
    R = jnp.asarray([[[1.0, 0, 0], [5, 5, 5]], [[-1.0, 0, 2], [5, 5, 5]]])
    np.testing.assert_allclose(est.radius_of_gyration(R), [np.sqrt(2), 0], atol=1e-15)


def test_dtype_follows_the_beads(ring):
    R, mass, kT = (x.astype(jnp.float32) for x in ring)

    def everything(R, mass, kT):
        V, F = anharmonic(R), 0.1 * R
        return [
            est.kinetic_primitive(R, mass, kT),
            est.kinetic_tensor(R, F, kT),
            est.energy_thermodynamic(R, V, F, mass, kT, "suzuki-chin"),
            est.effective_forces(F, lambda v: v, mass, kT, "suzuki-chin"),
            *est.heat_capacity_terms(anharmonic, R),
            est.end_to_end(anharmonic, R, V, 0, R[0, 0], mass, kT),
            est.isotope_scaled(anharmonic, R, V, 2 * mass, kT),
            est.isotope_springs(R, mass, 2 * mass, kT),
        ]

    assert all(x.dtype == jnp.float32 for x in jax.eval_shape(everything, R, mass, kT))
