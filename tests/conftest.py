"""Strict settings for every test: float64, several devices, drawn examples that do not change."""

import os

import hypothesis
import jax
import matplotlib
import pytest

from theory_sim.engine.block import guard_cpu_backend

os.environ["PJRT_NPROC"] = "8"  # for four devices, and then the other guard against faults of the backend
guard_cpu_backend()
# Most of a test's time is compilation: optimising code for such small arrays would double it.
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
# Four simulated devices on the CPU: whatever the engine runs here is sharded.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
matplotlib.use("agg")

hypothesis.settings.register_profile("tests", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs from one call of the tests to the next.

    Each worker has a folder of its own, because files are not written in one piece.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    folder = config.rootpath / ".pytest_cache" / "programs" / worker
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
