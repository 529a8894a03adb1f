"""Ring polymers: the exact finite-P, finite-dt harmonic table, anharmonic wells, and their classical limits."""

import jax
import jax.numpy as jnp
import numpy as np
import piglet
import pytest
import scipy.linalg
from toy import NoLists

from jaxmlp import md
from jaxmlp.evaluate import Evaluation
from jaxmlp.md.bead_forces import BeadForces
from jaxmlp.md.modes import HBAR, mode_frequencies, ring_frequency, to_beads, to_modes
from jaxmlp.md.recording import Dynamics
from jaxmlp.units import fs, kB

pytestmark = pytest.mark.optimized
AU = 0.02418884326586  # atomic unit of time, fs


class OneBody(BeadForces):
    """Beads in a well V(x) of every coordinate, without neighbour lists; params is V."""

    def listed(self, state):
        return state

    def _one(self, potential, atoms, R, box, lists):
        V = jnp.sum(atoms.params(R), axis=1)
        F = -jax.grad(lambda R: jnp.sum(atoms.params(R)))(R)
        return Evaluation(jnp.sum(V), V, F, jnp.zeros((3, 3)), jnp.zeros((len(R), 3, 3)), None)

    def evaluate(self, state, atoms):  # all beads at once
        return jax.vmap(lambda R: self._one(None, atoms, R, None, None))(state.R)

    def _hessian_vector(self, state, atoms, v):
        slope = jax.grad(lambda R: jnp.sum(atoms.params(R)))
        return jax.jvp(slope, (state.R,), (v,))[1]


def wells(V, n, beads, *, kT, dt, mass=1.0, splitting="BAOAB", method="cayley", friction=0.5, seed=0, **options):
    """Return dynamics, state, atoms and controls of n particles in wells V; times in Å (amu/eV)^(1/2)."""
    ensemble = md.RingPolymer(
        splitting, md.Langevin(), beads=beads, internal=md.PILE(), method=method, **options
    )  # fmt: skip
    controls = md.Controls(*(jnp.asarray(x) for x in (dt / fs, kT / kB, friction * fs)))
    atoms = md.Atoms(V, None, jnp.full((n, 1), mass), jnp.asarray(3.0 * n))
    R, zero = jnp.zeros((n, 3)), jnp.zeros(())
    p = md.thermal_momenta(jax.random.key(seed), atoms.mass, jnp.asarray(kT), keep_momentum=True)
    lists = NoLists(jnp.zeros((), bool))
    state = md.State(R, p, R, zero, None, lists, (), jax.random.key(seed + 1), jnp.int32(0))
    state = ensemble.start(state, atoms, controls)
    forces = OneBody(None, None, None, beads=beads, scheme=ensemble.scheme)
    dynamics = Dynamics(ensemble, forces)
    return dynamics, dynamics.started(state, atoms, controls)._replace(energy=jnp.zeros(beads)), atoms, controls


# PHYSICS.md, section 2: P = 8, beta hbar omega = 3, 300 K, hydrogen; exact stationary V, K_CV, K_TD over hbar omega.
TABLE = {
    ("OBABO", "exact"): {
        25: (0.27232527, 0.27211346, 0.27017001),
        50: (0.27349286, 0.27264237, 0.26469788),
        100: (0.27839632, 0.27494147, 0.23986384),
    },
    ("BAOAB", "exact"): {
        25: (0.27197905, 0.27197905, 0.27152917),
        50: (0.27209482, 0.27209482, 0.27028540),
        100: (0.27256710, 0.27256710, 0.26516376),
    },
    ("BAOAB", "cayley"): dict.fromkeys((25, 50, 100), (0.27194065, 0.27194065, 0.27194065)),
}


