"""Charges and dipoles as labels, and potentials that need a whole system at once: qNEP, TNEP."""

import json
from dataclasses import replace

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from mixture import POTENTIAL, SPECIES, TRUE, systems

import jaxmlp as jm
from jaxmlp import cli
from jaxmlp.fitting import Loader, Loss, Structure, accuracy, predict, predict_structures, read_structures, train
from jaxmlp.fitting.batches.predictions import plain
from jaxmlp.fitting.training.loss import errors
from jaxmlp.fitting.training.step import batch_errors
from jaxmlp.potentials.nep_charge import NEPCharge
from jaxmlp.potentials.nep_tensor import NEPDipole

SHAPE = dict(species=SPECIES, radial_cutoffs=(5.0, 5.0), angular_cutoffs=(4.0, 4.0), n_max=(2, 1), basis_size=(3, 3))
QNEP = NEPCharge(**SHAPE, l_max=2, neurons=4, mode=1)
TNEP = NEPDipole(**SHAPE, l_max=2, neurons=4)
KINDS = ("energy", "forces", "virial", "charges")
LOSS = Loss(1.0, 1.0, 0.5, charges=1.0, dipole=1.0)


def boxed(count=5):
    """Crystals of 2, 4 and 8 atoms; the clusters get a cell of their own, in no periodic direction."""
    return [s if s.box is not None else s.replace(box=15.0 * np.eye(3)) for s in systems(count)]


def alone(potential, params, all_systems):
    """What each structure alone has, by `evaluate_fn` and `site_fn`."""
    out = []
    for k, s in enumerate(all_systems):
        at = (jnp.asarray(s.R), jnp.asarray(s.box), params)
        found = jax.jit(jm.evaluate_fn(potential, s))(*at)
        q = np.asarray(jax.jit(jm.site_fn(potential, s, "charges"))(*at))
        dipole = None if any(s.pbc) else float(params["sqrt_epsilon"]) * q @ s.R
        out.append(
            Structure(
                s, float(found.energy), found.forces, found.virial, dipole, q, group=f"{len(s)}", source=f"toy {k}"
            )
        )
    return out


def labelled(potential, params, all_systems):
    """Structures with all that a potential predicts, but for dipoles of charges in crystals."""
    structures = [Structure(s, source=f"toy {k}") for k, s in enumerate(all_systems)]
    if potential is TNEP:
        found = predict_structures(potential, params, structures, energy=False, forces=False, dipole=True)
        return [s.replace(dipole=d) for s, d in zip(structures, found.dipole, strict=True)]
    found = predict_structures(potential, params, structures, virial=True, dipole=True, charges=True)
    return [
        s.replace(energy=E, forces=F, virial=W, charges=q, dipole=None if any(s.system.pbc) else d)
        for s, E, F, W, d, q in zip(structures, *found, strict=True)
    ]


@pytest.fixture(scope="module")
def truth():
    params = QNEP.init(jax.random.key(3), float)
    return params | {"w1_charge": 5 * params["w1_charge"], "sqrt_epsilon": jnp.asarray(1.3)}


@pytest.fixture(scope="module")
def data(truth):
    all_systems = boxed(4)
    return alone(QNEP, truth, [all_systems[k] for k in (0, 1, 3)])


def whole_batch(structures, potential=QNEP, kinds=(*KINDS, "dipole"), size=6):
    loader = Loader(structures, potential, size, buckets=1, kinds=kinds)
    (batch,) = [b for b, _ in zip(loader.epoch(), range(1))]
    return loader.ready, batch


