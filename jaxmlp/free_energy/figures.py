"""Figures of free energies, with matplotlib."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmlp.units import GPa

if TYPE_CHECKING:
    from jaxmlp.free_energy.melting import Melting
    from jaxmlp.free_energy.phase_diagram import PhaseDiagram


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5, 3.6), layout="constrained")[1]


def melting_figure(found: "Melting", ax: Any = None) -> Any:
    """Return axes with G of crystal and liquid per atom, less that of the crystal at the crossing, and the crossing."""
    ax = _axes(ax)
    scale = 1.0 if found.along == "temperature" else 1 / GPa
    at = (found.temperature if found.along == "temperature" else found.pressure) * scale
    phases = zip(("crystal", "liquid"), found.sweeps, (found.solid.atoms, found.liquid.atoms), ("C0", "C3"))
    zero = float(found.sweeps[0].at(at / scale)) / found.solid.atoms
    for name, sweep, n, color in phases:
        G = 1000 * (sweep.G / n - zero)
        ax.plot(sweep.x * scale, G, color=color, label=name)
        ax.fill_between(sweep.x * scale, G - 1000 * sweep.error / n, G + 1000 * sweep.error / n, color=color, alpha=0.3)
    ax.axvspan(at - found.error * scale, at + found.error * scale, color="0.85")
    ax.axvline(at, color="0.4", lw=0.8)
    unit = "temperature (K)" if found.along == "temperature" else "pressure (GPa)"
    ax.set(xlabel=unit, ylabel="G (meV per atom)", title=f"{at:.4g} ± {found.error * scale:.2g}")
    ax.legend()
    return ax


def phase_diagram_figure(found: "PhaseDiagram", ax: Any = None) -> Any:
    """Return axes with the lines of coexistence in the plane of pressure and temperature."""
    ax = _axes(ax)
    for (a, b), line in found.lines.items():
        errors = {"xerr": line.error / GPa} if line.along == "temperature" else {"yerr": line.error}
        ax.errorbar(line.pressure / GPa, line.temperature, marker=".", capsize=2, label=f"{a} - {b}", **errors)
    ax.set(xlabel="pressure (GPa)", ylabel="temperature (K)")
    if found.lines:
        ax.legend()
    return ax


def profile_figure(x: np.ndarray, F: np.ndarray, error: np.ndarray, ax: Any = None, label: str = "s") -> Any:
    """Return axes with a free-energy profile F(s) (eV) and its error."""
    ax = _axes(ax)
    ax.plot(x, F)
    ax.fill_between(x, F - error, F + error, alpha=0.3)
    ax.set(xlabel=label, ylabel="F (eV)")
    return ax
