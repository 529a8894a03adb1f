"""MACE: messages of many-body order, by symmetric powers of what neighbours send."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis import cuequivariance
from jaxmlp.basis import equivariant_polynomials as polynomials
from jaxmlp.basis import irreps as ir
from jaxmlp.basis.convolution import Path, convolution, path_irreps, paths, species_convolution
from jaxmlp.basis.deepmd_tables import Chebyshev
from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.radial_bessel import polynomial_envelope
from jaxmlp.basis.species import by_species, check_species, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params
from jaxmlp.potentials import mace_nonlinear as nonlinear
from jaxmlp.potentials.mace_nonlinear import ATTENTION, NONLINEAR
from jaxmlp.potentials.mace_radial import (
    RADIAL_TYPES,
    TRANSFORMS,
    hidden_layers,
    radial_basis,
    repulsion,
    transformed,
)
from jaxmlp.potentials.mace_series import radial_series

# Interaction blocks of the reference implementation: (a self-connection of the layer's input is added after the
# product; messages are divided by a density of neighbours, such as 1 + density, not by their average number).
INTERACTIONS = {
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
    ATTENTION: (True, False),
    NONLINEAR: (True, True),
}
GATES = {"silu": ir.silu, "tanh": ir.tanh, "none": lambda x: x}
FEW = 4  # species for which a sum over neighbours of each is cheaper than a radial network's last layer on every edge


@dataclass(frozen=True)
class MACE(MessagePassing):
    """E_i = E0[t_i] + scale (V_i + sum_t readout_t(h_i^t)) + shift.

    Batatia et al., NeurIPS 2022 (arXiv:2206.07697), with the names of its reference implementation (mace-torch). In
    layer t (Eqs. (8) to (11) there, the sums over paths written out)

        A_i = 1/N linear( sum_j R(r_ij) h_j (x) Y(r_ji) ),   B_i = polynomials in A_i with weights of the species of i,
        h_i <- linear(B_i) + W[t_i] h_i,

    R from a network of radial functions, and the last term only in "Residual" blocks; others apply W[t_i] to A_i. Two
    blocks, of attention and the nonlinear one, make A in another way: see `mace_nonlinear`.

    Parameters: "embedding" (S, F); "layers", for each {"up", "radial", "linear", "skip", "product", "mix", "readout",
    and "density" in "Density" blocks}, matrices by irrep; "E0" (S,) eV; "scale", "shift" eV; "radial" {constants};
    "radii" (S,) Å, covalent. The product has weights (S, r, F) for r independent polynomials, those of
    `equivariant_polynomials`. What the two blocks have beside or instead stands in `mace_nonlinear`.

    Args:
        species: atomic numbers.
        cutoff: Å.
        hidden: irreps of the features between layers, such as "128x0e+128x1o".
        max_ell: largest l of the harmonics.
        correlation: degree of the polynomials, of every layer.
        interactions: block of every layer, names of `INTERACTIONS`.
        num_bessel: number of radial functions.
        num_polynomial_cutoff: p of the envelope.
        radial_mlp: widths of the radial network's hidden layers.
        radial_type: "bessel", "gaussian" or "chebyshev".
        distance_transform: "none", "agnesi" or "soft".
        apply_cutoff: the envelope multiplies the radial functions; else what the radial network gives.
        mlp: channels of the last readout's hidden layer.
        gate: its activation.
        readout_bias: it has a second hidden layer, and biases.
        last_readout_only: only the last layer has a readout.
        keep_last: the last layer keeps all irreps; else scalars only.
        agnostic_product: weights of the product do not depend on the species.
        so3: all harmonics count as even.
        edge: irreps of what neighbours send, if not those of the features; those that features lack are not sent.
        edge_first: in the first layer too.
        zbl: nuclei repel; V_i above is not zero.
        avg_num_neighbors: N; nonlinear blocks do without.
        convention: of the signs of couplings, "0.4.4" in files of mace-torch; it matters for pseudo-tensors only.
        tables: ranges of the series that stand for the radial networks, see `compress`.
        kernels: what computes convolutions and products: "jax", or "cuequivariance" for its kernels on NVIDIA GPUs; the
            numbers agree to rounding.
        attention_mlp: radial_mlp of the blocks of attention; in mace-torch always this.
    """

    species: tuple[int, ...]
    cutoff: float
    hidden: str = "64x0e"
    max_ell: int = 3
    correlation: tuple[int, ...] = (3, 3)
    interactions: tuple[str, ...] = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
    num_bessel: int = 8
    num_polynomial_cutoff: int = 5
    radial_mlp: tuple[int, ...] = (64, 64, 64)
    radial_type: str = "bessel"
    distance_transform: str = "none"
    apply_cutoff: bool = True
    mlp: int = 16
    gate: str = "silu"
    readout_bias: bool = False
    last_readout_only: bool = False
    keep_last: bool = False
    agnostic_product: bool = False
    so3: bool = False
    edge: str | None = None
    edge_first: bool = False
    zbl: bool = False
    avg_num_neighbors: float = 1.0
    convention: str = "0.6.0"
    tables: tuple[Chebyshev, ...] = ()
    kernels: str = "jax"
    attention_mlp: tuple[int, ...] = (256, 256, 256)

    block: ClassVar[int] = 32
    constants: ClassVar[tuple[str, ...]] = ("radial", "radii", "E0", "scale", "shift", "zbl")
    atomic_energies: ClassVar[str] = "E0"

    def __post_init__(self):
        check_species("MACE", self.species)
        for name, known in (
            ("radial_type", RADIAL_TYPES), ("distance_transform", TRANSFORMS), ("gate", tuple(GATES)),
            ("convention", ir.CONVENTIONS), ("kernels", ("jax", "cuequivariance")),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"MACE.{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")
        if not (self.cutoff > 0 and self.avg_num_neighbors > 0):
            raise ValueError(
                f"MACE.cutoff (Å) and avg_num_neighbors must be positive; got {self.cutoff}, {self.avg_num_neighbors}."
            )
        unknown = sorted(set(self.interactions) - set(INTERACTIONS))
        if unknown or not self.interactions:
            raise ValueError(f"MACE.interactions must be names of {', '.join(INTERACTIONS)}; got {self.interactions}.")
        if len(self.correlation) != len(self.interactions) or not all(1 <= nu <= 4 for nu in self.correlation):
            raise ValueError(f"MACE.correlation needs a degree, 1 to 4, for each interaction; got {self.correlation}.")
        if not (0 <= self.max_ell <= 6 and min(self.num_bessel, self.num_polynomial_cutoff, self.mlp) > 0):
            raise ValueError("MACE: max_ell is 0 to 6; num_bessel, num_polynomial_cutoff and mlp are positive.")
        muls = {mul for mul, _, _ in self.hidden_irreps}
        if len(muls) != 1 or (0, 1) not in {i[1:] for i in self.hidden_irreps}:
            raise ValueError(f"MACE.hidden must have as many 0e as of every other irrep; got {self.hidden!r}.")
        for name in self.sees_atoms:
            if not (self.attention_mlp if name == ATTENTION else self.radial_mlp):
                raise ValueError(
                    f"MACE.radial_mlp, attention_mlp: the networks of {name} have hidden layers; got none."
                )
        if any(name == NONLINEAR and (0, -1) in self.targets(k) for k, name in enumerate(self.interactions)):
            raise ValueError(f"MACE.hidden: {NONLINEAR} has no gate for 0o; got {self.hidden!r}.")

    @cached_property
    def hidden_irreps(self) -> ir.Irreps:
        """Features between layers."""
        return ir.parse_irreps(self.hidden)

    @property
    def channels(self) -> int:
        """Channels of every irrep."""
        return self.hidden_irreps[0][0]

    @property
    def steps(self) -> int:
        return len(self.interactions)

    @property
    def sees_atoms(self) -> tuple[str, ...]:
        """Those blocks whose radial networks see the two atoms of an edge."""
        return tuple(name for name in self.interactions if name in (ATTENTION, NONLINEAR))

    # What every layer works with.

    def outputs(self, k: int) -> ir.Irreps:
        """Irreps of the features after layer k."""
        if k < self.steps - 1 or (self.keep_last and self.steps > 1):
            return self.hidden_irreps
        return self.hidden_irreps[:1]

    def inputs(self, k: int) -> ir.Irreps:
        """Irreps of the features before layer k."""
        return self.hidden_irreps if k else ((self.channels, 0, 1),)

    def sent(self, k: int) -> ir.Irreps:
        """Irreps of what neighbours send in layer k."""
        if self.edge is None or (k == 0 and not self.edge_first):
            return self.inputs(k)
        there = {i[1:] for i in self.inputs(k)}
        return tuple(i for i in ir.parse_irreps(self.edge) if i[1:] in there)

    def targets(self, k: int) -> tuple[tuple[int, int], ...]:
        """Irreps (l, p) of A in layer k, each with `channels` channels."""
        if k and (0, -1) in {i[1:] for i in self.hidden_irreps}:
            return tuple((l, p) for l in range(self.max_ell + 1) for p in (-1, 1))
        return tuple((l, 1 if self.so3 else (-1) ** l) for l in range(self.max_ell + 1))

    def paths(self, k: int, sent: ir.Irreps | None = None) -> tuple[Path, ...]:
        """Products of features and harmonics in layer k; of the features `sent` if given."""
        parities = [1 if self.so3 else (-1) ** l for l in range(self.max_ell + 1)]
        wanted = tuple((self.channels, *t) for t in self.targets(k))
        return paths(self.sent(k) if sent is None else sent, self.max_ell, wanted, parities)

    def reached(self, k: int) -> ir.Irreps:
        """Irreps of A in layer k that a path ends at; the others are zero."""
        return path_irreps(self.paths(k))

    def polynomials(self, k: int) -> dict[tuple[int, int], int]:
        """Number of polynomials for each irrep of the output of layer k."""
        A = self.targets(k)
        degrees = range(1, self.correlation[k] + 1)
        return {i[1:]: sum(polynomials.count(A, nu, i[1:]) for nu in degrees) for i in self.outputs(k)}

    def has_readout(self, k: int) -> bool:
        """Whether layer k adds to the energy."""
        return k == self.steps - 1 or not self.last_readout_only

    def nonlinear(self, k: int) -> bool:
        """Whether its readout has a hidden layer."""
        return 0 < k == self.steps - 1

    # The energy.

    def step(self, k: int, params: Params, graph: Graph, own, theirs):
        layer, own_species = params["layers"][k], graph.species
        residual, density = INTERACTIONS[self.interactions[k]]
        h, energy = ({"0e": params["embedding"][own_species][:, None]}, None) if own is None else own
        Y, e, envelope, repelled = self._edges(params, graph)
        messages, crowd = self._messages(k, params, graph, h, theirs, Y, e, envelope)
        A = ir.linear(layer["linear"], messages)
        if self.interactions[k] == NONLINEAR:
            irreps = tuple((self.channels, *t) for t in self.targets(k))
            A = nonlinear.gated(layer, A, crowd, ir.linear(layer["up"], h), irreps)
        else:
            if not residual:
                A = self._skip(layer["skip"], A, own_species)
            norm = 1.0 / (1.0 + crowd[:, None, None]) if density else 1.0 / self.avg_num_neighbors
            A = {name: norm * x for name, x in A.items()}
        B = self._product(k, layer["product"], A, own_species)
        new = ir.linear(layer["mix"], B)
        if residual:
            kept = self._skip(layer["skip"], h, own_species)
            new = {name: x + kept[name] if name in kept else x for name, x in new.items()}
        gained = self._readout(k, layer["readout"], new) if self.has_readout(k) else jnp.zeros_like(new["0e"][:, 0, 0])
        energy = gained + repelled if energy is None else energy + gained
        if k == self.steps - 1:
            return params["E0"][own_species] + params["scale"] * energy + params["shift"], None
        return (new, energy), nonlinear.sent(params["layers"][k + 1], new)

    def _edges(self, params, graph: Graph):
        """Harmonics of the direction from neighbour to atom, radial functions, envelope and the repulsion of nuclei."""
        unit = direction(*(-x for x in graph.planes))
        r = length(*graph.planes)
        envelope = polynomial_envelope(r / self.cutoff, self.num_polynomial_cutoff)
        inside = r < self.cutoff
        r = jnp.where(inside, r, self.cutoff)  # beyond, nothing is added, and no power grows
        x, repelled = r, 0.0
        if self.zbl or self.distance_transform != "none":
            radii = params["radii"]
            reach = radii[graph.species][:, None] + radii[graph.neighbor_species]
            x = transformed(self.distance_transform, r, reach, params["radial"])
        if self.zbl:
            z = jnp.asarray(np.array(self.species, float), r.dtype)
            z_i, z_j = z[graph.species][:, None], z[graph.neighbor_species]
            constants = params["zbl"]["exponent"], params["zbl"]["prefactor"]
            repelled = repulsion(r, z_i, z_j, reach, self.num_polynomial_cutoff, *constants, inside.astype(r.dtype))
        e = radial_basis(self.radial_type, x, self.cutoff, params["radial"]["constants"])
        if self.apply_cutoff:
            e, envelope = e * envelope[..., None], inside.astype(r.dtype)
        return ir.harmonics(*unit, self.max_ell), e, envelope, repelled

    def _messages(self, k: int, params, graph: Graph, h, theirs, Y, e, envelope):
        """The sum over neighbours of what they send, and the density of neighbours (n,) or None."""
        layer, crowd = params["layers"][k], None
        if k == 0:  # what each species sends, (S, F)
            theirs = {n: x[:, 0] for n, x in nonlinear.sent(layer, {"0e": params["embedding"][:, None]}).items()}
        if self.interactions[k] == NONLINEAR:
            hidden, last, crowd = nonlinear.nonlinear_networks(layer, graph, e, envelope)
        elif self.interactions[k] == ATTENTION:
            hidden, last = nonlinear.attention_network(layer, graph, h, theirs, e)
            hidden = hidden * envelope[..., None]
        else:
            hidden, last = self._radial(k, layer["radial"], graph, e, envelope)
            if "density" in layer:
                w = layer["density"]
                crowd = jnp.tanh((e @ (w / math.sqrt(w.shape[0])))[..., 0] ** 2) * envelope
                crowd = jnp.sum(crowd, axis=1)
        if k == 0 and len(self.species) <= FEW:
            return species_convolution(theirs["0e"], hidden, last, Y, graph.neighbor_species, self.paths(k)), crowd
        if k == 0:
            theirs = {"0e": theirs["0e"][graph.neighbor_species][:, :, None]}
        if self.kernels == "cuequivariance":
            return cuequivariance.convolution(theirs, Y, hidden @ last, self.paths(k), self.convention), crowd
        return convolution(theirs, Y, (hidden, last), self.paths(k), self.convention), crowd

    def _radial(self, k: int, weights, graph: Graph, e, envelope) -> tuple[Array, Array]:
        """Functions of the distance (n, M, H) and the matrix (H, paths) that makes the weights R of them."""
        if self.tables:
            r = length(*graph.planes)
            basis = self.tables[k].planes(self.cutoff - jnp.minimum(r, self.cutoff)).swapaxes(1, 2)
            smooth = polynomial_envelope(r / self.cutoff, self.num_polynomial_cutoff)
            return basis * smooth[..., None], weights[0]
        hidden = hidden_layers(weights, e)
        if not self.apply_cutoff:
            hidden = hidden * envelope[..., None]
        return hidden, weights[-1] / math.sqrt(weights[-1].shape[0])

    def _skip(self, weights, x: ir.Features, species: Array) -> dict[str, Array]:
        """x W[t], for each irrep; W (S, in, out), or (1, in, out) where it knows no species."""
        out = {}
        for name, w in weights.items():
            s, fan_in, width = w.shape
            every = x[name] @ (w.swapaxes(0, 1).reshape(fan_in, -1) / math.sqrt(fan_in))
            every = every.reshape(*every.shape[:2], s, width).swapaxes(1, 2)
            out[name] = by_species(every, species)
        return out

    def _product(self, k: int, weights, A: ir.Features, species: Array) -> dict[str, Array]:
        """sum_r W[t, r] P_r(A), for each irrep."""
        irreps = self.targets(k)
        n, dtype = len(species), A["0e"].dtype
        empty = lambda l: jnp.zeros((n, 2 * l + 1, self.channels), dtype)
        whole = jnp.concatenate([A.get(ir.label(l, p), empty(l)) for l, p in irreps], axis=1)
        if self.kernels == "cuequivariance":
            by_irrep = {i[1:]: weights[ir.label(*i[1:])] for i in self.outputs(k)}
            B = cuequivariance.symmetric_product(whole, by_irrep, species, irreps, self.correlation[k])
            return {ir.label(*irrep): x for irrep, x in B.items()}
        plan = polynomials.plan(irreps, self.correlation[k], tuple(i[1:] for i in self.outputs(k)))
        out = {}
        for irrep, P in polynomials.evaluate(plan, whole).items():
            w = weights[ir.label(*irrep)]
            w = w[0] if len(w) == 1 else w[species].swapaxes(0, 1)  # (r, n, F)
            out[ir.label(*irrep)] = jnp.sum(P * (w if w.ndim == 3 else w[:, None]), axis=1).swapaxes(0, 1)
        return out

    def _readout(self, k: int, weights, h: ir.Features) -> Array:
        """The energy that layer k adds, (n,)."""
        x = h["0e"][:, 0]
        act = GATES[self.gate]
        for name in ("hidden", "middle"):
            if name in weights:
                x = x @ (weights[name] / math.sqrt(weights[name].shape[0]))
                x = act(x + weights["middle_bias"] if name == "middle" else x)
        x = (x @ weights["out"]) / math.sqrt(weights["out"].shape[0])
        return x + weights["bias"] if "bias" in weights else x

    # Parameters.

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters, normal as in the reference implementation; E0, scale and shift are yours to set."""
        s = len(self.species)
        key, draw = jax.random.split(key)
        layers = []
        for k, name in enumerate(self.interactions):
            key, own = jax.random.split(key)
            layers.append(self._init_layer(k, *INTERACTIONS[name], own, dtype))
        radial: dict[str, Array] = {"constants": jnp.asarray(self._constants(), dtype)}
        radial |= {
            "agnesi": {k: jnp.asarray(v, dtype) for k, v in (("a", 1.0805), ("q", 0.9183), ("p", 4.5791))},
            "soft": {"alpha": jnp.asarray(4.0, dtype)},
        }.get(self.distance_transform, {})
        params = {
            "embedding": jax.random.normal(draw, (s, self.channels), dtype) / math.sqrt(s), "layers": tuple(layers),
            "radial": radial, "E0": jnp.zeros(s, dtype), "scale": jnp.ones((), dtype), "shift": jnp.zeros((), dtype),
        }  # fmt: skip
        if self.zbl or self.distance_transform != "none":
            from ase.data import covalent_radii

            params["radii"] = jnp.asarray(covalent_radii[list(self.species)], dtype)
        if self.zbl:
            params["zbl"] = {"exponent": jnp.asarray(0.3, dtype), "prefactor": jnp.asarray(0.4543, dtype)}
        return params

    def _constants(self) -> np.ndarray:
        """Frequencies, centres or degrees of the radial functions."""
        n = self.num_bessel
        return {
            "bessel": np.arange(1, n + 1) * np.pi / self.cutoff, "gaussian": np.linspace(0, self.cutoff, n),
            "chebyshev": np.arange(1.0, n + 1),
        }[self.radial_type]  # fmt: skip

    def _init_layer(self, k: int, residual: bool, density: bool, key: Array, dtype) -> Params:
        keys = iter(jax.random.split(key, 64))
        normal = lambda *shape: jax.random.normal(next(keys), shape, dtype)
        s, F = len(self.species), self.channels
        arriving, sent = ir.widths(self.inputs(k)), ir.widths(self.sent(k))
        reached, out = ir.widths(self.reached(k)), ir.widths(self.outputs(k))
        columns = sum(p.mul for p in self.paths(k))
        skipped = {i: (s, F, F) for i in reached}
        if residual:
            rows = 1 if self.interactions[k] in self.sees_atoms else s
            skipped = {i: (rows, arriving[i], w) for i, w in out.items() if i in arriving}
        t = 1 if self.agnostic_product else s
        layer: Params = {
            "up": {i: normal(arriving[i], w) for i, w in sent.items()},
            "radial": tuple(normal(a, b) for a, b in pairwise((self.num_bessel, *self.radial_mlp, columns))),
            "linear": {i: normal(w, F) for i, w in reached.items()},
            "skip": {i: normal(*shape) / math.sqrt(shape[0]) for i, shape in skipped.items()},
            "product": {ir.label(*i): normal(t, r, F) / r for i, r in self.polynomials(k).items()},
            "mix": {i: normal(F, w) for i, w in out.items()},
            "readout": {},
        }
        if self.interactions[k] == NONLINEAR:
            made = ir.widths(ir.gate_input(tuple((F, *t) for t in self.targets(k))))
            layer["linear"] = {i: normal(w, made[i]) for i, w in reached.items()}
            layer["residual"] = {i: normal(w, made[i]) for i, w in sent.items() if i in made}
            layer["second"] = {i: normal(F, F) for i in made if i in reached or i in sent}
            layer |= nonlinear.nonlinear_init(next(keys), s, F, self.num_bessel, self.radial_mlp, columns, dtype)
        elif self.interactions[k] == ATTENTION:
            layer |= nonlinear.attention_init(next(keys), F, self.num_bessel, self.attention_mlp, columns, dtype)
        elif density:
            layer["density"] = normal(self.num_bessel, 1)
        if self.has_readout(k):
            layer["readout"] = {"out": normal(self.mlp if self.nonlinear(k) else F)}
            if self.nonlinear(k):
                layer["readout"]["hidden"] = normal(F, self.mlp)
                if self.readout_bias:
                    zeros = {"middle_bias": jnp.zeros(self.mlp, dtype), "bias": jnp.zeros((), dtype)}
                    layer["readout"] |= {"middle": normal(self.mlp, self.mlp)} | zeros
        return layer

    def adapted(self, params, survey):
        """Set the mean number of neighbours, and the scale of energies to the root mean square of the forces."""
        adapted = replace(self, avg_num_neighbors=survey.mean_neighbors(self.cutoff))
        return adapted, params | {"scale": jnp.asarray(survey.force_rms, params["scale"].dtype)}

    def linear_parameters(self, params):
        """E0, the shift and the last matrices of the readouts."""
        none = jax.tree.map(lambda _: None, params)
        layers = tuple(
            part | {"readout": {n: (x if n in ("out", "bias") else None) for n, x in layer["readout"].items()}}
            for part, layer in zip(none["layers"], params["layers"])
        )
        return none | {"E0": params["E0"], "shift": params["shift"], "layers": layers}

    def compress(self, params: Params, *, closest: float = 0.5, tolerance: float = 1e-10) -> tuple["MACE", Params]:
        """Return the potential with Chebyshev series of r in place of the radial networks: the same energies, faster.

        Each series is as long as the tolerance asks for on distances from `closest` to the cutoff; nearer atoms see the
        functions continued linearly. The measured errors of values and slopes, relative to the largest, are
        kept in `potential.tables`.

        Args:
            params: of this potential.
            closest: Å.
            tolerance: error of the networks' outputs over the envelope, relative to the largest one.

        Raises:
            ValueError: a transformed distance, which depends on the pair of species; blocks whose networks see the
                atoms; a potential that is compressed; a tolerance that 200 polynomials do not reach.
        """
        if self.tables or self.sees_atoms or self.distance_transform != "none":
            why = f"sees distances through {self.distance_transform!r}"
            why = f"has a {self.sees_atoms[0]}, whose networks see the atoms too" if self.sees_atoms else why
            why = "is compressed already" if self.tables else why
            raise ValueError(f"this MACE {why}: its radial networks cannot be replaced by series of the distance.")
        if not (0 < closest < self.cutoff and tolerance > 0):
            raise ValueError(
                f"compress needs 0 < closest < {self.cutoff} Å and tolerance > 0; got {closest}, {tolerance}."
            )
        tables, layers = [], []
        for layer in params["layers"]:
            basis = self.radial_type, self.cutoff, params["radial"]["constants"]
            table, weights = radial_series(
                layer["radial"], *basis, self.num_polynomial_cutoff, self.apply_cutoff, closest, tolerance
            )
            tables.append(table)
            layers.append(layer | {"radial": (weights,)})
        return replace(self, tables=tuple(tables)), params | {"layers": tuple(layers)}

    def restrict(self, params, species):
        rows = np.array(subset(self.species, species))
        of = lambda w: w[rows] if len(w) == len(self.species) else w  # one row stands for all species
        by_species = ("skip", "product", "source", "target")
        layers = [
            layer | {n: jax.tree.map(of, layer[n]) for n in by_species if n in layer} for layer in params["layers"]
        ]
        sliced = {n: params[n][rows] for n in ("embedding", "E0", "radii") if n in params}
        return replace(self, species=tuple(species)), params | sliced | {"layers": tuple(layers)}
