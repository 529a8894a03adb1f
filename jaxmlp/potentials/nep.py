"""Neuroevolution potentials (NEP), versions 2 to 5: the energy of an atom is a small network of its descriptor."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.chebyshev import chebyshev_cosine, to_chebyshev
from jaxmlp.basis.edges import direction, length
from jaxmlp.basis.harmonics import real_harmonics
from jaxmlp.basis.species import by_species, check_species, pair_table
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential
from jaxmlp.potentials import nep_descriptor as descriptor
from jaxmlp.potentials.nep_zbl import NEPZBL, zbl_energies


@dataclass(frozen=True)
class NEP(Potential):
    """U_i = w1 . tanh(W0 q_i - b0) - b1, one hidden layer on a descriptor of radial and angular sums.

    Fan et al., PRB 104, 104309 (2021) (version 2); J. Chem. Phys. 157, 114801 (2022) (version 3: trained
    combinations of radial functions, four- and five-body terms); Song et al., Nat. Commun. 15, 10208 (2024) (version 4:
    one network per species). Version 5 adds an output bias per species.

        f_k(r) = (T_k(2 (r/rc - 1)^2 - 1) + 1) f_c(r) / 2,      g_n(r_ij) = sum_k c[n, k, t_i, t_j] f_k(r_ij)
        q_n = sum_j g_n(r_ij);   A_lm^n = sum_j g_n(r_ij) Y_lm(r_ij);   q_nl = sum_m (A_lm^n)^2;   extra terms

    Parameters (S species, H neurons, D descriptor elements; S' = 1 in versions 2 and 3, else S): c_radial
    (n_R + 1, K_R + 1, S, S) and c_angular, q_scaler (D,), W0 (S', H, D), b0 and w1 (S', H), b1 (); version 5: b_t (S,);
    temperature models: temperature (), in K; flexible ZBL: zbl (pairs, 10). Version 2 has K = n_max and does not mix:
    c_radial (n_R + 1, S, S), c_angular (n_A + 1, S, S), absent (all one) in a file of one species.

    Args:
        species: atomic numbers, in the order of the species axes of the parameters.
        radial_cutoffs: Å, one per species; a pair uses the mean of its two.
        angular_cutoffs: Å, one per species, for the angular functions.
        n_max: (n_R, n_A): there are n_R + 1 radial and n_A + 1 angular functions.
        basis_size: (K_R, K_A), largest Chebyshev degrees; equal to n_max in version 2.
        l_max: largest degree of the three-body terms, 1 to 8.
        extra: active terms among 222 (four-body), 1111 (five-body), 112, 123, 233, 134, in this order.
        neurons: H.
        version: 2, 3, 4 or 5.
        zbl: short-range repulsion added to the energies, or None.
        temperature: the descriptor ends with the temperature (times its element of q_scaler).
        neighbor_hints: the two neighbour counts some files carry; kept for saving, never used.
        mixing: "density", "edge" (see `nep_descriptor`), or "auto": density for one species, else edge.
    """

    species: tuple[int, ...]
    radial_cutoffs: tuple[float, ...]
    angular_cutoffs: tuple[float, ...]
    n_max: tuple[int, int]
    basis_size: tuple[int, int]
    l_max: int
    extra: tuple[str, ...] = ()
    neurons: int = 30
    version: int = 4
    zbl: NEPZBL | None = None
    temperature: bool = False
    neighbor_hints: tuple[int, int] | None = None
    mixing: str = "auto"

    block: ClassVar[int] = 32  # 16 to 64 run equally fast
    constants: ClassVar[tuple[str, ...]] = ("q_scaler", "temperature")
    kind: ClassVar[str] = ""  # what the suffix of the file's first word says

    def __post_init__(self):
        name, s = type(self).__name__, len(self.species)
        check_species(name, self.species)
        if self.version not in (2, 3, 4, 5):
            raise ValueError(f"{name}.version must be 2, 3, 4 or 5; got {self.version}.")
        for field in ("radial_cutoffs", "angular_cutoffs"):
            cutoffs = getattr(self, field)
            if len(cutoffs) != s or not all(0 < c < float("inf") for c in cutoffs):
                raise ValueError(f"{name}.{field} must be one positive distance (Å) per species; got {cutoffs}.")
        if min(*self.n_max, *self.basis_size) < 0 or not 1 <= self.l_max <= 8 or self.neurons < 1:
            raise ValueError(
                f"{name} needs n_max >= 0, basis_size >= 0, 1 <= l_max <= 8 and at least one neuron; "
                f"got {self.n_max}, {self.basis_size}, {self.l_max}, {self.neurons}."
            )
        if self.version == 2 and self.basis_size != self.n_max:
            raise ValueError(f"{name} of version 2 does not mix: basis_size must equal n_max = {self.n_max}.")
        if self.extra != tuple(t for t in descriptor.EXTRA if t in self.extra):
            raise ValueError(f"{name}.extra must be some of {descriptor.EXTRA}, in this order; got {self.extra}.")
        if self.mixing not in ("auto", "density", "edge"):
            raise ValueError(f"{name}.mixing must be 'auto', 'density' or 'edge'; got {self.mixing!r}.")

    @property
    def cutoff(self) -> float:
        """Å, the largest distance at which anything acts."""
        return max(*self.radial_cutoffs, *self.angular_cutoffs)

    @property
    def shells(self) -> tuple[float, ...]:
        """The largest angular cutoff and the largest cutoff, where they differ."""
        inner = {max(self.angular_cutoffs), max(self.radial_cutoffs)}
        if self.zbl is not None:
            inner.add(min(self.zbl.cutoff, self.cutoff))
        return tuple(sorted(inner))

    @property
    def size(self) -> int:
        """D, the number of descriptor elements."""
        return self.n_max[0] + 1 + (self.n_max[1] + 1) * (self.l_max + len(self.extra)) + self.temperature

    @property
    def networks(self) -> int:
        """S', the number of separate networks."""
        return 1 if self.version < 4 else len(self.species)

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: uniform coefficients and weights, q_scaler of one (set it from data)."""
        keys = iter(jax.random.split(key, 8))
        s, p, h, d = len(self.species), self.networks, self.neurons, self.size

        def draw(shape, scale):
            return jax.random.uniform(next(keys), shape, dtype, -scale, scale)

        mix = (lambda n, k: (n + 1, s, s)) if self.version == 2 else (lambda n, k: (n + 1, k + 1, s, s))
        params = {
            "c_radial": draw(mix(self.n_max[0], self.basis_size[0]), 1.0),
            "c_angular": draw(mix(self.n_max[1], self.basis_size[1]), 1.0),
            "q_scaler": jnp.ones(d, dtype),
            "W0": draw((p, h, d), d**-0.5),
            "b0": draw((p, h), 1.0),
            "w1": draw((p, h), h**-0.5),
            "b1": jnp.zeros((), dtype),
        }
        if self.version == 5:
            params["b_t"] = jnp.zeros(s, dtype)
        if self.temperature:
            params["temperature"] = jnp.asarray(300.0, dtype)
        if self.zbl is not None and self.zbl.flexible:
            params["zbl"] = self.zbl.universal_start(s, dtype)
        return params

    def shifted(self, params: Params, energies) -> Params:
        """Return `params` with energies (S,) eV of atoms added: to b_t in version 5, else, if they are equal, to b1."""
        if self.version == 5:
            return params | {"b_t": params["b_t"] - jnp.asarray(energies, params["b_t"].dtype)}
        if np.ptp(energies) > 0:
            raise ValueError(
                f"NEP of version {self.version} has one bias for all species: energies of atoms must be equal; take "
                "version 5, or subtract them from the data."
            )
        return params | {"b1": params["b1"] - jnp.asarray(energies, params["b1"].dtype)[0]}

    def adapted(self, params: Params, survey) -> tuple["NEP", Params]:
        """Set q_scaler to the inverse of the range of every descriptor element over the atoms of the data."""
        one = params | {"q_scaler": jnp.ones_like(params["q_scaler"])}
        q, _ = survey.per_atom(self, one, "descriptors")
        width = np.ptp(q, axis=0)
        scaler = 1 / np.where(width > 0, width, 1.0)
        return self, params | {"q_scaler": jnp.asarray(scaler, params["q_scaler"].dtype)}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        return self.finish(params, self.outputs(params, graph), graph)

    def finish(self, params: Params, output: Array, graph: Graph) -> Array:
        """Return the energies, (n,) eV, given w1 . h of every atom: less the biases, plus the repulsion."""
        energy = output - params["b1"]
        if self.version == 5:
            energy = energy - params["b_t"][graph.species]
        if self.zbl is not None:
            near = graph.within(min(self.zbl.cutoff, self.cutoff))
            energy = energy + zbl_energies(self.zbl, params.get("zbl"), self.species, near)
        return energy

    def outputs(self, params: Params, graph: Graph) -> Array:
        """Return w1 . tanh(W0 q - b0) of every atom, (n,)."""
        return self.network(params, self.descriptors(params, graph), graph.species)

    def network(self, params: Params, q: Array, species: Array, suffix: str = "") -> Array:
        """Return w1 . tanh(W0 q - b0), (n,), of the scaled descriptors q (n, D); `suffix` names another network."""
        return self.output(params["w1" + suffix], self.hidden(params, q, species, suffix), species)

    def output(self, w: Array, h: Array, species: Array) -> Array:
        """Return w . h, (n,), with the weights w (S', H) of each atom's network."""
        return jnp.sum(h * (w[0] if self.networks == 1 else w[species]), axis=-1)

    def hidden(self, params: Params, q: Array, species: Array, suffix: str = "") -> Array:
        """Return tanh(W0 q - b0), (n, H), of the scaled descriptors q (n, D)."""
        w0, b0 = params["W0" + suffix], params["b0" + suffix]
        if self.networks == 1:
            return jnp.tanh(descriptor.einsum("nd,hd->nh", q, w0[0]) - b0[0])
        if self.networks <= 8:  # all networks and a selection: cheaper than gathering weights for every atom
            z = descriptor.einsum("nd,thd->nth", q, w0) - b0
            return jnp.tanh(by_species(z, species))
        return jnp.tanh(descriptor.einsum("nd,nhd->nh", q, w0[species]) - b0[species])

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the scaled descriptors, (n, D): radial, then for every l and extra term all n."""
        radial_graph, angular_graph = graph.within(max(self.radial_cutoffs)), graph.within(max(self.angular_cutoffs))
        r = length(*radial_graph.planes)
        c_radial, c_angular = (to_chebyshev(c, 1) for c in self.coefficients(params, r.dtype))
        f_radial, f_angular = self._radial_functions(r, radial_graph, angular_graph)
        unit = direction(*angular_graph.planes)
        y = jnp.stack(real_harmonics(*unit, self.l_max, 1), axis=1)  # (n, LM, M)
        density = self.mixing == "density" or (self.mixing == "auto" and len(self.species) == 1)
        moments = descriptor.moments_density if density else descriptor.moments_edge
        radial = descriptor.radial_sums(f_radial, c_radial, graph.species, radial_graph.neighbor_species)
        A = moments(f_angular, y, c_angular, graph.species, angular_graph.neighbor_species)  # (n, n_A + 1, LM)
        n = r.shape[0]
        parts = [radial, descriptor.invariants(A, self.l_max, self.extra).reshape(n, -1)]
        if self.temperature:
            parts.append(jnp.broadcast_to(params["temperature"].astype(r.dtype), (n, 1)))
        return jnp.concatenate(parts, axis=1) * params["q_scaler"]

    def _radial_functions(self, r: Array, radial: Graph, angular: Graph) -> tuple[Array, Array]:
        """f_k of the radial (n, K_R + 1, M_R) and the angular part (n, K_A + 1, M_A); shared where cutoffs agree."""
        k_r, k_a = self.basis_size

        def functions(graph, cutoffs, size):
            c = np.asarray(cutoffs)
            rc = pair_table((c[:, None] + c) / 2, graph.species, graph.neighbor_species, r.dtype)
            return chebyshev_cosine(r[:, : graph.mask.shape[1]], rc, size)

        if self.radial_cutoffs == self.angular_cutoffs:
            f = functions(radial, self.radial_cutoffs, max(k_r, k_a))
            return jnp.stack(f[: k_r + 1], axis=1), jnp.stack(f[: k_a + 1], axis=1)
        f_radial = functions(radial, self.radial_cutoffs, k_r)
        f_angular = functions(angular, self.angular_cutoffs, k_a)
        return jnp.stack(f_radial, axis=1), jnp.stack(f_angular, axis=1)

    def coefficients(self, params: Params, dtype) -> tuple[Array, Array]:
        """Return c_radial (n_R + 1, K_R + 1, S, S) and c_angular; diagonal in n and k for version 2."""
        if self.version > 2:
            return params["c_radial"], params["c_angular"]
        out = []
        for name, n in zip(("c_radial", "c_angular"), self.n_max, strict=True):
            eye = jnp.eye(n + 1, dtype=dtype)[:, :, None, None]
            out.append(eye * params[name][:, None] if name in params else eye)
        return out[0], out[1]

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["NEP", Params]:
        """Return the potential and parameters for some of its species, in the order given: an exact slicing."""
        missing = [z for z in species if z not in self.species]
        if missing or not species:
            raise ValueError(f"this potential knows the atomic numbers {self.species}; {missing} were asked for too.")
        if tuple(species) == self.species:
            return self, params
        index = np.array([self.species.index(z) for z in species])
        new = dict(params)
        for name in ("c_radial", "c_angular"):
            if name in params:
                new[name] = params[name][..., index[:, None], index]
        for name in params:
            if name.startswith(("W0", "b0", "w1", "b_t")) and (self.networks > 1):
                new[name] = params[name][index]
        if self.zbl is not None and "zbl" in params:
            pairs = self.zbl.pair_index(len(self.species))[index[:, None], index]
            new["zbl"] = params["zbl"][pairs[np.triu_indices(len(index))]]
        cutoffs = {f: tuple(getattr(self, f)[i] for i in index) for f in ("radial_cutoffs", "angular_cutoffs")}
        return replace(self, species=tuple(species), **cutoffs), new
