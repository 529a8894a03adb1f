"""Deep Potential models of deepmd-kit: a network, of smooth symmetry-preserving descriptors, gives an atom's energy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.deepmd_environment import environment
from jaxmlp.basis.deepmd_networks import DeepNetwork, embedding, fitting
from jaxmlp.basis.species import check_species, subset
from jaxmlp.evaluate import full_graph
from jaxmlp.neighbors import NeighborSearch
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential, only
from jaxmlp.potentials.deepmd_attention import SeAtten
from jaxmlp.potentials.deepmd_descriptors import Pairs, SeE2A, SeE2R, SeE3, Smooth
from jaxmlp.potentials.deepmd_frame import LocalFrame
from jaxmlp.system import System, species_index

Part = SeE2A | SeE2R | SeE3 | SeAtten | LocalFrame
FLOOR = 0.01  # of deviations, as in deepmd-kit
ROWS = 32  # atoms of one species whose fitting network is evaluated together
CLOSEST = 0.5  # Å, where a model does not say how near its training data come


@dataclass(frozen=True)
class DeepPotential(Potential):
    """E_i = net_ti([D_i, fparam, aparam_i]) + bias_ti, D_i the descriptors of `parts` one after the other.

    Zhang et al., PRL 120, 143001 (2018); NeurIPS 2018 (arXiv:1805.09003); formulas of the descriptors in their classes.
    Energies are smooth as long as no atom has more neighbours than slots (`sel`): beyond, the farthest are dropped, as
    the original code does.

    Parameters: "parts", a tuple with those of each descriptor; "fitting", stacked layers; "bias" (S,) eV. With frame
    parameters "fparam" (P,), an electronic temperature say, of which dE/dfparam is a gradient, with "fparam_mean" and
    "fparam_scale" (P,): the network gets (fparam - mean) scale. With atomic ones the same, "aparam" (N, P) for the N
    atoms of the system, or (1, P) for all alike. `energy_fn` and its relatives set both by keyword.

    Args:
        species: atomic numbers.
        parts: descriptors; more than one is a hybrid.
        fitting: the network from D, fparam and aparam to one number.
        mixed: one fitting network for all species.
        exclude: pairs of species (places in the list) that are no neighbours in any descriptor.
        inactive: species whose energy is the bias alone.
        vacuum: species whose network is taken relative to D = 0.
        fparams, aparams: numbers of frame and atomic parameters.
        closest: Å, smallest distance in the training data, 0 where unknown.
        slots: only so many nearest neighbours count; 0 takes the sum of `sel`.
    """

    species: tuple[int, ...]
    parts: tuple[Part, ...]
    fitting: DeepNetwork
    mixed: bool = False
    exclude: Pairs = ()
    inactive: tuple[int, ...] = ()
    vacuum: tuple[int, ...] = ()
    fparams: int = 0
    aparams: int = 0
    closest: float = 0.0
    slots: int = 0

    constants: ClassVar[tuple[str, ...]] = ("bias", "parts/*/davg", "parts/*/dstd", "fparam*", "aparam*")
    atomic_energies: ClassVar[str] = "bias"

    def __post_init__(self):
        s = len(self.species)
        check_species("DeepPotential", self.species)
        if not self.parts:
            raise ValueError("DeepPotential needs at least one descriptor.")
        for part in self.parts:
            count = part.species if isinstance(part, SeAtten) else len(part.sel)
            if count != s:
                raise ValueError(f"DeepPotential: a descriptor of {count} species cannot serve {s}.")
        width = self.width + self.fparams + self.aparams
        if self.fitting.sizes[0] != width or self.fitting.outputs != 1:
            raise ValueError(
                f"DeepPotential.fitting must lead from {width} numbers (descriptor {self.width}, fparam "
                f"{self.fparams}, aparam {self.aparams}) to 1; got {self.fitting.sizes[0]} to {self.fitting.outputs}."
            )
        places = [*self.inactive, *self.vacuum, *(t for pair in self.exclude for t in pair)]
        if not all(0 <= t < s for t in places) or min(self.fparams, self.aparams, self.closest, self.slots) < 0:
            raise ValueError("DeepPotential: exclude, inactive and vacuum hold places in the list of species.")
        if not self.slots:
            alike = [p.slots for p in self.parts if p.columns == 1]
            told = [p.sel for p in self.parts if p.columns > 1]
            told_apart = [sum(map(max, zip(*told)))] if told else []
            object.__setattr__(self, "slots", max([*alike, *told_apart]))

    @property
    def cutoff(self) -> float:
        """Å, the largest of the descriptors'."""
        return max(part.cutoff for part in self.parts)

    @property
    def shells(self) -> tuple[float, ...]:
        return tuple(sorted({part.cutoff for part in self.parts}))

    def adapted(self, params: Params, survey) -> tuple["DeepPotential", Params]:
        """Set means and deviations of the environment matrices, as `statistics` does."""
        parts = [_Moments(part, p, len(self.species)) for part, p in zip(self.parts, params["parts"], strict=True)]
        for part in parts:
            part.add(*survey.per_atom(self, params, lambda potential, _, graph, part=part: part.of(potential, graph)))
        return self, params | {"parts": tuple(part.statistics(FLOOR) for part in parts)}

    @property
    def width(self) -> int:
        """Numbers in the descriptor."""
        return sum(part.size for part in self.parts)

    @property
    def block(self) -> int:
        """Rows evaluated together: the fitting network wants many, attention's matrices M x M few."""
        return 16 if any(isinstance(p, SeE3) or getattr(p, "attention", 0) for p in self.parts) else 64

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters; set the statistics with `statistics` before training."""
        keys = jax.random.split(key, len(self.parts) + 1)
        params = {
            "parts": tuple(part.init(k, dtype) for part, k in zip(self.parts, keys)),
            "fitting": self.fitting.init(keys[-1], 1 if self.mixed else len(self.species), dtype),
            "bias": jnp.zeros(len(self.species), dtype),
        }
        for name, count in (("fparam", self.fparams), ("aparam", self.aparams)):
            if count:
                params[name] = jnp.zeros((count,) if name == "fparam" else (1, count), dtype)
                params[f"{name}_mean"], params[f"{name}_scale"] = jnp.zeros(count, dtype), jnp.ones(count, dtype)
        return params

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        D = self.descriptors(params, graph)
        energy = self._network(params, D, graph)
        if self.vacuum:
            alone = self._network(params, jnp.zeros_like(D), graph)
            energy = jnp.where(self._among(self.vacuum, graph), energy - alone, energy)
        if self.inactive:
            energy = jnp.where(self._among(self.inactive, graph), 0.0, energy)
        return energy + params["bias"][graph.species]

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the descriptors (n, D) that the fitting network sees."""
        values = [
            part(p, graph.within(part.cutoff), self.slots, self.exclude)
            for part, p in zip(self.parts, params["parts"], strict=True)
        ]
        return jnp.concatenate(values, axis=1)

    def linear_parameters(self, params: Params) -> Params:
        """Return the biases and the last layers of the fitting networks."""
        last = params["fitting"][-1]
        hidden = tuple({q: None for q in layer} for layer in params["fitting"][:-1])
        out = jax.tree.map(lambda _: None, params)
        return out | {"bias": params["bias"], "fitting": (*hidden, only(last, ("w", "b")))}

    @property
    def conditions(self) -> tuple[str, ...]:
        return ("fparam",) * (self.fparams > 0) + ("aparam",) * (self.aparams > 0)

    def conditioned(self, params: Params, fparam=None, aparam=None, atoms: int | None = None) -> Params:
        """Return `params` with frame and atomic parameters; see `Potential.conditioned`."""
        dtype = params["bias"].dtype
        for name, value, count in (("fparam", fparam, self.fparams), ("aparam", aparam, self.aparams)):
            if value is None:
                continue
            if not count:
                raise ValueError(f"this potential has no {name}: leave it out.")
            value = jnp.asarray(value, dtype)
            if name == "fparam":
                shapes: list[tuple[int, ...]] = [(count,)]
            else:
                value = value.reshape(-1, 1) if value.ndim == 1 and count == 1 else value
                shapes = [(1, count), (atoms or len(value), count)]
            if value.shape not in shapes:
                raise ValueError(f"{name} must have shape {' or '.join(map(str, shapes))}; got {value.shape}.")
            params = params | {name: value}
        return params

    def _network(self, params: Params, D: Array, graph: Graph) -> Array:
        """The fitting networks' outputs, (n,)."""
        x = [D]
        if self.fparams:
            f = (params["fparam"] - params["fparam_mean"]) * params["fparam_scale"]
            x.append(jnp.broadcast_to(f, (len(D), self.fparams)))
        if self.aparams:
            a = params["aparam"]
            index = jnp.arange(len(D)) if graph.index is None else graph.index
            own = a.at[index].get(mode="clip") if len(a) > 1 else jnp.broadcast_to(a, (len(D), self.aparams))
            x.append((own - params["aparam_mean"]) * params["aparam_scale"])
        key = jnp.zeros_like(graph.species) if self.mixed else graph.species
        return self.fitting.by_row(params["fitting"], key, jnp.concatenate(x, axis=1), ROWS)

    def _among(self, places: tuple[int, ...], graph: Graph) -> Array:
        return jnp.asarray(np.isin(np.arange(len(self.species)), places))[graph.species]

    def compress(
        self, params: Params, *, closest: float | None = None, tolerance: float = 1e-10
    ) -> tuple["DeepPotential", Params]:
        """Return the potential with Chebyshev series in place of embedding networks: the same energies, much faster.

        Each series is as long as the tolerance asks for on distances from `closest` to the cutoff; nearer atoms see the
        functions continued linearly in s, so that forces stay continuous. The errors that were measured on a fine grid,
        of values and slopes relative to the largest, are kept in `potential.parts[k].table`. se_e3 keeps its networks.

        Args:
            params: of this potential.
            closest: Å; by default half of the smallest distance in the training data, or 0.5 Å if the file has none.
            tolerance: error of the networks' outputs, relative to the largest one.

        Raises:
            ValueError: attention, which mixes neighbours, or a tolerance that 400 polynomials do not reach.
        """
        nearest = closest if closest is not None else 0.5 * self.closest or CLOSEST
        if not 0 < nearest < min(part.cutoff for part in self.parts) or not tolerance > 0:
            raise ValueError(
                f"compress needs a tolerance above 0 and a closest distance below the cutoff; got {nearest}."
            )
        pairs = [part.compress(p, nearest, tolerance) for part, p in zip(self.parts, params["parts"], strict=True)]
        parts = tuple(part for part, _ in pairs)
        if parts == self.parts:
            raise ValueError("this potential has no embedding network of one distance that could be compressed.")
        return replace(self, parts=parts), params | {"parts": tuple(p for _, p in pairs)}

    def tabulated(self, members: Sequence[Params], closest: float) -> "DeepPotential":
        """Return a potential of the same parameters with series of its embedding networks; see `Potential`."""
        nearest = max(closest, 0.1 * self.cutoff)
        parts = tuple(
            part.tabulated(own, nearest) if isinstance(part, Smooth) else part
            for part, *own in zip(self.parts, *(params["parts"] for params in members), strict=True)
        )
        return self if parts == self.parts else replace(self, parts=parts)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["DeepPotential", Params]:
        """Return the potential and parameters for some of its species; empty slots of the others still count."""
        keep = np.array(subset(self.species, species))
        if tuple(species) == self.species:
            return self, params
        place = {int(t): k for k, t in enumerate(keep)}
        pairs = [part.restrict(p, keep) for part, p in zip(self.parts, params["parts"], strict=True)]
        new = replace(
            self,
            species=tuple(species),
            parts=tuple(part for part, _ in pairs),
            exclude=tuple((place[a], place[b]) for a, b in self.exclude if a in place and b in place),
            inactive=tuple(place[t] for t in self.inactive if t in place),
            vacuum=tuple(place[t] for t in self.vacuum if t in place),
        )
        layers = params["fitting"] if self.mixed else jax.tree.map(lambda p: p[keep], params["fitting"])
        return new, params | {"parts": tuple(p for _, p in pairs), "fitting": layers, "bias": params["bias"][keep]}


