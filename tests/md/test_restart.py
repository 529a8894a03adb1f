"""A run killed at a random moment and restarted is the run that was not interrupted, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from conftest import KELVIN, TIME, fcc

from jaxmlp import FormatError, md
from jaxmlp.potentials.pair import lennard_jones

pytestmark = pytest.mark.optimized  # as the program in another process is
ENSEMBLES = ("nve", "nvt_langevin", "nvt_nose_hoover")


def begin(name: str) -> tuple:
    potential, params = lennard_jones((18,), 1.0, 1.0, 1.8, truncation="force-shifted")
    options = {"temperature": KELVIN, "dt": 0.005 * TIME, "skin": 0.3, "headroom": 0.3, "key": 6}
    return potential, params, getattr(md, name)(potential, params, fcc(2), **options)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_killed_and_restarted_runs_are_the_same_bit_for_bit(name, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    rng = np.random.default_rng(ENSEMBLES.index(name))
    child = subprocess.Popen([sys.executable, __file__, name, killed], env={**os.environ, "JAX_ENABLE_X64": "1"})
    potential, params, sim = begin(name)  # compiles while the child does
    try:
        deadline = time.monotonic() + 120
        while not (killed / "run.chk").exists():
            assert child.poll() is None, "the run to be killed ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with h5py.File(killed / "run.h5", swmr=True) as file:  # readable as it is
        assert len(file["particles/all/position/step"]) > 0
    again = md.restart(killed / "run.chk", potential, params)
    assert again.step >= 250
    end = again.step + 333
    options = {"trajectory_every": 100, "checkpoint_every": 250}
    result = md.run(again, 333, trajectory=killed / "run.h5", checkpoint=killed / "again.chk", **options).simulation
    reference = md.run(sim, end, trajectory=whole / "run.h5", trajectory_every=100).simulation

    def bits(x):
        return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(reference.state), strict=True):
        assert np.array_equal(bits(a), bits(b))
    with h5py.File(whole / "run.h5") as a, h5py.File(killed / "run.h5") as b:
        names = []
        a.visititems(lambda path, node: names.append(path) if isinstance(node, h5py.Dataset) else None)
        assert len(names) == 11  # each once, however many links lead there
        for path in names:
            assert np.array_equal(a[path], b[path]), path


EVERY = {  # by name: what is run, and its own options
    "nvt_csvr": (md.nvt_csvr, {"tau": 0.2 * TIME}),
    "nvt_gle": (md.nvt_gle, {"gle": np.array([[0.2, 0.7], [-0.7, 1.0]]) / TIME}),
    "npt_mtk": (md.npt_mtk, {"tau": 0.2 * TIME, "pressure": 3.0, "tau_pressure": TIME, "cell": "triclinic"}),
    "npt_langevin": (md.npt_langevin, {"friction": 1 / TIME, "pressure": 3.0, "tau_pressure": TIME}),
    "npt_rescaling": (
        md.npt_rescaling,
        {"pressure": md.Ramp(3.0, 5.0, 200), "tau_pressure": TIME, "compressibility": 0.1, "cell": "orthorhombic"},
    ),
    "pimd": (md.pimd, {"beads": 4, "tau": TIME}),
    "pimd at a pressure": (md.pimd, {"beads": 4, "pressure": 3.0, "barostat": "mtk", "tau_pressure": TIME}),
    "groups": (md.nvt_nose_hoover, {"groups": [range(10), range(10, 20)], "fixed": [31], "tau": 0.2 * TIME}),
}
COSTLY = ("npt_langevin", "pimd at a pressure", "nvt_gle")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in COSTLY else n for n in EVERY])
def test_a_run_in_two_parts_is_the_run_in_one_bit_for_bit(name, tmp_path):
    make, options = EVERY[name]
    potential, params = lennard_jones((18,), 1.0, 1.0, 1.8, truncation="force-shifted")
    temperature = [KELVIN, 2 * KELVIN] if "groups" in options else KELVIN
    options = {"temperature": temperature, "dt": 0.005 * TIME, "skin": 0.3, "headroom": 0.3, "key": 6} | options
    options = {k: [np.arange(32)[list(g)] for g in v] if k == "groups" else v for k, v in options.items()}
    sim = make(potential, params, fcc(2), **options)
    whole = md.run(sim, 200, log_every=100)
    md.run(sim, 120, log_every=100, checkpoint=tmp_path / "run.chk")
    again = md.restart(tmp_path / "run.chk", potential, params)
    result = md.run(again, 80, log_every=100)

    def bits(x):
        return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    for a, b in zip(jax.tree.leaves(result.simulation.state), jax.tree.leaves(whole.simulation.state), strict=True):
        assert np.array_equal(bits(a), bits(b))
    for column, x in result.log.items():
        assert np.array_equal(x[-1], whole.log[column][-1]), column
    assert again.dynamics == sim.dynamics


def test_extended_xyz_is_continued_without_a_seam(tmp_path):
    potential, params, sim = begin("nve")
    options = {"trajectory_every": 50, "checkpoint_every": 100}
    md.run(sim, 300, trajectory=tmp_path / "whole.xyz", **options)
    md.run(sim, 100, trajectory=tmp_path / "parts.xyz", checkpoint=tmp_path / "a.chk", **options)
    # The run went on for a while, and was killed in the middle of a frame.
    md.run(md.restart(tmp_path / "a.chk", potential, params), 100, trajectory=tmp_path / "parts.xyz", **options)
    size = os.path.getsize(tmp_path / "parts.xyz")
    os.truncate(tmp_path / "parts.xyz", size - 777)
    md.run(md.restart(tmp_path / "a.chk", potential, params), 200, trajectory=tmp_path / "parts.xyz", **options)
    assert (tmp_path / "parts.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def test_a_checkpoint_that_does_not_belong_is_refused(tmp_path):
    potential, params, sim = begin("nve")
    path = tmp_path / "run.chk"
    md.run(sim, 10, checkpoint=path)
    other = jax.tree.map(lambda x: 1.01 * x, params)
    with pytest.raises(ValueError, match="other parameters of the same LennardJones"):
        md.restart(path, potential, other)
    with pytest.raises(ValueError, match=r"belongs to a simulation with LennardJones.*Pass that potential"):
        md.restart(path, *lennard_jones((18,), 1.0, 1.0, 1.7))
    with pytest.raises(ValueError, match="also contains Ar"):
        md.restart(path, *lennard_jones((10,), 1.0, 1.0, 1.8))
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        md.restart(tmp_path / "none.chk", potential, params)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in (0, 5, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(FormatError):
            md.restart(path, potential, params)
    for place in rng.integers(0, len(content), size=40):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            md.restart(path, potential, params)


if __name__ == "__main__":
    from jaxmlp.md import run

    folder = Path(sys.argv[2])
    *_, simulation = begin(sys.argv[1])
    run(
        simulation, 10**7, trajectory=folder / "run.h5", trajectory_every=100, checkpoint=folder / "run.chk",
        checkpoint_every=250,
    )  # fmt: skip
