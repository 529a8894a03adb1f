"""MACE: options against numbers of mace-torch (written by `mace_options.py`), and its parts against simple forms."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmlp as jm
from jaxmlp.formats import mace
from jaxmlp.potentials.mace import MACE
from jaxmlp.potentials.mace_nonlinear import ATTENTION, NONLINEAR

QUANTITIES = ("energy", "node_energy", "forces", "virials", "slope")
OPTIONS = Path(__file__).parent / "mace_options.npz"
NAMES = (
    "agnostic-three-layers-edge", "chebyshev-agnesi-density-so3", "gaussian-soft-heads", "message-skip-twice",
    "one-layer-degree-four", "pseudo-bias-keep", "nonlinear-edge-heads", "nonlinear-mixed-cut", "nonlinear-lacking",
    "attention", "attention-cut",
)  # fmt: skip


SLOW_ATTENTION = pytest.param(ATTENTION, marks=pytest.mark.slow)  # its layers are those of the nonlinear block


@pytest.mark.parametrize("name", NAMES)
def test_options_agree_with_mace_torch(tmp_path, name):
    with np.load(OPTIONS) as z:
        config = json.loads(str(z["configs"]))[name]
        start = f"{name}/state/"
        state = {key.removeprefix(start): z[key] for key in z.files if key.startswith(start)}
        system = jm.System(z["numbers"], z["positions"], z["cell"])
        heads = range(len(config["heads"]))
        expected = [{q: z[f"{name}/{k}/{q}"] for q in QUANTITIES} for k in heads]
        direction = z["direction"]
    np.savez(tmp_path / "weights.npz", **state)
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = jax.jit(
        lambda potential, params: jm.evaluate_fn(potential, system)(system.R, system.box, params), static_argnums=0
    )
    for head, want in zip(config["heads"], expected):
        potential, params = mace.load(tmp_path, head=head)
        out = run(potential, params)
        np.testing.assert_allclose(out.energy, want["energy"][0], rtol=1e-10)
        np.testing.assert_allclose(out.energies, want["node_energy"], rtol=1e-9)
        np.testing.assert_allclose(-np.sum(out.forces * direction), want["slope"], rtol=1e-6, atol=1e-8)
        if potential.radial_type == "chebyshev":
            continue  # torch knows no derivative of chebyshev_polynomial_t, and leaves it out
        scale = np.abs(want["forces"]).max()
        np.testing.assert_allclose(out.forces, want["forces"], 0, 1e-9 * scale)
        np.testing.assert_allclose(out.virial, want["virials"][0], 0, 1e-9 * scale)


def crystal(potential):
    """Two atoms of each species in a skewed cell."""
    rng = np.random.default_rng(2)
    numbers = np.repeat(potential.species, 2)
    box = 4.2 * (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    return jm.System(
        numbers, np.array([[0, 0, 0], [2, 2, 0.3], [2, 0, 2], [0, 2, 2]]) + rng.normal(size=(4, 3)) / 9, box
    )


def small(**options):
    potential = MACE((14, 8), 3.9, hidden="3x0e+3x1o", max_ell=2, num_bessel=4, radial_mlp=(6, 6), mlp=4, **options)
    return potential, potential.init(jax.random.key(4))


@pytest.mark.parametrize("block", ["RealAgnosticResidualInteractionBlock", SLOW_ATTENTION, NONLINEAR])
def test_cuequivariance_computes_the_same(block):
    """Its plain form, as there is no GPU."""
    pytest.importorskip("cuequivariance_jax")
    options = {"num_bessel": 3, "radial_mlp": (4,), "attention_mlp": (4,), "mlp": 2, "apply_cutoff": False}
    potential = MACE((14, 8), 3.9, hidden="2x0e+2x1o", max_ell=1, interactions=(block,) * 2, **options)
    params = potential.init(jax.random.key(6))
    system = crystal(potential)
    expected, found = (
        jax.jit(jm.evaluate_fn(replace(potential, kernels=kernels), system))(system.R, system.box, params)
        for kernels in ("jax", "cuequivariance")
    )
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, 0, 1e-11)


def test_compressed_radial_networks_keep_their_tolerance():
    potential, params = small(interactions=("RealAgnosticResidualInteractionBlock",) * 2)
    series, p = potential.compress(params, closest=0.8, tolerance=1e-9)
    system = crystal(potential)
    pairs = ((potential, params), (series, p))
    exact, fast = (jax.jit(jm.evaluate_fn(a, system))(system.R, system.box, b) for a, b in pairs)
    assert all(table.error < 1e-9 for table in series.tables)
    np.testing.assert_allclose(fast.energies, exact.energies, 0, 1e-8)
    np.testing.assert_allclose(fast.forces, exact.forces, 0, 1e-7)
    with pytest.raises(ValueError, match="compressed already"):
        series.compress(p)
    with pytest.raises(ValueError, match="'agnesi'"):
        small(distance_transform="agnesi")[0].compress(small(distance_transform="agnesi")[1])
    for block in (ATTENTION, NONLINEAR):
        with pytest.raises(ValueError, match=f"{block}, whose networks see the atoms"):
            small(interactions=("RealAgnosticInteractionBlock", block))[0].compress(params)


def test_what_the_blocks_cannot_do_is_refused():
    with pytest.raises(ValueError, match="has no gate for 0o"):
        MACE((14,), 3.9, hidden="2x0e+2x0o", interactions=(NONLINEAR,) * 2)
    with pytest.raises(ValueError, match="have hidden layers; got none"):
        MACE((14,), 3.9, interactions=(ATTENTION,) * 2, attention_mlp=())


@pytest.mark.parametrize("block", [SLOW_ATTENTION, NONLINEAR])
@pytest.mark.parametrize("apply_cutoff", [True, False])
def test_networks_that_see_atoms_see_none_beyond_the_cutoff(block, apply_cutoff):
    """Their biases, and what they see of the atoms, do not vanish with the radial functions."""
    potential, params = small(interactions=(block,) * 2, attention_mlp=(6, 6), apply_cutoff=apply_cutoff)
    at = lambda x: np.array([[0, 0, 0], [0, 2.1, 0.3], [x, 0, 0]])  # the first atom has one neighbour, and perhaps two
    run = jax.jit(jm.evaluate_fn(potential, jm.System([14, 8, 8], at(3.9 - 1e-6))))
    inside, beyond, far = (run(at(x), None, params).energies[0] for x in (3.9 - 1e-6, 3.9 + 1e-6, 12.0))
    np.testing.assert_allclose(beyond, far, rtol=1e-14)
    step = abs(float(inside - beyond))
    assert step > 1e-7 if apply_cutoff else step < 1e-12  # a step as in the original


@pytest.mark.parametrize("block", ["RealAgnosticInteractionBlock", SLOW_ATTENTION, NONLINEAR])
def test_many_species_give_what_few_do(block):
    """Beyond a few species the first layer's messages are made edge by edge."""
    options = {"num_bessel": 4, "radial_mlp": (6,), "attention_mlp": (6,), "mlp": 4, "apply_cutoff": False}
    many = MACE((1, 6, 7, 8, 14), 3.9, hidden="3x0e", max_ell=1, interactions=(block,) * 2, **options)
    params = many.init(jax.random.key(5))
    few, p = many.restrict(params, (14, 8))
    system = crystal(few)
    species = np.searchsorted(many.species, system.numbers), np.array([0, 0, 1, 1])
    search = jm.NeighborSearch.allocate(system.R, system.box, system.pbc, many.shells)
    R, box = jnp.asarray(system.R), jnp.asarray(system.box)
    neighbors = search(R, box)
    run = jax.jit(jm.evaluate, static_argnums=0)
    a, b = (
        run(*pair, R, box, jnp.asarray(index), neighbors) for pair, index in zip(((many, params), (few, p)), species)
    )
    np.testing.assert_allclose(a.energies, b.energies, rtol=1e-12)
    np.testing.assert_allclose(a.forces, b.forces, 0, 1e-12)
