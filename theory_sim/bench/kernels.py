"""The kernels that are measured: what one call does, what it must cost, and the plain loops for one run."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from theory_sim.attention import pattern_transformer
from theory_sim.bench import plain_numpy
from theory_sim.engine.compile import compiled
from theory_sim.simulation import Simulation, trajectory
from theory_sim.subspace import MLP, digits, subspace_training

Step = Callable[[], object]


class Kernel(NamedTuple):
    """A batch of runs: `call` advances all of them by `steps`.

    `flops` are those of one step of one run, `shared_bytes` what one step of all runs must read once,
    `run_bytes` what it must read and write for each run. `numpy` and `torch` make one step of one run.
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


def subspace_network(*, runs: int = 64, steps: int = 100, dim: int = 240) -> Kernel:
    """A network on the digits in a dense random subspace, one projection for all runs; flops as XLA counts."""
    widths = [64, 60, 60, 10]
    adam = partial(optax.adam, b1=0.9, b2=0.99)
    data = digits()
    simulation = subspace_training(MLP(widths[1:]), data, max_dim=dim, optimizer=adam)
    call, problem, state = batch(simulation, runs, steps, {"dim": np.resize([60, 120, 180, 240], runs)})
    rows, start = np.asarray(problem.rows), np.asarray(state.start)
    x, y = np.asarray(data.train_x, rows.dtype), np.asarray(data.train_y)

    def numpy() -> Step:
        draw = np.random.default_rng(0)
        moved, memory = np.zeros(dim), plain_numpy.Adam(0, np.zeros(dim), np.zeros(dim))

        def step() -> None:
            nonlocal moved, memory
            chosen = draw.integers(len(y), size=128)
            batch = x[chosen], y[chosen]
            moved, memory = plain_numpy.subspace_step(moved, memory, start, rows, batch, widths, 0.05)

        return step

    def torch() -> Step:
        from theory_sim.bench import plain_torch

        return plain_torch.subspace(x, y, widths, rows, start, batch=128, step_size=0.05)

    flops = flops_of(simulation, problem, state)
    name = f"subspace.subspace_training D={start.size} d={dim}"
    return Kernel(name, runs, steps, call, flops, 2.0 * rows.nbytes, 2.0 * nbytes(state), numpy, torch)


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