def deep_potential(
    species: Sequence[int],
    cutoff: float = 6.0,
    *,
    descriptor: str = "se_e2_a",
    sel: Sequence[int] | int,
    inner: float = 0.5,
    neuron: Sequence[int] = (25, 50, 100),
    axis: int = 16,
    nodes: Sequence[int] = (240, 240, 240),
    one_side: bool = True,
    width: int = 8,
    attention: int = 0,
    fparams: int = 0,
    aparams: int = 0,
) -> DeepPotential:
    """Return a Deep Potential to be trained, with the defaults of deepmd-kit's water example.

    After `init`, call `statistics` with structures of the training set. Hybrids and other details: build
    `DeepPotential` from its parts.

    Args:
        species: atomic numbers.
        cutoff, inner: Å, the switch goes from `inner` to `cutoff`.
        descriptor: se_e2_a, se_e2_r, se_e3, or se_atten (DPA-1: strip, smooth).
        sel: neighbours of each species that any atom may have (se_atten: one number for all).
        neuron: embedding network.
        axis: rows of the second factor of se_e2_a and se_atten.
        nodes: hidden layers of the fitting network.
        one_side: embedding networks depend on the neighbour's species only.
        width: of the type vectors of se_atten.
        attention: layers of se_atten.
        fparams, aparams: numbers of frame and atomic parameters.

    Raises:
        ValueError: an unknown descriptor, or numbers that do not fit together.
    """
    species, neuron = tuple(int(z) for z in species), tuple(neuron)
    slots = (int(sel),) if isinstance(sel, int | np.integer) else tuple(int(n) for n in sel)
    part: Part
    if descriptor == "se_atten":
        if len(slots) != 1:
            raise ValueError(f"se_atten needs one number of neighbours, sel, for all species; got {slots}.")
        strip = embedding(width * (1 if one_side else 2), neuron)
        options = {"axis": axis, "attention": attention, "one_side": one_side}
        part = SeAtten(cutoff, inner, slots[0], len(species), embedding(1, neuron), strip, width, **options)
    elif descriptor in ("se_e2_a", "se_e2_r", "se_e3"):
        if len(slots) != len(species):
            raise ValueError(f"{descriptor} needs a number of neighbours, sel, for each species; got {slots}.")
        network = embedding(1, neuron)
        if descriptor == "se_e2_a":
            part = SeE2A(cutoff, inner, slots, network, one_side, axis=axis)
        elif descriptor == "se_e2_r":
            part = SeE2R(cutoff, inner, slots, network, one_side)
        else:
            part = SeE3(cutoff, inner, slots, network)
    else:
        raise ValueError(f"descriptor must be se_e2_a, se_e2_r, se_e3 or se_atten; got {descriptor!r}.")
    net = fitting(part.size + fparams + aparams, tuple(nodes))
    return DeepPotential(species, (part,), net, descriptor == "se_atten", fparams=fparams, aparams=aparams)