@pytest.mark.parametrize("dt", [25, 50, 100])
@pytest.mark.parametrize(("splitting", "method"), TABLE)
def test_harmonic_averages_at_a_finite_time_step_are_the_exact_ones(splitting, method, dt):
    """A step is a linear map M of modes plus noise of covariance S: the stationary covariance solves C = M C M^T + S.

    Every mode of one coordinate is a separate pair (q, p); S is what the Langevin factors of the step leave behind.
    """
    P, kT, mass = 8, 300 * kB, 1.00784
    omega = 3 * kT / HBAR
    h, tau = dt * AU * fs, 600 * AU * fs
    dynamics, state, atoms, controls = wells(
        lambda R: 0.5 * mass * omega**2 * R**2, 1, P, kT=kT, dt=h, mass=mass, splitting=splitting, method=method,
        friction=1 / tau,
    )  # fmt: skip

    def matrix(move):
        """The (2 P, 2 P) map of mode coordinates and momenta along x of a function state -> state."""

        def of(x):
            q, p = jnp.zeros((2, P, 1, 3)).at[:, :, 0, 0].set(x.reshape(2, P))
            there = dynamics.started(state._replace(R=to_beads(q), p=to_beads(p)), atoms, controls)
            out = move(there)
            return jnp.concatenate([to_modes(out.R)[:, 0, 0], to_modes(out.p)[:, 0, 0]])

        return np.asarray(jax.jacfwd(of)(jnp.zeros(2 * P)))

    def letter_matrix(letter):
        part = controls.dt * fs / splitting.count(letter)
        return matrix(lambda s: dynamics.ensemble.move(letter, s, atoms, (controls, controls), part))

    M = matrix(lambda s: dynamics.step(s, atoms, controls))
    pieces = {letter: letter_matrix(letter) for letter in set(splitting)}
    # Each O adds noise of variance (1 - c^2) m P kT to the momenta, which what follows in the word then transforms.
    rate = np.append(1 / tau, 2 * np.asarray(mode_frequencies(P, ring_frequency(P, jnp.asarray(kT))))[1:])
    S, after = np.zeros((2 * P, 2 * P)), np.eye(2 * P)  # what follows a letter, from the right end of the word
    whole = np.eye(2 * P)
    for letter in splitting:
        whole = pieces[letter] @ whole
    np.testing.assert_allclose(whole, M, atol=1e-12)  # the word is the product of its letters
    for letter in reversed(splitting):
        if letter == "O":
            c = np.exp(-rate * h / splitting.count("O"))
            noise = np.diag(np.concatenate([np.zeros(P), (1 - c**2) * mass * P * kT]))
            S += after @ noise @ after.T
        after = after @ pieces[letter]
    C = scipy.linalg.solve_discrete_lyapunov(M, S)
    qq = np.diag(C)[:P]  # <q_k^2>
    unit = HBAR * omega
    V = 0.5 * mass * omega**2 * qq.sum() / P
    K_cv = 0.5 * kT + 0.5 * mass * omega**2 * qq[1:].sum() / P
    springs = 0.5 * mass * np.sum(np.asarray(mode_frequencies(P, ring_frequency(P, jnp.asarray(kT)))) ** 2 * qq)
    K_td = 0.5 * P * kT - springs / P
    # The sheet's omega in atomic units, 0.00285013, has six digits: dt omega, and what depends on its square.
    np.testing.assert_allclose(np.array([V, K_cv, K_td]) / unit, TABLE[splitting, method][dt], atol=3e-7)


