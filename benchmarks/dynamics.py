"""NVE steps of Lennard-Jones and Stillinger-Weber: jaxmlp against LAMMPS and jax-md; the share of the neighbour search.

Microseconds per atom and step, float64, one core, whole steps: forces, integration, neighbour lists. Every code runs at
the skin that was fastest for it here (LAMMPS: its default of 2 Å; jax-md: 1 Å).
"""

import numpy as np
from common import SHARED, crystal, emit, medians, pin, setup, start_lammps

EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 8.5
SYSTEMS = {  # crystal, repeat, temperature of the start (K), time step (fs), skin (Å)
    "Lennard-Jones": ("Ar", 10, 170.0, 2.0, 0.7),
    "Stillinger-Weber": ("Si", 8, 600.0, 1.0, 0.4),
    "NEP carbon": ("C", 8, 600.0, 1.0, 0.4),
}


def lammps(name: str, atoms, dt: float):
    """A function n -> None that runs n more steps; the start is the same structure and temperature."""
    lmp = start_lammps()
    cell, n = atoms.cell.lengths(), len(atoms)
    mass = atoms.get_masses()[0]
    lmp.commands_list([
        "units metal", "atom_style atomic", "atom_modify map array", "boundary p p p",
        f"region box block 0 {cell[0]} 0 {cell[1]} 0 {cell[2]}", "create_box 1 box", f"mass 1 {mass}",
    ])  # fmt: skip
    lmp.create_atoms(n, None, [1] * n, atoms.positions.ravel().tolist())
    if name == "Lennard-Jones":
        lmp.commands_list([f"pair_style lj/cut {CUTOFF}", f"pair_coeff 1 1 {EPSILON} {SIGMA}"])
    else:
        import tempfile

        import jaxmlp as jm
        from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

        path = tempfile.mktemp(suffix=".sw")
        jm.save(path, *stillinger_weber_silicon())
        lmp.commands_list(["pair_style sw", f"pair_coeff * * {path} Si"])
    lmp.commands_list([f"timestep {dt / 1000}", "fix 1 all nve", "thermo 100000"])
    lmp.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes((atoms.get_velocities() * VELOCITY).ravel()))
    return lambda steps: lmp.command(
        f"run {steps} pre no post no" if lmp.extract_global("ntimestep") else f"run {steps}"
    )


def jax_md(name: str, atoms, dt: float):
    """The same for jax-md, with its dense list and the update inside the compiled loop."""
    import jax
    import jax.numpy as jnp
    from jax_md import energy, simulate, space

    length = float(atoms.cell[0, 0])
    displacement, shift = space.periodic(length)
    if name == "Lennard-Jones":
        list_fn, energy_fn = energy.lennard_jones_neighbor_list(
            displacement, length, sigma=SIGMA, epsilon=EPSILON, r_onset=CUTOFF - 1e-3, r_cutoff=CUTOFF / SIGMA,
            dr_threshold=1.0,
        )  # fmt: skip
    else:
        list_fn, energy_fn = energy.stillinger_weber_neighbor_list(displacement, length, dr_threshold=0.5)
    R = jnp.asarray(atoms.get_positions(wrap=True))
    neighbors = list_fn.allocate(R, extra_capacity=8)
    unit = 10.18051  # fs per sqrt(amu/eV) Å
    init, step = simulate.nve(energy_fn, shift, dt / unit)
    from ase.units import kB

    temperature = atoms.get_temperature()
    state = init(jax.random.key(0), R, kB * temperature, mass=float(atoms.get_masses()[0]), neighbor=neighbors)

    @jax.jit
    def run(state, neighbors, n):
        def one(_, carry):
            state, neighbors = carry
            neighbors = neighbors.update(state.position)
            return step(state, neighbor=neighbors), neighbors

        return jax.lax.fori_loop(0, n, one, (state, neighbors))

    carry = [state, neighbors]

    def advance(steps):
        carry[:] = jax.block_until_ready(run(*carry, steps))
        assert not carry[1].did_buffer_overflow

    return advance


VELOCITY = None


def main(quick: bool = False) -> None:
    global VELOCITY
    pin()
    jax = setup()
    import ase.units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    import jaxmlp as jm
    from jaxmlp.potentials.pair import lennard_jones
    from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon

    VELOCITY = 1000 * ase.units.fs  # ASE's velocities to Å/ps
    rows, steps, warm = [], (20 if quick else 100), (20 if quick else 1000)
    for name, (kind, repeat, temperature, dt, skin) in SYSTEMS.items():
        atoms = crystal(kind, 4 if quick else repeat)
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=np.random.default_rng(0))
        if name == "NEP carbon":
            potential, params = jm.load(SHARED / "nep" / "models" / "C_2022_NEP4.txt")
        elif name == "Lennard-Jones":
            potential, params = lennard_jones((18,), EPSILON, SIGMA, CUTOFF)
        else:
            potential, params = stillinger_weber_silicon()
        sim = jm.md.nve(potential, params, jm.System.from_ase(atoms), dt=dt, skin=skin)
        quiet = {"log_every": 10**8, "progress": False}
        sim = jm.md.run(sim, warm, **quiet).simulation  # melts, and grows the lists

        holder = [sim]

        def ours(holder=holder, quiet=quiet):
            holder[0] = jm.md.run(holder[0], steps, **quiet).simulation

        functions = {"jaxmlp": ours}
        forces = sim.dynamics.forces
        evaluate = jax.jit(lambda state, sim_atoms, forces=forces: forces.evaluate(state, sim_atoms).forces)
        search = jax.jit(lambda R, box, s=forces.search: s(R, box))

        def repeated(f, *arguments):
            return lambda: [jax.block_until_ready(f(*arguments)) for _ in range(steps // 10)]

        functions["forces alone"] = repeated(evaluate, sim.state, sim.atoms)
        functions["one neighbour search"] = repeated(search, sim.state.R, sim.state.box)
        for code, make in (("LAMMPS", lammps), ("jax-md", jax_md)):
            if name == "NEP carbon":
                continue
            try:
                run = make(name, atoms, dt)
            except ImportError:
                continue
            run(warm if code == "LAMMPS" else warm // 5)  # melts the crystal
            functions[code] = lambda run=run: run(steps)
        times = medians(functions, 3 if quick else 5)
        per = {c: t / len(atoms) / (steps // 10 if " " in c else steps) * 1e6 for c, t in times.items()}
        rebuilds = _rebuilds(jm, jax, holder[0], steps)
        for code, us in per.items():
            rows.append({
                "benchmark": "NVE steps", "system": name, "atoms": len(atoms), "code": code, "us_per_atom": us,
                "speedup": us / per["jaxmlp"] if " " not in code else None,
                "slots": int(forces.search.slots[-1][1]),
                "search_share": rebuilds * per["one neighbour search"] / per["jaxmlp"] if code == "jaxmlp" else None,
            })  # fmt: skip
    emit(rows)


def _rebuilds(jm, jax, sim, steps: int) -> float:
    """Neighbour searches per step, counted over a run looked at after every second step."""
    advance = jax.jit(jm.md.simulate(sim))
    state, count = sim.state, 0
    for _ in range(steps // 2):
        new = advance(state, sim.controls, 2)
        count += bool((new.neighbors.R != state.neighbors.R).any())
        state = new
    return count / steps


if __name__ == "__main__":
    import sys

    main("--quick" in sys.argv)