def statistics(potential: DeepPotential, params: Params, systems: Sequence[System], floor: float = FLOOR) -> Params:
    """Return `params` with means and deviations of the environment matrices of some structures.

    As deepmd-kit: for each species of the centre, over all slots, empty ones (rows of zeros) included; angular columns
    have mean 0 and one deviation for all three; se_atten keeps mean 0. A local frame has a mean and a deviation for
    each number. Deviations below `floor` become `floor`; species that do not occur keep theirs.
    """
    parts = [
        _Moments(part, p, len(potential.species)) for part, p in zip(potential.parts, params["parts"], strict=True)
    ]
    for system in systems:
        index = species_index(potential.species, system.numbers)
        search = NeighborSearch.allocate(system.R, system.box, system.pbc, potential.shells, headroom=0.0)
        R, box = jnp.asarray(system.R), None if system.box is None else jnp.asarray(system.box)
        graph = full_graph(potential, R, box, jnp.asarray(index), search(R, box))
        for part in parts:
            part.add(np.asarray(part.of(potential, graph)), index)
    return params | {"parts": tuple(part.statistics(floor) for part in parts)}


class _Moments:
    """Sums over the atoms of each species: how many, first and second moments of what a descriptor normalises."""

    def __init__(self, part: Part, params: Params, species: int):
        self.part, self.params = part, params
        width = part.size if isinstance(part, LocalFrame) else 2
        self.count = np.zeros((species, 1))
        self.sums = np.zeros((2, species, width))

    def of(self, potential: DeepPotential, graph: Graph) -> Array:
        """Return the sums over the slots of each atom, (n, 2, width): of numbers and of their squares."""
        part, removed, total = self.part, potential.exclude, potential.slots
        graph = graph.within(part.cutoff)
        unit = jax.tree.map(jnp.asarray, {"davg": self.params["davg"] * 0, "dstd": self.params["dstd"] * 0 + 1})
        if isinstance(part, LocalFrame):
            x = part(unit, graph, total, removed)
            return jnp.stack([x, x * x], axis=1)
        env = environment(part, unit, graph, total, removed)
        s = jnp.where(env.inside, env.s, 0.0)
        a = sum((jnp.where(env.inside, x, 0.0) ** 2 for x in env.angular), jnp.zeros_like(s)) / 3
        first, second = (s, jnp.zeros_like(s)), (s * s, a)
        return jnp.stack([jnp.stack([x.sum(axis=1) for x in pair], axis=1) for pair in (first, second)], axis=1)

    def add(self, values: np.ndarray, index: np.ndarray) -> None:
        """Add what `of` returns of atoms of the species `index` (n,)."""
        np.add.at(self.count, index, 1 if isinstance(self.part, LocalFrame) else self.part.slots)
        np.add.at(self.sums[0], index, values[:, 0])
        np.add.at(self.sums[1], index, values[:, 1])

    def statistics(self, floor: float) -> Params:
        mean, square = self.sums / np.maximum(self.count, 1)
        deviation = np.maximum(np.sqrt(np.maximum(square - mean**2, 0.0)), floor)
        mean = np.zeros_like(mean) if isinstance(self.part, SeAtten) else mean
        if not isinstance(self.part, LocalFrame):
            mean, deviation = mean[:, :1], deviation[:, None]
        there = self.count > 0
        out = {}
        for name, new in (("davg", mean), ("dstd", deviation)):
            old = self.params[name]
            here = there.reshape(-1, *[1] * (new.ndim - 1))
            out[name] = jnp.where(here, jnp.asarray(np.broadcast_to(new, old.shape), old.dtype), old)
        return self.params | out
