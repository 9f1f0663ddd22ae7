"""Strict settings for every test: float64, several devices, drawn examples that do not change."""

import os

import hypothesis
import jax
import matplotlib

from theory_sim.engine.block import guard_cpu_backend

os.environ["PJRT_NPROC"] = "8"  # for four devices, and then the other guard against faults of the backend
guard_cpu_backend()
# Four simulated devices on the CPU: whatever the engine runs here is sharded.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
matplotlib.use("agg")

hypothesis.settings.register_profile("tests", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("tests")
