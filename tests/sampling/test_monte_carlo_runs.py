"""Monte Carlo under the driver of dynamics: the same walk in every form, repairs, restart, files, tuning."""

from dataclasses import dataclass

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.io import read
from registry import CASES

import jaxmlp as jm
from jaxmlp import FormatError, md
from jaxmlp.free_energy.paths import path
from jaxmlp.potentials.external import External, tether
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.sampling import Metadynamics, Position, hybrid_md_mc, monte_carlo, tuned
from jaxmlp.units import kB

KELVIN = 1 / kB  # of kT = 1 eV


def mixture(cells: int = 2, density: float = 0.9) -> tuple:
    """Force-shifted Lennard-Jones of two species (in eV and Å), and an fcc crystal of 4 cells^3 of their atoms."""
    potential, params = lennard_jones((18, 36), [1.0, 1.4], [1.0, 1.1], 1.8, truncation="force-shifted")
    a = (4 / density) ** (1 / 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    R = (np.array(list(np.ndindex(cells, cells, cells)))[:, None] + basis).reshape(-1, 3) * a
    return potential, params, jm.System(np.resize([18, 36], len(R)), R, np.eye(3) * cells * a)


ALL = {"displacement": 0.08, "pressure": 2.0, "volume_change": 0.04, "swap": True}


def same(a: md.State, b: md.State) -> bool:
    """Whether two states are equal bit for bit."""

    def bits(x):
        return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(bits(x), bits(y)) for x, y in pairs)


def test_local_and_full_energies_make_the_same_walk_of_all_moves():
    """A pair potential, with springs that are evaluated for all atoms in any case."""
    potential, params, system = mixture()
    spring, k = tether(system, 3.0, species=(18, 36))
    case = (potential + spring, (params, k), system)
    walks = [
        md.run(monte_carlo(*case, temperature=0.5 * KELVIN, **ALL, local=local, skin=0.4, key=3), 20).simulation
        for local in (True, False)
    ]
    a, b = (sim.state for sim in walks)
    assert np.array_equal(a.bath.accepted, b.bath.accepted)
    assert (a.bath.accepted > 0).all()
    assert np.array_equal(a.species, b.species)
    np.testing.assert_allclose(a.R, b.R, atol=1e-9)  # the energies differ by rounding; it is steps that are added up
    log = md.run(walks[0], 20, log_every=5).log
    assert np.ptp(log["potential"]) > 0.1
    assert np.ptp(log["conserved"]) < 1e-9  # sums of 10^3 differences of energies, each rounded to 1e-13


def test_the_energies_of_trials_of_many_bodies_add_up_to_that_of_the_end():
    """Tersoff silicon and germanium, small cells, lists that are renewed, and neighbours that come and go."""
    case = CASES["tersoff"]()
    options = {"displacement": 0.15, "swap": True, "skin": 0.4, "key": 3}
    options["trials"] = {"displacement": 400}  # in one step atoms go much further than the skin
    sim = monte_carlo(case.potential, case.params, case.system, temperature=4000.0, **options)
    log = md.run(sim, 10, log_every=1).log
    assert np.ptp(log["potential"]) > 0.5
    assert np.ptp(log["conserved"]) < 1e-9


def test_a_list_that_is_too_small_is_enlarged_and_the_walk_is_the_same():
    """Compression by half: the neighbours of an atom become more than there is room for."""
    potential, params, system = mixture(density=0.45)
    options = {"displacement": 0.08, "pressure": 20.0, "volume_change": 0.2, "skin": 0.3, "key": 2}
    options["trials"] = {"volume": 4}
    walks = []
    for headroom in (0.0, 0.8):
        start = monte_carlo(potential, params, system, temperature=KELVIN, **options, headroom=headroom)
        end = md.run(start, 4).simulation
        walks.append((start, end))
    (a0, a), (b0, b) = walks
    assert a.dynamics.forces.search != a0.dynamics.forces.search
    assert b.dynamics.forces.search == b0.dynamics.forces.search
    assert a.system.volume < 0.7 * system.volume  # already after four steps; every enlargement compiles again
    np.testing.assert_allclose(a.state.R, b.state.R, atol=1e-8)
    assert np.array_equal(a.state.bath.accepted, b.state.bath.accepted)


@dataclass(frozen=True)
class Cliff(External):
    """1/2 |R|^2 up to 1 Å, and no number beyond."""

    def site_energies(self, params, graph):
        r2 = jnp.sum(graph.R**2, axis=1)
        return jnp.where(r2 < 1, 0.5 * r2, jnp.nan)


def test_an_energy_that_is_not_a_number_stops_the_run():
    """It must not pass for a trial that was refused."""
    system = jm.System([18, 18], np.zeros((2, 3)))
    sim = monte_carlo(Cliff((18,)), {}, system, temperature=KELVIN, displacement=0.4, key=1)
    with pytest.raises(md.SimulationError, match="the energy is not finite") as error:
        md.run(sim, 1000)
    good = error.value.simulation
    assert 0 < good.step < 1000
    assert np.isfinite(np.asarray(good.state.energy))
    assert (np.linalg.norm(good.state.R, axis=1) < 1).all()


