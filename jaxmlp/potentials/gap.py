"""Gaussian approximation potentials (GAP): kernel regression on distances, angles and SOAP vectors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmlp.basis.covariance import Covariance
from jaxmlp.basis.density import function_of_spectrum
from jaxmlp.basis.gap_clusters import Angle3b, Distance2b, DistanceNb
from jaxmlp.basis.soap import SOAP, PowerSpectrum
from jaxmlp.basis.soap_turbo import SOAPTurbo
from jaxmlp.basis.species import check_species, is_element, subset
from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import Params, Potential, only
from jaxmlp.potentials.gap_sparse import sparse_points

Descriptor = Distance2b | Angle3b | DistanceNb | SOAP | SOAPTurbo
FIXED = ("cutoff", "sparse", "delta", "f0", "theta", "factor")  # of a process: what a fit of its weights takes as given


@dataclass(frozen=True)
class GAPTerm:
    """One sparse Gaussian process of a GAP (QUIP's gpCoordinates).

    Args:
        descriptor: what its function takes.
        covariance: kind of the kernel.
        n_sparse: number of sparse points.
        center: for SOAP, the element of the atoms it is for; 0 for all. (The other descriptors name their elements.)
    """

    descriptor: Descriptor
    covariance: Covariance
    n_sparse: int
    center: int = 0

    def __post_init__(self):
        if self.n_sparse < 1:
            raise ValueError(f"GAPTerm.n_sparse must be positive; got {self.n_sparse}.")
        if isinstance(self.descriptor, SOAPTurbo):
            object.__setattr__(self, "center", self.descriptor.center)
        elif not isinstance(self.descriptor, SOAP) and self.center:
            raise ValueError("GAPTerm.center is for SOAP only; the other descriptors name their elements.")

    @property
    def elements(self) -> set[int]:
        """Atomic numbers without one of which the term is zero."""
        own = () if isinstance(self.descriptor, PowerSpectrum) else self.descriptor.elements
        center = getattr(self.descriptor, "center", self.center)
        return {*own, center} - {0}


@dataclass(frozen=True)
class GAP(Potential):
    """E_i = e0[t_i] + sum over processes, and over their instances d at atom i, of w_d sum_s alpha_s c_s k(x_d, x_s).

    An instance is the atom itself for SOAP, with w = 1, and a pair, triplet ... of atoms for distances and angles, with
    its cutoff function for w. x_s are the sparse points, c_s their cutoff functions. Bartók, Payne, Kondor and Csányi,
    PRL 104, 136403 (2010); Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).

    Parameters: "e0" (S,) eV and "processes", one dict for each: "alpha" (m,), "cutoff" (m,) c_s, "sparse" (m, d) x_s,
    "delta" () eV, "f0" () eV, and "theta" (d,) unless the kernel is a dot product. `factorise` adds "factor" (m, m).

    The sum over sparse points is differentiated by x first, then x by the positions: no descriptor gradient is formed.

    Args:
        species: atomic numbers.
        processes: the Gaussian processes.
    """

    species: tuple[int, ...]
    processes: tuple[GAPTerm, ...]

    block: ClassVar[int] = 64
    constants: ClassVar[tuple[str, ...]] = ("e0", *(f"processes/*/{name}" for name in FIXED))
    atomic_energies: ClassVar[str] = "e0"

    def __post_init__(self):
        check_species("GAP", self.species)
        unknown = set().union(*(t.elements for t in self.processes)) - set(self.species)
        if unknown:
            raise ValueError(f"GAP.processes must be of the elements {self.species}; got {sorted(unknown)} too.")

    @property
    def cutoff(self) -> float:  # type: ignore[override]
        """Å, the largest cutoff of a descriptor; 1 where only energies of isolated atoms are left."""
        return max((t.descriptor.cutoff for t in self.processes), default=1.0)

    @property
    def shells(self) -> tuple[float, ...]:
        """The cutoffs of triplets and larger clusters, and the largest cutoff."""
        inner = {t.descriptor.cutoff for t in self.processes if isinstance(t.descriptor, Angle3b | DistanceNb)}
        return tuple(sorted(inner | {self.cutoff}))

    def linear_parameters(self, params: Params) -> Params:
        """Return the weights of the sparse points and the energies of isolated atoms."""
        return {"e0": params["e0"], "processes": tuple(only(p, ("alpha",)) for p in params["processes"])}

    def init(self, key: Array, dtype=float) -> Params:
        """Draw starting parameters: sparse points of random neighbourhoods, small weights, delta 1 eV."""
        processes = []
        for k, term in zip(jax.random.split(key, len(self.processes)), self.processes, strict=True):
            points, weights = jax.random.split(k)
            sparse = sparse_points(term, self.species, points, dtype)
            m = term.n_sparse
            p = {"alpha": jax.random.normal(weights, (m,), dtype) / m, "cutoff": jnp.ones(m, dtype), "sparse": sparse}
            p |= {"delta": jnp.ones((), dtype), "f0": jnp.zeros((), dtype)}
            if term.covariance.kind != "dot_product":
                p["theta"] = jnp.std(sparse, axis=0) + jnp.asarray(0.1, dtype)
            processes.append(p)
        return {"e0": jnp.zeros(len(self.species), dtype), "processes": tuple(processes)}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        """Return the energy of every atom, (n,) eV."""
        energy = params["e0"][graph.species]
        for descriptor, members in self._groups().items():
            own = [params["processes"][k] for k in members]
            terms = tuple(self.processes[k] for k in members)
            if isinstance(descriptor, PowerSpectrum):
                X = descriptor.densities(self.species, graph)
                masks = [self._mask(term, graph, X[0].dtype) for term in terms]
                predict = _of_spectrum(descriptor, tuple(t.covariance for t in terms))
                energy = energy + function_of_spectrum(predict, descriptor.layout, X, (own, masks))
            else:
                x, weight = descriptor.instances(self.species, graph)
                energy = energy + jnp.sum(weight * sum(map(partial(_predict, x=x), terms, own)), axis=1)
        return energy

    def descriptors(self, params: Params, graph: Graph) -> Array:
        """Return the SOAP vectors of every atom one after the other, (n, sum of dimensions); zero at other elements."""
        vectors = []
        for descriptor, members in self._groups().items():
            if isinstance(descriptor, PowerSpectrum):
                q = descriptor.vectors(self.species, graph)
                masks = [self._mask(self.processes[k], graph, q.dtype) for k in members]
                vectors += [(k, q * mask[:, None]) for k, mask in zip(members, masks, strict=True)]
        if not vectors:
            raise ValueError("this GAP has no SOAP; its distances and angles are not descriptors of single atoms.")
        return jnp.concatenate([q for _, q in sorted(vectors, key=lambda v: v[0])], axis=1)

    def factorise(self, params: Params, noise: float = 1e-3) -> Params:
        """Return the parameters with what `variances` needs: Cholesky factors of the processes' covariances.

        Args:
            noise: eV, of an observation of a process at a sparse point (QUIP's gap_variance_regularisation).
        """
        processes = []
        for term, p in zip(self.processes, params["processes"], strict=True):
            c = p["cutoff"]
            K = c[:, None] * c * term.covariance.matrix(p["sparse"], p["sparse"], p.get("theta"), p["delta"], p["f0"])
            factor = jnp.linalg.cholesky(K + noise**2 * jnp.eye(len(K), dtype=K.dtype))
            processes.append(p | {"factor": factor})
        return params | {"processes": tuple(processes)}

    def variances(self, params: Params, graph: Graph) -> Array:
        """Return the predicted variance of the energy of every atom, (n,) eV^2, by the parameters of `factorise`.

        Of one process, sum_dd' w_d w_d' [k(x_d, x_d') - k_d^T (K + noise^2)^-1 k_d'] with k_d the covariances with the
        sparse points (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, Eq. 2.26, for a sum of
        values); processes are independent. QUIP's local_gap_variance of SOAP is noise^2 more; of pairs and triplets it
        adds the variances as if they were independent.

        Raises:
            ValueError: the parameters are not those of `factorise`.
        """
        total = jnp.zeros_like(graph.planes[0][:, 0])
        for term, p in zip(self.processes, params["processes"], strict=True):
            if "factor" not in p:
                raise ValueError("variances need the parameters that potential.factorise(params, noise) returns.")
            if isinstance(term.descriptor, PowerSpectrum):
                x = term.descriptor.vectors(self.species, graph)[:, None]
                weight = self._mask(term, graph, x.dtype)[:, None]
            else:
                x, weight = term.descriptor.instances(self.species, graph)
            total = total + _variance(term, p, x, weight)
        return total

    def _groups(self) -> dict[Descriptor, list[int]]:
        """Numbers of the processes of every descriptor; soap_turbo of several elements may share one."""
        groups: dict[Descriptor, list[int]] = {}
        for k, term in enumerate(self.processes):
            d = term.descriptor
            groups.setdefault(replace(d, central_index=1) if isinstance(d, SOAPTurbo) else d, []).append(k)
        return groups

    def _mask(self, term: GAPTerm, graph: Graph, dtype) -> Array:
        """1 at the atoms that a SOAP is for, (n,)."""
        return is_element(term.center, self.species, graph.species, dtype)

    def restrict(self, params: Params, species: tuple[int, ...]) -> tuple["GAP", Params]:
        """Return the potential for some of its species: processes and densities of absent elements stay out."""
        index = np.array(subset(self.species, species))
        terms, kept = [], []
        for term, p in zip(self.processes, params["processes"], strict=True):
            if not term.elements <= set(species):
                continue
            if isinstance(term.descriptor, SOAP | SOAPTurbo) and "factor" not in p:
                descriptor, columns = term.descriptor.restrict(tuple(species))
                term, p = replace(term, descriptor=descriptor), p | {"sparse": p["sparse"][:, columns]}
            terms.append(term)
            kept.append(p)
        return GAP(tuple(species), tuple(terms)), {"e0": params["e0"][index], "processes": tuple(kept)}


def _weights(p: Params) -> Array:
    return p["alpha"] * p["cutoff"]


def _predict(term: GAPTerm, p: Params, x: Array) -> Array:
    return term.covariance.predict(x, p["sparse"], p.get("theta"), p["delta"], p["f0"], _weights(p))


@lru_cache(maxsize=64)
def _of_spectrum(descriptor: PowerSpectrum, covariances: tuple[Covariance, ...]) -> Callable[..., Array]:
    """The energies of several processes of one SOAP as a function of its power spectrum."""

    def energies(p: Array, args: Any) -> Array:
        q = descriptor.normalised(p)
        total = jnp.zeros(len(q), q.dtype)
        for covariance, own, mask in zip(covariances, *args, strict=True):
            theta = own.get("theta")
            value = covariance.predict(q, own["sparse"], theta, own["delta"], own["f0"], _weights(own))
            total = total + mask * value
        return total

    return energies


def _variance(term: GAPTerm, p: Params, x: Array, weight: Array) -> Array:
    """The variance of sum_d w_d f(x_d), (n,), of instances (n, I, d) and weights (n, I)."""
    arguments = (p.get("theta"), p["delta"], p["f0"])
    k = p["cutoff"] * term.covariance.covariance(x, p["sparse"], *arguments)
    mean = jnp.einsum("ni,nim->mn", weight, k, precision="highest")
    known = jax.scipy.linalg.solve_triangular(p["factor"], mean, lower=True)
    prior = jax.vmap(lambda a: term.covariance.matrix(a, a, *arguments))(x)
    prior = jnp.einsum("ni,nij,nj->n", weight, prior, weight, precision="highest")
    return prior - jnp.sum(known * known, axis=0)


def gap(
    species: tuple[int, ...],
    cutoff: float = 5.0,
    *,
    n_max: int = 8,
    l_max: int = 6,
    atom_sigma: float = 0.5,
    cutoff_transition_width: float = 1.0,
    zeta: float = 4.0,
    n_sparse: int = 500,
    n_sparse_pairs: int = 20,
) -> GAP:
    """Return the usual GAP to be fitted: distances of every pair of elements, and a SOAP for every element.

    Args:
        species: atomic numbers.
        cutoff, atom_sigma, cutoff_transition_width: Å.
        n_max, l_max: of SOAP.
        zeta: power of the dot product of SOAP vectors.
        n_sparse, n_sparse_pairs: sparse points of every SOAP and of every pair; 0 for no pairs.
    """
    names = (n_max, l_max, atom_sigma, cutoff_transition_width)
    pairs = combinations_with_replacement(species, 2) if n_sparse_pairs else ()
    processes = [
        GAPTerm(Distance2b(cutoff, cutoff_transition_width, pair), Covariance("ard_se"), n_sparse_pairs)
        for pair in pairs
    ]
    soap = SOAP(tuple(species), cutoff, *names)
    processes += [GAPTerm(soap, Covariance("dot_product", zeta), n_sparse, z) for z in species]
    return GAP(tuple(species), tuple(processes))
