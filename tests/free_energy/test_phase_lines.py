"""Lines of coexistence, crossings of Gibbs energies and pinned interfaces, against closed forms."""

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy.integrate import solve_ivp

import jaxmlp as jm
import jaxmlp.free_energy as fe
from jaxmlp.free_energy.coexistence import Pinning, _with_room, long_axis
from jaxmlp.free_energy.phase_diagram import PhaseDiagram, _transitions
from jaxmlp.free_energy.sweeps import Sweep
from jaxmlp.potentials.external import Free, UniformForce
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.units import GPa, fs, kB

T0, P0 = 500.0, 1e-4


@pytest.fixture(scope="module")
def vapour_and_crystal():
    """An ideal gas of argon and a stiff crystal of krypton, which one potential describes."""
    potential, params = lennard_jones((18, 36), (0.0, 0.5), 2.5, 1.7 * 2.5)
    crystal = jm.System.from_ase(bulk("Kr", "fcc", a=1.54 * 2.5, cubic=True) * (2, 2, 2))
    side = np.cbrt(21 * kB * T0 / P0)
    R = np.random.default_rng(0).uniform(0, side, (20, 3))
    return potential, params, (crystal, jm.System(np.full(20, 18), R, side * np.eye(3)))


def sublimation(crystal_energy: float, crystal_volume: float):
    """dP/dT of classical harmonic atoms (3 kT / 2 of potential energy each, less the centre's) and an ideal gas."""

    def slope(T, P):
        gas = 21 / 20 * kB * T / P  # mean volume per atom of 20 atoms at constant pressure
        change = P * gas - (crystal_energy + 1.5 * kB * T * 31 / 32 + P * crystal_volume)
        return change / (T * (gas - crystal_volume))

    return slope


@pytest.mark.parametrize("along", ["temperatures", "pressures"])
def test_sublimation_of_a_crystal(vapour_and_crystal, along):
    potential, params, phases = vapour_and_crystal
    goal = {"temperatures": [501.0, 502.0], "pressures": [1.15e-4, 1.3e-4]}[along]
    found = fe.gibbs_duhem(
        potential, params, phases, temperature=T0, pressure=P0, steps=4000, dt=2.0, friction=0.02, tau_pressure=100.0,
        headroom=0.6, **{along: goal},
    )  # fmt: skip
    V = found.volume[0, 0]
    scales = np.linspace(0.97, 1.03, 61)
    energy = jax.jit(jax.vmap(jm.energy_fn(potential, phases[0], headroom=0.2), (0, 0, None)))
    at = (scales[:, None, None] * x for x in (phases[0].R, phases[0].box))
    relaxed = float(energy(*at, params).min()) / 32  # at zero pressure; that of the vapour compresses nothing
    slope = sublimation(relaxed, V)
    if along == "temperatures":
        exact = solve_ivp(slope, (T0, 502.0), [P0], t_eval=[T0, *goal], rtol=1e-8).y[0]
        ys, scale = found.pressure, P0
        np.testing.assert_array_equal(found.temperature, [T0, *goal])
    else:
        exact = solve_ivp(lambda P, T: 1 / slope(T, P), (P0, 1.3e-4), [T0], t_eval=[P0, *goal], rtol=1e-8).y[0]
        ys, scale = found.temperature, 500 * kB * T0 / 3.5  # kT over the enthalpy, of T
        np.testing.assert_array_equal(found.pressure, [P0, *goal])
    assert found.error[0] == 0
    assert (found.error[1:] < 0.03 * abs(exact[1:] - exact[0]) + 1e-3 * scale).all()
    assert (abs(ys - exact)[1:] < 3.5 * found.error[1:] + 2e-3 * scale).all()
    np.testing.assert_allclose(found.slope[0], slope(T0, P0), rtol=0.1)


def test_lines_of_equal_phases_have_no_slope(vapour_and_crystal):
    potential, params, (crystal, _) = vapour_and_crystal
    options = {"temperature": T0, "pressure": P0, "steps": 1000, "dt": 2.0, "friction": 0.02, "tau_pressure": 200.0}
    options |= {"headroom": 0.2}
    with pytest.raises(ValueError, match="the same volume"):
        fe.gibbs_duhem(potential, params, (crystal, crystal), temperatures=[510.0], **options)
    with pytest.raises(ValueError, match="either temperatures or pressures"):
        fe.gibbs_duhem(potential, params, (crystal, crystal), **options)


def straight(x, entropy: float, at: float, G: float = 0.0) -> Sweep:
    """G(T) of 2 atoms with a constant entropy per atom, through G per atom at one temperature; no noise."""
    zero = np.zeros_like(x)
    return Sweep(x, 2 * (G - entropy * (x - at)), zero, zero, None)


def test_phases_follow_each_other_by_their_gibbs_energies():
    """Three lines of different slopes: a below 400 K, b to 700 K, liquid above; a and liquid meet where b is stable."""
    T = np.linspace(300.0, 1000.0, 36)
    sweeps = {"a": straight(T, 1e-4, 400.0), "b": straight(T, 2e-4, 400.0), "liquid": straight(T, 5e-4, 700.0, -0.06)}
    start = {name: fe.Absolute(0, 0, 2e-3, 0, None, 300.0, 0.0, [0, 0], None) for name in sweeps}
    found = _transitions(sweeps, start)
    assert list(found) == [("a", "b"), ("b", "liquid")]
    np.testing.assert_allclose(found["a", "b"][0], 400.0)
    np.testing.assert_allclose(found["b", "liquid"][0], 700.0)
    # An error of 1 meV per atom in each of two lines, over the difference of their entropies.
    np.testing.assert_allclose(found["b", "liquid"][1], 2**0.5 * 1e-3 / 3e-4, rtol=1e-6)
    diagram = PhaseDiagram(sweeps, found, {}, start)
    assert [diagram.stable(t) for t in (350.0, 450.0, 900.0)] == ["a", "b", "liquid"]


