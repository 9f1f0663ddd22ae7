"""One compiled program a shape: every number traced, the problem unbatched, the runs over all devices."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from theory_sim.engine.memory import free_memory, program_bytes
from theory_sim.engine.plan import Sizes, halve
from theory_sim.errors import RequestError
from theory_sim.simulation import Simulation, problem_key, rollout, run_key

MEMORY_SHARE = 0.8
"""Part of the free memory that one block may take."""


FAULTY = ("0.10.0", "0.10.1", "0.10.2")
"""Releases of jaxlib whose fused CPU kernels read memory that nobody wrote."""

SOUND_FUSIONS = "xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
"""The flag that keeps a faulty release from it. A product with a constant, when its kernel is fused with a sum, is
what reads such memory: kernels of single products alone are allowed, at no cost in speed."""

OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {"xla_backend_optimization_level": "1", **dict([SOUND_FUSIONS] * (jaxlib.__version__ in FAULTY))}
}
"""How a platform's programs are compiled. On a CPU LLVM's second and third level of optimisation took 18 to 44%
of the compilation of three studies and did not change their speed (jaxlib 0.10); without the first
level, loops are slower by half or more. Options hold for a program whenever the backend started; flags in the
environment, for all programs of a backend that starts after them."""

HASTY: dict[str, dict[str, str | bool]] = {
    "cpu": {
        "xla_llvm_disable_expensive_passes": True,
        **({"xla_cpu_use_fusion_emitters": False} if jaxlib.__version__.startswith("0.10.") else {}),
    }
}
"""What else is left out of programs that are not `careful`: a third to a half of what remains (jaxlib 0.10, whose
options are named here; others may not know them). The steps of twelve studies' programs then took 0.6 to 1.1 times as
long, those of `subspace_structure` and `subspace_pretraining` 1.2 times."""


class Program(NamedTuple):
    """A compiled program, its static sizes, and the arrays of the simulation that it takes as arguments."""

    call: Callable[..., tuple[dict, dict, jax.Array, jax.Array]]
    arrays: tuple[jax.Array, ...]
    sizes: Sizes
    bytes: int


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


_TRACING = threading.Lock()
"""Held while a program is traced to be compiled: of two threads that trace, Python runs one at a time, and both would
begin to compile late."""

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


def build(simulation: Simulation, steps: np.ndarray, sizes: Sizes, devices: list[Any]) -> Program:
    """Compile the program of one shape, in blocks small enough for the free memory of its devices.

    The program takes `(arrays, problem_keys, setting [p], run_keys, hyper [p, r])`, the keys as `random_keys` gives
    them, and gives records, conclusions, status and divergence step with leading axes `[p, r]`. Raises
    RequestError when not even one run fits.
    """
    arrays, merge = split_arrays(simulation)
    while True:
        # Sizes may come from a machine with more devices or fewer: as many are used as divide them.
        counts = range(len(devices), 0, -1)
        usable = next(n for n in counts if sizes.runs % n == 0 or sizes.problems % n == 0)
        program = _compile(simulation, merge, arrays, steps, sizes, devices[:usable])
        needed = program_bytes(program)
        if devices[0].platform == "cpu":  # its devices share one memory
            needed *= usable
        free = free_memory(devices[0])
        if needed <= MEMORY_SHARE * free:
            return Program(program, arrays, sizes, needed)
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
    with _TRACING:
        lowered = jax.jit(program).lower(arrays, *cells)
    return compiled(lowered, sizes.careful, devices[0].platform)


def compiled(lowered: Any, careful: bool = True, platform: str | None = None) -> Any:
    """Compile what `jax.jit(...).lower(...)` gave as programs are, for the default platform unless one is given."""
    platform = platform or jax.default_backend()
    options = OPTIONS.get(platform, {}) | ({} if careful else HASTY.get(platform, {}))
    return lowered.compile(compiler_options=options or None)
