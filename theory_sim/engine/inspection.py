"""What a simulation is, before it is compiled: a digest of its computation, its metrics, its cost."""

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory_sim.engine.compile import numbers, split_arrays
from theory_sim.engine.digest import digest
from theory_sim.simulation import Simulation, rollout

DECOMPOSITIONS = {
    "svd",
    "eigh",
    "eig",
    "qr",
    "geqrf",
    "geqp3",
    "householder_product",
    "lu",
    "cholesky",
    "schur",
}
"""Primitives that jaxlib computes with LAPACK on a CPU."""


class Facts(NamedTuple):
    """What is known of a simulation without compiling it.

    `digest` identifies the computation of one run: its jaxpr and the data bound into it. Comments, names and
    claims may change without making results stale; a changed formula may not. `records` and `conclusions` are
    abstract, `state_bytes` and `problem_bytes` are the sizes of one state and one problem, `run_flops` the operations
    of all steps, and `decompositions` counts the matrix decompositions in the program.
    """

    digest: str
    records: dict[str, Any]
    conclusions: dict[str, Any]
    state_bytes: int
    problem_bytes: int
    run_flops: float
    decompositions: int


def inspect(simulation: Simulation, steps: np.ndarray) -> Facts:
    """Trace one run, and tell what it computes and what it costs."""
    arrays, merge = split_arrays(simulation)

    def one(traced: Any, problem_key: Any, setting: Any, run_key: Any, hyper: Any) -> Any:
        merged = merge(traced)
        problem = merged.sample(problem_key, setting)
        return rollout(merged, steps)(run_key, problem, hyper), problem

    key = jax.random.key(0)
    cell = key, numbers(simulation.setting, {}, ()), key, numbers(simulation.hyper, {}, ())
    jaxpr, (result, problem) = jax.make_jaxpr(one, return_shape=True)(arrays, *cell)
    if result.status.shape:
        raise ValueError(f"conclude must give one `converged` a run, got shape {result.status.shape}")
    step = jax.jit(simulation.step).lower(key, problem, cell[3], result.state)
    flops = float((step.cost_analysis() or {}).get("flops", 0.0))
    traces = [jaxpr]
    if "custom_vmap_call" in _primitives(jaxpr.jaxpr):
        given = key, problem, cell[3], result.state
        traces += _batched(simulation, merge, arrays, (key, cell[1]), given, len(steps))
    return Facts(
        digest=digest(traces, arrays),
        records=result.records,
        conclusions=result.conclusions,
        state_bytes=_bytes(result.state),
        problem_bytes=_bytes(problem),
        run_flops=max(flops, 1.0) * max(int(steps[-1]), 1),
        decompositions=sum(name in DECOMPOSITIONS for name in _primitives(traces[-1].jaxpr)),
    )


def _batched(
    simulation: Simulation, merge: Callable, arrays: tuple, drawn: tuple, given: tuple, steps: int
) -> Iterator[Any]:
    """Yield the jaxprs of two problems' draws, of two runs of one problem, and of two such pairs of runs.

    What a function with a rule for batches computes in a program stands in its rule, and, where that calls such a
    function of the problem alone, in the body of this one for one problem and in its rule for several. The parts of a
    run are traced by themselves: batching their loop would take many times as long; and, jitted, once for both.
    """

    @jax.jit
    def parts(traced: Any, key: Any, problem: Any, hyper: Any, state: Any) -> Any:
        merged = merge(traced)
        seen = merged.observe(problem, hyper, state)
        records = jax.tree.map(lambda x: jnp.broadcast_to(x, (steps, *jnp.shape(x))), seen)
        ended = merged.conclude(problem, hyper, records, state) if merged.conclude else None
        return merged.init(key, problem, hyper), merged.step(key, problem, hyper, state), seen, ended

    def twice(values: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), values)

    runs = jax.vmap(parts, (None, 0, None, 0, 0))
    key, problem, hyper, state = given
    draw = jax.vmap(lambda traced, *cell: merge(traced).sample(*cell), (None, 0, 0))
    yield jax.make_jaxpr(draw)(arrays, *twice(drawn))
    one = twice(key), problem, twice(hyper), twice(state)
    yield jax.make_jaxpr(runs)(arrays, *one)
    yield jax.make_jaxpr(jax.vmap(runs, (None, 0, 0, 0, 0)))(arrays, *map(twice, one))


def _bytes(abstract: Any) -> int:
    leaves = jax.tree.leaves(abstract)
    return sum(
        leaf.size * np.dtype(leaf.dtype).itemsize
        for leaf in leaves
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    )


def _primitives(jaxpr: Any) -> list[str]:
    """Return the primitives of all equations of a jaxpr and of the jaxprs inside them."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += _primitives(inner)
    return found


def devices_for(facts: Facts) -> int:
    """Return how many local devices a program is spread over: all, but one for decompositions on a CPU.

    jaxlib computes a batch of decompositions on a CPU in a pool thread that waits for other threads of its
    pool: when as many wait as there are threads, the program hangs for ever.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu" or not facts.decompositions:
        return len(devices)
    if facts.decompositions >= int(os.environ.get("PJRT_NPROC", os.cpu_count() or 1)):
        told = (
            f"{facts.decompositions} matrix decompositions in one program can hang on a CPU with so few threads: "
            f"if this does, set the environment variable PJRT_NPROC to more than {facts.decompositions}"
        )
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    return 1