def moves(case, **options):
    return monte_carlo(*case, temperature=KELVIN, **ALL, skin=0.4, key=4, **options)


def hybrid(case, **options):
    sim = md.nvt_langevin(*case, temperature=KELVIN, dt=1.0, friction=0.02, skin=0.4, key=4, **options)
    return hybrid_md_mc(sim, every=5, swap=True, displacement=0.05, trials={"swap": 10, "displacement": 10})


def grand(case, **options):
    potential, params, system = case
    one = system.replace(numbers=np.full(len(system), 18), masses=None)  # krypton comes in
    return monte_carlo(
        potential, params, one, temperature=KELVIN, chemical_potentials={"Ar": 0.0, "Kr": 2.0}, key=4, **options
    )


@pytest.mark.parametrize("make", [moves, hybrid, grand])
def test_a_run_in_two_parts_is_the_run_in_one_bit_for_bit_and_so_are_its_files(make, tmp_path):
    case = mixture()
    sim = make(case)
    every = {"log_every": 10, "trajectory_every": 10}
    whole = md.run(sim, 40, trajectory=tmp_path / "whole.xyz", **every)
    md.run(sim, 20, trajectory=tmp_path / "parts.xyz", checkpoint=tmp_path / "run.chk", **every)
    again = md.restart(tmp_path / "run.chk", *case[:2])
    result = md.run(again, 20, trajectory=tmp_path / "parts.xyz", **every)
    assert same(whole.simulation.state, result.simulation.state)
    for column, x in result.log.items():
        assert np.array_equal(x[-1], whole.log[column][-1]), column
    assert (tmp_path / "whole.xyz").read_text() == (tmp_path / "parts.xyz").read_text()
    frames = read(tmp_path / "whole.xyz", ":")
    assert len(frames) == 5
    end = whole.simulation.system
    assert np.array_equal(frames[-1].numbers, end.numbers)
    assert not np.array_equal(frames[0].numbers, frames[-1].numbers)
    standard = jm.System(end.numbers, end.R).masses
    np.testing.assert_allclose(end.masses, standard)
    # The energy of the frame is that of its elements and positions.
    energy = jm.energy_fn(case[0], end)(end.R, end.box, case[1])
    np.testing.assert_allclose(energy, whole.simulation.state.energy, rtol=1e-12)


def test_biases_that_learn_and_parameters_that_change_are_booked():
    """The energy changes by trials and by work, and by nothing else: with Monte Carlo alone, and between steps."""
    system = jm.System(np.resize([18, 36], 6), np.arange(18).reshape(6, 3) * 1.0)
    a, b = (tether(system, k) for k in (1.0, np.linspace(2, 4, 6)))
    potential, params = path(*a, *b, ramp=md.Ramp)
    ramp = params | {"x": md.Ramp(0.0, 1.0, 40)}
    bias = Metadynamics(Position(0, axis=0), (18, 36), width=0.2, pace=5, height=0.05, biasfactor=5.0)
    learning = (a[0] + bias, (a[1], bias.start(0.7)))
    for case in ((potential, ramp), learning):
        sim = monte_carlo(*case, system, temperature=0.7 * KELVIN, displacement=0.3, swap=True, key=2)
        log = md.run(sim, 60, log_every=1).log
        assert np.ptp(log["work"]) > 0.05
        assert np.ptp(log["conserved"]) < 1e-10
        dynamics = md.nvt_langevin(*case, system, temperature=0.7 * KELVIN, dt=0.5, key=2)
        both = hybrid_md_mc(dynamics, every=3, swap=True, displacement=0.3)
        log = md.run(both, 60, log_every=1).log
        assert np.ptp(log["conserved"]) < 2e-3 * np.ptp(log["total"])  # of the integrator, (omega dt)^2


def test_a_vmapped_walk_is_the_walk():
    """On an accelerator replicas run so: lists are renewed, and trials made, where any of them wants it."""
    case = mixture()
    sim = moves(case, headroom=0.3)  # nobody repairs lists under vmap
    sims = [sim, sim.with_controls(temperature=0.5 * KELVIN)]
    stack = lambda *x: jnp.stack(x)
    states = jax.tree.map(stack, *(sim.state for sim in sims))
    controls = jax.tree.map(stack, *(sim.controls for sim in sims))
    ends = jax.jit(jax.vmap(md.simulate(sims[0]), (0, 0, None)))(states, controls, 8)
    for k, sim in enumerate(sims):
        one = md.run(sim, 8).simulation.state
        assert np.array_equal(ends.species[k], one.species)
        assert np.array_equal(ends.bath.accepted[k], one.bath.accepted)
        np.testing.assert_allclose(ends.R[k], one.R, atol=1e-10)
    assert not np.array_equal(ends.R[0], ends.R[1])