def stationary(gle, kT, omega, mass, h):
    """Return the stationary covariances (P, 2 + s, 2 + s) of (q root(m), p / root(m), s) of every mode of a harmonic
    well under generalised Langevin equations of all modes: a step is a linear map plus noise.
    """
    P, size = gle.A.shape[:2]
    root, others = np.sqrt(mass), size - 1
    ensemble = md.RingPolymer("BAOAB", md.GLE(), beads=P, internal=md.GLE())
    gle = jax.tree.map(jnp.asarray, gle)
    controls = md.Controls(dt=jnp.asarray(h / fs), temperature=jnp.asarray(kT / kB), gle=gle)
    atoms = md.Atoms(lambda R: 0.5 * mass * omega**2 * R**2, None, jnp.full((1, 1), mass), jnp.asarray(3.0))
    R, zero = jnp.zeros((1, 3)), jnp.zeros(())
    lists = NoLists(jnp.zeros((), bool))
    state = md.State(R, R, R, zero, None, lists, (), jax.random.key(1), jnp.int32(0))
    dynamics = Dynamics(ensemble, OneBody(None, None, None, beads=P))
    state = dynamics.started(ensemble.start(state, atoms, controls), atoms, controls)

    def matrix(letter):
        def of(x):
            here = jnp.zeros((2 + others, P, 1, 3)).at[:, :, 0, 0].set(x)
            bath = state.bath._replace(
                centroid=state.bath.centroid._replace(s=here[2:, 0] / np.sqrt(P)),
                internal=state.bath.internal._replace(s=here[2:, 1:]),
            )
            there = state._replace(R=to_beads(here[0] / root), p=to_beads(here[1] * root), bath=bath)
            there = dynamics.started(there, atoms, controls)
            part = controls.dt * fs / ensemble.splitting.count(letter)
            out = ensemble.move(letter, there, atoms, (controls, controls), part)
            s = jnp.concatenate([np.sqrt(P) * out.bath.centroid.s[:, None], out.bath.internal.s], axis=1)
            q, p = to_modes(out.R) * root, to_modes(out.p) / root
            return jnp.concatenate([jnp.stack([q, p]), s])[:, :, 0, 0]

        full = np.asarray(jax.jit(jax.jacfwd(of))(jnp.zeros((2 + others, P))))
        blocks = np.einsum("akbk->kab", full)
        np.testing.assert_allclose(np.abs(full).sum(), np.abs(blocks).sum(), rtol=1e-10)  # modes do not mix
        return blocks

    letters = {letter: matrix(letter) for letter in "BAO"}
    found = []
    for k in range(P):
        A, C = np.asarray(gle.A[k]) / fs, kB * np.asarray(gle.C[k])
        T = scipy.linalg.expm(-A * h)
        np.testing.assert_allclose(letters["O"][k][1:, 1:], T, atol=1e-10)
        noise = np.zeros((1 + size, 1 + size))
        noise[1:, 1:] = C - T @ C @ T.T
        added, after = np.zeros_like(noise), np.eye(1 + size)
        for letter in reversed(ensemble.splitting):
            if letter == "O":
                added += after @ noise @ after.T
            after = after @ letters[letter][k]
        found.append(scipy.linalg.solve_discrete_lyapunov(after, added))
    return np.stack(found)


def test_matrices_of_every_mode_give_the_covariance_of_their_stochastic_equation():
    """C is not the unit matrix. The stationary covariance approaches that of the differential equation as dt^2."""
    P, kT, mass, omega = 3, 0.3, 1.3, 1.1
    rng = np.random.default_rng(0)
    skew = [np.array([[0.0, 0.9, 0.4], [-0.9, 0.0, 0.3], [-0.4, -0.3, 0.0]]) * (1 + k) for k in range(P)]
    A = np.stack([a + np.diag([0.1, 0.6, 1.4]) for a in skew])
    half = rng.normal(size=(P, 3, 3))
    C = np.stack([scipy.linalg.solve_continuous_lyapunov(a, b @ b.T) for a, b in zip(A, half)])  # eV
    springs = np.asarray(mode_frequencies(P, ring_frequency(P, jnp.asarray(kT))))
    wanted = []
    for k in range(P):
        drift, noise = np.zeros((4, 4)), np.zeros((4, 4))
        drift[0, 1], drift[1, 0] = 1, -(omega**2 + springs[k] ** 2)
        drift[1:, 1:] -= A[k]
        noise[1:, 1:] = A[k] @ C[k] + C[k] @ A[k].T
        wanted.append(scipy.linalg.solve_continuous_lyapunov(-drift, noise))
    gle = md.GLEMatrices(A * fs, C / kB)
    coarse, fine = (np.abs(stationary(gle, kT, omega, mass, h) - wanted).max(axis=(1, 2)) for h in (0.02, 0.01))
    assert (fine < 2e-3 * np.abs(wanted).max(axis=(1, 2))).all()
    assert (np.abs(np.log2(coarse / fine) - 2) < 0.05).all(), coarse / fine


