"""What a fit makes small: weighted errors of energies, forces, virials and other labels, and penalties."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.evaluate import DEFAULT, Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.predictions import Prediction, by_structure, hessian_product, predict_kinds
from jaxmlp.fitting.training.curvature import curvature
from jaxmlp.potential import Params, Potential

Weight = float | Callable[[Array], Array]
ERRORS = ("mse", "mae", "huber")
TERMS = ("energy", "forces", "virial", "hessian", "dipole", "charges")


@dataclass(frozen=True)
class Loss:
    """L = sum over kinds of weight * mean error, plus l1 * mean |p| + l2 * mean p^2 over the parameters, plus the
    weighted curvature of the energy.

    The mean over a batch is over structures, each with its own weight: of the error of the energy per atom (eV), of the
    components of forces (eV/Å), of the nine of the virial per atom (eV), of Hessian-vector products (eV/Å^2), of the
    components of the dipole per atom (e Å), of charges (e). An error x counts as x^2 ("mse"), |x| ("mae") or Huber's
    function, x^2 / 2 up to delta and delta (|x| - delta / 2) beyond. Errors whose label is missing count nothing.

    Args:
        energy, forces, virial, hessian, dipole, charges: weights; numbers, or functions of the training step (see
            `prefactor`).
        error: "mse", "mae" or "huber".
        delta: of Huber's function, in the units above.
        size: power of the number of atoms that an energy's error is divided by, likewise a virial's; 1 is per atom,
            0.5 what deepmd-kit takes for "mse".
        atoms: forces and charges count by atom (True: a structure of many atoms counts more) or by structure.
        l1, l2: of the penalties.
        smooth: weight, of the same kinds, of the mean square of second derivatives (eV/Å^2) along random directions,
            see `curvature`: forces that change less from place to place.
        noise: learn a scale sigma of every kind's errors: with "mse" a kind adds weight * (mean / sigma^2 + 2 log
            sigma), the likelihood of normal errors (Kendall, Gal, Cipolla, CVPR 2018), with the others likewise
            mean / sigma + log sigma.

    Raises:
        ValueError: an unknown error, a weight or delta that is negative, or no weight at all.
    """

    energy: Weight = 1.0
    forces: Weight = 1.0
    virial: Weight = 0.0
    hessian: Weight = 0.0
    dipole: Weight = 0.0
    charges: Weight = 0.0
    smooth: Weight = 0.0
    error: str = "mse"
    delta: float = 0.01
    size: float = 1.0
    atoms: bool = True
    l1: float = 0.0
    l2: float = 0.0
    noise: bool = False

    def __post_init__(self):
        if self.error not in ERRORS:
            raise ValueError(f"Loss.error must be one of {', '.join(ERRORS)}; got {self.error!r}.")
        for name in (*TERMS, "smooth", "l1", "l2", "delta"):
            value = getattr(self, name)
            if not callable(value) and not value >= 0:
                raise ValueError(f"Loss.{name} must not be negative; got {value}.")
        if not any(callable(w) or w > 0 for w in self.weights.values()):
            raise ValueError(f"a Loss needs a positive weight of {', '.join(TERMS[:-1])} or {TERMS[-1]}.")

    @property
    def weights(self) -> dict[str, Weight]:
        """Weights by kind."""
        return {name: getattr(self, name) for name in TERMS}

    @property
    def smooths(self) -> bool:
        """Whether the curvature counts."""
        return callable(self.smooth) or self.smooth > 0

    def kinds(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """The kinds of labels that count and that the data have.

        Raises:
            ValueError: none is left.
        """
        wanted = tuple(k for k, w in self.weights.items() if callable(w) or w > 0)
        found = tuple(k for k in wanted if k in available)
        if not found:
            raise ValueError(
                f"the loss wants {', '.join(wanted)}; the data have {', '.join(available) or 'no labels'}."
            )
        return found

    def scales(self, kinds: tuple[str, ...], dtype=float) -> dict[str, Array]:
        """Starting values of log sigma by kind, trained beside the parameters; nothing unless `noise`."""
        return {k: jnp.zeros((), dtype) for k in kinds} if self.noise else {}

    def measure(self, x: Array) -> Array:
        """The error of a difference x."""
        if self.error == "mse":
            return jnp.square(x)
        a = jnp.abs(x)
        if self.error == "mae":
            return a
        return jnp.where(a < self.delta, 0.5 * jnp.square(x), self.delta * (a - 0.5 * self.delta))

    def sums(self, prediction: Prediction, products: Array | None, batch: Batch, kinds) -> dict[str, tuple]:
        """Return by kind the errors (B,) of the structures, weighted, and their weights (B,): a mean is a quotient."""
        n = batch.counts
        out = {}
        for kind in kinds:
            w = batch.weights[kind]
            if kind == "energy":
                x = self.measure((prediction.energy - batch.labels["energy"]) / n**self.size)
            elif kind == "virial":
                assert prediction.virial is not None
                x = jnp.mean(self.measure((prediction.virial - batch.labels["virial"]) / n[:, None, None]), axis=(1, 2))
            elif kind == "dipole":
                assert prediction.dipole is not None
                x = jnp.mean(self.measure((prediction.dipole - batch.labels["dipole"]) / n[:, None]), axis=1)
            elif kind == "charges":
                assert prediction.charges is not None
                dq = jnp.where(batch.real, prediction.charges - batch.labels["charges"], 0.0)
                x, w = by_structure(self.measure(dq), batch) / n, w * (n if self.atoms else 1.0)
            else:
                dx = products
                if kind == "forces":
                    assert prediction.forces is not None
                    dx = prediction.forces - batch.labels["forces"]
                each = self.measure(jnp.where(batch.real[:, None], dx, 0.0))
                each = jnp.mean(each, axis=0) if kind == "hessian" else each  # (K, N, 3): over the directions
                x, w = by_structure(jnp.mean(each, axis=1), batch) / n, w * (n if self.atoms else 1.0)
            out[kind] = (w * x, w)
        return out

    def total(self, means: dict[str, Array], step: Array, scales: dict[str, Array]) -> Array:
        """Return the loss of mean errors by kind, without penalties."""
        parts = []
        for kind, mean in means.items():
            given = self.smooth if kind == "smooth" else self.weights[kind]
            with jax.numpy_dtype_promotion("standard"):  # schedules of optax mix floats and counts
                weight = jnp.asarray(given(step) if callable(given) else given, mean.dtype)
            if kind in scales:
                s = scales[kind]
                mean = mean * jnp.exp(-2 * s) + 2 * s if self.error == "mse" else mean * jnp.exp(-s) + s
            parts.append(weight * mean)
        return sum(parts[1:], start=parts[0])

    def penalty(self, params: Params) -> Array:
        """Return l1 * mean |p| + l2 * mean p^2 over all floating parameters."""
        leaves = [x for x in jax.tree.leaves(params) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
        count = max(1, sum(x.size for x in leaves))
        p1 = sum(jnp.sum(jnp.abs(x)) for x in leaves) if self.l1 else 0.0
        p2 = sum(jnp.sum(jnp.square(x)) for x in leaves) if self.l2 else 0.0
        return (self.l1 * p1 + self.l2 * p2) / count


def prefactor(start: float, limit: float, rate: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A weight that goes from `start` to `limit` as a learning rate falls: limit + (start - limit) rate(t) / rate(0).

    deepmd-kit's prefactors (Wang et al., Comput. Phys. Commun. 228, 178 (2018), Eq. 16).
    """
    return lambda step: limit + (start - limit) * rate(step) / rate(0)