def test_h5md_holds_the_elements_of_every_frame(tmp_path):
    case = mixture()
    sim = moves(case)
    result = md.run(sim, 20, trajectory=tmp_path / "a.h5", trajectory_every=10).simulation
    md.run(result, 10, trajectory=tmp_path / "a.h5", trajectory_every=10)
    with h5py.File(tmp_path / "a.h5") as file:
        species, mass = (file["particles/all"][name]["value"] for name in ("species", "mass"))
        assert species.shape == mass.shape == (4, 32)
        assert np.array_equal(species[0], case[2].numbers)
        assert np.array_equal(species[2], result.elements)
        np.testing.assert_allclose(mass[2], result.system.masses)
    fixed = md.run(md.nve(*case, dt=1.0), 10, trajectory=tmp_path / "b.h5", trajectory_every=10)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["particles/all/species"].shape == (32,)
    with pytest.raises(FormatError, match="Choose another file name"):
        md.run(fixed.simulation, 10, trajectory=tmp_path / "a.h5", trajectory_every=10)


def test_tuned_sizes_are_accepted_as_wanted_and_stay():
    case = mixture()
    options = {"pressure": 2.0, "trials": {"volume": 4}, "skin": 0.8, "key": 4}
    start = monte_carlo(*case, temperature=KELVIN, displacement=0.01, volume_change=0.3, **options)
    sim = tuned(start, acceptance=0.4, steps=10)
    assert sim.step == 0
    assert float(sim.controls.displacement) > 0.02
    assert float(sim.controls.volume_change) < 0.2
    assert (np.asarray(sim.state.bath.tried) == 0).all()
    result = md.run(sim, 100, log_every=100)
    # 3200 trials of atoms and 400 of the volume, with sizes from 10 rounds of 320 and 40: errors of 0.02 and 0.05.
    assert abs(result.log["acceptance_displacement"][-1] - 0.4) < 0.08
    assert abs(result.log["acceptance_volume"][-1] - 0.4) < 0.2
    assert float(result.simulation.controls.displacement) == float(sim.controls.displacement)
    with pytest.raises(ValueError, match="have sizes that can be tuned; this has swap"):
        tuned(monte_carlo(*case, temperature=KELVIN, swap=True, begin=False))
    with pytest.raises(ValueError, match="between 0 and 1"):
        tuned(start, acceptance=1.0)


def test_sizes_of_hybrid_trials_are_tuned_though_sets_of_them_are_rare():
    """A round of `steps` is so many sets of trials: without trials, sizes would grow without end."""
    case = mixture()
    dynamics = md.nvt_langevin(*case, temperature=KELVIN, dt=1.0, friction=0.02, skin=0.8, key=4)
    start = hybrid_md_mc(dynamics, every=7, displacement=0.3)
    sim = tuned(start, acceptance=0.4, rounds=10, steps=4)
    assert sim.step == 0
    result = md.run(sim, 210, log_every=210)
    assert abs(result.log["acceptance_displacement"][-1] - 0.4) < 0.1  # 960 trials, and 128 in a round
    ramp = start.with_controls(displacement=md.Ramp(0.1, 0.2, 100))
    with pytest.raises(ValueError, match="ramps cannot be tuned"):
        tuned(ramp)


def test_atoms_that_are_held_take_no_part():
    potential, params, system = mixture()
    held = np.arange(0, 32, 3)
    sim = monte_carlo(potential, params, system, temperature=2 * KELVIN, displacement=0.1, swap=True, fixed=held)
    end = md.run(sim, 20).simulation
    moved = (np.asarray(end.state.R) != system.R).any(axis=1)
    assert not moved[held].any()
    assert np.delete(moved, held).all()
    assert np.array_equal(end.elements[held], system.numbers[held])
    assert not np.array_equal(end.elements, system.numbers)


def test_bad_options_are_refused():
    case = mixture()
    with pytest.raises(ValueError, match="needs a skin of twice that"):
        monte_carlo(*case, temperature=300.0, displacement=0.3, skin=0.4)
    with pytest.raises(ValueError, match="scalar pressure"):
        monte_carlo(*case, temperature=300.0, pressure=np.eye(3))
    cluster = case[2].replace(box=None, pbc=None)
    with pytest.raises(ValueError, match="periodic in all directions"):
        monte_carlo(*case[:2], cluster, temperature=300.0, pressure=1.0)
    with pytest.raises(ValueError, match="cell in one of"):
        monte_carlo(*case, temperature=300.0, pressure=1.0, cell="cubic")
    with pytest.raises(ValueError, match="leave out bonds"):
        monte_carlo(*case, temperature=300.0, displacement=0.1, bonds=[[0, 1]])
    with pytest.raises(ValueError, match="groups make no sense"):
        monte_carlo(*case, temperature=300.0, displacement=0.1, groups=[[0], [1]])
    with pytest.raises(ValueError, match="the largest displacement of a trial in Å"):
        monte_carlo(*case, temperature=300.0, displacement=-0.1)