def test_each_system_of_a_batch_is_what_it_is_alone(data, truth):
    """Also with copies that fill up the batch, and the labels of no other structure."""
    ready, batch = whole_batch(data)
    assert batch.whole
    found = jax.jit(lambda p, b: predict(ready, p, b, virial=True, charges=True, dipole=True))(truth, batch)
    for k, i in enumerate(np.asarray(batch.ids)):
        s, own = data[i], np.asarray(batch.real & (batch.structure == k))
        np.testing.assert_allclose(found.energy[k], s.energy, rtol=1e-10)
        np.testing.assert_allclose(found.forces[own], s.forces, atol=1e-10)
        np.testing.assert_allclose(found.virial[k], s.virial, atol=1e-9)
        np.testing.assert_allclose(found.charges[own], s.charges, atol=1e-12)
        if s.dipole is not None:
            np.testing.assert_allclose(found.dipole[k], s.dipole, atol=1e-11)
    *_, last = Loader(data, QNEP, 2, buckets=1, kinds=("energy",)).epoch()
    assert last.ids.tolist() == [2, -1]
    assert last.weights["energy"].tolist() == [1, 0]
    np.testing.assert_allclose(predict(ready, truth, last, forces=False).energy[0], data[2].energy, rtol=1e-10)


def test_the_gradient_in_one_pass_is_that_of_jax_and_of_differences(data, truth):
    ready, batch = whole_batch(data)
    params = QNEP.init(jax.random.key(5), float) | {"sqrt_epsilon": jnp.asarray(1.1)}
    kinds = (*KINDS, "dipole")
    total = lambda sums: sum(jnp.sum(x) for x, _ in sums.values())
    ours = jax.jit(jax.value_and_grad(lambda p: total(errors(LOSS, ready, p, batch, kinds))))

    def simple(params):
        of_atoms = predict(ready, params, batch, energy=False, charges=True, dipole=True)
        found = plain(ready, params, batch)._replace(dipole=of_atoms.dipole, charges=of_atoms.charges)
        return total(LOSS.sums(found, None, batch, kinds))

    value, gradient = ours(params)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(jax.jit(jax.grad(simple))(params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10 * float(value))
    rng = np.random.default_rng(0)
    v = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
    f = lambda h: float(ours(jax.tree.map(lambda x, d: x + h * d, params, v))[0])
    h = 2e-4
    slope = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
    exact = sum(float(jnp.vdot(g, d)) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(v), strict=True))
    np.testing.assert_allclose(exact, slope, rtol=1e-7)


def test_a_qnep_learns_energies_forces_virials_charges_and_dipoles_of_another(truth):
    structures = labelled(QNEP, truth, boxed(8))
    rng = np.random.default_rng(1)
    start = jax.tree.map(lambda x: x * jnp.asarray(1 + 0.1 * rng.normal(size=x.shape)), truth)
    loss = Loss(1.0, 1.0, 0.5, dipole=10.0, charges=10.0)
    found = train(QNEP, start, structures, structures, loss=loss, optimizer=2e-3, epochs=30, batch_size=8)
    first, last = found.history[0], found.history[-1]
    for kind in (*KINDS, "dipole"):
        assert last[f"rmse_{kind}"] < 0.4 * first[f"rmse_{kind}"], kind
        assert first[f"train_{kind}"] > 0
    after = accuracy(structures, predict_structures(QNEP, found.params, structures, virial=True, charges=True))
    best = found.history[found.best - 1]
    np.testing.assert_allclose(after.charges.rmse, best["rmse_charges"], rtol=1e-10)
    np.testing.assert_allclose(after.virial.mae, best["mae_virial"], rtol=1e-10)
    assert after.charges.count == sum(map(len, structures))


def test_a_dipole_model_has_no_energies_and_learns_dipoles():
    truth = TNEP.init(jax.random.key(2), float)
    structures = labelled(TNEP, truth, systems(8))
    rng = np.random.default_rng(1)
    start = jax.tree.map(lambda x: x * jnp.asarray(1 + 0.1 * rng.normal(size=x.shape)), truth)
    loss = Loss(0.0, 0.0, dipole=1.0)
    found = train(TNEP, start, structures, structures, loss=loss, optimizer=2e-3, epochs=60, batch_size=8)
    assert found.history[-1]["rmse_dipole"] < 0.3 * found.history[0]["rmse_dipole"]
    s = structures[2].system
    whole = jax.jit(jm.site_fn(TNEP, s, "dipoles"))(jnp.asarray(s.R), jnp.asarray(s.box), truth).sum(axis=0)
    np.testing.assert_allclose(structures[2].dipole, whole, atol=1e-11)
    with pytest.raises(ValueError, match="NEPDipole has no energies"):
        train(TNEP, start, [s.replace(energy=0.0) for s in structures], loss=Loss(1.0, 0.0), epochs=1)


