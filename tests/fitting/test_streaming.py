"""Sets on disk: what is read is what was written, training sees the same batches, and few structures are in memory."""

import gc
import json

import jax
import numpy as np
import pytest
import yaml
from mixture import POTENTIAL, SPECIES, labelled, systems, wrong

import jaxmlp as jm
from jaxmlp import cli
from jaxmlp.fitting import (
    Loader,
    Loss,
    StreamingLoader,
    Structure,
    StructureStore,
    fit_linear,
    fit_reference_energies,
    train,
    train_lbfgs,
)
from jaxmlp.fitting.data import store as stores
from jaxmlp.potentials.mtp import MTP

DATA = labelled(systems(24))
OPTIONS = {"loss": Loss(1.0, 1.0, 0.1), "optimizer": 3e-3, "seed": 1}


def mixed():
    """Structures with some of all labels."""
    rng = np.random.default_rng(0)
    out = []
    for k, s in enumerate(DATA):
        n = len(s)
        v = rng.normal(size=(1 + k % 2, n, 3))
        out.append(
            s.replace(
                energy=None if k % 5 == 1 else s.energy, forces=None if k % 3 == 1 else s.forces,
                virial=None if k % 4 == 1 else s.virial, dipole=rng.normal(size=3) if k % 2 else None,
                charges=rng.normal(size=n) if k % 3 == 2 else None, hessian=(v, 2 * v) if k % 4 == 3 else None,
                weight=1.0 + k, source=f"toy {k}",
            )
        )  # fmt: skip
    return out


