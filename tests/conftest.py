"""Double precision, strict dtype promotion and quick compilation for every test; where the reference data lies."""

import os

# Workers that share two cores: BLAS threads of their own made a Bayesian regression 200 times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import jax
import jaxlib
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The older of two code generators of jaxlib 0.10 takes two thirds of the time to compile; others have one only.
if jaxlib.__version__.startswith("0.10.") and "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

MODE: dict[str, bool] = {}  # of the programs that jit holds

SHARED = Path(__file__).parents[2] / "shared"


SLOW = [
    line.replace("[", "[[]")  # a bracket in the name of a test is one
    for line in (Path(__file__).parent / "slow.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.hookimpl(tryfirst=True)  # before the marks choose
def pytest_collection_modifyitems(items):
    """Mark the tests of slow.txt as slow."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if any(fnmatchcase(name, pattern) for pattern in SLOW):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish():
    """Look for garbage less often: with the thresholds of Python a seventh of the time went into it.

    Programs that are traced are millions of small objects that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


@pytest.fixture(scope="module", autouse=True)
def compilation(request):
    """Most tests compile many programs and run each a few times: LLVM's optimisations would be half of their time.

    Modules marked `optimized` run long enough to need them, or compare with references in the form that users run.
    """
    quick = request.node.get_closest_marker("optimized") is None
    if quick is not MODE.get("quick"):
        MODE["quick"] = quick
        jax.config.update("jax_disable_most_optimizations", quick)
        jax.clear_caches()  # programs of the other kind round differently, and jit would take them


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; its tests are skipped in a clone without it."""
    if not SHARED.is_dir():
        if os.environ.get("JAXMLP_REQUIRE_SHARED"):
            pytest.fail(f"{SHARED} is missing, and JAXMLP_REQUIRE_SHARED says that it must be there.")
        pytest.skip(f"needs the reference data in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def on_two_devices() -> Callable[[str], None]:
    """A function that runs a program, which may import the modules of tests/, in a process with two devices.

    The number of devices of a CPU is chosen at the start of a process. Double precision and quick compilation, as here.
    """

    def run(program: str) -> None:
        environment = os.environ | {
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2",
            "PYTHONPATH": str(Path(__file__).parent),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_ENABLE_X64": "1",
        }
        program += "\nassert jax.device_count() == 2\nprint('two devices agree')\n"
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "two devices agree" in done.stdout, done.stderr

    return run
