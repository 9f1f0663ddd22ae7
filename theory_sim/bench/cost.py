"""What a preset of every study would cost on an accelerator, estimated before it is run."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.table import Table

from theory_sim.engine.inspection import inspect
from theory_sim.engine.plan import Sizes, choose_sizes
from theory_sim.errors import unknown
from theory_sim.report import console
from theory_sim.simulation import recorded_steps
from theory_sim.study import find_studies, load_study
from theory_sim.sweep import Sweep, cells


class Device(NamedTuple):
    """What is assumed of an accelerator: float64 matrix products, the share reached, and the least time of a step."""

    name: str = "H200-class GPU"
    gemm_flops: float = 60e12
    share: float = 0.3
    step_seconds: float = 5e-4


class Cost(NamedTuple):
    """One study's cost: runs, arithmetic, sequential steps of all batches, and the time that these take."""

    study: str
    runs: int
    tflop: float
    sequential_steps: int
    seconds: float


def estimate(name: str, sweep: Sweep, device: Device) -> Cost:
    """Estimate a sweep from one traced run of each shape: a step takes its least time or its arithmetic's.

    Flops are those that XLA counts in one step of one run, loops inside a step counted once.
    """
    steps = recorded_steps(sweep.steps)
    total = Cost(name, 0, 0.0, 0, 0.0)
    for shape in sweep.shapes:
        _, _, wanted = cells(sweep, shape)
        if not wanted.any():
            continue
        facts = inspect(sweep.build(shape), steps)
        sizes = choose_sizes(
            wanted,
            state_bytes=facts.state_bytes,
            problem_bytes=facts.problem_bytes,
            run_flops=facts.run_flops,
            platform="gpu",
            devices=1,
        )
        batches, last = _batches(wanted, sizes), max(int(steps[-1]), 1)
        flops = facts.run_flops * int(wanted.sum())
        seconds = max(batches * last * device.step_seconds, flops / (device.gemm_flops * device.share))
        total = Cost(
            name,
            total.runs + int(wanted.sum()),
            total.tflop + flops / 1e12,
            total.sequential_steps + batches * last,
            total.seconds + seconds,
        )
    return total


def print_costs(preset: str, *, as_json: bool = False, device: Device | None = None) -> None:
    """Print the cost of a preset of every study in `sweeps/` that has it.

    Raises RequestError when none has it.
    """
    device = device or Device()
    studies = [load_study(str(path)) for path in find_studies(Path("sweeps")).values()]
    presets = {name for study in studies for name in study.sweep.presets}
    if preset not in presets:
        raise unknown("preset", preset, presets)
    with jax.enable_x64(True):
        costs = [
            estimate(study.name, study.sweep.with_preset(preset), device)
            for study in studies
            if preset in study.sweep.presets and not study.missing()
        ]
    if as_json:
        print(json.dumps([cost._asdict() for cost in costs], indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "runs", "TFLOP", "sequential steps", "minutes"):
        table.add_column(heading, justify="left" if heading == "study" else "right", no_wrap=True)
    families = sorted({cost.study.split("_")[0] for cost in costs})
    for family in families:
        mine = [cost for cost in costs if cost.study.split("_")[0] == family]
        rows = [
            *mine,
            Cost(f"{family}, all", *(sum(part) for part in zip(*[c[1:] for c in mine], strict=True))),
        ]
        for cost in rows:
            bold = "bold" if cost is rows[-1] else ""
            table.add_row(
                cost.study, f"{cost.runs:,}", f"{cost.tflop:,.1f}", f"{cost.sequential_steps:,}",
                f"{cost.seconds / 60:.2f}", style=bold,
            )  # fmt: skip
    terminal = console()
    terminal.print(
        f"estimated for one {device.name}: {device.share:.0%} of {device.gemm_flops / 1e12:.0f} TFLOP/s in float64, "
        f"and {device.step_seconds * 1e3:g} ms a step at least",
        highlight=False,
    )
    terminal.print(table)


def _batches(wanted: np.ndarray, sizes: Sizes) -> int:
    """Return how many batches of runs follow one another: problems side by side, rows of runs in pieces."""
    pieces = int(np.sum(-(-wanted.sum(axis=1) // sizes.runs)))
    return -(-pieces // sizes.together)
