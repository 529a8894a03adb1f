"""Message passing in blocks of rows against the plain form: energies, all derivatives, the heat flux, devices."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import CASES, rattled

import jaxmlp as jm
from jaxmlp.evaluate import full_graph
from jaxmlp.message_passing import parameter_gradient
from jaxmlp.system import species_index

CUTOFF = 3.6


@dataclass(frozen=True)
class Charges(jm.MessagePassing):
    """Three steps of a nonlinear exchange of scalars and vectors, with nothing special about any of it."""

    species: tuple[int, ...]
    cutoff: float = CUTOFF
    block: ClassVar[int] = 3

    steps = 3

    def step(self, k, params, graph, own, theirs):
        w = params["w"][k]
        r = graph.distances
        f = jnp.where(r < self.cutoff, (1 - r / self.cutoff) ** 4, 0.0)
        unit = graph.vectors / r[:, None]
        if k == 0:
            scalar = (
                jnp.einsum("nm,nm->n", f, params["charge"][graph.neighbor_species]) * params["charge"][graph.species]
            )
            vector = jnp.einsum("nm,nam->na", f, unit)
            return (scalar, vector), {"s": jnp.tanh(w * scalar), "v": vector}
        s, v = own
        s = s + w * jnp.sum(f * theirs["s"] ** 2, axis=1) + jnp.einsum("nm,nam,nma->n", f, unit, theirs["v"])
        v = v + jnp.einsum("nm,nma->na", f * theirs["s"], theirs["v"])
        if k == 1:
            return (s, v), {"s": jnp.sin(s), "v": v * w}
        return params["scale"] * (s + jnp.sum(v * v, axis=1)), None


@pytest.fixture(scope="module")
def case():
    potential = Charges((14, 6))
    params = {"w": jnp.asarray([0.7, -0.4, 0.9]), "charge": jnp.asarray([1.0, -0.6]), "scale": jnp.asarray(1.3)}
    system = rattled((14, 6), 2.4)
    species = jnp.asarray(species_index(potential.species, system.numbers))
    R, box = jnp.asarray(system.R), jnp.asarray(system.box)
    neighbors = jax.jit(jm.NeighborSearch.allocate(R, box, system.pbc, potential.shells))(R, box)
    return potential, params, R, box, species, neighbors


def plain(potential, params, R, box, species, neighbors):
    return jnp.sum(potential.site_energies(params, full_graph(potential, R, box, species, neighbors)))


@pytest.mark.parametrize("scatter", [True, False])
@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_agree_with_the_plain_form(case, scatter, block):
    potential, params, R, box, *rest = case
    execution = jm.Execution(block=block, scatter=scatter)
    out = jax.jit(lambda R, box: jm.evaluate(potential, params, R, box, *rest, execution=execution))(R, box)
    energy, (dR, dbox) = jax.value_and_grad(plain, (2, 3))(potential, params, R, box, *rest)
    np.testing.assert_allclose(out.energy, energy, rtol=1e-13)
    np.testing.assert_allclose(out.forces, -dR, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.box_gradient, dbox, rtol=0, atol=1e-11)
    np.testing.assert_allclose(out.virial, -(R.T @ dR + box.T @ dbox), rtol=0, atol=1e-11)
    dp = parameter_gradient(potential, params, R, box, *rest, execution)
    for name, d in jax.grad(plain, 1)(potential, params, R, box, *rest).items():
        np.testing.assert_allclose(dp[name], d, rtol=1e-12, err_msg=name)


def test_third_derivatives_with_parameters_agree_with_the_plain_form(case):
    """d/dparams of (forces . v) in both modes, as training needs them, and along R again."""
    potential, params, R, box, *rest = case
    v, w = np.random.default_rng(0).normal(size=(2, *R.shape))
    moved = jax.tree.map(lambda x: 0.3 * x + 0.1, params)

    def numbers(energy):
        slope = lambda params, R: jnp.sum(jax.grad(energy, 1)(params, R) * v)
        gradient = jax.jit(jax.grad(slope))(params, R)
        curve = lambda R: jnp.sum(jax.grad(slope, 1)(params, R) * w)
        return gradient, jax.jvp(slope, (params, R), (moved, w))[1], jax.jvp(curve, (R,), (v,))[1]

    found = numbers(lambda params, R: jm.total_energy(potential, params, R, box, *rest))
    expected = numbers(lambda params, R: plain(potential, params, R, box, *rest))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected)


@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
def test_mixed_precision_computes_steps_in_single_precision(case, precision):
    potential, params, R, *rest = case
    mixed = jm.evaluate(potential, params, R, *rest, execution=jm.Execution(precision=precision))
    full = jm.evaluate(potential, params, R, *rest)
    assert mixed.forces.dtype == jnp.float64
    assert 1e-9 < np.abs(mixed.forces - full.forces).max() < 1e-5


def test_the_flux_of_a_crystal_is_that_of_its_copies(case):
    """Explicit copies: sum over i in the cell and k in all of (r_i - r_k) (dE_i/dr_k . v_k)."""
    potential, params, R, box, species, _ = case
    n, v = len(R), np.random.default_rng(5).normal(size=R.shape)
    flux = jm.heat_flux_fn(potential, jm.System(np.array([14, 6])[species], R, box))(R, box, params, v)
    reach = range(-6, 7)
    shifts = np.array([[0, 0, 0]] + [[a, b, c] for a in reach for b in reach for c in reach if (a, b, c) != (0, 0, 0)])
    span = potential.steps * potential.cutoff
    X = (np.asarray(R)[None] + (shifts @ np.asarray(box))[:, None]).reshape(-1, 3)
    near = np.min(np.linalg.norm(X[:, None] - X[None, :n], axis=2), axis=1) < span
    X, kinds, V = X[near], np.tile(species, len(shifts))[near], np.tile(v, (len(shifts), 1))[near]
    search = jm.NeighborSearch.allocate(X, None, (False,) * 3, potential.shells)
    neighbors = jax.jit(search)(jnp.asarray(X), None)
    X, V = jnp.asarray(X), jnp.asarray(V)
    energies = lambda X: potential.site_energies(params, full_graph(potential, X, None, jnp.asarray(kinds), neighbors))[
        :n
    ]
    E, rates = jax.jvp(energies, (X,), (V,))
    power = jnp.sum(jax.grad(lambda X: jnp.sum(energies(X)))(X) * V, axis=1)
    np.testing.assert_allclose(flux, E @ v + rates @ R - power @ X, rtol=1e-10, atol=1e-10)


def test_two_devices_give_what_one_does(on_two_devices):
    program = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
import jaxmlp as jm
from test_message_passing import Charges
from registry import CASES, rattled
system = rattled((14, 6), 2.4)
potential = Charges((14, 6))
params = {"w": jnp.asarray([0.7, -0.4, 0.9]), "charge": jnp.asarray([1.0, -0.6]), "scale": jnp.asarray(1.3)}
R, box = jnp.asarray(system.R), jnp.asarray(system.box)
species = jnp.asarray([0, 1] * 4)
neighbors = jm.NeighborSearch.allocate(R, box, system.pbc, potential.shells)(R, box)
runs = [jm.Execution(devices=d, scatter=s) for d, s in ((1, True), (2, True), (2, False))]
one, *others = (jm.evaluate(potential, params, R, box, species, neighbors, execution=run) for run in runs)
for two in others:
    np.testing.assert_allclose(one.forces, two.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.virial, two.virial, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.energy, two.energy, rtol=1e-13)
"""
    on_two_devices(program)


@pytest.mark.parametrize("name", ["allegro", "dimenet++", "egnn", "mace", "nequip", "painn", "schnet"])
def test_a_cell_of_one_atom_is_a_share_of_its_supercell(name):
    """The cell is shorter than one cutoff, and much shorter than the receptive field: the atom sees itself again."""
    case = CASES[name]()
    box = 2.3 * np.array([[1.0, 0.1, 0.0], [0.0, 1.1, 0.2], [-0.1, 0.0, 0.9]])
    one = jm.System(case.potential.species[:1], np.zeros((1, 3)), box)
    three = jm.System(np.repeat(one.numbers, 3), np.arange(3)[:, None] * box[1], box * np.array([1, 3, 1])[:, None])
    share, total = (
        jax.jit(jm.energy_fn(case.potential, system, headroom=0))(system.R, system.box, case.params)
        for system in (one, three)
    )
    np.testing.assert_allclose(3 * share, total, rtol=1e-11)
