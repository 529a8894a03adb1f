"""The validation card: does a potential do what every potential must, and how fast?

Each test gives one `Line`: a measured value, the limit it must not exceed, and the reason for that limit.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.energy import prepare
from jaxmlp.evaluate import Evaluation, Execution, evaluate
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.potential import Params, Potential
from jaxmlp.structures import example_system
from jaxmlp.system import System

SECTIONS = ("derivatives", "symmetry", "neighbours", "curves", "dynamics", "speed")
PRECISIONS = ("float64", "mixed", "float32")


class Line(NamedTuple):
    """One row of the card.

    Args:
        name: what was tested.
        value: what was measured.
        unit: of value and limit.
        limit: the largest value that passes; None for a measurement without judgement.
        reason: why this limit.
        hard: a failure makes `jaxmlp check` fail; others are warnings.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    reason: str = ""
    hard: bool = True

    @property
    def verdict(self) -> str:
        """PASS, FAIL, WARN or INFO."""
        if self.limit is None:
            return "INFO"
        if self.value <= self.limit:  # False for nan
            return "PASS"
        return "FAIL" if self.hard else "WARN"


class Curve(NamedTuple):
    """Energies (eV) of two atoms, or of two beside a third, at distances r (Å), less the energy of separated atoms."""

    name: str
    r: np.ndarray
    energy: np.ndarray


class Card(NamedTuple):
    """The whole result of `check`."""

    potential: Potential
    system: System
    lines: list[Line]
    curves: list[Curve]
    drifts: dict[str, tuple[np.ndarray, np.ndarray]]  # precision -> (time in ps, total energy per atom in eV)

    @property
    def passed(self) -> bool:
        """No hard test failed."""
        return not any(line.verdict == "FAIL" for line in self.lines)


class Subject:
    """A potential on one system: compiled once, then called with changed positions, boxes and species."""

    def __init__(self, potential: Potential, params: Params, system: System, **search):
        self.given = potential, params  # to be prepared again for other cells
        potential, params, index = prepare(potential, params, system)
        self.potential, self.params, self.system = potential, jax.tree.map(jnp.asarray, params), system
        self.species = jnp.asarray(index)
        self.R = jnp.asarray(system.R)
        self.box = None if system.box is None else jnp.asarray(system.box)
        self.search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, **search)
        self._run = jax.jit(self.pure)

    def pure(self, params: Params, R: Array, box: Array | None, species: Array) -> Evaluation:
        return evaluate(self.potential, params, R, box, species, self.search(R, box), execution=Execution())

    def __call__(self, R: Array, box: Array | None = None, species: Array | None = None) -> Evaluation:
        box = self.box if box is None else box
        return self._run(self.params, R, box, self.species if species is None else species)


def check(
    potential: Potential,
    params: Params,
    system: System | None = None,
    *,
    sections: Iterable[str] = SECTIONS,
    precisions: Iterable[str] = PRECISIONS,
    steps: int = 1000,
    seed: int = 0,
) -> Card:
    """Test a potential on a system, in double precision, and return the card.

    Args:
        system: None takes `example_system(potential)`. A perfect crystal hides errors: its forces are zero.
        sections: which of `SECTIONS`.
        precisions: which of `PRECISIONS` to run at constant energy.
        steps: length of the runs at constant energy.
        seed: of the random directions, rotations and velocities.

    Raises:
        ValueError: an unknown section, a model without energies, a system with elements that the potential lacks.
    """
    sections, precisions = tuple(sections), tuple(precisions)
    for given, known in ((sections, SECTIONS), (precisions, PRECISIONS)):
        unknown = [s for s in given if s not in known]
        if unknown:
            raise ValueError(f"unknown: {', '.join(map(str, unknown))}; there are {', '.join(known)}.")
    if hasattr(potential, "site_tensors"):
        raise ValueError(f"a {type(potential).__name__} model has no energy to check.")
    from jaxmlp.check_curves import bond_length, scan

    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, float) if jnp.issubdtype(x.dtype, jnp.floating) else x, params)
        if system is None:
            system = example_system(potential, seed=seed, distance=lambda: bond_length(potential, params))
        subject = Subject(potential, params, system)
        rng = np.random.default_rng(seed)
        lines: list[Line] = []
        curves: list[Curve] = []
        drifts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if {"derivatives", "symmetry", "neighbours"} & set(sections):
            out = subject(subject.R)
            lines.append(Line("energies, forces, virials finite", _count(out), "NaN or inf", 0, "always"))
        if "derivatives" in sections:
            lines += _derivatives(subject, rng)
        if "symmetry" in sections:
            lines += _symmetry(subject, rng)
        if "neighbours" in sections:
            lines += _neighbours(subject)
        if "curves" in sections:
            found, curves = scan(potential, params, system)
            lines += found
        if "dynamics" in sections:
            from jaxmlp.check_dynamics import drift

            found, drifts = drift(potential, params, system, precisions, steps, seed)
            lines += found
        if "speed" in sections:
            lines += _speed(potential, params, system)
    return Card(potential, system, lines, curves, drifts)


def _count(out: Evaluation) -> float:
    return float(sum(np.sum(~np.isfinite(x)) for x in (out.energies, out.forces, out.virials)))


def _worst(*values) -> float:
    """The largest of the values, nan if one is (Python's own max loses it)."""
    return float(np.max(np.array(values, dtype=float)))


def _mismatch(f: Callable[[float], Array], exact: float, scale: float) -> float:
    """How far `exact` is from df/dt at 0, relative to `scale`: the best of fourth-order differences of three steps.

    A short step escapes the cutoff functions whose second derivative jumps (an atom that crosses within the step spoils
    the difference, not the force); a long one escapes rounding. A wrong force is wrong with every step.
    """
    errors = []
    for h in (3e-4, 3e-5, 3e-6):
        found = float((8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h))
        errors.append(abs(found - exact) / scale)
    return float(np.min(errors))


