"""A progress bar with atom-steps per second and the time left."""

import time

import numpy as np

from jaxmlp.md.simulation import Simulation


class Progress:
    """A context that shows how far a run is; `rich` is imported when one is opened.

    Args:
        steps: of the run.
        atoms: of the system.
    """

    def __init__(self, steps: int, atoms: int):
        self.steps, self.atoms = steps, atoms

    def __enter__(self) -> "Progress":
        from rich import progress

        self._bar = progress.Progress(
            progress.TextColumn("step {task.completed:.0f}"),
            progress.BarColumn(),
            progress.TextColumn("{task.percentage:.0f}%"),
            progress.TextColumn("{task.fields[state]}"),
            progress.TextColumn("{task.fields[speed]}"),
            progress.TimeRemainingColumn(),
        )
        self._bar.start()
        self._last = time.monotonic()
        self._task = self._bar.add_task("md", total=self.steps, state="", speed="compiling")
        return self

    def update(self, sim: Simulation, n: int) -> None:
        """Count n more steps, done by now."""
        state = sim.state
        temperature = np.mean(sim.dynamics.temperature(state, sim.atoms, sim.controls))
        text = f"{temperature:.0f} K  {np.mean(state.energy) / self.atoms:.4f} eV/atom"
        self._bar.update(self._task, advance=n, state=text)
        now = time.monotonic()
        if n:
            self._bar.update(self._task, speed=f"{n * self.atoms / (now - self._last):.3g} atom-steps/s")
        self._last = now

    def __exit__(self, *error) -> None:
        self._bar.stop()
