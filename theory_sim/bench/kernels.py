"""The kernels that are measured: what one call does, what it must cost, and the plain loops for one run."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from theory_sim.attention import pattern_transformer
from theory_sim.bench import plain_numpy
from theory_sim.engine.compile import compiled
from theory_sim.simulation import Simulation, trajectory

Step = Callable[[], object]


class Kernel(NamedTuple):
    """A batch of runs: `call` advances all of them by `steps`.

    `flops` are those of one step of one run, `shared_bytes` what one step of all runs must read once,
    `run_bytes` what it must read and write for each run. `numpy` and `torch` make one step of each of `plain_runs`
    runs, one after the other: more than one where runs differ in what a step costs.
    """

    name: str
    runs: int
    steps: int
    call: Callable[[], Any]
    flops: float
    shared_bytes: float
    run_bytes: float
    numpy: Callable[[], Step]
    torch: Callable[[], Step] | None
    plain_runs: int = 1


def transformer(*, runs: int = 256, steps: int = 400) -> Kernel:
    """The one-layer transformer at the size of its study's quick preset; flops as XLA counts a lone step."""
    sizes = TransformerSizes(dim=16, tokens=12, width=64, samples=256, batch=8, queries=4)
    return _transformer(sizes, runs, steps)


def wide_transformer(*, runs: int = 4, steps: int = 400) -> Kernel:
    """The same on more patterns and tokens, with wide layers: bound by arithmetic.

    Few runs at once: the hidden neurons of more than two runs a core (0.5 MB each) leave the cache. As many steps as
    a run makes, so that the one observation at its end, which costs tens of steps, is not what is measured.

    Most of a step are the three products with `W_O`, nearest to the peak; then the dozen products of small matrices
    and with tokens, farther from it; least are relu, copies, updates, draws and softmax.
    """
    sizes = TransformerSizes(dim=64, tokens=32, width=512, samples=256, batch=16, queries=8)
    return _transformer(sizes, runs, steps)


class TransformerSizes(NamedTuple):
    """The sizes of a one-layer transformer and of its data."""

    dim: int
    tokens: int
    width: int
    samples: int
    batch: int
    queries: int


def _transformer(sizes: TransformerSizes, runs: int, steps: int) -> Kernel:
    dim, length, width, samples, size, queries = sizes
    simulation = pattern_transformer(
        dim=dim,
        tokens=length,
        max_width=width,
        samples=samples,
        test_samples=128,
        batch=size,
        queries=queries,
    )
    call, problem, state = batch(simulation, runs, steps, {})
    tokens, labels = np.asarray(problem.train.tokens), 1.0 - 2.0 * np.asarray(problem.train.labels)
    head = np.where(np.arange(width) % 2 == 0, 1, -1) / np.sqrt(width)

    def numpy() -> Step:
        draw = np.random.default_rng(0)
        eye = 0.3 * np.eye(dim)
        weights = plain_numpy.Transformer(eye, eye, eye, 0.01 * draw.normal(size=(width, dim)))

        def step() -> None:
            nonlocal weights
            chosen = draw.integers(samples, size=size)
            weights = plain_numpy.transformer_step(
                weights, tokens[chosen], labels[chosen], head, queries, 0.1
            )

        return step

    def torch() -> Step:
        from theory_sim.bench import plain_torch

        return plain_torch.transformer(tokens, labels, width, size, queries, step_size=0.1)

    flops = flops_of(simulation, problem, state)
    moved = 2.0 * nbytes(state.weights) + size * tokens[0].nbytes
    name = f"attention.pattern_transformer d={dim} m={width}"
    return Kernel(name, runs, steps, call, flops, 0.0, moved, numpy, torch)


def batch(simulation: Simulation, runs: int, steps: int, swept: dict[str, Any]) -> tuple[Callable, Any, Any]:
    """Return a call that runs a batch on one problem, that problem, and one run's first state."""
    problem = jax.jit(simulation.sample)(jax.random.key(0), simulation.setting)
    lone = jax.tree.map(jnp.asarray, simulation.hyper)
    hyper = jax.tree.map(lambda x: jnp.broadcast_to(x, (runs,)), lone)
    hyper = hyper._replace(**{name: jnp.asarray(values) for name, values in swept.items()})
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(1)))(jnp.arange(runs))
    batch = jax.vmap(trajectory(simulation, [steps]), (0, None, 0))
    # As the engine does: the runs spread over all local devices, the problem on each.
    mesh, over_runs = Mesh(np.asarray(jax.local_devices()), ("runs",)), PartitionSpec("runs")
    spread = jax.shard_map(
        batch,
        mesh=mesh,
        in_specs=(over_runs, PartitionSpec(), over_runs),
        out_specs=over_runs,
        check_vma=False,
    )
    program = compiled(jax.jit(spread).lower(keys, problem, hyper))
    placed = jax.device_put(
        (keys, problem, hyper), tuple(NamedSharding(mesh, s) for s in (over_runs, PartitionSpec(), over_runs))
    )
    state = jax.jit(simulation.init)(jax.random.key(2), problem, lone)
    return lambda: program(*placed), problem, state


def flops_of(simulation: Simulation, problem: Any, state: Any) -> float:
    """Return the operations of one step of one run, as XLA counts them."""
    hyper = jax.tree.map(jnp.asarray, simulation.hyper)
    lowered = jax.jit(simulation.step).lower(jax.random.key(0), problem, hyper, state)
    return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def nbytes(tree: Any) -> int:
    """Return the bytes of the arrays in a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
