"""The demonstration: silicon by a NEP that comes with jaxmlp, from the relaxed crystal to its dynamics, on one page."""

import time
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ase.build import bulk

from jaxmlp import md
from jaxmlp.derivatives import elastic_constants
from jaxmlp.energy import energy_fn
from jaxmlp.formats.detect import load, save
from jaxmlp.minimize import minimize
from jaxmlp.properties import rdf
from jaxmlp.shipped import models
from jaxmlp.system import System
from jaxmlp.units import GPa

MODEL = "silicon/nep"
# DFT: a, C11 and C12 of the data the potential learned (mlearn, PBE; stress against strain), C44 (PW91) of Bartók et
# al., PRX 8, 041048 (2018). Experiment at 298 K: McSkimin and Andreatch, J. Appl. Phys. 35, 2161 (1964).
DFT = {"a": 5.469, "C11": 154.0, "C12": 57.0, "C44": 72.0}
EXPERIMENT = {"a": 5.431, "C11": 165.8, "C12": 63.9, "C44": 79.6}
TOLERANCE = {"a": 1e-3, "energy": 1e-4, "C11": 0.1, "C12": 0.1, "C44": 0.1}  # between machines, of the card's numbers
UNITS = {"a": "Å", "energy": "eV/atom", "C11": "GPa", "C12": "GPa", "C44": "GPa"}


class Demo(NamedTuple):
    """What `run` found.

    Args:
        found: lattice constant (Å), energy (eV/atom), elastic constants (GPa).
        card: the same numbers as the potential's card has them.
        log: thermodynamic log of the dynamics, see `md.run`.
        r, g: radial distribution function.
        temperature: K of the thermostat.
        atoms: number of atoms in the dynamics.
        speed: ns/day.
    """

    found: dict[str, float]
    card: dict[str, float]
    log: dict[str, np.ndarray]
    r: np.ndarray
    g: np.ndarray
    temperature: float
    atoms: int
    speed: float

    @property
    def agrees(self) -> bool:
        """Every static number is that of the card: potential and code do here what they did when it was fitted."""
        return all(abs(self.found[q] - self.card[q]) <= TOLERANCE[q] for q in TOLERANCE)


def run(
    folder: str | PathLike = "jaxmlp-demo",
    *,
    steps: int = 4000,
    repeat: int = 4,
    temperature: float = 1000.0,
    tell: Callable[[str], None] = lambda text: None,
) -> Demo:
    """Relax silicon, compute its elastic constants, run it at `temperature` (K), and write report.txt and report.png.

    The folder also gets the model, the log and the trajectory. Needs double precision (jax_enable_x64).

    Args:
        steps: of 1 fs.
        repeat: the dynamics has 8 repeat^3 atoms.
        tell: is called with a line of text when something is done.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    potential, params = load(MODEL)
    save(folder / "silicon.safetensors", potential, params)

    start = System.from_ase(bulk("Si", a=5.5))  # two atoms
    minimum = minimize(potential, params, start, cell=True, fmax=1e-6, smax=1e-8)
    crystal = minimum.system
    elastic = jax.jit(elastic_constants(energy_fn(potential, crystal)))
    C = np.asarray(elastic(crystal.R, crystal.box, params)) / GPa
    found = {
        "a": (4 * crystal.volume) ** (1 / 3),
        "energy": minimum.energy / len(crystal),
        "C11": float(C[0, 0]),
        "C12": float(C[0, 1]),
        "C44": float(C[3, 3]),
    }
    for name, value in found.items():
        tell(f"{name:>7} = {value:9.4f} {UNITS[name]:8}" + (f" DFT {DFT[name]:g}" if name in DFT else ""))

    large = System.from_ase(bulk("Si", a=found["a"], cubic=True).repeat(repeat))
    sim = md.nvt_langevin(potential, params, large, temperature=temperature, dt=1.0, friction=0.01, headroom=0.15)
    every = max(1, steps // 200)
    frames = _Frames(folder / "silicon.xyz")
    begin = time.perf_counter()
    log = md.run(sim, steps, log_every=every, trajectory=frames, trajectory_every=5 * every).log
    seconds = time.perf_counter() - begin
    r, g = rdf(np.array(frames.R[len(frames.R) // 2 :]), np.asarray(large.box), cutoff=8.0)
    card, speed = models()[MODEL].numbers["crystal"], 86.4 * 1e-3 * steps / seconds
    demo = Demo(found, card, log, r, g, temperature, len(large), speed)
    tell(f"{steps} steps of {len(large)} atoms in {seconds:.1f} s with compilation")
    _write(folder, demo)
    return demo


class _Frames(md.XYZ):
    """A trajectory that also remembers the positions."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.R: list[np.ndarray] = []

    def append(self, frame: md.Frame) -> None:
        super().append(frame)
        self.R.append(frame.R)


