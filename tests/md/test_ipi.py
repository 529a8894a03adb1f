"""Averages of i-PI, with our calculator at the other end of its socket, and those of jaxmlp by itself."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.socketio import SocketClient

import jaxmlp as jm
from jaxmlp.ase import JaxMLP
from jaxmlp.md.modes import HBAR
from jaxmlp.potentials.external import Polynomial
from jaxmlp.potentials.stillinger_weber import stillinger_weber_silicon
from jaxmlp.statistics import Average, average
from jaxmlp.units import hbar, kB

pytest.importorskip("ipi", reason="needs i-PI: pip install ipi")
pytestmark = [pytest.mark.slow, pytest.mark.optimized]

AU = 1e15 * hbar / ase.units.Hartree  # atomic unit of time, fs


def drive(folder: Path, atoms: ase.Atoms, properties: str, steps: int, kelvin: float, dynamics: str, beads: int = 1):
    """Run i-PI at constant temperature with the atoms' calculator, and return its table of properties by name.

    Args:
        dynamics: time step and thermostat, as in i-PI's input.
    """
    name = f"jaxmlp-{os.getpid()}-{beads}"
    a = atoms.cell.lengths()
    lines = [f"{symbol} {x} {y} {z}" for symbol, (x, y, z) in zip(atoms.symbols, atoms.positions)]
    header = f"# CELL(abcABC): {a[0]} {a[1]} {a[2]} 90 90 90 positions{{angstrom}} cell{{angstrom}}"
    (folder / "start.xyz").write_text("\n".join([str(len(atoms)), header, *lines]) + "\n")
    (folder / "input.xml").write_text(f"""
<simulation verbosity='low'>
  <output prefix='run'><properties stride='1' filename='out'> [{properties}] </properties></output>
  <total_steps> {steps} </total_steps>
  <prng> <seed> 1 </seed> </prng>
  <ffsocket name='jaxmlp' mode='unix' pbc='false'> <address> {name} </address> <latency> 1e-4 </latency> </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> {kelvin} </velocities>
    </initialize>
    <forces> <force forcefield='jaxmlp'/> </forces>
    <ensemble> <temperature units='kelvin'> {kelvin} </temperature> </ensemble>
    <motion mode='dynamics'>
      <fixcom> False </fixcom>
      <dynamics mode='nvt' splitting='obabo'> {dynamics} </dynamics>
    </motion>
  </system>
</simulation>""")
    program = shutil.which("i-pi", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with open(folder / "i-pi.log", "w") as log:
        server = subprocess.Popen([program, "input.xml"], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        client = None
        while client is None:
            assert server.poll() is None, (folder / "i-pi.log").read_text()[-2000:]
            try:
                client = SocketClient(unixsocket=name)
            except OSError:  # it does not listen yet
                time.sleep(0.1)
        client.run(atoms, use_stress=False)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
    table = np.loadtxt(folder / "run.out")
    return dict(zip((word.split("{")[0].strip() for word in properties.split(",")), table.T, strict=True))


def averages(log: dict, names: dict[str, str], scale: dict[str, float]) -> dict[str, Average]:
    """Return the averages of some columns of a log without its first tenth."""
    start = len(next(iter(log.values()))) // 10
    return {name: average(log[column][start:] * scale[name]) for name, column in names.items()}


def oscillators(folder: Path, steps: int = 2500, own_steps: int = 20_000) -> tuple[dict, dict]:
    """Return V, K_CV and K_TD, hbar omega, of 300 harmonic oscillators with beta hbar omega = 3, by i-PI and jaxmlp."""
    kelvin, P, N, dt, tau, mass = 300.0, 8, 100, 100 * AU, 600 * AU, 1.00794
    quantum = 3 * kB * kelvin
    stiffness = mass * (quantum / HBAR) ** 2
    potential = Polynomial((1,))
    params = {"c": np.array([[0, 0, stiffness / 2]] * 3)}
    atoms = ase.Atoms(f"H{N}", np.zeros((N, 3)), cell=[50] * 3, masses=[mass] * N)
    sim = jm.md.pimd(
        potential,
        params,
        jm.System(atoms.numbers, atoms.positions, masses=atoms.get_masses()),
        temperature=kelvin,
        beads=P,
        dt=dt,
        tau=tau,
        splitting="OBABO",
    )
    ours = jm.md.run(sim, own_steps, log_every=2).log
    atoms.calc = JaxMLP(potential, params)
    theirs = drive(
        folder,
        atoms,
        "potential{electronvolt}, kinetic_cv{electronvolt}, kinetic_td{electronvolt}",
        steps,
        kelvin,
        f"<timestep units='femtosecond'> {dt} </timestep>"
        f"<thermostat mode='pile_l'> <tau units='femtosecond'> {tau} </tau> </thermostat>",
        P,
    )
    scale = dict.fromkeys(("V", "K_CV", "K_TD"), 1 / (3 * N * quantum))
    return (
        averages(theirs, {"V": "potential", "K_CV": "kinetic_cv", "K_TD": "kinetic_td"}, scale),
        averages(ours, {"V": "potential", "K_CV": "kinetic", "K_TD": "kinetic_primitive"}, scale),
    )


def silicon(folder: Path, steps: int = 12_000, own_steps: int = 40_000) -> tuple[dict, dict]:
    """Return potential energy, eV/atom, and temperature, K, of 64 atoms at 1000 K, by i-PI and jaxmlp."""
    kelvin, dt, tau = 1000.0, 2.0, 50.0
    potential, params = stillinger_weber_silicon()
    atoms = bulk("Si", a=5.431, cubic=True) * (2, 2, 2)
    options = {"temperature": kelvin, "dt": dt, "friction": 1 / tau, "splitting": "OBABO"}
    sim = jm.md.nvt_langevin(potential, params, jm.System.from_ase(atoms), **options)
    ours = jm.md.run(sim, own_steps, log_every=2).log
    atoms.calc = JaxMLP(potential, params)
    theirs = drive(
        folder,
        atoms,
        "potential{electronvolt}, temperature{kelvin}",
        steps,
        kelvin,
        f"<timestep units='femtosecond'> {dt} </timestep>"
        f"<thermostat mode='langevin'> <tau units='femtosecond'> {tau} </tau> </thermostat>",
    )
    names, scale = {"V": "potential", "T": "temperature"}, {"V": 1 / len(atoms), "T": 1.0}
    return averages(theirs, names, scale), averages(ours, names, scale)


def test_a_quantum_oscillator_has_the_averages_of_ipi(tmp_path):
    """Those of the time step of 100 atomic units, which are 2 to 12 % off: the splittings are the same."""
    theirs, ours = oscillators(tmp_path)
    exact = {"V": 0.27839632, "K_CV": 0.27494147, "K_TD": 0.23986384}  # of the linear map of one time step
    for name, x in ours.items():
        assert abs(x.mean - theirs[name].mean) < 3 * np.hypot(x.error, theirs[name].error), name
        assert x.error < 0.005 * exact[name]
        for found in (x, theirs[name]):
            assert abs(found.mean - exact[name]) < 3 * found.error, name


def test_a_classical_crystal_has_the_averages_of_ipi(tmp_path):
    theirs, ours = silicon(tmp_path)
    for name, x in ours.items():
        assert abs(x.mean - theirs[name].mean) < 3 * np.hypot(x.error, theirs[name].error), name
    for found in (theirs["T"], ours["T"]):
        assert abs(found.mean - 1000.0) < 3 * found.error