def test_what_cannot_be_fitted_is_refused(data, truth):
    with pytest.raises(ValueError, match="LennardJones predicts no charges: leave charges out"):
        train(POTENTIAL, TRUE, data, loss=Loss(0.0, 0.0, charges=1.0), epochs=1)
    periodic = [s.replace(dipole=np.zeros(3)) for s in data]
    with pytest.raises(ValueError, match=r"toy 0: the dipole of charges in a periodic system depends on which image"):
        train(QNEP, truth, periodic, loss=Loss(dipole=1.0), epochs=1)
    with pytest.raises(ValueError, match="every system needs a box"):
        Loader([Structure(s) for s in systems(4)], QNEP)
    with pytest.raises(ValueError, match="one of the two is 0"):
        jm.fitting.build("nep", SPECIES, charge_mode=1, model_type=1)
    with pytest.raises(ValueError, match="charges of 2 atoms must be"):
        Structure(data[0].system, charges=np.zeros(3))


def test_only_labels_that_are_there_count(data, truth):
    some = [s.replace(charges=None) if k % 2 else s for k, s in enumerate(data)]
    ready, batch = whole_batch(some, kinds=("charges",))
    off = truth | {"w1_charge": 1.1 * truth["w1_charge"]}
    sums = errors(LOSS, ready, off, batch, ("charges",))["charges"]
    judged = batch_errors(LOSS, ready, off, batch, ("charges",))["charges"]
    for k, i in enumerate(np.asarray(batch.ids)):
        assert (sums[0][k] > 0) == (i % 2 == 0) == (sums[1][k] > 0) == (judged[-1][k] > 0)


@pytest.mark.parametrize("name", ["charges", "charge", "REF_charges", "initial_charges"])
def test_names_of_charges_and_dipoles(tmp_path, name):
    s = boxed(1)[0]
    atoms = s.to_ase()
    atoms.arrays[name] = np.array([0.3, -0.3])
    atoms.info["dipole" if name.startswith("c") else "REF_dipole"] = np.array([0.1, 0.2, 0.3])
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    (found,) = read_structures(tmp_path / "a.xyz", units={"dipole": "Debye"})
    np.testing.assert_allclose(found.charges, [0.3, -0.3])
    np.testing.assert_allclose(found.dipole, np.array([0.1, 0.2, 0.3]) * 0.2081943, rtol=1e-6)


def test_a_qnep_from_the_command_line(data, tmp_path, capsys):
    frames = []
    for s in data:
        atoms = s.system.to_ase()
        atoms.info["energy"] = s.energy
        atoms.arrays["forces"], atoms.arrays["charges"] = s.forces, s.charges
        frames.append(atoms)
    ase.io.write(tmp_path / "train.xyz", frames, format="extxyz")
    nep = {"family": "nep", "cutoff": [5.0, 4.0], "n_max": [2, 1], "basis_size": [3, 3], "l_max": [2], "neurons": 4}
    config = {
        "data": {"train": "train.xyz", "check": False, "energies": "none"}, "epochs": 2,
        "potential": nep | {"charge_mode": 2}, "loss": {"charges": 10.0, "error": "huber"},
    }  # fmt: skip
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["fit", str(tmp_path / "fit.yaml"), "-o", str(tmp_path / "out"), "-q"]) == 0
    assert "charges (me)" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sets"]["train"]["all"]["charges"]["count"] == sum(map(len, data))
    potential, _ = jm.load(tmp_path / "out" / "potential.safetensors")
    assert potential.mode == 2
    assert potential.k_max is None
    assert replace(potential, k_max=(1, 1, 1)).for_boxes([np.eye(3)]).k_max == (1, 1, 1)
