"""Seconds for 1000 max margin instances of the published size in both norms: `python -m theory_sim.bench.margins`.

Six sequences of eight tokens in ten dimensions, the optimal tokens selected. Each norm is compiled once, then timed.
"""

import time

import jax
import jax.numpy as jnp

from theory_sim.attention import token_selection
from theory_sim.attention.margin import NORMS, max_margin
from theory_sim.attention.selection_gradient import token_scores
from theory_sim.engine.compile import compiled


def seconds(norm: str, *, instances: int = 1000) -> tuple[float, float, float]:
    """Return the seconds of compilation, those of the solutions, and the largest relative gap."""
    simulation = token_selection(inputs=6, tokens=8, dim=10)
    keys = jax.random.split(jax.random.key(0), instances)
    problems = jax.jit(jax.vmap(lambda key: simulation.sample(key, simulation.setting)))(keys)
    best = jnp.argmax(jax.vmap(token_scores)(problems), axis=2)
    given = jax.block_until_ready((problems.tokens, problems.queries, best))
    started = time.perf_counter()
    solve = compiled(jax.jit(jax.vmap(lambda *one: max_margin(*one, norm=norm))).lower(*given))
    ready = time.perf_counter()
    found = jax.block_until_ready(solve(*given))
    return ready - started, time.perf_counter() - ready, float(found.gap.max())


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    for name in NORMS:
        compiling, solving, gap = seconds(name)
        print(
            f"{name}: {compiling:.1f} s to compile, {solving:.1f} s for 1000 instances, gap {gap:.0e} at most"
        )
