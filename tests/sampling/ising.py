"""The Ising model on a periodic 4 x 4 square as a pair potential of two elements, and its averages by enumeration."""

import jax.numpy as jnp
import numpy as np

import jaxmlp as jm
from jaxmlp.potentials.pair import PairPotential
from jaxmlp.units import kB

KELVIN = 1 / kB  # of kT = 1 eV
UP, DOWN = 28, 29
N = 16


class Ising(PairPotential):
    """-J for equal neighbours and J for others; params {"J": (2, 2) eV}."""

    def phi(self, p, r_squared):
        return -p["J"] * jnp.ones_like(r_squared)


class ManyBody(Ising):
    """The same energies, of a potential that may be of any kind."""

    pairwise = False


PARAMS = {"J": np.array([[1.0, -1.0], [-1.0, 1.0]])}


def potential(cls=Ising):
    return cls((UP, DOWN), 2.5)


def square(up: int = 8, seed: int = 0) -> jm.System:
    """16 atoms, 2 Å apart, of which some are up."""
    g = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2) * 2.0
    numbers = np.full(N, DOWN)
    numbers[np.random.default_rng(seed).permutation(N)[:up]] = UP
    return jm.System(numbers, np.c_[g, np.full(N, 5.0)], np.diag([8.0, 8.0, 10.0]), (True, True, False))


def _enumerated() -> tuple[np.ndarray, np.ndarray]:
    spins = 2 * ((np.arange(2**N)[:, None] >> np.arange(N)) & 1) - 1
    place = np.arange(N).reshape(4, 4)
    pairs = sum(spins[:, place.ravel()] * spins[:, np.roll(place, -1, axis).ravel()] for axis in (0, 1))
    return -pairs.sum(axis=1).astype(float), (spins > 0).sum(axis=1)


ENERGIES, UPS = _enumerated()  # of all 2^16 states, eV


def exact(kT: float, function, chosen=slice(None), more=0.0) -> float:
    """The mean of function(E, ups) over states, with E + more(ups) in the weight."""
    E, ups = ENERGIES[chosen], UPS[chosen]
    bias = more(ups) if callable(more) else more
    w = np.exp(-(E + bias - (E + bias).min()) / kT)
    return float(np.sum(w * function(E, ups)) / np.sum(w))
