"""NequIP: messages of features that rotate with the system."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.convolution import convolution, path_irreps, species_convolution
from jaxmlp.basis.irreps import (
    CONVENTIONS,
    NORMALISED,
    gate,
    harmonics,
    label,
    linear,
    parse_irreps,
    widths,
)
from jaxmlp.basis.nequip_edges import check_cutoffs, check_envelopes, check_neighbors, edges, repulsion
from jaxmlp.basis.radial_bessel import radial_bessel
from jaxmlp.basis.scalar_network import ACTIVATIONS, init_network, scalar_network, scales
from jaxmlp.basis.species import check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params
from jaxmlp.potentials.nequip_layers import Layer, layer_irreps, plan

FEW = 8  # species for which the first layer sums over the neighbours of each before it mixes channels


@dataclass(frozen=True)
class NequIP(MessagePassing):
    """E_i = s_t readout(h_i) + d_t, with features h_i of the irreps of O(3) that layers of messages change:

        m_i = sum_j [W_1 h_j / sqrt(N)] (x) Y(r_ij), weighted by R(r_ij)        (`basis.convolution`)
        h_i <- gate(W_2 m_i + [h_i (x) a_t] W_s)                                 (`basis.irreps.gate`)

    from h_i = a_t, the embedding of the species; W_s is left out of the first layer, so that a free atom has the energy
    d_t. R is a network of b_n(r) = 2 rc_ij / rc^2 sin(w_n pi r / rc_ij) / r u_p(r / rc_ij); without biases, it vanishes
    at the cutoff with b. Batzner et al., Nat. Commun. 13, 2453 (2022), as in the code nequip 0.19, which has W_s (there
    "sc") in place of the paper's residual, and adds ZBL (`zbl`) after the scaling.

    Args:
        cutoff: Å.
        l_max: of the harmonics Y.
        irreps: of the features after each layer, see `layer_irreps`; what no path reaches is left out.
        embedding: number of channels of a.
        bessels: number of b_n.
        envelope: exponent p.
        radial: widths of the hidden layers of R, for each layer or one for all.
        readout: widths of the hidden layers of the readout.
        readout_activation: None for none (then without the factors sqrt(2) that otherwise go with it).
        neighbors: N, their average number: one, or for each species (of atom j).
        self_connection: whether there are W_s; in the first layer, too, where it is "first".
        residual: whether a layer with the same irreps before and after adds h_i to its result; "first" as above.
        scalars: activations of even and odd scalars.
        gates: activation of gates.
        cutoffs: rc_ij, Å, for each species of i and of j; None where all are `cutoff`.
        zbl: e^2 / (4 pi eps0), eV Å, of the repulsion; None for none.
        zbl_envelope: exponent p of its envelope.
        convention: of the signs of couplings, see `basis.irreps.coupling`; it matters for features of both parities.
    """

    species: tuple[int, ...]
    cutoff: float
    l_max: int = 1
    irreps: tuple[str, ...] = layer_irreps(32, 1, 4)
    embedding: int = 32
    bessels: int = 8
    envelope: int = 6
    radial: tuple[tuple[int, ...], ...] = ((128,),)
    readout: tuple[int, ...] = ()
    readout_activation: str | None = "silu"
    neighbors: tuple[float, ...] = (1.0,)
    self_connection: bool | str = True
    residual: bool | str = False
    scalars: tuple[str, str] = ("silu", "tanh")
    gates: str = "silu"
    cutoffs: tuple[tuple[float, ...], ...] | None = None
    zbl: float | None = None
    zbl_envelope: int = 6
    convention: str = "0.6.0"

    block: ClassVar[int] = 16
    constants: ClassVar[tuple[str, ...]] = ("scale", "shift")
    atomic_energies: ClassVar[str] = "shift"

    def __post_init__(self):
        check_species("NequIP", self.species)
        check_cutoffs("NequIP", self.species, self.cutoff, self.cutoffs)
        check_neighbors("NequIP", self.species, self.neighbors)
        if not 0 <= self.l_max <= 11 or self.embedding < 1 or self.bessels < 1:
            raise ValueError(
                "NequIP needs l_max from 0 to 11 and embedding and bessels above 0; got "
                f"{self.l_max}, {self.embedding} and {self.bessels}."
            )
        check_envelopes("NequIP", self.envelope, self.zbl_envelope)
        if not self.irreps or len(self.radial) not in (1, len(self.irreps)):
            raise ValueError(
                f"NequIP.irreps needs an entry for each layer, NequIP.radial as many or one; got {len(self.irreps)} "
                f"and {len(self.radial)}."
            )
        if any(width < 1 for row in (*self.radial, self.readout) for width in row):
            raise ValueError(f"NequIP.radial and readout are widths above 0; got {self.radial} and {self.readout}.")
        for name in ("self_connection", "residual"):
            if getattr(self, name) not in (True, False, "first"):
                raise ValueError(f"NequIP.{name} must be True, False or 'first'; got {getattr(self, name)!r}.")
        if unknown := [name for name in (*self.scalars, self.gates) if name not in NORMALISED]:
            raise ValueError(f"NequIP.scalars and gates are among {', '.join(NORMALISED)}; got {unknown}.")
        if self.readout_activation not in (None, *ACTIVATIONS):
            raise ValueError(f"NequIP.readout_activation must be one of {', '.join(ACTIVATIONS)}, or None.")
        if self.convention not in CONVENTIONS:
            raise ValueError(f"NequIP.convention must be one of {CONVENTIONS}; got {self.convention!r}.")
        for text in self.irreps:
            names = [irrep for _, *irrep in parse_irreps(text)]
            if any(names.count(irrep) > 1 for irrep in names):
                raise ValueError(f"NequIP.irreps must hold every irrep once; got {text!r}.")
        if [irrep[1:] for irrep in plan(self)[-1].outputs] != [(0, 1)]:
            raise ValueError(f"NequIP's last layer must give scalars, 0e, alone; got {self.irreps[-1]!r}.")
        for layer in plan(self):
            if any(l > 0 for _, l, _ in layer.outputs) and not any(path.target == (0, 1) for path in layer.paths):
                raise ValueError(f"NequIP needs 0e for gates, which no path from {layer.inputs} reaches.")

    @property
    def steps(self) -> int:
        return len(self.irreps)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw parameters: weights of unit variance, which the factors in the maps scale.

        {"embedding": a (S, E), "frequencies": w (K,), "layers": ({"up": W_1, "radial": R, "down": W_2, "skip": W_s},
        ...), "readout": (...), "scale": s (S,) eV, "shift": d (S,) eV}. For each irrep W_1 and W_2 hold a matrix
        (F_in, F_out), W_s (F_in, E, F_out); R and the readout have a matrix for each of their layers.
        """
        s = len(self.species)
        key_embedding, key_readout, *keys = jax.random.split(key, 2 + self.steps)
        layers = []
        for k, (layer, key_layer) in enumerate(zip(plan(self), keys)):
            up, radial, down, skip = jax.random.split(key_layer, 4)
            inputs, middle, outputs = widths(layer.inputs), widths(path_irreps(layer.paths)), widths(layer.mixed)
            weights: dict[str, Any] = {
                "up": _draw(up, {name: (f, f) for name, f in inputs.items()}, dtype),
                "radial": init_network(
                    radial, (self.bessels, *self._radial(k), sum(path.mul for path in layer.paths)), dtype
                ),
                "down": _draw(down, {name: (f, outputs[name]) for name, f in middle.items()}, dtype),
            }
            if self.in_layer(k, self.self_connection):
                both = {name: (inputs[name], self.embedding, f) for name, f in outputs.items() if name in inputs}
                weights["skip"] = _draw(skip, both, dtype)
            layers.append(weights)
        return {
            "embedding": jax.random.normal(key_embedding, (s, self.embedding), dtype),
            "frequencies": jnp.arange(1, self.bessels + 1, dtype=dtype),
            "layers": tuple(layers),
            "readout": init_network(key_readout, (plan(self)[-1].outputs[0][0], *self.readout, 1), dtype),
            "scale": jnp.ones(s, dtype),
            "shift": jnp.zeros(s, dtype),
        }

    def _radial(self, k: int) -> tuple[int, ...]:
        return self.radial[k] if len(self.radial) > 1 else self.radial[0]

    def in_layer(self, k: int, option: bool | str) -> bool:
        """Whether something that is True, False or "first" is there in layer k."""
        return option == "first" or (bool(option) and k > 0)

    def step(self, k: int, params: Params, graph: Graph, own: Any, theirs: Any) -> tuple[Any, Any]:
        """Return h after layer k, and W_1 h / sqrt(N) of the next, which neighbours see; energies after the last."""
        layer, weights = plan(self)[k], params["layers"][k]
        r, x, reach, unit = edges(graph, self.cutoff, self.cutoffs)
        b = radial_bessel(r, x, math.pi * params["frequencies"], self.envelope)
        b = b * (2.0 * (reach if isinstance(reach, float) else reach[..., None]) / self.cutoff**2)
        Y = harmonics(*unit, self.l_max)
        hidden, last = _radial_parts(b, weights["radial"], layer)
        used = tuple(path for path in layer.paths if label(*path.target) in layer.made)
        if k == 0:
            own = {"0e": params["embedding"][graph.species][:, None]}
            each = {"0e": params["embedding"][:, None]}
            theirs = self._sent(0, params, each, jnp.arange(len(self.species)))
        if k == 0 and len(self.species) <= FEW:
            m = species_convolution(theirs["0e"][:, 0], hidden, last, Y, graph.neighbor_species, used)
        else:
            theirs = {"0e": theirs["0e"][graph.neighbor_species]} if k == 0 else theirs
            m = convolution(theirs, Y, (hidden, last), used, self.convention)
        h = linear({name: weights["down"][name] for name in m}, m)
        if "skip" in weights:
            h |= _connected(weights["skip"], params["embedding"], graph.species, own, h)
        even, odd, gates = (_normalised(name) for name in (*self.scalars, self.gates))
        h = gate(h, layer.outputs, even, odd, gates)
        if self.in_layer(k, self.residual) and layer.inputs == layer.outputs:
            h = {name: y + own[name] for name, y in h.items()}
        if k < self.steps - 1:
            return h, self._sent(k + 1, params, h, graph.species)
        return self._energies(params, graph, h["0e"][:, 0], r, x), None

    def _sent(self, k: int, params: Params, h: Any, species: Array) -> dict[str, Array]:
        """W_1 h / sqrt(N) of layer k."""
        sent = linear({name: params["layers"][k]["up"][name] for name in plan(self)[k].sent}, h)
        scale = 1.0 / np.sqrt(self.neighbors)
        if len(scale) == 1:
            return {name: y * float(scale[0]) for name, y in sent.items()}
        return {name: y * jnp.asarray(scale, y.dtype)[species][:, None, None] for name, y in sent.items()}

    def _energies(self, params: Params, graph: Graph, h: Array, r: Array, x: Array) -> Array:
        activation = ACTIVATIONS[self.readout_activation or "identity"]
        gain = math.sqrt(2.0) if self.readout_activation else 1.0
        e = scalar_network(h, params["readout"], activation, gain)[:, 0]
        e = params["scale"][graph.species] * e + params["shift"][graph.species]
        if self.zbl is not None:
            e = e + repulsion(graph, self.species, r, x, self.zbl, self.zbl_envelope)
        return e

    def adapted(self, params: Params, survey) -> tuple["NequIP", Params]:
        """Set the mean number of neighbours, and the scale of energies to the root mean square of the forces."""
        adapted = replace(self, neighbors=(survey.mean_neighbors(self.cutoff),))
        return adapted, params | {"scale": jnp.full_like(params["scale"], survey.force_rms)}

    def linear_parameters(self, params: Params) -> Params:
        """Return scale and shift."""
        none = jax.tree.map(lambda _: None, params)
        return none | {name: params[name] for name in ("scale", "shift")}

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["NequIP", Params]:
        """Return the potential and parameters for some of its species."""
        keep = subset(self.species, species)
        cutoffs = self.cutoffs and tuple(tuple(self.cutoffs[i][j] for j in keep) for i in keep)
        neighbors = tuple(self.neighbors[i] for i in keep) if len(self.neighbors) > 1 else self.neighbors
        smaller = replace(self, species=tuple(species), cutoffs=cutoffs, neighbors=neighbors)
        return smaller, params | {name: params[name][np.array(keep)] for name in ("embedding", "scale", "shift")}


