"""A fault of jaxlib that computes wrongly does not reach our programs."""

import os
import subprocess
import sys

import pytest

ELSEWHERE = """
import jax, jax.numpy as jnp, numpy as np
from theory_sim.engine.block import guard_cpu_backend
guard_cpu_backend()
jax.config.update("jax_enable_x64", True)
b = np.random.default_rng(0).normal(size=(25, 20, 25))
ours = jax.jit(lambda b: jnp.sum((b @ jnp.full((25, 25), 0.3)) * b, axis=-1))(2 * b)
print(float(np.abs(ours - np.sum((2 * b @ np.full((25, 25), 0.3)) * 2 * b, axis=-1)).max()))
"""

# The backend has started when `run` is called, as in any notebook.
LATE = """
import sys
from typing import NamedTuple
import jax.numpy as jnp, numpy as np
jnp.ones(3).block_until_ready()
from theory_sim import Simulation, Sweep, open_results, run
b = np.random.default_rng(0).normal(size=(25, 20, 25))
class Hyper(NamedTuple):
    scale: float = 2.0
def product(key, b, hyper, x):
    y = hyper.scale * b
    return jnp.sum((y @ jnp.full((25, 25), 0.3)) * y, axis=-1)
def sim():
    return Simulation(
        sample=lambda key, setting: jnp.asarray(b), init=lambda key, problem, hyper: jnp.zeros((25, 20)),
        step=product, observe=lambda problem, hyper, x: {"e": x}, setting=(), hyper=Hyper())
run(Sweep(sim, steps=[1]), sys.argv[1])
ours = open_results(sys.argv[1])["e"].to_numpy()
print(float(np.abs(ours - np.sum((2 * b @ np.full((25, 25), 0.3)) * 2 * b, axis=-1)).max()))
"""


@pytest.mark.parametrize("program", [ELSEWHERE, LATE])
def test_products_with_constants_read_no_memory_that_nobody_wrote(program, tmp_path):
    # glibc then fills new memory with garbage, so that whoever reads it is found out.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"MALLOC_PERTURB_": "165"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r")],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert float(done.stdout) < 1e-10
