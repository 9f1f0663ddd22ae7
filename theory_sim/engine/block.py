"""Compute one block, anywhere: in this process, in another, on another machine."""

import contextlib
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from theory_sim.engine import compile as compiler
from theory_sim.engine.plan import Sizes, halve
from theory_sim.engine.provenance import provenance
from theory_sim.engine.store import Store
from theory_sim.simulation import Simulation, Status
from theory_sim.study import load_module


@dataclass(frozen=True)
class Job:
    """What all blocks of one shape share.

    `factory` makes the simulation; a study file's factory travels as the file and its name in it, because
    other processes cannot import it.
    """

    factory: Callable[..., Simulation] | tuple[Path, str]
    shape: tuple[tuple[str, Any], ...]
    steps: tuple[int, ...]
    root_seed: int
    precision: str
    key: str
    digest: str
    sizes: Sizes
    devices: int
    store: Store


@dataclass(frozen=True)
class Task:
    """One block to compute: the values of its cells. Picklable, and complete in itself."""

    job: Job
    problems: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]
    valid: np.ndarray


def guard_cpu_backend() -> None:
    """Keep JAX's CPU backend, if it has not started, from two faults of jaxlib 0.10: one hangs, one computes wrongly.

    Batched decompositions wait in one thread for others (see `inspection.devices_for`): some must be left to work, more
    than there are cores and devices. More would cost speed: on two cores, four threads are 8% and sixteen 20% slower
    than two in matrix products. And fused kernels of products read memory that nobody wrote: `compile.OPTIONS` keeps
    the engine's own programs from it, even where the backend has started, a flag whatever else is compiled.
    """
    os.environ.setdefault("PJRT_NPROC", str((os.cpu_count() or 1) + 2))
    flags, (name, value) = os.environ.get("XLA_FLAGS", ""), compiler.SOUND_FUSIONS
    if jaxlib.__version__ in compiler.FAULTY and name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{name}={value}".strip()


def use_all_cores() -> None:
    """Make every core a device of JAX's CPU backend, unless the caller has chosen the number of devices.

    Runs are spread over devices: small operations, which use one core each, then use all of them.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and jax.config.values.get("jax_num_cpu_devices", -1) < 1:
        with contextlib.suppress(RuntimeError):  # the backend has started: too late to choose
            jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


@contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Give the code inside the precision asked for, matrix products at full precision, and nothing outside."""
    with jax.enable_x64(precision == "float64"), jax.default_matmul_precision("highest"):
        yield


def compute_block(task: Task) -> tuple[dict[Status, int], tuple]:
    """Compute a block and store it; return how its runs ended, and the identity of the program that ran.

    When the device runs out of memory the block is halved, down to a single run.
    """
    guard_cpu_backend()
    sizes = task.job.sizes
    with numerics(task.job.precision):
        while True:
            try:
                return _compute_with(task, sizes)
            except jax.errors.JaxRuntimeError as error:
                smaller = halve(sizes, task.job.devices)
                if "RESOURCE_EXHAUSTED" not in str(error) or smaller is None:
                    raise
                told = f"out of memory with {sizes.cells} runs a block, going on with {smaller.cells}"
                warnings.warn(told, RuntimeWarning, stacklevel=2)
                sizes = smaller


def is_compiled(job: Job) -> bool:
    """Return whether this process has compiled a job's program already."""
    found = _compiled.get(_identity(job, job.sizes))
    return found is not None and found.done()


def compile_ahead(job: Job) -> None:
    """Compile a job's program for the blocks that will follow in this process."""
    with numerics(job.precision):
        _program(job, job.sizes)


# Compilation is the one thing that a process must remember: a worker computes thousands of blocks of a job.
_compiled: dict[tuple, "Future[tuple[compiler.Program, Simulation]]"] = {}
_KEPT = 8
_looking = threading.Lock()


def _identity(job: Job, sizes: Sizes) -> tuple:
    """Return what a program depends on: not the seeds, which are its arguments, nor where its results go."""
    return job.factory, job.key, job.digest, job.precision, job.devices, sizes


def _program(job: Job, sizes: Sizes) -> tuple[compiler.Program, Simulation]:
    key = _identity(job, sizes)
    promised: Future[tuple[compiler.Program, Simulation]] = Future()
    with _looking:
        found = _compiled.setdefault(key, promised)
    if found is not promised:
        return found.result()  # threads that want the same program wait for the one that compiles it
    try:
        simulation = _simulation(job.factory, job.shape)
        devices = jax.local_devices()[: job.devices]
        made = compiler.build(simulation, np.asarray(job.steps), sizes, devices), simulation
    except BaseException as error:
        # Nothing is remembered of a failure but by those who wait: memory may be free the next time.
        with _looking:
            _compiled.pop(key, None)
        promised.set_exception(error)
        del promised, found  # the error's traceback holds this frame, which would hold the error
        raise
    promised.set_result(made)
    with _looking:
        done = [each for each, future in _compiled.items() if future.done()]
        for each in done[: max(0, len(done) - _KEPT)]:
            del _compiled[each]
    return made


def _simulation(factory: Any, shape: tuple[tuple[str, Any], ...]) -> Simulation:
    if isinstance(factory, tuple):
        path, name = factory
        factory = getattr(load_module(path), name)
    return factory(**dict(shape))


def _compute_with(task: Task, sizes: Sizes) -> tuple[dict[Status, int], tuple]:
    program, simulation = _program(task.job, sizes)
    sizes = program.sizes
    statuses: Counter[Status] = Counter()
    p, r = task.valid.shape
    for first_p in range(0, p, sizes.problems):
        for first_r in range(0, r, sizes.runs):
            part = slice(first_p, first_p + sizes.problems), slice(first_r, first_r + sizes.runs)
            if task.valid[part].any():
                statuses.update(_compute_part(task, program, simulation, part))
    return dict(statuses), (task.job.key, sizes)


def _compute_part(
    task: Task, program: compiler.Program, simulation: Simulation, part: tuple[slice, slice]
) -> Counter[Status]:
    started = time.monotonic()
    p, r = program.sizes.problems, program.sizes.runs
    valid = task.valid[part]
    n, m = valid.shape
    problems = {name: _padded(values[part[0]], (p,)) for name, values in task.problems.items()}
    runs = {name: _padded(values[part], (p, r)) for name, values in task.runs.items()}
    problem_keys, run_keys = compiler.random_keys(
        task.job.root_seed, problems["problem_seed"], runs["run_seed"]
    )
    out = program.call(
        program.arrays,
        problem_keys,
        compiler.numbers(simulation.setting, problems, (p,)),
        run_keys,
        compiler.numbers(simulation.hyper, runs, (p, r)),
    )
    records, conclusions, status, diverged_at = jax.device_get(out)
    status = status[:n, :m].astype(np.int8)
    store = task.job.store
    store.add_block(
        {
            "shape": np.asarray(task.job.key),
            "provenance": np.asarray(store.add_provenance(provenance(task.job.precision))),
            **{f"axis/{name}": values[:n] for name, values in problems.items()},
            **{f"axis/{name}": values[:n, :m] for name, values in runs.items()},
            **{f"metric/{name}": value[:n, :m] for name, value in {**records, **conclusions}.items()},
            "status": status,
            "diverged_at": diverged_at[:n, :m],
            "valid": valid,
            "seconds": np.asarray(time.monotonic() - started),
        }
    )
    return Counter(Status(code) for code in status[valid].tolist())


def _padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.pad(values, [(0, n - have) for n, have in zip(shape, values.shape, strict=True)], mode="edge")