def _radial_parts(b: Array, weights: Sequence[Array], layer: Layer) -> tuple[Array, Array]:
    """What the radial network gives before its last layer, (n, M, H), and that layer, (H, channels of paths used)."""
    *first, last = weights
    ends = np.cumsum([path.mul for path in layer.paths])
    columns = [
        last[:, end - path.mul : end] for path, end in zip(layer.paths, ends) if label(*path.target) in layer.made
    ]
    hidden = jax.nn.silu(scalar_network(b, first)) if first else b
    return hidden, jnp.concatenate(columns, axis=1) * scales(weights)[-1]


def _connected(weights: Any, embedding: Array, species: Array, own: Any, h: Any) -> dict[str, Array]:
    """h + [own (x) a_t] W_s, for the irreps that both have."""
    out = {}
    for name, y in h.items():
        if name in weights:
            w = weights[name]
            of_species = jnp.einsum("uvw,sv->suw", w, embedding) / math.sqrt(w.shape[0] * w.shape[1])
            out[name] = y + own[name] @ (of_species[0] if len(embedding) == 1 else of_species[species])
    return out


def _normalised(name: str) -> Callable[[Array], Array]:
    return lambda x: NORMALISED[name] * ACTIVATIONS[name](x)


def _draw(key: Array, shapes: dict[str, tuple[int, ...]], dtype) -> dict[str, Array]:
    keys = jax.random.split(key, max(len(shapes), 1))
    return {name: jax.random.normal(k, shape, dtype) for k, (name, shape) in zip(keys, sorted(shapes.items()))}
