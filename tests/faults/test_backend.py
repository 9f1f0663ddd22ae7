"""A fault of jaxlib that computes wrongly does not reach our programs."""

import os
import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from theory_sim.engine.block import guard_cpu_backend
guard_cpu_backend()
jax.config.update("jax_enable_x64", True)
b = np.random.default_rng(0).normal(size=(25, 20, 25))
ours = jax.jit(lambda b: jnp.sum((b @ jnp.full((25, 25), 0.3)) * b, axis=-1))(2 * b)
print(float(np.abs(ours - np.sum((2 * b @ np.full((25, 25), 0.3)) * 2 * b, axis=-1)).max()))
"""


def test_products_with_constants_read_no_memory_that_nobody_wrote():
    # glibc then fills new memory with garbage, so that whoever reads it is found out.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"MALLOC_PERTURB_": "165"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True
    )
    assert float(done.stdout) < 1e-10
