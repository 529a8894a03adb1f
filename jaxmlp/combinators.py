"""Potentials made of potentials: sums, multiples, interpolations and committees."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxmlp.neighbors.graph import Graph
from jaxmlp.potential import MessagePassing, Params, Potential


@dataclass(frozen=True)
class Composite(Potential):
    """What potentials made of `members` share: cutoffs, species and execution are the members'.

    Raises:
        ValueError: the members do not have the same species in the same order.
    """

    members: tuple[Potential, ...]

    def __post_init__(self):
        if not self.members:
            raise ValueError(f"a {type(self).__name__} needs at least one potential.")
        for m in self.members:
            if m.species != self.members[0].species:
                raise ValueError(
                    f"the members of a {type(self).__name__} must have the same species in the same order; got "
                    f"{self.members[0].species} and {m.species} (atomic numbers). Bring them together with "
                    "`b, params_b = b.restrict(params_b, a.species)`."
                )

    @property
    def species(self):  # type: ignore[override]
        return self.members[0].species

    @property
    def cutoff(self):  # type: ignore[override]
        return max(m.cutoff for m in self.members)

    @property
    def shells(self):
        return tuple(sorted({c for m in self.members for c in m.shells}))

    @property
    def local(self):  # type: ignore[override]
        return all(m.local for m in self.members)

    @property
    def pairwise(self):  # type: ignore[override]
        return all(m.pairwise for m in self.members)

    @property
    def homogeneous(self):  # type: ignore[override]
        return all(m.homogeneous for m in self.members)

    @property
    def uses_neighbors(self):  # type: ignore[override]
        return any(m.uses_neighbors for m in self.members)

    @property
    def block(self):  # type: ignore[override]
        return min(m.block for m in self.members)

    @property
    def conditions(self):
        return tuple(dict.fromkeys(name for m in self.members for name in m.conditions))

    def conditioned(self, params, fparam=None, aparam=None, atoms=None):
        """Return `params` with frame and atomic parameters in those of the members that take them."""
        given = {name: x for name, x in (("fparam", fparam), ("aparam", aparam)) if x is not None}
        for name in given.keys() - set(self.conditions):
            raise ValueError(f"no member of this {type(self).__name__} has {name}: leave it out.")

        def of(member, p):
            return member.conditioned(p, **{k: x for k, x in given.items() if k in member.conditions}, atoms=atoms)

        return self._mapped(of, params) if given else params

    def _mapped(self, function, params):
        """The parameters with function(member, its parameters) in place of every member's."""
        return tuple(map(function, self.members, params))

    def for_system(self, system):
        return replace(self, members=tuple(m.for_system(system) for m in self.members))

    def for_boxes(self, boxes):
        return replace(self, members=tuple(m.for_boxes(boxes) for m in self.members))

    def _energies(self, params, graph: Graph) -> list[Array]:
        return [m.site_energies(p, graph.within(m.cutoff)) for m, p in zip(self.members, params)]

    def _restricted(self, params, species):
        pairs = [m.restrict(p, species) for m, p in zip(self.members, params)]
        return tuple(m for m, _ in pairs), tuple(p for _, p in pairs)


class Sum(Composite):
    """E = sum_k E_k; params is a tuple with one entry per member. Written a + b."""

    def site_energies(self, params: Params, graph: Graph) -> Array:
        first, *others = self._energies(params, graph)
        return sum(others, start=first)

    def terms(self, params):
        if self.local:
            return super().terms(params)
        return [t for m, p in zip(self.members, params) for t in m.terms(p)]

    def linear_parameters(self, params):
        return tuple(m.linear_parameters(p) for m, p in zip(self.members, params))

    def roughness(self, params, power):
        found = tuple(m.roughness(p, power) for m, p in zip(self.members, params))
        return None if None in found else found

    @property
    def constants(self):  # type: ignore[override]
        return tuple(f"{k}/{name}" for k, m in enumerate(self.members) for name in m.constants)

    @property
    def atomic_energies(self):  # type: ignore[override]
        return next((m.atomic_energies for m in self.members if m.atomic_energies), "")

    def shifted(self, params, energies):
        """Return `params` with energies of atoms added to those of the first member that has some."""
        for k, (m, p) in enumerate(zip(self.members, params)):
            if m.atomic_energies or k == len(self.members) - 1:
                return (*params[:k], m.shifted(p, energies), *params[k + 1 :])
        raise AssertionError("a sum has members")

    def adapted(self, params, survey):
        pairs = [m.adapted(p, survey) for m, p in zip(self.members, params)]
        return Sum(tuple(m for m, _ in pairs)), tuple(p for _, p in pairs)

    def restrict(self, params, species):
        members, params = self._restricted(params, species)
        return Sum(members), params


def summands(potential: Potential, params: Params) -> list[tuple[Potential, Params]]:
    """Return the members of a sum, and of the sums among them, with their parameters."""
    if not isinstance(potential, Sum):
        return [(potential, params)]
    return [pair for m, p in zip(potential.members, params) for pair in summands(m, p)]


