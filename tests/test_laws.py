"""Laws that every potential obeys, over the registry: symmetries, derivatives of all kinds, padding, supercells."""

from dataclasses import replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import CASES, VARIANTS

import jaxmlp as jm
from jaxmlp.evaluate import full_graph
from jaxmlp.system import species_index

ROUNDING = dict(rtol=1e-10, atol=1e-10)  # float64 sums of about 10^3 terms of order 1 to 100 eV
DERIVATIVE = dict(rtol=2e-6, atol=2e-6)  # central differences of fourth order with h = 1e-3: h^4 and 1e-13 / h

LABELLED = "bonded terms name atoms by their number"


class Subject:
    """A case of the registry with its compiled functions, shared by all laws."""

    def __init__(self, case):
        self.case, self.potential, self.system = case, case.potential, case.system
        self.params = jax.tree.map(jnp.asarray, case.params)
        self.R, self.box = jnp.asarray(self.system.R), jnp.asarray(self.system.box)
        self.species = jnp.asarray(species_index(self.potential.species, self.system.numbers))
        self.search = jm.NeighborSearch.allocate(
            self.system.R, self.system.box, self.system.pbc, self.potential.shells, headroom=0.1
        )
        self._search = jax.jit(self.search)
        self._compiled_evaluate = jax.jit(partial(jm.evaluate, self.potential))
        self.neighbors = self._search(self.R, self.box)
        rng = np.random.default_rng(7)
        self.v = jnp.asarray(rng.normal(size=self.R.shape))
        self.w = jnp.asarray(rng.normal(size=self.R.shape))
        self.out = self.evaluate(self.R, self.box, self.params, self.species)

    def energy(self, *arguments):
        return self.evaluate(*arguments).energy

    def evaluate(self, R, box, params, species):
        return self._compiled_evaluate(params, R, box, species, self._search(R, box))

    def near(self, R, box=None, params=None, neighbors=None):
        """The energy by itself, as a function to differentiate, with the neighbours of the undisturbed system."""
        box, params = self.box if box is None else box, self.params if params is None else params
        neighbors = self.neighbors if neighbors is None else neighbors
        return jm.total_energy(self.potential, params, R, box, self.species, neighbors)

    def at(self, R, box=None, species=None):
        return self.energy(
            R, self.box if box is None else box, self.params, self.species if species is None else species
        )

    @property
    def E(self):
        return self.out.energy

    @cached_property
    def _compiled_derivatives(self):
        return jax.jit(jax.value_and_grad(self.near, (0, 1, 2)))

    def derivatives(self, neighbors):
        """The energy by itself, and its gradients in R, the box and the parameters."""
        return self._compiled_derivatives(self.R, self.box, self.params, neighbors)


def cases(slow=frozenset()):
    group = pytest.mark.xdist_group
    return [pytest.param(n, marks=[group(n)] + [pytest.mark.slow] * (n in slow)) for n in sorted(CASES)]


costly = pytest.mark.parametrize("subject", cases(slow=VARIANTS), indirect=True, scope="module")


@pytest.fixture(scope="module", params=cases())
def subject(request):
    return Subject(CASES[request.param]())