def same(a: Structure, b: Structure):
    for name in ("numbers", "R", "box", "pbc"):
        np.testing.assert_array_equal(getattr(a.system, name), getattr(b.system, name))
    for name in ("energy", "forces", "virial", "dipole", "charges", "weight", "group", "source"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            np.testing.assert_array_equal(x, y)
    assert (a.hessian is None) == (b.hessian is None)
    if a.hessian is not None:
        np.testing.assert_array_equal(np.array(a.hessian), np.array(b.hessian))


def test_a_store_gives_back_what_was_written(tmp_path):
    written = mixed()
    store = StructureStore.write(iter(written), tmp_path, shard=5, open=2)
    assert len(store) == 24
    assert store.sizes == (5, 5, 5, 5, 4)
    for k in (23, 0, 11, 12, 13):
        same(store[k], written[k])
    for a, b in zip(store, written, strict=True):
        same(a, b)
    part = store.select([20, 3, 4]).select([2, 0])
    same(part[0], written[4])
    same(part[-1], written[20])
    hoods = part.neighborhoods(POTENTIAL)
    for h, g in zip(hoods, Loader([written[4], written[20]], POTENTIAL).hoods, strict=True):
        jax.tree.map(np.testing.assert_array_equal, h, g)
    assert fit_reference_energies(store, SPECIES) == fit_reference_energies(written, SPECIES)
    assert [s.source for s in store.some(3)] == ["toy 0", "toy 11", "toy 23"]


def test_a_store_that_makes_no_sense(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no structures"):
        StructureStore(tmp_path)
    with pytest.raises(ValueError, match="at least one structure"):
        StructureStore.write([], tmp_path)
    with pytest.raises(ValueError, match="shard is a number of structures"):
        StructureStore.write(DATA, tmp_path, shard=0)
    store = StructureStore.write(DATA[:3], tmp_path)
    with pytest.raises(ValueError, match=r"toy 0: this potential knows .*Ar"):
        store.neighborhoods(MTP((10,), 5.0, 2.0, 4, 4))
    config = {"potential": {"family": "nep"}, "data": {"stream": True}}
    with pytest.raises(ValueError, match="stream needs a folder"):
        jm.fit(config, train=iter(DATA))
    with pytest.raises(ValueError, match="stream goes with method gradient or linear"):
        jm.fit(config, method="snes", output=str(tmp_path))


def test_one_window_is_a_loader_and_many_have_every_structure_once(tmp_path):
    whole = StreamingLoader(StructureStore.write(DATA, tmp_path / "a", shard=8, open=3), POTENTIAL, 4)
    memory = Loader(DATA, POTENTIAL, 4)
    assert whole.shapes == memory.shapes
    for seed in (None, 3, (1, 2)):
        for (a, x), (b, y) in zip(whole.plan(seed), memory.plan(seed), strict=True):
            assert a == b
            np.testing.assert_array_equal(x, y)
    for a, b in zip(whole.epoch(3), memory.epoch(3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)
    some = StreamingLoader(StructureStore.write(DATA, tmp_path / "b", shard=3, open=2), POTENTIAL, 4)
    assert some.shapes == memory.shapes
    for seed in (None, 3):
        plan = some.plan(seed)
        assert sorted(np.concatenate([x for _, x in plan]).tolist()) == list(range(24))
        for _, x in plan:
            assert len(set((x // 3).tolist())) <= 2
    first = lambda seed: np.concatenate([x for _, x in some.plan(seed)]).tolist()
    assert first(3) == first(3) != first(4)


def test_training_from_disk_is_training_from_memory_with_few_structures_there(tmp_path, monkeypatch):
    store = StructureStore.write(DATA, tmp_path / "data", shard=3, open=2)
    stream = StreamingLoader(store, POTENTIAL, 4)
    memory = Loader(DATA, POTENTIAL, 4)
    memory.plan = stream.plan  # the same order
    expected = train(POTENTIAL, wrong(1.02), memory, DATA[:4], epochs=4, **OPTIONS)
    reads, there = [], []
    gc.collect()
    before = sum(isinstance(x, Structure) for x in gc.get_objects())
    original = stores._read_structures

    def counted(path):
        reads.append(path)
        if len(reads) % 7 == 0:  # looking at all objects takes seconds
            gc.collect()
            there.append(sum(isinstance(x, Structure) for x in gc.get_objects()) - before)
        return original(path)

    monkeypatch.setattr(stores, "_read_structures", counted)
    found = train(POTENTIAL, wrong(1.02), stream, DATA[:4], epochs=4, **OPTIONS)
    for a, b in zip(found.history, expected.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert found.compilations == expected.compilations == len(stream.shapes)
    assert len(reads) >= 4 * 8  # every shard in every epoch
    assert len(there) >= 4
    assert max(there) <= 3  # one shard beside the one that is read, of 24 structures


def test_a_run_from_disk_that_goes_on_is_the_run(tmp_path):
    store = StructureStore.write(DATA, tmp_path / "data", shard=3, open=2)
    options = OPTIONS | {"batch_size": 4, "checkpoint_every": 2}
    whole = train(POTENTIAL, wrong(1.02), store, epochs=5, **options)
    train(POTENTIAL, wrong(1.02), store, epochs=2, checkpoint=tmp_path / "run", **options)
    again = train(POTENTIAL, wrong(1.02), StructureStore(tmp_path / "data", open=2), epochs=5,
                  checkpoint=tmp_path / "run", **options)  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, again.last, whole.last)


def test_linear_fits_and_small_ones_read_from_disk_too(tmp_path):
    potential = MTP(SPECIES, 5.0, 2.0, 4, 6)
    params = potential.init(jax.random.key(0), float)
    store = StructureStore.write(DATA, tmp_path, shard=3, open=2)
    a, b = (fit_linear(potential, params, x, solver="ridge", strength=1e-3) for x in (store, DATA))
    np.testing.assert_allclose(a.fit.coefficients, b.fit.coefficients, rtol=1e-6)
    found = train_lbfgs(POTENTIAL, wrong(1.05), store, loss=Loss(1.0, 1.0), steps=5)
    np.testing.assert_allclose(found.history[-1]["loss"], train_lbfgs(
        POTENTIAL, wrong(1.05), DATA, loss=Loss(1.0, 1.0), steps=5).history[-1]["loss"], rtol=1e-6)  # fmt: skip


def test_a_streamed_fit_from_the_command_line(tmp_path, capsys):
    from test_fit import shifted, write_xyz

    write_xyz(tmp_path / "train.xyz", shifted(DATA))
    config = {
        "data": {"train": "train.xyz", "validation": 4, "stream": "store", "limit": 20, "net_force": "remove",
                 "read": {"energy": "REF_energy", "forces": "REF_forces"}},
        "potential": {"family": "nep", "cutoff": [5.0, 4.0], "n_max": [2, 2], "basis_size": [3, 3], "l_max": [2],
                      "neurons": 4, "version": 5},
        "epochs": 2, "batch_size": 4,
    }  # fmt: skip
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    run = ["fit", str(tmp_path / "fit.yaml"), "-o", str(tmp_path / "out"), "-q"]
    assert cli.main(run) == 0
    streamed = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    stamp = (tmp_path / "store" / "0.npz").stat().st_mtime_ns
    capsys.readouterr()
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config | {"data": config["data"] | {"stream": False}}))
    assert cli.main(["fit", str(tmp_path / "plain.yaml"), "-o", str(tmp_path / "other"), "-q"]) == 0
    plain = [json.loads(line) for line in (tmp_path / "other" / "log.jsonl").read_text().splitlines()]
    # 16 structures of the same split are in one window of 4 shards of 512: the same batches.
    for a, b in zip(streamed, plain, strict=True):
        np.testing.assert_allclose([a["loss"], a["rmse_forces"]], [b["loss"], b["rmse_forces"]], rtol=1e-6)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {n: s["structures"] for n, s in report["sets"].items()} == {"train": 16, "validation": 4}
    assert cli.main([*run, "--epochs", "3"]) == 0  # goes on, from the same files
    assert (tmp_path / "store" / "0.npz").stat().st_mtime_ns == stamp
    assert cli.main(["fit", str(tmp_path / "fit.yaml"), "--check"]) == 0
    assert "train: 16 structures" in capsys.readouterr().out
