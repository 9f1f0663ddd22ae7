"""Show how far a sweep is: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from theory_sim.engine.run import Progress

EVERY = 10.0
"""Seconds between lines in a log."""


@contextmanager
def showing(name: str) -> Iterator[Callable[[Progress], None]]:
    """Give the function that `run` reports to while it runs; runs, steps a second, devices, time left."""
    devices = jax.local_devices()
    kind = f"{len(devices)} {devices[0].platform} device{'s' if len(devices) > 1 else ''}"
    console = Console(stderr=True)
    started = time.monotonic()

    def speed(progress: Progress) -> str:
        return f"{progress.steps / max(time.monotonic() - started, 1e-9):,.0f} steps/s"

    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(name, total=None, note=kind)

            def show(progress: Progress) -> None:
                note = progress.doing or f"{speed(progress)}, {kind}"
                bar.update(task, completed=progress.done, total=progress.total, note=note)

            yield show
        return

    last = started

    def write(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.doing or now - last >= EVERY:
            last = now
            left = ""
            if progress.steps and progress.done < progress.total:
                left = f", {(now - started) * (progress.total - progress.done) / max(progress.done, 1):.0f} s left"
            note = progress.doing or f"{speed(progress)}{left}"
            print(
                f"{name}: {progress.done}/{progress.total} runs, {note}, {kind}", file=sys.stderr, flush=True
            )

    yield write
