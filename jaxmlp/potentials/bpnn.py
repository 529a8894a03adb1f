"""Behler-Parrinello networks: the energy of an atom is a network, of its element, of its symmetry functions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.species import check_species, subset
from jaxmlp.basis.symmetry_functions import ANGULAR, SymmetryFunction, symmetry_functions
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential, only

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "l": lambda x: x,
    "t": jnp.tanh,
    "s": jax.nn.sigmoid,
    "p": jax.nn.softplus,
    "r": jax.nn.relu,
    "g": lambda x: jnp.exp(-0.5 * x * x),
    "c": jnp.cos,
    "S": lambda x: jax.nn.sigmoid(-x),
    "e": lambda x: jnp.exp(-x),
    "h": lambda x: x * x,
    "celu": lambda x: jax.nn.celu(x, 0.1),
}
SCALINGS = ("none", "center", "scale", "scale_center", "sigma")


def bpnn(
    species: tuple[int, ...],
    cutoff: float = 6.0,
    *,
    n_radial: int = 8,
    n_angular: int = 3,
    zetas: tuple[float, ...] = (1.0, 4.0),
    first: float = 1.0,
    cutoff_type: int = 6,
    nodes: tuple[int, ...] = (20, 20),
    activation: str = "t",
) -> "BPNN":
    """Return a network with symmetry functions on grids, the same for every element, to be trained.

    Gastegger et al., J. Chem. Phys. 148, 241709 (2018), whose rules Imbalzano et al., J. Chem. Phys. 148, 241730
    (2018), compare with others. Radial, for each element: type 2, shifts on n_radial equal steps d from `first` to
    cutoff - d, all of eta = 1 / (2 d^2). Angular, for each pair of elements: type 3, eta = 1 / (2 R^2) of n_angular
    radii R from `first` + d to cutoff - d of its own grid, lambda = 1 and -1, each of `zetas`. After `init`, set
    params["scaling"][t]["min"], ["max"] from the `descriptors` of data with scaling none (`init` has 0 and 1).

    Args:
        species: atomic numbers.
        cutoff, first: Å.
        zetas: exponents of the angular factor.
        cutoff_type: of n2p2; 6 is a polynomial with two continuous derivatives.
        nodes, activation: of the hidden layers of each element; the output is linear.
    """
    if not 0 < first < cutoff or n_radial < 1 or n_angular < 0:
        raise ValueError(f"bpnn needs 0 < first < cutoff and numbers of functions; got {first}, {cutoff}.")
    options = {"cutoff_type": cutoff_type}
    step = (cutoff - first) / n_radial
    functions = [
        SymmetryFunction(2, (z,), cutoff, eta=0.5 / step**2, shift=first + k * step, **options)
        for z in sorted(species)
        for k in range(n_radial)
    ]
    step = (cutoff - first) / (n_angular + 1)
    functions += [
        SymmetryFunction(3, pair, cutoff, eta=0.5 / (first + k * step) ** 2, lambd=lambd, zeta=zeta, **options)
        for pair in combinations_with_replacement(sorted(species), 2)
        for k in range(1, n_angular + 1)
        for lambd in (-1.0, 1.0)
        for zeta in zetas
    ]
    s = len(species)
    activations = (activation,) * len(nodes) + ("l",)
    return BPNN(tuple(species), (tuple(functions),) * s, (tuple(nodes),) * s, (activations,) * s)


@dataclass(frozen=True)
class BPNN(Potential):
    """E_i = (network_t(scaled G_i) / conv_energy + mean_energy + atom_energy[t]) energy_unit, t the element of i.

    Behler, Parrinello, PRL 98, 146401 (2007); files and conventions of n2p2.

    Parameters: atom_energy (S,); per element t, in tuples: scaling[t] {min, max, mean, sigma: (K_t,)}; weights[t] a
    tuple of (out, in) per layer; biases[t] of (out,). Energies in `energy_unit`.

    Args:
        species: atomic numbers.
        functions: per species its symmetry functions, in the order of the network's inputs.
        nodes: per species the sizes of the hidden layers.
        activations: per species a key of `ACTIVATIONS` for every layer, the output's last.
        scaling: none; center: G - mean; scale: (G - min) / (max - min); scale_center: (G - mean) / (max - min); sigma:
            (G - mean) / sigma. The last three are mapped to smin + (smax - smin) times that.
        normalize_nodes: arguments of the activations are divided by the number of source neurons.
        length_unit: Å, of the lengths in `functions`.
        energy_unit: eV.
        mean_energy, conv_energy, conv_length: normalisation of the data the network was trained on.
    """

    species: tuple[int, ...]
    functions: tuple[tuple[SymmetryFunction, ...], ...]
    nodes: tuple[tuple[int, ...], ...]
    activations: tuple[tuple[str, ...], ...]
    scaling: str = "scale"
    smin: float = 0.0
    smax: float = 1.0
    normalize_nodes: bool = False
    length_unit: float = 1.0
    energy_unit: float = 1.0
    mean_energy: float = 0.0
    conv_energy: float = 1.0
    conv_length: float = 1.0

    block: ClassVar[int] = 4
    constants: ClassVar[tuple[str, ...]] = ("scaling", "atom_energy")

    def __post_init__(self):
        s = len(self.species)
        check_species("BPNN", self.species)
        if not len(self.functions) == len(self.nodes) == len(self.activations) == s or not all(self.functions):
            raise ValueError(f"BPNN needs symmetry functions, nodes and activations for each of {s} species.")
        for n, a in zip(self.nodes, self.activations, strict=True):
            if len(a) != len(n) + 1 or not set(a) <= set(ACTIVATIONS) or min(n, default=1) < 1:
                raise ValueError(f"BPNN: layers {n} need {len(n) + 1} activations of {tuple(ACTIVATIONS)}; got {a}.")
        if self.scaling not in SCALINGS:
            raise ValueError(f"BPNN.scaling must be one of {SCALINGS}; got {self.scaling!r}.")
        if not all(0 < x < float("inf") for x in (self.length_unit, self.energy_unit, self.conv_length)):
            raise ValueError("BPNN.length_unit, energy_unit and conv_length must be positive.")
        if not abs(self.conv_energy) > 0:
            raise ValueError(f"BPNN.conv_energy must not be zero; got {self.conv_energy}.")
        unknown = {z for fs in self.functions for f in fs for z in f.elements} - set(self.species)
        if unknown:
            raise ValueError(f"BPNN: symmetry functions name the elements {unknown}, not among {self.species}.")

    @property
    def cutoff(self) -> float:
        """Å, the largest cutoff of a symmetry function."""
        return self.length_unit * max(f.cutoff for fs in self.functions for f in fs)

    @property
    def shells(self) -> tuple[float, ...]:
        """The cutoffs of the angular functions, and the largest cutoff."""
        inner = {f.cutoff * self.length_unit for fs in self.functions for f in fs if f.kind in ANGULAR}
        return tuple(sorted(inner | {self.cutoff}))

    def init(self, key: Array, dtype=float) -> Params:
        """Draw weights of variance 1 / inputs; scaling that changes nothing until it is set from data."""
        weights, biases, scaling = [], [], []
        for fs, nodes in zip(self.functions, self.nodes, strict=True):
            sizes = (len(fs), *nodes, 1)
            key, *keys = jax.random.split(key, len(sizes))
            shapes = zip(keys, sizes[1:], sizes[:-1], strict=True)
            weights.append(tuple(jax.random.normal(k, (o, i), dtype) * i**-0.5 for k, o, i in shapes))
            biases.append(tuple(jnp.zeros(o, dtype) for o in sizes[1:]))
            zero, one = jnp.zeros(len(fs), dtype), jnp.ones(len(fs), dtype)
            scaling.append({"min": zero, "max": one, "mean": zero, "sigma": one})
        return {
            "atom_energy": jnp.zeros(len(self.species), dtype),
            "scaling": tuple(scaling),
            "weights": tuple(weights),
            "biases": tuple(biases),
        }

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        energy = jnp.zeros_like(graph.planes[0][:, 0])
        for t, G in enumerate(self._values(graph)):
            output = self._layers(params, t, self._scaled(params, t, G))[-1][:, 0]
            output = output / self.conv_energy + self.mean_energy + params["atom_energy"][t]
            energy = jnp.where(graph.species == t, output, energy)
        return self.energy_unit * energy

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the scaled symmetry functions, (n, D), of each atom's element; D the largest number, zeros after."""
        d = max(map(len, self.functions))
        out = jnp.zeros((len(graph.species), d), graph.planes[0].dtype)
        for t, G in enumerate(self._values(graph)):
            G = jnp.pad(self._scaled(params, t, G), [(0, 0), (0, d - G.shape[1])])
            out = jnp.where((graph.species == t)[:, None], G, out)
        return out

    def linear_parameters(self, params: Params) -> Params:
        """Return the atomic energies, and the last layers of networks with a linear output."""
        last = {
            name: tuple(
                (*(None for _ in layers[:-1]), layers[-1] if a[-1] == "l" else None)
                for layers, a in zip(params[name], self.activations, strict=True)
            )
            for name in ("weights", "biases")
        }
        return only(params, ("atom_energy",)) | last

    def shifted(self, params: Params, energies) -> Params:
        """Return `params` with energies (S,) eV of atoms added."""
        old = params["atom_energy"]
        return params | {"atom_energy": old + jnp.asarray(energies, old.dtype) / self.energy_unit}

    def adapted(self, params: Params, survey) -> tuple["BPNN", Params]:
        """Set minima, maxima, means and deviations of the symmetry functions over the atoms of the data."""
        G, species = survey.per_atom(replace(self, scaling="none"), params, "descriptors")
        scaling = []
        for t, (fs, old) in enumerate(zip(self.functions, params["scaling"], strict=True)):
            g = G[species == t, : len(fs)]
            if len(g) == 0:
                scaling.append(old)
                continue
            low, high, sigma = g.min(axis=0), g.max(axis=0), g.std(axis=0)
            apart = high > low  # a function that is constant, zero say, is not divided by its range
            new = {"min": low, "max": np.where(apart, high, low + 1), "mean": g.mean(axis=0)}
            new["sigma"] = np.where(apart, sigma, 1.0)
            scaling.append({name: jnp.asarray(x, old[name].dtype) for name, x in new.items()})
        return self, params | {"scaling": tuple(scaling)}

    def _values(self, graph: Graph) -> list[Array]:
        """The symmetry functions (n, K_t) of every element's list; what lists share is computed once."""
        union = tuple(dict.fromkeys(f for fs in self.functions for f in fs))
        values = symmetry_functions(union, self.species, self.length_unit, graph)
        place = {f: k for k, f in enumerate(union)}
        return [values[:, np.array([place[f] for f in fs])] for fs in self.functions]

    def _scaled(self, params: Params, t: int, G: Array) -> Array:
        s = params["scaling"][t]
        if self.scaling == "none":
            return G
        if self.scaling == "center":
            return G - s["mean"]
        width = s["sigma"] if self.scaling == "sigma" else s["max"] - s["min"]
        return self.smin + (self.smax - self.smin) * (G - s["min" if self.scaling == "scale" else "mean"]) / width

    def _layers(self, params: Params, t: int, x: Array) -> list[Array]:
        layers = []
        for w, b, name in zip(params["weights"][t], params["biases"][t], self.activations[t], strict=True):
            z = jnp.matmul(x, w.T, precision="highest") + b
            x = ACTIVATIONS[name](z / w.shape[1] if self.normalize_nodes else z)
            layers.append(x)
        return layers

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["BPNN", Params]:
        """Return the potential and parameters for some of its species: functions of absent neighbours stay out.

        A function of an absent neighbour is zero; its input then only shifts the first layer's bias.
        """
        index = subset(self.species, species)
        if tuple(species) == self.species:
            return self, params
        functions, scaling, weights, biases = [], [], [], []
        for t in index:
            keep = np.array([k for k, f in enumerate(self.functions[t]) if set(f.elements) <= set(species)], int)
            lost = np.setdiff1d(np.arange(len(self.functions[t])), keep)
            w = params["weights"][t][0]
            zero = self._scaled(params, t, jnp.zeros((1, len(self.functions[t])), w.dtype))[0]
            b = params["biases"][t][0] + w[:, lost] @ zero[lost]
            ratio = len(keep) / len(self.functions[t]) if self.normalize_nodes else 1.0
            functions.append(tuple(self.functions[t][k] for k in keep))
            scaling.append({name: x[keep] for name, x in params["scaling"][t].items()})
            weights.append((w[:, keep] * ratio, *params["weights"][t][1:]))
            biases.append((b * ratio, *params["biases"][t][1:]))
        new = replace(
            self,
            species=tuple(species),
            functions=tuple(functions),
            nodes=tuple(self.nodes[t] for t in index),
            activations=tuple(self.activations[t] for t in index),
        )
        chosen = {"scaling": tuple(scaling), "weights": tuple(weights), "biases": tuple(biases)}
        return new, chosen | {"atom_energy": params["atom_energy"][np.array(index)]}