def _write(folder: Path, demo: Demo) -> None:
    (folder / "report.txt").write_text(report(demo), encoding="utf-8")
    names = list(demo.log)
    table = np.column_stack([demo.log[q] for q in names])
    np.savetxt(folder / "log.csv", table, delimiter=",", header=",".join(names), comments="")
    draw(folder / "report.png", demo)


def report(demo: Demo) -> str:
    """Return the page of text."""
    log, half = demo.log, slice(len(demo.log["step"]) // 2, None)
    title = "Silicon by silicon/nep, a neuroevolution potential fitted by jaxmlp to DFT"
    lines = [title, "", "Crystal at 0 K, relaxed", f"  {'':8}{'found':>10}{'DFT':>10}{'experiment':>12}"]
    for name, value in demo.found.items():
        others = f"{DFT[name]:10g}{EXPERIMENT[name]:12g}" if name in DFT else " " * 22
        lines.append(f"  {name:8}{value:10.4f}{others}  {UNITS[name]}")
    agree = "all are" if demo.agrees else "NOT ALL ARE"
    lines += [
        f"  Found here: {agree} what the card of the potential says.",
        "  Elastic constants are second derivatives of the energy, internal relaxation included.",
        "",
    ]
    T, P = log["temperature"][half], log["pressure"][half] / GPa
    E = log["total"][half] / demo.atoms
    peak = int(np.argmax(demo.g))
    lines += [
        f"Dynamics: {demo.atoms} atoms, {log['time'][-1] / 1000:g} ps, Langevin at {demo.temperature:g} K, dt = 1 fs",
        f"  temperature       {T.mean():.1f} ± {T.std():.1f} K (second half; canonical fluctuation "
        f"{demo.temperature * np.sqrt(2 / (3 * demo.atoms)):.1f} K)",
        f"  pressure          {P.mean():.3f} ± {P.std():.3f} GPa",
        f"  total energy      {E.mean():.4f} eV/atom",
        f"  conserved         changed by {(log['conserved'][-1] - log['conserved'][0]) / demo.atoms:.1e} eV/atom",
        f"  first peak of g(r) at {demo.r[peak]:.2f} Å, height {demo.g[peak]:.2f}",
        f"  speed             {demo.speed:.2f} ns/day, compilation included",
        "",
        "Files: report.png, log.csv (fs, eV, K, eV/Å^3, Å^3), silicon.xyz (trajectory) and silicon.safetensors (the",
        "model: try `jaxmlp check silicon.safetensors`). More potentials of silicon: `jaxmlp models`.",
    ]
    return "\n".join(lines) + "\n"


def draw(path: str | PathLike, demo: Demo) -> None:
    """Draw energy, temperature and g(r)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["energy", "g"], ["temperature", "g"]])
    t = demo.log["time"] / 1000
    for name in ("potential", "total", "conserved"):
        axes["energy"].plot(t, demo.log[name] / demo.atoms, label=name, lw=1)
    axes["energy"].set(ylabel="energy (eV/atom)")
    axes["energy"].legend()
    axes["temperature"].plot(t, demo.log["temperature"], lw=1, color="C3")
    axes["temperature"].axhline(demo.temperature, color="0.5", lw=1, ls="--")
    axes["temperature"].set(xlabel="time (ps)", ylabel="temperature (K)")
    axes["g"].plot(demo.r, demo.g, color="C2")
    axes["g"].axhline(1, color="0.8", lw=1, zorder=0)
    axes["g"].set(xlabel="r (Å)", ylabel="g(r)")
    figure.suptitle(f"NEP silicon, {demo.atoms} atoms, {demo.temperature:g} K")
    figure.savefig(path, dpi=130)
