"""One compiled program a shape: every number traced, the problem unbatched, the runs over all devices."""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from theory_sim.engine.memory import free_memory, program_bytes
from theory_sim.engine.plan import Sizes, halve
from theory_sim.errors import RequestError
from theory_sim.simulation import Simulation, problem_key, rollout, run_key

MEMORY_SHARE = 0.8
"""Part of the free memory that one block may take."""


OPTIONS: dict[str, dict[str, str | bool]] = {"cpu": {"xla_backend_optimization_level": "1"}}
"""How a platform's programs are compiled. On a CPU LLVM's second and third level of optimisation took 18 to 44%
of the compilation of three studies and did not change their speed (jaxlib 0.10); without the first
level, loops are slower by half or more."""

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


class Program(NamedTuple):
    """A compiled program, its static sizes, and the arrays of the simulation that it takes as arguments."""

    call: Callable[..., tuple[dict, dict, jax.Array, jax.Array]]
    arrays: tuple[jax.Array, ...]
    sizes: Sizes
    bytes: int


class Facts(NamedTuple):
    """What is known of a simulation without compiling it.

    `digest` identifies the computation of one run: its jaxpr and the data bound into it. Comments, names and
    claims may change without making results stale; a changed formula may not. `records` and `conclusions` are
    abstract, `state_bytes` and `run_flops` are the size of one state and the operations of all its steps, and
    `decompositions` counts the matrix decompositions in the program.
    """

    digest: str
    records: dict[str, Any]
    conclusions: dict[str, Any]
    state_bytes: int
    run_flops: float
    decompositions: int


def split_arrays(simulation: Simulation) -> tuple[tuple[jax.Array, ...], Callable[[Any], Simulation]]:
    """Return the arrays bound into the simulation's functions, and the function that puts them back.

    A data set captured as a constant would be copied into the program (600 MB cost 26 s of compilation).
    """
    functions = simulation[:4], simulation.conclude
    leaves, tree = jax.tree.flatten(functions)
    is_array = [isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves]
    arrays = tuple(jnp.asarray(leaf) for leaf, array in zip(leaves, is_array, strict=True) if array)

    def merge(traced: Any) -> Simulation:
        given = iter(traced)
        merged = [next(given) if array else leaf for leaf, array in zip(leaves, is_array, strict=True)]
        (sample, init, step, observe), conclude = jax.tree.unflatten(tree, merged)
        return simulation._replace(sample=sample, init=init, step=step, observe=observe, conclude=conclude)

    return arrays, merge


