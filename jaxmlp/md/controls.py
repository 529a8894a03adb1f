"""What may be swept or ramped without compiling again: time step, temperature, pressure, and their couplings."""

from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.units import kB


class Ramp(NamedTuple):
    """A control, or a parameter of a potential, that goes from `start` at step `first` linearly to `stop` at step
    `last`, and stays there.

    Args:
        start, stop: in the unit of the control or parameter; of an array all elements go together.
        last, first: steps counted as `State.step` does.
    """

    start: Array | float
    stop: Array | float
    last: Array | int
    first: Array | int = 0

    def at(self, step: Array) -> Array:
        """Return the value at a step."""
        start = jnp.asarray(self.start)
        x = jnp.asarray(step - self.first, start.dtype) / jnp.asarray(self.last - self.first, start.dtype)
        return self.between(jnp.clip(x, 0.0, 1.0))

    def between(self, x: Array) -> Array:
        """Return the value at a fraction x of the way from `first` to `last`."""
        return self.start + x * (self.stop - self.start)

    def reversed(self) -> "Ramp":
        """Return the way back, at the same steps."""
        return self._replace(start=self.stop, stop=self.start)


class SmoothRamp(Ramp):
    """A `Ramp` whose first four derivatives vanish at both ends: x^5 (70 x^4 - 315 x^3 + 540 x^2 - 420 x + 126).

    de Koning, Antonelli, Phys. Rev. E 53, 465 (1996); what switching from one potential to another takes by default,
    because the ends are where dE/dlambda varies fastest.
    """

    __slots__ = ()

    def between(self, x: Array) -> Array:
        s = x**5 * (70.0 * x**4 - 315.0 * x**3 + 540.0 * x**2 - 420.0 * x + 126.0)
        return self.start + s * (self.stop - self.start)


class InverseRamp(Ramp):
    """A `Ramp` of the inverse: 1 / value is linear in the step.

    A factor T0 / T of the energy with a temperature T that rises at a constant rate, as in reversible scaling.
    """

    __slots__ = ()

    def between(self, x: Array) -> Array:
        # Of the start's form, so that the ends are exact: start (stop / (stop + x (start - stop))).
        return self.start * (self.stop / (self.stop + x * (self.start - self.stop)))


def at(tree: Any, step: Array) -> Any:
    """Return a pytree with the values at a step in place of its ramps."""
    ramp = lambda x: isinstance(x, Ramp)
    return jax.tree.map(lambda x: x.at(step) if isinstance(x, Ramp) else x, tree, is_leaf=ramp)


def ramps(tree: Any) -> bool:
    """Whether a pytree holds a ramp."""
    ramp = lambda x: isinstance(x, Ramp)
    return any(map(ramp, jax.tree.leaves(tree, is_leaf=ramp)))


class GLEMatrices(NamedTuple):
    """Drift and covariance of a generalised Langevin equation; the first row and column belong to the momentum.

    Args:
        A: (s + 1, s + 1) or (modes, s + 1, s + 1), 1/fs.
        C: the same shape, K: the stationary covariance of momenta divided by square roots of masses. None is the
            temperature of the bath times the identity, which obeys the fluctuation-dissipation theorem.
    """

    A: Array
    C: Array | None = None

    @classmethod
    def load(cls, path: str | PathLike) -> "GLEMatrices":
        """Return the matrices in a file: an input of i-PI, as GLE4MD writes them, or the rows of A in 1/fs.

        Raises:
            FormatError: what `formats.gle_matrices.load`, which tells more, cannot read.
        """
        from jaxmlp.formats.gle_matrices import load  # which imports this module

        return load(path)


class Controls(NamedTuple):
    """What may be swept or ramped without compiling again, in the units of the interface; scalar arrays if not said.

    Args:
        dt: fs.
        temperature: K; (groups,) where groups of atoms have thermostats of their own.
        friction: 1/fs, of Langevin thermostats; scalar or (groups,).
        tau: fs, time of Nose-Hoover chains, velocity rescaling and Berendsen's thermostat; scalar or (groups,).
        gle: matrices of a generalised Langevin equation.
        pressure: eV/Å^3; (3, 3) where the whole tensor is set (compression positive).
        tau_pressure: fs, time of the barostat.
        compressibility: Å^3/eV, isothermal, that of cell rescaling; only its ratio to tau_pressure counts.
        mode_frequency: 1/fs, angular frequency of the internal modes in centroid molecular dynamics.
        displacement: Å, the largest displacement of an atom in a Monte Carlo trial.
        volume_change: the largest change of the logarithm of the volume in a Monte Carlo trial.
        chemical_potentials: (S,) eV, of the potential's species, in semi-grand Monte Carlo.
        kappa: eV, strength of the constraint of the composition, see `sampling.SemiGrandMoves`.
        composition: (S,) the shares of the species to which that constraint pulls.
    """

    dt: Array
    temperature: Array | Ramp | None = None
    friction: Array | Ramp | None = None
    tau: Array | None = None
    gle: GLEMatrices | None = None
    pressure: Array | Ramp | None = None
    tau_pressure: Array | None = None
    compressibility: Array | None = None
    mode_frequency: Array | None = None
    displacement: Array | Ramp | None = None
    volume_change: Array | Ramp | None = None
    chemical_potentials: Array | Ramp | None = None
    kappa: Array | Ramp | None = None
    composition: Array | Ramp | None = None

    def at(self, step: Array) -> "Controls":
        """Return the controls at a step, without ramps."""
        return Controls(*(x.at(step) if isinstance(x, Ramp) else x for x in self))

    @property
    def ramped(self) -> bool:
        """Whether any control is a ramp."""
        return any(isinstance(x, Ramp) for x in self)

    @property
    def kT(self) -> Array:
        """eV; 0 without a thermostat."""
        return jnp.zeros_like(self.dt) if self.temperature is None else kB * self.temperature