@pytest.mark.parametrize("x", [3, 10, 20])
def test_published_matrices_make_four_beads_as_good_as_many(x, tmp_path):
    """PIGLET of GLE4MD: fitted to <q^2> of oscillators up to beta hbar omega = 20, where plain 4 beads have a third."""
    A, C = piglet.matrices()
    file = tmp_path / "input.xml"
    numbers = lambda array: f"[{', '.join(map(repr, array.ravel().tolist()))}]"
    file.write_text(f"<A shape='(4,9,9)'>{numbers(A)}</A><C shape='(4,9,9)' units='kelvin'>{numbers(C)}</C>")
    gle, kT, mass = md.GLEMatrices.load(file), kB * piglet.TEMPERATURE, 1.008
    omega = x * kT / HBAR
    covariance = stationary(gle, kT, omega, mass, 4 * AU * fs)
    mean = covariance[:, 0, 0].sum() / piglet.BEADS
    exact = HBAR / (2 * omega) / np.tanh(x / 2)
    springs = np.asarray(mode_frequencies(4, ring_frequency(4, jnp.asarray(kT))))
    plain = np.mean(piglet.BEADS * kT / (omega**2 + springs**2))
    assert abs(mean / exact - 1) < 0.006
    assert abs(plain / exact - 1) > 0.05


WELLS = {  # V(x), and at beta = 8 with P beads: E, <x^2>, exact at finite P (PHYSICS.md, section 2); hbar = m = 1
    "quartic": (lambda x: x**4 / 4, {8: (0.34502872, 0.43129384), 16: (0.39408779, 0.44940900)}),
    "anharmonic": (
        lambda x: x**2 / 2 + 0.1 * x**3 + 0.01 * x**4, {8: (0.44288030, 0.48368301), 16: (0.47978593, 0.52358307)},
    ),
    "double well": ((lambda x: (x**2 - 4) ** 2 / 16), {8: (0.51791737, 3.14025090), 16: (0.57724890, 3.04509445)}),
}  # fmt: skip