def slope(f, h=1e-3):
    """df/dt at t = 0 by central differences, error O(h^4)."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def close(a, b, scale=1.0, **tolerance):
    tolerance = tolerance or ROUNDING
    np.testing.assert_allclose(np.asarray(a) / float(scale), np.asarray(b) / float(scale), **tolerance)


def test_the_energy_is_finite_and_not_trivial(subject):
    assert np.isfinite(subject.E)
    assert np.abs(subject.out.forces).max() > 1e-4


def test_translation_and_lattice_vectors_change_nothing(subject):
    close(subject.at(subject.R + jnp.array([0.3, -1.7, 11.2])), subject.E)
    images = jnp.asarray(np.random.default_rng(3).integers(-2, 3, subject.R.shape), subject.R.dtype)
    close(subject.at(subject.R + images @ subject.box), subject.E)


def test_rotation_and_reflection_change_nothing(subject):
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    for S in (Q, -Q):
        rotated = subject.evaluate(subject.R @ S.T, subject.box @ S.T, subject.params, subject.species)
        close(rotated.energy, subject.E)
        close(rotated.forces, subject.out.forces @ S.T, scale=np.abs(subject.out.forces).max())


def test_the_order_of_atoms_does_not_matter(subject):
    if subject.case.labelled:
        pytest.skip(LABELLED)
    order = np.random.default_rng(2).permutation(len(subject.R))
    permuted = subject.evaluate(subject.R[order], subject.box, subject.params, subject.species[order])
    close(permuted.energy, subject.E)
    close(permuted.energies, subject.out.energies[order])
    close(permuted.forces, subject.out.forces[order], scale=np.abs(subject.out.forces).max())


@costly
def test_a_supercell_is_the_sum_of_its_cells(subject):
    if subject.case.labelled:
        pytest.skip(LABELLED)
    s = subject.system
    R = np.concatenate([s.R, s.R + s.box[1]])
    double = jm.System(np.tile(s.numbers, 2), R, s.box * np.array([1, 2, 1])[:, None])
    energy = jax.jit(jm.energy_fn(subject.potential, double))(double.R, double.box, subject.params)
    close(energy, 2 * subject.E)


@costly
def test_more_padding_changes_nothing(subject):
    generous = replace(
        subject.search,
        capacities=tuple(c + 5 for c in subject.search.capacities),
        ghosts=subject.search.ghosts + 13,
        grid=replace(subject.search.grid, capacity=subject.search.grid.capacity + 3),
    )

    def run(R, box, species):
        R = jnp.concatenate([R, R[:2]])  # two atoms that do not exist, on top of two that do
        neighbors = generous(R[:-2], box)
        n = len(R)
        none = len(neighbors.owner) - 1
        index = jnp.where(neighbors.index >= n - 2, neighbors.index + 2, neighbors.index)
        grown = replace(
            neighbors,
            index=jnp.pad(index, ((0, 2), (0, 0)), constant_values=none + 2),
            reverse=jnp.pad(neighbors.reverse, ((0, 2), (0, 0)), constant_values=-1),
            owner=jnp.insert(neighbors.owner, n - 2, jnp.array([n - 2, n - 1], jnp.int32)),
            image=jnp.insert(neighbors.image, n - 2, jnp.zeros((2, 3), jnp.int32), axis=0),
        )
        species = jnp.concatenate([species, jnp.array([-1, -1], species.dtype)])
        return jm.evaluate(subject.potential, subject.params, R, box, species, grown, execution=jm.Execution(block=3))

    padded = jax.jit(run)(subject.R, subject.box, subject.species)
    close(padded.energy, subject.E)
    close(padded.energies[:-2], subject.out.energies)
    close(padded.forces[:-2], subject.out.forces, scale=np.abs(subject.out.forces).max())
    close(padded.virial, subject.out.virial, scale=np.abs(subject.out.virial).max())
    assert np.all(padded.energies[-2:] == 0)
    assert np.all(padded.forces[-2:] == 0)


def test_evaluate_is_the_gradient_of_the_energy(subject):
    energy, (dR, dbox, _) = subject.derivatives(subject.neighbors)
    scale = np.abs(subject.out.forces).max()
    close(energy, subject.E)
    close(subject.out.forces, -dR, scale)
    close(subject.out.box_gradient, dbox, np.abs(dbox).max())
    close(jnp.sum(subject.out.energies), subject.E)
    close(subject.out.virial, -(subject.R.T @ dR + subject.box.T @ dbox), np.abs(subject.out.virial).max())


def test_forces_and_virial_are_finite_differences(subject):
    work = -jnp.sum(subject.out.forces * subject.v)
    close(slope(lambda t: subject.at(subject.R + t * subject.v)), work, max(abs(work), 1), **DERIVATIVE)
    if not subject.case.strain:
        return  # the forces are tested; the virial has its own numbers in the potential's tests
    strain = jnp.asarray(np.random.default_rng(5).normal(size=(3, 3)))
    F = lambda t: jnp.eye(3) + t * strain
    found = slope(lambda t: subject.at(subject.R @ F(t), subject.box @ F(t)), h=2e-4)
    exact = -jnp.sum(subject.out.virial * strain)
    close(found, exact, max(abs(exact), 1), **DERIVATIVE)


def test_site_virials_sum_to_the_virial(subject):
    if not subject.potential.local:
        pytest.skip("site virials are those of the edges only where a potential is not local")
    close(jnp.sum(subject.out.virials, axis=0), subject.out.virial, np.abs(subject.out.virial).max())


@costly
def test_second_derivatives_agree_in_every_mode(subject):
    """Forward over reverse, reverse over reverse and finite differences of the forces, and plain forward mode."""
    energy = subject.near

    @jax.jit
    def modes(R, v, w):
        grad = jax.grad(energy)
        return (
            jax.jvp(energy, (R,), (v,))[1],
            jnp.sum(w * jax.jvp(grad, (R,), (v,))[1]),
            jnp.sum(v * jax.grad(lambda R: jnp.sum(grad(R) * w))(R)),
        )

    first, forward_reverse, reverse_reverse = modes(subject.R, subject.v, subject.w)
    close(first, -jnp.sum(subject.out.forces * subject.v), max(abs(first), 1))
    close(forward_reverse, reverse_reverse, max(abs(reverse_reverse), 1))
    force = lambda t: subject.evaluate(subject.R + t * subject.v, subject.box, subject.params, subject.species).forces
    found = -jnp.sum(subject.w * slope(force, h=3e-4))
    close(found, forward_reverse, max(abs(forward_reverse), 1), rtol=1e-5, atol=1e-5)


@costly
def test_the_gradient_in_the_parameters_is_a_finite_difference(subject):
    if not jax.tree.leaves(subject.params):
        pytest.skip("this potential has no parameters")
    grad = subject.derivatives(subject.neighbors)[1][2]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grad))
    # Each array of parameters is moved by a thousandth of its own size.
    step = jax.tree.map(lambda x: 1e-3 * jnp.where(x == 0, 0.0, x), subject.params)
    exact = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(grad), jax.tree.leaves(step)))
    moved = lambda t: jax.tree.map(lambda x, d: x + t * d, subject.params, step)
    found = slope(lambda t: subject.energy(subject.R, subject.box, moved(t), subject.species), h=0.1)
    close(found, exact, max(abs(exact), 1e-2), **DERIVATIVE)


def test_the_energy_is_linear_in_the_linear_parameters(subject):
    part = subject.potential.linear_parameters(subject.params)
    if not jax.tree.leaves(part):
        pytest.skip("the energy is linear in no parameter")
    rng = np.random.default_rng(13)
    step = jax.tree.map(lambda x: (0.01 + jnp.abs(x)) * rng.normal(size=x.shape), part)

    def at(t):
        moved = jax.tree.map(lambda x, dx: x + t * dx, part, step)
        return subject.energy(subject.R, subject.box, jm.merge(moved, subject.params), subject.species)

    change = at(1.0) - subject.E
    assert np.abs(change) > 1e-6
    close(at(3.0) - subject.E, 3 * change, scale=max(1.0, np.abs(change)))


@costly
def test_vmap_is_a_loop(subject):
    Rs = jnp.stack([subject.R, subject.R + 0.02 * subject.v])
    batched = jax.jit(jax.vmap(subject.near))(Rs)
    rest = (subject.box, subject.species, subject.neighbors)
    close(batched, jnp.stack([subject._compiled_evaluate(subject.params, R, *rest).energy for R in Rs]))


@costly
def test_an_overflow_is_never_silent(subject):
    small = replace(subject.search, capacities=(1,) * len(subject.search.capacities))
    assert jax.jit(lambda R, box: small(R, box).overflow)(subject.R, subject.box)
    lost = replace(subject.neighbors, overflow=jnp.array(True))
    arguments = (subject.params, subject.R, subject.box, subject.species, lost)
    found = [subject._compiled_evaluate(*arguments).energy, subject.derivatives(lost)[0]]
    if subject.potential.uses_neighbors:
        assert np.isnan(found).all()
    else:  # what looks at no list has lost nothing
        np.testing.assert_allclose(found, subject.derivatives(subject.neighbors)[0], rtol=1e-12)


@costly
def test_energy_and_forces_are_smooth_at_the_cutoff(subject):
    """A pair crossing the cutoff; the largest jump allowed is the change of a smooth function over the step."""
    if not subject.case.smooth:
        pytest.skip("this model is cut off by definition")
    if not subject.case.free:
        pytest.skip("this model needs a box")
    if subject.case.labelled:
        pytest.skip(LABELLED)
    kinds = np.array([subject.potential.species[0], subject.potential.species[-1]])
    cut = subject.potential.cutoff
    pair = jm.System(kinds, [[0, 0, 0], [0.9 * cut, 0, 0]])
    present = tuple(dict.fromkeys(kinds.tolist()))
    potential, params = subject.potential, subject.params
    if present != potential.species:
        potential, params = potential.restrict(params, present)
    species = jnp.asarray(species_index(present, kinds))
    search = jm.NeighborSearch.allocate(pair.R, None, pair.pbc, potential.shells, skin=cut)
    neighbors = jax.jit(search)(jnp.asarray(pair.R), None)  # holds the pair up to twice the cutoff

    def of(d):
        out = jm.evaluate(potential, params, jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * d, None, species, neighbors)
        return out.energy, out.forces[1, 0]

    d = cut + np.array([-1e-5, -1e-6, 0.0, 1e-6, 1e-5, 0.5 * cut])
    energy, force = jax.jit(jax.vmap(of))(jnp.asarray(d))
    apart = jnp.full(6, energy[-1])
    close(energy, apart, rtol=0, atol=1e-7)
    close(force, jnp.zeros(6), rtol=0, atol=1e-3)
    close(energy[2:], apart[2:], rtol=1e-14, atol=1e-40)  # (1 - r/rc)^3 of an r rounded down is 1e-48


@costly
def test_the_heat_flux_is_the_rate_of_the_energy_moment(subject):
    """J = d/dt sum_i r_i E_i on an open cluster (PHYSICS.md, section 4)."""
    if not subject.case.free:
        pytest.skip("this model needs a box")
    if not all(
        term.local or isinstance(term, jm.MessagePassing) for term, *_ in subject.potential.terms(subject.params)
    ):
        pytest.skip("no heat flux where site energies are neither local nor in steps: see heat_flux_fn")
    cluster = jm.System(subject.system.numbers, subject.system.R)
    present = tuple(z for z in subject.potential.species if z in set(cluster.numbers.tolist()))
    potential, params = subject.potential, subject.params
    if present != potential.species:
        potential, params = potential.restrict(params, present)
    species = jnp.asarray(species_index(present, cluster.numbers))
    search = jm.NeighborSearch.allocate(cluster.R, None, cluster.pbc, potential.shells)
    neighbors = jax.jit(search)(subject.R, None)

    def moment(R):
        graph = full_graph(potential, R, None, species, neighbors)
        return potential.site_energies(params, graph) @ R

    flux_of = jm.heat_flux_fn(potential, cluster)

    @jax.jit
    def both(R, v):
        out = jm.evaluate(potential, params, R, None, species, neighbors)
        power = jnp.sum(out.forces * v, axis=1)  # the rate of the kinetic energies
        return flux_of(R, None, params, v), jax.jvp(moment, (R,), (v,))[1] + power @ R

    flux, rate = both(subject.R, subject.v)
    close(flux, rate, max(np.abs(rate).max(), 1))


@costly
def test_float32_and_mixed_precision_stay_near(subject):
    """Forces within 3e-4 of the largest force or eV/Å: the error of a float32 evaluation."""
    half = partial(jax.tree.map, lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x)

    run = jax.jit(jm.evaluate, static_argnums=0, static_argnames="execution")
    arguments = (subject.potential, subject.params, subject.R, subject.box, subject.species, subject.neighbors)
    mixed = run(*arguments, execution=jm.Execution(precision="mixed"))
    with jax.enable_x64(False):  # as users have it who do not ask for double precision
        single = run(subject.potential, *half(arguments[1:]))
    assert mixed.energy.dtype == jnp.float64
    assert single.forces.dtype == jnp.float32
    scale = max(np.abs(subject.out.forces).max(), 1)
    for out in (mixed, single):
        close(out.forces, subject.out.forces, scale, rtol=0, atol=3e-4)
        close(out.energy, subject.E, max(abs(subject.E), 1), rtol=0, atol=3e-5)