def numbers(defaults: Any, given: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> Any:
    """Return a setting or hyper whose every field is an array of that shape, in the dtype of its default."""
    if not defaults:
        return defaults
    fields = {}
    for name, default in defaults._asdict().items():
        dtype = jnp.asarray(default).dtype
        fields[name] = np.broadcast_to(np.asarray(given.get(name, default)), shape).astype(dtype)
    return defaults._replace(**fields)


PIECE = 4096
"""Runs whose keys are drawn at once: one size for all blocks, so that it is compiled once."""


@jax.jit
def _keys(root_seed: Any, problem_seeds: Any, run_seeds: Any) -> tuple[jax.Array, jax.Array]:
    root = jax.random.key(root_seed)
    of_problems = jax.vmap(partial(problem_key, root))(problem_seeds)
    of_runs = jax.vmap(partial(run_key, root))(problem_seeds, run_seeds)
    return jax.random.key_data(of_problems), jax.random.key_data(of_runs)


def random_keys(
    root_seed: int, problem_seeds: np.ndarray, run_seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the data of the keys of problems, `[p, words]`, and of runs, `[p, r, words]`, for a program's arguments.

    Drawn inside the programs, their generators would be a fifth of what is compiled for every shape.
    """
    of_problems = np.broadcast_to(problem_seeds[:, None], run_seeds.shape).ravel()
    of_runs = run_seeds.ravel()
    pieces = []
    for first in range(0, of_runs.size, PIECE):
        pair = (values[first : first + PIECE].astype(np.uint32) for values in (of_problems, of_runs))
        pieces.append(jax.device_get(_keys(np.uint32(root_seed), *(np.resize(v, PIECE) for v in pair))))
    problem_keys, run_keys = (
        np.concatenate(keys)[: of_runs.size].reshape(*run_seeds.shape, -1)
        for keys in zip(*pieces, strict=True)
    )
    return problem_keys[:, 0], run_keys


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
    step = jax.jit(simulation.step).lower(key, problem, cell[3], result.state)
    flops = float((step.cost_analysis() or {}).get("flops", 0.0))
    traces = [(jaxpr, list(_nested(jaxpr.jaxpr, jaxpr.consts)))]
    if any(e.primitive.name == "custom_vmap_call" for inside, _ in traces[0][1] for e in inside.eqns):
        given = key, problem, cell[3], result.state
        for jaxpr in _batched(simulation, merge, arrays, (key, cell[1]), given, len(steps)):
            traces.append((jaxpr, list(_nested(jaxpr.jaxpr, jaxpr.consts))))
    consts = [const for _, inner in traces for _, captured in inner for const in captured]
    return Facts(
        digest=_digest("\n".join(str(jaxpr) for jaxpr, _ in traces), [*arrays, *consts]),
        records=result.records,
        conclusions=result.conclusions,
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(result.state)),
        run_flops=max(flops, 1.0) * max(int(steps[-1]), 1),
        decompositions=sum(
            e.primitive.name in DECOMPOSITIONS for part, _ in traces[-1][1] for e in part.eqns
        ),
    )


def _batched(
    simulation: Simulation, merge: Callable, arrays: tuple, drawn: tuple, given: tuple, steps: int
) -> Iterator[Any]:
    """Yield the jaxprs of two problems' draws, of two runs of one problem, and of two such pairs of runs.

    What a function with a rule for batches computes in a program stands in its rule alone. The parts of a run are
    traced by themselves: batching their loop would take many times as long.
    """

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


def _nested(jaxpr: Any, consts: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a jaxpr and all jaxprs inside its equations, each with the arrays captured by it."""
    yield jaxpr, consts
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _nested(inner, getattr(value, "consts", ()))


def _digest(text: str, arrays: Iterable[Any]) -> str:
    sha = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", text).encode())
    for array in arrays:
        keys = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        sha.update(np.asarray(jax.random.key_data(array) if keys else array).tobytes())
    return sha.hexdigest()[:16]


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


def build(simulation: Simulation, steps: np.ndarray, sizes: Sizes, devices: list[Any]) -> Program:
    """Compile the program of one shape, in blocks small enough for the free memory of its devices.

    The program takes `(arrays, problem_keys, setting [p], run_keys, hyper [p, r])`, the keys as `random_keys` gives
    them, and gives records, conclusions, status and divergence step with leading axes `[p, r]`. Raises
    RequestError when not even one run fits.
    """
    arrays, merge = split_arrays(simulation)
    while True:
        compiled = _compile(simulation, merge, arrays, steps, sizes, devices)
        needed = program_bytes(compiled)
        if devices[0].platform == "cpu":  # its devices share one memory
            needed *= len(devices)
        free = free_memory(devices[0])
        if needed <= MEMORY_SHARE * free:
            return Program(compiled, arrays, sizes, needed)
        if halve(sizes, len(devices)) is None:
            raise RequestError(f"one run needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")
        # Memory is about proportional to the runs: go straight to a size that should fit.
        target = sizes.cells * MEMORY_SHARE * free / needed
        while (smaller := halve(sizes, len(devices))) is not None:
            sizes = smaller
            if sizes.cells <= target:
                break


def _compile(
    simulation: Simulation,
    merge: Callable,
    arrays: tuple,
    steps: np.ndarray,
    sizes: Sizes,
    devices: list[Any],
) -> Any:
    def one_problem(traced: Any, key: Any, setting: Any, run_keys: Any, hypers: Any) -> Any:
        merged = merge(traced)
        problem = merged.sample(jax.random.wrap_key_data(key), setting)

        def one_run(run_key: Any, hyper: Any) -> Any:
            result = rollout(merged, steps)(jax.random.wrap_key_data(run_key), problem, hyper)
            return result.records, result.conclusions, result.status, result.diverged_at

        return jax.vmap(one_run)(run_keys, hypers)

    def program(traced: Any, *cells: Any) -> Any:
        body = partial(one_problem, traced)
        problems = cells[0].shape[0]
        together = min(sizes.together, problems)
        if problems == 1:
            # No outer batch axis at all: products with a lone operator stay plain matrix products.
            lone = body(*jax.tree.map(lambda x: x[0], cells))
            return jax.tree.map(lambda x: x[None], lone)
        if together == problems:
            return jax.vmap(body)(*cells)
        return jax.lax.map(lambda c: body(*c), cells, batch_size=together if together > 1 else None)

    p, r = sizes.problems, sizes.runs
    problem_keys, run_keys = random_keys(0, np.zeros(p), np.zeros((p, r)))
    cells = (
        problem_keys,
        numbers(simulation.setting, {}, (p,)),
        run_keys,
        numbers(simulation.hyper, {}, (p, r)),
    )
    if len(devices) > 1:
        mesh = Mesh(np.asarray(devices), ("runs",))
        over_runs = r % len(devices) == 0
        row = PartitionSpec(None, "runs") if over_runs else PartitionSpec("runs")
        column = PartitionSpec() if over_runs else PartitionSpec("runs")
        program = jax.shard_map(
            program,
            mesh=mesh,
            in_specs=(PartitionSpec(), column, column, row, row),
            out_specs=row,
            check_vma=False,
        )
    lowered = jax.jit(program).lower(arrays, *cells)
    return lowered.compile(compiler_options=OPTIONS.get(devices[0].platform))