@dataclass(frozen=True)
class Scaled(Composite):
    """factor * E of one member; params are those of the member. Written factor * a."""

    factor: float = 1.0

    @classmethod
    def of(cls, factor: float, potential: Potential) -> "Scaled":
        return cls((potential,), factor)

    def _mapped(self, function, params):
        return function(self.members[0], params)

    def site_energies(self, params: Params, graph: Graph) -> Array:
        return self.factor * self.members[0].site_energies(params, graph)

    def terms(self, params):
        if self.local:
            return super().terms(params)
        return [(term, p, self.factor * weight) for term, p, weight in self.members[0].terms(params)]

    def linear_parameters(self, params):
        return self.members[0].linear_parameters(params)

    def restrict(self, params, species):
        member, params = self.members[0].restrict(params, species)
        return Scaled.of(self.factor, member), params


class Interpolation(Composite):
    """E = (1 - x) E_a + x E_b; params is {"x": scalar, "a": ..., "b": ...}, so that dE/dx = E_b - E_a is a gradient."""

    def _mapped(self, function, params):
        a, b = self.members
        return params | {"a": function(a, params["a"]), "b": function(b, params["b"])}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        a, b = self._energies((params["a"], params["b"]), graph)
        return (1 - params["x"]) * a + params["x"] * b

    def terms(self, params):
        x = params["x"]  # apart even where both are local: the energies of both are what dE/dx needs
        parts = zip((1 - x, x), self.members, (params["a"], params["b"]))
        return [(term, p, share * weight) for share, m, q in parts for term, p, weight in m.terms(q)]

    def linear_parameters(self, params):
        a, b = (m.linear_parameters(params[name]) for m, name in zip(self.members, "ab"))
        return {"x": None, "a": a, "b": b}

    def restrict(self, params, species):
        members, (a, b) = self._restricted((params["a"], params["b"]), species)
        return Interpolation(members), {"x": params["x"], "a": a, "b": b}


class Weighted(Composite):
    """E = sum_k x_k E_k, of one member or more; params is {"x": (members,), "members": a tuple}."""

    def _mapped(self, function, params):
        return params | {"members": tuple(map(function, self.members, params["members"]))}

    def site_energies(self, params: Params, graph: Graph) -> Array:
        parts = self._energies(params["members"], graph)
        return sum((x * e for x, e in zip(params["x"], parts)), start=jnp.zeros_like(parts[0]))

    def terms(self, params):
        parts = zip(self.members, params["members"], params["x"])
        return [(term, p, x * weight) for m, q, x in parts for term, p, weight in m.terms(q)]

    def linear_parameters(self, params):
        return {"x": None, "members": tuple(m.linear_parameters(p) for m, p in zip(self.members, params["members"]))}

    def restrict(self, params, species):
        members, parts = self._restricted(params["members"], species)
        return Weighted(members), {"x": params["x"], "members": parts}


def interpolate(a: Potential, b: Potential) -> Interpolation:
    """Return (1 - x) a + x b with parameters {"x": scalar, "a": params_a, "b": params_b}."""
    return Interpolation((a, b))


@dataclass(frozen=True)
class Committee(Composite):
    """The mean of `size` copies of one potential with different parameters.

    params is the potential's pytree with a leading axis of length `size` on every leaf; `Committee.stack` makes it.
    The members' own energies, for uncertainties, come from `jax.vmap(energy_fn(potential, system), (None, None, 0))`.
    """

    size: int = 1

    @classmethod
    def of(cls, potential: Potential, size: int) -> "Committee":
        if size < 1:
            raise ValueError(f"a committee needs at least one member; got size {size}.")
        return cls((potential,), size)

    @staticmethod
    def stack(params: list[Params]) -> Params:
        """Return the committee's parameters from one pytree per member."""
        return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *params)

    def _mapped(self, function, params):
        return jax.vmap(lambda p: function(self.members[0], p))(params)

    def site_energies(self, params: Params, graph: Graph) -> Array:
        return jnp.mean(jax.vmap(lambda p: self.members[0].site_energies(p, graph))(params), axis=0)

    def terms(self, params):
        if isinstance(self.members[0], MessagePassing):
            return [(_CommitteeInSteps(self.members[0], self.size), params, 1.0)]
        return super().terms(params)

    def linear_parameters(self, params):
        return self.members[0].linear_parameters(params)

    def restrict(self, params, species):
        one = jax.tree.map(lambda x: x[0], params)
        member, _ = self.members[0].restrict(one, species)
        return Committee.of(member, self.size), jax.vmap(lambda p: self.members[0].restrict(p, species)[1])(params)


@dataclass(frozen=True)
class _CommitteeInSteps(MessagePassing):
    """A committee of message-passing potentials, step by step; features have an axis of members after that of atoms."""

    member: MessagePassing
    size: int

    @property
    def species(self):  # type: ignore[override]
        return self.member.species

    @property
    def cutoff(self):  # type: ignore[override]
        return self.member.cutoff

    @property
    def block(self):  # type: ignore[override]
        return max(1, self.member.block // self.size)

    @property
    def steps(self):
        return self.member.steps

    def step(self, k, params, graph, own, theirs):
        one = lambda p, own, theirs: self.member.step(k, p, graph, own, theirs)
        own, shared = jax.vmap(one, (0, 1, 2), 1)(params, own, theirs)
        return (jnp.mean(own, axis=1) if k == self.steps - 1 else own), shared
