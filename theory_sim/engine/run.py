"""Run what is missing of a sweep, block by block, into its results folder."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from theory_sim.engine.block import (
    Task,
    compile_ahead,
    compute_block,
    guard_cpu_backend,
    is_compiled,
    numerics,
)
from theory_sim.engine.describe import name_of, request
from theory_sim.engine.parts import Part, checked, compared
from theory_sim.engine.plan import cut
from theory_sim.engine.store import create_store
from theory_sim.errors import RequestError
from theory_sim.simulation import Simulation, Status, recorded_steps
from theory_sim.study import load_module
from theory_sim.sweep import Sweep

PRECISIONS = ("float32", "float64")
COMPILERS = 2
"""Programs that are compiled at once, ahead of the one that computes."""
QUEUE = 64
"""Blocks handed to an executor at once: enough for its workers, few enough for our memory."""


class Progress(NamedTuple):
    """How far a sweep is: runs done and wanted, steps done by this call, programs used, what goes on."""

    done: int
    total: int
    steps: int = 0
    programs: int = 0
    doing: str = ""


class Summary(NamedTuple):
    """What a call of `run` did: runs wanted, found finished, computed now, and how the latter ended."""

    path: Path
    cells: int
    found: int
    computed: int
    programs: int
    seconds: float
    statuses: Mapping[Status, int]


def run(
    sweep: Sweep,
    path: str | Path,
    *,
    name: str = "",
    study: Path | None = None,
    precision: str | None = None,
    shard: tuple[int, int] = (0, 1),
    executor: Executor | None = None,
    fresh: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Compute the missing cells of a sweep into the results folder `path`, and say what was done.

    `precision` is float64 on CPU and GPU and float32 on TPU unless given. `shard=(i, n)` takes the i-th of n
    parts. `executor` is any `concurrent.futures.Executor` whose workers see the same folder; `study` is the
    file that they load a factory from which they cannot import. `fresh` first removes what is there, which a
    shard of several may not.

    Raises RequestError for a sweep that cannot run and StoreError for a folder that cannot be used, both
    before anything is compiled.
    """
    started = time.monotonic()
    guard_cpu_backend()
    precision = precision or ("float32" if jax.default_backend() == "tpu" else "float64")
    if precision not in PRECISIONS:
        raise RequestError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if not 0 <= shard[0] < shard[1]:
        raise RequestError(f"shard must be i/n with 0 <= i < n, got {shard[0]}/{shard[1]}")
    if fresh and shard[1] > 1:
        raise RequestError(
            "a shard cannot begin with `fresh`: it would remove what other shards have computed"
        )
    steps = recorded_steps(sweep.steps)
    with numerics(precision):
        # Everything that can be refused is refused before anything is touched, above all before `fresh` removes.
        if sweep.cells == 0:
            raise RequestError("the sweep has no cells: `where` leaves all of them out")
        factory = _portable(sweep.simulation, study)
        if executor is not None and study and factory is sweep.simulation:
            raise RequestError(
                f"{study.name}: other processes find a factory by its name in the file; give it one"
            )
        asked = checked(sweep, steps)
        header = {
            "simulation": name_of(sweep.simulation),
            "steps": steps.tolist(),
            "precision": precision,
            "root_seed": sweep.root_seed,
        }
        store = create_store(path, header, fresh=fresh)
        parts = compared(sweep, asked, store, factory)
        store.add_request(request(sweep, name, precision))
    found = sum(int((part.wanted & part.done).sum()) for part in parts)
    progress = Progress(found, sum(int(part.wanted.sum()) for part in parts))
    report(progress)
    statuses: Counter[Status] = Counter()
    programs: set[tuple] = set()
    missing = [part for part in parts if next(_tasks(part, shard), None)]
    # The next programs are compiled while the present one computes, two at a time: tracing keeps one core busy.
    with ThreadPoolExecutor(max_workers=COMPILERS) as aside:
        ahead: dict[str, Future] = {}
        try:
            for number, part in enumerate(missing):
                if executor is None:
                    if not is_compiled(part.job):
                        report(progress._replace(doing="compiling"))
                    for each in missing[number : number + 1 + COMPILERS]:
                        if each.job.key not in ahead:
                            ahead[each.job.key] = aside.submit(compile_ahead, each.job)
                    wait([ahead[part.job.key]])  # what went wrong there, the first block will meet
                for counts, program in _compute(_tasks(part, shard), executor):
                    statuses.update(counts)
                    programs.add(program)
                    computed = sum(counts.values())
                    progress = Progress(
                        progress.done + computed,
                        progress.total,
                        progress.steps + computed * int(steps[-1]),
                        len(programs),
                    )
                    report(progress)
        except BaseException:
            aside.shutdown(wait=False, cancel_futures=True)
            raise
    seconds = time.monotonic() - started
    computed = progress.done - found
    return Summary(store.path, progress.total, found, computed, len(programs), seconds, dict(statuses))


def _portable(factory: Callable[..., Simulation], study: Path | None) -> Any:
    """Return how another process finds a factory: by its name in the study's file if it has one there."""
    names = vars(load_module(study)).items() if study else ()
    name = next((name for name, value in names if value is factory), None)
    return (study, name) if name else factory


def _tasks(part: Part, shard: tuple[int, int]) -> Iterator[Task]:
    """Yield the blocks that are missing, those of this shard alone."""
    index, count = shard
    done = part.done
    if count > 1:
        # Shards divide the blocks of a fresh sweep, so that what is done already does not shift the parts.
        mine = np.zeros_like(part.wanted)
        for number, block in enumerate(cut(part.wanted, np.zeros_like(part.wanted), part.job.sizes)):
            if number % count == index:
                p, r = np.nonzero(block.valid)
                mine[block.problems[p], block.runs[p, r]] = True
        done = done | ~mine
    for block in cut(part.wanted, done, part.job.sizes):
        problems = {name: values[block.problems] for name, values in part.problems.items()}
        runs = {name: values[block.runs] for name, values in part.runs.items()}
        yield Task(part.job, problems, runs, block.valid)


def _compute(tasks: Iterable[Task], executor: Executor | None) -> Iterator[tuple[dict[Status, int], tuple]]:
    """Compute tasks here or in an executor; yield what each tells as soon as it is stored."""
    if executor is None:
        yield from map(compute_block, tasks)
        return
    pending: set[Future] = set()
    for task in tasks:
        pending.add(executor.submit(compute_block, task))
        if len(pending) >= QUEUE:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    while pending:
        finished, pending = wait(pending, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in finished)
