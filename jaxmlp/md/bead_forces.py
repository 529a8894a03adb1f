"""Forces on the beads of a ring polymer: one evaluation for each, mapped over beads and sharded over devices."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from jaxmlp.evaluate import Evaluation, evaluate
from jaxmlp.md.estimators import centroid_virial, effective_forces, effective_potential, fourth_order_weights
from jaxmlp.md.modes import contract, expand_forces
from jaxmlp.md.state import Atoms, Forces, State, mapped
from jaxmlp.md.work import changes
from jaxmlp.neighbors import Neighbors
from jaxmlp.potential import Potential


@dataclass(frozen=True)
class BeadForces(Forces):
    """`Forces` of P beads, R (P, N, 3). The beads' neighbour lists are renewed together.

    Args:
        beads: P.
        contraction: the number of beads of each member of a sum a + b + ..., the largest P: ring-polymer contraction of
            the others (Markland and Manolopoulos, J. Chem. Phys. 129, 024105 (2008)). () has all on all beads.
        scheme: "primitive", "takahashi-imada" or "suzuki-chin", see `estimators`.
        devices: number of devices that share the beads.
    """

    beads: int = 1
    contraction: tuple[int, ...] = ()
    scheme: str = "primitive"
    devices: int | None = None

    def driven(self, state, atoms, kT):
        out = self.evaluate(state, atoms)
        F = out.forces
        if self.scheme != "primitive":
            F = effective_forces(F, lambda v: self._hessian_vector(state, atoms, v), atoms.mass, kT, self.scheme)
        state = state._replace(F=atoms.held(F), work=self.worked(state, atoms, out))
        return state._replace(virial=centroid_virial(state.R, out.forces, out.virial)) if self.virial else state

    def images(self, R: Array) -> Array:
        """Return all configurations that are evaluated, (P + ..., N, 3): the beads, then the contracted rings."""
        short = sorted({n for n in self.contraction if n < self.beads}, reverse=True)
        return jnp.concatenate([R, *(contract(R, n) for n in short)]) if short else R

    def _part(self, n: int) -> slice:
        """Where a ring of n beads is among the images."""
        start = 0
        for m in sorted({self.beads, *self.contraction}, reverse=True):
            if m == n:
                return slice(start, start + m)
            start += m
        raise AssertionError(f"no ring of {n} beads among {self.contraction}")

    def listed(self, state: State) -> State:
        if not self.potential.uses_neighbors:
            return state
        R, box, lists = self.images(state.R), state.box, state.neighbors
        stale = jax.vmap(self.search.stale, (0, 0, None))(lists, R, box)
        R, box = lax.stop_gradient((R, box))

        def build(carry):
            return self._lists(R, box), jnp.zeros_like(carry[1])

        renew = jnp.any(stale) & ~jnp.any(lists.overflow)
        return state._replace(neighbors=lax.while_loop(lambda c: c[1], build, (lax.stop_gradient(lists), renew))[0])

    def lists(self, R: Array, box: Array | None) -> Neighbors:
        return self._lists(self.images(R), box)

    def _lists(self, R: Array, box: Array | None) -> Neighbors:
        return mapped(lambda R: self.search(R, box))(R)

    def reference(self, lists: Neighbors) -> tuple[Array, Array | None]:
        return lists.R[: self.beads], None if lists.box is None else lists.box[0]

    def blank(self, state: State) -> State:
        state = super().blank(state)
        return state._replace(energy=jnp.zeros(self.beads, state.R.dtype))

    def centroid(self, x: Array) -> Array:
        return jnp.mean(x, axis=0)

    def mean(self, virial: Array) -> Array:
        return jnp.mean(virial, axis=0)

    def member(self, k: int, state: State, atoms: Atoms) -> Array:
        n = self.contraction[k] if self.contraction else self.beads
        part = atoms._replace(params=atoms.params[k])
        out = self._on(n, self.potential.members[k], state, part)
        return atoms.held(expand_forces(out.forces, self.beads) if n < self.beads else out.forces)

    def evaluate(self, state: State, atoms: Atoms) -> Evaluation:
        """Return energies, forces and virials of every bead, leaves (P, ...), of the plain potential.

        A contracted member gives each bead the mean of its energies and virials, and the expanded forces.
        """
        atoms = self.present(state, atoms)
        if not self.contraction:
            return self._on(self.beads, self.potential, state, atoms)
        parts = []
        for k, n in enumerate(self.contraction):
            part = self._on(n, self.potential.members[k], state, atoms._replace(params=atoms.params[k]))
            if n < self.beads:
                each = lambda x: jnp.broadcast_to(jnp.mean(x, axis=0), (self.beads, *x.shape[1:]))
                spread = jax.tree.map(each, part)
                part = spread._replace(forces=expand_forces(part.forces, self.beads))
            parts.append(part)
        total = jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *(part._replace(parts=()) for part in parts))
        return total._replace(parts=sum((part.parts for part in parts), start=()))

    def worked(self, state, atoms, out):
        if not self.ramped:
            return state.work

        def one(R, lists, parts):
            return changes(
                self.potential, atoms.params, state.step, parts, R, state.box, atoms.species, lists, self.execution
            )

        back, ahead = self._over_beads(one, state.R, state.neighbors, out.parts)
        return state.work._replace(back=jnp.mean(back), ahead=jnp.mean(ahead))

    def effective(self, out: Evaluation, atoms: Atoms, kT: Array) -> Array:
        """Return the energies (P,) whose gradient the forces of the state are."""
        return effective_potential(out.energy, out.forces, atoms.mass, kT, self.scheme)

    def _on(self, n: int, potential: Potential, state: State, atoms: Atoms) -> Evaluation:
        """Evaluate a potential on the ring of n beads."""
        part = self._part(n)
        R, lists = self.images(state.R)[part], jax.tree.map(lambda x: x[part], state.neighbors)
        return self._over_beads(lambda R, lists: self._one(potential, atoms, R, state.box, lists), R, lists)

    def _one(self, potential, atoms, R, box, lists) -> Evaluation:
        return evaluate(potential, atoms.params, R, box, atoms.species, lists, execution=self.execution)

    def _hessian_vector(self, state: State, atoms: Atoms, v: Array) -> Array:
        """Return H v (P, N, 3), on the beads where the scheme asks for it, zeros on the others."""
        chosen = np.flatnonzero(fourth_order_weights(self.beads, self.scheme)[1])

        def one(R, v, lists):
            forces = lambda R: self._one(self.potential, self.present(state, atoms), R, state.box, lists).forces
            return -jax.jvp(forces, (R,), (v,))[1]

        lists = jax.tree.map(lambda x: x[chosen], state.neighbors)
        return jnp.zeros_like(v).at[chosen].set(self._over_beads(one, state.R[chosen], v[chosen], lists))

    def _over_beads(self, function, *arguments):
        """Map a function over the first axis of its arguments, sharded over devices where they divide it."""
        over, devices = mapped(function), self.devices or 1
        if devices > 1 and len(arguments[0]) % devices == 0:
            mesh = Mesh(np.array(jax.devices()[:devices]), ("beads",))
            each = PartitionSpec("beads")
            over = jax.shard_map(over, mesh=mesh, in_specs=(each,) * len(arguments), out_specs=each, check_vma=False)
        return over(*arguments)


def bead_forces(forces: Forces, beads: int, contraction: tuple[int, ...], scheme: str) -> BeadForces:
    """Return the forces of a ring polymer; devices that would share the atoms share the beads."""
    execution = replace(forces.execution, devices=None)
    return BeadForces(
        forces.potential, forces.search, execution, forces.virial, forces.levels, beads=beads, contraction=contraction,
        scheme=scheme, devices=forces.execution.devices,
    )  # fmt: skip