def test_pinned_interfaces_feel_the_driving_force():
    """A uniform force f stands for it: <Q> - a = f N / k for Q the mean position, whatever the phases' Q are."""
    side, T, N, f = 6.0, 1160.0, 20, 0.05
    box = np.diag([side, side, 2 * side])
    R = np.random.default_rng(1).uniform(0, side, (N, 3))
    R[:, 0] -= R[:, 0].mean()
    system = jm.System(np.full(N, 18), R, box, masses=np.ones(N))
    force = np.array([[f, 0.0, 0.0]])
    found = fe.interface_pinning(
        UniformForce((18,)), {"force": force}, system, lambda R, box: R[:, 0].mean(), values=(4.0, -4.0), k=10.0,
        temperatures=[T, 1.2 * T], steps=20_000, pressure=N * kB * T / (2 * side**3), center=0.0, dt=0.1 / fs,
        friction=0.3 * fs, tau_pressure=5 / fs, headroom=0.6,
    )  # fmt: skip
    assert (found.error < 0.1 * 8 * f).all()
    assert (abs(found.difference - (-8 * f)) < 3.5 * found.error).all()  # the phase with larger Q lies lower
    assert (abs(found.cv - f * N / 10.0) < 3.5 * found.error / (10.0 * 8 / N)).all()


def test_melting_is_where_the_driving_force_vanishes():
    T = np.array([80.0, 90.0, 100.0])
    exact = Pinning(T, 1e-4 * (T - 87.0), np.array([1e-4, 2e-4, 1e-4]), T, None)
    found, error = exact.melting
    assert found == pytest.approx(87.0)
    rng = np.random.default_rng(0)
    noisy = [
        exact._replace(difference=exact.difference + exact.error * rng.normal(size=3)).melting[0] for _ in range(4000)
    ]
    assert error == pytest.approx(np.std(noisy), rel=0.05)
    with pytest.raises(ValueError, match="two temperatures"):
        Pinning(T[:1], T[:1], T[:1], T[:1], None).melting  # noqa: B018


def test_interfaces_lie_across_the_longest_direction():
    assert long_axis(jm.System([18], [[0, 0, 0]], np.diag([5.0, 9.0, 4.0]))) == 1
    skewed = np.array([[5.0, 0, 0], [0, 5.0, 0], [0, 2.0, 9.0]])
    with pytest.raises(ValueError, match="longest lattice vector"):
        long_axis(jm.System([18], [[0, 0, 0]], skewed))
    with pytest.raises(ValueError, match="periodic box"):
        long_axis(jm.System([18], [[0, 0, 0]]))


def test_the_half_that_melts_has_more_room():
    box = np.diag([4.0, 4.0, 10.0])
    system = jm.System(np.full(4, 18), [[1, 1, 1], [1, 1, 4.9], [1, 1, 6], [1, 1, -0.5]], box)
    wide, first = _with_room(system, 2, 0.1)
    np.testing.assert_allclose(wide.R[:, 2], [1, 4.9, 6.1, 9.95])
    np.testing.assert_allclose(wide.box, np.diag([4, 4, 10.5]))
    assert first.tolist() == [True, True, False, False]


def test_a_box_of_one_phase_has_no_coexistence():
    """Of a cold crystal all atoms stay in place."""
    potential, params = lennard_jones((36,), 0.5, 2.5, 1.7 * 2.5)
    crystal = jm.System.from_ase(bulk("Kr", "fcc", a=1.54 * 2.5, cubic=True) * (2, 2, 4))
    with pytest.raises(fe.PhaseError, match="all froze"):
        fe.coexistence_temperature(potential, params, crystal, temperature=100.0, steps=1500, dt=4.0)
    with pytest.raises(ValueError, match="two equal values"):
        fe.interface_pinning(
            Free((36,)), {}, crystal, lambda R, box: R[0, 0], values=(1.0, 1.0), k=1.0, temperatures=[300.0], steps=10
        )


@pytest.mark.slow
@pytest.mark.optimized
def test_the_phase_diagram_of_argon():
    """Melting of Lennard-Jones at T* = 0.694 without pressure; its line rises as argon's, 0.25 K / MPa."""
    sigma, epsilon = 3.405, 119.8 * kB
    potential, params = lennard_jones((18,), epsilon, sigma, 2.5 * sigma, tail=True)
    crystal = jm.System.from_ase(bulk("Ar", "fcc", a=5.4, cubic=True) * 3)
    pressures = np.array([0.0, 0.02, 0.04]) * GPa
    found = fe.phase_diagram(
        potential, params, {"fcc": crystal}, temperatures=(74.0, 92.0), pressures=pressures, steps=3000, repeats=2,
        points=20, melt=200.0, line_steps=8000, dt=8.0, friction=0.002, tau_pressure=2000.0, skin=1.2,
    )  # fmt: skip
    ((pair, (T, error)),) = found.transitions.items()
    assert pair == ("fcc", "liquid")
    assert error < 2.5
    assert abs(T - 0.694 * epsilon / kB) < 3.5 * error + 1.0
    assert (found.stable(T - 5), found.stable(T + 5)) == pair
    line = found.lines[pair]
    np.testing.assert_allclose(line.pressure, pressures)
    assert line.temperature[0] == T
    assert (abs(np.diff(line.temperature) / 20 - 0.25) < 0.06).all()  # K / MPa
    assert found.figure() is not None
