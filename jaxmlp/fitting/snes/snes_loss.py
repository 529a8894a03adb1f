"""The loss of neuroevolution potentials as a function of a vector of parameters, over a whole data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmlp.evaluate import Execution
from jaxmlp.fitting.batches.batch import Batch
from jaxmlp.fitting.batches.loader import Loader
from jaxmlp.fitting.batches.predictions import by_structure, plain, predict
from jaxmlp.fitting.training.trainable import Trainable, names
from jaxmlp.potential import Params, Potential

SIX = ((0, 1, 2, 0, 1, 2), (0, 1, 2, 1, 2, 0))  # components of a symmetric virial


class Fit(NamedTuple):
    """Loss of an individual, its two penalties, RMSE by kind, and the mean error of the energy per atom taken out."""

    loss: Array
    l1: Array
    l2: Array
    rmse: dict[str, Array]
    shift: Array


@partial(jax.tree_util.register_dataclass, data_fields=["stacks", "bucket", "place"], meta_fields=["sizes"])
@dataclass(frozen=True)
class Stacks:
    """All batches of a data set on the device, for each shape one `Batch` with a leading axis.

    Args:
        bucket, place: (n,) of mini-batches in the order they take turns; None where all are taken together.
        sizes: structures in each of these, or in all.
    """

    stacks: list[Batch]
    bucket: Array | None
    place: Array | None
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, loader: Loader, seed: int | None) -> "Stacks":
        plan = loader.plan(seed)
        used = sorted({b for b, _ in plan})
        stacks = [jax.tree.map(lambda *x: np.stack(x), *(loader.batch(b, m) for b, m in plan if b == u)) for u in used]
        stacks = jax.device_put(stacks)
        if seed is None:
            return cls(stacks, None, None, (len(loader),))
        buckets = np.array([used.index(b) for b, _ in plan])
        place = np.array([np.sum(buckets[:k] == b) for k, b in enumerate(buckets)])
        return cls(stacks, jnp.asarray(buckets), jnp.asarray(place), tuple(len(m) for _, m in plan))

    def structures(self, first: int, last: int) -> int:
        """Structures that one individual of every generation first ... last - 1 sees, all together."""
        return sum(self.sizes[g % len(self.sizes)] for g in range(first, last))


@dataclass(frozen=True)
class Problem:
    """The loss as a function of z."""

    potential: Potential
    trainable: Trainable
    unravel: Callable
    weights: dict[str, float]
    lambda_1: float
    lambda_2: float
    bias: str | None
    execution: Execution

    def params(self, z: Array) -> Params:
        return self.trainable.params(self.unravel(z))

    def slope(self, batch: Batch) -> float:
        """By how much the energy of an atom changes with the bias.

        Raises:
            ValueError: this is not the same for all atoms, or forces change too.
        """
        assert self.bias is not None

        def energies(x):
            params = _with(self.trainable.fixed, self.bias, x)
            out = plain(self.potential, params, batch, virial=False, execution=self.execution)
            return out.energy / batch.counts, out.forces

        start = jax.tree.leaves(self.trainable.fixed)[_place(self.trainable, self.bias)]
        e, F = jax.device_get(jax.jit(lambda x: jax.jvp(energies, (x,), (jnp.ones_like(x),))[1])(start))
        e = e[np.asarray(batch.ids) >= 0]
        if np.any(F) or not np.allclose(e, e[0], rtol=1e-5) or e[0] == 0:
            raise ValueError(f"bias: {self.bias!r} does more than to add the same energy to every atom.")
        return float(e[0])

    def finished(self, z: Array, shift: Array, slope: float) -> Params:
        """The parameters of z, with the bias that takes the mean error `shift` (eV per atom) out."""
        params = self.params(z)
        if self.bias is None:
            return params
        old = jax.tree.leaves(self.trainable.fixed)[_place(self.trainable, self.bias)]
        return _with(params, self.bias, old - jnp.asarray(shift / slope, old.dtype))

    def sums(self, params: Params, batch: Batch) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        """Errors (B,) of energies per atom, and by kind the sum of squared errors and their number."""
        kinds = batch.weights
        out = predict(
            self.potential, params, batch, forces="forces" in kinds, virial="virial" in kinds, execution=self.execution
        )
        n = batch.counts
        found: dict[str, tuple[Array, Array]] = {}
        if out.forces is not None:
            w = batch.weights["forces"]
            d = jnp.where(batch.real[:, None], out.forces - batch.labels["forces"], 0)
            found["forces"] = jnp.sum(w * by_structure(jnp.sum(d * d, axis=1), batch)), jnp.sum(3 * w * n)
        if out.virial is not None:
            w, d = batch.weights["virial"], out.virial - batch.labels["virial"]
            d = ((d + d.swapaxes(1, 2)) / 2)[:, *SIX] / n[:, None]
            found["virial"] = jnp.sum(w * jnp.sum(d * d, axis=1)), jnp.sum(6 * w)
        energy = (out.energy - batch.labels["energy"]) / n if "energy" in kinds else jnp.zeros_like(n)
        return energy, found

    def fit(self, z: Array, stacks: Sequence[Batch], shift: Array | None = None) -> Fit:
        """Errors of one individual over stacks of batches; `shift`: the mean error to take out, None finds it."""
        params = self.params(z)
        each = [lax.map(partial(self.sums, params), stack) for stack in stacks]
        rmse = {}
        for kind in stacks[0].weights:
            if kind == "energy":
                e = jnp.concatenate([e.ravel() for e, _ in each])
                w = jnp.concatenate([s.weights["energy"].ravel() for s in stacks])
                if shift is None:
                    shift = jnp.where(self.bias is not None, _ratio(jnp.sum(w * e), jnp.sum(w)), 0).astype(e.dtype)
                rmse[kind] = jnp.sqrt(_ratio(jnp.sum(w * jnp.square(e - shift)), jnp.sum(w)))
            else:
                total, number = (sum(jnp.sum(found[kind][i]) for _, found in each) for i in range(2))
                rmse[kind] = jnp.sqrt(_ratio(total, number))
        l1 = self.lambda_1 * jnp.mean(jnp.abs(z))
        l2 = self.lambda_2 * jnp.sqrt(jnp.mean(z * z))
        loss = l1 + l2 + sum(self.weights[k] * x for k, x in rmse.items())
        return Fit(loss, l1, l2, rmse, jnp.zeros_like(loss) if shift is None else shift)


def _ratio(a: Array, n: Array) -> Array:
    """a / n; 0 where nothing was counted."""
    return jnp.where(n > 0, a / jnp.where(n > 0, n, 1), 0)


def _place(trainable: Trainable, name: str) -> int:
    """Which of the parameters has this name."""
    every = names(trainable.fixed)
    if name not in every:
        raise ValueError(f"bias: nothing is named {name!r}; the parameters are {', '.join(every)}.")
    return every.index(name)


def without_bias(trainable: Trainable, name: str) -> Trainable:
    """The same, but for one scalar that is not trained."""
    k = _place(trainable, name)
    if jnp.ndim(jax.tree.leaves(trainable.fixed)[k]) > 0:
        raise ValueError(f"bias: {name!r} is an array; a bias is one number.")
    chosen = tuple(c and i != k for i, c in enumerate(trainable.chosen))
    return replace(trainable, chosen=chosen)


def _with(params: Params, name: str, value: Array) -> Params:
    """The parameters with another value of one of them."""
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [value if n == name else x for n, x in zip(names(params), leaves, strict=True)])