def staged(*values: float, at: tuple[int, ...]) -> Callable[[Array], Array]:
    """A weight that takes the next of its values at each of the steps `at`, as in a last stage of weight averaging."""
    if len(at) != len(values) - 1:
        raise ValueError(f"{len(values)} values change at {len(values) - 1} steps; got {at}.")
    return lambda step: jnp.asarray(values)[jnp.searchsorted(jnp.asarray(at), step, side="right")]


def errors(
    loss: Loss,
    potential: Potential,
    params: Params,
    batch: Batch,
    kinds: tuple[str, ...],
    *,
    step: Array | int = 0,
    execution: Execution = DEFAULT,
) -> dict[str, tuple]:
    """Return what `Loss.sums` does for the predictions of a potential; differentiable in reverse by `params`.

    Args:
        step: of the training, from which the directions of "smooth" follow, the last entry if it counts.
    """
    products = None
    if "hessian" in kinds:
        difference = lambda v: hessian_product(potential, params, batch, v, execution)
        products = jax.vmap(difference)(batch.labels["directions"]) - batch.labels["hessian"]
    prediction = predict_kinds(potential, params, batch, kinds, execution)
    found = loss.sums(prediction, products, batch, kinds)
    if loss.smooths:
        found["smooth"] = curvature(potential, params, batch, step, execution)
    return found