def sampled(V, P, *, dt, steps, n=200, beta=8.0, **options):
    """Return block averages (blocks, 4) of V, K_CV, K_TD per coordinate and <x^2>, of 3 n wells in units hbar = m = 1.

    Masses are chosen so that hbar = 1 in the units of dynamics: m = HBAR^2.
    """
    mass = HBAR**2
    dynamics, state, atoms, controls = wells(
        V, n, P, kT=1 / beta, dt=dt * HBAR, mass=mass, friction=1 / HBAR, **options
    )
    ensemble = dynamics.ensemble

    def observe(state):
        out = dynamics.forces.evaluate(state, atoms)
        row = ensemble.measure(state._replace(energy=out.energy), out, atoms, controls, False)
        square = jnp.sum(jnp.mean(state.R**2, axis=0))
        return jnp.stack([row["potential"], row["kinetic"], row["kinetic_primitive"], square]) / (3 * n)

    def one(state, _):
        state = jax.lax.fori_loop(0, 10, lambda _, s: dynamics.step(s, atoms, controls), state)
        return state, observe(state)

    @jax.jit
    def run(state):
        state, _ = jax.lax.scan(one, state, length=steps // 40)  # a quarter more to equilibrate
        return jax.lax.scan(one, state, length=steps // 10)[1]

    return np.asarray(run(state)).reshape(20, -1, 4).mean(axis=1)


@pytest.mark.parametrize("P", [8, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", WELLS)
def test_anharmonic_wells_have_their_exact_averages_at_a_finite_number_of_beads(name, P):
    V, table = WELLS[name]
    E, square = table[P]
    blocks = sampled(V, P, dt=0.2, steps=4000)
    energy = blocks[:, 0] + blocks[:, 1]
    error = lambda x: x.std(ddof=1) / np.sqrt(len(x))
    # The time step's own error is a twentieth of the statistical one: 0.1 gives the same means.
    assert abs(energy.mean() - E) < 3.5 * error(energy), (energy.mean(), error(energy))
    assert error(energy) < 0.008 * E
    assert abs(blocks[:, 3].mean() - square) < 3.5 * error(blocks[:, 3]), (blocks[:, 3].mean(), error(blocks[:, 3]))
    difference = blocks[:, 1] - blocks[:, 2]
    assert abs(difference.mean()) < 3.5 * error(difference)  # K_CV = K_TD


@pytest.mark.parametrize(("scheme", "E"), [("takahashi-imada", 0.49378734), ("suzuki-chin", 0.48581469)])
def test_fourth_order_dynamics_samples_the_fourth_order_harmonic_energy(scheme, E):
    """P = 8, beta hbar omega = 10, 0.424 in the primitive scheme."""
    blocks = sampled(lambda x: 0.5 * x**2, 8, dt=0.1, steps=4000, beta=10.0, scheme=scheme)
    for column in (1, 2):  # both kinetic estimators
        energy = blocks[:, 0] + blocks[:, column]
        error = energy.std(ddof=1) / np.sqrt(len(energy))
        assert abs(energy.mean() - E) < 3.5 * error, (energy.mean(), error)
        assert error < 0.02 * E


def test_one_bead_without_thermostat_is_newtons_motion():
    _, state, atoms, controls = wells(lambda x: x**4 / 4, 3, 1, kT=0.5, dt=0.1)
    quantum = md.RingPolymer("BAB", beads=1)
    classical = md.Ensemble("BAB")
    ring = Dynamics(quantum, OneBody(None, None, None, beads=1))
    start = state._replace(R=state.p, bath=())
    ring_state = ring.started(start, atoms, controls)
    for _ in range(5):
        ring_state = ring.step(ring_state, atoms, controls)

    class Well(md.Forces):
        def __call__(self, state, atoms, kT=None):
            return state._replace(F=-jax.grad(lambda R: jnp.sum(atoms.params(R)))(state.R))

    well = Well(None, None, None)
    flat = well(start._replace(R=start.R[0], p=start.p[0], energy=jnp.zeros(())), atoms)
    for _ in range(5):
        flat = classical.step(flat, atoms, controls, well)
    np.testing.assert_allclose(ring_state.R[0], flat.R, rtol=1e-13)
    np.testing.assert_allclose(ring_state.p[0], flat.p, rtol=1e-13)


def test_adiabatic_masses_give_all_internal_modes_one_frequency():
    ensemble = md.RingPolymer("BAOAB", beads=6, internal=md.PILE(), adiabatic=True)
    controls = md.Controls(jnp.asarray(0.1), jnp.asarray(300.0), mode_frequency=jnp.asarray(2.0))
    atoms = md.Atoms(None, None, jnp.asarray([[1.0], [16.0]]), jnp.asarray(6.0))
    mass, omega = ensemble.masses(atoms, controls)
    np.testing.assert_allclose(omega, [0, *[2.0 / fs] * 5], rtol=1e-14)
    physical = np.asarray(ensemble.frequencies(controls))
    # The springs stay what they are: m_k Omega^2 = m omega_k^2.
    np.testing.assert_allclose(
        mass[1:, :, 0] * omega[1:, None] ** 2, atoms.mass[:, 0] * physical[1:, None] ** 2, rtol=1e-13
    )
    np.testing.assert_allclose(mass[0], atoms.mass)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"beads": 0}, "1 or more beads"),
        ({"beads": 4, "internal": md.CSVR(), "splitting": "OBABO"}, "PILE, GLE or no thermostat"),
        ({"beads": 4, "contraction": (2, 2)}, "one member has all 4 beads"),
        ({"beads": 5, "scheme": "suzuki-chin"}, "even number of beads"),
        ({"beads": 4, "scheme": "chin"}, "scheme is one of"),
        ({"beads": 4, "scheme": "suzuki-chin", "loops": (2,)}, "cannot be combined"),
        ({"beads": 4, "splitting": "BAOAB"}, "word of A .*, B "),
    ],
)
def test_impossible_ring_polymers_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        md.RingPolymer(**arguments)