def _derivatives(subject: Subject, rng) -> list[Line]:
    """Compare forces and virial with differences of the energy; errors relative to their norm, at least 1."""
    out = subject(subject.R)
    reason = "rounding and truncation of the differences stay below 1e-7; a term that is lost is larger"
    worst = 0.0
    for _ in range(3):
        v = jnp.asarray(rng.normal(size=subject.R.shape))
        exact, scale = -float(jnp.sum(out.forces * v)), max(1.0, float(jnp.linalg.norm(out.forces)))

        def moved(t, v=v):
            return subject(subject.R + t * v).energy

        worst = _worst(worst, _mismatch(moved, exact, scale))
    lines = [Line("force = -dE/dR (finite differences)", worst, "relative", 1e-6, reason)]
    total = float(jnp.abs(jnp.sum(out.forces, axis=0)).max())
    scale = max(1.0, float(jnp.abs(out.forces).max()))
    lines.append(Line("forces sum to zero", total / scale, "relative", 1e-9, "rounding of a sum over all atoms"))
    if subject.box is not None:
        worst = 0.0
        for _ in range(2):
            strain = jnp.asarray(rng.normal(size=(3, 3)))
            exact = -float(jnp.sum(out.virial * strain))

            def strained(t, strain=strain):
                F = jnp.eye(3) + t * strain
                return subject(subject.R @ F, subject.box @ F).energy

            worst = _worst(worst, _mismatch(strained, exact, max(1.0, float(jnp.linalg.norm(out.virial)))))
        name = "stress = +(1/V) dE/dstrain, ASE's sign (finite differences)"
        lines.append(Line(name, worst, "relative", 1e-6, reason))
    return lines


def _symmetry(subject: Subject, rng) -> list[Line]:
    """Change the description of the system; energies and forces must follow."""
    out = subject(subject.R)
    n = len(subject.R)
    scale = max(1.0, float(jnp.abs(out.energies).max()), float(jnp.abs(out.forces).max()))
    limit, reason = 1e-9, "rounding of float64 sums (1e-13 to 1e-11), relative to the largest site energy or force"

    def line(name, changed: Evaluation, forces, copies: int = 1) -> Line:
        dE = abs(float(changed.energy) - copies * float(out.energy)) / (n * copies)
        dF = float(jnp.abs(changed.forces - forces).max())
        return Line(name, _worst(dE, dF) / scale, "relative", limit, reason)

    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    Q = Q * np.sign(np.linalg.det(Q))
    box = subject.box
    lines = [line("translation", subject(subject.R + jnp.asarray(rng.normal(size=3))), out.forces)]
    for name, turn in (("rotation", jnp.asarray(Q)), ("inversion", -jnp.eye(3))):
        moved = subject(subject.R @ turn.T, None if box is None else box @ turn.T)
        lines.append(line(name, moved, out.forces @ turn.T))
    order = rng.permutation(n)
    lines.append(line("permutation", subject(subject.R[order], species=subject.species[order]), out.forces[order]))
    if box is not None and all(subject.system.pbc):
        shifts = jnp.asarray(rng.integers(-2, 3, size=(n, 3)), float)
        lines.append(line("atoms moved by lattice vectors", subject(subject.R + shifts @ box), out.forces))
        s, cell = subject.system, np.asarray(subject.system.box)
        doubled = System(np.tile(s.numbers, 2), np.vstack([s.R, s.R + cell[0]]), cell * [[2], [1], [1]], s.pbc)
        larger = Subject(*subject.given, doubled)
        lines.append(line("supercell = 2 cells", larger(larger.R), jnp.tile(out.forces, (2, 1)), copies=2))
    return lines


def _neighbours(subject: Subject) -> list[Line]:
    """A list with a skin and more slots must change nothing: neighbours beyond the cutoff do not act."""
    s, out = subject.system, subject(subject.R)
    wide = Subject(*subject.given, s, skin=0.7, at_least=subject.search)
    other = wide(wide.R)
    scale = max(1.0, float(jnp.abs(out.energies).max()), float(jnp.abs(out.forces).max()))
    change = _worst(jnp.abs(other.energies - out.energies).max(), jnp.abs(other.forces - out.forces).max())
    reason = "rounding: neighbours beyond the cutoff and empty slots add exact zeros"
    return [Line("neighbours beyond the cutoff do not act", change / scale, "relative", 1e-9, reason)]


def _speed(potential: Potential, params: Params, system: System, atoms: int = 500) -> list[Line]:
    """Time one evaluation and one neighbour search of a larger system; a measurement, not a judgement."""
    if system.box is not None and all(system.pbc) and len(system) < atoms:
        times = max(1, round((atoms / len(system)) ** (1 / 3)))
        system = System.from_ase(system.to_ase().repeat(times))
    subject = Subject(potential, params, system)
    neighbors = jax.jit(subject.search)
    step = jax.jit(lambda p, R, box, n: evaluate(subject.potential, p, R, box, subject.species, n)[:4])
    there = jax.block_until_ready(neighbors(subject.R, subject.box))

    def timed(f, *arguments) -> float:
        jax.block_until_ready(f(*arguments))
        spent = []
        for _ in range(5):
            begin = time.perf_counter()
            jax.block_until_ready(f(*arguments))
            spent.append(time.perf_counter() - begin)
        return 1e6 * float(np.median(spent)) / len(system)

    where = f"µs/atom ({len(system)} atoms, {jax.default_backend()})"
    return [
        Line("energy, forces and virials", timed(step, subject.params, subject.R, subject.box, there), where),
        Line("neighbour search", timed(neighbors, subject.R, subject.box), where),
    ]
