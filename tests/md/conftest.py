"""Lennard-Jones in its own units (eV, Å, amu; one time unit is 10.18 fs), and statistics of time series."""

import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.potentials.pair import lennard_jones
from jaxmlp.units import fs, kB

TIME = 1 / fs  # the Lennard-Jones time unit, fs
KELVIN = 1 / kB  # its temperature unit, K


def fcc(cells: int, density: float = 0.8442) -> jm.System:
    """Return an fcc crystal of 4 cells^3 atoms of mass 1."""
    a = (4 / density) ** (1 / 3)
    basis = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    R = (np.array(list(np.ndindex(cells, cells, cells)))[:, None] + basis).reshape(-1, 3) * a
    return jm.System(np.full(len(R), 18), R, np.eye(3) * cells * a, masses=np.ones(len(R)))


@pytest.fixture(scope="session")
def liquid():
    """Force-shifted Lennard-Jones, cutoff 2.5, and 108 atoms on an fcc lattice at the density of the liquid."""
    potential, params = lennard_jones((18,), 1.0, 1.0, 2.5, truncation="force-shifted")
    return potential, params, fcc(3)


def mean_and_error(x: np.ndarray, blocks: int = 20) -> tuple[float, float]:
    """Return the mean of a time series and its standard error, from the scatter of block averages."""
    parts = x[: len(x) // blocks * blocks].reshape(blocks, -1).mean(axis=1)
    return float(parts.mean()), float(parts.std(ddof=1) / np.sqrt(blocks))
