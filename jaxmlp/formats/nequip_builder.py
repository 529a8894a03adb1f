"""What the files of NequIP and Allegro share: the arguments of the function that built the model, and its tensors.

A model is a folder with `weights.npz` (or a torch file) and `config.json`, whose "builder_arguments" are those of the
function; or a torch file with a dict of "model_builder_kwargs" and "state_dict". Nothing in a file is executed.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers as NUMBERS
from jax import Array

from jaxmlp.basis.irreps import CONVENTIONS, coupling
from jaxmlp.formats.errors import FormatError
from jaxmlp.formats.torch_files import Options, Weights, opened, read_config

# Arguments that change no energy.
WITHOUT_EFFECT = (
    "_target_", "seed", "model_dtype", "compile_mode", "do_derivatives", "bessel_trainable",
    "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable",
)  # fmt: skip


class Model:
    """A file that is being read.

    Args:
        weights: its tensors; names are given without the wrapper's prefix.
        options: arguments of the function that built it.
        species: atomic numbers of its types.
        type_names: their names in the file.
    """

    def __init__(
        self,
        path: str | PathLike,
        marker: str,
        arguments: dict[str, Any] | None,
        atomic_numbers: Sequence[int] | None,
        presets: Mapping[str, dict[str, Any]] | None = None,
    ):
        self.path, content, state = opened(path)
        self.weights = Weights(self.path, state)
        prefixes = {name[: -len(marker)] for name in state if name.endswith(marker)}
        if len(prefixes) != 1:
            raise FormatError(
                self.path, None, f"expected one tensor whose name ends in {marker!r}; found {len(prefixes)}."
            )
        self.prefix = prefixes.pop()
        self.weights.skip(*(name for name in state if name.endswith("_empty")))
        config = read_config(self.path)
        if isinstance(content, dict) and isinstance(content.get("model_builder_kwargs"), dict):
            values = content["model_builder_kwargs"]
        else:
            values = config.get("builder_arguments", {})
        if not isinstance(values, dict):
            raise FormatError(self.path, None, "expected a dict of 'builder_arguments'.")
        if presets and "preset" in values | (arguments or {}):
            name = str((values | (arguments or {})).get("preset")).upper()
            if name not in presets:
                raise FormatError(self.path, None, f"the preset {name!r} is none of {', '.join(presets)}.")
            values = presets[name] | {key: x for key, x in values.items() if key != "preset"}
            arguments = {key: x for key, x in (arguments or {}).items() if key != "preset"}
        self.options = Options(self.path, values, arguments)
        self.options.skip(*WITHOUT_EFFECT)
        self.type_names = self.options.take("type_names", tuple)
        self.species = self._numbers(atomic_numbers or config.get("atomic_numbers"))

    def _numbers(self, given) -> tuple[int, ...]:
        if given is not None:
            if not isinstance(given, list | tuple) or not all(isinstance(z, int) for z in given):
                raise FormatError(self.path, None, f"'atomic_numbers' must be a list of integers; found {given!r:.60}.")
            numbers = tuple(given)
        else:
            unknown = [name for name in self.type_names if not isinstance(name, str) or name not in NUMBERS]
            if unknown:
                raise FormatError(
                    self.path, None, f"the types {unknown} are no elements: give `atomic_numbers` of {self.type_names}."
                )
            numbers = tuple(NUMBERS[name] for name in self.type_names)
        if len(numbers) != len(self.type_names) or len(set(numbers)) != len(numbers):
            raise FormatError(
                self.path, None, f"the types {self.type_names} must be different elements; found {numbers}."
            )
        return numbers

    def take(self, name: str, *shape: int | None) -> np.ndarray:
        """Return a tensor of this shape."""
        return self.weights.take(self.prefix + name, shape)

    def flat(self, name: str, count: int) -> np.ndarray:
        """Return the weights of an operation of e3nn, whose other tensors hold nothing."""
        self.skip(*(f"{name}.{part}" for part in ("bias", "output_mask")))
        return self.take(f"{name}.weight", count)

    def skip(self, *names: str) -> None:
        """Leave out tensors that the energy does not depend on."""
        self.weights.skip(*(self.prefix + name for name in names))

    def array(self, name: str, *shape: int | None) -> Array:
        """Return a tensor of this shape for params."""
        return jnp.asarray(self.take(name, *shape), float)

    def network(self, name: str, sizes: tuple[int, ...], activation: str | None) -> tuple[Array, ...]:
        """Return the weights of a network between layers of these sizes."""
        pairs = list(pairwise(sizes))
        plain = activation is None and len(pairs) > 1
        names = [f"weights.{k}" if plain else f"{k if activation is None else 2 * k}.weight" for k in range(len(pairs))]
        return tuple(self.array(f"{name}.mlp.{part}", *pair) for part, pair in zip(names, pairs))

    def activation(self, name: str, known: tuple[str, ...], default: str = "silu") -> str | None:
        """Return the option `name`: None without one, and "identity" for what is called "None"."""
        if name in self.options and self.options.take(name, object, "") == "":
            return None
        value = self.options.take(name, str, default)
        value = "identity" if value in ("None", "null") else value
        if value not in (*known, "identity"):
            self.options.refuse(name, value, f"null or one of {', '.join(known)}")
        return value

    def count(self, name: str, default: Any, least: int = 1) -> int:
        """Return an option that is a number of things."""
        value = self.options.take(name, int, default) if default is not None else self.options.take(name, int)
        if value < least:
            self.options.refuse(name, value, f"an integer of at least {least}")
        return value

    def exponent(self, options: Options) -> int:
        """Return the exponent of the envelope."""
        p = options.take("polynomial_cutoff_p", float, 6.0)
        if p < 2 or p != int(p):
            options.refuse("polynomial_cutoff_p", p, "an integer of at least 2")
        return int(p)

    def neighbors(self) -> tuple[float, ...]:
        """Return the average number of neighbours: one, or one for each type."""
        value = self.options.take("avg_num_neighbors", object)
        if isinstance(value, dict):
            return self._by_type("avg_num_neighbors", value)
        return (self.options.take("avg_num_neighbors", float),)

    def _by_type(self, name: str, value: dict) -> tuple[float, ...]:
        if set(value) != set(self.type_names) or not all(
            isinstance(x, int | float) and not isinstance(x, bool) for x in value.values()
        ):
            self.options.refuse(name, value, f"a number for each of {self.type_names}")
        return tuple(float(value[t]) for t in self.type_names)

    def cutoffs(self) -> tuple[float, tuple[tuple[float, ...], ...] | None]:
        """Return the cutoff (Å) and those of pairs of types, which the file holds as 1 / rc."""
        cutoff = self.options.take("r_max", float)
        pairs = self.options.take("per_edge_type_cutoff", dict, {})
        s = len(self.species)
        if not pairs:
            inverse = self.take("edge_norm._rmax_recip")
            if abs(float(inverse) * cutoff - 1) > 1e-6:
                self.options.refuse("r_max", cutoff, f"{1 / float(inverse)} as in edge_norm._rmax_recip")
            return cutoff, None
        inverse = self.take("edge_norm._rmax_recip", s * s).reshape(s, s)
        if not (inverse * cutoff > 1 - 1e-6).all():
            raise FormatError(self.path, None, f"edge_norm._rmax_recip has cutoffs beyond r_max = {cutoff} Å.")
        return cutoff, tuple(tuple(min(1 / float(c), cutoff) for c in row) for row in inverse)

    def scale_shift(self) -> dict[str, Array]:
        """Return the scale and shift of every type; 1 and 0 where the file has none."""
        out = {}
        for key, names, default in (("scale", "scales", 1.0), ("shift", "shifts", 0.0)):
            value = self.weights.take(f"{self.prefix}per_type_energy_scale_shift.{names}").reshape(-1)
            if value.size not in (0, 1, len(self.species)):
                raise FormatError(
                    self.path, None, f"the tensor {names!r} has {value.size} values; expected {len(self.species)}."
                )
            out[key] = jnp.asarray(np.broadcast_to(value if value.size else default, (len(self.species),)), float)
            self.options.skip(f"per_type_energy_{names}")
        return out

    def repulsion(self) -> tuple[float | None, int]:
        """Return e^2 / (4 pi eps0) in eV Å, or None without ZBL, and the exponent of its envelope."""
        value = self.options.take("pair_potential", dict, {})
        if not value:
            return None, 6
        if str(value.get("_target_", "")).rpartition(".")[2] != "ZBL":
            self.options.refuse("pair_potential", value.get("_target_"), "nequip.nn.pair_potential.ZBL")
        options = Options(self.path, value)
        options.skip("_target_", "units", "chemical_species")
        charges = self.take("pair_potential.atomic_numbers", len(self.species))
        if not np.array_equal(charges, self.species):
            raise FormatError(
                self.path, None, f"ZBL with charges {charges} for elements {self.species} is not supported."
            )
        strength = 2 * float(self.take("pair_potential._qqr2exesquare"))
        envelope = self.exponent(options)
        options.finish()
        return strength, envelope

    def convention(self, tensors: dict[tuple[int, int, int], np.ndarray]) -> str:
        """Return which signs of couplings the tensors in the file have; the first convention where none tells."""
        for convention in CONVENTIONS:
            if all(np.allclose(w, coupling(*l, convention), atol=1e-5) for l, w in tensors.items()):
                return convention
        raise FormatError(self.path, None, f"the couplings of l = {sorted(tensors)} are none of e3nn's.")
