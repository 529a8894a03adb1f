"""Which parameters a fit changes: all but the constants of a family, some by name, or updates of low rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.potential import Params, Potential


def names(params: Params) -> list[str]:
    """The name of every array of `params`, such as "layers/0/radial/1", in the order of `jax.tree.leaves`."""
    return [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]


def _name(path) -> str:
    part = lambda k: str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k))))
    return "/".join(map(part, path))


def dtype_of(params: Params):
    """The widest precision of the floating parameters."""
    return np.result_type(
        *(x.dtype for x in map(jnp.asarray, jax.tree.leaves(params)) if np.issubdtype(x.dtype, np.floating))
    )


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name, or a part of the tree that it lies in, matches one of the patterns (* ? [] as in file names)."""
    pieces = name.split("/")
    heads = ["/".join(pieces[: k + 1]) for k in range(len(pieces))]
    return any(fnmatchcase(head, pattern) for pattern in patterns for head in heads)


@dataclass(frozen=True)
class Trainable:
    """A map from what is trained to the parameters.

    Args:
        chosen: for every array, whether it is trained.
        low_rank: for every array, whether it is trained as w + a b, with a (..., m, r) and b (..., r, n).
        rank: r.
        fixed: the starting parameters.
    """

    chosen: tuple[bool, ...]
    low_rank: tuple[bool, ...]
    rank: int
    fixed: Params

    @classmethod
    def of(
        cls,
        potential: Potential,
        params: Params,
        *,
        train: Sequence[str] = ("*",),
        freeze: Sequence[str] = (),
        low_rank: Sequence[str] = (),
        rank: int = 4,
    ) -> "Trainable":
        """Choose arrays by patterns of their names (see `names`).

        What a family computes from data or constants (`Potential.constants`: scalers of descriptors, energies of atoms)
        is trained only where `train` names it more closely than "*". Updates of low rank are those of Hu et al., ICLR
        2022 (LoRA): a is drawn, b is zero, so that training starts from the given parameters.

        Args:
            train, freeze: what is trained, less what is not.
            low_rank: matrices among these that are trained by an update of low rank.
            rank: of these updates.

        Raises:
            ValueError: a pattern that names nothing, nothing left to train, or a rank below 1.
        """
        every, leaves = names(params), jax.tree.leaves(params)
        for option, patterns in (("train", train), ("freeze", freeze), ("low_rank", low_rank)):
            for pattern in patterns:
                if not any(matches(n, (pattern,)) for n in every):
                    raise ValueError(f"{option}: nothing is named {pattern!r}; the parameters are {', '.join(every)}.")
        if rank < 1:
            raise ValueError(f"rank is a positive number; got {rank}.")
        closer = [p for p in train if p != "*"]

        def is_trained(name, x):
            if not jnp.issubdtype(jnp.result_type(x), jnp.floating) or matches(name, freeze):
                return False
            return matches(name, closer) or ("*" in train and not matches(name, potential.constants))

        chosen = tuple(is_trained(n, x) for n, x in zip(every, leaves, strict=True))
        if not any(chosen):
            raise ValueError(f"no parameter is left to train; there are {', '.join(every)}.")
        low = tuple(
            c and jnp.ndim(x) >= 2 and matches(n, low_rank) for c, n, x in zip(chosen, every, leaves, strict=True)
        )
        return cls(chosen, low, rank, params)

    def start(self, key: Array) -> Any:
        """What is trained, at its start: a list of arrays or of pairs (a, b)."""
        out = []
        leaves = jax.tree.leaves(self.fixed)
        for k, x, chosen, low in zip(jax.random.split(key, len(leaves)), leaves, self.chosen, self.low_rank):
            x = jnp.asarray(x)
            if low:
                *front, m, n = x.shape
                r = min(self.rank, m, n)
                a = jax.random.normal(k, (*front, m, r), x.dtype) / jnp.sqrt(jnp.asarray(m, x.dtype))
                out.append((a, jnp.zeros((*front, r, n), x.dtype)))
            elif chosen:
                out.append(x)
        return out

    def params(self, trained: Any) -> Params:
        """Return the parameters."""
        leaves, tree = jax.tree.flatten(self.fixed)
        new = iter(trained)
        out = []
        for x, chosen, low in zip(leaves, self.chosen, self.low_rank):
            value = next(new) if chosen else x
            out.append(x + jnp.matmul(*value, precision="highest") if low else value)
        return jax.tree.unflatten(tree, out)

    @property
    def count(self) -> int:
        """Numbers that are trained."""
        return sum(x.size for x in jax.tree.leaves(self.start(jax.random.key(0))))