_MEANING = {
    "dt": "the time step in fs",
    "temperature": "in K",
    "friction": "the friction in 1/fs",
    "tau": "the time of the thermostat in fs",
    "pressure": "in eV/Å^3",
    "tau_pressure": "the time of the barostat in fs",
    "compressibility": "in Å^3/eV",
    "mode_frequency": "an angular frequency in 1/fs",
    "displacement": "the largest displacement of a trial in Å",
    "volume_change": "the largest change of ln V by a trial",
    "kappa": "the strength of the constraint of the composition in eV",
}


def checked(name: str, value, dtype, *, zero: bool, groups: int = 0):
    """Return a control as an array (or a `Ramp` or `GLEMatrices` of arrays) of the dtype.

    Args:
        zero: whether 0 makes sense.
        groups: number of groups with thermostats of their own; 0 without groups.

    Raises:
        ValueError: a number or shape that makes no sense.
    """
    if name == "gle":
        return _matrices(value, dtype)
    if isinstance(value, Ramp):
        first, last = int(value.first), int(value.last)
        if last <= first:
            raise ValueError(f"a ramp of {name} ends after it begins; got steps {first} to {last}.")
        start, stop = (checked(name, x, dtype, zero=zero, groups=groups) for x in (value.start, value.stop))
        return type(value)(start, stop, jnp.asarray(last, jnp.int32), jnp.asarray(first, jnp.int32))
    x = np.asarray(value, dtype=float)
    if name in ("chemical_potentials", "composition"):
        if x.ndim != 1 or not np.isfinite(x).all():
            raise ValueError(f"{name} are finite numbers, one for each species of the potential; got {value}.")
        return jnp.asarray(x, dtype)
    if name == "pressure":
        x = _tensor(x)
        sensible = np.isfinite(x).all()
    else:
        if x.ndim and x.shape != (groups,):
            wanted = f"a number or one for each of {groups} groups" if groups else "a number"
            raise ValueError(f"{name} is {wanted}; got shape {x.shape}.")
        sensible = np.isfinite(x).all() and ((x > 0) | ((x == 0) & zero)).all()
    if not sensible:
        raise ValueError(
            f"{name} is {_MEANING[name]} and must be a {'' if name == 'pressure' else 'positive '}number; got {value}."
        )
    return jnp.asarray(x, dtype)


def _tensor(x: np.ndarray) -> np.ndarray:
    """A pressure as a scalar or symmetric (3, 3), from that or from xx, yy, zz, yz, xz, xy."""
    if x.shape == (6,):
        xx, yy, zz, yz, xz, xy = x
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if x.shape not in ((), (3, 3)) or (x.ndim and not np.allclose(x, x.T)):
        raise ValueError(
            "pressure is a number, a symmetric (3, 3) tensor, or its components xx, yy, zz, yz, xz, xy, in eV/Å^3; "
            f"got shape {x.shape}."
        )
    return x


def _matrices(value, dtype) -> GLEMatrices:
    value = value if isinstance(value, GLEMatrices) else GLEMatrices(value)
    A = np.asarray(value.A, dtype=float)
    C = None if value.C is None else np.asarray(value.C, dtype=float)
    if A.ndim not in (2, 3) or A.shape[-1] != A.shape[-2] or (C is not None and C.shape != A.shape):
        raise ValueError(
            "a generalised Langevin equation has square matrices A (1/fs) and C (K) of one shape; got "
            f"{A.shape} and {None if C is None else C.shape}."
        )
    if not np.isfinite(A).all() or (np.linalg.eigvals(A).real < -1e-12 * np.abs(A).max()).any():
        raise ValueError("the drift matrix A of a generalised Langevin equation must have eigenvalues Re >= 0.")
    if C is not None:
        D = A @ C + C @ A.swapaxes(-1, -2)
        if (np.linalg.eigvalsh(0.5 * (D + D.swapaxes(-1, -2))) < -1e-6 * np.abs(D).max()).any():
            raise ValueError("A C + C A^T of a generalised Langevin equation must not have negative eigenvalues.")
    return GLEMatrices(jnp.asarray(A, dtype), None if C is None else jnp.asarray(C, dtype))
